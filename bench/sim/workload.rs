//! The people of the world: publishers, readers and one operator, each behind one client connection.
//!
//! An actor takes what its server said and the time, and leaves bytes in `out`; the world carries them. Every request
//! is repeated until it is answered, with the same message id, so that what an actor was told and what it is owed are
//! both exact.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use serde_json::Value;

use crate::client::{self, Message, Said};
use crate::dice::Dice;
use crate::oracle::Oracle;
use crate::people::{ACK_ALL, EDITED, SCRATCH, STREAMS, streams};

/// How long an answer is waited for, microseconds.
const ANSWER_US: u64 = 3_000_000;

pub struct Actor {
    pub name: String,
    pub out: Vec<u8>,
    pub connected: bool,
    /// Nothing new is begun: what is open is finished.
    pub calm: bool,
    inbox: String,
    sessions: u64,
    tokens: u64,
    dice: Dice,
    role: Role,
}

enum Role {
    Publisher(Publisher),
    Reader(Reader),
    Operator(Operator),
}

struct Publisher {
    stream: String,
    window: usize,
    gap_us: u64,
    heavy: bool,
    next: u64,
    next_at: u64,
    /// Under way, by the token of the answer: number and when it was sent.
    open: BTreeMap<u64, (u64, u64)>,
    /// What it sent last was sent before.
    repeats: bool,
    /// To be sent again, oldest first: number and not before.
    again: VecDeque<(u64, u64)>,
    /// The sequence of its newest message, for one that publishes one at a time: what it expects to be the last on its
    /// subject. `None`: that one may be deleted.
    last: Option<u64>,
    /// It says so.
    expecting: bool,
    /// The newest answer that was no acknowledgement, for a report.
    refused: String,
}

struct Reader {
    stream: String,
    consumer: String,
    pull: Option<Pull>,
    next_at: u64,
    /// Confirmations that are waited for: token and sequence.
    confirming: BTreeMap<u64, u64>,
}

struct Pull {
    token: u64,
    left: u64,
    until_us: u64,
}

struct Operator {
    plan: Vec<(String, String)>,
    done: BTreeSet<usize>,
    open: BTreeMap<u64, (Ask, u64)>,
    next_at: u64,
    /// Changes streams, too, and in a broad run consumers.
    edits: bool,
    broad: bool,
}

#[derive(Clone)]
enum Ask {
    Plan(usize),
    Delete(String, u64),
    /// Sequences that are gone for good once it is answered.
    Purge(String, Vec<u64>),
    Get(String, u64),
    Other,
}

impl Actor {
    fn new(name: &str, dice: Dice, role: Role) -> Actor {
        Actor {
            name: name.to_owned(),
            out: Vec::new(),
            connected: false,
            calm: false,
            inbox: String::new(),
            sessions: 0,
            tokens: 0,
            dice,
            role,
        }
    }

    /// `pace`: microseconds between two messages, and whether they are large.
    pub fn publisher(name: &str, stream: &str, window: usize, pace: (u64, bool), dice: Dice) -> Actor {
        let (gap_us, heavy) = pace;
        let publisher = Publisher {
            stream: stream.to_owned(),
            window,
            gap_us,
            heavy,
            next: 1,
            next_at: 0,
            open: BTreeMap::new(),
            repeats: false,
            again: VecDeque::new(),
            last: Some(0),
            expecting: false,
            refused: String::new(),
        };
        Actor::new(name, dice, Role::Publisher(publisher))
    }

    /// Publishes only behind its own last message.
    pub fn expecting(mut self, expecting: bool) -> Actor {
        if let Role::Publisher(publisher) = &mut self.role {
            publisher.expecting = expecting;
        }
        self
    }

    pub fn reader(stream: &str, consumer: &str, dice: Dice) -> Actor {
        let (stream, consumer) = (stream.to_owned(), consumer.to_owned());
        let name = format!("reader-{consumer}");
        let reader = Reader { stream, consumer, pull: None, next_at: 0, confirming: BTreeMap::new() };
        Actor::new(&name, dice, Role::Reader(reader))
    }

    /// `plan`: requests that must succeed once, in any order (subject and JSON).
    pub fn operator(plan: Vec<(String, String)>, edits: bool, broad: bool, dice: Dice) -> Actor {
        let operator = Operator { plan, done: BTreeSet::new(), open: BTreeMap::new(), next_at: 0, edits, broad };
        Actor::new("operator", dice, Role::Operator(operator))
    }

