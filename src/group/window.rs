//! The bodies of a group's newest entries, from the moment that raft takes them until they are durable here and
//! committed: what a write that waits for space, and the appends to followers, are made of.
//!
//! Contiguous in index. Its bytes are bounded by what raft lets a leader have uncommitted, and on a follower by the
//! leader's window.

use std::collections::VecDeque;

use bytes::Bytes;

use super::log::Stored;

#[derive(Default)]
pub(super) struct Window {
    /// Index of the front.
    first: u64,
    slots: VecDeque<(u64, Bytes)>,
}

impl Window {
    /// Adds the entry behind the others; those with its index or a higher one go. An entry that does not follow starts
    /// the window anew.
    pub fn push(&mut self, index: u64, term: u64, body: Bytes) {
        self.truncate(index);
        if index != self.first + self.slots.len() as u64 {
            self.slots.clear();
        }
        if self.slots.is_empty() {
            self.first = index;
        }
        self.slots.push_back((term, body));
    }

    pub fn truncate(&mut self, from: u64) {
        self.slots.truncate(from.saturating_sub(self.first) as usize);
    }

    /// Forgets entries up to this index.
    pub fn trim(&mut self, upto: u64) {
        while self.first <= upto && self.slots.pop_front().is_some() {
            self.first += 1;
        }
        if self.slots.is_empty() {
            self.slots.shrink_to(16);
        }
    }

    pub fn get(&self, index: u64) -> Option<Stored> {
        let at = index.checked_sub(self.first)?;
        let (term, body) = self.slots.get(usize::try_from(at).ok()?)?;
        Some(Stored { index, term: *term, body: body.clone() })
    }

    /// Index of the first entry, if there is one.
    #[cfg(test)]
    fn first(&self) -> Option<u64> {
        (!self.slots.is_empty()).then_some(self.first)
    }

    pub fn clear(&mut self) {
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_until_trimmed_cut_or_left_behind() {
        let mut window = Window::default();
        let body = |index: u64| Bytes::copy_from_slice(&index.to_le_bytes());
        for index in 5..10 {
            window.push(index, 1, body(index));
        }
        window.trim(6);
        assert_eq!((window.first(), window.get(6)), (Some(7), None));
        window.push(8, 2, body(80));
        assert_eq!(window.get(8), Some(Stored { index: 8, term: 2, body: body(80) }));
        assert_eq!((window.get(9), window.get(4)), (None, None));
        window.push(20, 3, body(20));
        assert_eq!((window.first(), window.get(8)), (Some(20), None));
        window.trim(100);
        assert_eq!((window.first(), window.get(20)), (None, None));
        window.push(3, 4, body(3));
        assert_eq!(window.get(3).unwrap().term, 4);
    }
}
