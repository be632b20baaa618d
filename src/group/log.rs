//! The one place where raft and storage meet: raft's entries and states become records of the core's log, and back.
//!
//! ```text
//!   ENTRY        index, term, epoch      body (see body.rs), the same bytes on every replica
//!   HARD_STATE   term, epoch             vote
//!   CHECKPOINT   index, term             membership as of the index, the machine's state
//!   descriptor   local 0                 kind of machine, the voters it was created with
//!   marker       local 1                 a catch-up is under way: entries above `own_last` are not the log yet
//!   forgotten    local 2                 1: this replica must not vote until it is caught up; 0, index: it was, with this entry
//!   members      local 4, index          the membership that was in force, and committed, as of the index
//!   part         local 16 to 191         a piece of a state that is too large for one record (see states.rs)
//! ```
//!
//! Everything durable is told by log sequence number ([`Disk::durable`]); which group waits for which number is the
//! turn's business.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::{HardState, Membership, NodeId};
pub(super) use storage::Claim;
use storage::options::{SEGMENT_BYTES_MIN, record_bytes_max};
use storage::{AppendError, DiskDone, DiskOp, Log, LogEvent, ReadResult, Record, RecordKind, Recovery};

use super::body::Note;
use super::output::RecoveredGroup;
use super::replica::encoded;
use super::states::Checkpoint;
use crate::ids::GroupId;
use crate::limits::ENTRY_BYTES_MAX;

pub(super) use storage::ReadTicket;

/// A gathered entry, with what machines and groups put around it, is no larger than the smallest log takes.
const _: () = assert!(ENTRY_BYTES_MAX + 4096 <= record_bytes_max(SEGMENT_BYTES_MIN));

pub(super) const DESCRIPTOR: RecordKind = RecordKind::local(0);
pub(super) const MARKER: RecordKind = RecordKind::local(1);
pub(super) const FORGOTTEN: RecordKind = RecordKind::local(2);
/// Of the whole core; stands under the meta group.
pub(super) const ACTED: RecordKind = RecordKind::local(3);
pub(super) const MEMBERS: RecordKind = RecordKind::local(4);

/// An entry as it stands in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub index: u64,
    pub term: u64,
    pub body: Bytes,
}

/// The answer to a read of entries.
#[derive(Debug)]
pub(super) enum Fetch {
    Ready(Vec<Stored>),
    Pending(ReadTicket),
    Missing,
    Damaged(u64),
    Busy,
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoom {
    Full,
    Busy,
    TooLarge,
    Broken,
}

/// What the disk tells the groups.
#[derive(Debug)]
pub(super) enum DiskEvent {
    /// The log is open. `doubt`: something is damaged that might have been any group's.
    Recovered {
        groups: Vec<RecoveredGroup>,
        doubt: Vec<u32>,
        texts: Vec<String>,
    },
    /// The log cannot be opened.
    Refused(String),
    /// More is on disk than before: see [`Disk::durable`].
    Durable,
    Read {
        ticket: ReadTicket,
        result: Result<Vec<Stored>, u64>,
    },
    SpaceLow,
    SpaceBack,
    Damaged {
        group: Option<GroupId>,
        kind: Option<RecordKind>,
        entries: Option<(u64, u64)>,
        text: String,
    },
    Broken(String),
}

/// What a group's own records say when it is opened.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub hard: HardState,
    pub descriptor: Option<Note>,
    /// (own_last, index) of a catch-up that was under way.
    pub marker: Option<(u64, u64)>,
    pub forgotten: bool,
    /// Who belonged to the group as of an index.
    pub members: Option<(u64, Membership)>,
    /// Some record of these is there and unreadable: votes may be forgotten.
    pub damaged: bool,
}

enum State {
    Opening(Box<Recovery>),
    Open(Box<Log>),
    Refused,
}

/// The core's log while it is opened and after.
pub(super) struct Disk {
    state: State,
    seen: BTreeMap<GroupId, RecoveredGroup>,
    /// Operations of the recovery.
    ops: VecDeque<DiskOp>,
    record_bytes_max: usize,
}

