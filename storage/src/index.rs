//! Which records count, and where they are.
//!
//! Per group: its live entries by index, the newest record of every latest-wins kind, and the *guards*: tombstones and
//! truncations, which exist only to keep older records dead. A segment is used again out of order, so what kills a
//! record may be younger than what it killed and still be gone sooner; a guard therefore stays live as long as another
//! segment holds something that it killed.
//!
//! All rules go by LSN, never by where bytes lie, so recovery may restore records in any order and meet copies:
//!
//! * of two entries with the same index the one with the higher LSN counts; with the same LSN the one restored last;
//! * a truncation at LSN L kills entries of its index and above with a lower LSN, a floor those below its index;
//! * a tombstone kills everything of its group with a lower LSN;
//! * of a latest-wins kind the highest LSN counts.
//!
//! Deaths are handed back as (segment, bytes), for the segments' accounts. Records that wait for their run are in the
//! index with segment `UNPLACED` and are on no account yet.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::record::{GroupId, Index as EntryIndex, Lsn, RecordKind};
use crate::run::{ENTRY_BYTES, Entry};
use crate::slots::{Place, Slots, UNPLACED};

/// Largest body of a latest-wins record that stays in memory, in bytes.
pub(crate) const BODY_KEPT_MAX: usize = 4096;

/// What died where: segment and bytes.
pub(crate) type Deaths = Vec<(u32, u64)>;

/// A record that is not an entry, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Single {
    pub entry: Entry,
    pub segment: u32,
    pub damaged: bool,
    /// The body, when small.
    pub body: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    pub slots: Slots,
    /// Highest index that was appended and not truncated, dead or alive: what may come back after a restart.
    pub top: EntryIndex,
    /// Entries below are dead.
    pub floor: EntryIndex,
    /// The floor that the log itself knows.
    pub floor_noted: EntryIndex,
    /// One per latest-wins kind.
    pub latest: Vec<Single>,
    pub guards: Vec<Single>,
}

/// The records that count, of all groups of a log.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub groups: BTreeMap<GroupId, Group>,
    /// Live places that are known to be damaged.
    pub damaged: u64,
}

impl Single {
    fn new(entry: Entry, segment: u32, body: Option<Bytes>) -> Single {
        Single { entry, segment, damaged: false, body: body.filter(|body| body.len() <= BODY_KEPT_MAX) }
    }

    fn die(&self, deaths: &mut Deaths) {
        if self.segment != UNPLACED {
            deaths.push((self.segment, self.entry.cost()));
        }
    }
}

impl Place {
    /// What the entry still counts in its segment's account.
    pub fn cost(&self) -> u64 {
        ENTRY_BYTES as u64 + u64::from(self.bytes - self.dead)
    }

    fn of(entry: &Entry, segment: u32) -> Place {
        let Entry { index, term, epoch, lsn, offset, bytes, crc, .. } = *entry;
        Place { index, term, epoch, lsn, segment, offset, bytes, crc, dead: 0, damaged: false }
    }

    /// The description as it stands on disk.
    pub fn entry(&self, group: GroupId) -> Entry {
        let Place { index, term, epoch, lsn, offset, bytes, crc, .. } = *self;
        Entry { group, index, term, lsn, epoch, kind: RecordKind::ENTRY, copy: true, offset, bytes, crc }
    }

    fn die(&self, deaths: &mut Deaths, damaged: &mut u64) {
        *damaged -= u64::from(self.damaged);
        if self.segment != UNPLACED {
            deaths.push((self.segment, self.cost()));
        }
    }
}

/// The live side: records as they are appended.
impl Index {
    /// Puts a record that waits for its run.
    pub fn append(&mut self, entry: &Entry, body: &Bytes, deaths: &mut Deaths) {
        let damaged = &mut self.damaged;
        let group = self.groups.entry(entry.group).or_default();
        match entry.kind {
            RecordKind::ENTRY => {
                group.top = entry.index;
                if let Some(before) = group.slots.put(Place::of(entry, UNPLACED)) {
                    before.die(deaths, damaged);
                }
            }
            kind if kind.guards() => group.guards.push(Single::new(*entry, UNPLACED, Some(body.clone()))),
            _ => {
                if entry.kind == RecordKind::FLOOR {
                    group.floor_noted = group.floor_noted.max(entry.index);
                }
                group.set_latest(Single::new(*entry, UNPLACED, Some(body.clone())), deaths, damaged);
            }
        }
    }

