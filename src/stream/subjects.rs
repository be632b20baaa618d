//! The subjects of a stream: a number for each, how many messages it has, and where they begin and end.
//!
//! Rows name subjects by number, readers cache which numbers match (see [`super::filters`]). So a number must not
//! change its meaning while somebody may still ask about the old one: a freed number is given out again only when the
//! journal of removals no longer mentions it, and its text stays until then. Which number a subject has is this
//! replica's own affair: nothing replicated depends on it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::ids::Seq;

pub(super) type SubjectId = u32;

/// Removals that readers can catch up with by reading them; beyond it they count afresh. 64 KiB per stream at most.
const JOURNAL_MAX: usize = 4096;
/// Newly given numbers that readers can catch up with one by one; beyond it they match every subject again.
const RECENT_MAX: usize = 1024;

/// What is known of one subject. `first` and `last` mean something while `count` is not 0.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) text: Arc<[u8]>,
    pub(super) count: u64,
    pub(super) first: Seq,
    pub(super) last: Seq,
    /// Newest row ever appended, living or not: where the chain of rows goes on. 0 for none.
    pub(super) tail: Seq,
    /// Messages queued or in the log that are not applied yet, and the newest of them.
    pub(super) pending: u32,
    pub(super) pending_last: Seq,
    /// Journal position after this subject's latest removal.
    journaled: u64,
}

/// Removals from inside the stream, in order; those from its front are not listed.
#[derive(Debug, Default)]
pub(super) struct Journal {
    start: u64,
    ring: VecDeque<(Seq, SubjectId)>,
}

impl Journal {
    pub(super) fn end(&self) -> u64 {
        self.start + self.ring.len() as u64
    }

    /// The removals since a position, unless some of them are forgotten.
    pub(super) fn since(&self, position: u64) -> Option<impl Iterator<Item = (Seq, SubjectId)> + '_> {
        let skip = usize::try_from(position.checked_sub(self.start)?).ok()?;
        Some(self.ring.iter().skip(skip).copied())
    }

    fn push(&mut self, seq: Seq, subject: SubjectId) {
        if self.ring.len() == JOURNAL_MAX {
            self.ring.pop_front();
            self.start += 1;
        }
        self.ring.push_back((seq, subject));
    }

    /// Makes every reader count afresh.
    fn forget(&mut self) {
        self.start = self.end() + 1;
        self.ring.clear();
    }
}

#[derive(Debug)]
pub(super) struct Subjects {
    slots: Vec<Subject>,
    ids: HashMap<Arc<[u8]>, SubjectId, ahash::RandomState>,
    free: Vec<SubjectId>,
    /// Freed, but still mentioned in the journal.
    resting: VecDeque<SubjectId>,
    /// How many numbers were ever given out; the latest of them are in `recent`.
    assigned: u64,
    recent: VecDeque<SubjectId>,
    live: u64,
    pub(super) journal: Journal,
}

impl Subjects {
    /// `seeds` key the hash of the table; nothing that is observable depends on them.
    pub(super) fn new(seeds: (u64, u64)) -> Subjects {
        Subjects {
            slots: Vec::new(),
            ids: HashMap::with_hasher(ahash::RandomState::with_seeds(seeds.0, seeds.1, !seeds.0, !seeds.1)),
            free: Vec::new(),
            resting: VecDeque::new(),
            assigned: 0,
            recent: VecDeque::new(),
            live: 0,
            journal: Journal::default(),
        }
    }

    /// The number of a subject, given now if it has none, with one more message on its way.
    pub(super) fn expect(&mut self, text: &[u8]) -> SubjectId {
        let id = match self.ids.get(text) {
            Some(id) => *id,
            None => self.assign(text),
        };
        self.slots[id as usize].pending += 1;
        id
    }

    /// A message that was on its way is applied or will never be.
    pub(super) fn arrived(&mut self, id: SubjectId) {
        let subject = &mut self.slots[id as usize];
        subject.pending -= 1;
        if subject.pending == 0 {
            subject.pending_last = 0;
            self.free_unused(id);
        }
    }

    /// Counts a stored message; returns the row that its link hangs on, 0 for none.
    pub(super) fn stored(&mut self, id: SubjectId, seq: Seq) -> Seq {
        let subject = &mut self.slots[id as usize];
        if subject.count == 0 {
            subject.first = seq;
            self.live += 1;
        }
        subject.count += 1;
        subject.last = seq;
        std::mem::replace(&mut subject.tail, seq)
    }

