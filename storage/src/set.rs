//! The segments of a log: which there are, what each is for, and how much of it counts.
//!
//! ```text
//!            Create        head + manifest
//!   (none) ─────────► Making ───────────► Ready ──► Active ──► Closed ──► Sealing ──► Sealed
//!                       │                   ▲       one at     full       footer        │
//!                 spare │          Opening ─┘       a time                on its way    │ all dead, durably
//!                       ▼             ▲                                                 ▼
//!                      Free ──────────┘ ◄────────────────────────────────────────── Freeing
//!                       └─► Unlisting ─► Deleting ─► (none)     too many free ones
//! ```
//!
//! One segment at a time is on its way to Ready, so segments are used in the order of their generations and no
//! generation is skipped; `judge.rs` relies on that. This file keeps the books; `space.rs` moves segments along.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::footer::{FooterBuilder, SegmentGroup, Trailer};
use crate::index::{Deaths, Single};
use crate::manifest::Manifest;
use crate::op::BLOCK;
use crate::options::SEGMENTS_MIN;
use crate::record::{GroupId, RecordKind};
use crate::run::Entry;
use crate::segment::RUNS_START;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// A new file: being zeroed, or its head or the manifest being written.
    Making,
    /// A free one whose new head is being written.
    Opening,
    Ready,
    Active,
    Closed,
    Sealing,
    Sealed,
    /// The head that declares it free is being written.
    Freeing,
    Free,
    /// The manifest without it is being written.
    Unlisting,
    Deleting,
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub generation: u64,
    pub state: State,
    /// Bytes of records that count.
    pub live: u64,
    /// Bytes of all records.
    pub used: u64,
    /// End of the last run.
    pub tail: u32,
    /// First and last run; 0 and 0 without any.
    pub runs: (u64, u64),
    /// What will be its footer, until it is sealed.
    pub builder: Option<FooterBuilder>,
    /// What it holds by group, from the moment it is closed.
    pub groups: Vec<SegmentGroup>,
    /// Where its footer is, once sealed.
    pub trailer: Option<Trailer>,
    /// Reads under way; it is not used again before they end.
    pub reads: u32,
    /// Appends that must be durable before it may be freed.
    pub barrier: Option<u64>,
    /// It has places that cannot be read and whose groups are unknown; kept as evidence until cleared.
    pub suspect: bool,
    /// To be emptied whatever it holds.
    pub evacuate: bool,
    /// How many segments had been sealed when something in it died last.
    pub died_at: u64,
}

impl Segment {
    pub fn new(generation: u64, state: State) -> Segment {
        Segment {
            generation,
            state,
            live: 0,
            used: 0,
            tail: RUNS_START,
            runs: (0, 0),
            builder: None,
            groups: Vec::new(),
            trailer: None,
            reads: 0,
            barrier: None,
            suspect: false,
            evacuate: false,
            died_at: 0,
        }
    }

    /// What it holds of a group.
    pub fn group(&self, group: GroupId) -> Option<&SegmentGroup> {
        match &self.builder {
            Some(builder) => builder.group(group),
            None => self.groups.binary_search_by_key(&group, |g| g.group).ok().map(|at| &self.groups[at]),
        }
    }

    /// Bytes of its runs that would be gained by moving what lives.
    pub fn dead(&self) -> u64 {
        u64::from(self.tail - RUNS_START).saturating_sub(self.live)
    }

    /// True while it may hold records.
    pub fn in_use(&self) -> bool {
        matches!(self.state, State::Active | State::Closed | State::Sealing | State::Sealed | State::Freeing)
    }
}

/// All segments of a log, with `live <= used` for each.
#[derive(Debug)]
pub(crate) struct SegmentSet {
    pub salt: u64,
    pub segment_bytes: u32,
    pub bytes_max: Option<u64>,
    pub move_dead_percent: u8,
    pub segments: BTreeMap<u32, Segment>,
    pub active: Option<u32>,
    /// Lowest generation first.
    pub ready: VecDeque<u32>,
    pub free: VecDeque<u32>,
    /// Full ones whose footer is not on its way yet, lowest generation first; and the one whose footer is.
    pub closed: VecDeque<u32>,
    pub sealing: Option<u32>,
    /// The one that is being made or opened.
    pub coming: Option<u32>,
    /// Highest generation of a head that was written or is being written.
    pub generation: u64,
    /// The file system refused to give more.
    pub no_space: bool,
    /// It refused the last time it was asked: what it might give is not counted on.
    pub doubtful: bool,
    /// Sealed and without anything live.
    pub empty: BTreeSet<u32>,
    /// Sealed and mostly dead.
    pub worn: BTreeSet<u32>,
    /// Segments that were sealed since the log was opened.
    pub seals: u64,
}

impl SegmentSet {
    pub fn new(salt: u64, segment_bytes: u32, bytes_max: Option<u64>, move_dead_percent: u8) -> SegmentSet {
        SegmentSet {
            salt,
            segment_bytes,
            bytes_max,
            move_dead_percent,
            segments: BTreeMap::new(),
            active: None,
            ready: VecDeque::new(),
            free: VecDeque::new(),
            closed: VecDeque::new(),
            sealing: None,
            coming: None,
            generation: 0,
            no_space: false,
            doubtful: false,
            empty: BTreeSet::new(),
            worn: BTreeSet::new(),
            seals: 0,
        }
    }

