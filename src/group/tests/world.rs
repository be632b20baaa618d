//! A small world of servers under virtual time: a seeded network and disks that crash, a toy machine per group, and an
//! oracle that knows what was applied anywhere.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::disk::Disk;
use super::toy::Toy;
use crate::cluster::wire::NodeMsg;
use crate::group::{
    GroupKind, GroupOutput, GroupSpec, GroupStatus, Groups, GroupsOptions, LogLevel, ProposeRefused, ReadBody,
    ReadGone, ReadToken, Timing, mix,
};
use crate::ids::{GroupId, Now, Place, ServerId};

pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0 ^ mix(self.0))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub struct Server {
    pub disk: Disk,
    pub groups: Option<Groups>,
    pub machines: BTreeMap<GroupId, Toy>,
    pub specs: BTreeMap<GroupId, GroupSpec>,
    pub reads: BTreeMap<ReadToken, Result<Bytes, ReadGone>>,
    pub logs: Vec<(LogLevel, String)>,
    pub ready: bool,
    pub broken: Option<String>,
    boot: u64,
}

pub struct World {
    pub rng: Rng,
    pub now: u64,
    pub servers: BTreeMap<ServerId, Server>,
    net: BTreeMap<(u64, u64), (Place, Place, NodeMsg)>,
    /// Pairs that do not hear each other, though their links stand.
    pub cut: BTreeSet<(ServerId, ServerId)>,
    pub delay_us: (u64, u64),
    pub drop_percent: u64,
    sequence: u64,
    /// Per group and index: the fingerprint of everything applied up to it. Equal on all replicas, for ever.
    pub history: BTreeMap<GroupId, BTreeMap<u64, u64>>,
    /// Proposals that their leader has applied: a client would have heard "ack".
    pub acked: BTreeMap<GroupId, u64>,
    proposed: BTreeMap<(ServerId, GroupId, u64), ()>,
    pub strict: bool,
    pub sent: BTreeMap<&'static str, u64>,
    pub segment_bytes: u64,
    pub state_part_bytes: usize,
    pub log_bytes_max: Option<u64>,
}

fn now(us: u64) -> Now {
    Now { us, wall_ns: us as i64 * 1000 }
}

pub fn id(number: u64) -> ServerId {
    ServerId(number)
}

impl World {
    pub fn new(seed: u64, servers: u64) -> World {
        World::with_parts(seed, servers, 8 << 10)
    }

    /// The same; states above so many bytes are stored in parts.
    pub fn with_parts(seed: u64, servers: u64, state_part_bytes: usize) -> World {
        let mut world = World {
            rng: Rng::new(mix(seed)),
            now: 1_000_000,
            servers: BTreeMap::new(),
            net: BTreeMap::new(),
            cut: BTreeSet::new(),
            delay_us: (100, 400),
            drop_percent: 0,
            sequence: 0,
            history: BTreeMap::new(),
            acked: BTreeMap::new(),
            proposed: BTreeMap::new(),
            strict: true,
            sent: BTreeMap::new(),
            segment_bytes: 1 << 20,
            state_part_bytes,
            log_bytes_max: None,
        };
        for number in 1..=servers {
            world.servers.insert(id(number), Server::new());
            world.start(id(number));
        }
        world
    }

    /// Starts a server's process on the disk that it has.
    pub fn start(&mut self, at: ServerId) {
        let (seed, segment_bytes, bytes_max) = (self.rng.next(), self.segment_bytes, self.log_bytes_max);
        let server = self.servers.get_mut(&at).unwrap();
        server.boot += 1;
        let store = storage::StoreOptions {
            segment_bytes,
            bytes_max,
            run_bytes_max: 64 << 10,
            create: server.disk.files.is_empty(),
            seed,
            cache_bytes: 256 << 10,
            read_cache_bytes: 256 << 10,
            ..storage::StoreOptions::default()
        };
        let options = GroupsOptions {
            server: at,
            core: 0,
            cores: 1,
            boot: seed,
            seed,
            store,
            state_part_bytes: self.state_part_bytes,
            timing: Timing::default(),
        };
        server.groups = Some(Groups::new(options));
        server.ready = false;
        self.pump(at);
        let others: Vec<ServerId> = self.up().into_iter().filter(|other| *other != at).collect();
        for other in others {
            for (a, b) in [(at, other), (other, at)] {
                let time = now(self.now);
                if let Some(groups) = self.servers.get_mut(&a).unwrap().groups.as_mut() {
                    groups.peer_up(time, b, 1);
                }
                self.pump(a);
            }
        }
    }

