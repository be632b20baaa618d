//! What a client sends, operation by operation: checked against its rights and limits, then acted upon.
//!
//! The order of checks and answers is the peer's, recorded in `tests`: with `verbose` an accepted operation is answered
//! `+OK` before anything that it causes; a refused one gets its `-ERR` and no `+OK`.

use bytes::Bytes;
use net::client::headers::no_responders;
use net::client::op::Op;
use net::client::parse::{Limits, ParseError};
use net::client::write;
use net::subject;

use super::auth::{Claim, Verdict};
use super::close::CloseReason;
use super::conn::Conn;
use super::connect::Connect;
use super::front::Front;
use super::info::Addressee;
use super::output::FrontOutput;
use super::output::{Level, SysEvent};
use crate::account::Accounts;
use crate::config::options::Secret;
use crate::ids::{ConnId, Now};
use crate::route::{Message, Scope, Target};

/// Subjects between gateways; clients may not publish there.
const GATEWAY_PREFIX: &[u8] = b"_GR_.";
/// Subjects of the peer's raft groups; only the system account may.
const RAFT_PREFIX: &[u8] = b"$NRG.";
/// Reply subjects that only the server makes.
const RESERVED_REPLIES: [&[u8]; 3] = [b"_R_.", b"_GR_.", b"$JS.ACK."];
/// The queue group of the server's own subscriptions.
const SYSTEM_QUEUE: &[u8] = b"_sys_";

impl Front {
    /// Takes operations out of what was read until it is used up, or the client is closed or held back.
    pub(super) fn drain(&mut self, now: Now, slot: u32) {
        loop {
            let Some(conn) = self.conn(slot) else { return };
            if !conn.is_open() || conn.is_held() {
                return;
            }
            match conn.intake.poll() {
                Ok(Some(op)) => self.on_op(now, slot, op),
                Ok(None) => return,
                Err(error) => return self.on_parse_error(now, slot, error),
            }
        }
    }

    fn on_op(&mut self, now: Now, slot: u32, op: Op) {
        if let Some(conn) = self.conn(slot) {
            conn.habit.op();
        }
        if !matches!(op, Op::Connect { .. }) && !self.enter_unnamed(now, slot) {
            return;
        }
        match op {
            Op::Pub { subject, reply, headers, payload } => {
                self.on_publish(now, slot, Message { subject, inbox: None, reply, headers, payload });
            }
            Op::Sub { subject, queue, sid } => self.on_sub(slot, &subject, queue.as_deref(), &sid),
            Op::Unsub { sid, max } => self.on_unsub(slot, &sid, max),
            Op::Ping => self.on_ping(now, slot),
            Op::Pong => self.on_pong(now, slot),
            Op::Connect { json } => self.on_connect(now, slot, &json),
            Op::Err { text } => {
                // One line, whatever the client wrote; its quotes may stay.
                let text = String::from_utf8_lossy(&text).escape_debug().to_string().replace("\\'", "'");
                self.log_of(slot, Level::Error, &format!("Client Error {text}"));
                self.close(now, slot, CloseReason::ClientError);
            }
            // Servers say INFO; from a client only one that cannot be read means anything.
            Op::Info { json } => {
                if serde_json::from_slice::<Option<serde_json::Map<_, _>>>(&json).is_err() {
                    self.close(now, slot, CloseReason::Protocol);
                }
            }
            Op::Ok | Op::Msg { .. } => {}
        }
    }

    /// A client that begins without CONNECT (a person at a terminal) comes in as whoever may come without credentials.
    /// False when nobody may, and the client is being closed.
    fn enter_unnamed(&mut self, now: Now, slot: u32) -> bool {
        let Some(conn) = self.conn(slot) else { return false };
        if conn.counted {
            return true;
        }
        let connect = conn.connect.clone();
        let Verdict::In(pass) = self.gate.check(&connect, None) else {
            self.auth_violation(now, slot);
            return false;
        };
        let standing = self.gate.standing(&connect);
        self.enter(now, slot, pass, standing)
    }

    fn on_parse_error(&mut self, now: Now, slot: u32, error: ParseError) {
        let Some(conn) = self.conn(slot) else { return };
        let reason = match error {
            ParseError::AuthorizationViolation => return self.auth_violation(now, slot),
            ParseError::PayloadTooLarge { .. } => CloseReason::PayloadMax,
            ParseError::ControlLineTooLong => CloseReason::ControlLineMax,
            _ => CloseReason::Protocol,
        };
        if let Some(text) = error.reply() {
            conn.out.line(|out| write::err(out, text));
        }
        let text = match error {
            ParseError::PayloadTooLarge { size, max } => {
                format!("{} - maximum payload exceeded: {size} vs {max}", conn.label)
            }
            other => format!("{} - {other}", conn.label),
        };
        self.log(Level::Error, || text);
        self.close(now, slot, reason);
    }

