//! Everything that must be known before the first core runs: names, ports, the store; and what each core is born with.

use std::sync::Arc;

use net::peer::hello::Hello;

use super::clock::{Clock, wall_ns};
use super::ports::Ports;
use super::room::Room;
use super::store::Store;
use super::{names, probe};
use crate::account::Accounts;
use crate::client::FrontOptions;
use crate::client::moving::MOVE_AFTER_READS;
use crate::cluster::table::ServerFacts;
use crate::config::Config;
use crate::config::summary::bytes;
use crate::group::{GroupsOptions, Timing};
use crate::ids::{CoreId, Place, ServerId};
use crate::jetstream::JsOptions;
use crate::logging::Logger;
use crate::shard::ShardOptions;
use crate::system::SystemOptions;

/// The release of nats-server whose behaviour this server shows; clients gate features by it.
pub const COMPATIBLE_VERSION: &str = "2.15.1";

/// Level of the JetStream API that release has.
pub const API_LEVEL: u32 = 5;

/// What cores are started with; the same for each.
pub struct Plan {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub logger: Logger,
    pub ports: Ports,
    pub server_name: String,
    pub server_id: String,
    pub cluster: Option<String>,
    pub cores: CoreId,
    boot: u64,
    pub seed: u64,
    fresh_cluster_id: u128,
    pub store: Option<Store>,
    room: Room,
    start_wall_ns: i64,
}

/// Finds out everything that must be known before the first core runs.
pub fn make(config: Arc<Config>, logger: Logger) -> Result<Plan, String> {
    let random: [u8; 64] = names::random().map_err(|e| format!("cannot read random numbers: {e}"))?;
    let number = |at: usize| u64::from_le_bytes(random[at..at + 8].try_into().expect("eight bytes"));
    let key: [u8; 32] = random[..32].try_into().expect("thirty-two bytes");
    let server_id = names::server_id(key);
    let stored = config.jetstream.as_ref().and_then(|js| Store::owner(&js.store_dir.join("jetstream")));
    let server_name = config.server_name.clone().or(stored).unwrap_or_else(|| server_id.clone());
    let start_wall_ns = wall_ns();
    let asked = config.trestle.hard.shards.or(config.trestle.soft.cores).unwrap_or_else(probe::cpus);
    let store = match &config.jetstream {
        Some(js) => {
            let dir = js.store_dir.join("jetstream");
            let store = Store::open(&dir, &server_name, asked, start_wall_ns);
            Some(store.map_err(|why| format!("Can't start JetStream: {why}"))?)
        }
        None => None,
    };
    let cores = store.as_ref().map_or(asked, |store| store.identity.shards);
    if cores != asked {
        logger.warn(format!("The store was made for {cores} cores: running on {cores}, not on {asked}"));
    }
    let room = config.jetstream.as_ref().map(|js| Room::of(js, &js.store_dir.join("jetstream"))).unwrap_or_default();
    let cluster = config.cluster.as_ref().map(|cluster| cluster.name.clone().unwrap_or_else(|| server_id.clone()));
    Ok(Plan {
        ports: Ports::find(&config)?,
        clock: Clock::start(),
        logger,
        server_name,
        server_id,
        cluster,
        cores,
        boot: number(32),
        seed: number(40),
        fresh_cluster_id: u128::from(number(48)) << 64 | u128::from(number(56)),
        store,
        room,
        start_wall_ns,
        config,
    })
}

/// The first lines of the log, in the peer's order and words.
pub fn greet(plan: &Plan) {
    let log = |text: String| plan.logger.info(text);
    log("Starting nats-server".into());
    log(format!("  Version:  {COMPATIBLE_VERSION}"));
    log(format!("  Trestle:  {}", env!("CARGO_PKG_VERSION")));
    if let Some(cluster) = &plan.cluster {
        log(format!("  Cluster:  {cluster}"));
    }
    log(format!("  Name:     {}", plan.server_name));
    if plan.config.jetstream.is_some() {
        log(format!("  Node:     {}", ServerId::of(&plan.server_name)));
    }
    log(format!("  ID:       {}", plan.server_id));
    log(format!("  Cores:    {}", plan.cores));
    if let Some(file) = &plan.config.file {
        log(format!("Using configuration file: {} ({})", file.display(), plan.config.digest));
    }
    for note in &plan.config.notes {
        plan.logger.warn(&note.text);
    }
    if let Some(http) = plan.ports.http {
        log(format!("Starting http monitor on {http}"));
    }
    if let (Some(js), Some(store)) = (&plan.config.jetstream, &plan.store) {
        log("Starting JetStream".into());
        log("---------------- JETSTREAM ----------------".into());
        log(format!("  Strict:          {}", js.strict));
        log(format!("  Max Memory:      {}", bytes(plan.room.memory)));
        log(format!("  Max Storage:     {}", bytes(plan.room.file)));
        log(format!("  Store Directory: \"{}\"", store.root.display()));
        if let Some(domain) = &js.domain {
            log(format!("  Domain:          {domain}"));
        }
        log(format!("  API Level:       {API_LEVEL}"));
        log("-------------------------------------------".into());
    }
}

