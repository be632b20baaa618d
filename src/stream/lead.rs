//! What only the leader has: messages and requests on their way into the log, and what the stream will be like once
//! everything in flight is applied.
//!
//! ```text
//!   ingest ──► queue ──► take_entries ──► taken ──► appended ──► pending ──► apply
//!              (this turn)                (bodies)   (index known)           (answers leave)
//! ```
//!
//! All of it goes away with leadership: what was queued is answered by nobody. What was appended may or may not commit; who
//! waits for it is told when that is known (see [`super::cut`]).

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::index::Size;
use super::pending::{Answers, Grown, Mark, Pending, Store, Work};
use super::record::{Draft, Entry, Rollup};
use super::subjects::SubjectId;
use super::{Answer, Stream, answer};
use crate::api::errors::ApiError;
use crate::ids::{Now, Place, Seq};
use crate::limits::{ENTRY_BYTES_MAX, ENTRY_MESSAGES_MAX, STREAM_AGE_CHECK_US_MAX, STREAM_TRIM_US_MIN};

#[derive(Debug, Default)]
pub(super) struct Lead {
    pub(super) queue: VecDeque<Queued>,
    /// Encoded bytes in `queue`.
    pub(super) queue_bytes: usize,
    taken: VecDeque<(Bytes, Pending)>,
    taken_bytes: usize,
    /// Last sequence, message id and time once everything in flight is applied.
    pub(super) tail_seq: Seq,
    pub(super) tail_id: Box<[u8]>,
    pub(super) stamp_ns: i64,
    /// What is in flight adds at most this.
    pub(super) grown: Grown,
    pub(super) ids: BTreeMap<u128, InFlight>,
    pub(super) removals: VecDeque<Removal>,
    /// A trim below this sequence is in flight.
    pub(super) trim_seq: Seq,
    trim_us: u64,
}

#[derive(Debug)]
pub(super) enum Queued {
    Message(Message),
    Request { body: Bytes, work: Work, answer: Option<Answer> },
}

/// An accepted publish.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) seq: Seq,
    pub(super) draft: Draft,
    pub(super) subject: SubjectId,
    pub(super) size: Size,
    pub(super) id: Option<u128>,
    pub(super) reply: Option<(Place, Bytes)>,
    pub(super) grown: Grown,
}

/// A message id whose message is not applied yet, and who else published it meanwhile.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) seq: Seq,
    pub(super) waiting: Vec<(Place, Bytes)>,
}

/// Something in flight that takes messages of matching subjects away, all of them before or at `barrier`.
#[derive(Debug)]
pub(super) struct Removal {
    /// Empty for all.
    pub(super) filter: Bytes,
    pub(super) barrier: Seq,
}

impl Stream {
    /// Takes over or gives up leadership. Giving it up drops what was queued, and forgets who waits for it: they try again.
    pub fn lead(&mut self, _now: Now, leading: bool) {
        if leading == self.lead.is_some() {
            return;
        }
        if leading {
            self.lead = Some(Lead::default());
            for at in 0..self.pending.len() {
                self.pending[at].grown = self.growth_of(&self.pending[at].work);
            }
            self.foresee();
        } else if let Some(lead) = self.lead.take() {
            self.drop_unproposed(lead.queue, lead.taken);
            for pending in &mut self.pending {
                pending.grown = Grown::default();
                // What answers an update of the configuration is the leader's to say.
                if matches!(pending.work, Work::Config(_)) {
                    pending.answers = Answers::Nobody;
                }
            }
        }
    }

    pub fn is_leading(&self) -> bool {
        self.lead.is_some()
    }

