//! Reading records back: from memory where they are there, else in as few reads as the places allow.
//!
//! A question is answered at once when every body is in the tail or in a chunk that was read before. Otherwise it
//! becomes a pending read of one or more spans, each a whole number of blocks of one segment, and the answer comes as an
//! event. Bodies are handed on as slices of what was read. Every body is checked, from memory too, so a damaged record is never handed out.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::event::{LogEvent, ReadError, ReadResult, ReadTicket};
use crate::layout::blocks;
use crate::log::{Log, Purpose};
use crate::op::{BLOCK, DiskData, DiskError, DiskOpKind, FileId};
use crate::record::{GroupId, Index, Record, RecordKind};
use crate::run::Entry;
use crate::set::State;
use crate::slots::Place;

/// Most reads under way; each is bounded by its `bytes_max`.
const READS_MAX: usize = 4096;
/// Most records of one answer.
const RECORDS_MAX: usize = 65_536;
/// Largest span of one read from disk, if a single record is not larger.
const SPAN_BYTES_MAX: usize = 1 << 20;
/// Bytes between two records that are read along rather than asking twice.
const SKIP_BYTES_MAX: u32 = 64 << 10;
/// A read from a sealed segment goes on to at least this length: the next reader wants what follows.
const AHEAD_BYTES: usize = 128 << 10;

/// One piece of a pending read: which of its records the bytes hold, and where they begin.
#[derive(Debug)]
pub(crate) struct ReadSpan {
    ticket: ReadTicket,
    segment: u32,
    base: u32,
    first: usize,
    count: usize,
}

#[derive(Debug)]
struct Item {
    entry: Entry,
    segment: u32,
    body: Option<Bytes>,
    /// Known to be damaged, or found so now.
    failed: bool,
}

#[derive(Debug)]
struct Pending {
    items: Vec<Item>,
    spans_left: usize,
}

/// The reads under way.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    pending: BTreeMap<ReadTicket, Pending>,
    next: u64,
}

impl Log {
    /// Live entries of a group from `from` to `to`, both inclusive, in order; dead ones are left out. The answer ends
    /// before a record that would make it larger than `bytes_max` bytes of bodies, but holds at least one.
    pub fn read(&mut self, group: GroupId, from: Index, to: Index, bytes_max: usize) -> ReadResult {
        let Some(found) = self.index.groups.get(&group) else { return ReadResult::Missing };
        let (Some(first), Some(last)) = (found.slots.first(), found.slots.last()) else { return ReadResult::Missing };
        if from > last || to < first || from < found.floor {
            return ReadResult::Missing;
        }
        let mut bytes = 0;
        let mut places: Vec<Place> = Vec::new();
        for place in found.slots.range(from, to).take(RECORDS_MAX) {
            bytes += place.bytes as usize;
            if bytes > bytes_max && !places.is_empty() {
                break;
            }
            places.push(place);
        }
        let items = places.iter().map(|place| self.item(place.entry(group), place.segment, place.damaged)).collect();
        self.answer(items)
    }

    /// The newest record of a latest-wins kind: hard state, checkpoint or a local note.
    pub fn latest(&mut self, group: GroupId, kind: RecordKind) -> ReadResult {
        let found = self.index.groups.get(&group).and_then(|group| group.latest(kind));
        let Some(single) = found else { return ReadResult::Missing };
        let (entry, segment, damaged) = (single.entry, single.segment, single.damaged);
        let kept = single.body.clone();
        let mut item = self.item(entry, segment, damaged && kept.is_none());
        item.body = item.body.or(kept);
        self.answer(vec![item])
    }

    /// Length of the body of the newest record of a latest-wins kind.
    pub fn latest_bytes(&self, group: GroupId, kind: RecordKind) -> Option<u32> {
        self.index.groups.get(&group)?.latest(kind).map(|single| single.entry.bytes)
    }

    fn item(&self, entry: Entry, segment: u32, damaged: bool) -> Item {
        let body = match self.tail.get(entry.lsn) {
            Some(body) => Some(body.clone()),
            None if entry.bytes == 0 => Some(Bytes::new()),
            None if damaged => None,
            None => self.chunks.get(segment, entry.offset, entry.bytes),
        };
        let failed = damaged && body.is_none();
        Item { entry, segment, body, failed }
    }

