//! Damaged entries: fenced off, asked back from the other members, stored again.
//!
//! ```text
//!   damaged ──► fence: neither votes nor leads ──► Want to one member after the other ──► Have ──► log.heal ──► unfence
//! ```
//!
//! An entry from a peer is taken if its term is the one that the log remembers for its index (the same term and index
//! are the same entry, on every replica), or, where the log does not know, if the index is committed here: a peer gives
//! only what it knows as committed. Reads of a damaged entry wait for the healing, for a bounded time. What a group's
//! only replica has lost below its checkpoint stays lost: reads say so, the group goes on.
//!
//! An entry at the end of the log may be nobody else's: it was never committed. A leader that has nothing at its index
//! answers with no entries, others perhaps with the entry of another term that took its place. A replica that is
//! reading its log then ends it there and goes on as one that has lost its tail, without a vote until a leader has
//! confirmed the rest ([`super::restore`]).

use std::collections::BTreeSet;

use bytes::Bytes;

use super::body::{Header, payload};
use super::core::{Core, Reader};
use super::log::{Fetch, Stored};
use super::output::{GroupOutput, LogLevel, ReadGone, ReadToken};
use super::replica::{Phase, ReadOutcome, Replica, server};
use crate::cluster::wire::{CatchupEntry, CatchupStep};
use crate::ids::{Now, ServerId};
use crate::limits::{GROUP_READ_BYTES_MAX, HEAL_ENTRIES_MAX, HEAL_RETRY_US, HEAL_WAIT_US};

/// What is damaged in one group, and who waits for it.
#[derive(Default)]
pub(super) struct Heal {
    damaged: BTreeSet<u64>,
    /// Lost for good: nobody else has them.
    lost: BTreeSet<u64>,
    /// (entry, token, until when).
    waiting: Vec<(u64, ReadToken, u64)>,
    asks: usize,
    ask_at: Option<u64>,
}

impl Heal {
    /// Nothing is damaged that could be healed.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty()
    }

    /// Entries known to be damaged.
    pub fn count(&self) -> u64 {
        (self.damaged.len() + self.lost.len()) as u64
    }

    /// What stood from there on is no part of the log any more. Whether some of it was damaged.
    pub fn truncated(&mut self, from: u64) -> bool {
        !self.damaged.split_off(&from).is_empty()
    }

    pub fn due(&self) -> Option<u64> {
        let waits = self.waiting.iter().map(|waiting| waiting.2).min();
        self.ask_at.into_iter().chain(waits).min()
    }
}

impl Replica {
    /// Notes that an entry cannot be read.
    pub(super) fn damaged(&mut self, core: &mut Core, now: Now, index: u64) {
        if self.heal.damaged.contains(&index) || self.heal.lost.contains(&index) {
            return;
        }
        if self.heal.damaged.len() >= HEAL_ENTRIES_MAX {
            return;
        }
        if self.is_alone(core) {
            self.heal.lost.insert(index);
            let text = format!("entry {index} is damaged and there is no other replica to heal it");
            core.log_of(self.id, LogLevel::Error, text);
            return;
        }
        self.heal.damaged.insert(index);
        let text = format!("entry {index} is damaged; asking another replica for it");
        core.log_of(self.id, LogLevel::Error, text);
        self.heal.ask_at = Some(now.us);
        self.fence(core);
        core.dirty.insert(self.id);
    }

    /// Restored, whole, and voting.
    pub(super) fn is_settled(&self) -> bool {
        let votes = self.node.as_ref().is_some_and(|node| !node.status().voteless);
        matches!(self.phase, Phase::Running) && votes && self.heal.is_whole()
    }

    /// Tells raft whether this replica may vote and lead.
    pub(super) fn fence(&mut self, core: &mut Core) {
        let damaged = !self.heal.is_whole();
        if let Some(node) = self.node.as_mut() {
            node.fence(damaged);
            core.dirty.insert(self.id);
        }
    }

    /// A read of the machine's met damage: it is answered when the entry is healed, or given up.
    pub(super) fn await_healing(&mut self, core: &mut Core, now: Now, index: u64, token: ReadToken) {
        self.damaged(core, now, index);
        if self.heal.damaged.contains(&index) && self.heal.waiting.len() < HEAL_ENTRIES_MAX {
            self.heal.waiting.push((index, token, now.us + HEAL_WAIT_US));
            core.dirty.insert(self.id);
            return;
        }
        core.output(GroupOutput::Read { token, group: self.id, index, result: Err(ReadGone::Damaged) });
    }

