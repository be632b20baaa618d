//! Bodies of a stream's log entries: encoded once by the leader, the same bytes on every disk, link and replica.
//!
//! Little-endian, version first. A batch begins with a table, so that message `k` is found without walking the others;
//! headers and payload of a message are neighbours, so that a delivery is one slice of the body.
//!
//! ```text
//! every body     0 version = 1   1 kind   2 flags u8   3 zero
//! batch (1)      4 count u32   8 base_seq u64   16 time_ns i64   24 table of count rows, then data
//!   row (20)     0 start u32   4 payload_len u32   8 headers_len u16   10 subject_len u16
//!                12 id_start u16   14 id_len u16   16 rollup u8   17 zero[3]
//!   data         subject ‖ headers ‖ payload of each message in turn; id_start counts from the headers
//! delete (2)     flags 1: erase   4 zero   8 seq u64
//! purge (3)      4 filter_len u32   8 seq u64   16 keep u64   24 filter
//! trim (4)       4 zero   8 first_seq u64
//! config (5)     4 JSON
//! ```
//!
//! Decoding checks every length and never panics; bytes after what is described are damage, too. Whether a body is the
//! one that was written is not this file's concern: storage and links carry checksums.

use bytes::{BufMut, Bytes, BytesMut};

use super::config::StreamConfig;
use crate::ids::Seq;
use crate::limits::ENTRY_MESSAGES_MAX;

const VERSION: u8 = 1;
const KIND_BATCH: u8 = 1;
const KIND_DELETE: u8 = 2;
const KIND_PURGE: u8 = 3;
const KIND_TRIM: u8 = 4;
const KIND_CONFIG: u8 = 5;

const BATCH_HEAD: usize = 24;
const ROW: usize = 20;
const FLAG_ERASE: u8 = 1;

/// Bytes that a message adds to its batch beside subject, headers and payload.
pub const MESSAGE_OVERHEAD: usize = ROW;
/// Longest header block, bytes: its length is a u16 here as in the peer's record.
pub const HEADERS_BYTES_MAX: usize = u16::MAX as usize;
/// Longest subject, bytes.
pub const SUBJECT_BYTES_MAX: usize = u16::MAX as usize;

/// A body that does not follow the format: not written by this version, or bytes changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged(pub &'static str);

impl std::fmt::Display for Damaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "damaged stream entry: {}", self.0)
    }
}

impl std::error::Error for Damaged {}

/// What a message asks to remove when it is stored (`Nats-Rollup`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rollup {
    #[default]
    None,
    /// Every earlier message of its subject.
    Subject,
    /// Every earlier message of the stream.
    All,
}

/// Whether a body takes messages away or changes limits: what brings space back to a full store.
pub fn gives_back(body: &[u8]) -> bool {
    matches!(body.get(1), Some(&(KIND_DELETE | KIND_PURGE | KIND_TRIM | KIND_CONFIG)))
}

/// A message on its way into a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub subject: Bytes,
    /// A whole header block; empty for none. At most [`HEADERS_BYTES_MAX`].
    pub headers: Bytes,
    pub payload: Bytes,
    /// Where the message id lies in `headers`: start and length; length 0 for none.
    pub id: (u16, u16),
    pub rollup: Rollup,
}

impl Draft {
    /// Bytes that this message adds to a batch.
    pub fn encoded_len(&self) -> usize {
        ROW + self.subject.len() + self.headers.len() + self.payload.len()
    }

    /// The message id; empty for none.
    pub fn id_text(&self) -> &[u8] {
        let (start, len) = (usize::from(self.id.0), usize::from(self.id.1));
        self.headers.get(start..start + len).unwrap_or_default()
    }
}

/// A message as it lies in an entry's body: slices of it, nothing copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    pub subject: Bytes,
    pub headers: Option<Bytes>,
    pub payload: Bytes,
}

/// One decoded entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    Batch(Batch),
    Delete {
        seq: Seq,
        erase: bool,
    },
    Purge(Purge),
    /// Age expiry, decided by the leader: everything below goes.
    Trim {
        first_seq: Seq,
    },
    Config(Box<StreamConfig>),
}

/// Which messages a purge removes: those matching `filter`, below `seq` when it is not 0, all but the newest `keep`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Purge {
    /// Empty for all subjects.
    pub filter: Bytes,
    pub seq: Seq,
    pub keep: u64,
}

/// A checked batch: every row lies inside the body.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    pub base_seq: Seq,
    /// Wall clock of the leader for all messages, nanoseconds since the Unix epoch.
    pub time_ns: i64,
    pub count: u32,
    body: Bytes,
}

