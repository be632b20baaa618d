//! Rot, loss and errors: damage costs only what it hits, is named, can be healed, and never passes for "empty".

mod common;

use common::dice::Dice;
use common::disk::Disk;
use common::*;
use storage::check::check;
use storage::*;

fn restart(disk: &mut Disk) -> Result<(Log, RecoveryReport, Vec<Recovered>), RecoverError> {
    open(disk, StoreOptions { create: false, ..options() })
}

/// A log with `count` entries in group 1, one run each, all durable.
fn filled(disk: &mut Disk, count: u64, bytes: usize) -> Log {
    let (mut log, report, _) = open(disk, options()).unwrap();
    assert!(report.created);
    for index in 1..=count {
        log.append(entry(1, index, 1, vec![index as u8; bytes])).unwrap();
        settle(&mut log, disk);
    }
    log
}

/// Where a body that is all `byte` begins, in which segment.
fn find(disk: &Disk, byte: u8, bytes: usize) -> (FileId, usize) {
    let wanted = vec![byte; bytes];
    let segments = disk.list().into_iter().filter(|(file, _)| matches!(file, FileId::Segment(_)));
    for (file, _) in segments {
        let content = disk.content(file).unwrap();
        if let Some(at) = content.windows(bytes).position(|window| window == wanted) {
            return (file, at);
        }
    }
    panic!("no such body");
}

#[test]
fn one_flipped_bit_costs_one_record_and_is_healed() {
    let mut disk = Disk::new(1);
    drop(filled(&mut disk, 20, 3000));
    let (file, at) = find(&disk, 7, 3000);
    assert!(disk.flip(file, at + 100));
    let (mut log, report, items) = restart(&mut disk).unwrap();
    assert_eq!(items.len(), 19);
    let damage = &report.damaged[0];
    assert_eq!((report.damaged.len(), damage.group, damage.first, damage.last), (1, Some(GroupId(1)), 7, 7));
    assert_eq!(read(&mut log, &mut disk, 1, 7, 9), Err("Damaged { index: 7 }".into()));
    assert_eq!(read(&mut log, &mut disk, 1, 1, 20).unwrap().len(), 6, "the answer ends before the damage");
    assert_eq!(log.stats().damaged, 1);

    let wrong = Record { term: 9, ..entry(1, 7, 1, vec![7; 3000]) };
    assert_eq!(log.heal(wrong), Err(AppendError::Invalid), "another entry of that index");
    log.heal(entry(1, 7, 1, vec![7; 3000])).unwrap();
    assert_eq!(log.heal(entry(1, 8, 1, vec![8; 3000])), Err(AppendError::Invalid), "that one is whole");
    settle(&mut log, &mut disk);
    assert_eq!(log.stats().damaged, 0);
    let (mut log, report, items) = restart(&mut disk).unwrap();
    assert_eq!((report.damaged, items.len()), (vec![], 20));
    assert_eq!(read(&mut log, &mut disk, 1, 1, 20).unwrap().len(), 20);
}

