//! The leader's side of a catch-up; see the parent's head.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::body::Note;
use super::super::core::{Core, Reader};
use super::super::log::{Fetch, ReadTicket, Stored};
use super::super::output::LogLevel;
use super::super::replica::{ReadOutcome, Replica};
use super::super::spec::GroupKind;
use super::ALL;
use crate::cluster::wire::{CatchupEntry, CatchupStep};
use crate::ids::{Now, ServerId};
use crate::limits::{CATCHUP_GIVE_UP_US, CATCHUP_PART_BYTES, CATCHUP_RETRY_US, CATCHUP_WINDOW_BYTES};

/// One catch-up on its way to one replica.
pub(in super::super) struct Sender {
    session: u64,
    stage: Stage,
    index: u64,
    term: u64,
    membership: Bytes,
    state: Bytes,
    /// Where the first entry is.
    first: u64,
    /// What the next part begins with.
    at: Cursor,
    /// The last part that was sent.
    part: u32,
    unacked: VecDeque<Sent>,
    unacked_bytes: usize,
    ticket: Option<ReadTicket>,
    heard_us: u64,
    asked_us: u64,
    /// When the receiver last stored something.
    moved_us: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// For the machine's checkpoint.
    Waiting,
    /// `Begin` is out: where does the receiver stand?
    Asking,
    Streaming,
    /// `End` is out.
    Ended,
}

/// A place in what is streamed: first the state, then the entries.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    state: usize,
    entry: u64,
}

struct Sent {
    part: u32,
    from: Cursor,
    bytes: usize,
}

impl Sender {
    fn new(session: u64, now: Now) -> Sender {
        Sender {
            session,
            stage: Stage::Waiting,
            index: 0,
            term: 0,
            membership: Bytes::new(),
            state: Bytes::new(),
            first: 0,
            at: Cursor { state: 0, entry: 0 },
            part: 0,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            ticket: None,
            heard_us: now.us,
            asked_us: now.us,
            moved_us: now.us,
        }
    }

    /// Whether the machine's state is wanted.
    pub fn waits(&self) -> bool {
        self.stage == Stage::Waiting
    }

    /// The index of the state, once it is known: the log must not be compacted beyond it.
    pub fn index(&self) -> Option<u64> {
        (self.stage != Stage::Waiting).then_some(self.index)
    }

    fn due(&self) -> u64 {
        self.asked_us.max(self.heard_us) + CATCHUP_RETRY_US
    }

    /// What `Begin` carries of the state.
    fn head(&self) -> Bytes {
        self.state.slice(..self.state.len().min(CATCHUP_PART_BYTES))
    }

    fn rewind(&mut self) {
        self.at = Cursor { state: self.head().len(), entry: self.first };
        self.part = 0;
        self.unacked.clear();
        self.unacked_bytes = 0;
    }

    /// The receiver has everything up to this part.
    fn acked(&mut self, part: u32) {
        while let Some(sent) = self.unacked.front().filter(|sent| sent.part <= part) {
            self.unacked_bytes -= sent.bytes;
            self.unacked.pop_front();
        }
    }

    /// Goes on after this part, or from the start if the receiver has less than it once acknowledged.
    fn resume(&mut self, part: u32) {
        self.acked(part);
        let next = self.unacked.front().map_or(self.part + 1, |sent| sent.part);
        if part + 1 != next {
            return self.rewind();
        }
        if let Some(sent) = self.unacked.front() {
            self.at = sent.from;
            self.part = part;
        }
        self.unacked.clear();
        self.unacked_bytes = 0;
    }

    fn sent(&mut self, from: Cursor, bytes: usize) -> u32 {
        self.part += 1;
        self.unacked.push_back(Sent { part: self.part, from, bytes });
        self.unacked_bytes += bytes;
        self.part
    }
}

impl Replica {
    /// Raft says that the log does not reach back to this peer.
    pub(in super::super) fn start_sender(&mut self, core: &mut Core, now: Now, to: ServerId) {
        let (token, me) = (core.token().0, core.server().0);
        let session = [core.options.boot, me, self.id.0, token]
            .into_iter()
            .fold(core.options.seed, |mixed, next| super::super::mix(mixed ^ super::super::mix(next)));
        self.senders.insert(to, Sender::new(session, now));
        core.log_of(self.id, LogLevel::Info, format!("streaming its state to {to}"));
    }

