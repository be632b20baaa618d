//! What the log asks of a disk, as values.
//!
//! The log, recovery and the checker never touch a file: they hand out [`DiskOp`]s and take [`DiskDone`]s, so the same
//! code runs over io_uring (`uring/`), blocking calls (`blocking.rs`) and a simulated disk. Operations that are out at
//! the same time may complete in any order. An operation answers exactly once.
//!
//! Duties of whoever runs them:
//! * `Write` answers only when the bytes are durable (O_DSYNC, or a flush behind the write). Offsets and lengths are
//!   multiples of [`BLOCK`].
//! * `Create` makes a new file of exactly `bytes` zero bytes that were really written, and makes its name durable.
//!   It may work in small steps; nobody reads the file before the answer.
//! * `WriteFileAtomic` leaves the old or the new content, never a mix, and the new one is durable when it answers.
//! * `Delete` of a file that is not there succeeds.

use bytes::Bytes;

/// Unit of alignment of everything on disk, in bytes: what O_DIRECT asks of the common devices.
pub const BLOCK: usize = 4096;

/// Largest small file (manifest, identity), in bytes.
pub const SMALL_FILE_BYTES_MAX: u64 = 1 << 20;

/// Number of an operation; unique within one log (recovery and the log that it yields count on).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId(pub u64);

/// A file of a store, by meaning rather than by path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileId {
    /// A segment of the log.
    Segment(u32),
    /// The list of a log's segments.
    Manifest,
    /// Who the store belongs to; in the root of the store.
    Identity,
}

impl FileId {
    /// The file's name in its directory.
    pub fn name(self) -> String {
        match self {
            FileId::Segment(number) => format!("segment-{number:08}"),
            FileId::Manifest => "manifest".into(),
            FileId::Identity => "identity".into(),
        }
    }

    /// The file that a name means, if it is one of ours.
    pub fn from_name(name: &str) -> Option<FileId> {
        match name {
            "manifest" => Some(FileId::Manifest),
            "identity" => Some(FileId::Identity),
            _ => {
                let digits = name.strip_prefix("segment-")?;
                let number = digits.parse().ok()?;
                (FileId::Segment(number).name() == name).then_some(FileId::Segment(number))
            }
        }
    }
}

/// One operation for the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskOp {
    pub id: OpId,
    pub kind: DiskOpKind,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskOpKind {
    /// Make a new file of `bytes` zero bytes, written and durable. `Exists` if there is one.
    Create {
        file: FileId,
        bytes: u64,
    },
    /// Write the parts one behind the other at `offset`; durable when answered. The sum of the parts is a multiple
    /// of [`BLOCK`].
    Write {
        file: FileId,
        offset: u64,
        data: Vec<Bytes>,
    },
    /// Read exactly `len` bytes; fewer are `Short`.
    Read {
        file: FileId,
        offset: u64,
        len: usize,
    },
    /// Make everything that was ever written to the file durable.
    Sync {
        file: FileId,
    },
    Delete {
        file: FileId,
    },
    /// Names and lengths of all files of the directory that are ours.
    List,
    /// The whole of a small file (at most 1 MiB).
    ReadFile {
        file: FileId,
    },
    /// Replace the whole of a small file.
    WriteFileAtomic {
        file: FileId,
        data: Bytes,
    },
}

/// The answer to one operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskDone {
    pub id: OpId,
    pub result: Result<DiskData, DiskError>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskData {
    /// For operations that only succeed.
    Done,
    /// For `Read` (exactly `len` bytes) and `ReadFile`.
    Bytes(Bytes),
    /// For `List`: files and their lengths in bytes, in any order.
    Files(Vec<(FileId, u64)>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// ENOSPC or EDQUOT.
    NoSpace,
    /// Any other error, by errno.
    Io(i32),
    /// No such file.
    Missing,
    /// The file ends before the bytes that were asked for.
    Short,
    /// `Create` of a file that exists.
    Exists,
}

impl std::fmt::Display for DiskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DiskError::NoSpace => f.write_str("no space left on the device"),
            DiskError::Io(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(*errno)),
            DiskError::Missing => f.write_str("the file is missing"),
            DiskError::Short => f.write_str("the file is too short"),
            DiskError::Exists => f.write_str("the file exists already"),
        }
    }
}

impl std::error::Error for DiskError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_foreign_names_are_not_ours() {
        for file in
            [FileId::Segment(0), FileId::Segment(7), FileId::Segment(u32::MAX), FileId::Manifest, FileId::Identity]
        {
            assert_eq!(FileId::from_name(&file.name()), Some(file));
        }
        for name in ["segment-7", "segment-+0000007", "segment-0000000x", "lock", "", "segment-99999999999"] {
            assert_eq!(FileId::from_name(name), None, "{name}");
        }
    }
}
