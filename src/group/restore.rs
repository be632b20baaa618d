//! Reading a group back from the core's log: at start, and after a catch-up has replaced its state.
//!
//! ```text
//!   checkpoint ──► entries above it (they become raft's log) ──► entries below it (a stream's messages) ──► run
//!        Restore              RestoreEntry ...                         RestoreEntry ...                  Restored
//! ```
//!
//! One chunk per group and turn, so memory stays bounded however long the log is; a group neither votes nor leads until
//! it is read. What is surely committed is applied without waiting for a leader: the checkpoint, what commit stamps
//! cover, and everything if the replica is its group's only voter.
//!
//! Damage: an entry that cannot be read is asked back from the other members, and the reading waits for it. Where it
//! cannot be told what the entry was, the log ends before it, and the replica counts as one that has forgotten. A
//! group's only replica has nobody to ask: a message below the checkpoint is reported and left out; anything else closes
//! the group, because replaying past a hole would invent a history.

use bytes::{Bytes, BytesMut};
use raft::{Entry, EntryKind, HardState, Membership, NodeId};

use super::body::{Header, Note, Parts, Tag, payload};
use super::core::{Core, Reader};
use super::log::{Fetch, ReadTicket, Stored};
use super::output::{GroupOutput, LogLevel};
use super::replica::{Phase, ReadOutcome, Replica, node_id};
use super::spec::Anew;
use super::spec::GroupSpec;
use super::states::part_kind;
use crate::ids::{Now, ServerId};
use crate::limits::GROUP_READ_BYTES_MAX;

/// When a read is tried again that the log was too busy for, microseconds: a few device reads later.
const BUSY_RETRY_US: u64 = 2_000;

/// What has been read so far.
pub(super) struct Restore {
    part: Part,
    hard: HardState,
    membership: Membership,
    snapshot: (u64, u64),
    /// Of a state in parts: where they are, and what has been read of them.
    parts: Parts,
    parts_read: usize,
    state: BytesMut,
    entries: Vec<Entry>,
    committed: u64,
    /// Entries above belong to a catch-up that never ended.
    own_last: u64,
    next: u64,
    last: u64,
    ticket: Option<ReadTicket>,
    voteless: bool,
    votes_lost: bool,
    /// Who belonged to the group as of an index, which may not be read yet.
    noted: Option<(u64, Membership)>,
    /// After a catch-up: the node exists and is told at the end.
    installing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Checkpoint,
    /// The parts of its state.
    State,
    /// Above the checkpoint, in order and without a gap.
    Log,
    /// Below it, with gaps.
    Rest,
}

impl Restore {
    fn new(hard: HardState) -> Restore {
        Restore {
            part: Part::Checkpoint,
            hard,
            membership: Membership::default(),
            snapshot: (0, 0),
            parts: Parts::default(),
            parts_read: 0,
            state: BytesMut::new(),
            entries: Vec::new(),
            committed: 0,
            own_last: u64::MAX,
            next: 0,
            last: 0,
            ticket: None,
            voteless: false,
            votes_lost: false,
            noted: None,
            installing: false,
        }
    }

    /// The members as of the end of what was read, or as of what is known to have come later.
    pub fn members(&self) -> &Membership {
        let read = self.entries.last().map_or(self.snapshot.0, |entry| entry.index);
        if let Some((_, noted)) = self.noted.as_ref().filter(|(index, _)| *index >= read) {
            return noted;
        }
        let newest = self.entries.iter().rev().find_map(|entry| match &entry.kind {
            EntryKind::Membership(membership) => Some(membership.as_ref()),
            _ => None,
        });
        newest.unwrap_or(&self.membership)
    }

    /// Known committed so far.
    pub fn committed(&self) -> u64 {
        self.committed.max(self.snapshot.0)
    }
}

