//! Random schedules over small clusters: messages are lost, doubled and reordered, disks lag, processes crash and lose
//! what was not durable, members and logs change. The cluster checks at every output that no term has two leaders, that
//! no index is committed twice with different entries, and that nothing leaves before it is durable. When the faults
//! stop, everybody must end up with the same log.
//!
//! A failure names its seed: `SEED=17 cargo test -p trestle-raft --test chaos <name>` repeats exactly that run, and
//! `SEEDS=5000` goes on for that many instead of the usual few.

mod cluster;

use cluster::{Cluster, Disk, Packet};
use raft::{CommitRule, HardState, Membership, MembershipChange, NodeId, Options, PeerStatus};

/// A small seeded generator (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len() as u64) as usize]) }
    }
}

/// What may happen in a run, beside the plain faults.
#[derive(Clone, Copy, Default)]
struct Plan {
    nodes: u64,
    members_change: bool,
    /// Crashed replicas may come back without their log, at most one at a time.
    forget: bool,
    /// ... or without anything.
    wipe: bool,
    /// Nothing is on disk: whoever crashes has forgotten everything, and the group may begin anew.
    memory: bool,
    /// Who was removed asks whether it was, and drops everything once it knows.
    leave: bool,
    options: Option<fn(NodeId, u64) -> Options>,
}

struct Run {
    cluster: Cluster,
    dice: Dice,
    plan: Plan,
    /// Pairs that cannot talk at the moment.
    cut: Vec<(NodeId, NodeId)>,
    /// How rough this run is, in percent: calm runs get far, rough ones get into corners.
    rough: u64,
    /// Replicas that dropped everything because they were removed.
    left: u32,
}

impl Run {
    fn new(seed: u64, plan: Plan) -> Run {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.below(2);
        let voters = if plan.members_change { 3 } else { plan.nodes };
        let members = Membership::of((1..=voters).map(NodeId)).unwrap();
        let others: Vec<u64> = (voters + 1..=plan.nodes).collect();
        let mut cluster = Cluster::new(&members, &others, seed, plan.options.unwrap_or(cluster::options));
        if plan.memory {
            cluster.placements = vec![members.voters.clone()];
            cluster.up().into_iter().for_each(|id| allow(&mut cluster, id));
        }
        let rough = dice.below(101);
        Run { cluster, dice, plan, cut: Vec::new(), rough, left: 0 }
    }

    fn all(&self) -> Vec<NodeId> {
        (1..=self.plan.nodes).map(NodeId).collect()
    }

    fn misbehave(&mut self) {
        match self.dice.below(100) {
            0..35 => (0..=self.dice.below(3)).for_each(|_| self.network()),
            35..60 => (0..=self.dice.below(3)).for_each(|_| self.disk()),
            60..70 => {
                let by = self.dice.below(150);
                self.cluster.advance(by);
            }
            70..84 => self.client(),
            84..86 if self.dice.chance(self.rough) => self.crash(),
            84..91 => self.restart(),
            91..93 if self.dice.chance(self.rough) => self.cut_or_heal(),
            91..93 => self.cut.clear(),
            93..95 => self.compact(),
            95 => self.members(),
            96 if self.plan.leave => self.leave(),
            96..98 => self.hand_over(),
            _ => self.read_or_sleep(),
        }
        self.cluster.trace.clear();
    }

    /// Takes some packet, not the first, and delivers it, once or twice, or never.
    fn network(&mut self) {
        let len = self.cluster.net.len() as u64;
        if len == 0 {
            return;
        }
        let spread = if self.dice.chance(self.rough / 2) { len } else { len.min(2) };
        let at = self.dice.below(spread) as usize;
        let Some(packet) = self.cluster.net.remove(at) else { return };
        let (from, to) = packet.ends();
        if self.dice.chance(self.rough / 10) && matches!(packet, Packet::Raft(_)) {
            self.cluster.net.push_back(packet.clone());
        }
        if self.dice.chance(self.rough / 10) || self.cut.contains(&(from, to)) {
            return self.cluster.lose(packet);
        }
        self.cluster.deliver(packet);
    }

    fn disk(&mut self) {
        if let Some(id) = self.dice.pick(&self.all()) {
            self.cluster.persist(id);
        }
    }

