//! The applied state without payload, as bytes: what a replica keeps so that it need not replay what is long gone, and
//! what a new replica gets first.
//!
//! A checkpoint does not list messages. Together with the log entries that still hold a living message it gives exactly
//! the state it was taken of: an entry names its sequences, the gaps say which of them are gone, the sums prove that
//! no entry is missing.
//!
//! ```text
//!  0 version = 1    1 config_len u32, config JSON    created i64    applied u64    first_seq u64    last_seq u64
//!  has_time u8, last_time i64    messages u64    bytes u64    last_id_len u16, last_id
//!  ids u32, then each: id u128, seq u64, time i64            oldest first
//!  gaps u32, then each: two varints, living before the gap and its length
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::config::StreamConfig;
use super::dedup::Seen;
use super::record::Damaged;
use super::{Stream, siphash};
use crate::ids::Seq;

const VERSION: u8 = 1;
const ID_LEN: usize = 32;

/// A decoded checkpoint, checked against itself.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) config: StreamConfig,
    pub(super) created_ns: i64,
    pub(super) applied: u64,
    pub(super) first_seq: Seq,
    pub(super) last_seq: Seq,
    pub(super) last_time_ns: Option<i64>,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) last_id: Box<[u8]>,
    pub(super) ids: Vec<Seen>,
    /// Ranges `start..end` without messages, ascending.
    pub(super) gaps: Vec<(Seq, Seq)>,
}

impl Stream {
    /// The applied state. Once it is durable, [`Stream::checkpointed`] with the same applied index lets the log forget.
    /// Costs a walk over the gaps and the remembered message ids, not over the messages.
    pub fn checkpoint(&mut self) -> Bytes {
        let index = &self.index;
        let mut out = BytesMut::new();
        let config = self.config.to_stored();
        out.put_u8(VERSION);
        out.put_u32_le(config.len() as u32);
        out.put_slice(&config);
        out.put_i64_le(self.created_ns);
        out.put_u64_le(self.applied);
        out.put_u64_le(index.first_seq);
        out.put_u64_le(index.last_seq);
        out.put_u8(u8::from(index.last_time_ns.is_some()));
        out.put_i64_le(index.last_time_ns.unwrap_or(0));
        out.put_u64_le(index.messages);
        out.put_u64_le(index.bytes);
        out.put_u16_le(self.last_id.len() as u16);
        out.put_slice(&self.last_id);
        out.put_u32_le(self.dedup.len() as u32);
        for seen in self.dedup.iter() {
            out.put_u128_le(seen.id);
            out.put_u64_le(seen.seq);
            out.put_i64_le(seen.time_ns);
        }
        self.put_gaps(&mut out);
        let first_index = self.index.spans.live().next().map(|span| span.index);
        self.space.taken(self.applied, first_index, out.len());
        out.freeze()
    }

    fn put_gaps(&self, out: &mut BytesMut) {
        let count_at = out.len();
        out.put_u32_le(0);
        let mut count = 0u32;
        let mut at = self.index.first_seq;
        for (start, end) in self.gaps() {
            put_varint(out, start - at);
            put_varint(out, end - start);
            at = end;
            count += 1;
        }
        out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
    }

    /// The store of this replica is full, or has space again: publishes are refused meanwhile, and whatever can be given
    /// back is.
    pub fn store_is_full(&mut self, full: bool) {
        self.space.full = full;
    }

    /// The checkpoint that was taken last could not be written.
    pub fn checkpoint_refused(&mut self) {
        self.space.untaken();
    }

    /// Whether so much could be given back to the log that a checkpoint is worth its write.
    pub fn wants_checkpoint(&self) -> bool {
        self.space.wants()
    }

    /// The checkpoint taken when `applied` was the last applied index is durable: what it does not need is given back,
    /// as outputs.
    pub fn checkpointed(&mut self, applied: u64) {
        let given = self.space.checkpointed(applied);
        self.outputs.extend(given);
    }

    /// A number that two replicas share if, and very likely only if, their applied states are the same. For checkers:
    /// it walks every message.
    pub fn fingerprint(&self) -> u64 {
        let index = &self.index;
        let mut state = Chain(0);
        state.add(&self.config.to_stored());
        state.add(&self.created_ns.to_le_bytes());
        for number in [index.first_seq, index.last_seq, index.messages, index.bytes, index.subjects.live_len()] {
            state.add(&number.to_le_bytes());
        }
        state.add(&index.last_time_ns.unwrap_or(i64::MIN).to_le_bytes());
        state.add(&self.last_id);
        for seen in self.dedup.iter() {
            state.add(&seen.id.to_le_bytes());
            state.add(&seen.seq.to_le_bytes());
        }
        let mut from = 0;
        while let Some(seq) = index.next_live(from) {
            if let Some((subject, size)) = index.rows.get(seq) {
                let at = self.locate(seq).map_or((0, 0), |at| (at.index, at.slot));
                state.add(&index.subjects.get(subject).text);
                for number in [seq, size.into(), at.0, at.1.into(), self.time_of(seq).unwrap_or(0) as u64] {
                    state.add(&number.to_le_bytes());
                }
            }
            from = seq + 1;
        }
        state.0 as u64
    }
}

