//! Connections that move between cores: cores as values, mail between them with random delays, publishers on all of them.
//!
//! Every message names its publisher and has a number; whoever listens must get each once and in order. Two worlds with a
//! bug of the mail (what is forwarded gets lost; the new core waits for nobody) show that this would be noticed.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::desk::{Desk, SECOND, config, options};
use crate::client::moving::Word;
use crate::client::{FrontOutput, SysEvent};
use crate::cluster::interest::Node;
use crate::cluster::wire::NodeMsg;
use crate::ids::{ConnId, CoreId, Place, ServerId};
use crate::route::Lot;

const CORES: CoreId = 3;
/// Requests that make a habit here.
const MOVE_AFTER: u32 = 3;

/// What goes from core to core.
enum Parcel {
    Node(NodeMsg),
    Word(Word),
    Barrier(u64),
    BarrierHeard(u64),
    Heard(u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    ForwardLost,
    WaitsForNobody,
}

/// Where a client's socket is: read by a core, or on its way with what was written meanwhile.
enum Socket {
    At(CoreId),
    Between(Vec<Bytes>),
}

struct World {
    desks: Vec<Desk>,
    lanes: BTreeMap<(CoreId, CoreId), VecDeque<(u64, Parcel)>>,
    /// Sockets that are being let go: when, core, client.
    parting: VecDeque<(u64, CoreId, u64)>,
    sockets: BTreeMap<u64, Socket>,
    /// Everything that a client received.
    heard: BTreeMap<u64, String>,
    now: u64,
    lot: Lot,
    bug: Bug,
    moves: usize,
    events: Vec<SysEvent>,
    /// Answers requests on `svc`, one core at a time.
    helper: u64,
}

impl World {
    fn new(seed: u64, bug: Bug) -> World {
        let desk = |core| {
            let mut options = options(config(""), 1, core, CORES);
            options.move_after = MOVE_AFTER;
            let mut desk = Desk::with(options);
            desk.number_from(1_000 * u64::from(core));
            desk
        };
        World {
            desks: (0..CORES).map(desk).collect(),
            lanes: BTreeMap::new(),
            parting: VecDeque::new(),
            sockets: BTreeMap::new(),
            heard: BTreeMap::new(),
            now: SECOND,
            lot: Lot::new(seed),
            bug,
            moves: 0,
            events: Vec::new(),
            helper: 0,
        }
    }

    fn desk(&mut self, core: CoreId) -> &mut Desk {
        let now = self.now;
        let desk = &mut self.desks[usize::from(core)];
        desk.now.us = now;
        desk
    }

    fn client(&mut self, core: CoreId, subs: &str) -> u64 {
        let id = self.desk(core).quiet();
        self.sockets.insert(id, Socket::At(core));
        self.send(id, subs);
        self.rest();
        id
    }

    /// A client writes to its socket.
    fn send(&mut self, id: u64, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        match self.sockets.get_mut(&id) {
            Some(Socket::At(core)) => {
                let core = *core;
                self.desk(core).send_bytes(id, bytes);
                self.collect(core);
            }
            Some(Socket::Between(written)) => written.push(bytes),
            None => {}
        }
    }

    fn post(&mut self, from: CoreId, to: CoreId, parcel: Parcel) {
        let due = self.now + 1 + self.lot.below(120);
        let lane = self.lanes.entry((from, to)).or_default();
        let due = lane.back().map_or(due, |(last, _)| due.max(*last));
        lane.push_back((due, parcel));
    }

    /// Takes what a core said in its last turn.
    fn collect(&mut self, core: CoreId) {
        self.desk(core).settle();
        loop {
            let outputs = std::mem::take(&mut self.desk(core).others);
            if outputs.is_empty() {
                break;
            }
            outputs.into_iter().for_each(|output| self.carry(core, output));
            self.desk(core).settle();
        }
        for (id, bytes) in std::mem::take(&mut self.desk(core).received) {
            let text = String::from_utf8(bytes).unwrap();
            self.heard.entry(id).or_default().push_str(&text);
            if id == self.helper {
                self.help(&text);
            }
        }
    }

