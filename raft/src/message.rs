//! What replicas of a group say to each other. Values only; `wire` gives them bytes, the caller adds payloads.

use crate::{Epoch, Index, Membership, NodeId, Term};

/// What an entry is for. Only `Data` carries bytes of the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    Data,
    /// The empty entry with which a leader opens its term. (The very first term of a group opens with its membership.)
    Noop,
    /// The group's members from here on. In use as soon as it is in the log, as the Raft thesis has it (section 4.1).
    Membership(Box<Membership>),
}

/// One position of the log. The payload itself stays with the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub term: Term,
    pub index: Index,
    /// Payload bytes. For a membership: the length of its encoding. For a noop: 0.
    pub len: u32,
    pub kind: EntryKind,
}

/// One message between two replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub from: NodeId,
    pub to: NodeId,
    /// A message of another epoch is dropped: that is what fences a re-formed group's past.
    pub epoch: Epoch,
    /// The sender's term; in a pre-vote and its granted answer, the term that the candidate would open.
    pub term: Term,
    pub body: Body,
}

/// Said by a replica with every answer while it has forgotten (see [`crate::Restore::voteless`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amnesia {
    /// Tells this forgetting from any other.
    pub nonce: u64,
    /// Its term and vote are gone too, not only entries.
    pub votes: bool,
}

/// The kinds of message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Would you vote for me? Changes no state anywhere.
    /// `stamp`: of the members by whose unanimous word the candidate may begin anew; 0 if it may not.
    PreVote {
        last_index: Index,
        last_term: Term,
        stamp: u64,
    },
    PreVoteReply {
        granted: bool,
        amnesia: Option<Amnesia>,
    },
    /// `transfer`: the leader itself asked for this election, so a fresh lease is no reason to refuse.
    Vote {
        last_index: Index,
        last_term: Term,
        transfer: bool,
        stamp: u64,
    },
    /// With amnesia it is an empty grant, which counts towards no quorum: see `anew`.
    VoteReply {
        granted: bool,
        amnesia: Option<Amnesia>,
    },
    /// `entries` follow `prev_index` without a gap.
    Append {
        prev_index: Index,
        prev_term: Term,
        commit: Index,
        entries: Vec<Entry>,
    },
    /// The log is durable and equal to the leader's up to `matched`. `commit` is what this replica knows as committed.
    AppendReply {
        matched: Index,
        commit: Index,
        amnesia: Option<Amnesia>,
    },
    /// No entry with the asked-for term at `rejected`. The logs can agree at `hint_index` at best, where this replica
    /// has `hint_term`.
    AppendReject {
        rejected: Index,
        hint_index: Index,
        hint_term: Term,
        amnesia: Option<Amnesia>,
    },
    /// `round` numbers the leader's questions "do you still follow me?"; reads and the healing of forgetful replicas
    /// wait for a quorum of answers. `healed` names the amnesia that is over.
    Heartbeat {
        commit: Index,
        round: u64,
        healed: Option<u64>,
    },
    HeartbeatReply {
        commit: Index,
        round: u64,
        amnesia: Option<Amnesia>,
    },
    /// The log no longer reaches back to you; the state as of `index` comes by another way.
    Snapshot {
        index: Index,
        term: Term,
        membership: Box<Membership>,
    },
    /// The state up to `index` is stored here.
    SnapshotReply {
        index: Index,
        amnesia: Option<Amnesia>,
    },
    /// Start an election now: I hand over.
    TimeoutNow,
    /// From a replica that may not campaign (learner, forgetful, fenced) and hears no leader, or that may have been
    /// removed: whoever leads, speak. `question` comes back with the answer.
    Seek {
        question: u64,
    },
    /// A leader's answer to a `Seek` of somebody who is no member: so says its newest membership, which is committed and
    /// stands at `index`.
    Removed {
        index: Index,
        question: u64,
    },
}

impl Body {
    /// Whether only a leader of the message's term can have sent this.
    pub(crate) fn is_from_leader(&self) -> bool {
        matches!(self, Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } | Body::TimeoutNow)
    }
}
