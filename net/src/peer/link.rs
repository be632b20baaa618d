//! One lane connection between two servers, from its first byte: handshake, liveness, round trip.
//!
//! ```text
//!   dialling side                                accepting side
//!        │ ── HELLO (versions, names, credentials) ──▶ │  checks, or REFUSED
//!        │ ◀── HELLO_REPLY (version chosen, names) ─── │
//!  checks│ ── READY ─────────────────────────────────▶ │
//!   up   │ ◀═══════ messages, PING, PONG ═══════════▶  │  up
//! ```
//!
//! Pure: bytes and times come in, bytes and events go out. The caller moves bytes between this and a socket, closes
//! the socket after [`LinkEvent::Refused`] or an error (once [`Link::take_output`] has left), and limits the time that
//! the handshake may take, as the configuration says; so a dead connection is given up before it stands.
//!
//! Both sides check the other one with the same rules, so that it does not matter who dials. A link is up on the
//! accepting side only after the dialling side has agreed: nobody sees a server appear that refuses a moment later.
//!
//! It does not queue messages (see [`super::outbox`]), does not know how many lanes stand, and carries no TLS.

use super::frame::{self, BODY_BYTES_MAX, Decoder, Frame, FrameError, KIND_MESSAGES_FIRST};
pub use super::hello::{Credentials, Hello};
use super::hello::{HELLO_BYTES_MAX, cut};
use super::lane::Lane;
use bytes::{BufMut, Bytes, BytesMut};
use std::fmt;
use std::sync::Arc;

const HELLO: u8 = 1;
const HELLO_REPLY: u8 = 2;
const REFUSED: u8 = 3;
const READY: u8 = 4;
const PING: u8 = 5;
const PONG: u8 = 6;

/// The body of a PING, which comes back as it is.
const PING_BYTES: usize = 8;

/// Longest reason of a refusal that is passed on.
const REASON_BYTES_MAX: usize = 512;

/// Decides whether a caller may come in. `None`: it brought no credentials.
pub type Verifier = Arc<dyn Fn(Option<&Credentials>) -> bool + Send + Sync>;

/// What the other side is checked against. A snapshot is enough: a handshake is short, and whoever owns the links
/// settles what two simultaneous ones left open.
#[derive(Clone)]
pub struct Rules {
    /// Asked on the accepting side only.
    pub verifier: Verifier,
    /// Servers that a standing link leads to, without this one.
    pub known: Vec<Known>,
}

/// A server that is linked already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub server_name: String,
    pub server_id: String,
    pub peer_id: u64,
    /// Lanes that stand, by [`Lane::code`].
    pub lanes: [bool; 3],
}

impl Rules {
    /// Everyone may come in, nobody is there yet.
    pub fn open() -> Self {
        Rules { verifier: Arc::new(|_| true), known: Vec::new() }
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("known", &self.known).finish_non_exhaustive()
    }
}

/// When a standing link is asked whether it is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two PINGs, microseconds.
    pub ping_every_us: u64,
    /// PINGs in a row that may stay without any answer.
    pub unanswered_max: u32,
}

impl Default for Timing {
    /// Every second on each lane, three may be lost: a dead server is noticed within four seconds even when its host
    /// vanished without a word. (Leaders are replaced much faster: that is raft's own business.)
    fn default() -> Self {
        Timing { ping_every_us: 1_000_000, unanswered_max: 3 }
    }
}

/// What happened on a link.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Both sides agree; messages may flow. Comes once, before any `Frame`. The credentials are gone from `hello`.
    Established { hello: Box<Hello>, version: u16 },
    /// One side does not want the other. Nothing follows; close once the output has left.
    Refused { by_us: bool, refusal: Refusal },
    /// A message. Its lane is the link's.
    Frame(Frame),
    /// A PING came back after this many microseconds.
    Rtt { rtt_us: u64 },
}

/// Why one side does not want the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: RefusalCode,
    /// For a person to read.
    pub text: String,
}