impl Replica {
    /// Starts a group that the log knows nothing of.
    pub(super) fn create(&mut self, core: &mut Core, now: Now, spec: &GroupSpec) {
        let me = node_id(core.server());
        let voters: Vec<NodeId> = spec.bootstrap.iter().flatten().copied().map(node_id).collect();
        let membership = Membership::of(voters).unwrap_or_default();
        // One in memory that restarted may not know yet that it has company.
        let alone = membership.voters == [me] && !(self.mem.is_some() && spec.forgetful);
        let mut restore = Restore::new(HardState { epoch: self.epoch, ..HardState::default() });
        // Who is called into a group that exists may have had a vote there in an earlier life.
        restore.voteless = (spec.forgetful || spec.bootstrap.is_none()) && !alone;
        restore.votes_lost = restore.voteless;
        restore.membership = membership.clone();
        if self.mem.is_none() {
            let note = Note::new(self.kind, super::replica::encoded(&membership).into(), Bytes::new());
            // Before any vote in the same log, so durable before any vote. A full store still has room for votes, and a
            // group without its descriptor is described by its entries.
            let _ = core.disk.append_descriptor(self.id, self.epoch, &note);
            if restore.voteless {
                self.note_forgotten(core);
            }
        }
        let first = spec.bootstrap.as_ref().and_then(|servers| servers.first()) == Some(&core.server());
        let stands = first && !alone && !restore.voteless;
        core.output(GroupOutput::Restore { group: self.id, checkpoint: None });
        self.start(core, now, restore);
        // Nobody can lead a group that is new for everybody; one stands at once instead of all after a timeout.
        if stands && let Some(node) = self.running() {
            node.campaign(now.us);
        }
    }

    /// Starts reading a group that recovery found.
    pub(super) fn recover(&mut self, core: &mut Core, now: Now) {
        let facts = core.disk.facts(self.id);
        self.epoch = facts.hard.epoch.max(1);
        let mut restore = Restore::new(facts.hard);
        restore.votes_lost = facts.damaged || facts.forgotten || core.doubt;
        restore.voteless = restore.votes_lost;
        if let Some((own_last, index)) = facts.marker {
            self.marked = Some(index);
            restore.own_last = own_last;
        }
        restore.noted = facts.members;
        self.noted = restore.noted.as_ref().map(|(_, members)| members.clone());
        if let Some(note) = &facts.descriptor {
            restore.membership = Membership::decode(&note.membership).unwrap_or_default();
        }
        self.forgotten = facts.forgotten;
        if facts.damaged {
            self.note_forgotten(core);
            self.notes_damaged = true;
        }
        self.phase = Phase::Reading(Box::new(restore));
        core.busy.insert(self.id);
        self.read_on(core, now);
    }

    /// After a catch-up: reads the new state for the machine. Its checkpoint is the newest one in the log.
    pub(super) fn reread(&mut self, core: &mut Core, now: Now, index: u64, term: u64, note: &Note) {
        let mut restore = Restore::new(HardState::default());
        restore.installing = true;
        restore.snapshot = (index, term);
        restore.committed = index;
        restore.membership = Membership::decode(&note.membership).unwrap_or_default();
        core.output(GroupOutput::Install { group: self.id, index, checkpoint: note.state.clone() });
        let (first, _) = self.bounds(core).unwrap_or((1, 0));
        (restore.part, restore.next, restore.last) = (Part::Rest, first, index);
        self.phase = Phase::Reading(Box::new(restore));
        core.busy.insert(self.id);
        self.read_on(core, now);
    }

    pub(super) fn bounds(&self, core: &mut Core) -> Option<(u64, u64)> {
        match &self.mem {
            Some(mem) => mem.bounds(),
            None => core.disk.bounds(self.id),
        }
    }