    /// The machine's state is here: catch-ups that waited for it begin.
    pub(in super::super) fn feed_senders(&mut self, core: &mut Core, now: Now, index: u64, term: u64, note: &Note) {
        let first = match self.kind {
            GroupKind::Stream => {
                let first = self.bounds(core).map_or(index + 1, |(first, _)| first);
                first.max(self.retain.live_from())
            }
            // Their state says it all.
            GroupKind::Meta | GroupKind::Consumer => index + 1,
        };
        let waiting: Vec<ServerId> =
            self.senders.iter().filter(|(_, sender)| sender.waits()).map(|(to, _)| *to).collect();
        for to in waiting {
            let Some(sender) = self.senders.get_mut(&to) else { continue };
            (sender.index, sender.term, sender.first) = (index, term, first);
            (sender.membership, sender.state) = (note.membership.clone(), note.state.clone());
            sender.rewind();
            sender.stage = Stage::Asking;
            self.ask(core, now, to);
        }
    }

    fn ask(&mut self, core: &mut Core, now: Now, to: ServerId) {
        let Some(sender) = self.senders.get_mut(&to).filter(|sender| !sender.waits()) else { return };
        sender.stage = Stage::Asking;
        sender.asked_us = now.us;
        let step = CatchupStep::Begin {
            session: sender.session,
            index: sender.index,
            term: sender.term,
            membership: sender.membership.clone(),
            checkpoint: sender.head(),
        };
        core.catchup(to, self.id, self.epoch, step);
    }

    /// The link to a peer stands again.
    pub(in super::super) fn resume_sender(&mut self, core: &mut Core, now: Now, to: ServerId) {
        self.ask(core, now, to);
    }

    pub(in super::super) fn on_ack(&mut self, core: &mut Core, now: Now, to: ServerId, session: u64, part: u32) {
        let Some(sender) = self.senders.get_mut(&to).filter(|sender| sender.session == session) else { return };
        sender.heard_us = now.us;
        if sender.stage == Stage::Asking || sender.unacked.front().is_some_and(|sent| sent.part <= part) {
            sender.moved_us = now.us;
        }
        core.dirty.insert(self.id);
        if part == ALL {
            return self.end_sender(core, now, to, true);
        }
        if part > sender.part {
            return;
        }
        match sender.stage {
            Stage::Asking => {
                sender.resume(part);
                sender.stage = Stage::Streaming;
            }
            _ => sender.acked(part),
        }
    }

    /// It is over; raft goes on with the log, or tries again.
    pub(in super::super) fn end_sender(&mut self, core: &mut Core, now: Now, to: ServerId, ok: bool) {
        let Some(sender) = self.senders.remove(&to) else { return };
        let level = if ok { LogLevel::Info } else { LogLevel::Warn };
        let how = if ok { "has" } else { "did not get" };
        core.log_of(self.id, level, format!("{to} {how} the state as of entry {}", sender.index));
        if let Some(node) = self.node.as_mut() {
            node.snapshot_sent(now.us, raft::NodeId(to.0), sender.index, ok);
        }
        self.give_back(core);
        core.dirty.insert(self.id);
    }

    pub(in super::super) fn on_abort(&mut self, core: &mut Core, now: Now, from: ServerId, session: u64) {
        if self.senders.get(&from).is_some_and(|sender| sender.session == session) {
            self.end_sender(core, now, from, false);
        }
    }

    pub(in super::super) fn stop_senders(&mut self, core: &mut Core) {
        self.senders.clear();
        self.give_back(core);
    }

    pub(in super::super) fn senders_due(&self) -> Option<u64> {
        self.senders.values().map(Sender::due).min()
    }

