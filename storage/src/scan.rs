//! Reads a segment from front to back and says what is there.
//!
//! For segments without a footer and for the checker. The scan asks for pieces ([`Scan::want`]), is fed
//! with them, and yields runs and gaps in order. Where no run of this generation begins it goes on block by block: a
//! later run may have landed without an earlier one, and what it says is evidence. A run with a bad part is yielded
//! with its good parts. Nothing is decided here; see `judge.rs`.

use std::collections::VecDeque;

use crate::footer::Gap;
use crate::op::BLOCK;
use crate::run::{ENTRIES_MAX, ENTRY_BYTES, Entry, HEADER_BYTES, RunHeader, RunPlace, decode_entry, decode_header};
use crate::segment::RUNS_START;

/// Bytes per read: large enough for sequential speed, small enough to hold a few.
pub(crate) const CHUNK_BYTES: usize = 4 << 20;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ScannedRun {
    pub header: RunHeader,
    /// Entries that can be read, each with "its body is whole".
    pub entries: Vec<(Entry, bool)>,
    /// Entries that cannot be read.
    pub lost: u32,
}

impl ScannedRun {
    pub fn whole(&self) -> bool {
        self.lost == 0 && self.entries.iter().all(|(_, whole)| *whole)
    }

    pub fn end(&self) -> u32 {
        self.header.offset + self.header.bytes
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ScanItem {
    Run(ScannedRun),
    /// Blocks without a run of this generation; with the entries at their front that belong here, if all of them can
    /// be read (then only a header was lost).
    Gap {
        gap: Gap,
        salvaged: Vec<(Entry, bool)>,
    },
}

/// One pass over one segment.
#[derive(Debug)]
pub(crate) struct Scan {
    salt: u64,
    generation: u64,
    at: u32,
    end: u32,
    /// Bytes of a run that did not fit into the last piece.
    need: usize,
    /// End of the last run that was yielded; blocks before it are no gap.
    covered: u32,
    gap: Option<(u32, Vec<(Entry, bool)>)>,
    /// Bytes to read block by block, after a larger read failed.
    careful: usize,
    items: VecDeque<ScanItem>,
}

impl Scan {
    pub fn new(salt: u64, generation: u64, segment_bytes: u32) -> Scan {
        let (at, end) = (RUNS_START, segment_bytes);
        Scan { salt, generation, at, end, need: 0, covered: at, gap: None, careful: 0, items: VecDeque::new() }
    }

    /// The next piece to read: offset and length; `None` at the end.
    pub fn want(&self) -> Option<(u64, usize)> {
        self.want_at_most(CHUNK_BYTES)
    }

    pub fn want_at_most(&self, bytes_max: usize) -> Option<(u64, usize)> {
        let left = (self.end - self.at) as usize;
        let usual = if self.careful > 0 { BLOCK } else { bytes_max.next_multiple_of(BLOCK) };
        let len = self.need.max(usual).min(left);
        (len > 0).then_some((u64::from(self.at), len))
    }

    pub fn poll(&mut self) -> Option<ScanItem> {
        self.items.pop_front()
    }

    /// The piece that `want` asked for.
    pub fn feed(&mut self, piece: &[u8]) {
        let base = self.at;
        self.need = 0;
        self.careful = self.careful.saturating_sub(piece.len());
        while let Some(rest) = piece.get((self.at - base) as usize..).filter(|rest| rest.len() >= BLOCK) {
            if !self.step(rest) {
                break;
            }
        }
        if self.at >= self.end {
            self.close_gap();
        }
    }

    /// The piece that `want` asked for cannot be read. Larger pieces are tried again block by block, so that one bad
    /// sector costs one block.
    pub fn feed_unreadable(&mut self, asked: usize) {
        if asked > BLOCK && self.need == 0 {
            self.careful = asked;
            return;
        }
        self.need = 0;
        self.careful = self.careful.saturating_sub(BLOCK);
        self.gap.get_or_insert((self.at.max(self.covered), Vec::new()));
        self.at = (self.at + BLOCK as u32).min(self.end);
        if self.at >= self.end {
            self.close_gap();
        }
    }

    /// One run or one block. False when the run that begins here needs a larger piece.
    fn step(&mut self, rest: &[u8]) -> bool {
        let place = RunPlace { salt: self.salt, generation: self.generation, offset: self.at };
        let room = (self.end - self.at) as usize;
        match decode_header(place, rest, room) {
            Some(header) if header.bytes as usize > rest.len() => {
                self.need = header.bytes as usize;
                false
            }
            Some(header) => {
                self.close_gap();
                let run = read_run(place, header, rest);
                self.covered = self.covered.max(run.end());
                self.at += if run.whole() { header.bytes } else { BLOCK as u32 };
                self.items.push_back(ScanItem::Run(run));
                true
            }
            None => {
                if self.gap.is_none() && self.at >= self.covered {
                    self.gap = Some((self.at, salvage(place, rest, room)));
                }
                self.at += BLOCK as u32;
                true
            }
        }
    }

    fn close_gap(&mut self) {
        if let Some((offset, salvaged)) = self.gap.take().filter(|(offset, _)| *offset < self.at) {
            let gap = Gap { offset, bytes: self.at - offset };
            self.items.push_back(ScanItem::Gap { gap, salvaged });
        }
    }
}

fn read_run(place: RunPlace, header: RunHeader, bytes: &[u8]) -> ScannedRun {
    let mut run = ScannedRun { header, entries: Vec::with_capacity(header.count as usize), lost: 0 };
    for position in 0..header.count as usize {
        match decode_entry(place, position, bytes, header.bytes as usize) {
            Some(entry) => run.entries.push((entry, body_is_whole(&entry, place.offset, bytes))),
            None => run.lost += 1,
        }
    }
    run
}

fn body_is_whole(entry: &Entry, base: u32, bytes: &[u8]) -> bool {
    let start = (entry.offset - base) as usize;
    bytes.get(start..start + entry.bytes as usize).is_some_and(|body| crc32fast::hash(body) == entry.crc)
}

/// The entries of a run whose header is gone. The first entry's body begins where the entries end, which gives their
/// number; unless every one of them can be read the run counts as lost. A body that lies beyond what was read counts
/// as whole until it is read.
fn salvage(place: RunPlace, bytes: &[u8], room: usize) -> Vec<(Entry, bool)> {
    let Some(first) = decode_entry(place, 0, bytes, room) else { return Vec::new() };
    let head = (first.offset - place.offset) as usize;
    let count = (head - HEADER_BYTES) / ENTRY_BYTES;
    if count > ENTRIES_MAX || head != HEADER_BYTES + count * ENTRY_BYTES {
        return Vec::new();
    }
    let entries = (0..count).map(|position| decode_entry(place, position, bytes, room));
    let entries: Vec<Entry> = entries.collect::<Option<_>>().unwrap_or_default();
    let beyond = |entry: &Entry| (entry.offset - place.offset + entry.bytes) as usize > bytes.len();
    entries.into_iter().map(|entry| (entry, beyond(&entry) || body_is_whole(&entry, place.offset, bytes))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::record::{GroupId, Lsn, RecordKind};
    use bytes::Bytes;

    const END: u32 = 1 << 20;

    /// A segment with so many runs, each of one record.
    fn segment(dice: &mut Dice, count: u64) -> (Vec<u8>, Vec<ScannedRun>) {
        let (mut bytes, mut runs, mut at) = (vec![0u8; END as usize], Vec::new(), RUNS_START);
        for run in 1..=count {
            let body = Bytes::from(dice.bytes(9000));
            let mut header = RunHeader {
                generation: 3,
                run,
                durable: run - 1,
                session_first: 1,
                session: 1,
                offset: at,
                bytes: 0,
                count: 0,
            };
            let mut entries = [Entry {
                group: GroupId(1),
                index: run,
                term: 1,
                lsn: Lsn(run),
                epoch: 0,
                kind: RecordKind::ENTRY,
                copy: false,
                offset: 0,
                bytes: body.len() as u32,
                crc: crc32fast::hash(&body),
            }];
            let image = crate::run::encode(5, &mut header, &mut entries, &[body]).concat();
            bytes[at as usize..at as usize + image.len()].copy_from_slice(&image);
            at += header.bytes;
            runs.push(ScannedRun { header, entries: vec![(entries[0], true)], lost: 0 });
        }
        (bytes, runs)
    }

    fn scan(bytes: &[u8], piece: usize, unreadable: Option<u64>) -> Vec<ScanItem> {
        let mut scan = Scan::new(5, 3, END);
        let mut items = Vec::new();
        while let Some((offset, len)) = scan.want_at_most(piece) {
            if unreadable.is_some_and(|bad| (offset..offset + len as u64).contains(&bad)) {
                scan.feed_unreadable(len);
            } else {
                scan.feed(&bytes[offset as usize..offset as usize + len]);
            }
            items.extend(std::iter::from_fn(|| scan.poll()));
        }
        items
    }

    #[test]
    fn runs_come_back_in_order_whatever_the_size_of_a_piece() {
        let mut dice = Dice::new(7);
        let (bytes, runs) = segment(&mut dice, 30);
        for piece in [4096, 8192, 65536, 4 << 20] {
            let mut items = scan(&bytes, piece, None);
            assert!(matches!(items.pop(), Some(ScanItem::Gap { .. })), "the unused rest");
            let expected: Vec<_> = runs.iter().cloned().map(ScanItem::Run).collect();
            assert_eq!(items, expected, "piece {piece}");
        }
    }

    #[test]
    fn a_run_without_its_header_keeps_its_entries_and_a_torn_one_is_a_gap() {
        let mut dice = Dice::new(8);
        let (mut bytes, runs) = segment(&mut dice, 5);
        bytes[runs[1].header.offset as usize + 3] ^= 1;
        let torn = runs[3].header.offset as usize;
        bytes[torn..torn + 512].fill(0);
        let items = scan(&bytes, 1 << 20, None);
        let gap = |run: &ScannedRun| Gap { offset: run.header.offset, bytes: run.header.bytes };
        assert_eq!(items[1], ScanItem::Gap { gap: gap(&runs[1]), salvaged: runs[1].entries.clone() });
        assert_eq!(items[2], ScanItem::Run(runs[2].clone()));
        assert_eq!(items[3], ScanItem::Gap { gap: gap(&runs[3]), salvaged: vec![] });
        assert_eq!(items[4], ScanItem::Run(runs[4].clone()));
    }

    #[test]
    fn a_block_that_cannot_be_read_hides_nothing_behind_it() {
        let mut dice = Dice::new(9);
        let (bytes, runs) = segment(&mut dice, 20);
        let bad = &runs[7].header;
        let items = scan(&bytes, 1 << 20, Some(u64::from(bad.offset)));
        let seen = items.iter().filter(|item| matches!(item, ScanItem::Run(_))).count();
        assert_eq!(seen, 19);
    }

    #[test]
    fn any_bytes_are_scanned_without_panic() {
        let mut dice = Dice::new(10);
        let (bytes, _) = segment(&mut dice, 40);
        for _ in 0..100 {
            let mut changed = bytes.clone();
            for _ in 0..20 {
                let at = dice.below(u64::from(END) / 2) as usize;
                changed[at] = dice.next() as u8;
            }
            let runs = scan(&changed, 1 << 16, Some(dice.below(u64::from(END)))).len();
            assert!(runs > 0);
        }
    }
}
