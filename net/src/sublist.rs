//! Who is interested in a subject: a trie of tokens, with the recent answers remembered.
//!
//! ```text
//!          root
//!         ╱    ╲
//!   orders      $JS            a node holds the values of one filter; its children are found in one table for the
//!   ╱  │  ╲                    whole trie, keyed (node, token), and are also linked to each other, so that a node
//!  eu  *   >                   without subscribers costs no map of its own. `*` and `>` are two fixed places.
//! ```
//!
//! Tokens are interned: a token that occurs in a million filters is stored once, and a subject's tokens are hashed
//! once per lookup, however many branches the wildcards open.
//!
//! The answers are remembered by subject in a table of fixed size. A change of a literal filter forgets one subject; of
//! `orders.*`, the subjects that may start with `orders`; of `*.new`, all. Results are the same with and without it,
//! in the same order, which depends on what is in the list and not on the order in which it came.
//!
//! It does not choose a member of a queue group and knows nothing about permissions or connections.

use crate::subject;
use ahash::RandomState;
use bytes::Bytes;
use std::collections::HashMap;

mod recent;
mod trie;

use recent::Recent;
use trie::Trie;

/// Subjects whose answers are remembered, unless said otherwise: the number that nats-server keeps per account.
pub const RECENT_SUBJECTS_MAX: usize = 1024;

/// The answer to one lookup. Kept by the caller and filled again and again, so that a lookup does not allocate.
#[derive(Clone, Debug)]
pub struct Matches<T> {
    /// Subscriptions without a queue group; every one of them gets the message.
    pub plain: Vec<T>,
    /// Queue groups by name, in the order in which the trie meets them, each with its members; one member of each
    /// gets the message. Groups of the same name on different filters are one group.
    pub queues: Vec<(Bytes, Vec<T>)>,
    /// Emptied member lists, for the next groups.
    spare: Vec<Vec<T>>,
}

impl<T> Default for Matches<T> {
    fn default() -> Self {
        Matches { plain: Vec::new(), queues: Vec::new(), spare: Vec::new() }
    }
}

impl<T: Copy> Matches<T> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn clear(&mut self) {
        self.plain.clear();
        for (_, mut members) in self.queues.drain(..) {
            members.clear();
            self.spare.push(members);
        }
    }

    /// Whether nobody is interested.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.queues.is_empty()
    }

    /// How many values there are, queue members included.
    pub fn count(&self) -> usize {
        self.plain.len() + self.queues.iter().map(|(_, members)| members.len()).sum::<usize>()
    }

    fn add_queue(&mut self, queue: &Bytes, values: &[T]) {
        // Few groups share a subject; a walk is cheaper than a map.
        if let Some((_, members)) = self.queues.iter_mut().find(|(name, _)| name == queue) {
            members.extend_from_slice(values);
            return;
        }
        let mut members = self.spare.pop().unwrap_or_default();
        members.extend_from_slice(values);
        self.queues.push((queue.clone(), members));
    }
}

/// Subscriptions by filter. A value stands for one subscription and is in the list once per filter and queue group.
#[derive(Debug)]
pub struct Sublist<T> {
    trie: Trie<T>,
    recent: Recent<T>,
    len: usize,
}

impl<T: Copy + Ord> Sublist<T> {
    /// An empty list. The seed keeps strangers from choosing subjects that collide; results do not depend on it.
    pub fn new(seed: u64) -> Self {
        Self::with_recent(seed, RECENT_SUBJECTS_MAX)
    }

    /// The same, remembering at most about `subjects_max` answers (rounded up to a power of two); 0 remembers none.
    pub fn with_recent(seed: u64, subjects_max: usize) -> Self {
        let hasher = hasher(seed);
        Sublist { trie: Trie::new(hasher.clone()), recent: Recent::new(hasher, subjects_max), len: 0 }
    }

    /// Adds a subscription. False when the filter is not valid or when the same value is there already.
    pub fn insert(&mut self, filter: &[u8], queue: Option<&[u8]>, value: T) -> bool {
        if !subject::is_valid_filter(filter) || !self.trie.insert(filter, queue, value) {
            return false;
        }
        self.recent.forget(filter);
        self.len += 1;
        true
    }

    /// Removes a subscription; false when it was not there.
    pub fn remove(&mut self, filter: &[u8], queue: Option<&[u8]>, value: T) -> bool {
        if !self.trie.remove(filter, queue, value) {
            return false;
        }
        self.recent.forget(filter);
        self.len -= 1;
        true
    }

    /// Everyone whose filter matches the subject; `out` is cleared first. A subject with an empty token reaches
    /// nobody.
    pub fn matches(&mut self, subject: &[u8], out: &mut Matches<T>) {
        out.clear();
        if self.len == 0 || self.recent.recall(subject, out) {
            return;
        }
        self.trie.matches(subject, out);
        self.recent.keep(subject, out);
    }

    /// Whether anyone's filter matches the subject. Does not walk further than the first.
    pub fn has_interest(&mut self, subject: &[u8]) -> bool {
        self.trie.has_interest(subject)
    }

    /// Whether any filter in the list can match a subject that `filter` matches too.
    pub fn reverse_overlap(&self, filter: &[u8]) -> bool {
        self.trie.overlaps(filter)
    }

    /// Subscriptions in the list.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lookups answered from memory and lookups in all, for the monitoring pages.
    pub fn recent_hits(&self) -> (u64, u64) {
        self.recent.hits()
    }

    /// Subjects whose answers are remembered now, outdated ones included.
    pub fn recent_len(&self) -> usize {
        self.recent.len()
    }
}

fn hasher(seed: u64) -> RandomState {
    RandomState::with_seeds(seed, seed.rotate_left(17) ^ 0x5bd1, seed.rotate_left(31) ^ 0x9e37, !seed)
}

/// The map type of this module: its order is never used.
type Table<K, V> = HashMap<K, V, RandomState>;

#[cfg(test)]
mod tests;
