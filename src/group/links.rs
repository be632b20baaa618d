//! What a group has to do with the links to its other members: whose heartbeats stand for it, what the death of a node
//! means, and how long round trips stretch its timing.

use std::collections::BTreeSet;

use super::core::Core;
use super::replica::{Replica, node_id};
use crate::ids::{Now, Place, ServerId};

impl Replica {
    /// Brings the core's registers up to date: which servers share this group, and which digests count it.
    pub(super) fn register(&mut self, core: &mut Core, now: Now) {
        let me = core.server();
        let peers: BTreeSet<ServerId> =
            self.all_members().into_iter().chain(self.shown.2).filter(|id| *id != me).collect();
        for gone in self.peers.iter().filter(|id| !peers.contains(id)) {
            core.peers.entry(*gone).or_default().groups.remove(&self.id);
        }
        for peer in &peers {
            core.peers.entry(*peer).or_default().groups.insert(self.id);
        }
        self.peers = peers.into_iter().collect();
        let digest = self.wanted_digest(core);
        if digest == self.digest {
            return;
        }
        for (place, term, leads) in std::mem::replace(&mut self.digest, digest) {
            if leads {
                core.beats.unlead(place, self.id, term);
            } else {
                core.beats.unfollow(place, self.id, term);
            }
        }
        for &(place, term, leads) in &self.digest {
            if leads {
                core.beats.lead(now.us, place, self.id, term);
            } else {
                core.beats.follow(now.us, place, self.id, term);
            }
        }
    }

    fn wanted_digest(&self, core: &Core) -> Vec<(Place, u64, bool)> {
        let (leading, term, leader) = self.shown;
        let home = |server: &ServerId| core.home(*server, self.id);
        if leading {
            let me = core.server();
            let others = self.all_members().into_iter().filter(|id| *id != me);
            return others.filter_map(|id| home(&id)).map(|place| (place, term, true)).collect();
        }
        leader.iter().filter_map(home).map(|place| (place, term, false)).collect()
    }

    /// Whether the server is a member, or leads.
    pub(super) fn shares(&self, peer: ServerId) -> bool {
        self.peers.contains(&peer)
    }

    /// The group is closed: nothing stands for it any more.
    pub(super) fn unregister(&mut self, core: &mut Core) {
        for (place, term, leads) in std::mem::take(&mut self.digest) {
            if leads {
                core.beats.unlead(place, self.id, term);
            } else {
                core.beats.unfollow(place, self.id, term);
            }
        }
        for peer in std::mem::take(&mut self.peers) {
            core.peers.entry(peer).or_default().groups.remove(&self.id);
        }
    }

    /// A link to the server stands (again).
    pub(super) fn link_up(&mut self, core: &mut Core, now: Now, peer: ServerId) {
        self.register(core, now);
        let leads = self.is_leader();
        if let Some(node) = self.running()
            && (leads || node.leader().is_none())
        {
            node.wake(now.us, now.us);
            // A replica that restarted no longer knows how far its log is the leader's: the logs are compared again.
            node.report_unreachable(now.us, node_id(peer));
            self.active_us = now.us;
        }
        self.resume_sender(core, now, peer);
        core.dirty.insert(self.id);
    }

    /// The server is gone or silent since `heard_us`. Followers of it count from then; a leader that is left without
    /// a quorum of living servers asks for itself.
    pub(super) fn link_lost(&mut self, core: &mut Core, now: Now, peer: ServerId, heard_us: u64) {
        self.unreachable(core, now, peer);
        let quorum = self.hears_quorum(core);
        let Some(node) = self.node.as_deref_mut() else { return };
        if node.is_leader() && !quorum {
            node.wake(now.us, now.us);
            self.active_us = now.us;
        } else if node.leader() == Some(node_id(peer)) {
            // A link that broke is a sign that silence is not: only the random part of the timeout is waited for. If the
            // leader lives after all, those who hear it refuse the pre-votes.
            let broken = core.peers.get(&peer).is_some_and(|known| !known.up);
            let least_us = if broken { core.timing(self.rtt_us).election_us } else { 0 };
            node.wake(now.us, heard_us.min(now.us.saturating_sub(least_us)));
            self.doubted = true;
        }
        core.dirty.insert(self.id);
    }

    /// Whether servers that are alive, and this one, are a quorum.
    pub(super) fn hears_quorum(&self, core: &Core) -> bool {
        let me = core.server();
        let alive = |server| server == me || self.hears(core, server);
        let Some(node) = self.node.as_deref() else { return false };
        raft::quorum::is_quorum(node.membership(), |member| alive(ServerId(member.0)))
    }

    fn hears(&self, core: &Core, server: ServerId) -> bool {
        core.place(server, self.id).is_some_and(|place| core.beats.is_alive(place))
    }

    /// Whether the heartbeats of nodes may stand for this group: they reach the leader, or enough followers.
    pub(super) fn is_watched(&self, core: &Core) -> bool {
        let (leading, _, leader) = self.shown;
        match leader {
            _ if leading => self.hears_quorum(core),
            Some(leader) => !self.doubted && self.hears(core, leader),
            None => false,
        }
    }

    /// What the leader says it leads does not include this group in this term, or the other way round: ask.
    pub(super) fn doubt(&mut self, core: &mut Core, now: Now) {
        if let Some(node) = self.node.as_deref_mut() {
            node.wake(now.us, now.us);
            (self.doubted, self.active_us) = (!node.is_leader(), now.us);
            core.dirty.insert(self.id);
        }
    }

    /// That server says that it leads. Who follows nobody asks it to speak: a quiet leader takes a replica that lost its
    /// disk for the one that had everything, and one that has forgotten the members can ask nobody else.
    pub(super) fn look_for(&mut self, core: &mut Core, leader: ServerId) {
        if let Some(node) = self.running().filter(|node| node.leader().is_none()) {
            node.seek(node_id(leader));
            core.dirty.insert(self.id);
        }
    }

    /// Stretches the timing to the slowest voter's link, in steps of a quarter so that jitter changes nothing.
    pub(super) fn follow_links(&mut self, core: &mut Core, now: Now) {
        let Some(node) = self.node.as_deref_mut() else { return };
        let rtt = |id: &raft::NodeId| core.peers.get(&ServerId(id.0)).map_or(0, |peer| peer.rtt_us);
        let slowest = node.membership().voters.iter().map(rtt).max().unwrap_or(0);
        if slowest.abs_diff(self.rtt_us) * 4 <= self.rtt_us {
            return;
        }
        let (before, after) = (core.timing(self.rtt_us), core.timing(slowest));
        self.rtt_us = slowest;
        if before != after {
            node.set_timing(now.us, after.election_us, after.heartbeat_us);
            core.dirty.insert(self.id);
        }
    }
}
