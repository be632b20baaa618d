//! What a handler decides about a request. The hub carries it out: handlers neither send nor propose.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::cluster::table::MetaEntry;
use crate::ids::{GroupId, Seq, ServerId};

/// Of the meta leader.
#[derive(Debug, Clone, PartialEq)]
pub enum MetaVerdict {
    /// Answer at once.
    Answer(Bytes),
    /// Propose these entries, in order; whoever they name as asked is answered when they take effect: creates and
    /// updates by the leader of the stream or consumer, drops by the meta leader.
    Propose(Vec<MetaEntry>),
    /// Propose these entries, which name nobody as asked, and then do that.
    ProposeAnd { entries: Vec<MetaEntry>, then: Box<MetaVerdict> },
    /// Decide again once what was proposed before is in the table: it concerns the same name.
    Later,
    /// The leader of this group answers the same request (it exists already, exactly so).
    Forward(GroupId),
    /// Ask others and answer when all have answered or time is up.
    Gather(Gather),
    /// Answer, then hand leadership of the meta group over.
    Stepdown { to: Option<ServerId>, answer: Bytes },
}

/// An answer that is made of the answers of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gather {
    /// Groups whose leaders are asked, each with the request (subject and payload) that it gets.
    pub parts: Vec<(GroupId, Bytes, Bytes)>,
    pub kind: GatherKind,
}

/// What the parts become; see [`super::list::finish`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatherKind {
    /// `names`: of those that are asked, in their order. `missing`: those that were not asked because nobody leads them.
    StreamList {
        names: Vec<String>,
        missing: Vec<String>,
        offset: usize,
        total: usize,
    },
    ConsumerList {
        names: Vec<String>,
        missing: Vec<String>,
        offset: usize,
        total: usize,
    },
    /// Usage of the account over all streams.
    AccountInfo {
        streams: usize,
        consumers: usize,
        reserved_memory: u64,
        reserved_storage: u64,
    },
}

/// Of a stream's leader (or any replica, for reads).
#[derive(Debug, Clone, PartialEq)]
pub enum StreamVerdict {
    Answer(Bytes),
    /// An answer in headers, as direct gets give it.
    Status {
        headers: Bytes,
    },
    /// The stream has taken it and answers when it has taken effect.
    Proposed,
    /// Messages must be read first; each is rendered and sent, in this order.
    Read(Read),
    Stepdown {
        to: Option<ServerId>,
        answer: Bytes,
    },
}

/// Messages to read for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub messages: VecDeque<(Seq, Render)>,
    /// Sent behind the last message (the end of a batch).
    pub end: Option<Bytes>,
}

/// How a message that was read becomes an answer; see [`super::message::render`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Render {
    /// JSON of `STREAM.MSG.GET`.
    Json { no_headers: bool },
    /// Headers and payload of a direct get.
    Direct { no_headers: bool, batch: Option<InBatch> },
}

/// The place of a message in the answer to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InBatch {
    /// Matching messages behind this one.
    pub pending: u64,
    /// Sequence of the message before this one in the answer, 0 for none.
    pub last_seq: Seq,
}

/// Of a consumer's leader.
#[derive(Debug, Clone, PartialEq)]
pub enum ConsumerVerdict {
    Answer(Bytes),
    Status {
        headers: Bytes,
    },
    /// A pull was handed to the consumer.
    Taken,
    Stepdown {
        to: Option<ServerId>,
        answer: Bytes,
    },
}
