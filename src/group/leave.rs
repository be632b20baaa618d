//! Leaving a group that goes on without this server.
//!
//! The table says who should be a member; the group's own log says who is. A replica that the table does not want here
//! stays, votes and stores until the group itself has let it go: until a membership without it is committed. Its own log
//! cannot tell it that for certain, so it asks whoever may lead: at once when it sees itself gone, else after a moment, and
//! then less and less often, because the change may still be under way.
//!
//! A replica that is closed, or waits to be healed, has no node that could ask. It asks by the same message, and takes the
//! answer to its own question if no newer membership is noted here: it neither votes nor leads, so it is worth no more to
//! its group than a lost disk.
//!
//! What is promised: [`GroupOutput::Removed`] comes only when nobody counts on this replica's log or vote any more (the
//! rule is raft's, see `Node::is_removed`). Whether it goes then is the hub's to say: the table may want it again.

use std::collections::BTreeSet;

use raft::{Membership, NodeId};

use super::core::Core;
use super::output::GroupOutput;
use super::replica::{Phase, Replica, node_id, server};
use super::spec::GroupKind;
use crate::ids::{Now, ServerId};
use crate::limits::{LEAVE_ASK_US_MAX, LEAVE_ASK_US_MIN};

/// How far a replica is on its way out.
#[derive(Debug, Default)]
pub(super) struct Leave {
    /// When it asks next.
    ask_at: Option<u64>,
    wait_us: u64,
    /// Its log says that it was removed.
    gone: bool,
    /// The open question of one that has no node, and whether a leader has said that it is no member.
    question: u64,
    word: bool,
    /// The hub has been told.
    told: bool,
}

impl Leave {
    /// The table has changed: what the hub was told may mean something else to it now.
    pub fn tell_again(&mut self) {
        self.told = false;
    }

    pub fn due(&self) -> Option<u64> {
        self.ask_at
    }
}

impl Replica {
    /// Asks, when it is time, whether this replica still belongs to its group.
    pub(super) fn ask_to_leave(&mut self, core: &Core, now: Now) {
        let me = node_id(core.server());
        let unwanted = self.kind != GroupKind::Meta && self.target.as_ref().is_some_and(|to| !to.contains(&me));
        let (Phase::Running, Some(node)) = (&self.phase, self.node.as_mut()) else { return };
        if !unwanted || node.is_leader() || node.is_removed() {
            (self.leave.ask_at, self.leave.gone) = (None, false);
            return;
        }
        let gone = node.looks_removed();
        let first_us = if gone { now.us } else { now.us + LEAVE_ASK_US_MIN };
        if std::mem::replace(&mut self.leave.gone, gone) != gone || self.leave.ask_at.is_none() {
            (self.leave.ask_at, self.leave.wait_us) = (Some(first_us), LEAVE_ASK_US_MIN);
        }
        if self.leave.ask_at.is_some_and(|at| now.us < at) {
            return;
        }
        self.leave.ask_at = Some(now.us + self.leave.wait_us);
        self.leave.wait_us = (self.leave.wait_us * 2).min(LEAVE_ASK_US_MAX);
        let mut ask: BTreeSet<NodeId> = node.membership().members().into_iter().chain(node.leader()).collect();
        ask.extend(self.target.iter().flatten());
        ask.remove(&me);
        ask.into_iter().for_each(|to| node.seek(to));
    }

    /// The same for a replica without a node.
    pub(super) fn ask_unread(&mut self, core: &mut Core, now: Now) {
        let me = core.server();
        let unwanted =
            self.kind != GroupKind::Meta && self.target.as_ref().is_some_and(|to| !to.contains(&node_id(me)));
        if !unwanted || self.node.is_some() {
            (self.leave.ask_at, self.leave.word) = (None, false);
            return;
        }
        if self.leave.word {
            self.leave.ask_at = None;
            return;
        }
        if self.leave.question == 0 {
            // Most are read within this time.
            self.leave.ask_at = Some(now.us + LEAVE_ASK_US_MIN);
            (self.leave.question, self.leave.wait_us) = (self.seed(core) | 1, LEAVE_ASK_US_MIN);
        }
        if self.leave.ask_at.is_some_and(|at| now.us < at) {
            return;
        }
        self.leave.ask_at = Some(now.us + self.leave.wait_us);
        self.leave.wait_us = (self.leave.wait_us * 2).min(LEAVE_ASK_US_MAX);
        let body = raft::Body::Seek { question: self.leave.question };
        for to in self.who_may_know().into_iter().filter(|to| *to != me) {
            let (from, epoch) = (node_id(me), self.epoch);
            self.send(core, now, raft::Message { from, to: node_id(to), epoch, term: 0, body: body.clone() });
        }
    }

    /// A leader has answered one that has no node.
    pub(super) fn on_removed_unread(&mut self, core: &mut Core, index: u64, question: u64) {
        let noted = core.disk.facts(self.id).members.map_or(0, |(index, _)| index);
        if self.node.is_none() && question == self.leave.question && question != 0 && index >= noted {
            self.leave.word = true;
            core.dirty.insert(self.id);
        }
    }

    /// Members, as far as they are known here, and those that shall be.
    pub(super) fn who_may_know(&self) -> BTreeSet<ServerId> {
        let noted = self.noted.iter().flat_map(Membership::members).map(server);
        let target = self.target.iter().flatten().copied().map(server);
        self.all_members().into_iter().chain(noted).chain(target).collect()
    }

    /// Tells the hub once it is certain.
    pub(super) fn tell_removed(&mut self, core: &mut Core) {
        let removed = self.is_removed();
        if std::mem::replace(&mut self.leave.told, removed) != removed && removed {
            core.output(GroupOutput::Removed { group: self.id });
        }
    }

    /// Whether the group goes on without this replica, for certain.
    pub(super) fn is_removed(&self) -> bool {
        let said = self.leave.word || self.node.as_ref().is_some_and(|node| node.is_removed());
        self.kind != GroupKind::Meta && said
    }
}
