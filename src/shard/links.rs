//! The hub's links to other servers: who is there, what a newcomer is told, which routes are dialled, what gossip adds.
//!
//! Core 0 owns the links and tells the other cores by mail; every core keeps its own view of the peers.

use net::peer::hello::Hello;

use super::{LINK_CORE, Shard};
use crate::account::Accounts;
use crate::cluster::interest::Node;
use crate::cluster::table::ServerFacts;
use crate::cluster::view::Peer;
use crate::cluster::wire::{Lead, NodeMsg};
use crate::config::options::CORES_MAX;
use crate::event::{Effect, Level, Mail};
use crate::ids::{Place, ServerId};
use crate::limits::RTT_STEP_US;

impl Shard {
    pub(super) fn on_peer_up(&mut self, peer: ServerId, hello: Box<Hello>) {
        self.peers.up(peer);
        let told = hello.clone();
        self.mail_all(|| Mail::PeerUp { peer, hello: told.clone() });
        self.learn_peer(peer, &hello);
        self.front.node_up(peer);
        self.drain_front();
        let mine: Vec<Lead> = self.view.leads.of(self.me.server).cloned().collect();
        for lead in mine {
            self.send(Place { server: peer, core: LINK_CORE }, NodeMsg::Lead(lead));
        }
        self.gossip();
    }

    pub(super) fn learn_peer(&mut self, peer: ServerId, hello: &Hello) {
        self.take_name(hello);
        let facts = ServerFacts {
            name: hello.server_name.clone(),
            cluster: hello.cluster.clone(),
            domain: hello.domain.clone(),
            tags: hello.tags.clone(),
            file_bytes_max: hello.file_bytes_max,
            memory_bytes_max: hello.memory_bytes_max,
        };
        self.system.peer_up(self.now, peer, hello);
        let (cores, empty) = (hello.cores.clamp(1, CORES_MAX), hello.store.is_none());
        self.view.peers.insert(peer, Peer { cores, facts, jetstream: hello.jetstream, empty, rtt_us: None });
        if let Some(js) = self.js.as_mut().filter(|_| hello.jetstream) {
            js.peer_up(self.now, &self.view, peer);
        }
        self.refresh_urls();
    }

    /// Whether a server may speak about groups: one with JetStream that said it holds data of this cluster, or that the
    /// cluster has taken in since. Who has the password of the routes and no more cannot disturb what is replicated.
    pub(super) fn has_say(&self, peer: ServerId) -> bool {
        let known = self.view.peers.get(&peer);
        self.js.as_ref().is_none_or(|js| known.is_none_or(|known| js.counts_on(peer, known)))
    }

