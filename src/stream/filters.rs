//! Compiled filter subjects of one reader, with what it has learned of the stream so that asking again is cheap.
//!
//! A filter with wildcards is matched once against each subject text; after that a message is one bit. The count of
//! matching messages from the reader's place on is kept and moved along: new messages are looked at once, removals are
//! read from the stream's journal, and a step of the reader costs what lies between. Only when the journal has
//! forgotten what the reader missed is everything counted again.
//!
//! ```text
//!   counted:   at ├──────── count of matches ────────┤ last
//!   later:        at+k ├─ minus the k stepped over ──┼─ plus the new ones ─┤ last'      minus journaled removals
//! ```
//!
//! One reader uses one value; it may be used with one stream only at a time and notices when that changed.

use std::cell::RefCell;

use bytes::Bytes;
use net::subject;

use super::index::Index;
use super::subjects::{SubjectId, Subjects};
use crate::ids::Seq;

#[derive(Debug, Clone, Default)]
pub struct Filters {
    subjects: Vec<Bytes>,
    literal: bool,
    cache: RefCell<Cache>,
}

/// What a reader knows of a stream.
#[derive(Debug, Clone, Default)]
struct Cache {
    /// Which state of which stream this is about; a restored stream has another one.
    incarnation: Option<(u64, u64)>,
    assigned: u64,
    /// One bit per subject number.
    bits: Vec<u64>,
    counted: Option<Counted>,
}

/// `count` living matches lie in `at..=last`, as of the journal's `position`.
#[derive(Debug, Clone, Copy)]
struct Counted {
    at: Seq,
    last: Seq,
    count: u64,
    position: u64,
}

/// How a reader's filters pick messages of a stream.
pub(super) enum Picks {
    All,
    /// Few enough to ask each: the filters are literal subjects.
    Some(Vec<SubjectId>),
    /// Ask the bits.
    Bits,
}

impl Filters {
    /// Matches what any of the filters matches; an empty list matches everything.
    pub fn new(subjects: impl IntoIterator<Item = Bytes>) -> Filters {
        let subjects: Vec<Bytes> = subjects.into_iter().collect();
        let literal = subjects.iter().all(|one| subject::is_literal(one));
        Filters { subjects, literal, cache: RefCell::default() }
    }

    pub fn all() -> Filters {
        Filters::new([])
    }

    pub fn subjects(&self) -> &[Bytes] {
        &self.subjects
    }

    /// Whether a subject passes.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.is_all() || self.subjects.iter().any(|filter| subject::matches(filter, text))
    }

    fn is_all(&self) -> bool {
        self.subjects.is_empty() || self.subjects.iter().any(|one| one.as_ref() == b">")
    }

    /// How to look for matches in the stream as it is now.
    pub(super) fn picks(&self, index: &Index) -> Picks {
        if self.is_all() {
            return Picks::All;
        }
        if self.literal {
            return Picks::Some(self.subjects.iter().filter_map(|one| index.subjects.find(one)).collect());
        }
        self.learn(index);
        Picks::Bits
    }

    /// The test to use with [`Picks::Bits`]: one bit, borrowed for a whole scan.
    pub(super) fn with_bits<T>(&self, scan: impl FnOnce(&dyn Fn(SubjectId) -> bool) -> T) -> T {
        let cache = self.cache.borrow();
        let bits = &cache.bits;
        scan(&|id| bit(bits, id))
    }

    /// Living matches at or after `from`.
    pub(super) fn count_from(&self, index: &Index, from: Seq) -> u64 {
        let from = from.max(index.first_seq);
        if from > index.last_seq {
            return 0;
        }
        if self.is_all() && (from == index.first_seq || index.is_dense()) {
            let before = if index.is_dense() { from - index.first_seq } else { 0 };
            return index.messages - before;
        }
        if let [one] = self.subjects.as_slice()
            && self.literal
            && index.subjects.find(one).is_none_or(|id| from <= index.subjects.get(id).first)
        {
            return index.subjects.find(one).map_or(0, |id| index.subjects.get(id).count);
        }
        self.learn(index);
        let mut cache = self.cache.borrow_mut();
        let Cache { bits, counted, .. } = &mut *cache;
        let all = self.is_all();
        let matches = |from: Seq, to: Seq| match all {
            true => index.rows.count(from, to),
            false => index.rows.count_where(from, to, |id| bit(bits, id)),
        };
        let current = counted.and_then(|old| old.advanced(index, &matches, |id| all || bit(bits, id)));
        let moved = match current {
            Some(old) => old.moved(from, matches),
            None => {
                let (last, position) = (index.last_seq, index.subjects.journal.end());
                Counted { at: from, last, count: matches(from, last + 1), position }
            }
        };
        *counted = Some(moved);
        moved.count
    }

    /// Brings the bits up to date with the stream's subjects.
    fn learn(&self, index: &Index) {
        let mut cache = self.cache.borrow_mut();
        if cache.incarnation != Some(index.incarnation) {
            *cache = Cache { incarnation: Some(index.incarnation), ..Cache::default() };
        }
        let subjects = &index.subjects;
        if cache.assigned == subjects.assigned() {
            return;
        }
        cache.bits.resize(subjects.slots().len().div_ceil(64), 0);
        match subjects.assigned_since(cache.assigned) {
            Some(new) => new.for_each(|id| self.set_bit(&mut cache.bits, subjects, id)),
            None if self.literal => {
                cache.bits.fill(0);
                let ids = self.subjects.iter().filter_map(|one| subjects.find(one));
                ids.for_each(|id| self.set_bit(&mut cache.bits, subjects, id));
            }
            None => (0..subjects.slots().len() as u32).for_each(|id| self.set_bit(&mut cache.bits, subjects, id)),
        }
        cache.assigned = subjects.assigned();
    }

    fn set_bit(&self, bits: &mut [u64], subjects: &Subjects, id: SubjectId) {
        let mask = 1 << (id % 64);
        let word = &mut bits[id as usize / 64];
        if self.matches(&subjects.get(id).text) { *word |= mask } else { *word &= !mask }
    }
}

impl Counted {
    /// The same count after what happened to the stream since; `None` when that cannot be told.
    fn advanced(
        mut self,
        index: &Index,
        matches: &impl Fn(Seq, Seq) -> u64,
        passes: impl Fn(SubjectId) -> bool,
    ) -> Option<Counted> {
        if self.at < index.first_seq || self.last > index.last_seq {
            return None;
        }
        for (seq, id) in index.subjects.journal.since(self.position)? {
            // What came after `last` was never counted, and what of it lives is counted below.
            self.count -= u64::from((self.at..=self.last).contains(&seq) && passes(id));
        }
        self.count += matches(self.last + 1, index.last_seq + 1);
        self.last = index.last_seq;
        self.position = index.subjects.journal.end();
        Some(self)
    }

    /// The same count from another place on, over whichever way is shorter.
    fn moved(mut self, from: Seq, matches: impl Fn(Seq, Seq) -> u64) -> Counted {
        self.count = if from < self.at {
            self.count + matches(from, self.at)
        } else if from - self.at <= self.last - from {
            self.count - matches(self.at, from)
        } else {
            matches(from, self.last + 1)
        };
        self.at = from;
        self
    }
}

fn bit(bits: &[u64], id: SubjectId) -> bool {
    bits.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
}
