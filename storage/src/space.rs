//! Moves segments along: new ones ahead of need, footers behind, and space back from what is dead.
//!
//! Rules of getting space back:
//! * A sealed segment without live bytes is used again. Before, a note about released entries of its groups is
//!   appended where the log has none yet, and everything appended up to then must be durable: whatever killed its
//!   records, and every copy of a moved one, is then on disk. A new head in the file makes it final.
//! * A sealed segment that is mostly dead has its live records moved first. Moves are counted (`bytes_moved`).
//! * A full log leaves its newest segment when that is largely dead, for only sealed ones can be emptied.
//! * Segments are freed only behind the oldest one without a footer, so a start never looks for runs in a hole.
//! * No space for a new segment file is a state, not an error: appends answer `Full`, and it ends when something dies,
//!   or when `retry_space` finds room.

use crate::append::Claim;
use crate::event::LogEvent;
use crate::footer::Trailer;
use crate::log::{Log, Purpose};
use crate::op::{DiskData, DiskError, DiskOpKind, FileId};
use crate::options::FREE_SEGMENTS_MAX;
use crate::segment::{Head, HeadState, RUNS_START};
use crate::set::{Segment, State};
use crate::sweep::Task;

/// Empty segments that are looked at in one go.
const EMPTY_LOOK_MAX: usize = 16;
/// A mostly dead segment is left alone while it is still dying, for what ages out needs no move: until so many others
/// were sealed without a death in it, unless space is short.
const SEALS_AT_REST: u64 = 2;
/// When the store is full a segment is emptied from this share of dead bytes on, in percent of what is written in it, padding
/// included: less would not gain enough over what the copies take.
const DEAD_PERCENT_WHEN_FULL: u64 = 25;

/// A step of a segment that the disk was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Housekeeping {
    Create(u32),
    OpenHead(u32),
    List(u32),
    Footer(u32),
    FreeHead(u32),
    Unlist(u32),
    Delete(u32),
}

use Housekeeping::{Create, Delete, FreeHead, List, OpenHead, Unlist};

impl Log {
    /// The file system may have space again: try to make segments. Worth calling about once a second while the store
    /// is low on space. Until one was made, none is counted on.
    pub fn retry_space(&mut self) {
        self.set.no_space = false;
        self.unsettled = true;
    }

    /// The caller has dealt with a `Damage` without a group in this segment: what is live in it moves, and its file is
    /// used again. Until then it is kept as it is and reported at every start.
    pub fn clear_damage(&mut self, segment: u32) {
        if let Some(found) = self.set.segments.get_mut(&segment) {
            (found.suspect, found.evacuate) = (false, true);
            self.set.weigh(segment);
            self.unsettled = true;
        }
    }

    pub(crate) fn plan_housekeeping(&mut self) {
        self.plan_footer();
        self.plan_coming();
        self.plan_turnover();
        self.plan_free();
        self.plan_move();
        self.plan_trim();
        if self.low && self.has_space(self.set.usable() / 4, Claim::Plain) {
            self.low = false;
            self.events.push_back(LogEvent::SpaceBack);
        }
    }

    /// Seals the oldest full segment once all its runs are durable.
    fn plan_footer(&mut self) {
        if self.set.sealing.is_some() {
            return;
        }
        let Some(number) = self.set.closed.front().copied() else { return };
        let (salt, segment_bytes) = (self.set.salt, self.set.segment_bytes);
        let Some(segment) = self.set.segments.get_mut(&number) else { return };
        if segment.runs.1 > self.writer.durable_run {
            return;
        }
        let Some(builder) = &segment.builder else { return };
        let trailer = Trailer {
            session: self.writer.session(),
            generation: segment.generation,
            run_first: segment.runs.0,
            run_last: segment.runs.1,
            tail: segment.tail,
            body_offset: 0,
            body_bytes: 0,
            body_crc: 0,
        };
        let (trailer, data) = builder.encode(salt, segment_bytes, trailer);
        segment.trailer = Some(trailer);
        segment.state = State::Sealing;
        self.set.closed.pop_front();
        self.set.sealing = Some(number);
        self.stats.bytes_device += data.iter().map(|part| part.len() as u64).sum::<u64>();
        let offset = u64::from(trailer.body_offset);
        let op = DiskOpKind::Write { file: FileId::Segment(number), offset, data };
        self.push_op(Purpose::Housekeeping(Housekeeping::Footer(number)), op);
    }

    /// Keeps one segment ready, and one held back.
    fn plan_coming(&mut self) {
        if self.set.coming.is_some() {
            return;
        }
        // Early: when the file system refuses, what is left must still be what is held back.
        let eighth = self.set.segment_bytes / 8;
        let active = self.set.active.and_then(|number| self.set.segments.get(&number));
        let begun = active.is_none_or(|segment| segment.tail > eighth);
        // What is held back may all be there, and nothing else: only a new one shows that the file system gives space again.
        let probes = self.low && self.set.doubtful;
        let wanted = self.set.ready.is_empty() || probes || begun && self.set.available() < 2;
        if self.set.ready.is_empty()
            && let Some(number) = self.set.free.pop_front()
        {
            self.write_head(number, State::Opening);
        } else if wanted && self.set.growth() > 0 {
            let number = self.set.number_free();
            self.set.segments.insert(number, Segment::new(0, State::Making));
            self.set.coming = Some(number);
            let op = DiskOpKind::Create { file: FileId::Segment(number), bytes: u64::from(self.set.segment_bytes) };
            self.push_op(Purpose::Housekeeping(Create(number)), op);
        }
    }

