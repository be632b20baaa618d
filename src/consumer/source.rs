//! What a consumer needs to know about its stream.
//!
//! A consumer never sees payload: it asks which message comes next, how many are left and how large one is, and names
//! the sequence to deliver; the shard fetches the bytes. The trait exists so that this module can be tested with a
//! vector as its stream; the product has one implementation, the stream's index.

use crate::ids::Seq;
use crate::stream::{Filters, Stream};

/// The read verbs of a stream's index. The answers describe the replica on this core, which may lag behind the
/// stream's leader.
pub trait Source {
    /// First sequence that may exist; `last_seq() + 1` when the stream is empty.
    fn first_seq(&self) -> Seq;

    /// Last sequence ever given, 0 when there was none.
    fn last_seq(&self) -> Seq;

    /// How many messages between first and last are gone. A change of it makes the consumer look at its pending set.
    fn holes(&self) -> u64;

    /// Whether this sequence holds a message.
    fn contains(&self, seq: Seq) -> bool;

    /// First message at or after `from` that matches.
    fn next_match(&self, from: Seq, filters: &Filters) -> Option<Seq>;

    /// Last message that matches.
    fn last_match(&self, filters: &Filters) -> Option<Seq>;

    /// The last message of every matching subject, ascending.
    fn last_per_subject(&self, filters: &Filters) -> Vec<Seq>;

    /// How many messages at or after `from` match. Asked at most once a turn.
    fn count_from(&self, from: Seq, filters: &Filters) -> u64;

    /// First sequence whose message was stored at this wall time (ns) or later; `last_seq() + 1` when there is none.
    fn seq_at_time(&self, time_ns: i64) -> Seq;

    /// When the message was stored, wall nanoseconds; 0 when there is no such message.
    fn time_of(&self, seq: Seq) -> i64;

    /// Bytes of subject, headers and payload together; 0 when there is no such message.
    fn size_of(&self, seq: Seq) -> u64;
}

impl Source for Stream {
    fn first_seq(&self) -> Seq {
        Stream::first_seq(self)
    }

    fn last_seq(&self) -> Seq {
        Stream::last_seq(self)
    }

    fn holes(&self) -> u64 {
        self.state().num_deleted
    }

    fn contains(&self, seq: Seq) -> bool {
        self.locate(seq).is_some()
    }

    fn next_match(&self, from: Seq, filters: &Filters) -> Option<Seq> {
        Stream::next_match(self, from, filters)
    }

    fn last_match(&self, filters: &Filters) -> Option<Seq> {
        Stream::last_match(self, Stream::last_seq(self), filters)
    }

    fn last_per_subject(&self, filters: &Filters) -> Vec<Seq> {
        Stream::last_per_subject(self, filters)
    }

    fn count_from(&self, from: Seq, filters: &Filters) -> u64 {
        Stream::count_from(self, from, filters)
    }

    fn seq_at_time(&self, time_ns: i64) -> Seq {
        Stream::seq_at_time(self, time_ns)
    }

    fn time_of(&self, seq: Seq) -> i64 {
        Stream::time_of(self, seq).unwrap_or(0)
    }

    fn size_of(&self, seq: Seq) -> u64 {
        Stream::size_of(self, seq).map_or(0, u64::from)
    }
}
