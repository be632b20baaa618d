//! The committed log, entry by entry: the same on every replica, whatever its clock, its role and its past.
//!
//! Nothing here refuses anything: what the leader put into the log happened. Limits are kept after each message, so
//! that any grouping of messages into entries ends in the same state.

use bytes::Bytes;

use super::config::{Discard, StreamConfig};
use super::dedup::Seen;
use super::index::Size;
use super::pending::{Answers, Pending, Store, Work};
use super::record::{Damaged, Purge, Rollup};
use super::spans::Span;
use super::{Answer, Filters, Stream, StreamOutput, answer};
use crate::api::errors::ApiError;
use crate::ids::{Now, Place, Seq};
use crate::reply::Reply;

impl Stream {
    /// An entry was appended to this replica's log at `index`, which rises from call to call but may skip what is not a
    /// stream's. On the leader the bodies of [`Stream::take_entries`] come back here in order.
    ///
    /// An error means that the body or its place in the sequence is damaged; nothing is changed then.
    pub fn appended(&mut self, index: u64, body: &Bytes) -> Result<(), Damaged> {
        if self.recovery.is_some() {
            return self.recover_entry(index, body);
        }
        if index <= self.applied || self.pending.back().is_some_and(|last| index <= last.index) {
            return Err(Damaged("entry index does not rise"));
        }
        let pending = match self.taken_back(body) {
            Some(taken) => Pending { index, ..taken },
            None => Pending::parse(index, body, &mut self.index.subjects)?,
        };
        if let Work::Store(store) = &pending.work
            && store.base_seq != self.log_last_seq + 1
        {
            pending.drop_from(&mut self.index.subjects);
            return Err(Damaged("sequence does not follow the log"));
        }
        self.meet_cut(&pending);
        self.push_pending(pending);
        Ok(())
    }

    /// Entries from `from` on were cut off this replica's log by a new leader. Ends this replica's own leadership. Who waits for
    /// one of them hears `error` once it is certain that it is not applied.
    pub fn truncated(&mut self, from: u64, error: &ApiError) {
        if let Some(recovery) = &mut self.recovery {
            let cut = recovery.entries.split_off(&from);
            cut.into_values().for_each(|pending| pending.drop_from(&mut self.index.subjects));
            return;
        }
        self.lead(Now::default(), false);
        while self.pending.back().is_some_and(|last| last.index >= from)
            && let Some(mut last) = self.pending.pop_back()
        {
            self.pending_bytes -= last.body_len as usize;
            self.owe(&mut last, error);
            last.drop_from(&mut self.index.subjects);
        }
        self.log_last_seq =
            self.pending.iter().fold(self.index.last_seq, |last_seq, pending| pending.last_seq_after(last_seq));
    }

    /// Entries up to and including `upto` are committed. Answers and notes are fetched with [`Stream::poll_output`].
    pub fn apply(&mut self, _now: Now, upto: u64) {
        let before = (self.index.last_seq, self.index.messages);
        let mut stored = 0;
        while self.pending.front().is_some_and(|first| first.index <= upto)
            && let Some(pending) = self.pending.pop_front()
        {
            self.pending_bytes -= pending.body_len as usize;
            self.applied = pending.index;
            if let Work::Store(store) = &pending.work {
                stored += store.rows.len() as u64;
            }
            self.apply_one(pending);
        }
        self.applied = self.applied.max(upto);
        self.refuse_cut(upto);
        if self.index.last_seq != before.0 {
            self.outputs.push_back(StreamOutput::Grew { last_seq: self.index.last_seq });
        }
        if self.index.messages != before.1 + stored {
            self.outputs.push_back(StreamOutput::Shrunk { first_seq: self.index.first_seq });
        }
    }

    pub(super) fn push_pending(&mut self, pending: Pending) {
        self.log_last_seq = pending.last_seq_after(self.log_last_seq);
        self.pending_bytes += pending.body_len as usize;
        self.pending.push_back(pending);
    }