    /// A copy of a live record waits for its run: the original dies. The bytes that were dead stay dead.
    pub fn append_copy(&mut self, entry: &Entry, deaths: &mut Deaths) {
        let group = self.groups.entry(entry.group).or_default();
        if entry.kind == RecordKind::ENTRY {
            group.top = group.top.max(entry.index);
            let dead = group.slots.get(entry.index).filter(|old| old.lsn == entry.lsn).map_or(0, |old| old.dead);
            if let Some(before) = group.slots.put(Place { dead, ..Place::of(entry, UNPLACED) }) {
                before.die(deaths, &mut self.damaged);
            }
        } else if let Some(single) = group.single_mut(entry) {
            single.die(deaths);
            self.damaged -= u64::from(single.damaged);
            (single.segment, single.damaged) = (UNPLACED, false);
        }
    }

    /// The record has its place on disk now. Answers with the bytes that are live there, `None` when it died while it
    /// waited.
    pub fn place(&mut self, entry: &Entry, segment: u32) -> Option<u64> {
        let group = self.groups.get_mut(&entry.group)?;
        if entry.kind == RecordKind::ENTRY {
            let mut place = group.slots.get(entry.index)?;
            if place.lsn != entry.lsn || place.segment != UNPLACED {
                return None;
            }
            (place.segment, place.offset) = (segment, entry.offset);
            group.slots.put(place);
            return Some(place.cost());
        }
        let single = group.single_mut(entry).filter(|single| single.segment == UNPLACED)?;
        (single.segment, single.entry.offset) = (segment, entry.offset);
        Some(entry.cost())
    }

    /// Entries from `from` on die.
    pub fn truncate(&mut self, group: GroupId, from: EntryIndex, deaths: &mut Deaths) {
        if let Some(group) = self.groups.get_mut(&group) {
            group.top = group.top.min(from.saturating_sub(1));
            group.slots.take_range(from, u64::MAX, |_| true, |place| place.die(deaths, &mut self.damaged));
        }
    }

    /// Entries below `below` die and stay dead.
    pub fn release(&mut self, group: GroupId, below: EntryIndex, deaths: &mut Deaths) {
        let Some(group) = self.groups.get_mut(&group) else { return };
        if below > group.floor {
            group.floor = below;
            group.slots.take_range(0, below - 1, |_| true, |place| place.die(deaths, &mut self.damaged));
        }
    }

    /// Part of an entry's body dies; the entry with it when nothing of the body is left.
    pub fn kill(&mut self, group: GroupId, index: EntryIndex, bytes_dead: u32, deaths: &mut Deaths) {
        let Some(group) = self.groups.get_mut(&group) else { return };
        let Some(mut place) = group.slots.get(index) else { return };
        let more = bytes_dead.min(place.bytes - place.dead);
        if place.dead + more == place.bytes {
            group.slots.remove(index);
            place.die(deaths, &mut self.damaged);
            return;
        }
        place.dead += more;
        group.slots.put(place);
        if place.segment != UNPLACED {
            deaths.push((place.segment, u64::from(more)));
        }
    }

    /// Everything of the group dies; its tombstone is appended next.
    pub fn drop_group(&mut self, group: GroupId, deaths: &mut Deaths) {
        let Some(group) = self.groups.get_mut(&group) else { return };
        group.slots.take_range(0, u64::MAX, |_| true, |place| place.die(deaths, &mut self.damaged));
        for single in group.latest.drain(..).chain(group.guards.drain(..)) {
            self.damaged -= u64::from(single.damaged);
            single.die(deaths);
        }
        (group.floor, group.floor_noted, group.top) = (0, 0, 0);
    }

