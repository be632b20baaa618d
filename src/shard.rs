//! The hub: one core as a pure state machine. It owns the parts and carries values; what they mean is decided elsewhere.
//!
//! ```text
//!            ┌─────────┐  Ingest, Service, ToNode   ┌───────────┐  Reply, Send, Lead, Table
//!  clients ──►  Front  ├───────────► hub ───────────► JetStream ├───────────► hub ──► Front, mail, peers, disk
//!            └─────────┘                            └───────────┘
//! ```
//! [`Shard::handle`] takes events of one turn; the first [`Shard::poll_effect`] after them ends the turn (one write per
//! connection, one frame per peer and lane, one append for all groups), and the effects are drained from there.

mod leaders;
mod links;
mod operators;
mod services;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::account::Accounts;
use crate::client::{Front, FrontOptions, FrontOutput, Service};
use crate::cluster::interest::Node;
use crate::cluster::peers::{self, Peers};
use crate::cluster::table::ServerFacts;
use crate::cluster::view::View;
use crate::cluster::wire::{NodeMsg, RequestKind};
use crate::config::Config;
use crate::event::{Effect, Event, Mail};
use crate::ids::{AccountId, CoreId, GroupId, Now, Place, ServerId};
use crate::jetstream::{JetStream, JsOptions, JsOutput};
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
    stopping: Option<operators::Stopping>,
    dialled: Vec<String>,
    /// The cluster's name stands in no configuration that this server knows of.
    cluster_made_up: bool,
    /// Connections of the other cores, as they told.
    census: BTreeMap<CoreId, Vec<(AccountId, u32)>>,
}

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
            cluster_made_up: config.cluster.as_ref().is_some_and(|cluster| cluster.name.is_none()),
            census: BTreeMap::new(),
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

    /// JetStream, unless this server was put out of its cluster.
    fn serving(&self) -> Option<&JetStream> {
        in_service(&self.js)
    }

    /// Takes one event of the turn; its effects are queued.
    pub fn handle(&mut self, now: Now, event: Event) {
        self.now = now;
        self.turn_open = true;
        match event {
            Event::Accepted { conn, remote, local, others } => self.front.accepted(now, conn, remote, local, others),
            Event::Compared { conn, right } => self.front.compared(now, conn, right),
            Event::ClientBytes { conn, data } => self.front.bytes(now, conn, data),
            Event::ClientWritten { conn, bytes } => self.front.written(now, conn, bytes),
            Event::ClientReleased { conn, ok } => self.front.released(now, conn, ok),
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
        let stop = self.stopping.filter(|stopping| !stopping.done).map(|stopping| stopping.next_us(self.now.us));
        let front = [self.front.next_wakeup(), self.front.next_look()].into_iter().flatten().min();
        let next = [front, js, self.system.next_wakeup(), stop].into_iter().flatten().min()?;
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
        self.drop_unheard();
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
        if let Some((by_account, lodgers)) = self.front.census() {
            self.mail_all(|| Mail::Census { by_account: by_account.clone(), lodgers });
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
            // Where an answer goes came with the question, perhaps from another server.
            if to.core >= self.cores {
                return;
            }
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

    fn mail_one(&mut self, to: CoreId, mail: Mail) {
        self.effects.push_back(Effect::Mail { to, mail });
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
            NodeMsg::Goodbye { lame_duck } => self.on_goodbye(from.server, lame_duck),
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
            Mail::ToPeer { to, msg } => {
                self.peers.send(to.server, to.core, from, &msg, &self.accounts);
                if let (NodeMsg::Heartbeat(_), Some(js)) = (&msg, &mut self.js) {
                    js.beat_along(now);
                }
            }
            Mail::PeerUp { peer, hello } => self.learn_peer(peer, &hello),
            Mail::PeerGone { peer } => self.lose_peer(peer),
            Mail::PeerLameDuck { peer } => self.learn_lame_duck(peer),
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
            Mail::PushBack => self.front.pressed(now, from),
            Mail::Heard { bytes } => self.front.heard(now, from, bytes),
            Mail::Move(word) => self.front.on_word(now, from, word),
            Mail::Census { by_account, lodgers } => {
                self.census.insert(from, by_account);
                self.front.lodgers(from, lodgers);
                self.front.elsewhere(self.census.values().flatten().copied().collect());
            }
            Mail::Lead(lead) => self.on_lead(self.me.server, lead),
            Mail::Unlead { group, term } => self.on_unlead(self.me.server, group, term),
            Mail::PageAsk { id, page } => {
                let part = self.system.part(now, &page, &self.front, in_service(&self.js), &self.view);
                self.effects.push_back(Effect::Mail { to: from, mail: Mail::PagePart { id, part } });
            }
            Mail::PagePart { id, part } => self.system.on_part(id, part),
        }
    }

    fn on_frame(&mut self, peer: ServerId, frame: Bytes) {
        let has_say = self.has_say(peer);
        match peers::open_frame(frame, &self.accounts) {
            Ok(parcels) => {
                for (to, from, msg) in parcels {
                    if let Some(why) = self.overstep(peer, has_say, &msg) {
                        return self.effects.push_back(Effect::PeerClose { peer, why: why.into() });
                    }
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

    // ---- what the parts say

    fn drain_front(&mut self) {
        while let Some(output) = self.front.poll_output() {
            match output {
                FrontOutput::Write { conn, data } => self.effects.push_back(Effect::ClientWrite { conn, data }),
                FrontOutput::Close { conn } => self.effects.push_back(Effect::ClientClose { conn }),
                FrontOutput::Release { conn } => self.effects.push_back(Effect::ClientRelease { conn }),
                FrontOutput::Adopt { conn } => self.effects.push_back(Effect::ClientAdopt { conn }),
                FrontOutput::Word { core, word } => self.mail_one(core, Mail::Move(word)),
                FrontOutput::Compare { conn, claim } => self.effects.push_back(Effect::Compare { conn, claim }),
                FrontOutput::ReadPause { conn, paused } => self.effects.push_back(Effect::ReadPause { conn, paused }),
                FrontOutput::ToNode { node: Node::Core(core), msg } => {
                    self.send(Place { server: self.me.server, core }, msg);
                }
                FrontOutput::ToNode { node: Node::Server(server), msg } => {
                    self.send(Place { server, core: LINK_CORE }, msg);
                }
                FrontOutput::Ingest { group, message } => self.ask_leader(group, RequestKind::Ingest, message),
                FrontOutput::Service { service, message, client } => match service {
                    Service::Api => self.on_api(message, client),
                    Service::Ack => self.on_ack(message),
                    other => self.system.on_service(self.now, other, message, client),
                },
                FrontOutput::Barrier { mark } => self.mail_all(|| Mail::Barrier { mark }),
                FrontOutput::PushBack { core } => self.mail_one(core, Mail::PushBack),
                FrontOutput::Heard { core, bytes } => self.mail_one(core, Mail::Heard { bytes }),
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
}

/// The same beside a borrow of another part.
fn in_service(js: &Option<JetStream>) -> Option<&JetStream> {
    js.as_ref().filter(|js| !js.is_evicted())
}