/// Found by killing servers and flipping bits: segments are used again in any order, so a healed copy may stand in one
/// with a lower number than the damaged original.
#[test]
fn what_was_healed_stays_healed_wherever_the_copy_landed() {
    let mut disk = Disk::new(6);
    let mut log = filled(&mut disk, 1_200, 3000);
    log.release(GroupId(1), 1_000);
    settle(&mut log, &mut disk);
    let segment = |file: FileId| if let FileId::Segment(number) = file { number } else { 0 };
    let body = |index: u64| {
        let mut body = vec![9; 3000];
        body[..8].copy_from_slice(&index.to_le_bytes());
        body
    };
    let mut index = 1_200;
    let mut write = |log: &mut Log, disk: &mut Disk, count: u64| {
        for _ in 0..count {
            index += 1;
            log.append(entry(1, index, 1, body(index))).unwrap();
            settle(log, disk);
        }
        index
    };
    // The victim lies in a segment with a high number; behind it the log has gone on in lower ones.
    let place = |disk: &Disk, wanted: &[u8]| {
        let files = disk.list().into_iter().map(|(file, _)| file).filter(|file| segment(*file) > 0);
        let found = files.filter_map(|file| {
            let content = disk.content(file)?;
            content.windows(wanted.len()).position(|window| window == wanted).map(|at| (file, at))
        });
        found.collect::<Vec<_>>()
    };
    let mut victim = 0;
    for _ in 0..20 {
        let last = write(&mut log, &mut disk, 60);
        let here = segment(place(&disk, &body(last))[0].0);
        let before = segment(place(&disk, &body(last - 60)).first().map_or(FileId::Segment(0), |found| found.0));
        if here < before {
            victim = last - 60;
            break;
        }
    }
    assert!(victim > 0, "the log never went back to a segment of a lower number");
    let (file, at) = place(&disk, &body(victim))[0];
    assert!(disk.flip(file, at + 100));
    drop(log);
    let (mut log, _, _) = restart(&mut disk).unwrap();
    assert!(read(&mut log, &mut disk, 1, victim, victim).is_err());
    log.heal(entry(1, victim, 1, body(victim))).unwrap();
    settle(&mut log, &mut disk);
    assert!(place(&disk, &body(victim)).iter().any(|(copy, _)| segment(*copy) < segment(file)));
    // Until the copy's segment is sealed: what is not is read last in any case.
    write(&mut log, &mut disk, 400);
    drop(log);
    let (mut log, report, _) = restart(&mut disk).unwrap();
    assert_eq!(report.damaged, vec![]);
    assert_eq!(read(&mut log, &mut disk, 1, victim, victim).unwrap().len(), 1);
    assert_eq!(log.stats().damaged, 0);
}

#[test]
fn a_lost_header_loses_nothing_and_a_lost_run_is_named_by_its_neighbours() {
    let mut disk = Disk::new(2);
    drop(filled(&mut disk, 20, 3000));
    let (file, at) = find(&disk, 7, 3000);
    disk.flip(file, at - at % 4096);
    let (_, report, items) = restart(&mut disk).unwrap();
    assert_eq!((items.len(), report.damaged), (20, vec![]));

    let run = at - at % 4096;
    for byte in 0..4096 {
        disk.flip(file, run + byte);
    }
    let (mut log, report, items) = restart(&mut disk).unwrap();
    assert_eq!(items.len(), 19);
    let groups: Vec<_> = report.damaged.iter().map(|damage| (damage.group, damage.first, damage.last)).collect();
    assert_eq!(groups, [(None, 0, 0), (Some(GroupId(1)), 7, 7)]);
    log.heal(entry(1, 7, 1, vec![7; 3000])).unwrap();
    settle(&mut log, &mut disk);
    let (mut log, report, items) = restart(&mut disk).unwrap();
    assert_eq!((items.len(), report.damaged.len()), (20, 2), "the evidence stays until it is cleared");
    assert_eq!(read(&mut log, &mut disk, 1, 1, 20).unwrap().len(), 20);
}

#[test]
fn damage_that_was_dealt_with_is_cleared_with_its_segment() {
    let mut disk = Disk::new(3);
    drop(filled(&mut disk, 20, 3000));
    let (file, at) = find(&disk, 7, 3000);
    for byte in 0..4096 {
        disk.flip(file, at - at % 4096 + byte);
    }
    let (mut log, report, _) = restart(&mut disk).unwrap();
    let segment = report.damaged[0].segment;
    log.heal(entry(1, 7, 1, vec![7; 3000])).unwrap();
    log.clear_damage(segment);
    for index in 21..400 {
        log.append(entry(1, index, 1, vec![index as u8; 3000])).unwrap();
        settle(&mut log, &mut disk);
    }
    let (mut log, report, items) = restart(&mut disk).unwrap();
    assert_eq!((report.damaged, items.len()), (vec![], 399));
    assert_eq!(read(&mut log, &mut disk, 1, 1, 399).unwrap().len(), 399);
}

#[test]
fn only_the_last_run_may_be_torn_and_a_mark_protects_it() {
    let mut disk = Disk::new(4);
    let mut log = filled(&mut disk, 5, 3000);
    let mut unmarked = disk.clone();
    let (file, at) = find(&disk, 5, 3000);
    unmarked.flip(file, at);
    let (_, report, items) = restart(&mut unmarked).unwrap();
    assert_eq!((items.len(), report.runs_torn, report.damaged), (4, 1, vec![]), "as if it had been on its way");

    log.mark();
    settle(&mut log, &mut disk);
    disk.flip(file, at);
    let (_, report, items) = restart(&mut disk).unwrap();
    assert_eq!((items.len(), report.runs_torn, report.damaged.len()), (4, 0, 1), "it is known to have been durable");
}