/// The kinds of refusals: what to do about them differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// Said by the caller, or by a later version.
    Other,
    /// No protocol version in common.
    Version,
    /// Wrong or missing user and password.
    Credentials,
    /// The route leads to the server itself: forget it.
    SelfConnection,
    /// The other server belongs to another cluster.
    Cluster,
    /// Another server has the same name. Also what a restarted server hears while its old link is not yet known to
    /// be dead: worth another try.
    DuplicateName,
    /// Both hold data, of different clusters.
    Store,
    /// This lane stands already: nothing is wrong.
    Redundant,
}

impl RefusalCode {
    const ALL: [RefusalCode; 8] = [
        RefusalCode::Other,
        RefusalCode::Version,
        RefusalCode::Credentials,
        RefusalCode::SelfConnection,
        RefusalCode::Cluster,
        RefusalCode::DuplicateName,
        RefusalCode::Store,
        RefusalCode::Redundant,
    ];

    fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(RefusalCode::Other)
    }

    fn refusal(self, text: String) -> Refusal {
        Refusal { code: self, text }
    }
}

/// Why a connection must be closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    Frame(FrameError),
    /// A hello that cannot be read.
    BadHello(&'static str),
    /// A frame that has no place here: of the wrong lane, before the handshake, or unknown.
    Unexpected {
        kind: u8,
    },
    /// PINGs stayed without answer for too long.
    Stale,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Frame(error) => error.fmt(f),
            LinkError::BadHello(why) => write!(f, "unreadable hello: {why}"),
            LinkError::Unexpected { kind } => write!(f, "unexpected frame of kind {kind}"),
            LinkError::Stale => f.write_str("stale connection"),
        }
    }
}

impl std::error::Error for LinkError {}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        LinkError::Frame(error)
    }
}

#[derive(Debug)]
enum State {
    /// Accepting side: nothing heard yet.
    AwaitHello,
    /// Dialling side: HELLO is out.
    AwaitReply,
    /// Accepting side: HELLO_REPLY is out.
    AwaitReady {
        hello: Box<Hello>,
        version: u16,
    },
    Up,
    Over,
}

/// One lane connection, on either side.
#[derive(Debug)]
pub struct Link {
    us: Hello,
    rules: Rules,
    timing: Timing,
    state: State,
    decoder: Decoder,
    /// Handshake and liveness frames that must be written.
    out: BytesMut,
    /// When the last PING left, and when the link came up before the first.
    pinged_at: u64,
    /// PINGs since anything was heard.
    unanswered: u32,
    /// The time value in the latest PING, until its PONG came.
    ping_out: Option<u64>,
}

impl Link {
    /// The dialling side: HELLO is in the output at once. `us` carries the lane and the credentials of the route.
    pub fn dial(us: Hello, rules: Rules, timing: Timing) -> Link {
        let mut link = Link::new(us, rules, timing, State::AwaitReply);
        let mut body = BytesMut::new();
        link.us.encode(&mut body);
        link.send(HELLO, &body);
        link
    }

    /// The accepting side. The lane is the one the other side names; `us.credentials` is not used.
    pub fn accept(us: Hello, rules: Rules, timing: Timing) -> Link {
        Link::new(Hello { credentials: None, ..us }, rules, timing, State::AwaitHello)
    }

    fn new(us: Hello, rules: Rules, timing: Timing, state: State) -> Link {
        let (decoder, out) = (Decoder::new(HELLO_BYTES_MAX), BytesMut::new());
        Link { us, rules, timing, state, decoder, out, pinged_at: 0, unanswered: 0, ping_out: None }
    }

    /// What was just read from the connection. Then [`Link::poll`] until it has no more.
    pub fn push(&mut self, bytes: Bytes) {
        self.decoder.push(bytes);
    }