    /// Reads the next chunk. Called once per turn while there is something to read.
    pub(super) fn read_on(&mut self, core: &mut Core, now: Now) {
        let Phase::Reading(restore) = &mut self.phase else {
            core.busy.remove(&self.id);
            return;
        };
        if restore.ticket.is_some() || !self.heal.is_whole() {
            core.busy.remove(&self.id);
            return;
        }
        let Restore { part, next, last, parts, parts_read, .. } = **restore;
        let fetched = match part {
            Part::Checkpoint => core.disk.checkpoint(self.id),
            Part::State => core.disk.state_part(self.id, part_kind(parts.bank, parts_read)),
            _ if next > last => return self.next_part(core, now),
            _ => match &self.mem {
                Some(mem) => Fetch::Ready(mem.range(next, last, GROUP_READ_BYTES_MAX)),
                None => core.disk.read(self.id, next, last, GROUP_READ_BYTES_MAX),
            },
        };
        match fetched {
            Fetch::Ready(list) => self.read_chunk(core, now, list),
            Fetch::Missing => self.read_chunk(core, now, Vec::new()),
            Fetch::Pending(ticket) => {
                core.reads.insert(ticket, (self.id, Reader::Restore));
                if let Phase::Reading(restore) = &mut self.phase {
                    restore.ticket = Some(ticket);
                }
                core.busy.remove(&self.id);
            }
            Fetch::Damaged(index) => self.read_damaged(core, now, index),
            Fetch::Busy => {
                core.busy.remove(&self.id);
                self.again_at = Some(now.us + BUSY_RETRY_US);
                core.dirty.insert(self.id);
            }
        }
    }

    pub(super) fn restore_read(&mut self, core: &mut Core, now: Now, ticket: ReadTicket, result: ReadOutcome) {
        let Phase::Reading(restore) = &mut self.phase else { return };
        if restore.ticket != Some(ticket) {
            return;
        }
        restore.ticket = None;
        core.busy.insert(self.id);
        match result {
            Ok(list) => self.read_chunk(core, now, list),
            Err(index) => self.read_damaged(core, now, index),
        }
    }

    fn read_chunk(&mut self, core: &mut Core, now: Now, list: Vec<Stored>) {
        let Phase::Reading(restore) = &mut self.phase else { return };
        match restore.part {
            Part::Checkpoint => self.read_checkpoint(core, now, list.into_iter().next()),
            Part::State => self.read_part(core, now, list.into_iter().next()),
            Part::Log => self.read_log(core, now, list),
            Part::Rest => {
                if list.is_empty() {
                    restore.next = restore.last + 1;
                }
                for stored in list {
                    restore.next = stored.index + 1;
                    show(core, self.id, &stored);
                }
            }
        }
    }

    fn read_checkpoint(&mut self, core: &mut Core, now: Now, stored: Option<Stored>) {
        let Phase::Reading(restore) = &mut self.phase else { return };
        let Some(stored) = stored else {
            core.find_parts(self.id, Parts::default());
            return self.begin_log(core, None);
        };
        let Some(note) = Note::decode(&stored.body) else { return self.read_damaged(core, now, stored.index) };
        restore.snapshot = (stored.index, stored.term);
        restore.membership = Membership::decode(&note.membership).unwrap_or_default();
        core.find_parts(self.id, note.parts);
        if note.parts.count == 0 {
            return self.begin_log(core, Some(note.state));
        }
        (restore.parts, restore.part) = (note.parts, Part::State);
    }

    /// One part of the state, which must be of the checkpoint that names it.
    fn read_part(&mut self, core: &mut Core, now: Now, stored: Option<Stored>) {
        let Phase::Reading(restore) = &mut self.phase else { return };
        let Some(part) = stored.filter(|part| (part.index, part.term) == restore.snapshot) else {
            let index = restore.snapshot.0;
            return self.read_damaged(core, now, index);
        };
        restore.state.extend_from_slice(&part.body);
        restore.parts_read += 1;
        if restore.parts_read == usize::from(restore.parts.count) {
            let state = std::mem::take(&mut restore.state).freeze();
            self.begin_log(core, Some(state));
        }
    }