#[test]
fn a_sealed_segment_without_its_footer_is_scanned_and_gets_a_new_one() {
    for trailer in [true, false] {
        let mut disk = Disk::new(5);
        let log = filled(&mut disk, 600, 3000);
        assert!(log.stats().segments > 2);
        let last = SEGMENT as usize;
        let at = if trailer { last - 4096 + 9 } else { last - 8192 + 9 };
        assert!(disk.flip(FileId::Segment(1), at));
        let (mut log, report, items) = restart(&mut disk).unwrap();
        assert_eq!((items.len(), report.damaged), (600, vec![]));
        settle(&mut log, &mut disk);
        let (_, report, items) = restart(&mut disk).unwrap();
        assert_eq!((items.len(), report.damaged), (600, vec![]));
        assert!(report.bytes_read < 3 * 600 * 4096, "the footer is back: {}", report.bytes_read);
    }
}

#[test]
fn missing_short_and_headless_files_stop_the_start() {
    let mut whole = Disk::new(6);
    drop(filled(&mut whole, 300, 3000));
    let says = |change: &dyn Fn(&mut Disk), words: &str| {
        let mut disk = whole.clone();
        change(&mut disk);
        let error = restart(&mut disk).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        let report = check(&mut |kind| disk.run(kind));
        assert!(!report.is_sound() && !report.problems.is_empty(), "{report}");
    };
    says(&|disk| disk.remove(FileId::Segment(1)), "segment-00000001 is missing");
    says(&|disk| disk.resize(FileId::Segment(2), 4096), "segment-00000002 has 4096 bytes instead of 1048576");
    says(&|disk| disk.resize(FileId::Segment(2), 2 << 20), "segment-00000002 has 2097152 bytes");
    says(&|disk| disk.replace(FileId::Segment(1), vec![0; SEGMENT as usize]), "both copies of its head");
    says(&|disk| disk.remove(FileId::Manifest), "manifest");
    says(&|disk| disk.replace(FileId::Manifest, vec![]), "manifest");
    says(&|disk| disk.replace(FileId::Manifest, b"trestle log 7\n".to_vec()), "format version 7");
    let mut disk = whole.clone();
    disk.remove(FileId::Manifest);
    let error = open(&mut disk, options()).unwrap_err();
    assert!(matches!(error, RecoverError::Lost { .. }), "segments are there, so it is not new: {error}");
}

#[test]
fn a_failed_write_is_the_end_of_promises() {
    let mut disk = Disk::new(7);
    let mut log = filled(&mut disk, 5, 100);
    let durable = log.durable();
    log.append(entry(1, 6, 1, "x")).unwrap();
    disk.fail_write = true;
    let events = settle(&mut log, &mut disk);
    assert!(matches!(&events[..], [LogEvent::Broken { why }] if why.contains("write")), "{events:?}");
    assert_eq!(log.append(entry(1, 7, 1, "x")), Err(AppendError::Broken));
    assert_eq!((log.durable(), log.poll_op()), (durable, None));
}

#[test]
fn a_full_store_answers_keeps_room_for_votes_and_recovers_when_things_die() {
    let mut disk = Disk::new(8);
    let (mut log, ..) = open(&mut disk, StoreOptions { bytes_max: Some(4 * SEGMENT), ..options() }).unwrap();
    let mut index = 0;
    let mut events = Vec::new();
    while log.append(entry(1, index + 1, 1, vec![1; 10_000])).is_ok() {
        index += 1;
        events.extend(settle(&mut log, &mut disk));
    }
    assert_eq!(log.append(entry(1, index + 1, 1, vec![1; 10_000])), Err(AppendError::Full));
    events.extend(settle(&mut log, &mut disk));
    assert_eq!(events.iter().filter(|event| **event == LogEvent::SpaceLow).count(), 1);
    assert!(index > 150, "{index} entries of 10 kB in 4 MiB");
    for vote in 0..50 {
        log.append(Record { term: vote, ..note(1, RecordKind::HARD_STATE, "") }).unwrap();
        settle(&mut log, &mut disk);
    }
    assert_eq!(read(&mut log, &mut disk, 1, 1, index).unwrap().len() as u64, index, "reads go on");
    log.release(GroupId(1), index - 10);
    let events = settle(&mut log, &mut disk);
    assert!(events.contains(&LogEvent::SpaceBack));
    log.append(entry(1, index + 1, 1, vec![1; 10_000])).unwrap();
    settle(&mut log, &mut disk);
    let (_, _, items) = restart(&mut disk).unwrap();
    assert_eq!(items.len(), 13);
}