    pub fn active_mut(&mut self) -> Option<(u32, &mut Segment)> {
        let number = self.active?;
        Some((number, self.segments.get_mut(&number)?))
    }

    /// Bytes that a run of so many records may have in the active segment, with its footer kept free.
    pub fn room(&self, records: usize) -> usize {
        let Some(segment) = self.active.and_then(|number| self.segments.get(&number)) else { return 0 };
        let Some(builder) = &segment.builder else { return 0 };
        (self.segment_bytes as usize).saturating_sub(segment.tail as usize + builder.bytes_with(records))
    }

    /// Segments that hold nothing and can be used without asking the file system.
    pub fn available(&self) -> usize {
        self.ready.len() + self.free.len()
    }

    /// Whether a segment is on its way that will surely come: one that is there already, or a new one that the file system
    /// has no reason to refuse.
    pub fn is_coming(&self) -> bool {
        self.coming.is_some() && (self.is_opening() || !self.doubtful)
    }

    /// Whether one that is on its way is there already.
    pub fn is_opening(&self) -> bool {
        let segment = self.coming.and_then(|number| self.segments.get(&number));
        segment.is_some_and(|segment| segment.state == State::Opening)
    }

    /// Segments that the quota allows on top, as far as it is known that the file system gives them.
    pub fn growth(&self) -> u64 {
        if self.no_space {
            return 0;
        }
        let most = self.bytes_max.map_or(u64::MAX, |bytes| (bytes / u64::from(self.segment_bytes)).max(SEGMENTS_MIN));
        most.saturating_sub(self.segments.len() as u64)
    }

    /// The next ready segment becomes the active one; the one before is closed.
    pub fn roll(&mut self) {
        let Some(number) = self.ready.pop_front() else { return };
        if let Some((full, segment)) = self.active_mut() {
            segment.state = State::Closed;
            segment.groups = segment.builder.as_ref().map_or_else(Vec::new, FooterBuilder::groups);
            self.closed.push_back(full);
        }
        let Some(segment) = self.segments.get_mut(&number) else { return };
        assert_eq!(segment.state, State::Ready);
        segment.state = State::Active;
        segment.builder = Some(FooterBuilder::default());
        self.active = Some(number);
    }

    /// Takes deaths into the accounts.
    pub fn bury(&mut self, deaths: &mut Deaths) {
        for (number, bytes) in deaths.drain(..) {
            let Some(segment) = self.segments.get_mut(&number) else { continue };
            assert!(segment.live >= bytes, "segment {number} loses {bytes} of {} live bytes", segment.live);
            segment.live -= bytes;
            segment.died_at = self.seals;
            self.weigh(number);
        }
    }

    /// Sees whether a sealed segment is empty or mostly dead.
    pub fn weigh(&mut self, number: u32) {
        let Some(segment) = self.segments.get(&number) else { return };
        if segment.state != State::Sealed || segment.suspect {
            return;
        }
        let dead = segment.used - segment.live;
        if segment.live == 0 {
            self.worn.remove(&number);
            self.empty.insert(number);
        } else if segment.evacuate || dead * 100 >= segment.used * u64::from(self.move_dead_percent) {
            self.worn.insert(number);
        }
    }

    /// The lowest generation that is not sealed yet, which sealed ones may not overtake.
    pub fn oldest_unsealed(&self) -> u64 {
        let first = self.sealing.or(self.closed.front().copied()).or(self.active);
        first.and_then(|number| self.segments.get(&number)).map_or(u64::MAX, |segment| segment.generation)
    }

    /// True while another segment than the guard's own holds something that it keeps dead.
    pub fn needs_guard(&self, guard: &Single) -> bool {
        let Entry { group, kind, index, lsn, .. } = guard.entry;
        self.segments.iter().any(|(number, segment)| {
            let found = segment.group(group).filter(|_| *number != guard.segment && segment.in_use());
            found.is_some_and(|g| g.lsn_min < lsn && (kind == RecordKind::TOMBSTONE || g.index_max >= index))
        })
    }

    /// The list of segments as it should stand on disk. `with` is a new one that is being listed.
    pub fn manifest(&self, with: Option<u32>) -> Manifest {
        let listed = self.segments.iter().filter(|(number, segment)| match segment.state {
            State::Making => with == Some(**number),
            State::Unlisting | State::Deleting => false,
            _ => true,
        });
        let segments = listed.map(|(number, _)| *number).collect();
        Manifest { salt: self.salt, segment_bytes: u64::from(self.segment_bytes), segments }
    }

    /// A number that no segment has.
    pub fn number_free(&self) -> u32 {
        (1..).find(|number| !self.segments.contains_key(number)).unwrap_or(u32::MAX)
    }

    /// What an empty segment can take of records, footer and rounding off.
    pub fn usable(&self) -> usize {
        self.segment_bytes as usize - RUNS_START as usize - 2 * BLOCK
    }
}