    /// A new generation begins in a segment.
    fn write_head(&mut self, number: u32, state: State) {
        self.set.generation += 1;
        self.set.coming = Some(number);
        self.set.segments.insert(number, Segment::new(self.set.generation, state));
        self.push_head(number, self.set.generation, HeadState::Open, OpenHead(number));
    }

    fn push_head(&mut self, segment: u32, generation: u64, state: HeadState, step: Housekeeping) {
        let head = Head { state, segment, generation, segment_bytes: u64::from(self.set.segment_bytes) };
        let data = head.encode(self.set.salt);
        self.stats.bytes_device += u64::from(RUNS_START);
        let op = DiskOpKind::Write { file: FileId::Segment(segment), offset: 0, data };
        self.push_op(Purpose::Housekeeping(step), op);
    }

    /// Sealed segments without anything live are used again.
    fn plan_free(&mut self) {
        let looked: Vec<u32> = self.set.empty.iter().copied().take(EMPTY_LOOK_MAX).collect();
        for number in looked {
            self.try_free(number);
        }
    }

    fn try_free(&mut self, number: u32) {
        let oldest = self.set.oldest_unsealed();
        let Some(segment) = self.set.segments.get(&number) else { return };
        assert_eq!((segment.state, segment.live), (State::Sealed, 0));
        if segment.reads > 0 || segment.generation >= oldest {
            return;
        }
        let Some(barrier) = segment.barrier else {
            if self.note_floors(number) {
                let seq = self.writer.seq;
                self.set.segments.entry(number).and_modify(|segment| segment.barrier = Some(seq));
                self.unsettled = true;
            }
            return;
        };
        if barrier > self.writer.durable_seq {
            return;
        }
        let generation = segment.generation;
        self.set.empty.remove(&number);
        self.set.segments.entry(number).and_modify(|segment| segment.state = State::Freeing);
        self.push_head(number, generation, HeadState::Free, FreeHead(number));
    }

    /// Has the log know the floors of a segment's groups. False when there is no space for the notes.
    fn note_floors(&mut self, number: u32) -> bool {
        let Some(segment) = self.set.segments.get(&number) else { return false };
        let groups: Vec<_> = segment.groups.iter().map(|group| group.group).collect();
        groups.into_iter().all(|id| match self.index.groups.get(&id).map(|g| (g.floor, g.floor_noted)) {
            Some((floor, noted)) if floor > noted => self.note_floor(id, floor),
            _ => true,
        })
    }

    /// The file is free: guards that only it needed may go.
    fn on_freed(&mut self, number: u32) {
        self.chunks.forget(number);
        let Some(segment) = self.set.segments.get_mut(&number) else { return };
        let groups = std::mem::take(&mut segment.groups);
        *segment = Segment::new(segment.generation, State::Free);
        self.set.free.push_back(number);
        for group in groups {
            let set = &self.set;
            self.index.drop_guards(group.group, |guard| set.needs_guard(guard), &mut self.deaths);
        }
        self.bury();
    }

    /// Empties the segments that are mostly dead, one at a time and behind the callers' own records.
    fn plan_move(&mut self) {
        if self.writer.is_loaded(self.options.run_bytes_max) {
            return;
        }
        if self.mover.segment.is_none() {
            let Some(number) = self.next_to_move() else { return };
            let live = self.set.segments.get(&number).map_or(0, |segment| segment.live as usize);
            if !self.has_space(live, Claim::Vital) || !self.start_sweep(Task::Move, number) {
                self.set.worn.remove(&number);
            }
            return;
        }
        if !self.step_sweep(Task::Move, self.options.run_bytes_max) {
            if self.sweep_is_over(&self.mover) {
                let moved = self.mover.segment.take();
                moved.map(|number| self.set.worn.remove(&number));
                self.unsettled |= !self.set.worn.is_empty();
            } else {
                self.unsettled |= !self.under_way.values().any(|p| matches!(p, Purpose::Sweep(Task::Move)));
            }
        }
    }

    fn next_to_move(&self) -> Option<u32> {
        // Two segments are held back: before the newest one is full, a third must be there.
        let spare = if self.set.room(1) < self.set.usable() / 2 { 3 } else { 2 };
        let tight = self.low || self.set.growth() == 0 && self.set.available() < spare;
        let rests = |number: &&u32| {
            let segment = self.set.segments.get(number);
            segment.is_some_and(|s| tight || s.evacuate || self.set.seals >= s.died_at + SEALS_AT_REST)
        };
        if let Some(number) = self.set.worn.iter().find(rests) {
            return Some(*number);
        }
        if !self.low || !self.set.empty.is_empty() {
            return None;
        }
        let share = |segment: &Segment| segment.dead() * 100 / u64::from(segment.tail);
        let sealed = self.set.segments.iter().filter(|(_, s)| s.state == State::Sealed && !s.suspect);
        let best = sealed.max_by_key(|(_, segment)| share(segment))?;
        (share(best.1) >= DEAD_PERCENT_WHEN_FULL).then_some(*best.0)
    }

