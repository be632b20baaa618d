//! What one core sees of the cluster around it: which servers are linked, how many cores they have, who leads what.

use std::collections::BTreeMap;

use super::leads::Leads;
use super::table::ServerFacts;
use crate::group::home_core;
use crate::ids::{CoreId, GroupId, Place, ServerId};

/// A server with a standing link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub cores: CoreId,
    pub facts: ServerFacts,
    /// It runs JetStream.
    pub jetstream: bool,
    /// Its store belonged to no cluster when the link came up.
    pub empty: bool,
    /// The round trip as the timing of groups follows it.
    pub rtt_us: Option<u64>,
}

#[derive(Debug)]
pub struct View {
    pub me: Place,
    /// Cores of this server.
    pub cores: CoreId,
    /// Linked servers; never this one.
    pub peers: BTreeMap<ServerId, Peer>,
    pub leads: Leads,
}

impl View {
    pub fn new(me: Place, cores: CoreId) -> View {
        View { me, cores, peers: BTreeMap::new(), leads: Leads::default() }
    }

    /// Whether messages can reach a server now.
    pub fn online(&self, server: ServerId) -> bool {
        server == self.me.server || self.peers.contains_key(&server)
    }

    /// Where a server keeps a group.
    pub fn place_of(&self, group: GroupId, server: ServerId) -> Place {
        let cores = if server == self.me.server { self.cores } else { self.peers.get(&server).map_or(1, |p| p.cores) };
        Place { server, core: home_core(group, cores) }
    }

    /// Where requests for a group go: its announced leader.
    pub fn leader_place(&self, group: GroupId) -> Option<Place> {
        Some(self.place_of(group, self.leads.leader(group)?))
    }
}
