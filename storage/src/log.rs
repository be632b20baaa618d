//! The log of a core: the face that callers use.
//!
//! `Log` takes records and questions and answers with values; it plans what the disk should do and is told what the
//! disk did. It has no clock, no randomness and does no IO. After every batch of calls the owner drains `poll_op` and
//! `poll_event` until both answer `None`, and hands every [`DiskDone`] to `on_done`, in whatever order they come.
//!
//! Promises: `durable() <= appended()`, and a record at or below `durable()` is recovered byte by byte after any crash,
//! unless it was superseded, truncated, released or its group was dropped. What was appended and is not durable is
//! there after a crash wholly or not at all. Deaths by `release` and `kill` need not survive a crash: the caller says
//! them again from its own state; what it released stays dead once the segment was used again.
//!
//! The work is in the files beside: `append.rs` forms runs, `read.rs` reads, `space.rs` gets space back, `sweep.rs`
//! moves and verifies what is stored.

use std::collections::{BTreeMap, VecDeque};

use crate::append::Writer;
use crate::cache::{Chunks, Tail};
use crate::event::*;
use crate::index::{Deaths, Index};
use crate::op::{DiskDone, DiskError, DiskOp, DiskOpKind, OpId};
use crate::options::{StoreOptions, record_bytes_max};
use crate::read::{ReadSpan, Reads};
use crate::record::{GroupId, Lsn, RecordKind, Term};
use crate::run::Entry;
use crate::set::SegmentSet;
use crate::space::Housekeeping;
use crate::sweep::{Sweep, Task};

/// Rounds of planning in one `poll_op`: what one round frees another may use, and what is left waits for the next call.
const ROUNDS_MAX: usize = 16;

/// The log of a core. See the head of this file.
#[derive(Debug)]
pub struct Log {
    pub(crate) options: StoreOptions,
    pub(crate) index: Index,
    pub(crate) set: SegmentSet,
    pub(crate) writer: Writer,
    pub(crate) tail: Tail,
    pub(crate) chunks: Chunks,
    pub(crate) reads: Reads,
    pub(crate) mover: Sweep,
    pub(crate) scrubber: Sweep,
    pub(crate) deaths: Deaths,
    pub(crate) events: VecDeque<LogEvent>,
    pub(crate) ops: VecDeque<DiskOp>,
    pub(crate) under_way: BTreeMap<OpId, Purpose>,
    pub(crate) op_next: u64,
    pub(crate) stats: LogStats,
    /// Something happened that `space.rs` should look at.
    pub(crate) unsettled: bool,
    /// `SpaceLow` was said and `SpaceBack` was not.
    pub(crate) low: bool,
    pub(crate) broken: bool,
}

/// Why an operation was asked for.
#[derive(Debug)]
pub(crate) enum Purpose {
    Run(u64),
    Read(ReadSpan),
    Housekeeping(Housekeeping),
    Sweep(Task),
}

impl Log {
    pub(crate) fn open(options: StoreOptions, index: Index, set: SegmentSet, writer: Writer, op_next: u64) -> Log {
        Log {
            tail: Tail::new(options.cache_bytes),
            chunks: Chunks::new(options.read_cache_bytes),
            options,
            index,
            set,
            writer,
            reads: Reads::default(),
            mover: Sweep::default(),
            scrubber: Sweep::default(),
            deaths: Deaths::new(),
            events: VecDeque::new(),
            ops: VecDeque::new(),
            under_way: BTreeMap::new(),
            op_next,
            stats: LogStats::default(),
            unsettled: true,
            low: false,
            broken: false,
        }
    }

    /// Largest body of one record: an existing log keeps the segment size that it was made with.
    pub fn record_bytes_max(&self) -> usize {
        record_bytes_max(u64::from(self.set.segment_bytes))
    }

    /// Everything appended up to here is on disk.
    pub fn durable(&self) -> Lsn {
        self.writer.durable_lsn
    }

    /// The newest record that was appended.
    pub fn appended(&self) -> Lsn {
        Lsn(self.writer.lsn_next - 1)
    }

    /// Lowest and highest live entry of a group; `None` without any.
    pub fn bounds(&self, group: GroupId) -> Option<(crate::record::Index, crate::record::Index)> {
        self.index.bounds(group)
    }

