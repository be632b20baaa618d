//! The end of a batch of events: what each node decided becomes records, messages and outputs.
//!
//! ```text
//!   Persist ──► writes ──► log ──► (durable) ──► node.persisted
//!      └──► window, Truncated, Appended           Commit ──► Committed
//!   Send ──► bodies added ──► peers                Role, MembershipChanged ──► Role, Removed, digests
//! ```
//!
//! Writes of a group that the log has no room for stay in order and are tried again when something became durable or
//! space came back; until then the group answers nothing that depends on them.

use bytes::Bytes;
use raft::{Entry, EntryKind, HardState, Output};

use super::body::{Header, Tag, payload};
use super::core::{Awaited, Core};
use super::log::{Claim, NoRoom, Stored};
use super::output::{GroupOutput, LogLevel};
use super::replica::{Phase, Replica, encoded, server};
use crate::ids::Now;
use crate::limits::GROUP_QUIET_US;

/// One thing to be written, in raft's order.
#[derive(Debug, Clone)]
pub(super) enum Write {
    Hard(HardState),
    Truncate(u64),
    Entry {
        index: u64,
        term: u64,
        body: Bytes,
    },
    /// Everything before this is in the log.
    Ticket {
        ticket: u64,
        last: u64,
    },
}

impl Replica {
    /// Does everything that the node asks for, then sets the group's timer.
    pub(super) fn drain(&mut self, core: &mut Core, now: Now) {
        core.steps += 1;
        self.heal_on(core, now);
        if self.again_at.is_some_and(|at| now.us >= at) {
            self.again_at = None;
            core.busy.insert(self.id);
        }
        if matches!(self.phase, Phase::Running) {
            self.ask_to_leave(core, now);
            while let Some(output) = self.node.as_mut().and_then(|node| node.poll()) {
                self.act(core, now, output);
            }
            self.staged.clear();
            self.drive_members(core, now);
            self.yield_if_stuck(core, now);
            self.tell_removed(core);
            self.pump_senders(core, now);
            self.relieve_followers(core, now);
            self.want_checkpoint(core);
            self.compact(core);
        } else {
            self.ask_unread(core, now);
            self.tell_removed(core);
        }
        self.rest(core, now);
    }

    fn act(&mut self, core: &mut Core, now: Now, output: Output) {
        match output {
            Output::Persist { ticket, hard, truncate_from, append } => {
                self.active_us = now.us;
                self.persist(core, now, ticket.0, hard, truncate_from, append);
            }
            Output::Send(message) => self.send(core, now, message),
            Output::Commit(upto) => {
                self.active_us = now.us;
                self.commit = upto;
                self.window.trim(upto.min(self.retain.durable));
                core.output(GroupOutput::Committed { group: self.id, upto });
                self.note_members(core);
                self.tell_role(core, now);
            }
            Output::Role { .. } => {
                self.active_us = now.us;
                self.show_role(core, now);
            }
            Output::MembershipChanged(_) => self.follow_members(core, now),
            Output::SendSnapshot { to } => self.start_sender(core, now, server(to)),
            Output::Healed => self.remembered(core),
            Output::BeganAnew => self.began_anew(core),
            Output::Diverged { from, index } => core.log_of(
                self.id,
                LogLevel::Error,
                format!(
                    "the log of {} contradicts what is committed here at {index}; two histories have met",
                    server(from)
                ),
            ),
            // A catch-up announces itself; reads are not asked for.
            Output::ReceiveSnapshot { .. } | Output::ReadReady { .. } => {}
        }
    }

