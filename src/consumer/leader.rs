//! What only the leader of a consumer has: waiting pulls, timers, the redelivery queue, and changes on their way.
//!
//! Everything here may vanish at any moment; what must survive is an [`Op`]. A decision is made once, by
//! [`Leader::step`], which changes the live state and puts the change into the batch. Batches become log entries one
//! after the other: the next is proposed when the one before it stands in the log, so their order is the order of
//! decisions, whatever the group refuses meanwhile.

mod acks;
mod proposals;
mod pulls;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bytes::Bytes;
use net::client::headers::no_responders;

use crate::ids::{Now, Seq};
use crate::limits::{CONSUMER_ENTRY_OPS_MAX, CONSUMER_INFLIGHT_OPS_MAX, PULL_WAITING_MAX};
use crate::reply::Reply;
use crate::stream::Filters;

use super::ack::AckWriter;
use super::advisory::{About, Event, Herald};
use super::config::ConsumerConfig;
use super::cursor::{Cursor, Start};
use super::pace::Pace;
use super::pull::{Inbox, PullQueue, PullRequest};
use super::record::Op;
use super::source::Source;
use super::state::State;
use super::status::Status;
use super::{ConsumerOutput, Identity, paused_ns};

pub(super) type Outputs = VecDeque<ConsumerOutput>;

/// Timers of acknowledged messages that may lie in the heap besides those that count, so that small sets never rebuild.
const TIMERS_SLACK: usize = 1024;

/// Changes that go into one entry, and who is answered when it is applied.
#[derive(Debug, Default)]
struct Batch {
    time_ns: i64,
    ops: Vec<Op>,
    answers: Vec<Inbox>,
}

/// An entry in the log that is not yet applied.
#[derive(Debug)]
struct Inflight {
    index: u64,
    ops: usize,
    answers: Vec<Inbox>,
}

/// One of the latest deliveries, should it come back.
#[derive(Debug, Clone)]
struct Sent {
    seq: Seq,
    count: u32,
    inbox: Inbox,
}

#[derive(Debug)]
pub(super) struct Leader {
    identity: Identity,
    pub(super) live: State,
    pub(super) filters: Filters,
    pub(super) cursor: Cursor,
    /// The filters changed: the cursor has to be made again from the stream.
    pub(super) cursor_stale: bool,
    pub(super) pace: Option<Pace>,
    pub(super) pulls: PullQueue,
    pub(super) replicated: bool,
    /// Requests that came since the last turn.
    pub(super) arrived: VecDeque<(Inbox, PullRequest)>,
    full_checked_us: u64,
    /// Messages to be delivered again, first come first served. Entries whose message is no longer pending are skipped.
    pub(super) redelivery: VecDeque<Seq>,
    /// Ack timers, the earliest first. A timer counts only while its message is pending with the same due time.
    timers: BinaryHeap<Reverse<(u64, Seq)>>,
    /// The latest deliveries; the first has token `sent_base`.
    sent: VecDeque<Sent>,
    sent_base: u64,
    /// Batches that are not proposed, the last one still open.
    batches: VecDeque<Batch>,
    /// Proposed and not yet in the log: its body, its batch, and when to offer it again after a refusal.
    proposed: Option<(Bytes, Batch)>,
    retry_us: Option<u64>,
    inflight: VecDeque<Inflight>,
    inflight_ops: usize,
    pub(super) ack_writer: AckWriter,
    herald: Herald,
    /// Last time that somebody used the consumer.
    pub(super) used_us: u64,
    /// When the last delivery's ack timer ends: until then somebody may be working on it.
    busy_until_us: u64,
    pub(super) was_paused: bool,
    pub(super) holes_seen: u64,
    pub(super) holes_checked_us: u64,
    /// Something was removed and not yet looked for.
    pub(super) holes_due_us: Option<u64>,
    pub(super) wakeup_us: Option<u64>,
}

