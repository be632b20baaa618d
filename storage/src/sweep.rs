//! Walks over the live records of one sealed segment, to move them elsewhere or to see that they are still whole.
//!
//! The footer says what is in the segment, the index which of it counts. Live records are read a piece at a time and
//! each body is checked. Moving appends it again with its old LSN, and the index points to the copy from then on; the
//! old bytes stay until the copies are durable. Whether a record counts is asked again after the read, for it may have
//! died meanwhile.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::footer::Footer;
use crate::layout::blocks;
use crate::log::{Log, Purpose};
use crate::op::{BLOCK, DiskData, DiskError, DiskOpKind, FileId};
use crate::run::Entry;
use crate::set::{Segment, State};

/// Bytes per read.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// Dead bytes that are read along rather than asking twice.
const SKIP_BYTES_MAX: u32 = 64 << 10;
/// Entries that are looked at in one go, so that a large segment does not hold up a turn.
const LOOK_MAX: usize = 4096;

/// Which of the two walks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Task {
    Move,
    Verify,
}

/// One walk.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    pub segment: Option<u32>,
    /// Where the footer's answer is awaited, `None` once it is here.
    awaiting_footer: bool,
    entries: VecDeque<Entry>,
    /// Records of the piece that is being read, and where it begins.
    piece: Option<(u32, Vec<Entry>)>,
}

impl Sweep {
    fn is_reading(&self) -> bool {
        self.awaiting_footer || self.piece.is_some()
    }
}

impl Log {
    /// Asks for up to `bytes_max` bytes of stored records to be read and verified, segment after segment; damage is
    /// reported as an event. False at the end of a round over all that is sealed: the next call begins another one.
    pub fn scrub(&mut self, bytes_max: usize) -> bool {
        if self.broken || self.scrubber.is_reading() {
            return true;
        }
        if self.scrubber.entries.is_empty() {
            let after = self.scrubber.segment.map_or(0, |number| number + 1);
            let mut later = self.set.segments.range(after..);
            let readable = |segment: &Segment| segment.state == State::Sealed && segment.trailer.is_some();
            let next = later.find(|(_, segment)| readable(segment)).map(|(number, _)| *number);
            if next.is_none() {
                self.scrubber.segment = None;
            }
            return next.is_some_and(|next| self.start_sweep(Task::Verify, next));
        }
        self.step_sweep(Task::Verify, bytes_max.min(PIECE_BYTES_MAX));
        true
    }

    /// Begins with the footer.
    pub(crate) fn start_sweep(&mut self, task: Task, number: u32) -> bool {
        let Some(segment) = self.set.segments.get_mut(&number) else { return false };
        let (State::Sealed, Some(trailer)) = (segment.state, segment.trailer) else { return false };
        segment.reads += 1;
        let sweep = self.sweep(task);
        *sweep = Sweep { segment: Some(number), awaiting_footer: true, ..Sweep::default() };
        let (offset, len) = (u64::from(trailer.body_offset), blocks(trailer.body_bytes as usize));
        self.push_op(Purpose::Sweep(task), DiskOpKind::Read { file: FileId::Segment(number), offset, len });
        true
    }

    /// Reads the next piece with live records. False when there is none (or none was found in this look).
    pub(crate) fn step_sweep(&mut self, task: Task, bytes_max: usize) -> bool {
        let mut sweep = std::mem::take(self.sweep(task));
        let planned = match sweep.segment {
            Some(number) if !sweep.is_reading() => self.plan_piece(task, number, &mut sweep, bytes_max),
            _ => false,
        };
        *self.sweep(task) = sweep;
        planned
    }

