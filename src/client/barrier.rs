//! When the other cores have heard what this one listens to.
//!
//! A client that subscribes and then sees its PING answered may rely on the subscription, whatever core of this server a
//! publisher is on. So a PONG waits until every other core has confirmed the interest that was told before it; with
//! one core, or nothing new told, it goes out at once.
//!
//! A connection that moves to another core waits for the same ([`super::moving`]).
//!
//! Mail between two cores is in order: a mark that is sent behind the interest and comes back says that it was heard.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{ConnId, CoreId};

#[derive(Debug, Default)]
pub struct Barrier {
    /// Grows with every filter that is told.
    said: u64,
    /// The last mark that was sent.
    asked: u64,
    /// Marks that came back, by core.
    heard: BTreeMap<CoreId, u64>,
    /// Clients whose PING waits for a mark, in the order in which they asked.
    waiting: VecDeque<(u64, ConnId)>,
}

impl Barrier {
    /// Something was told to another core that must be known to have been heard: a filter, mostly.
    pub fn said(&mut self) {
        self.said += 1;
    }

    /// Whether a PING may be answered now; if not, its client is remembered.
    pub fn admits(&mut self, others: usize, conn: ConnId) -> bool {
        let open = self.confirmed(others) >= self.said && self.waiting.is_empty();
        if !open {
            self.waiting.push_back((self.said, conn));
        }
        open
    }

    /// Whether something is kept for that client.
    pub fn awaits(&self, conn: ConnId) -> bool {
        self.waiting.iter().any(|(_, waiting)| *waiting == conn)
    }

    /// The mark to send behind what was told in this turn.
    pub fn ask(&mut self) -> Option<u64> {
        let new = self.said > self.asked;
        self.asked = self.said;
        new.then_some(self.said)
    }

    /// A core sent a mark back; the clients that can be answered now.
    pub fn heard(&mut self, others: usize, core: CoreId, mark: u64) -> Vec<ConnId> {
        let known = self.heard.entry(core).or_default();
        *known = mark.max(*known);
        let confirmed = self.confirmed(others);
        let mut ready = Vec::new();
        while self.waiting.front().is_some_and(|(mark, _)| *mark <= confirmed) {
            ready.extend(self.waiting.pop_front().map(|(_, conn)| conn));
        }
        ready
    }

    /// What all others have heard.
    fn confirmed(&self, others: usize) -> u64 {
        if others == 0 {
            return u64::MAX;
        }
        if self.heard.len() < others { 0 } else { self.heard.values().copied().min().unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_waits_until_every_core_has_heard_what_was_told_before_it() {
        let mut barrier = Barrier::default();
        assert!(barrier.admits(2, ConnId(1)));
        barrier.said();
        assert!(!barrier.admits(2, ConnId(1)));
        assert_eq!(barrier.ask(), Some(1));
        assert_eq!(barrier.ask(), None);
        barrier.said();
        assert!(!barrier.admits(2, ConnId(2)));
        assert!(barrier.heard(2, 1, 1).is_empty());
        assert_eq!(barrier.heard(2, 2, 1), [ConnId(1)]);
        assert_eq!(barrier.ask(), Some(2));
        assert!(barrier.heard(2, 1, 2).is_empty());
        assert_eq!(barrier.heard(2, 2, 2), [ConnId(2)]);
        assert!(barrier.admits(2, ConnId(3)));
    }

    #[test]
    fn a_single_core_waits_for_nobody() {
        let mut barrier = Barrier::default();
        barrier.said();
        assert!(barrier.admits(0, ConnId(1)));
    }
}
