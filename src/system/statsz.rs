//! STATSZ: the figures that a server sends about itself, asked or every ten seconds.
//!
//! `active_servers` counts the servers that can answer: tools wait for as many replies. Each link shows as four routes,
//! as the peer's default pool of three and the system account's own would.

use serde::Serialize;

use super::envelope::Outcome;
use super::jsz;
use super::part::{PagePart, Sums};
use super::raftz::META_NAME;
use super::scene::{Link, Scene};
use super::text::time_text;
use crate::client::Traffic;

/// Routes that one link stands for.
pub const ROUTES_PER_LINK: u64 = 4;

#[derive(Debug, Serialize)]
struct Statsz {
    start: String,
    mem: u64,
    cores: u16,
    cpu: f64,
    connections: u32,
    total_connections: u64,
    active_accounts: usize,
    subscriptions: u64,
    sent: Data,
    sent_to_clients: Data,
    received: Data,
    received_from_clients: Data,
    slow_consumers: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<RouteStat>,
    active_servers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    jetstream: Option<JetStream>,
    gomaxprocs: u16,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Data {
    msgs: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct RouteStat {
    rid: u64,
    name: String,
    sent: Data,
    received: Data,
    pending: u64,
}

#[derive(Debug, Serialize)]
struct JetStream {
    config: jsz::Config,
    stats: jsz::Stats,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<jsz::MetaCluster>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<jsz::Limits>,
}

pub fn build(scene: &Scene, parts: &[PagePart]) -> Outcome {
    let sums = Sums::of(parts);
    let totals = &sums.totals;
    let server = scene.server;
    let sent = |traffic: Traffic| Data { msgs: traffic.out_msgs, bytes: traffic.out_bytes };
    let received = |traffic: Traffic| Data { msgs: traffic.in_msgs, bytes: traffic.in_bytes };
    let mut all = totals.traffic;
    all += totals.routed;
    Ok(Box::new(Statsz {
        start: time_text(server.options.start_wall_ns),
        mem: server.vitals.memory_bytes,
        cores: server.options.cores,
        cpu: server.vitals.cpu_percent,
        connections: totals.connections,
        total_connections: totals.total_connections,
        active_accounts: sums.accounts.iter().filter(|account| account.connections > 0).count(),
        subscriptions: subscriptions(&sums),
        sent: sent(all),
        sent_to_clients: sent(totals.traffic),
        received: received(all),
        received_from_clients: received(totals.traffic),
        slow_consumers: totals.slow_consumers,
        routes: server.links.values().flat_map(routes).collect(),
        active_servers: scene.view.peers.len() + 1,
        jetstream: scene.js.map(|_| jetstream(scene, &sums)),
        gomaxprocs: server.options.cores,
    }))
}

/// Everything in the subject lists, as the peer counts.
pub fn subscriptions(sums: &Sums) -> u64 {
    sums.accounts.iter().map(|account| account.list_entries).sum()
}

fn routes(link: &Link) -> impl Iterator<Item = RouteStat> {
    (0..ROUTES_PER_LINK).map(|n| RouteStat {
        rid: link.number * ROUTES_PER_LINK + n,
        name: link.name.clone(),
        sent: Data::default(),
        received: Data::default(),
        pending: 0,
    })
}

fn jetstream(scene: &Scene, sums: &Sums) -> JetStream {
    let mut meta = jsz::meta_cluster(scene, sums.js.meta.as_ref());
    if let Some(meta) = &mut meta {
        meta.name = META_NAME.to_owned();
        // It travels through the cluster: the list is the leader's to give.
        if scene.meta_leader() != Some(scene.view.me.server) {
            meta.replicas.clear();
        }
    }
    JetStream { config: jsz::config(scene, false), stats: jsz::stats(scene, sums), meta, limits: jsz::limits(scene) }
}