    /// Entry bodies formed of what was queued, in order. To be called once per turn by the leader, which proposes each
    /// and reports its place by [`Stream::appended`], or calls [`Stream::refuse_taken`].
    pub fn take_entries(&mut self, now: Now) -> Vec<Bytes> {
        self.plan_trim(now);
        let Some(lead) = &mut self.lead else { return Vec::new() };
        lead.stamp_ns = lead.stamp_ns.max(now.wall_ns);
        let stamp_ns = lead.stamp_ns;
        let mut bodies = Vec::new();
        while let Some(first) = lead.queue.pop_front() {
            let (body, pending) = match first {
                Queued::Request { body, work, answer } => {
                    let answers = answer.map_or(Answers::Nobody, Answers::Request);
                    let (body_len, grown) = (body.len() as u32, Grown::default());
                    (body, Pending { index: 0, body_len, work, answers, grown })
                }
                Queued::Message(message) => form(stamp_ns, lead.batch_from(message)),
            };
            lead.taken_bytes += body.len();
            bodies.push(body.clone());
            lead.taken.push_back((body, pending));
        }
        lead.queue_bytes = 0;
        bodies
    }

    /// The last so many bodies that [`Stream::take_entries`] gave could not be proposed: their publishers, and those queued
    /// behind them, are answered with `error`. Those before are on their way to being appended.
    pub fn refuse_taken(&mut self, bodies: usize, error: &ApiError) {
        let Some(lead) = &mut self.lead else { return };
        let proposed = lead.taken.len().saturating_sub(bodies);
        let (queue, taken) = (std::mem::take(&mut lead.queue), lead.taken.split_off(proposed));
        lead.queue_bytes = 0;
        lead.taken_bytes -= taken.iter().map(|(body, _)| body.len()).sum::<usize>();
        let mut told: Vec<(Place, Bytes)> = Vec::new();
        let mut asked: Vec<(Answer, Bytes)> = Vec::new();
        for (_, pending) in &taken {
            match &pending.answers {
                Answers::Publishers(some) => told.extend(some.iter().map(|(_, to, reply)| (*to, reply.clone()))),
                Answers::Request(answer) => asked.extend(refusal(&pending.work, answer, error)),
                Answers::Nobody => {}
            }
        }
        for queued in &queue {
            match queued {
                Queued::Message(message) => told.extend(message.reply.clone()),
                Queued::Request { work, answer, .. } => {
                    asked.extend(answer.as_ref().and_then(|answer| refusal(work, answer, error)));
                }
            }
        }
        self.drop_unproposed(queue, taken);
        self.foresee();
        if let Some(lead) = &mut self.lead {
            let tail_seq = lead.tail_seq;
            let lost: Vec<u128> = lead.ids.iter().filter(|(_, one)| one.seq > tail_seq).map(|(id, _)| *id).collect();
            told.extend(lost.iter().filter_map(|id| lead.ids.remove(id)).flat_map(|one| one.waiting));
        }
        let refused = self.acks.refused(error);
        told.into_iter().for_each(|(to, reply)| self.reply(to, reply, refused.clone()));
        asked.into_iter().for_each(|(answer, json)| self.answer(&answer, json));
    }

    /// Monotonic time (`Now::us`) at which [`Stream::take_entries`] has something to do: at once when something is
    /// queued, else when the oldest message ages out. Ask again after every call. `None` when not leading.
    pub fn next_wakeup(&self, now: Now) -> Option<u64> {
        let lead = self.lead.as_ref()?;
        if !lead.queue.is_empty() {
            return Some(now.us);
        }
        let max_age = Some(self.config.max_age).filter(|age| *age > 0)?;
        let oldest = self.index.next_live(lead.trim_seq.max(self.index.first_seq))?;
        let due_ns = self.time_of(oldest)?.saturating_add(max_age);
        let wait_us = u64::try_from(due_ns.saturating_sub(now.wall_ns)).map_or(0, |ns| ns / 1000 + 1);
        // The wall clock may jump: a distant expiry is looked at again now and then.
        let due_us = now.us + wait_us.min(STREAM_AGE_CHECK_US_MAX);
        Some(due_us.max(lead.trim_us + STREAM_TRIM_US_MIN))
    }

    /// Bytes queued or in the log and not applied yet.
    pub(super) fn inflight_bytes(&self) -> usize {
        self.pending_bytes + self.lead.as_ref().map_or(0, |lead| lead.queue_bytes + lead.taken_bytes)
    }

