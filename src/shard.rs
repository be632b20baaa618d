//! The hub: one core of a server as a pure state machine. It owns the parts and carries values between them; what any
//! of it means is decided elsewhere.
//!
//! ```text
//!            ┌─────────┐  Ingest, Service, ToNode   ┌───────────┐  Reply, Send, Lead, Table
//!  clients ──►  Front  ├───────────► hub ───────────► JetStream ├───────────► hub ──► Front, mail, peers, disk
//!            └─────────┘                            └───────────┘
//! ```
//! [`Shard::handle`] takes events of one turn; the first [`Shard::poll_effect`] after them ends the turn (one write per
//! connection, one frame per peer and lane, one append for all groups), and the effects are drained from there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use net::peer::hello::Hello;

use crate::account::Accounts;
use crate::api;
use crate::client::{Front, FrontOptions, FrontOutput, Service};
use crate::cluster::interest::Node;
use crate::cluster::peers::{self, Peers};
use crate::cluster::table::ServerFacts;
use crate::cluster::view::{Peer, View};
use crate::cluster::wire::{Asset, Lead, NodeMsg, Request, RequestKind};
use crate::config::Config;
use crate::consumer::ack::AckSubject;
use crate::event::{Admin, Effect, Event, Level, Mail};
use crate::ids::{AccountId, CoreId, GroupId, Now, Place, ServerId};
use crate::jetstream::{JetStream, JsOptions, JsOutput};
use crate::reply::Reply;
use crate::system::System;

/// The core that owns the links to other servers, the meta group and the pages.
pub const LINK_CORE: CoreId = 0;

/// What a shard must know from its birth.
pub struct ShardOptions {
    pub front: FrontOptions,
    /// `None`: JetStream is off on this server.
    pub jetstream: Option<JsOptions>,
    /// What other servers know of this one.
    pub facts: ServerFacts,
    /// Seconds since the epoch and so on: facts that only pages show.
    pub system: crate::system::SystemOptions,
}

pub struct Shard {
    me: Place,
    cores: CoreId,
    config: Arc<Config>,
    accounts: Accounts,
    front: Front,
    js: Option<JetStream>,
    view: View,
    /// Used by the core that owns the links only.
    peers: Peers,
    system: System,
    /// Messages for this very core, handled before the turn ends.
    loopback: VecDeque<(Place, NodeMsg)>,
    effects: VecDeque<Effect>,
    now: Now,
    turn_open: bool,
    stopping: Option<Stopping>,
    dialled: Vec<String>,
    /// Connections of the other cores, as they told.
    census: BTreeMap<CoreId, (u32, Vec<(AccountId, u32)>)>,
    /// A connection came or went in this turn: the others must know.
    census_due: bool,
}

/// A clean stop waits for leadership to be handed over, but not for ever.
#[derive(Debug, Clone, Copy)]
struct Stopping {
    deadline_us: u64,
    done: bool,
}

/// How long a clean stop waits for others to take leadership over: a few round trips over a WAN.
const STOP_PATIENCE_US: u64 = 1_500_000;

impl Shard {
    pub fn new(options: ShardOptions, now: Now) -> Shard {
        let me = options.front.place;
        let cores = options.front.cores;
        let config = Arc::clone(&options.front.config);
        let has_js = options.jetstream.is_some();
        let mut shard = Shard {
            me,
            cores,
            accounts: Accounts::new(&config),
            front: Front::new(options.front),
            js: options.jetstream.map(JetStream::new),
            view: View::new(me, cores),
            peers: Peers::default(),
            system: System::new(options.system, options.facts),
            loopback: VecDeque::new(),
            effects: VecDeque::new(),
            now,
            turn_open: true,
            stopping: None,
            dialled: Vec::new(),
            census: BTreeMap::new(),
            census_due: false,
            config,
        };
        shard.register_services();
        shard.dial_routes();
        if !has_js {
            shard.effects.push_back(Effect::Ready);
        }
        shard
    }

