//! A random world: three replicas of one consumer over a log that commits late and loses its tail, clients that ack,
//! nak, vanish and repeat themselves, a stream from which messages disappear, clocks that jump, and restarts. A model
//! that only remembers what clients saw and said judges every state.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::tape::Tape;
use crate::consumer::config::{AckPolicy, DeliverPolicy};
use crate::consumer::*;
use crate::ids::{AccountId, GroupId, Now, Place, Seq, ServerId};
use crate::stream::Filters;

const REPLICAS: usize = 3;
/// Rounds after the faults within which everything must be done.
const SETTLE_MAX: usize = 400;
const SUBJECTS: [&str; 5] = ["a.1", "a.2", "a.3", "b.1", "b.2"];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// What a pull may still get.
struct Seen {
    left: u64,
    over: bool,
}

struct World {
    dice: Dice,
    seed: u64,
    now: Now,
    tape: Tape,
    config: ConsumerConfig,
    filters: Filters,
    replicas: Vec<Consumer>,
    /// The log as the last leader had it; every replica has a prefix of it.
    log: Vec<Bytes>,
    have: [usize; REPLICAS],
    committed: usize,
    leader: Option<usize>,
    inboxes: u64,
    pulls: BTreeMap<Bytes, Seen>,
    /// Deliveries that a client may still say something about.
    open: Vec<(Seq, Bytes)>,
    tokens: Vec<u64>,
    /// Inbox of an awaited answer → sequence.
    awaited: BTreeMap<Bytes, Seq>,
    delivered: BTreeSet<Seq>,
    /// A client has acknowledged or terminated it, or it was given up.
    done: BTreeSet<Seq>,
    /// The acknowledgement was answered.
    confirmed: BTreeSet<Seq>,
    /// From here on nothing may be skipped.
    began: Option<Seq>,
}

fn place() -> Place {
    Place { server: ServerId(7), core: 0 }
}