    /// Sends what windows allow and asks those that are silent.
    pub(in super::super) fn pump_senders(&mut self, core: &mut Core, now: Now) {
        let all: Vec<ServerId> = self.senders.keys().copied().collect();
        for to in all {
            let Some(sender) = self.senders.get(&to) else { continue };
            if now.us >= sender.heard_us.min(sender.moved_us) + CATCHUP_GIVE_UP_US {
                self.end_sender(core, now, to, false);
            } else if now.us >= sender.due() && sender.waits() {
                // The machine has not answered yet; it is asked again.
                if let Some(sender) = self.senders.get_mut(&to) {
                    sender.asked_us = now.us;
                }
            } else if now.us >= sender.due() {
                self.ask(core, now, to);
            } else {
                self.pump(core, now, to);
            }
        }
    }

    fn pump(&mut self, core: &mut Core, now: Now, to: ServerId) {
        while let Some(sender) = self.senders.get_mut(&to) {
            let open = sender.stage == Stage::Streaming && sender.ticket.is_none();
            if !open || sender.unacked_bytes >= CATCHUP_WINDOW_BYTES {
                return;
            }
            let (at, index, session) = (sender.at, sender.index, sender.session);
            if at.state < sender.state.len() {
                let end = sender.state.len().min(at.state + CATCHUP_PART_BYTES);
                let body = sender.state.slice(at.state..end);
                sender.at.state = end;
                let part = sender.sent(at, body.len());
                let entries = vec![CatchupEntry { term: 0, index: 0, body }];
                core.catchup(to, self.id, self.epoch, CatchupStep::Entries { session, part, entries });
            } else if at.entry <= index {
                if !self.pump_entries(core, now, to, at, index) {
                    return;
                }
            } else {
                sender.stage = Stage::Ended;
                let parts = sender.part;
                core.catchup(to, self.id, self.epoch, CatchupStep::End { session, parts });
            }
        }
    }

    /// Reads the next entries; false when that must wait.
    fn pump_entries(&mut self, core: &mut Core, now: Now, to: ServerId, at: Cursor, index: u64) -> bool {
        let fetched = match &self.mem {
            Some(mem) => Fetch::Ready(mem.range(at.entry, index, CATCHUP_PART_BYTES)),
            None => core.disk.read(self.id, at.entry, index, CATCHUP_PART_BYTES),
        };
        match fetched {
            Fetch::Ready(list) => self.send_entries(core, to, list),
            Fetch::Missing => self.send_entries(core, to, Vec::new()),
            Fetch::Pending(ticket) => {
                core.reads.insert(ticket, (self.id, Reader::Catchup(to)));
                if let Some(sender) = self.senders.get_mut(&to) {
                    sender.ticket = Some(ticket);
                }
                return false;
            }
            Fetch::Damaged(index) => {
                self.damaged(core, now, index);
                self.end_sender(core, now, to, false);
                return false;
            }
            // The timer asks again.
            Fetch::Busy => return false,
        }
        true
    }

    pub(in super::super) fn sender_read(
        &mut self,
        core: &mut Core,
        now: Now,
        to: ServerId,
        ticket: ReadTicket,
        result: ReadOutcome,
    ) {
        let Some(sender) = self.senders.get_mut(&to).filter(|sender| sender.ticket == Some(ticket)) else { return };
        sender.ticket = None;
        core.dirty.insert(self.id);
        // A resume may have moved the cursor while the read was under way: then its answer is of no use.
        let next = sender.at.entry;
        match result {
            Ok(list) if list.first().is_none_or(|first| first.index >= next) && sender.stage == Stage::Streaming => {
                self.send_entries(core, to, list);
            }
            Ok(_) => {}
            Err(index) => {
                self.damaged(core, now, index);
                self.end_sender(core, now, to, false);
            }
        }
    }

    /// One part of entries; none at all means that the rest is dead.
    fn send_entries(&mut self, core: &mut Core, to: ServerId, list: Vec<Stored>) {
        let Some(sender) = self.senders.get_mut(&to) else { return };
        let from = sender.at;
        let Some(last) = list.last() else {
            sender.at.entry = sender.index + 1;
            return;
        };
        sender.at.entry = last.index + 1;
        let bytes = list.iter().map(|stored| stored.body.len()).sum();
        let (session, part) = (sender.session, sender.sent(from, bytes));
        let entries = list.into_iter().map(|Stored { index, term, body }| CatchupEntry { term, index, body }).collect();
        core.catchup(to, self.id, self.epoch, CatchupStep::Entries { session, part, entries });
    }
}
