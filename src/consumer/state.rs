//! The replicated state of a consumer: what every replica agrees on after the same entries.
//!
//! Two copies exist on the leader: the *applied* one, which follows the commit, and the *live* one, which is ahead by
//! what was decided and not yet committed. Both change only through [`State::apply`], so a decision takes effect once
//! in each, and what was never committed vanishes with the live copy.
//!
//! Always true:
//! - `floor ≤ delivered`, in both sequences;
//! - every pending message lies in `(floor.stream, delivered.stream]`;
//! - neither point ever moves back.
//!
//! Applying is total: any decodable entry leaves a state with these invariants, whatever it says.

use crate::ids::Seq;

use super::config::{AckPolicy, ConsumerConfig};
use super::pending::{Pending, PendingSet};
use super::record::{Damaged, Op, Reader, put, put_config};

/// FNV-1a, 64 bits: the same on every machine, and only checkers ask for it.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// A place in both countings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    /// Delivery number, 0 before the first.
    pub consumer: u64,
    /// Stream sequence.
    pub stream: Seq,
}

#[derive(Debug, Clone)]
pub struct State {
    pub config: ConsumerConfig,
    /// Whether the first sequence was chosen.
    pub started: bool,
    /// Below it only the last message of each subject is delivered; 0 when that is not (or no longer) so.
    pub resume: Seq,
    /// Last message that was sent for the first time, and number of deliveries.
    pub delivered: Point,
    /// Everything up to here is done.
    pub floor: Point,
    /// Wall time of the last delivery and of the last ack, nanoseconds; 0 for never.
    pub delivered_ns: i64,
    pub acked_ns: i64,
    pub pending: PendingSet,
}

impl State {
    pub fn new(config: ConsumerConfig) -> Self {
        State {
            config,
            started: false,
            resume: 0,
            delivered: Point::default(),
            floor: Point::default(),
            delivered_ns: 0,
            acked_ns: 0,
            pending: PendingSet::default(),
        }
    }

    /// The first sequence that was never delivered.
    pub fn next(&self) -> Seq {
        self.delivered.stream.saturating_add(1)
    }

    /// Takes one change in. Deterministic; O(log pending) but for ack policy `all` and trims, which are O(removed).
    pub fn apply(&mut self, time_ns: i64, op: &Op) {
        match op {
            Op::Started { next, resume } => self.start(*next, *resume),
            Op::Delivered { consumer_seq, stream_seq, count } => {
                self.deliver(time_ns, *consumer_seq, *stream_seq, *count);
            }
            Op::Acked { stream_seq } => {
                self.acked_ns = time_ns;
                self.pending.remove(*stream_seq);
                self.pending.forget_exhausted(*stream_seq);
            }
            Op::AckedAll { stream_seq, consumer_seq } => self.ack_all(time_ns, *stream_seq, *consumer_seq),
            Op::Delayed { stream_seq, wait_us } => self.rewind(time_ns, *stream_seq, Some(*wait_us)),
            Op::Progress { stream_seq } => self.rewind(time_ns, *stream_seq, None),
            Op::Returned { stream_seq } => {
                let count = self.pending.get(*stream_seq).map_or(0, |pending| pending.count);
                self.pending.set_count(*stream_seq, count.saturating_sub(1));
            }
            Op::Exhausted { stream_seq } => self.pending.exhaust(*stream_seq),
            Op::Dropped { stream_seq } => {
                self.acked_ns = time_ns;
                self.pending.remove(*stream_seq);
                self.pending.forget_exhausted(*stream_seq);
            }
            Op::Trimmed { first } => {
                if self.pending.first().is_some_and(|(seq, _)| seq < *first) {
                    self.acked_ns = time_ns;
                }
                self.pending.remove_below(*first);
                self.delivered.stream = self.delivered.stream.max(first.saturating_sub(1));
            }
            Op::Config(config) => self.configure(config),
        }
        if !matches!(op, Op::Delivered { .. }) {
            self.settle();
        }
        self.check_invariants();
    }

    fn start(&mut self, next: Seq, resume: Seq) {
        if self.started {
            return;
        }
        self.started = true;
        self.resume = resume;
        self.delivered.stream = self.delivered.stream.max(next.saturating_sub(1));
    }