    fn answer(&mut self, items: Vec<Item>) -> ReadResult {
        if let Some(Item { entry, failed: true, .. }) = items.first() {
            return ReadResult::Damaged { index: entry.index };
        }
        if items.iter().any(|item| item.body.is_none() && !item.failed) {
            return self.ask_disk(items);
        }
        match self.finish(items) {
            Ok(records) => ReadResult::Ready(records),
            Err(ReadError::Damaged { index }) => ReadResult::Damaged { index },
        }
    }

    /// Verifies the bodies; the answer ends before the first that cannot be trusted.
    fn finish(&mut self, items: Vec<Item>) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::with_capacity(items.len());
        for Item { entry, segment, body, .. } in items {
            match body.and_then(|body| entry.record(body)) {
                Some(record) => records.push(record),
                None => {
                    self.report_damage(&entry, segment, "the record cannot be read");
                    if records.is_empty() {
                        return Err(ReadError::Damaged { index: entry.index });
                    }
                    break;
                }
            }
        }
        Ok(records)
    }

    fn ask_disk(&mut self, items: Vec<Item>) -> ReadResult {
        if self.reads.pending.len() >= READS_MAX || self.broken {
            return ReadResult::Busy;
        }
        let ticket = ReadTicket(self.reads.next);
        self.reads.next += 1;
        let mut spans_left = 0;
        let mut at = 0;
        while at < items.len() {
            let item = &items[at];
            if item.body.is_some() || item.failed {
                at += 1;
                continue;
            }
            let count = span(&items[at..]);
            self.push_span(ticket, at, &items[at..at + count]);
            spans_left += 1;
            at += count;
        }
        self.reads.pending.insert(ticket, Pending { items, spans_left });
        ReadResult::Pending(ticket)
    }

    fn push_span(&mut self, ticket: ReadTicket, first: usize, items: &[Item]) {
        let (Some(front), Some(back)) = (items.first(), items.last()) else { return };
        let base = front.entry.offset - front.entry.offset % BLOCK as u32;
        let mut end = blocks((back.entry.offset + back.entry.bytes) as usize);
        if let Some(segment) = self.set.segments.get_mut(&front.segment) {
            segment.reads += 1;
            if segment.state == State::Sealed {
                end = end.max((base as usize + AHEAD_BYTES).min(segment.tail as usize));
            }
        }
        let file = FileId::Segment(front.segment);
        let op = DiskOpKind::Read { file, offset: u64::from(base), len: end - base as usize };
        let span = ReadSpan { ticket, segment: front.segment, base, first, count: items.len() };
        self.push_op(Purpose::Read(span), op);
    }

    pub(crate) fn on_read(&mut self, span: ReadSpan, result: Result<DiskData, DiskError>) {
        if let Some(segment) = self.set.segments.get_mut(&span.segment) {
            segment.reads -= 1;
            self.unsettled = true;
        }
        let Some(pending) = self.reads.pending.get_mut(&span.ticket) else { return };
        pending.spans_left -= 1;
        if let Ok(DiskData::Bytes(bytes)) = result {
            for item in pending.items.iter_mut().skip(span.first).take(span.count) {
                let start = (item.entry.offset - span.base) as usize;
                let end = start + item.entry.bytes as usize;
                if item.body.is_none() && end <= bytes.len() {
                    item.body = Some(bytes.slice(start..end));
                }
            }
            self.chunks.put(span.segment, span.base, bytes);
        }
        if pending.spans_left == 0
            && let Some(pending) = self.reads.pending.remove(&span.ticket)
        {
            let result = self.finish(pending.items);
            self.events.push_back(LogEvent::Read { ticket: span.ticket, result });
        }
    }
}

/// How many of these items one read can bring, beginning with the first.
fn span(items: &[Item]) -> usize {
    let Some(first) = items.first() else { return 0 };
    let start = first.entry.offset;
    let mut end = start + first.entry.bytes;
    let mut count = 1;
    for item in &items[1..] {
        let next = item.entry.offset + item.entry.bytes;
        let near = item.entry.offset >= end && item.entry.offset - end <= SKIP_BYTES_MAX;
        let short = next.saturating_sub(start) as usize <= SPAN_BYTES_MAX;
        if item.segment != first.segment || item.body.is_some() || item.failed || !near || !short {
            break;
        }
        end = next;
        count += 1;
    }
    count
}
