//! One server of the world: what its process is made of, built as the real shell builds it, and what outlives it.
//!
//! Outliving: the disks and the identity file. Dying with the process: the shards, their inboxes, the connections.

use std::path::PathBuf;
use std::sync::Arc;

use net::peer::hello::Hello;
use storage::Identity;
use storage::identity::{FORMAT_VERSION, ShardFound};
use trestle::account::Accounts;
use trestle::args::Flags;
use trestle::client::FrontOptions;
use trestle::cluster::table::ServerFacts;
use trestle::config::source::Memory;
use trestle::config::{self, Config};
use trestle::event::Event;
use trestle::group::{GroupsOptions, Timing};
use trestle::ids::{CoreId, Now, Place, ServerId};
use trestle::jetstream::JsOptions;
use trestle::shard::{Shard, ShardOptions};
use trestle::system::SystemOptions;

use crate::dice::Dice;
use crate::disk::Disk;
use crate::options::Options;

/// States above this are stored in parts: most streams of a run have one.
const STATE_PART_BYTES: usize = 4 << 10;

/// What a process's monotonic clock shows when it starts, as in the shell.
const CLOCK_START_US: u64 = 1_000_000;

/// Requests that make a client move, where clients move: few, so that it happens often.
const MOVE_AFTER_READS: u32 = 3;

/// The wall clock of the world at its beginning: 2026-01-01, nanoseconds.
const WALL_START_NS: i64 = 1_767_225_600_000_000_000;

pub struct Core {
    pub shard: Option<Shard>,
    pub disk: Disk,
    pub inbox: Vec<Event>,
    /// When the next turn is due, microseconds of the world.
    pub turn_at: Option<u64>,
    /// Recovered: it serves.
    pub ready: bool,
    pub stopped: bool,
}

pub struct Server {
    pub id: ServerId,
    pub name: String,
    pub config: Arc<Config>,
    pub cores: Vec<Core>,
    /// The identity file.
    pub identity: Option<Vec<u8>>,
    /// Counts the starts; events for an earlier life are lost.
    pub life: u32,
    pub running: bool,
    /// Until then the process gets no time.
    pub paused_until: u64,
    /// An operator's start is on its way.
    pub returning: bool,
    pub wall_shift_ns: i64,
    /// It has damaged or failing storage: it may stop and say so.
    pub excused: bool,
    /// See [`FrontOptions::move_after`].
    move_after: u32,
    boot: u64,
    server_id: String,
    started_us: u64,
    cluster_id: Option<String>,
}

impl Server {
    pub fn new(number: usize, options: &Options) -> Server {
        let name = name(number);
        let config = Arc::new(configuration(number, options.servers, options.segment_bytes));
        let blank = || Core {
            shard: None,
            disk: Disk::default(),
            inbox: Vec::new(),
            turn_at: None,
            ready: false,
            stopped: false,
        };
        Server {
            id: ServerId::of(&name),
            name,
            config,
            cores: (0..options.cores).map(|_| blank()).collect(),
            identity: None,
            life: 0,
            running: false,
            paused_until: 0,
            returning: false,
            wall_shift_ns: 0,
            excused: false,
            move_after: if options.faults.moves { MOVE_AFTER_READS } else { u32::MAX },
            boot: 0,
            server_id: String::new(),
            started_us: 0,
            cluster_id: None,
        }
    }

    /// The clocks as this process reads them.
    pub fn now(&self, world_us: u64) -> Now {
        let us = world_us.saturating_sub(self.started_us) + CLOCK_START_US;
        Now { us, wall_ns: WALL_START_NS + world_us as i64 * 1_000 + self.wall_shift_ns }
    }

    /// A time of this process's clock as the world counts.
    pub fn world_us(&self, us: u64) -> u64 {
        us.saturating_sub(CLOCK_START_US) + self.started_us
    }

    /// Every core has recovered.
    pub fn open(&self) -> bool {
        self.running && self.cores.iter().all(|core| core.ready)
    }

    /// The process starts.
    ///
    /// # Errors
    /// The sentence with which a server refuses its store.
    pub fn start(&mut self, world_us: u64, dice: &mut Dice) -> Result<(), String> {
        let found: Vec<ShardFound> =
            self.cores.iter().enumerate().map(|(shard, core)| found(shard, &core.disk)).collect();
        let stored = Identity::check(self.identity.as_deref(), &found, &self.name).map_err(|e| e.to_string())?;
        self.life += 1;
        self.running = true;
        self.paused_until = 0;
        self.started_us = world_us;
        self.boot = dice.roll();
        self.server_id = format!("N{:055}", dice.roll());
        self.cluster_id = stored.as_ref().and_then(|identity| identity.cluster_id).map(|id| format!("{id:032x}"));
        let seed = dice.roll();
        let fresh_cluster_id = format!("{:016x}{:016x}", dice.roll(), dice.roll());
        for core in 0..self.cores.len() {
            let now = self.now(world_us);
            let options = self.options(core as CoreId, seed, stored.is_none(), &fresh_cluster_id, now);
            let slot = &mut self.cores[core];
            slot.shard = Some(Shard::new(options, now));
            slot.inbox.clear();
            (slot.turn_at, slot.ready, slot.stopped) = (None, false, false);
        }
        Ok(())
    }

    /// The process is gone, and with it everything that was not on disk.
    pub fn die(&mut self, dice: &mut Dice) {
        self.running = false;
        for core in &mut self.cores {
            core.shard = None;
            core.inbox.clear();
            core.turn_at = None;
            core.ready = false;
            core.disk.crash(dice);
        }
    }

    /// Its disks are replaced by empty ones.
    pub fn wipe(&mut self) {
        for core in &mut self.cores {
            core.disk = Disk::default();
        }
        (self.identity, self.cluster_id) = (None, None);
    }

