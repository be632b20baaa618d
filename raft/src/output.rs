//! What a node asks of its caller, and what it tells about itself.

use crate::{Entry, Epoch, HardState, Index, Membership, Message, NodeId, Now, Term};

/// Names one `Persist`. Tickets of a node count upward and complete in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Something the caller must do. The order matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make this durable, then call [`crate::Node::persisted`]. `truncate_from`: entries from this index on are void,
    /// and go before `append` is written.
    Persist {
        ticket: Ticket,
        hard: Option<HardState>,
        truncate_from: Option<Index>,
        append: Vec<Entry>,
    },
    Send(Message),
    /// Apply up to here. Only durable entries, and never the same twice in one life.
    Commit(Index),
    /// The role, the term or the leader changed.
    Role {
        role: Role,
        term: Term,
        leader: Option<NodeId>,
    },
    /// The read asked for under `context` may be served once `index` is applied.
    ReadReady {
        context: u64,
        index: Index,
    },
    /// This follower needs what the log no longer has. Nothing more is sent to it until
    /// [`crate::Node::snapshot_sent`], or until it reports a state that the log reaches.
    SendSnapshot {
        to: NodeId,
    },
    /// The leader is about to stream the state as of `index`. Pull it, or wait for it.
    ReceiveSnapshot {
        from: NodeId,
        index: Index,
        term: Term,
        membership: Membership,
    },
    /// Another membership is in use: entered with its entry, left again when that entry was cut off. It is committed
    /// once [`Status::membership_index`] ≤ [`Status::commit`].
    MembershipChanged(Membership),
    /// A replica that had forgotten counts and votes again. Its marker may be removed.
    Healed,
    /// This replica leads by everybody's grant though a majority has forgotten ([`crate::Node::set_anew`]): what only those
    /// had is lost.
    BeganAnew,
    /// A leader's log contradicts what is committed here, at this index. Two histories have met: the message was
    /// refused, the replica keeps what it has, and a person must look.
    Diverged {
        from: NodeId,
        index: Index,
    },
}

/// What a node is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Follower,
    /// Asks whether an election would be won, before disturbing anyone.
    PreCandidate,
    Candidate,
    Leader,
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Everything in it is committed here already: the stored copy may go.
    Stale,
    /// The log holds the same entry at its index: it stays as it is, and is committed that far.
    Matched,
    /// The log starts anew after it: every stored entry is void.
    Restarted,
}

/// How a leader feeds a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// Looking for the place where the logs agree, one message at a time.
    Probe,
    /// Streaming, several messages in flight.
    Replicate,
    /// Waiting for a snapshot to arrive there.
    Snapshot,
}

/// A leader's view of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    pub id: NodeId,
    /// Highest index known durable there.
    pub matched: Index,
    /// The next index to send.
    pub next: Index,
    pub state: PeerState,
    pub last_contact: Now,
    pub inflight_messages: usize,
    pub inflight_bytes: u64,
    /// False while the peer has forgotten what it once acknowledged, and its term and vote with it.
    pub counts: bool,
    /// It has forgotten and has not been healed, or is not known to know that it has.
    pub forgot: bool,
}

/// A copy of everything worth showing. Costs an allocation per list; ask [`crate::Node`]'s small getters in hot paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub id: NodeId,
    pub epoch: Epoch,
    pub role: Role,
    pub term: Term,
    pub vote: Option<NodeId>,
    pub leader: Option<NodeId>,
    /// First index the log still has; `last + 1` when it has none.
    pub first: Index,
    pub last: Index,
    /// Known committed. May run ahead of `durable`; `Output::Commit` never does.
    pub commit: Index,
    pub applied: Index,
    /// Highest index whose write has completed here.
    pub durable: Index,
    pub membership: Membership,
    pub membership_index: Index,
    /// The group is known to go on without this replica.
    pub removed: bool,
    pub voteless: bool,
    pub fenced: bool,
    pub quiet: bool,
    pub transferring: Option<NodeId>,
    pub uncommitted_bytes: u64,
    /// When a follower or candidate starts the next election.
    pub election_deadline: Option<Now>,
    /// Messages dropped because they were of another epoch.
    pub foreign_epochs: u64,
    /// On a leader: its peers, by id.
    pub peers: Vec<PeerStatus>,
}