    /// Answers each request: `MSG svc 1 <reply> 1`.
    fn help(&mut self, text: &str) {
        for line in text.lines().filter(|line| line.starts_with("MSG svc ")) {
            let reply = line.split(' ').nth(3).unwrap().to_owned();
            self.send(self.helper, &format!("PUB {reply} 2\r\nok\r\n"));
        }
    }

    fn carry(&mut self, core: CoreId, output: FrontOutput) {
        let others = (0..CORES).filter(|other| *other != core);
        match output {
            FrontOutput::ToNode { node: Node::Core(to), msg } => self.post(core, to, Parcel::Node(msg)),
            FrontOutput::Word { core: to, word } => {
                let lost = self.bug == Bug::ForwardLost && matches!(word, Word::Forward { .. });
                if !lost {
                    self.post(core, to, Parcel::Word(word));
                }
            }
            FrontOutput::Barrier { mark } => others.for_each(|to| self.post(core, to, Parcel::Barrier(mark))),
            FrontOutput::Heard { core: to, bytes } => self.post(core, to, Parcel::Heard(bytes)),
            FrontOutput::Release { conn } => {
                let due = self.now + self.lot.below(100);
                self.parting.push_back((due, core, conn.0));
            }
            FrontOutput::Adopt { conn } => {
                let before = self.sockets.insert(conn.0, Socket::At(core));
                let Some(Socket::Between(written)) = before else { panic!("a socket was taken over twice") };
                self.moves += 1;
                for bytes in written {
                    self.desk(core).send_bytes(conn.0, bytes);
                }
            }
            FrontOutput::SysEvent(event) => self.events.push(event),
            _ => {}
        }
    }

    /// Carries out what is due.
    fn step(&mut self) {
        self.now += 1 + self.lot.below(40);
        let now = self.now;
        while self.parting.front().is_some_and(|(due, ..)| *due <= now) {
            let (_, core, id) = self.parting.pop_front().unwrap();
            if matches!(self.sockets.get(&id), Some(Socket::At(_))) {
                self.sockets.insert(id, Socket::Between(Vec::new()));
                let desk = self.desk(core);
                desk.front.released(desk.now, ConnId(id), true);
                self.collect(core);
            }
        }
        let lanes: Vec<(CoreId, CoreId)> = self.lanes.keys().copied().collect();
        for (from, to) in lanes {
            while let Some((_, parcel)) = self.lanes.get_mut(&(from, to)).and_then(|lane| {
                let due = lane.front().is_some_and(|(due, _)| *due <= now);
                due.then(|| lane.pop_front()).flatten()
            }) {
                self.deliver(from, to, parcel);
            }
        }
    }

    fn deliver(&mut self, from: CoreId, to: CoreId, parcel: Parcel) {
        let hasty = match &parcel {
            Parcel::Word(Word::Comes(mover)) if self.bug == Bug::WaitsForNobody => Some(mover.id()),
            _ => None,
        };
        let desk = self.desk(to);
        let now = desk.now;
        let front = &mut desk.front;
        match parcel {
            Parcel::Node(NodeMsg::Interest { account, subject, queue, add }) => {
                front.interest(Node::Core(from), account, subject, queue, add);
            }
            Parcel::Node(NodeMsg::Message(routed)) => {
                front.routed(now, Place { server: ServerId(1), core: from }, routed);
            }
            Parcel::Node(other) => panic!("{other:?}"),
            Parcel::Word(word) => front.on_word(now, from, word),
            Parcel::Barrier(mark) => self.post(to, from, Parcel::BarrierHeard(mark)),
            Parcel::BarrierHeard(mark) => front.barrier_heard(from, mark),
            Parcel::Heard(bytes) => front.heard(now, from, bytes),
        }
        if let Some(conn) = hasty {
            let desk = self.desk(to);
            for core in (0..CORES).filter(|core| *core != to) {
                desk.front.on_word(now, core, Word::Followed { conn });
            }
            desk.front.on_word(now, from, Word::All { conn, fate: None });
        }
        self.collect(to);
    }

