//! The replica's side of a catch-up; see the parent's head.
//!
//! What arrives is stored under the group's own name with its own index and term. Entries that are here already are not
//! stored again. Until the checkpoint that ends the catch-up is durable, a restart finds the marker and takes the log
//! for what it was before: entries up to `own_last`.

use bytes::{Bytes, BytesMut};
use raft::{Membership, NUMBER_MAX};

use super::super::body::{Header, Note};
use super::super::core::{Awaited, Core};
use super::super::log::{Claim, NoRoom, Stored};
use super::super::mem::MemLog;
use super::super::output::LogLevel;
use super::super::replica::{Phase, Replica};
use super::super::spec::GroupKind;
use super::super::states::Checkpoint;
use super::ALL;
use crate::cluster::wire::{CatchupEntry, CatchupStep};
use crate::ids::{Now, ServerId};
use crate::limits::CATCHUP_STATE_BYTES_MAX;

/// Longest run of missing entries that is looked through for leftovers of the old log. Leftovers of longer ones stay
/// until the machine lets go of everything around them: they cost space, nothing else.
const GAP_MAX: u64 = 1 << 20;

/// One catch-up that this replica receives.
pub(in super::super) struct Receiver {
    from: ServerId,
    session: u64,
    index: u64,
    term: u64,
    membership: Bytes,
    state: BytesMut,
    /// Parts taken, and parts that are durable.
    parts: u32,
    durable: u32,
    /// The last entry taken.
    last: u64,
    first: Option<u64>,
    gaps: Vec<(u64, u64)>,
    /// Where a memory group gathers its entries.
    mem: MemLog,
    ended: bool,
    /// The checkpoint is on its way to the disk, or the machine reads it: no way back.
    completing: bool,
}

/// What `Begin` says.
pub(in super::super) struct Begin {
    pub session: u64,
    pub index: u64,
    pub term: u64,
    pub membership: Bytes,
    pub head: Bytes,
}

impl Replica {
    fn ack(&self, core: &mut Core, to: ServerId, session: u64, part: u32) {
        core.catchup(to, self.id, self.epoch, CatchupStep::Ack { session, part });
    }

    /// Whether raft must not touch the log any more.
    pub(in super::super) fn is_completing(&self) -> bool {
        self.receiver.as_ref().is_some_and(|receiver| receiver.completing)
    }

    pub(in super::super) fn on_begin(&mut self, core: &mut Core, from: ServerId, begin: Begin) {
        if let Some(receiver) = self.receiver.as_ref().filter(|receiver| receiver.is(from, begin.session)) {
            let part = receiver.durable;
            return self.ack(core, from, begin.session, part);
        }
        if !matches!(self.phase, Phase::Running) || !self.writes.is_empty() || self.is_completing() {
            return;
        }
        let Some(node) = self.node.as_deref() else { return };
        // Whoever leads has announced it, and asks again when this was faster.
        let follows = node.leader() == Some(raft::NodeId(from.0)) && begin.term <= node.term();
        if node.is_leader() || !follows || begin.index > NUMBER_MAX || Membership::decode(&begin.membership).is_err() {
            return;
        }
        if !node.wants_snapshot(begin.index, begin.term) {
            return self.ack(core, from, begin.session, ALL);
        }
        let own_last = self.marked.unwrap_or(node.last_index());
        if self.mem.is_none() {
            if core.disk.append_marker(self.id, self.epoch, Some((own_last, begin.index))).is_err() {
                return;
            }
            self.marked = Some(own_last);
        }
        core.log_of(self.id, LogLevel::Info, format!("receiving its state as of entry {}", begin.index));
        self.receiver = Some(Receiver {
            from,
            session: begin.session,
            index: begin.index,
            term: begin.term,
            membership: begin.membership,
            state: BytesMut::from(begin.head.as_ref()),
            parts: 0,
            durable: 0,
            last: 0,
            first: None,
            gaps: Vec::new(),
            mem: MemLog::default(),
            ended: false,
            completing: false,
        });
        self.ack(core, from, begin.session, 0);
    }

