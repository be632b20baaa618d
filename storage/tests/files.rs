//! The log over real files: through plain calls, and through io_uring with O_DIRECT where the machine has it.

mod common;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use common::{entry, note};
use glommio::{LocalExecutorBuilder, Placement};
use storage::check::{check_dir, check_store};
use storage::identity::{ShardFound, shard_dir};
use storage::uring::Executor;
use storage::*;

/// A directory that is gone when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("trestle-storage-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options() -> StoreOptions {
    StoreOptions { cache_bytes: 0, ..common::options() }
}

/// Runs operations at once, with plain calls.
fn recover(files: &Blocking, options: StoreOptions) -> Result<(Log, RecoveryReport, Vec<Recovered>), RecoverError> {
    let mut recovery = Recovery::new(options);
    let mut items = Vec::new();
    loop {
        while let Some(op) = recovery.poll_op() {
            recovery.on_done(files.run(op));
        }
        items.extend(std::iter::from_fn(|| recovery.poll_item()));
        if let Some(end) = recovery.poll_finished() {
            return end.map(|(log, report)| (log, report, items));
        }
    }
}

fn drain(log: &mut Log, files: &Blocking) {
    while let Some(op) = log.poll_op() {
        log.on_done(files.run(op));
    }
}

#[test]
fn a_log_in_real_files_is_there_again_and_checks_as_sound() {
    let scratch = Scratch::new("blocking");
    let files = Blocking::new(&scratch.0);
    let (mut log, report, _) = recover(&files, options()).unwrap();
    assert!(report.created);
    for index in 1..=500 {
        log.append(entry(index % 3, index, 2, vec![index as u8; 3000])).unwrap();
        drain(&mut log, &files);
    }
    log.append(note(1, RecordKind::CHECKPOINT, "state")).unwrap();
    drain(&mut log, &files);
    assert_eq!(log.durable(), log.appended());
    let (mut log, report, items) = recover(&files, StoreOptions { create: false, ..options() }).unwrap();
    assert_eq!((items.len(), report.groups, report.damaged), (501, 3, vec![]));
    let ReadResult::Pending(_) = log.read(GroupId(1), 1, 100, 1 << 20) else { panic!("not in memory") };
    drain(&mut log, &files);
    let answer = std::iter::from_fn(|| log.poll_event()).find_map(|event| match event {
        LogEvent::Read { result, .. } => Some(result.unwrap()),
        _ => None,
    });
    assert_eq!(answer.unwrap().len(), 34);
    let report = check_dir(&scratch.0);
    assert!(report.is_sound(), "{report}");
    assert!(report.to_string().contains("group 1: 167 entries, 1 to 499"), "{report}");
}

#[test]
fn a_store_is_told_from_a_lost_and_from_a_foreign_one() {
    let scratch = Scratch::new("identity");
    let root = &scratch.0;
    let identity =
        Identity { format_version: 1, cluster_id: None, server_name: "n1-east".into(), shards: 1, created: 5 };
    let log_dir = root.join(shard_dir(0));
    std::fs::create_dir_all(&log_dir).unwrap();
    drop(recover(&Blocking::new(&log_dir), options()).unwrap());
    assert!(!check_store(root).1, "no identity");
    let written = DiskOpKind::WriteFileAtomic { file: FileId::Identity, data: identity.encode().into() };
    Blocking::new(root).run(DiskOp { id: OpId(0), kind: written }).result.unwrap();
    let (text, sound) = check_store(root);
    assert!(sound && text.contains("store of server \"n1-east\", 1 shards"), "{text}");

    let found = |manifest, segments| [ShardFound { shard: 0, manifest, segments }];
    let bytes = identity.encode();
    assert_eq!(Identity::check(Some(&bytes), &found(true, 2), "n1-east"), Ok(Some(identity)));
    assert_eq!(Identity::check(None, &found(true, 0), "n1-east"), Ok(None), "an interrupted first start");
    let refused = |stored, logs: &[ShardFound], name| Identity::check(stored, logs, name).unwrap_err().to_string();
    assert!(refused(Some(&bytes), &found(true, 2), "n2-east").contains("belongs to server \"n1-east\""));
    assert!(refused(Some(&bytes), &found(false, 2), "n1-east").contains("shard-000/manifest is missing"));
    assert!(refused(Some(&bytes), &[], "n1-east").contains("lost store"));
    assert!(refused(None, &found(true, 2), "n1-east").contains("the file identity is missing"));
    assert!(refused(Some(b"trestle store 9\n"), &[], "n1-east").contains("format version 9"));
    let more = [found(true, 2)[0], ShardFound { shard: 3, manifest: true, segments: 1 }];
    assert!(refused(Some(&bytes), &more, "n1-east").contains("lists only 1 shards"));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 4;
        assert!(Identity::decode(&changed).is_err(), "byte {at}");
        assert!(Identity::decode(&bytes[..at]).is_err(), "cut at {at}");
    }
}

