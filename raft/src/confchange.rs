//! Changing the members: into a joint configuration, in which both majorities decide, and out of it again.
//!
//! ```text
//!   {1 2 3} ──propose {1 4 5}──► {1 4 5, outgoing 1 2 3} ──committed──► {1 4 5} ──committed──► 2 and 3 are let go
//! ```
//!
//! A membership is in use from the moment its entry is in the log, on every replica, and out of use again if that entry
//! is cut off. One change at a time, and the first only after the leader has committed an entry of its own term. Learners
//! alone change in one step, because they decide nothing.

use crate::{
    Body, EntryKind, Index, Membership, MembershipChange, MembershipError, NUMBER_MAX, Node, NodeId, Now, Output,
    ProposeError, Role, quorum,
};

impl Node {
    /// Proposes that the group ends up with these voters and learners. The index is that of the first step; it is done
    /// when a membership without outgoing voters is committed. Whoever adds a voter with an empty log waits for it in
    /// every commit: make it a learner first.
    pub fn propose_membership(&mut self, now: Now, to: MembershipChange) -> Result<Index, ProposeError> {
        self.check_proposal()?;
        if self.membership.is_joint() || self.membership_index > self.commit {
            return Err(ProposeError::MembershipPending);
        }
        if self.commit < self.lead.term_start {
            return Err(ProposeError::TermUncommitted);
        }
        let next = self.toward(to).map_err(ProposeError::Membership)?;
        if next == self.membership {
            return Err(ProposeError::Unchanged);
        }
        quorum::check_rule(&next, &self.options.commit_rule).map_err(ProposeError::Span)?;
        self.stir(now);
        Ok(self.append_membership(next))
    }

    /// The next step toward the target.
    fn toward(&self, to: MembershipChange) -> Result<Membership, MembershipError> {
        let settled = Membership::new(to.voters, Vec::new(), to.learners)?;
        if settled.voters == self.membership.voters {
            return Ok(settled);
        }
        let outgoing = self.membership.voters.clone();
        Ok(Membership { outgoing, ..settled })
    }

    pub(crate) fn append_membership(&mut self, membership: Membership) -> Index {
        let len = u32::try_from(membership.encoded_len()).expect("a membership is short");
        let index = self.append_own(len, EntryKind::Membership(Box::new(membership)));
        self.adopt_membership();
        index
    }

    /// Takes the newest membership of the log into use.
    pub(crate) fn adopt_membership(&mut self) {
        let (index, membership) = self.log.membership_at(self.log.last());
        let changed = *membership != self.membership;
        self.membership_index = index;
        if changed {
            self.membership = membership.clone();
            self.output(Output::MembershipChanged(self.membership.clone()));
        }
        if self.role == Role::Leader {
            self.sync_peers(self.timing.seen);
        }
    }

    /// The leader's commit moved: a change of members may have its next step.
    pub(crate) fn on_committed(&mut self) {
        if self.membership_index > self.commit {
            return;
        }
        if self.membership.is_joint() {
            let settled = Membership { outgoing: Vec::new(), ..self.membership.clone() };
            self.append_membership(settled);
            return self.advance_commit();
        }
        self.release_departed();
        if !self.membership.is_voter(self.options.id) {
            self.hand_over(self.timing.seen);
        }
    }

    /// Asks another replica, member or not, whether this one still belongs to the group. Only a leader answers.
    pub fn seek(&mut self, to: NodeId) {
        if self.question == 0 {
            self.question = self.timing.nonce();
        }
        self.send(to, Body::Seek { question: self.question });
    }

    /// A leader says that this replica is no member. An answer that comes after a leader has spoken to it as to a member is
    /// an old one: the question is void then (`follow`).
    pub(crate) fn on_removed(&mut self, index: Index, question: u64) {
        if question == self.question && question != 0 && index <= NUMBER_MAX {
            self.removed_at = self.removed_at.max(index);
        }
    }

    /// Whether the group goes on without this replica, by a leader's word: its newest membership is committed, does not
    /// name this replica, and the log here has no newer one. Then nobody counts on its log or its vote any more, and its
    /// caller may drop it. (It may be a member again later: as one that has forgotten.)
    ///
    /// The log here says less: one that joins, and is being taught the past, sees committed memberships without itself too.
    pub fn is_removed(&self) -> bool {
        self.role != Role::Leader && self.removed_at > 0 && self.removed_at >= self.membership_index
    }

    /// Whether the newest membership that is committed here does not name this replica: a reason to ask.
    pub fn looks_removed(&self) -> bool {
        let known = !self.membership.is_empty() && self.membership_index <= self.commit;
        known && !self.membership.contains(self.options.id)
    }

    /// Peers that are no members any more hear of the commit once, so that they know it, and nothing after that.
    fn release_departed(&mut self) {
        let departed = |node: &Node| node.lead.peers.iter().position(|(id, _)| !node.membership.contains(*id));
        while let Some(at) = departed(self) {
            self.send_farewell(at);
            let (id, _): (NodeId, _) = self.lead.peers.remove(at);
            if self.lead.transfer.is_some_and(|transfer| transfer.to == id) {
                self.lead.transfer = None;
            }
        }
    }
}
