//! From a configuration to running cores, and back to an exit code.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::Arc;
use std::time::{Duration, Instant};

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use net::peer::hello::Hello;
use net::uring::listen::Listener;
use storage::uring::Executor;

use super::clients::Clients;
use super::clock::{Clock, wall_ns};
use super::core::Core;
use super::http::Pages;
use super::inbox::Inbox;
use super::links::Links;
use super::mesh::{Bell, Mailbox, mesh};
use super::ports::Ports;
use super::signals::{self, Wish};
use super::store::Store;
use super::{CoreReport, Report, names, probe, watchdog};
use crate::account::Accounts;
use crate::args::Flags;
use crate::client::FrontOptions;
use crate::cluster::table::ServerFacts;
use crate::config::{Config, reload, source};
use crate::event::Admin;
use crate::group::{GroupsOptions, Timing};
use crate::ids::{CoreId, Place, ServerId};
use crate::jetstream::JsOptions;
use crate::logging::Logger;
use crate::shard::{Shard, ShardOptions};
use crate::system::SystemOptions;

/// The release of nats-server whose behaviour this server shows; clients gate features by it.
pub const COMPATIBLE_VERSION: &str = "2.15.1";

/// Level of the JetStream API that release has.
const API_LEVEL: u32 = 5;

/// Memory for direct I/O of one core. glommio asks for three times this; more only helps many large reads at once.
const IO_MEMORY_BYTES: usize = 4 << 20;

/// How long a stop may take before the process ends anyway.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What reaches the main thread.
enum Told {
    Core(CoreReport),
    Wish(Wish),
}

/// Everything that cores are started with; the same for each.
struct Plan {
    config: Arc<Config>,
    clock: Clock,
    logger: Logger,
    ports: Ports,
    server_name: String,
    server_id: String,
    cluster: Option<String>,
    cores: CoreId,
    boot: u64,
    seed: u64,
    fresh_cluster_id: u128,
    store: Option<Store>,
    start_wall_ns: i64,
    /// Set once every core is ready: clients are accepted then.
    open: AtomicBool,
}

/// Runs a server until it is told to stop; the process's exit code.
pub fn serve(config: Config, flags: &Flags) -> i32 {
    let logger = match Logger::open(&config.log, std::process::id()) {
        Ok(logger) => logger,
        Err(error) => {
            eprintln!("nats-server: cannot open the log file: {error}");
            return 1;
        }
    };
    match start(config, flags, &logger) {
        Ok(code) => code,
        Err(why) => {
            logger.fatal(why);
            1
        }
    }
}

fn start(config: Config, flags: &Flags, logger: &Logger) -> Result<i32, String> {
    probe::io_uring()?;
    probe::raise_memlock();
    signals::block()?;
    let plan = Arc::new(make_plan(Arc::new(config), logger.clone())?);
    greet(&plan);
    let (tell, told) = channel();
    let boxes = mesh(plan.cores);
    let bells: Vec<Arc<Bell>> = boxes.iter().map(Mailbox::bell).collect();
    // Executors before other threads: glommio's first sleep is slow otherwise.
    let cores = start_cores(&plan, boxes, &tell)?;
    let stop = Arc::new(AtomicBool::new(false));
    start_watchdog(bells.clone(), stop.clone(), logger.clone());
    start_signals(tell);
    let mut life = Life { plan: plan.clone(), config: plan.config.clone(), flags, bells, told, written: Vec::new() };
    let code = life.run();
    stop.store(true, Ordering::Relaxed);
    for path in &life.written {
        // Gone already is as good.
        let _ = std::fs::remove_file(path);
    }
    if code == 0 {
        for core in cores {
            // A core that failed has told us before.
            let _ = core.join();
        }
        logger.info("Server Exiting..");
    }
    Ok(code)
}