    /// The checkpoint is known, or there is none: what stands above it follows.
    fn begin_log(&mut self, core: &mut Core, checkpoint: Option<Bytes>) {
        let bounds = self.bounds(core);
        let Phase::Reading(restore) = &mut self.phase else { return };
        restore.committed = restore.snapshot.0;
        restore.part = Part::Log;
        restore.next = restore.snapshot.0 + 1;
        if self.marked.is_some_and(|index| restore.snapshot.0 >= index) {
            (self.marked, restore.own_last) = (None, u64::MAX);
        }
        restore.last = bounds.map_or(0, |(_, last)| last).min(restore.own_last);
        self.retain.restart(restore.snapshot.0, checkpoint.as_ref().map_or(0, Bytes::len));
        core.output(GroupOutput::Restore { group: self.id, checkpoint });
    }

    fn read_log(&mut self, core: &mut Core, now: Now, list: Vec<Stored>) {
        let Phase::Reading(restore) = &mut self.phase else { return };
        let mut hole = list.is_empty();
        for stored in list {
            let before = restore.entries.last().map_or(restore.snapshot.1, |entry| entry.term);
            let entry = entry_of(&stored).filter(|entry| entry.index == restore.next && entry.term >= before);
            let Some((entry, stamp)) = entry.zip(Header::decode(&stored.body).map(|header| header.stamp)) else {
                hole = true;
                break;
            };
            restore.next += 1;
            restore.committed = restore.committed.max(stamp.min(stored.index - 1));
            restore.entries.push(entry);
            self.retain.appended(stored.body.len());
            show(core, self.id, &stored);
        }
        if hole {
            self.cut(core, now);
        }
    }

    /// The log has a hole before `next`: it ends there.
    fn cut(&mut self, core: &mut Core, now: Now) {
        let alone = self.is_alone(core);
        let Phase::Reading(restore) = &mut self.phase else { return };
        let from = restore.next;
        restore.last = from - 1;
        // Entries of an unfinished catch-up were never this replica's log.
        if restore.own_last != u64::MAX && from > restore.own_last {
            return;
        }
        if alone {
            return self.close_damaged(core, now, format!("entry {from} is lost and there is no other replica"));
        }
        (restore.voteless, restore.committed) = (true, restore.committed.min(from - 1));
        core.log_of(
            self.id,
            LogLevel::Error,
            format!("entry {from} is lost; its log ends before it until the leader has sent the rest"),
        );
        self.note_forgotten(core);
        let _ = core.disk.truncate(self.id, from);
    }

    /// Where the reading of the log stands, unless that is known to be committed.
    pub(super) fn uncommitted_read(&self) -> Option<u64> {
        let Phase::Reading(restore) = &self.phase else { return None };
        (restore.part == Part::Log && restore.next > restore.committed()).then_some(restore.next)
    }

    /// The damaged entry at which the reading stands was never committed: the log ends before it.
    pub(super) fn cut_damaged(&mut self, core: &mut Core, now: Now) {
        let Phase::Reading(restore) = &self.phase else { return };
        self.heal.truncated(restore.next);
        self.cut(core, now);
        core.busy.insert(self.id);
        core.dirty.insert(self.id);
    }

    /// The entry at `index`, or the checkpoint, cannot be read.
    fn read_damaged(&mut self, core: &mut Core, now: Now, index: u64) {
        let alone = self.is_alone(core);
        let known = core.disk.term(self.id, index).is_some();
        let Phase::Reading(restore) = &mut self.phase else { return };
        match restore.part {
            Part::Checkpoint | Part::State if alone => {
                self.close_damaged(core, now, "its checkpoint is damaged and there is no other replica".into());
            }
            Part::Checkpoint | Part::State => self.start_over(core),
            Part::Log if alone => {
                let why = format!("entry {index} is damaged and there is no other replica");
                self.close_damaged(core, now, why);
            }
            Part::Log if !known => {
                restore.next = index;
                self.cut(core, now);
            }
            Part::Rest if alone => {
                restore.next = index + 1;
                self.damaged(core, now, index);
            }
            Part::Log | Part::Rest => {
                restore.next = index;
                self.damaged(core, now, index);
            }
        }
    }