    /// Asks the next member, and gives up reads that have waited too long.
    pub(super) fn heal_on(&mut self, core: &mut Core, now: Now) {
        let (group, late) = (self.id, |waiting: &(u64, ReadToken, u64)| now.us >= waiting.2);
        for (index, token, _) in self.heal.waiting.iter().filter(|waiting| late(waiting)) {
            let (token, index) = (*token, *index);
            core.output(GroupOutput::Read { token, group, index, result: Err(ReadGone::Damaged) });
        }
        self.heal.waiting.retain(|waiting| !late(waiting));
        if self.heal.ask_at.is_none_or(|at| now.us < at) {
            return;
        }
        self.heal.ask_at = (!self.heal.is_whole()).then_some(now.us + HEAL_RETRY_US);
        let Some(&first) = self.heal.damaged.first() else { return };
        let last = (first..).take_while(|index| self.heal.damaged.contains(index)).last().unwrap_or(first);
        let me = core.server();
        // The members may be others by now than this log knows.
        let others: Vec<ServerId> = self.who_may_know().into_iter().filter(|id| *id != me).collect();
        if others.is_empty() {
            return;
        }
        for _ in 0..others.len() {
            let to = others[self.heal.asks % others.len()];
            self.heal.asks += 1;
            if core.catchup(to, self.id, self.epoch, CatchupStep::Want { first, last }) {
                return;
            }
        }
    }

    pub(super) fn all_members(&self) -> Vec<ServerId> {
        let members = match (&self.node, &self.phase) {
            (Some(node), _) => node.membership().members(),
            (None, Phase::Reading(restore)) => restore.members().members(),
            _ => Vec::new(),
        };
        members.into_iter().map(server).collect()
    }

    /// What is surely committed, as far as this replica can tell.
    fn known_commit(&self) -> u64 {
        match (&self.node, &self.phase) {
            (Some(node), _) => node.commit(),
            (None, Phase::Reading(restore)) => restore.committed(),
            _ => 0,
        }
    }

    /// A peer lost these entries: it gets what is committed and intact here, a chunk at a time; or the word that there is
    /// nothing, from a leader that knows.
    pub(super) fn on_want(&mut self, core: &mut Core, to: ServerId, first: u64, last: u64) {
        if self.told.0 && self.node.as_ref().is_some_and(|node| node.last_index() < first) {
            core.catchup(to, self.id, self.epoch, CatchupStep::Have { entries: Vec::new() });
            return;
        }
        let last = last.min(self.known_commit()).min(first.saturating_add(HEAL_ENTRIES_MAX as u64));
        if first == 0 || first > last {
            return;
        }
        match self.fetch(core, first, last, GROUP_READ_BYTES_MAX) {
            Fetch::Ready(list) => self.give(core, to, Ok(list)),
            Fetch::Pending(ticket) => {
                core.reads.insert(ticket, (self.id, Reader::Want(to)));
            }
            Fetch::Missing | Fetch::Damaged(_) | Fetch::Busy => {}
        }
    }

    pub(super) fn give(&mut self, core: &mut Core, to: ServerId, result: ReadOutcome) {
        let commit = self.known_commit();
        let Ok(list) = result else { return };
        let entries: Vec<CatchupEntry> = list
            .into_iter()
            .filter(|stored| stored.index <= commit)
            .map(|Stored { index, term, body }| CatchupEntry { term, index, body })
            .collect();
        if !entries.is_empty() {
            core.catchup(to, self.id, self.epoch, CatchupStep::Have { entries });
        }
    }

    /// A peer gave entries back.
    pub(super) fn on_have(&mut self, core: &mut Core, now: Now, entries: Vec<CatchupEntry>) {
        if self.ends_before_damage(core, &entries) {
            return self.cut_damaged(core, now);
        }
        let commit = self.known_commit();
        let mut healed = 0;
        for CatchupEntry { term, index, body } in entries {
            let known = core.disk.term(self.id, index);
            let same = known.map_or(index <= commit, |known| known == term);
            let sound = Header::decode(&body).is_some_and(|header| header.machine == self.kind);
            if !self.heal.damaged.contains(&index) || !sound || !same {
                continue;
            }
            let stored = Stored { index, term, body };
            if core.disk.heal(self.id, self.epoch, &stored).is_ok() {
                healed += 1;
                self.heal.damaged.remove(&index);
                self.answer_waiting(core, index, payload(&stored.body));
            }
        }
        if healed == 0 {
            return;
        }
        core.log_of(self.id, LogLevel::Info, format!("{healed} damaged entries healed from another replica"));
        self.heal.ask_at = (!self.heal.is_whole()).then_some(now.us);
        if self.heal.is_whole() {
            self.fence(core);
        }
        if matches!(self.phase, Phase::Reading(_)) {
            core.busy.insert(self.id);
        }
        core.dirty.insert(self.id);
    }

    /// Whether the damaged entry at which the reading of the log stands was never committed.
    fn ends_before_damage(&self, core: &mut Core, entries: &[CatchupEntry]) -> bool {
        let Some(at) = self.uncommitted_read().filter(|at| self.heal.damaged.contains(at)) else { return false };
        let mine = core.disk.term(self.id, at);
        let other = |entry: &CatchupEntry| entry.index == at && mine.is_some_and(|term| term != entry.term);
        entries.is_empty() || entries.iter().any(other)
    }

    fn answer_waiting(&mut self, core: &mut Core, index: u64, body: Bytes) {
        let group = self.id;
        self.heal.waiting.retain(|(waits, token, _)| {
            if *waits == index {
                core.output(GroupOutput::Read { token: *token, group, index, result: Ok(body.clone()) });
            }
            *waits != index
        });
    }
}
