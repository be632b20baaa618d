//! One stream: a replicated state machine above a raft group, pure and synchronous.
//!
//! The log is the store. Each entry's body is encoded once ([`record`]) and is what disk and followers hold; memory
//! holds 12 bytes per message, 32 per entry and the subjects ([`index`]), never payload. The layers below promise to
//! append a body under an index, to commit in order, and to give a body back by its index.
//!
//! ```text
//!  leader    ingest ─► queue ─► take_entries ─► bodies ─► (raft, disk) ─┐
//!  everyone  appended(index, body) ─► pending ─► apply(committed) ─► index ─► poll_output
//!  readers   next_match, count_from, locate ─► (read the body) ─► message(body, slot)
//!  restart   restore, recover_entry in any order, recovered
//! ```
//!
//! Reading order: [`config`], [`record`], `ingest`, `lead`, `apply`, `read`, `checkpoint`, `recover`.
//!
//! It does not know who leads, where replicas are, what consumers there are, or what time it is.

pub mod answer;
mod apply;
mod asks;
mod checkpoint;
pub mod config;
mod cut;
mod dedup;
pub mod filters;
mod index;
pub mod info;
mod ingest;
mod lead;
mod pending;
mod read;
pub mod record;
mod recover;
mod rows;
mod siphash;
mod space;
mod spans;
mod subjects;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ids::{AccountId, GroupId, Place, Seq};
use crate::reply::Reply;

pub use config::{StreamConfig, StreamLimits};
pub use filters::Filters;
pub use info::{InfoRequest, StreamInfo, StreamState};
pub use record::{Damaged, Entry, Purge, StoredMessage, message};

use answer::Acks;
use cut::Cut;
use dedup::Dedup;
use index::Index;
use lead::Lead;
use pending::Pending;
use recover::Recovery;
use space::Space;

/// One message that a client wants stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The core that it entered by, where its answer goes.
    pub origin: Place,
    pub subject: Bytes,
    pub reply: Option<Bytes>,
    /// A whole header block.
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

/// What a stream tells the layers around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamOutput {
    Reply(Reply),
    /// The stream needs no entry below this index any more. Never said before a durable checkpoint knows it.
    Released {
        below_index: u64,
    },
    /// So many bytes of an entry's body will never be read again; they add up. For an entry that is dead as a whole the
    /// last one is the whole length, so the sum may exceed it. Never said before a durable checkpoint knows it. After a
    /// restart only entries that are dead as a whole are told again.
    Dead {
        index: u64,
        bytes: u32,
    },
    /// Consumers have something to read.
    Grew {
        last_seq: Seq,
    },
    /// Messages went: consumers look whether theirs are among them.
    Shrunk {
        first_seq: Seq,
    },
    /// All below went at an operator's word: consumers count it as read, whoever wanted it.
    Purged {
        first_seq: Seq,
    },
    /// A new configuration is in force; whoever asked for it is to be answered with STREAM.INFO.
    ConfigChanged {
        answer: Option<Answer>,
    },
}

/// Invariants: `pending` is in order of index, all above `applied`; `log_last_seq` is the last sequence once all of it
/// is applied; only a leader has `lead`, and its tail is at or after `log_last_seq`.
#[derive(Debug)]
pub struct Stream {
    group: GroupId,
    account: AccountId,
    created_ns: i64,
    domain: Option<String>,
    acks: Acks,
    // Applied state: the same on every replica.
    config: StreamConfig,
    applied: u64,
    index: Index,
    dedup: Dedup,
    /// Message id of the last message stored; empty for none.
    last_id: Box<[u8]>,
    // The log after it.
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    log_last_seq: Seq,
    // This replica's own.
    lead: Option<Lead>,
    recovery: Option<Recovery>,
    space: Space,
    /// Publishers of ids that were in flight: answered after the one whose message it is.
    late: Vec<(Seq, Place, Bytes)>,
    /// Entries of a former leadership that were cut off.
    cut: Vec<Cut>,
    outputs: VecDeque<StreamOutput>,
}

impl Stream {
    /// A stream without messages. `config` went through [`StreamConfig::defaulted`]; `created_ns` is the same on every
    /// replica.
    pub fn new(group: GroupId, account: AccountId, config: StreamConfig, created_ns: i64) -> Stream {
        let index = Index::new(Stream::seeds(group, created_ns), config.first_seq, (group.0, 0));
        Stream {
            group,
            account,
            created_ns,
            domain: None,
            acks: Acks::new(&config.name, None),
            log_last_seq: index.last_seq,
            config,
            applied: 0,
            index,
            dedup: Dedup::default(),
            last_id: Box::default(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            lead: None,
            recovery: None,
            space: Space::default(),
            late: Vec::new(),
            cut: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The JetStream domain that acknowledgements name.
    pub fn set_domain(&mut self, domain: Option<String>) {
        self.domain = domain;
        self.remake_acks();
    }

    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    pub fn group(&self) -> GroupId {
        self.group
    }

    pub fn account(&self) -> AccountId {
        self.account
    }

    /// The configuration in force.
    pub fn config(&self) -> &StreamConfig {
        &self.config
    }

    pub fn created_ns(&self) -> i64 {
        self.created_ns
    }

    /// The last index given to [`Stream::apply`], or the checkpoint's.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// What the stream has to say. Drain it after every call.
    pub fn poll_output(&mut self) -> Option<StreamOutput> {
        self.outputs.pop_front()
    }

    fn remake_acks(&mut self) {
        self.acks = Acks::new(&self.config.name, self.domain.as_deref());
    }

    /// Keys of the subject table's hash: different per stream, nothing observable depends on them.
    fn seeds(group: GroupId, created_ns: i64) -> (u64, u64) {
        (group.0.wrapping_mul(0x9e37_79b9_7f4a_7c15), created_ns as u64)
    }
}

#[cfg(test)]
mod tests;