/// One row of a batch's table with its extents in the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    start: usize,
    subject: usize,
    headers: usize,
    payload: usize,
    id: (usize, usize),
    rollup: Rollup,
}

/// What applying needs of a message, borrowed from the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glance<'a> {
    pub subject: &'a [u8],
    pub id: &'a [u8],
    /// Subject, headers and payload together.
    pub bytes_raw: u32,
    pub with_headers: bool,
    pub rollup: Rollup,
}

impl Entry {
    pub fn decode(body: &Bytes) -> Result<Entry, Damaged> {
        match head(body)? {
            KIND_BATCH => Batch::decode(body).map(Entry::Batch),
            KIND_DELETE => {
                exact(body, 16)?;
                Ok(Entry::Delete { seq: u64_at(body, 8)?, erase: body.get(2) == Some(&FLAG_ERASE) })
            }
            KIND_PURGE => {
                let filter = u32_at(body, 4)? as usize;
                exact(body, 24usize.checked_add(filter).ok_or(Damaged("purge filter length"))?)?;
                Ok(Entry::Purge(Purge { filter: body.slice(24..), seq: u64_at(body, 8)?, keep: u64_at(body, 16)? }))
            }
            KIND_TRIM => {
                exact(body, 16)?;
                Ok(Entry::Trim { first_seq: u64_at(body, 8)? })
            }
            KIND_CONFIG => {
                let json = body.get(4..).ok_or(Damaged("config length"))?;
                StreamConfig::from_stored(json)
                    .map(|config| Entry::Config(Box::new(config)))
                    .ok_or(Damaged("config JSON"))
            }
            _ => Err(Damaged("unknown kind")),
        }
    }

    pub fn encode_delete(seq: Seq, erase: bool) -> Bytes {
        let mut body = start(KIND_DELETE, if erase { FLAG_ERASE } else { 0 }, 16);
        body.put_u32_le(0);
        body.put_u64_le(seq);
        body.freeze()
    }

    pub fn encode_purge(purge: &Purge) -> Bytes {
        let mut body = start(KIND_PURGE, 0, 24 + purge.filter.len());
        body.put_u32_le(purge.filter.len() as u32);
        body.put_u64_le(purge.seq);
        body.put_u64_le(purge.keep);
        body.put_slice(&purge.filter);
        body.freeze()
    }

    pub fn encode_trim(first_seq: Seq) -> Bytes {
        let mut body = start(KIND_TRIM, 0, 16);
        body.put_u32_le(0);
        body.put_u64_le(first_seq);
        body.freeze()
    }

    pub fn encode_config(config: &StreamConfig) -> Bytes {
        let json = config.to_stored();
        let mut body = start(KIND_CONFIG, 0, 4 + json.len());
        body.put_slice(&json);
        body.freeze()
    }

    /// Encodes messages in order. The one place where payload is copied.
    ///
    /// The drafts must keep to [`ENTRY_MESSAGES_MAX`], the length bounds of this file and 4 GiB together.
    pub fn encode_batch(base_seq: Seq, time_ns: i64, drafts: &[Draft]) -> Bytes {
        assert!(!drafts.is_empty() && drafts.len() <= ENTRY_MESSAGES_MAX, "a batch has 1 to {ENTRY_MESSAGES_MAX}");
        let len = BATCH_HEAD + drafts.iter().map(Draft::encoded_len).sum::<usize>();
        assert!(u32::try_from(len).is_ok(), "a batch stays below 4 GiB");
        let mut body = start(KIND_BATCH, 0, len);
        body.put_u32_le(drafts.len() as u32);
        body.put_u64_le(base_seq);
        body.put_i64_le(time_ns);
        let mut at = BATCH_HEAD + drafts.len() * ROW;
        for draft in drafts {
            assert!(draft.headers.len() <= HEADERS_BYTES_MAX && draft.subject.len() <= SUBJECT_BYTES_MAX);
            body.put_u32_le(at as u32);
            body.put_u32_le(draft.payload.len() as u32);
            body.put_u16_le(draft.headers.len() as u16);
            body.put_u16_le(draft.subject.len() as u16);
            body.put_u16_le(draft.id.0);
            body.put_u16_le(draft.id.1);
            body.put_u32_le(draft.rollup as u32);
            at += draft.encoded_len() - ROW;
        }
        for draft in drafts {
            body.put_slice(&draft.subject);
            body.put_slice(&draft.headers);
            body.put_slice(&draft.payload);
        }
        body.freeze()
    }
}

