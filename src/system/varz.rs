//! VARZ: the server's configuration as it is in force, and its counters.

use std::collections::BTreeMap;

use serde::Serialize;

use super::envelope::Outcome;
use super::part::{PagePart, Sums};
use super::scene::Scene;
use super::statsz::{ROUTES_PER_LINK, subscriptions};
use super::text::{now_text, time_text, uptime};
use super::{address, jsz};
use crate::config::options::Config;

#[derive(Debug, Serialize)]
struct Varz {
    server_id: String,
    server_name: String,
    version: String,
    proto: u8,
    #[serde(skip_serializing_if = "String::is_empty")]
    git_commit: String,
    go: String,
    host: String,
    port: u16,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    auth_required: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connect_urls: Vec<String>,
    max_connections: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_subscriptions: Option<u32>,
    ping_interval: u64,
    ping_max: u32,
    http_host: String,
    http_port: u16,
    http_base_path: String,
    https_port: u16,
    auth_timeout: f64,
    max_control_line: u32,
    max_payload: u32,
    max_pending: u64,
    cluster: Cluster,
    gateway: Empty,
    leaf: Empty,
    mqtt: Empty,
    websocket: Empty,
    jetstream: JetStream,
    tls_timeout: f64,
    write_deadline: u64,
    start: String,
    now: String,
    uptime: String,
    mem: u64,
    cores: u16,
    gomaxprocs: u16,
    cpu: f64,
    connections: u32,
    total_connections: u64,
    routes: u64,
    remotes: usize,
    leafnodes: u32,
    in_msgs: u64,
    in_bytes: u64,
    in_client_msgs: u64,
    in_client_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    out_client_msgs: u64,
    out_client_bytes: u64,
    slow_consumers: u64,
    stale_connections: u64,
    stalled_clients: u64,
    subscriptions: u64,
    http_req_stats: BTreeMap<&'static str, u64>,
    config_load_time: String,
    config_digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_account: Option<String>,
    slow_consumer_stats: ByKind,
    stale_connection_stats: ByKind,
}

/// A part that this server does not have: `{}`, as the peer shows one that is not configured.
#[derive(Debug, Default, Serialize)]
struct Empty {}

#[derive(Debug, Default, Serialize)]
struct Cluster {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    addr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_timeout: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_size: Option<u8>,
}

/// Routes per link beside the system account's.
const POOL_SIZE: u8 = 3;

#[derive(Debug, Default, Serialize)]
struct JetStream {
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<jsz::Config>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<jsz::Stats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<jsz::MetaCluster>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<jsz::Limits>,
}

#[derive(Debug, Default, Serialize)]
struct ByKind {
    clients: u64,
    routes: u64,
    gateways: u64,
    leafs: u64,
}

