//! Idle groups cost nothing: a group that has nothing to say stops its timers, and one heartbeat per pair of servers,
//! outside of this crate, stands for all of them.
//!
//! A quiet replica takes its leader as alive. Any call that brings news stirs it; [`Node::wake`] is for when the news is
//! that there is none: the servers' heartbeat failed, and the leader may be gone.

use crate::{Body, Message, Node, Now, Role};

impl Node {
    /// Whether nothing is left to do or to learn: on a leader every member has everything, knows that it is committed
    /// and nothing is pending; on a follower the leader is known and everything is applied.
    pub fn can_quiesce(&self) -> bool {
        let settled = self.is_settled() && self.amnesia.is_none() && !self.fenced;
        match self.role {
            Role::Leader => settled && self.peers_are_settled(),
            Role::Follower => settled && self.leader.is_some(),
            Role::PreCandidate | Role::Candidate => false,
        }
    }

    fn peers_are_settled(&self) -> bool {
        let done = self.lead.transfer.is_none() && self.lead.reads.is_empty() && !self.membership.is_joint();
        done && self
            .lead
            .peers
            .iter()
            .all(|(_, peer)| peer.matched == self.commit && peer.commit == self.commit && peer.forgot.is_none())
    }

    /// Stops all timers until something happens, if nothing is left to do; says whether it did.
    pub fn quiesce(&mut self) -> bool {
        self.quiet = self.can_quiesce();
        self.quiet
    }

    /// Starts the timers again as if the leader, or on a leader the followers, had last been heard at `last_contact`.
    /// A leader asks its followers at once, and gives them the time of one election timeout to answer.
    pub fn wake(&mut self, now: Now, last_contact: Now) {
        self.stir(now);
        match self.role {
            Role::Leader => self.broadcast_heartbeat(),
            _ => {
                self.timing.contact = last_contact.min(now);
                self.timing.await_leader(&self.options, last_contact.min(now));
            }
        }
    }

    /// Something happened: a quiet replica goes on as if it had heard its peers just now.
    pub(crate) fn stir(&mut self, now: Now) {
        self.timing.seen = self.timing.seen.max(now);
        if !std::mem::take(&mut self.quiet) {
            return;
        }
        self.timing.contact = now;
        self.timing.await_leader(&self.options, now);
        self.timing.heartbeat = now;
        for (_, peer) in &mut self.lead.peers {
            peer.last_contact = now;
        }
    }

    /// An answer that tells a quiet leader nothing new, only late. Were it to stir, two late answers could keep a group
    /// awake by turns for ever.
    pub(crate) fn is_idle_echo(&self, message: &Message) -> bool {
        let current = self.quiet && self.role == Role::Leader && message.term == self.hard.term;
        current
            && match message.body {
                Body::AppendReply { amnesia, .. } | Body::HeartbeatReply { amnesia, .. } => amnesia.is_none(),
                _ => false,
            }
    }
}