/// Finds out everything that must be known before the first core runs.
fn make_plan(config: Arc<Config>, logger: Logger) -> Result<Plan, String> {
    let random: [u8; 64] = names::random().map_err(|e| format!("cannot read random numbers: {e}"))?;
    let number = |at: usize| u64::from_le_bytes(random[at..at + 8].try_into().expect("eight bytes"));
    let key: [u8; 32] = random[..32].try_into().expect("thirty-two bytes");
    let server_id = names::server_id(key);
    let stored = config.jetstream.as_ref().and_then(|js| Store::owner(&js.store_dir.join("jetstream")));
    let server_name = config.server_name.clone().or(stored).unwrap_or_else(|| server_id.clone());
    let start_wall_ns = wall_ns();
    let asked = config.trestle.hard.shards.or(config.trestle.soft.cores).unwrap_or_else(probe::cpus);
    let store = match &config.jetstream {
        Some(js) => Some(Store::open(&js.store_dir.join("jetstream"), &server_name, asked, start_wall_ns)?),
        None => None,
    };
    let cores = store.as_ref().map_or(asked, |store| store.identity.shards);
    if cores != asked {
        logger.warn(format!("The store was made for {cores} cores: running on {cores}, not on {asked}"));
    }
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
        start_wall_ns,
        open: AtomicBool::new(false),
        config,
    })
}

/// The first lines of the log, in the peer's order and words.
fn greet(plan: &Plan) {
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
        log(format!("Using configuration file: {}", file.display()));
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
        log(format!("  Store Directory: \"{}\"", store.root.display()));
        if let Some(domain) = &js.domain {
            log(format!("  Domain:          {domain}"));
        }
        log(format!("  API Level:       {API_LEVEL}"));
        log("-------------------------------------------".into());
    }
}

fn start_cores(
    plan: &Arc<Plan>,
    boxes: Vec<Mailbox>,
    tell: &Sender<Told>,
) -> Result<Vec<ExecutorJoinHandle<()>>, String> {
    let mut cores = Vec::new();
    for (core, mailbox) in boxes.into_iter().enumerate() {
        let (plan, tell) = (plan.clone(), tell.clone());
        let handle = LocalExecutorBuilder::new(Placement::Unbound)
            .name(&format!("core-{core}"))
            .io_memory(IO_MEMORY_BYTES)
            .spawn(move || async move {
                if let Err(why) = run_core(&plan, core as CoreId, mailbox, tell.clone()).await {
                    // The main thread is gone only when the process is ending anyway.
                    let _ = tell.send(Told::Core(CoreReport { core: core as CoreId, report: Report::Fatal(why) }));
                }
            })
            .map_err(|e| format!("cannot start core {core}: {e}"))?;
        cores.push(handle);
    }
    Ok(cores)
}

async fn run_core(plan: &Arc<Plan>, core: CoreId, mailbox: Mailbox, tell: Sender<Told>) -> Result<(), String> {
    let disk = match &plan.store {
        Some(store) => Some(Executor::open(&store.shard(core)).map_err(|e| format!("the store: {e}"))?),
        None => None,
    };
    let inbox = Inbox::default();
    let logger = plan.logger.clone();
    let hello = hello(plan);
    let links = Links::new(plan.clock, inbox.clone(), logger.clone(), hello, plan.config.cluster.clone());
    let (clients, pages) = (Clients::default(), Pages::default());
    listen(plan, core, &inbox, &clients, &pages, &links)?;
    let core = Core {
        clock: plan.clock,
        shard: Shard::new(shard_options(plan, core), plan.clock.now()),
        inbox,
        mailbox: Rc::new(RefCell::new(mailbox)),
        clients,
        links,
        pages,
        disk,
        logger,
        // As above: nobody listens only at the very end.
        reports: Box::new(move |report| drop(tell.send(Told::Core(report)))),
    };
    core.run().await;
    Ok(())
}

