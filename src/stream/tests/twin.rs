//! Three replicas over a made-up log, with lost leaders, cut logs, restarts and new replicas, against a dumb twin that
//! keeps every message in a map and applies each entry in the plainest way.
//!
//! After every step each replica must have the state that the twin had at the same applied index, and every answer
//! that a publisher got must be true.

use std::collections::BTreeMap;

use super::*;
use crate::stream::config::{Discard, StorageKind};
use crate::stream::record::{Batch, Rollup};

/// In-house generator: a failing seed replays exactly.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// One stored message of the twin.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    message: StoredMessage,
    time_ns: i64,
    at: At,
}

/// The dumb stream.
#[derive(Debug, Clone)]
struct Twin {
    config: StreamConfig,
    kept: BTreeMap<Seq, Kept>,
    first_seq: Seq,
    last_seq: Seq,
    /// Once purged, an empty stream begins at 1 instead of 0.
    purged: bool,
}

impl Twin {
    fn new(config: StreamConfig) -> Twin {
        Twin { config, kept: BTreeMap::new(), first_seq: 0, last_seq: 0, purged: false }
    }

    fn bytes(&self) -> u64 {
        self.kept.values().map(|kept| self.size(&kept.message)).sum()
    }

    fn size(&self, message: &StoredMessage) -> u64 {
        let headers = message.headers.as_ref().map_or(0, |block| block.len());
        let raw = (message.subject.len() + headers + message.payload.len()) as u64;
        match self.config.storage {
            StorageKind::Memory => raw + 16,
            StorageKind::File => raw + 30 + if headers > 0 { 4 } else { 0 },
        }
    }

    fn apply(&mut self, index: u64, body: &Bytes) {
        match Entry::decode(body).unwrap() {
            Entry::Batch(batch) => self.store(index, body, &batch),
            Entry::Delete { seq, .. } => drop(self.kept.remove(&seq)),
            Entry::Trim { first_seq } => self.kept.retain(|seq, _| *seq >= first_seq),
            Entry::Config(config) => {
                self.config = *config;
                self.limit();
            }
            Entry::Purge(purge) => self.purge(&purge),
        }
        if let Some((first, _)) = self.kept.first_key_value() {
            self.first_seq = *first;
        } else if self.last_seq > 0 || self.purged {
            self.first_seq = self.last_seq + 1;
        }
    }

    fn store(&mut self, index: u64, body: &Bytes, batch: &Batch) {
        let rollups: Vec<Rollup> = batch.glances().map(|glance| glance.rollup).collect();
        for (slot, rollup) in (0u32..).zip(rollups) {
            let seq = batch.base_seq + u64::from(slot);
            let message = message(body, slot).unwrap();
            let subject = message.subject.clone();
            self.kept.insert(seq, Kept { message, time_ns: batch.time_ns, at: At { index, slot } });
            self.last_seq = seq;
            self.limit();
            match rollup {
                Rollup::None => {}
                Rollup::Subject => self.kept.retain(|at, kept| *at >= seq || kept.message.subject != subject),
                Rollup::All => self.kept.retain(|at, _| *at >= seq),
            }
        }
    }

    fn limit(&mut self) {
        let per_subject = self.config.max_msgs_per_subject;
        if per_subject > 0 {
            let mut count = BTreeMap::<Bytes, i64>::new();
            let mut gone = Vec::new();
            for (seq, kept) in self.kept.iter().rev() {
                let count = count.entry(kept.message.subject.clone()).or_default();
                *count += 1;
                gone.extend((*count > per_subject).then_some(*seq));
            }
            gone.iter().for_each(|seq| drop(self.kept.remove(seq)));
        }
        if self.config.discard == Discard::New {
            return;
        }
        while self.config.max_msgs > 0 && self.kept.len() as i64 > self.config.max_msgs
            || self.config.max_bytes > 0 && self.bytes() as i64 > self.config.max_bytes
        {
            self.kept.pop_first();
        }
    }

    fn purge(&mut self, purge: &Purge) {
        let filters = Filters::new((!purge.filter.is_empty()).then(|| purge.filter.clone()));
        let all: Vec<Seq> = self.matching(&filters);
        let keep = (purge.keep as usize).min(all.len());
        for seq in &all[..all.len() - keep] {
            if purge.seq == 0 || *seq < purge.seq {
                self.kept.remove(seq);
            }
        }
        if (purge.filter.is_empty() || purge.filter == ">") && purge.keep == 0 {
            self.purged |= purge.seq != 1;
            self.last_seq = self.last_seq.max(purge.seq.saturating_sub(1));
        }
    }

