//! What clients say about their messages. Nothing in an ack is trusted: its subject names a message, and the pending
//! set decides whether there is anything to do.

use bytes::Bytes;

use crate::consumer::ConsumerOutput;
use crate::consumer::ack::{AckSubject, AckVerb};
use crate::consumer::advisory::{About, Event};
use crate::consumer::config::{AckPolicy, sample_percent};
use crate::consumer::pull::{Inbox, PullRequest};
use crate::consumer::record::Op;
use crate::ids::{Now, Place, Seq};
use crate::limits::CONSUMER_INFLIGHT_ACKS_MAX;

use super::{Leader, Outputs, empty_reply, nobody_listens, tell};

/// Longest reason of a `+TERM` that is told on, characters.
const REASON_CHARS_MAX: usize = 4096;

impl Leader {
    pub(in crate::consumer) fn on_ack(
        &mut self,
        now: Now,
        subject: &[u8],
        payload: &[u8],
        answer: Option<(Place, Bytes)>,
        outputs: &mut Outputs,
    ) {
        let Some(ack) = AckSubject::parse(subject) else { return };
        let known = ack.stream_seq <= self.live.delivered.stream;
        if self.live.config.ack_policy == AckPolicy::None {
            let inbox = answer.map(|(to, subject)| Inbox { to, subject });
            return outputs.extend(inbox.map(|inbox| nobody_listens(&self.identity, inbox, subject)));
        }
        if self.inflight_ops >= CONSUMER_INFLIGHT_ACKS_MAX {
            return;
        }
        self.used_us = now.us;
        self.wake(now);
        let answer = answer.map(|(to, subject)| Inbox { to, subject });
        let seq = ack.stream_seq;
        // No message has the number 0: whoever asks about it hears nothing.
        let answer = answer.filter(|_| seq > 0 || matches!(payload, b"" | b"+ACK" | b"+OK"));
        let Some(verb) = AckVerb::parse(payload) else { return self.answer_now(answer, outputs) };
        match verb {
            AckVerb::Next { request } => {
                if known {
                    self.sample(now, seq, outputs);
                    self.ack(now, &ack);
                }
                self.next_after_ack(now, request, answer, outputs);
            }
            AckVerb::Ack | AckVerb::Term { .. } if !known => {}
            AckVerb::Ack => {
                self.sample(now, seq, outputs);
                self.ack(now, &ack);
                self.answer_when_applied(answer, outputs);
            }
            AckVerb::Term { reason } => {
                self.term(now, &ack, reason, outputs);
                self.answer_when_applied(answer, outputs);
            }
            AckVerb::Nak { delay_us } => {
                self.nak(now, &ack, delay_us, outputs);
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

    fn ack(&mut self, now: Now, ack: &AckSubject) {
        let seq = ack.stream_seq;
        let pending = &self.live.pending;
        let changes = match self.live.config.ack_policy {
            AckPolicy::All => pending.first().is_some_and(|(first, _)| first <= seq),
            _ => pending.get(seq).is_some() || pending.is_exhausted(seq),
        };
        if !changes {
            return;
        }
        self.step(
            now,
            match self.live.config.ack_policy {
                AckPolicy::All => Op::AckedAll { stream_seq: seq, consumer_seq: ack.consumer_seq },
                _ => Op::Acked { stream_seq: seq },
            },
        );
    }

    fn term(&mut self, now: Now, ack: &AckSubject, reason: &[u8], outputs: &mut Outputs) {
        let about = About { consumer_seq: ack.consumer_seq, stream_seq: ack.stream_seq, deliveries: ack.count };
        self.ack(now, ack);
        let reason: String = String::from_utf8_lossy(reason).chars().take(REASON_CHARS_MAX).collect();
        let event = Event::Terminated { reason: &reason };
        outputs.push_back(ConsumerOutput::Advisory(self.herald.tell(now, event, about)));
    }

    fn nak(&mut self, now: Now, ack: &AckSubject, delay_us: Option<u64>, outputs: &mut Outputs) {
        let seq = ack.stream_seq;
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