    /// The next event; `None` until more is pushed. Ask for the output afterwards. After an error the connection
    /// must be closed.
    pub fn poll(&mut self, now_us: u64) -> Result<Option<LinkEvent>, LinkError> {
        while !matches!(self.state, State::Over) {
            let Some(frame) = self.decoder.poll()? else { return Ok(None) };
            self.unanswered = 0;
            if let Some(event) = self.on_frame(now_us, frame)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Frames of the link itself that must be written now, ahead of messages. Empty when there are none.
    pub fn take_output(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// The lane this connection carries; on the accepting side meaningful from `Established` on.
    pub fn lane(&self) -> Lane {
        self.us.lane
    }

    /// Whether messages may flow.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up)
    }

    /// To be called at [`Link::next_timer`] or later: sends a PING, or finds that too many stayed unanswered.
    pub fn on_timer(&mut self, now_us: u64) -> Result<(), LinkError> {
        if self.next_timer().is_none_or(|due| now_us < due) {
            return Ok(());
        }
        if self.unanswered >= self.timing.unanswered_max {
            return Err(LinkError::Stale);
        }
        self.unanswered += 1;
        self.pinged_at = now_us;
        self.ping_out = Some(now_us);
        self.send(PING, &now_us.to_le_bytes());
        Ok(())
    }

    /// When [`Link::on_timer`] wants to be called; `None` while the link is not up. Ask again after each call.
    pub fn next_timer(&self) -> Option<u64> {
        self.is_up().then(|| self.pinged_at.saturating_add(self.timing.ping_every_us))
    }

    /// Tells the other side that it is not wanted, and why. Close once the output has left.
    pub fn refuse(&mut self, refusal: Refusal) -> LinkEvent {
        let text = cut(&refusal.text, REASON_BYTES_MAX);
        let mut body = BytesMut::with_capacity(text.len() + 1);
        body.put_u8(refusal.code as u8);
        body.put_slice(text.as_bytes());
        self.send(REFUSED, &body);
        self.state = State::Over;
        LinkEvent::Refused { by_us: true, refusal }
    }

    fn on_frame(&mut self, now_us: u64, frame: Frame) -> Result<Option<LinkEvent>, LinkError> {
        let accepting = matches!(self.state, State::AwaitHello);
        if frame.lane != self.us.lane && !accepting {
            return Err(LinkError::Unexpected { kind: frame.kind });
        }
        match (frame.kind, &self.state) {
            (HELLO, State::AwaitHello) => self.on_hello(&frame),
            (HELLO_REPLY, State::AwaitReply) => self.on_reply(now_us, &frame),
            (READY, State::AwaitReady { .. }) => Ok(self.on_ready(now_us)),
            (REFUSED, _) => Ok(Some(self.on_refused(&frame.body))),
            (PING, State::Up) if frame.body.len() == PING_BYTES => {
                self.send(PONG, &frame.body);
                Ok(None)
            }
            (PONG, State::Up) => Ok(self.on_pong(now_us, &frame.body)),
            (KIND_MESSAGES_FIRST.., State::Up) => Ok(Some(LinkEvent::Frame(frame))),
            (kind, _) => Err(LinkError::Unexpected { kind }),
        }
    }

    fn on_hello(&mut self, frame: &Frame) -> Result<Option<LinkEvent>, LinkError> {
        let mut hello = Hello::decode(&frame.body).map_err(LinkError::BadHello)?;
        if hello.lane != frame.lane {
            return Err(LinkError::BadHello("frame and hello name different lanes"));
        }
        self.us.lane = hello.lane;
        let Some(version) = self.us.common_version(&hello) else { return Ok(Some(self.refuse_version(&hello))) };
        // Before anything about this server is told to a stranger.
        if !(self.rules.verifier)(hello.credentials.take().as_ref()) {
            let text = "Authorization Violation".to_string();
            return Ok(Some(self.refuse(RefusalCode::Credentials.refusal(text))));
        }
        if let Err(refusal) = self.check(&hello) {
            return Ok(Some(self.refuse(refusal)));
        }
        let mut body = BytesMut::new();
        body.put_u16_le(version);
        let mut reply = BytesMut::new();
        self.us.encode(&mut reply);
        body.put_slice(&reply);
        self.send(HELLO_REPLY, &body);
        self.state = State::AwaitReady { hello: Box::new(hello), version };
        Ok(None)
    }

    fn on_reply(&mut self, now_us: u64, frame: &Frame) -> Result<Option<LinkEvent>, LinkError> {
        let Some(version) = frame.body.first_chunk::<2>() else { return Err(LinkError::BadHello("reply is cut off")) };
        let version = u16::from_le_bytes(*version);
        let mut hello = Hello::decode(&frame.body.slice(2..)).map_err(LinkError::BadHello)?;
        hello.credentials = None;
        if hello.lane != self.us.lane {
            return Err(LinkError::BadHello("reply for another lane"));
        }
        if !(self.us.version_min..=self.us.version_max).contains(&version) {
            return Ok(Some(self.refuse_version(&hello)));
        }
        if let Err(refusal) = self.check(&hello) {
            return Ok(Some(self.refuse(refusal)));
        }
        self.send(READY, &[]);
        Ok(Some(self.up(now_us, Box::new(hello), version)))
    }

    fn on_ready(&mut self, now_us: u64) -> Option<LinkEvent> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::AwaitReady { hello, version } => Some(self.up(now_us, hello, version)),
            other => {
                self.state = other;
                None
            }
        }
    }

