//! What the log may forget, and when.
//!
//! A message that is gone from the stream is still needed by a replica that starts again from an older checkpoint: it
//! would replay the very entries that removed the message, and would decide differently without it. So nothing is
//! given back before a durable checkpoint remembers that it is gone. The caller makes checkpoints ([`Space::wants`] says
//! when that is worth it) and reports them.

use std::collections::{BTreeMap, VecDeque};

use super::StreamOutput;

/// Bytes that must be waiting to be given back before a checkpoint is worth its write.
const RECLAIM_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// The same while the store is full.
const RECLAIM_FULL_BYTES_MIN: u64 = 4 * 1024;
/// A checkpoint is written only when it gives back this many times its own size: at most an eighth more is written.
const RECLAIM_PER_CHECKPOINT: u64 = 8;
/// Checkpoints taken and not yet reported durable. More are simply not remembered; the next one makes up for it.
const TAKEN_MAX: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Space {
    /// Entries with messages removed from inside: applied index of the latest removal, bytes since last told.
    dead: BTreeMap<u64, (u64, u32)>,
    /// Entries that were instructions (delete, purge, trim, config): needed until a checkpoint has their effect.
    done: VecDeque<(u64, u32)>,
    /// Checkpoints taken: applied index, first entry needed then.
    taken: VecDeque<(u64, u64)>,
    released: u64,
    reclaim_bytes: u64,
    /// What the newest checkpoint that was taken will give back.
    taken_bytes: u64,
    checkpoint_len: u64,
    /// The store is full: a checkpoint is worth its write as soon as it gives more back than it takes.
    pub(super) full: bool,
}

impl Space {
    /// Bytes of an entry died while the entry at `applied` was applied. `bytes` of an entry that is dead as a whole is
    /// the length of its body.
    pub(super) fn died(&mut self, applied: u64, index: u64, bytes: u32) {
        let dead = self.dead.entry(index).or_default();
        *dead = (applied, dead.1.saturating_add(bytes));
        self.reclaim_bytes += u64::from(bytes);
    }

    /// Bytes went at the front: they come back by the front moving.
    pub(super) fn left(&mut self, bytes: u64) {
        self.reclaim_bytes += bytes;
    }

    /// An instruction was applied.
    pub(super) fn done(&mut self, index: u64, body_len: u32) {
        self.done.push_back((index, body_len));
        self.reclaim_bytes += u64::from(body_len);
    }

    pub(super) fn wants(&self) -> bool {
        let (least, times) = match self.full {
            true => (RECLAIM_FULL_BYTES_MIN, 1),
            false => (RECLAIM_BYTES_MIN, RECLAIM_PER_CHECKPOINT),
        };
        self.reclaim_bytes >= least.max(self.checkpoint_len * times)
    }

    /// A checkpoint of `len` bytes was taken; `first_index` is the first entry with a living message, if any.
    pub(super) fn taken(&mut self, applied: u64, first_index: Option<u64>, len: usize) {
        if self.taken.len() == TAKEN_MAX {
            self.taken.pop_front();
        }
        self.taken.push_back((applied, first_index.unwrap_or(applied + 1).min(applied + 1)));
        self.taken_bytes = std::mem::take(&mut self.reclaim_bytes);
        self.checkpoint_len = len as u64;
    }

    /// The newest checkpoint could not be written: what it would have given back still waits for one.
    pub(super) fn untaken(&mut self) {
        self.taken.pop_back();
        self.reclaim_bytes += std::mem::take(&mut self.taken_bytes);
    }

    /// The checkpoint at `applied` is durable: what it does not need is given back. Nothing for one never taken.
    pub(super) fn checkpointed(&mut self, applied: u64) -> Vec<StreamOutput> {
        let Some((_, first_index)) = self.taken.iter().find(|taken| taken.0 == applied).copied() else {
            return Vec::new();
        };
        let mut given = Vec::new();
        self.taken.retain(|taken| taken.0 > applied);
        if first_index > self.released {
            self.released = first_index;
            given.push(StreamOutput::Released { below_index: first_index });
        }
        let released = self.released;
        self.dead.retain(|index, (at, bytes)| {
            if *index >= released && *at <= applied {
                given.push(StreamOutput::Dead { index: *index, bytes: *bytes });
            }
            *index >= released && *at > applied
        });
        while let Some((index, body_len)) = self.done.front().copied().filter(|done| done.0 <= applied) {
            self.done.pop_front();
            if index >= released {
                given.push(StreamOutput::Dead { index, bytes: body_len });
            }
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_given_back_before_a_checkpoint_that_knows_it_is_durable() {
        let mut space = Space::default();
        space.died(10, 5, 100);
        space.done(10, 16);
        space.taken(12, Some(5), 100);
        space.died(13, 6, 50);
        space.died(13, 5, 1);
        assert_eq!(space.checkpointed(11), []);
        assert_eq!(
            space.checkpointed(12),
            [StreamOutput::Released { below_index: 5 }, StreamOutput::Dead { index: 10, bytes: 16 }]
        );
        space.taken(20, Some(6), 100);
        assert_eq!(
            space.checkpointed(20),
            [StreamOutput::Released { below_index: 6 }, StreamOutput::Dead { index: 6, bytes: 50 }],
            "entry 5 went with the front"
        );
    }

    #[test]
    fn a_checkpoint_must_be_worth_its_write() {
        let mut space = Space::default();
        space.left(RECLAIM_BYTES_MIN);
        assert!(space.wants());
        space.taken(1, None, RECLAIM_BYTES_MIN as usize);
        assert!(!space.wants());
        space.left(RECLAIM_BYTES_MIN * RECLAIM_PER_CHECKPOINT - 1);
        assert!(!space.wants());
        space.full = true;
        assert!(space.wants(), "a full store cannot be choosy");
        space.full = false;
        space.left(1);
        assert!(space.wants());
    }
}