    pub fn core(&self) -> CoreId {
        self.me.core
    }

    /// What this core hosts, for whoever looks at a server from outside: checkers and pages.
    pub fn jetstream(&self) -> Option<&JetStream> {
        self.js.as_ref()
    }

    /// Takes one event of the turn; its effects are queued.
    pub fn handle(&mut self, now: Now, event: Event) {
        self.now = now;
        self.turn_open = true;
        self.census_due |= matches!(event, Event::Accepted { .. } | Event::ClientGone { .. });
        match event {
            Event::Accepted { conn, remote, local } => self.front.accepted(now, conn, remote, local),
            Event::ClientBytes { conn, data } => self.front.bytes(now, conn, data),
            Event::ClientWritten { conn, bytes } => self.front.written(now, conn, bytes),
            Event::ClientGone { conn, why } => self.front.gone(now, conn, &why),
            Event::Http { conn, target } => self.on_http(conn, &target),
            Event::PeerUp { peer, hello } => self.on_peer_up(peer, hello),
            Event::PeerFrame { peer, frame, .. } => self.on_frame(peer, frame),
            Event::PeerRtt { peer, rtt_us } => self.on_rtt(peer, rtt_us),
            Event::PeerGone { peer, .. } => self.on_peer_gone(peer),
            Event::DiskDone(done) => {
                if let Some(js) = &mut self.js {
                    js.on_disk(now, done);
                }
            }
            Event::Mail { from, mail } => {
                for one in mail {
                    self.on_mail(from, one);
                }
            }
            Event::Wakeup => self.wakeup(),
            Event::Admin(admin) => self.on_admin(admin),
            Event::Vitals { cpu_percent, memory_bytes } => self.system.vitals(cpu_percent, memory_bytes),
        }
        self.drain_front();
    }