    fn persist(
        &mut self,
        core: &mut Core,
        now: Now,
        ticket: u64,
        hard: Option<HardState>,
        cut: Option<u64>,
        append: Vec<Entry>,
    ) {
        if let Some(hard) = hard {
            self.writes.push_back(Write::Hard(hard));
        }
        if let Some(from) = cut {
            self.window.truncate(from);
            self.retain.durable = self.retain.durable.min(from - 1);
            if self.heal.truncated(from) {
                self.fence(core);
            }
            self.writes.push_back(Write::Truncate(from));
            core.output(GroupOutput::Truncated { group: self.id, from });
        }
        if !append.is_empty() || cut.is_some() {
            self.drop_receiver(core);
        }
        for entry in append {
            let body = self.body_of(&entry);
            self.retain.appended(body.len());
            self.window.push(entry.index, entry.term, body.clone());
            if entry.kind == EntryKind::Data {
                let (group, index) = (self.id, entry.index);
                core.output(GroupOutput::Appended { group, index, body: payload(&body) });
            }
            self.note_relief(core, now, entry.index, &body);
            self.writes.push_back(Write::Entry { index: entry.index, term: entry.term, body });
        }
        let last = self.node.as_ref().map_or(0, |node| node.last_index());
        self.writes.push_back(Write::Ticket { ticket, last });
        self.write(core);
    }

    /// The body that came with the entry, or, for a leader's own entries, the one that it gets here.
    fn body_of(&mut self, entry: &Entry) -> Bytes {
        if let Some(body) = self.staged.remove(&(entry.index, entry.term)) {
            return body;
        }
        let header = |tag| Header { machine: self.kind, tag, stamp: self.commit };
        match &entry.kind {
            EntryKind::Noop => header(Tag::Noop).encode(&[]),
            EntryKind::Membership(membership) => header(Tag::Membership).encode(&encoded(membership)),
            EntryKind::Data => {
                panic!("group {}: entry {} is to be written and nobody has its body", self.id.0, entry.index)
            }
        }
    }

    /// Hands the log as many of the waiting writes as it takes.
    pub(super) fn write(&mut self, core: &mut Core) {
        while let Some(write) = self.writes.pop_front() {
            match self.write_one(core, &write) {
                Ok(()) => {}
                Err(NoRoom::Broken) => return,
                Err(why) => {
                    self.writes.push_front(write);
                    core.blocked.insert(self.id);
                    if why != NoRoom::Busy && !std::mem::replace(&mut self.write_refused, true) {
                        let text = "no space for its log; it waits".into();
                        core.log_of(self.id, LogLevel::Warn, text);
                    }
                    return;
                }
            }
        }
        if std::mem::take(&mut self.write_refused) {
            core.log_of(self.id, LogLevel::Info, "there is space for its log again".into());
        }
    }

    fn write_one(&mut self, core: &mut Core, write: &Write) -> Result<(), NoRoom> {
        if let Some(mem) = &mut self.mem {
            match write {
                Write::Hard(_) => {}
                Write::Truncate(from) => mem.truncate(*from),
                Write::Entry { index, term, body } => mem.append(*index, *term, body.clone()),
                Write::Ticket { ticket, last } => {
                    let awaited = Awaited::Ticket { ticket: *ticket, last: *last };
                    core.memory.push_back((self.id, awaited));
                }
            }
            return Ok(());
        }
        match write {
            Write::Hard(hard) => core.disk.append_hard(self.id, hard).map(|_| ()),
            Write::Truncate(from) => core.disk.truncate(self.id, *from),
            Write::Entry { index, term, body } => {
                // Room was asked for before raft took it; a leader's first entry of a term comes unasked, and so do members.
                let own = Header::decode(body).is_some_and(|header| !header.tag.is_data());
                let claim = if own { Claim::Vital } else { Claim::Relief };
                let entry = Stored { index: *index, term: *term, body: body.clone() };
                core.disk.append_entry(self.id, self.epoch, claim, entry).map(|_| ())
            }
            Write::Ticket { ticket, last } => {
                let lsn = core.disk.appended();
                core.awaited.push_back((lsn, self.id, Awaited::Ticket { ticket: *ticket, last: *last }));
                Ok(())
            }
        }
    }

