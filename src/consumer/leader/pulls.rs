//! The leader's side of pull requests: taking them in, heartbeats and ends, deliveries that reach nobody, and what
//! follows when nobody asks any more.

use crate::consumer::ConsumerOutput;
use crate::consumer::config::AckPolicy;
use crate::consumer::pull::{Grant, Inbox, Pull, PullRequest};
use crate::consumer::record::Op;
use crate::consumer::status::{Left, Status};
use crate::ids::{Now, Seq};
use crate::limits::CONSUMER_BOUNCE_WINDOW;

use super::{Leader, Outputs, Sent, tell};

/// How often a full queue of pulls is searched for ended ones (peer: 1 s), so that a client that asks too often does not
/// make every request cost the length of the queue.
const FULL_CHECK_US: u64 = 1_000_000;

/// Added to `inactive_threshold`, so that a client which uses the consumer exactly that often keeps it (peer: 0.1–1 s).
const INACTIVE_GRACE_US: u64 = 500_000;

impl Leader {
    pub(in crate::consumer) fn on_next(&mut self, now: Now, inbox: Inbox, request: PullRequest, outputs: &mut Outputs) {
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
    pub(in crate::consumer) fn beat(&mut self, now: Now, outputs: &mut Outputs) {
        let delivered = self.live.delivered;
        let beat = Status::Heartbeat { consumer_seq: delivered.consumer, stream_seq: delivered.stream };
        let (identity, end) = (&self.identity, self.end());
        let mut beats = Vec::new();
        self.pulls.on_time(now.us, &beat, &end, |inbox, status| {
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
    pub(in crate::consumer) fn admit(&mut self, now: Now, remaining: impl Fn(&Self) -> u64, outputs: &mut Outputs) {
        while let Some((inbox, request)) = self.arrived.pop_front() {
            if request.expires_us == Some(0) {
                let left = Left { messages: request.batch, bytes: request.max_bytes };
                outputs.push_back(tell(&self.identity, inbox, &Status::Timeout(left), None));
                continue;
            }
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

    /// What a pull that does not wait for more is told. The peer's replicated consumers, whose deliveries are still on their
    /// way then, say what it did not get.
    fn end(&self) -> impl Fn(Left, bool) -> Status + use<> {
        let timeout = self.replicated && self.live.config.ack_policy != AckPolicy::None;
        move |left, some| if timeout && some { Status::Timeout(left) } else { Status::NoMessages }
    }

    /// Nothing is left to deliver: ends pulls that do not wait for more.
    pub(in crate::consumer) fn end_of_stream(&mut self, outputs: &mut Outputs) {
        let (identity, end) = (&self.identity, self.end());
        self.pulls.on_end(&end, |inbox, status| outputs.push_back(tell(identity, inbox, &status, None)));
    }

    pub(in crate::consumer) fn end_pulls(&mut self, status: &dyn Fn(Left) -> Status, outputs: &mut Outputs) {
        let identity = &self.identity;
        self.pulls.end_all(status, |inbox, status| outputs.push_back(tell(identity, inbox, &status, None)));
        for (inbox, request) in self.arrived.drain(..) {
            let left = Left { messages: request.batch, bytes: request.max_bytes };
            outputs.push_back(tell(identity, inbox, &status(left), None));
        }
    }

    pub(in crate::consumer) fn tell(&self, inbox: Inbox, status: &Status) -> ConsumerOutput {
        tell(&self.identity, inbox, status, None)
    }

    /// A place for a message of this size. Pulls that cannot hold it end.
    pub(in crate::consumer) fn grant(&mut self, now: Now, size: u64, outputs: &mut Outputs) -> Option<Grant> {
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

    pub(in crate::consumer) fn remember_delivery(&mut self, seq: Seq, count: u32, inbox: &Inbox) -> u64 {
        self.remember(Sent { seq, count, inbox: inbox.clone() })
    }

    /// Drops the requests that nobody waits for any more, silently, as the peer does; whether there were any.
    pub(in crate::consumer) fn drop_unheard(&mut self, unheard: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let before = self.waiting();
        self.pulls.drop_inboxes(|inbox| unheard(&inbox.subject));
        self.arrived.retain(|(inbox, _)| !unheard(&inbox.subject));
        self.waiting() < before
    }

    pub(in crate::consumer) fn bounced(&mut self, now: Now, token: u64) {
        let at = token.checked_sub(self.sent_base).and_then(|at| usize::try_from(at).ok());
        let Some(sent) = at.and_then(|at| self.sent.get(at)).cloned() else { return };
        self.pulls.drop_inboxes(|inbox| *inbox == sent.inbox);
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
    pub(super) fn inactive_at(&self) -> Option<u64> {
        let threshold = u64::try_from(self.live.config.inactive_threshold).ok().filter(|ns| *ns > 0)? / 1000;
        let working = if self.live.pending.is_empty() { 0 } else { self.busy_until_us };
        Some(self.used_us.max(working).saturating_add(threshold).saturating_add(INACTIVE_GRACE_US))
    }

    /// Says so when nobody has used the consumer for its `inactive_threshold`.
    pub(in crate::consumer) fn check_inactive(&mut self, now: Now, outputs: &mut Outputs) {
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
