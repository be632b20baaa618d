//! From a configuration to running cores, and back to an exit code.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use net::uring::listen::Listener;
use storage::uring::Executor;

use super::alarm::Alarm;
use super::clients::{Clients, Seats, Transit};
use super::clock::Clock;
use super::core::{Core, Teller};
use super::http::Pages;
use super::inbox::{Inbox, Notify};
use super::judge::Judge;
use super::life::{End, Life, Told};
use super::links::Links;
use super::mesh::{Bell, Mailbox, Order, mesh};
use super::plan::{self, Plan};
use super::vitals::Gauge;
use super::{CoreReport, Report, probe, signals, watchdog};
use crate::args::Flags;
use crate::config::Config;
use crate::ids::CoreId;
use crate::logging::Logger;
use crate::shard::Shard;

/// Memory for direct I/O of one core. glommio asks for three times this; more only helps many large reads at once.
const IO_MEMORY_BYTES: usize = 4 << 20;

/// Connections that one core numbers: more than come in a million years.
const NUMBER_BITS: u32 = 48;

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
    probe::raise_limits()?;
    signals::block()?;
    let plan = Arc::new(plan::make(Arc::new(config), logger.clone())?);
    plan::greet(&plan);
    let (tell, told) = channel();
    let boxes = mesh(plan.cores);
    let shared = Shared {
        seats: Seats::default(),
        transit: Transit::default(),
        judge: Judge::start(plan.seed).map_err(|e| format!("cannot start a thread: {e}"))?,
    };
    let bells: Vec<Arc<Bell>> = boxes.iter().map(Mailbox::bell).collect();
    // Executors before other threads: glommio's first sleep is slow otherwise.
    let cores = start_cores(&plan, boxes, &tell, &shared)?;
    let stop = Arc::new(AtomicBool::new(false));
    start_watchdog(bells.clone(), plan.clock, stop.clone(), logger.clone());
    start_signals(tell);
    let end = Life::new(plan, flags, bells).run(&told);
    stop.store(true, Ordering::Relaxed);
    if end == End::Stopped {
        for core in cores {
            // A core that failed has told us before.
            let _ = core.join();
        }
    }
    // Cores that did not stop in time are not waited for: they end with the process.
    if end != End::Failed {
        logger.info("Server Exiting..");
    }
    Ok(i32::from(end == End::Failed))
}

fn start_cores(
    plan: &Arc<Plan>,
    boxes: Vec<Mailbox>,
    tell: &Sender<Told>,
    shared: &Shared,
) -> Result<Vec<ExecutorJoinHandle<()>>, String> {
    let mut cores = Vec::new();
    for (core, mailbox) in boxes.into_iter().enumerate() {
        let (plan, tell, shared) = (plan.clone(), tell.clone(), shared.clone());
        let handle = LocalExecutorBuilder::new(Placement::Unbound)
            .name(&format!("core-{core}"))
            .io_memory(IO_MEMORY_BYTES)
            .spawn(move || async move {
                if let Err(why) = run_core(&plan, core as CoreId, mailbox, shared, tell.clone()).await {
                    // The main thread is gone only when the process is ending anyway.
                    let _ = tell.send(Told::Core(CoreReport { core: core as CoreId, report: Report::Fatal(why) }));
                }
            })
            .map_err(|e| format!("cannot start core {core}: {e}"))?;
        cores.push(handle);
    }
    Ok(cores)
}

async fn run_core(
    plan: &Arc<Plan>,
    core: CoreId,
    mailbox: Mailbox,
    Shared { seats, transit, judge }: Shared,
    tell: Sender<Told>,
) -> Result<(), String> {
    let disk = match &plan.store {
        Some(store) => Some(Executor::open(&store.shard(core)).map_err(|e| format!("Can't start JetStream: {e}"))?),
        None => None,
    };
    let (inbox, logger) = (Inbox::default(), plan.logger.clone());
    let cluster = plan.config.cluster.clone();
    let doors = Doors {
        inbox: inbox.clone(),
        clients: Clients::new(seats, transit),
        pages: Pages::default(),
        links: Links::new(plan.clock, inbox.clone(), judge.clone(), logger.clone(), plan::hello(plan), cluster),
        open: Notify::default(),
    };
    // As above: nobody listens only at the very end.
    let teller: Teller = Rc::new(move |report| drop(tell.send(Told::Core(report))));
    doors.listen(plan, core, teller.clone())?;
    let Doors { clients, pages, links, open, .. } = doors;
    let core = Core {
        alarm: Alarm::default(),
        clock: plan.clock,
        shard: Shard::new(plan::shard_options(plan, core), plan.clock.now()),
        inbox,
        mailbox: Rc::new(RefCell::new(mailbox)),
        clients,
        links,
        pages,
        judge,
        auth_patience: plan.config.auth.timeout,
        disk,
        logger,
        teller,
        open,
    };
    core.run().await;
    Ok(())
}

/// What the cores have in common.
#[derive(Clone)]
struct Shared {
    seats: Seats,
    transit: Transit,
    judge: Judge,
}

/// Where connections of one core come in.
struct Doors {
    inbox: Inbox,
    clients: Clients,
    pages: Pages,
    links: Links,
    open: Notify,
}

impl Doors {
    /// Opens the listening sockets. Clients of all cores share their port and are let in once every core is ready;
    /// pages and routes are core 0's.
    fn listen(&self, plan: &Arc<Plan>, core: CoreId, teller: Teller) -> Result<(), String> {
        // A connection keeps its number when it moves to another core, so no two cores give the same.
        let number = Rc::new(Cell::new((u64::from(core) << NUMBER_BITS) + 1));
        if core == 0 {
            if let Some(addr) = plan.ports.http {
                let listener = Listener::bind(addr).map_err(|e| format!("Can't listen to the monitor port: {e}"))?;
                glommio::spawn_local(self.pages.clone().accept(listener, self.inbox.clone(), number.clone())).detach();
            }
            if let Some(addr) = plan.ports.cluster {
                let listener =
                    Listener::bind(addr).map_err(|e| format!("Error listening on router port: {addr} - {e}"))?;
                glommio::spawn_local(self.links.clone().accept(listener)).detach();
            }
        }
        let (plan, inbox, clients, open) = (plan.clone(), self.inbox.clone(), self.clients.clone(), self.open.clone());
        glommio::spawn_local(async move {
            open.wait().await;
            let addr = plan.ports.client;
            match Listener::bind(addr) {
                Ok(listener) => {
                    teller(CoreReport { core, report: Report::Open });
                    clients.accept(listener, inbox, number, plan.logger.clone()).await;
                }
                Err(error) => {
                    let why = format!("Error listening on port: {addr}, \"{error}\"");
                    teller(CoreReport { core, report: Report::Fatal(why) });
                }
            }
        })
        .detach();
        Ok(())
    }
}

fn start_watchdog(bells: Vec<Arc<Bell>>, clock: Clock, stop: Arc<AtomicBool>, logger: Logger) {
    let mut gauge = Gauge::start();
    let pages = bells[0].clone();
    let vitals = move || {
        let (cpu_percent, memory_bytes) = gauge.read();
        pages.order(Order::Vitals { cpu_percent, memory_bytes });
    };
    std::thread::spawn(move || {
        watchdog::watch(&bells, clock, &stop, vitals, |core, silent| {
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
