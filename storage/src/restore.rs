//! Puts a log together from what was read: index, segments and accounts.
//!
//! Footers and kept runs are fed in any order (the index goes by LSN), then the states of the segments follow from what
//! each holds: sealed ones have a footer; of those without, the last with anything in it is written on, the ones before
//! get their footer now, and untouched ones are ready.

use std::collections::{BTreeMap, BTreeSet};

use crate::append::Writer;
use crate::event::Damage;
use crate::footer::{Footer, FooterBuilder, Trailer};
use crate::index::Index;
use crate::judge::{Kept, Lost, Verdict};
use crate::log::{Log, damage_of};
use crate::options::StoreOptions;
use crate::record::{GroupId, Index as EntryIndex, Lsn, RecordKind};
use crate::run::Entry;
use crate::scan::ScannedRun;
use crate::segment::Head;
use crate::set::{Segment, SegmentSet, State};

/// Damaged places that a report lists; the rest is counted.
const DAMAGE_LISTED_MAX: usize = 10_000;

/// Damaged places, the first ones in full.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct DamageList {
    pub listed: Vec<Damage>,
    pub more: u64,
}

impl DamageList {
    pub fn push(&mut self, damage: Damage) {
        if self.listed.len() < DAMAGE_LISTED_MAX {
            self.listed.push(damage);
        } else {
            self.more += 1;
        }
    }
}

/// A log that is being put together.
#[derive(Debug)]
pub(crate) struct Restore {
    pub index: Index,
    pub set: SegmentSet,
    pub damage: DamageList,
    /// Last entry of each group in the part that was scanned, for naming what a lost run held.
    last: BTreeMap<GroupId, EntryIndex>,
    /// A run was lost before what comes now.
    after_loss: Option<Lost>,
    named: BTreeSet<GroupId>,
    lsn_last: Lsn,
    session_max: u32,
    /// Segments that were sealed but whose footer is lost.
    known_full: BTreeSet<u32>,
    /// Entries whose bodies are known to be bad.
    bad: Vec<(Entry, u32)>,
}

impl Restore {
    pub fn new(set: SegmentSet) -> Restore {
        Restore {
            index: Index::default(),
            set,
            damage: DamageList::default(),
            last: BTreeMap::new(),
            after_loss: None,
            named: BTreeSet::new(),
            lsn_last: Lsn(0),
            session_max: 0,
            known_full: BTreeSet::new(),
            bad: Vec::new(),
        }
    }

    /// A segment that holds nothing.
    pub fn add_free(&mut self, number: u32, head: &Head) {
        self.set.generation = self.set.generation.max(head.generation);
        self.set.segments.insert(number, Segment::new(head.generation, State::Free));
        self.set.free.push_back(number);
    }

    /// A segment that may hold runs; it counts as closed until more is known.
    pub fn add_open(&mut self, number: u32, head: &Head) {
        self.set.generation = self.set.generation.max(head.generation);
        self.set.segments.insert(number, Segment::new(head.generation, State::Closed));
    }

    /// A segment that was sealed, up to `run_last`, but whose footer cannot be read.
    pub fn add_footerless(&mut self, number: u32, trailer: &Trailer) {
        self.session_max = self.session_max.max(trailer.session);
        self.known_full.insert(number);
    }

    /// A segment with a footer.
    pub fn add_sealed(&mut self, number: u32, trailer: Trailer, footer: Footer) {
        self.session_max = self.session_max.max(trailer.session);
        let Some(segment) = self.set.segments.get_mut(&number) else { return };
        segment.state = State::Sealed;
        segment.used = footer.entries.iter().map(Entry::cost).sum();
        segment.tail = trailer.tail;
        segment.runs = (trailer.run_first, trailer.run_last);
        segment.groups = footer.groups;
        segment.trailer = Some(trailer);
        segment.suspect = !footer.gaps.is_empty();
        for gap in footer.gaps {
            let lost = Lost { segment: number, gap, salvaged: Vec::new() };
            self.damage.push(damage_of_loss(&lost));
        }
        for entry in &footer.entries {
            self.lsn_last = self.lsn_last.max(entry.lsn);
            self.take(entry, number);
        }
    }

