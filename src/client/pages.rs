//! What the connections, subscriptions and account pages show of this core, as plain values.
//!
//! Times are nanoseconds of the wall clock or microseconds as the names say; the pages make text of them.

use std::net::SocketAddr;

use super::close::CloseReason;
use super::conn::Conn;
use super::front::Front;
use super::output::Traffic;
use crate::cluster::interest::Key;
use crate::ids::{AccountId, Now};

/// One connection, open or closed.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnInfo {
    pub cid: u64,
    pub remote: SocketAddr,
    pub start_wall_ns: i64,
    pub last_wall_ns: i64,
    /// When it was closed, and why in the peer's words.
    pub stop: Option<(i64, &'static str)>,
    /// 0: not measured.
    pub rtt_us: u64,
    /// Until now, or until it was closed.
    pub uptime_us: u64,
    pub idle_ns: i64,
    pub pending_bytes: usize,
    pub traffic: Traffic,
    /// Times it was held back for a slow subscriber.
    pub stalls: u64,
    pub subscriptions: u32,
    pub name: String,
    pub lang: String,
    pub version: String,
    pub user: String,
    pub account: AccountId,
    pub account_name: String,
    /// Only when asked for, and never for closed ones.
    pub subs: Vec<SubInfo>,
}

/// One subscription of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubInfo {
    pub key: Key,
    pub sid: String,
    pub msgs: u64,
    /// 0: no limit.
    pub max: u64,
    pub cid: u64,
}

/// Sums over this core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub connections: u32,
    pub total_connections: u64,
    pub subscriptions: u64,
    /// Between clients of this core and it.
    pub traffic: Traffic,
    /// Between this core and other cores and servers.
    pub routed: Traffic,
    pub slow_consumers: u64,
    pub slow_pending: u64,
    pub slow_deadline: u64,
    pub stale: u64,
    pub stalls: u64,
    pub auth_errors: u64,
}

/// Sums over this core's part of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountTotals {
    pub account: AccountId,
    pub name: String,
    pub connections: u32,
    pub total_connections: u64,
    pub subscriptions: u64,
    pub traffic: Traffic,
    pub slow_consumers: u64,
    /// Entries of the subject list: clients, services, streams, other nodes.
    pub list_entries: u64,
    /// Of these, what other nodes told.
    pub remote_entries: u64,
}

impl Front {
    /// All open connections by number. O(connections), and their subscriptions when asked for.
    pub fn connz(&self, now: Now, with_subs: bool) -> Vec<ConnInfo> {
        let open = self.conns.iter().flatten().filter(|conn| conn.is_open());
        let mut list: Vec<ConnInfo> = open.map(|conn| self.describe(now, conn, with_subs)).collect();
        list.sort_by_key(|conn| conn.cid);
        list
    }

    /// Closed connections, oldest first; bounded by the configuration.
    pub fn closed(&self) -> impl Iterator<Item = &ConnInfo> {
        self.closed.iter()
    }

    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            connections: self.open,
            total_connections: self.accepted,
            routed: self.counts.routed,
            slow_consumers: self.counts.slow_pending + self.counts.slow_deadline,
            slow_pending: self.counts.slow_pending,
            slow_deadline: self.counts.slow_deadline,
            stale: self.counts.stale,
            stalls: self.counts.stalls,
            auth_errors: self.counts.auth_errors,
            ..Totals::default()
        };
        for exchange in &self.exchanges {
            totals.subscriptions += exchange.subscriptions;
            totals.traffic += exchange.traffic;
        }
        totals
    }

    /// One row per account, by number.
    pub fn account_totals(&self) -> Vec<AccountTotals> {
        let row = |(account, exchange): (&crate::account::Account, &super::front::Exchange)| AccountTotals {
            account: account.id,
            name: account.name.clone(),
            connections: exchange.connections,
            total_connections: exchange.total_connections,
            subscriptions: exchange.subscriptions,
            traffic: exchange.traffic,
            slow_consumers: exchange.slow_consumers,
            list_entries: exchange.list.len() as u64,
            remote_entries: exchange.interest.remote_len() as u64,
        };
        self.accounts.iter().zip(&self.exchanges).map(row).collect()
    }

    /// Into the list of closed connections.
    pub(super) fn remember(&mut self, now: Now, slot: u32, reason: CloseReason) {
        let max = self.config.limits.closed_clients_max as usize;
        let Some(conn) = self.conns.get(slot as usize).and_then(Option::as_ref) else { return };
        let mut info = self.describe(now, conn, false);
        info.stop = Some((now.wall_ns, reason.text()));
        self.closed.push_back(info);
        while self.closed.len() > max {
            self.closed.pop_front();
        }
    }

    fn describe(&self, now: Now, conn: &Conn, with_subs: bool) -> ConnInfo {
        let sub_info = |(_, sub): (u32, &super::subs::Sub)| SubInfo {
            key: sub.key.clone(),
            sid: String::from_utf8_lossy(&sub.sid).into_owned(),
            msgs: sub.received,
            max: sub.max.unwrap_or(0),
            cid: conn.cid,
        };
        ConnInfo {
            cid: conn.cid,
            remote: conn.remote,
            start_wall_ns: conn.start.wall_ns,
            last_wall_ns: conn.pulse.last_wall_ns,
            stop: None,
            rtt_us: conn.pulse.rtt_us,
            uptime_us: now.us.saturating_sub(conn.start.us),
            idle_ns: now.wall_ns.saturating_sub(conn.pulse.last_wall_ns).max(0),
            pending_bytes: conn.out.pending(),
            traffic: conn.traffic,
            stalls: conn.stalls,
            subscriptions: conn.subs.len() as u32,
            name: conn.connect.name.clone(),
            lang: conn.connect.lang.clone(),
            version: conn.connect.version.clone(),
            user: conn.user.clone(),
            account: conn.account,
            account_name: self.accounts.name(conn.account).to_string(),
            subs: if with_subs { conn.subs.iter().map(sub_info).collect() } else { Vec::new() },
        }
    }
}
