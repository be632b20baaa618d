//! A run: what one write carries.
//!
//! ```text
//!  0        64             64 + 56 n                                    multiple of 4096
//!  ├─header─┼─ n entries ──┼─ n bodies, one behind the other ──┼─ zeros ─┤
//!
//!  header   0 magic "TRSTRUN1"   8 version u16   10 zero u16   12 entries u32
//!          16 generation u64    24 run u64      32 durable u64
//!          40 session_first u64 48 session u32  52 offset u32  56 bytes u32
//!          60 CRC-32 of the salt and bytes 0..60
//!
//!  entry    0 group u64    8 index u64   16 term u64     24 lsn u64     32 epoch u32
//!          36 kind u8     37 flags u8 (1 = copy)         38 zero u16
//!          40 body offset in the run u32  44 body bytes u32  48 CRC-32 of the body
//!          52 CRC-32 of the salt, generation, offset of the run, position, and bytes 0..52
//! ```
//!
//! Every entry and every body has its own checksum, so damage costs the records that it hits and no others, and the
//! entries still say whose they are. `durable` is the newest run that was on disk, with all before it, when this one
//! was formed: the evidence that tells damage from a torn tail. `generation` and `offset` keep old bytes of a segment
//! that is used again from parsing. What this file does not do: decide what a bad checksum means (`judge.rs`).

use bytes::Bytes;

use crate::layout::{Cursor, blocks, checksum};
use crate::op::BLOCK;
use crate::record::{GroupId, Index, Lsn, Record, RecordKind, Term};

pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const ENTRY_BYTES: usize = 56;
/// Most entries of one run; bounds what one damaged header can make a reader look at.
pub(crate) const ENTRIES_MAX: usize = 1 << 14;

const MAGIC: &[u8; 8] = b"TRSTRUN1";
const VERSION: u16 = 1;
const FLAG_COPY: u8 = 1;
static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// The head of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RunHeader {
    pub generation: u64,
    pub run: u64,
    /// Newest run that was durable, with all before it, when this one was formed.
    pub durable: u64,
    /// First run of this session: runs of earlier sessions from that number on were cut at a restart.
    pub session_first: u64,
    pub session: u32,
    /// Where the run begins in its segment, in bytes.
    pub offset: u32,
    /// Whole length with padding.
    pub bytes: u32,
    pub count: u32,
}

/// The description of one stored record. `offset` counts from the start of the segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub group: GroupId,
    pub index: Index,
    pub term: Term,
    pub lsn: Lsn,
    pub epoch: u32,
    pub kind: RecordKind,
    /// A copy of a record that was stored before: it supersedes nothing.
    pub copy: bool,
    pub offset: u32,
    pub bytes: u32,
    pub crc: u32,
}

impl Entry {
    /// What the record counts in a segment's accounts.
    pub fn cost(&self) -> u64 {
        ENTRY_BYTES as u64 + u64::from(self.bytes)
    }

    /// The record, if these bytes are its body.
    pub fn record(&self, body: Bytes) -> Option<Record> {
        if body.len() != self.bytes as usize || crc32fast::hash(&body) != self.crc {
            return None;
        }
        let Entry { group, index, term, epoch, kind, .. } = *self;
        Some(Record { group, kind, epoch, term, index, body })
    }
}

/// Where a run lies and whose it is: what its checksums are bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunPlace {
    pub salt: u64,
    pub generation: u64,
    pub offset: u32,
}

/// Length of a run with so many entries and body bytes.
pub(crate) const fn run_bytes(entries: usize, body_bytes: usize) -> usize {
    blocks(HEADER_BYTES + entries * ENTRY_BYTES + body_bytes)
}

