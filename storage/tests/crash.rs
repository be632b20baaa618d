//! The log against a disk that crashes, tears and reorders: what was reported durable is there, nothing else appears.
//!
//! A model keeps the journal of everything that was appended. After a crash the recovered log must equal the model at
//! some point of the journal not before the last `Durable`; entries that were only released or killed may be back.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::dice::Dice;
use common::disk::Disk;
use common::*;
use storage::*;

#[derive(Clone)]
enum Fact {
    Entry(Record),
    Cut(u64, u64),
    Drop(u64),
    Note(Record),
}

#[derive(Clone, Default, PartialEq, Debug)]
struct State {
    entries: BTreeMap<(u64, u64), (Lsn, Record)>,
    notes: BTreeMap<(u64, RecordKind), Record>,
}

impl State {
    fn apply(&mut self, lsn: Lsn, fact: &Fact) {
        match fact {
            Fact::Entry(record) => {
                self.cut(record.group.0, record.index);
                self.entries.insert((record.group.0, record.index), (lsn, record.clone()));
            }
            Fact::Cut(group, from) => self.cut(*group, *from),
            Fact::Drop(group) => {
                self.cut(*group, 0);
                self.notes.retain(|(of, _), _| of != group);
            }
            Fact::Note(record) => drop(self.notes.insert((record.group.0, record.kind), record.clone())),
        }
    }

    fn cut(&mut self, group: u64, from: u64) {
        self.entries.retain(|(of, index), _| *of != group || *index < from);
    }

    fn last(&self, group: u64) -> u64 {
        self.entries.range((group, 0)..=(group, u64::MAX)).next_back().map_or(0, |((_, index), _)| *index)
    }
}