    /// Counts a message as removed. The caller mends `first` and `last` when they were it and something is left.
    pub(super) fn removed(&mut self, id: SubjectId, seq: Seq, from_inside: bool) -> &mut Subject {
        if from_inside {
            self.journal.push(seq, id);
        }
        let end = self.journal.end();
        let subject = &mut self.slots[id as usize];
        if from_inside {
            subject.journaled = end;
        }
        subject.count -= 1;
        self.live -= u64::from(subject.count == 0);
        self.free_unused(id);
        &mut self.slots[id as usize]
    }

    /// Removes every message of every subject.
    pub(super) fn clear_counts(&mut self) {
        self.journal.forget();
        self.live = 0;
        for id in 0..self.slots.len() as SubjectId {
            let subject = &mut self.slots[id as usize];
            if std::mem::take(&mut subject.count) > 0 {
                self.free_unused(id);
            }
        }
    }

    pub(super) fn find(&self, text: &[u8]) -> Option<SubjectId> {
        self.ids.get(text).copied()
    }

    pub(super) fn get(&self, id: SubjectId) -> &Subject {
        &self.slots[id as usize]
    }

    pub(super) fn get_mut(&mut self, id: SubjectId) -> &mut Subject {
        &mut self.slots[id as usize]
    }

    /// Subjects that have messages.
    pub(super) fn live_len(&self) -> u64 {
        self.live
    }

    /// Subjects that have messages, in no useful order.
    pub(super) fn live(&self) -> impl Iterator<Item = (SubjectId, &Subject)> {
        let numbered = self.slots.iter().enumerate().map(|(id, subject)| (id as SubjectId, subject));
        numbered.filter(|(_, subject)| subject.count > 0)
    }

    /// Every number that has a text.
    pub(super) fn slots(&self) -> &[Subject] {
        &self.slots
    }

    pub(super) fn assigned(&self) -> u64 {
        self.assigned
    }

    /// The numbers given since `assigned` of them were, unless some are forgotten.
    pub(super) fn assigned_since(&self, assigned: u64) -> Option<impl Iterator<Item = SubjectId> + '_> {
        let new = usize::try_from(self.assigned - assigned).ok()?;
        Some(self.recent.iter().skip(self.recent.len().checked_sub(new)?).copied())
    }

    fn assign(&mut self, text: &[u8]) -> SubjectId {
        self.wake_resting();
        let text: Arc<[u8]> = Arc::from(text);
        let subject = Subject {
            text: text.clone(),
            count: 0,
            first: 0,
            last: 0,
            tail: 0,
            pending: 0,
            pending_last: 0,
            journaled: 0,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = subject;
                id
            }
            None => {
                self.slots.push(subject);
                (self.slots.len() - 1) as SubjectId
            }
        };
        self.ids.insert(text, id);
        self.assigned += 1;
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(id);
        id
    }

    /// Takes the number back when nothing has it any more.
    fn free_unused(&mut self, id: SubjectId) {
        let subject = &self.slots[id as usize];
        if subject.count > 0 || subject.pending > 0 {
            return;
        }
        if self.ids.get(&subject.text) == Some(&id) {
            self.ids.remove(&subject.text);
            if subject.journaled > self.journal.start {
                self.resting.push_back(id);
            } else {
                self.free.push(id);
            }
        }
    }

    /// Numbers whose last mention fell out of the journal can be given out again. At most one rests per mention.
    fn wake_resting(&mut self) {
        while let Some(id) = self.resting.front().copied() {
            if self.slots[id as usize].journaled > self.journal.start {
                break;
            }
            self.resting.pop_front();
            self.free.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_rests_while_the_journal_mentions_it() {
        let mut subjects = Subjects::new((1, 2));
        let old = subjects.expect(b"old");
        subjects.arrived(old);
        let gone = subjects.expect(b"gone");
        subjects.stored(gone, 1);
        subjects.arrived(gone);
        subjects.removed(gone, 1, true);
        let new = subjects.expect(b"new");
        assert_ne!(new, gone);
        for seq in 2..2 + JOURNAL_MAX as u64 {
            subjects.stored(new, seq);
            subjects.removed(new, seq, true);
        }
        subjects.expect(b"other");
        assert!(subjects.slots.len() <= 3);
        assert_eq!(subjects.expect(b"third") as usize, subjects.slots.len() - 1);
    }

    #[test]
    fn front_removals_give_numbers_back_at_once() {
        let mut subjects = Subjects::new((1, 2));
        for seq in 1..100_000u64 {
            let id = subjects.expect(seq.to_string().as_bytes());
            subjects.stored(id, seq);
            subjects.arrived(id);
            if seq > 10 {
                let first = subjects.find((seq - 10).to_string().as_bytes()).unwrap();
                subjects.removed(first, seq - 10, false);
            }
        }
        assert!(subjects.slots.len() < 20);
        assert_eq!(subjects.live_len(), 10);
    }
}