/// A hash of a sequence of byte strings.
struct Chain(u128);

impl Chain {
    fn add(&mut self, bytes: &[u8]) {
        let mut link = self.0.to_le_bytes().to_vec();
        link.extend_from_slice(bytes);
        self.0 = siphash::hash(&link);
    }
}

impl Checkpoint {
    pub(super) fn decode(bytes: &[u8]) -> Result<Checkpoint, Damaged> {
        let mut from = Reader(bytes);
        if from.u8()? != VERSION {
            return Err(Damaged("checkpoint version"));
        }
        let config_len = from.u32()? as usize;
        let config = StreamConfig::from_stored(from.take(config_len)?).ok_or(Damaged("checkpoint configuration"))?;
        let created_ns = from.i64()?;
        let (applied, first_seq, last_seq) = (from.u64()?, from.u64()?, from.u64()?);
        let has_time = from.u8()? != 0;
        let last_time_ns = Some(from.i64()?).filter(|_| has_time);
        let (messages, counted) = (from.u64()?, from.u64()?);
        let last_id_len = usize::from(from.u16()?);
        let last_id = from.take(last_id_len)?.into();
        let ids = from.ids()?;
        let gaps = from.gaps(first_seq)?;
        if !from.0.is_empty() {
            return Err(Damaged("bytes after the checkpoint"));
        }
        let checkpoint = Checkpoint {
            config,
            created_ns,
            applied,
            first_seq,
            last_seq,
            last_time_ns,
            messages,
            bytes: counted,
            last_id,
            ids,
            gaps,
        };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    fn check(&self) -> Result<(), Damaged> {
        let after = self.last_seq.checked_add(1).ok_or(Damaged("checkpoint sequences"))?;
        let span = after.checked_sub(self.first_seq).ok_or(Damaged("checkpoint sequences"))?;
        let missing: u64 = self.gaps.iter().map(|(start, end)| end - start).sum();
        let inside = self.gaps.last().is_none_or(|(_, end)| *end <= after);
        let sums = match self.messages {
            0 => self.gaps.is_empty() && self.bytes == 0,
            messages => self.first_seq > 0 && span.checked_sub(missing) == Some(messages),
        };
        if inside && sums { Ok(()) } else { Err(Damaged("checkpoint sums")) }
    }
}

/// What is left to decode.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Damaged("checkpoint length"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], Damaged> {
        self.take(LEN)?.try_into().map_err(|_| Damaged("checkpoint length"))
    }

    fn u8(&mut self) -> Result<u8, Damaged> {
        self.array::<1>().map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Result<u16, Damaged> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Damaged> {
        self.array().map(i64::from_le_bytes)
    }

    fn ids(&mut self) -> Result<Vec<Seen>, Damaged> {
        let count = self.u32()? as usize;
        // Checked before anything is reserved for it.
        if count.checked_mul(ID_LEN).is_none_or(|len| len > self.0.len()) {
            return Err(Damaged("checkpoint message ids"));
        }
        (0..count)
            .map(|_| {
                let id = u128::from_le_bytes(self.array()?);
                Ok(Seen { id, seq: self.u64()?, time_ns: self.i64()? })
            })
            .collect()
    }

    fn gaps(&mut self, first_seq: Seq) -> Result<Vec<(Seq, Seq)>, Damaged> {
        let count = self.u32()? as usize;
        if count > self.0.len() {
            return Err(Damaged("checkpoint gaps"));
        }
        let mut at = first_seq;
        let mut gaps = Vec::with_capacity(count);
        for _ in 0..count {
            let start = at.checked_add(self.varint()?).ok_or(Damaged("checkpoint gaps"))?;
            let end = start.checked_add(self.varint()?).ok_or(Damaged("checkpoint gaps"))?;
            gaps.push((start, end));
            at = end;
        }
        Ok(gaps)
    }

    fn varint(&mut self) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged("checkpoint number"))
    }
}

/// Seven bits a byte, low first; below 2^63.
fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}