    fn plan_piece(&mut self, task: Task, number: u32, sweep: &mut Sweep, bytes_max: usize) -> bool {
        let mut piece: Vec<Entry> = Vec::new();
        let (mut start, mut end) = (0, 0);
        for _ in 0..LOOK_MAX {
            let Some(entry) = sweep.entries.front() else { break };
            if self.index.is_live(entry, number) {
                let far = !piece.is_empty() && entry.offset.saturating_sub(end) > SKIP_BYTES_MAX;
                let large =
                    !piece.is_empty() && (entry.offset + entry.bytes).saturating_sub(start) as usize > bytes_max;
                if far || large || entry.offset < end {
                    break;
                }
                start = if piece.is_empty() { entry.offset } else { start };
                end = entry.offset + entry.bytes;
                piece.push(*entry);
            }
            sweep.entries.pop_front();
        }
        if piece.is_empty() {
            return false;
        }
        let base = start - start % BLOCK as u32;
        let len = blocks((end - base) as usize).max(BLOCK);
        if let Some(segment) = self.set.segments.get_mut(&number) {
            segment.reads += 1;
        }
        sweep.piece = Some((base, piece));
        let file = FileId::Segment(number);
        self.push_op(Purpose::Sweep(task), DiskOpKind::Read { file, offset: u64::from(base), len });
        true
    }

    pub(crate) fn on_sweep(&mut self, task: Task, result: Result<DiskData, DiskError>) {
        self.unsettled = true;
        let Some(number) = self.sweep(task).segment else { return };
        if let Some(segment) = self.set.segments.get_mut(&number) {
            segment.reads -= 1;
        }
        let bytes = match result {
            Ok(DiskData::Bytes(bytes)) => bytes,
            _ => Bytes::new(),
        };
        match self.sweep(task).piece.take() {
            None => self.on_footer_read(task, number, &bytes),
            Some((base, piece)) => {
                for entry in piece {
                    self.on_swept(task, number, &entry, base, &bytes);
                }
            }
        }
    }

    fn on_footer_read(&mut self, task: Task, number: u32, bytes: &[u8]) {
        self.sweep(task).awaiting_footer = false;
        let trailer = self.set.segments.get(&number).and_then(|segment| segment.trailer);
        let footer = trailer.and_then(|trailer| Footer::decode(self.set.salt, &trailer, bytes));
        match footer {
            Some(footer) => self.sweep(task).entries = footer.entries.into(),
            None => self.on_footer_lost(number),
        }
    }

    /// The index knows every live record without the footer, and the next start will scan the segment: no record is
    /// lost, but the walk cannot go on.
    fn on_footer_lost(&mut self, number: u32) {
        let Some(segment) = self.set.segments.get_mut(&number) else { return };
        let Some(trailer) = segment.trailer.take() else { return };
        self.set.worn.remove(&number);
        self.events.push_back(crate::LogEvent::Damaged(crate::Damage {
            group: None,
            kind: None,
            first: 0,
            last: 0,
            segment: number,
            offset: u64::from(trailer.body_offset),
            bytes: u64::from(trailer.body_bytes),
            what: "the footer cannot be read; no record is lost",
        }));
    }

    fn on_swept(&mut self, task: Task, number: u32, entry: &Entry, base: u32, bytes: &Bytes) {
        if !self.index.is_live(entry, number) {
            return;
        }
        let start = (entry.offset - base) as usize;
        let end = start + entry.bytes as usize;
        let body = if end <= bytes.len() { Some(bytes.slice(start..end)) } else { None };
        match body.and_then(|body| entry.record(body)) {
            Some(record) if task == Task::Move => self.copy(entry, record.body),
            Some(_) => {}
            None => self.report_damage(entry, number, "the record cannot be read"),
        }
    }

    fn sweep(&mut self, task: Task) -> &mut Sweep {
        match task {
            Task::Move => &mut self.mover,
            Task::Verify => &mut self.scrubber,
        }
    }

    /// True when the walk has looked at everything.
    pub(crate) fn sweep_is_over(&self, sweep: &Sweep) -> bool {
        sweep.entries.is_empty() && !sweep.is_reading()
    }
}