    /// Runs until nobody has anything to say.
    fn rest(&mut self) {
        while !self.parting.is_empty() || self.lanes.values().any(|lane| !lane.is_empty()) {
            self.step();
        }
    }

    fn text(&self, id: u64) -> &str {
        self.heard.get(&id).map_or("", String::as_str)
    }

    fn sum(&mut self, of: impl Fn(&Desk) -> u64) -> u64 {
        self.desks.iter().map(of).sum()
    }
}

/// A requester that moves, publishers and listeners on all cores, some of which come and go.
struct Play {
    world: World,
    mover: u64,
    asked: usize,
    publishers: Vec<u64>,
    listeners: Vec<u64>,
    sent: Vec<u32>,
    own: u32,
    /// Listens on some of the mover's subjects, or not.
    fickle: Vec<(u64, bool)>,
}

impl Play {
    fn new(seed: u64, bug: Bug) -> Play {
        let mut world = World::new(seed, bug);
        let listeners = (0..CORES).map(|core| world.client(core, "SUB own 1\r\n")).collect();
        let publishers: Vec<u64> = (0..CORES).map(|core| world.client(core, "")).collect();
        let fickle = (0..CORES).map(|core| (world.client(core, ""), false)).collect();
        world.helper = world.client(1, "SUB svc 1\r\n");
        let mover = world.client(0, "SUB in.me.* 1\r\nSUB news.* 2\r\nSUB news.> 3\r\n");
        Play { sent: vec![0; publishers.len()], world, mover, asked: 0, publishers, listeners, own: 0, fickle }
    }

    fn act(&mut self) {
        let idle = self.answers() == self.asked;
        let world = &mut self.world;
        match world.lot.below(12) {
            0..=4 => {
                let at = world.lot.below(self.publishers.len() as u64) as usize;
                self.sent[at] += 1;
                let subject = ["in.me.x", "news.today"][world.lot.below(2) as usize];
                let text = format!("{at}-{}", self.sent[at]);
                world.send(self.publishers[at], &format!("PUB {subject} {}\r\n{text}\r\n", text.len()));
            }
            5 => {
                let at = world.lot.below(self.fickle.len() as u64) as usize;
                let (id, listens) = &mut self.fickle[at];
                let text = if *listens { "UNSUB 1\r\nUNSUB 2\r\n" } else { "SUB news.* 1\r\nSUB in.> 2\r\n" };
                *listens = !*listens;
                world.send(*id, text);
            }
            6 if world.lot.below(4) == 0 => {
                self.own += 1;
                let text = self.own.to_string();
                world.send(self.mover, &format!("PUB own {}\r\n{text}\r\n", text.len()));
            }
            // One request at a time, as somebody who waits for each answer.
            _ if idle => {
                self.asked += 1;
                world.send(self.mover, &format!("PUB svc in.me.{} 1\r\n?\r\n", self.asked));
            }
            _ => {}
        }
    }

    fn answers(&self) -> usize {
        self.world.text(self.mover).matches("\r\nok\r\n").count()
    }

    /// Requests go to another core from now on.
    fn change_helper(&mut self) {
        self.world.rest();
        self.world.send(self.world.helper, "UNSUB 1\r\n");
        let core = self.world.lot.below(u64::from(CORES)) as CoreId;
        self.world.helper = self.world.client(core, "SUB svc 1\r\n");
        self.world.now += SECOND;
    }

    fn run(&mut self) {
        for _ in 0..6 {
            for _ in 0..150 {
                self.act();
                self.world.step();
            }
            self.change_helper();
        }
        self.world.rest();
    }

