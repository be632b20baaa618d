//! The end of a sealed segment: what is in it, so that a start reads footers instead of everything.
//!
//! ```text
//!  trailer (last block)  0 magic "TRSTFOO1"  8 version u32  12 session u32  16 generation u64
//!                       24 run_first u64    32 run_last u64 40 tail u32     44 body offset u32
//!                       48 body bytes u32   52 CRC-32 of the body          56 CRC-32 of the salt and bytes 0..56
//!
//!  body   groups u32, gaps u32, records u32, zero u32
//!         groups x (group u64, index_max u64, lsn_min u64, bytes u64, records u32, zero u32)
//!         gaps x (offset u32, bytes u32)           places that were damaged when the segment was sealed
//!         records, in the order of the log, as LEB128 differences: group number, kind and flags as bytes, index,
//!         (term, epoch when they changed), lsn, offset, bytes, CRC-32 of the body
//! ```
//!
//! A footer is written only when every run of its segment is durable, so a valid footer proves that all of them were.
//! A record costs about a dozen bytes here. The builder knows the exact size at any moment: that is how the space for
//! it is kept free.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::layout::{Cursor, blocks, checksum, put_delta, put_varint};
use crate::op::BLOCK;
use crate::record::{GroupId, Index, Lsn, RecordKind, Term};
use crate::run::Entry;

const MAGIC: &[u8; 8] = b"TRSTFOO1";
const VERSION: u32 = 1;
const TRAILER_BYTES: usize = 60;
const HEAD_BYTES: usize = 16;
const GROUP_BYTES: usize = 40;
const GAP_BYTES: usize = 8;
/// Most bytes that one more record can add, with its group being new: for deciding whether it still fits.
pub(crate) const RECORD_BYTES_MAX: usize = GROUP_BYTES + 5 + 2 + 10 + 10 + 10 + 10 + 10 + 5 + 4;
const FLAG_COPY: u8 = 1;
const FLAG_TERM: u8 = 2;

/// What a segment holds of one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentGroup {
    pub group: GroupId,
    /// Highest index of an entry, 0 without entries.
    pub index_max: Index,
    pub lsn_min: Lsn,
    pub bytes: u64,
    pub records: u32,
}

/// A place of a segment that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Gap {
    pub offset: u32,
    pub bytes: u32,
}

/// The last block of a sealed segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Trailer {
    pub session: u32,
    pub generation: u64,
    pub run_first: u64,
    pub run_last: u64,
    /// End of the last run.
    pub tail: u32,
    pub body_offset: u32,
    pub body_bytes: u32,
    pub body_crc: u32,
}

/// A footer that was read back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Footer {
    /// By group.
    pub groups: Vec<SegmentGroup>,
    pub gaps: Vec<Gap>,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Previous {
    index: Index,
    term: Term,
    epoch: u32,
}

/// Grows with the active segment.
#[derive(Debug, Default)]
pub(crate) struct FooterBuilder {
    groups: BTreeMap<GroupId, (u32, SegmentGroup)>,
    previous: Vec<Previous>,
    gaps: Vec<Gap>,
    stream: Vec<u8>,
    records: u32,
    lsn: Lsn,
    end: u32,
}

impl FooterBuilder {
    pub fn add(&mut self, entry: &Entry) {
        let next = self.groups.len() as u32;
        let new = SegmentGroup { group: entry.group, index_max: 0, lsn_min: entry.lsn, bytes: 0, records: 0 };
        let (number, group) = self.groups.entry(entry.group).or_insert((next, new));
        let number = *number;
        if entry.kind == RecordKind::ENTRY {
            group.index_max = group.index_max.max(entry.index);
        }
        group.lsn_min = group.lsn_min.min(entry.lsn);
        group.bytes += entry.cost();
        group.records += 1;
        if number == next {
            self.previous.push(Previous::default());
        }
        self.put(number, entry);
    }

    pub fn add_gap(&mut self, gap: Gap) {
        self.gaps.push(gap);
    }

    fn put(&mut self, number: u32, entry: &Entry) {
        let previous = &mut self.previous[number as usize];
        let turned = (previous.term, previous.epoch) != (entry.term, entry.epoch);
        let out = &mut self.stream;
        put_varint(out, u64::from(number));
        let flags = if entry.copy { FLAG_COPY } else { 0 } | if turned { FLAG_TERM } else { 0 };
        out.extend_from_slice(&[entry.kind.0, flags]);
        put_delta(out, previous.index, entry.index);
        if turned {
            put_delta(out, previous.term, entry.term);
            put_delta(out, u64::from(previous.epoch), u64::from(entry.epoch));
        }
        put_delta(out, self.lsn.0, entry.lsn.0);
        put_delta(out, u64::from(self.end), u64::from(entry.offset));
        put_varint(out, u64::from(entry.bytes));
        out.extend_from_slice(&entry.crc.to_le_bytes());
        *previous = Previous { index: entry.index, term: entry.term, epoch: entry.epoch };
        self.lsn = entry.lsn;
        self.end = entry.offset + entry.bytes;
        self.records += 1;
    }

