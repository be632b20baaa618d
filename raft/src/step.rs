//! What arrives: which messages are heard at all, what their term means, and to whom in the node they go.

use std::cmp::Ordering;

use crate::anew::Grant;
use crate::{Body, Message, NUMBER_MAX, Node, Now, Role, TERM_JUMP_MAX};

impl Node {
    /// A message has arrived. Whatever it says, and whoever sent it: what does not fit is dropped.
    pub fn step(&mut self, now: Now, message: Message) {
        if message.epoch != self.options.epoch {
            self.foreign_epochs += 1;
            return;
        }
        let addressed = message.to == self.options.id && message.from != self.options.id;
        let sane = message.term <= NUMBER_MAX.min(self.hard.term + TERM_JUMP_MAX);
        if !addressed || !sane || self.is_idle_echo(&message) {
            return;
        }
        match message.body {
            // No matter of terms, and no reason for anyone but a leader to stir.
            Body::Seek { question } => return self.on_seek(now, message.from, question),
            Body::Removed { index, question } => return self.on_removed(index, question),
            _ => {}
        }
        self.stir(now);
        let heard = match message.term.cmp(&self.hard.term) {
            Ordering::Less => self.on_lower_term(&message),
            Ordering::Equal => true,
            Ordering::Greater => self.on_higher_term(now, &message),
        };
        if heard {
            self.dispatch(now, message);
        }
    }

    /// A leader of the past is told the present term, so that it steps down; without that, a replica that came back
    /// with a higher term would refuse it forever and be refused by everyone who still hears it.
    fn on_lower_term(&mut self, message: &Message) -> bool {
        match message.body {
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } => {
                self.send(message.from, Body::HeartbeatReply { commit: 0, round: 0, amnesia: self.amnesia });
            }
            Body::PreVote { .. } => {
                self.send(message.from, Body::PreVoteReply { granted: false, amnesia: self.amnesia });
            }
            _ => {}
        }
        false
    }

    fn on_higher_term(&mut self, now: Now, message: &Message) -> bool {
        match message.body {
            // A leader is heard: whoever cannot hear it must not disturb those who do.
            Body::PreVote { .. } | Body::Vote { transfer: false, .. } if self.hears_leader(now) => return false,
            Body::PreVote { .. } | Body::PreVoteReply { granted: true, .. } => return true,
            _ => {}
        }
        let leader = message.body.is_from_leader().then_some(message.from);
        self.become_follower(now, message.term, leader);
        true
    }

    fn hears_leader(&self, now: Now) -> bool {
        let lease_end = self.timing.contact.saturating_add(self.options.election_timeout_us);
        self.role == Role::Leader || self.leader.is_some() && now < lease_end
    }

    fn dispatch(&mut self, now: Now, message: Message) {
        let (from, term) = (message.from, message.term);
        if message.body.is_from_leader() && !self.follow(now, from) {
            return;
        }
        match message.body {
            Body::PreVote { last_index, last_term, stamp } => {
                self.on_pre_vote(from, term, (last_term, last_index), stamp);
            }
            Body::Vote { last_index, last_term, stamp, .. } => {
                self.on_vote(now, from, (last_term, last_index), stamp);
            }
            Body::PreVoteReply { granted, amnesia } => {
                self.on_pre_vote_reply(now, from, term, Grant::new(granted, amnesia));
            }
            Body::VoteReply { granted, amnesia } => self.on_vote_reply(now, from, Grant::new(granted, amnesia)),
            Body::Append { prev_index, prev_term, commit, entries } => {
                self.on_append(from, (prev_index, prev_term), commit, entries);
            }
            Body::Heartbeat { commit, round, healed } => self.on_heartbeat(from, commit, round, healed),
            Body::Snapshot { index, term, membership } => self.on_snapshot(from, index, term, *membership),
            Body::TimeoutNow => self.on_timeout_now(now),
            Body::AppendReply { matched, commit, amnesia } => {
                self.on_append_reply(now, from, matched, commit, amnesia);
            }
            Body::AppendReject { rejected, hint_index, hint_term, amnesia } => {
                self.on_append_reject(now, from, rejected, (hint_index, hint_term), amnesia);
            }
            Body::HeartbeatReply { commit, round, amnesia } => {
                self.on_heartbeat_reply(now, from, commit, round, amnesia);
            }
            Body::SnapshotReply { index, amnesia } => self.on_append_reply(now, from, index, 0, amnesia),
            Body::Seek { .. } | Body::Removed { .. } => {}
        }
    }
}
