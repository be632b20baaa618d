//! The links between servers.
//!
//! A link is a TCP connection per lane: frames of a lane arrive in order or the link breaks on both sides; lanes
//! overtake each other. A cut in either direction holds frames back until the link's silence is noticed, or until the
//! cut heals. In a lossy run, messages of raft, catch-up and heartbeats are lost, doubled and late one by one, which
//! TCP never does and these protocols must survive nevertheless.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use net::peer::lane::Lane;
use trestle::account::Accounts;
use trestle::cluster::peers::{self, Peers};
use trestle::cluster::wire::{CatchupStep, NodeMsg};
use trestle::event::Event;
use trestle::ids::ServerId;

use crate::dice::Dice;
use crate::mutants::Mutant;
use crate::options::Options;
use crate::world::{Happening, World};

/// How soon the end of a connection is noticed when the other process dies.
const RESET_US: u64 = 3_000;

/// Pause before a link is tried again.
const REDIAL_US: u64 = 50_000;

pub struct Net {
    /// By pair, smaller index first.
    links: BTreeMap<(usize, usize), Link>,
    /// Directions in which nothing passes.
    pub cut: BTreeSet<(usize, usize)>,
    /// One-way delay, microseconds.
    delay_us: BTreeMap<(usize, usize), u64>,
    /// Frames that wait for a cut to heal.
    held: Vec<(u64, usize, usize, Lane, Bytes)>,
    pub lossy_percent: u64,
    generations: u64,
}

#[derive(Default)]
struct Link {
    /// 0: down.
    generation: u64,
    /// When each side has heard that it stands (smaller index first).
    up_us: [u64; 2],
    /// When both sides have heard that it is gone.
    gone_us: u64,
    /// When the last frame of a direction and lane arrives.
    arrivals: BTreeMap<(usize, u8), u64>,
    trying: bool,
}

impl Net {
    pub fn new(servers: usize, dice: &mut Dice, options: &Options) -> Net {
        let mut delay_us = BTreeMap::new();
        for a in 0..servers {
            for b in a + 1..servers {
                let delay = if options.faults.wide { dice.between(2_000, 15_000) } else { dice.between(30, 300) };
                delay_us.insert((a, b), delay);
            }
        }
        Net {
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            delay_us,
            held: Vec::new(),
            lossy_percent: options.faults.lossy_percent,
            generations: 0,
        }
    }

