//! What the client face wants done, as values: the hub drains them and passes each to whom it concerns.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::auth::Claim;
use super::moving::Word;
use crate::cluster::interest::Node;
use crate::cluster::wire::NodeMsg;
use crate::config::options::Permissions;
use crate::ids::{AccountId, ConnId, CoreId, GroupId};
use crate::route::Message;

/// One wish of [`super::Front`].
///
/// Subjects, headers and payloads are slices of what was read: whoever keeps one for long (a pull request's reply
/// subject, say) copies it, or keeps a whole read buffer alive.
#[derive(Debug)]
pub enum FrontOutput {
    /// Write to a client; the slices leave in order.
    Write {
        conn: ConnId,
        data: Vec<Bytes>,
    },
    /// Close once what was written before has left. The connection's `gone` is still expected.
    Close {
        conn: ConnId,
    },
    /// Stop or resume reading from a client.
    ReadPause {
        conn: ConnId,
        paused: bool,
    },
    /// Find out whether somebody knows a secret, and say so by [`super::Front::compared`].
    Compare {
        conn: ConnId,
        claim: Box<Claim>,
    },
    /// Let go of a client's socket without closing it, and say so by [`super::Front::released`].
    Release {
        conn: ConnId,
    },
    /// Take over the socket of a client that another core (or this one) let go of, and read it.
    Adopt {
        conn: ConnId,
    },
    /// For another core, of a connection on its way.
    Word {
        core: CoreId,
        word: Word,
    },
    /// Interest or a message for another core or server. Only the core that owns the links says Interest to servers.
    ToNode {
        node: Node,
        msg: NodeMsg,
    },
    /// A message that belongs into a stream; said once per stream and message, in the order of publishing.
    Ingest {
        group: GroupId,
        message: Inward,
    },
    /// A message for an internal subscription.
    Service {
        service: Service,
        message: Inward,
        /// Who asked, when it was a client of this core.
        client: Option<Arc<ClientFacts>>,
    },
    /// Nobody listens on the subject of a reply that asked to be told.
    Bounce {
        group: GroupId,
        token: u64,
    },
    /// Every other core sends this mark back, behind the interest that it was told before: [`super::Front::barrier_heard`].
    Barrier {
        mark: u64,
    },
    /// A subscriber here does not keep up with what that core's clients publish.
    PushBack {
        core: CoreId,
    },
    /// So many bytes of what that core sent were delivered here.
    Heard {
        core: CoreId,
        bytes: u64,
    },
    SysEvent(SysEvent),
    Log {
        level: Level,
        text: String,
    },
}

/// A message of an account for something inside the server: a stream, or the server itself.
#[derive(Debug)]
pub struct Inward {
    pub account: AccountId,
    pub subject: Bytes,
    pub reply: Option<Bytes>,
    pub headers: Option<Bytes>,
    pub payload: Bytes,
}

impl Inward {
    pub(super) fn of(account: AccountId, message: &Message) -> Inward {
        let Message { subject, reply, headers, payload, .. } = message.clone();
        Inward { account, subject, reply, headers, payload }
    }
}

/// Severity of a log line; the peer's words for what clients do wrong are errors, their coming and going is debug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Internal subscribers, as the hub tells them apart. [`super::Front`] only carries the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// `$JS.API.>`
    Api,
    /// `$JS.ACK.>`
    Ack,
    /// `$JS.FC.>`
    FlowControl,
    /// `$SYS.REQ.SERVER.PING.>`, `$SYS.REQ.SERVER.<id>.>` and what else the system account asks of servers.
    System,
    /// `$SYS.REQ.ACCOUNT.>` asked from inside any account.
    Account,
    /// `$SYS.REQ.USER.INFO`
    UserInfo,
    /// Whatever else the hub subscribes to.
    Other(u32),
}

/// What is known of a client since its CONNECT.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientFacts {
    pub cid: u64,
    pub remote: SocketAddr,
    pub account: AccountId,
    pub account_name: String,
    /// The authorized user, the token's `[REDACTED]` or nothing.
    pub user: String,
    pub name: String,
    pub lang: String,
    pub version: String,
    /// Wall clock, nanoseconds since the epoch.
    pub start_wall_ns: i64,
    /// Microseconds; 0: not measured yet.
    pub rtt_us: u64,
    pub permissions: Option<Arc<Permissions>>,
}

/// Counters of one direction pair.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    pub in_msgs: u64,
    pub in_bytes: u64,
    pub out_msgs: u64,
    pub out_bytes: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Traffic) {
        self.in_msgs += other.in_msgs;
        self.in_bytes += other.in_bytes;
        self.out_msgs += other.out_msgs;
        self.out_bytes += other.out_bytes;
    }
}

/// What the system account may want to hear of.
#[derive(Debug, Clone, PartialEq)]
pub enum SysEvent {
    /// A client entered an account.
    Connect { client: Arc<ClientFacts> },
    /// A client that had entered one is gone. `traffic` is from the client's point of view as /connz shows it.
    Disconnect { client: Arc<ClientFacts>, stop_wall_ns: i64, traffic: Traffic, reason: &'static str },
    /// Wrong or missing credentials.
    AuthError { client: Arc<ClientFacts>, stop_wall_ns: i64, reason: &'static str },
}