/// Opens the listening sockets of one core. Clients of all cores share their port; pages and routes are core 0's.
fn listen(
    plan: &Arc<Plan>,
    core: CoreId,
    inbox: &Inbox,
    clients: &Clients,
    pages: &Pages,
    links: &Links,
) -> Result<(), String> {
    let bind = |addr| Listener::bind(addr).map_err(|e| format!("Error listening on {addr}: {e}"));
    let number = Rc::new(Cell::new(1));
    if core == 0 {
        if let Some(addr) = plan.ports.http {
            glommio::spawn_local(pages.clone().accept(bind(addr)?, inbox.clone(), number.clone())).detach();
        }
        if let Some(addr) = plan.ports.cluster {
            glommio::spawn_local(links.clone().accept(bind(addr)?)).detach();
        }
    }
    let (plan, inbox, clients) = (plan.clone(), inbox.clone(), clients.clone());
    glommio::spawn_local(async move {
        while !plan.open.load(Ordering::Acquire) {
            glommio::timer::Timer::new(OPEN_POLL).await;
        }
        match Listener::bind(plan.ports.client) {
            Ok(listener) => clients.accept(listener, inbox, number, plan.logger.clone()).await,
            Err(error) => plan.logger.fatal(format!("Error listening on port {}: {error}", plan.ports.client)),
        }
    })
    .detach();
    Ok(())
}

/// How often a core looks whether the others are ready, during start only.
const OPEN_POLL: Duration = Duration::from_millis(2);

fn facts(plan: &Plan) -> ServerFacts {
    ServerFacts {
        name: plan.server_name.clone(),
        cluster: plan.cluster.clone().unwrap_or_default(),
        domain: plan.config.jetstream.as_ref().and_then(|js| js.domain.clone()).unwrap_or_default(),
        tags: plan.config.server_tags.clone(),
        file_bytes_max: 0,
        memory_bytes_max: 0,
    }
}

fn cluster_id(plan: &Plan) -> Option<String> {
    plan.store.as_ref()?.identity.cluster_id.map(|id| format!("{id:032x}"))
}

fn hello(plan: &Plan) -> Hello {
    let facts = facts(plan);
    Hello {
        server_name: facts.name,
        server_id: plan.server_id.clone(),
        peer_id: ServerId::of(&plan.server_name).0,
        cluster: facts.cluster,
        boot_id: plan.boot,
        client_urls: plan.ports.client_urls(&plan.config),
        route_url: plan.ports.route_url(&plan.config).unwrap_or_default(),
        domain: facts.domain,
        cores: plan.cores,
        jetstream: plan.config.jetstream.is_some(),
        tags: facts.tags,
        store: cluster_id(plan),
        ..Hello::default()
    }
}