    fn deliver(&mut self, time_ns: i64, consumer_seq: u64, stream_seq: Seq, count: u32) {
        let first_time = stream_seq > self.delivered.stream;
        self.delivered.consumer = self.delivered.consumer.max(consumer_seq);
        self.delivered.stream = self.delivered.stream.max(stream_seq);
        self.delivered_ns = time_ns;
        let wait_us = self.config.wait_us(count);
        if self.config.ack_policy == AckPolicy::None {
            self.floor = self.delivered;
        } else if first_time {
            let pending = Pending { consumer_seq, count, since_ns: time_ns, wait_us, due_us: 0, queued: false };
            self.pending.insert(stream_seq, pending);
        } else if let Some(pending) = self.pending.get_mut(stream_seq) {
            pending.since_ns = time_ns;
            pending.wait_us = wait_us;
            self.pending.set_count(stream_seq, count);
        }
    }

    fn ack_all(&mut self, time_ns: i64, stream_seq: Seq, consumer_seq: u64) {
        self.acked_ns = time_ns;
        self.pending.remove_below(stream_seq.saturating_add(1));
        self.floor.stream = self.floor.stream.max(stream_seq.min(self.delivered.stream));
        // A number that was never given is none of ours.
        if consumer_seq <= self.delivered.consumer {
            self.floor.consumer = self.floor.consumer.max(consumer_seq);
        }
    }

    /// The ack policy stays: what is pending under one policy means nothing under another.
    fn configure(&mut self, config: &ConsumerConfig) {
        self.config = ConsumerConfig { ack_policy: self.config.ack_policy, ..config.clone() };
    }

    /// Starts an ack timer again, with its usual length or another one.
    fn rewind(&mut self, time_ns: i64, stream_seq: Seq, wait_us: Option<u64>) {
        let Some(pending) = self.pending.get_mut(stream_seq) else { return };
        pending.since_ns = time_ns;
        pending.wait_us = wait_us.unwrap_or_else(|| self.config.wait_us(pending.count));
    }

    /// Moves the floor up to just below what is still pending. It moves only when a delivery number below is done,
    /// so that it keeps its reported place until the first ack, as clients know it.
    fn settle(&mut self) {
        match self.pending.first() {
            None => self.floor = self.delivered,
            Some((seq, first)) if first.consumer_seq.saturating_sub(1) > self.floor.consumer => {
                self.floor.consumer = (first.consumer_seq - 1).min(self.delivered.consumer);
                self.floor.stream = self.floor.stream.max(seq - 1);
            }
            Some(_) => {}
        }
    }

    fn check_invariants(&self) {
        assert!(self.floor.consumer <= self.delivered.consumer);
        assert!(self.floor.stream <= self.delivered.stream);
        assert!(self.pending.first().is_none_or(|(seq, _)| seq > self.floor.stream));
        assert!(self.pending.last_seq().is_none_or(|seq| seq <= self.delivered.stream));
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        put_config(out, &self.config);
        let points = [self.delivered.consumer, self.delivered.stream, self.floor.consumer, self.floor.stream];
        for value in [u64::from(self.started), self.resume].into_iter().chain(points) {
            put(out, value);
        }
        put(out, self.delivered_ns as u64);
        put(out, self.acked_ns as u64);
        self.pending.encode(out);
    }

    pub fn decode(reader: &mut Reader) -> Result<State, Damaged> {
        let mut state = State::new(reader.config()?);
        state.started = reader.number("started")? != 0;
        state.resume = reader.number("resume")?;
        state.delivered = Point { consumer: reader.number("delivered")?, stream: reader.number("delivered")? };
        state.floor = Point { consumer: reader.number("floor")?, stream: reader.number("floor")? };
        state.delivered_ns = reader.number("delivered time")? as i64;
        state.acked_ns = reader.number("acked time")? as i64;
        state.pending = PendingSet::decode(reader)?;
        let first_ok = state.pending.first().is_none_or(|(seq, _)| seq > state.floor.stream);
        let last_ok = state.pending.last_seq().is_none_or(|seq| seq <= state.delivered.stream);
        let floor_ok = state.floor.consumer <= state.delivered.consumer && state.floor.stream <= state.delivered.stream;
        if first_ok && last_ok && floor_ok { Ok(state) } else { Err(Damaged("order of sequences")) }
    }

    /// A number that two replicas share exactly when their states are equal, but for chance.
    pub fn fingerprint(&self) -> u64 {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        bytes.iter().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
    }
}
