//! One replica of one group: its raft node, the bodies that raft never sees, and what it still has to do.
//!
//! ```text
//!   Reading ──► Running ──► Reading (a catch-up replaced the state) ──► Running
//!      └──► Closed (damage that nobody can heal: neither votes nor leads, others go on)
//! ```
//!
//! The verbs are spread by concern: `turn` (raft's outputs), `send` (bodies for appends), `restore`, `retain`
//! (checkpoints and space), `catchup`, `heal`, `members`, `leave`.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::{Membership, Node, NodeId};

use super::body::{Header, Tag, payload};
use super::catchup::receive::Receiver;
use super::catchup::send::Sender;
use super::core::{Core, Reader};
use super::crowd::Stuck;
use super::heal::Heal;
use super::leave::Leave;
use super::log::{Claim, Fetch, ReadTicket, Stored};
use super::mem::MemLog;
use super::output::{GroupOutput, LogLevel, ProposeRefused, ReadBody};
use super::restore::Restore;
use super::retain::Retain;
use super::send::Parked;
use super::spec::{Anew, GroupKind, GroupSpec};
use super::turn::Write;
use super::window::Window;
use crate::ids::{GroupId, Now, Place, ServerId};
use crate::limits::GROUP_BACKLOG_BYTES_MAX;

pub(super) enum Phase {
    /// The state is being read back.
    Reading(Box<Restore>),
    Running,
    /// Cannot be used; the reason has been logged.
    Closed,
}

pub(super) struct Replica {
    pub id: GroupId,
    pub kind: GroupKind,
    pub priority_low: bool,
    pub epoch: u32,
    pub phase: Phase,
    /// `None` until the state was read back for the first time.
    pub node: Option<Box<Node>>,
    /// The log of a memory group.
    pub mem: Option<MemLog>,
    pub window: Window,
    /// Bodies of entries that raft has not asked to be written yet, by (index, term).
    pub staged: BTreeMap<(u64, u64), Bytes>,
    /// What raft asked to be written and the log had no room for.
    pub writes: VecDeque<Write>,
    pub write_refused: bool,
    pub stuck: Option<Stuck>,
    /// The newest entry that gives space back, and when to see whether a full follower needs a state for it.
    pub relief: u64,
    pub relief_at: Option<u64>,
    pub retain: Retain,
    /// What `Committed` or `Restored` said last.
    pub commit: u64,
    /// Whether raft leads here, in which term, and who leads.
    pub shown: (bool, u64, Option<ServerId>),
    /// What `Role` said last: the same, but leading only with an entry of the own term committed.
    pub told: (bool, u64, Option<ServerId>),
    pub parked: BTreeMap<ServerId, VecDeque<Parked>>,
    pub senders: BTreeMap<ServerId, Sender>,
    pub receiver: Option<Receiver>,
    /// A marker on disk says that entries beyond the own log belong to a catch-up.
    pub marked: Option<u64>,
    pub forgotten: bool,
    /// Why it is closed.
    pub closed: Option<String>,
    /// Some of what the log says beside the entries could not be read.
    pub notes_damaged: bool,
    /// By whose word it may begin anew.
    pub anew: Option<Anew>,
    /// The membership that the log's note has.
    pub noted: Option<Membership>,
    /// The newest membership may not be noted.
    pub unsettled: bool,
    pub heal: Heal,
    pub leave: Leave,
    /// The voters that the group shall have.
    pub target: Option<Vec<NodeId>>,
    /// When the target is looked at again.
    pub members_at: Option<u64>,
    /// Since when it serves as the leader, nanoseconds of the Unix epoch.
    pub led_since_ns: Option<i64>,
    /// Other members, as registered with the core.
    pub peers: Vec<ServerId>,
    /// What the digests of node heartbeats count this group as.
    pub digest: Vec<(Place, u64, bool)>,
    /// Nothing has happened since.
    pub active_us: u64,
    /// The leader may be gone, or may not lead any more: no sleep before it has spoken.
    pub doubted: bool,
    /// The round trip that the timing follows.
    pub rtt_us: u64,
    /// When a read that the log was too busy for is tried again.
    pub again_at: Option<u64>,
}