fn consumer(config: &ConsumerConfig) -> Consumer {
    Consumer::new(GroupId(9), GroupId(8), AccountId(1), "S", "c", config.clone(), 5)
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let filters: Vec<String> = match dice.below(3) {
            0 => vec![],
            1 => vec!["a.*".into()],
            _ => vec!["a.1".into(), "b.>".into()],
        };
        let all = DeliverPolicy::All;
        let policies = [all, all, all, DeliverPolicy::New, DeliverPolicy::Last, DeliverPolicy::LastPerSubject];
        let deliver_policy = dice.pick(&policies);
        let config = ConsumerConfig {
            durable_name: "c".into(),
            deliver_policy,
            ack_policy: dice.pick(&[AckPolicy::Explicit, AckPolicy::Explicit, AckPolicy::All, AckPolicy::None]),
            ack_wait: 2_000_000_000,
            max_deliver: dice.pick(&[-1, -1, 3]),
            max_ack_pending: dice.pick(&[-1, 5, 20]),
            max_waiting: 8,
            filter_subjects: filters.clone(),
            ..Default::default()
        };
        let replicas = (0..REPLICAS).map(|_| consumer(&config)).collect();
        let mut world = World {
            seed,
            now: Now { us: 1_000_000, wall_ns: 1_700_000_000_000_000_000 },
            tape: Tape::new(),
            filters: Filters::new(filters.into_iter().map(Bytes::from)),
            config,
            replicas,
            log: vec![],
            have: [0; REPLICAS],
            committed: 0,
            leader: None,
            inboxes: 0,
            pulls: BTreeMap::new(),
            open: vec![],
            tokens: vec![],
            awaited: BTreeMap::new(),
            delivered: BTreeSet::new(),
            done: BTreeSet::new(),
            confirmed: BTreeSet::new(),
            began: (deliver_policy == DeliverPolicy::All).then_some(1),
            dice,
        };
        for _ in 0..world.dice.below(12) {
            world.publish();
        }
        world.elect();
        world
    }

    fn inbox(&mut self) -> Bytes {
        self.inboxes += 1;
        format!("_INBOX.{}", self.inboxes).into()
    }

    fn publish(&mut self) {
        let subject = self.dice.pick(&SUBJECTS);
        let size = 10 + self.dice.below(90);
        self.tape.publish(subject, self.now.wall_ns, size);
    }

    fn pull(&mut self) {
        let inbox = self.inbox();
        let batch = 1 + self.dice.below(8);
        let request = PullRequest {
            batch: batch as i64,
            expires_us: self.dice.pick(&[None, Some(500_000), Some(5_000_000)]),
            no_wait: self.dice.one_in(4),
            max_bytes: self.dice.pick(&[0, 0, 120, 400]),
            heartbeat_us: self.dice.pick(&[0, 200_000]),
        };
        self.pulls.insert(inbox.clone(), Seen { left: batch, over: false });
        if let Some(leader) = self.leader {
            self.replicas[leader].on_next(self.now, place(), inbox, request);
        }
    }

    fn say(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.dice.below(self.open.len() as u64) as usize;
        let (seq, subject) = self.open[at].clone();
        let verbs = ["", "+ACK", "+ACK", "+ACK", "+TERM bad", "-NAK", "-NAK {\"delay\":300000000}", "+WPI", "+NXT 2"];
        let verb = self.dice.pick(&verbs);
        let ends = matches!(verb, "" | "+ACK" | "+TERM bad");
        let answer = self.dice.one_in(2).then(|| self.inbox());
        let Some(leader) = self.leader else { return };
        if ends || verb == "+NXT 2" {
            self.note_done(seq);
        }
        if let Some(answer) = &answer {
            if ends {
                self.awaited.insert(answer.clone(), seq);
            } else if verb == "+NXT 2" {
                self.pulls.insert(answer.clone(), Seen { left: 2, over: false });
            }
        }
        let answer = answer.map(|inbox| (place(), inbox));
        self.replicas[leader].on_ack(self.now, &subject, verb.as_bytes(), answer);
        if ends && !self.dice.one_in(4) {
            self.open.swap_remove(at);
        }
    }

    /// A client has said that it is done with this message; under ack policy `all` with all before it as well.
    fn note_done(&mut self, seq: Seq) {
        let first = if self.config.ack_policy == AckPolicy::All { 1 } else { seq };
        self.done.extend(first..=seq);
    }

    fn remove_something(&mut self) {
        let last = self.tape.last_seq();
        if last == 0 {
            return;
        }
        if self.dice.one_in(4) {
            let first = self.tape.first_seq() + self.dice.below(4);
            self.tape.purge(first);
            if let Some(leader) = self.leader {
                let first = self.tape.first_seq();
                self.replicas[leader].stream_purged(self.now, first);
            }
        } else {
            let seq = 1 + self.dice.below(last);
            self.tape.delete(seq);
        }
    }

    fn elect(&mut self) {
        if let Some(old) = self.leader.take() {
            self.replicas[old].lead(self.now, false, &self.tape);
            self.drain(old);
        }
        let eligible: Vec<usize> = (0..REPLICAS).filter(|i| self.have[*i] >= self.committed).collect();
        let new = self.dice.pick(&eligible);
        self.log.truncate(self.have[new]);
        for i in 0..REPLICAS {
            if self.have[i] > self.log.len() {
                self.have[i] = self.log.len();
                self.replicas[i].truncated(self.log.len() as u64 + 1);
            }
        }
        self.replicas[new].lead(self.now, true, &self.tape);
        self.leader = Some(new);
    }

    /// Some entries reach some followers, some are committed, some replicas apply.
    fn replicate(&mut self, all: bool) {
        let Some(leader) = self.leader else { return };
        for i in 0..REPLICAS {
            while self.have[i] < self.log.len() && (all || !self.dice.one_in(3)) {
                let body = self.log[self.have[i]].clone();
                self.have[i] += 1;
                self.replicas[i].appended(self.have[i] as u64, &body).expect("own entry");
            }
        }
        let mut have = self.have;
        have.sort_unstable();
        self.committed = self.committed.max(have[REPLICAS / 2]).min(self.have[leader]);
        for i in 0..REPLICAS {
            let upto = self.committed.min(self.have[i]) as u64;
            if upto > self.replicas[i].applied() && (all || self.dice.one_in(2)) {
                self.replicas[i].apply(self.now, upto);
            }
        }
        self.drain(leader);
    }

    /// A follower loses its memory and comes back from its checkpoint and log.
    fn restart(&mut self) {
        let i = self.dice.below(REPLICAS as u64) as usize;
        if self.leader == Some(i) {
            return;
        }
        let checkpoint = self.replicas[i].checkpoint();
        let before = self.replicas[i].fingerprint();
        let applied = self.replicas[i].applied();
        let mut reborn = consumer(&self.config);
        reborn.restore(&checkpoint).expect("own checkpoint");
        assert_eq!(reborn.fingerprint(), before, "seed {}", self.seed);
        assert_eq!(reborn.checkpoint(), checkpoint, "seed {}", self.seed);
        let mut indexes: Vec<usize> = (0..self.have[i]).collect();
        if self.dice.one_in(2) {
            indexes.reverse();
        }
        for at in indexes {
            reborn.recover_entry(at as u64 + 1, &self.log[at]).expect("own entry");
        }
        reborn.recovered(self.now, applied);
        self.replicas[i] = reborn;
    }

    fn drain(&mut self, i: usize) {
        while let Some(output) = self.replicas[i].poll_output() {
            match output {
                ConsumerOutput::Deliver(delivery) => self.on_delivery(&delivery),
                ConsumerOutput::Reply(reply) => self.on_reply(&reply),
                ConsumerOutput::Propose(body) => self.on_propose(i, body),
                ConsumerOutput::Advisory(advisory) => self.on_advisory(&advisory),
                ConsumerOutput::Probe { .. } | ConsumerOutput::Expired | ConsumerOutput::Released { .. } => {}
            }
        }
    }

    fn on_propose(&mut self, i: usize, body: Bytes) {
        if self.leader != Some(i) || self.dice.one_in(6) {
            return self.replicas[i].propose_refused(self.now);
        }
        self.log.push(body.clone());
        self.have[i] += 1;
        self.replicas[i].appended(self.have[i] as u64, &body).expect("own entry");
    }

    fn on_delivery(&mut self, delivery: &Delivery) {
        let (seq, seed) = (delivery.seq, self.seed);
        assert!(self.tape.matches(seq, &self.filters), "seed {seed}: {seq} is not wanted or gone");
        assert!(!self.confirmed.contains(&seq), "seed {seed}: {seq} again after its ack was answered");
        let pull = self.pulls.get_mut(&delivery.inbox).expect("a known pull");
        assert!(!pull.over && pull.left > 0, "seed {seed}: more than asked for");
        pull.left -= 1;
        let ack = ack::AckSubject::parse(&delivery.ack_subject).expect("own subject");
        assert_eq!((ack.stream_seq, ack.time_ns), (seq, self.tape.time_of(seq)));
        if self.config.max_deliver > 0 && self.config.ack_policy != AckPolicy::None {
            assert!(i64::from(ack.count) <= self.config.max_deliver, "seed {seed}: {seq} too often");
        }
        if self.dice.one_in(12) {
            self.tokens.push(delivery.token);
        }
        self.delivered.insert(seq);
        if self.config.ack_policy == AckPolicy::None {
            self.done.insert(seq);
        }
        self.open.push((seq, delivery.ack_subject.clone()));
    }

    fn on_reply(&mut self, reply: &crate::reply::Reply) {
        let unheard = reply.headers.as_deref().is_some_and(|headers| headers.starts_with(b"NATS/1.0 503"));
        if unheard {
            assert_eq!(self.config.ack_policy, AckPolicy::None, "seed {}", self.seed);
        } else if let Some(seq) = self.awaited.remove(&reply.subject) {
            let first = if self.config.ack_policy == AckPolicy::All { 1 } else { seq };
            self.confirmed.extend(first..=seq);
        } else if let Some(pull) = self.pulls.get_mut(&reply.subject) {
            let headers = reply.headers.as_deref().unwrap_or_default();
            pull.over |= !headers.starts_with(b"NATS/1.0 100");
        }
    }

    fn on_advisory(&mut self, advisory: &Advisory) {
        if advisory.subject.contains(".MAX_DELIVERIES.") {
            let json: serde_json::Value = serde_json::from_str(&advisory.json).expect("json");
            self.done.insert(json["stream_seq"].as_u64().expect("a sequence"));
        }
    }

    fn bounce(&mut self) {
        let (Some(token), Some(leader)) = (self.tokens.pop(), self.leader) else { return };
        self.replicas[leader].bounced(self.now, token);
    }

    fn pass_time(&mut self, us: u64) {
        self.now.us += us;
        self.now.wall_ns += us as i64 * 1000;
        if self.dice.one_in(20) {
            self.now.wall_ns += self.dice.below(20_000_000_000) as i64 - 10_000_000_000;
        }
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..20 => self.publish(),
            20..40 => self.pull(),
            40..65 => self.say(),
            65..80 => self.replicate(false),
            80..85 => self.remove_something(),
            85..89 => self.elect(),
            89..92 => self.restart(),
            92..94 => self.bounce(),
            _ => {
                let us = self.dice.pick(&[1_000, 100_000, 1_500_000]);
                self.pass_time(us);
            }
        }
        self.turn();
        self.judge();
    }

    fn turn(&mut self) {
        let Some(leader) = self.leader else { return };
        self.replicas[leader].turn(self.now, &self.tape);
        self.drain(leader);
    }

    /// The promises, for every replica.
    fn judge(&mut self) {
        for i in 0..REPLICAS {
            let state = self.replicas[i].state();
            if state.started && self.began.is_none() {
                self.began = Some(self.tape.last_seq() + 1);
            }
            let Some(began) = self.began else { continue };
            for seq in began..=state.delivered.stream {
                if !self.tape.matches(seq, &self.filters) {
                    continue;
                }
                let (seed, done) = (self.seed, self.done.contains(&seq));
                assert!(self.delivered.contains(&seq), "seed {seed}: {seq} was skipped");
                assert!(seq > state.floor.stream || done, "seed {seed}: the floor passed {seq}");
                assert!(state.pending.get(seq).is_some() || done, "seed {seed}: {seq} is forgotten");
            }
        }
    }

    /// Faults end; somebody takes and acknowledges everything.
    fn settle(&mut self) {
        for _ in 0..SETTLE_MAX {
            if self.is_settled() {
                break;
            }
            self.pull();
            self.turn();
            for (seq, subject) in std::mem::take(&mut self.open) {
                self.note_done(seq);
                let leader = self.leader.expect("one leads");
                self.replicas[leader].on_ack(self.now, &subject, b"", None);
            }
            self.turn();
            self.replicate(true);
            self.pass_time(1_000_000);
            self.judge();
        }
        self.turn();
        self.replicate(true);
    }

    fn is_settled(&self) -> bool {
        let leader = &self.replicas[self.leader.expect("one leads")];
        let info = leader.info(self.now, &self.tape, None);
        info.num_pending == 0 && info.num_ack_pending == 0 && self.committed == self.log.len()
    }

    fn judge_the_end(&self) {
        let (seed, leader) = (self.seed, self.leader.expect("one leads"));
        let info = self.replicas[leader].info(self.now, &self.tape, None);
        assert_eq!((info.num_pending, info.num_ack_pending), (0, 0), "seed {seed}: {info:?}");
        assert_eq!(info.delivered.stream_seq, info.ack_floor.stream_seq, "seed {seed}");
        for seq in self.began.expect("started")..=self.tape.last_seq() {
            let wanted = self.tape.matches(seq, &self.filters);
            assert!(!wanted || self.delivered.contains(&seq), "seed {seed}: {seq} was never delivered");
        }
        if self.config.deliver_policy == DeliverPolicy::LastPerSubject {
            for seq in self.tape.last_per_subject(&self.filters) {
                assert!(self.delivered.contains(&seq), "seed {seed}: {seq}, the last of its subject, is missing");
            }
        }
        let prints: BTreeSet<u64> = self.replicas.iter().map(Consumer::fingerprint).collect();
        assert_eq!(prints.len(), 1, "seed {seed}: replicas differ");
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..500 {
        world.step();
    }
    world.settle();
    world.judge_the_end();
}

#[test]
fn nothing_is_skipped_forgotten_or_repeated_after_an_answered_ack() {
    for seed in 0..200 {
        run(seed);
    }
}