    pub fn up(&self) -> Vec<ServerId> {
        self.servers.iter().filter(|(_, server)| server.groups.is_some()).map(|(id, _)| *id).collect()
    }

    /// The process dies; its disk keeps what it kept.
    pub fn crash(&mut self, at: ServerId) {
        let server = self.servers.get_mut(&at).unwrap();
        server.groups = None;
        server.machines.clear();
        server.reads.clear();
        server.disk.crash(&mut self.rng);
        server.specs.retain(|_, spec| !spec.memory || spec.bootstrap.as_ref().is_some_and(|voters| voters.len() > 1));
        self.net.retain(|_, (from, to, _)| from.server != at && to.server != at);
        self.proposed.retain(|key, _| key.0 != at);
        for other in self.up() {
            let time = now(self.now);
            self.servers.get_mut(&other).unwrap().groups.as_mut().unwrap().peer_down(time, at);
            self.pump(other);
        }
    }

    pub fn spec(group: GroupId, kind: GroupKind, voters: &[u64]) -> GroupSpec {
        let bootstrap = (!voters.is_empty()).then(|| voters.iter().copied().map(id).collect());
        GroupSpec { group, kind, memory: false, bootstrap, forgetful: false, priority_low: false }
    }

    /// Opens the group where its voters are.
    pub fn open(&mut self, spec: &GroupSpec) {
        for at in spec.bootstrap.clone().unwrap() {
            self.open_at(at, spec.clone());
        }
    }

    pub fn open_at(&mut self, at: ServerId, spec: GroupSpec) {
        let time = now(self.now);
        let server = self.servers.get_mut(&at).unwrap();
        server.specs.insert(spec.group, spec.clone());
        if server.ready {
            server.groups.as_mut().unwrap().open(time, spec);
        }
        self.pump(at);
    }

    /// What the hub does with a replica that is wanted no more, and with [`GroupOutput::Removed`].
    pub fn close_at(&mut self, at: ServerId, group: GroupId) {
        let time = now(self.now);
        let server = self.servers.get_mut(&at).unwrap();
        server.specs.remove(&group);
        server.machines.remove(&group);
        server.groups.as_mut().unwrap().close(time, group);
        self.pump(at);
    }

    pub fn is_removed(&self, at: ServerId, group: GroupId) -> bool {
        self.servers[&at].groups.as_ref().is_some_and(|groups| groups.is_removed(group))
    }

    pub fn groups(&mut self, at: ServerId) -> &mut Groups {
        self.servers.get_mut(&at).unwrap().groups.as_mut().unwrap()
    }

    pub fn status(&self, at: ServerId, group: GroupId) -> Option<GroupStatus> {
        self.servers[&at].groups.as_ref()?.status(group)
    }

    pub fn leader(&self, group: GroupId) -> Option<ServerId> {
        let leads = |at: &ServerId| self.servers[at].machines.get(&group).is_some_and(|toy| toy.leading);
        let term = |at: &ServerId| self.status(*at, group).map_or(0, |status| status.term);
        self.up().into_iter().filter(leads).max_by_key(term)
    }

    pub fn propose(&mut self, group: GroupId, body: Bytes) -> Result<u64, ProposeRefused> {
        let Some(at) = self.leader(group) else { return Err(ProposeRefused::NotLeader { leader: None }) };
        let time = now(self.now);
        let index = self.groups(at).propose(time, group, body)?;
        self.proposed.insert((at, group, index), ());
        self.pump(at);
        Ok(index)
    }

    /// The same for what gives space back.
    pub fn relieve(&mut self, group: GroupId, body: Bytes) -> Result<u64, ProposeRefused> {
        let Some(at) = self.leader(group) else { return Err(ProposeRefused::NotLeader { leader: None }) };
        let time = now(self.now);
        let index = self.groups(at).propose_relief(time, group, body)?;
        self.proposed.insert((at, group, index), ());
        self.pump(at);
        Ok(index)
    }

