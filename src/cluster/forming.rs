//! How servers without a past agree to begin a cluster: who starts the meta group, with which first members.
//!
//! A server whose meta log is empty begins a cluster only with the promises of a majority of the servers it *expects*
//! (itself, its routes and the peers that it knows), and never beside a server that belongs to a cluster already. A
//! server promises itself to one candidate at a time; two majorities of the same expected set share a server, so two
//! clusters cannot begin side by side. The candidate is the smallest id among the linked, empty servers.
//!
//! The promise is held in memory: a server that restarts within the second in which a cluster forms may promise twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::ServerId;

/// How long after the last link came up the candidate waits for further servers, so that most become first members.
const SETTLE_US: u64 = 250_000;

/// How often a candidate asks again while promises are missing.
const ASK_AGAIN_US: u64 = 500_000;

/// What forming servers tell each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormStep {
    /// The candidate asks for a promise.
    Ask,
    /// The receiver has it.
    Promise,
    /// The candidate gives its promises back (a smaller candidate appeared).
    Release,
    /// The cluster begins: its id and the first voters of the meta group.
    Start { cluster_id: String, voters: Vec<ServerId> },
}

/// What the shard must do.
#[derive(Debug, PartialEq, Eq)]
pub enum FormOutput {
    Send {
        to: ServerId,
        step: FormStep,
    },
    /// Open the meta group with these first voters.
    Begin {
        cluster_id: String,
        voters: Vec<ServerId>,
    },
}

pub struct Forming {
    me: ServerId,
    /// Becomes the cluster's id if this server is the one to begin it.
    cluster_id: String,
    /// Servers that the configuration names, this one included.
    configured: usize,
    /// Linked servers with JetStream: whether each is still empty.
    peers: BTreeMap<ServerId, bool>,
    promised_to: Option<ServerId>,
    promises: BTreeSet<ServerId>,
    settled_at: u64,
    ask_at: u64,
    out: Vec<FormOutput>,
}

impl Forming {
    /// `configured`: distinct routes that lead elsewhere, plus this server. `cluster_id` must be unique in the world.
    pub fn new(me: ServerId, configured: usize, cluster_id: String) -> Forming {
        Forming {
            me,
            cluster_id,
            configured,
            peers: BTreeMap::new(),
            promised_to: None,
            promises: BTreeSet::new(),
            settled_at: 0,
            ask_at: 0,
            out: Vec::new(),
        }
    }

    /// Servers that this cluster should have: at least two, for a cluster of one is not clustered.
    pub fn expected(&self) -> usize {
        self.configured.max(self.peers.len() + 1).max(2)
    }

    pub fn peer_up(&mut self, now_us: u64, peer: ServerId, empty: bool) {
        self.peers.insert(peer, empty);
        self.settled_at = now_us + SETTLE_US;
        self.ask_at = self.ask_at.min(self.settled_at);
    }

    pub fn peer_gone(&mut self, peer: ServerId) {
        self.peers.remove(&peer);
        self.promises.remove(&peer);
        if self.promised_to == Some(peer) {
            self.promised_to = None;
        }
    }

    pub fn on_step(&mut self, now_us: u64, from: ServerId, step: FormStep) {
        match step {
            FormStep::Ask if self.promised_to.is_none_or(|to| to == from) && !self.beside_a_cluster() => {
                self.release_all();
                self.promised_to = Some(from);
                self.out.push(FormOutput::Send { to: from, step: FormStep::Promise });
            }
            FormStep::Ask => {}
            FormStep::Promise if self.promised_to == Some(self.me) => {
                self.promises.insert(from);
                self.wakeup(now_us);
            }
            FormStep::Promise => self.out.push(FormOutput::Send { to: from, step: FormStep::Release }),
            FormStep::Release => {
                if self.promised_to == Some(from) {
                    self.promised_to = None;
                }
            }
            FormStep::Start { cluster_id, voters } => {
                if self.promised_to == Some(from) && voters.contains(&self.me) {
                    self.out.push(FormOutput::Begin { cluster_id, voters });
                }
            }
        }
    }

