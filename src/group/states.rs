//! A machine's state on its way into the log: as one record, or in parts when it is large.
//!
//! ```text
//!   small    CHECKPOINT { membership, state }
//!   large    part 0 ... part n-1 of one bank        a local note each, at the checkpoint's index and term
//!            CHECKPOINT { membership, n, bank }     the head; it counts only behind all of its parts
//! ```
//!
//! Two banks of notes take turns, so the checkpoint before stays whole until the new head is durable; then what the new
//! one does not need is overwritten with nothing. Parts are handed to the log a few at a time, behind what clients
//! store, so that a state of many megabytes delays nobody for longer than one part takes.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use storage::RecordKind;

use super::body::{Note, Parts};
use super::core::{Awaited, Core};
use super::log::{Claim, NoRoom};
use crate::ids::GroupId;

/// Parts of one state at the most: two banks of them fit into the kinds that the storage leaves to its caller.
pub(super) const STATE_PARTS_MAX: usize = 88;

/// Local notes below are other records of a group.
const FIRST_PART: usize = 16;

/// Bytes that wait for the disk at which no further part is added.
const BACKLOG_BYTES: usize = 8 << 20;

/// The note that holds a part; `part` is below [`STATE_PARTS_MAX`].
pub(super) fn part_kind(bank: u8, part: usize) -> RecordKind {
    RecordKind::local((FIRST_PART + usize::from(bank) * STATE_PARTS_MAX + part) as u8)
}

/// A checkpoint that is to be stored.
pub(super) struct Checkpoint {
    pub group: GroupId,
    pub epoch: u32,
    pub term: u64,
    pub index: u64,
    pub note: Note,
}

/// One that is not in the log as a whole yet.
struct Feed {
    checkpoint: Checkpoint,
    /// Chosen when the first part is written: the newest head may still be on its way when the feed is queued.
    parts: Parts,
    part_bytes: usize,
    next: usize,
    awaited: Awaited,
}

/// All states that are on their way in parts, and where the newest ones are.
#[derive(Default)]
pub(super) struct States {
    feeds: VecDeque<Feed>,
    /// Groups that have parts in the log, with those of the newest head.
    large: BTreeMap<GroupId, Parts>,
}

impl States {
    /// The end of a catch-up is not to be stored any more.
    pub fn forget_complete(&mut self, group: GroupId) {
        let complete = |feed: &Feed| matches!(feed.awaited, Awaited::Complete { .. });
        self.feeds.retain(|feed| feed.checkpoint.group != group || !complete(feed));
    }

    pub fn drop_group(&mut self, group: GroupId) {
        self.feeds.retain(|feed| feed.checkpoint.group != group);
        self.large.remove(&group);
    }

    fn is_feeding(&self, group: GroupId) -> bool {
        self.feeds.iter().any(|feed| feed.checkpoint.group == group)
    }
}

impl Core {
    /// Puts a checkpoint on its way into the log; `awaited` is told when all of it is durable, unless
    /// [`Core::feed_states`] returns it.
    ///
    /// # Errors
    /// Nothing was begun: there is no room, or it is larger than [`STATE_PARTS_MAX`] parts.
    pub fn store_state(&mut self, checkpoint: Checkpoint, awaited: Awaited) -> Result<(), NoRoom> {
        let part_bytes = self.options.state_part_bytes.min(self.disk.record_bytes_max());
        let small = checkpoint.note.bytes() <= part_bytes;
        if small && !self.states.is_feeding(checkpoint.group) {
            return self.store_head(&checkpoint, awaited);
        }
        let bytes = checkpoint.note.state.len();
        let count = if small { 0 } else { bytes.div_ceil(part_bytes) };
        if count > STATE_PARTS_MAX {
            return Err(NoRoom::TooLarge);
        }
        if !self.disk.has_room(bytes, Claim::Relief) {
            return Err(NoRoom::Full);
        }
        let parts = Parts { count: count as u8, bank: 0 };
        self.states.feeds.push_back(Feed { checkpoint, parts, part_bytes, next: 0, awaited });
        Ok(())
    }

    /// Adds parts while the disk keeps up. Called once per turn; what waits for the disk brings the next turn. Returns
    /// what could not be stored after all: call again then.
    pub fn feed_states(&mut self) -> Option<(GroupId, Awaited)> {
        while !self.states.feeds.is_empty() && self.disk.unstored() < BACKLOG_BYTES {
            let mut feed = self.states.feeds.pop_front()?;
            match self.feed_one(&mut feed) {
                Ok(true) => {}
                Ok(false) => self.states.feeds.push_front(feed),
                Err(NoRoom::Busy) => {
                    self.states.feeds.push_front(feed);
                    break;
                }
                Err(_) => return Some((feed.checkpoint.group, feed.awaited)),
            }
        }
        None
    }

    /// The next record of a state; true when it was the last.
    fn feed_one(&mut self, feed: &mut Feed) -> Result<bool, NoRoom> {
        let group = feed.checkpoint.group;
        if feed.next == 0 {
            feed.parts.bank = self.states.large.get(&group).map_or(0, |newest| 1 - newest.bank);
        }
        if feed.next < usize::from(feed.parts.count) {
            let state = &feed.checkpoint.note.state;
            let from = feed.next * feed.part_bytes;
            let part = state.slice(from..state.len().min(from + feed.part_bytes));
            self.disk.append_part(&feed.checkpoint, part_kind(feed.parts.bank, feed.next), part)?;
            feed.next += 1;
            // From here on there is something to sweep, whatever becomes of this state.
            self.states.large.entry(group).or_insert(Parts { count: 0, bank: 1 - feed.parts.bank });
            return Ok(false);
        }
        if feed.parts.count > 0 {
            feed.checkpoint.note.parts = feed.parts;
            feed.checkpoint.note.state = Bytes::new();
        }
        self.store_head(&feed.checkpoint, feed.awaited.clone())?;
        self.states.large.entry(group).and_modify(|newest| *newest = feed.parts);
        Ok(true)
    }

    fn store_head(&mut self, head: &Checkpoint, awaited: Awaited) -> Result<(), NoRoom> {
        let lsn = self.disk.append_checkpoint(head)?;
        if head.note.parts.count == 0
            && let Some(newest) = self.states.large.get_mut(&head.group)
        {
            newest.count = 0;
        }
        self.awaited.push_back((lsn, head.group, awaited));
        Ok(())
    }

    /// The newest checkpoint was read back: are there parts, its own or of one that was never finished?
    pub fn find_parts(&mut self, group: GroupId, newest: Parts) {
        let mut kinds = (0..2).flat_map(|bank| (0..STATE_PARTS_MAX).map(move |part| part_kind(bank, part)));
        if newest.count > 0 || kinds.any(|kind| self.disk.part_bytes(group, kind) > 0) {
            self.states.large.insert(group, newest);
        }
    }

    /// The newest checkpoint of the group is durable: parts that are not its own are overwritten with nothing.
    pub fn sweep_parts(&mut self, group: GroupId) {
        if self.states.is_feeding(group) {
            return;
        }
        let Some(newest) = self.states.large.get(&group).copied() else { return };
        let mut swept = true;
        for bank in 0..2 {
            let needed = if bank == newest.bank { usize::from(newest.count) } else { 0 };
            for part in needed..STATE_PARTS_MAX {
                // Without room for it now, the next checkpoint sweeps.
                swept &= self.disk.empty_part(group, part_kind(bank, part)).is_ok();
            }
        }
        if newest.count == 0 && swept {
            self.states.large.remove(&group);
        }
    }
}
