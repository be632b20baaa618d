//! What the tests of the log share: a bad disk, dice, and the loops that drive a log over it.
#![allow(dead_code)]

#[path = "../../src/dice.rs"]
pub mod dice;
pub mod disk;

use bytes::Bytes;
use disk::Disk;
use storage::*;

pub const SEGMENT: u64 = 1 << 20;

pub fn options() -> StoreOptions {
    StoreOptions {
        segment_bytes: SEGMENT,
        run_bytes_max: 64 << 10,
        cache_bytes: 256 << 10,
        read_cache_bytes: 256 << 10,
        create: true,
        seed: 99,
        ..StoreOptions::default()
    }
}

/// Opens the log; `Err` is what a start would say.
pub fn open(disk: &mut Disk, options: StoreOptions) -> Result<(Log, RecoveryReport, Vec<Recovered>), RecoverError> {
    let mut recovery = Recovery::new(options);
    let mut items = Vec::new();
    for _ in 0..1_000_000 {
        while let Some(op) = recovery.poll_op() {
            disk.submit(op);
        }
        if let Some(done) = disk.complete_one() {
            recovery.on_done(done);
        }
        items.extend(std::iter::from_fn(|| recovery.poll_item()));
        if let Some(end) = recovery.poll_finished() {
            while disk.complete_one().is_some() {}
            return end.map(|(log, report)| (log, report, items));
        }
    }
    panic!("recovery does not end");
}

/// Hands operations to the disk.
pub fn submit(log: &mut Log, disk: &mut Disk) {
    while let Some(op) = log.poll_op() {
        disk.submit(op);
    }
}

/// Runs everything that is under way to its end and answers with the events.
pub fn settle(log: &mut Log, disk: &mut Disk) -> Vec<LogEvent> {
    let mut events = Vec::new();
    for _ in 0..1_000_000 {
        submit(log, disk);
        events.extend(std::iter::from_fn(|| log.poll_event()));
        match disk.complete_one() {
            Some(done) => log.on_done(done),
            None => return events,
        }
    }
    panic!("the log does not come to rest");
}

pub fn entry(group: u64, index: u64, term: u64, body: impl Into<Bytes>) -> Record {
    Record { group: GroupId(group), kind: RecordKind::ENTRY, epoch: 1, term, index, body: body.into() }
}

pub fn note(group: u64, kind: RecordKind, body: impl Into<Bytes>) -> Record {
    Record { group: GroupId(group), kind, epoch: 0, term: 0, index: 0, body: body.into() }
}

/// Reads, through the disk where needed.
pub fn read(log: &mut Log, disk: &mut Disk, group: u64, from: u64, to: u64) -> Result<Vec<Record>, String> {
    let answer = log.read(GroupId(group), from, to, usize::MAX);
    wait(log, disk, answer)
}

pub fn latest(log: &mut Log, disk: &mut Disk, group: u64, kind: RecordKind) -> Result<Vec<Record>, String> {
    let answer = log.latest(GroupId(group), kind);
    wait(log, disk, answer)
}

fn wait(log: &mut Log, disk: &mut Disk, answer: ReadResult) -> Result<Vec<Record>, String> {
    match answer {
        ReadResult::Ready(records) => Ok(records),
        ReadResult::Pending(ticket) => {
            let answers = settle(log, disk).into_iter().filter_map(|event| match event {
                LogEvent::Read { ticket: of, result } if of == ticket => Some(result),
                _ => None,
            });
            let answers: Vec<_> = answers.collect();
            assert_eq!(answers.len(), 1, "a read answers once");
            answers.into_iter().next().unwrap().map_err(|error| format!("{error:?}"))
        }
        other => Err(format!("{other:?}")),
    }
}
