//! What the log tells its caller: answers, events and figures, as values.

use crate::record::{GroupId, Index, Lsn, Record, RecordKind};

/// Why a record was not taken. Nothing was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// No space is left but what is held back for votes and deletes. A `SpaceBack` event says when to try again.
    Full,
    /// The body is larger than the log can ever store.
    TooLarge { bytes: usize, bytes_max: usize },
    /// More is waiting for the disk than memory is set aside for; try again after the next `Durable`.
    Busy,
    /// A write failed. The log takes nothing more; stop this core and recover from disk.
    Broken,
    /// An entry without an index, or a kind that callers may not append.
    Invalid,
}

impl std::fmt::Display for AppendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AppendError::Full => f.write_str("the store is full"),
            AppendError::TooLarge { bytes, bytes_max } => {
                write!(f, "a record of {bytes} bytes is larger than the {bytes_max} bytes a segment can take")
            }
            AppendError::Busy => f.write_str("too much is waiting for the disk"),
            AppendError::Broken => f.write_str("a write to the store has failed"),
            AppendError::Invalid => f.write_str("not a record that can be appended"),
        }
    }
}

impl std::error::Error for AppendError {}

/// Names one `read` that is under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadTicket(pub u64);

/// The answer to `read` and `latest`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadResult {
    /// Live records of the range in index order; fewer than asked for when `bytes_max` was reached or a damaged
    /// record follows, none when all of them are dead.
    Ready(Vec<Record>),
    /// The disk is asked; a `LogEvent::Read` with this ticket follows.
    Pending(ReadTicket),
    /// Nothing is stored there: the group is unknown, `from` is below its first or above its last index, or there is
    /// no record of that kind.
    Missing,
    /// The first record of the range is damaged. See `Log::heal`.
    Damaged { index: Index },
    /// More reads are under way than the log keeps track of; try again after one has answered.
    Busy,
}

/// Why a pending read failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadError {
    /// The first record of the range turned out to be damaged (bad checksum, or its sectors cannot be read).
    Damaged { index: Index },
}

/// What a caller must hear. Poll after every batch of calls, until `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogEvent {
    /// Everything appended up to here is on disk.
    Durable(Lsn),
    /// The answer to a pending read.
    Read { ticket: ReadTicket, result: Result<Vec<Record>, ReadError> },
    /// The store is full: appends answer `Full` until `SpaceBack`.
    SpaceLow,
    /// There is space again.
    SpaceBack,
    /// A stored record is damaged: found by a read, a move or a scrub.
    Damaged(Damage),
    /// A write or flush failed. Nothing more becomes durable; stop this core.
    Broken { why: String },
    /// A segment is full and its footer is on disk.
    Sealed { segment: u32 },
}

/// A place of a log that cannot be read back as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The group; `None` when the bytes that would say so are themselves damaged: it may be any group of this log.
    pub group: Option<GroupId>,
    /// What was stored there; `None` when that is unknown.
    pub kind: Option<RecordKind>,
    /// Indexes concerned, both inclusive; 0 and 0 when unknown or not an entry.
    pub first: Index,
    pub last: Index,
    pub segment: u32,
    /// Where in the segment, in bytes.
    pub offset: u64,
    pub bytes: u64,
    /// One phrase for a person.
    pub what: &'static str,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "segment {} at offset {} ({} bytes): {}", self.segment, self.offset, self.bytes, self.what)?;
        match (self.group, self.kind) {
            (Some(group), Some(RecordKind::ENTRY)) if self.first == self.last => {
                write!(f, "; group {:x}, entry {}", group.0, self.first)
            }
            (Some(group), Some(RecordKind::ENTRY)) => {
                write!(f, "; group {:x}, entries {} to {}", group.0, self.first, self.last)
            }
            (Some(group), Some(kind)) => write!(f, "; group {:x}, {}", group.0, kind.word()),
            (Some(group), None) => write!(f, "; group {:x}", group.0),
            _ => f.write_str("; which groups is unknown"),
        }
    }
}

/// Figures of one log since it was opened; sizes in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogStats {
    /// Segment files, in all states.
    pub segments: u64,
    /// Segment files that hold nothing.
    pub segments_free: u64,
    /// Length of all segment files together.
    pub bytes_total: u64,
    /// Records that count, with the bytes that describe them.
    pub bytes_live: u64,
    /// Records that no longer count, until their segment is used again.
    pub bytes_dead: u64,
    /// Bodies that callers appended.
    pub bytes_payload: u64,
    /// What went to the device for all of it: headers, padding, moved records, footers.
    pub bytes_device: u64,
    /// Bodies and descriptions of records that were moved to free their segment.
    pub bytes_moved: u64,
    /// Runs written.
    pub runs: u64,
    /// Records appended by callers.
    pub records: u64,
    pub groups: u64,
    /// Damaged places that are known and not healed.
    pub damaged: u64,
    /// Appended by callers but not durable yet.
    pub bytes_unstored: u64,
}