    fn matching(&self, filters: &Filters) -> Vec<Seq> {
        let matching = self.kept.iter().filter(|(_, kept)| filters.matches(&kept.message.subject));
        matching.map(|(seq, _)| *seq).collect()
    }
}

struct Replica {
    stream: Stream,
    /// Everything that it ever appended and that was not cut off.
    log: Vec<(u64, Bytes)>,
    applied: u64,
    /// What is on its disk: the newest checkpoint, and the entries that the stream did not give back, each with the
    /// number of its bytes that are dead.
    checkpoint: Option<Bytes>,
    disk: BTreeMap<u64, (Bytes, u64)>,
    /// Readers that live as long as the process.
    readers: Vec<Filters>,
}

impl Replica {
    fn keep(&mut self, index: u64, body: Bytes) {
        self.disk.insert(index, (body.clone(), 0));
        self.log.push((index, body));
    }
}

struct World {
    dice: Dice,
    now: Now,
    config: StreamConfig,
    replicas: Vec<Replica>,
    leader: usize,
    committed: u64,
    next_index: u64,
    /// The twin after each committed index.
    twins: BTreeMap<u64, Twin>,
    fingerprints: BTreeMap<u64, u64>,
    published: u64,
    answers: BTreeMap<Bytes, Bytes>,
}

const FILTERS: [&[&str]; 6] = [&[], &["k.*.a"], &["k.1.>", "k.2.b"], &["k.1.a"], &["k.3.c", "k.0.a"], &["none.>"]];

