//! The way of decisions into the log, and what happens when they are there.

use bytes::Bytes;

use crate::consumer::config::ConsumerConfig;
use crate::consumer::info::NO_TIME;
use crate::consumer::record::{Entry, Op};
use crate::consumer::{ConsumerOutput, paused_ns};
use crate::ids::Now;

use super::{Inflight, Leader, Outputs, compile, empty_reply};

/// Pause before a refused proposal is offered again: the group is busy or its disk is full, both for longer than this.
const PROPOSE_RETRY_US: u64 = 5_000;

impl Leader {
    /// Proposes the next batch, unless one is on its way into the log.
    pub(in crate::consumer) fn propose(&mut self, now: Now, outputs: &mut Outputs) {
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
    pub(in crate::consumer) fn refused(&mut self, now: Now) {
        if self.proposed.is_some() {
            let at = now.us.saturating_add(PROPOSE_RETRY_US);
            self.retry_us = Some(at);
            self.wakeup_us = Some(self.wakeup_us.map_or(at, |wakeup| wakeup.min(at)));
        }
    }

    /// An entry stands in the log. If it is the one that was proposed, this gives what is in it.
    pub(in crate::consumer) fn logged(&mut self, index: u64, body: &Bytes) -> Option<Entry> {
        let (_, batch) = self.proposed.take_if(|(proposed, _)| proposed == body)?;
        self.retry_us = None;
        self.inflight.push_back(Inflight { index, ops: batch.ops.len(), answers: batch.answers });
        Some(Entry { time_ns: batch.time_ns, ops: batch.ops })
    }

    /// An entry that somebody else made stands in the log: its changes are taken into the live state.
    pub(in crate::consumer) fn absorb(&mut self, index: u64, entry: &Entry) {
        for op in &entry.ops {
            self.live.apply(entry.time_ns, op);
        }
        self.cursor_stale = true;
        self.expect(index, entry.ops.len());
    }

    /// An entry of a former leader is in the log and in the live state, but not committed. An ack that finds its
    /// message done because of it must wait for it like for an own one.
    pub(in crate::consumer) fn expect(&mut self, index: u64, ops: usize) {
        self.inflight.push_back(Inflight { index, ops, answers: Vec::new() });
        self.inflight_ops += ops;
    }

    /// Entries up to here are applied: their acks are answered.
    pub(in crate::consumer) fn committed(&mut self, now: Now, upto: u64, outputs: &mut Outputs) {
        let was_full = self.inflight_full();
        while self.inflight.front().is_some_and(|entry| entry.index <= upto) {
            let Some(entry) = self.inflight.pop_front() else { break };
            self.inflight_ops -= entry.ops;
            outputs.extend(entry.answers.into_iter().map(|inbox| empty_reply(&self.identity, inbox)));
        }
        if was_full || !self.batches.is_empty() {
            self.wake(now);
        }
    }

    /// Another configuration. Ack timers that run keep their length.
    pub(in crate::consumer) fn update(&mut self, now: Now, config: ConsumerConfig, outputs: &mut Outputs) {
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

    pub(in crate::consumer) fn tell_pause(&mut self, now: Now, outputs: &mut Outputs) {
        let until = self.live.config.pause_until.map_or_else(|| NO_TIME.to_owned(), |until| until.to_string());
        outputs.push_back(ConsumerOutput::Advisory(self.herald.tell_pause(now, self.was_paused, until)));
    }
}
