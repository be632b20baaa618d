//! JSZ: what JetStream on this server holds and who leads the cluster. Also the `jetstream` part of STATSZ and VARZ.
//!
//! `meta_cluster` names a leader only when one is announced, and a size even when there is none: tools tell from it how
//! many servers are missing. A server without JetStream answers too, with `disabled`.

use serde::Serialize;

use super::envelope::{Outcome, Refusal};
use super::page::{JszOptions, window};
use super::part::{AccountPart, PagePart, StreamDetail, Sums};
use super::scene::Scene;
use super::text::{NEVER, now_text};
use crate::group::{GroupRole, GroupStatus};
use crate::ids::ServerId;
use crate::stream::config::{API_LEVEL, StorageKind};

/// What the peer shows of a server that syncs at every write: its default interval beside `sync_always`.
const SYNC_INTERVAL_NS: u64 = 120_000_000_000;

#[derive(Debug, Clone, Serialize)]
pub struct Stats {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    accounts: u64,
    ha_assets: u64,
    api: Api,
}

#[derive(Debug, Clone, Serialize)]
struct Api {
    level: u64,
    total: u64,
    errors: u64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Config {
    max_memory: u64,
    max_storage: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    store_dir: String,
    #[serde(skip_serializing_if = "is_zero")]
    sync_interval: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sync_always: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    domain: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    unique_tag: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strict: bool,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_request_batch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ack_pending: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ha_assets: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duplicate_window: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct MetaCluster {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub leader: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    peer: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<Replica>,
    pub cluster_size: usize,
    quorum_needed: usize,
    pending: u64,
    pending_requests: u64,
    pending_infos: u64,
    snapshot: Snapshot,
}

#[derive(Debug, Clone, Serialize)]
pub struct Replica {
    pub name: String,
    pub current: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub offline: bool,
    /// Nanoseconds since it was heard of; 0 where only the leader knows.
    active: u64,
    #[serde(skip_serializing_if = "is_zero")]
    lag: u64,
    peer: String,
}

#[derive(Debug, Clone, Serialize)]
struct Snapshot {
    /// Entries that no checkpoint covers yet.
    pending_entries: u64,
    pending_size: u64,
    last_time: &'static str,
}

#[derive(Debug, Serialize)]
struct Jsz {
    #[serde(flatten)]
    stats: Stats,
    server_id: String,
    now: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
    config: Config,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    streams: u64,
    #[serde(skip_serializing_if = "is_zero")]
    streams_leader: u64,
    consumers: u64,
    #[serde(skip_serializing_if = "is_zero")]
    consumers_leader: u64,
    messages: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta_cluster: Option<MetaCluster>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    account_details: Vec<AccountDetail>,
    total: u64,
}

#[derive(Debug, Serialize)]
struct AccountDetail {
    name: String,
    id: String,
    #[serde(flatten)]
    stats: Stats,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stream_detail: Vec<StreamDetail>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub fn build(scene: &Scene, options: &JszOptions, parts: &[PagePart]) -> Outcome {
    let leads = scene.meta_leader() == Some(scene.view.me.server);
    if options.leader_only && !leads {
        return Err(Refusal::Skip);
    }
    let sums = Sums::of(parts);
    let on = scene.js.is_some();
    let (led_streams, led_consumers) = (sums.js.streams_led, sums.js.consumers_led);
    Ok(Box::new(Jsz {
        stats: if on { stats(scene, &sums) } else { Stats::of_account(None, 0, 0) },
        server_id: scene.server.id().to_owned(),
        now: now_text(scene.now),
        disabled: !on,
        config: config(scene, true),
        limits: limits(scene),
        streams: sums.js.streams,
        streams_leader: if options.raft { led_streams } else { 0 },
        consumers: sums.js.consumers,
        consumers_leader: if options.raft { led_consumers } else { 0 },
        messages: sums.js.messages,
        bytes: sums.js.bytes,
        meta_cluster: meta_cluster(scene, sums.js.meta.as_ref()),
        account_details: if on { account_details(scene, options, &sums) } else { Vec::new() },
        total: if on { js_accounts(scene).count() as u64 } else { 0 },
    }))
}

/// `$SYS.REQ.ACCOUNT.<account>.JSZ`.
pub fn build_account(scene: &Scene, options: &JszOptions, parts: &[PagePart]) -> Outcome {
    let name = &options.account;
    if scene.js.is_none() {
        return Err(Refusal::new(500, "jetstream not enabled"));
    }
    if scene.accounts().id(name).is_none() {
        return Err(Refusal::new(500, format!("account {name:?} not found")));
    }
    if !js_accounts(scene).any(|account| account == name) {
        return Err(Refusal::new(500, format!("account {name:?} not jetstream enabled")));
    }
    Ok(Box::new(account_detail(scene, name, &Sums::of(parts))))
}

/// Accounts that may have streams, by name.
fn js_accounts<'a>(scene: &Scene<'a>) -> impl Iterator<Item = &'a str> {
    let mut names: Vec<&str> =
        scene.accounts().iter().filter(|account| account.jetstream.is_some()).map(|a| a.name.as_str()).collect();
    names.sort_unstable();
    names.into_iter()
}

fn account_details(scene: &Scene, options: &JszOptions, sums: &Sums) -> Vec<AccountDetail> {
    let one = js_accounts(scene).find(|name| *name == options.account);
    let all = options.accounts || (options.streams || options.consumer) && options.account.is_empty();
    let (offset, limit) = window(options.offset, options.limit);
    let names: Vec<&str> = match one {
        Some(name) => vec![name],
        None if all => js_accounts(scene).skip(offset).take(limit).collect(),
        None => Vec::new(),
    };
    names.into_iter().map(|name| account_detail(scene, name, sums)).collect()
}

fn account_detail(scene: &Scene, name: &str, sums: &Sums) -> AccountDetail {
    let none = AccountPart::default();
    let part = sums.js.accounts.get(name).unwrap_or(&none);
    let mut stats = Stats::of_account(Some(part), part.api.total, part.api.errors);
    let bounds = scene.config().account_jetstream(name).unwrap_or_default();
    // The peer shows "no bound" as -1 in an unsigned field.
    stats.reserved_memory = bounds.memory_bytes_max.unwrap_or(u64::MAX);
    stats.reserved_storage = bounds.file_bytes_max.unwrap_or(u64::MAX);
    AccountDetail { name: name.to_owned(), id: name.to_owned(), stats, stream_detail: part.streams.clone() }
}

impl Stats {
    fn of_account(part: Option<&AccountPart>, total: u64, errors: u64) -> Stats {
        Stats {
            memory: part.map_or(0, |part| part.memory_bytes),
            storage: part.map_or(0, |part| part.file_bytes),
            reserved_memory: 0,
            reserved_storage: 0,
            accounts: 0,
            ha_assets: 0,
            api: Api { level: 0, total, errors },
        }
    }
}

/// Of the whole server.
pub fn stats(scene: &Scene, sums: &Sums) -> Stats {
    let (reserved_memory, reserved_storage) = reserved(scene);
    Stats {
        memory: sums.js.memory_bytes,
        storage: sums.js.file_bytes,
        reserved_memory,
        reserved_storage,
        accounts: js_accounts(scene).count() as u64,
        ha_assets: sums.js.replicated,
        api: Api { level: API_LEVEL.parse().unwrap_or_default(), total: sums.js.api_total, errors: sums.js.api_errors },
    }
}

/// Bytes promised to streams that have a replica here and a bound.
fn reserved(scene: &Scene) -> (u64, u64) {
    let me = scene.view.me.server;
    let (mut memory, mut file) = (0u64, 0u64);
    for (_, slot) in scene.table().into_iter().flat_map(|table| table.streams()).filter(|(_, slot)| slot.has_peer(me)) {
        let bytes = u64::try_from(slot.config.max_bytes).unwrap_or(0);
        match slot.config.storage {
            StorageKind::Memory => memory = memory.saturating_add(bytes),
            StorageKind::File => file = file.saturating_add(bytes),
        }
    }
    (memory, file)
}

/// `with_dir`: STATSZ travels through the cluster and leaves the folder out.
pub fn config(scene: &Scene, with_dir: bool) -> Config {
    let Some(js) = scene.js_config() else { return Config::default() };
    let store_dir = js.store_dir.join("jetstream");
    Config {
        max_memory: js.memory_bytes_max.unwrap_or(scene.server.facts.memory_bytes_max),
        max_storage: js.file_bytes_max.unwrap_or(scene.server.facts.file_bytes_max),
        store_dir: if with_dir { store_dir.to_string_lossy().into_owned() } else { String::new() },
        sync_interval: SYNC_INTERVAL_NS,
        sync_always: true,
        domain: js.domain.clone().unwrap_or_default(),
        unique_tag: js.unique_tag.clone().unwrap_or_default(),
        strict: js.strict,
    }
}

pub fn limits(scene: &Scene) -> Option<Limits> {
    let limits = &scene.js_config()?.limits;
    let window = limits.duplicate_window_max.map(|window| u64::try_from(window.as_nanos()).unwrap_or(u64::MAX));
    Some(Limits {
        max_request_batch: limits.request_batch_max,
        max_ack_pending: limits.ack_pending_max,
        max_ha_assets: limits.ha_assets_max,
        max_duplicate_window: window,
    })
}

/// `None` on a server that runs alone or without JetStream. `status`: of this server's replica, if it has one yet.
pub fn meta_cluster(scene: &Scene, status: Option<&GroupStatus>) -> Option<MetaCluster> {
    scene.js?;
    let name = scene.server.options.cluster.clone()?;
    let leader = scene.meta_leader();
    let voters = status.map_or(&[][..], |status| &status.voters);
    let size = if voters.is_empty() { expected_size(scene) } else { voters.len() };
    Some(MetaCluster {
        name,
        leader: leader.map(|server| scene.name_of(server)).unwrap_or_default(),
        peer: leader.map(|server| server.to_string()).unwrap_or_default(),
        replicas: status.map_or(Vec::new(), |status| replicas(scene, status, leader)),
        cluster_size: size,
        quorum_needed: size / 2 + 1,
        pending: 0,
        pending_requests: 0,
        pending_infos: 0,
        snapshot: Snapshot {
            pending_entries: status.map_or(0, |status| (status.last + 1).saturating_sub(status.first)),
            pending_size: 0,
            last_time: NEVER,
        },
    })
}

/// Before the group is formed: two at least, the servers that are linked, or the routes of the configuration.
fn expected_size(scene: &Scene) -> usize {
    let routes = scene.config().cluster.as_ref().map_or(0, |cluster| cluster.routes.len());
    routes.max(scene.view.peers.len() + 1).max(2)
}

/// Every other member by name. Only a leader knows how far the others are; elsewhere the leader alone counts as current.
fn replicas(scene: &Scene, status: &GroupStatus, leader: Option<ServerId>) -> Vec<Replica> {
    let me = scene.view.me.server;
    let members = status.voters.iter().chain(&status.learners).filter(|server| **server != me);
    let mut list: Vec<Replica> = members.map(|server| replica(scene, status, *server, leader)).collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

fn replica(scene: &Scene, status: &GroupStatus, server: ServerId, leader: Option<ServerId>) -> Replica {
    let offline = !scene.view.online(server);
    let seen = status.peers.iter().find(|peer| peer.server == server).filter(|_| status.role == GroupRole::Leader);
    // The members of a quiet group say nothing: the heartbeats of their servers, which keep the link up, stand for them.
    let silent = seen.filter(|_| offline || !status.quiet).and_then(|peer| peer.last_contact_us);
    let active_us = silent.map_or(0, |at| scene.now.us.saturating_sub(at));
    Replica {
        name: scene.name_of(server),
        current: !offline && seen.map_or(leader == Some(server), |peer| peer.current),
        offline,
        active: active_us.saturating_mul(1_000),
        lag: seen.map_or(0, |peer| peer.lag),
        peer: server.to_string(),
    }
}