    /// All cores are ready: the identity is written last.
    pub fn opened(&mut self) {
        if self.identity.is_none() {
            self.write_identity();
        }
    }

    /// The cluster that this store belongs to is known.
    pub fn joined(&mut self, cluster_id: &str) {
        self.cluster_id = Some(cluster_id.to_owned());
        self.write_identity();
    }

    fn write_identity(&mut self) {
        let identity = Identity {
            format_version: FORMAT_VERSION,
            cluster_id: self.cluster_id.as_deref().and_then(|id| u128::from_str_radix(id, 16).ok()),
            server_name: self.name.clone(),
            shards: self.cores.len() as u16,
            created: WALL_START_NS,
        };
        self.identity = Some(identity.encode());
    }

    /// How it introduces itself to another server.
    pub fn hello(&self) -> Hello {
        let facts = self.facts();
        Hello {
            server_name: facts.name,
            server_id: self.server_id.clone(),
            peer_id: self.id.0,
            cluster: facts.cluster,
            boot_id: self.boot,
            client_urls: vec![format!("{}:4222", self.name)],
            route_url: format!("{}:6222", self.name),
            cores: self.cores.len() as u16,
            jetstream: true,
            tags: facts.tags,
            store: self.cluster_id.clone(),
            ..Hello::default()
        }
    }

    fn facts(&self) -> ServerFacts {
        ServerFacts {
            name: self.name.clone(),
            cluster: CLUSTER.into(),
            domain: String::new(),
            tags: self.config.server_tags.clone(),
            file_bytes_max: 0,
            memory_bytes_max: 0,
        }
    }

    fn options(&self, core: CoreId, seed: u64, fresh: bool, fresh_cluster_id: &str, now: Now) -> ShardOptions {
        let place = Place { server: self.id, core };
        let cores = self.cores.len() as CoreId;
        let seed = seed.wrapping_add(u64::from(core).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let jetstream = JsOptions {
            me: place,
            config: self.config.clone(),
            accounts: Accounts::new(&self.config),
            server_id: self.name.clone(),
            server_name: self.name.clone(),
            cluster: Some(CLUSTER.into()),
            facts: self.facts(),
            groups: GroupsOptions {
                server: self.id,
                core,
                cores,
                boot: self.boot,
                seed,
                store: self.store_options(fresh, seed),
                state_part_bytes: STATE_PART_BYTES,
                timing: Timing::default(),
            },
            cluster_id: self.cluster_id.clone(),
            fresh_cluster_id: fresh_cluster_id.to_owned(),
        };
        ShardOptions {
            front: FrontOptions {
                place,
                cores,
                config: self.config.clone(),
                server_id: self.server_id.clone(),
                server_name: self.name.clone(),
                cluster: Some(CLUSTER.into()),
                version: "2.15.1".into(),
                git_commit: String::new(),
                go: "trestle".into(),
                api_level: 5,
                client_urls: vec![format!("{}:4222", self.name)],
                move_after: self.move_after,
                seed,
            },
            jetstream: Some(jetstream),
            facts: self.facts(),
            system: SystemOptions {
                core,
                cores,
                config: self.config.clone(),
                server_id: self.server_id.clone(),
                server_name: self.name.clone(),
                cluster: Some(CLUSTER.into()),
                version: "2.15.1".into(),
                start_wall_ns: now.wall_ns,
                client_url: format!("{}:4222", self.name),
                route_url: Some(format!("{}:6222", self.name)),
                http_url: None,
                pid: 1,
                boot: self.boot,
            },
        }
    }

    /// The settings with which a core's log is opened, also by whoever reads it afterwards.
    pub fn store_options(&self, create: bool, seed: u64) -> storage::StoreOptions {
        let segment_bytes = self.config.trestle.hard.segment_bytes;
        storage::StoreOptions {
            segment_bytes,
            run_bytes_max: (segment_bytes / 4).min(1 << 20) as usize,
            create,
            seed,
            ..storage::StoreOptions::default()
        }
    }
}

/// The name of the simulated cluster.
pub const CLUSTER: &str = "SIM";

pub fn name(number: usize) -> String {
    format!("n{}", number + 1)
}

fn found(shard: usize, disk: &Disk) -> ShardFound {
    let manifest = disk.files.contains_key(&storage::FileId::Manifest);
    let segments = disk.files.keys().filter(|file| matches!(file, storage::FileId::Segment(_))).count();
    ShardFound { shard: shard as u16, manifest, segments }
}

/// The configuration, through the same reader that a file goes through.
fn configuration(number: usize, servers: usize, segment_bytes: u64) -> Config {
    let routes: Vec<String> =
        (0..servers).filter(|other| *other != number).map(|other| format!("\"nats://{}:6222\"", name(other))).collect();
    let text = format!(
        "server_name: {name}\nserver_tags: [\"az:{number}\"]\nlisten: \"{name}:4222\"\n\
         cluster: {{ name: {CLUSTER}, listen: \"{name}:6222\", routes: [{routes}] }}\n\
         jetstream: {{ store_dir: \"/sim/{name}\", max_file_store: 1GB, max_memory_store: 1GB }}\n\
         trestle: {{ segment_bytes: {segment_bytes} }}\n",
        name = name(number),
        routes = routes.join(", "),
    );
    let path = PathBuf::from("sim.conf");
    let mut source = Memory::default();
    source.files.insert(path.clone(), text.into_bytes());
    let flags = Flags { config: Some(path), ..Flags::default() };
    match config::load(&source, &flags) {
        Ok(config) => config,
        Err(error) => panic!("the simulator's own configuration is refused: {error}"),
    }
}