    pub(in super::super) fn on_part(
        &mut self,
        core: &mut Core,
        from: ServerId,
        session: u64,
        part: u32,
        entries: Vec<CatchupEntry>,
    ) {
        let Some(mut receiver) = self.receiver.take_if(|receiver| receiver.is(from, session)) else { return };
        if part != receiver.parts + 1 || receiver.completing {
            let durable = receiver.durable;
            self.receiver = Some(receiver);
            return self.ack(core, from, session, durable);
        }
        match self.store(core, &mut receiver, entries) {
            Store::Done => {
                receiver.parts = part;
                let awaited = Awaited::Part { session, part };
                match self.mem {
                    Some(_) => core.memory.push_back((self.id, awaited)),
                    None => {
                        let lsn = core.disk.appended();
                        core.awaited.push_back((lsn, self.id, awaited));
                    }
                }
                self.receiver = Some(receiver);
            }
            // Not acknowledged: the sender asks again.
            Store::NoRoom => self.receiver = Some(receiver),
            Store::Nonsense => {
                core.log_of(self.id, LogLevel::Warn, format!("{from} streams nonsense; dropped"));
                let why = "a part is not what it should be".into();
                core.catchup(from, self.id, self.epoch, CatchupStep::Abort { session, why });
            }
        }
    }

    fn store(&mut self, core: &mut Core, receiver: &mut Receiver, entries: Vec<CatchupEntry>) -> Store {
        let mut last = receiver.last;
        let taken: Vec<u64> = entries.iter().map(|entry| entry.index).filter(|index| *index > 0).collect();
        for CatchupEntry { term, index, body } in entries {
            if index == 0 {
                if receiver.state.len() + body.len() > CATCHUP_STATE_BYTES_MAX {
                    return Store::Nonsense;
                }
                receiver.state.extend_from_slice(&body);
                continue;
            }
            let sound = Header::decode(&body).is_some_and(|header| header.machine == self.kind);
            if index <= last || index > receiver.index || term > receiver.term || !sound {
                return Store::Nonsense;
            }
            if self.mem.is_some() {
                receiver.mem.insert(index, term, body);
            } else if self.store_one(core, receiver.index, term, index, body).is_err() {
                return Store::NoRoom;
            }
            last = index;
        }
        receiver.taken(&taken);
        Store::Done
    }

    /// Puts an entry into the log without touching what is this replica's own, as long as that may count: an entry that
    /// contradicts the own log voids it from there on (what arrives here is committed), and the marker says so first.
    fn store_one(&mut self, core: &mut Core, upto: u64, term: u64, index: u64, body: Bytes) -> Result<(), NoRoom> {
        let own = core.disk.term(self.id, index);
        // Here already, or let go of as of the own checkpoint and so as of any later one.
        if own == Some(term) || own.is_none() && index <= self.retain.checkpoint {
            return Ok(());
        }
        if self.marked.is_some_and(|own_last| index <= own_last) {
            core.disk.append_marker(self.id, self.epoch, Some((index - 1, upto)))?;
            self.marked = Some(index - 1);
        }
        core.disk.append_entry(self.id, self.epoch, Claim::Taught, Stored { index, term, body }).map(|_| ())
    }

    pub(in super::super) fn part_durable(&mut self, core: &mut Core, now: Now, session: u64, part: u32) {
        let Some(receiver) = self.receiver.as_mut().filter(|receiver| receiver.session == session) else { return };
        receiver.durable = receiver.durable.max(part);
        let (from, whole) = (receiver.from, receiver.is_whole());
        self.ack(core, from, session, part);
        if whole {
            self.complete(core, now);
        }
    }

    pub(in super::super) fn on_end(&mut self, core: &mut Core, now: Now, from: ServerId, session: u64, parts: u32) {
        let Some(receiver) = self.receiver.as_mut().filter(|receiver| receiver.is(from, session)) else { return };
        receiver.ended = receiver.parts == parts;
        let (durable, whole) = (receiver.durable, receiver.is_whole());
        if whole {
            self.complete(core, now);
        } else {
            self.ack(core, from, session, durable);
        }
    }

