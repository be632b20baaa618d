//! A group as pages and `INFO` answers show it.

use super::output::{GroupRole, GroupStatus, PeerStatus};
use super::replica::{Phase, Replica, server};
use crate::limits::MEMBERS_LAG_MAX;

impl Replica {
    pub(super) fn status(&self) -> GroupStatus {
        let [voters, outgoing, learners] = self.members();
        let node = self.node.as_ref().map(|node| node.status());
        let role = match (&self.phase, &node) {
            (Phase::Closed, _) => GroupRole::Closed,
            (Phase::Reading(_), _) | (_, None) => GroupRole::Restoring,
            (Phase::Running, Some(node)) => match node.role {
                raft::Role::Leader => GroupRole::Leader,
                raft::Role::Follower => GroupRole::Follower,
                raft::Role::PreCandidate | raft::Role::Candidate => GroupRole::Candidate,
            },
        };
        let (_, term, leader) = self.shown;
        GroupStatus {
            group: self.id,
            kind: self.kind,
            memory: self.mem.is_some(),
            role,
            epoch: self.epoch,
            term: node.as_ref().map_or(term, |node| node.term),
            leader: node.as_ref().map_or(leader, |node| node.leader.map(server)),
            led_since_ns: self.led_since_ns,
            voters,
            outgoing,
            learners,
            commit: self.commit,
            applied: self.retain.applied,
            last: node.as_ref().map_or(0, |node| node.last),
            first: node.as_ref().map_or(0, |node| node.first),
            peers: node.as_ref().map_or(Vec::new(), |node| self.peer_status(node)),
            target: self.open_target(),
            voteless: node.as_ref().is_some_and(|node| node.voteless),
            damaged: self.heal.count(),
            quiet: node.as_ref().is_some_and(|node| node.quiet),
        }
    }

    fn peer_status(&self, node: &raft::Status) -> Vec<PeerStatus> {
        let status = |peer: &raft::PeerStatus| {
            let catching_up = self.senders.contains_key(&server(peer.id));
            let lag = node.commit.saturating_sub(peer.matched);
            PeerStatus {
                server: server(peer.id),
                current: peer.counts && !catching_up && lag <= MEMBERS_LAG_MAX,
                lag,
                last_contact_us: Some(peer.last_contact),
                catching_up,
            }
        };
        node.peers.iter().map(status).collect()
    }
}