    /// Why a message shows that the other side is broken, or not what it says it is. Its link must go: a server that has
    /// become a member unheard introduces itself anew.
    pub(super) fn overstep(&self, peer: ServerId, has_say: bool, msg: &NodeMsg) -> Option<&'static str> {
        match msg {
            NodeMsg::Lead(lead) if lead.server != peer => Some("it speaks in another server's name"),
            NodeMsg::Raft { message, .. } if message.from.0 != peer.0 => Some("it speaks in another server's name"),
            NodeMsg::Raft { .. }
            | NodeMsg::Catchup { .. }
            | NodeMsg::Lead(_)
            | NodeMsg::Unlead { .. }
            | NodeMsg::HeartbeatList { .. }
                if !has_say =>
            {
                Some("it has no say in this cluster's groups")
            }
            _ => None,
        }
    }

    /// A cluster without a configured name goes by the name that others give it.
    fn take_name(&mut self, hello: &Hello) {
        let ours = Hello {
            cluster: self.system.facts().cluster.clone(),
            cluster_made_up: self.cluster_made_up,
            ..Hello::default()
        };
        if !ours.yields_name_to(hello) {
            return;
        }
        let (name, made_up) = (hello.cluster.clone(), hello.cluster_made_up);
        self.cluster_made_up = made_up;
        self.front.name_cluster(&name);
        self.system.name_cluster(&name);
        if self.me.core == LINK_CORE {
            let text = format!("Cluster name updated to {name}");
            self.effects.push_back(Effect::Log { level: Level::Info, text });
            self.effects.push_back(Effect::ClusterNamed { name, made_up });
        }
    }

    pub(super) fn on_peer_gone(&mut self, peer: ServerId) {
        self.peers.gone(peer);
        self.mail_all(|| Mail::PeerGone { peer });
        self.lose_peer(peer);
    }

    pub(super) fn lose_peer(&mut self, peer: ServerId) {
        self.view.peers.remove(&peer);
        self.system.peer_gone(peer);
        self.front.forget(Node::Server(peer));
        self.front.lost().server(self.now);
        for group in self.view.leads.forget_server(peer) {
            self.front.stream_subjects(group, Accounts::GLOBAL, None);
            self.forget_stream(group);
        }
        if let Some(js) = &mut self.js {
            js.peer_gone(self.now, &self.view, peer);
        }
        self.refresh_urls();
    }

    /// Samples differ all the time; only a change that means something for timing goes to the groups and the other cores.
    pub(super) fn on_rtt(&mut self, peer: ServerId, rtt_us: u64) {
        self.system.peer_rtt(peer, rtt_us);
        let Some(known) = self.view.peers.get_mut(&peer) else { return };
        if known.rtt_us.is_some_and(|before| before.abs_diff(rtt_us) <= RTT_STEP_US.max(before / 4)) {
            return;
        }
        known.rtt_us = Some(rtt_us);
        self.mail_all(|| Mail::PeerRtt { peer, rtt_us });
        if let Some(js) = &mut self.js {
            js.peer_rtt(self.now, peer, rtt_us);
        }
    }

    /// A server says goodbye: it counts as gone at once, though its link may stand for a moment more. A lame duck only
    /// sends its clients away.
    pub(super) fn on_goodbye(&mut self, server: ServerId, lame_duck: bool) {
        if lame_duck {
            if self.me.core == LINK_CORE {
                self.mail_all(|| Mail::PeerLameDuck { peer: server });
            }
            return self.learn_lame_duck(server);
        }
        if self.view.peers.contains_key(&server) {
            self.effects.push_back(Effect::PeerClose { peer: server, why: "it is shutting down".into() });
            self.on_peer_gone(server);
        }
    }

    /// Clients are not sent to a server that is leaving.
    pub(super) fn learn_lame_duck(&mut self, peer: ServerId) {
        self.system.peer_lame_duck(peer);
        self.refresh_urls();
    }

    /// Dials what the configuration names and no longer dials what it does not name any more; links stay.
    pub(super) fn dial_routes(&mut self) {
        if self.me.core != LINK_CORE {
            return;
        }
        let routes: Vec<String> = self
            .config
            .cluster
            .iter()
            .flat_map(|cluster| cluster.routes.iter().map(|route| route.to_string()))
            .collect();
        let (kept, gone) = std::mem::take(&mut self.dialled).into_iter().partition(|route| routes.contains(route));
        self.dialled = kept;
        let gone: Vec<String> = gone;
        self.effects.extend(gone.into_iter().map(|route| Effect::Undial { route }));
        for route in routes {
            self.dial(route);
        }
    }

    fn dial(&mut self, route: String) {
        if !self.dialled.contains(&route) {
            self.dialled.push(route.clone());
            self.effects.push_back(Effect::Dial { route });
        }
    }

    /// Tells every peer the routes and client URLs of all: a newcomer learns the cluster from one seed.
    fn gossip(&mut self) {
        let (routes, client_urls) = self.system.known_urls();
        self.send_all_peers(&NodeMsg::Gossip { routes, client_urls });
    }

    pub(super) fn on_gossip(&mut self, routes: Vec<String>, _client_urls: Vec<String>) {
        if self.me.core != LINK_CORE {
            return;
        }
        let mine = self.system.own_route();
        let known = self.system.peer_routes();
        for route in routes {
            if route != mine && !known.contains(&route) && !self.dialled.contains(&route) {
                self.effects.push_back(Effect::DialOnce { route });
            }
        }
    }

    fn refresh_urls(&mut self) {
        let urls = self.system.client_urls(&self.view);
        self.front.cluster_urls(self.now, urls);
        self.drain_front();
    }
}