impl Replica {
    pub fn new(spec: &GroupSpec, now: Now) -> Replica {
        Replica {
            id: spec.group,
            kind: spec.kind,
            priority_low: spec.priority_low,
            epoch: 1,
            phase: Phase::Closed,
            node: None,
            mem: spec.memory.then(MemLog::default),
            window: Window::default(),
            staged: BTreeMap::new(),
            writes: VecDeque::new(),
            write_refused: false,
            stuck: None,
            relief: 0,
            relief_at: None,
            retain: Retain::default(),
            commit: 0,
            shown: (false, 0, None),
            told: (false, 0, None),
            parked: BTreeMap::new(),
            senders: BTreeMap::new(),
            receiver: None,
            marked: None,
            forgotten: false,
            closed: None,
            notes_damaged: false,
            anew: None,
            noted: None,
            unsettled: false,
            heal: Heal::default(),
            leave: Leave::default(),
            target: None,
            members_at: None,
            led_since_ns: None,
            peers: Vec::new(),
            digest: Vec::new(),
            active_us: now.us,
            doubted: false,
            rtt_us: 0,
            again_at: None,
        }
    }

    /// The node, unless the state is being read back or the group is closed.
    pub fn running(&mut self) -> Option<&mut Node> {
        match self.phase {
            Phase::Running => self.node.as_deref_mut(),
            _ => None,
        }
    }

