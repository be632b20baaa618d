//! The shape of a group's log: which term and how many bytes stand at each index. The payloads are elsewhere.
//!
//! Four bytes per entry, because a stream's log may hold millions: lengths lie in a row, terms as the few places where
//! they change, and noops and memberships, rare as they are, in a map of their own.
//!
//! ```text
//!   base          base+1 ...                                last
//!   (index, term) | len | len | len | len | len | len | len |
//!   membership      ^ run: term 3           ^ run: term 7
//! ```

use std::collections::{BTreeMap, VecDeque};

use crate::{Entry, EntryKind, Index, Membership, Term};

/// Invariants: runs start at `base + 1` or later, ascend strictly in index and term, and cover every entry; marks lie
/// within `base + 1 ..= last`.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    base: Index,
    base_term: Term,
    base_membership: Membership,
    lens: VecDeque<u32>,
    runs: VecDeque<Run>,
    marks: BTreeMap<Index, Mark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Index,
    term: Term,
}

#[derive(Clone, Debug)]
enum Mark {
    Noop,
    Membership(Box<Membership>),
}

impl Log {
    /// An empty log that continues after `base`.
    pub(crate) fn new(base: Index, base_term: Term, base_membership: Membership) -> Log {
        let (lens, runs, marks) = Default::default();
        Log { base, base_term, base_membership, lens, runs, marks }
    }

    pub(crate) fn base(&self) -> Index {
        self.base
    }

    pub(crate) fn first(&self) -> Index {
        self.base + 1
    }

    pub(crate) fn last(&self) -> Index {
        self.base + self.lens.len() as u64
    }

    pub(crate) fn last_term(&self) -> Term {
        self.runs.back().map_or(self.base_term, |run| run.term)
    }