fn readers() -> Vec<Filters> {
    FILTERS.iter().map(|subjects| Filters::new(subjects.iter().map(|one| bytes(one)))).collect()
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let limit =
            |dice: &mut Dice, low: i64, top: u64| if dice.one_in(2) { -1 } else { low + dice.below(top) as i64 };
        let config = StreamConfig {
            name: "S".into(),
            subjects: vec!["k.>".into()],
            max_msgs: limit(&mut dice, 10, 300),
            max_bytes: limit(&mut dice, 500, 9000),
            max_msgs_per_subject: limit(&mut dice, 1, 5),
            max_age: if dice.one_in(3) { 1_000_000_000 } else { 0 },
            duplicate_window: 200_000_000,
            discard: if dice.one_in(3) { Discard::New } else { Discard::Old },
            storage: if dice.one_in(2) { StorageKind::Memory } else { StorageKind::File },
            allow_rollup_hdrs: true,
            ..StreamConfig::default()
        };
        let replica = |config: &StreamConfig| Replica {
            stream: Stream::new(GroupId(7), AccountId(1), config.clone(), 5),
            log: Vec::new(),
            applied: 0,
            checkpoint: None,
            disk: BTreeMap::new(),
            readers: readers(),
        };
        let replicas = (0..3).map(|_| replica(&config)).collect();
        let twins = BTreeMap::from([(0, Twin::new(config.clone()))]);
        let now = Now { us: 1, wall_ns: 1_000_000_000 };
        let (answers, fingerprints) = (BTreeMap::new(), BTreeMap::new());
        let (leader, committed, next_index, published) = (0, 0, 1, 0);
        let mut world = World {
            dice,
            now,
            config,
            replicas,
            leader,
            committed,
            next_index,
            twins,
            fingerprints,
            published,
            answers,
        };
        world.replicas[0].stream.lead(now, true);
        world
    }

    fn step(&mut self) {
        let ms = self.dice.below(20);
        self.now.us += ms * 1000;
        self.now.wall_ns += ms as i64 * 1_000_000;
        match self.dice.below(40) {
            0..=15 => self.publish(),
            16 => self.delete(),
            17 => self.purge(),
            18 if self.dice.one_in(4) => self.reconfigure(),
            18..=24 => self.propose(),
            25..=31 => self.replicate(),
            32..=35 => self.apply(),
            36 if self.dice.one_in(3) => self.change_leader(),
            37 => self.checkpoint(),
            38 if self.dice.one_in(2) => self.restart(),
            39 if self.dice.one_in(4) => self.replace(),
            _ => {}
        }
    }

    fn publish(&mut self) {
        for _ in 0..1 + self.dice.below(12) {
            let subject = format!("k.{}.{}", self.dice.below(5), ["a", "b", "c"][self.dice.below(3) as usize]);
            self.published += 1;
            let reply = format!("reply.{}", self.published);
            let mut headers = Vec::new();
            if self.dice.one_in(4) {
                headers.push(("Nats-Msg-Id", (self.published - self.dice.below(8).min(self.published)).to_string()));
            }
            if self.dice.one_in(30) {
                headers.push(("Nats-Rollup", if self.dice.one_in(5) { "all".into() } else { "sub".into() }));
            }
            if self.dice.one_in(10) {
                let last = self.replicas[self.leader].stream.last_seq();
                headers
                    .push(("Nats-Expected-Last-Subject-Sequence", (last - last.min(self.dice.below(4))).to_string()));
            }
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let payload = format!("{reply}{}", "x".repeat(self.dice.below(30) as usize));
            let publish = publish(&subject, &payload, &headers, Some(&reply));
            if let Some(reply) = self.replicas[self.leader].stream.ingest(self.now, publish) {
                self.note(reply);
            }
        }
    }

    fn delete(&mut self) {
        let stream = &mut self.replicas[self.leader].stream;
        let seq = stream.last_seq().saturating_sub(self.dice.below(60));
        stream.propose_delete(self.now, seq, false, None);
    }

    fn purge(&mut self) {
        let stream = &mut self.replicas[self.leader].stream;
        let filter = ["", "", "k.1.*", "k.2.a", ">"][self.dice.below(5) as usize];
        let mut purge = Purge { filter: bytes(filter), ..Purge::default() };
        match self.dice.below(4) {
            0 => purge.seq = (stream.last_seq() + 4).saturating_sub(self.dice.below(40)),
            1 => purge.keep = 1 + self.dice.below(20),
            _ if filter.is_empty() => purge.keep = 10,
            _ => {}
        }
        stream.propose_purge(self.now, purge, None);
    }

    fn reconfigure(&mut self) {
        let max_msgs = 20 + self.dice.below(200) as i64;
        let config = StreamConfig { max_msgs, ..self.config.clone() };
        self.replicas[self.leader].stream.propose_config(self.now, config, None);
    }

    fn propose(&mut self) {
        let leader = &mut self.replicas[self.leader];
        for body in leader.stream.take_entries(self.now) {
            self.next_index += 1 + self.dice.below(2);
            leader.stream.appended(self.next_index, &body).unwrap();
            leader.keep(self.next_index, body);
        }
    }

    /// Sends a part of what each follower lacks; what two replicas have is committed.
    fn replicate(&mut self) {
        let log = self.replicas[self.leader].log.clone();
        for at in 0..self.replicas.len() {
            let follower = &mut self.replicas[at];
            let have = follower.log.last().map_or(0, |last| last.0);
            let lacking: Vec<_> = log.iter().filter(|(index, _)| *index > have).cloned().collect();
            let some = self.dice.below(lacking.len() as u64 + 1) as usize;
            for (index, body) in lacking.into_iter().take(some) {
                let copy = Bytes::copy_from_slice(&body);
                follower.stream.appended(index, &copy).unwrap();
                follower.keep(index, copy);
            }
        }
        let mut ends: Vec<u64> = self.replicas.iter().map(|one| one.log.last().map_or(0, |last| last.0)).collect();
        ends.sort_unstable();
        for (index, body) in log.iter().filter(|(index, _)| *index > self.committed && *index <= ends[1]) {
            let mut twin = self.twins.last_key_value().unwrap().1.clone();
            twin.apply(*index, body);
            self.twins.insert(*index, twin);
        }
        self.committed = self.committed.max(ends[1]);
    }

    fn apply(&mut self) {
        let at = self.dice.below(3) as usize;
        let replica = &self.replicas[at];
        let known: Vec<u64> =
            replica.log.iter().map(|entry| entry.0).filter(|index| *index <= self.committed).collect();
        let Some(upto) = known.get(self.dice.below(known.len().max(1) as u64) as usize) else { return };
        self.apply_at(at, (*upto).max(replica.applied));
    }

    fn apply_at(&mut self, at: usize, upto: u64) {
        let replica = &mut self.replicas[at];
        replica.stream.apply(self.now, upto);
        replica.applied = upto;
        self.check(at);
    }

    /// The most complete replica leads; the others lose what it does not have.
    fn change_leader(&mut self) {
        let complete = |one: &Replica| one.log.last().map_or(0, |last| last.0) >= self.committed;
        let able: Vec<usize> = (0..3).filter(|at| complete(&self.replicas[*at])).collect();
        let next = able[self.dice.below(able.len() as u64) as usize];
        self.replicas[self.leader].stream.lead(self.now, false);
        let log = self.replicas[next].log.clone();
        for (at, replica) in self.replicas.iter_mut().enumerate() {
            let same = replica.log.iter().zip(&log).take_while(|(own, other)| own == other).count();
            if at != next && same < replica.log.len() {
                let from = replica.log[same].0;
                replica.stream.truncated(from, &crate::api::errors::CLUSTER_NOT_AVAIL);
                replica.log.truncate(same);
                replica.disk.split_off(&from);
            }
        }
        self.leader = next;
        self.replicas[next].stream.lead(self.now, true);
        self.next_index += 10;
    }

    /// Takes a checkpoint; one in three never becomes durable.
    fn checkpoint(&mut self) {
        let at = self.dice.below(3) as usize;
        let durable = !self.dice.one_in(3);
        let replica = &mut self.replicas[at];
        let checkpoint = replica.stream.checkpoint();
        if durable {
            replica.checkpoint = Some(checkpoint);
            replica.stream.checkpointed(replica.stream.applied());
        }
        self.drain(at);
    }

    /// A replica starts again with its checkpoint and the entries that it was not allowed to forget, in any order.
    fn restart(&mut self) {
        let at = self.dice.below(3) as usize;
        if at == self.leader {
            return;
        }
        let mut stream = Stream::new(GroupId(7), AccountId(1), self.config.clone(), 5);
        let replica = &mut self.replicas[at];
        let mut entries: Vec<_> = replica.disk.iter().map(|(index, (body, _))| (*index, body.clone())).collect();
        for left in (1..entries.len()).rev() {
            entries.swap(left, self.dice.below(left as u64 + 1) as usize);
        }
        let half = self.dice.below(entries.len() as u64 + 1) as usize;
        for (at, (index, body)) in entries.iter().enumerate() {
            if at == half
                && let Some(checkpoint) = &replica.checkpoint
            {
                stream.restore(checkpoint).unwrap();
            }
            stream.recover_entry(*index, body).unwrap();
        }
        if half == entries.len()
            && let Some(checkpoint) = &replica.checkpoint
        {
            stream.restore(checkpoint).unwrap();
        }
        // How far the group had committed is remembered only loosely: the rest of the log waits.
        let known = self.dice.below(replica.applied + 1);
        stream.recovered(self.now, known).unwrap();
        replica.stream = stream;
        replica.readers = readers();
        replica.applied = replica.stream.applied();
        self.check(at);
    }

    /// A new replica takes the place of one: the leader's checkpoint, its living entries, then the log after it.
    fn replace(&mut self) {
        let at = self.dice.below(3) as usize;
        if at == self.leader {
            return;
        }
        let leader = &mut self.replicas[self.leader];
        let checkpoint = leader.stream.checkpoint();
        let applied = leader.stream.applied();
        let living: Vec<u64> = leader.stream.live_entries(0).collect();
        let log = leader.log.clone();
        let replica = &mut self.replicas[at];
        replica.stream.install(&checkpoint).unwrap();
        replica.disk.clear();
        for (index, body) in log.iter().filter(|(index, _)| *index > applied || living.contains(index)) {
            replica.stream.recover_entry(*index, body).unwrap();
            replica.disk.insert(*index, (body.clone(), 0));
        }
        replica.stream.recovered(self.now, applied).unwrap();
        replica.log = log;
        replica.applied = applied;
        replica.checkpoint = Some(checkpoint);
        self.check(at);
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.replicas[at].stream.poll_output() {
            match output {
                StreamOutput::Reply(reply) => self.note(reply),
                StreamOutput::Released { below_index } => {
                    let replica = &mut self.replicas[at];
                    replica.disk = replica.disk.split_off(&below_index);
                }
                StreamOutput::Dead { index, bytes } => {
                    let disk = &mut self.replicas[at].disk;
                    let dead = disk.get_mut(&index).map(|(body, dead)| {
                        *dead += u64::from(bytes);
                        *dead >= body.len() as u64
                    });
                    if dead == Some(true) {
                        disk.remove(&index);
                    }
                }
                _ => {}
            }
        }
    }

    fn note(&mut self, reply: Reply) {
        let before = self.answers.insert(reply.subject.clone(), reply.payload.clone());
        assert_eq!(before, None, "one answer for one publish");
    }

    fn check(&mut self, at: usize) {
        self.drain(at);
        let World { replicas, twins, fingerprints, .. } = self;
        let replica = &replicas[at];
        let stream = &replica.stream;
        let (_, twin) = twins.range(..=stream.applied()).next_back().unwrap();
        let state = stream.state();
        assert_eq!((state.messages, state.bytes), (twin.kept.len() as u64, twin.bytes()));
        assert_eq!((state.first_seq, state.last_seq), (twin.first_seq, twin.last_seq));
        let index = twins.range(..=stream.applied()).next_back().unwrap().0;
        let fingerprint = stream.fingerprint();
        assert_eq!(*fingerprints.entry(*index).or_insert(fingerprint), fingerprint, "replicas agree");
        for (seq, kept) in &twin.kept {
            assert_eq!(stream.locate(*seq), Some(kept.at));
            assert_eq!(stream.time_of(*seq), Some(kept.time_ns));
            let body = &replica.log.iter().find(|entry| entry.0 == kept.at.index).unwrap().1;
            assert_eq!(message(body, kept.at.slot).as_ref(), Ok(&kept.message));
        }
        let gaps: Vec<Seq> = match twin.kept.first_key_value() {
            Some((first, _)) => (*first..=twin.last_seq).filter(|seq| !twin.kept.contains_key(seq)).collect(),
            None => Vec::new(),
        };
        assert_eq!(stream.deleted(usize::MAX), gaps);
        let cut = twin.first_seq + self.dice.below(twin.last_seq.saturating_sub(twin.first_seq) + 3);
        let cut = cut.saturating_sub(self.dice.below(2));
        for filters in &replica.readers {
            check_reader(stream, twin, filters, cut);
        }
    }
}

