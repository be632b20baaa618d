//! Beginning anew: how a group whose majority has forgotten elects a leader again, where its caller allows it.
//!
//! ```text
//!   a quorum of full grants ────────────────────────────────────────► won, as ever
//!   a grant, full or empty, of everybody who may be a member ───────► won: nobody is left who knows more
//! ```
//!
//! A replica that has forgotten marks its grants *empty*; they count towards no quorum. The same unanimity stands in for a
//! quorum until the others are healed. Never on disk-backed groups, nor while it is unknown who may be a member:
//! docs/RAFT.md says what may be lost, and why no term has two leaders.

use crate::progress::Progress;
use crate::quorum::{self, Tally};
use crate::{Amnesia, Membership, NUMBER_MAX, Node, NodeId, Role, Term};

/// By whose word a group may begin anew. What a replica that has forgotten knows of its group comes from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anew {
    /// The voters that the group shall have, and as learners everybody else who may have had a vote in it.
    pub members: Membership,
    /// Rises with every change that the group may make of its members; never 0. Two who mean different ones grant each
    /// other nothing empty.
    pub stamp: u64,
}

/// A voter's answer to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    Refused,
    Full,
    /// From one that has forgotten.
    Empty(Amnesia),
}

impl Grant {
    pub(crate) fn new(granted: bool, amnesia: Option<Amnesia>) -> Grant {
        match amnesia {
            _ if !granted => Grant::Refused,
            None => Grant::Full,
            Some(what) => Grant::Empty(what),
        }
    }
}

impl Node {
    /// By whose word the group may begin anew when a majority has forgotten. For groups that live in memory, and only while
    /// it is certain that nobody else can be a member. Nobody's at first.
    pub fn set_anew(&mut self, anew: Option<Anew>) {
        self.anew = anew.filter(|anew| anew.members.check().is_ok()).map(Box::new);
        // Who has only itself to ask need not wait.
        if self.role != Role::Leader && self.may_begin_anew() && self.everybody() == [self.options.id] {
            self.campaign(self.timing.seen);
        }
    }

    pub(crate) fn anew_stamp(&self) -> u64 {
        self.anew.as_ref().map_or(0, |anew| anew.stamp)
    }

    /// Whether this replica, which may not stand otherwise, may ask for everybody's grants; and give empty ones, if it has
    /// forgotten. One without a vote may be the only one that has not.
    pub(crate) fn may_begin_anew(&self) -> bool {
        let id = self.options.id;
        let named = self.anew.as_ref().is_some_and(|anew| anew.members.contains(id));
        named
            && (self.amnesia.is_some() || !self.membership.is_voter(id))
            && !self.fenced
            && self.hard.term < NUMBER_MAX
    }

    /// Everybody who may have a vote, as far as the log and the caller know.
    pub(crate) fn everybody(&self) -> Vec<NodeId> {
        let mut all = self.membership.members();
        all.extend(self.anew.iter().flat_map(|anew| anew.members.members()));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whom a candidate asks first: the voters. Where there is a way to begin anew without them, those that the group shall
    /// have are among them.
    pub(crate) fn near(&self) -> Vec<NodeId> {
        let voters = [self.membership.voters.as_slice(), &self.membership.outgoing].concat();
        let mut near = self.anew.as_ref().map_or(Vec::new(), |anew| anew.members.voters.clone());
        near.extend(voters);
        near.sort_unstable();
        near.dedup();
        near
    }

    /// All voters have granted their votes, and too many have forgotten: now the word of all others counts. Before that
    /// they are left alone; most of them have dropped what they had long ago.
    pub(crate) fn ask_the_rest(&mut self) {
        let granted = |id| self.grant_of(id).is_some_and(|grant| grant != Grant::Refused);
        if self.anew.is_none() || self.asked_all || !self.near().into_iter().all(granted) {
            return;
        }
        self.asked_all = true;
        let near = self.near();
        self.everybody().into_iter().filter(|id| !near.contains(id)).for_each(|id| self.ask(id, false));
    }

    /// Whether the vote of a node matters to this candidate.
    pub(crate) fn counts_vote(&self, id: NodeId) -> bool {
        self.membership.is_voter(id) || self.anew.is_some() && self.everybody().contains(&id)
    }

    fn grant_of(&self, id: NodeId) -> Option<Grant> {
        self.votes.iter().find(|(voter, _)| *voter == id).map(|(_, grant)| *grant)
    }

    pub(crate) fn tally(&self) -> Tally {
        let full = quorum::tally(&self.membership, |id| self.grant_of(id).map(|grant| grant == Grant::Full));
        if full == Tally::Won || self.anew.is_none() || self.votes.iter().any(|(_, grant)| *grant == Grant::Refused) {
            return full;
        }
        if self.everybody().into_iter().all(|id| self.grant_of(id).is_some()) { Tally::Won } else { Tally::Open }
    }

    /// The members with which one begins that was elected by everybody's word: who has forgotten takes those it was told, who
    /// has not, those of its log. The others are learners, and so are peers whose answers count for the healing.
    pub(crate) fn members_anew(&self) -> Membership {
        let told = self.anew.as_ref().filter(|_| self.amnesia.is_some()).map(|anew| &anew.members);
        let mut members = told.unwrap_or(&self.membership).clone();
        let others = self.everybody().into_iter().filter(|id| !members.contains(*id));
        let learners = others.chain(members.learners.iter().copied()).collect();
        members.learners = learners;
        members.learners.sort_unstable();
        if members.check().is_ok() { members } else { self.membership.clone() }
    }

    /// How far the term goes up. Those who forgot may have had the next ones already, so what begins anew goes to one that
    /// was surely never there: one of four billion.
    pub(crate) fn term_step(&mut self) -> Term {
        let anew = self.role == Role::PreCandidate && !self.has_full_quorum();
        if anew { 1 + (self.timing.nonce() >> 32) } else { 1 }
    }

    /// Whether the election was won by full grants alone.
    pub(crate) fn has_full_quorum(&self) -> bool {
        quorum::is_quorum(&self.membership, |id| self.votes.contains(&(id, Grant::Full)))
    }

    /// Whether the rule for everybody applies and each other one `holds`.
    pub(crate) fn holds_for_all(&self, holds: impl Fn(&Progress) -> bool) -> bool {
        let own = |id| id == self.options.id;
        self.anew.is_some() && self.everybody().into_iter().all(|id| own(id) || self.lead.peer(id).is_some_and(&holds))
    }
}