    /// Something of this group became durable.
    pub(super) fn on_durable(&mut self, core: &mut Core, now: Now, what: Awaited) {
        match what {
            Awaited::Ticket { ticket, last } => {
                // A later cut may have lowered the log below what this ticket covered.
                let last = self.node.as_ref().map_or(last, |node| last.min(node.last_index()));
                self.retain.durable = self.retain.durable.max(last);
                self.window.trim(self.retain.durable.min(self.commit));
                if let Some(node) = self.node.as_mut() {
                    node.persisted(now.us, raft::Ticket(ticket));
                }
                core.dirty.insert(self.id);
            }
            Awaited::Checkpoint { index } => self.checkpoint_durable(core, index),
            Awaited::Part { session, part } => self.part_durable(core, now, session, part),
            Awaited::Complete { session } => self.install(core, now, session),
        }
    }

    /// Something that was on its way to the log could not be stored to its end.
    pub(super) fn on_refused(&mut self, core: &mut Core, what: Awaited) {
        match what {
            Awaited::Checkpoint { index } => self.checkpoint_failed(core, index),
            Awaited::Complete { session } => self.complete_failed(session),
            // These are one record each.
            Awaited::Ticket { .. } | Awaited::Part { .. } => {}
        }
    }

    fn show_role(&mut self, core: &mut Core, now: Now) {
        let Some(node) = &self.node else { return };
        let shown = (node.is_leader(), node.term(), node.leader().map(server));
        if shown == self.shown {
            return;
        }
        let (leading, ..) = shown;
        let led = std::mem::replace(&mut self.shown, shown).0;
        if led && !leading {
            self.stop_senders(core);
            self.parked.clear();
        }
        self.tell_role(core, now);
        self.register(core, now);
    }

    /// Tells the machine who leads. This replica itself only from the moment when an entry of its own term is committed
    /// and handed out: before that it may lack what its predecessor acknowledged.
    fn tell_role(&mut self, core: &mut Core, now: Now) {
        let (leading, term, leader) = self.shown;
        let own = self.node.as_ref().is_some_and(|node| node.term_at(self.commit) == Some(term));
        let told = (leading && own, term, leader);
        if std::mem::replace(&mut self.told, told) == told {
            return;
        }
        core.output(GroupOutput::Role { group: self.id, leading: told.0, term, leader });
        self.members_at = told.0.then_some(now.us);
        self.led_since_ns = told.0.then_some(now.wall_ns);
    }

    pub(super) fn follow_members(&mut self, core: &mut Core, now: Now) {
        self.members_at = Some(now.us);
        self.unsettled = true;
        self.note_members(core);
        self.register(core, now);
        self.follow_links(core, now);
    }

    /// When the group wants to be called next, or that it sleeps.
    fn rest(&mut self, core: &mut Core, now: Now) {
        let running = matches!(self.phase, Phase::Running);
        // What a replica does about its members, or about full ones, waits until it is read.
        let members = [self.members_at, self.stuck_due(), self.relief_at];
        let members = members.into_iter().filter(|_| running);
        let due = [self.heal.due(), self.leave.due(), self.senders_due(), self.again_at].into_iter().chain(members);
        let mut due = due.flatten().min();
        let idle = due.is_none() && self.is_idle(core);
        if let Some(node) = self.node.as_deref_mut().filter(|node| running && !node.is_quiet()) {
            let settled = idle && node.can_quiesce();
            let at = self.active_us + GROUP_QUIET_US;
            if settled && now.us >= at {
                node.quiesce();
                self.window.clear();
            } else if settled {
                due = Some(at);
            }
        }
        let node_due = self.running().and_then(|node| node.next_wakeup());
        core.timers.set(self.id, due.into_iter().chain(node_due).min());
    }

    fn is_idle(&self, core: &Core) -> bool {
        self.writes.is_empty()
            && self.parked.is_empty()
            && self.receiver.is_none()
            && self.heal.is_whole()
            && !core.busy.contains(&self.id)
            && self.is_watched(core)
    }
}
