//! Message ids seen within the duplicate window (`Nats-Msg-Id`), the same on every replica.
//!
//! Applied state only: it changes with committed batches and forgets by their time, never by a clock. What is still in
//! flight is the leader's business. An id is kept as a 128-bit hash: see [`super::siphash`].

use std::collections::{BTreeMap, VecDeque};

use crate::ids::Seq;
use crate::limits::MESSAGE_IDS_MAX;

/// One remembered id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: u128,
    pub(super) seq: Seq,
    pub(super) time_ns: i64,
}

/// `by_id` answers, `by_time` forgets. An id that was stored again after its window has two places in `by_time`; the
/// older one must not take the newer one's entry away, hence the comparison of sequences.
#[derive(Debug)]
pub(super) struct Dedup {
    by_id: BTreeMap<u128, (Seq, i64)>,
    by_time: VecDeque<Seen>,
    ids_max: usize,
}

impl Default for Dedup {
    fn default() -> Dedup {
        Dedup { by_id: BTreeMap::new(), by_time: VecDeque::new(), ids_max: MESSAGE_IDS_MAX }
    }
}

impl Dedup {
    /// The sequence stored under `id`, if that was less than `window_ns` before `now_ns`.
    pub(super) fn find(&self, id: u128, now_ns: i64, window_ns: i64) -> Option<Seq> {
        self.by_id.get(&id).filter(|(_, time)| now_ns.saturating_sub(*time) < window_ns).map(|(seq, _)| *seq)
    }

    pub(super) fn insert(&mut self, seen: Seen) {
        self.by_id.insert(seen.id, (seen.seq, seen.time_ns));
        self.by_time.push_back(seen);
        if self.by_time.len() > self.ids_max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.by_time.pop_front() else { return };
        if self.by_id.get(&oldest.id).is_some_and(|(seq, _)| *seq == oldest.seq) {
            self.by_id.remove(&oldest.id);
        }
    }

    /// Forgets what is older than the window at `now_ns`, the time of the batch being applied.
    pub(super) fn expire(&mut self, now_ns: i64, window_ns: i64) {
        while let Some(oldest) = self.by_time.front().copied() {
            if now_ns.saturating_sub(oldest.time_ns) < window_ns {
                break;
            }
            self.forget_oldest();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Everything remembered, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Seen> {
        self.by_time.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_known_until_its_window_ends() {
        let mut dedup = Dedup::default();
        dedup.insert(Seen { id: 1, seq: 10, time_ns: 100 });
        assert_eq!(dedup.find(1, 149, 50), Some(10));
        assert_eq!(dedup.find(1, 150, 50), None);
        dedup.expire(149, 50);
        assert_eq!(dedup.len(), 1);
        dedup.expire(150, 50);
        assert_eq!(dedup.len(), 0);
    }

    #[test]
    fn beyond_the_bound_the_oldest_is_forgotten() {
        let mut dedup = Dedup { ids_max: 2, ..Dedup::default() };
        for (id, seq) in [(1, 10), (2, 20), (1, 30), (3, 40)] {
            dedup.insert(Seen { id, seq, time_ns: 100 });
        }
        assert_eq!([1, 2, 3].map(|id| dedup.find(id, 100, 50)), [Some(30), None, Some(40)]);
        assert_eq!(dedup.len(), 2);
    }

    #[test]
    fn forgetting_an_old_use_keeps_the_newer_one() {
        let mut dedup = Dedup::default();
        dedup.insert(Seen { id: 1, seq: 10, time_ns: 100 });
        dedup.insert(Seen { id: 1, seq: 20, time_ns: 160 });
        dedup.expire(170, 50);
        assert_eq!(dedup.find(1, 170, 50), Some(20));
    }
}