    /// The term at an index; known for the base and every entry after it. O(log runs).
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index < self.base || index > self.last() {
            return None;
        }
        let runs = self.runs.partition_point(|run| run.first <= index);
        Some(if runs == 0 { self.base_term } else { self.runs[runs - 1].term })
    }

    /// Adds an entry. Its term must not be below the last one's.
    pub(crate) fn append(&mut self, term: Term, len: u32, kind: EntryKind) -> Index {
        assert!(term >= self.last_term(), "terms ascend in a log");
        let index = self.last() + 1;
        if self.runs.back().is_none_or(|run| run.term < term) {
            self.runs.push_back(Run { first: index, term });
        }
        self.lens.push_back(len);
        match kind {
            EntryKind::Data => {}
            EntryKind::Noop => drop(self.marks.insert(index, Mark::Noop)),
            EntryKind::Membership(membership) => drop(self.marks.insert(index, Mark::Membership(membership))),
        }
        index
    }

    /// Removes `from` and everything after it. `from` must lie above the base.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.base, "the base cannot be cut off");
        self.lens.truncate((from - self.first()) as usize);
        while self.runs.back().is_some_and(|run| run.first >= from) {
            self.runs.pop_back();
        }
        self.marks.split_off(&from);
    }

    /// Forgets everything up to and with `to`, which becomes the base.
    pub(crate) fn compact(&mut self, to: Index) {
        let (Some(term), true) = (self.term_at(to), to > self.base) else { return };
        self.base_membership = self.membership_at(to).1.clone();
        self.lens.drain(..(to - self.base) as usize);
        while self.runs.get(1).is_some_and(|run| run.first <= to + 1) {
            self.runs.pop_front();
        }
        match self.runs.front_mut() {
            Some(run) if !self.lens.is_empty() => run.first = run.first.max(to + 1),
            _ => self.runs.clear(),
        }
        self.marks = self.marks.split_off(&(to + 1));
        (self.base, self.base_term) = (to, term);
        if self.lens.capacity() > 4 * self.lens.len() + 1024 {
            self.lens.shrink_to(2 * self.lens.len());
        }
    }

    /// The membership in force at an index, and the index that set it (the base for the one before all entries).
    pub(crate) fn membership_at(&self, index: Index) -> (Index, &Membership) {
        let change = self.marks.range(..=index).rev().find_map(|(at, mark)| match mark {
            Mark::Membership(membership) => Some((*at, &**membership)),
            Mark::Noop => None,
        });
        change.unwrap_or((self.base, &self.base_membership))
    }

    fn kind_at(&self, index: Index) -> EntryKind {
        match self.marks.get(&index) {
            None => EntryKind::Data,
            Some(Mark::Noop) => EntryKind::Noop,
            Some(Mark::Membership(membership)) => EntryKind::Membership(membership.clone()),
        }
    }

    /// The entries from `from` on, as many as fit `bytes_max` and `count_max`, but at least one if there is one.
    /// Empty when `from` is outside of the log.
    pub(crate) fn entries(&self, from: Index, bytes_max: u64, count_max: usize) -> Vec<Entry> {
        if from < self.first() || from > self.last() {
            return Vec::new();
        }
        let lens = self.lens.range((from - self.first()) as usize..);
        let mut bytes = 0;
        let fits = |len: &&u32| {
            let alone = bytes == 0;
            bytes += u64::from(**len);
            alone || bytes <= bytes_max
        };
        let count = lens.clone().take(count_max).take_while(fits).count();
        let mut entries = Vec::with_capacity(count);
        let mut run = self.runs.partition_point(|run| run.first <= from);
        for (index, len) in (from..).zip(lens.take(count)) {
            while self.runs.get(run).is_some_and(|next| next.first <= index) {
                run += 1;
            }
            entries.push(Entry { term: self.runs[run - 1].term, index, len: *len, kind: self.kind_at(index) });
        }
        entries
    }

    /// Payload bytes of the entries after `after` up to and with `to`.
    pub(crate) fn bytes(&self, after: Index, to: Index) -> u64 {
        let place = |index: Index| (index.saturating_sub(self.base) as usize).min(self.lens.len());
        let (from, to) = (place(after), place(to));
        self.lens.range(from..to.max(from)).map(|len| u64::from(*len)).sum()
    }

    /// The highest index at or below `index` whose term is not above `term`: where another log that has `term` at
    /// `index` can agree with this one at best. Never below the base, unless `index` itself is.
    pub(crate) fn agree_at_most(&self, index: Index, term: Term) -> Index {
        let index = index.min(self.last());
        let runs = self.runs.partition_point(|run| run.first <= index);
        for at in (0..runs).rev() {
            if self.runs[at].term <= term {
                return self.runs.get(at + 1).map_or(index, |next| index.min(next.first - 1));
            }
        }
        index.min(self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeId, timing::Rng};

    /// The slow twin: a plain list of entries.
    struct Twin {
        base: Entry,
        entries: Vec<Entry>,
        membership: Membership,
    }

    impl Twin {
        fn term_at(&self, index: Index) -> Option<Term> {
            std::iter::once(&self.base).chain(&self.entries).find(|entry| entry.index == index).map(|entry| entry.term)
        }

        fn membership_at(&self, index: Index) -> &Membership {
            let found =
                self.entries.iter().rev().filter(|entry| entry.index <= index).find_map(|entry| match &entry.kind {
                    EntryKind::Membership(membership) => Some(&**membership),
                    _ => None,
                });
            found.unwrap_or(&self.membership)
        }
    }

    fn some_kind(rng: &mut Rng) -> EntryKind {
        match rng.below(8) {
            0 => EntryKind::Noop,
            1 => EntryKind::Membership(Box::new(Membership::of([NodeId(rng.below(9))]).unwrap())),
            _ => EntryKind::Data,
        }
    }

    fn compare(log: &Log, twin: &Twin, rng: &mut Rng) {
        let last = twin.entries.last().unwrap_or(&twin.base);
        assert_eq!((log.base(), log.last(), log.last_term()), (twin.base.index, last.index, last.term));
        for index in twin.base.index.saturating_sub(2)..last.index + 3 {
            assert_eq!(log.term_at(index), twin.term_at(index), "{index}");
        }
        assert_eq!(log.entries(log.first(), u64::MAX, usize::MAX), twin.entries);
        let at = twin.base.index + rng.below(12);
        assert_eq!(log.membership_at(at).1, twin.membership_at(at));
        let term = rng.below(last.term + 2);
        let slow = (twin.base.index..=at.min(last.index)).rev().find(|i| twin.term_at(*i).unwrap() <= term);
        assert_eq!(log.agree_at_most(at, term), slow.unwrap_or(twin.base.index));
        let bytes =
            twin.entries.iter().filter(|e| e.index > at && e.index <= at + 5).map(|e| u64::from(e.len)).sum::<u64>();
        assert_eq!(log.bytes(at, at + 5), bytes);
    }

    #[test]
    fn the_log_agrees_with_a_plain_list() {
        let mut rng = Rng::new(5);
        for _ in 0..300 {
            let base = Entry { term: 2, index: rng.below(5), len: 0, kind: EntryKind::Data };
            let mut log = Log::new(base.index, 2, Membership::default());
            let mut twin = Twin { base, entries: Vec::new(), membership: Membership::default() };
            for _ in 0..60 {
                let last = twin.entries.last().unwrap_or(&twin.base).clone();
                match rng.below(10) {
                    0 if !twin.entries.is_empty() => {
                        let from = twin.base.index + 1 + rng.below(twin.entries.len() as u64);
                        log.truncate(from);
                        twin.entries.retain(|entry| entry.index < from);
                    }
                    1 if !twin.entries.is_empty() => {
                        let to = twin.base.index + 1 + rng.below(twin.entries.len() as u64);
                        log.compact(to);
                        twin.membership = twin.membership_at(to).clone();
                        twin.base = twin.entries.iter().find(|entry| entry.index == to).unwrap().clone();
                        twin.entries.retain(|entry| entry.index > to);
                    }
                    _ => {
                        let (term, len) = (last.term + rng.below(5) / 4, rng.below(50) as u32);
                        let kind = some_kind(&mut rng);
                        let index = log.append(term, len, kind.clone());
                        twin.entries.push(Entry { term, index, len, kind });
                    }
                }
                compare(&log, &twin, &mut rng);
            }
        }
    }

    #[test]
    fn entries_stop_at_the_limits_but_never_before_the_first() {
        let mut log = Log::new(0, 0, Membership::default());
        for len in [100, 10, 10, 10] {
            log.append(1, len, EntryKind::Data);
        }
        let count = |from, bytes, max| log.entries(from, bytes, max).len();
        assert_eq!(count(1, 50, 9), 1);
        assert_eq!(count(2, 20, 9), 2);
        assert_eq!(count(2, u64::MAX, 1), 1);
        assert_eq!(count(5, u64::MAX, 9), 0);
        assert_eq!(count(0, u64::MAX, 9), 0);
        assert_eq!(count(u64::MAX, u64::MAX, 9), 0);
    }
}