impl Leader {
    pub(super) fn new<S: Source>(now: Now, identity: &Identity, live: State, source: &S) -> Leader {
        let filters = compile(&live.config);
        let waiting_max = usize::try_from(live.config.max_waiting).ok().filter(|max| *max > 0);
        let mut leader = Leader {
            ack_writer: AckWriter::new(&identity.stream_name, &identity.name),
            herald: Herald::new(identity),
            identity: identity.clone(),
            cursor: Cursor::default(),
            cursor_stale: false,
            pace: Pace::new(&live.config, source),
            filters,
            pulls: PullQueue::new(waiting_max.unwrap_or(PULL_WAITING_MAX)),
            replicated: false,
            arrived: VecDeque::new(),
            full_checked_us: 0,
            redelivery: VecDeque::new(),
            timers: BinaryHeap::new(),
            sent: VecDeque::new(),
            sent_base: 0,
            batches: VecDeque::new(),
            proposed: None,
            retry_us: None,
            inflight: VecDeque::new(),
            inflight_ops: 0,
            used_us: now.us,
            busy_until_us: 0,
            was_paused: paused_ns(&live.config, now.wall_ns) > 0,
            // Whatever went missing before is looked for at the first turn.
            holes_seen: u64::MAX,
            holes_checked_us: 0,
            holes_due_us: None,
            wakeup_us: Some(now.us),
            live,
        };
        leader.begin(now, source);
        leader
    }

    /// Chooses the start if there is none, and starts all ack timers.
    fn begin<S: Source>(&mut self, now: Now, source: &S) {
        if !self.live.started {
            let Start { next, resume } = Start::choose(&self.live.config, source, &self.filters);
            self.step(now, Op::Started { next, resume });
        }
        self.cursor = Cursor::resume(&self.live, source, &self.filters);
        let seqs: Vec<Seq> = self.live.pending.iter().map(|(seq, _)| seq).collect();
        for seq in seqs {
            let due = self.live.pending.get(seq).map_or(now.us, |pending| pending.due_after_takeover(now));
            self.arm(seq, due);
        }
    }

    /// Makes a change: at once in the live state, on the other replicas when it is committed.
    pub(super) fn step(&mut self, now: Now, op: Op) {
        if self.batches.back().is_none_or(|batch| batch.ops.len() >= CONSUMER_ENTRY_OPS_MAX) {
            self.batches.push_back(Batch { time_ns: now.wall_ns, ..Default::default() });
        }
        let batch = self.batches.back_mut().expect("there is one now");
        if batch.ops.is_empty() {
            batch.time_ns = now.wall_ns;
        }
        self.live.apply(batch.time_ns, &op);
        batch.ops.push(op);
        self.inflight_ops += 1;
    }

    /// Starts the ack timer of a pending message.
    pub(super) fn arm(&mut self, seq: Seq, due_us: u64) {
        let Some(pending) = self.live.pending.get_mut(seq) else { return };
        pending.due_us = due_us;
        pending.queued = false;
        self.timers.push(Reverse((due_us, seq)));
        self.busy_until_us = self.busy_until_us.max(due_us);
        if self.timers.len() > 2 * self.live.pending.len() + TIMERS_SLACK {
            let running = self.live.pending.iter().filter(|(_, pending)| !pending.queued);
            self.timers = running.map(|(seq, pending)| Reverse((pending.due_us, seq))).collect();
        }
    }

    /// The earliest ack timer that counts.
    fn next_timer(&mut self) -> Option<(u64, Seq)> {
        while let Some(Reverse((due_us, seq))) = self.timers.peek().copied() {
            if self.live.pending.get(seq).is_some_and(|pending| !pending.queued && pending.due_us == due_us) {
                return Some((due_us, seq));
            }
            self.timers.pop();
        }
        None
    }

    /// Ack timers that fired: messages are queued for redelivery or given up.
    pub(super) fn expire(&mut self, now: Now, outputs: &mut Outputs) {
        while let Some((due_us, seq)) = self.next_timer()
            && due_us <= now.us
        {
            self.timers.pop();
            if !self.exhaust(now, seq, outputs) {
                self.queue_again(seq);
            }
        }
    }

