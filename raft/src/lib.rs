//! Raft as a value: one [`Node`] is one replica of one group, and it does nothing but decide.
//!
//! It has no clock, no disk, no socket and no payload. Entries are (term, index, length); their bytes stay with the
//! caller. Calls bring in time and what happened; [`Node::poll`] gives out what must be done. The same calls give the
//! same outputs, so a whole cluster of nodes replays from a seed.
//!
//! ```text
//!      step · wakeup · propose · persisted · applied            Persist · Send · Commit · Role · ...
//!   caller ───────────────────────────────────────► Node ─────────────────────────────────────► caller
//!                                                   (poll until None after every batch of calls)
//! ```
//!
//! # The write-ordering law
//!
//! 1. A term or a vote is durable before any message of that term leaves.
//! 2. A replica's own copy counts for the quorum, and a follower answers an append, only after the write is durable.
//! 3. A client hears "ack" only after the entry was applied, and only what is committed *and* durable here is applied.
//!
//! The node enforces 1, 2 and the second half of 3 by itself: it holds back every message and commit that depends on
//! an [`Output::Persist`] until [`Node::persisted`] names its ticket. A leader's appends are the one thing that leaves
//! while its own write of the same entries is still in flight.
//!
//! # The caller's duties
//!
//! 1. After every call, or a batch of calls of one turn, drain [`Node::poll`] until `None`, in order. What a turn
//!    produced is gathered there: a hundred proposals become one `Persist` and one append per peer.
//! 2. On [`Output::Persist`]: cut the log from `truncate_from` on (if given), append `append` with the payloads that the
//!    caller holds, write `hard`, in this order or in one atomic write; then call [`Node::persisted`]. Tickets complete
//!    in the order in which they were given; naming a later one completes all before it. A write that fails is never
//!    reported: stop the replica instead.
//! 3. On [`Output::Send`]: hand the message to the transport, adding the payloads of an append. Messages may be lost,
//!    doubled, delayed and reordered; they must not be altered. Payloads that arrive with an append belong to the
//!    `append` entries of the `Persist` that follows.
//! 4. On [`Output::Commit`]: apply everything up to the index, in order, then call [`Node::applied`].
//! 5. Call [`Node::wakeup`] no earlier than [`Node::next_wakeup`] says and ask for it again after each drain. `now` is
//!    monotonic within one life of the node; nothing is compared between nodes.
//! 6. At start, give [`Node::new`] what the disk holds: the hard state and the entries of all completed tickets (more is
//!    fine, less is not). A replica that cannot say that, because it kept its log in memory or lost a part of it, is
//!    restored with [`Restore::voteless`]. `Options::seed` differs at every start of every replica.
//! 7. On a change of [`Output::Role`] fail or re-route what waits for proposals and reads of the former term.
//! 8. On [`Output::SendSnapshot`] stream the state to that peer and say how it ended with [`Node::snapshot_sent`]; on the
//!    other side call [`Node::install_snapshot`] once the state is stored durably.
//! 9. [`Node::quiesce`] only while something else (one heartbeat per pair of servers) watches the peers' lives, and
//!    [`Node::wake`] as soon as that something doubts.
#![forbid(unsafe_code)]

mod anew;
mod candidate;
mod confchange;
mod follower;
mod gate;
mod inflight;
mod leader;
mod log;
mod membership;
mod message;
mod node;
mod options;
mod output;
mod progress;
mod quiet;
pub mod quorum;
mod read;
mod step;
mod timing;
pub mod wire;

pub use anew::Anew;
pub use membership::{LEARNERS_MAX, Membership, MembershipChange, MembershipError, VOTERS_MAX};
pub use message::{Amnesia, Body, Entry, EntryKind, Message};
pub use node::Node;
pub use options::{HardState, Options, Preference, ProposeError, ReadError, Restore, RestoreError, TransferError};
pub use output::{Installed, Output, PeerState, PeerStatus, Role, Status, Ticket};
pub use quorum::{CommitRule, SpanError};

/// A leader's time in office. 0 is before the first election.
pub type Term = u64;
/// A place in a group's log. The first entry is 1; 0 is "nothing".
pub type Index = u64;
/// A group's incarnation. It is raised when a group that lost its quorum is re-formed.
pub type Epoch = u32;
/// Microseconds of a monotonic clock; only differences mean anything.
pub type Now = u64;

/// The largest term or index that a message may carry. Far above what any group reaches, and low enough that adding to
/// one never overflows: a message beyond it is damage or malice and is dropped.
pub const NUMBER_MAX: u64 = 1 << 62;

/// How far ahead of a replica's own term that of a message may lie. Terms grow by one per election, and by up to 2^32 where
/// a group in memory begins anew: a replica that never heard of its group may be tens of thousands of those behind. More is
/// nonsense, and one such message must not use up the numbers that are left.
pub const TERM_JUMP_MAX: u64 = 1 << 48;

/// A replica's name within its group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