    /// Proposes, waiting for a leader if need be, and waits until it is acknowledged.
    pub fn put(&mut self, group: GroupId, body: Bytes) -> u64 {
        for _ in 0..2_000 {
            if let Ok(index) = self.propose(group, body.clone()) {
                for _ in 0..400 {
                    if self.acked.get(&group).is_some_and(|acked| *acked >= index) {
                        return index;
                    }
                    self.run(1_000);
                }
            }
            self.run(5_000);
        }
        self.explain();
        panic!("nothing is acknowledged any more; leader {:?}", self.leader(group));
    }

    /// Every machine of the group offers a checkpoint, as streams do when they have much to give back.
    pub fn offer(&mut self, group: GroupId) {
        let time = now(self.now);
        for at in self.up() {
            let server = self.servers.get_mut(&at).unwrap();
            let Some(toy) = server.machines.get_mut(&group).filter(|toy| !toy.reading) else { continue };
            server.groups.as_mut().unwrap().checkpoint(time, group, toy.applied, toy.checkpoint());
            self.pump(at);
        }
    }

    pub fn read(&mut self, at: ServerId, group: GroupId, index: u64) -> Option<Result<Bytes, ReadGone>> {
        let time = now(self.now);
        match self.groups(at).read(time, group, index) {
            ReadBody::Ready(body) => Some(Ok(body)),
            ReadBody::Gone => Some(Err(ReadGone::Gone)),
            ReadBody::Busy => None,
            ReadBody::Pending(token) => {
                self.pump(at);
                for _ in 0..10_000 {
                    if let Some(result) = self.servers.get_mut(&at).unwrap().reads.remove(&token) {
                        return Some(result);
                    }
                    self.run(1_000);
                }
                None
            }
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, us: u64) {
        let until = self.now + us;
        let mut spins = 0;
        while let Some((at, what)) = self.next_event().filter(|(at, _)| *at <= until) {
            spins = if at > self.now { 0 } else { spins + 1 };
            assert!(spins < 100_000, "something spins at {}", self.now);
            self.now = self.now.max(at);
            self.step(what);
        }
        self.now = until;
    }

    /// Runs until it holds; panics after `us`.
    pub fn until(&mut self, us: u64, what: &str, holds: impl Fn(&World) -> bool) {
        let end = self.now + us;
        while !holds(self) {
            if self.now >= end {
                self.explain();
                panic!("not within {us} us: {what}");
            }
            self.run(2_000);
        }
    }

    /// For a test that fails.
    pub fn explain(&self) {
        for (at, server) in &self.servers {
            for (level, text) in server.logs.iter().rev().take(12).rev() {
                eprintln!("{} {level:?} {text}", at.0);
            }
            let Some(groups) = &server.groups else { continue };
            eprintln!("{} full {} {:?}", at.0, groups.is_full(), groups.log_stats());
            for group in groups.iter_open() {
                eprintln!("{} at {}: {:?}", at.0, self.now, groups.status(group));
            }
            for (group, toy) in &server.machines {
                eprintln!("{} {group:?} applied {} chain {:x} live {}", at.0, toy.applied, toy.chain, toy.live.len());
            }
        }
    }

    fn next_event(&self) -> Option<(u64, What)> {
        let packet = self.net.keys().next().map(|key| (key.0, What::Packet));
        let servers = self.servers.iter().filter(|(_, server)| server.groups.is_some()).flat_map(|(at, server)| {
            let disk = server.disk.next().map(|due| (due, What::Disk(*at)));
            let timer = server.groups.as_ref().and_then(Groups::next_wakeup);
            disk.into_iter().chain(timer.map(|due| (due.max(self.now), What::Timer(*at))))
        });
        packet.into_iter().chain(servers).min_by_key(|(at, _)| *at)
    }

    fn step(&mut self, what: What) {
        let time = now(self.now);
        match what {
            What::Packet => {
                let (_, (from, to, msg)) = self.net.pop_first().unwrap();
                let Some(groups) = self.servers.get_mut(&to.server).and_then(|server| server.groups.as_mut()) else {
                    return;
                };
                deliver(groups, time, from, msg);
                self.pump(to.server);
            }
            What::Disk(at) => {
                let server = self.servers.get_mut(&at).unwrap();
                while let Some(done) = server.disk.finish(self.now) {
                    server.groups.as_mut().unwrap().on_disk(time, done);
                }
                self.pump(at);
            }
            What::Timer(at) => {
                self.groups(at).wakeup(time);
                self.pump(at);
            }
        }
    }

    /// One turn of a server, until it has nothing more to say.
    pub fn pump(&mut self, at: ServerId) {
        let time = now(self.now);
        loop {
            let Some(groups) = self.servers.get_mut(&at).unwrap().groups.as_mut() else { return };
            groups.turn(time);
            let mut outputs = Vec::new();
            while let Some(output) = groups.poll_output() {
                outputs.push(output);
            }
            let mut ops = Vec::new();
            while let Some(op) = groups.poll_disk() {
                ops.push(op);
            }
            if outputs.is_empty() && ops.is_empty() {
                return;
            }
            for op in ops {
                let ends = self.now + 20 + self.rng.below(300);
                self.servers.get_mut(&at).unwrap().disk.submit(ends, op);
            }
            for output in outputs {
                self.output(at, output);
            }
        }
    }

    fn output(&mut self, at: ServerId, output: GroupOutput) {
        let time = now(self.now);
        let strict = self.strict;
        let server = self.servers.get_mut(&at).unwrap();
        let Some(groups) = server.groups.as_mut() else { return };
        let mut applied = None;
        match output {
            GroupOutput::Recovered(_) => {
                server.ready = true;
                for spec in server.specs.values() {
                    let again = server.boot > 1 && spec.memory;
                    groups.open(time, GroupSpec { forgetful: spec.forgetful || again, ..spec.clone() });
                }
            }
            GroupOutput::Restore { group, checkpoint } => {
                server.machines.entry(group).or_default().restore(checkpoint.as_ref());
            }
            GroupOutput::Install { group, checkpoint, .. } => {
                server.machines.entry(group).or_default().restore(Some(&checkpoint));
            }
            GroupOutput::RestoreEntry { group, index, body } => {
                server.machines.get_mut(&group).unwrap().restore_entry(index, body);
            }
            GroupOutput::Restored { group, committed } => {
                let kind = server.specs[&group].kind;
                let toy = server.machines.get_mut(&group).unwrap();
                applied = Some((group, toy.restored(kind, committed, strict)));
                groups.applied(group, committed);
            }
            GroupOutput::Appended { group, index, body } => {
                server.machines.get_mut(&group).unwrap().appended(index, body);
            }
            GroupOutput::Truncated { group, from } => server.machines.get_mut(&group).unwrap().truncated(from),
            GroupOutput::Committed { group, upto } => {
                let toy = server.machines.get_mut(&group).unwrap();
                applied = Some((group, toy.apply(upto)));
                groups.applied(group, upto);
            }
            GroupOutput::Role { group, leading, .. } => {
                let acked = self.acked.get(&group).copied().unwrap_or(0);
                if let Some(toy) = server.machines.get_mut(&group) {
                    assert!(!leading || toy.applied >= acked, "{} leads {group:?} before it knows all", at.0);
                    toy.leading = leading;
                }
            }
            GroupOutput::WantCheckpoint { group } => {
                let toy = server.machines.get_mut(&group).unwrap();
                groups.checkpoint(time, group, toy.applied, toy.checkpoint());
            }
            GroupOutput::Read { token, result, .. } => {
                server.reads.insert(token, result);
            }
            GroupOutput::Send { to, msg } => self.transmit(at, to, msg),
            GroupOutput::Broken { why } => server.broken = Some(why),
            GroupOutput::Log { level, text, .. } => server.logs.push((level, text)),
            GroupOutput::Checkpointed { group, index } => {
                if let Some(first) = server.machines[&group].checkpointed(index) {
                    groups.release(group, first);
                }
            }
            GroupOutput::Removed { .. } => *self.sent.entry("removed").or_default() += 1,
            GroupOutput::CheckpointRefused { .. }
            | GroupOutput::Whole { .. }
            | GroupOutput::SpaceLow
            | GroupOutput::SpaceBack
            | GroupOutput::SpaceWanted => {}
        }
        if let Some((group, list)) = applied {
            self.check(at, group, list);
        }
    }

    /// What a replica applied must be what every other one applied.
    fn check(&mut self, at: ServerId, group: GroupId, list: Vec<(u64, u64)>) {
        let history = self.history.entry(group).or_default();
        for (index, chain) in list {
            let known = *history.entry(index).or_insert(chain);
            assert_eq!(known, chain, "server {} applied another history of {group:?} at {index}", at.0);
            if self.proposed.remove(&(at, group, index)).is_some() {
                let acked = self.acked.entry(group).or_default();
                *acked = (*acked).max(index);
            }
        }
    }

    fn transmit(&mut self, from: ServerId, to: Place, msg: NodeMsg) {
        *self.sent.entry(name(&msg)).or_default() += 1;
        if self.cut.contains(&(from, to.server)) || self.rng.chance(self.drop_percent) {
            return;
        }
        let arrives = self.now + self.delay_us.0 + self.rng.below(self.delay_us.1 - self.delay_us.0 + 1);
        self.sequence += 1;
        self.net.insert((arrives, self.sequence), (Place { server: from, core: 0 }, to, msg));
    }

    /// Cuts a server off, without telling anybody.
    pub fn isolate(&mut self, at: ServerId) {
        for other in self.servers.keys().copied().collect::<Vec<_>>() {
            self.cut.insert((at, other));
            self.cut.insert((other, at));
        }
    }

    /// Every replica in `at` has the same state and everything that was acknowledged.
    pub fn converged(&self, group: GroupId, at: &[u64]) -> bool {
        let toys: Vec<Option<&Toy>> = at.iter().map(|at| self.servers[&id(*at)].machines.get(&group)).collect();
        let acked = self.acked.get(&group).copied().unwrap_or(0);
        let same = |a: &Toy, b: &Toy| (a.applied, a.chain, &a.live) == (b.applied, b.chain, &b.live);
        let Some(Some(first)) = toys.first() else { return false };
        let all = toys.iter().all(|toy| toy.is_some_and(|toy| !toy.reading && same(toy, first)));
        all && first.applied >= acked && self.leader(group).is_some()
    }

    pub fn messages(&self) -> u64 {
        self.sent.iter().filter(|(name, _)| **name != "heartbeat").map(|(_, count)| count).sum()
    }

    pub fn errors(&self, at: ServerId) -> Vec<&str> {
        let errors = self.servers[&at].logs.iter().filter(|(level, _)| *level == LogLevel::Error);
        errors.map(|(_, text)| text.as_str()).collect()
    }
}

enum What {
    Packet,
    Disk(ServerId),
    Timer(ServerId),
}

fn deliver(groups: &mut Groups, time: Now, from: Place, msg: NodeMsg) {
    match msg {
        NodeMsg::Raft { group, message, bodies } => groups.on_raft(time, from.server, group, message, bodies),
        NodeMsg::Catchup { group, epoch, step } => groups.on_catchup(time, from.server, group, epoch, step),
        NodeMsg::Heartbeat(heartbeat) => groups.on_heartbeat(time, from, heartbeat),
        NodeMsg::HeartbeatList { leads } => groups.on_heartbeat_list(time, from, leads),
        NodeMsg::Space { full } => groups.on_space(from, full),
        other => panic!("groups do not send {other:?}"),
    }
}

fn name(msg: &NodeMsg) -> &'static str {
    match msg {
        NodeMsg::Raft { .. } => "raft",
        NodeMsg::Catchup { .. } => "catchup",
        NodeMsg::Heartbeat(_) => "heartbeat",
        NodeMsg::HeartbeatList { .. } => "list",
        _ => "other",
    }
}

impl Server {
    fn new() -> Server {
        Server {
            disk: Disk::default(),
            groups: None,
            machines: BTreeMap::new(),
            specs: BTreeMap::new(),
            reads: BTreeMap::new(),
            logs: Vec::new(),
            ready: false,
            broken: None,
            boot: 0,
        }
    }
}