/// Lays out a run: fills the offsets of `entries` and `bytes` and `count` of the header, and answers with the parts to
/// write. Bodies are passed on as they are.
pub(crate) fn encode(salt: u64, header: &mut RunHeader, entries: &mut [Entry], bodies: &[Bytes]) -> Vec<Bytes> {
    assert_eq!(entries.len(), bodies.len());
    let place = RunPlace { salt, generation: header.generation, offset: header.offset };
    let head_bytes = HEADER_BYTES + entries.len() * ENTRY_BYTES;
    let body_bytes: usize = bodies.iter().map(Bytes::len).sum();
    let total = blocks(head_bytes + body_bytes);
    header.bytes = total as u32;
    header.count = entries.len() as u32;
    let mut head = Vec::with_capacity(head_bytes);
    put_header(&mut head, salt, header);
    let mut at = head_bytes;
    for (position, entry) in entries.iter_mut().enumerate() {
        entry.offset = header.offset + at as u32;
        at += entry.bytes as usize;
        put_entry(&mut head, place, position, entry);
    }
    let mut parts = Vec::with_capacity(bodies.len() + 2);
    parts.push(Bytes::from(head));
    parts.extend(bodies.iter().filter(|body| !body.is_empty()).cloned());
    if total > at {
        parts.push(Bytes::from_static(&ZEROS).slice(..total - at));
    }
    parts
}

fn put_header(out: &mut Vec<u8>, salt: u64, header: &RunHeader) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&header.count.to_le_bytes());
    for number in [header.generation, header.run, header.durable, header.session_first] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for number in [header.session, header.offset, header.bytes] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let crc = checksum(salt, &[out]);
    out.extend_from_slice(&crc.to_le_bytes());
}

