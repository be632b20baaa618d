//! CONNZ: the clients of this server, open and closed.
//!
//! Each core filters and sorts its own and sends no more rows than the answer can hold; the answer is cut from all.

use std::cmp::Reverse;

use serde::Serialize;

use super::envelope::{Outcome, Refusal};
use super::page::{ConnzOptions, window};
use super::part::{Body, PagePart};
use super::scene::Scene;
use super::subsz::SubDetail;
use super::text::{duration, now_text, time_text, uptime};
use crate::client::{ConnInfo, SubInfo};
use crate::config::options::GLOBAL_ACCOUNT;

const OPEN: u8 = 0;
const CLOSED: u8 = 1;
const NS_PER_S: u64 = 1_000_000_000;

/// A core's rows.
#[derive(Debug, Default)]
pub struct ConnsPart {
    rows: Vec<ConnInfo>,
    /// Connections in that state and account, shown or not.
    total: usize,
}

#[derive(Debug, Serialize)]
struct Connz {
    server_id: String,
    now: String,
    num_connections: usize,
    total: usize,
    offset: usize,
    limit: usize,
    connections: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    cid: u64,
    kind: &'static str,
    #[serde(rename = "type")]
    protocol: &'static str,
    ip: String,
    port: u16,
    start: String,
    last_activity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<String>,
    uptime: String,
    idle: String,
    pending_bytes: usize,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stalls: Option<u64>,
    subscriptions: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    authorized_user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    account: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<SubDetail>,
    #[serde(skip_serializing_if = "String::is_empty")]
    name_tag: String,
}

pub fn part(scene: &Scene, options: &ConnzOptions) -> ConnsPart {
    let with_subs = options.subscriptions || options.subscriptions_detail || !options.filter_subject.is_empty();
    let open = if options.state == CLOSED { Vec::new() } else { scene.front.connz(scene.now, with_subs) };
    let closed = scene.front.closed().filter(|_| options.state != OPEN).cloned();
    let of_account = |conn: &ConnInfo| options.acc.is_empty() || conn.account_name == options.acc;
    let mut rows: Vec<ConnInfo> = open.into_iter().chain(closed).filter(of_account).collect();
    let total = rows.len();
    rows.retain(|conn| is_wanted(conn, options));
    sort(&mut rows, &options.sort);
    let (offset, limit) = rows_of(options);
    rows.truncate(offset + limit);
    ConnsPart { rows, total }
}

/// A request for one connection shows one.
fn rows_of(options: &ConnzOptions) -> (usize, usize) {
    let (offset, limit) = window(options.offset, options.limit);
    (offset, if options.cid == 0 { limit } else { 1 })
}

fn is_wanted(conn: &ConnInfo, options: &ConnzOptions) -> bool {
    if options.cid != 0 {
        return conn.cid == options.cid;
    }
    // Nobody here came by MQTT.
    if !options.mqtt_client.is_empty() {
        return false;
    }
    let filter = options.filter_subject.as_bytes();
    let listens = || conn.subs.iter().any(|sub| net::subject::overlaps(filter, sub.key.subject()));
    (options.user.is_empty() || conn.user == options.user) && (filter.is_empty() || filter == b">" || listens())
}

/// By number, uptime and reason ascending, by anything else descending, as the peer.
fn sort(rows: &mut [ConnInfo], by: &str) {
    rows.sort_by_key(|conn| conn.cid);
    match by {
        "subs" => rows.sort_by_key(|conn| Reverse(conn.subscriptions)),
        "pending" => rows.sort_by_key(|conn| Reverse(conn.pending_bytes)),
        "msgs_to" => rows.sort_by_key(|conn| Reverse(conn.traffic.out_msgs)),
        "msgs_from" => rows.sort_by_key(|conn| Reverse(conn.traffic.in_msgs)),
        "bytes_to" => rows.sort_by_key(|conn| Reverse(conn.traffic.out_bytes)),
        "bytes_from" => rows.sort_by_key(|conn| Reverse(conn.traffic.in_bytes)),
        "last" => rows.sort_by_key(|conn| Reverse(conn.last_wall_ns)),
        "idle" => rows.sort_by_key(|conn| Reverse(conn.idle_ns)),
        "uptime" => rows.sort_by_key(|conn| conn.uptime_us),
        "stop" => rows.sort_by_key(|conn| Reverse(conn.stop.map(|(at, _)| at))),
        "reason" => rows.sort_by_key(|conn| conn.stop.map(|(_, reason)| reason)),
        "rtt" => rows.sort_by_key(|conn| Reverse(conn.rtt_us)),
        _ => {}
    }
}