    /// What the shard wants done. Drain until `None` after every batch of events.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        if std::mem::take(&mut self.turn_open) {
            self.end_turn();
        }
        self.effects.pop_front()
    }

    /// When to send [`Event::Wakeup`], on the monotonic clock. Ask again after each drain.
    pub fn next_wakeup(&self) -> Option<Now> {
        let js = self.js.as_ref().and_then(|js| js.next_wakeup(self.now));
        let stop = self.stopping.filter(|stopping| !stopping.done).map(|stopping| stopping.deadline_us);
        let next = [self.front.next_wakeup(), js, self.system.next_wakeup(), stop].into_iter().flatten().min()?;
        Some(Now { us: next, wall_ns: 0 })
    }

    fn wakeup(&mut self) {
        let now = self.now;
        self.front.wakeup(now);
        if let Some(js) = &mut self.js {
            js.wakeup(now, &self.view);
        }
        self.system.wakeup(now, &self.front);
    }

    /// Parts hand on what they gathered until nothing moves, then everything leaves at once.
    fn end_turn(&mut self) {
        let now = self.now;
        loop {
            while let Some((from, msg)) = self.loopback.pop_front() {
                self.on_node(from, msg);
            }
            self.drain_front();
            if let Some(js) = &mut self.js {
                js.turn(now, &self.view);
            }
            self.drain_js();
            self.drain_system();
            self.drain_front();
            if self.loopback.is_empty() {
                break;
            }
        }
        self.check_stop();
        if std::mem::take(&mut self.census_due) {
            let (connections, by_account) = self.front.census();
            self.mail_all(|| Mail::Census { connections, by_account: by_account.clone() });
        }
        self.front.turn(now);
        self.drain_front();
        for (peer, lane, frame) in self.peers.take_frames() {
            self.effects.push_back(Effect::PeerSend { peer, lane, frame });
        }
    }

    // ---- between nodes

    /// Sends a message to a core, wherever it is.
    fn send(&mut self, to: Place, msg: NodeMsg) {
        if to == self.me {
            self.loopback.push_back((self.me, msg));
        } else if to.server == self.me.server {
            self.effects.push_back(Effect::Mail { to: to.core, mail: Mail::Node { from: self.me, msg } });
        } else if self.me.core == LINK_CORE {
            self.peers.send(to.server, to.core, self.me.core, &msg, &self.accounts);
        } else {
            self.effects.push_back(Effect::Mail { to: LINK_CORE, mail: Mail::ToPeer { to, msg } });
        }
    }

    fn send_all_peers(&mut self, msg: &NodeMsg) {
        let peers: Vec<ServerId> = self.view.peers.keys().copied().collect();
        for server in peers {
            self.send(Place { server, core: LINK_CORE }, msg.clone());
        }
    }

    fn mail_all(&mut self, mail: impl Fn() -> Mail) {
        for to in (0..self.cores).filter(|core| *core != self.me.core) {
            self.effects.push_back(Effect::Mail { to, mail: mail() });
        }
    }

    /// A message for this core, from a core of this server or of another.
    fn on_node(&mut self, from: Place, msg: NodeMsg) {
        let now = self.now;
        match msg {
            NodeMsg::Interest { account, subject, queue, add } => self.on_interest(from, account, subject, queue, add),
            NodeMsg::Message(routed) => self.front.routed(now, from, routed),
            NodeMsg::Reply(reply) => self.on_reply(reply),
            NodeMsg::Probe { account, subject, group, token } => {
                if !self.front.has_interest(account, &subject) {
                    self.send(from, NodeMsg::Bounce { group, token });
                }
            }
            NodeMsg::Lead(lead) => self.on_lead(from.server, lead),
            NodeMsg::Unlead { group, term } => self.on_unlead(from.server, group, term),
            NodeMsg::Request(request) => self.on_request(request),
            NodeMsg::Gossip { routes, client_urls } => self.on_gossip(routes, client_urls),
            NodeMsg::Goodbye { .. } => self.on_goodbye(from.server),
            js_msg => {
                if let Some(js) = &mut self.js {
                    js.on_node(now, &self.view, from, js_msg);
                }
            }
        }
        self.drain_front();
    }

    fn on_mail(&mut self, from: CoreId, mail: Mail) {
        let now = self.now;
        match mail {
            Mail::Node { from, msg } => self.on_node(from, msg),
            Mail::ToPeer { to, msg } => self.peers.send(to.server, to.core, from, &msg, &self.accounts),
            Mail::PeerUp { peer, hello } => self.learn_peer(peer, &hello),
            Mail::PeerGone { peer } => self.lose_peer(peer),
            Mail::PeerRtt { peer, rtt_us } => {
                if let Some(js) = &mut self.js {
                    js.peer_rtt(now, peer, rtt_us);
                }
            }
            Mail::Table(entries) => {
                if let Some(js) = &mut self.js {
                    js.on_table(now, &self.view, entries);
                }
            }
            Mail::TableRestored(table, forgets) => {
                if let Some(js) = &mut self.js {
                    js.on_table_copy(now, &self.view, &table, forgets);
                }
            }
            Mail::Barrier { mark } => {
                self.effects.push_back(Effect::Mail { to: from, mail: Mail::BarrierHeard { mark } });
            }
            Mail::BarrierHeard { mark } => self.front.barrier_heard(from, mark),
            Mail::PushBack => self.front.pressed(now, Node::Core(from)),
            Mail::Census { connections, by_account } => {
                self.census.insert(from, (connections, by_account));
                let total = self.census.values().map(|(count, _)| count).sum();
                let by_account = self.census.values().flat_map(|(_, by_account)| by_account.iter().copied()).collect();
                self.front.elsewhere(total, by_account);
            }
            Mail::Lead(lead) => self.on_lead(self.me.server, lead),
            Mail::Unlead { group, term } => self.on_unlead(self.me.server, group, term),
            Mail::PageAsk { id, page } => {
                let part = self.system.part(now, &page, &self.front, self.js.as_ref(), &self.view);
                self.effects.push_back(Effect::Mail { to: from, mail: Mail::PagePart { id, part } });
            }
            Mail::PagePart { id, part } => self.system.on_part(id, part),
        }
    }

    fn on_frame(&mut self, peer: ServerId, frame: Bytes) {
        match peers::open_frame(frame, &self.accounts) {
            Ok(parcels) => {
                for (to, from, msg) in parcels {
                    let from = Place { server: peer, core: from };
                    if to == self.me.core || to >= self.cores {
                        self.on_node(from, msg);
                    } else {
                        self.effects.push_back(Effect::Mail { to, mail: Mail::Node { from, msg } });
                    }
                }
            }
            Err(why) => self.effects.push_back(Effect::PeerClose { peer, why }),
        }
    }

    fn on_interest(&mut self, from: Place, account: AccountId, subject: Bytes, queue: Option<Bytes>, add: bool) {
        if from.server == self.me.server {
            return self.front.interest(Node::Core(from.core), account, subject, queue, add);
        }
        if self.me.core == LINK_CORE {
            // Every core routes to servers by itself, so every core must know.
            let (subject, queue) = (subject.clone(), queue.clone());
            self.mail_all(|| Mail::Node {
                from,
                msg: NodeMsg::Interest { account, subject: subject.clone(), queue: queue.clone(), add },
            });
        }
        self.front.interest(Node::Server(from.server), account, subject, queue, add);
    }

    // ---- links

    fn on_peer_up(&mut self, peer: ServerId, hello: Box<Hello>) {
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

    fn learn_peer(&mut self, peer: ServerId, hello: &Hello) {
        let facts = ServerFacts {
            name: hello.server_name.clone(),
            cluster: hello.cluster.clone(),
            domain: hello.domain.clone(),
            tags: hello.tags.clone(),
            file_bytes_max: 0,
            memory_bytes_max: 0,
        };
        self.system.peer_up(self.now, peer, hello);
        let (cores, empty) = (hello.cores.max(1), hello.store.is_none());
        self.view.peers.insert(peer, Peer { cores, facts, jetstream: hello.jetstream, empty });
        if let Some(js) = self.js.as_mut().filter(|_| hello.jetstream) {
            js.peer_up(self.now, &self.view, peer);
        }
    }

    fn on_peer_gone(&mut self, peer: ServerId) {
        self.peers.gone(peer);
        self.mail_all(|| Mail::PeerGone { peer });
        self.lose_peer(peer);
        self.refresh_urls();
    }

    fn lose_peer(&mut self, peer: ServerId) {
        self.view.peers.remove(&peer);
        self.system.peer_gone(peer);
        self.front.forget(Node::Server(peer));
        for group in self.view.leads.forget_server(peer) {
            self.front.stream_subjects(group, Accounts::GLOBAL, None);
            self.forget_stream(group);
        }
        if let Some(js) = &mut self.js {
            js.peer_gone(self.now, &self.view, peer);
        }
    }

    fn on_rtt(&mut self, peer: ServerId, rtt_us: u64) {
        self.mail_all(|| Mail::PeerRtt { peer, rtt_us });
        self.system.peer_rtt(peer, rtt_us);
        if let Some(js) = &mut self.js {
            js.peer_rtt(self.now, peer, rtt_us);
        }
    }

    /// A server says goodbye: it counts as gone at once, though its link may stand for a moment more.
    fn on_goodbye(&mut self, server: ServerId) {
        if self.view.peers.contains_key(&server) {
            self.effects.push_back(Effect::PeerClose { peer: server, why: "it is shutting down".into() });
            self.on_peer_gone(server);
        }
    }

    fn dial_routes(&mut self) {
        if self.me.core != LINK_CORE {
            return;
        }
        let routes: Vec<String> = self
            .config
            .cluster
            .iter()
            .flat_map(|cluster| cluster.routes.iter().map(|route| route.to_string()))
            .collect();
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
        self.refresh_urls();
        let (routes, client_urls) = self.system.known_urls();
        self.send_all_peers(&NodeMsg::Gossip { routes, client_urls });
    }

    fn on_gossip(&mut self, routes: Vec<String>, _client_urls: Vec<String>) {
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

    // ---- leaders

    /// A leader was announced: by a core of this server (`server` is this one) or by another server.
    fn on_lead(&mut self, server: ServerId, lead: Lead) {
        if !self.view.leads.learn(lead.clone()) {
            return;
        }
        self.route_stream(&lead);
        if self.me.core == LINK_CORE {
            if server == self.me.server {
                self.send_all_peers(&NodeMsg::Lead(lead));
            } else {
                self.mail_all(|| Mail::Node {
                    from: Place { server, core: LINK_CORE },
                    msg: NodeMsg::Lead(lead.clone()),
                });
            }
        }
    }

    fn on_unlead(&mut self, server: ServerId, group: GroupId, term: u64) {
        if !self.view.leads.unlearn(group, term) {
            return;
        }
        self.forget_stream(group);
        if self.me.core == LINK_CORE {
            let msg = NodeMsg::Unlead { group, term };
            if server == self.me.server {
                self.send_all_peers(&msg);
            } else {
                self.mail_all(|| Mail::Node { from: Place { server, core: LINK_CORE }, msg: msg.clone() });
            }
        }
    }

    /// Publishes find a led stream by its subjects.
    fn route_stream(&mut self, lead: &Lead) {
        if let Asset::Stream { account, subjects, .. } = &lead.asset {
            self.front.stream_subjects(lead.group, *account, Some(subjects.clone()));
        }
    }

    fn forget_stream(&mut self, group: GroupId) {
        let accounts: Vec<AccountId> = self.accounts.iter().map(|account| account.id).collect();
        for account in accounts {
            self.front.stream_subjects(group, account, None);
        }
    }

    // ---- services

    fn register_services(&mut self) {
        let clustered = self.config.cluster.is_some();
        if self.js.is_some() || clustered {
            let domain = self.config.jetstream.as_ref().and_then(|js| js.domain.clone());
            let accounts: Vec<AccountId> = self.accounts.iter().map(|account| account.id).collect();
            for account in accounts {
                self.front.service(account, Bytes::from_static(b"$JS.API.>"), Service::Api, false);
                self.front.service(account, Bytes::from_static(b"$JS.ACK.>"), Service::Ack, false);
                if let Some(domain) = &domain {
                    let filter = format!("$JS.{domain}.API.>");
                    self.front.service(account, filter.into(), Service::Api, false);
                }
            }
        }
        self.system.register(&mut self.front, &self.accounts, self.me.core == LINK_CORE);
    }

    /// Finds out which group answers an API request, and sends it there.
    fn on_api(
        &mut self,
        account: AccountId,
        subject: Bytes,
        reply: Option<Bytes>,
        headers: Option<Bytes>,
        payload: Bytes,
    ) {
        let entry = api::enter::enter(
            &self.config,
            &self.accounts,
            self.js.as_ref().map(JetStream::table),
            &self.view,
            account,
            &subject,
        );
        match entry {
            api::enter::Entry::To { group, kind, server } => {
                let origin = self.me;
                let request = Request { group, hops: 0, origin, account, kind, subject, reply, headers, payload };
                let to = self.view.place_of(group, server);
                self.send(to, NodeMsg::Request(request));
            }
            api::enter::Entry::Answer(answer) => {
                if let Some(subject) = reply {
                    let (to, headers, payload) = (self.me, answer.headers, answer.payload);
                    self.on_reply(Reply {
                        to,
                        account,
                        subject,
                        reply: None,
                        headers,
                        payload,
                        shown: None,
                        bounce: None,
                    });
                }
            }
            api::enter::Entry::Silent => {}
        }
    }

    fn on_ack(&mut self, account: AccountId, subject: Bytes, reply: Option<Bytes>, payload: Bytes) {
        let Some(ack) = AckSubject::parse(&subject) else { return };
        let names = (std::str::from_utf8(ack.stream), std::str::from_utf8(ack.consumer));
        let (Ok(stream), Ok(consumer)) = names else { return };
        let Some(group) = self.view.leads.consumer(account, stream, consumer).map(|lead| lead.group) else { return };
        self.ask_leader(group, RequestKind::Ack, account, subject, reply, None, payload);
    }

    #[allow(clippy::too_many_arguments)]
    fn ask_leader(
        &mut self,
        group: GroupId,
        kind: RequestKind,
        account: AccountId,
        subject: Bytes,
        reply: Option<Bytes>,
        headers: Option<Bytes>,
        payload: Bytes,
    ) {
        let Some(to) = self.view.leader_place(group) else { return };
        let origin = self.me;
        let request = Request { group, hops: 0, origin, account, kind, subject, reply, headers, payload };
        self.send(to, NodeMsg::Request(request));
    }

    fn on_request(&mut self, request: Request) {
        if let Some(js) = &mut self.js {
            js.on_request(self.now, &self.view, request);
        }
    }

    /// A reply for a client of this core.
    fn on_reply(&mut self, reply: Reply) {
        let reply = match &mut self.js {
            Some(js) => js.take_part(self.now, &self.view, reply),
            None => Some(reply),
        };
        if let Some(reply) = reply {
            self.front.reply(self.now, reply);
            self.drain_front();
        }
    }

    // ---- what the parts say

    fn drain_front(&mut self) {
        while let Some(output) = self.front.poll_output() {
            match output {
                FrontOutput::Write { conn, data } => self.effects.push_back(Effect::ClientWrite { conn, data }),
                FrontOutput::Close { conn } => self.effects.push_back(Effect::ClientClose { conn }),
                FrontOutput::ReadPause { conn, paused } => self.effects.push_back(Effect::ReadPause { conn, paused }),
                FrontOutput::ToNode { node: Node::Core(core), msg } => {
                    self.send(Place { server: self.me.server, core }, msg);
                }
                FrontOutput::ToNode { node: Node::Server(server), msg } => {
                    self.send(Place { server, core: LINK_CORE }, msg);
                }
                FrontOutput::Ingest { group, account, subject, reply, headers, payload } => {
                    self.ask_leader(group, RequestKind::Ingest, account, subject, reply, headers, payload);
                }
                FrontOutput::Service { service, account, subject, reply, headers, payload, client } => match service {
                    Service::Api => self.on_api(account, subject, reply, headers, payload),
                    Service::Ack => self.on_ack(account, subject, reply, payload),
                    other => self.system.on_service(self.now, other, account, subject, reply, headers, payload, client),
                },
                FrontOutput::Barrier { mark } => self.mail_all(|| Mail::Barrier { mark }),
                FrontOutput::PushBack { core } => {
                    self.effects.push_back(Effect::Mail { to: core, mail: Mail::PushBack });
                }
                FrontOutput::Bounce { group, token } => self.bounce(group, token),
                FrontOutput::SysEvent(event) => self.system.on_event(event),
                FrontOutput::Log { level, text } => self.effects.push_back(Effect::Log { level: level.into(), text }),
            }
        }
    }

    fn bounce(&mut self, group: GroupId, token: u64) {
        if let Some(to) = self.view.leader_place(group) {
            self.send(to, NodeMsg::Bounce { group, token });
        }
    }

    fn drain_js(&mut self) {
        while let Some(output) = self.js.as_mut().and_then(JetStream::poll_output) {
            match output {
                JsOutput::Reply(reply) if reply.to == self.me => self.on_reply(reply),
                JsOutput::Reply(reply) => self.send(reply.to, NodeMsg::Reply(reply)),
                JsOutput::Send { to, msg } => self.send(to, msg),
                JsOutput::Lead(lead) => {
                    self.mail_all(|| Mail::Lead(lead.clone()));
                    self.on_lead(self.me.server, lead);
                }
                JsOutput::Unlead { group, term } => {
                    self.mail_all(|| Mail::Unlead { group, term });
                    self.on_unlead(self.me.server, group, term);
                }
                JsOutput::Table(entries) => self.mail_all(|| Mail::Table(entries.clone())),
                JsOutput::TableRestored(table, forgets) => {
                    self.mail_all(|| Mail::TableRestored(table.clone(), forgets));
                }
                JsOutput::Formed { cluster_id } => self.effects.push_back(Effect::ClusterFormed { cluster_id }),
                JsOutput::Disk(op) => self.effects.push_back(Effect::Disk(op)),
                JsOutput::Ready => self.effects.push_back(Effect::Ready),
                JsOutput::Publish { account, subject, payload } => {
                    self.front.publish(self.now, account, subject, None, None, payload);
                }
                JsOutput::Log { level, text } => self.effects.push_back(Effect::Log { level, text }),
                JsOutput::Broken { why } => self.effects.push_back(Effect::Fatal { text: why }),
            }
        }
        while let Some(ask) = self.js.as_mut().and_then(JetStream::poll_ask) {
            if let NodeMsg::Request(request) = &ask
                && let Some(to) = self.view.leader_place(request.group)
            {
                self.send(to, ask);
            }
        }
    }

    fn drain_system(&mut self) {
        use crate::system::SystemOutput;
        while let Some(output) = self.system.poll_output(self.now, &mut self.front, self.js.as_ref(), &self.view) {
            match output {
                SystemOutput::Publish { account, subject, reply, headers, payload } => {
                    self.front.publish(self.now, account, subject, reply, headers, payload);
                }
                SystemOutput::Http { conn, status, content_type, body } => {
                    self.effects.push_back(Effect::HttpReply { conn, status, content_type, body });
                }
                SystemOutput::Ask { id, page } => self.mail_all(|| Mail::PageAsk { id, page: page.clone() }),
                SystemOutput::Kick { cid } => {
                    self.front.kick(self.now, cid);
                }
            }
            self.drain_front();
        }
    }

    fn on_http(&mut self, conn: crate::ids::ConnId, target: &str) {
        self.system.on_http(self.now, conn, target);
    }

    // ---- operators

    fn on_admin(&mut self, admin: Admin) {
        let now = self.now;
        match admin {
            Admin::Reload(config) => self.reload(config),
            Admin::LameDuck => {
                self.front.lame_duck(now);
                self.say_goodbye(true);
                if let Some(js) = &mut self.js {
                    js.hand_over(now);
                }
            }
            Admin::Stop => {
                self.stopping = Some(Stopping { deadline_us: now.us + STOP_PATIENCE_US, done: false });
                if let Some(js) = &mut self.js {
                    js.hand_over(now);
                }
            }
        }
    }

    /// Lame duck keeps its links: others only learn that its clients will leave.
    fn say_goodbye(&mut self, lame_duck: bool) {
        if self.me.core == LINK_CORE {
            self.system.going(self.now, lame_duck);
            if !lame_duck {
                self.send_all_peers(&NodeMsg::Goodbye { lame_duck });
            }
        }
    }

    fn check_stop(&mut self) {
        let Some(stopping) = self.stopping.filter(|stopping| !stopping.done) else { return };
        let waits = self.js.as_ref().is_some_and(|js| js.leads_others()) && self.now.us < stopping.deadline_us;
        if waits {
            return;
        }
        self.stopping = Some(Stopping { done: true, ..stopping });
        self.say_goodbye(false);
        self.drain_system();
        self.front.close_all(self.now, "");
        self.effects.push_back(Effect::Stopped);
    }

    fn reload(&mut self, config: Arc<Config>) {
        self.accounts.reload(&config);
        self.config = Arc::clone(&config);
        self.front.reload(self.now, Arc::clone(&config));
        self.system.reload(&config);
        let facts = self.system.facts().clone();
        if let Some(js) = &mut self.js {
            js.reload(config, self.accounts.clone());
            js.set_facts(self.now, facts);
        }
        self.register_services();
        self.dial_routes();
        self.effects.push_back(Effect::Log { level: Level::Info, text: "Reloaded server configuration".into() });
    }
}