    fn client(&mut self) {
        if let Some(leader) = self.cluster.leader() {
            let (now, len) = (self.cluster.now, self.dice.below(300) as u32);
            let _full_or_handing_over = self.cluster.node(leader).propose(now, len);
            if self.dice.chance(70) {
                self.cluster.drain(leader);
            }
        }
    }

    fn crash(&mut self) {
        let forgetful = self.cluster.replicas.values().any(|replica| replica.disk.voteless || replica.disk.votes_lost);
        let Some(id) = self.dice.pick(&self.cluster.up()) else { return };
        if self.plan.memory {
            return self.lose_memory(id);
        }
        let durable = self.dice.below(4) as usize;
        self.cluster.crash(id, durable);
        let disk = &mut self.cluster.replicas.get_mut(&id).unwrap().disk;
        if self.dice.chance(50) {
            disk.applied = disk.snapshot.0;
        }
        let forget_votes = self.plan.wipe && self.dice.chance(50);
        let alone = !forgetful || disk.voteless || disk.votes_lost;
        if (self.plan.forget || self.plan.wipe) && alone && self.dice.chance(50) {
            disk.entries.clear();
            (disk.snapshot, disk.applied, disk.voteless) = ((0, 0), 0, true);
            if forget_votes {
                disk.hard = Default::default();
                disk.votes_lost = true;
            }
        }
    }

    fn lose_memory(&mut self, id: NodeId) {
        self.cluster.crash(id, 0);
        let hard = HardState { epoch: 1, ..HardState::default() };
        // Who knows of no change of members is told who founded the group.
        let founders = self.cluster.known.get(&id).is_none_or(|known| *known == 1);
        let first = Membership::of(self.cluster.placements[0].clone()).unwrap();
        let membership = if founders && first.contains(id) { first } else { Membership::default() };
        let disk = Disk { hard, membership, voteless: true, votes_lost: true, ..Disk::default() };
        self.cluster.replicas.get_mut(&id).unwrap().disk = disk;
    }

    fn restart(&mut self) {
        let down: Vec<NodeId> = self.all().into_iter().filter(|id| !self.cluster.is_up(*id)).collect();
        if let Some(id) = self.dice.pick(&down) {
            self.cluster.start(id);
        }
    }

    fn cut_or_heal(&mut self) {
        let all = self.all();
        match (self.dice.pick(&all), self.dice.pick(&all)) {
            (Some(a), Some(b)) if a != b && self.cut.len() < 4 => self.cut.push((a, b)),
            _ => self.cut.clear(),
        }
    }

    fn compact(&mut self) {
        let Some(id) = self.dice.pick(&self.cluster.up()) else { return };
        let replica = self.cluster.replicas.get_mut(&id).unwrap();
        let to = replica.disk.applied.saturating_sub(self.dice.below(4));
        replica.node.as_mut().unwrap().compact(to);
        replica.disk.compact(to);
    }

    fn members(&mut self) {
        let Some(leader) = self.cluster.leader().filter(|_| self.plan.members_change) else { return };
        if self.plan.memory {
            return self.placed_members(leader);
        }
        let all = self.all();
        let some = |dice: &mut Dice, percent| all.iter().copied().filter(|_| dice.chance(percent)).collect::<Vec<_>>();
        let mut voters = some(&mut self.dice, 60);
        let mut learners = some(&mut self.dice, 30);
        if self.plan.leave {
            // Who dropped everything is a voter again only once it has acknowledged that it is a learner, and is healed.
            let status = self.cluster.node(leader).status();
            let there = |peer: &PeerStatus| !peer.forgot && peer.matched >= status.membership_index;
            voters.retain(|id| *id == leader || status.peers.iter().any(|peer| peer.id == *id && there(peer)));
        }
        learners.retain(|id| !voters.contains(id));
        let now = self.cluster.now;
        let _refusals_are_part_of_it =
            self.cluster.node(leader).propose_membership(now, MembershipChange { voters, learners });
        self.cluster.drain(leader);
    }

