//! What JetStream hears of links to other servers.

use super::JetStream;
use crate::cluster::view::{Peer, View};
use crate::cluster::wire::NodeMsg;
use crate::event::Level;
use crate::group::home_core;
use crate::ids::{GroupId, Now, ServerId};

impl JetStream {
    /// A server with JetStream is linked.
    pub fn peer_up(&mut self, now: Now, view: &View, peer: ServerId) {
        let Some(facts) = view.peers.get(&peer) else { return };
        let (cores, empty) = (facts.cores, facts.empty);
        self.groups.peer_up(now, peer, cores);
        if let Some(forming) = self.forming() {
            forming.peer_up(now.us, peer, empty);
            self.drain_forming(now);
        }
        self.upkeep_soon(now);
        if let Some(name) = self.table.evicted.get(&peer.0).filter(|_| self.leads_meta()) {
            let text = format!(
                "Server {name} was removed from the JetStream cluster and stays out; to let it in again: \
                 nats req '$JS.API.SERVER.READMIT' '{{\"peer\":\"{name}\"}}' as a system user"
            );
            self.log(Level::Warn, text);
        }
    }

    /// Whatever the sender of a message believes: a group has its place, and a second replica beside it would be another
    /// server's vote.
    pub(super) fn is_at_home(&self, msg: &NodeMsg) -> bool {
        match msg {
            NodeMsg::Raft { group, .. } | NodeMsg::Catchup { group, .. } => {
                home_core(*group, self.cores) == self.me.core
            }
            _ => true,
        }
    }

    /// Whether a linked server has a part in the groups of this cluster, as far as this core knows. While it forms, nobody is
    /// in the table yet.
    pub fn counts_on(&self, server: ServerId, peer: &Peer) -> bool {
        let member = || self.groups.status(GroupId::META).is_some_and(|meta| meta.has_member(server));
        let entered = || self.table.servers.contains_key(&server.0) || self.table.evicted.contains_key(&server.0);
        let taken_in = || self.table.cluster_id.is_none() || entered() || member();
        peer.jetstream && (!peer.empty || taken_in())
    }

    pub fn peer_gone(&mut self, now: Now, _view: &View, peer: ServerId) {
        self.groups.peer_down(now, peer);
        if let Some(forming) = self.forming() {
            forming.peer_gone(peer);
            self.drain_forming(now);
        }
    }

    /// See [`crate::group::Groups::beat_along`].
    pub fn beat_along(&mut self, now: Now) {
        self.groups.beat_along(now);
    }

    pub fn peer_rtt(&mut self, now: Now, peer: ServerId, rtt_us: u64) {
        self.groups.peer_rtt(now, peer, rtt_us);
    }
}