fn facts(plan: &Plan) -> ServerFacts {
    ServerFacts {
        name: plan.server_name.clone(),
        cluster: plan.cluster.clone().unwrap_or_default(),
        domain: plan.config.jetstream.as_ref().and_then(|js| js.domain.clone()).unwrap_or_default(),
        tags: plan.config.server_tags.clone(),
        file_bytes_max: plan.room.file,
        memory_bytes_max: plan.room.memory,
    }
}

fn cluster_id(plan: &Plan) -> Option<String> {
    plan.store.as_ref()?.identity.cluster_id.map(|id| format!("{id:032x}"))
}

pub fn hello(plan: &Plan) -> Hello {
    let facts = facts(plan);
    let unadvertised = plan.config.cluster.as_ref().is_some_and(|cluster| cluster.no_advertise);
    Hello {
        server_name: facts.name,
        server_id: plan.server_id.clone(),
        peer_id: ServerId::of(&plan.server_name).0,
        cluster: facts.cluster,
        cluster_made_up: plan.config.cluster.as_ref().is_some_and(|cluster| cluster.name.is_none()),
        boot_id: plan.boot,
        client_urls: if unadvertised { Vec::new() } else { plan.ports.client_urls(&plan.config) },
        route_url: plan.ports.route_url(&plan.config).unwrap_or_default(),
        domain: facts.domain,
        cores: plan.cores,
        jetstream: plan.config.jetstream.is_some(),
        tags: facts.tags,
        file_bytes_max: facts.file_bytes_max,
        memory_bytes_max: facts.memory_bytes_max,
        store: cluster_id(plan),
        ..Hello::default()
    }
}

pub fn shard_options(plan: &Plan, core: CoreId) -> ShardOptions {
    let place = Place { server: ServerId::of(&plan.server_name), core };
    let seed = plan.seed.wrapping_add(u64::from(core).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let defaults = storage::StoreOptions::default();
    let quota = plan.config.jetstream.as_ref().and_then(|js| js.file_bytes_max).map(|all| all / u64::from(plan.cores));
    let segment_bytes = storage::options::segment_bytes_within(plan.config.trestle.hard.segment_bytes, quota);
    let jetstream = plan.store.as_ref().map(|store| JsOptions {
        me: place,
        config: plan.config.clone(),
        accounts: Accounts::new(&plan.config),
        server_id: plan.server_id.clone(),
        server_name: plan.server_name.clone(),
        cluster: plan.cluster.clone(),
        facts: facts(plan),
        groups: GroupsOptions {
            server: place.server,
            core,
            cores: plan.cores,
            boot: plan.boot,
            seed,
            store: storage::StoreOptions {
                segment_bytes,
                run_bytes_max: defaults.run_bytes_max.min((segment_bytes / 4) as usize),
                bytes_max: quota,
                create: store.fresh,
                seed,
                ..defaults
            },
            state_part_bytes: crate::limits::STATE_PART_BYTES,
            timing: Timing::default(),
        },
        cluster_id: cluster_id(plan),
        fresh_cluster_id: format!("{:032x}", plan.fresh_cluster_id),
    });
    ShardOptions {
        front: FrontOptions {
            place,
            cores: plan.cores,
            config: plan.config.clone(),
            server_id: plan.server_id.clone(),
            server_name: plan.server_name.clone(),
            cluster: plan.cluster.clone(),
            version: COMPATIBLE_VERSION.into(),
            git_commit: String::new(),
            go: format!("trestle {}", env!("CARGO_PKG_VERSION")),
            api_level: API_LEVEL,
            client_urls: plan.ports.client_urls(&plan.config),
            move_after: MOVE_AFTER_READS,
            seed,
        },
        jetstream,
        facts: facts(plan),
        system: SystemOptions {
            core,
            cores: plan.cores,
            config: plan.config.clone(),
            server_id: plan.server_id.clone(),
            server_name: plan.server_name.clone(),
            cluster: plan.cluster.clone(),
            version: COMPATIBLE_VERSION.into(),
            start_wall_ns: plan.start_wall_ns,
            client_url: plan.ports.client.to_string(),
            route_url: plan.ports.route_url(&plan.config),
            http_url: plan.ports.http.map(|addr| addr.to_string()),
            pid: std::process::id(),
            boot: plan.boot,
        },
    }
}
