//! The face of the log. The skeleton of its interface: bodies follow.

use crate::event::*;
use crate::op::{DiskDone, DiskOp};
use crate::record::*;

#[derive(Debug)]
pub struct Log {}

#[allow(unused_variables)]
impl Log {
    /// Takes a record; it is readable at once and durable when `durable()` reaches the answer.
    pub fn append(&mut self, record: Record) -> Result<Lsn, AppendError> {
        unimplemented!()
    }
    /// Entries >= `from` are dead. Appends a TRUNCATE record, so it holds after a restart; `None` when there was nothing.
    pub fn truncate(&mut self, group: GroupId, from: Index) -> Result<Option<Lsn>, AppendError> {
        unimplemented!()
    }
    pub fn release(&mut self, group: GroupId, below: Index) {
        unimplemented!()
    }
    pub fn kill(&mut self, group: GroupId, index: Index, bytes_dead: u32) {
        unimplemented!()
    }
    pub fn drop_group(&mut self, group: GroupId) -> Result<Lsn, AppendError> {
        unimplemented!()
    }
    pub fn durable(&self) -> Lsn {
        unimplemented!()
    }
    pub fn appended(&self) -> Lsn {
        unimplemented!()
    }
    /// First and last live entry of a group.
    pub fn bounds(&self, group: GroupId) -> Option<(Index, Index)> {
        unimplemented!()
    }
    /// Term and epoch of an entry.
    pub fn term(&self, group: GroupId, index: Index) -> Option<(Term, u32)> {
        unimplemented!()
    }
    pub fn read(&mut self, group: GroupId, from: Index, to: Index, bytes_max: usize) -> ReadResult {
        unimplemented!()
    }
    pub fn latest(&mut self, group: GroupId, kind: RecordKind) -> ReadResult {
        unimplemented!()
    }
    pub fn poll_op(&mut self) -> Option<DiskOp> {
        unimplemented!()
    }
    pub fn on_done(&mut self, done: DiskDone) {
        unimplemented!()
    }
    pub fn poll_event(&mut self) -> Option<LogEvent> {
        unimplemented!()
    }
    pub fn stats(&self) -> LogStats {
        unimplemented!()
    }
    /// Asks for the next `bytes_max` bytes of sealed segments to be verified; false when a step is still under way.
    pub fn scrub(&mut self, bytes_max: usize) -> bool {
        unimplemented!()
    }
    /// Stores a damaged entry or latest-wins record again, as a peer has it. Kills nothing.
    pub fn heal(&mut self, record: Record) -> Result<Lsn, AppendError> {
        unimplemented!()
    }
    /// Tries again to make segments after the file system was full (call about once a second while low).
    pub fn retry_space(&mut self) {
        unimplemented!()
    }
    /// Writes down what is durable, when nothing else does (call once when idle and on a clean stop).
    pub fn mark(&mut self) {
        unimplemented!()
    }
    /// The caller has dealt with the unattributed damage of a segment: its live records move, its file is used again.
    pub fn clear_damage(&mut self, segment: u32) {
        unimplemented!()
    }
}
