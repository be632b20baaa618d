//! Messages for groups that are not open here yet.
//!
//! Servers learn of a new group from the meta log one after the other; the first one to open it campaigns at once, and
//! without this its vote requests would meet nobody and cost the group an election timeout at birth.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ids::{GroupId, ServerId};
use crate::limits::{EARLY_BYTES_MAX, EARLY_MESSAGES_MAX, EARLY_US};

#[derive(Debug)]
pub struct EarlyMessage {
    at_us: u64,
    pub from: ServerId,
    group: GroupId,
    pub message: raft::Message,
    pub bodies: Vec<Bytes>,
}

impl EarlyMessage {
    fn bytes(&self) -> usize {
        self.bodies.iter().map(Bytes::len).sum()
    }
}

#[derive(Debug, Default)]
pub struct Early {
    kept: VecDeque<EarlyMessage>,
    bytes: usize,
}

impl Early {
    /// Keeps a message for a moment; the oldest go when there are too many (raft sends again).
    pub fn keep(&mut self, now_us: u64, from: ServerId, group: GroupId, message: raft::Message, bodies: Vec<Bytes>) {
        let new = EarlyMessage { at_us: now_us, from, group, message, bodies };
        self.bytes += new.bytes();
        self.kept.push_back(new);
        while self.kept.front().is_some_and(|old| old.at_us + EARLY_US < now_us || self.is_too_full()) {
            self.bytes -= self.kept.pop_front().map_or(0, |old| old.bytes());
        }
    }

    fn is_too_full(&self) -> bool {
        self.kept.len() > EARLY_MESSAGES_MAX || self.bytes > EARLY_BYTES_MAX
    }

    /// What was kept for a group, in the order in which it came.
    pub fn take(&mut self, now_us: u64, group: GroupId) -> Vec<EarlyMessage> {
        if !self.kept.iter().any(|kept| kept.group == group) {
            return Vec::new();
        }
        let (taken, left): (Vec<_>, Vec<_>) = self.kept.drain(..).partition(|kept| kept.group == group);
        self.kept = left.into();
        self.bytes -= taken.iter().map(EarlyMessage::bytes).sum::<usize>();
        taken.into_iter().filter(|kept| kept.at_us + EARLY_US >= now_us).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(term: u64) -> raft::Message {
        let body = raft::Body::TimeoutNow;
        raft::Message { from: raft::NodeId(1), to: raft::NodeId(2), epoch: 1, term, body }
    }

    fn terms(kept: &[EarlyMessage]) -> Vec<u64> {
        kept.iter().map(|one| one.message.term).collect()
    }

    #[test]
    fn messages_wait_for_their_group_in_order_and_not_for_ever() {
        let mut early = Early::default();
        early.keep(0, ServerId(1), GroupId(5), message(1), vec![]);
        early.keep(EARLY_US, ServerId(1), GroupId(5), message(2), vec![]);
        early.keep(EARLY_US, ServerId(1), GroupId(6), message(3), vec![]);
        early.keep(EARLY_US, ServerId(1), GroupId(5), message(4), vec![]);
        assert_eq!(terms(&early.take(EARLY_US + 1, GroupId(5))), [2, 4]);
        assert!(early.take(EARLY_US + 1, GroupId(5)).is_empty());
        assert_eq!(terms(&early.take(EARLY_US + 1, GroupId(6))), [3]);
    }

    #[test]
    fn the_number_kept_is_bounded() {
        let mut early = Early::default();
        for term in 0..EARLY_MESSAGES_MAX as u64 + 10 {
            early.keep(0, ServerId(1), GroupId(5), message(term), vec![]);
        }
        let kept = early.take(0, GroupId(5));
        assert_eq!((kept.len(), kept[0].message.term), (EARLY_MESSAGES_MAX, 10));
    }

    #[test]
    fn the_bytes_kept_are_bounded() {
        let mut early = Early::default();
        let body = Bytes::from(vec![0; EARLY_BYTES_MAX / 2]);
        for term in 0..10 {
            early.keep(0, ServerId(1), GroupId(5), message(term), vec![body.clone()]);
        }
        assert_eq!(terms(&early.take(0, GroupId(5))), [8, 9]);
        early.keep(0, ServerId(1), GroupId(5), message(10), vec![body.clone(), body.clone(), body]);
        assert!(early.take(0, GroupId(5)).is_empty() && early.bytes == 0);
    }
}
