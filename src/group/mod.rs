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

mod output;
mod spec;

pub use output::{
    GroupOutput, GroupRole, GroupStatus, LogLevel, PeerStatus, ProposeRefused, ReadBody, ReadGone, ReadToken,
    RecoveredGroup,
};
pub use spec::{GroupKind, GroupSpec, GroupsOptions, Timing, home_core};

use bytes::Bytes;

use crate::cluster::wire::{CatchupStep, Heartbeat};
use crate::ids::{GroupId, Now, Place, ServerId};

/// All groups of one core.
pub struct Groups;

impl Groups {
    /// Begins to recover the log at once: drain [`Groups::poll_disk`].
    pub fn new(options: GroupsOptions) -> Groups {
        unimplemented!("{options:?}")
    }

    /// What the disk shall do. Drain after every call of another verb.
    pub fn poll_disk(&mut self) -> Option<storage::DiskOp> {
        None
    }

    pub fn on_disk(&mut self, _now: Now, _done: storage::DiskDone) {}

    /// Attaches to what recovery found, or creates the group. Call after [`GroupOutput::Recovered`].
    pub fn open(&mut self, _now: Now, _spec: GroupSpec) {}

    /// Drops the group for good, from disk too; also one that was recovered and never opened.
    pub fn close(&mut self, _now: Now, _group: GroupId) {}

    /// Groups that recovery found and nobody has opened.
    pub fn orphans(&self) -> Vec<GroupId> {
        Vec::new()
    }

    /// Appends a body to a group that this server leads; its index.
    pub fn propose(&mut self, _now: Now, _group: GroupId, _body: Bytes) -> Result<u64, ProposeRefused> {
        Err(ProposeRefused::Unknown)
    }

    /// The voters that the group shall have. Every replica may be told; the leader acts: new ones join as learners, are
    /// caught up, then one joint change makes them voters and lets the others go. The newest target wins; `false` if
    /// no such group is open.
    pub fn change_members(&mut self, _now: Now, _group: GroupId, _voters: Vec<ServerId>) -> bool {
        false
    }

    /// Hands leadership over, to the best follower if none is named. `false` if this server does not lead.
    pub fn transfer(&mut self, _now: Now, _group: GroupId, _to: Option<ServerId>) -> bool {
        false
    }

    /// Hands every leadership over: the first step of a clean stop.
    pub fn transfer_all(&mut self, _now: Now) {}

    pub fn on_raft(
        &mut self,
        _now: Now,
        _from: ServerId,
        _group: GroupId,
        _message: raft::Message,
        _bodies: Vec<Bytes>,
    ) {
    }

    pub fn on_catchup(&mut self, _now: Now, _from: ServerId, _group: GroupId, _epoch: u32, _step: CatchupStep) {}

    pub fn on_heartbeat(&mut self, _now: Now, _from: Place, _heartbeat: Heartbeat) {}

    pub fn on_heartbeat_list(&mut self, _now: Now, _from: Place, _leads: Vec<(GroupId, u64)>) {}

    /// A link to a server with that many cores stands.
    pub fn peer_up(&mut self, _now: Now, _peer: ServerId, _cores: u16) {}

    /// The link is gone.
    pub fn peer_down(&mut self, _now: Now, _peer: ServerId) {}

    /// A measured round trip, microseconds.
    pub fn peer_rtt(&mut self, _now: Now, _peer: ServerId, _rtt_us: u64) {}

    /// The body of an entry of this replica's log.
    pub fn read(&mut self, _now: Now, _group: GroupId, _index: u64) -> ReadBody {
        ReadBody::Gone
    }

    /// The machine needs no entry below this index any more.
    pub fn release(&mut self, _group: GroupId, _below: u64) {}

    /// So many bytes of an entry are of no use to the machine any more.
    pub fn dead(&mut self, _group: GroupId, _index: u64, _bytes: u32) {}

    /// The answer to [`GroupOutput::WantCheckpoint`]: the machine's state as of the applied entry `index`.
    pub fn checkpoint(&mut self, _now: Now, _group: GroupId, _index: u64, _state: Bytes) {}

    /// The machine has applied everything up to here.
    pub fn applied(&mut self, _now: Now, _group: GroupId, _index: u64) {}

    /// The end of a batch of events: everything that the groups decided becomes appends, messages and outputs.
    pub fn turn(&mut self, _now: Now) {}

    pub fn wakeup(&mut self, _now: Now) {}

    /// When to call [`Groups::wakeup`], microseconds of [`Now::us`]. Ask again after each turn.
    pub fn next_wakeup(&self) -> Option<u64> {
        None
    }

    pub fn poll_output(&mut self) -> Option<GroupOutput> {
        None
    }

    pub fn status(&self, _group: GroupId) -> Option<GroupStatus> {
        None
    }

    /// The open groups, ascending.
    pub fn iter_open(&self) -> impl Iterator<Item = GroupId> + '_ {
        std::iter::empty()
    }

    /// Figures of the log; `None` until it is recovered.
    pub fn log_stats(&self) -> Option<storage::LogStats> {
        None
    }
}

/// A fixed scrambling of 64 bits (the finalizer of splitmix64): spreads groups over cores and hashes digests, equally
/// on every server.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