    /// True when that very copy of the record counts.
    pub fn is_live(&self, entry: &Entry, segment: u32) -> bool {
        let Some(group) = self.groups.get(&entry.group) else { return false };
        if entry.kind == RecordKind::ENTRY {
            let place = group.slots.get(entry.index);
            return place.is_some_and(|p| p.lsn == entry.lsn && p.segment == segment && p.offset == entry.offset);
        }
        group.single(entry).is_some_and(|s| s.segment == segment && s.entry.offset == entry.offset)
    }

    /// Notes that a live record cannot be read. True when that is news.
    pub fn mark_damaged(&mut self, entry: &Entry, segment: u32) -> bool {
        if !self.is_live(entry, segment) {
            return false;
        }
        let Some(group) = self.groups.get_mut(&entry.group) else { return false };
        let news = if entry.kind == RecordKind::ENTRY {
            let place = group.slots.get(entry.index);
            let place = place.filter(|place| !place.damaged).map(|place| Place { damaged: true, ..place });
            place.is_some_and(|place| group.slots.put(place).is_some())
        } else {
            group.single_mut(entry).is_some_and(|single| !std::mem::replace(&mut single.damaged, true))
        };
        self.damaged += u64::from(news);
        news
    }

    /// Guards of the group that are no longer needed die; a group without anything is forgotten.
    pub fn drop_guards(&mut self, group: GroupId, needed: impl Fn(&Single) -> bool, deaths: &mut Deaths) {
        let Some(found) = self.groups.get_mut(&group) else { return };
        found.guards.retain(|guard| {
            let keep = guard.segment == UNPLACED || needed(guard);
            if !keep {
                self.damaged -= u64::from(guard.damaged);
                guard.die(deaths);
            }
            keep
        });
        if found.guards.is_empty() && found.latest.is_empty() && found.slots.len() == 0 && found.floor == 0 {
            self.groups.remove(&group);
        }
    }
}

/// The recovering side: records in any order.
impl Index {
    /// Takes a record that was found on disk. `age` tells the generation of a segment: of a record and its copies, the one
    /// that was written last counts, because what it was copied from may have been damaged.
    pub fn restore(&mut self, entry: &Entry, segment: u32, age: impl Fn(u32) -> u64) {
        let order = |lsn: Lsn, segment: u32, offset: u32| (lsn, age(segment), offset);
        let own = order(entry.lsn, segment, entry.offset);
        let of_single = |single: &Single| order(single.entry.lsn, single.segment, single.entry.offset);
        let damaged = &mut self.damaged;
        let group = self.groups.entry(entry.group).or_default();
        if group.kills(entry) {
            return;
        }
        let deaths = &mut Deaths::new();
        let single = Single::new(*entry, segment, None);
        match entry.kind {
            RecordKind::ENTRY => {
                let known = group.slots.get(entry.index);
                if known.is_none_or(|known| order(known.lsn, known.segment, known.offset) <= own) {
                    group.slots.put(Place::of(entry, segment));
                }
            }
            RecordKind::TRUNCATE => {
                group.slots.take_range(entry.index, u64::MAX, |p| p.lsn < entry.lsn, |_| ());
                group.set_guard(single, of_single);
            }
            RecordKind::TOMBSTONE => {
                group.slots.take_range(0, u64::MAX, |p| p.lsn < entry.lsn, |_| ());
                group.latest.retain(|latest| latest.entry.lsn > entry.lsn);
                group.guards.retain(|guard| guard.entry.lsn >= entry.lsn);
                group.set_guard(single, of_single);
            }
            kind => {
                if kind == RecordKind::FLOOR && entry.index > 0 {
                    group.slots.take_range(0, entry.index - 1, |p| p.lsn < entry.lsn, |_| ());
                }
                if group.latest(kind).is_none_or(|known| of_single(known) <= own) {
                    group.set_latest(single, deaths, damaged);
                }
            }
        }
    }