    fn apply_one(&mut self, pending: Pending) {
        let removes = pending.removes();
        if let Some(lead) = &mut self.lead {
            lead.grown.messages -= pending.grown.messages;
            lead.grown.bytes -= pending.grown.bytes;
            if removes {
                lead.removals.pop_front();
            }
        }
        match pending.work {
            Work::Store(store) => {
                let base_seq = store.base_seq;
                self.apply_store(pending.index, pending.body_len, store);
                self.acknowledge(base_seq, pending.answers);
                return;
            }
            Work::Delete { seq } => {
                let gone = self.not_there(seq);
                let outcome = if self.remove(seq) { Ok(()) } else { Err(&gone) };
                self.answer_if_asked(pending.answers, |_| answer::deleted(outcome));
            }
            Work::Purge(purge) => {
                let purged = self.apply_purge(&purge);
                if purge.filter.is_empty() {
                    self.outputs.push_back(StreamOutput::Purged { first_seq: self.index.first_seq });
                }
                self.answer_if_asked(pending.answers, |_| answer::purged(Ok(purged)));
            }
            Work::Trim { first_seq } => {
                self.remove_below(first_seq);
            }
            Work::Config(config) => self.apply_config(*config, pending.answers),
        }
        self.space.done(pending.index, pending.body_len);
    }

    fn apply_store(&mut self, index: u64, body_len: u32, store: Store) {
        let count = store.rows.len() as u16;
        let (base_seq, time_ns) = (store.base_seq, store.time_ns);
        self.index.spans.push(Span { base_seq, index, time_ns, body_len, count, live: count });
        self.index.last_time_ns = Some(time_ns);
        self.dedup.expire(time_ns, self.config.duplicate_window);
        let mut marks = store.marks.iter().peekable();
        for (slot, (subject, size)) in (0u32..).zip(&store.rows) {
            let seq = base_seq + u64::from(slot);
            self.index.store(seq, *subject, *size, self.message_bytes(*size));
            self.index.subjects.arrived(*subject);
            let mark = marks.next_if(|mark| mark.slot == slot);
            if let Some(id) = mark.and_then(|mark| mark.id) {
                self.remember_id(Seen { id, seq, time_ns });
            }
            self.keep_subject_limit(*subject);
            self.keep_limits();
            match mark.map_or(Rollup::None, |mark| mark.rollup) {
                Rollup::None => {}
                Rollup::Subject => self.remove_of_subject_below(*subject, seq),
                Rollup::All => drop(self.remove_below(seq)),
            }
        }
        self.last_id = store.last_id;
    }

    /// Enters an id into the duplicate window; whoever published it again meanwhile hears of the one that is stored.
    fn remember_id(&mut self, seen: Seen) {
        self.dedup.insert(seen);
        let Some(lead) = &mut self.lead else { return };
        if lead.ids.get(&seen.id).is_some_and(|one| one.seq == seen.seq)
            && let Some(one) = lead.ids.remove(&seen.id)
        {
            self.late.extend(one.waiting.into_iter().map(|(to, reply)| (seen.seq, to, reply)));
        }
    }

    /// Answers the publishers of an applied batch, then those who published the same ids again.
    fn acknowledge(&mut self, base_seq: Seq, answers: Answers) {
        if let Answers::Publishers(publishers) = answers {
            for (slot, to, reply) in publishers {
                let ack = self.acks.stored(base_seq + u64::from(slot));
                self.reply(to, reply, ack);
            }
        }
        for (seq, to, reply) in std::mem::take(&mut self.late) {
            let ack = self.acks.duplicate(seq);
            self.reply(to, reply, ack);
        }
    }

    /// Removes what a purge names; returns how many messages went.
    fn apply_purge(&mut self, purge: &Purge) -> u64 {
        if purge.is_unfiltered() && purge.keep == 0 {
            return match purge.seq {
                0 => self.remove_all(),
                // Nothing is below the first sequence there can be.
                1 => 0,
                seq => {
                    let removed = self.remove_below(seq);
                    self.skip_to(purge.last_seq_floor());
                    removed
                }
            };
        }
        let filters = Filters::new((!purge.filter.is_empty()).then(|| purge.filter.clone()));
        let below = if purge.seq > 0 { purge.seq } else { Seq::MAX };
        let mut left = match purge.keep {
            0 => u64::MAX,
            keep => self.count_from(0, &filters).saturating_sub(keep),
        };
        let mut removed = 0;
        let mut from = 0;
        while left > 0
            && let Some(seq) = self.next_match(from, &filters).filter(|seq| *seq < below)
        {
            removed += u64::from(self.remove(seq));
            left -= 1;
            from = seq + 1;
        }
        removed
    }

