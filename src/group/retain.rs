//! Checkpoints, and giving space back.
//!
//! A checkpoint is the machine's state as of an applied entry. Once it is durable, raft forgets the entries that it
//! covers. What that means for the log depends on the machine: the meta table and consumers need none of them, a
//! stream's entries *are* its messages and stay until the stream lets go of them.
//!
//! ```text
//!   1 ............ released_below ........ compacted ...... checkpoint ....... applied ... last
//!   gone           (stream: kept)          raft starts here  restart starts here
//! ```
//!
//! A machine lets go of an entry only when a durable checkpoint says that it is gone: a replica that starts anew replays
//! everything above its checkpoint, and would decide differently without it. Nothing above `compacted` is given back
//! whatever the machine says, because raft still answers for it; and while state streams to a peer nothing is, so that
//! what was announced can be sent. Such wishes wait.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::body::{HEADER_BYTES, Note};
use super::core::{Awaited, Core};
use super::log::NoRoom;
use super::output::{GroupOutput, LogLevel};
use super::replica::{Replica, encoded, server};
use super::spec::GroupKind;
use super::states::Checkpoint;
use crate::ids::Now;
use crate::limits::CHECKPOINT_LAG_MAX;

#[derive(Default)]
pub(super) struct Retain {
    /// The last entry that is durable here.
    pub durable: u64,
    pub applied: u64,
    /// Index of the newest durable checkpoint.
    pub checkpoint: u64,
    /// Index of one that is being written.
    writing: Option<u64>,
    wanted: bool,
    /// The newest checkpoint cannot be read any more.
    pub renew: bool,
    /// Bytes of the newest checkpoint, and of entries appended since it.
    size: usize,
    bytes: usize,
    compacted: u64,
    /// The machine needs nothing below.
    released_below: u64,
    /// What the log was told.
    given_below: u64,
    /// Dead bytes of entries that must stay for now.
    dead: BTreeMap<u64, u32>,
}

impl Retain {
    /// Starts from a checkpoint that is in the log.
    pub fn restart(&mut self, index: u64, size: usize) {
        let Retain { released_below, .. } = *self;
        *self =
            Retain { checkpoint: index, compacted: index, applied: index, durable: index, size, ..Retain::default() };
        self.released_below = released_below;
    }

    pub fn appended(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// The machine has let go of the entry.
    pub fn is_released(&self, index: u64) -> bool {
        index < self.released_below || self.dead.contains_key(&index)
    }

    /// A checkpoint is asked for, or on its way to the log.
    pub fn is_busy(&self) -> bool {
        self.wanted || self.writing.is_some()
    }

    /// First entry that a stream may still need.
    pub fn live_from(&self) -> u64 {
        self.released_below.max(1)
    }

    /// Whether a checkpoint is worth its bytes now.
    fn is_due(&self, kind: GroupKind) -> bool {
        if self.wanted || self.writing.is_some() || self.applied <= self.checkpoint {
            return false;
        }
        let (entries, bytes) = thresholds(kind);
        self.applied - self.checkpoint >= entries && self.bytes >= self.size || self.bytes >= bytes.max(4 * self.size)
    }
}

/// Entries, or bytes of entries, after which a checkpoint is taken. What a restart must replay and what raft keeps in
/// memory per group (about 40 bytes an entry) against what is written once more.
fn thresholds(kind: GroupKind) -> (u64, usize) {
    match kind {
        GroupKind::Meta => (4_096, 1 << 20),
        GroupKind::Consumer => (8_192, 1 << 20),
        GroupKind::Stream => (16_384, 64 << 20),
    }
}

impl Replica {
    pub(super) fn applied(&mut self, core: &mut Core, index: u64) {
        self.retain.applied = self.retain.applied.max(index.min(self.commit));
        if let Some(node) = self.node.as_mut() {
            node.applied(index);
        }
        core.dirty.insert(self.id);
    }

    /// Asks the machine for a checkpoint when one is due, or when a peer waits for state.
    pub(super) fn want_checkpoint(&mut self, core: &mut Core) {
        let waits = self.senders.values().any(|sender| sender.waits()) && !self.retain.wanted;
        if waits || self.retain.is_due(self.kind) {
            self.ask_for_checkpoint(core);
        }
    }

    pub(super) fn ask_for_checkpoint(&mut self, core: &mut Core) {
        self.retain.wanted = true;
        core.output(GroupOutput::WantCheckpoint { group: self.id });
    }

    /// The machine's state as of `index`. Whether it is on its way to the log.
    pub(super) fn checkpoint(&mut self, core: &mut Core, now: Now, index: u64, state: Bytes) -> bool {
        self.retain.wanted = false;
        let machine = self.kind;
        let Some(node) = self.running() else { return false };
        let (Some(term), Some(membership)) = (node.term_at(index), node.membership_at(index)) else { return false };
        if index > node.applied_index() {
            return false;
        }
        let note = Note::new(machine, encoded(membership).into(), state);
        self.feed_senders(core, now, index, term, &note);
        let due = index > self.retain.checkpoint || index == self.retain.checkpoint && self.retain.renew;
        if !due || self.retain.writing.is_some() {
            return false;
        }
        self.retain.renew = false;
        self.retain.size = note.state.len();
        let (awaited, bytes) = (Awaited::Checkpoint { index }, note.state.len());
        let checkpoint = Checkpoint { group: self.id, epoch: self.epoch, term, index, note };
        let written = match &mut self.mem {
            Some(_) => {
                core.memory.push_back((self.id, awaited));
                Ok(())
            }
            None => core.store_state(checkpoint, awaited),
        };
        self.retain.bytes = 0;
        match written {
            Ok(()) => self.retain.writing = Some(index),
            Err(NoRoom::TooLarge) => {
                let text = format!("a state of {bytes} bytes is too large to be stored");
                core.log_of(self.id, LogLevel::Error, text);
            }
            // The next threshold tries again.
            Err(_) => {}
        }
        core.dirty.insert(self.id);
        self.retain.writing.is_some()
    }

