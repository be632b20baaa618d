//! The connections between people and servers: bytes in order each way, with a little delay; a client whose server dies
//! goes to another one.

use std::collections::BTreeMap;

use bytes::Bytes;
use trestle::event::Event;
use trestle::ids::{ConnId, CoreId};

use crate::client::Parser;
use crate::dice::Dice;
use crate::mutants::Mutant;
use crate::options::Options;
use crate::oracle::{ConsumerStory, Oracle, StreamStory};
use crate::workload::Actor;
use crate::world::{Happening, World};

/// How often an actor looks at the clock, microseconds.
const TICK_US: u64 = 10_000;

pub struct People {
    pub actors: Vec<Actor>,
    lines: Vec<Line>,
    by_conn: BTreeMap<(usize, CoreId, ConnId), usize>,
    next_conn: u64,
}

/// One actor's connection.
#[derive(Default)]
struct Line {
    session: u64,
    at: Option<(usize, CoreId, ConnId)>,
    /// What arrived while no core had the socket.
    between: Option<Vec<Bytes>>,
    parser: Parser,
    /// When the last bytes each way arrive.
    there_us: u64,
    back_us: u64,
    /// A dial or a tick is planned.
    dialling: bool,
    ticking: bool,
}

/// One stream of the workload.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub name: &'static str,
    pub replicas: u32,
    pub storage: &'static str,
    /// 0: no limit.
    pub messages_max: u64,
    /// Messages of one publisher that are kept; 0: all.
    pub subject_max: u64,
    /// What is beyond the limit is refused instead of pushing the oldest out.
    pub refuses: bool,
    /// Age at which messages go, milliseconds; 0: never.
    pub age_ms: u64,
    /// Large messages, so that segments fill, are given back and are used again.
    pub heavy: bool,
}

/// A stream of three replicas on disk that keeps everything: what the others differ from.
const PLAIN: Plan = Plan {
    name: "F3",
    replicas: 3,
    storage: "file",
    messages_max: 0,
    subject_max: 0,
    refuses: false,
    age_ms: 0,
    heavy: false,
};

/// The streams of the workload. Messages of P3 are purged, those of A3 go by their age, S3 keeps a few of each publisher, and
/// N3 refuses more than it holds until it is purged. E3 is the one whose replica count is edited while it is in use.
pub const STREAMS: [Plan; 9] = [
    PLAIN,
    Plan { name: "M3", storage: "memory", ..PLAIN },
    Plan { name: "F1", replicas: 1, ..PLAIN },
    Plan { name: "L3", messages_max: 50, heavy: true, ..PLAIN },
    Plan { name: "P3", ..PLAIN },
    Plan { name: "A3", age_ms: AGE_MS, ..PLAIN },
    EDITED,
    Plan { name: "S3", subject_max: SUBJECT_MAX, ..PLAIN },
    Plan { name: "N3", messages_max: 40, refuses: true, ..PLAIN },
];

/// The streams of a run: the last two only in a broad one.
pub fn streams(broad: bool) -> &'static [Plan] {
    if broad { &STREAMS } else { &STREAMS[..STREAMS.len() - 2] }
}

/// What S3 keeps of each publisher.
pub const SUBJECT_MAX: u64 = 3;

/// The stream whose replica count changes.
pub const EDITED: Plan = Plan { name: "E3", ..PLAIN };

/// A stream that comes and goes.
pub const SCRATCH: Plan = Plan { name: "X", messages_max: 5, ..PLAIN };

/// How old messages of A3 become: longer than any fault lasts, for their ids are not remembered for longer.
pub const AGE_MS: u64 = 12_000;

/// The consumers of the workload besides one per stream: stream, name, whose messages alone it wants, and the rest of its
/// configuration.
const MORE_CONSUMERS: [(&str, &str, &str, &str); 3] = [
    (
        "F3",
        ACK_ALL,
        "",
        "\"ack_policy\":\"all\",\"deliver_policy\":\"all\",\"ack_wait\":1000000000,\"max_ack_pending\":1000",
    ),
    (
        "F3",
        "bF3",
        "",
        "\"ack_policy\":\"explicit\",\"deliver_policy\":\"by_start_sequence\",\"opt_start_seq\":1,\"ack_wait\":700000000",
    ),
    (
        "F3",
        "sF3",
        "F3-slow",
        "\"ack_policy\":\"explicit\",\"deliver_policy\":\"all\",\"filter_subject\":\"f3.F3-slow\",\"backoff\":[300000000,1000000000]",
    ),
];

