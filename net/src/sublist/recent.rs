//! The answers to the latest lookups, by subject.
//!
//! ```text
//! slot = hash(subject) % slots      one answer per slot, a newer subject takes the slot over
//! valid while   answer.age.any == ages.any          nobody changed a filter that starts with a wildcard
//!       and     answer.age.first == ages.first[i]   nor one whose first token falls into the same class
//! ```
//!
//! A change costs O(1), whatever is remembered. A wrong answer is impossible; a class shared by two first tokens only
//! costs a lookup in the trie.

use super::Matches;
use crate::subject;
use ahash::RandomState;
use bytes::Bytes;

/// First tokens are sorted into this many classes by hash.
const CLASSES: usize = 256;

/// A longer answer is not remembered: copying it costs as much as finding it, and 1,024 of them would be 100 MB.
const VALUES_MAX: usize = 512;

#[derive(Debug)]
pub struct Recent<T> {
    hasher: RandomState,
    /// Empty until the first lookup, so that an idle list stays small; a power of two afterwards.
    slots: Vec<Option<Box<Answer<T>>>>,
    slots_max: usize,
    ages: Ages,
    hits: u64,
    lookups: u64,
}

#[derive(Debug)]
struct Ages {
    any: u64,
    first: Vec<u64>,
}

#[derive(Debug)]
struct Answer<T> {
    subject: Vec<u8>,
    age_any: u64,
    age_first: u64,
    plain: Vec<T>,
    queues: Vec<(Bytes, Vec<T>)>,
}

impl<T: Copy> Recent<T> {
    pub fn new(hasher: RandomState, subjects_max: usize) -> Self {
        let slots_max = if subjects_max == 0 { 0 } else { subjects_max.next_power_of_two() };
        let ages = Ages { any: 0, first: Vec::new() };
        Recent { hasher, slots: Vec::new(), slots_max, ages, hits: 0, lookups: 0 }
    }

    /// Fills `out` with the remembered answer, if there is one and it is still true.
    pub fn recall(&mut self, subject: &[u8], out: &mut Matches<T>) -> bool {
        self.lookups += 1;
        if self.slots.is_empty() {
            return false;
        }
        let Some(answer) = &self.slots[self.slot(subject)] else { return false };
        if answer.subject != subject
            || answer.age_any != self.ages.any
            || answer.age_first != self.ages.first[self.class(subject)]
        {
            return false;
        }
        out.plain.extend_from_slice(&answer.plain);
        for (queue, members) in &answer.queues {
            out.add_queue(queue, members);
        }
        self.hits += 1;
        true
    }

    /// Remembers an answer, in the place of an older one.
    pub fn keep(&mut self, subject: &[u8], found: &Matches<T>) {
        if self.slots_max == 0 || found.count() > VALUES_MAX {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(self.slots_max, || None);
            self.ages.first.resize(CLASSES, 0);
        }
        let (slot, class) = (self.slot(subject), self.class(subject));
        let answer = self.slots[slot].get_or_insert_with(|| Box::new(Answer::empty()));
        answer.subject.clear();
        answer.subject.extend_from_slice(subject);
        answer.age_any = self.ages.any;
        answer.age_first = self.ages.first[class];
        answer.plain.clear();
        answer.plain.extend_from_slice(&found.plain);
        answer.queues.clear();
        answer.queues.extend(found.queues.iter().map(|(queue, members)| (queue.clone(), members.clone())));
    }

    /// A subscription on `filter` came or went.
    pub fn forget(&mut self, filter: &[u8]) {
        if self.slots.is_empty() {
            return;
        }
        if subject::is_literal(filter) {
            let slot = self.slot(filter);
            if self.slots[slot].as_ref().is_some_and(|answer| answer.subject == filter) {
                self.slots[slot] = None;
            }
            return;
        }
        let first = first_token(filter);
        if first == subject::WILDCARD || first == subject::WILDCARD_REST {
            self.ages.any += 1;
        } else {
            let class = self.class(filter);
            self.ages.first[class] += 1;
        }
    }

    pub fn hits(&self) -> (u64, u64) {
        (self.hits, self.lookups)
    }

    pub fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    fn slot(&self, subject: &[u8]) -> usize {
        self.hasher.hash_one(subject) as usize & (self.slots.len() - 1)
    }

    fn class(&self, subject: &[u8]) -> usize {
        self.hasher.hash_one(first_token(subject)) as usize % CLASSES
    }
}

impl<T> Answer<T> {
    fn empty() -> Self {
        Answer { subject: Vec::new(), age_any: 0, age_first: 0, plain: Vec::new(), queues: Vec::new() }
    }
}

fn first_token(subject: &[u8]) -> &[u8] {
    subject::tokens(subject).next().unwrap_or_default()
}