fn check_reader(stream: &Stream, twin: &Twin, filters: &Filters, cut: Seq) {
    let all = twin.matching(filters);
    let from = all.partition_point(|seq| *seq < cut);
    assert_eq!(stream.next_match(cut, filters), all.get(from).copied());
    assert_eq!(stream.last_match(cut, filters), all.iter().rfind(|seq| **seq <= cut).copied());
    assert_eq!(stream.count_from(cut, filters), (all.len() - from) as u64, "{:?} from {cut}", filters.subjects());
    let mut last = BTreeMap::new();
    for seq in all {
        last.insert(twin.kept[&seq].message.subject.clone(), seq);
    }
    let mut last: Vec<Seq> = last.into_values().collect();
    last.sort_unstable();
    assert_eq!(stream.last_per_subject(filters), last);
}

/// Runs one seed; at the end every positive answer is looked up. Returns how many there were.
fn run(seed: u64, steps: usize) -> usize {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    let mut stored = BTreeMap::new();
    for (index, body) in world.replicas[world.leader].log.iter().filter(|entry| entry.0 <= world.committed) {
        if let Entry::Batch(batch) = Entry::decode(body).unwrap() {
            for slot in 0..batch.count {
                let payload = message(body, slot).unwrap().payload;
                stored.insert(batch.base_seq + u64::from(slot), (*index, payload));
            }
        }
    }
    let mut acked = 0;
    for (reply, payload) in &world.answers {
        let text = text(payload);
        let seq = text.rsplit_once("\"seq\":").unwrap().1.trim_end_matches('}');
        if text.contains("error") || text.contains("duplicate") {
            continue;
        }
        acked += 1;
        let (_, payload) = &stored[&seq.parse::<Seq>().unwrap()];
        let own = payload.strip_prefix(reply.as_ref()).unwrap_or_else(|| panic!("{reply:?} is not at {seq}"));
        assert!(own.iter().all(|byte| *byte == b'x'));
    }
    acked
}

/// A few seconds in a debug build.
const SEEDS: u64 = 24;

#[test]
fn replicas_agree_with_the_twin_through_every_fault() {
    let mut acked = 0;
    for seed in 0..SEEDS {
        match std::panic::catch_unwind(|| run(seed, 1200)) {
            Ok(count) => acked += count,
            Err(_) => panic!("seed {seed} fails"),
        }
    }
    assert!(acked > 10_000, "only {acked} acknowledged messages were looked up");
}
