//! Following: taking a leader's entries, checking that the logs agree, and answering only for what is durable.

use crate::{Body, Entry, EntryKind, Index, Membership, NUMBER_MAX, Node, NodeId, Now, Output, Role, Term};

impl Node {
    /// Falls back to following, in this term or a higher one.
    pub(crate) fn become_follower(&mut self, now: Now, term: Term, leader: Option<NodeId>) {
        if term > self.hard.term {
            (self.hard.term, self.hard.vote) = (term, None);
            self.gate.mark_hard();
            self.verified = self.commit;
        }
        if self.role == Role::Leader {
            self.verified = self.commit;
            self.lead.clear();
        }
        (self.role, self.leader) = (Role::Follower, leader);
        self.votes.clear();
        self.timing.contact = now;
        self.timing.await_leader(&self.options, now);
        self.show_role();
    }

    /// A leader of the own term speaks. False on a leader: one of the two is not what it says.
    pub(crate) fn follow(&mut self, now: Now, from: NodeId) -> bool {
        if self.role == Role::Leader {
            return false;
        }
        // Whatever was said before about its removal is old news.
        (self.question, self.removed_at) = (0, 0);
        if self.role == Role::Follower && self.leader == Some(from) {
            self.timing.contact = now;
            self.timing.await_leader(&self.options, now);
        } else {
            self.become_follower(now, self.hard.term, Some(from));
        }
        true
    }

    pub(crate) fn on_append(&mut self, from: NodeId, prev: (Index, Term), commit: Index, entries: Vec<Entry>) {
        if !are_sound(prev, &entries, self.hard.term) {
            return;
        }
        if self.log.term_at(prev.0).is_some_and(|term| term != prev.1) && prev.0 <= self.commit {
            return self.output(Output::Diverged { from, index: prev.0 });
        }
        if prev.0 < self.commit {
            let (matched, amnesia) = (self.commit, self.amnesia);
            return self.send_durable(from, Body::AppendReply { matched, commit: self.settled_commit(), amnesia });
        }
        if self.log.term_at(prev.0) != Some(prev.1) {
            return self.reject(from, prev);
        }
        let matched = prev.0 + entries.len() as u64;
        if let Err(index) = self.accept(entries) {
            return self.output(Output::Diverged { from, index });
        }
        self.verified = self.verified.max(matched);
        self.commit = self.commit.max(commit.min(matched));
        let (commit, amnesia) = (self.settled_commit(), self.amnesia);
        self.send_durable(from, Body::AppendReply { matched, commit, amnesia });
    }

    /// Adds what the log does not have yet, cutting off what contradicts it. An error names a committed entry that does.
    fn accept(&mut self, entries: Vec<Entry>) -> Result<(), Index> {
        let held = |entry: &Entry| self.log.term_at(entry.index) == Some(entry.term);
        let Some(new) = entries.iter().position(|entry| !held(entry)) else { return Ok(()) };
        let from = entries[new].index;
        if from <= self.commit {
            return Err(from);
        }
        let mut changes_members = self.membership_index >= from;
        if from <= self.log.last() {
            self.log.truncate(from);
            self.gate.truncate(from);
            // What was known to equal the leader's log lies below: entries of one term and index are the same entry.
        }
        for entry in entries.into_iter().skip(new) {
            changes_members |= matches!(entry.kind, EntryKind::Membership(_));
            self.log.append(entry.term, entry.len, entry.kind);
        }
        self.gate.mark_append();
        if changes_members {
            self.adopt_membership();
        }
        Ok(())
    }

    fn reject(&mut self, to: NodeId, prev: (Index, Term)) {
        let hint_index = self.log.agree_at_most(prev.0, prev.1);
        let hint_term = self.log.term_at(hint_index).unwrap_or(0);
        self.send(to, Body::AppendReject { rejected: prev.0, hint_index, hint_term, amnesia: self.amnesia });
    }

    pub(crate) fn on_heartbeat(&mut self, from: NodeId, commit: Index, round: u64, healed: Option<u64>) {
        self.commit = self.commit.max(commit.min(self.verified));
        if self.amnesia.is_some_and(|amnesia| healed == Some(amnesia.nonce)) {
            self.amnesia = None;
            self.output(Output::Healed);
        }
        let (commit, amnesia) = (self.settled_commit(), self.amnesia);
        self.send(from, Body::HeartbeatReply { commit, round, amnesia });
    }

    /// A leader announces the state as of `index`.
    pub(crate) fn on_snapshot(&mut self, from: NodeId, index: Index, term: Term, membership: Membership) {
        if index > NUMBER_MAX || term > self.hard.term || membership.check().is_err() {
            return;
        }
        if self.wants_snapshot(index, term) {
            return self.output(Output::ReceiveSnapshot { from, index, term, membership });
        }
        // It is all here: committed, or as an entry that equals the leader's.
        self.verified = self.verified.max(index);
        self.commit = self.commit.max(index);
        self.send_durable(from, Body::SnapshotReply { index: self.commit, amnesia: self.amnesia });
    }

    /// What a leader may take as known here: committed, and kept over a crash.
    fn settled_commit(&self) -> Index {
        self.commit.min(self.gate.durable_index())
    }
}

/// Whether the entries follow `prev` without a gap, with terms that ascend up to the leader's own, and members that keep
/// their rules.
fn are_sound(prev: (Index, Term), entries: &[Entry], term: Term) -> bool {
    let last = entries.last().map_or(prev.1, |entry| entry.term);
    let members = |entry: &Entry| match &entry.kind {
        EntryKind::Membership(membership) => membership.check().is_ok(),
        _ => true,
    };
    prev.0 <= NUMBER_MAX
        && last <= term
        && entries.iter().zip(prev.0 + 1..).all(|(entry, index)| entry.index == index && members(entry))
        && entries.first().is_none_or(|entry| entry.term >= prev.1)
        && entries.windows(2).all(|pair| pair[0].term <= pair[1].term)
}
