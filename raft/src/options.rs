//! What a node is built from, and how its verbs refuse.

use crate::{CommitRule, Entry, Epoch, Index, Membership, MembershipError, NodeId, SpanError, Term};

/// Whether this replica should rather lead than its peers. It only moves the election timeout within its range, so it
/// decides who wakes first, never who may win.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// First half of the range.
    Preferred,
    /// The whole range.
    #[default]
    Neutral,
    /// Second half of the range.
    Averse,
}

/// A node's fixed facts and bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub id: NodeId,
    pub epoch: Epoch,
    pub commit_rule: CommitRule,
    /// The shortest wait for a leader, microseconds; each wait is drawn from [1x, 2x). At least twice `heartbeat_us`.
    pub election_timeout_us: u64,
    pub heartbeat_us: u64,
    /// Payload bytes on their way to one follower.
    pub inflight_bytes_max: u64,
    /// Appends on their way to one follower.
    pub inflight_messages_max: usize,
    /// Payload bytes of one append. A larger entry travels alone.
    pub append_bytes_max: u64,
    /// Payload bytes of a leader's uncommitted entries. One entry is always let in.
    pub uncommitted_bytes_max: u64,
    pub preference: Preference,
    /// Different for every replica and every start.
    pub seed: u64,
}

impl Options {
    /// Usual bounds: 1 s / 100 ms for a link of unknown length (follow it up with `set_timing` once it is measured); a
    /// 4 MiB window, which at 20 ms round trip carries 200 MB/s; 1 MiB per append, a tenth of a second at 10 MB/s;
    /// 64 MiB uncommitted, what a leader may lose the ability to hold back when its followers are gone.
    pub fn new(id: NodeId, epoch: Epoch, seed: u64) -> Options {
        Options {
            id,
            epoch,
            commit_rule: CommitRule::Majority,
            election_timeout_us: 1_000_000,
            heartbeat_us: 100_000,
            inflight_bytes_max: 4 << 20,
            inflight_messages_max: 256,
            append_bytes_max: 1 << 20,
            uncommitted_bytes_max: 64 << 20,
            preference: Preference::Neutral,
            seed,
        }
    }
}

/// What must survive a restart besides the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub epoch: Epoch,
    pub term: Term,
    pub vote: Option<NodeId>,
}

/// What the disk gave back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restore {
    pub hard: HardState,
    /// As of `snapshot`. Later ones are among `entries`. Empty: a replica that waits to be told by its leader.
    pub membership: Membership,
    /// Where the log starts: the entry before its first. (0, 0) for a whole log.
    pub snapshot: (Index, Term),
    pub entries: Vec<Entry>,
    /// Known committed: at least the snapshot's index and `applied`.
    pub commit: Index,
    pub applied: Index,
    /// This replica has forgotten entries that it may have acknowledged: it kept them in memory, or lost them. It
    /// neither votes nor campaigns until a leader has given it everything that a forgotten answer could have stood for.
    /// When a majority has forgotten, the group stays without a leader, unless it may begin anew
    /// ([`crate::Node::set_anew`]); so does a single voter: whoever knows that there
    /// is nothing to lose restores without this.
    pub voteless: bool,
    /// Term and vote are lost as well, now or at an earlier start since which it was not healed. Implies `voteless`. Such
    /// a replica does not even count, and heals only once a quorum without it has confirmed the leader.
    pub votes_lost: bool,
}

/// Why a restore is refused. The store and the assignment contradict each other, or the store contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The disk knows a later epoch than the one asked for.
    EpochBehind {
        stored: Epoch,
    },
    /// The entry at this place of the list is not the successor of the one before it.
    EntryOrder {
        index: Index,
    },
    /// An index or term is beyond [`crate::NUMBER_MAX`].
    Number,
    /// `commit` lies outside of the log.
    Commit,
    /// `applied` lies outside of snapshot..=commit.
    Applied,
    Membership(MembershipError),
    Span(SpanError),
    /// The heartbeat is zero or the election timeout less than twice as long.
    Timing,
}

/// Why nothing was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    NotLeader {
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over.
    Transferring,
    /// Too many bytes wait for a quorum.
    Full,
    /// Another change of members is not committed yet.
    MembershipPending,
    /// The leader's first entry is not committed yet; before that no change of members is safe.
    TermUncommitted,
    /// The target is what the group has already.
    Unchanged,
    Membership(MembershipError),
    Span(SpanError),
}

/// Why leadership is not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    NotLeader {
        leader: Option<NodeId>,
    },
    /// Not a voter, or one that has forgotten.
    NotVoter,
}

/// Why a read is not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    NotLeader {
        leader: Option<NodeId>,
    },
    /// Too many reads wait already.
    Full,
}
