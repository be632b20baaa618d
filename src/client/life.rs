//! A connection's life: accepted, let in, kept alive, closed; and the end of a turn, when queued bytes become writes.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use net::client::intake::Intake;
use net::client::parse::{Parser, Role};
use net::client::write;

use super::auth::{Pass, Standing};
use super::close::CloseReason;
use super::conn::{Conn, Pulse};
use super::connect::Connect;
use super::deliver::Outbox;
use super::front::Front;
use super::habit::Habit;
use super::output::{ClientFacts, FrontOutput, Level, SysEvent, Traffic};
use super::permit::Replies;
use super::subs::Subs;
use crate::account::Accounts;
use crate::ids::{AccountId, ConnId, Now};
use crate::route::Target;

/// The first PING comes early, for a round trip time to show (peer: 2 s, and up to a fifth more so that a crowd
/// which connects at once does not answer at once).
const FIRST_PING_US: u64 = 2_000_000;
/// The round trip is measured anew that often even if the client talks all the time (peer: 1 h).
const RTT_US: u64 = 3_600_000_000;

impl Front {
    /// A client connected; it is sent INFO.
    ///
    /// `others`: connections of the whole server that were open when this one came.
    pub fn accepted(&mut self, now: Now, conn: ConnId, remote: SocketAddr, local: SocketAddr, others: u32) {
        let full = self.config.limits.connections_max.is_some_and(|max| others >= max);
        let state = self.new_conn(now, conn, remote, local);
        let slot = self.seat(state);
        self.open += 1;
        self.log_of(slot, Level::Debug, "Client connection created");
        self.send_info(slot, false);
        if full {
            self.error(slot, "maximum connections exceeded");
            self.log_of(slot, Level::Error, "maximum connections exceeded");
            return self.close(now, slot, CloseReason::ConnectionsMax);
        }
        if !self.gate.required() {
            self.enter(now, slot, Pass::nobody(&Connect::default()), Standing::Nobody);
        }
        self.rearm(slot);
    }

    /// Gives a connection a place.
    pub(super) fn seat(&mut self, conn: Conn) -> u32 {
        let slot = self.conns_free.pop().unwrap_or(self.conns.len() as u32);
        self.by_id.insert(conn.id, slot);
        match self.conns.get_mut(slot as usize) {
            Some(place) => *place = Some(conn),
            None => self.conns.push(Some(conn)),
        }
        slot
    }

    /// Bytes that a client sent, in order.
    pub fn bytes(&mut self, now: Now, conn: ConnId, data: Bytes) {
        let Some(slot) = self.by_id.get(&conn).copied() else { return };
        let Some(state) = self.conn(slot) else { return };
        if !state.is_open() {
            return;
        }
        state.pulse.last_in = now.us;
        state.pulse.last_wall_ns = now.wall_ns;
        state.habit.read();
        state.intake.push(data);
        self.drain(now, slot);
    }

    /// So many bytes of what was handed over reached the socket.
    pub fn written(&mut self, now: Now, conn: ConnId, bytes: usize) {
        let Some(slot) = self.by_id.get(&conn).copied() else { return };
        if let Some(state) = self.conn(slot) {
            state.out.written(now.us, bytes);
            if state.out.pending() == 0 {
                self.consider_move(now, slot);
            }
        }
    }

    /// The connection is over: its other end closed it, it broke, or a [`FrontOutput::Close`] was carried out.
    pub fn gone(&mut self, now: Now, conn: ConnId, why: &str) {
        let Some(slot) = self.by_id.remove(&conn) else { return };
        self.end(now, slot, CloseReason::of_shell(why));
        if let Some(place) = self.conns.get_mut(slot as usize) {
            *place = None;
        }
        self.conns_free.push(slot);
    }

    /// Holds a client's operations back, or takes them again: for streams and nodes that push back.
    pub fn hold(&mut self, now: Now, conn: ConnId, held: bool) {
        let Some(slot) = self.by_id.get(&conn).copied() else { return };
        let Some(state) = self.conn(slot) else { return };
        state.held = held;
        self.pause(slot);
        self.drain(now, slot);
    }

    /// The end of a batch: what was queued becomes one write per connection.
    pub fn turn(&mut self, now: Now) {
        if let Some(mark) = self.barrier.ask() {
            self.outputs.push_back(FrontOutput::Barrier { mark });
        }
        for slot in std::mem::take(&mut self.dirty) {
            if let Some(conn) = self.conn(slot) {
                conn.dirty = false;
            }
            self.flush(now, slot);
        }
    }