    fn up(&mut self, now_us: u64, hello: Box<Hello>, version: u16) -> LinkEvent {
        self.state = State::Up;
        self.pinged_at = now_us;
        self.us.credentials = None;
        self.decoder.set_body_bytes_max(BODY_BYTES_MAX);
        LinkEvent::Established { hello, version }
    }

    fn on_refused(&mut self, body: &[u8]) -> LinkEvent {
        self.state = State::Over;
        let (code, text) = body.split_first().unwrap_or((&0, &[]));
        let text = &text[..text.len().min(REASON_BYTES_MAX)];
        // Printed by whoever reads it: nothing but printable text may come from afar.
        let text = String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        LinkEvent::Refused { by_us: false, refusal: RefusalCode::from_code(*code).refusal(text) }
    }

    fn on_pong(&mut self, now_us: u64, body: &[u8]) -> Option<LinkEvent> {
        // Only what is being waited for counts: the other side cannot invent a round trip.
        let sent = body.try_into().ok().map(u64::from_le_bytes)?;
        let awaited = self.ping_out.take_if(|awaited| *awaited == sent)?;
        Some(LinkEvent::Rtt { rtt_us: now_us.saturating_sub(awaited) })
    }

    /// The rules that do not depend on who dialled.
    fn check(&self, them: &Hello) -> Result<(), Refusal> {
        let us = &self.us;
        if them.server_id == us.server_id {
            return Err(RefusalCode::SelfConnection.refusal("the route leads to the server itself".to_string()));
        }
        if them.cluster != us.cluster {
            let text = format!("cluster name {:?} does not match {:?}", them.cluster, us.cluster);
            return Err(RefusalCode::Cluster.refusal(text));
        }
        let known = self.rules.known.iter().map(|known| (&known.server_name, &known.server_id, known.peer_id));
        let mut others = known.chain([(&us.server_name, &us.server_id, us.peer_id)]);
        let clash = |(name, id, peer): &(&String, &String, u64)| {
            **id != them.server_id && (**name == them.server_name || *peer == them.peer_id)
        };
        if let Some((name, id, _)) = others.find(clash) {
            let text = format!("server name {:?} is taken by {name:?} with id {id}", them.server_name);
            return Err(RefusalCode::DuplicateName.refusal(text));
        }
        if let (Some(ours), Some(theirs)) = (&us.store, &them.store)
            && ours != theirs
        {
            let text = format!("data of different clusters: {theirs} and {ours}; two clusters never merge");
            return Err(RefusalCode::Store.refusal(text));
        }
        let lane = usize::from(them.lane.code());
        if self.rules.known.iter().any(|known| known.server_id == them.server_id && known.lanes[lane]) {
            let text = format!("the {} lane stands already", them.lane.name());
            return Err(RefusalCode::Redundant.refusal(text));
        }
        Ok(())
    }

    fn refuse_version(&mut self, them: &Hello) -> LinkEvent {
        let us = &self.us;
        let text = format!(
            "no common protocol version: {} to {} on one side, {} to {} on the other",
            us.version_min, us.version_max, them.version_min, them.version_max
        );
        self.refuse(RefusalCode::Version.refusal(text))
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        frame::encode(&mut self.out, kind, self.us.lane, 0, body);
    }
}

/// Of two connections for the same lane, made because both servers dialled: whether both keep the one that `us`
/// dialled. Both sides come to the same answer.
pub fn keeps_our_dial(us: &Hello, them: &Hello) -> bool {
    us.server_id < them.server_id
}

#[cfg(test)]
mod tests;