    /// A connection stands.
    pub fn begin(&mut self) {
        self.sessions += 1;
        self.inbox = format!("_INBOX.{}.{}", self.name, self.sessions);
        self.connected = true;
        self.out = client::hello(&self.inbox);
    }

    /// The connection is gone: answers that are open will not come.
    pub fn lost(&mut self, now_us: u64) {
        self.connected = false;
        self.out.clear();
        match &mut self.role {
            Role::Publisher(publisher) => {
                let open = std::mem::take(&mut publisher.open);
                publisher.again.extend(open.into_values().map(|(n, _)| (n, now_us)));
            }
            Role::Reader(reader) => {
                reader.pull = None;
                reader.confirming.clear();
            }
            Role::Operator(operator) => operator.open.clear(),
        }
    }

    /// Nothing that it began is still open.
    pub fn settled(&self) -> bool {
        match &self.role {
            Role::Publisher(publisher) => publisher.open.is_empty() && publisher.again.is_empty(),
            Role::Reader(_) => true,
            Role::Operator(operator) => operator.done.len() == operator.plan.len(),
        }
    }

    /// What it waits for, for a report of a world that does not come to rest.
    pub fn waits_for(&self) -> String {
        match &self.role {
            Role::Publisher(p) => {
                let (open, again) = (p.open.len(), p.again.len());
                format!("{}: {open} open, {again} to send again; last refusal: {}", self.name, p.refused)
            }
            Role::Reader(r) => format!("{}: pull {}", self.name, r.pull.is_some()),
            Role::Operator(o) => {
                let open: Vec<&str> = o
                    .plan
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| !o.done.contains(at))
                    .map(|(_, ask)| ask.0.as_str())
                    .collect();
                format!("{}: {}", self.name, open.join(", "))
            }
        }
    }

    /// Takes what the server said.
    pub fn hear(&mut self, now_us: u64, said: Said, oracle: &mut Oracle) {
        match said {
            Said::Ping => self.out.extend_from_slice(b"PONG\r\n"),
            Said::Info | Said::Pong => {}
            // The words with which a connection ends when its server does.
            Said::Error(text) if text.contains("Server Shutdown") => {}
            Said::Error(text) => oracle.wrong(format!("{} was told {text}", self.name)),
            Said::Message(message) => {
                // A delivery shows the subject of the stored message; everything else names the request it answers.
                let delivery = message.reply.starts_with("$JS.ACK.");
                let token =
                    message.subject.rsplit('.').next().and_then(|token| token.parse().ok()).filter(|_| !delivery);
                if !delivery && !message.subject.starts_with(&self.inbox) {
                    return oracle.wrong(format!("{} got a message for {}", self.name, message.subject));
                }
                let token = token.unwrap_or(0);
                match &mut self.role {
                    Role::Publisher(_) => self.hear_publisher(now_us, token, &message, oracle),
                    Role::Reader(_) => self.hear_reader(now_us, token, &message, oracle),
                    Role::Operator(operator) => operator.hear(now_us, token, &message, oracle),
                }
            }
        }
    }

    /// Time passes.
    pub fn tick(&mut self, now_us: u64, oracle: &mut Oracle) {
        if !self.connected {
            return;
        }
        match &self.role {
            Role::Publisher(_) => self.tick_publisher(now_us, oracle),
            Role::Reader(_) => self.tick_reader(now_us),
            Role::Operator(_) => self.tick_operator(now_us, oracle),
        }
    }

    fn token(&mut self) -> (u64, String) {
        self.tokens += 1;
        (self.tokens, format!("{}.{}", self.inbox, self.tokens))
    }

    // ---- publishers

    fn tick_publisher(&mut self, now_us: u64, oracle: &mut Oracle) {
        loop {
            let calm = self.calm;
            let Role::Publisher(p) = &mut self.role else { return };
            let late: Vec<u64> =
                p.open.iter().filter(|(_, (_, at))| now_us > at + ANSWER_US).map(|(t, _)| *t).collect();
            for token in late {
                if let Some((n, _)) = p.open.remove(&token) {
                    p.again.push_back((n, now_us));
                }
            }
            if p.open.len() >= p.window {
                return;
            }
            let repeated = p.again.iter().position(|(_, at)| *at <= now_us);
            let n = if let Some(at) = repeated {
                p.again.remove(at).map_or(0, |(n, _)| n)
            } else if !calm && now_us >= p.next_at && p.again.is_empty() {
                p.next_at = now_us + p.gap_us;
                p.next += 1;
                p.next - 1
            } else {
                return;
            };
            let heavy = p.heavy;
            let (stream, subject) = (p.stream.clone(), format!("{}.{}", p.stream.to_lowercase(), self.name));
            let (token, reply) = self.token();
            let key = format!("{}-{n}", self.name);
            let payload = payload(&key, n, heavy);
            oracle.sending(&stream, &key, &payload, now_us);
            let Role::Publisher(p) = &mut self.role else { return };
            let expected = p.last.filter(|_| p.expects());
            self.out.extend(client::publish_with_id(&subject, &reply, &key, expected, &payload));
            p.repeats = repeated.is_some();
            p.open.insert(token, (n, now_us));
        }
    }

    fn hear_publisher(&mut self, now_us: u64, token: u64, message: &Message, oracle: &mut Oracle) {
        let Role::Publisher(p) = &mut self.role else { return };
        let Some((n, _)) = p.open.remove(&token) else { return };
        let answer: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        match answer.get("seq").and_then(Value::as_u64).filter(|_| answer.get("error").is_none()) {
            Some(seq) => {
                let key = format!("{}-{n}", self.name);
                let stream = p.stream.clone();
                if answer.get("stream").and_then(Value::as_str) != Some(stream.as_str()) {
                    oracle.wrong(format!("{key} was acknowledged by another stream: {answer}"));
                }
                p.last = Some(seq);
                oracle.acked(&stream, &key, seq, now_us);
            }
            // The stream holds all that it may: this message is given up.
            None if refusal(&answer) == Some(FULL)
                && STREAMS.iter().any(|plan| plan.refuses && plan.name == p.stream) => {}
            None if refusal(&answer) == Some(WRONG_LAST) => {
                let last = p.last.take().unwrap_or_default();
                // With a single replica an expectation is looked at before the id: the last may be its own, sent before.
                let maybe_own = p.repeats && p.stream == "E3";
                if !maybe_own && !oracle.may_be_gone(&p.stream, last) {
                    oracle.wrong(format!("{}-{n} expects {last} to be the last on its subject: {answer}", self.name));
                }
                p.again.push_back((n, now_us + 50_000));
            }
            None => {
                p.refused = format!("{n} at {now_us} us: {answer}");
                p.again.push_back((n, now_us + 50_000));
            }
        }
        self.tick_publisher(now_us, oracle);
    }

    // ---- readers

    fn tick_reader(&mut self, now_us: u64) {
        let batch = self.dice.between(1, 20);
        let Role::Reader(r) = &mut self.role else { return };
        if r.pull.as_ref().is_some_and(|pull| now_us > pull.until_us) {
            r.pull = None;
        }
        if r.pull.is_some() || now_us < r.next_at {
            return;
        }
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", r.stream, r.consumer);
        let (token, reply) = self.token();
        let body = format!("{{\"batch\":{batch},\"expires\":1000000000}}");
        self.out.extend(client::publish(&subject, &reply, body.as_bytes()));
        let Role::Reader(r) = &mut self.role else { return };
        r.pull = Some(Pull { token, left: batch, until_us: now_us + 2_000_000 });
    }

    fn hear_reader(&mut self, now_us: u64, token: u64, message: &Message, oracle: &mut Oracle) {
        let Role::Reader(r) = &mut self.role else { return };
        if let Some(seq) = r.confirming.remove(&token) {
            if message.status().is_none() {
                oracle.ack_confirmed(&r.consumer, seq, now_us);
            }
            return;
        }
        if !message.reply.starts_with("$JS.ACK.") {
            if r.pull.as_ref().is_some_and(|pull| pull.token == token) && message.status() != Some(100) {
                r.pull = None;
                r.next_at = now_us + 20_000;
            }
            return;
        }
        let Some(seq) = message.reply.split('.').nth(5).and_then(|seq| seq.parse().ok()) else {
            return oracle.wrong(format!("{} got the ack subject {}", self.name, message.reply));
        };
        oracle.delivered(&r.consumer, seq, &message.payload, now_us);
        // Some are covered by the acknowledgement of a later one.
        let covered = r.consumer == ACK_ALL && r.pull.as_ref().is_some_and(|pull| pull.left > 1) && seq % 3 > 0;
        if let Some(pull) = r.pull.as_mut() {
            pull.left = pull.left.saturating_sub(1);
            if pull.left == 0 {
                r.pull = None;
            }
        }
        if !covered {
            self.answer_delivery(now_us, seq, &message.reply, oracle);
        }
        self.tick_reader(now_us);
    }

    fn answer_delivery(&mut self, _now_us: u64, seq: u64, ack: &str, oracle: &mut Oracle) {
        let fate = if self.calm { 0 } else { self.dice.below(100) };
        match fate {
            0..65 => {
                let (token, reply) = self.token();
                self.out.extend(client::publish(ack, &reply, b"+ACK"));
                let Role::Reader(r) = &mut self.role else { return };
                r.confirming.insert(token, seq);
                oracle.consumers.entry(r.consumer.clone()).or_default().acked.insert(seq);
            }
            65..85 => {
                self.out.extend(client::publish(ack, "", b"+ACK"));
                let Role::Reader(r) = &mut self.role else { return };
                oracle.consumers.entry(r.consumer.clone()).or_default().acked.insert(seq);
            }
            85..92 => self.out.extend(client::publish(ack, "", b"-NAK")),
            _ => {}
        }
    }

    // ---- the operator

    fn tick_operator(&mut self, now_us: u64, oracle: &mut Oracle) {
        let calm = self.calm;
        let mut asks = Vec::new();
        let Role::Operator(o) = &mut self.role else { return };
        o.open.retain(|_, (_, at)| now_us <= *at + ANSWER_US);
        if now_us < o.next_at {
            return;
        }
        o.next_at = now_us + self.dice.between(50_000, 300_000);
        let busy =
            |o: &Operator, at: usize| o.open.values().any(|(ask, _)| matches!(ask, Ask::Plan(open) if *open == at));
        for at in 0..o.plan.len() {
            if !o.done.contains(&at) && !busy(o, at) {
                asks.push((Ask::Plan(at), o.plan[at].0.clone(), o.plan[at].1.clone()));
            }
        }
        if asks.is_empty() && !calm {
            asks.extend(o.idea(&mut self.dice, oracle));
        }
        for (ask, subject, body) in asks {
            let (token, reply) = self.token();
            self.out.extend(client::publish(&subject, &reply, body.as_bytes()));
            let Role::Operator(o) = &mut self.role else { return };
            o.open.insert(token, (ask, now_us));
        }
    }
}

