//! What all groups of a core share: the log, the queue of outputs, timers, peers, and who waits for what.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::crowd::Crowd;
use super::log::{Claim, Disk, ReadTicket};
use super::output::{GroupOutput, LogLevel, ReadToken};
use super::spec::{GroupsOptions, Timing, home_core};
use super::states::States;
use super::timers::Timers;
use crate::cluster::heartbeat::Heartbeats;
use crate::cluster::wire::{CatchupStep, NodeMsg};
use crate::ids::{CoreId, GroupId, Place, ServerId};

/// Something that must be durable before its group may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Awaited {
    /// A raft ticket, and the last entry that it covers.
    Ticket {
        ticket: u64,
        last: u64,
    },
    Checkpoint {
        index: u64,
    },
    /// A part of a catch-up.
    Part {
        session: u64,
        part: u32,
    },
    /// The checkpoint that ends a catch-up.
    Complete {
        session: u64,
    },
}

/// Who asked for a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reader {
    Machine {
        token: ReadToken,
        index: u64,
    },
    /// The first parked append for this peer.
    Append(ServerId),
    Restore,
    /// A catch-up that is sent to this peer.
    Catchup(ServerId),
    /// Entries that this peer wants back.
    Want(ServerId),
}

/// A server that groups are shared with.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    pub up: bool,
    pub cores: CoreId,
    pub rtt_us: u64,
    /// Open groups that it is a member of.
    pub groups: BTreeSet<GroupId>,
}

pub(super) struct Core {
    pub options: GroupsOptions,
    pub disk: Disk,
    pub outputs: VecDeque<GroupOutput>,
    pub timers: Timers,
    pub beats: Heartbeats,
    pub peers: BTreeMap<ServerId, Peer>,
    /// In the order of their appends.
    pub awaited: VecDeque<(u64, GroupId, Awaited)>,
    /// The same for memory groups: done at the end of the turn.
    pub memory: VecDeque<(GroupId, Awaited)>,
    pub reads: BTreeMap<ReadTicket, (GroupId, Reader)>,
    /// Groups that have something to do in this turn.
    pub dirty: BTreeSet<GroupId>,
    /// Groups whose writes wait for space.
    pub blocked: BTreeSet<GroupId>,
    /// Groups that are being restored or stream state and have more to read: one chunk each per turn.
    pub busy: BTreeSet<GroupId>,
    pub states: States,
    pub space_low: bool,
    /// Logs of other servers that are full.
    pub crowd: Crowd,
    /// Bytes of entries that were taken since the last turn and that the log does not know yet.
    pub promised: usize,
    /// Some damage might have been any group's vote or entry: replicas with peers start without a vote.
    pub doubt: bool,
    pub next_token: u64,
    /// Groups that a turn had to look at, since the start: what "quiet groups cost nothing" is measured by.
    pub steps: u64,
}

impl Core {
    pub fn new(options: GroupsOptions) -> Core {
        let beats = Heartbeats::new(options.boot, options.timing.node_heartbeat_us);
        // Core 0 owns the links.
        let carries = options.core == 0 && options.cores > 1;
        Core {
            disk: Disk::new(options.store.clone()),
            beats: if carries { beats.carries_others() } else { beats },
            options,
            outputs: VecDeque::new(),
            timers: Timers::default(),
            peers: BTreeMap::new(),
            awaited: VecDeque::new(),
            memory: VecDeque::new(),
            reads: BTreeMap::new(),
            dirty: BTreeSet::new(),
            blocked: BTreeSet::new(),
            busy: BTreeSet::new(),
            states: States::default(),
            space_low: false,
            crowd: Crowd::default(),
            promised: 0,
            doubt: false,
            next_token: 0,
            steps: 0,
        }
    }

    pub fn server(&self) -> ServerId {
        self.options.server
    }

    pub fn output(&mut self, output: GroupOutput) {
        self.outputs.push_back(output);
    }

    pub fn log(&mut self, level: LogLevel, text: String) {
        self.outputs.push_back(GroupOutput::Log { group: None, level, text });
    }

    pub fn log_of(&mut self, group: GroupId, level: LogLevel, text: String) {
        self.outputs.push_back(GroupOutput::Log { group: Some(group), level, text });
    }

    /// Whether entries of so many bytes can be promised a place in the log.
    pub fn has_room(&mut self, bytes: usize, claim: Claim) -> bool {
        (claim != Claim::Plain || !self.space_low) && self.disk.has_room(self.promised + bytes, claim)
    }

    /// The same, and keeps that room until the end of the turn.
    pub fn promise(&mut self, bytes: usize, claim: Claim) -> bool {
        let room = self.has_room(bytes, claim);
        self.promised += if room { bytes } else { 0 };
        room
    }

    pub fn token(&mut self) -> ReadToken {
        self.next_token += 1;
        ReadToken(self.next_token)
    }

    /// Where the other replica lives, once that server has been connected.
    pub fn home(&self, server: ServerId, group: GroupId) -> Option<Place> {
        let peer = self.peers.get(&server).filter(|peer| peer.cores > 0)?;
        Some(Place { server, core: home_core(group, peer.cores) })
    }

    /// The same, if the server is connected now.
    pub fn place(&self, server: ServerId, group: GroupId) -> Option<Place> {
        self.home(server, group).filter(|place| self.peers.get(&place.server).is_some_and(|peer| peer.up))
    }

    /// Sends, if the server is connected; raft and catch-ups bear the loss.
    pub fn send(&mut self, to: ServerId, group: GroupId, msg: NodeMsg) -> bool {
        let Some(to) = self.place(to, group) else { return false };
        self.output(GroupOutput::Send { to, msg });
        true
    }

    pub fn catchup(&mut self, to: ServerId, group: GroupId, epoch: u32, step: CatchupStep) -> bool {
        self.send(to, group, NodeMsg::Catchup { group, epoch, step })
    }

    /// Timing for a group whose slowest voter is that far away.
    pub fn timing(&self, rtt_us: u64) -> Timing {
        let Timing { election_us, heartbeat_us, node_heartbeat_us } = self.options.timing;
        // Ten round trips: a lost message and its repair fit in, and so does a burst that doubles the delay.
        let election_us = election_us.max(10 * rtt_us);
        Timing { election_us, heartbeat_us: heartbeat_us.max(rtt_us * 2).min(election_us / 4), node_heartbeat_us }
    }
}