    fn body_bytes(&self) -> usize {
        HEAD_BYTES + self.groups.len() * GROUP_BYTES + self.gaps.len() * GAP_BYTES + self.stream.len()
    }

    /// Bytes at the end of the segment that the footer needs once `more` records are added.
    pub fn bytes_with(&self, more: usize) -> usize {
        blocks(self.body_bytes() + more * RECORD_BYTES_MAX) + BLOCK
    }

    /// What the segment holds, by group.
    pub fn groups(&self) -> Vec<SegmentGroup> {
        self.groups.values().map(|(_, group)| *group).collect()
    }

    pub fn group(&self, group: GroupId) -> Option<&SegmentGroup> {
        self.groups.get(&group).map(|(_, group)| group)
    }

    /// The footer to write, and where. `trailer` brings generation, session, runs and tail.
    pub fn encode(&self, salt: u64, segment_bytes: u32, mut trailer: Trailer) -> (Trailer, Vec<Bytes>) {
        let mut body = Vec::with_capacity(blocks(self.body_bytes()));
        for number in [self.groups.len() as u32, self.gaps.len() as u32, self.records, 0] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        let mut in_order: Vec<_> = self.groups.values().collect();
        in_order.sort_by_key(|(number, _)| *number);
        for (_, group) in in_order {
            for number in [group.group.0, group.index_max, group.lsn_min.0, group.bytes] {
                body.extend_from_slice(&number.to_le_bytes());
            }
            body.extend_from_slice(&group.records.to_le_bytes());
            body.extend_from_slice(&[0; 4]);
        }
        for gap in &self.gaps {
            body.extend_from_slice(&gap.offset.to_le_bytes());
            body.extend_from_slice(&gap.bytes.to_le_bytes());
        }
        body.extend_from_slice(&self.stream);
        trailer.body_bytes = body.len() as u32;
        trailer.body_crc = checksum(salt, &[&body]);
        body.resize(blocks(body.len()), 0);
        trailer.body_offset = segment_bytes - (body.len() + BLOCK) as u32;
        (trailer, vec![Bytes::from(body), Bytes::from(trailer.encode(salt))])
    }
}

impl Trailer {
    fn encode(&self, salt: u64) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK);
        block.extend_from_slice(MAGIC);
        block.extend_from_slice(&VERSION.to_le_bytes());
        block.extend_from_slice(&self.session.to_le_bytes());
        for number in [self.generation, self.run_first, self.run_last] {
            block.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.tail, self.body_offset, self.body_bytes, self.body_crc] {
            block.extend_from_slice(&number.to_le_bytes());
        }
        let crc = checksum(salt, &[&block]);
        block.extend_from_slice(&crc.to_le_bytes());
        block.resize(BLOCK, 0);
        block
    }

    /// The trailer in the last block of a segment, if it is one of this generation.
    pub fn decode(salt: u64, generation: u64, segment_bytes: u32, block: &[u8]) -> Option<Trailer> {
        let raw = block.get(..TRAILER_BYTES)?;
        let mut cursor = Cursor::new(raw);
        if cursor.take(8)? != MAGIC || cursor.u32()? != VERSION {
            return None;
        }
        let session = cursor.u32()?;
        let (found, run_first, run_last) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        let (tail, body_offset, body_bytes, body_crc) = (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let crc = cursor.u32()?;
        let end = blocks(body_bytes as usize) + BLOCK;
        let sound = crc == checksum(salt, &[raw.get(..TRAILER_BYTES - 4)?])
            && found == generation
            && body_offset as usize + end == segment_bytes as usize
            && tail <= body_offset;
        let trailer = Trailer { session, generation, run_first, run_last, tail, body_offset, body_bytes, body_crc };
        sound.then_some(trailer)
    }
}

impl Footer {
    /// Reads a body; `bytes` may go on behind it.
    pub fn decode(salt: u64, trailer: &Trailer, bytes: &[u8]) -> Option<Footer> {
        let body = bytes.get(..trailer.body_bytes as usize)?;
        if checksum(salt, &[body]) != trailer.body_crc {
            return None;
        }
        let mut cursor = Cursor::new(body);
        let (groups, gaps, records) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        cursor.u32()?;
        let mut footer = Footer::default();
        for _ in 0..groups {
            let (group, index_max, lsn_min) = (GroupId(cursor.u64()?), cursor.u64()?, Lsn(cursor.u64()?));
            let (bytes, records) = (cursor.u64()?, cursor.u32()?);
            cursor.u32()?;
            footer.groups.push(SegmentGroup { group, index_max, lsn_min, bytes, records });
        }
        for _ in 0..gaps {
            footer.gaps.push(Gap { offset: cursor.u32()?, bytes: cursor.u32()? });
        }
        footer.entries = decode_entries(&mut cursor, &footer.groups, records, trailer.tail)?;
        footer.groups.sort_by_key(|group| group.group);
        Some(footer)
    }
}