    /// The time that [`Front::next_wakeup`] named has come.
    pub fn wakeup(&mut self, now: Now) {
        while let Some((_, slot)) = self.timers.pop(now.us) {
            if let Some(conn) = self.conn(slot) {
                conn.due = None;
            }
            self.on_time(now, slot);
            self.rearm(slot);
        }
        self.lame_duck_step(now);
    }

    /// When [`Front::wakeup`] must be called at the latest; ask again after every call.
    pub fn next_wakeup(&self) -> Option<u64> {
        [self.timers.next(), self.lame_duck.as_ref().and_then(|duck| duck.next_us)].into_iter().flatten().min()
    }

    /// Closes every client, with an `-ERR` unless the text is empty.
    pub fn close_all(&mut self, now: Now, text: &str) {
        for slot in 0..self.conns.len() as u32 {
            if self.conn(slot).is_some_and(|conn| conn.is_open()) {
                if !text.is_empty() {
                    self.error(slot, text);
                }
                self.close(now, slot, CloseReason::Shutdown);
            }
        }
    }

    /// Closes one client by its number; false when there is none.
    pub fn kick(&mut self, now: Now, cid: u64) -> bool {
        let Some(slot) = self.slot_of(cid) else { return self.close_husk(cid, CloseReason::Kicked) };
        self.close(now, slot, CloseReason::Kicked);
        true
    }

    /// Puts a client into an account. False when it was closed because the account is full.
    pub(super) fn enter(&mut self, now: Now, slot: u32, pass: Pass, standing: Standing) -> bool {
        let account = pass.account;
        let again = self.conn(slot).is_some_and(|conn| conn.counted && conn.account == account);
        self.leave(slot);
        let max = self.accounts.get(account).and_then(|account| account.limits.connections_max);
        let elsewhere: u32 = self.elsewhere.iter().filter(|(other, _)| *other == account).map(|(_, count)| count).sum();
        let limits = self.parse_limits(Some(account));
        let account_name = self.accounts.name(account).to_string();
        self.census_changed = true;
        let exchange = &mut self.exchanges[account.0 as usize];
        let full = max.is_some_and(|max| exchange.connections + elsewhere >= max);
        if !full {
            exchange.connections += 1;
            exchange.total_connections += u64::from(!again);
        }
        let first_ping = self.first_ping_us();
        let Some(conn) = self.conn(slot) else { return false };
        conn.account = account;
        conn.permit = pass.permit;
        conn.standing = standing;
        conn.counted = !full;
        conn.pulse.auth_due = None;
        conn.pulse.ping_due = now.us + first_ping;
        conn.intake.parser.set_limits(limits);
        conn.relabel(&account_name, &pass.label);
        conn.user = pass.user;
        conn.facts = Arc::new(conn.to_facts(account_name));
        self.rearm(slot);
        if full {
            let text = "maximum account active connections exceeded";
            self.error(slot, text);
            self.log_of(slot, Level::Error, text);
            self.close(now, slot, CloseReason::AccountConnectionsMax);
        }
        !full
    }

    pub(super) fn auth_violation(&mut self, now: Now, slot: u32) {
        self.counts.auth_errors += 1;
        let Some(conn) = self.conns.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let user = conn.connect.shown_user();
        let text = match (user.is_empty(), conn.connect.user.is_empty()) {
            (true, _) => "authentication error".to_string(),
            (false, false) => format!("authentication error - User {user:?}"),
            (false, true) => format!("authentication error - Token {user:?}"),
        };
        conn.user = user.to_string();
        let client = Arc::new(conn.to_facts(self.accounts.name(conn.account).to_string()));
        let reason = CloseReason::AuthenticationViolation;
        let event = SysEvent::AuthError { client, stop_wall_ns: now.wall_ns, reason: reason.text() };
        self.outputs.push_back(FrontOutput::SysEvent(event));
        self.error(slot, "Authorization Violation");
        self.log_of(slot, Level::Error, &text);
        self.close(now, slot, reason);
    }

    /// Closes a connection, once; what is queued still leaves unless the reason forbids it. One that is on its way to
    /// another core is closed when it is there.
    pub(super) fn close(&mut self, now: Now, slot: u32, reason: CloseReason) {
        if let Some(conn) = self.conn(slot).filter(|conn| conn.is_open() && conn.passage.is_some()) {
            conn.fate.get_or_insert(reason);
            return;
        }
        if !self.end(now, slot, reason) {
            return;
        }
        if let Some(conn) = self.conn(slot)
            && !reason.flushes()
        {
            conn.out.discard();
        }
        self.flush(now, slot);
        if let Some(conn) = self.conn(slot) {
            let id = conn.id;
            self.outputs.push_back(FrontOutput::Close { conn: id });
        }
    }

