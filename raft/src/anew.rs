//! Beginning anew: how a group whose majority has forgotten elects a leader again, where its caller allows it.
//!
//! ```text
//!   a quorum of full grants ──────────────────────────────► won, as ever
//!   a grant, full or empty, of every single member ───────► won: nobody is left who knows more
//! ```
//!
//! A replica that has forgotten marks its grants *empty*; they count towards no quorum. The same unanimity stands in for a
//! quorum until the others are healed. Never on disk-backed groups, nor while it is unknown who the members are:
//! docs/RAFT.md says what may be lost, and why no term has two leaders.

use crate::progress::Progress;
use crate::quorum::{self, Tally};
use crate::{Amnesia, NUMBER_MAX, Node, Role, Term};

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
    /// Whether the group may begin anew when a majority has forgotten. For groups that live in memory, and only while it
    /// is certain that their members have never changed: a replica that has forgotten knows no others. Off at first.
    pub fn set_anew(&mut self, allowed: bool) {
        self.anew = allowed;
    }

    /// Whether this replica, having forgotten, may give empty grants and ask for everybody's.
    pub(crate) fn may_begin_anew(&self) -> bool {
        let voter = self.membership.voters.contains(&self.options.id);
        self.anew && self.amnesia.is_some() && voter && !self.fenced && self.hard.term < NUMBER_MAX
    }

    pub(crate) fn tally(&self) -> Tally {
        let grant = |id| self.votes.iter().find(|(voter, _)| *voter == id).map(|(_, grant)| *grant);
        let full = quorum::tally(&self.membership, |id| grant(id).map(|grant| grant == Grant::Full));
        if full == Tally::Won || !self.anew || self.votes.iter().any(|(_, grant)| *grant == Grant::Refused) {
            return full;
        }
        // Learners are members too, and never asked: with them nothing begins anew.
        if self.membership.members().into_iter().all(|id| grant(id).is_some()) { Tally::Won } else { Tally::Open }
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

    /// Whether the rule for `everyone` applies and every other member `holds`.
    pub(crate) fn holds_for_all(&self, holds: impl Fn(&Progress) -> bool) -> bool {
        let own = |id| id == self.options.id;
        self.anew && self.membership.members().into_iter().all(|id| own(id) || self.lead.peer(id).is_some_and(&holds))
    }
}
