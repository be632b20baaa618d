//! Reads live records back in the order of the log, for a start.
//!
//! A window of a few MiB at a time: its records are sorted by place, neighbours are read together, and when all of the
//! window is here it is handed out by LSN. The next window is asked for only when the last one was taken, so memory
//! stays bounded whatever the store holds.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::index::Index;
use crate::layout::blocks;
use crate::op::BLOCK;
use crate::options::Replay as Choice;
use crate::record::{GroupId, Index as EntryIndex, Lsn, Record, RecordKind};
use crate::run::Entry;

/// Bodies of one window, in bytes, if a single record is not larger.
const WINDOW_BYTES_MAX: usize = 8 << 20;
const WINDOW_RECORDS_MAX: usize = 65_536;
/// Largest read, if a single record is not larger.
const SPAN_BYTES_MAX: usize = 1 << 20;
/// Dead bytes between two records that are read along rather than asking twice.
const SKIP_BYTES_MAX: u32 = 128 << 10;

/// A read of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub segment: u32,
    pub offset: u32,
    pub len: usize,
}

#[derive(Debug)]
struct Wanted {
    entry: Entry,
    segment: u32,
    body: Option<Bytes>,
}

/// A record of a window, or the description and the segment of one that cannot be read.
pub(crate) type Found = Result<(Lsn, Entry, Record), (Entry, u32)>;

/// One pass over everything that a start hands out.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// What is still to come, newest first.
    rest: Vec<(Lsn, GroupId, EntryIndex, RecordKind)>,
    window: Vec<Wanted>,
    spans: VecDeque<Span>,
    spans_left: usize,
}

impl Replay {
    pub fn new(index: &Index, choice: Choice) -> Replay {
        let wanted = index.live().filter(|(entry, ..)| match entry.kind {
            RecordKind::TOMBSTONE | RecordKind::TRUNCATE | RecordKind::FLOOR => false,
            RecordKind::ENTRY if choice == Choice::AfterCheckpoint => {
                let checkpoint = index.groups.get(&entry.group).and_then(|g| g.latest(RecordKind::CHECKPOINT));
                checkpoint.is_none_or(|checkpoint| entry.index > checkpoint.entry.index)
            }
            _ => true,
        });
        let mut rest: Vec<_> = wanted.map(|(entry, ..)| (entry.lsn, entry.group, entry.index, entry.kind)).collect();
        rest.sort_unstable_by(|a, b| b.cmp(a));
        Replay { rest, ..Replay::default() }
    }

    /// The next read; `None` when the window is complete or waits for answers.
    pub fn poll_span(&mut self) -> Option<Span> {
        self.spans.pop_front()
    }

    /// Fills the next window. False when nothing is left.
    pub fn advance(&mut self, index: &Index) -> bool {
        assert!(self.window.is_empty());
        let mut bytes = 0;
        while let Some((_, group, at, kind)) = self.rest.last().copied() {
            let Some((entry, segment)) = find(index, group, at, kind) else {
                self.rest.pop();
                continue;
            };
            bytes += entry.bytes as usize;
            let full = bytes > WINDOW_BYTES_MAX || self.window.len() == WINDOW_RECORDS_MAX;
            if full && !self.window.is_empty() {
                break;
            }
            self.rest.pop();
            let body = (entry.bytes == 0).then(Bytes::new);
            self.window.push(Wanted { entry, segment, body });
        }
        self.plan_spans();
        !self.window.is_empty()
    }

    fn plan_spans(&mut self) {
        let mut places: Vec<(u32, u32, u32)> = self
            .window
            .iter()
            .filter(|wanted| wanted.body.is_none())
            .map(|wanted| (wanted.segment, wanted.entry.offset, wanted.entry.offset + wanted.entry.bytes))
            .collect();
        places.sort_unstable();
        let mut spans: Vec<(u32, u32, u32)> = Vec::new();
        for (segment, start, end) in places {
            match spans.last_mut() {
                Some((last, first, until))
                    if *last == segment
                        && start <= *until + SKIP_BYTES_MAX
                        && (end - *first) as usize <= SPAN_BYTES_MAX =>
                {
                    *until = end.max(*until);
                }
                _ => spans.push((segment, start, end)),
            }
        }
        self.spans_left = spans.len();
        self.spans = spans
            .into_iter()
            .map(|(segment, start, end)| {
                let offset = start - start % BLOCK as u32;
                Span { segment, offset, len: blocks((end - offset) as usize) }
            })
            .collect();
    }

    /// The answer to a span; `None` when it cannot be read.
    pub fn feed(&mut self, span: Span, bytes: Option<&Bytes>) {
        self.spans_left -= 1;
        let Some(bytes) = bytes else { return };
        for wanted in self.window.iter_mut().filter(|w| w.body.is_none() && w.segment == span.segment) {
            let Some(start) = wanted.entry.offset.checked_sub(span.offset) else { continue };
            let (start, end) = (start as usize, start as usize + wanted.entry.bytes as usize);
            if end <= bytes.len() {
                wanted.body = Some(bytes.slice(start..end));
            }
        }
    }

    /// The window's records, in order, once all of it was answered; those that cannot be read as `Err`.
    pub fn take_window(&mut self) -> Option<Vec<Found>> {
        if self.spans_left > 0 || self.window.is_empty() {
            return None;
        }
        let window = std::mem::take(&mut self.window).into_iter();
        Some(
            window
                .map(|Wanted { entry, segment, body }| {
                    let record = body.and_then(|body| entry.record(body)).ok_or((entry, segment))?;
                    Ok((entry.lsn, entry, record))
                })
                .collect(),
        )
    }
}

fn find(index: &Index, group: GroupId, at: EntryIndex, kind: RecordKind) -> Option<(Entry, u32)> {
    let found = index.groups.get(&group)?;
    if kind == RecordKind::ENTRY {
        let place = found.slots.get(at)?;
        return Some((place.entry(group), place.segment));
    }
    let single = found.latest(kind)?;
    Some((single.entry, single.segment))
}