impl Publisher {
    /// Nobody else writes to its subject, and nothing takes a message away: a wrong expectation is the server's fault.
    fn expects(&self) -> bool {
        self.expecting && matches!(self.stream.as_str(), "F3" | "S3" | "E3")
    }
}

fn refusal(answer: &Value) -> Option<u64> {
    answer.get("error")?.get("err_code")?.as_u64()
}

impl Operator {
    /// Something that an operator or a reader of single messages might do.
    fn idea(&self, dice: &mut Dice, oracle: &mut Oracle) -> Option<(Ask, String, String)> {
        if self.edits && dice.chance(15) {
            return Some(edit(dice, self.broad));
        }
        let stream = dice.pick(streams(self.broad)).name.to_owned();
        let story = oracle.streams.get_mut(&stream)?;
        let seqs: Vec<u64> = story.by_seq.keys().copied().collect();
        let seq = seqs.get(dice.below(seqs.len().max(1) as u64) as usize).copied().unwrap_or(1);
        let none = String::new();
        Some(match dice.below(12) {
            0 => (Ask::Other, format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}"), none),
            1 => (Ask::Other, format!("$JS.API.CONSUMER.LEADER.STEPDOWN.{stream}.c{stream}"), none),
            2 if dice.chance(30) => (Ask::Other, "$JS.API.META.LEADER.STEPDOWN".into(), none),
            3 | 4 if story.by_seq.contains_key(&seq) => {
                story.maybe_gone.insert(seq);
                let ask = Ask::Delete(stream.clone(), seq);
                (ask, format!("$JS.API.STREAM.MSG.DELETE.{stream}"), format!("{{\"seq\":{seq},\"no_erase\":true}}"))
            }
            5 if stream == "P3" => return Some(purge(dice, oracle, "P3", seq)),
            5..8 if stream == "N3" => return Some(purge(dice, oracle, "N3", seq)),
            5 if stream == "L3" => (Ask::Other, "$JS.API.STREAM.PURGE.L3".into(), "{\"keep\":20}".into()),
            5 => (Ask::Other, format!("$JS.API.STREAM.INFO.{stream}"), none),
            6 => (Ask::Other, "$JS.API.STREAM.LIST".into(), none),
            7 => (Ask::Other, format!("$JS.API.CONSUMER.INFO.{stream}.c{stream}"), none),
            _ => (Ask::Get(stream.clone(), seq), format!("$JS.API.DIRECT.GET.{stream}"), format!("{{\"seq\":{seq}}}")),
        })
    }

