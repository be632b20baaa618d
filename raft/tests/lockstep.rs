//! The same schedule for our nodes and for raft-rs 0.7, tick by tick, over networks that are cut in the same places. At
//! the quiet end of every phase both clusters must agree on each node's term, role, leader, commit and last index.
//!
//! Where they rightly differ, and what is done about it:
//! - raft-rs draws its own election timeouts. Ours are copied into it before each tick, so that the same nodes wake.
//! - raft-rs checks its quorum once per election timeout, we at every heartbeat. A cut-off leader steps down at another
//!   tick, so a cut lasts long enough for both, and nothing is proposed to a leader that only one side has.
//! - raft-rs sends a commit at once to everybody, we once a peer has everything. At the end of a phase it is the same.
//! - our first entry of a group is its membership, theirs is empty. Both take one index.
//! - changes of members differ on purpose: theirs count when applied, ours when appended. They are not compared.

use std::collections::{BTreeMap, VecDeque};

use raft::{Membership, Message, Node, NodeId, Options, Output, Restore, Role};
use raft_rs::prelude as theirs;
use raft_rs::storage::MemStorage;
use raft_rs::{RawNode, StateRole};

const TICK: u64 = 1_000;
const ELECTION_TICKS: usize = 10;
const HEARTBEAT_TICKS: usize = 2;