    /// Takes a connection out of everything that could reach it; false when that was done before.
    fn end(&mut self, now: Now, slot: u32, reason: CloseReason) -> bool {
        if !self.conn(slot).is_some_and(|conn| conn.is_open()) {
            return false;
        }
        self.unsubscribe_all(slot);
        self.leave(slot);
        self.open -= 1;
        if reason == CloseReason::Stale {
            self.counts.stale += 1;
        }
        self.log_of(slot, Level::Debug, &format!("Client connection closed: {}", reason.text()));
        self.remember(now, slot, reason);
        let Some(conn) = self.conn(slot) else { return false };
        conn.closing = Some(reason);
        let lodger = std::mem::take(&mut conn.lodger);
        if conn.announced {
            let (client, traffic) = (Arc::clone(&conn.facts), conn.traffic);
            let event = SysEvent::Disconnect { client, stop_wall_ns: now.wall_ns, traffic, reason: reason.text() };
            self.outputs.push_back(FrontOutput::SysEvent(event));
        }
        self.moves.lodgers -= u32::from(lodger);
        self.rearm(slot);
        true
    }

    /// No longer counted in its account.
    fn leave(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        let account = conn.account;
        if std::mem::replace(&mut conn.counted, false) {
            self.exchanges[account.0 as usize].connections -= 1;
            self.census_changed = true;
        }
    }

    pub(super) fn unsubscribe(&mut self, slot: u32, place: u32) {
        let Some(conn) = self.conn(slot) else { return };
        let account = conn.account;
        let Some(sub) = conn.subs.remove(place) else { return };
        let exchange = &mut self.exchanges[account.0 as usize];
        exchange.list.remove(sub.key.subject(), sub.key.queue(), Target::Client { conn: slot, sub: place });
        exchange.subscriptions -= 1;
        let spread = exchange.interest.unsubscribe(&sub.key);
        self.lost.filter(account, &sub.key.subject_bytes());
        self.tell(account, &sub.key, false, spread);
    }

    pub(super) fn unsubscribe_all(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        let places: Vec<u32> = conn.subs.iter().map(|(place, _)| place).collect();
        for place in places {
            self.unsubscribe(slot, place);
        }
    }

    /// Has something to write at the end of the turn.
    pub(super) fn mark(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        if !std::mem::replace(&mut conn.dirty, true) {
            self.dirty.push(slot);
        }
    }

    /// Tells the shell to read or not to, when that changed.
    pub(super) fn pause(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        let (id, paused) = (conn.id, conn.is_held());
        if conn.is_open() && std::mem::replace(&mut conn.paused, paused) != paused {
            self.outputs.push_back(FrontOutput::ReadPause { conn: id, paused });
        }
    }

    /// Puts the connection's next time into the timers.
    pub(super) fn rearm(&mut self, slot: u32) {
        let write_deadline_us = self.config.limits.write_deadline.as_micros() as u64;
        let Some(conn) = self.conn(slot) else { return };
        let new = conn.next_due(write_deadline_us);
        let old = std::mem::replace(&mut conn.due, new);
        self.timers.set(slot, old, new);
    }

    pub(super) fn slot_of(&self, cid: u64) -> Option<u32> {
        let found =
            self.conns.iter().position(|conn| conn.as_ref().is_some_and(|conn| conn.cid == cid && conn.is_open()));
        found.map(|slot| slot as u32)
    }

    fn flush(&mut self, now: Now, slot: u32) {
        let Some(conn) = self.conn(slot).filter(|conn| conn.passage.is_none()) else { return };
        if conn.out.is_empty() {
            return;
        }
        let (data, first) = conn.out.take(now.us);
        let id = conn.id;
        self.outputs.push_back(FrontOutput::Write { conn: id, data });
        if first {
            self.rearm(slot);
        }
    }

    fn on_time(&mut self, now: Now, slot: u32) {
        let write_deadline_us = self.config.limits.write_deadline.as_micros() as u64;
        let Some(conn) = self.conn(slot) else { return };
        if conn.pulse.auth_due.is_some_and(|due| due <= now.us) {
            self.error(slot, "Authentication Timeout");
            self.log_of(slot, Level::Debug, "Authentication Timeout");
            return self.close(now, slot, CloseReason::AuthenticationTimeout);
        }
        if conn.out.waiting_since().is_some_and(|since| since.saturating_add(write_deadline_us) <= now.us) {
            return self.cut_stuck(now, slot);
        }
        let ping = conn.pulse.ping_due <= now.us;
        if conn.stalled_until.is_some_and(|until| until <= now.us) {
            conn.stalled_until = None;
            self.pause(slot);
            self.drain(now, slot);
        }
        if ping {
            self.on_ping_due(now, slot);
        }
    }

