//! Opening a log. The skeleton of its interface: bodies follow.

use crate::event::Damage;
use crate::log::Log;
use crate::op::{DiskDone, DiskOp};
use crate::options::StoreOptions;
use crate::record::*;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    pub lsn: Lsn,
    pub record: Record,
}

/// What recovery found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// True when there was no log and a new one was made.
    pub created: bool,
    pub segments: usize,
    pub groups: usize,
    /// Live records, of all kinds.
    pub records: u64,
    pub bytes_read: u64,
    /// Runs that were on their way at the last stop and did not arrive whole; nothing of them was ever durable.
    pub runs_torn: u64,
    pub damaged: Vec<Damage>,
    /// Damaged places beyond the number that is listed.
    pub damaged_more: u64,
}

/// Why a log is not opened. None of these is ever treated as "empty".
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecoverError {
    /// Something that must be there is not, or is cut short.
    Lost { what: String },
    /// Another format version, or not ours.
    Foreign { what: String },
    /// A file that everything depends on is damaged.
    Damaged { what: String },
    /// The disk answered with an error.
    Disk { what: String },
    /// The options make no sense together.
    Options { what: String },
}

#[derive(Debug)]
pub struct Recovery {}

#[allow(unused_variables)]
impl Recovery {
    pub fn new(options: StoreOptions) -> Recovery {
        unimplemented!()
    }
    pub fn poll_op(&mut self) -> Option<DiskOp> {
        unimplemented!()
    }
    pub fn on_done(&mut self, done: DiskDone) {
        unimplemented!()
    }
    /// Next recovered record. Drain before asking for more operations: nothing is read ahead while some are waiting.
    pub fn poll_item(&mut self) -> Option<Recovered> {
        unimplemented!()
    }
    /// The end: once, after the last item.
    pub fn poll_finished(&mut self) -> Option<Result<(Log, RecoveryReport), RecoverError>> {
        unimplemented!()
    }
}