    /// In memory the members follow what is decided elsewhere, and who proposes a change knows of its decision.
    fn placed_members(&mut self, leader: NodeId) {
        let placed = self.cluster.placements.len();
        let who = self.dice.pick(&self.cluster.up()).unwrap_or(leader);
        if self.dice.chance(10) {
            let voters: Vec<NodeId> = self.all().into_iter().filter(|_| self.dice.chance(60)).collect();
            self.cluster.placements.extend(Some(voters).filter(|voters| !voters.is_empty()));
        } else if self.dice.chance(50) {
            self.cluster.known.insert(who, placed);
            allow(&mut self.cluster, who);
        }
        let known = self.cluster.known.get(&leader).copied().unwrap_or(1);
        let target = self.cluster.placements[known - 1].clone();
        let status = self.cluster.node(leader).status();
        let now = self.cluster.now;
        let learners = |list: &[NodeId]| list.iter().copied().filter(|id| target.contains(id)).collect::<Vec<_>>();
        let missing: Vec<NodeId> = target.iter().copied().filter(|id| !status.membership.contains(*id)).collect();
        let sound = |id: &NodeId| {
            let there = |peer: &PeerStatus| peer.id == *id && !peer.forgot && peer.matched >= status.membership_index;
            *id == leader || status.peers.iter().any(there)
        };
        let change = if !missing.is_empty() {
            let learners = [learners(&status.membership.learners), missing].concat();
            MembershipChange { voters: status.membership.voters.clone(), learners }
        } else if target.iter().all(sound) {
            MembershipChange { voters: target, learners: Vec::new() }
        } else {
            return;
        };
        let _refusals_are_part_of_it = self.cluster.node(leader).propose_membership(now, change);
        self.cluster.drain(leader);
    }

    fn leave(&mut self) {
        let Some(id) = self.dice.pick(&self.cluster.up()) else { return };
        if self.cluster.node(id).is_removed() {
            self.cluster.crash(id, 0);
            let hard = HardState { epoch: 1, ..HardState::default() };
            let disk = Disk { hard, voteless: true, votes_lost: true, ..Disk::default() };
            self.cluster.replicas.get_mut(&id).unwrap().disk = disk;
            self.left += 1;
            return;
        }
        for to in self.all() {
            if to != id {
                self.cluster.node(id).seek(to);
            }
        }
        self.cluster.drain(id);
    }

    fn hand_over(&mut self) {
        let (leader, to, now) = (self.cluster.leader(), self.dice.pick(&self.all()), self.cluster.now);
        if let (Some(leader), Some(to)) = (leader, to) {
            let _refusals_are_part_of_it = self.cluster.node(leader).transfer(now, to);
            self.cluster.drain(leader);
        }
    }

    fn read_or_sleep(&mut self) {
        let Some(id) = self.dice.pick(&self.cluster.up()) else { return };
        let (now, context) = (self.cluster.now, self.cluster.committed());
        let node = self.cluster.node(id);
        match self.dice.below(3) {
            0 => assert_eq!(node.quiesce(), node.is_quiet()),
            1 => node.wake(now, now.saturating_sub(500)),
            _ => assert_eq!(node.read_index(now, context).is_ok(), node.is_leader()),
        }
        self.cluster.drain(id);
    }

    /// No more faults: a leader, a new entry on every member, the same log everywhere.
    fn converge(&mut self) {
        self.cut.clear();
        let placed = self.cluster.placements.len();
        self.all().into_iter().filter(|_| placed > 0).for_each(|id| {
            self.cluster.known.insert(id, placed);
        });
        for id in self.all() {
            if !self.cluster.is_up(id) {
                self.cluster.start(id);
            }
            allow(&mut self.cluster, id);
            let now = self.cluster.now;
            self.cluster.node(id).wake(now, now);
            self.cluster.drain(id);
        }
        for round in 0..400 {
            self.cluster.settle();
            self.cluster.trace.clear();
            if round > 40 && self.has_converged() {
                return;
            }
            self.cluster.advance(50);
        }
        for replica in self.cluster.replicas.values() {
            eprintln!("{}", cluster::show_status(&replica.node.as_ref().unwrap().status()));
        }
        panic!("no convergence");
    }