    fn on_ping_due(&mut self, now: Now, slot: u32) {
        let interval_us = (self.config.limits.ping_interval.as_micros() as u64).max(1);
        let pings_max = self.config.limits.pings_out_max;
        let Some(conn) = self.conn(slot) else { return };
        let pulse = &mut conn.pulse;
        let measure = pulse.rtt_at == 0 || now.us.saturating_sub(pulse.rtt_at) > RTT_US;
        let quiet = now.us.saturating_sub(pulse.last_in) >= interval_us;
        pulse.ping_due = now.us + interval_us;
        if !quiet && !measure {
            return;
        }
        if pulse.pings_out >= pings_max {
            self.error(slot, "Stale Connection");
            return self.close(now, slot, CloseReason::Stale);
        }
        pulse.pings_out += 1;
        pulse.ping_sent = Some(now.us);
        conn.out.line(write::ping);
        self.mark(slot);
    }

    fn cut_stuck(&mut self, now: Now, slot: u32) {
        let deadline = self.config.limits.write_deadline;
        self.counts.slow_deadline += 1;
        let Some(conn) = self.conn(slot) else { return };
        let (account, handed) = (conn.account, conn.out.handed());
        self.exchanges[account.0 as usize].slow_consumers += 1;
        let text = format!("Slow Consumer Detected: WriteDeadline of {deadline:?} exceeded with {handed} total bytes.");
        self.log_of(slot, Level::Info, &text);
        self.close(now, slot, CloseReason::SlowConsumerDeadline);
    }

    fn first_ping_us(&mut self) -> u64 {
        let base = (self.config.limits.ping_interval.as_micros() as u64).min(FIRST_PING_US);
        base + self.lot.below(base / 5)
    }

    pub(super) fn log_of(&mut self, slot: u32, level: Level, text: &str) {
        if level == Level::Debug && !self.config.log.debug {
            return;
        }
        let Some(conn) = self.conn(slot) else { return };
        let line = format!("{} - {text}", conn.label);
        self.log(level, || line);
    }

    fn new_conn(&mut self, now: Now, id: ConnId, remote: SocketAddr, local: SocketAddr) -> Conn {
        let cid = self.accepted * u64::from(self.options.cores.max(1)) + u64::from(self.options.place.core) + 1;
        self.accepted += 1;
        let mut parser = Parser::new(Role::Server, self.parse_limits(None));
        parser.set_headers(false);
        parser.set_connect_only(self.gate.is_closed());
        let auth_us = self.config.auth.timeout.as_micros() as u64;
        let pulse = Pulse {
            auth_due: self.gate.required().then_some(now.us + auth_us),
            ping_due: now.us + self.first_ping_us(),
            pings_out: 0,
            ping_sent: None,
            rtt_us: 0,
            rtt_at: 0,
            last_in: now.us,
            last_wall_ns: now.wall_ns,
        };
        let facts = Arc::new(unknown(cid, remote, now));
        let mut conn = Conn {
            id,
            cid,
            remote,
            local,
            start: now,
            intake: Intake::new(parser),
            connect: Connect::default(),
            connected: false,
            greeted: false,
            announced: false,
            claimed: None,
            counted: false,
            standing: Standing::Nobody,
            account: Accounts::GLOBAL,
            user: String::new(),
            permit: None,
            replies: Replies::default(),
            subs: Subs::new(self.hasher.clone()),
            out: Outbox::default(),
            traffic: Traffic::default(),
            pulse,
            closing: None,
            dirty: false,
            held: false,
            stalled_until: None,
            stalls: 0,
            paused: false,
            habit: Habit::default(),
            passage: None,
            fate: None,
            lodger: false,
            moves: 0,
            moved_us: 0,
            due: None,
            facts,
            label: String::new(),
        };
        conn.relabel("", "");
        conn
    }
}

/// Before CONNECT.
fn unknown(cid: u64, remote: SocketAddr, now: Now) -> ClientFacts {
    ClientFacts {
        cid,
        remote,
        account: AccountId(0),
        account_name: String::new(),
        user: String::new(),
        name: String::new(),
        lang: String::new(),
        version: String::new(),
        start_wall_ns: now.wall_ns,
        rtt_us: 0,
        permissions: None,
    }
}