    /// Everything is stored: the checkpoint that makes it this replica's state follows.
    fn complete(&mut self, core: &mut Core, _now: Now) {
        let kind = self.kind;
        let Some(receiver) = self.receiver.as_mut() else { return };
        let awaited = Awaited::Complete { session: receiver.session };
        let note = receiver.note(kind);
        if self.mem.is_some() {
            receiver.completing = true;
            core.memory.push_back((self.id, awaited));
            return;
        }
        let (term, index) = (receiver.term, receiver.index);
        let checkpoint = Checkpoint { group: self.id, epoch: self.epoch, term, index, note };
        receiver.completing = core.store_state(checkpoint, awaited).is_ok();
    }

    /// The checkpoint could not be stored to its end: the sender's next `End` tries again.
    pub(in super::super) fn complete_failed(&mut self, session: u64) {
        if let Some(receiver) = self.receiver.as_mut().filter(|receiver| receiver.session == session) {
            receiver.completing = false;
        }
    }

    /// The new state is durable: the machine reads it, then raft starts from it.
    pub(in super::super) fn install(&mut self, core: &mut Core, now: Now, session: u64) {
        let kind = self.kind;
        let Some(receiver) = self.receiver.as_mut().filter(|receiver| receiver.session == session) else { return };
        let (index, term, note) = (receiver.index, receiver.term, receiver.note(kind));
        match &mut self.mem {
            Some(mem) => *mem = std::mem::take(&mut receiver.mem),
            None => {
                let _ = core.disk.truncate(self.id, index + 1);
                let first = receiver.first.unwrap_or(index + 1);
                receiver.gap(index + 1);
                core.disk.release(self.id, if kind == GroupKind::Stream { first } else { index + 1 });
                for (first, last) in std::mem::take(&mut receiver.gaps) {
                    for gone in first..=last {
                        if core.disk.term(self.id, gone).is_some() {
                            core.disk.kill(self.id, gone, u32::MAX);
                        }
                    }
                }
            }
        }
        core.sweep_parts(self.id);
        self.marked = None;
        self.staged.clear();
        self.window.clear();
        self.retain.restart(index, note.state.len());
        self.reread(core, now, index, term, &note);
    }

    pub(in super::super) fn receiver_done(&mut self, core: &mut Core) {
        if let Some(receiver) = self.receiver.take() {
            self.ack(core, receiver.from, receiver.session, ALL);
        }
    }

    /// Raft is about to write the log itself: what a catch-up has put above it must not count as this replica's.
    pub(in super::super) fn drop_receiver(&mut self, core: &mut Core) {
        self.receiver = None;
        core.states.forget_complete(self.id);
        if let Some(own_last) = self.marked.take() {
            let _ = core.disk.truncate(self.id, own_last + 1);
            let _ = core.disk.append_marker(self.id, self.epoch, None);
        }
    }
}

enum Store {
    Done,
    NoRoom,
    Nonsense,
}

impl Receiver {
    fn is(&self, from: ServerId, session: u64) -> bool {
        (self.from, self.session) == (from, session)
    }

    fn is_whole(&self) -> bool {
        self.ended && self.durable == self.parts && !self.completing
    }

    fn note(&self, kind: GroupKind) -> Note {
        Note::new(kind, self.membership.clone(), Bytes::copy_from_slice(&self.state))
    }

    /// Notes which entries came, and which did not.
    fn taken(&mut self, indexes: &[u64]) {
        for &index in indexes {
            self.first.get_or_insert(index);
            self.gap(index);
            self.last = index;
        }
    }

    /// Everything between the last entry and this one is dead at the leader.
    fn gap(&mut self, index: u64) {
        if self.last > 0 && index > self.last + 1 && index - self.last <= GAP_MAX {
            self.gaps.push((self.last + 1, index - 1));
        }
    }
}
