//! The raft groups of a core over its one storage log: each is a raft node, a log and the machine that it feeds.
//!
//! Pure and without a clock, like everything that decides. The hub owns one [`Groups`], hands it disk answers, peer
//! messages and proposals, calls [`Groups::turn`] once after each batch of events, and dispatches its outputs to the
//! machines (meta table, streams, consumers), which never see raft or storage.
//!
//! ```text
//!   propose, on_raft, wakeup ──► node (raft) ──► turn ──► log.rs ──► storage ──► DiskOp
//!   on_disk ──► durable ──► node ──► commit ──► GroupOutput::Committed ──► machine
//! ```
//!
//! Promises: a term, a vote or an entry is durable before anything that depends on it leaves; a turn makes all groups'
//! records durable with one write; a quiet group costs nothing per turn. What a machine does with an entry is not
//! this module's business.

mod body;
mod catchup;
mod core;
mod crowd;
mod early;
mod heal;
mod leave;
mod links;
mod log;
mod mem;
mod members;
mod output;
mod renew;
mod replica;
mod restore;
mod retain;
mod send;
mod spec;
mod states;
mod status;
pub(crate) mod timers;
mod turn;
mod window;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::core::{Core, Reader};
use self::early::Early;
use self::log::{Claim, DiskEvent};
use self::replica::Replica;
use crate::cluster::heartbeat::Beat;
use crate::cluster::wire::{CatchupStep, Heartbeat, NodeMsg};
use crate::ids::{GroupId, Now, Place, ServerId};
use crate::limits::{GROUP_QUIET_US, GROUP_RESTORES_MAX, SCRUB_BYTES, SCRUB_REST_US, SCRUB_US, SPACE_RETRY_US};

pub use output::{
    GroupOutput, GroupRole, GroupStatus, LogLevel, PeerStatus, ProposeRefused, ReadBody, ReadGone, ReadToken,
    RecoveredGroup,
};
pub use spec::{Anew, GroupKind, GroupSpec, GroupsOptions, Timing, home_core};

/// All groups of one core.
pub struct Groups {
    core: Core,
    groups: BTreeMap<GroupId, Replica>,
    /// Recovered and not opened.
    found: BTreeMap<GroupId, RecoveredGroup>,
    /// Closed, and the log had no room for the tombstone yet.
    dropping: Vec<GroupId>,
    /// The table that groups are dropped by, and the newest one that the log names as such.
    acted_on: u64,
    acted_noted: u64,
    space_retry_at: Option<u64>,
    /// When the next piece of what is stored is verified.
    scrub_at: Option<u64>,
    /// When an idle log notes how far it is durable, and how far it last did.
    mark_at: Option<u64>,
    marked: u64,
    /// Segments with damage that might have been any group's.
    doubted: Vec<u32>,
    /// What came for groups that are not open yet.
    early: Early,
}

impl Groups {
    /// Begins to recover the log at once: drain [`Groups::poll_disk`].
    pub fn new(options: GroupsOptions) -> Groups {
        Groups {
            core: Core::new(options),
            groups: BTreeMap::new(),
            found: BTreeMap::new(),
            dropping: Vec::new(),
            acted_on: 0,
            acted_noted: 0,
            space_retry_at: None,
            scrub_at: None,
            mark_at: None,
            marked: 0,
            doubted: Vec::new(),
            early: Early::default(),
        }
    }

    /// What the disk shall do. Drain after every turn, and after every `on_disk` until [`GroupOutput::Recovered`].
    pub fn poll_disk(&mut self) -> Option<storage::DiskOp> {
        self.core.disk.poll_op()
    }

    pub fn on_disk(&mut self, now: Now, done: storage::DiskDone) {
        self.core.disk.on_done(done);
        self.disk_events(now);
    }

    /// Attaches to what recovery found, or creates the group. Call after [`GroupOutput::Recovered`]; opening a group that
    /// is open changes nothing.
    pub fn open(&mut self, now: Now, spec: GroupSpec) {
        if self.groups.contains_key(&spec.group) || !self.core.disk.is_open() {
            return;
        }
        let mut replica = Replica::new(&spec, now);
        match self.found.remove(&spec.group) {
            // A name that changed from file to memory would leave its file part behind.
            Some(_) if spec.memory => {
                self.dropping.push(spec.group);
                replica.create(&mut self.core, now, &spec);
            }
            Some(_) => replica.recover(&mut self.core, now),
            None => replica.create(&mut self.core, now, &spec),
        }
        for early in self.early.take(now.us, spec.group) {
            replica.on_raft(&mut self.core, now, early.from, early.message, early.bodies);
        }
        self.groups.insert(spec.group, replica);
        self.drop_closed();
    }