    /// The state is lost: what remains of the log has no beginning. The leader sends everything.
    fn start_over(&mut self, core: &mut Core) {
        core.log_of(
            self.id,
            LogLevel::Error,
            "its checkpoint is damaged; everything is asked from the leader again".into(),
        );
        let _ = core.disk.truncate(self.id, 1);
        self.note_forgotten(core);
        let Phase::Reading(restore) = &mut self.phase else { return };
        restore.voteless = true;
        restore.snapshot = (0, 0);
        self.begin_log(core, None);
    }

    /// Whether nobody else has this group's entries.
    pub(super) fn is_alone(&self, core: &Core) -> bool {
        let me = node_id(core.server());
        let alone = |membership: &Membership| membership.members() == [me];
        match (&self.node, &self.phase) {
            (Some(node), _) => alone(node.membership()),
            (None, Phase::Reading(restore)) => alone(restore.members()),
            _ => false,
        }
    }

    fn close_damaged(&mut self, core: &mut Core, _now: Now, why: String) {
        let advice = "restore its store from a backup, or delete it and make it anew";
        core.log_of(self.id, LogLevel::Error, format!("{why}; it stays closed, {advice}"));
        self.closed = Some(why);
        self.phase = Phase::Closed;
        core.busy.remove(&self.id);
    }

    fn next_part(&mut self, core: &mut Core, now: Now) {
        let first = self.bounds(core).map_or(1, |(first, _)| first);
        let alone = self.is_alone(core);
        let Phase::Reading(restore) = &mut self.phase else { return };
        if restore.part == Part::Log {
            if alone {
                restore.committed = restore.next - 1;
            }
            restore.part = Part::Rest;
            (restore.next, restore.last) = (first, restore.snapshot.0);
            return;
        }
        let Phase::Reading(restore) = std::mem::replace(&mut self.phase, Phase::Running) else { return };
        core.busy.remove(&self.id);
        if restore.installing {
            self.installed(core, now, *restore);
        } else {
            self.start(core, now, *restore);
        }
    }

    /// A membership that is committed is noted, once: a replica whose log is damaged must know whom to ask, and that it is
    /// not alone, before it has read the change.
    pub(super) fn note_members(&mut self, core: &mut Core) {
        let Some(node) = self.node.as_ref().filter(|_| self.unsettled && self.mem.is_none()) else { return };
        if node.membership_at(self.commit) != Some(node.membership()) {
            return;
        }
        self.unsettled = false;
        if self.noted.as_ref() != Some(node.membership()) {
            self.noted = Some(node.membership().clone());
            // Without room for it a start knows what the log says.
            let _ = core.disk.append_members(self.id, self.epoch, self.commit, node.membership());
        }
    }

    /// Everything is read: the node begins.
    fn start(&mut self, core: &mut Core, now: Now, restore: Restore) {
        let alone = self.mem.is_none() && restore.members().members() == [node_id(core.server())];
        let last = restore.entries.last().map_or(restore.snapshot.0, |entry| entry.index);
        let committed = restore.committed();
        let timing = core.timing(0);
        let options = raft::Options {
            election_timeout_us: timing.election_us,
            heartbeat_us: timing.heartbeat_us,
            preference: if self.priority_low { raft::Preference::Averse } else { raft::Preference::Neutral },
            ..raft::Options::new(node_id(core.server()), self.epoch, self.seed(core))
        };
        let restored = raft::Restore {
            hard: restore.hard,
            membership: restore.membership,
            snapshot: restore.snapshot,
            entries: restore.entries,
            commit: committed,
            applied: committed,
            voteless: restore.voteless && !alone,
            votes_lost: restore.votes_lost && !alone,
        };
        self.commit = committed;
        (self.retain.applied, self.retain.durable) = (committed, last);
        match raft::Node::new(options, restored, now.us) {
            Ok(node) => self.node = Some(Box::new(node)),
            Err(error) => {
                return self.close_damaged(core, now, format!("its log contradicts itself ({error:?})"));
            }
        }
        self.phase = Phase::Running;
        if std::mem::take(&mut self.notes_damaged) {
            self.renew_notes(core);
        }
        if alone && std::mem::take(&mut self.forgotten) {
            // Nobody else can tell it that it is whole.
            let _ = core.disk.append_forgotten(self.id, self.epoch, Some(last));
        }
        core.output(GroupOutput::Restored { group: self.id, committed });
        self.fence(core);
        self.follow_members(core, now);
        core.dirty.insert(self.id);
    }

