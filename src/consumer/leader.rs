//! What only the leader of a consumer has: waiting pulls, timers, the redelivery queue, and changes on their way.
//!
//! Everything here may vanish at any moment; what must survive is an [`Op`]. A decision is made once, by
//! [`Leader::step`], which changes the live state and puts the change into the batch. Batches become log entries one
//! after the other: the next is proposed when the one before it stands in the log, so their order is the order of
//! decisions, whatever the group refuses meanwhile.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bytes::Bytes;

use crate::ids::{Now, Place, Seq};
use crate::limits::{CONSUMER_BOUNCE_WINDOW, CONSUMER_ENTRY_OPS_MAX, CONSUMER_INFLIGHT_ACKS_MAX};
use crate::limits::{CONSUMER_INFLIGHT_OPS_MAX, PULL_WAITING_MAX};
use crate::reply::Reply;
use crate::stream::Filters;

use super::ack::{AckSubject, AckVerb, AckWriter};
use super::advisory::{About, Event, Herald};
use super::config::{AckPolicy, ConsumerConfig, sample_percent};
use super::cursor::{Cursor, Start};
use super::info::rfc3339;
use super::pull::{Grant, Inbox, Pull, PullQueue, PullRequest};
use super::record::{Entry, Op};
use super::source::Source;
use super::state::State;
use super::status::{Left, Status};
use super::{ConsumerOutput, Identity, paused_ns};

pub(super) type Outputs = VecDeque<ConsumerOutput>;

/// How often a full queue of pulls is searched for ended ones (peer: 1 s), so that a client that asks too often does not
/// make every request cost the length of the queue.
const FULL_CHECK_US: u64 = 1_000_000;

/// Pause before a refused proposal is offered again: the group is busy or its disk is full, both for longer than this.
const PROPOSE_RETRY_US: u64 = 5_000;

/// Added to `inactive_threshold`, so that a client which uses the consumer exactly that often keeps it (peer: 0.1–1 s).
const INACTIVE_GRACE_US: u64 = 500_000;

/// Longest reason of a `+TERM` that is told on, characters.
const REASON_CHARS_MAX: usize = 4096;

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
    pub(super) pulls: PullQueue,
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
            filters,
            pulls: PullQueue::new(waiting_max.unwrap_or(PULL_WAITING_MAX)),
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

/// Pulls.
impl Leader {
    pub(super) fn on_next(&mut self, now: Now, inbox: Inbox, request: PullRequest, outputs: &mut Outputs) {
        self.used_us = now.us;
        self.wake(now);
        if let Err(status) = request.check(&self.live.config) {
            return outputs.push_back(tell(&self.identity, inbox, &status, None));
        }
        if self.waiting() >= self.pulls.max() {
            self.check_full(now, outputs);
        }
        if self.waiting() < self.pulls.max() {
            self.arrived.push_back((inbox, request));
        } else if request.heartbeat_us == 0 {
            // A client with heartbeats notices by their absence; an answer would make it ask again at once.
            outputs.push_back(tell(&self.identity, inbox, &Status::TooManyWaiting, None));
        }
    }

    /// Makes room in a full queue: ends what is over, and asks whether the others are still wanted.
    fn check_full(&mut self, now: Now, outputs: &mut Outputs) {
        if now.us < self.full_checked_us.saturating_add(FULL_CHECK_US) {
            return;
        }
        self.full_checked_us = now.us;
        self.beat(now, outputs);
        self.probe(outputs);
    }

    /// Ends pulls whose time is over and sends heartbeats.
    pub(super) fn beat(&mut self, now: Now, outputs: &mut Outputs) {
        let delivered = self.live.delivered;
        let beat = Status::Heartbeat { consumer_seq: delivered.consumer, stream_seq: delivered.stream };
        let identity = &self.identity;
        let mut beats = Vec::new();
        self.pulls.on_time(now.us, &beat, |inbox, status| {
            if status == beat {
                beats.push(inbox);
            } else {
                outputs.push_back(tell(identity, inbox, &status, None));
            }
        });
        for inbox in beats {
            let token = self.remember(Sent { seq: 0, count: 0, inbox: inbox.clone() });
            outputs.push_back(tell(&self.identity, inbox, &beat, Some(token)));
        }
    }

    /// Takes in what arrived since the last turn. `remaining` is how many messages are left to deliver.
    pub(super) fn admit(&mut self, now: Now, remaining: impl Fn(&Self) -> u64, outputs: &mut Outputs) {
        while let Some((inbox, request)) = self.arrived.pop_front() {
            if request.no_wait {
                let left = remaining(self).saturating_add(self.redelivery.len() as u64);
                let refused = if left == 0 && request.expires_us.is_none() {
                    Some(Status::NoMessages)
                } else if left > 0 && left < self.pulls.wanted() {
                    Some(Status::RequestsPending)
                } else {
                    None
                };
                if let Some(status) = refused {
                    outputs.push_back(tell(&self.identity, inbox, &status, None));
                    continue;
                }
            }
            self.pulls.push(Pull::new(now.us, inbox, &request));
        }
    }