fn put_entry(out: &mut Vec<u8>, place: RunPlace, position: usize, entry: &Entry) {
    let start = out.len();
    for number in [entry.group.0, entry.index, entry.term, entry.lsn.0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&entry.epoch.to_le_bytes());
    out.extend_from_slice(&[entry.kind.0, if entry.copy { FLAG_COPY } else { 0 }, 0, 0]);
    for number in [entry.offset - place.offset, entry.bytes, entry.crc] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let crc = entry_checksum(place, position, &out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

fn entry_checksum(place: RunPlace, position: usize, bytes: &[u8]) -> u32 {
    let generation = place.generation.to_le_bytes();
    let offset = place.offset.to_le_bytes();
    checksum(place.salt, &[&generation, &offset, &(position as u32).to_le_bytes(), bytes])
}

/// The header at the front of `bytes`, if it is one of this place and the run fits into `room` bytes.
pub(crate) fn decode_header(place: RunPlace, bytes: &[u8], room: usize) -> Option<RunHeader> {
    let head = bytes.get(..HEADER_BYTES)?;
    let mut cursor = Cursor::new(head);
    if cursor.take(8)? != MAGIC || cursor.u16()? != VERSION {
        return None;
    }
    cursor.u16()?;
    let count = cursor.u32()?;
    let (generation, run, durable, session_first) = (cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u64()?);
    let (session, offset, total) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    let crc = cursor.u32()?;
    let header = RunHeader { generation, run, durable, session_first, session, offset, bytes: total, count };
    let sound = crc == checksum(place.salt, &[head.get(..HEADER_BYTES - 4)?])
        && generation == place.generation
        && offset == place.offset
        && durable < run
        && count as usize <= ENTRIES_MAX
        && (total as usize).is_multiple_of(BLOCK)
        && total as usize >= run_bytes(count as usize, 0)
        && total as usize <= room;
    sound.then_some(header)
}

/// Entry number `position` of the run whose bytes (from its header on) these are; `room` is the run's length, or the
/// most it could be.
pub(crate) fn decode_entry(place: RunPlace, position: usize, bytes: &[u8], room: usize) -> Option<Entry> {
    let start = HEADER_BYTES.checked_add(position.checked_mul(ENTRY_BYTES)?)?;
    let raw = bytes.get(start..start.checked_add(ENTRY_BYTES)?)?;
    let mut cursor = Cursor::new(raw);
    let (group, index, term, lsn) = (cursor.u64()?, cursor.u64()?, cursor.u64()?, cursor.u64()?);
    let epoch = cursor.u32()?;
    let (kind, flags) = (RecordKind(cursor.u8()?), cursor.u8()?);
    cursor.u16()?;
    let (body_offset, body_bytes, body_crc) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    let crc = cursor.u32()?;
    let end = (body_offset as usize).checked_add(body_bytes as usize)?;
    let sound = crc == entry_checksum(place, position, raw.get(..ENTRY_BYTES - 4)?)
        && kind.known()
        && body_offset as usize >= HEADER_BYTES + ENTRY_BYTES
        && end <= room;
    sound.then_some(Entry {
        group: GroupId(group),
        index,
        term,
        lsn: Lsn(lsn),
        epoch,
        kind,
        copy: flags & FLAG_COPY != 0,
        offset: place.offset.checked_add(body_offset)?,
        bytes: body_bytes,
        crc: body_crc,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn sample(dice: &mut Dice, offset: u32) -> (RunHeader, Vec<Entry>, Vec<Bytes>) {
        let header =
            RunHeader { generation: 5, run: 9, durable: 7, session_first: 3, session: 2, offset, bytes: 0, count: 0 };
        let count = dice.below(6) as usize;
        let bodies: Vec<Bytes> = (0..count).map(|_| Bytes::from(dice.bytes(3000))).collect();
        let entries = bodies.iter().enumerate().map(|(i, body)| Entry {
            group: GroupId(dice.below(9)),
            index: dice.below(100),
            term: 3,
            lsn: Lsn(40 + i as u64),
            epoch: 1,
            kind: RecordKind::ENTRY,
            copy: dice.below(2) == 0,
            offset: 0,
            bytes: body.len() as u32,
            crc: crc32fast::hash(body),
        });
        let entries = entries.collect();
        (header, entries, bodies)
    }

    #[test]
    fn a_run_reads_back_and_only_in_its_own_place() {
        let mut dice = Dice::new(1);
        for _ in 0..100 {
            let (mut header, mut entries, bodies) = sample(&mut dice, 8192);
            let bytes = encode(77, &mut header, &mut entries, &bodies).concat();
            assert_eq!(bytes.len(), header.bytes as usize);
            let place = RunPlace { salt: 77, generation: 5, offset: 8192 };
            assert_eq!(decode_header(place, &bytes, bytes.len()), Some(header));
            for (position, entry) in entries.iter().enumerate() {
                assert_eq!(decode_entry(place, position, &bytes, bytes.len()), Some(*entry));
                let at = (entry.offset - 8192) as usize;
                assert_eq!(bytes[at..at + entry.bytes as usize], bodies[position]);
            }
            for wrong in [
                RunPlace { salt: 78, ..place },
                RunPlace { generation: 6, ..place },
                RunPlace { offset: 4096, ..place },
            ] {
                assert_eq!(decode_header(wrong, &bytes, bytes.len()), None);
                assert_eq!(decode_entry(wrong, 0, &bytes, bytes.len()), None);
            }
            assert_eq!(decode_header(place, &bytes, bytes.len() - 1), None, "no room");
        }
    }

    #[test]
    fn changed_bytes_never_panic_and_never_pass() {
        let mut dice = Dice::new(2);
        for _ in 0..300 {
            let (mut header, mut entries, bodies) = sample(&mut dice, 4096);
            let good = encode(77, &mut header, &mut entries, &bodies).concat();
            let place = RunPlace { salt: 77, generation: 5, offset: 4096 };
            let mut bytes = good.clone();
            let at = dice.below(HEADER_BYTES as u64) as usize;
            bytes[at] ^= 1 << dice.below(8);
            assert_eq!(decode_header(place, &bytes, bytes.len()), None);
            bytes.truncate(dice.below(bytes.len() as u64) as usize);
            let _ = decode_header(place, &bytes, usize::MAX);
            for position in [0, 1, 5, usize::MAX / 2, usize::MAX] {
                let _ = decode_entry(place, position, &bytes, usize::MAX);
                let _ = decode_entry(place, position, &dice.bytes(400), usize::MAX);
            }
        }
    }
}