#[test]
fn a_full_store_takes_what_makes_room_and_keeps_the_last_quarter_for_votes() {
    let mut disk = Disk::new(8);
    let (mut log, ..) = open(&mut disk, StoreOptions { bytes_max: Some(4 * SEGMENT), ..options() }).unwrap();
    let (mut index, mut relief) = (0, 0);
    while log.append(entry(1, index + 1, 1, vec![1; 10_000])).is_ok() {
        index += 1;
        settle(&mut log, &mut disk);
    }
    assert!(log.has_room(10_000, Claim::Relief) && !log.has_room(10_000, Claim::Plain));
    while log.append_with(entry(2, relief + 1, 1, vec![1; 100]), Claim::Relief).is_ok() {
        relief += 1;
        settle(&mut log, &mut disk);
    }
    assert!(relief > 30, "{relief} small entries in half a segment");
    for vote in 0..10 {
        log.append(Record { term: vote, ..note(1, RecordKind::HARD_STATE, "") }).unwrap();
        settle(&mut log, &mut disk);
    }
    let (log, ..) = restart(&mut disk).unwrap();
    assert_eq!((log.bounds(GroupId(1)), log.bounds(GroupId(2))), (Some((1, index)), Some((1, relief))));
}

#[test]
fn a_file_system_that_stays_full_is_told_once() {
    let mut disk = Disk::new(9);
    disk.bytes_max = 3 * SEGMENT as usize + 5000;
    let (mut log, ..) = open(&mut disk, options()).unwrap();
    let (mut index, mut told) = (0, Vec::new());
    for _ in 0..5 {
        while log.append(entry(1, index + 1, 1, vec![1; 10_000])).is_ok() {
            index += 1;
            told.extend(settle(&mut log, &mut disk));
        }
        log.retry_space();
        told.extend(settle(&mut log, &mut disk));
    }
    told.retain(|event| matches!(event, LogEvent::SpaceLow | LogEvent::SpaceBack));
    assert_eq!(told, [LogEvent::SpaceLow]);
}

#[test]
fn a_full_file_system_is_tried_again() {
    let mut disk = Disk::new(9);
    disk.bytes_max = 3 * SEGMENT as usize + 5000;
    let (mut log, ..) = open(&mut disk, options()).unwrap();
    let mut index = 0;
    while log.append(entry(1, index + 1, 1, vec![1; 10_000])).is_ok() {
        index += 1;
        settle(&mut log, &mut disk);
    }
    disk.bytes_max *= 2;
    log.retry_space();
    assert!(settle(&mut log, &mut disk).contains(&LogEvent::SpaceBack));
    log.append(entry(1, index + 1, 1, vec![1; 10_000])).unwrap();
}

/// Found by the simulator: all that is held back was there, so no new segment was asked for, and nothing else could show that
/// the file system had space again.
#[test]
fn a_store_that_has_only_what_is_held_back_asks_for_more() {
    let mut disk = Disk::new(9);
    disk.bytes_max = 3 * SEGMENT as usize + 5000;
    let (mut log, ..) = open(&mut disk, options()).unwrap();
    let (mut index, mut relief) = (0, 0);
    for claim in [Claim::Plain, Claim::Follow] {
        while log.append_with(entry(1, index + 1, 1, vec![1; 10_000]), claim).is_ok() {
            index += 1;
            settle(&mut log, &mut disk);
        }
    }
    while relief < 40 && log.append_with(entry(2, relief + 1, 1, vec![1; 10_000]), Claim::Relief).is_ok() {
        relief += 1;
        settle(&mut log, &mut disk);
    }
    log.release(GroupId(1), 100);
    let events = settle(&mut log, &mut disk);
    assert!(!events.contains(&LogEvent::SpaceBack), "what came back is held back");
    disk.bytes_max *= 2;
    log.retry_space();
    assert!(settle(&mut log, &mut disk).contains(&LogEvent::SpaceBack));
    log.append(entry(1, index + 1, 1, vec![1; 10_000])).unwrap();
}