/// Runs on an executor of this thread; `None` where the machine has no io_uring.
fn on_ring<T: 'static>(work: impl Future<Output = T>) -> Option<T> {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|text| text.trim() == "2");
    let make = || LocalExecutorBuilder::new(Placement::Unbound).io_memory(4 << 20).make().ok();
    let executor = if disabled { None } else { make() };
    if executor.is_none() {
        eprintln!("skipped: io_uring is not available to this process");
    }
    executor.map(|executor| executor.run(work))
}

/// Hands operations to tasks and waits for answers until the log is at rest.
async fn drive(log: &mut Log, disk: &Executor) -> Vec<LogEvent> {
    let (answers, mut tasks) = (Rc::new(RefCell::new(Vec::new())), Vec::new());
    let mut events = Vec::new();
    loop {
        while let Some(op) = log.poll_op() {
            let (disk, answers) = (disk.clone(), answers.clone());
            tasks.push(glommio::spawn_local(async move {
                let done = disk.run(op).await;
                answers.borrow_mut().push(done);
            }));
        }
        events.extend(std::iter::from_fn(|| log.poll_event()));
        let Some(task) = tasks.pop() else { return events };
        task.await;
        answers.take().into_iter().for_each(|done| log.on_done(done));
    }
}

async fn recover_ring(disk: &Executor, options: StoreOptions) -> (Log, RecoveryReport, Vec<Recovered>) {
    let mut recovery = Recovery::new(options);
    let mut items = Vec::new();
    loop {
        while let Some(op) = recovery.poll_op() {
            recovery.on_done(disk.run(op).await);
        }
        items.extend(std::iter::from_fn(|| recovery.poll_item()));
        if let Some(end) = recovery.poll_finished() {
            let (log, report) = end.unwrap();
            return (log, report, items);
        }
    }
}

async fn store_and_return(dir: &Path) {
    let disk = Executor::open(dir).unwrap();
    assert!(Executor::open(dir).unwrap_err().to_string().contains("another server uses this store"));
    let (mut log, ..) = recover_ring(&disk, options()).await;
    for index in 1..=400 {
        log.append(entry(1, index, 2, vec![index as u8; 5000])).unwrap();
        log.append(entry(2, index, 2, vec![])).unwrap();
        if index % 20 == 0 {
            drive(&mut log, &disk).await;
        }
    }
    log.append(entry(3, 1, 2, vec![9; 200_000])).unwrap();
    drive(&mut log, &disk).await;
    assert_eq!(log.durable(), log.appended());
    log.read(GroupId(1), 1, 400, 1 << 20);
    let events = drive(&mut log, &disk).await;
    let records = events.into_iter().find_map(|event| match event {
        LogEvent::Read { result, .. } => result.ok(),
        _ => None,
    });
    assert_eq!(records.unwrap().len(), (1 << 20) / 5000);
    log.release(GroupId(1), 300);
    drive(&mut log, &disk).await;
    let (_, report, items) = recover_ring(&disk, StoreOptions { create: false, ..options() }).await;
    assert_eq!(report.damaged, []);
    assert_eq!(items.iter().filter(|item| item.record.group == GroupId(2)).count(), 400);
    assert_eq!(items.last().unwrap().record, entry(3, 1, 2, vec![9; 200_000]));
    let missing = DiskOpKind::Read { file: FileId::Segment(99), offset: 0, len: 4096 };
    assert_eq!(disk.run(DiskOp { id: OpId(1), kind: missing }).await.result, Err(DiskError::Missing));
    let beyond = DiskOpKind::Read { file: FileId::Segment(1), offset: common::SEGMENT - 4096, len: 8192 };
    assert_eq!(disk.run(DiskOp { id: OpId(1), kind: beyond }).await.result, Err(DiskError::Short));
    let again = DiskOpKind::Create { file: FileId::Segment(1), bytes: 4096 };
    assert_eq!(disk.run(DiskOp { id: OpId(1), kind: again }).await.result, Err(DiskError::Exists));
}

#[test]
fn a_log_over_io_uring_is_there_again() {
    let scratch = Scratch::new("uring");
    let dir = scratch.0.clone();
    if on_ring(async move { store_and_return(&dir).await }).is_some() {
        let report = check_dir(&scratch.0);
        assert!(report.is_sound(), "{report}");
    }
}
