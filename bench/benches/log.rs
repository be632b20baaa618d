//! The log of a core: records of many groups become one write, on a disk that answers at once.

use std::collections::BTreeMap;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use storage::{
    DiskData, DiskDone, DiskError, DiskOp, DiskOpKind, FileId, GroupId, Log, Record, RecordKind, Recovery, StoreOptions,
};

/// Groups that have an entry in a turn.
const GROUPS: u64 = 32;
const ENTRY_BYTES: usize = 4096;

pub fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Bytes(GROUPS * ENTRY_BYTES as u64));
    let mut disk = Disk::default();
    let mut log = open(&mut disk);
    let mut index = 0;
    let body = Bytes::from(vec![b'x'; ENTRY_BYTES]);
    group.bench_function("entries of 32 groups in one turn", |bencher| {
        bencher.iter(|| {
            index += 1;
            for id in 1..=GROUPS {
                let (kind, body) = (RecordKind::ENTRY, body.clone());
                let record = Record { group: GroupId(id), kind, epoch: 1, term: 1, index, body };
                log.append(record).expect("room");
            }
            settle(&mut log, &mut disk);
            for id in 1..=GROUPS {
                log.release(GroupId(id), index);
            }
        });
    });
}

/// Small files are kept, segments are not: nothing is read back.
#[derive(Default)]
struct Disk(BTreeMap<FileId, Bytes>);

impl Disk {
    fn run(&mut self, op: DiskOp) -> DiskDone {
        let result = match op.kind {
            DiskOpKind::List => Ok(DiskData::Files(Vec::new())),
            DiskOpKind::ReadFile { file } => self.0.get(&file).cloned().map(DiskData::Bytes).ok_or(DiskError::Missing),
            DiskOpKind::WriteFileAtomic { file, data } => {
                self.0.insert(file, data);
                Ok(DiskData::Done)
            }
            DiskOpKind::Read { len, .. } => Ok(DiskData::Bytes(Bytes::from(vec![0; len]))),
            _ => Ok(DiskData::Done),
        };
        DiskDone { id: op.id, result }
    }
}

fn open(disk: &mut Disk) -> Log {
    let options =
        StoreOptions { create: true, seed: 1, segment_bytes: 4 << 20, cache_bytes: 1 << 20, ..StoreOptions::default() };
    let mut recovery = Recovery::new(options);
    loop {
        while let Some(op) = recovery.poll_op() {
            let done = disk.run(op);
            recovery.on_done(done);
        }
        while recovery.poll_item().is_some() {}
        if let Some(finished) = recovery.poll_finished() {
            return finished.expect("an empty store").0;
        }
    }
}

fn settle(log: &mut Log, disk: &mut Disk) {
    while let Some(op) = log.poll_op() {
        let done = disk.run(op);
        log.on_done(done);
    }
    while log.poll_event().is_some() {}
}