    fn hear(&mut self, now_us: u64, token: u64, message: &Message, oracle: &mut Oracle) {
        let Some((ask, _)) = self.open.remove(&token) else { return };
        let answer: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        let good = message.status().is_none() && answer.get("error").is_none();
        match ask {
            Ask::Plan(at) if good => {
                self.done.insert(at);
            }
            Ask::Plan(at) => {
                let error = answer.get("error").and_then(|e| e.get("err_code")).and_then(Value::as_u64);
                // It exists already: an earlier answer was lost.
                if matches!(error, Some(10058 | 10148 | 10013)) {
                    self.done.insert(at);
                } else if let Some(code) = error.filter(|code| !TRY_AGAIN.contains(code)) {
                    oracle.wrong(format!("{} is refused with {code}: {answer}", self.plan[at].0));
                }
                self.next_at = now_us + 200_000;
            }
            Ask::Delete(stream, seq) if good && answer.get("success") == Some(&Value::Bool(true)) => {
                if let Some(story) = oracle.streams.get_mut(&stream) {
                    story.gone.insert(seq);
                }
            }
            Ask::Purge(stream, seqs) if good && answer.get("success") == Some(&Value::Bool(true)) => {
                if let Some(story) = oracle.streams.get_mut(&stream) {
                    story.gone.extend(seqs);
                }
            }
            Ask::Get(stream, seq) if good => oracle.read(&stream, seq, &message.payload, "a direct get"),
            _ => {}
        }
    }
}