    fn has_converged(&mut self) -> bool {
        let Some(leader) = self.cluster.leader() else { return false };
        let now = self.cluster.now;
        let Ok(index) = self.cluster.node(leader).propose(now, 1) else { return false };
        self.cluster.drain(leader);
        self.cluster.settle();
        let leading = &self.cluster.replicas[&leader];
        let node = leading.node.as_ref().unwrap();
        let members = node.membership().members();
        let same = |id: &NodeId| {
            let replica = &self.cluster.replicas[id];
            let node = replica.node.as_ref().unwrap();
            let common = replica.disk.snapshot.0.max(leading.disk.snapshot.0) + 1;
            let equal = (common..=index).all(|at| replica.disk.entry(at) == leading.disk.entry(at));
            node.applied_index() == index && equal && !node.status().voteless
        };
        !node.membership().is_joint() && members.iter().all(same)
    }
}

/// Tells a node by whose word it may begin anew, as far as it can know.
fn allow(cluster: &mut Cluster, id: NodeId) {
    let anew = cluster.anew(id);
    if cluster.is_up(id) {
        cluster.node(id).set_anew(anew);
        cluster.drain(id);
    }
}

/// Runs the seeds, or the one that the environment names.
fn run(plan: Plan, seeds: std::ops::Range<u64>, steps: u32) {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let seeds = seeds.start..number("SEEDS").map_or(seeds.end, |count| seeds.start + count);
    let (mut committed, mut left) = (0, 0);
    for seed in number("SEED").map_or(seeds.clone(), |seed| seed..seed + 1) {
        let told = Told(seed);
        let mut run = Run::new(seed, plan);
        for _ in 0..steps {
            run.misbehave();
        }
        run.converge();
        committed += run.cluster.committed();
        left += run.left;
        std::mem::forget(told);
    }
    eprintln!("{committed} entries committed");
    assert!(committed > 20, "the schedules let nothing happen");
    assert!(!plan.leave || left > 20, "only {left} replicas left");
}

/// Names the seed when the run panics.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("failed with SEED={}", self.0);
    }
}

#[test]
fn three_replicas_agree_through_every_fault() {
    run(Plan { nodes: 3, ..Plan::default() }, 0..300, 2_000);
}

#[test]
fn five_replicas_agree_through_every_fault() {
    run(Plan { nodes: 5, ..Plan::default() }, 1_000..1_150, 3_000);
}

#[test]
fn replicas_agree_while_members_change() {
    run(Plan { nodes: 5, members_change: true, ..Plan::default() }, 2_000..2_300, 3_000);
}

#[test]
fn replicas_that_drop_everything_once_they_are_removed_endanger_nothing() {
    run(Plan { nodes: 5, members_change: true, leave: true, ..Plan::default() }, 6_000..6_300, 4_000);
}

#[test]
fn replicas_that_forget_their_log_endanger_nothing() {
    run(Plan { nodes: 3, forget: true, ..Plan::default() }, 3_000..3_200, 2_500);
}

#[test]
fn replicas_that_forget_everything_endanger_nothing() {
    run(Plan { nodes: 5, wipe: true, ..Plan::default() }, 4_000..4_150, 3_000);
}

#[test]
fn groups_in_memory_begin_anew_and_never_have_two_leaders_in_a_term() {
    run(Plan { nodes: 3, memory: true, ..Plan::default() }, 7_000..7_200, 2_500);
    run(Plan { nodes: 5, memory: true, ..Plan::default() }, 8_000..8_100, 3_000);
}

#[test]
fn groups_in_memory_begin_anew_though_their_members_changed() {
    run(Plan { nodes: 5, memory: true, members_change: true, ..Plan::default() }, 9_000..9_300, 3_000);
}

#[test]
fn small_windows_and_a_span_change_nothing_about_agreement() {
    fn tight(id: NodeId, seed: u64) -> Options {
        let commit_rule = CommitRule::Span { domains: (1..=5).map(|id| (NodeId(id), (id % 2) as u16)).collect() };
        let (inflight_bytes_max, inflight_messages_max, append_bytes_max) = (400, 3, 200);
        let options = cluster::options(id, seed);
        let uncommitted_bytes_max = 2_000;
        Options {
            commit_rule,
            inflight_bytes_max,
            inflight_messages_max,
            append_bytes_max,
            uncommitted_bytes_max,
            ..options
        }
    }
    run(Plan { nodes: 5, options: Some(tight), ..Plan::default() }, 5_000..5_100, 3_000);
}