impl Disk {
    pub fn new(mut options: storage::StoreOptions) -> Disk {
        // Bodies below a checkpoint are read when their group is opened, a bounded chunk at a time.
        options.replay = storage::Replay::AfterCheckpoint;
        let record_bytes_max = storage::options::record_bytes_max(options.segment_bytes);
        let state = State::Opening(Box::new(Recovery::new(options)));
        let mut disk = Disk { state, seen: BTreeMap::new(), ops: VecDeque::new(), record_bytes_max };
        disk.look();
        disk
    }

    /// Largest body of one record.
    pub fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    pub fn poll_op(&mut self) -> Option<DiskOp> {
        match &mut self.state {
            State::Open(log) => log.poll_op(),
            State::Opening(_) | State::Refused => self.ops.pop_front(),
        }
    }

    pub fn on_done(&mut self, done: DiskDone) {
        match &mut self.state {
            State::Opening(recovery) => recovery.on_done(done),
            State::Open(log) => log.on_done(done),
            State::Refused => {}
        }
    }

    /// Drain after every batch of calls.
    pub fn poll_event(&mut self) -> Option<DiskEvent> {
        if let State::Opening(_) = self.state {
            return self.opening();
        }
        let event = self.log()?.poll_event()?;
        match event {
            LogEvent::Durable(_) => Some(DiskEvent::Durable),
            LogEvent::Read { ticket, result } => {
                let result = result.map(stored_list).map_err(|storage::ReadError::Damaged { index }| index);
                Some(DiskEvent::Read { ticket, result })
            }
            LogEvent::SpaceLow => Some(DiskEvent::SpaceLow),
            LogEvent::SpaceBack => Some(DiskEvent::SpaceBack),
            LogEvent::Damaged(damage) => Some(damage_event(&damage)),
            LogEvent::Broken { why } => Some(DiskEvent::Broken(why)),
            LogEvent::Sealed { .. } => self.poll_event(),
        }
    }

    /// Takes what recovery hands out and what it asks for, until it waits for the disk or is done.
    fn look(&mut self) {
        let State::Opening(recovery) = &mut self.state else { return };
        loop {
            let mut moved = false;
            while let Some(item) = recovery.poll_item() {
                moved = true;
                let group = GroupId(item.record.group.0);
                let found = RecoveredGroup { group, kind: None, last_index: 0, damaged: false, past: 0 };
                let found = self.seen.entry(group).or_insert(found);
                if item.record.kind == DESCRIPTOR {
                    found.kind = Note::decode(&item.record.body).map(|note| note.machine);
                }
            }
            while let Some(op) = recovery.poll_op() {
                moved = true;
                self.ops.push_back(op);
            }
            if !moved {
                return;
            }
        }
    }

    fn opening(&mut self) -> Option<DiskEvent> {
        self.look();
        let State::Opening(recovery) = &mut self.state else { return None };
        match recovery.poll_finished()? {
            Ok((log, report)) => {
                let mut groups = std::mem::take(&mut self.seen);
                for found in groups.values_mut() {
                    let bounds = log.bounds(storage::GroupId(found.group.0));
                    found.last_index = bounds.map_or(0, |(_, last)| last);
                }
                for damage in &report.damaged {
                    if let Some(found) = damage.group.and_then(|group| groups.get_mut(&GroupId(group.0))) {
                        found.damaged = true;
                    }
                }
                let mut doubt: Vec<u32> =
                    report.damaged.iter().filter(|d| d.group.is_none()).map(|d| d.segment).collect();
                doubt.sort_unstable();
                doubt.dedup();
                self.record_bytes_max = log.record_bytes_max();
                self.state = State::Open(Box::new(log));
                for found in groups.values_mut() {
                    found.past = self.past(found.group);
                }
                let texts = report.damaged.iter().map(|damage| damage.to_string()).collect();
                Some(DiskEvent::Recovered { groups: groups.into_values().collect(), doubt, texts })
            }
            Err(error) => {
                self.state = State::Refused;
                Some(DiskEvent::Refused(format!("the store is refused: {error}; {}", error.advice())))
            }
        }
    }

    fn log(&mut self) -> Option<&mut Log> {
        match &mut self.state {
            State::Open(log) => Some(log),
            _ => None,
        }
    }