    /// It could not be stored to its end.
    pub(super) fn checkpoint_failed(&mut self, core: &mut Core, index: u64) {
        if self.retain.writing == Some(index) {
            self.retain.writing = None;
            core.output(GroupOutput::CheckpointRefused { group: self.id });
        }
    }

    pub(super) fn checkpoint_durable(&mut self, core: &mut Core, index: u64) {
        if self.retain.writing != Some(index) {
            return;
        }
        core.sweep_parts(self.id);
        self.retain.writing = None;
        self.retain.checkpoint = index;
        self.compact(core);
        self.give_back(core);
        core.output(GroupOutput::Checkpointed { group: self.id, index });
        core.dirty.insert(self.id);
    }

    /// Raft forgets what the checkpoint covers, as soon as no follower needs it from the log: what is let go of comes back
    /// only then, and a store may be full until it does.
    pub(super) fn compact(&mut self, core: &mut Core) {
        let index = self.retain.checkpoint;
        if self.retain.compacted >= index {
            return;
        }
        let upto = self.compact_upto(core, index);
        if upto > self.retain.compacted {
            if let Some(node) = self.node.as_mut() {
                node.compact(upto);
            }
            self.retain.compacted = upto;
            self.give_back(core);
        }
    }

    /// A follower that is a little behind is served from the log, not by streaming everything.
    fn compact_upto(&self, core: &Core, index: u64) -> u64 {
        let Some(node) = self.node.as_ref().filter(|node| node.is_leader()) else { return index };
        // One whose log is full may not get in what it lacks for as long as nothing is let go of; a state finds most of it there.
        let peers = node.status().peers;
        let served = peers.iter().filter(|peer| !self.full_at(core, peer.id));
        let slowest = served.map(|peer| peer.matched).min().unwrap_or(index);
        // What follows a state that is being streamed must still be there when it has arrived.
        let streamed = self.senders.values().filter_map(|sender| sender.index()).min().unwrap_or(index);
        let wanted = if slowest + CHECKPOINT_LAG_MAX >= index { slowest.min(index) } else { index };
        wanted.min(streamed)
    }

    pub(super) fn release(&mut self, core: &mut Core, below: u64) {
        self.retain.released_below = self.retain.released_below.max(below);
        self.give_back(core);
        core.dirty.insert(self.id);
    }

    pub(super) fn dead(&mut self, core: &mut Core, index: u64, bytes: u32) {
        if index >= self.retain.released_below {
            let dead = self.retain.dead.entry(index).or_default();
            *dead = dead.saturating_add(bytes);
            self.give_back(core);
        }
    }

    /// Tells the log what nobody needs any more.
    pub(super) fn give_back(&mut self, core: &mut Core) {
        if !self.senders.is_empty() {
            return;
        }
        let floor = self.retain.compacted + 1;
        let below = match self.kind {
            GroupKind::Stream => self.retain.released_below.min(floor),
            GroupKind::Meta | GroupKind::Consumer => floor,
        };
        if below > self.retain.given_below {
            self.retain.given_below = below;
            match &mut self.mem {
                Some(mem) => mem.release(below),
                None => core.disk.release(self.id, below),
            }
        }
        while let Some(entry) = self.retain.dead.first_entry().filter(|entry| *entry.key() < floor) {
            let (index, bytes) = entry.remove_entry();
            if index >= below {
                self.kill(core, index, bytes);
            }
        }
    }

    /// Dead bytes of the payload; when all of it is dead, the header in front of it is too.
    fn kill(&mut self, core: &mut Core, index: u64, bytes: u32) {
        let whole = |len: usize| bytes as usize + HEADER_BYTES >= len;
        match &mut self.mem {
            Some(mem) => {
                let len = mem.get(index).map_or(0, |stored| stored.body.len());
                mem.kill(index, if whole(len) { u32::MAX } else { bytes });
            }
            None => {
                let len = core.disk.body_bytes(self.id, index).unwrap_or(0);
                core.disk.kill(self.id, index, if whole(len) { u32::MAX } else { bytes });
            }
        }
    }

    /// Voters, voters before and learners, for status pages.
    pub(super) fn members(&self) -> [Vec<crate::ids::ServerId>; 3] {
        let Some(node) = &self.node else { return Default::default() };
        let list = |ids: &[raft::NodeId]| ids.iter().copied().map(server).collect();
        let members = node.membership();
        [&members.voters, &members.outgoing, &members.learners].map(|ids| list(ids))
    }
}