    pub fn is_leader(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.is_leader())
    }

    /// `claim`: how deep it may reach into what a full log holds back.
    pub fn propose(&mut self, core: &mut Core, now: Now, body: &[u8], claim: Claim) -> Result<u64, ProposeRefused> {
        if body.len() + super::body::HEADER_BYTES > core.disk.record_bytes_max() {
            return Err(ProposeRefused::TooLarge);
        }
        let tag = if claim == Claim::Relief { Tag::Relief } else { Tag::Data };
        let header = Header { machine: self.kind, tag, stamp: self.commit };
        let blocked = !self.writes.is_empty();
        let durable = self.mem.is_none();
        let crowded = claim == Claim::Plain && self.is_crowded(core);
        let Some(node) = self.running() else { return Err(ProposeRefused::Busy) };
        if !node.is_leader() {
            return Err(ProposeRefused::NotLeader { leader: node.leader().map(server) });
        }
        if crowded || durable && !core.has_room(body.len() + super::body::HEADER_BYTES, claim) {
            return Err(ProposeRefused::Full);
        }
        if blocked || durable && core.disk.stats().is_none_or(|stats| stats.bytes_unstored > GROUP_BACKLOG_BYTES_MAX) {
            return Err(ProposeRefused::Busy);
        }
        let body = header.encode(body);
        let index = node.propose(now.us, body.len() as u32).map_err(refusal)?;
        let term = node.term();
        core.promised += if durable { body.len() } else { 0 };
        self.staged.insert((index, term), body);
        self.active_us = now.us;
        core.dirty.insert(self.id);
        Ok(index)
    }

    /// Takes raft's message of a peer, with the bodies of its entries.
    pub fn on_raft(
        &mut self,
        core: &mut Core,
        now: Now,
        from: ServerId,
        mut message: raft::Message,
        mut bodies: Vec<Bytes>,
    ) {
        if message.from != node_id(from) || message.to != node_id(core.server()) {
            return;
        }
        if let raft::Body::Removed { index, question } = message.body
            && !matches!(self.phase, Phase::Running)
        {
            return self.on_removed_unread(core, index, question);
        }
        let blocked = !self.writes.is_empty();
        if !matches!(self.phase, Phase::Running) || self.is_completing() {
            return;
        }
        if let raft::Body::Append { entries, .. } = &mut message.body {
            // Unanswered: the leader sends again, and by then there may be room. What raft has taken waits in line with
            // the votes, so nothing is taken that would have to wait long.
            if blocked && !entries.is_empty() {
                return;
            }
            if self.mem.is_none() && !bodies.is_empty() {
                let taken = promise(core, self.kind, &bodies);
                if taken == 0 {
                    return;
                }
                entries.truncate(taken);
                bodies.truncate(taken);
            }
            if !self.stage(entries, bodies) {
                core.log_of(
                    self.id,
                    LogLevel::Warn,
                    format!("an append of {from} does not carry what it announces; dropped"),
                );
                return;
            }
        }
        let term = message.term;
        let speaks = matches!(message.body, raft::Body::Append { .. } | raft::Body::Heartbeat { .. });
        if let Some(node) = self.running() {
            let slept = node.is_quiet();
            node.step(now.us, message);
            let led = speaks && node.term() == term && node.leader() == Some(node_id(from));
            let leads = node.is_leader();
            self.doubted &= !led;
            // A leader's own heartbeats are answered; that alone is no reason to stay awake. To be woken is.
            if !leads || slept {
                self.active_us = now.us;
            }
        }
        core.dirty.insert(self.id);
    }

    /// Keeps the bodies for the `Persist` that follows; false if they are not what the entries say.
    fn stage(&mut self, entries: &[raft::Entry], bodies: Vec<Bytes>) -> bool {
        if entries.len() != bodies.len() || !entries.iter().zip(&bodies).all(|(entry, body)| self.fits(entry, body)) {
            return false;
        }
        for (entry, body) in entries.iter().zip(bodies) {
            self.staged.insert((entry.index, entry.term), body);
        }
        true
    }

    /// Whether a body from outside is what its entry says.
    fn fits(&self, entry: &raft::Entry, body: &Bytes) -> bool {
        let Some(header) = Header::decode(body) else { return false };
        let same = match &entry.kind {
            raft::EntryKind::Data => header.tag.is_data() && body.len() == entry.len as usize,
            raft::EntryKind::Noop => header.tag == Tag::Noop,
            raft::EntryKind::Membership(membership) => {
                header.tag == Tag::Membership && payload(body).as_ref() == encoded(membership)
            }
        };
        same && header.machine == self.kind
    }

    /// An entry's whole body, from memory if possible.
    pub fn fetch(&mut self, core: &mut Core, from: u64, to: u64, bytes_max: usize) -> Fetch {
        if let Some(stored) = self.window.get(from) {
            return Fetch::Ready(vec![stored]);
        }
        match &self.mem {
            Some(mem) => match mem.range(from, to, bytes_max) {
                list if list.is_empty() => Fetch::Missing,
                list => Fetch::Ready(list),
            },
            None => core.disk.read(self.id, from, to, bytes_max),
        }
    }

    pub fn wakeup(&mut self, core: &mut Core, now: Now) {
        if !self.is_completing()
            && let Some(node) = self.running()
        {
            node.wakeup(now.us);
        }
        core.dirty.insert(self.id);
    }

    /// Hands leadership over; to the voter with the longest log that is alive if none is named.
    pub fn transfer(&mut self, core: &mut Core, now: Now, to: Option<ServerId>) -> bool {
        let id = self.id;
        let Some(node) = self.running().filter(|node| node.is_leader()) else { return false };
        let status = node.status();
        let alive = |peer: &&raft::PeerStatus| {
            let place = core.place(server(peer.id), id);
            status.membership.voters.contains(&peer.id) && place.is_some_and(|place| core.beats.is_alive(place))
        };
        let best = || status.peers.iter().filter(alive).max_by_key(|peer| peer.matched).map(|peer| peer.id);
        let Some(to) = to.map(node_id).or_else(best) else { return false };
        let taken = node.transfer(now.us, to).is_ok();
        core.dirty.insert(id);
        taken
    }

    /// Reads an entry for the machine.
    pub fn read(&mut self, core: &mut Core, now: Now, index: u64) -> ReadBody {
        match self.fetch(core, index, index, usize::MAX) {
            Fetch::Ready(list) => match list.first() {
                Some(stored) => ReadBody::Ready(payload(&stored.body)),
                None => self.lost(core, now, index),
            },
            Fetch::Pending(ticket) => {
                let token = core.token();
                core.reads.insert(ticket, (self.id, Reader::Machine { token, index }));
                ReadBody::Pending(token)
            }
            Fetch::Busy => ReadBody::Busy,
            Fetch::Missing => self.lost(core, now, index),
            Fetch::Damaged(_) => {
                let token = core.token();
                self.await_healing(core, now, index, token);
                ReadBody::Pending(token)
            }
        }
    }

    /// The machine asks for an entry that is not there: lost with damage that could not be told to be this group's, if
    /// the machine has not let go of it.
    fn lost(&mut self, core: &mut Core, now: Now, index: u64) -> ReadBody {
        if !core.doubt || self.mem.is_some() || index > self.commit || self.retain.is_released(index) {
            return ReadBody::Gone;
        }
        let token = core.token();
        self.await_healing(core, now, index, token);
        ReadBody::Pending(token)
    }

    /// The answer to a read of this group's log.
    pub fn on_read(&mut self, core: &mut Core, now: Now, ticket: ReadTicket, reader: Reader, result: ReadOutcome) {
        match reader {
            Reader::Machine { token, index } => self.answer(core, now, token, index, result),
            Reader::Append(to) => self.unpark(core, now, to, ticket, result),
            Reader::Restore => self.restore_read(core, now, ticket, result),
            Reader::Catchup(to) => self.sender_read(core, now, to, ticket, result),
            Reader::Want(to) => self.give(core, to, result),
        }
    }

    fn answer(&mut self, core: &mut Core, now: Now, token: super::output::ReadToken, index: u64, result: ReadOutcome) {
        let result = match result {
            Ok(list) => match list.first() {
                Some(stored) => Ok(payload(&stored.body)),
                None => Err(super::output::ReadGone::Gone),
            },
            Err(_) => return self.await_healing(core, now, index, token),
        };
        core.output(GroupOutput::Read { token, group: self.id, index, result });
    }
}