impl Batch {
    fn decode(body: &Bytes) -> Result<Batch, Damaged> {
        let batch = Batch::head_of(body)?;
        let mut at = BATCH_HEAD + batch.count as usize * ROW;
        for slot in 0..batch.count {
            let row = Row::read(body, batch.count, slot)?;
            if row.start != at {
                return Err(Damaged("messages do not follow each other"));
            }
            at = row.end();
        }
        if at != body.len() {
            return Err(Damaged("bytes after the last message"));
        }
        Ok(batch)
    }

    /// The fixed part only.
    fn head_of(body: &Bytes) -> Result<Batch, Damaged> {
        if head(body)? != KIND_BATCH {
            return Err(Damaged("not a batch"));
        }
        let count = u32_at(body, 4)?;
        let base_seq = u64_at(body, 8)?;
        if count == 0 || count as usize > ENTRY_MESSAGES_MAX {
            return Err(Damaged("message count"));
        }
        if base_seq == 0 || base_seq.checked_add(u64::from(count)).is_none() {
            return Err(Damaged("base sequence"));
        }
        Ok(Batch { base_seq, time_ns: u64_at(body, 16)? as i64, count, body: body.clone() })
    }

    pub fn body_len(&self) -> usize {
        self.body.len()
    }

    /// What applying needs to know of each message, in order.
    pub fn glances(&self) -> impl Iterator<Item = Glance<'_>> {
        (0..self.count).filter_map(|slot| {
            let row = Row::read(&self.body, self.count, slot).ok()?;
            let headers = row.start + row.subject;
            Some(Glance {
                subject: self.body.get(row.start..headers)?,
                id: self.body.get(headers + row.id.0..headers + row.id.0 + row.id.1)?,
                bytes_raw: (row.end() - row.start) as u32,
                with_headers: row.headers > 0,
                rollup: row.rollup,
            })
        })
    }
}

/// Message `slot` of a batch's body, in constant time.
pub fn message(body: &Bytes, slot: u32) -> Result<StoredMessage, Damaged> {
    let batch = Batch::head_of(body)?;
    let row = Row::read(body, batch.count, slot)?;
    let headers = row.start + row.subject;
    let payload = headers + row.headers;
    Ok(StoredMessage {
        subject: body.slice(row.start..headers),
        headers: (row.headers > 0).then(|| body.slice(headers..payload)),
        payload: body.slice(payload..row.end()),
    })
}

impl Row {
    fn read(body: &[u8], count: u32, slot: u32) -> Result<Row, Damaged> {
        if slot >= count {
            return Err(Damaged("no such message"));
        }
        let at = BATCH_HEAD + slot as usize * ROW;
        let row = Row {
            start: u32_at(body, at)? as usize,
            payload: u32_at(body, at + 4)? as usize,
            headers: u16_at(body, at + 8)? as usize,
            subject: u16_at(body, at + 10)? as usize,
            id: (u16_at(body, at + 12)? as usize, u16_at(body, at + 14)? as usize),
            rollup: match u32_at(body, at + 16)? {
                0 => Rollup::None,
                1 => Rollup::Subject,
                2 => Rollup::All,
                _ => return Err(Damaged("rollup")),
            },
        };
        if row.start < BATCH_HEAD + count as usize * ROW || row.end() > body.len() {
            return Err(Damaged("message outside the body"));
        }
        if row.id.0 + row.id.1 > row.headers {
            return Err(Damaged("message id outside the headers"));
        }
        Ok(row)
    }

    /// Where the message ends. Cannot overflow: four lengths of at most 32 bits.
    fn end(&self) -> usize {
        self.start + self.subject + self.headers + self.payload
    }
}

fn start(kind: u8, flags: u8, len: usize) -> BytesMut {
    let mut body = BytesMut::with_capacity(len);
    body.put_slice(&[VERSION, kind, flags, 0]);
    body
}

fn head(body: &[u8]) -> Result<u8, Damaged> {
    match body {
        [VERSION, kind, ..] => Ok(*kind),
        [_, _, ..] => Err(Damaged("unknown version")),
        _ => Err(Damaged("too short")),
    }
}

fn exact(body: &[u8], len: usize) -> Result<(), Damaged> {
    if body.len() == len { Ok(()) } else { Err(Damaged("length")) }
}

fn u16_at(body: &[u8], at: usize) -> Result<u16, Damaged> {
    body.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes).ok_or(Damaged("too short"))
}

fn u32_at(body: &[u8], at: usize) -> Result<u32, Damaged> {
    body.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes).ok_or(Damaged("too short"))
}

fn u64_at(body: &[u8], at: usize) -> Result<u64, Damaged> {
    body.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes).ok_or(Damaged("too short"))
}

#[cfg(test)]
mod tests;