/// What both sides must agree on: term, role, leader, commit, last.
type View = (u64, &'static str, u64, u64, u64);

struct Ours {
    nodes: BTreeMap<u64, Node>,
    net: Vec<Message>,
    now: u64,
}

struct Theirs {
    nodes: BTreeMap<u64, RawNode<MemStorage>>,
    net: Vec<theirs::Message>,
}

impl Ours {
    fn new(count: u64, seed: u64) -> Ours {
        let members = Membership::of((1..=count).map(NodeId)).unwrap();
        let node = |id| {
            let restore = Restore { membership: members.clone(), ..Restore::default() };
            (id, Node::new(Self::options(id, seed), restore, 0).unwrap())
        };
        Ours { nodes: (1..=count).map(node).collect(), net: Vec::new(), now: 0 }
    }

    fn options(id: u64, seed: u64) -> Options {
        let (election_timeout_us, heartbeat_us) = (ELECTION_TICKS as u64 * TICK, HEARTBEAT_TICKS as u64 * TICK);
        Options { election_timeout_us, heartbeat_us, ..Options::new(NodeId(id), 0, seed * 100 + id) }
    }

    fn act(&mut self, id: u64, verb: impl FnOnce(&mut Node, u64)) {
        let node = self.nodes.get_mut(&id).unwrap();
        verb(node, self.now);
        while let Some(output) = node.poll() {
            match output {
                Output::Persist { ticket, .. } => node.persisted(self.now, ticket),
                Output::Send(message) => self.net.push(message),
                Output::Commit(index) => node.applied(index),
                _ => {}
            }
        }
    }

    fn deliver(&mut self, cut: &[(u64, u64)]) -> bool {
        let mut round = std::mem::take(&mut self.net);
        round.sort_by_key(|message| (message.from, message.to));
        round.retain(|message| !cut.contains(&(message.from.0, message.to.0)));
        let any = !round.is_empty();
        for message in round {
            self.act(message.to.0, |node, now| node.step(now, message));
        }
        any
    }

    fn view(&self, id: u64) -> View {
        let status = self.nodes[&id].status();
        let role = match status.role {
            Role::Follower => "follower",
            Role::PreCandidate => "pre-candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        };
        (status.term, role, status.leader.map_or(0, |id| id.0), status.commit, status.last)
    }
}

impl Theirs {
    fn new(count: u64) -> Theirs {
        let node =
            |id| (id, Self::start(id, MemStorage::new_with_conf_state(((1..=count).collect::<Vec<_>>(), vec![]))));
        Theirs { nodes: (1..=count).map(node).collect(), net: Vec::new() }
    }

    fn start(id: u64, storage: MemStorage) -> RawNode<MemStorage> {
        let config = raft_rs::Config {
            id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            // Room for the longest of our waits, rounded up to a tick.
            max_election_tick: 3 * ELECTION_TICKS,
            pre_vote: true,
            check_quorum: true,
            max_inflight_msgs: 256,
            max_size_per_msg: 1 << 20,
            ..raft_rs::Config::default()
        };
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        RawNode::new(&config, storage, &silent).unwrap()
    }

    fn act(&mut self, id: u64, verb: impl FnOnce(&mut RawNode<MemStorage>)) {
        let node = self.nodes.get_mut(&id).unwrap();
        verb(node);
        while node.has_ready() {
            let mut ready = node.ready();
            self.net.extend(ready.take_messages());
            let storage = node.mut_store().clone();
            storage.wl().append(ready.entries()).unwrap();
            if let Some(hard) = ready.hs() {
                storage.wl().set_hardstate(hard.clone());
            }
            self.net.extend(ready.take_persisted_messages());
            let mut light = node.advance(ready);
            if let Some(commit) = light.commit_index() {
                storage.wl().mut_hard_state().set_commit(commit);
            }
            self.net.extend(light.take_messages());
            node.advance_apply();
        }
    }

    fn deliver(&mut self, cut: &[(u64, u64)]) -> bool {
        let mut round = std::mem::take(&mut self.net);
        round.sort_by_key(|message| (message.from, message.to));
        round.retain(|message| !cut.contains(&(message.from, message.to)));
        let any = !round.is_empty();
        for message in round {
            // An error is a message that raft-rs does not take from there: dropped, as ours does.
            self.act(message.to, |node| ignore(node.step(message)));
        }
        any
    }

    fn view(&self, id: u64) -> View {
        let raft = &self.nodes[&id].raft;
        let role = match raft.state {
            StateRole::Follower => "follower",
            StateRole::PreCandidate => "pre-candidate",
            StateRole::Candidate => "candidate",
            StateRole::Leader => "leader",
        };
        (raft.term, role, raft.leader_id, raft.raft_log.committed, raft.raft_log.last_index())
    }
}

/// Refusals are part of a schedule; that both sides refuse alike shows in the comparison.
fn ignore<T>(_answer: T) {}

/// Both clusters under one schedule.
struct Pair {
    ours: Ours,
    theirs: Theirs,
    cut: Vec<(u64, u64)>,
    story: VecDeque<String>,
    dice: u64,
    count: u64,
    starts: u64,
}

impl Pair {
    fn new(count: u64, seed: u64) -> Pair {
        let (ours, theirs) = (Ours::new(count, seed), Theirs::new(count));
        let dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Pair { ours, theirs, cut: Vec::new(), story: VecDeque::new(), dice, count, starts: seed << 20 }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        (self.dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn settle(&mut self) {
        while self.ours.deliver(&self.cut) | self.theirs.deliver(&self.cut) {}
    }

    fn tick(&mut self) {
        for id in 1..=self.count {
            let left = self.ours.nodes[&id]
                .status()
                .election_deadline
                .map(|at| at.saturating_sub(self.ours.now).div_ceil(TICK));
            let raft = &mut self.theirs.nodes.get_mut(&id).unwrap().raft;
            if let Some(left) = left {
                let wait = raft.election_elapsed + left.max(1) as usize;
                raft.set_randomized_election_timeout(wait.clamp(ELECTION_TICKS, 3 * ELECTION_TICKS - 1));
            }
        }
        self.ours.now += TICK;
        for id in 1..=self.count {
            self.ours.act(id, |node, now| node.wakeup(now));
            self.theirs.act(id, |node| ignore(node.tick()));
        }
        self.settle();
    }

    /// The node that leads on both sides, in the same term, with a quorum in reach.
    fn leader(&self) -> Option<u64> {
        let reach = |id: u64| (1..=self.count).filter(|peer| !self.cut.contains(&(id, *peer))).count() as u64;
        let both = |id: &u64| {
            let (ours, theirs) = (self.ours.view(*id), self.theirs.view(*id));
            ours.1 == "leader" && ours == theirs && 2 * reach(*id) > self.count
        };
        (1..=self.count).find(both)
    }

    fn do_something(&mut self) {
        let id = 1 + self.below(self.count);
        match (self.below(10), self.leader()) {
            (0..5, Some(leader)) => {
                self.story.push_back(format!("propose to {leader}"));
                for _ in 0..=self.below(3) {
                    self.ours.act(leader, |node, now| ignore(node.propose(now, 1)));
                    self.theirs.act(leader, |node| ignore(node.propose(vec![], vec![0])));
                }
            }
            (5, Some(leader)) => {
                self.story.push_back(format!("transfer from {leader} to {id}"));
                self.ours.act(leader, |node, now| ignore(node.transfer(now, NodeId(id))));
                self.theirs.act(leader, |node| node.transfer_leader(id));
            }
            (6, _) => {
                self.story.push_back(format!("campaign {id}"));
                self.ours.act(id, |node, now| node.campaign(now));
                self.theirs.act(id, |node| ignore(node.campaign()));
            }
            (7, _) => self.restart(id),
            (8, _) => self.cut_off(),
            _ => self.cut.clear(),
        }
        self.settle();
    }

    /// Both lose what is in memory only. Logs, votes and the commit stay.
    fn restart(&mut self, id: u64) {
        self.story.push_back(format!("restart {id}"));
        self.starts += 1;
        let storage = self.theirs.nodes[&id].store().clone();
        self.theirs.nodes.insert(id, Theirs::start(id, storage));
        let status = self.ours.nodes[&id].status();
        let restore = Restore {
            hard: raft::HardState { epoch: 0, term: status.term, vote: status.vote },
            membership: status.membership,
            entries: self.entries(id),
            commit: status.commit,
            applied: status.commit,
            ..Restore::default()
        };
        self.ours.nodes.insert(id, Node::new(Ours::options(id, self.starts), restore, self.ours.now).unwrap());
    }

    fn entries(&self, id: u64) -> Vec<raft::Entry> {
        let node = &self.ours.nodes[&id];
        let entry = |index| {
            let term = node.term_at(index).unwrap();
            raft::Entry { term, index, len: 1, kind: raft::EntryKind::Data }
        };
        (1..=node.last_index()).map(entry).collect()
    }

    fn cut_off(&mut self) {
        let side: Vec<bool> = (0..=self.count).map(|_| self.below(2) == 1).collect();
        let all = || (1..=self.count).flat_map(|a| (1..=self.count).map(move |b| (a, b)));
        self.cut = all().filter(|(a, b)| side[*a as usize] != side[*b as usize]).collect();
        self.story.push_back(format!("cut {:?}", self.cut));
    }

    fn compare(&self, seed: u64) {
        for id in 1..=self.count {
            let (ours, theirs) = (self.ours.view(id), self.theirs.view(id));
            let tail = self.story.iter().rev().take(12).rev().collect::<Vec<_>>();
            assert_eq!(ours, theirs, "node {id}, seed {seed}, after {tail:#?}");
        }
    }
}

fn run(count: u64, seeds: std::ops::Range<u64>) {
    let mut committed = 0;
    for seed in seeds {
        let mut pair = Pair::new(count, seed);
        for _ in 0..30 {
            pair.do_something();
            for _ in 0..5 * ELECTION_TICKS {
                pair.tick();
            }
            pair.compare(seed);
        }
        committed += pair.ours.view(1).3;
    }
    assert!(committed > 500, "the schedules let nothing happen: {committed}");
}

#[test]
fn three_nodes_do_as_raft_rs_does() {
    run(3, 0..60);
}

#[test]
fn five_nodes_do_as_raft_rs_does() {
    run(5, 100..140);
}