    /// What is wrong with what was heard.
    fn verdict(&mut self) -> Result<(), String> {
        let mover = self.world.text(self.mover).to_owned();
        for (at, sent) in self.sent.iter().enumerate() {
            let got = numbers(&mover, &format!("{at}-"));
            let by = |not: &str| got.iter().filter(|(sid, _)| *sid != not).map(|(_, n)| *n).collect::<Vec<_>>();
            // Each comes by the inbox or, twice, by the filters for news.
            for other in ["2", "3"] {
                let numbers = by(other);
                if numbers != (1..=*sent).collect::<Vec<_>>() {
                    return Err(format!("publisher {at}: sent {sent}, got {numbers:?}"));
                }
            }
        }
        for listener in &self.listeners {
            let own: Vec<u32> = numbers(self.world.text(*listener), "").into_iter().map(|(_, n)| n).collect();
            if own != (1..=self.own).collect::<Vec<_>>() {
                return Err(format!("of the mover's own {} a listener heard {own:?}", self.own));
            }
        }
        if self.answers() != self.asked {
            return Err(format!("{} of {} requests were answered", self.answers(), self.asked));
        }
        Ok(())
    }
}

/// Subscription and number of every message whose text begins so, in order of arrival.
fn numbers<'a>(text: &'a str, prefix: &str) -> Vec<(&'a str, u32)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("MSG ") {
            continue;
        }
        let (sid, body) = (line.split(' ').nth(2).unwrap(), lines.next().unwrap());
        if let Some(number) = body.strip_prefix(prefix).and_then(|rest| rest.parse().ok()) {
            found.push((sid, number));
        }
    }
    found
}

#[test]
fn whatever_moves_everybody_hears_everything_once_and_in_order() {
    let mut moves = 0;
    for seed in 0..60 {
        let mut play = Play::new(seed, Bug::None);
        play.run();
        assert_eq!(play.verdict(), Ok(()), "seed {seed}");
        moves += play.world.moves;
        let clients = play.world.sockets.len() as u64;
        assert_eq!(play.world.sum(|desk| u64::from(desk.front.totals().connections)), clients);
        let rows = |desk: &Desk| desk.front.connz(desk.now, false).len() as u64;
        assert_eq!(play.world.sum(rows), clients);
        assert_eq!(play.world.events.len() as u64, clients, "each came once and none went");
        for id in play.world.sockets.keys().copied().collect::<Vec<_>>() {
            for desk in &mut play.world.desks {
                desk.front.gone(desk.now, ConnId(id), "EOF");
            }
            (0..CORES).for_each(|core| play.world.collect(core));
        }
        play.world.rest();
        assert_eq!(play.world.events.len() as u64, 2 * clients, "each went once");
        for desk in &play.world.desks {
            let totals = &desk.front.account_totals()[0];
            let left = (totals.list_entries, totals.remote_entries, totals.subscriptions, totals.connections);
            assert_eq!(left, (0, 0, 0, 0), "seed {seed}");
        }
    }
    assert!(moves > 100, "{moves} moves in 60 runs");
}

#[test]
fn a_move_that_forwards_nothing_or_waits_for_nobody_would_be_noticed() {
    for bug in [Bug::ForwardLost, Bug::WaitsForNobody] {
        let noticed = (0..60).any(|seed| {
            let mut play = Play::new(seed, bug);
            play.run();
            play.verdict().is_err()
        });
        assert!(noticed);
    }
}

/// A requester on core 0 whose requests go to core 1, about to move.
fn eager() -> (World, u64) {
    let mut world = World::new(1, Bug::None);
    world.helper = world.client(1, "SUB svc 1\r\n");
    let mover = world.client(0, "SUB in.* 1\r\n");
    for n in 0..MOVE_AFTER {
        world.send(mover, &format!("PUB svc in.{n} 1\r\n?\r\n"));
        while !world.text(mover).contains(&format!("in.{n} ")) {
            world.step();
        }
    }
    assert_eq!(world.parting.len(), 1);
    (world, mover)
}

