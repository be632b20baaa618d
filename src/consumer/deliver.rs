//! A turn of the leader: what is due is ended, what can be delivered is delivered, what changed is proposed.

use crate::ids::{Now, Seq};
use crate::limits::CONSUMER_DELIVER_TURN_MAX;

use super::config::AckPolicy;
use super::cursor::Cursor;
use super::leader::{Leader, Outputs};
use super::pull::Grant;
use super::record::Op;
use super::source::Source;
use super::{ConsumerOutput, Delivery, paused_ns};

/// Pause between two searches for pending messages that were removed from the stream, when there are many of them.
const HOLES_CHECK_US: u64 = 1_000_000;

/// So few pending messages are searched whenever something was removed.
const HOLES_CHECK_SMALL: usize = 1024;

/// A message that the local replica of the stream does not have yet is tried again after so long.
const BEHIND_RETRY_US: u64 = 100_000;

/// What could be delivered next.
enum Next {
    /// Again, as its `count`th delivery.
    Again(Seq, u32),
    New(Seq),
    /// The next message is held back until then.
    Early(u64),
    /// As many messages are out as may be.
    Blocked,
    /// There is nothing more.
    End,
}

/// Why delivery stopped.
#[derive(PartialEq, Eq)]
enum Stop {
    /// Nothing to deliver, so pulls that do not wait end.
    End,
    /// No pull, or not allowed: something else must happen first.
    Wait,
    /// The next message may go out then.
    Until(u64),
    /// The turn was long enough; more is there.
    More,
}

impl Leader {
    pub(super) fn turn<S: Source>(&mut self, now: Now, source: &S, outputs: &mut Outputs) {
        if self.cursor_stale {
            self.cursor_stale = false;
            self.cursor = Cursor::resume(&self.live, source, &self.filters);
        }
        self.drop_removed(now, source, outputs);
        self.expire(now, outputs);
        self.beat(now, outputs);
        self.admit(now, |leader| leader.remaining(source), outputs);
        let stop = self.deliver(now, source, outputs);
        if stop == Stop::End {
            self.end_of_stream(outputs);
        }
        self.check_inactive(now, outputs);
        self.propose(now, outputs);
        self.plan_wakeup();
        self.plan_more(now, &stop);
    }

    /// Wake-ups that come from how delivery stopped.
    fn plan_more(&mut self, now: Now, stop: &Stop) {
        let pause_us = (paused_ns(&self.live.config, now.wall_ns) as u64).div_ceil(1000);
        let resume = self.was_paused.then(|| now.us.saturating_add(pause_us));
        let more = match stop {
            Stop::More => Some(now.us),
            Stop::Until(at_us) => Some(*at_us),
            Stop::End | Stop::Wait => None,
        };
        self.wakeup_us = [self.wakeup_us, resume, more].into_iter().flatten().min();
    }

    /// Pending messages that are gone from the stream stop counting against `max_ack_pending`.
    fn drop_removed<S: Source>(&mut self, now: Now, source: &S, outputs: &mut Outputs) {
        if self.live.pending.is_empty() {
            self.holes_due_us = None;
            return;
        }
        // Limits took them; a purge has trimmed what it took.
        let first = source.first_seq();
        while let Some((seq, _)) = self.live.pending.first()
            && seq < first
        {
            self.drop_gone(now, seq, outputs);
        }
        let holes = source.holes();
        if holes == self.holes_seen {
            return;
        }
        let next_us = self.holes_checked_us.saturating_add(HOLES_CHECK_US);
        self.holes_due_us = (self.live.pending.len() > HOLES_CHECK_SMALL && now.us < next_us).then_some(next_us);
        if self.holes_due_us.is_some() {
            return;
        }
        self.holes_seen = holes;
        self.holes_checked_us = now.us;
        let gone: Vec<Seq> = self.live.pending.iter().map(|(seq, _)| seq).filter(|seq| is_gone(source, *seq)).collect();
        for seq in gone {
            self.drop_gone(now, seq, outputs);
        }
    }