pub fn build(scene: &Scene, parts: &[PagePart]) -> Outcome {
    let sums = Sums::of(parts);
    let (server, config, totals) = (scene.server, scene.config(), &sums.totals);
    let options = &server.options;
    let (clients, routed) = (totals.traffic, totals.routed);
    let up_s = scene.now.wall_ns.saturating_sub(options.start_wall_ns).max(0) as u64 / 1_000_000_000;
    let advertised = config.client_advertise.as_ref().map(|advertise| advertise.host.clone());
    let (_, port) = address::split(&options.client_url);
    let http = options.http_url.as_deref().map(address::split);
    Ok(Box::new(Varz {
        server_id: server.id().to_owned(),
        server_name: server.name().to_owned(),
        version: options.version.clone(),
        proto: 1,
        git_commit: String::new(),
        go: format!("trestle {}", env!("CARGO_PKG_VERSION")),
        host: advertised.unwrap_or_else(|| config.listen.host.clone()),
        port,
        auth_required: config.auth.required(),
        connect_urls: connect_urls(scene),
        max_connections: config.limits.connections_max.map_or(-1, i64::from),
        max_subscriptions: config.limits.subscriptions_max,
        ping_interval: nanos(config.limits.ping_interval),
        ping_max: config.limits.pings_out_max,
        http_host: config.http.as_ref().map(|http| http.host.clone()).unwrap_or_default(),
        http_port: http.map_or(0, |(_, port)| port),
        http_base_path: config.http_base_path.trim_end_matches('/').to_owned(),
        https_port: 0,
        auth_timeout: config.auth.timeout.as_secs_f64(),
        max_control_line: config.limits.control_line_bytes_max,
        max_payload: config.limits.payload_bytes_max,
        max_pending: config.limits.pending_bytes_max,
        cluster: cluster(config, options.cluster.as_deref(), options.route_url.as_deref()),
        gateway: Empty {},
        leaf: Empty {},
        mqtt: Empty {},
        websocket: Empty {},
        jetstream: jetstream(scene, &sums),
        tls_timeout: TLS_TIMEOUT_S,
        write_deadline: nanos(config.limits.write_deadline),
        start: time_text(options.start_wall_ns),
        now: now_text(scene.now),
        uptime: uptime(up_s),
        mem: server.vitals.memory_bytes,
        cores: options.cores,
        gomaxprocs: options.cores,
        cpu: server.vitals.cpu_percent,
        connections: totals.connections,
        total_connections: totals.total_connections,
        routes: server.links.len() as u64 * ROUTES_PER_LINK,
        remotes: server.links.len(),
        leafnodes: 0,
        in_msgs: clients.in_msgs + routed.in_msgs,
        in_bytes: clients.in_bytes + routed.in_bytes,
        in_client_msgs: clients.in_msgs,
        in_client_bytes: clients.in_bytes,
        out_msgs: clients.out_msgs + routed.out_msgs,
        out_bytes: clients.out_bytes + routed.out_bytes,
        out_client_msgs: clients.out_msgs,
        out_client_bytes: clients.out_bytes,
        slow_consumers: totals.slow_consumers,
        stale_connections: totals.stale,
        stalled_clients: totals.stalls,
        subscriptions: subscriptions(&sums),
        http_req_stats: server.http_counts.clone(),
        config_load_time: time_text(server.config_wall_ns),
        config_digest: config.digest.clone(),
        tags: server.facts.tags.clone(),
        metadata: config.server_metadata.clone(),
        system_account: config.system_account.clone(),
        slow_consumer_stats: ByKind { clients: totals.slow_consumers, ..ByKind::default() },
        stale_connection_stats: ByKind { clients: totals.stale, ..ByKind::default() },
    }))
}

/// The peer's default; without TLS it means nothing, but readers expect the field.
const TLS_TIMEOUT_S: f64 = 2.0;

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where clients of a cluster can connect, this server first.
fn connect_urls(scene: &Scene) -> Vec<String> {
    if scene.config().cluster.is_none() {
        return Vec::new();
    }
    let own = std::iter::once(scene.server.options.client_url.clone());
    own.chain(scene.server.links.values().flat_map(|link| link.client_urls.iter().cloned())).collect()
}

fn cluster(config: &Config, name: Option<&str>, route_url: Option<&str>) -> Cluster {
    let Some(cluster) = &config.cluster else { return Cluster::default() };
    Cluster {
        name: name.unwrap_or_default().to_owned(),
        addr: cluster.listen.host.clone(),
        cluster_port: Some(route_url.map_or(cluster.listen.port, |url| address::split(url).1)),
        auth_timeout: Some(cluster.auth_timeout.as_secs_f64()),
        urls: cluster.routes.iter().map(|route| route.to_string()).collect(),
        pool_size: Some(POOL_SIZE),
    }
}

fn jetstream(scene: &Scene, sums: &Sums) -> JetStream {
    if scene.js.is_none() {
        return JetStream::default();
    }
    JetStream {
        config: Some(jsz::config(scene, true)),
        stats: Some(jsz::stats(scene, sums)),
        meta: jsz::meta_cluster(scene, sums.js.meta.as_ref()),
        limits: jsz::limits(scene),
    }
}