    /// Drops the group for good, from disk too; also one that was recovered and never opened.
    pub fn close(&mut self, _now: Now, group: GroupId) {
        let on_disk = self.found.remove(&group).is_some();
        let replica = self.groups.remove(&group);
        if let Some(mut replica) = replica {
            replica.unregister(&mut self.core);
            self.core.forget(group);
            if replica.mem.is_none() {
                self.dropping.push(group);
            }
        } else if on_disk {
            self.dropping.push(group);
        }
        self.drop_closed();
    }

    /// What is closed from now on is closed because the table says so as of this index. A restart may know an older table
    /// at first: whoever follows it must not found a group that was dropped by a newer one.
    pub fn act_on(&mut self, table_index: u64) {
        self.acted_on = self.acted_on.max(table_index);
    }

    /// The newest table that groups were dropped by, in this life or an earlier one.
    pub fn acted_on(&self) -> u64 {
        self.acted_on
    }

    fn drop_closed(&mut self) {
        let disk = &mut self.core.disk;
        if self.dropping.is_empty() {
            return;
        }
        // In front of the drops, so that they are never durable without it.
        if self.acted_noted < self.acted_on {
            if disk.append_acted(self.acted_on).is_err() {
                return;
            }
            self.acted_noted = self.acted_on;
        }
        self.dropping.retain(|group| disk.drop_group(*group).is_err());
    }

    /// Groups that recovery found and nobody has opened.
    pub fn orphans(&self) -> Vec<GroupId> {
        self.found.keys().copied().collect()
    }

    /// Whether recovery found a replica of it that nobody has opened.
    pub fn has_found(&self, group: GroupId) -> bool {
        self.found.contains_key(&group)
    }

    /// Something in the log is damaged that might have been a group's that it does not show at all.
    pub fn has_doubts(&self) -> bool {
        self.core.doubt
    }

    pub fn is_open(&self, group: GroupId) -> bool {
        self.groups.contains_key(&group)
    }

    /// Whether the group is known to go on without this replica: see [`GroupOutput::Removed`].
    pub fn is_removed(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(Replica::is_removed)
    }

    /// Whether what clients store in the group should wait for a moment: the log is making space for it, and nobody knows
    /// yet whether there is any.
    pub fn awaits_space(&mut self, group: GroupId) -> bool {
        let durable = self.groups.get(&group).is_some_and(|replica| replica.mem.is_none());
        durable && self.core.disk.awaits_segment(self.core.promised)
    }

    /// Why the group is closed here, if damage closed it.
    pub fn why_closed(&self, group: GroupId) -> Option<&str> {
        self.groups.get(&group)?.closed.as_deref()
    }

    /// Appends a body to a group that this server leads; its index. `Appended` follows with the turn.
    pub fn propose(&mut self, now: Now, group: GroupId, body: Bytes) -> Result<u64, ProposeRefused> {
        let replica = self.groups.get_mut(&group).ok_or(ProposeRefused::Unknown)?;
        // A consumer's entries are small and soon replaced: what clients have acknowledged goes on while streams are full.
        let claim = if replica.kind == GroupKind::Consumer { Claim::Progress } else { Claim::Plain };
        replica.propose(&mut self.core, now, &body, claim)
    }

    /// The same for a body by which space comes back: taken by a full store, too, out of what is held back for it.
    pub fn propose_relief(&mut self, now: Now, group: GroupId, body: Bytes) -> Result<u64, ProposeRefused> {
        let replica = self.groups.get_mut(&group).ok_or(ProposeRefused::Unknown)?;
        replica.propose(&mut self.core, now, &body, Claim::Relief)
    }

    /// The store is full: only what gives space back is taken.
    pub fn is_full(&self) -> bool {
        self.core.space_low
    }