    fn take(&mut self, entry: &Entry, number: u32) {
        let segments = &self.set.segments;
        self.index.restore(entry, number, |number| segments.get(&number).map_or(0, |segment| segment.generation));
    }

    /// What stays of the segments without a footer, in order.
    pub fn add_verdict(&mut self, verdict: Verdict) {
        self.session_max = self.session_max.max(verdict.session_max);
        for kept in verdict.kept {
            match kept {
                Kept::Run(number, run) => self.add_run(number, &run),
                Kept::Lost(lost) => self.add_lost(lost),
            }
        }
    }

    fn add_run(&mut self, number: u32, run: &ScannedRun) {
        let Some(segment) = self.set.segments.get_mut(&number) else { return };
        segment.tail = run.end();
        if segment.runs.0 == 0 {
            segment.runs.0 = run.header.run;
        }
        segment.runs.1 = run.header.run;
        if run.lost > 0 {
            let gap = crate::footer::Gap { offset: run.header.offset, bytes: run.header.bytes };
            self.add_lost(Lost { segment: number, gap, salvaged: Vec::new() });
        }
        self.add_entries(number, &run.entries);
    }

    fn add_lost(&mut self, lost: Lost) {
        let number = lost.segment;
        let Some(segment) = self.set.segments.get_mut(&number) else { return };
        if !lost.salvaged.is_empty() {
            return self.add_entries(number, &lost.salvaged);
        }
        segment.suspect = true;
        segment.builder.get_or_insert_default().add_gap(lost.gap);
        self.damage.push(damage_of_loss(&lost));
        self.named.clear();
        self.after_loss = Some(lost);
    }

    fn add_entries(&mut self, number: u32, entries: &[(Entry, bool)]) {
        for (entry, whole) in entries {
            self.name_lost(entry);
            self.lsn_last = self.lsn_last.max(entry.lsn);
            self.take(entry, number);
            if !whole {
                self.bad.push((*entry, number));
            }
            if let Some(segment) = self.set.segments.get_mut(&number) {
                segment.used += entry.cost();
                segment.builder.get_or_insert_default().add(entry);
            }
        }
    }

    /// The first entry of a group behind a lost run says whether the run held entries of that group.
    fn name_lost(&mut self, entry: &Entry) {
        if entry.kind != RecordKind::ENTRY || entry.copy {
            return;
        }
        let before = self.last.insert(entry.group, entry.index);
        let before = before.or_else(|| self.index.bounds(entry.group).map(|(_, last)| last));
        let Some(lost) = &self.after_loss else { return };
        if !self.named.insert(entry.group) {
            return;
        }
        if let Some(before) = before.filter(|before| before + 1 < entry.index) {
            let damage = Damage {
                group: Some(entry.group),
                kind: Some(RecordKind::ENTRY),
                first: before + 1,
                last: entry.index - 1,
                ..damage_of_loss(lost)
            };
            self.damage.push(damage);
        }
    }