/// Everything of a stream below a sequence goes, or what one publisher has there.
fn purge(dice: &mut Dice, oracle: &mut Oracle, stream: &str, seq: u64) -> (Ask, String, String) {
    let slow = format!("{stream}-slow");
    let only = if dice.chance(50) { "" } else { slow.as_str() };
    let filter =
        if only.is_empty() { String::new() } else { format!(",\"filter\":\"{}.{only}\"", stream.to_lowercase()) };
    let gone = oracle.purging(stream, seq, only);
    (Ask::Purge(stream.into(), gone), format!("$JS.API.STREAM.PURGE.{stream}"), format!("{{\"seq\":{seq}{filter}}}"))
}

/// A change to what streams and consumers there are and how many replicas they have.
fn edit(dice: &mut Dice, broad: bool) -> (Ask, String, String) {
    let scratch = format!("X{}", dice.below(3));
    let (subject, body) = match dice.below(if broad { 7 } else { 4 }) {
        0 => {
            let body =
                SCRATCH.json(3).replace("\"X\"", &format!("\"{scratch}\"")).replace("x.>", &format!("{scratch}.>"));
            (format!("$JS.API.STREAM.CREATE.{scratch}"), body)
        }
        1 => (format!("$JS.API.STREAM.DELETE.{scratch}"), String::new()),
        // The same request creates a consumer and changes it.
        4 | 5 => {
            let stream = dice.pick(&STREAMS).name;
            let (wait, replicas) = (dice.between(1, 9), dice.pick(&[0, 1, 3]));
            let config = format!(
                "{{\"durable_name\":\"{scratch}\",\"ack_policy\":\"explicit\",\"ack_wait\":{wait}00000000,\"num_replicas\":{replicas}}}"
            );
            let body = format!("{{\"stream_name\":\"{stream}\",\"config\":{config}}}");
            (format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{scratch}"), body)
        }
        6 => (format!("$JS.API.CONSUMER.DELETE.{}.{scratch}", dice.pick(&STREAMS).name), String::new()),
        _ => {
            let replicas = if broad { dice.pick(&[1, 3, 5]) } else { dice.pick(&[1, 3]) };
            let plan = EDITED;
            (format!("$JS.API.STREAM.UPDATE.{}", plan.name), plan.json(replicas))
        }
    };
    (Ask::Other, subject, body)
}

/// The stream has as many messages as it may; the last sequence is not the expected one.
const FULL: u64 = 10077;
const WRONG_LAST: u64 = 10071;

/// Errors that only say "later": no leader, no quorum, too busy, no servers yet, not found yet.
const TRY_AGAIN: [u64; 7] = [10008, 10009, 10005, 10023, 10059, 10118, 10002];

/// The bytes of a message, by its id alone: what it is and, sometimes, much more.
fn payload(key: &str, n: u64, heavy: bool) -> Bytes {
    let mut dice = Dice::new(n ^ key.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte)));
    let len = match dice.below(50) {
        _ if heavy => dice.between(1_000, 20_000),
        0 => dice.between(4_000, 60_000),
        1..10 => dice.between(500, 3_000),
        _ => dice.between(0, 200),
    };
    let mut text = format!("{key}:").into_bytes();
    text.extend((0..len).map(|at| b'a' + ((at + n) % 26) as u8));
    Bytes::from(text)
}