    pub fn wakeup(&mut self, now_us: u64) {
        if now_us < self.settled_at {
            return;
        }
        if !self.is_candidate() {
            self.release_all();
            return;
        }
        if self.promised_to.is_some_and(|to| to != self.me) {
            return;
        }
        self.promised_to = Some(self.me);
        if self.promises.len() + 1 >= self.quorum() && self.all_promised_or_late(now_us) {
            self.begin();
        } else if now_us >= self.ask_at {
            self.ask_at = now_us + ASK_AGAIN_US;
            let missing: Vec<_> = self.empty_peers().filter(|p| !self.promises.contains(p)).collect();
            self.out.extend(missing.into_iter().map(|to| FormOutput::Send { to, step: FormStep::Ask }));
        }
    }

    pub fn next_wakeup(&self) -> Option<u64> {
        self.is_candidate().then(|| self.settled_at.max(self.ask_at))
    }

    pub fn poll_output(&mut self) -> Option<FormOutput> {
        if self.out.is_empty() { None } else { Some(self.out.remove(0)) }
    }

    fn begin(&mut self) {
        let mut voters: Vec<ServerId> = self.promises.iter().copied().chain([self.me]).collect();
        voters.sort();
        let cluster_id = self.cluster_id.clone();
        for to in std::mem::take(&mut self.promises) {
            let step = FormStep::Start { cluster_id: cluster_id.clone(), voters: voters.clone() };
            self.out.push(FormOutput::Send { to, step });
        }
        self.out.push(FormOutput::Begin { cluster_id, voters });
    }

    /// A majority is enough, but a peer that is linked and about to answer is worth one more round.
    fn all_promised_or_late(&self, now_us: u64) -> bool {
        self.empty_peers().all(|p| self.promises.contains(&p)) || now_us >= self.ask_at
    }

    fn release_all(&mut self) {
        if self.promised_to == Some(self.me) {
            self.promised_to = None;
        }
        for to in std::mem::take(&mut self.promises) {
            self.out.push(FormOutput::Send { to, step: FormStep::Release });
        }
    }

    fn quorum(&self) -> usize {
        self.expected() / 2 + 1
    }

    fn beside_a_cluster(&self) -> bool {
        self.peers.values().any(|empty| !empty)
    }

    fn empty_peers(&self) -> impl Iterator<Item = ServerId> {
        self.peers.iter().filter(|(_, empty)| **empty).map(|(peer, _)| *peer)
    }

