//! What other servers said of themselves when their links came up: for the pages, and for gossip.

use net::peer::hello::Hello;

use super::System;
use super::scene::Link;
use crate::cluster::view::View;
use crate::ids::{Now, ServerId};

impl System {
    pub fn peer_up(&mut self, now: Now, peer: ServerId, hello: &Hello) {
        let links = &mut self.server.links;
        let link = Link {
            number: links.values().map(|link| link.number + 1).max().unwrap_or(1),
            server_id: hello.server_id.clone(),
            name: hello.server_name.clone(),
            route_url: hello.route_url.clone(),
            client_urls: hello.client_urls.clone(),
            since: now,
            rtt_us: 0,
        };
        links.insert(peer, link);
    }

    /// The cluster goes by another name.
    pub fn name_cluster(&mut self, name: &str) {
        self.server.options.cluster = Some(name.to_owned());
        self.server.facts.cluster = name.to_owned();
    }

    pub fn peer_gone(&mut self, peer: ServerId) {
        self.server.links.remove(&peer);
    }

    /// Nobody is sent there any more.
    pub fn peer_lame_duck(&mut self, peer: ServerId) {
        if let Some(link) = self.server.links.get_mut(&peer) {
            link.client_urls.clear();
        }
    }

    pub fn peer_rtt(&mut self, peer: ServerId, rtt_us: u64) {
        if let Some(link) = self.server.links.get_mut(&peer) {
            link.rtt_us = rtt_us;
        }
    }

    /// Routes and client URLs of every linked server and this one, for gossip.
    pub fn known_urls(&self) -> (Vec<String>, Vec<String>) {
        let mut routes = self.peer_routes();
        routes.extend(self.server.options.route_url.clone());
        let mut clients = vec![self.server.options.client_url.clone()];
        clients.extend(self.server.links.values().flat_map(|link| link.client_urls.iter().cloned()));
        (routes, clients)
    }

    /// Where servers reach this one; empty when it has no cluster.
    pub fn own_route(&self) -> String {
        self.server.options.route_url.clone().unwrap_or_default()
    }

    /// Routes of the linked servers, as they advertise them.
    pub fn peer_routes(&self) -> Vec<String> {
        let urls = self.server.links.values().map(|link| link.route_url.clone());
        urls.filter(|url| !url.is_empty()).collect()
    }

    /// Client URLs of the other servers, for INFO's `connect_urls`.
    pub fn client_urls(&self, view: &View) -> Vec<String> {
        let linked = self.server.links.iter().filter(|(server, _)| view.peers.contains_key(server));
        linked.flat_map(|(_, link)| link.client_urls.iter().cloned()).collect()
    }
}