#[test]
fn what_clients_store_waits_for_a_segment_that_may_never_come() {
    let mut disk = Disk::new(9);
    disk.bytes_max = 6 * SEGMENT as usize + 5000;
    let (mut log, ..) = open(&mut disk, options()).unwrap();
    // Segments are made slowly: only when nothing else is left to do.
    let (mut index, mut making) = (0, None);
    loop {
        while let Some(op) = log.poll_op() {
            match op.kind {
                DiskOpKind::Create { .. } => making = Some(op),
                kind => log.on_done(DiskDone { id: op.id, result: disk.run(kind) }),
            }
        }
        if !log.awaits_segment(0) && log.append(entry(1, index + 1, 1, vec![1; 10_000])).is_ok() {
            index += 1;
        } else if let Some(op) = making.take() {
            log.on_done(DiskDone { id: op.id, result: disk.run(op.kind) });
        } else {
            break;
        }
    }
    assert!(!log.awaits_segment(0), "nothing comes any more");
    assert_eq!(log.append(entry(1, index + 1, 1, vec![1; 10_000])), Err(AppendError::Full));
    assert!(index > 300, "{index} entries of 10 kB in 6 MiB");
    // There is still a place for what gives space back.
    log.append_with(entry(2, 1, 1, vec![1; 10_000]), Claim::Relief).unwrap();
    log.append(Record { term: 1, ..note(1, RecordKind::HARD_STATE, "") }).unwrap();
    settle(&mut log, &mut disk);
    assert_eq!(log.durable(), log.appended());
    log.release(GroupId(1), index - 10);
    assert!(settle(&mut log, &mut disk).contains(&LogEvent::SpaceBack));
}

#[test]
fn scrubbing_finds_rot_in_what_nobody_reads() {
    let mut disk = Disk::new(10);
    let mut log = filled(&mut disk, 600, 3000);
    let (file, at) = find(&disk, 7, 3000);
    disk.flip(file, at + 9);
    let mut found = Vec::new();
    for _ in 0..200 {
        log.scrub(64 << 10);
        found.extend(settle(&mut log, &mut disk));
    }
    found.retain(|event| matches!(event, LogEvent::Damaged(_)));
    let LogEvent::Damaged(damage) = &found[0] else { panic!("damage was expected") };
    assert_eq!((found.len(), damage.first), (1, 7), "once, and only what is damaged");
    let report = check(&mut |kind| disk.run(kind));
    assert!(report.to_string().contains("group 1, entry 7"), "{report}");
}

#[test]
fn a_segment_that_is_used_again_shows_nothing_of_its_past() {
    let mut disk = Disk::new(11);
    let (mut log, ..) = open(&mut disk, StoreOptions { bytes_max: Some(4 * SEGMENT), ..options() }).unwrap();
    for index in 1..=3000 {
        log.append(entry(1, index, 1, vec![index as u8; 3000])).unwrap();
        log.release(GroupId(1), index.saturating_sub(20));
        settle(&mut log, &mut disk);
    }
    let stats = log.stats();
    assert!(stats.segments <= 4 && stats.bytes_device > 10 * SEGMENT, "{stats:?}");
    assert!(stats.bytes_moved < stats.bytes_payload / 20, "ageing out moves next to nothing: {stats:?}");
    let (log, report, items) = restart(&mut disk).unwrap();
    assert_eq!((report.damaged, log.bounds(GroupId(1)).unwrap().1), (vec![], 3000));
    assert!(items.len() < 600, "{}", items.len());
    assert!(items.windows(2).all(|pair| pair[0].record.index < pair[1].record.index));
}

#[test]
fn random_rot_never_panics_and_never_passes_for_truth() {
    let mut whole = Disk::new(12);
    drop(filled(&mut whole, 500, 3000));
    let mut dice = Dice::new(13);
    for _ in 0..60 {
        let mut disk = whole.clone();
        for _ in 0..1 + dice.below(30) {
            let file = FileId::Segment(1 + dice.below(2) as u32);
            disk.flip(file, dice.below(SEGMENT) as usize);
        }
        check(&mut |kind| disk.run(kind));
        let Ok((_, _, items)) = restart(&mut disk) else { continue };
        for item in items {
            let Record { index, body, .. } = item.record;
            assert!(body.len() == 3000 && body.iter().all(|byte| *byte == index as u8));
        }
    }
}