    fn append(&mut self, group: GroupId, kind: RecordKind, epoch: u32, term: u64, index: u64, body: Bytes) -> Room {
        let Some(log) = self.log() else { return Err(NoRoom::Broken) };
        let record = Record { group: storage::GroupId(group.0), kind, epoch, term, index, body };
        room(log.append(record))
    }

    pub fn append_entry(&mut self, group: GroupId, epoch: u32, claim: Claim, entry: Stored) -> Room {
        let Some(log) = self.log() else { return Err(NoRoom::Broken) };
        let Stored { index, term, body } = entry;
        let record = Record { group: storage::GroupId(group.0), kind: RecordKind::ENTRY, epoch, term, index, body };
        room(log.append_with(record, claim))
    }

    /// Whether entries with so many bytes would be taken now.
    pub fn has_room(&mut self, bytes: usize, claim: Claim) -> bool {
        self.log().is_some_and(|log| log.has_room(bytes, claim))
    }

    /// Whether what clients store should wait for a segment that is being made.
    pub fn awaits_segment(&mut self, bytes: usize) -> bool {
        self.log().is_some_and(|log| log.awaits_segment(bytes))
    }

    pub fn append_hard(&mut self, group: GroupId, hard: &HardState) -> Room {
        let vote = match hard.vote {
            Some(NodeId(id)) => Bytes::copy_from_slice(&id.to_le_bytes()),
            None => Bytes::new(),
        };
        self.append(group, RecordKind::HARD_STATE, hard.epoch, hard.term, 0, vote)
    }

    pub fn append_checkpoint(&mut self, checkpoint: &Checkpoint) -> Room {
        let Checkpoint { group, epoch, term, index, ref note } = *checkpoint;
        self.append(group, RecordKind::CHECKPOINT, epoch, term, index, note.encode())
    }

    /// A part of a large state.
    pub fn append_part(&mut self, of: &Checkpoint, kind: RecordKind, part: Bytes) -> Room {
        self.append(of.group, kind, of.epoch, of.term, of.index, part)
    }

    /// Lets go of a part, if there is one.
    pub fn empty_part(&mut self, group: GroupId, kind: RecordKind) -> Result<(), NoRoom> {
        match self.part_bytes(group, kind) {
            0 => Ok(()),
            _ => self.append(group, kind, 0, 0, 0, Bytes::new()).map(|_| ()),
        }
    }

    /// Length of a part, 0 without one.
    pub fn part_bytes(&mut self, group: GroupId, kind: RecordKind) -> u32 {
        self.log().and_then(|log| log.latest_bytes(storage::GroupId(group.0), kind)).unwrap_or(0)
    }

    /// Bytes that wait for the disk.
    pub fn unstored(&self) -> usize {
        self.stats().map_or(0, |stats| stats.bytes_unstored as usize)
    }

    pub fn append_descriptor(&mut self, group: GroupId, epoch: u32, note: &Note) -> Room {
        self.append(group, DESCRIPTOR, epoch, 0, 0, note.encode())
    }

    /// Notes that a catch-up to `index` begins, or (`None`) that none is under way.
    pub fn append_marker(&mut self, group: GroupId, epoch: u32, marker: Option<(u64, u64)>) -> Room {
        let (own_last, index) = marker.unwrap_or((0, 0));
        self.append(group, MARKER, epoch, 0, index, Bytes::copy_from_slice(&own_last.to_le_bytes()))
    }

    /// Notes that a replica has forgotten, or (`Some`) that it is whole again with everything up to an entry.
    pub fn append_forgotten(&mut self, group: GroupId, epoch: u32, whole: Option<u64>) -> Room {
        let body = Bytes::copy_from_slice(&[u8::from(whole.is_none())]);
        self.append(group, FORGOTTEN, epoch, 0, whole.unwrap_or(0), body)
    }

    /// See [`RecoveredGroup::past`].
    fn past(&mut self, group: GroupId) -> u64 {
        let mut damaged = false;
        let note = self.small(group, FORGOTTEN, &mut damaged);
        let forgotten = note.as_ref().is_some_and(|note| note.body.first() == Some(&1));
        if damaged || forgotten { u64::MAX } else { note.map_or(0, |note| note.index) }
    }

