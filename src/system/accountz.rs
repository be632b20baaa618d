//! ACCOUNTZ and the account pages: which accounts there are, and what goes on in one.

use serde::Serialize;

use super::envelope::{Outcome, Refusal};
use super::page::{AccountStatzOptions, AccountzOptions};
use super::part::{PagePart, Sums};
use super::scene::Scene;
use super::subsz::SublistStats;
use super::text::{now_text, time_text};
use crate::client::AccountTotals;

#[derive(Debug, Serialize)]
struct Accountz {
    server_id: String,
    now: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_account: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accounts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_detail: Option<Detail>,
}

#[derive(Debug, Serialize)]
struct Detail {
    account_name: String,
    update_time: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_system: bool,
    expired: bool,
    complete: bool,
    jetstream_enabled: bool,
    leafnode_connections: u32,
    client_connections: u32,
    subscriptions: u64,
    name_tag: String,
    sublist_stats: SublistStats,
}

#[derive(Debug, Serialize)]
struct AccountStatz {
    server_id: String,
    now: String,
    account_statz: Vec<AccountStat>,
}

/// What went through one account; also in the advisories about its connections.
#[derive(Debug, Serialize)]
pub struct AccountStat {
    acc: String,
    name: String,
    conns: u32,
    leafnodes: u32,
    total_conns: u32,
    num_subscriptions: u64,
    sent: Flow,
    received: Flow,
    slow_consumers: u64,
}

#[derive(Debug, Default, Serialize)]
struct Flow {
    msgs: u64,
    bytes: u64,
    gateways: Data,
    routes: Data,
    leafs: Data,
}

#[derive(Debug, Default, Serialize)]
struct Data {
    msgs: u64,
    bytes: u64,
}

pub fn build(scene: &Scene, options: &AccountzOptions, parts: &[PagePart]) -> Outcome {
    let mut page = Accountz {
        server_id: scene.server.id().to_owned(),
        now: now_text(scene.now),
        system_account: scene.config().system_account.clone(),
        accounts: Vec::new(),
        account_detail: None,
    };
    if options.account.is_empty() {
        let open = scene.accounts().iter().filter(|account| account.open);
        page.accounts = open.map(|account| account.name.clone()).collect();
    } else {
        page.account_detail = Some(detail(scene, &options.account, parts)?);
    }
    Ok(Box::new(page))
}

/// `$SYS.REQ.ACCOUNT.<account>.INFO`.
pub fn build_info(scene: &Scene, account: &str, parts: &[PagePart]) -> Outcome {
    Ok(Box::new(detail(scene, account, parts)?))
}

fn detail(scene: &Scene, name: &str, parts: &[PagePart]) -> Result<Detail, Refusal> {
    let accounts = scene.accounts();
    let known = accounts.id(name).and_then(|id| accounts.get(id)).filter(|account| account.open);
    let Some(account) = known else { return Err(Refusal::new(400, format!("Account {name} does not exist"))) };
    let sums = Sums::of(parts);
    let row = sums.accounts.iter().find(|row| row.account == account.id);
    let entries = row.map_or(0, |row| row.list_entries);
    Ok(Detail {
        account_name: name.to_owned(),
        update_time: time_text(scene.server.config_wall_ns),
        is_system: accounts.is_system(account.id),
        expired: false,
        complete: true,
        jetstream_enabled: account.jetstream.is_some(),
        leafnode_connections: 0,
        client_connections: row.map_or(0, |row| row.connections),
        subscriptions: entries,
        name_tag: name.to_owned(),
        sublist_stats: SublistStats::new(entries),
    })
}

/// Accounts with connections, or those that are named. Over `$SYS` a server that has none stays silent.
pub fn build_statz(scene: &Scene, options: &AccountStatzOptions, parts: &[PagePart], asked: bool) -> Outcome {
    let sums = Sums::of(parts);
    let named = |row: &AccountTotals| options.accounts.is_empty() || options.accounts.contains(&row.name);
    let used = |row: &AccountTotals| row.connections > 0 || options.include_unused;
    let account_statz: Vec<AccountStat> =
        sums.accounts.iter().filter(|row| named(row) && used(row)).map(account_stat).collect();
    if asked && account_statz.is_empty() && !options.include_unused {
        return Err(Refusal::Skip);
    }
    Ok(Box::new(AccountStatz { server_id: scene.server.id().to_owned(), now: now_text(scene.now), account_statz }))
}

pub fn account_stat(row: &AccountTotals) -> AccountStat {
    let traffic = row.traffic;
    AccountStat {
        acc: row.name.clone(),
        name: row.name.clone(),
        conns: row.connections,
        leafnodes: 0,
        total_conns: row.connections,
        num_subscriptions: row.list_entries,
        sent: Flow { msgs: traffic.out_msgs, bytes: traffic.out_bytes, ..Flow::default() },
        received: Flow { msgs: traffic.in_msgs, bytes: traffic.in_bytes, ..Flow::default() },
        slow_consumers: row.slow_consumers,
    }
}