    /// After the last record: floors take effect, groups without anything are forgotten.
    pub fn restored(&mut self) {
        for group in self.groups.values_mut() {
            let floor = group.latest(RecordKind::FLOOR).map_or(0, |single| single.entry.index);
            (group.floor, group.floor_noted) = (floor, floor);
            group.top = group.slots.last().unwrap_or(0);
        }
        self.groups.retain(|_, g| g.slots.len() > 0 || !g.latest.is_empty() || !g.guards.is_empty());
    }

    /// Every live record on disk with its segment and live bytes, group by group.
    pub fn live(&self) -> impl Iterator<Item = (Entry, u32, u64)> + '_ {
        self.groups.iter().flat_map(|(id, group)| {
            let places = group.slots.range(0, u64::MAX);
            let entries = places.map(|place| (place.entry(*id), place.segment, place.cost()));
            let singles = group.latest.iter().chain(&group.guards);
            entries.chain(singles.map(|single| (single.entry, single.segment, single.entry.cost())))
        })
    }

    /// Keeps a small body that was read back.
    pub fn keep_body(&mut self, entry: &Entry, body: &Bytes) {
        if body.len() > BODY_KEPT_MAX {
            return;
        }
        if let Some(single) = self.groups.get_mut(&entry.group).and_then(|group| group.single_mut(entry)) {
            // A copy of its own: the slice it came as would keep a whole chunk in memory.
            single.body = Some(Bytes::copy_from_slice(body));
        }
    }
}

impl Group {
    pub fn latest(&self, kind: RecordKind) -> Option<&Single> {
        self.latest.iter().find(|single| single.entry.kind == kind)
    }

    /// True for a group that has been dropped and not used since.
    pub fn is_gone(&self) -> bool {
        self.slots.len() == 0 && self.latest.is_empty() && self.floor == 0
    }

    fn set_latest(&mut self, single: Single, deaths: &mut Deaths, damaged: &mut u64) {
        match self.latest.iter_mut().find(|known| known.entry.kind == single.entry.kind) {
            Some(known) => {
                *damaged -= u64::from(known.damaged);
                known.die(deaths);
                *known = single;
            }
            None => self.latest.push(single),
        }
    }

    fn set_guard<O: Ord>(&mut self, single: Single, order: impl Fn(&Single) -> O) {
        match self.guards.iter_mut().find(|known| known.entry.lsn == single.entry.lsn) {
            Some(known) if order(known) > order(&single) => {}
            Some(known) => *known = single,
            None => self.guards.push(single),
        }
    }

    fn single(&self, entry: &Entry) -> Option<&Single> {
        let list = if entry.kind.guards() { &self.guards } else { &self.latest };
        list.iter().find(|single| single.entry.kind == entry.kind && single.entry.lsn == entry.lsn)
    }

    fn single_mut(&mut self, entry: &Entry) -> Option<&mut Single> {
        let list = if entry.kind.guards() { &mut self.guards } else { &mut self.latest };
        list.iter_mut().find(|single| single.entry.kind == entry.kind && single.entry.lsn == entry.lsn)
    }

    /// True when something younger that is known already kills this record.
    fn kills(&self, entry: &Entry) -> bool {
        let buried = |kind| kind == RecordKind::TOMBSTONE;
        let is_entry = entry.kind == RecordKind::ENTRY;
        let floor = self.latest(RecordKind::FLOOR).is_some_and(|floor| below_floor(entry, &floor.entry));
        let guarded = self.guards.iter().any(|guard| {
            guard.entry.lsn > entry.lsn && (buried(guard.entry.kind) || is_entry && guard.entry.index <= entry.index)
        });
        is_entry && floor || guarded
    }
}

fn below_floor(entry: &Entry, floor: &Entry) -> bool {
    entry.index < floor.index && entry.lsn < floor.lsn
}

impl Index {
    /// Lowest and highest live entry of a group.
    pub fn bounds(&self, group: GroupId) -> Option<(EntryIndex, EntryIndex)> {
        let slots = &self.groups.get(&group)?.slots;
        Some((slots.first()?, slots.last()?))
    }
}