    /// Nothing is left to deliver: ends pulls that do not wait for more.
    pub(super) fn end_of_stream(&mut self, outputs: &mut Outputs) {
        let identity = &self.identity;
        self.pulls.on_end(|inbox, status| outputs.push_back(tell(identity, inbox, &status, None)));
    }

    pub(super) fn end_pulls(&mut self, status: &dyn Fn(Left) -> Status, outputs: &mut Outputs) {
        let identity = &self.identity;
        self.pulls.end_all(status, |inbox, status| outputs.push_back(tell(identity, inbox, &status, None)));
        for (inbox, request) in self.arrived.drain(..) {
            let left = Left { messages: request.batch as i64, bytes: request.max_bytes as i64 };
            outputs.push_back(tell(identity, inbox, &status(left), None));
        }
    }

    pub(super) fn tell(&self, inbox: Inbox, status: &Status) -> ConsumerOutput {
        tell(&self.identity, inbox, status, None)
    }

    /// A place for a message of this size. Pulls that cannot hold it end.
    pub(super) fn grant(&mut self, now: Now, size: u64, outputs: &mut Outputs) -> Option<Grant> {
        let identity = &self.identity;
        self.pulls.take(now.us, size, |inbox, status| outputs.push_back(tell(identity, inbox, &status, None)))
    }

    /// Remembers where something went, should nobody be there; the token under which it comes back.
    fn remember(&mut self, sent: Sent) -> u64 {
        if self.sent.len() >= CONSUMER_BOUNCE_WINDOW {
            self.sent.pop_front();
            self.sent_base += 1;
        }
        self.sent.push_back(sent);
        self.sent_base + self.sent.len() as u64 - 1
    }

    pub(super) fn remember_delivery(&mut self, seq: Seq, count: u32, inbox: &Inbox) -> u64 {
        self.remember(Sent { seq, count, inbox: inbox.clone() })
    }

    pub(super) fn bounced(&mut self, now: Now, token: u64) {
        let at = token.checked_sub(self.sent_base).and_then(|at| usize::try_from(at).ok());
        let Some(sent) = at.and_then(|at| self.sent.get(at)).cloned() else { return };
        self.pulls.drop_inbox(&sent.inbox);
        self.arrived.retain(|(inbox, _)| *inbox != sent.inbox);
        if sent.seq == 0 {
            return;
        }
        self.wake(now);
        if self.live.config.ack_policy == AckPolicy::None {
            // Nothing tracks it, so the queue alone brings it back. It is bounded by the window of deliveries.
            if self.redelivery.len() < CONSUMER_BOUNCE_WINDOW && !self.redelivery.contains(&sent.seq) {
                self.redelivery.push_back(sent.seq);
            }
        } else if self.live.pending.get(sent.seq).is_some_and(|p| !p.queued && p.count == sent.count) {
            self.step(now, Op::Returned { stream_seq: sent.seq });
            self.queue_again(sent.seq);
        }
    }

    /// Asks for every waiting inbox whether anybody listens there.
    fn probe(&mut self, outputs: &mut Outputs) {
        let mut inboxes: Vec<Inbox> = self.pulls.inboxes().cloned().collect();
        inboxes.sort_by(|a, b| (a.to, &a.subject).cmp(&(b.to, &b.subject)));
        inboxes.dedup();
        for inbox in inboxes {
            let token = self.remember(Sent { seq: 0, count: 0, inbox: inbox.clone() });
            outputs.push_back(ConsumerOutput::Probe { to: inbox.to, inbox: inbox.subject, token });
        }
    }

    /// When the consumer has been idle for too long.
    fn inactive_at(&self) -> Option<u64> {
        let threshold = u64::try_from(self.live.config.inactive_threshold).ok().filter(|ns| *ns > 0)? / 1000;
        let working = if self.live.pending.is_empty() { 0 } else { self.busy_until_us };
        Some(self.used_us.max(working).saturating_add(threshold).saturating_add(INACTIVE_GRACE_US))
    }

    /// Says so when nobody has used the consumer for its `inactive_threshold`.
    pub(super) fn check_inactive(&mut self, now: Now, outputs: &mut Outputs) {
        if self.inactive_at().is_none_or(|at| now.us < at) {
            return;
        }
        self.used_us = now.us;
        self.busy_until_us = 0;
        if self.pulls.is_empty() {
            outputs.push_back(ConsumerOutput::Expired);
        } else {
            self.probe(outputs);
        }
    }
}