    /// The voters that the group shall have. Every replica is told; the leader acts: new ones join as learners, are
    /// caught up, then one joint change makes them voters and lets the others go, who look out for that. The newest target
    /// wins; `false` if no such group is open.
    pub fn change_members(&mut self, now: Now, group: GroupId, voters: Vec<ServerId>) -> bool {
        let Some(replica) = self.groups.get_mut(&group) else { return false };
        replica.set_target(&mut self.core, now, &voters);
        true
    }

    /// By whose unanimous word a memory group may go on when a majority has restarted; `None` while somebody else might
    /// belong to it. Groups on disk never do.
    pub fn set_anew(&mut self, group: GroupId, anew: Option<Anew>) {
        let Some(replica) = self.groups.get_mut(&group).filter(|replica| replica.mem.is_some()) else { return };
        replica.set_anew(anew);
        self.core.dirty.insert(group);
    }

    /// Hands leadership over, to the best follower if none is named. `false` if this server does not lead, or nobody can
    /// take over.
    pub fn transfer(&mut self, now: Now, group: GroupId, to: Option<ServerId>) -> bool {
        self.groups.get_mut(&group).is_some_and(|replica| replica.transfer(&mut self.core, now, to))
    }

    /// Hands every leadership over: the first step of a clean stop.
    pub fn transfer_all(&mut self, now: Now) {
        for replica in self.groups.values_mut() {
            replica.transfer(&mut self.core, now, None);
        }
        self.core.disk.mark();
    }

    /// A raft message with the bodies of the entries that it carries, in order.
    pub fn on_raft(&mut self, now: Now, from: ServerId, group: GroupId, message: raft::Message, bodies: Vec<Bytes>) {
        match self.groups.get_mut(&group) {
            Some(replica) => replica.on_raft(&mut self.core, now, from, message, bodies),
            None => self.early.keep(now.us, from, group, message, bodies),
        }
    }

    pub fn on_catchup(&mut self, now: Now, from: ServerId, group: GroupId, epoch: u32, step: CatchupStep) {
        if let Some(replica) = self.groups.get_mut(&group).filter(|replica| replica.epoch == epoch) {
            replica.on_catchup(&mut self.core, now, from, step);
        }
    }

    pub fn on_heartbeat(&mut self, now: Now, from: Place, heartbeat: Heartbeat) {
        let heard = self.core.beats.on_heartbeat(now.us, from, &heartbeat);
        if heard.restarted {
            for group in self.shared(from) {
                self.with(group, |replica, core| {
                    if replica.shown.2 == Some(from.server) {
                        replica.doubt(core, now);
                    }
                });
            }
        }
        if heard.list_wanted {
            let leads = self.leads_for(from);
            self.core.output(GroupOutput::Send { to: from, msg: NodeMsg::HeartbeatList { leads } });
        }
    }

    /// Another core's heartbeat leaves through this one: heartbeats that are due soon leave with it.
    pub fn beat_along(&mut self, now: Now) {
        let mut beats = Vec::new();
        self.core.beats.along(now.us, &mut beats);
        self.on_beats(now, beats);
    }

    fn on_beats(&mut self, now: Now, beats: Vec<Beat>) {
        for beat in beats {
            match beat {
                Beat::Send { to, heartbeat } => {
                    self.core.output(GroupOutput::Send { to, msg: NodeMsg::Heartbeat(heartbeat) });
                }
                Beat::Dead { peer, heard_us } => {
                    for group in self.shared(peer) {
                        self.with(group, |replica, core| replica.link_lost(core, now, peer.server, heard_us));
                    }
                }
            }
        }
    }

    /// What the sender leads for this core, in answer to a digest that differed.
    pub fn on_heartbeat_list(&mut self, now: Now, from: Place, leads: Vec<(GroupId, u64)>) {
        let leads: BTreeMap<GroupId, u64> = leads.into_iter().collect();
        for group in self.shared(from) {
            let says = leads.get(&group).copied();
            self.with(group, |replica, core| {
                let (_, term, leader) = replica.shown;
                let follows = leader == Some(from.server);
                let differs = if follows { says != Some(term) } else { says.is_some_and(|says| says >= term) };
                if differs {
                    replica.doubt(core, now);
                }
            });
        }
        for group in leads.into_keys() {
            self.with(group, |replica, core| replica.look_for(core, from.server));
        }
    }

    fn leads_for(&self, peer: Place) -> Vec<(GroupId, u64)> {
        let led =
            |group: &GroupId| self.groups.get(group).filter(|replica| replica.shown.0).map(|r| (*group, r.shown.1));
        self.shared(peer).iter().filter_map(led).collect()
    }