/// The consumer that acknowledges everything up to a message.
pub const ACK_ALL: &str = "aF3";

impl Plan {
    /// Pause between two messages of a publisher, microseconds: large ones cost the simulator real time.
    fn gap_us(&self) -> u64 {
        if self.heavy || self.subject_max > 0 || self.refuses { 50_000 } else { 15_000 }
    }

    /// The body of a create or update request.
    pub fn json(&self, replicas: u32) -> String {
        let count = (self.messages_max > 0).then(|| format!(",\"max_msgs\":{}", self.messages_max));
        let age = (self.age_ms > 0).then(|| format!(",\"max_age\":{}000000", self.age_ms));
        let subject = (self.subject_max > 0).then(|| format!(",\"max_msgs_per_subject\":{}", self.subject_max));
        let discard = self.refuses.then(|| ",\"discard\":\"new\"".to_owned());
        let limit = [count, age, subject, discard].into_iter().flatten().collect::<String>();
        // A message id may not be remembered for longer than its message.
        let window = if self.age_ms > 0 { self.age_ms * 1_000_000 } else { 86_400_000_000_000 };
        format!(
            "{{\"name\":\"{}\",\"subjects\":[\"{}.>\"],\"num_replicas\":{replicas},\"storage\":\"{}\",\
             \"allow_direct\":true,\"duplicate_window\":{window}{limit}}}",
            self.name,
            self.name.to_lowercase(),
            self.storage
        )
    }
}

impl People {
    pub fn new(dice: &mut Dice, oracle: &mut Oracle, options: &Options) -> People {
        let mut actors = Vec::new();
        let mut plan = Vec::new();
        let broad = options.faults.broad;
        for one in streams(broad) {
            let stream = one.name;
            let replicas = one.replicas.min(options.servers as u32);
            let story = StreamStory {
                memory: one.storage == "memory",
                limited: one.messages_max > 0 && !one.refuses || one.age_ms > 0 || one.subject_max > 0,
                subject_max: one.subject_max,
                messages_max: if one.refuses { one.messages_max } else { 0 },
                age_us: one.age_ms * 1_000,
                ..StreamStory::default()
            };
            oracle.streams.insert(stream.to_owned(), story);
            let consumer = format!("c{stream}");
            let story = ConsumerStory { stream: stream.to_owned(), ..ConsumerStory::default() };
            oracle.consumers.insert(consumer.clone(), story);
            plan.push((format!("$JS.API.STREAM.CREATE.{stream}"), one.json(replicas)));
            plan.push((
                format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{consumer}"),
                format!(
                    "{{\"stream_name\":\"{stream}\",\"config\":{{\"durable_name\":\"{consumer}\",\"ack_policy\":\"explicit\",\
                     \"deliver_policy\":\"all\",\"ack_wait\":1000000000,\"max_ack_pending\":1000}}}}"
                ),
            ));
            actors.push(Actor::reader(stream, &consumer, dice.fork()));
            let pace = (one.gap_us(), one.heavy);
            actors.push(Actor::publisher(&format!("{stream}-slow"), stream, 1, pace, dice.fork()).expecting(broad));
            actors.push(Actor::publisher(&format!("{stream}-fast"), stream, 16, pace, dice.fork()));
        }
        for (stream, consumer, only, config) in MORE_CONSUMERS.into_iter().filter(|more| broad || more.1 != ACK_ALL) {
            let story = ConsumerStory { stream: stream.into(), only: only.into(), ..ConsumerStory::default() };
            oracle.consumers.insert(consumer.to_owned(), story);
            plan.push((
                format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{consumer}"),
                format!("{{\"stream_name\":\"{stream}\",\"config\":{{\"durable_name\":\"{consumer}\",{config}}}}}"),
            ));
            actors.push(Actor::reader(stream, consumer, dice.fork()));
        }
        let edits = options.faults.edits;
        actors.push(Actor::operator(plan, edits, broad, dice.fork()));
        let lines = actors.iter().map(|_| Line::default()).collect();
        People { actors, lines, by_conn: BTreeMap::new(), next_conn: 0 }
    }