/// Entries that were read, or the index of the first damaged one.
pub(super) type ReadOutcome = Result<Vec<Stored>, u64>;

/// How many of the entries that a leader sent the log takes, from the first on. What gives space back to a full store, and a
/// new leader's first word, may use what is held back for them.
fn promise(core: &mut Core, kind: GroupKind, bodies: &[Bytes]) -> usize {
    let is_plain = |body: &Bytes| Header::decode(body).is_none_or(|header| header.tag == Tag::Data);
    let bytes: usize = bodies.iter().map(Bytes::len).sum();
    if !bodies.iter().any(is_plain) || core.has_room(bytes, Claim::Plain) {
        return if core.promise(bytes, Claim::Relief) { bodies.len() } else { 0 };
    }
    // The log is full now and says so, before what is held back for followers is used: leaders hear of it in time.
    let claim = |body| match kind {
        _ if !is_plain(body) => Claim::Relief,
        GroupKind::Consumer => Claim::Progress,
        _ => Claim::Follow,
    };
    bodies.iter().take_while(|body| core.promise(body.len(), claim(body))).count()
}

pub(super) fn node_id(server: ServerId) -> NodeId {
    NodeId(server.0)
}

pub(super) fn server(node: NodeId) -> ServerId {
    ServerId(node.0)
}

pub(super) fn encoded(membership: &raft::Membership) -> Vec<u8> {
    let mut out = Vec::with_capacity(membership.encoded_len());
    membership.encode(&mut out);
    out
}

fn refusal(error: raft::ProposeError) -> ProposeRefused {
    match error {
        raft::ProposeError::NotLeader { leader } => ProposeRefused::NotLeader { leader: leader.map(server) },
        _ => ProposeRefused::Busy,
    }
}