    /// Groups that are shared with that core of a server.
    fn shared(&self, peer: Place) -> Vec<GroupId> {
        let Some(known) = self.core.peers.get(&peer.server) else { return Vec::new() };
        let home = |group: &GroupId| self.core.home(peer.server, *group) == Some(peer);
        known.groups.iter().copied().filter(home).collect()
    }

    fn with(&mut self, group: GroupId, act: impl FnOnce(&mut Replica, &mut Core)) {
        if let Some(replica) = self.groups.get_mut(&group) {
            act(replica, &mut self.core);
        }
    }

    /// A link to a server with that many cores stands.
    pub fn peer_up(&mut self, now: Now, peer: ServerId, cores: u16) {
        let known = self.core.peers.entry(peer).or_default();
        (known.up, known.cores) = (true, cores.max(1));
        for core in 0..cores.max(1) {
            self.core.beats.connect(now.us, Place { server: peer, core });
        }
        // Every group: one that hears of the server for the first time could not register with it before.
        for replica in self.groups.values_mut() {
            if replica.shares(peer) {
                replica.link_up(&mut self.core, now, peer);
            }
        }
        if self.core.space_low {
            self.tell_space(Some(peer));
        }
    }

    /// The link is gone.
    pub fn peer_down(&mut self, now: Now, peer: ServerId) {
        let Some(known) = self.core.peers.get_mut(&peer) else { return };
        known.up = false;
        self.core.crowd.forget(peer);
        for core in 0..known.cores {
            let place = Place { server: peer, core };
            let heard_us = self.core.beats.disconnect(place).unwrap_or(now.us);
            for group in self.shared(place) {
                self.with(group, |replica, core| replica.link_lost(core, now, peer, heard_us));
            }
        }
    }

    /// The round trip to a server has changed, microseconds: timing follows the slowest voter. Walks all groups that the
    /// server is a member of; the caller keeps what does not matter to itself.
    pub fn peer_rtt(&mut self, now: Now, peer: ServerId, rtt_us: u64) {
        let known = self.core.peers.entry(peer).or_default();
        known.rtt_us = rtt_us;
        for core in 0..known.cores {
            self.core.beats.set_rtt(Place { server: peer, core }, rtt_us);
        }
        let groups: Vec<GroupId> =
            self.core.peers.get(&peer).map_or(Vec::new(), |p| p.groups.iter().copied().collect());
        for group in groups {
            self.with(group, |replica, core| replica.follow_links(core, now));
        }
    }

    /// The body of an entry of this replica's log.
    pub fn read(&mut self, now: Now, group: GroupId, index: u64) -> ReadBody {
        match self.groups.get_mut(&group) {
            Some(replica) => replica.read(&mut self.core, now, index),
            None => ReadBody::Gone,
        }
    }

    /// Neither the machine nor its newest durable checkpoint ([`GroupOutput::Checkpointed`]) needs an entry below this
    /// index any more.
    pub fn release(&mut self, group: GroupId, below: u64) {
        self.with(group, |replica, core| replica.release(core, below));
    }

    /// So many bytes of an entry's body are of no use any more, to the machine and to its newest durable checkpoint; the
    /// whole length if nothing of it is.
    pub fn dead(&mut self, group: GroupId, index: u64, bytes: u32) {
        self.with(group, |replica, core| replica.dead(core, index, bytes));
    }

    /// The answer to [`GroupOutput::WantCheckpoint`]: the machine's state as of the applied entry `index`. A machine that
    /// has much to give back may offer one unasked.
    /// `Checkpointed` follows if the answer is true; otherwise none is being written.
    pub fn checkpoint(&mut self, now: Now, group: GroupId, index: u64, state: Bytes) -> bool {
        let Some(replica) = self.groups.get_mut(&group) else { return false };
        replica.checkpoint(&mut self.core, now, index, state)
    }

    /// The machine has applied everything up to here.
    pub fn applied(&mut self, group: GroupId, index: u64) {
        self.with(group, |replica, core| replica.applied(core, index));
    }

