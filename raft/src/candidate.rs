//! Elections: when to start one, whom to vote for, and when it is won.
//!
//! A candidate asks first whether it would win (pre-vote), so that a replica that only lost its link does not depose a
//! working leader when it returns. Only a hand-over skips the question: there the leader itself asked.

use crate::anew::Grant;
use crate::quorum::{self, Tally};
use crate::{Body, Index, NUMBER_MAX, Node, NodeId, Now, Role, Term};

impl Node {
    /// Starts an election now, pre-vote included. Nothing happens on a replica that leads or may not.
    pub fn campaign(&mut self, now: Now) {
        self.stir(now);
        if self.role != Role::Leader && (self.may_campaign() || self.may_begin_anew()) {
            self.ask_pre_votes(now);
        }
    }

    /// Whether this replica may ask for votes, and give its own.
    pub(crate) fn may_campaign(&self) -> bool {
        let voter = self.membership.is_voter(self.options.id) || self.is_leaving_voter();
        voter && self.may_vote() && self.hard.term < NUMBER_MAX
    }

    /// Whether the newest membership, not known to be committed, takes this replica's vote away. It may still be needed
    /// then: when its log is the longest among those who decided before, only it can bring the change to its end (Raft
    /// thesis, 4.2.2). Its own vote does not count.
    pub(crate) fn is_leaving_voter(&self) -> bool {
        let (at, id) = (self.membership_index, self.options.id);
        at > self.commit && at > self.log.base() && self.log.membership_at(at - 1).1.is_voter(id)
    }

    fn may_vote(&self) -> bool {
        !self.fenced && self.amnesia.is_none()
    }

    /// One that has forgotten marks what it grants: see `anew`.
    fn may_grant(&self, stamp: u64) -> bool {
        self.may_vote() || self.may_begin_anew() && stamp == self.anew_stamp()
    }

    /// Whether nobody else belongs to the group.
    pub(crate) fn is_alone(&self) -> bool {
        self.membership.members() == [self.options.id]
    }

    /// A single voter need not ask anyone, nor wait.
    pub(crate) fn lead_alone(&mut self, now: Now) {
        let own = |id| id == self.options.id;
        if self.role != Role::Leader && self.may_campaign() && quorum::is_quorum(&self.membership, own) {
            self.ask_votes(now, false);
        }
    }

    /// No leader was heard, or no election decided, for too long.
    pub(crate) fn on_election_time(&mut self, now: Now) {
        if self.may_campaign() {
            return self.ask_pre_votes(now);
        }
        self.timing.await_leader(&self.options, now);
        self.leader = None;
        self.show_role();
        for id in self.everybody() {
            if id != self.options.id {
                self.seek(id);
            }
        }
        // A leader answers the one question, those who have none the other.
        if self.may_begin_anew() {
            self.ask_pre_votes(now);
        }
    }

    fn ask_pre_votes(&mut self, now: Now) {
        self.stand(now, Role::PreCandidate);
        self.show_role();
        if self.tally() == Tally::Won {
            return self.ask_votes(now, false);
        }
        self.ask_near(false);
    }

    fn ask_votes(&mut self, now: Now, transfer: bool) {
        self.hard.term = (self.hard.term + self.term_step()).min(NUMBER_MAX);
        self.hard.vote = Some(self.options.id);
        self.gate.mark_hard();
        self.verified = self.commit;
        self.stand(now, Role::Candidate);
        if self.tally() == Tally::Won {
            return self.become_leader(now);
        }
        self.show_role();
        self.ask_near(transfer);
    }

    fn stand(&mut self, now: Now, role: Role) {
        (self.role, self.leader) = (role, None);
        (self.votes, self.asked_all) = (Vec::new(), false);
        self.votes.push((self.options.id, Grant::new(true, self.amnesia)));
        self.timing.await_leader(&self.options, now);
    }

    fn ask_near(&mut self, transfer: bool) {
        self.near().into_iter().for_each(|id| self.ask(id, transfer));
        self.ask_the_rest();
    }

    /// Asks for the vote that this candidate's role is after.
    pub(crate) fn ask(&mut self, to: NodeId, transfer: bool) {
        let (last_index, last_term, stamp) = (self.log.last(), self.log.last_term(), self.anew_stamp());
        match self.role {
            _ if to == self.options.id => {}
            Role::PreCandidate => self.send_of(self.hard.term + 1, to, Body::PreVote { last_index, last_term, stamp }),
            _ => self.send(to, Body::Vote { last_index, last_term, transfer, stamp }),
        }
    }

    pub(crate) fn on_pre_vote(&mut self, from: NodeId, term: Term, last: (Term, Index), stamp: u64) {
        let granted = term > self.hard.term && self.may_grant(stamp) && self.is_fresh(last);
        let answer = if granted { term } else { self.hard.term };
        self.send_of(answer, from, Body::PreVoteReply { granted, amnesia: self.amnesia });
    }

    pub(crate) fn on_vote(&mut self, now: Now, from: NodeId, last: (Term, Index), stamp: u64) {
        let free = self.hard.vote.is_none() && self.leader.is_none() || self.hard.vote == Some(from);
        let granted = free && self.may_grant(stamp) && self.is_fresh(last);
        if granted && self.hard.vote.is_none() {
            self.hard.vote = Some(from);
            self.gate.mark_hard();
        }
        if granted {
            self.timing.await_leader(&self.options, now);
        }
        self.send(from, Body::VoteReply { granted, amnesia: self.amnesia });
    }

    /// Whether a log with this end has everything that can be committed as far as this replica knows (Raft, 5.4.1).
    fn is_fresh(&self, last: (Term, Index)) -> bool {
        last >= (self.log.last_term(), self.log.last())
    }

    pub(crate) fn on_pre_vote_reply(&mut self, now: Now, from: NodeId, term: Term, grant: Grant) {
        // A granted answer speaks of the term asked for; anything else about a higher term came from an older question.
        if self.role == Role::PreCandidate && (grant == Grant::Refused || term == self.hard.term + 1) {
            self.note_vote(from, grant);
            match self.tally() {
                Tally::Won => self.ask_votes(now, false),
                Tally::Lost => self.become_follower(now, self.hard.term, None),
                Tally::Open => self.ask_the_rest(),
            }
        }
    }

    pub(crate) fn on_vote_reply(&mut self, now: Now, from: NodeId, grant: Grant) {
        if self.role == Role::Candidate {
            self.note_vote(from, grant);
            match self.tally() {
                Tally::Won => self.become_leader(now),
                Tally::Lost => self.become_follower(now, self.hard.term, None),
                Tally::Open => self.ask_the_rest(),
            }
        }
    }

    /// The first answer of each counts.
    fn note_vote(&mut self, from: NodeId, grant: Grant) {
        if self.votes.iter().all(|(id, _)| *id != from) && self.counts_vote(from) {
            self.votes.push((from, grant));
        }
    }

    /// The leader hands over to this replica.
    pub(crate) fn on_timeout_now(&mut self, now: Now) {
        if self.may_campaign() {
            self.ask_votes(now, true);
        }
    }

    /// A damaged replica neither votes nor leads until it is healed. A leader hands over to its best follower first.
    pub fn fence(&mut self, damaged: bool) {
        let now = self.timing.seen;
        self.stir(now);
        self.fenced = damaged;
        match self.role {
            Role::Leader if damaged => self.hand_over(now),
            Role::Candidate | Role::PreCandidate if damaged => self.become_follower(now, self.hard.term, None),
            _ => self.lead_alone(now),
        }
    }
}