    /// A change of members is committed: a start may have to know it before it has read so far.
    pub fn append_members(&mut self, group: GroupId, epoch: u32, index: u64, members: &Membership) -> Room {
        self.append(group, MEMBERS, epoch, 0, index, encoded(members).into())
    }

    /// Groups are about to be dropped because the table, as of this index, says so.
    pub fn append_acted(&mut self, table_index: u64) -> Room {
        self.append(GroupId::META, ACTED, 0, 0, table_index, Bytes::new())
    }

    /// The newest table that groups were dropped by.
    pub fn acted(&mut self) -> u64 {
        self.small(GroupId::META, ACTED, &mut false).map_or(0, |record| record.index)
    }

    /// Sequence number of the newest append: "everything so far".
    pub fn appended(&mut self) -> u64 {
        self.log().map_or(0, |log| log.appended().0)
    }

    /// Everything up to this sequence number is on disk.
    pub fn durable(&mut self) -> u64 {
        self.log().map_or(0, |log| log.durable().0)
    }

    pub fn truncate(&mut self, group: GroupId, from: u64) -> Result<(), NoRoom> {
        let Some(log) = self.log() else { return Err(NoRoom::Broken) };
        match log.truncate(storage::GroupId(group.0), from) {
            Ok(_) => Ok(()),
            Err(AppendError::Busy) => Err(NoRoom::Busy),
            Err(AppendError::Full) => Err(NoRoom::Full),
            Err(_) => Err(NoRoom::Broken),
        }
    }

    pub fn release(&mut self, group: GroupId, below: u64) {
        if let Some(log) = self.log() {
            log.release(storage::GroupId(group.0), below);
        }
    }

    pub fn kill(&mut self, group: GroupId, index: u64, bytes: u32) {
        if let Some(log) = self.log() {
            log.kill(storage::GroupId(group.0), index, bytes);
        }
    }

    pub fn drop_group(&mut self, group: GroupId) -> Room {
        let Some(log) = self.log() else { return Err(NoRoom::Broken) };
        log.drop_group(storage::GroupId(group.0)).map(|lsn| lsn.0).map_err(|error| match error {
            AppendError::Full => NoRoom::Full,
            AppendError::Busy => NoRoom::Busy,
            _ => NoRoom::Broken,
        })
    }

    /// First and last live entry.
    pub fn bounds(&mut self, group: GroupId) -> Option<(u64, u64)> {
        self.log()?.bounds(storage::GroupId(group.0))
    }

    pub fn term(&mut self, group: GroupId, index: u64) -> Option<u64> {
        self.log()?.term(storage::GroupId(group.0), index).map(|(term, _)| term)
    }

    /// Length of an entry's body.
    pub fn body_bytes(&mut self, group: GroupId, index: u64) -> Option<usize> {
        self.log()?.body_bytes(storage::GroupId(group.0), index).map(|bytes| bytes as usize)
    }

    pub fn read(&mut self, group: GroupId, from: u64, to: u64, bytes_max: usize) -> Fetch {
        let Some(log) = self.log() else { return Fetch::Missing };
        fetch(log.read(storage::GroupId(group.0), from, to, bytes_max))
    }

    /// The latest checkpoint, as an entry at its index.
    pub fn checkpoint(&mut self, group: GroupId) -> Fetch {
        self.state_part(group, RecordKind::CHECKPOINT)
    }

    /// A part of a large state, as an entry at the checkpoint's index.
    pub fn state_part(&mut self, group: GroupId, kind: RecordKind) -> Fetch {
        let Some(log) = self.log() else { return Fetch::Missing };
        fetch(log.latest(storage::GroupId(group.0), kind))
    }