/// Acknowledgements.
impl Leader {
    pub(super) fn on_ack(
        &mut self,
        now: Now,
        subject: &[u8],
        payload: &[u8],
        answer: Option<(Place, Bytes)>,
        outputs: &mut Outputs,
    ) {
        let Some(ack) = AckSubject::parse(subject) else { return };
        let Some(verb) = AckVerb::parse(payload) else { return };
        let known = ack.stream_seq > 0 && ack.stream_seq <= self.live.delivered.stream;
        if self.live.config.ack_policy == AckPolicy::None || self.inflight_ops >= CONSUMER_INFLIGHT_ACKS_MAX {
            return;
        }
        self.used_us = now.us;
        self.wake(now);
        let answer = answer.map(|(to, subject)| Inbox { to, subject });
        let seq = ack.stream_seq;
        match verb {
            AckVerb::Next { request } => {
                if known {
                    self.ack(now, seq, outputs);
                }
                self.next_after_ack(now, request, answer, outputs);
            }
            _ if !known => {}
            AckVerb::Ack => {
                self.ack(now, seq, outputs);
                self.answer_when_applied(answer, outputs);
            }
            AckVerb::Term { reason } => {
                self.term(now, seq, &ack, reason, outputs);
                self.answer_when_applied(answer, outputs);
            }
            AckVerb::Nak { delay_us } => {
                self.nak(now, seq, &ack, delay_us, outputs);
                self.answer_now(answer, outputs);
            }
            AckVerb::Progress => {
                self.progress(now, seq);
                self.answer_now(answer, outputs);
            }
        }
    }

    fn next_after_ack(&mut self, now: Now, request: &[u8], answer: Option<Inbox>, outputs: &mut Outputs) {
        let Some(inbox) = answer else { return };
        match PullRequest::parse(request) {
            Ok(request) => self.on_next(now, inbox, request, outputs),
            Err(status) => outputs.push_back(tell(&self.identity, inbox, &status, None)),
        }
    }

    fn ack(&mut self, now: Now, seq: Seq, outputs: &mut Outputs) {
        self.sample(now, seq, outputs);
        let pending = &self.live.pending;
        let changes = match self.live.config.ack_policy {
            AckPolicy::All => pending.first().is_some_and(|(first, _)| first <= seq),
            _ => pending.get(seq).is_some() || pending.is_exhausted(seq),
        };
        if changes {
            self.step(now, Op::Acked { stream_seq: seq });
        }
    }

    fn term(&mut self, now: Now, seq: Seq, ack: &AckSubject, reason: &[u8], outputs: &mut Outputs) {
        let about = About { consumer_seq: ack.consumer_seq, stream_seq: seq, deliveries: ack.count };
        self.ack(now, seq, outputs);
        let reason: String = String::from_utf8_lossy(reason).chars().take(REASON_CHARS_MAX).collect();
        let event = Event::Terminated { reason: &reason };
        outputs.push_back(ConsumerOutput::Advisory(self.herald.tell(now, event, about)));
    }

    fn nak(&mut self, now: Now, seq: Seq, ack: &AckSubject, delay_us: Option<u64>, outputs: &mut Outputs) {
        let Some(pending) = self.live.pending.get(seq) else { return };
        let was_queued = pending.queued;
        let about = About { consumer_seq: ack.consumer_seq, stream_seq: seq, deliveries: ack.count };
        outputs.push_back(ConsumerOutput::Advisory(self.herald.tell(now, Event::Naked, about)));
        let Some(wait_us) = delay_us else { return self.queue_again(seq) };
        if was_queued {
            self.redelivery.retain(|queued| *queued != seq);
        }
        self.step(now, Op::Delayed { stream_seq: seq, wait_us });
        self.arm(seq, now.us.saturating_add(wait_us));
    }

    fn progress(&mut self, now: Now, seq: Seq) {
        let Some(pending) = self.live.pending.get(seq) else { return };
        let (queued, wait_us) = (pending.queued, self.live.config.wait_us(pending.count));
        if !self.inflight_full() {
            self.step(now, Op::Progress { stream_seq: seq });
        }
        if !queued {
            self.arm(seq, now.us.saturating_add(wait_us));
        }
    }

    /// Reports an ack if it falls into the sample. Which ones do depends on the sequence alone, evenly spread.
    fn sample(&mut self, now: Now, seq: Seq, outputs: &mut Outputs) {
        let percent = match self.live.config.sample_freq.as_str() {
            "" => return,
            text => sample_percent(text).unwrap_or(0),
        };
        let Some(pending) = self.live.pending.get(seq) else { return };
        if seq.wrapping_mul(61) % 100 >= u64::from(percent) {
            return;
        }
        let about = About { consumer_seq: pending.consumer_seq, stream_seq: seq, deliveries: pending.count };
        let event = Event::Acked { ack_time: now.wall_ns.saturating_sub(pending.since_ns).max(0) };
        outputs.push_back(ConsumerOutput::Advisory(self.herald.tell(now, event, about)));
    }