    fn on_publish(&mut self, now: Now, slot: u32, message: Message) {
        let bytes = message.len() as u64;
        let Some(conn) = self.conns.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        conn.traffic.in_msgs += 1;
        conn.traffic.in_bytes += bytes;
        let account = conn.account;
        if conn.connect.pedantic && !subject::is_valid_literal(&message.subject) {
            conn.out.line(|out| write::err(out, "Invalid Publish Subject"));
        }
        let refused = refuse(conn, now, &message, self.accounts.is_system(account));
        let Some(conn) = self.conn(slot) else { return };
        if let Some((text, log)) = refused {
            let log = format!("{} - {log}", conn.label);
            self.error(slot, &text);
            return self.log(Level::Error, || log);
        }
        if conn.connect.verbose {
            conn.out.line(write::ok);
        }
        let asks = message.reply.clone().filter(|_| conn.connect.no_responders);
        self.mark(slot);
        let exchange = &mut self.exchanges[account.0 as usize];
        exchange.traffic.in_msgs += 1;
        exchange.traffic.in_bytes += bytes;
        let asks = asks.map(|reply| (message.subject.clone(), reply));
        let heard = self.route(now, Some(slot), account, Scope::Here, message);
        if let (false, Some((subject, reply))) = (heard, asks) {
            self.no_responders(slot, &subject, reply);
        }
    }

    /// Tells a requester at once that nobody will answer, on its own subscription for the reply.
    fn no_responders(&mut self, slot: u32, subject: &Bytes, reply: Bytes) {
        let Some(account) = self.conn(slot).map(|conn| conn.account) else { return };
        self.exchanges[account.0 as usize].list.matches(&reply, &mut self.matches);
        let own = self.matches.plain.iter().find_map(|target| match target {
            Target::Client { conn, sub } if *conn == slot => Some(*sub),
            _ => None,
        });
        let Some(place) = own else { return };
        let Some(conn) = self.conn(slot) else { return };
        let Some(sub) = conn.subs.get(place) else { return };
        let headers = Some(no_responders(subject));
        let message = Message { subject: reply, inbox: None, reply: None, headers, payload: Bytes::new() };
        conn.out.message(&sub.sid, &message, true);
        self.mark(slot);
    }

    fn on_sub(&mut self, slot: u32, filter: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        let limits = &self.config.limits;
        let (tokens_max, subs_max) = (limits.sub_tokens_max.map_or(0, usize::from), limits.subscriptions_max);
        let Some(conn) = self.conns.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let account_max = self.accounts.get(conn.account).and_then(|account| account.limits.subscriptions_max);
        let subs_max = account_max.or(subs_max);
        if let Some((text, log)) = refuse_sub(conn, filter, queue, sid, tokens_max) {
            let log = format!("{} - {log}", conn.label);
            self.error(slot, &text);
            return self.log(Level::Error, || log);
        }
        if subs_max.is_some_and(|max| conn.subs.len() >= max as usize) {
            let log = format!("{} - maximum subscriptions exceeded", conn.label);
            self.error(slot, "maximum subscriptions exceeded");
            return self.log(Level::Error, || log);
        }
        if conn.subs.find(sid).is_none() {
            if !subject::is_valid_filter(filter) {
                return self.error(slot, "Invalid Subject");
            }
            let account = conn.account;
            let exchange = &mut self.exchanges[account.0 as usize];
            let (key, spread) = exchange.interest.subscribe(filter, queue);
            let guarded = conn.permit.as_ref().is_some_and(|permit| permit.guards(filter, queue));
            let place = conn.subs.insert(sid, key.clone(), guarded);
            exchange.list.insert(filter, queue, Target::Client { conn: slot, sub: place });
            exchange.subscriptions += 1;
            self.tell(account, &key, true, spread);
        }
        self.ok(slot);
    }

    fn on_unsub(&mut self, slot: u32, sid: &[u8], max: Option<u64>) {
        let Some(conn) = self.conn(slot) else { return };
        let mut over = None;
        if let Some(place) = conn.subs.find(sid)
            && let Some(sub) = conn.subs.get_mut(place)
        {
            sub.max = max.filter(|max| *max > sub.received);
            over = sub.max.is_none().then_some(place);
        }
        self.ok(slot);
        if let Some(place) = over {
            self.unsubscribe(slot, place);
        }
    }