    pub fn generation(&self, a: usize, b: usize) -> u64 {
        self.links.get(&pair(a, b)).map_or(0, |link| link.generation)
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World {
    pub(crate) fn try_link_soon(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        let (a, b) = pair(a, b);
        let link = self.net.links.entry((a, b)).or_default();
        if link.generation == 0 && !std::mem::replace(&mut link.trying, true) {
            let earliest = link.gone_us.max(self.now_us);
            let due = earliest + self.dice.between(REDIAL_US / 10, REDIAL_US);
            self.at(due, Happening::Link { a, b });
        }
    }

    /// Tries to make a link stand.
    pub(crate) fn link(&mut self, a: usize, b: usize) {
        let now = self.now_us;
        let Some(link) = self.net.links.get_mut(&(a, b)) else { return };
        link.trying = false;
        let away = |world: &World, at: usize| !world.servers[at].running || world.servers[at].paused_until > now;
        if away(self, a) || away(self, b) || self.net.is_cut(a, b) {
            if self.servers[a].running && self.servers[b].running {
                self.try_link_soon(a, b);
            }
            return;
        }
        let (hello_a, hello_b) = (self.servers[a].hello(), self.servers[b].hello());
        if let (Some(ours), Some(theirs)) = (&hello_a.store, &hello_b.store)
            && ours != theirs
        {
            let what = format!(
                "two clusters have formed: {} is in {ours}, {} in {theirs}",
                hello_a.server_name, hello_b.server_name
            );
            return self.oracle.wrong(what);
        }
        self.net.generations += 1;
        let generation = self.net.generations;
        let (wait_a, wait_b) = (self.dice.between(100, 3_000), self.dice.between(100, 3_000));
        if let Some(link) = self.net.links.get_mut(&(a, b)) {
            link.generation = generation;
            link.up_us = [now + wait_a, now + wait_b];
            link.arrivals.clear();
        }
        let (peer_a, peer_b) = (self.servers[a].id, self.servers[b].id);
        self.tell_links(a, wait_a, Event::PeerUp { peer: peer_b, hello: Box::new(hello_b) });
        self.tell_links(b, wait_b, Event::PeerUp { peer: peer_a, hello: Box::new(hello_a) });
        self.after(20_000, Happening::Rtt { a, b, generation });
    }

    pub(crate) fn on_rtt(&mut self, a: usize, b: usize, generation: u64) {
        if self.net.generation(a, b) != generation {
            return;
        }
        let rtt_us = self.net.delay_us[&(a, b)] * 2 + self.dice.below(200);
        let (peer_a, peer_b) = (self.servers[a].id, self.servers[b].id);
        self.tell_links(a, 0, Event::PeerRtt { peer: peer_b, rtt_us });
        self.tell_links(b, 0, Event::PeerRtt { peer: peer_a, rtt_us });
        self.after(300_000, Happening::Rtt { a, b, generation });
    }

    /// The link is over; each side that lives hears of it in its own time.
    pub(crate) fn break_link(&mut self, a: usize, b: usize, why: &str) {
        let (a, b) = pair(a, b);
        let now = self.now_us;
        let waits = [self.dice.between(10, RESET_US), self.dice.between(10, RESET_US)];
        let Some(link) = self.net.links.get_mut(&(a, b)).filter(|link| link.generation != 0) else { return };
        let generation = std::mem::take(&mut link.generation);
        let times = [link.up_us[0].max(now) + waits[0], link.up_us[1].max(now) + waits[1]];
        link.gone_us = times[0].max(times[1]);
        self.net.held.retain(|held| held.0 != generation);
        let peers = [self.servers[b].id, self.servers[a].id];
        for (side, server) in [a, b].into_iter().enumerate() {
            let event = Event::PeerGone { peer: peers[side], why: why.to_owned() };
            self.tell_links(server, times[side] - now, event);
        }
        self.try_link_soon(a, b);
    }

    // ---- cuts

    /// Nothing passes from `a` to `b` any more; the link breaks once its silence is noticed.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        self.net.cut.insert((a, b));
        let generation = self.net.generation(a, b);
        if generation != 0 {
            let notice = self.dice.between(600_000, 1_200_000);
            self.after(notice, Happening::LinkBreaks { a, b, generation });
        }
    }

    /// All cuts heal; what was held back by links that still stand arrives now.
    pub(crate) fn heal_cuts(&mut self) {
        self.net.cut.clear();
        for (generation, from, to, lane, frame) in std::mem::take(&mut self.net.held) {
            if self.net.generation(from, to) == generation {
                self.transmit(generation, from, to, lane, frame);
            }
        }
    }

    // ---- frames

    pub(crate) fn peer_send(&mut self, from: usize, peer: ServerId, lane: Lane, frame: Bytes) {
        let Some(to) = self.index_of(peer) else { return };
        let generation = self.net.generation(from, to);
        if generation == 0 {
            return;
        }
        self.figures.frames += 1;
        if let Some(group) = self.options.watch {
            self.watch(from, to, group, frame.clone());
        }
        let spoils = self.options.mutant.is_some_and(Mutant::sits_between_servers);
        if self.net.lossy_percent == 0 && !spoils {
            return self.transmit(generation, from, to, lane, frame);
        }
        self.transmit_apart(generation, from, to, lane, frame);
    }

    /// Shows what a frame says about one group.
    fn watch(&mut self, from: usize, to: usize, group: u64, frame: Bytes) {
        let accounts = Accounts::new(&self.servers[from].config);
        for (_, _, msg) in peers::open_frame(frame, &accounts).unwrap_or_default() {
            let text = match &msg {
                NodeMsg::Raft { group: of, message, .. } if of.0 == group => {
                    format!("term {} {:?}", message.term, message.body)
                }
                NodeMsg::Catchup { group: of, step, .. } if of.0 == group => format!("{step:?}"),
                _ => continue,
            };
            let text: String = text.chars().take(300).collect();
            let text = format!("to {}: {text}", self.servers[to].name);
            self.trace.aside(self.now_us, &self.servers[from].name, &text);
        }
    }

    /// In order within its lane.
    fn transmit(&mut self, generation: u64, from: usize, to: usize, lane: Lane, frame: Bytes) {
        if self.net.cut.contains(&(from, to)) {
            return self.net.held.push((generation, from, to, lane, frame));
        }
        let delay = self.delay(from, to, frame.len());
        let key = pair(from, to);
        let now = self.now_us;
        let Some(link) = self.net.links.get_mut(&key) else { return };
        let up = link.up_us[usize::from(to == key.1)];
        let last = link.arrivals.entry((to, lane.code())).or_default();
        *last = (now + delay).max(*last).max(up + 1);
        let due = *last;
        self.at(due, Happening::Frame { generation, from, to, lane, frame });
    }

    fn delay(&mut self, from: usize, to: usize, bytes: usize) -> u64 {
        let base = self.net.delay_us[&pair(from, to)];
        let late = if self.dice.below(500) == 0 { self.dice.below(base * 10) } else { 0 };
        base + self.dice.below(base / 4 + 20) + late + bytes as u64 / 1_000
    }

    pub(crate) fn on_frame(&mut self, generation: u64, from: usize, to: usize, lane: Lane, frame: Bytes) {
        if self.net.generation(from, to) == generation {
            let peer = self.servers[from].id;
            self.tell_links(to, 0, Event::PeerFrame { peer, lane, frame });
        }
    }

    /// Message by message: those that must survive it are lost, doubled or late, the others stay in order.
    fn transmit_apart(&mut self, generation: u64, from: usize, to: usize, lane: Lane, frame: Bytes) {
        let accounts = Accounts::new(&self.servers[from].config);
        let Ok(parcels) = peers::open_frame(frame, &accounts) else {
            let what = format!("{} sends a frame that cannot be read", self.servers[from].name);
            return self.oracle.wrong(what);
        };
        let mut ordered = Peers::default();
        let peer = self.servers[to].id;
        ordered.up(peer);
        for (to_core, from_core, msg) in parcels {
            let Some(msg) = self.spoil(generation, from, to, (to_core, from_core), msg) else { continue };
            let fragile = matches!(
                msg,
                NodeMsg::Raft { .. } | NodeMsg::Catchup { .. } | NodeMsg::Heartbeat(_) | NodeMsg::HeartbeatList { .. }
            );
            let unlucky = fragile && self.dice.chance(self.net.lossy_percent);
            if !unlucky {
                ordered.send(peer, to_core, from_core, &msg, &accounts);
                continue;
            }
            // A third each: lost, late, and here and late.
            let fate = self.dice.below(3);
            if fate == 2 {
                ordered.send(peer, to_core, from_core, &msg, &accounts);
            }
            if fate > 0 {
                let late = self.dice.between(1_000, 60_000);
                self.send_alone(generation, (from, to), (to_core, from_core), &msg, late);
            }
        }
        for (_, lane_out, frame) in ordered.take_frames() {
            debug_assert_eq!(lane_out, lane);
            self.transmit(generation, from, to, lane_out, frame);
        }
    }

    /// One message in a frame of its own, out of order.
    fn send_alone(&mut self, generation: u64, (from, to): (usize, usize), cores: (u16, u16), msg: &NodeMsg, late: u64) {
        let accounts = Accounts::new(&self.servers[from].config);
        let mut alone = Peers::default();
        let peer = self.servers[to].id;
        alone.up(peer);
        alone.send(peer, cores.0, cores.1, msg, &accounts);
        let key = pair(from, to);
        let up = self.net.links.get(&key).map_or(0, |link| link.up_us[usize::from(to == key.1)]);
        for (_, lane, frame) in alone.take_frames() {
            let due = (self.now_us + late).max(up + 1);
            self.at(due, Happening::Frame { generation, from, to, lane, frame });
        }
    }

    /// Mutants that sit between servers: the message as it goes on, if it does.
    fn spoil(&mut self, generation: u64, from: usize, to: usize, cores: (u16, u16), msg: NodeMsg) -> Option<NodeMsg> {
        match (self.options.mutant, msg) {
            (Some(Mutant::LeadLost), NodeMsg::Lead(_)) if self.dice.chance(30) => None,
            (Some(Mutant::HealLost), NodeMsg::Catchup { step: CatchupStep::Have { .. }, .. }) => None,
            (Some(Mutant::VoteForgotten), NodeMsg::Raft { group, mut message, bodies }) => {
                if let raft::Body::VoteReply { granted, .. } | raft::Body::PreVoteReply { granted, .. } =
                    &mut message.body
                {
                    *granted = true;
                }
                Some(NodeMsg::Raft { group, message, bodies })
            }
            (Some(Mutant::AppendChanged), NodeMsg::Raft { group, message, mut bodies }) => {
                if let Some(body) = bodies.last_mut().filter(|body| body.len() > 100 && from < to) {
                    let mut bytes = body.to_vec();
                    if let Some(byte) = bytes.last_mut() {
                        *byte ^= 1;
                    }
                    *body = Bytes::from(bytes);
                }
                Some(NodeMsg::Raft { group, message, bodies })
            }
            (Some(Mutant::QuorumMinusOne), NodeMsg::Raft { group, message, bodies }) => {
                let raft::Body::Append { entries, commit, .. } = &message.body else {
                    return Some(NodeMsg::Raft { group, message, bodies });
                };
                let Some(last) = entries.last().filter(|_| self.dice.chance(50)) else {
                    return Some(NodeMsg::Raft { group, message, bodies });
                };
                let body = raft::Body::AppendReply { matched: last.index, commit: *commit, amnesia: None };
                let (one, other) = (message.to, message.from);
                let forged = raft::Message { from: one, to: other, epoch: message.epoch, term: message.term, body };
                let forged = NodeMsg::Raft { group, message: forged, bodies: Vec::new() };
                let delay = self.delay(from, to, 0) * 2;
                self.send_alone(generation, (to, from), (cores.1, cores.0), &forged, delay);
                None
            }
            (Some(Mutant::LeaveEarly), NodeMsg::Raft { group, message, bodies }) => {
                let raft::Body::Seek { question } = message.body else {
                    return Some(NodeMsg::Raft { group, message, bodies });
                };
                let body = raft::Body::Removed { index: raft::NUMBER_MAX, question };
                let (one, other) = (message.to, message.from);
                let forged = raft::Message { from: one, to: other, epoch: message.epoch, term: message.term, body };
                let forged = NodeMsg::Raft { group, message: forged, bodies: Vec::new() };
                let delay = self.delay(from, to, 0) * 2;
                self.send_alone(generation, (to, from), (cores.1, cores.0), &forged, delay);
                None
            }
            (_, msg) => Some(msg),
        }
    }
}
