//! One stream: a replicated state machine above a raft group, pure and synchronous.
pub mod config;
pub mod filters;
pub mod info;
pub mod record;

use bytes::Bytes;

use crate::api::errors::ApiError;
use crate::ids::{AccountId, GroupId, Now, Place, Seq};
use crate::reply::Reply;

pub use config::{StreamConfig, StreamLimits};
pub use filters::Filters;
pub use info::{InfoRequest, StreamInfo, StreamState};
pub use record::{Damaged, Entry, Purge, StoredMessage, message};

/// One message that a client wants stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    pub origin: Place,
    pub subject: Bytes,
    pub reply: Option<Bytes>,
    pub headers: Option<Bytes>,
    pub payload: Bytes,
}

/// Who waits for the outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub to: Place,
    pub account: AccountId,
    pub subject: Bytes,
}

/// Where a message lies: the log entry and its slot in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    pub index: u64,
    pub slot: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamOutput {
    Reply(Reply),
    /// Entries below are needed by nobody: the log may forget them.
    Released { below_index: u64 },
    /// So many bytes of an entry's body will never be read again.
    Dead { index: u64, bytes: u32 },
    /// Consumers have something to read.
    Grew { last_seq: Seq },
    /// Messages went: consumers look whether theirs are among them.
    Shrunk { first_seq: Seq },
    /// A new configuration is in force; whoever asked for it is to be answered with STREAM.INFO.
    ConfigChanged { answer: Option<Answer> },
}

pub struct Stream {}

#[allow(unused_variables)]
impl Stream {
    pub fn new(group: GroupId, account: AccountId, config: StreamConfig, created_ns: i64) -> Stream { todo!() }
    pub fn set_domain(&mut self, domain: Option<String>) { todo!() }
    pub fn group(&self) -> GroupId { todo!() }
    pub fn account(&self) -> AccountId { todo!() }
    pub fn config(&self) -> &StreamConfig { todo!() }
    pub fn created_ns(&self) -> i64 { todo!() }
    // leader
    pub fn ingest(&mut self, now: Now, publish: Publish) -> Option<Reply> { todo!() }
    pub fn propose_delete(&mut self, now: Now, seq: Seq, erase: bool, answer: Option<Answer>) -> Option<Reply> { todo!() }
    pub fn propose_purge(&mut self, now: Now, purge: Purge, answer: Option<Answer>) -> Option<Reply> { todo!() }
    pub fn propose_config(&mut self, now: Now, config: StreamConfig, answer: Option<Answer>) { todo!() }
    /// Entry bodies formed of what was queued, in order; the caller proposes each and reports each by `appended`.
    pub fn take_entries(&mut self, now: Now) -> Vec<Bytes> { todo!() }
    /// What `take_entries` gave and was not appended cannot be proposed: its publishers get `error`.
    pub fn refuse_taken(&mut self, error: &ApiError) { todo!() }
    /// Monotonic time (`Now::us`) at which `take_entries` has something to do although nothing was queued.
    pub fn next_wakeup(&self, now: Now) -> Option<u64> { todo!() }
    pub fn lead(&mut self, now: Now, leading: bool) { todo!() }
    pub fn is_leading(&self) -> bool { todo!() }
    // both
    pub fn appended(&mut self, index: u64, body: &Bytes) -> Result<(), Damaged> { todo!() }
    pub fn truncated(&mut self, from: u64) { todo!() }
    pub fn apply(&mut self, now: Now, upto: u64) { todo!() }
    pub fn applied(&self) -> u64 { todo!() }
    pub fn poll_output(&mut self) -> Option<StreamOutput> { todo!() }
    pub fn fingerprint(&self) -> u64 { todo!() }
    // reads
    pub fn state(&self) -> StreamState { todo!() }
    pub fn first_seq(&self) -> Seq { todo!() }
    pub fn last_seq(&self) -> Seq { todo!() }
    pub fn locate(&self, seq: Seq) -> Option<At> { todo!() }
    pub fn time_of(&self, seq: Seq) -> Option<i64> { todo!() }
    /// Subject, headers and payload together, bytes.
    pub fn size_of(&self, seq: Seq) -> Option<u32> { todo!() }
    pub fn subject_of(&self, seq: Seq) -> Option<Bytes> { todo!() }
    pub fn next_match(&self, from: Seq, filters: &Filters) -> Option<Seq> { todo!() }
    pub fn last_match(&self, upto: Seq, filters: &Filters) -> Option<Seq> { todo!() }
    /// The newest message of every matching subject, ascending by sequence.
    pub fn last_per_subject(&self, filters: &Filters) -> Vec<Seq> { todo!() }
    pub fn count_from(&self, seq: Seq, filters: &Filters) -> u64 { todo!() }
    pub fn seq_at_time(&self, ns: i64) -> Seq { todo!() }
    /// Matching subjects in byte order with their message counts, and how many match in all.
    pub fn subjects(&self, filter: &[u8], offset: usize, limit: usize) -> (Vec<(Bytes, u64)>, usize) { todo!() }
    pub fn deleted(&self, limit: usize) -> Vec<Seq> { todo!() }
    // checkpoint
    pub fn checkpoint(&self) -> Bytes { todo!() }
    pub fn wants_checkpoint(&self) -> bool { todo!() }
    /// A checkpoint taken when `applied` was the last applied index is durable: the log may forget what it covers.
    pub fn checkpointed(&mut self, applied: u64) { todo!() }
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<(), Damaged> { todo!() }
    pub fn install(&mut self, checkpoint: &[u8]) -> Result<(), Damaged> { todo!() }
    pub fn recover_entry(&mut self, index: u64, body: &Bytes) -> Result<(), Damaged> { todo!() }
    pub fn recovered(&mut self, now: Now, committed: u64) -> Result<(), Damaged> { todo!() }
    pub fn live_entries(&self, from_index: u64) -> impl Iterator<Item = u64> + '_ { [].into_iter() }
}