fn shard_options(plan: &Plan, core: CoreId) -> ShardOptions {
    let place = Place { server: ServerId::of(&plan.server_name), core };
    let seed = plan.seed.wrapping_add(u64::from(core).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let jetstream = plan.config.jetstream.as_ref().zip(plan.store.as_ref()).map(|(js, store)| JsOptions {
        me: place,
        config: plan.config.clone(),
        accounts: Accounts::new(&plan.config),
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
                segment_bytes: plan.config.trestle.hard.segment_bytes,
                bytes_max: js.file_bytes_max.map(|bytes| bytes / u64::from(plan.cores)),
                create: store.fresh,
                seed,
                ..storage::StoreOptions::default()
            },
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

fn start_watchdog(bells: Vec<Arc<Bell>>, stop: Arc<AtomicBool>, logger: Logger) {
    std::thread::spawn(move || {
        watchdog::watch(&bells, &stop, |core, silent| {
            logger.error(format!("core {core} has not reacted for {:.1} s", silent.as_secs_f64()));
        });
    });
}

fn start_signals(tell: Sender<Told>) {
    std::thread::spawn(move || {
        while let Some(wish) = signals::wait() {
            if tell.send(Told::Wish(wish)).is_err() {
                return;
            }
        }
    });
}

/// The main thread's part while the cores run.
struct Life<'a> {
    plan: Arc<Plan>,
    config: Arc<Config>,
    flags: &'a Flags,
    bells: Vec<Arc<Bell>>,
    told: Receiver<Told>,
    /// Files to remove at the end.
    written: Vec<PathBuf>,
}

impl Life<'_> {
    /// Until the server has stopped; its exit code.
    fn run(&mut self) -> i32 {
        let (mut ready, mut stopped) = (0, 0);
        let mut deadline: Option<Instant> = None;
        loop {
            let told = match deadline {
                None => self.told.recv().ok(),
                Some(at) => self.told.recv_timeout(at.saturating_duration_since(Instant::now())).ok(),
            };
            match told {
                None => return if stopped > 0 { 0 } else { 1 },
                Some(Told::Core(CoreReport { report: Report::Ready, .. })) => {
                    ready += 1;
                    if ready == self.bells.len()
                        && let Err(why) = self.open()
                    {
                        self.plan.logger.fatal(why);
                        return 1;
                    }
                }
                Some(Told::Core(CoreReport { report: Report::ClusterFormed(id), .. })) => self.joined(&id),
                Some(Told::Core(CoreReport { report: Report::Stopped, .. })) => {
                    stopped += 1;
                    if stopped == self.bells.len() {
                        return 0;
                    }
                }
                Some(Told::Core(CoreReport { core, report: Report::Fatal(why) })) => {
                    self.plan.logger.fatal(format!("core {core}: {why}"));
                    return 1;
                }
                Some(Told::Wish(Wish::Stop)) => {
                    if deadline.is_none() {
                        self.plan.logger.info("Initiating Shutdown...");
                        self.wish(&Admin::Stop);
                    }
                    deadline = Some(Instant::now() + STOP_PATIENCE);
                }
                Some(Told::Wish(Wish::Reload)) => self.reload(),
                Some(Told::Wish(Wish::ReopenLog)) => self.plan.logger.reopen(),
                Some(Told::Wish(Wish::LameDuck)) => {
                    self.plan.logger.info("Entering lame duck mode, stop accepting new clients");
                    self.wish(&Admin::LameDuck);
                }
            }
        }
    }

    fn wish(&self, admin: &Admin) {
        for bell in &self.bells {
            bell.wish(admin.clone());
        }
    }

    /// Every core has recovered: the store is what it says, and clients may come.
    fn open(&mut self) -> Result<(), String> {
        let plan = &self.plan;
        if let Some(store) = plan.store.as_ref().filter(|store| store.fresh) {
            store.write_identity()?;
        }
        plan.open.store(true, Ordering::Release);
        plan.logger.info(format!("Listening for client connections on {}", plan.ports.client));
        self.written = plan.ports.announce(&plan.config, std::process::id())?;
        plan.logger.info("Server is ready");
        if let Some(cluster) = &plan.cluster {
            plan.logger.info(format!("Cluster name is {cluster}"));
        }
        if let Some(addr) = plan.ports.cluster {
            plan.logger.info(format!("Listening for route connections on {addr}"));
        }
        Ok(())
    }

    /// The store belongs to a cluster from now on.
    fn joined(&self, cluster_id: &str) {
        let Some(store) = &self.plan.store else { return };
        let Ok(id) = u128::from_str_radix(cluster_id, 16) else {
            return self.plan.logger.error(format!("the cluster's id {cluster_id:?} is no number"));
        };
        if store.identity.cluster_id == Some(id) {
            return;
        }
        let identity = storage::Identity { cluster_id: Some(id), ..store.identity.clone() };
        let store = Store { root: store.root.clone(), identity, fresh: false };
        if let Err(why) = store.write_identity() {
            self.plan.logger.error(why);
        }
    }

    fn reload(&mut self) {
        let logger = &self.plan.logger;
        let new = match crate::config::load(&source::Disk, self.flags) {
            Ok(new) => new,
            Err(error) => return logger.error(format!("Failed to reload server configuration: {error}")),
        };
        match reload::compare(&self.config, &new) {
            Err(refused) => {
                for why in refused {
                    logger.error(format!("Failed to reload server configuration: {why}"));
                }
            }
            Ok(changes) => {
                for change in changes {
                    logger.info(&change.text);
                }
                if let Err(error) = logger.configure(&new.log) {
                    logger.error(format!("the log: {error}"));
                }
                self.config = Arc::new(new);
                self.wish(&Admin::Reload(self.config.clone()));
            }
        }
    }
}
