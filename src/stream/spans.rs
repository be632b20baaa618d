//! Which log entry holds which sequences, in order: 32 bytes per entry that has a living message.
//!
//! Sequences and indexes rise together, times never fall: every question is a binary search. Entries without a living
//! message are swept out when they are the majority, or with the front.

use std::collections::VecDeque;

use crate::ids::Seq;

/// One batch of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) base_seq: Seq,
    pub(super) index: u64,
    pub(super) time_ns: i64,
    pub(super) body_len: u32,
    pub(super) count: u16,
    pub(super) live: u16,
}

impl Span {
    /// One past its last sequence.
    pub(super) fn end(&self) -> Seq {
        self.base_seq + u64::from(self.count)
    }
}

/// Below this many dead entries sweeping is not worth its walk.
const SWEEP_MIN: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Spans {
    all: VecDeque<Span>,
    dead: usize,
}

impl Spans {
    pub(super) fn push(&mut self, span: Span) {
        assert!(self.all.back().is_none_or(|last| last.end() <= span.base_seq && last.index < span.index));
        self.all.push_back(span);
    }

    /// The entry that holds `seq`.
    pub(super) fn find(&self, seq: Seq) -> Option<&Span> {
        self.all.get(self.position(seq)?)
    }

    /// Counts one message of its entry as removed and returns the entry as it then is.
    pub(super) fn kill(&mut self, seq: Seq) -> Option<Span> {
        let at = self.position(seq)?;
        let span = self.all.get_mut(at)?;
        span.live -= 1;
        let span = *span;
        if span.live == 0 {
            self.dead += 1;
            if self.dead >= SWEEP_MIN && self.dead * 2 > self.all.len() {
                self.all.retain(|span| span.live > 0);
                self.dead = 0;
            }
        }
        Some(span)
    }

    /// Drops entries that end at or below `first_seq`.
    pub(super) fn trim(&mut self, first_seq: Seq) {
        while let Some(span) = self.all.front().filter(|span| span.end() <= first_seq || span.live == 0) {
            self.dead -= usize::from(span.live == 0);
            self.all.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.dead = 0;
    }

    /// First sequence of the first entry that is not older than `ns`.
    pub(super) fn seq_at_time(&self, ns: i64) -> Option<Seq> {
        let at = self.all.partition_point(|span| span.time_ns < ns);
        self.all.get(at).map(|span| span.base_seq)
    }

    /// Entries with something living, by index.
    pub(super) fn live(&self) -> impl DoubleEndedIterator<Item = &Span> {
        self.all.iter().filter(|span| span.live > 0)
    }

    fn position(&self, seq: Seq) -> Option<usize> {
        let at = self.all.partition_point(|span| span.end() <= seq);
        self.all.get(at).filter(|span| span.base_seq <= seq).map(|_| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(count: u64) -> Spans {
        let mut spans = Spans::default();
        for at in 0..count {
            let (base_seq, index, time_ns) = (1 + at * 3, 10 + at * 2, 100 * at as i64);
            spans.push(Span { base_seq, index, time_ns, body_len: 100, count: 2, live: 2 });
        }
        spans
    }

    #[test]
    fn a_sequence_is_found_in_its_entry_and_gaps_are_not() {
        let spans = spans(100);
        assert_eq!(spans.find(1).map(|span| span.index), Some(10));
        assert_eq!(spans.find(3), None);
        assert_eq!(spans.find(5).map(|span| span.index), Some(12));
        assert_eq!(spans.find(299).map(|span| span.index), Some(208));
        assert_eq!(spans.find(300), None);
    }

    #[test]
    fn dead_entries_are_swept_and_do_not_pile_up() {
        let mut spans = spans(1000);
        for at in 1..999 {
            spans.kill(1 + at * 3);
            spans.kill(2 + at * 3);
        }
        assert_eq!(spans.live().count(), 2);
        assert!(spans.all.len() < 200);
        spans.trim(4);
        assert_eq!(spans.live().next().map(|span| span.base_seq), Some(1 + 999 * 3));
    }

    #[test]
    fn time_finds_the_first_entry_that_is_not_older() {
        let spans = spans(10);
        assert_eq!(spans.seq_at_time(i64::MIN), Some(1));
        assert_eq!(spans.seq_at_time(101), Some(7));
        assert_eq!(spans.seq_at_time(901), None);
    }
}