struct World {
    seed: u64,
    dice: Dice,
    disk: Disk,
    options: StoreOptions,
    base: State,
    journal: Vec<(Lsn, Fact)>,
    now: State,
    /// LSNs of entries that were released or killed.
    dismissed: BTreeSet<Lsn>,
    floors: BTreeMap<u64, u64>,
    /// Highest index of each group that was appended and not truncated, dead or alive.
    tops: BTreeMap<u64, u64>,
    fulls: u64,
    moved: u64,
    runs_torn: u64,
    recycled: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice::new(seed);
        let options = StoreOptions {
            bytes_max: (dice.below(3) > 0).then(|| (4 + dice.below(6)) * SEGMENT),
            writes_in_flight_max: 1 + dice.below(4) as usize,
            run_bytes_max: [4096, 16 << 10, 200 << 10][dice.below(3) as usize],
            replay: if dice.below(2) == 0 { Replay::All } else { Replay::AfterCheckpoint },
            ..options()
        };
        let mut disk = Disk::new(seed ^ 77);
        if dice.below(4) == 0 {
            disk.bytes_max = 5 * SEGMENT as usize + 10_000;
        }
        World {
            seed,
            dice,
            disk,
            options,
            base: State::default(),
            journal: Vec::new(),
            now: State::default(),
            dismissed: BTreeSet::new(),
            floors: BTreeMap::new(),
            tops: BTreeMap::new(),
            fulls: 0,
            moved: 0,
            runs_torn: 0,
            recycled: false,
        }
    }

    fn body(&mut self) -> Bytes {
        let len = match self.dice.below(20) {
            0 => self.dice.below(120_000),
            1..6 => 0,
            _ => self.dice.below(6000),
        };
        let byte = self.dice.next() as u8;
        let mut body = vec![byte; len as usize];
        body.iter_mut().step_by(97).for_each(|b| *b = self.dice.next() as u8);
        body.into()
    }

    fn fact(&mut self, lsn: Lsn, fact: Fact) {
        self.now.apply(lsn, &fact);
        self.journal.push((lsn, fact));
    }

    fn append(&mut self, log: &mut Log, record: Record, fact: fn(Record) -> Fact) {
        match log.append(record.clone()) {
            Ok(lsn) => {
                let (group, index) = (record.group.0, record.index);
                if record.kind == RecordKind::ENTRY {
                    let top = self.tops.insert(group, index).unwrap_or(0);
                    if top >= index {
                        // Superseding takes two records; a crash may come between them.
                        self.fact(Lsn(lsn.0 - 1), Fact::Cut(group, index));
                    }
                }
                self.fact(lsn, fact(record));
            }
            Err(AppendError::Full) => self.fulls += 1,
            Err(error) => panic!("seed {}: {error}", self.seed),
        }
    }

    fn act(&mut self, log: &mut Log) {
        let group = 1 + self.dice.below(5);
        let floor = self.floors.get(&group).copied().unwrap_or(0).max(1);
        let last = self.now.last(group).max(floor - 1);
        match self.dice.below(100) {
            0..70 => {
                let back = if self.dice.below(12) == 0 { self.dice.below(20) } else { 0 };
                let index = (last + 1).saturating_sub(back).max(floor);
                let term = self.dice.below(1000);
                let record = entry(group, index, term, self.body());
                self.append(log, record, Fact::Entry);
            }
            70..78 => {
                let kinds = [RecordKind::HARD_STATE, RecordKind::local(1), RecordKind::local(2)];
                let kind = kinds[self.dice.below(3) as usize];
                let record = note(group, kind, self.body());
                let record = Record { term: self.dice.next(), ..record };
                self.append(log, record, Fact::Note);
            }
            78..80 => {
                let record = note(group, RecordKind::CHECKPOINT, self.body());
                let record = Record { index: self.dice.below(last + 1), ..record };
                self.append(log, record, Fact::Note);
            }
            80..82 => {
                let from = floor + self.dice.below(last + 2 - floor);
                if let Ok(Some(lsn)) = log.truncate(GroupId(group), from) {
                    self.fact(lsn, Fact::Cut(group, from));
                    self.tops.insert(group, from - 1);
                }
            }
            82..86 => self.release(log, group, last),
            86..98 => self.kill(log, group, last),
            98 if self.dice.below(10) == 0 => {
                if let Ok(lsn) = log.drop_group(GroupId(group)) {
                    self.fact(lsn, Fact::Drop(group));
                    self.floors.remove(&group);
                    self.tops.remove(&group);
                }
            }
            _ => log.mark(),
        }
    }

    fn release(&mut self, log: &mut Log, group: u64, last: u64) {
        let below = if self.dice.below(3) > 0 { last.saturating_sub(30) } else { self.dice.below(last + 2) };
        let gone: Vec<_> =
            self.now.entries.range((group, 0)..(group, below)).map(|(key, (lsn, _))| (*key, *lsn)).collect();
        for (key, lsn) in gone {
            self.now.entries.remove(&key);
            self.dismissed.insert(lsn);
        }
        let floor = self.floors.entry(group).or_default();
        *floor = below.max(*floor);
        log.release(GroupId(group), below);
    }

    fn kill(&mut self, log: &mut Log, group: u64, last: u64) {
        let index = self.dice.below(last + 1);
        let Some((lsn, record)) = self.now.entries.get(&(group, index)) else { return };
        if self.dice.below(3) == 0 && record.body.len() > 1000 {
            return log.kill(GroupId(group), index, 1);
        }
        self.dismissed.insert(*lsn);
        log.kill(GroupId(group), index, record.body.len() as u32);
        self.now.entries.remove(&(group, index));
    }

    fn check_read(&mut self, log: &mut Log) {
        let group = 1 + self.dice.below(5);
        let last = self.now.last(group);
        let floor = self.floors.get(&group).copied().unwrap_or(0);
        let (from, to) = (floor + self.dice.below(last + 3), floor + self.dice.below(last + 9));
        let expected: Vec<Record> = match from <= to {
            true => {
                self.now.entries.range((group, from)..=(group, to)).map(|(_, (_, record))| record.clone()).collect()
            }
            false => Vec::new(),
        };
        match read(log, &mut self.disk, group, from, to) {
            Ok(found) => {
                let indexes = |records: &[Record]| records.iter().map(|r| (r.index, r.term)).collect::<Vec<_>>();
                assert_eq!(indexes(&found), indexes(&expected), "seed {} group {group} {from}..={to}", self.seed);
                assert!(found == expected, "seed {} group {group} {from}..={to}: bodies", self.seed);
            }
            Err(error) => assert_eq!(expected.len(), 0, "{error}: seed {} group {group} {from}..={to}", self.seed),
        }
    }

    /// Some acts, some completions, until the crash. Answers with what was reported durable and what was appended.
    fn live(&mut self, log: &mut Log) -> (Lsn, Lsn) {
        let mut durable = log.durable();
        for _ in 0..self.dice.below(1500) {
            for _ in 0..self.dice.below(5) {
                self.act(log);
            }
            submit(log, &mut self.disk);
            for _ in 0..self.dice.below(4) {
                if let Some(done) = self.disk.complete_one() {
                    log.on_done(done);
                    submit(log, &mut self.disk);
                }
            }
            match self.dice.below(60) {
                0 => self.check_read(log),
                1 => drop(log.scrub(100_000)),
                2 => log.retry_space(),
                _ => {}
            }
            while let Some(event) = log.poll_event() {
                match event {
                    LogEvent::Durable(lsn) => durable = durable.max(lsn),
                    LogEvent::Broken { why } => panic!("seed {}: {why}", self.seed),
                    LogEvent::Damaged(damage) => panic!("seed {}: {damage}", self.seed),
                    _ => {}
                }
            }
            assert!(log.durable() <= log.appended());
        }
        let stats = log.stats();
        assert!(stats.bytes_live + stats.bytes_dead <= stats.bytes_total);
        self.moved += stats.bytes_moved;
        self.recycled |= stats.bytes_device > 8 * SEGMENT;
        (log.durable().max(durable), log.appended())
    }

    fn restart(&mut self, durable: Lsn, appended: Lsn) -> Log {
        let opened = open(&mut self.disk, self.options.clone());
        let (mut log, report, items) = opened.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        assert_eq!(report.damaged, [], "seed {}", self.seed);
        self.runs_torn += report.runs_torn;
        assert!(log.appended() <= appended, "seed {}: something appeared", self.seed);
        let upto = log.appended().max(durable);
        let mut then = self.base.clone();
        for (lsn, fact) in self.journal.iter().filter(|(lsn, _)| *lsn <= upto) {
            then.apply(*lsn, fact);
        }
        let found = self.found(&mut log);
        self.compare(&then, &found);
        self.compare_items(&found, &items);
        self.base = found.clone();
        self.now = found;
        self.journal.clear();
        log
    }

    /// Everything in the log, through reads.
    fn found(&mut self, log: &mut Log) -> State {
        let mut found = State::default();
        for group in 1..=5 {
            let first = log.bounds(GroupId(group)).map_or(0, |(first, _)| first);
            for record in read(log, &mut self.disk, group, first, u64::MAX).unwrap_or_default() {
                found.entries.insert((group, record.index), (Lsn(0), record));
            }
            for kind in [RecordKind::HARD_STATE, RecordKind::CHECKPOINT, RecordKind::local(1), RecordKind::local(2)] {
                for record in latest(log, &mut self.disk, group, kind).unwrap_or_default() {
                    found.notes.insert((group, kind), record);
                }
            }
        }
        found
    }

    fn compare(&self, then: &State, found: &State) {
        let seed = self.seed;
        assert_eq!(then.notes, found.notes, "seed {seed}");
        for (key, (_, record)) in &found.entries {
            let known = then.entries.get(key).map(|(_, record)| record);
            assert!(known == Some(record), "seed {seed}: {key:?} was not there or was superseded");
        }
        for (key, (lsn, _)) in &then.entries {
            let lawful = found.entries.contains_key(key) || self.dismissed.contains(lsn);
            assert!(lawful, "seed {seed}: {key:?} of {lsn:?} is lost");
        }
    }

    fn compare_items(&self, found: &State, items: &[Recovered]) {
        let mut order = items.iter().map(|item| item.lsn);
        let mut before = Lsn(0);
        assert!(order.all(|lsn| std::mem::replace(&mut before, lsn) < lsn), "seed {}: order", self.seed);
        let mut expected: Vec<&Record> = found.notes.values().collect();
        for ((group, index), (_, record)) in &found.entries {
            let checkpoint = found.notes.get(&(*group, RecordKind::CHECKPOINT)).map_or(0, |record| record.index);
            if self.options.replay == Replay::All || *index > checkpoint {
                expected.push(record);
            }
        }
        let mut given: Vec<&Record> = items.iter().map(|item| &item.record).collect();
        let key = |record: &&Record| (record.group, record.kind, record.index);
        expected.sort_by_key(key);
        given.sort_by_key(key);
        assert_eq!(given, expected, "seed {}", self.seed);
    }

    /// Entries of earlier lives get marks of their own as LSNs; then the caller says again what it had released.
    fn relearn(&mut self, log: &mut Log) {
        for (mark, (lsn, _)) in self.now.entries.values_mut().enumerate() {
            *lsn = Lsn((1 << 60) + mark as u64);
        }
        self.base = self.now.clone();
        self.dismissed.clear();
        self.tops = (1..=5).map(|group| (group, self.now.last(group))).collect();
        // A drop that did not survive leaves the floor that the log knows.
        for group in 1..=5 {
            let floor = self.floors.entry(group).or_default();
            *floor = log.floor(GroupId(group)).max(*floor);
        }
        for (group, below) in &self.floors {
            log.release(GroupId(*group), *below);
            self.now.entries.retain(|(of, index), (lsn, _)| {
                let stays = of != group || index >= below;
                if !stays {
                    self.dismissed.insert(*lsn);
                }
                stays
            });
        }
    }
}

fn story(seed: u64, lives: u64) -> World {
    let mut world = World::new(seed);
    let (mut durable, mut appended) = (Lsn(0), Lsn(0));
    for _ in 0..lives {
        let mut log = world.restart(durable, appended);
        world.relearn(&mut log);
        (durable, appended) = world.live(&mut log);
        let power_loss = world.dice.below(2) == 0;
        world.disk.crash(power_loss);
    }
    world.restart(durable, appended);
    world
}

#[test]
fn what_was_durable_survives_any_crash_and_nothing_else_appears() {
    let (mut fulls, mut moved, mut torn, mut recycled) = (0, 0, 0, 0);
    for seed in 0..12 {
        let world = story(seed, 5);
        fulls += world.fulls;
        moved += world.moved;
        torn += world.runs_torn;
        recycled += u64::from(world.recycled);
    }
    assert!(fulls > 0 && moved > 0 && torn > 0 && recycled > 0, "{fulls} {moved} {torn} {recycled}");
}