    /// Everything was fed: states, accounts and guards follow.
    pub fn settle(&mut self) {
        self.index.restored();
        self.settle_states();
        let live: Vec<(u32, u64)> = self.index.live().map(|(_, segment, bytes)| (segment, bytes)).collect();
        for (number, bytes) in live {
            if let Some(segment) = self.set.segments.get_mut(&number) {
                segment.live += bytes;
            }
        }
        for (entry, segment) in std::mem::take(&mut self.bad) {
            if self.index.mark_damaged(&entry, segment) {
                self.damage.push(damage_of(&entry, segment, "the checksum of the record does not fit"));
            }
        }
        let guarded: Vec<GroupId> =
            self.index.groups.iter().filter(|(_, group)| !group.guards.is_empty()).map(|(id, _)| *id).collect();
        let (set, mut deaths) = (&self.set, Vec::new());
        for group in guarded {
            self.index.drop_guards(group, |guard| set.needs_guard(guard), &mut deaths);
        }
        self.set.bury(&mut deaths);
        let numbers: Vec<u32> = self.set.segments.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.set.weigh(number));
    }

    fn settle_states(&mut self) {
        let mut unsealed: Vec<(u64, u32)> = self
            .set
            .segments
            .iter()
            .filter(|(_, segment)| segment.state == State::Closed)
            .map(|(number, segment)| (segment.generation, *number))
            .collect();
        unsealed.sort_unstable();
        let holds = |set: &SegmentSet, number: u32| set.segments.get(&number).is_some_and(|s| s.builder.is_some());
        let used = self.set.segments.values().filter(|s| s.builder.is_some() || s.state == State::Sealed);
        let generation_used = used.map(|segment| segment.generation).max().unwrap_or(0);
        for (generation, number) in &unsealed {
            if holds(&self.set, *number) {
                self.set.closed.push_back(*number);
            } else if *generation > generation_used {
                self.make(*number, State::Ready);
                self.set.ready.push_back(*number);
            } else {
                self.make(*number, State::Free);
                self.set.free.push_back(*number);
            }
        }
        self.close_runs();
        self.choose_active();
    }

    fn make(&mut self, number: u32, state: State) {
        self.set.segments.entry(number).and_modify(|segment| segment.state = state);
    }

    /// Runs that were lost at the end of a closed segment belong to it: its footer will say so, and the next start
    /// sees no hole.
    fn close_runs(&mut self) {
        let mut next: Option<(u64, u64)> = None;
        for number in self.set.closed.iter().rev() {
            let Some(segment) = self.set.segments.get_mut(number) else { continue };
            if let Some((generation, first)) = next
                && generation == segment.generation + 1
            {
                segment.runs.1 = segment.runs.1.max(first - 1);
            }
            if segment.runs.0 == 0 {
                segment.runs.0 = segment.runs.1;
            }
            next = Some((segment.generation, segment.runs.0));
        }
        for number in &self.set.closed {
            let Some(segment) = self.set.segments.get_mut(number) else { continue };
            segment.groups = segment.builder.as_ref().map_or_else(Vec::new, FooterBuilder::groups);
        }
    }

    /// The last segment with anything in it is written on, unless it was sealed before or sealed ones came after it.
    fn choose_active(&mut self) {
        let sealed = self.set.segments.values().filter(|segment| segment.state == State::Sealed);
        let sealed_last = sealed.map(|segment| segment.generation).max().unwrap_or(0);
        let Some(number) = self.set.closed.back().copied() else { return };
        let Some(segment) = self.set.segments.get_mut(&number) else { return };
        if segment.generation > sealed_last && segment.runs.1 > 0 && !self.known_full.contains(&number) {
            segment.state = State::Active;
            self.set.closed.pop_back();
            self.set.active = Some(number);
        }
    }

    /// Segments whose content was not proven durable by a footer, and those whose head says that they hold nothing: they are
    /// flushed before anything is promised. A head that a later loss of power takes back would show records again whose
    /// guards are gone by then.
    pub fn to_flush(&self) -> Vec<u32> {
        let set = &self.set;
        set.closed.iter().chain(&set.active).chain(&set.free).chain(&set.ready).copied().collect()
    }

    /// The log, behind run `run_last`.
    pub fn into_log(self, options: StoreOptions, run_last: u64, op_next: u64) -> Log {
        let writer = Writer::new(run_last, self.session_max + 1, self.lsn_last);
        Log::open(options, self.index, self.set, writer, op_next)
    }
}

fn damage_of_loss(lost: &Lost) -> Damage {
    Damage {
        group: None,
        kind: None,
        first: 0,
        last: 0,
        segment: lost.segment,
        offset: u64::from(lost.gap.offset),
        bytes: u64::from(lost.gap.bytes),
        what: "what was written here cannot be read",
    }
}