    fn deliver<S: Source>(&mut self, now: Now, source: &S, outputs: &mut Outputs) -> Stop {
        if self.pause(now, outputs) {
            return Stop::End;
        }
        let mut remaining = None;
        for _ in 0..CONSUMER_DELIVER_TURN_MAX {
            if self.pulls.is_empty() || self.inflight_full() {
                return Stop::Wait;
            }
            let (seq, count, new) = match self.next(now, source, outputs) {
                Next::New(seq) => (seq, 1, true),
                Next::Again(seq, count) => (seq, count, false),
                Next::Early(at_us) => return Stop::Until(at_us),
                Next::Blocked => return Stop::Wait,
                Next::End => return Stop::End,
            };
            let left = remaining.get_or_insert_with(|| self.cursor.remaining(source, &self.filters));
            let left_after = left.saturating_sub(u64::from(new));
            if !self.send(now, source, (seq, count, left_after), outputs) {
                return Stop::Wait;
            }
            *left = left_after;
            if new {
                self.cursor.advance(seq);
                if let Some(pace) = &mut self.pace {
                    pace.sent(source.time_of(seq), now.us);
                }
            } else {
                self.redelivery.pop_front();
            }
        }
        Stop::More
    }

    /// Whether the consumer is paused; tells when that changes by itself.
    fn pause(&mut self, now: Now, outputs: &mut Outputs) -> bool {
        let paused = paused_ns(&self.live.config, now.wall_ns) > 0;
        if self.was_paused && !paused {
            self.was_paused = false;
            self.tell_pause(now, outputs);
        }
        paused
    }

    /// What comes next: messages to be delivered again, then new ones. A redelivery stays at the queue's head until
    /// it is sent.
    fn next<S: Source>(&mut self, now: Now, source: &S, outputs: &mut Outputs) -> Next {
        let untracked = self.live.config.ack_policy == AckPolicy::None;
        while let Some(seq) = self.redelivery.front().copied() {
            let wanted = match self.live.pending.get(seq) {
                None if untracked && source.contains(seq) => return Next::Again(seq, 1),
                Some(pending) if pending.queued => Some(pending.count),
                _ => None,
            };
            match wanted {
                None => {}
                Some(_) if is_gone(source, seq) => self.drop_gone(now, seq, outputs),
                Some(_) if !source.contains(seq) => self.arm(seq, now.us.saturating_add(BEHIND_RETRY_US)),
                Some(_) if self.exhaust(now, seq, outputs) => {}
                Some(count) => return Next::Again(seq, count.saturating_add(1)),
            }
            self.redelivery.pop_front();
        }
        if self.live.config.pending_max().is_some_and(|max| self.live.pending.len() >= max) {
            return Next::Blocked;
        }
        let Some(seq) = self.cursor.peek(source, &self.filters) else { return Next::End };
        let due_us = self.pace.as_ref().and_then(|pace| pace.due_us(seq, source.time_of(seq)));
        due_us.filter(|due_us| *due_us > now.us).map_or(Next::New(seq), Next::Early)
    }

    /// Sends one message to the pull whose turn it is; `false` when there is none that can take it.
    fn send<S: Source>(&mut self, now: Now, source: &S, message: (Seq, u32, u64), outputs: &mut Outputs) -> bool {
        let (seq, count, left) = message;
        let consumer_seq = self.live.delivered.consumer + 1;
        let ack_subject = self.ack_writer.write(count, seq, consumer_seq, source.time_of(seq), left);
        let size = source.size_of(seq) + ack_subject.len() as u64;
        let Some(Grant { inbox, after }) = self.grant(now, size, outputs) else { return false };
        self.step(now, Op::Delivered { consumer_seq, stream_seq: seq, count });
        if let Some(pending) = self.live.pending.get(seq) {
            let due_us = now.us.saturating_add(pending.wait_us);
            self.arm(seq, due_us);
        }
        self.used_us = now.us;
        let token = self.remember_delivery(seq, count, &inbox);
        let (to, subject) = (inbox.to, inbox.subject.clone());
        let headers_only = self.live.config.headers_only;
        let delivery = Delivery { to, inbox: subject, seq, ack_subject, token, headers_only };
        outputs.push_back(ConsumerOutput::Deliver(delivery));
        outputs.extend(after.map(|status| self.tell(inbox, &status)));
        true
    }
}

/// Whether a message that was there is no more. One beyond the end has merely not arrived at this replica.
fn is_gone<S: Source>(source: &S, seq: Seq) -> bool {
    seq <= source.last_seq() && !source.contains(seq)
}