    /// The small records of a group. They are kept in memory, so this never waits.
    pub fn facts(&mut self, group: GroupId) -> Facts {
        let mut facts = Facts::default();
        if let Some(record) = self.small(group, RecordKind::HARD_STATE, &mut facts.damaged) {
            let vote = record.body.first_chunk::<8>().map(|id| NodeId(u64::from_le_bytes(*id)));
            facts.hard = HardState { epoch: record.epoch, term: record.term, vote };
        }
        if let Some(record) = self.small(group, DESCRIPTOR, &mut facts.damaged) {
            facts.descriptor = Note::decode(&record.body);
        }
        if let Some(record) = self.small(group, MARKER, &mut facts.damaged) {
            let own_last = record.body.first_chunk::<8>().map_or(0, |last| u64::from_le_bytes(*last));
            facts.marker = (record.index > 0).then_some((own_last, record.index));
        }
        // One that is damaged is merely not known.
        if let Some(record) = self.small(group, MEMBERS, &mut false) {
            facts.members = Membership::decode(&record.body).ok().map(|members| (record.index, members));
        }
        if let Some(record) = self.small(group, FORGOTTEN, &mut facts.damaged) {
            facts.forgotten = record.body.first() == Some(&1);
        }
        facts
    }

    fn small(&mut self, group: GroupId, kind: RecordKind, damaged: &mut bool) -> Option<Record> {
        match self.log()?.latest(storage::GroupId(group.0), kind) {
            ReadResult::Ready(records) => records.into_iter().next(),
            ReadResult::Missing => None,
            // Small records are held in memory from recovery on; one that is not was unreadable.
            ReadResult::Pending(_) | ReadResult::Damaged { .. } | ReadResult::Busy => {
                *damaged = true;
                None
            }
        }
    }

    /// Stores a damaged entry again.
    pub fn heal(&mut self, group: GroupId, epoch: u32, entry: &Stored) -> Result<(), NoRoom> {
        let Some(log) = self.log() else { return Err(NoRoom::Broken) };
        let Stored { index, term, ref body } = *entry;
        let record = Record {
            group: storage::GroupId(group.0),
            kind: RecordKind::ENTRY,
            epoch: log.term(storage::GroupId(group.0), index).map_or(epoch, |(_, epoch)| epoch),
            term,
            index,
            body: body.clone(),
        };
        log.heal(record).map(|_| ()).map_err(|_| NoRoom::Full)
    }

    /// Has the next piece of what is stored read and verified. False when everything has been, once around.
    pub fn scrub(&mut self, bytes: usize) -> bool {
        self.log().is_some_and(|log| log.scrub(bytes))
    }

    pub fn retry_space(&mut self) {
        if let Some(log) = self.log() {
            log.retry_space();
        }
    }

    /// Damage in this segment that might have been any group's has been dealt with.
    pub fn clear_damage(&mut self, segment: u32) {
        if let Some(log) = self.log() {
            log.clear_damage(segment);
        }
    }

    pub fn mark(&mut self) {
        if let Some(log) = self.log() {
            log.mark();
        }
    }

    pub fn stats(&self) -> Option<storage::LogStats> {
        match &self.state {
            State::Open(log) => Some(log.stats()),
            _ => None,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }
}

/// The sequence number of what was appended, or why it was not.
type Room = Result<u64, NoRoom>;

fn room(appended: Result<storage::Lsn, AppendError>) -> Room {
    appended.map(|lsn| lsn.0).map_err(|error| match error {
        AppendError::Full => NoRoom::Full,
        AppendError::Busy => NoRoom::Busy,
        AppendError::TooLarge { .. } => NoRoom::TooLarge,
        AppendError::Broken | AppendError::Invalid => NoRoom::Broken,
    })
}

fn stored_list(records: Vec<Record>) -> Vec<Stored> {
    records.into_iter().map(|r| Stored { index: r.index, term: r.term, body: r.body }).collect()
}

fn fetch(result: ReadResult) -> Fetch {
    match result {
        ReadResult::Ready(records) => Fetch::Ready(stored_list(records)),
        ReadResult::Pending(ticket) => Fetch::Pending(ticket),
        ReadResult::Missing => Fetch::Missing,
        ReadResult::Damaged { index } => Fetch::Damaged(index),
        ReadResult::Busy => Fetch::Busy,
    }
}

fn damage_event(damage: &storage::Damage) -> DiskEvent {
    let entries = (damage.kind == Some(RecordKind::ENTRY) && damage.first > 0).then_some((damage.first, damage.last));
    let group = damage.group.map(|group| GroupId(group.0));
    DiskEvent::Damaged { group, kind: damage.kind, entries, text: damage.to_string() }
}