    fn on_ping(&mut self, now: Now, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        conn.pulse.last_in = now.us;
        let (id, others) = (conn.id, usize::from(self.options.cores.saturating_sub(1)));
        if self.barrier.admits(others, id) {
            self.pong(slot);
        }
    }

    /// Answers a PING.
    pub(super) fn pong(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot).filter(|conn| conn.is_open()) else { return };
        conn.out.line(write::pong);
        let greets = conn.connected && !conn.greeted;
        conn.greeted |= conn.connected;
        if greets && conn.connect.protocol >= 1 {
            self.send_info(slot, true);
        }
        self.mark(slot);
    }

    fn on_pong(&mut self, now: Now, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        conn.pulse.pings_out = 0;
        if let Some(sent) = conn.pulse.ping_sent.take() {
            // The pages show 0 as "not measured", so a loopback round trip within one turn counts as 1 us.
            conn.pulse.rtt_us = now.us.saturating_sub(sent).max(1);
            conn.pulse.rtt_at = now.us;
        }
    }

    fn on_connect(&mut self, now: Now, slot: u32, json: &[u8]) {
        let server_headers = self.config.limits.headers;
        let Some(conn) = self.conn(slot) else { return };
        if let Err(error) = conn.connect.apply(json) {
            let text = format!("{} - {error}", conn.label);
            self.log(Level::Error, || text);
            return self.close(now, slot, CloseReason::Protocol);
        }
        conn.connect.headers &= server_headers;
        if std::mem::replace(&mut conn.connected, true) {
            self.unsubscribe_all(slot);
        } else {
            // INFO out, CONNECT in: a first idea, until a PING is answered.
            conn.pulse.rtt_us = now.us.saturating_sub(conn.start.us).max(1);
        }
        self.admit(now, slot, None);
    }

    /// The answer to [`FrontOutput::Compare`]: whether what the client presented is right. It goes on from there.
    pub fn compared(&mut self, now: Now, conn: ConnId, right: bool) {
        let Some(slot) = self.by_id.get(&conn).copied() else { return };
        let Some(secret) = self.conn(slot).and_then(|conn| conn.claimed.take()) else { return };
        if right {
            self.admit(now, slot, Some(&secret));
        } else {
            self.auth_violation(now, slot);
        }
        self.pause(slot);
        self.drain(now, slot);
    }

    /// Lets a client in that has said CONNECT, or not; `proven` is the secret that it was found to know.
    fn admit(&mut self, now: Now, slot: u32, proven: Option<&Secret>) {
        let Some(conn) = self.conn(slot).filter(|conn| conn.is_open()) else { return };
        let connect = conn.connect.clone();
        if connect.account_new || !connect.account.is_empty() {
            return self.auth_violation(now, slot);
        }
        let pass = match self.gate.check(&connect, proven) {
            Verdict::In(pass) => pass,
            Verdict::Out => return self.auth_violation(now, slot),
            Verdict::Compare(claim) => return self.ask(slot, claim),
        };
        let standing = self.gate.standing(&connect);
        if self.enter(now, slot, pass, standing) {
            self.connected(now, slot, &connect);
        }
    }

    /// Nothing is taken from the client until somebody has compared.
    fn ask(&mut self, slot: u32, claim: Claim) {
        let Some(conn) = self.conn(slot) else { return };
        conn.claimed = Some(claim.secret.clone());
        let id = conn.id;
        self.outputs.push_back(FrontOutput::Compare { conn: id, claim: Box::new(claim) });
        self.pause(slot);
    }

    fn connected(&mut self, now: Now, slot: u32, connect: &Connect) {
        let Some(conn) = self.conn(slot) else { return };
        if !(0..=1).contains(&connect.protocol) {
            return self.refuse_connect(now, slot, "invalid client protocol", CloseReason::BadProtocolVersion);
        }
        if connect.no_responders && !connect.headers {
            let text = "no responders requires headers support";
            return self.refuse_connect(now, slot, text, CloseReason::NoRespondersWithoutHeaders);
        }
        conn.intake.parser.set_connect_only(false);
        conn.intake.parser.set_headers(connect.headers);
        conn.connect.password.clear();
        conn.connect.token = if connect.token.is_empty() { String::new() } else { "[REDACTED]".to_string() };
        if !std::mem::replace(&mut conn.announced, true) {
            let client = std::sync::Arc::clone(&conn.facts);
            self.outputs.push_back(FrontOutput::SysEvent(SysEvent::Connect { client }));
        }
        self.ok(slot);
    }

    fn refuse_connect(&mut self, now: Now, slot: u32, text: &str, reason: CloseReason) {
        let label = self.conn(slot).map(|conn| conn.label.clone()).unwrap_or_default();
        self.error(slot, text);
        self.log(Level::Error, || format!("{label} - {text}"));
        self.close(now, slot, reason);
    }

    /// INFO to one client; `answers`: it is the one behind CONNECT, which names the account.
    pub(super) fn send_info(&mut self, slot: u32, answers: bool) {
        let Some(conn) = self.conns.get(slot as usize).and_then(Option::as_ref) else { return };
        let account = answers.then(|| self.accounts.name(conn.account));
        let system = answers && self.accounts.is_system(conn.account);
        let json = self.info(&Addressee { cid: conn.cid, remote: conn.remote, local: conn.local, account, system });
        if let Some(conn) = self.conn(slot) {
            conn.out.line(|out| write::info(out, &json));
        }
        self.mark(slot);
    }

    /// `+OK` if the client wants that.
    fn ok(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        if conn.connect.verbose {
            conn.out.line(write::ok);
            self.mark(slot);
        }
    }

    /// `-ERR`
    pub(super) fn error(&mut self, slot: u32, text: &str) {
        if let Some(conn) = self.conn(slot) {
            conn.out.line(|out| write::err(out, text));
        }
        self.mark(slot);
    }

    /// Limits of the parser for a client of an account (or of none yet).
    pub(super) fn parse_limits(&self, account: Option<crate::ids::AccountId>) -> Limits {
        let limits = &self.config.limits;
        let of_account = self.accounts.get(account.unwrap_or(Accounts::GLOBAL));
        let payload =
            of_account.and_then(|account| account.limits.payload_bytes_max).unwrap_or(limits.payload_bytes_max);
        Limits { control_line_max: limits.control_line_bytes_max as usize, payload_max: payload as usize }
    }
}