    /// The end of a batch of events: everything that the groups decided becomes appends, messages and outputs.
    pub fn turn(&mut self, now: Now) {
        let reading: Vec<GroupId> = self.core.busy.iter().copied().take(GROUP_RESTORES_MAX).collect();
        for group in reading {
            self.with(group, |replica, core| replica.read_on(core, now));
        }
        loop {
            while let Some(group) = self.core.dirty.pop_first() {
                self.with(group, |replica, core| replica.drain(core, now));
            }
            // What memory groups asked to be kept is kept now, after everybody's appends have been gathered.
            while let Some((group, what)) = self.core.memory.pop_front() {
                self.with(group, |replica, core| replica.on_durable(core, now, what));
            }
            while let Some((group, what)) = self.core.feed_states() {
                self.with(group, |replica, core| replica.on_refused(core, what));
            }
            self.disk_events(now);
            if self.core.dirty.is_empty() && self.core.memory.is_empty() {
                break;
            }
        }
        self.core.promised = 0;
    }

    fn disk_events(&mut self, now: Now) {
        while let Some(event) = self.core.disk.poll_event() {
            self.on_disk_event(now, event);
        }
        let durable = self.core.disk.durable();
        while self.core.awaited.front().is_some_and(|awaited| awaited.0 <= durable) {
            let Some((_, group, what)) = self.core.awaited.pop_front() else { break };
            self.with(group, |replica, core| replica.on_durable(core, now, what));
        }
    }

    fn on_disk_event(&mut self, now: Now, event: DiskEvent) {
        match event {
            DiskEvent::Recovered { groups, doubt, texts } => {
                self.core.doubt = !doubt.is_empty();
                self.doubted = doubt;
                for text in texts {
                    self.core.log(LogLevel::Error, format!("the store is damaged: {text}"));
                }
                // Of the meta group the other cores have the note of what they acted on, no replica.
                let hosted = |found: &&RecoveredGroup| self.core.options.core == 0 || found.group != GroupId::META;
                self.found = groups.iter().filter(hosted).map(|found| (found.group, found.clone())).collect();
                self.acted_noted = self.core.disk.acted();
                self.acted_on = self.acted_noted;
                self.scrub_at = Some(now.us + SCRUB_US);
                self.core.output(GroupOutput::Recovered(groups));
            }
            DiskEvent::Refused(why) | DiskEvent::Broken(why) => self.core.output(GroupOutput::Broken { why }),
            DiskEvent::Durable => {
                self.mark_at = Some(now.us + GROUP_QUIET_US);
                self.unblock();
            }
            DiskEvent::Read { ticket, result } => {
                let Some((group, reader)) = self.core.reads.remove(&ticket) else { return };
                match self.groups.get_mut(&group) {
                    Some(replica) => replica.on_read(&mut self.core, now, ticket, reader, result),
                    None => self.core.gone(group, reader),
                }
            }
            DiskEvent::SpaceLow => {
                self.core.space_low = true;
                self.space_retry_at = Some(now.us + SPACE_RETRY_US);
                self.core.output(GroupOutput::SpaceLow);
                self.tell_space(None);
            }
            DiskEvent::SpaceBack => {
                self.core.space_low = false;
                self.space_retry_at = None;
                self.core.output(GroupOutput::SpaceBack);
                self.tell_space(None);
                self.unblock();
            }
            DiskEvent::Damaged { group, kind, entries, text } => self.on_damage(now, group, kind, entries, text),
        }
    }

    fn on_damage(
        &mut self,
        now: Now,
        group: Option<GroupId>,
        kind: Option<storage::RecordKind>,
        entries: Option<(u64, u64)>,
        text: String,
    ) {
        self.core.log(LogLevel::Error, format!("the store is damaged: {text}"));
        match (group, entries) {
            (Some(group), Some((first, last))) => self.with(group, |replica, core| {
                for index in first..=last.min(first + crate::limits::HEAL_ENTRIES_MAX as u64) {
                    replica.damaged(core, now, index);
                }
            }),
            (Some(GroupId::META), None) if kind == Some(log::ACTED) => {
                let _ = self.core.disk.append_acted(self.acted_on);
            }
            (Some(group), None) => self.with(group, |replica, core| {
                kind.into_iter().for_each(|kind| replica.renew(core, kind));
                core.dirty.insert(group);
            }),
            (None, _) => self.core.doubt = true,
        }
    }