    pub fn len(&self) -> usize {
        self.actors.len()
    }

    pub fn is_empty(&self) -> bool {
        self.actors.is_empty()
    }

    pub fn settled(&self) -> bool {
        self.actors.iter().all(Actor::settled)
    }
}

impl World {
    pub(crate) fn connect(&mut self, actor: usize) {
        self.people.lines[actor].dialling = false;
        if self.people.lines[actor].at.is_some() {
            return;
        }
        let open: Vec<usize> = (0..self.servers.len()).filter(|at| self.servers[*at].open()).collect();
        if open.is_empty() {
            return self.dial_later(actor, 100_000);
        }
        let server = self.dice.pick(&open);
        let core = self.dice.below(self.servers[server].cores.len() as u64) as CoreId;
        self.people.next_conn += 1;
        let conn = ConnId(self.people.next_conn);
        let at = (server, core, conn);
        let line = &mut self.people.lines[actor];
        line.session += 1;
        line.at = Some(at);
        line.parser.clear();
        line.between = None;
        (line.there_us, line.back_us) = (self.now_us, self.now_us);
        self.people.by_conn.insert(at, actor);
        let life = self.servers[server].life;
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 4222));
        self.hand_in(server, core, life, Event::Accepted { conn, remote: address, local: address, others: 0 });
        self.people.actors[actor].begin();
        self.flush(actor);
        if !std::mem::replace(&mut self.people.lines[actor].ticking, true) {
            self.after(TICK_US, Happening::Tick { actor });
        }
    }

    fn dial_later(&mut self, actor: usize, us: u64) {
        if !std::mem::replace(&mut self.people.lines[actor].dialling, true) {
            self.after(us, Happening::Connect { actor });
        }
    }

    pub(crate) fn tick_actor(&mut self, actor: usize) {
        self.people.actors[actor].tick(self.now_us, &mut self.oracle);
        self.flush(actor);
        self.after(TICK_US, Happening::Tick { actor });
    }

    /// What an actor wants to say goes on its way.
    fn flush(&mut self, actor: usize) {
        let bytes = std::mem::take(&mut self.people.actors[actor].out);
        let delay = self.dice.between(20, 200);
        let line = &mut self.people.lines[actor];
        if bytes.is_empty() || line.at.is_none() {
            return;
        }
        line.there_us = (self.now_us + delay).max(line.there_us);
        let (due, session) = (line.there_us, line.session);
        let bytes = self.spoil_client_bytes(bytes);
        self.at(due, Happening::ToServer { actor, session, bytes: Bytes::from(bytes) });
    }

    pub(crate) fn bytes_to_server(&mut self, actor: usize, session: u64, bytes: Bytes) {
        let line = &mut self.people.lines[actor];
        let Some((server, core, conn)) = line.at.filter(|_| line.session == session) else { return };
        if let Some(between) = &mut line.between {
            return between.push(bytes);
        }
        let life = self.servers[server].life;
        self.hand_in(server, core, life, Event::ClientBytes { conn, data: bytes });
    }

    pub(crate) fn client_write(&mut self, server: usize, core: CoreId, conn: ConnId, data: Vec<Bytes>) {
        let Some(actor) = self.people.by_conn.get(&(server, core, conn)).copied() else { return };
        let delay = self.dice.between(20, 200);
        let line = &mut self.people.lines[actor];
        line.back_us = (self.now_us + delay).max(line.back_us);
        let (due, session) = (line.back_us, line.session);
        let bytes = Bytes::from(data.concat());
        let (life, count) = (self.servers[server].life, bytes.len());
        self.at(due, Happening::ToClient { actor, session, bytes });
        let event = Box::new(Event::ClientWritten { conn, bytes: count });
        self.after(10, Happening::Core { server, core, life, event });
    }

    pub(crate) fn bytes_to_client(&mut self, actor: usize, session: u64, bytes: &[u8]) {
        let line = &mut self.people.lines[actor];
        if line.session != session || line.at.is_none() {
            return;
        }
        match line.parser.take(bytes) {
            Ok(said) => {
                for one in said {
                    if !self.swallow(actor, &one) {
                        self.people.actors[actor].hear(self.now_us, one, &mut self.oracle);
                    }
                }
                self.flush(actor);
            }
            Err(why) => self.oracle.wrong(why),
        }
    }

    /// A core lets go of a connection's socket: what arrives from now on waits for the core that takes it over.
    pub(crate) fn client_release(&mut self, server: usize, core: CoreId, conn: ConnId) {
        let Some(actor) = self.people.by_conn.get(&(server, core, conn)).copied() else { return };
        self.people.lines[actor].between = Some(Vec::new());
        let life = self.servers[server].life;
        let after = self.dice.between(1, 100);
        let event = Box::new(Event::ClientReleased { conn, ok: true });
        self.after(after, Happening::Core { server, core, life, event });
    }

    pub(crate) fn client_adopt(&mut self, server: usize, core: CoreId, conn: ConnId) {
        let from = self.people.by_conn.keys().find(|at| at.0 == server && at.2 == conn).copied();
        let Some(actor) = from.and_then(|from| self.people.by_conn.remove(&from)) else { return };
        self.people.by_conn.insert((server, core, conn), actor);
        let line = &mut self.people.lines[actor];
        line.at = Some((server, core, conn));
        let Some(between) = line.between.take() else {
            return self.oracle.wrong(format!("a socket that nobody let go of was taken over by core {core}"));
        };
        self.figures.moves += 1;
        let life = self.servers[server].life;
        for data in between {
            self.hand_in(server, core, life, Event::ClientBytes { conn, data });
        }
    }

    /// The server wants to close a connection.
    pub(crate) fn client_close(&mut self, server: usize, core: CoreId, conn: ConnId) {
        let Some(actor) = self.people.by_conn.get(&(server, core, conn)).copied() else { return };
        let line = &self.people.lines[actor];
        let (due, session) = (line.back_us, line.session);
        self.at(due, Happening::Hangup { actor, session });
    }

    pub(crate) fn on_hangup(&mut self, actor: usize, session: u64) {
        if self.people.lines[actor].session == session {
            self.hang_up(actor);
        }
    }

    /// The connection is over on both sides.
    pub(crate) fn hang_up(&mut self, actor: usize) {
        let Some(at) = self.people.lines[actor].at.take() else { return };
        self.people.by_conn.remove(&at);
        self.people.lines[actor].session += 1;
        self.people.actors[actor].lost(self.now_us);
        let (server, core, conn) = at;
        let life = self.servers[server].life;
        self.hand_in(server, core, life, Event::ClientGone { conn, why: "Client Closed".into() });
        let pause = self.dice.between(10_000, 200_000);
        self.dial_later(actor, pause);
    }

    /// Everybody whose server died notices it.
    pub(crate) fn hang_up_all(&mut self, server: usize) {
        for actor in 0..self.people.len() {
            if self.people.lines[actor].at.is_some_and(|at| at.0 == server) {
                self.hang_up(actor);
            }
        }
    }

    /// Mutants that sit between a client and its server.
    fn spoil_client_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        let mut spoilt = bytes;
        let find = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).position(|window| window == part);
        match self.options.mutant {
            Some(Mutant::DedupForgotten) => {
                while let Some(at) = find(&spoilt, b"Nats-Msg-Id") {
                    spoilt[at] = b'X';
                }
            }
            Some(Mutant::LimitForgotten) => {
                let limit = b"max_msgs_per_subject\":";
                if let Some(digit) = find(&spoilt, limit).and_then(|at| spoilt.get_mut(at + limit.len())) {
                    *digit = b'9';
                }
            }
            Some(Mutant::PurgeForged) => {
                let purge =
                    find(&spoilt, b"STREAM.PURGE.P3").and_then(|at| Some(at + find(&spoilt[at..], b"\"seq\":")? + 6));
                if let Some(at) = purge {
                    // Below 1 there is nothing.
                    let digits = spoilt[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                    spoilt[at..at + digits].fill(b' ');
                    spoilt[at + digits - 1] = b'1';
                }
            }
            _ => {}
        }
        spoilt
    }

    fn swallow(&mut self, actor: usize, said: &crate::client::Said) -> bool {
        let crate::client::Said::Message(message) = said else { return false };
        let skips = self.options.mutant == Some(Mutant::DeliverySkips) && message.reply.starts_with("$JS.ACK.");
        if !skips || !self.dice.chance(2) {
            return false;
        }
        let ack = crate::client::publish(&message.reply, "", b"+ACK");
        self.people.actors[actor].out.extend(ack);
        true
    }
}