    fn is_candidate(&self) -> bool {
        let enough = self.empty_peers().count() + 1 >= self.quorum();
        !self.beside_a_cluster() && enough && self.empty_peers().all(|peer| self.me < peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers in memory; links as pairs. Messages are delivered at once, in rounds of 100 ms.
    struct Town {
        servers: BTreeMap<ServerId, Forming>,
        begun: BTreeMap<ServerId, (String, Vec<ServerId>)>,
        now_us: u64,
    }

    impl Town {
        fn new(n: u64, configured: usize) -> Town {
            let servers =
                (1..=n).map(|i| (ServerId(i), Forming::new(ServerId(i), configured, format!("id{i}")))).collect();
            Town { servers, begun: BTreeMap::new(), now_us: 0 }
        }

        fn link(&mut self, a: u64, b: u64) {
            let (a, b) = (ServerId(a), ServerId(b));
            let (a_begun, b_begun) = (self.begun.contains_key(&a), self.begun.contains_key(&b));
            self.servers.get_mut(&a).unwrap().peer_up(self.now_us, b, !b_begun);
            self.servers.get_mut(&b).unwrap().peer_up(self.now_us, a, !a_begun);
        }

        fn run(&mut self, rounds: usize) {
            for _ in 0..rounds {
                self.now_us += 100_000;
                let ids: Vec<_> = self.servers.keys().copied().collect();
                for id in &ids {
                    self.servers.get_mut(id).unwrap().wakeup(self.now_us);
                }
                let mut moved = true;
                while std::mem::take(&mut moved) {
                    for id in &ids {
                        while let Some(out) = self.servers.get_mut(id).unwrap().poll_output() {
                            moved = true;
                            self.carry(*id, out);
                        }
                    }
                }
            }
        }

        fn carry(&mut self, from: ServerId, out: FormOutput) {
            match out {
                FormOutput::Send { to, step } => {
                    if !self.begun.contains_key(&to) {
                        self.servers.get_mut(&to).unwrap().on_step(self.now_us, from, step);
                    }
                }
                FormOutput::Begin { cluster_id, voters } => {
                    assert!(self.begun.insert(from, (cluster_id, voters)).is_none(), "begins once");
                }
            }
        }

        fn clusters(&self) -> BTreeSet<&str> {
            self.begun.values().map(|(id, _)| id.as_str()).collect()
        }
    }

    #[test]
    fn all_linked_servers_become_first_voters() {
        let mut town = Town::new(6, 6);
        for a in 1..=6 {
            for b in a + 1..=6 {
                town.link(a, b);
            }
        }
        town.run(20);
        assert_eq!(town.begun.len(), 6);
        assert_eq!(town.clusters().len(), 1);
        assert_eq!(town.begun[&ServerId(4)].1.len(), 6);
    }

    #[test]
    fn two_of_three_suffice_but_one_does_not() {
        let mut town = Town::new(3, 3);
        town.run(50);
        assert!(town.begun.is_empty());
        town.link(2, 3);
        town.run(20);
        assert_eq!(town.begun.len(), 2);
    }

    #[test]
    fn halves_of_an_even_cluster_do_not_both_begin() {
        let mut town = Town::new(6, 6);
        for (a, b) in [(1, 2), (1, 3), (2, 3), (4, 5), (4, 6), (5, 6)] {
            town.link(a, b);
        }
        town.run(50);
        assert!(town.begun.is_empty());
    }

    #[test]
    fn two_candidates_that_do_not_see_each_other_share_a_server_and_one_begins() {
        let mut town = Town::new(5, 5);
        for (a, b) in [(1, 3), (1, 4), (3, 4), (2, 3), (2, 5), (3, 5)] {
            town.link(a, b);
        }
        town.run(50);
        assert!(town.clusters().len() <= 1, "{:?}", town.begun);
    }

    #[test]
    fn an_empty_server_never_begins_beside_a_cluster() {
        let mut f = Forming::new(ServerId(1), 3, "mine".into());
        f.peer_up(0, ServerId(2), true);
        f.peer_up(0, ServerId(3), false);
        f.wakeup(1_000_000);
        assert_eq!(f.poll_output(), None);
        f.on_step(1_000_000, ServerId(2), FormStep::Ask);
        assert_eq!(f.poll_output(), None);
    }

    #[test]
    fn a_promise_is_given_to_one_candidate_until_its_link_breaks() {
        let mut f = Forming::new(ServerId(9), 3, "mine".into());
        f.peer_up(0, ServerId(1), true);
        f.peer_up(0, ServerId(2), true);
        f.on_step(0, ServerId(2), FormStep::Ask);
        assert_eq!(f.poll_output(), Some(FormOutput::Send { to: ServerId(2), step: FormStep::Promise }));
        f.on_step(0, ServerId(1), FormStep::Ask);
        assert_eq!(f.poll_output(), None);
        f.peer_gone(ServerId(2));
        f.on_step(0, ServerId(1), FormStep::Ask);
        assert_eq!(f.poll_output(), Some(FormOutput::Send { to: ServerId(1), step: FormStep::Promise }));
    }
}