    fn answer_now(&self, answer: Option<Inbox>, outputs: &mut Outputs) {
        outputs.extend(answer.map(|inbox| empty_reply(&self.identity, inbox)));
    }

    /// Answers once everything decided so far is applied. That may be more than this ack needs, and never less: an ack
    /// that repeats one which is still on its way must wait for that one.
    fn answer_when_applied(&mut self, answer: Option<Inbox>, outputs: &mut Outputs) {
        let Some(inbox) = answer else { return };
        let waiting = if let Some(batch) = self.batches.back_mut() {
            &mut batch.answers
        } else if let Some((_, batch)) = &mut self.proposed {
            &mut batch.answers
        } else if let Some(entry) = self.inflight.back_mut() {
            &mut entry.answers
        } else {
            return outputs.push_back(empty_reply(&self.identity, inbox));
        };
        waiting.push(inbox);
    }
}

/// The log and the configuration.
impl Leader {
    /// Proposes the next batch, unless one is on its way into the log.
    pub(super) fn propose(&mut self, now: Now, outputs: &mut Outputs) {
        if let Some((body, _)) = &self.proposed {
            if self.retry_us.is_some_and(|at| at <= now.us) {
                self.retry_us = None;
                outputs.push_back(ConsumerOutput::Propose(body.clone()));
            }
            return;
        }
        let Some(mut batch) = self.batches.pop_front() else { return };
        let entry = Entry { time_ns: batch.time_ns, ops: std::mem::take(&mut batch.ops) };
        let body = entry.encode();
        batch.ops = entry.ops;
        outputs.push_back(ConsumerOutput::Propose(body.clone()));
        self.proposed = Some((body, batch));
    }

    /// The group did not take the proposal; it is offered again.
    pub(super) fn refused(&mut self, now: Now) {
        if self.proposed.is_some() {
            let at = now.us.saturating_add(PROPOSE_RETRY_US);
            self.retry_us = Some(at);
            self.wakeup_us = Some(self.wakeup_us.map_or(at, |wakeup| wakeup.min(at)));
        }
    }

    /// An entry stands in the log. If it is the one that was proposed, this gives what is in it.
    pub(super) fn logged(&mut self, index: u64, body: &Bytes) -> Option<Entry> {
        let (_, batch) = self.proposed.take_if(|(proposed, _)| proposed == body)?;
        self.retry_us = None;
        self.inflight.push_back(Inflight { index, ops: batch.ops.len(), answers: batch.answers });
        Some(Entry { time_ns: batch.time_ns, ops: batch.ops })
    }

    /// An entry that somebody else made stands in the log: its changes are taken into the live state.
    pub(super) fn absorb(&mut self, index: u64, entry: &Entry) {
        for op in &entry.ops {
            self.live.apply(entry.time_ns, op);
        }
        self.cursor_stale = true;
        self.expect(index, entry.ops.len());
    }

    /// An entry of a former leader is in the log and in the live state, but not committed. An ack that finds its
    /// message done because of it must wait for it like for an own one.
    pub(super) fn expect(&mut self, index: u64, ops: usize) {
        self.inflight.push_back(Inflight { index, ops, answers: Vec::new() });
        self.inflight_ops += ops;
    }

    /// Entries up to here are applied: their acks are answered.
    pub(super) fn committed(&mut self, now: Now, upto: u64, outputs: &mut Outputs) {
        let was_full = self.inflight_full();
        while let Some(entry) = self.inflight.pop_front_if(|entry| entry.index <= upto) {
            self.inflight_ops -= entry.ops;
            outputs.extend(entry.answers.into_iter().map(|inbox| empty_reply(&self.identity, inbox)));
        }
        if was_full || !self.batches.is_empty() {
            self.wake(now);
        }
    }

    /// Another configuration. Ack timers that run keep their length.
    pub(super) fn update(&mut self, now: Now, config: ConsumerConfig, outputs: &mut Outputs) {
        if config == self.live.config {
            return;
        }
        self.cursor_stale |= config.filters() != self.live.config.filters();
        let pause_changed = config.pause_until != self.live.config.pause_until;
        self.step(now, Op::Config(Box::new(config)));
        self.filters = compile(&self.live.config);
        if pause_changed {
            self.was_paused = paused_ns(&self.live.config, now.wall_ns) > 0;
            self.tell_pause(now, outputs);
        }
        self.wake(now);
    }

    pub(super) fn tell_pause(&mut self, now: Now, outputs: &mut Outputs) {
        let until = self.live.config.pause_until.map_or_else(|| rfc3339(0), |until| until.to_string());
        outputs.push_back(ConsumerOutput::Advisory(self.herald.tell_pause(now, self.was_paused, until)));
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
        bounce: None,
    }
}
