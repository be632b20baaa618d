//! Where delivery of new messages stands, on the leader.
//!
//! The replicated state says only up to where messages were sent. From there the cursor finds the next one by asking
//! the stream; it may be ahead of the state over messages that do not match or are gone, and nobody needs to agree on
//! that. "Last per subject" walks a list first, which a new leader makes again from what is in the stream then: a message
//! that has meanwhile been followed by a newer one of its subject is left out, and the newer one comes later.

use std::collections::VecDeque;

use crate::ids::Seq;

use super::config::{ConsumerConfig, DeliverPolicy};
use super::source::Source;
use super::state::State;
use crate::stream::Filters;

/// Where a new consumer starts: the first sequence, and where the last-per-subject phase ends (0 without one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    pub next: Seq,
    pub resume: Seq,
}

impl Start {
    /// Chooses by the deliver policy and what is in the stream now.
    pub fn choose<S: Source>(config: &ConsumerConfig, source: &S, filters: &Filters) -> Start {
        let (first, last) = (source.first_seq().max(1), source.last_seq());
        let past = last + 1;
        let plain = |next: Seq| Start { next, resume: 0 };
        match config.deliver_policy {
            DeliverPolicy::All => plain(first),
            DeliverPolicy::New => plain(past),
            // Without a filter the last sequence counts, be its message there or not (peer behaviour).
            DeliverPolicy::Last if config.filters().is_empty() => plain(last.max(first)),
            DeliverPolicy::Last => plain(source.last_match(filters).unwrap_or(first).max(first)),
            DeliverPolicy::ByStartSequence => plain(config.opt_start_seq.max(first)),
            DeliverPolicy::ByStartTime => {
                let time = config.opt_start_time.map_or(0, |time| time.as_nanosecond());
                let time_ns = time.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
                let at = source.seq_at_time(time_ns).clamp(first, past.max(first));
                // Up to the first match of all, should that come later (peer behaviour; it shows in the floors only).
                let later = source.next_match(first, filters).filter(|seq| *seq > at && *seq < last);
                plain(later.unwrap_or(at))
            }
            DeliverPolicy::LastPerSubject => {
                let next = source.last_per_subject(filters).first().copied().unwrap_or(last);
                Start { next: next.max(first), resume: past }
            }
        }
    }
}

/// The way through the stream.
#[derive(Debug, Default)]
pub struct Cursor {
    /// Nothing below was left out, apart from `list`.
    next: Seq,
    /// What is left of the last-per-subject phase, ascending, all below `next`.
    list: VecDeque<Seq>,
}

impl Cursor {
    /// A cursor that goes on where `state` stands.
    pub fn resume<S: Source>(state: &State, source: &S, filters: &Filters) -> Cursor {
        let next = state.next();
        if state.resume <= next {
            return Cursor { next, list: VecDeque::new() };
        }
        let within = |seq: &Seq| *seq >= next && *seq < state.resume;
        let list = source.last_per_subject(filters).into_iter().filter(within).collect();
        Cursor { next: state.resume, list }
    }

    /// The next message to deliver for the first time. Asking again gives the same until [`Cursor::advance`].
    pub fn peek<S: Source>(&mut self, source: &S, filters: &Filters) -> Option<Seq> {
        while let Some(seq) = self.list.front().copied() {
            if source.contains(seq) {
                return Some(seq);
            }
            self.list.pop_front();
        }
        let found = source.next_match(self.next, filters);
        self.next = found.unwrap_or_else(|| self.next.max(source.last_seq().saturating_add(1)));
        found
    }

    /// The message that was peeked is delivered.
    pub fn advance(&mut self, seq: Seq) {
        if self.list.front() == Some(&seq) {
            self.list.pop_front();
        } else {
            self.next = self.next.max(seq.saturating_add(1));
        }
    }

    /// Everything below `first` is gone.
    pub fn trim(&mut self, first: Seq) {
        while self.list.front().is_some_and(|seq| *seq < first) {
            self.list.pop_front();
        }
        self.next = self.next.max(first);
    }

    /// Messages that are still to be delivered for the first time.
    pub fn remaining<S: Source>(&self, source: &S, filters: &Filters) -> u64 {
        self.list.len() as u64 + source.count_from(self.next, filters)
    }
}
