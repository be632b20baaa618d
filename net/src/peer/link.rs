//! One lane connection between two servers, from its first byte: handshake, liveness, round trip.
//!
//! ```text
//!   dialling side                                accepting side
//!        │ ── HELLO (versions, names, credentials) ──▶ │  checks, or REFUSED
//!        │ ◀── HELLO_REPLY (version chosen, names) ─── │
//!  checks│ ── READY ─────────────────────────────────▶ │
//!   up   │ ◀═══════ messages, PING, PONG, JOINED ═══▶  │  up
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
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

const HELLO: u8 = 1;
const HELLO_REPLY: u8 = 2;
const REFUSED: u8 = 3;
const READY: u8 = 4;
const PING: u8 = 5;
const PONG: u8 = 6;
const JOINED: u8 = 7;

/// The body of a PING, which comes back as it is.
const PING_BYTES: usize = 8;

/// Longest reason of a refusal that is passed on.
const REASON_BYTES_MAX: usize = 512;

/// PINGs that may be on their way at once. A path longer than this many intervals counts as broken anyway.
const PINGS_OUT_MAX: usize = 64;

/// No measured round trip makes a link wait longer than this for a sign of life.
const RTT_US_MAX: u64 = 5_000_000;

/// Decides whether a caller may come in; it brought these credentials, or none.
pub type Verifier = Arc<dyn Fn(Option<&Credentials>) -> Verdict + Send + Sync>;

/// What a [`Verifier`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    No,
    /// It takes long to say: [`LinkEvent::Asked`] follows, and [`Link::judged`] is awaited.
    Later,
}

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
        Rules { verifier: Arc::new(|_| Verdict::Yes), known: Vec::new() }
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
    /// Silence after which the other side is asked for a sign of life, and asked again, microseconds.
    pub ping_every_us: u64,
    /// A link that talks is asked this often, for its round trip alone; not more often than a silent one.
    pub measure_every_us: u64,
    /// PINGs in a row that may stay without any answer.
    pub unanswered_max: u32,
}

impl Default for Timing {
    /// After a second of silence on each lane, three may be lost: a dead server is noticed within five seconds even when its
    /// host vanished without a word. (Leaders are replaced much faster: that is raft's own business.)
    fn default() -> Self {
        Timing { ping_every_us: 1_000_000, measure_every_us: 2_000_000, unanswered_max: 3 }
    }
}