    /// The parsed form of a body that this leader made itself, if `body` is the next of them.
    pub(super) fn taken_back(&mut self, body: &Bytes) -> Option<Pending> {
        let lead = self.lead.as_mut()?;
        let (front, _) = lead.taken.front()?;
        if front != body {
            return None;
        }
        lead.taken_bytes -= body.len();
        lead.taken.pop_front().map(|(_, pending)| pending)
    }

    /// Queues an instruction.
    pub(super) fn enqueue(&mut self, body: Bytes, work: Work, answer: Option<Answer>) {
        let Some(tail_seq) = self.lead.as_ref().map(|lead| lead.tail_seq) else { return };
        let removal = self.removal_of(&work, tail_seq);
        let Some(lead) = &mut self.lead else { return };
        let request = Pending { index: 0, body_len: 0, work, answers: Answers::Nobody, grown: Grown::default() };
        lead.tail_seq = request.last_seq_after(lead.tail_seq);
        lead.removals.extend(removal);
        lead.queue_bytes += body.len();
        lead.queue.push_back(Queued::Request { body, work: request.work, answer });
    }

    /// What publishers' expectations must beware of while `work` is in flight; the last sequence before it is
    /// `last_seq`. At most one per entry, by the rule of [`Pending::removes`].
    fn removal_of(&self, work: &Work, last_seq: Seq) -> Option<Removal> {
        match work {
            // A message in flight has no subject to look up yet: then the delete stands for all subjects.
            Work::Delete { seq } => {
                Some(Removal { filter: self.subject_of(*seq).unwrap_or_default(), barrier: last_seq })
            }
            Work::Purge(purge) => Some(Removal { filter: purge.filter.clone(), barrier: last_seq }),
            Work::Store(store) => {
                let mark = store.marks.iter().rfind(|mark| mark.rollup == Rollup::All)?;
                Some(Removal { filter: Bytes::new(), barrier: store.base_seq + u64::from(mark.slot) - 1 })
            }
            Work::Trim { .. } | Work::Config(_) => None,
        }
    }

    /// Proposes to drop what is older than `max_age`, at most every [`STREAM_TRIM_US_MIN`].
    fn plan_trim(&mut self, now: Now) {
        let Some(lead) = &self.lead else { return };
        if self.config.max_age <= 0 || self.index.messages == 0 {
            return;
        }
        if lead.trim_us != 0 && now.us < lead.trim_us + STREAM_TRIM_US_MIN {
            return;
        }
        let first_seq = self.seq_at_time(now.wall_ns.saturating_sub(self.config.max_age).saturating_add(1));
        if first_seq <= self.index.first_seq.max(lead.trim_seq) {
            return;
        }
        self.enqueue(Entry::encode_trim(first_seq), Work::Trim { first_seq }, None);
        if let Some(lead) = &mut self.lead {
            (lead.trim_seq, lead.trim_us) = (first_seq, now.us);
        }
    }

    /// Works out what the stream will be once the pending entries, and those that were proposed behind them, are applied.
    fn foresee(&mut self) {
        let Some(mut lead) = self.lead.take() else { return };
        lead.tail_seq = self.index.last_seq;
        lead.tail_id = self.last_id.clone();
        lead.stamp_ns = lead.stamp_ns.max(self.index.last_time_ns.unwrap_or(i64::MIN));
        lead.grown = Grown::default();
        lead.removals.clear();
        lead.trim_seq = 0;
        let taken = std::mem::take(&mut lead.taken);
        for pending in self.pending.iter().chain(taken.iter().map(|(_, pending)| pending)) {
            lead.grown.messages += pending.grown.messages;
            lead.grown.bytes += pending.grown.bytes;
            match &pending.work {
                Work::Store(store) => {
                    for (at, (subject, _)) in store.rows.iter().enumerate() {
                        self.index.subjects.get_mut(*subject).pending_last = store.base_seq + at as u64;
                    }
                    lead.foresee_store(store);
                }
                Work::Trim { first_seq } => lead.trim_seq = lead.trim_seq.max(*first_seq),
                Work::Delete { .. } | Work::Purge(_) | Work::Config(_) => {}
            }
            lead.removals.extend(self.removal_of(&pending.work, lead.tail_seq));
            lead.tail_seq = pending.last_seq_after(lead.tail_seq);
        }
        lead.taken = taken;
        self.lead = Some(lead);
    }

