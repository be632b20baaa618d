//! How a stream comes back: from a checkpoint and the log entries that are left, in whatever order they are found.
//!
//! ```text
//!   restore(checkpoint)      0 or 1 times, before, after or between
//!   recover_entry(i, body)   each entry found, in any order
//!   recovered(committed)     puts them in order: up to the checkpoint as its messages, the rest as log, then applies
//! ```
//!
//! A new replica gets a leader's state the same way, beginning with [`Stream::install`]. Entries the checkpoint does not
//! need are taken and dropped. When an entry that it does need is missing, the stream says so and stays as it is:
//! more entries may follow and `recovered` may be called again.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::checkpoint::Checkpoint;
use super::dedup::Dedup;
use super::index::Index;
use super::pending::{Pending, Store, Work};
use super::record::Damaged;
use super::space::Space;
use super::spans::Span;
use super::{Stream, StreamOutput};
use crate::ids::{Now, Seq};

#[derive(Debug, Default)]
pub(super) struct Recovery {
    pub(super) checkpoint: Option<Checkpoint>,
    pub(super) entries: BTreeMap<u64, Pending>,
}

impl Stream {
    /// Takes the newest checkpoint that is on disk. The configuration in it replaces the one given to [`Stream::new`].
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<(), Damaged> {
        let checkpoint = Checkpoint::decode(checkpoint)?;
        self.recovery.get_or_insert_default().checkpoint = Some(checkpoint);
        Ok(())
    }

    /// Forgets everything and begins again from another replica's checkpoint; its living entries follow by
    /// [`Stream::recover_entry`], then [`Stream::recovered`].
    pub fn install(&mut self, checkpoint: &[u8]) -> Result<(), Damaged> {
        let checkpoint = Checkpoint::decode(checkpoint)?;
        self.lead(Now::default(), false);
        let incarnation = (self.index.incarnation.0, self.index.incarnation.1 + 1);
        self.index = Index::new(Stream::seeds(self.group, self.created_ns), 0, incarnation);
        self.pending.clear();
        self.cut.clear();
        self.pending_bytes = 0;
        self.log_last_seq = 0;
        self.applied = 0;
        self.space = Space::default();
        self.recovery = Some(Recovery { checkpoint: Some(checkpoint), entries: BTreeMap::new() });
        Ok(())
    }

    /// Takes one entry found in the log, or sent by another replica. The same index twice keeps the later one.
    pub fn recover_entry(&mut self, index: u64, body: &Bytes) -> Result<(), Damaged> {
        let mut pending = Pending::parse(index, body, &mut self.index.subjects)?;
        let recovery = self.recovery.get_or_insert_default();
        let covered = recovery.checkpoint.as_ref().is_some_and(|checkpoint| index <= checkpoint.applied);
        match &mut pending.work {
            // The checkpoint has what ids and instructions did.
            Work::Store(store) if covered => store.marks = Vec::new(),
            Work::Store(_) => {}
            _ if covered => return Ok(()),
            _ => {}
        }
        if let Some(old) = recovery.entries.insert(index, pending) {
            old.drop_from(&mut self.index.subjects);
        }
        Ok(())
    }

    /// Everything was found: the log up to `committed` is applied, the rest waits. An error leaves the stream waiting
    /// for what is missing.
    pub fn recovered(&mut self, now: Now, committed: u64) -> Result<(), Damaged> {
        let Some(mut recovery) = self.recovery.take() else {
            self.apply(now, committed);
            return Ok(());
        };
        if let Err(damaged) = self.check_complete(&recovery) {
            self.recovery = Some(recovery);
            return Err(damaged);
        }
        let mut committed = committed;
        if let Some(checkpoint) = recovery.checkpoint {
            committed = committed.max(checkpoint.applied);
            let later = recovery.entries.split_off(&(checkpoint.applied + 1));
            self.rebuild(checkpoint, recovery.entries);
            recovery.entries = later;
        }
        self.log_last_seq = self.index.last_seq;
        recovery.entries.into_values().for_each(|pending| self.push_pending(pending));
        self.apply(now, committed);
        Ok(())
    }