    /// Puts a pending message into the redelivery queue, once.
    fn queue_again(&mut self, seq: Seq) {
        if let Some(pending) = self.live.pending.get_mut(seq)
            && !pending.queued
        {
            pending.queued = true;
            self.redelivery.push_back(seq);
        }
    }

    /// Gives a message up if it was delivered as often as allowed; whether it was.
    pub(super) fn exhaust(&mut self, now: Now, seq: Seq, outputs: &mut Outputs) -> bool {
        let Some(pending) = self.live.pending.get(seq) else { return false };
        let (consumer_seq, deliveries) = (pending.consumer_seq, pending.count);
        if self.live.config.deliveries_max().is_none_or(|max| deliveries < max) {
            return false;
        }
        self.step(now, Op::Exhausted { stream_seq: seq });
        let about = About { consumer_seq, stream_seq: seq, deliveries };
        outputs.push_back(ConsumerOutput::Advisory(self.herald.tell(now, Event::MaxDeliveries, about)));
        true
    }

    /// A pending message turned out to be gone from the stream.
    pub(super) fn drop_gone(&mut self, now: Now, seq: Seq, outputs: &mut Outputs) {
        let Some(pending) = self.live.pending.get(seq) else { return };
        let about = About { consumer_seq: pending.consumer_seq, stream_seq: seq, deliveries: pending.count };
        self.step(now, Op::Dropped { stream_seq: seq });
        let event = Event::Terminated { reason: "Unacknowledged message was deleted" };
        outputs.push_back(ConsumerOutput::Advisory(self.herald.tell(now, event, about)));
    }

    /// Nothing below `first` exists any more.
    pub(super) fn trim(&mut self, now: Now, first: Seq) {
        let pending_gone = self.live.pending.first().is_some_and(|(seq, _)| seq < first);
        if self.live.started && (pending_gone || self.live.next() < first) {
            self.step(now, Op::Trimmed { first });
            self.wake(now);
        }
        self.cursor.trim(first);
    }

    pub(super) fn inflight_full(&self) -> bool {
        self.inflight_ops >= CONSUMER_INFLIGHT_OPS_MAX
    }

    fn wake(&mut self, now: Now) {
        self.wakeup_us = Some(now.us);
    }

    pub(super) fn waiting(&self) -> usize {
        self.pulls.len() + self.arrived.len()
    }

    pub(super) fn remaining<S: Source>(&self, source: &S) -> u64 {
        self.cursor.remaining(source, &self.filters)
    }

    /// When it has something to do by itself.
    pub(super) fn plan_wakeup(&mut self) {
        let timer = self.next_timer().map(|(due_us, _)| due_us);
        let timers = [timer, self.pulls.next_timer(), self.retry_us, self.inactive_at(), self.holes_due_us];
        self.wakeup_us = timers.into_iter().flatten().min();
    }
}

fn compile(config: &ConsumerConfig) -> Filters {
    Filters::new(config.filters().into_iter().map(Bytes::from))
}

/// A status for an inbox.
pub(super) fn tell(identity: &Identity, inbox: Inbox, status: &Status, token: Option<u64>) -> ConsumerOutput {
    ConsumerOutput::Reply(Reply {
        headers: Some(status.headers()),
        bounce: token.map(|token| (identity.group, token)),
        ..reply(identity, inbox)
    })
}

/// The answer to an ack that a consumer without acks gets: there is nobody for it.
fn nobody_listens(identity: &Identity, inbox: Inbox, subject: &[u8]) -> ConsumerOutput {
    ConsumerOutput::Reply(Reply { headers: Some(no_responders(subject)), ..reply(identity, inbox) })
}

/// The answer to an ack: a message with nothing in it.
fn empty_reply(identity: &Identity, inbox: Inbox) -> ConsumerOutput {
    ConsumerOutput::Reply(reply(identity, inbox))
}

fn reply(identity: &Identity, inbox: Inbox) -> Reply {
    Reply {
        to: inbox.to,
        account: identity.account,
        subject: inbox.subject,
        reply: None,
        headers: None,
        payload: Bytes::new(),
        shown: None,
        bounce: None,
    }
}
