//! What the log stores: records of groups.
//!
//! A record is one raft entry of one group, or one of the few small facts that a group must not forget (term and vote,
//! checkpoint, own notes). The body is opaque here: the bytes that a leader encoded are the bytes that every replica
//! stores. This file holds the names and sizes; the bytes around a body are drawn in `run.rs`.

use bytes::Bytes;

/// A group: one raft group, one stream replica, one consumer replica. The number is the caller's; storage never
/// interprets it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct GroupId(pub u64);

/// Order of appends on this core; grows by one with each append and survives restarts. A copy of a record (moved or
/// healed) keeps the number of its original, so "which came later" never depends on where the bytes lie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

/// Raft term of an entry.
pub type Term = u64;

/// Raft index of an entry; 0 is "before the first".
pub type Index = u64;

/// What a record means to the index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordKind(pub u8);

impl RecordKind {
    /// A raft entry, index > 0. It supersedes every entry of its group with the same or a higher index that was
    /// appended before it.
    pub const ENTRY: RecordKind = RecordKind(1);
    /// Epoch, term and vote. The latest wins. May use the space that is held back.
    pub const HARD_STATE: RecordKind = RecordKind(2);
    /// State up to and including `index`. The latest wins. Entries die by `release`, never by a checkpoint alone.
    pub const CHECKPOINT: RecordKind = RecordKind(3);
    /// The group is gone: everything of it that was appended before is dead.
    pub const TOMBSTONE: RecordKind = RecordKind(4);
    /// Entries with the record's index or a higher one that were appended before are dead. Written by the log itself
    /// when an entry supersedes others, and by callers that truncate without appending.
    pub const TRUNCATE: RecordKind = RecordKind(5);
    /// Entries below the record's index are dead. The log's own note, written before a segment with released
    /// entries is used again. The latest wins.
    pub const FLOOR: RecordKind = RecordKind(6);
    /// First of the local kinds: notes of this replica, the latest wins per (group, kind). See [`RecordKind::local`].
    pub const LOCAL: RecordKind = RecordKind(64);

    /// The local kind number `sub` (0 to 191).
    pub const fn local(sub: u8) -> RecordKind {
        assert!(sub < 192);
        RecordKind(64 + sub)
    }

    /// True for kinds of which only the newest record of a group counts.
    pub const fn latest_wins(self) -> bool {
        matches!(self, RecordKind::HARD_STATE | RecordKind::CHECKPOINT | RecordKind::FLOOR) || self.0 >= 64
    }

    /// True for kinds whose only purpose is to keep older records dead.
    pub(crate) const fn guards(self) -> bool {
        matches!(self, RecordKind::TOMBSTONE | RecordKind::TRUNCATE)
    }

    pub(crate) const fn known(self) -> bool {
        matches!(self.0, 1..=6) || self.0 >= 64
    }

    /// The word that `trestle check` and messages use.
    pub const fn word(self) -> &'static str {
        match self {
            RecordKind::ENTRY => "entry",
            RecordKind::HARD_STATE => "hard state",
            RecordKind::CHECKPOINT => "checkpoint",
            RecordKind::TOMBSTONE => "tombstone",
            RecordKind::TRUNCATE => "truncation",
            RecordKind::FLOOR => "floor",
            RecordKind(64..) => "local note",
            _ => "unknown kind",
        }
    }
}

/// One record as callers hand it in and get it back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    pub group: GroupId,
    pub kind: RecordKind,
    pub epoch: u32,
    pub term: Term,
    /// Raft index for entries, "up to" for checkpoints, "from" for truncations; free for the others.
    pub index: Index,
    pub body: Bytes,
}