    fn growth_of(&self, work: &Work) -> Grown {
        match work {
            Work::Store(store) => Grown {
                messages: store.rows.len() as u64,
                bytes: store.rows.iter().map(|(_, size)| self.message_bytes(*size)).sum(),
            },
            _ => Grown::default(),
        }
    }

    fn drop_unproposed(&mut self, queue: VecDeque<Queued>, taken: VecDeque<(Bytes, Pending)>) {
        for queued in queue {
            if let Queued::Message(message) = queued {
                self.index.subjects.arrived(message.subject);
            }
        }
        taken.into_iter().for_each(|(_, pending)| pending.drop_from(&mut self.index.subjects));
    }
}

impl Lead {
    /// The messages that follow `first` in the queue, as far as one entry takes them.
    fn batch_from(&mut self, first: Message) -> Vec<Message> {
        let mut bytes = first.draft.encoded_len();
        let mut batch = vec![first];
        while batch.len() < ENTRY_MESSAGES_MAX {
            // Whatever takes every earlier message away ends its entry, so that an entry is one removal at most.
            if batch.last().is_some_and(|last| last.draft.rollup == Rollup::All) {
                break;
            }
            let Some(Queued::Message(next)) = self.queue.front() else { break };
            bytes += next.draft.encoded_len();
            if bytes > ENTRY_BYTES_MAX {
                break;
            }
            if let Some(Queued::Message(next)) = self.queue.pop_front() {
                batch.push(next);
            }
        }
        batch
    }

    /// Notes what publishers may expect once `store` is applied. An id that waits already keeps those who wait.
    fn foresee_store(&mut self, store: &Store) {
        self.tail_id = store.last_id.clone();
        self.stamp_ns = self.stamp_ns.max(store.time_ns);
        for mark in &store.marks {
            if let Some(id) = mark.id {
                let seq = store.base_seq + u64::from(mark.slot);
                self.ids.entry(id).or_insert_with(|| InFlight { seq, waiting: Vec::new() });
            }
        }
    }
}

/// Encodes messages as one entry, with the parsed form that appending would make of it.
fn form(time_ns: i64, batch: Vec<Message>) -> (Bytes, Pending) {
    let base_seq = batch.first().map_or(0, |first| first.seq);
    let mut drafts = Vec::with_capacity(batch.len());
    let mut store =
        Store { base_seq, time_ns, rows: Vec::with_capacity(batch.len()), marks: Vec::new(), last_id: Box::default() };
    let (mut publishers, mut grown) = (Vec::new(), Grown::default());
    for (slot, message) in (0u32..).zip(batch) {
        assert_eq!(message.seq, base_seq + u64::from(slot), "queued messages follow each other");
        store.rows.push((message.subject, message.size));
        if message.id.is_some() || message.draft.rollup != Rollup::None {
            store.marks.push(Mark { slot, id: message.id, rollup: message.draft.rollup });
        }
        publishers.extend(message.reply.map(|(to, reply)| (slot, to, reply)));
        grown.messages += message.grown.messages;
        grown.bytes += message.grown.bytes;
        drafts.push(message.draft);
    }
    store.last_id = drafts.last().map(Draft::id_text).unwrap_or_default().into();
    let body = Entry::encode_batch(base_seq, time_ns, &drafts);
    let body_len = body.len() as u32;
    let answers = Answers::Publishers(publishers);
    (body, Pending { index: 0, body_len, work: Work::Store(store), answers, grown })
}

/// The refusal of a request, where it has an answer of its own.
pub(super) fn refusal(work: &Work, answer: &Answer, error: &ApiError) -> Option<(Answer, Bytes)> {
    let json = match work {
        Work::Delete { .. } => answer::deleted(Err(error)),
        Work::Purge(_) => answer::purged(Err(error)),
        Work::Config(_) => answer::not_updated(error),
        Work::Store(_) | Work::Trim { .. } => return None,
    };
    Some((answer.clone(), json))
}
