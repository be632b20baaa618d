//! The seam between a shard and whatever runs it: everything that can happen to a shard is an [`Event`], everything
//! it wants done is an [`Effect`].
//!
//! Small structs only; bytes move as reference-counted handles. "Later" is always a new event. The glommio shell and
//! the simulator speak exactly this vocabulary and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use net::peer::hello::Hello;
use net::peer::lane::Lane;

use crate::client::auth::Claim;
use crate::client::moving::Word;
use crate::cluster::table::{MetaEntry, Table};
use crate::cluster::wire::{Lead, NodeMsg};
use crate::config::Config;
use crate::ids::{AccountId, ConnId, CoreId, GroupId, Place, ServerId};
use crate::jetstream::Forgets;
use crate::system::PagePart;
use crate::system::page::Page;

/// What happens to a shard.
#[derive(Debug)]
pub enum Event {
    /// A client connected; the shard answers with INFO. `others`: connections of the whole server that were open then.
    Accepted { conn: ConnId, remote: SocketAddr, local: SocketAddr, others: u32 },
    /// Bytes a client sent, in order.
    ClientBytes { conn: ConnId, data: Bytes },
    /// This many bytes that the shard queued for a client have reached the socket.
    ClientWritten { conn: ConnId, bytes: usize },
    /// A client's connection is over (its peer closed, an error, or a close that the shard asked for).
    ClientGone { conn: ConnId, why: String },
    /// The answer to [`Effect::ClientRelease`]: nothing more is read here, and all that was has been said before. Not `ok`:
    /// the socket cannot be given away, and is read on.
    ClientReleased { conn: ConnId, ok: bool },
    /// The answer to [`Effect::Compare`]. It never comes for a claim that waited too long.
    Compared { conn: ConnId, right: bool },
    /// An HTTP GET: path with query. Answered by [`Effect::HttpReply`].
    Http { conn: ConnId, target: String },
    /// All three lanes to a server stand and their handshakes agree.
    PeerUp { peer: ServerId, hello: Box<Hello> },
    /// One frame of a peer, in order per lane.
    PeerFrame { peer: ServerId, lane: Lane, frame: Bytes },
    /// A measured round trip on the control lane, microseconds.
    PeerRtt { peer: ServerId, rtt_us: u64 },
    /// The link broke or was refused after it stood.
    PeerGone { peer: ServerId, why: String },
    /// A disk operation ended.
    DiskDone(storage::DiskDone),
    /// Messages from another core of this server, in order per core.
    Mail { from: CoreId, mail: Vec<Mail> },
    /// The time that [`crate::shard::Shard::next_wakeup`] named has come.
    Wakeup,
    /// An operator's wish.
    Admin(Admin),
    /// What the whole process uses, for pages: percent of one CPU since the last time, and bytes of memory.
    Vitals { cpu_percent: f64, memory_bytes: u64 },
}

/// What an operator, a signal or the shell itself asks of every core.
#[derive(Debug, Clone)]
pub enum Admin {
    /// A new configuration was read and found valid.
    Reload(Arc<Config>),
    /// How an [`Effect::Reload`] went; a configuration that was taken came before.
    ReloadDone { id: u64, outcome: Result<(), String> },
    /// Lame duck: hand over leadership, tell clients, close them over the configured time.
    LameDuck,
    /// Hand over leadership, tell peers and clients, flush, then [`Effect::Stopped`].
    Stop,
}