    /// Whether the checkpoint's messages are all there, and the sequences of the log after it follow each other.
    fn check_complete(&self, recovery: &Recovery) -> Result<(), Damaged> {
        let mut last_seq = self.index.last_seq;
        let mut applied = self.applied;
        if let Some(checkpoint) = &recovery.checkpoint {
            let (mut messages, mut bytes, mut end) = (0, 0, 0);
            for store in stores(recovery.entries.range(..=checkpoint.applied).map(|(_, pending)| pending)) {
                if store.base_seq < end {
                    return Err(Damaged("sequences of the log do not rise"));
                }
                end = store.end();
                for (seq, (_, size)) in (store.base_seq..).zip(&store.rows) {
                    if checkpoint.holds(seq) {
                        messages += 1;
                        let (raw, with_headers) = (size.raw().into(), size.with_headers());
                        bytes += super::StreamConfig::message_bytes(checkpoint.config.storage, raw, with_headers);
                    }
                }
            }
            if (messages, bytes) != (checkpoint.messages, checkpoint.bytes) {
                return Err(Damaged("entries that hold messages are missing"));
            }
            last_seq = checkpoint.last_seq;
            applied = checkpoint.applied;
        }
        for (_, pending) in recovery.entries.range(applied + 1..) {
            if let Work::Store(store) = &pending.work
                && store.base_seq != last_seq + 1
            {
                return Err(Damaged("sequence does not follow the log"));
            }
            last_seq = pending.last_seq_after(last_seq);
        }
        Ok(())
    }

    /// Makes the state that the checkpoint was taken of.
    fn rebuild(&mut self, checkpoint: Checkpoint, entries: BTreeMap<u64, Pending>) {
        self.config = checkpoint.config.clone();
        self.created_ns = checkpoint.created_ns;
        self.remake_acks();
        for pending in entries.into_values() {
            let Work::Store(store) = &pending.work else { continue };
            self.rebuild_entry(&checkpoint, &pending, store);
        }
        let index = &mut self.index;
        index.first_seq = checkpoint.first_seq;
        index.last_seq = checkpoint.last_seq;
        index.last_time_ns = checkpoint.last_time_ns;
        self.dedup = Dedup::default();
        checkpoint.ids.iter().for_each(|seen| self.dedup.insert(*seen));
        self.last_id = checkpoint.last_id;
        self.applied = checkpoint.applied;
        let below_index = index.spans.live().next().map_or(self.applied + 1, |span| span.index);
        self.outputs.push_back(StreamOutput::Released { below_index });
    }

    fn rebuild_entry(&mut self, checkpoint: &Checkpoint, pending: &Pending, store: &Store) {
        let live = (store.base_seq..store.end()).filter(|seq| checkpoint.holds(*seq)).count() as u16;
        let (index, body_len, count) = (pending.index, pending.body_len, store.rows.len() as u16);
        let (base_seq, time_ns) = (store.base_seq, store.time_ns);
        if live > 0 {
            self.index.spans.push(Span { base_seq, index, time_ns, body_len, count, live });
        }
        for (seq, (subject, size)) in (store.base_seq..).zip(&store.rows) {
            if checkpoint.holds(seq) {
                let bytes = self.message_bytes(*size);
                self.index.store(seq, *subject, *size, bytes);
            }
            self.index.subjects.arrived(*subject);
        }
        // Parts of entries were told when they died: telling them twice could make a living entry look dead.
        if live == 0 {
            self.outputs.push_back(StreamOutput::Dead { index, bytes: body_len });
        }
    }
}

impl Checkpoint {
    /// Whether a message had this sequence when the checkpoint was taken. O(log gaps).
    pub(super) fn holds(&self, seq: Seq) -> bool {
        if self.messages == 0 || seq < self.first_seq || seq > self.last_seq {
            return false;
        }
        let at = self.gaps.partition_point(|(_, end)| *end <= seq);
        self.gaps.get(at).is_none_or(|(start, _)| seq < *start)
    }
}

fn stores<'a>(entries: impl Iterator<Item = &'a Pending>) -> impl Iterator<Item = &'a Store> {
    entries.filter_map(|pending| if let Work::Store(store) = &pending.work { Some(store) } else { None })
}
