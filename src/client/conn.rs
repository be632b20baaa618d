//! One client connection's state, without behaviour that needs anybody else.

use std::net::SocketAddr;
use std::sync::Arc;

use net::client::intake::Intake;

use super::auth::Standing;
use super::close::CloseReason;
use super::connect::Connect;
use super::deliver::Outbox;
use super::habit::Habit;
use super::moving::Passage;
use super::output::{ClientFacts, Traffic};
use super::permit::{Permit, Replies};
use super::subs::Subs;
use crate::config::options::Secret;
use crate::ids::{AccountId, ConnId, CoreId, Now};

/// A connection from `accepted` to `gone`.
#[derive(Debug)]
pub(super) struct Conn {
    pub id: ConnId,
    /// The number that clients and pages know; unique over the server.
    pub cid: u64,
    pub remote: SocketAddr,
    pub local: SocketAddr,
    pub start: Now,
    pub intake: Intake,
    pub connect: Connect,
    /// CONNECT was accepted.
    pub connected: bool,
    /// The INFO that follows the first PONG was sent.
    pub greeted: bool,
    /// The system account was told that it came, and is to be told that it went.
    pub announced: bool,
    /// CONNECT presented something that is being compared with this.
    pub claimed: Option<Secret>,
    /// Counted among its account's connections.
    pub counted: bool,
    pub standing: Standing,
    pub account: AccountId,
    /// As pages show it.
    pub user: String,
    pub permit: Option<Arc<Permit>>,
    pub replies: Replies,
    pub subs: Subs,
    pub out: Outbox,
    pub traffic: Traffic,
    pub pulse: Pulse,
    /// Set once; from then on nothing is read, matched or delivered, only `gone` is awaited.
    pub closing: Option<CloseReason>,
    /// In the list of connections that have something to write this turn.
    pub dirty: bool,
    /// The hub holds it back until it says otherwise.
    pub held: bool,
    /// Held back until this time because a subscriber of what it publishes lags.
    pub stalled_until: Option<u64>,
    pub stalls: u64,
    /// The shell was told not to read.
    pub paused: bool,
    pub habit: Habit,
    /// On its way to another core, or from one.
    pub passage: Option<Box<Passage>>,
    /// Why it is to be closed once it is no longer on its way.
    pub fate: Option<CloseReason>,
    /// It came from another core.
    pub lodger: bool,
    /// How often it moved, and when last, microseconds.
    pub moves: u8,
    pub moved_us: u64,
    /// When it stands in the timers.
    pub due: Option<u64>,
    pub facts: Arc<ClientFacts>,
    /// How log lines name it.
    pub label: String,
}

/// Signs of life and the times that follow from them, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pulse {
    /// CONNECT must have come by then.
    pub auth_due: Option<u64>,
    pub ping_due: u64,
    pub pings_out: u32,
    pub ping_sent: Option<u64>,
    /// 0: not known yet.
    pub rtt_us: u64,
    /// When a PING measured it; 0: none has.
    pub rtt_at: u64,
    pub last_in: u64,
    /// Wall clock of the last byte in or message out, for the pages.
    pub last_wall_ns: i64,
}

impl Conn {
    /// Whether a message published by connection `from` may be handed to the subscription.
    pub fn takes(&self, place: u32, own: bool, subject: &[u8]) -> bool {
        if self.closing.is_some() || self.fate.is_some() || (own && !self.connect.echo) {
            return false;
        }
        let Some(sub) = self.subs.get(place) else { return false };
        !sub.guarded || self.permit.as_ref().is_none_or(|permit| permit.may_receive(subject, sub.key.queue()))
    }

    /// Whether messages that this core has from there are for it. While it is on its way from another core some still
    /// follow it from that one.
    pub fn hears(&self, source: CoreId) -> bool {
        match self.passage.as_deref() {
            Some(Passage::Arriving(arriving)) => arriving.takes(source),
            _ => true,
        }
    }

    pub fn is_open(&self) -> bool {
        self.closing.is_none()
    }

    /// Whether operations may be taken from it now.
    pub fn is_held(&self) -> bool {
        self.held || self.stalled_until.is_some() || self.claimed.is_some() || self.passage.is_some()
    }

    /// The earliest time at which something must be done without anything having come.
    pub fn next_due(&self, write_deadline_us: u64) -> Option<u64> {
        if !self.is_open() {
            return None;
        }
        let write = self.out.waiting_since().map(|since| since.saturating_add(write_deadline_us));
        [self.pulse.auth_due, Some(self.pulse.ping_due), write, self.stalled_until].into_iter().flatten().min()
    }

    /// What others may know of it, as of now.
    pub fn to_facts(&self, account_name: String) -> ClientFacts {
        ClientFacts {
            cid: self.cid,
            remote: self.remote,
            account: self.account,
            account_name,
            user: self.user.clone(),
            name: self.connect.name.clone(),
            lang: self.connect.lang.clone(),
            version: self.connect.version.clone(),
            start_wall_ns: self.start.wall_ns,
            rtt_us: self.pulse.rtt_us,
            permissions: self.permit.as_ref().map(|permit| Arc::clone(&permit.source)),
        }
    }

    /// `127.0.0.1:50000 - cid:7` and, once known, who it is, for log lines.
    pub fn relabel(&mut self, account_name: &str, user_label: &str) {
        let connect = &self.connect;
        let version = if connect.version.is_empty() { String::new() } else { format!("v{}", connect.version) };
        let words: Vec<&str> = [&version, &connect.lang, &connect.name]
            .into_iter()
            .map(String::as_str)
            .filter(|word| !word.is_empty())
            .collect();
        self.label = format!("{} - cid:{}", self.remote, self.cid);
        if !words.is_empty() {
            self.label.push_str(&format!(" - {:?}", words.join(":")));
        }
        if !user_label.is_empty() {
            self.label.push_str(&format!(" - {:?}", format!("{account_name}/{user_label}")));
        }
    }
}