#[test]
fn a_client_that_is_kicked_on_its_way_is_closed_once_where_it_comes_to() {
    for steps in 0..40 {
        let (mut world, mover) = eager();
        let cid = world.desks[0].front.connz(world.desks[0].now, false)[0].cid;
        (0..steps).for_each(|_| world.step());
        // As an operator's request does: every core is asked.
        let mut found = 0;
        for core in 0..CORES {
            let desk = world.desk(core);
            found += u32::from(desk.front.kick(desk.now, cid));
            world.collect(core);
        }
        world.rest();
        let closed: usize = world.desks.iter().map(|desk| usize::from(desk.is_closed(mover))).sum();
        assert!(found >= 1, "after {steps} steps");
        assert_eq!(closed, 1, "after {steps} steps");
        let gone = world.events.iter().filter(|event| matches!(event, SysEvent::Disconnect { .. })).count();
        assert_eq!(gone, 1);
        assert_eq!(world.sum(|desk| u64::from(desk.front.totals().connections)), 1);
        assert_eq!(world.sum(|desk| desk.front.account_totals()[0].subscriptions), 1);
    }
}

#[test]
fn a_socket_that_dies_before_it_is_let_go_is_gone_once() {
    let (mut world, mover) = eager();
    world.parting.clear();
    let desk = world.desk(0);
    desk.front.gone(desk.now, ConnId(mover), "Client Closed");
    desk.front.released(desk.now, ConnId(mover), true);
    world.collect(0);
    world.rest();
    assert_eq!(world.sum(|desk| u64::from(desk.front.totals().connections)), 1);
    assert_eq!(world.moves, 0);
}

#[test]
fn a_socket_that_cannot_be_given_away_is_read_on() {
    let (mut world, mover) = eager();
    world.parting.clear();
    let desk = world.desk(0);
    desk.send_bytes(mover, Bytes::from_static(b"PING\r\n"));
    assert_eq!(desk.text(mover), "");
    desk.front.released(desk.now, ConnId(mover), false);
    desk.settle();
    assert_eq!(desk.text(mover), "PONG\r\n");
}

#[test]
fn only_simple_requesters_move() {
    let requests = |world: &mut World, id: u64, text: &str| {
        for n in 0..2 * MOVE_AFTER {
            world.send(id, &text.replace("REPLY", &format!("in.{id}.{n}")));
            world.rest();
        }
        world.moves
    };
    let one = "PUB svc REPLY 1\r\n?\r\n";
    let inbox = |id: &str| format!("SUB in.*.* {id}\r\n");
    let mut world = World::new(5, Bug::None);
    world.helper = world.client(1, "SUB svc 1\r\n");
    let queue = world.client(0, &format!("{}SUB work q 2\r\n", inbox("1")));
    assert_eq!(requests(&mut world, queue, one), 0);
    let crowded = world.client(0, &(0..20).map(|n| inbox(&n.to_string())).collect::<String>());
    assert_eq!(requests(&mut world, crowded, one), 0);
    let pairs = world.client(0, &inbox("1"));
    assert_eq!(requests(&mut world, pairs, &format!("{one}{one}")), 0);
    let silent = world.client(0, &inbox("1"));
    assert_eq!(requests(&mut world, silent, "PUB svc 1\r\n?\r\n"), 0);
    let near = world.client(1, &inbox("1"));
    assert_eq!(requests(&mut world, near, one), 0);
    let simple = world.client(0, &inbox("1"));
    assert_eq!(requests(&mut world, simple, one), 1);
    assert_eq!(requests(&mut world, simple, one), 1);
}

#[test]
fn a_core_takes_in_few() {
    let mut world = World::new(6, Bug::None);
    world.helper = world.client(1, "SUB svc 1\r\n");
    for _ in 0..40 {
        let id = world.client(0, "SUB in.* 1\r\n");
        for n in 0..MOVE_AFTER {
            world.send(id, &format!("PUB svc in.{n} 1\r\n?\r\n"));
            world.rest();
        }
        let census: Vec<_> = world.desks.iter_mut().map(|desk| desk.front.census()).collect();
        for (core, told) in census.into_iter().enumerate() {
            let Some((_, lodgers)) = told else { continue };
            world.desks.iter_mut().for_each(|desk| desk.front.lodgers(core as CoreId, lodgers));
        }
    }
    assert_eq!(world.moves, 4);
}
