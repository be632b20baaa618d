//! What nodes tell each other. A node is a core: cores of one server exchange these values as they are, servers
//! exchange them encoded (see `codec`), one message after the other in frames of a lane.
//!
//! The lanes: **control** carries what must never wait behind data (votes, heartbeats, answers to appends, link
//! gossip), **data** everything whose order matters to clients (interest, leaders, messages, requests, replies, raft
//! appends), **bulk** what may wait (catch-up). Messages of one lane arrive in order; lanes overtake each other.

use bytes::Bytes;
use net::peer::lane::Lane;

use crate::cluster::forming::FormStep;
use crate::ids::{AccountId, GroupId, Place, ServerId};
use crate::reply::Reply;

/// One message between nodes.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeMsg {
    /// The sender's side gained its first, or lost its last, subscription of this filter and queue group.
    Interest { account: AccountId, subject: Bytes, queue: Option<Bytes>, add: bool },
    /// A published message for the receiver's subscribers: plain ones if `plain`, and one member of each queue named.
    Message(Routed),
    /// A service's answer or delivery, to be published on the core where the request entered.
    Reply(Reply),
    /// Nobody listens on the subject of a [`Reply`] that asked to be told.
    Bounce { group: GroupId, token: u64 },
    /// Does anybody listen on this subject? Answered by a `Bounce` if not.
    Probe { account: AccountId, subject: Bytes, group: GroupId, token: u64 },
    /// The sender's server leads this group. Requests for it go there.
    Lead(Lead),
    /// The sender's server no longer leads this group in this term.
    Unlead { group: GroupId, term: u64 },
    /// A request for the leader of a group.
    Request(Request),
    /// A raft message and the payloads of the entries that it carries, in the same order (empty for entries without one).
    Raft { group: GroupId, message: raft::Message, bodies: Vec<Bytes> },
    /// One heartbeat for all quiet groups of a node pair.
    Heartbeat(Heartbeat),
    /// The groups behind a heartbeat's digest, when the two sides disagree.
    HeartbeatList { leads: Vec<(GroupId, u64)> },
    /// The log of the sending core is full, or has space again.
    Space { full: bool },
    /// Streaming a group's state to a replica that the log alone can no longer serve.
    Catchup { group: GroupId, epoch: u32, step: CatchupStep },
    /// Routes and client URLs that the sender knows: how a cluster learns itself from a few seed routes.
    Gossip { routes: Vec<String>, client_urls: Vec<String> },
    /// Servers without a past agree to begin a cluster.
    Form(FormStep),
    /// A clean stop or lame duck: the sender will be gone at once, its leadership is already handed over.
    Goodbye { lame_duck: bool },
}

/// A message published on another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    pub account: AccountId,
    /// What subscribers are shown.
    pub subject: Bytes,
    /// By which they are found, where that is another one (deliveries to a pull's inbox).
    pub inbox: Option<Bytes>,
    pub reply: Option<Bytes>,
    pub headers: Option<Bytes>,
    pub payload: Bytes,
    pub plain: bool,
    pub queues: Vec<Bytes>,
}

/// Who leads a group, and what clients reach through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    pub group: GroupId,
    pub server: ServerId,
    pub term: u64,
    pub asset: Asset,
}

/// What a group is to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asset {
    Meta,
    Stream { account: AccountId, name: Bytes, subjects: Vec<Bytes> },
    Consumer { account: AccountId, stream: Bytes, name: Bytes },
}

/// A request on its way to the leader of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub group: GroupId,
    /// Forwards so far; see [`crate::limits::FORWARD_HOPS_MAX`].
    pub hops: u8,
    /// The core where it entered; answers go there.
    pub origin: Place,
    pub account: AccountId,
    pub kind: RequestKind,
    pub subject: Bytes,
    pub reply: Option<Bytes>,
    pub headers: Option<Bytes>,
    pub payload: Bytes,
}

/// What the receiver does with a [`Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Store a message in a stream.
    Ingest,
    /// A `$JS.API` request that the leader of the group answers.
    Api,
    /// A `$JS.API` read that any replica may answer (direct get; info of a leaderless stream).
    Read,
    /// A `$JS.ACK` for a consumer.
    Ack,
}

/// Node-level liveness that stands for every quiet group that the sender leads and the receiver replicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Changes when the sending process starts anew: everything it led is in doubt then.
    pub boot: u64,
    /// Groups in the digest, and the exclusive-or of their hashed (group, term).
    pub groups: u32,
    pub digest: u64,
    /// Set when the receiver's own digest of the sender's leads differed: please send the list.
    pub list_wanted: bool,
    /// Sender's clock, microseconds, echoed by the next heartbeat the other way: the round trip.
    pub sent_us: u64,
    pub echo_us: u64,
}

/// One step of a catch-up stream; every step is acknowledged, so a window bounds what is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatchupStep {
    /// Leader: state as of (index, term) follows; membership as raft encodes it. `checkpoint` is the machine's own.
    Begin { session: u64, index: u64, term: u64, membership: Bytes, checkpoint: Bytes },
    /// Leader: live entries at or below the checkpoint's index, as they stand in its log.
    Entries { session: u64, part: u32, entries: Vec<CatchupEntry> },
    /// Leader: that was all.
    End { session: u64, parts: u32 },
    /// Follower: stored up to this part (u32::MAX: finished and installed).
    Ack { session: u64, part: u32 },
    /// Either side: give up, with the reason for the log.
    Abort { session: u64, why: String },
    /// Replica to leader or any peer: these entries are damaged here, please send them.
    Want { first: u64, last: u64 },
    /// Answer to `Want`: the entries that the sender has, intact.
    Have { entries: Vec<CatchupEntry> },
}

/// An entry of the log as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchupEntry {
    pub term: u64,
    pub index: u64,
    pub body: Bytes,
}

impl NodeMsg {
    /// The lane that this message travels on.
    pub fn lane(&self) -> Lane {
        match self {
            NodeMsg::Heartbeat(_)
            | NodeMsg::HeartbeatList { .. }
            | NodeMsg::Space { .. }
            | NodeMsg::Gossip { .. }
            | NodeMsg::Form(_)
            | NodeMsg::Goodbye { lame_duck: true } => Lane::Control,
            // The link ends with it: everything that was said before must have been heard.
            NodeMsg::Goodbye { lame_duck: false } => Lane::Data,
            NodeMsg::Raft { message, .. } => match message.body {
                raft::Body::Append { .. } => Lane::Data,
                _ => Lane::Control,
            },
            NodeMsg::Catchup { .. } => Lane::Bulk,
            _ => Lane::Data,
        }
    }
}