    /// Entries of the group below this index are dead and cannot be appended any more; 0 without any.
    pub fn floor(&self, group: GroupId) -> crate::record::Index {
        self.index.groups.get(&group).map_or(0, |group| group.floor)
    }

    /// Term and epoch of a live entry.
    pub fn term(&self, group: GroupId, index: crate::record::Index) -> Option<(Term, u32)> {
        let place = self.index.groups.get(&group)?.slots.get(index)?;
        Some((place.term, place.epoch))
    }

    /// Bytes of a live entry's body.
    pub fn body_bytes(&self, group: GroupId, index: crate::record::Index) -> Option<u32> {
        Some(self.index.groups.get(&group)?.slots.get(index)?.bytes)
    }

    /// Every group that has something live, in order.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.index.groups.iter().filter(|(_, group)| !group.is_gone()).map(|(id, _)| *id)
    }

    /// Next operation for the disk. Ask until `None` after every batch of calls.
    pub fn poll_op(&mut self) -> Option<DiskOp> {
        if self.broken {
            return None;
        }
        for _ in 0..ROUNDS_MAX {
            if !self.ops.is_empty() {
                break;
            }
            self.plan_runs();
            if !std::mem::take(&mut self.unsettled) {
                break;
            }
            self.plan_housekeeping();
        }
        self.ops.pop_front()
    }

    /// Takes the answer to an operation. Answers to unknown operations are ignored.
    pub fn on_done(&mut self, done: DiskDone) {
        let Some(purpose) = self.under_way.remove(&done.id) else { return };
        if self.broken {
            return;
        }
        match purpose {
            Purpose::Run(run) => self.on_run(run, done.result),
            Purpose::Read(span) => self.on_read(span, done.result),
            Purpose::Housekeeping(what) => self.on_housekeeping(what, done.result),
            Purpose::Sweep(task) => self.on_sweep(task, done.result),
        }
    }

    /// Next event for the caller. Ask until `None` after every batch of calls.
    pub fn poll_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    /// Figures since the log was opened.
    pub fn stats(&self) -> LogStats {
        let segments = self.set.segments.values();
        let live: u64 = segments.clone().map(|segment| segment.live).sum();
        let used: u64 = segments.map(|segment| segment.used).sum();
        LogStats {
            segments: self.set.segments.len() as u64,
            segments_free: self.set.available() as u64,
            bytes_total: self.set.segments.len() as u64 * u64::from(self.set.segment_bytes),
            bytes_live: live,
            bytes_dead: used - live,
            groups: self.groups().count() as u64,
            damaged: self.index.damaged,
            bytes_unstored: self.writer.unstored as u64,
            ..self.stats
        }
    }

    /// True when nothing is on its way to the disk or waiting for it.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.ops.is_empty() && self.writer.is_idle()
    }

    pub(crate) fn push_op(&mut self, purpose: Purpose, kind: DiskOpKind) {
        let id = OpId(self.op_next);
        self.op_next += 1;
        self.under_way.insert(id, purpose);
        self.ops.push_back(DiskOp { id, kind });
    }

    /// A write failed: what reached the disk is unknown, and asking again may lie (Rebello et al., ATC '20), so
    /// nothing is ever reported durable again.
    pub(crate) fn break_down(&mut self, what: &str, error: DiskError) {
        if !self.broken {
            self.broken = true;
            self.ops.clear();
            self.events.push_back(LogEvent::Broken { why: format!("{what}: {error}") });
        }
    }

    pub(crate) fn bury(&mut self) {
        if !self.deaths.is_empty() {
            self.set.bury(&mut self.deaths);
            self.unsettled |= !self.set.empty.is_empty() || !self.set.worn.is_empty();
        }
    }

    /// A live record turned out to be unreadable.
    pub(crate) fn report_damage(&mut self, entry: &Entry, segment: u32, what: &'static str) {
        if self.index.mark_damaged(entry, segment) {
            self.events.push_back(LogEvent::Damaged(damage_of(entry, segment, what)));
        }
    }
}

/// The report about one unreadable record.
pub(crate) fn damage_of(entry: &Entry, segment: u32, what: &'static str) -> Damage {
    let index = if entry.kind == RecordKind::ENTRY { entry.index } else { 0 };
    Damage {
        group: Some(entry.group),
        kind: Some(entry.kind),
        first: index,
        last: index,
        segment,
        offset: u64::from(entry.offset),
        bytes: u64::from(entry.bytes),
        what,
    }
}
