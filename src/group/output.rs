//! What the groups of a core tell the hub, as values, and what they answer to its questions.

use bytes::Bytes;

use super::spec::GroupKind;
use crate::cluster::wire::NodeMsg;
use crate::ids::{GroupId, Place, ServerId};

/// Something the hub must act on. Drained with [`super::Groups::poll_output`] after every turn, in order.
///
/// The machine of a group (a stream, a consumer, the meta table) sees, in this order and nothing else:
/// `Restore RestoreEntry* Restored (Appended | Truncated | Committed | Install RestoreEntry* Restored)*`.
/// Only entries with a body are shown; indexes have gaps where raft keeps entries of its own.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupOutput {
    /// The log is read; every group that was found in it. Comes once, before any other output.
    Recovered(Vec<RecoveredGroup>),
    /// An opened group starts with this state (`None`: empty).
    Restore {
        group: GroupId,
        checkpoint: Option<Bytes>,
    },
    /// A live entry, in any order, below or above the checkpoint.
    RestoreEntry {
        group: GroupId,
        index: u64,
        body: Bytes,
    },
    /// That was all; entries up to `committed` are to be applied, the others are pending like after `Appended`.
    Restored {
        group: GroupId,
        committed: u64,
    },
    /// An entry is in the log, on its way to the disk, not committed. It supersedes nothing: `Truncated` comes before.
    Appended {
        group: GroupId,
        index: u64,
        body: Bytes,
    },
    /// Pending entries with this index or a higher one are gone.
    Truncated {
        group: GroupId,
        from: u64,
    },
    /// Entries up to here are committed: apply them, then call [`super::Groups::applied`].
    Committed {
        group: GroupId,
        upto: u64,
    },
    /// This replica leads now or no more, or somebody else does. It leads once an entry of its own term was handed out as
    /// committed: the machine has then applied everything that any leader before it acknowledged.
    Role {
        group: GroupId,
        leading: bool,
        term: u64,
        leader: Option<ServerId>,
    },
    /// This replica had forgotten, and has been told by a leader that it is whole again: whatever an earlier life knew lies
    /// at or below `upto`.
    Whole {
        group: GroupId,
        upto: u64,
    },
    /// A membership without this replica is committed: the group goes on without it, and closing it here harms
    /// nobody. Never said of the meta group.
    Removed {
        group: GroupId,
    },
    /// A leader's state replaces the machine's; `RestoreEntry`s and `Restored` follow.
    Install {
        group: GroupId,
        index: u64,
        checkpoint: Bytes,
    },
    /// The answer to a pending read.
    Read {
        token: ReadToken,
        group: GroupId,
        index: u64,
        result: Result<Bytes, ReadGone>,
    },
    /// Please call [`super::Groups::checkpoint`] with the state as of the last applied entry, soon.
    WantCheckpoint {
        group: GroupId,
    },
    /// A checkpoint as of this entry is durable: a restart begins there, and what it does not need may be released.
    Checkpointed {
        group: GroupId,
        index: u64,
    },
    /// The checkpoint that was being written could not be: the machine offers one again.
    CheckpointRefused {
        group: GroupId,
    },
    /// For that core of another server.
    Send {
        to: Place,
        msg: NodeMsg,
    },
    /// The store is full: proposals are refused until `SpaceBack`.
    SpaceLow,
    SpaceBack,
    /// The store is still full, and what was released may need a checkpoint to come back.
    SpaceWanted,
    /// This core cannot go on; the process must stop.
    Broken {
        why: String,
    },
    /// For the operator; about one group, or about the store of this core.
    Log {
        group: Option<GroupId>,
        level: LogLevel,
        text: String,
    },
}

/// Severity of [`GroupOutput::Log`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// A group that recovery found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredGroup {
    pub group: GroupId,
    /// `None` when the descriptor is damaged.
    pub kind: Option<GroupKind>,
    /// Highest index in the log, 0 if there is none.
    pub last_index: u64,
    /// True when some record of the group could not be read.
    pub damaged: bool,
    /// Up to which entry an earlier life, on a disk that is gone, may have known this log: 0 if there was none, the
    /// highest number while a leader has not said so yet.
    pub past: u64,
}

/// Why a proposal was not taken. Nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposeRefused {
    NotLeader {
        leader: Option<ServerId>,
    },
    /// Too much is on its way already, leadership is being handed over, or the group is still being restored.
    Busy,
    /// The store is full.
    Full,
    /// No such group is open here.
    Unknown,
    /// Larger than the log can ever store.
    TooLarge,
}

/// Names one read that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadToken(pub u64);

/// The answer to [`super::Groups::read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadBody {
    Ready(Bytes),
    /// [`GroupOutput::Read`] with this token follows.
    Pending(ReadToken),
    /// Not in the log (released, truncated, never there).
    Gone,
    /// Too many reads are under way; try again after one has answered.
    Busy,
}

/// Why a pending read found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadGone {
    /// Released or truncated meanwhile, or the group is closed.
    Gone,
    /// The stored bytes are damaged and no peer could give them back in time.
    Damaged,
}

/// What this replica plays in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupRole {
    /// Being read back from the log; neither votes nor leads.
    Restoring,
    /// Damaged beyond healing; neither votes nor leads, the log says why.
    Closed,
    Follower,
    Candidate,
    Leader,
}

/// One group as pages and `INFO` answers show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStatus {
    pub group: GroupId,
    pub kind: GroupKind,
    pub memory: bool,
    pub role: GroupRole,
    pub epoch: u32,
    pub term: u64,
    pub leader: Option<ServerId>,
    /// Since when this replica serves as the leader, nanoseconds of the Unix epoch.
    pub led_since_ns: Option<i64>,
    pub voters: Vec<ServerId>,
    /// The voters before, while a change is under way: both must agree meanwhile.
    pub outgoing: Vec<ServerId>,
    pub learners: Vec<ServerId>,
    pub commit: u64,
    pub applied: u64,
    pub last: u64,
    pub first: u64,
    /// Known to the leader only; empty elsewhere.
    pub peers: Vec<PeerStatus>,
    /// The voters that a running membership change leads to.
    pub target: Option<Vec<ServerId>>,
    /// This replica has forgotten something that it may have promised: it does not vote until a leader has caught it
    /// up. While a majority is in that state, the group has no leader.
    pub voteless: bool,
    /// Entries that are damaged here and not healed.
    pub damaged: u64,
    pub quiet: bool,
}

impl GroupStatus {
    /// Whether a server belongs to the group, before or after a change that is under way.
    pub fn has_member(&self, server: ServerId) -> bool {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).any(|member| *member == server)
    }
}

/// A leader's view of one other replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    pub server: ServerId,
    /// Has everything that is committed, and is heard of.
    pub current: bool,
    /// Entries that it lacks.
    pub lag: u64,
    /// When it was last heard of, microseconds of [`crate::ids::Now::us`]; `None`: never.
    pub last_contact_us: Option<u64>,
    /// State is being streamed to it.
    pub catching_up: bool,
}