    /// A full log goes on in its next segment when that gains a good part of one. Nothing else is emptied meanwhile: what
    /// comes back otherwise comes back cheaper.
    fn plan_turnover(&mut self) {
        let idle = self.mover.segment.is_none() && self.set.sealing.is_none() && self.set.closed.is_empty();
        if !self.low || !idle || !self.set.empty.is_empty() || self.set.ready.is_empty() {
            return;
        }
        let active = self.set.active.and_then(|number| self.set.segments.get(&number));
        let worth = u64::from(self.set.segment_bytes) * DEAD_PERCENT_WHEN_FULL / 100;
        if active.is_some_and(|segment| segment.dead() >= worth) && self.next_to_move().is_none() {
            self.set.roll();
            self.unsettled = true;
        }
    }

    /// Free segments beyond what is worth keeping go back to the file system.
    fn plan_trim(&mut self) {
        let listing = self.under_way.values().any(|p| matches!(p, Purpose::Housekeeping(List(_) | Unlist(_))));
        if self.set.free.len() <= FREE_SEGMENTS_MAX || listing || self.set.coming.is_some() || self.set.no_space {
            return;
        }
        let Some(number) = self.set.free.pop_back() else { return };
        self.set.segments.entry(number).and_modify(|segment| segment.state = State::Unlisting);
        self.push_manifest(None, Unlist(number));
    }

    fn push_manifest(&mut self, with: Option<u32>, step: Housekeeping) {
        let data = self.set.manifest(with).encode().into();
        let op = DiskOpKind::WriteFileAtomic { file: FileId::Manifest, data };
        self.push_op(Purpose::Housekeeping(step), op);
    }

    pub(crate) fn on_housekeeping(&mut self, step: Housekeeping, result: Result<DiskData, DiskError>) {
        self.unsettled = true;
        match (step, result) {
            (Create(number), Ok(_)) if self.set.ready.is_empty() => self.write_head(number, State::Making),
            // A spare one is free, so that a start need not look for runs in it.
            (Create(number), Ok(_)) => self.push_head(number, 0, HeadState::Free, OpenHead(number)),
            (OpenHead(number), Ok(_)) => self.on_head(number),
            (List(number), Ok(_)) => {
                self.set.doubtful = false;
                self.on_ready(number);
            }
            (Housekeeping::Footer(number), Ok(_)) => self.on_sealed(number),
            (FreeHead(number), Ok(_)) => self.on_freed(number),
            (Unlist(number), Ok(_)) => {
                self.set.segments.entry(number).and_modify(|segment| segment.state = State::Deleting);
                let op = DiskOpKind::Delete { file: FileId::Segment(number) };
                self.push_op(Purpose::Housekeeping(Delete(number)), op);
            }
            (Delete(number), _) => drop(self.set.segments.remove(&number)),
            (Create(number) | List(number), Err(error)) => self.on_no_growth(number, error),
            (Unlist(number), Err(DiskError::NoSpace)) => {
                self.set.segments.entry(number).and_modify(|segment| segment.state = State::Free);
                self.set.free.push_back(number);
                (self.set.no_space, self.set.doubtful) = (true, true);
            }
            (_, Err(error)) => self.break_down("a segment could not be changed", error),
        }
    }

    fn on_head(&mut self, number: u32) {
        let making = self.set.segments.get(&number).is_some_and(|segment| segment.state == State::Making);
        if making {
            self.push_manifest(Some(number), List(number));
        } else {
            self.on_ready(number);
        }
    }

    fn on_ready(&mut self, number: u32) {
        self.set.coming = None;
        let Some(segment) = self.set.segments.get_mut(&number) else { return };
        if segment.generation == 0 {
            segment.state = State::Free;
            self.set.free.push_back(number);
        } else {
            segment.state = State::Ready;
            self.set.ready.push_back(number);
        }
    }

    fn on_sealed(&mut self, number: u32) {
        self.set.sealing = None;
        self.set.seals += 1;
        if let Some(segment) = self.set.segments.get_mut(&number) {
            segment.state = State::Sealed;
            segment.builder = None;
        }
        self.events.push_back(LogEvent::Sealed { segment: number });
        self.set.weigh(number);
    }

    /// No new segment. What there is goes on; a file that was begun is removed.
    fn on_no_growth(&mut self, number: u32, error: DiskError) {
        self.set.coming = None;
        self.set.no_space = error != DiskError::Exists;
        self.set.doubtful |= self.set.no_space;
        self.set.segments.entry(number).and_modify(|segment| segment.state = State::Deleting);
        self.push_op(Purpose::Housekeeping(Delete(number)), DiskOpKind::Delete { file: FileId::Segment(number) });
    }
}