const SORTS: &[&str] = &[
    "",
    "cid",
    "start",
    "subs",
    "pending",
    "msgs_to",
    "msgs_from",
    "bytes_to",
    "bytes_from",
    "last",
    "idle",
    "uptime",
    "stop",
    "reason",
    "rtt",
];

/// What is wrong with a request, before anybody works for it. The texts are the peer's.
pub fn check(options: &ConnzOptions) -> Result<(), Refusal> {
    let sort = options.sort.as_str();
    let text = if !SORTS.contains(&sort) {
        format!("invalid sorting option: {sort}")
    } else if matches!(sort, "stop" | "reason") && options.state != CLOSED {
        format!("sort by {sort} only valid on closed connections")
    } else if !matches!(options.filter_subject.as_str(), "" | ">") && options.acc.is_empty() {
        "filter by subject only valid with account filtering".to_owned()
    } else {
        return Ok(());
    };
    Err(Refusal::new(400, text))
}

pub fn build(scene: &Scene, options: &ConnzOptions, parts: Vec<PagePart>) -> Outcome {
    let (offset, limit) = rows_of(options);
    let (mut rows, mut total) = (Vec::new(), 0);
    for part in parts {
        if let Body::Conns(part) = part.body {
            total += part.total;
            rows.extend(part.rows);
        }
    }
    total -= once(&mut rows);
    sort(&mut rows, &options.sort);
    let connections: Vec<Row> = rows.into_iter().skip(offset).take(limit).map(|conn| row(conn, options)).collect();
    Ok(Box::new(Connz {
        server_id: scene.server.id().to_owned(),
        now: now_text(scene.now),
        num_connections: connections.len(),
        total,
        offset,
        limit,
        connections,
    }))
}

/// A connection that moved from one core to another between their answers stands in both: it is shown once. How many were
/// too many.
fn once(rows: &mut Vec<ConnInfo>) -> usize {
    let before = rows.len();
    rows.sort_by_key(|conn| conn.cid);
    rows.dedup_by_key(|conn| conn.cid);
    before - rows.len()
}

/// `account`: the peer names it again where the connection is closed.
fn subs_detail(subs: &[SubInfo], account: Option<&String>) -> Vec<SubDetail> {
    subs.iter().map(|sub| account.map_or_else(|| SubDetail::of_client(sub), |name| SubDetail::new(name, sub))).collect()
}

fn row(conn: ConnInfo, options: &ConnzOptions) -> Row {
    let subject = |sub: &SubInfo| String::from_utf8_lossy(sub.key.subject()).into_owned();
    let named = options.auth && conn.account_name != GLOBAL_ACCOUNT;
    let detail = options.subscriptions_detail;
    Row {
        cid: conn.cid,
        kind: "Client",
        protocol: "nats",
        ip: conn.remote.ip().to_string(),
        port: conn.remote.port(),
        start: time_text(conn.start_wall_ns),
        last_activity: time_text(conn.last_wall_ns),
        stop: conn.stop.map(|(at, _)| time_text(at)),
        reason: conn.stop.map(|(_, reason)| reason),
        rtt: (conn.rtt_us > 0).then(|| duration(conn.rtt_us.saturating_mul(1_000))),
        uptime: uptime(conn.uptime_us / 1_000_000),
        idle: uptime(conn.idle_ns.max(0) as u64 / NS_PER_S),
        pending_bytes: conn.pending_bytes,
        in_msgs: conn.traffic.in_msgs,
        out_msgs: conn.traffic.out_msgs,
        in_bytes: conn.traffic.in_bytes,
        out_bytes: conn.traffic.out_bytes,
        stalls: (conn.stalls > 0).then_some(conn.stalls),
        subscriptions: conn.subscriptions,
        name: conn.name,
        lang: conn.lang,
        version: conn.version,
        authorized_user: if options.auth { conn.user } else { String::new() },
        account: if named { conn.account_name.clone() } else { String::new() },
        subscriptions_list: if options.subscriptions && !detail {
            conn.subs.iter().map(subject).collect()
        } else {
            Vec::new()
        },
        subscriptions_list_detail: if detail {
            subs_detail(&conn.subs, conn.stop.is_some().then_some(&conn.account_name))
        } else {
            Vec::new()
        },
        name_tag: if options.auth { conn.account_name } else { String::new() },
    }
}