/// Why a publish is refused: for the client and for the log.
fn refuse(conn: &mut Conn, now: Now, message: &Message, system: bool) -> Option<(String, String)> {
    let subject = &message.subject[..];
    let reserved = subject.starts_with(GATEWAY_PREFIX) || (subject.starts_with(RAFT_PREFIX) && !system);
    if reserved || !may_publish(conn, now, subject) {
        let subject = String::from_utf8_lossy(subject);
        let text = format!("Permissions Violation for Publish to {subject:?}");
        return Some((text, format!("Publish Violation - Subject {subject:?}")));
    }
    let reply = message.reply.as_deref()?;
    if RESERVED_REPLIES.iter().any(|prefix| reply.starts_with(prefix)) {
        let reply = String::from_utf8_lossy(reply);
        let text = format!("Permissions Violation for Publish with Reply of {reply:?}");
        return Some((text, format!("Publish Violation - Reply {reply:?}")));
    }
    None
}

fn may_publish(conn: &mut Conn, now: Now, subject: &[u8]) -> bool {
    let Some(permit) = &conn.permit else { return true };
    permit.may_publish(subject) || permit.responses().is_some_and(|rule| conn.replies.answer(now, subject, rule))
}

/// Why a subscription is refused: for the client and for the log.
fn refuse_sub(
    conn: &Conn,
    filter: &[u8],
    queue: Option<&[u8]>,
    sid: &[u8],
    tokens_max: usize,
) -> Option<(String, String)> {
    let subject = String::from_utf8_lossy(filter);
    let sid = String::from_utf8_lossy(sid).escape_debug().to_string();
    let permitted = conn.permit.as_ref().is_none_or(|permit| permit.may_subscribe(filter, queue));
    match queue {
        Some(queue) if !permitted || queue == SYSTEM_QUEUE => {
            let queue = String::from_utf8_lossy(queue);
            let text = format!("Permissions Violation for Subscription to {subject:?} using queue {queue:?}");
            Some((text, format!("Subscription Violation - Subject {subject:?}, Queue: {queue:?}, SID {sid}")))
        }
        None if !permitted => {
            let text = format!("Permissions Violation for Subscription to {subject:?}");
            Some((text, format!("Subscription Violation - Subject {subject:?}, SID {sid}")))
        }
        _ if !subject::within_tokens(filter, tokens_max) => {
            let text = format!("Permissions Violation for Subscription to {subject:?}, too many tokens");
            Some((text, format!("Subscription Violation Too Many Tokens - Subject {subject:?}, SID {sid}")))
        }
        _ => None,
    }
}
