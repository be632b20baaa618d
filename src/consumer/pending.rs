//! Messages that were delivered and not acknowledged, and those that were given up.
//!
//! What is replicated of a message: its first delivery number, how often it was sent, since when the ack timer runs and
//! how long. When that timer fires in this process (`due_us`) and whether the message stands in the redelivery queue is
//! the leader's own knowledge: monotonic clocks mean nothing elsewhere, so a new leader works it out again. It is kept
//! in the same map because a second one of the same size would double the cost of every ack.

use std::collections::BTreeMap;

use crate::ids::{Now, Seq};
use crate::limits::CONSUMER_EXHAUSTED_MAX;

use super::record::{Damaged, Reader, put};

/// One message that was delivered and not acknowledged.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Delivery number of its first delivery; ascending with the stream sequence.
    pub consumer_seq: u64,
    /// Deliveries so far. 0 when the only one reached nobody.
    pub count: u32,
    /// Wall clock at which the ack timer started, nanoseconds.
    pub since_ns: i64,
    /// How long the ack timer runs, microseconds.
    pub wait_us: u64,
    /// Leader only: when the message is due again.
    pub due_us: u64,
    /// Leader only: stands in the redelivery queue.
    pub queued: bool,
}

impl Pending {
    /// When the ack timer fires for a leader that takes over now: what is left of it, at least nothing and at most all,
    /// so that a clock that jumped neither floods nor stalls.
    pub fn due_after_takeover(&self, now: Now) -> u64 {
        let gone_us = u64::try_from(now.wall_ns.saturating_sub(self.since_ns)).unwrap_or(0) / 1000;
        now.us.saturating_add(self.wait_us.saturating_sub(gone_us))
    }
}

/// The pending messages by stream sequence, and the exhausted ones beside them.
#[derive(Debug, Clone, Default)]
pub struct PendingSet {
    by_seq: BTreeMap<Seq, Pending>,
    /// Given up after `max_deliver`: sequence → deliveries. Kept for reports and late acks only, so the oldest go first.
    exhausted: BTreeMap<Seq, u32>,
    /// Pending messages that were sent more than once.
    redelivered: usize,
}

impl PendingSet {
    pub fn len(&self) -> usize {
        self.by_seq.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_seq.is_empty()
    }

    /// Messages delivered more than once and not yet acknowledged, with those that were given up.
    pub fn num_redelivered(&self) -> usize {
        self.redelivered + self.exhausted.len()
    }

    pub fn get(&self, seq: Seq) -> Option<&Pending> {
        self.by_seq.get(&seq)
    }

    /// For the leader's own fields; counts go through [`PendingSet::set_count`].
    pub fn get_mut(&mut self, seq: Seq) -> Option<&mut Pending> {
        self.by_seq.get_mut(&seq)
    }

    pub fn first(&self) -> Option<(Seq, &Pending)> {
        self.by_seq.first_key_value().map(|(seq, pending)| (*seq, pending))
    }

    pub fn last_seq(&self) -> Option<Seq> {
        self.by_seq.last_key_value().map(|(seq, _)| *seq)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Seq, &Pending)> {
        self.by_seq.iter().map(|(seq, pending)| (*seq, pending))
    }

    pub fn is_exhausted(&self, seq: Seq) -> bool {
        self.exhausted.contains_key(&seq)
    }

    pub fn insert(&mut self, seq: Seq, pending: Pending) {
        self.remove(seq);
        self.redelivered += usize::from(pending.count > 1);
        self.by_seq.insert(seq, pending);
    }

    pub fn set_count(&mut self, seq: Seq, count: u32) {
        if let Some(pending) = self.by_seq.get_mut(&seq) {
            self.redelivered -= usize::from(pending.count > 1);
            self.redelivered += usize::from(count > 1);
            pending.count = count;
        }
    }

    /// Takes a message out; whether it was there.
    pub fn remove(&mut self, seq: Seq) -> bool {
        let gone = self.by_seq.remove(&seq);
        self.redelivered -= usize::from(gone.as_ref().is_some_and(|pending| pending.count > 1));
        gone.is_some()
    }

    /// Takes out everything below a sequence, exhausted or not.
    pub fn remove_below(&mut self, seq: Seq) {
        while let Some((first, _)) = self.first()
            && first < seq
        {
            self.remove(first);
        }
        while let Some(entry) = self.exhausted.first_entry()
            && *entry.key() < seq
        {
            entry.remove();
        }
    }

    /// Gives a message up.
    pub fn exhaust(&mut self, seq: Seq) {
        let Some(count) = self.get(seq).map(|pending| pending.count) else { return };
        self.remove(seq);
        self.exhausted.insert(seq, count);
        if self.exhausted.len() > CONSUMER_EXHAUSTED_MAX {
            self.exhausted.pop_first();
        }
    }

    /// Forgets that a message was given up.
    pub fn forget_exhausted(&mut self, seq: Seq) {
        self.exhausted.remove(&seq);
    }

    /// Replicated fields only, in order.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.by_seq.len() as u64);
        let mut before = 0;
        for (seq, pending) in &self.by_seq {
            put(out, seq - before);
            before = *seq;
            put(out, pending.consumer_seq);
            put(out, u64::from(pending.count));
            put(out, pending.since_ns as u64);
            put(out, pending.wait_us);
        }
        put(out, self.exhausted.len() as u64);
        for (seq, count) in &self.exhausted {
            put(out, *seq);
            put(out, u64::from(*count));
        }
    }

    pub fn decode(reader: &mut Reader) -> Result<Self, Damaged> {
        let mut set = PendingSet::default();
        let mut seq: Seq = 0;
        for _ in 0..reader.number("pending")? {
            let step = reader.number("pending sequence")?;
            seq = seq.checked_add(step).filter(|_| step > 0).ok_or(Damaged("pending sequence"))?;
            let pending = Pending {
                consumer_seq: reader.number("pending delivery")?,
                count: count(reader)?,
                since_ns: reader.number("pending time")? as i64,
                wait_us: reader.number("pending wait")?,
                due_us: 0,
                queued: false,
            };
            set.insert(seq, pending);
        }
        for _ in 0..reader.number("exhausted")? {
            let seq = reader.number("exhausted sequence")?;
            let count = count(reader)?;
            set.exhausted.insert(seq, count);
        }
        Ok(set)
    }
}

fn count(reader: &mut Reader) -> Result<u32, Damaged> {
    u32::try_from(reader.number("delivery count")?).map_err(|_| Damaged("delivery count"))
}