    fn apply_config(&mut self, config: StreamConfig, answers: Answers) {
        self.config = config;
        self.remake_acks();
        let ids: Vec<_> = self.index.subjects.live().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| self.keep_subject_limit(id));
        self.keep_limits();
        let answer = if let Answers::Request(answer) = answers { Some(answer) } else { None };
        self.outputs.push_back(StreamOutput::ConfigChanged { answer });
    }

    fn keep_subject_limit(&mut self, subject: u32) {
        let Some(limit) = StreamConfig::bound(self.config.max_msgs_per_subject) else { return };
        while self.index.subjects.get(subject).count > limit {
            self.remove(self.index.subjects.get(subject).first);
        }
    }

    /// Whole-stream limits. With `discard: new` the leader refused what would exceed them.
    fn keep_limits(&mut self) {
        if self.config.discard == Discard::New {
            return;
        }
        let messages = StreamConfig::bound(self.config.max_msgs).unwrap_or(u64::MAX);
        let bytes = StreamConfig::bound(self.config.max_bytes).unwrap_or(u64::MAX);
        while self.index.messages > messages || self.index.bytes > bytes {
            self.remove(self.index.first_seq);
        }
    }

    fn remove_of_subject_below(&mut self, subject: u32, seq: Seq) {
        while let Some(first) = self.index.next_of(subject, 0).filter(|first| *first < seq) {
            self.remove(first);
        }
    }

    /// Removes every message below `seq`; returns how many there were.
    fn remove_below(&mut self, seq: Seq) -> u64 {
        if seq > self.index.last_seq {
            return self.remove_all();
        }
        let mut removed = 0;
        while self.index.messages > 0 && self.index.first_seq < seq {
            removed += u64::from(self.remove(self.index.first_seq));
        }
        removed
    }

    fn remove_all(&mut self) -> u64 {
        let removed = self.index.messages;
        self.space.left(self.index.bytes);
        self.index.clear();
        removed
    }

    /// Makes an empty stream go on after `last_seq`, if that is further than it is.
    fn skip_to(&mut self, last_seq: Seq) {
        if last_seq > self.index.last_seq {
            self.index.last_seq = last_seq;
            self.index.first_seq = last_seq + 1;
        }
    }

    fn remove(&mut self, seq: Seq) -> bool {
        let storage = self.config.storage;
        let counted = |size: Size| StreamConfig::message_bytes(storage, size.raw().into(), size.with_headers());
        let Some(removed) = self.index.remove(seq, counted) else { return false };
        match removed.inside {
            Some(entry) if entry.live == 0 => self.space.died(self.applied, entry.index, entry.body_len),
            Some(entry) => self.space.died(self.applied, entry.index, removed.size.raw()),
            None => self.space.left(removed.size.raw().into()),
        }
        true
    }

    pub(super) fn message_bytes(&self, size: Size) -> u64 {
        StreamConfig::message_bytes(self.config.storage, size.raw().into(), size.with_headers())
    }

    fn answer_if_asked(&mut self, answers: Answers, json: impl FnOnce(&Answer) -> Bytes) {
        if let Answers::Request(answer) = answers {
            let json = json(&answer);
            self.answer(&answer, json);
        }
    }

    pub(super) fn reply(&mut self, to: Place, subject: Bytes, payload: Bytes) {
        let account = self.account;
        let reply = Reply { to, account, subject, reply: None, headers: None, payload, shown: None, bounce: None };
        self.outputs.push_back(StreamOutput::Reply(reply));
    }

    pub(super) fn answer(&mut self, answer: &Answer, payload: Bytes) {
        let reply = self.reply_to(answer, payload);
        self.outputs.push_back(StreamOutput::Reply(reply));
    }

    pub(super) fn reply_to(&self, answer: &Answer, payload: Bytes) -> Reply {
        let (to, account, subject) = (answer.to, answer.account, answer.subject.clone());
        Reply { to, account, subject, reply: None, headers: None, payload, shown: None, bounce: None }
    }
}