    fn installed(&mut self, core: &mut Core, now: Now, restore: Restore) {
        let (index, term) = restore.snapshot;
        core.output(GroupOutput::Restored { group: self.id, committed: index });
        let Some(node) = self.node.as_mut() else { return };
        node.install_snapshot(now.us, index, term, restore.membership);
        self.commit = index;
        self.receiver_done(core);
        self.follow_members(core, now);
        core.dirty.insert(self.id);
    }

    /// Differs for every group and every start.
    pub(super) fn seed(&self, core: &Core) -> u64 {
        super::mix(core.options.seed ^ super::mix(self.id.0 ^ super::mix(core.options.boot ^ core.options.server.0)))
    }

    fn note_forgotten(&mut self, core: &mut Core) {
        if self.mem.is_none() && !std::mem::replace(&mut self.forgotten, true) {
            let _ = core.disk.append_forgotten(self.id, self.epoch, None);
        }
    }

    /// See `Groups::set_anew`. What is told again and again changes nothing.
    pub(super) fn set_anew(&mut self, anew: Option<Anew>) {
        if self.anew == anew {
            return;
        }
        let members = |anew: &Anew| {
            let ids = |servers: &[ServerId]| servers.iter().copied().map(node_id).collect();
            raft::Membership::new(ids(&anew.voters), Vec::new(), ids(&anew.former)).ok()
        };
        let told = anew.as_ref().and_then(|anew| Some(raft::Anew { members: members(anew)?, stamp: anew.stamp }));
        self.anew = anew;
        if let Some(node) = self.node.as_mut() {
            node.set_anew(told);
        }
    }

    /// It leads though a majority restarted: everybody agreed that nobody knows more.
    pub(super) fn began_anew(&mut self, core: &mut Core) {
        // The only copy in memory is gone with each restart: no news.
        if self.is_alone(core) {
            return;
        }
        let text = format!(
            "a majority of its replicas restarted, and it is kept in memory; it goes on with what this replica \
             has, up to {}: what only the others had is lost",
            self.commit
        );
        core.log_of(self.id, LogLevel::Warn, text);
    }

    /// The leader has confirmed that nothing forgotten is missing.
    pub(super) fn remembered(&mut self, core: &mut Core) {
        let upto = self.node.as_ref().map_or(0, |node| node.last_index());
        if self.mem.is_none() && std::mem::take(&mut self.forgotten) {
            let _ = core.disk.append_forgotten(self.id, self.epoch, Some(upto));
        }
        core.output(GroupOutput::Whole { group: self.id, upto });
        core.log_of(self.id, LogLevel::Info, "this replica is whole again and votes".into());
    }
}

/// Hands an entry to the machine, if it is one of its own.
fn show(core: &mut Core, group: crate::ids::GroupId, stored: &Stored) {
    if Header::decode(&stored.body).is_some_and(|header| header.tag.is_data()) {
        core.output(GroupOutput::RestoreEntry { group, index: stored.index, body: payload(&stored.body) });
    }
}

/// What raft remembers of a stored entry.
fn entry_of(stored: &Stored) -> Option<Entry> {
    let (len, kind) = match Header::decode(&stored.body)?.tag {
        Tag::Data | Tag::Relief => (stored.body.len(), EntryKind::Data),
        Tag::Noop => (0, EntryKind::Noop),
        Tag::Membership => {
            let bytes = payload(&stored.body);
            (bytes.len(), EntryKind::Membership(Box::new(Membership::decode(&bytes).ok()?)))
        }
    };
    Some(Entry { term: stored.term, index: stored.index, len: len as u32, kind })
}