/// What a shard wants done.
#[derive(Debug)]
pub enum Effect {
    /// Write to a client; the slices leave in order, as one write if the shell can.
    ClientWrite {
        conn: ConnId,
        data: Vec<Bytes>,
    },
    /// Close once what was queued has left.
    ClientClose {
        conn: ConnId,
    },
    /// Let go of a client's socket without closing it; [`Event::ClientReleased`] follows, or it is gone.
    ClientRelease {
        conn: ConnId,
    },
    /// Take over the socket of a client that a core of this server let go of, and read it.
    ClientAdopt {
        conn: ConnId,
    },
    /// Stop or resume reading from a client (back-pressure).
    ReadPause {
        conn: ConnId,
        paused: bool,
    },
    /// Find out, beside the cores, whether a client knows a secret whose comparison takes long.
    Compare {
        conn: ConnId,
        claim: Box<Claim>,
    },
    HttpReply {
        conn: ConnId,
        status: u16,
        content_type: &'static str,
        body: Bytes,
    },
    /// Keep a link to this route (host:port) standing: dial until it stands, redial when it breaks.
    Dial {
        route: String,
    },
    /// Dial a route that was learnt from a peer: until it stands, and not again once its server is gone for long.
    DialOnce {
        route: String,
    },
    /// Stop dialling a route.
    Undial {
        route: String,
    },
    /// Send frames to a peer on a lane. A lane that is full drops the link, never the frames in between.
    PeerSend {
        peer: ServerId,
        lane: Lane,
        frame: Bytes,
    },
    /// Break the link.
    PeerClose {
        peer: ServerId,
        why: String,
    },
    Disk(storage::DiskOp),
    Mail {
        to: CoreId,
        mail: Mail,
    },
    Log {
        level: Level,
        text: String,
    },
    /// This core has recovered its log and serves; the shell may accept clients for it.
    Ready,
    /// The cluster that this store belongs to is known now; it belongs into the store's identity.
    ClusterFormed {
        cluster_id: String,
    },
    /// A cluster that nobody gave a name here goes by this one from now on: other servers are told so.
    ClusterNamed {
        name: String,
        /// No server that was met has one configured.
        made_up: bool,
    },
    /// Read the configuration again and say so with [`Admin::ReloadDone`].
    Reload {
        id: u64,
    },
    /// The answer to [`Admin::Stop`]: everything that had to leave has been queued.
    Stopped,
    /// This core cannot go on; the process must stop with this reason.
    Fatal {
        text: String,
    },
}

/// Severity of a line in the log.
pub use crate::logging::Level;

impl From<crate::client::Level> for Level {
    fn from(level: crate::client::Level) -> Level {
        use crate::client::Level as Client;
        match level {
            Client::Debug => Level::Debug,
            Client::Info => Level::Info,
            Client::Warn => Level::Warn,
            Client::Error => Level::Error,
        }
    }
}

/// What cores of one server tell each other.
#[derive(Debug)]
pub enum Mail {
    /// A node message from a core of this server, or from a peer whose link another core owns.
    Node {
        from: Place,
        msg: NodeMsg,
    },
    /// Please send this to a core of a peer: the receiver owns the link.
    ToPeer {
        to: Place,
        msg: NodeMsg,
    },
    /// A peer's link came or went (told by the core that owns it).
    PeerUp {
        peer: ServerId,
        hello: Box<Hello>,
    },
    PeerGone {
        peer: ServerId,
    },
    /// It leaves gently: its clients are sent to others.
    PeerLameDuck {
        peer: ServerId,
    },
    PeerRtt {
        peer: ServerId,
        rtt_us: u64,
    },
    /// Please send this mark back: the sender wants to know when its interest was heard.
    Barrier {
        mark: u64,
    },
    BarrierHeard {
        mark: u64,
    },
    /// A subscriber of the sender's does not keep up with what comes from the receiver's clients.
    PushBack,
    /// So many bytes of the messages that came from the receiver's clients were delivered.
    Heard {
        bytes: u64,
    },
    /// Open connections of the sender by account: limits hold for the whole server.
    Census {
        by_account: Vec<(AccountId, u32)>,
        /// Of these, connections that came from other cores.
        lodgers: u32,
    },
    /// Of a client's connection that moves from core to core.
    Move(Word),
    /// The meta group committed entries: every core applies them to its copy of the table.
    Table(Vec<(u64, MetaEntry)>),
    /// The table as a whole: at start, and when this server had fallen far behind.
    TableRestored(Arc<Table>, Forgets),
    /// A leader was announced, or gave up.
    Lead(Lead),
    Unlead {
        group: GroupId,
        term: u64,
    },
    /// Core 0 assembles a page and asks for this core's part.
    PageAsk {
        id: u64,
        page: Page,
    },
    PagePart {
        id: u64,
        part: PagePart,
    },
}
