//! What JetStream hears of links to other servers.

use super::JetStream;
use crate::cluster::view::View;
use crate::event::Level;
use crate::ids::{Now, ServerId};

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