/// What happened on a link.
#[derive(Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// Both sides agree; messages may flow. Comes once, before any `Frame`. The credentials are gone from `hello`.
    Established { hello: Box<Hello>, version: u16 },
    /// The verifier needs time for these credentials; nothing moves until [`Link::judged`].
    Asked { credentials: Option<Credentials> },
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
    /// Both hold data, of different clusters. It may turn out on a link that stands: one of them has just joined.
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
    /// Accepting side: whether the credentials are right is being found out.
    AwaitVerdict {
        hello: Box<Hello>,
        version: u16,
    },
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
    /// When our part of the handshake left, so that its answer tells the round trip.
    asked_at: Option<u64>,
    /// When the last PING left, and when the link came up before the first.
    pinged_at: u64,
    /// PINGs since anything was heard.
    unanswered: u32,
    heard_at: u64,
    /// The time values of the PINGs whose PONGs have not come, oldest first.
    pings_out: VecDeque<u64>,
    /// The longest recent round trip: risen to at once, forgotten slowly.
    rtt_us: u64,
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
        let (asked_at, pings_out) = (None, VecDeque::new());
        let (pinged_at, unanswered, heard_at, rtt_us) = (0, 0, 0, 0);
        Link { us, rules, timing, state, decoder, out, asked_at, pinged_at, unanswered, heard_at, pings_out, rtt_us }
    }

    /// What was just read from the connection. Then [`Link::poll`] until it has no more.
    pub fn push(&mut self, bytes: Bytes) {
        self.decoder.push(bytes);
    }

    /// The next event; `None` until more is pushed. Ask for the output afterwards. After an error the connection
    /// must be closed.
    pub fn poll(&mut self, now_us: u64) -> Result<Option<LinkEvent>, LinkError> {
        // A dialler's HELLO waits in the output until the first call.
        self.asked_at.get_or_insert(now_us);
        while !matches!(self.state, State::Over | State::AwaitVerdict { .. }) {
            let Some(frame) = self.decoder.poll()? else { return Ok(None) };
            (self.unanswered, self.heard_at) = (0, now_us);
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
        if self.unanswered >= self.timing.unanswered_max && now_us.saturating_sub(self.heard_at) > self.patience_us() {
            return Err(LinkError::Stale);
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.pinged_at = now_us;
        if self.pings_out.len() == PINGS_OUT_MAX {
            self.pings_out.pop_front();
        }
        self.pings_out.push_back(now_us);
        self.send(PING, &now_us.to_le_bytes());
        Ok(())
    }

    /// When [`Link::on_timer`] wants to be called; `None` while the link is not up. Ask again after each call. Whatever is
    /// heard puts it off, until it is time to measure the round trip.
    pub fn next_timer(&self) -> Option<u64> {
        let silent = self.pinged_at.max(self.heard_at).saturating_add(self.timing.ping_every_us);
        let measure = self.pinged_at.saturating_add(self.timing.measure_every_us.max(self.timing.ping_every_us));
        self.is_up().then(|| silent.min(measure))
    }

    /// The longest recent round trip, microseconds; known from the handshake on.
    pub fn rtt_us(&self) -> u64 {
        self.rtt_us
    }

    /// How long the other side may be silent at least, however many PINGs are out. An answer cannot come sooner than a round trip, and
    /// the other side's first PING not before it has heard that the link is up.
    fn patience_us(&self) -> u64 {
        self.timing.ping_every_us * u64::from(self.timing.unanswered_max.saturating_sub(1)) + 2 * self.rtt_us
    }

    fn measured(&mut self, rtt_us: u64) {
        self.rtt_us = rtt_us.min(RTT_US_MAX).max(self.rtt_us - self.rtt_us / 8);
    }

    /// The answer to [`LinkEvent::Asked`]: whether the credentials are right. Then [`Link::poll`] again.
    pub fn judged(&mut self, now_us: u64, right: bool) -> Option<LinkEvent> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::AwaitVerdict { hello, version } if right => self.welcome(now_us, hello, version),
            State::AwaitVerdict { .. } => Some(self.refuse_credentials()),
            other => {
                self.state = other;
                None
            }
        }
    }

    /// This server's data belongs to that cluster from now on, which the other side may not have been told: it knows
    /// whether its own does. To be called whenever the link is up, and again if it was not then.
    pub fn joined(&mut self, cluster: &str) {
        if self.us.store.as_deref() != Some(cluster) {
            self.us.store = Some(cluster.to_owned());
            self.send(JOINED, cluster.as_bytes());
        }
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
            (HELLO, State::AwaitHello) => self.on_hello(now_us, &frame),
            (HELLO_REPLY, State::AwaitReply) => self.on_reply(now_us, &frame),
            (READY, State::AwaitReady { .. }) => Ok(self.on_ready(now_us)),
            (REFUSED, _) => Ok(Some(self.on_refused(&frame.body))),
            (PING, State::Up) if frame.body.len() == PING_BYTES => {
                self.send(PONG, &frame.body);
                Ok(None)
            }
            (PONG, State::Up) => Ok(self.on_pong(now_us, &frame.body)),
            (JOINED, State::Up) => Ok(self.on_joined(&frame.body)),
            (KIND_MESSAGES_FIRST.., State::Up) => Ok(Some(LinkEvent::Frame(frame))),
            (kind, _) => Err(LinkError::Unexpected { kind }),
        }
    }

    fn on_hello(&mut self, now_us: u64, frame: &Frame) -> Result<Option<LinkEvent>, LinkError> {
        let mut hello = Hello::decode(&frame.body).map_err(LinkError::BadHello)?;
        if hello.lane != frame.lane {
            return Err(LinkError::BadHello("frame and hello name different lanes"));
        }
        self.us.lane = hello.lane;
        let Some(version) = self.us.common_version(&hello) else { return Ok(Some(self.refuse_version(&hello))) };
        // Before anything about this server is told to a stranger.
        let credentials = hello.credentials.take();
        match (self.rules.verifier)(credentials.as_ref()) {
            Verdict::Yes => Ok(self.welcome(now_us, Box::new(hello), version)),
            Verdict::No => Ok(Some(self.refuse_credentials())),
            Verdict::Later => {
                self.state = State::AwaitVerdict { hello: Box::new(hello), version };
                Ok(Some(LinkEvent::Asked { credentials }))
            }
        }
    }

    fn refuse_credentials(&mut self) -> LinkEvent {
        self.refuse(RefusalCode::Credentials.refusal("Authorization Violation".to_string()))
    }

    /// The caller may know who we are; whether we want each other is another question.
    fn welcome(&mut self, now_us: u64, hello: Box<Hello>, version: u16) -> Option<LinkEvent> {
        if let Err(refusal) = self.check(&hello) {
            return Some(self.refuse(refusal));
        }
        let mut body = BytesMut::new();
        body.put_u16_le(version);
        let mut reply = BytesMut::new();
        self.us.encode(&mut reply);
        body.put_slice(&reply);
        self.send(HELLO_REPLY, &body);
        self.asked_at = Some(now_us);
        self.state = State::AwaitReady { hello, version };
        None
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
        self.measured(now_us.saturating_sub(self.asked_at.unwrap_or(now_us)));
        (self.pinged_at, self.heard_at) = (now_us, now_us);
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

    /// The other side began to hold data after it said hello.
    fn on_joined(&mut self, cluster: &[u8]) -> Option<LinkEvent> {
        let theirs = String::from_utf8_lossy(cluster);
        let refused = self.check_store(Some(cut(&theirs, REASON_BYTES_MAX / 4)));
        refused.err().map(|refusal| self.refuse(refusal))
    }

    fn on_pong(&mut self, now_us: u64, body: &[u8]) -> Option<LinkEvent> {
        // Only what is being waited for counts: the other side cannot invent a round trip.
        let sent = body.try_into().ok().map(u64::from_le_bytes)?;
        let at = self.pings_out.iter().position(|awaited| *awaited == sent)?;
        self.pings_out.drain(..=at);
        let rtt_us = now_us.saturating_sub(sent);
        self.measured(rtt_us);
        Some(LinkEvent::Rtt { rtt_us })
    }

    /// The rules that do not depend on who dialled.
    fn check(&self, them: &Hello) -> Result<(), Refusal> {
        let us = &self.us;
        if them.server_id == us.server_id {
            return Err(RefusalCode::SelfConnection.refusal("the route leads to the server itself".to_string()));
        }
        if them.cluster != us.cluster && !us.cluster_made_up && !them.cluster_made_up {
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
        self.check_store(them.store.as_deref())?;
        let lane = usize::from(them.lane.code());
        if self.rules.known.iter().any(|known| known.server_id == them.server_id && known.lanes[lane]) {
            let text = format!("the {} lane stands already", them.lane.name());
            return Err(RefusalCode::Redundant.refusal(text));
        }
        Ok(())
    }

    fn check_store(&self, theirs: Option<&str>) -> Result<(), Refusal> {
        match (self.us.store.as_deref(), theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                let text = format!("data of different clusters: {theirs} and {ours}; two clusters never merge");
                Err(RefusalCode::Store.refusal(text))
            }
            _ => Ok(()),
        }
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