fn decode_entries(cursor: &mut Cursor, groups: &[SegmentGroup], records: u32, tail: u32) -> Option<Vec<Entry>> {
    let mut previous = vec![Previous::default(); groups.len()];
    let (mut lsn, mut end) = (0u64, 0u64);
    let mut entries = Vec::new();
    for _ in 0..records {
        let number = cursor.varint()? as usize;
        let (group, previous) = (groups.get(number)?, previous.get_mut(number)?);
        let (kind, flags) = (RecordKind(cursor.u8()?), cursor.u8()?);
        previous.index = cursor.delta(previous.index)?;
        if flags & FLAG_TERM != 0 {
            previous.term = cursor.delta(previous.term)?;
            previous.epoch = u32::try_from(cursor.delta(u64::from(previous.epoch))?).ok()?;
        }
        lsn = cursor.delta(lsn)?;
        let offset = u32::try_from(cursor.delta(end)?).ok()?;
        let bytes = u32::try_from(cursor.varint()?).ok()?;
        let crc = cursor.u32()?;
        end = u64::from(offset) + u64::from(bytes);
        if end > u64::from(tail) || !kind.known() {
            return None;
        }
        entries.push(Entry {
            group: group.group,
            index: previous.index,
            term: previous.term,
            lsn: Lsn(lsn),
            epoch: previous.epoch,
            kind,
            copy: flags & FLAG_COPY != 0,
            offset,
            bytes,
            crc,
        });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn filled(dice: &mut Dice) -> (FooterBuilder, Vec<Entry>) {
        let mut builder = FooterBuilder::default();
        let mut entries = Vec::new();
        let mut offset = 8192 + 64;
        for i in 0..dice.below(200) {
            let entry = Entry {
                group: GroupId(dice.below(5) * 1_000_000_007),
                index: dice.below(1 << 40),
                term: dice.below(4),
                lsn: Lsn(if dice.below(5) == 0 { dice.below(100) } else { 1000 + i }),
                epoch: dice.below(2) as u32,
                kind: [RecordKind::ENTRY, RecordKind::HARD_STATE, RecordKind::local(3)][dice.below(3) as usize],
                copy: dice.below(4) == 0,
                offset,
                bytes: dice.below(500) as u32,
                crc: dice.next() as u32,
            };
            offset += entry.bytes + dice.below(2) as u32 * 56;
            let before = builder.bytes_with(1);
            builder.add(&entry);
            assert!(builder.bytes_with(0) <= before, "the space set aside is enough");
            entries.push(entry);
        }
        (builder, entries)
    }

    fn trailer() -> Trailer {
        Trailer {
            session: 1,
            generation: 4,
            run_first: 10,
            run_last: 20,
            tail: 900_000,
            body_offset: 0,
            body_bytes: 0,
            body_crc: 0,
        }
    }

    #[test]
    fn a_footer_reads_back_what_was_added() {
        let mut dice = Dice::new(5);
        for _ in 0..50 {
            let (mut builder, entries) = filled(&mut dice);
            builder.add_gap(Gap { offset: 4096, bytes: 8192 });
            let (trailer, parts) = builder.encode(7, 1 << 20, trailer());
            assert_eq!(parts.concat().len(), builder.bytes_with(0));
            assert_eq!(Trailer::decode(7, 4, 1 << 20, &parts[1]), Some(trailer));
            assert_eq!(Trailer::decode(7, 5, 1 << 20, &parts[1]), None, "an older generation");
            let footer = Footer::decode(7, &trailer, &parts[0]).unwrap();
            assert_eq!(footer.entries, entries);
            assert_eq!(footer.groups, builder.groups());
            assert_eq!(footer.gaps, builder.gaps);
        }
    }

    #[test]
    fn changed_footers_never_panic_and_never_pass() {
        let mut dice = Dice::new(6);
        let (builder, _) = filled(&mut dice);
        let (trailer, parts) = builder.encode(7, 1 << 20, trailer());
        for _ in 0..500 {
            let mut body = parts[0].to_vec();
            let at = dice.below(u64::from(trailer.body_bytes)) as usize;
            body[at] ^= 1 << dice.below(8);
            assert_eq!(Footer::decode(7, &trailer, &body), None);
            let forged = Trailer { body_crc: checksum(7, &[&body[..trailer.body_bytes as usize]]), ..trailer };
            let _ = Footer::decode(7, &forged, &body);
            let mut block = parts[1].to_vec();
            block[dice.below(TRAILER_BYTES as u64) as usize] ^= 1 << dice.below(8);
            assert_eq!(Trailer::decode(7, 4, 1 << 20, &block), None);
        }
    }
}
