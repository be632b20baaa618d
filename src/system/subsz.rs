//! SUBSZ: how many subscriptions there are, and which ones clients hold.

use serde::Serialize;

use super::envelope::{Outcome, Refusal};
use super::page::{SubszOptions, window};
use super::part::{Body, PagePart, Sums};
use super::scene::Scene;
use super::text::now_text;
use crate::client::{AccountTotals, SubInfo};

/// One subscription of a client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SubDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_tag: Option<String>,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    qgroup: Option<String>,
    sid: String,
    msgs: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    cid: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The subject lists. What a list does not count is shown as zero.
#[derive(Debug, Default, Serialize)]
pub struct SublistStats {
    num_subscriptions: u64,
    num_cache: u64,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: f64,
    max_fanout: u64,
    avg_fanout: f64,
}

#[derive(Debug, Serialize)]
struct Subsz {
    server_id: String,
    now: String,
    #[serde(flatten)]
    stats: SublistStats,
    total: usize,
    offset: usize,
    limit: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<SubDetail>,
}

impl SubDetail {
    pub fn new(account: &str, sub: &SubInfo) -> SubDetail {
        let name = || Some(account.to_owned());
        SubDetail { account: name(), account_tag: name(), ..SubDetail::of_client(sub) }
    }

    /// Where the client is named beside it, its account goes without saying.
    pub fn of_client(sub: &SubInfo) -> SubDetail {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        SubDetail {
            account: None,
            account_tag: None,
            subject: text(sub.key.subject()),
            qgroup: sub.key.queue().map(text),
            sid: sub.sid.clone(),
            msgs: sub.msgs,
            max: sub.max,
            cid: sub.cid,
        }
    }
}

impl SublistStats {
    pub fn new(num_subscriptions: u64) -> SublistStats {
        SublistStats { num_subscriptions, ..SublistStats::default() }
    }
}

/// This core's subscriptions that the request asks for.
pub fn part(scene: &Scene, options: &SubszOptions) -> Vec<SubDetail> {
    if !options.subscriptions && options.test.is_empty() {
        return Vec::new();
    }
    let reached =
        |sub: &SubInfo| options.test.is_empty() || net::subject::matches(sub.key.subject(), options.test.as_bytes());
    let mut list = Vec::new();
    for conn in scene.front.connz(scene.now, true) {
        if options.account.is_empty() || conn.account_name == options.account {
            let wanted = conn.subs.iter().filter(|sub| reached(sub));
            list.extend(wanted.map(|sub| SubDetail::new(&conn.account_name, sub)));
        }
    }
    list.sort_unstable();
    list
}

/// A subject to test must be one that can be published on.
pub fn check(options: &SubszOptions) -> Result<(), Refusal> {
    if options.test.is_empty() || net::subject::is_valid_literal(options.test.as_bytes()) {
        return Ok(());
    }
    Err(Refusal::new(400, format!("invalid test subject, must be valid publish subject: {}", options.test)))
}

pub fn build(scene: &Scene, options: &SubszOptions, parts: Vec<PagePart>) -> Outcome {
    let (offset, limit) = window(options.offset, options.limit);
    let sums = Sums::of(&parts);
    let counted = |row: &&AccountTotals| options.account.is_empty() || row.name == options.account;
    let entries = sums.accounts.iter().filter(counted).map(|row| row.list_entries).sum();
    let mut list: Vec<SubDetail> = Vec::new();
    for part in parts {
        if let Body::Subs(subs) = part.body {
            list.extend(subs);
        }
    }
    // A client that moved from one core to another between their answers stands in both.
    list.sort_unstable_by(|a, b| (a.cid, &a.sid).cmp(&(b.cid, &b.sid)));
    list.dedup_by(|a, b| (a.cid, &a.sid) == (b.cid, &b.sid));
    list.sort_unstable();
    Ok(Box::new(Subsz {
        server_id: scene.server.id().to_owned(),
        now: now_text(scene.now),
        stats: SublistStats::new(entries),
        total: list.len(),
        offset,
        limit,
        subscriptions_list: list.into_iter().skip(offset).take(limit).collect(),
    }))
}