    /// There may be room again for writes that waited.
    fn unblock(&mut self) {
        for group in std::mem::take(&mut self.core.blocked) {
            self.with(group, |replica, core| {
                replica.write(core);
                core.dirty.insert(group);
            });
        }
        self.drop_closed();
    }

    pub fn wakeup(&mut self, now: Now) {
        while let Some(group) = self.core.timers.pop(now.us) {
            self.with(group, |replica, core| replica.wakeup(core, now));
        }
        let mut beats = Vec::new();
        self.core.beats.wakeup(now.us, &mut beats);
        self.on_beats(now, beats);
        if self.space_retry_at.is_some_and(|at| now.us >= at) {
            self.space_retry_at = Some(now.us + SPACE_RETRY_US);
            self.core.disk.retry_space();
            self.core.output(GroupOutput::SpaceWanted);
            self.tell_space(None);
        }
        if self.scrub_at.is_some_and(|at| now.us >= at) {
            let more = self.core.disk.scrub(SCRUB_BYTES);
            self.scrub_at = Some(now.us + if more { SCRUB_US } else { SCRUB_REST_US });
        }
        self.mark(now);
    }

    /// An idle log says how far it is durable, so that a restart can tell a torn end from damage.
    fn mark(&mut self, now: Now) {
        if self.mark_at.is_none_or(|at| now.us < at) {
            return;
        }
        self.mark_at = None;
        self.settle_doubt();
        let appended = self.core.disk.appended();
        if self.core.awaited.is_empty() && appended != self.marked {
            self.core.disk.mark();
            self.marked = self.core.disk.appended();
        }
    }

    /// Once every group is known to be whole, the places that nobody could read hold nothing that is missed.
    fn settle_doubt(&mut self) {
        let whole = |replica: &Replica| replica.is_settled();
        if !self.doubted.is_empty() && self.found.is_empty() && self.groups.values().all(whole) {
            self.core.doubt = false;
            for segment in std::mem::take(&mut self.doubted) {
                self.core.disk.clear_damage(segment);
            }
        }
    }

    /// When to call [`Groups::wakeup`] and [`Groups::turn`], microseconds of [`Now::us`]. Ask again after each turn.
    pub fn next_wakeup(&self) -> Option<u64> {
        if !self.core.busy.is_empty() || !self.core.dirty.is_empty() || !self.core.outputs.is_empty() {
            return Some(0);
        }
        let timers =
            [self.core.timers.next(), self.core.beats.next_wakeup(), self.space_retry_at, self.scrub_at, self.mark_at];
        timers.into_iter().flatten().min()
    }

    pub fn poll_output(&mut self) -> Option<GroupOutput> {
        self.core.outputs.pop_front()
    }

    pub fn status(&self, group: GroupId) -> Option<GroupStatus> {
        let replica = self.groups.get(&group)?;
        let mut status = replica.status();
        if status.quiet {
            // A quiet group hears of its members through the heartbeats of their servers only.
            for peer in &mut status.peers {
                let heard = self.core.home(peer.server, group).and_then(|place| self.core.beats.heard_us(place));
                peer.last_contact_us = peer.last_contact_us.max(heard);
            }
        }
        Some(status)
    }

    /// Whether enough members of a group are alive to elect a leader, as far as this server hears.
    pub fn hears_quorum(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(|replica| replica.hears_quorum(&self.core))
    }

    /// The open groups, ascending.
    pub fn iter_open(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.groups.keys().copied()
    }

    /// Figures of the log; `None` until it is recovered.
    pub fn log_stats(&self) -> Option<storage::LogStats> {
        self.core.disk.stats()
    }
}

impl Core {
    /// Nothing waits for the group any more.
    fn forget(&mut self, group: GroupId) {
        self.timers.set(group, None);
        self.dirty.remove(&group);
        self.busy.remove(&group);
        self.blocked.remove(&group);
        self.awaited.retain(|awaited| awaited.1 != group);
        self.memory.retain(|awaited| awaited.0 != group);
        self.states.drop_group(group);
    }

    /// The answer to a read of a group that is closed.
    fn gone(&mut self, group: GroupId, reader: Reader) {
        if let Reader::Machine { token, index } = reader {
            self.output(GroupOutput::Read { token, group, index, result: Err(ReadGone::Gone) });
        }
    }
}

/// A fixed scrambling of 64 bits (the finalizer of splitmix64): spreads groups over cores and seeds over groups,
/// equally on every server.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
