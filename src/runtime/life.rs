//! The main thread's part while the cores run: it hears what becomes of them and what the operator wants, and passes
//! orders on until the server has stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::mesh::{Bell, Order};
use super::plan::Plan;
use super::signals::Wish;
use super::store::Store;
use super::{CoreReport, Report};
use crate::args::Flags;
use crate::config::{Config, reload, source};
use crate::event::Admin;

/// How long a stop may take before the process ends anyway.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What reaches the main thread.
pub enum Told {
    Core(CoreReport),
    Wish(Wish),
}

/// How the life of a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every core has done what a stop asks for.
    Stopped,
    /// The time for a stop was over before.
    Late,
    /// It could not start or go on.
    Failed,
}

pub struct Life<'a> {
    plan: Arc<Plan>,
    config: Arc<Config>,
    flags: &'a Flags,
    bells: Vec<Arc<Bell>>,
    /// Files to remove at the end.
    written: Vec<PathBuf>,
    /// The cluster that formed or was joined in this life.
    cluster_id: Option<u128>,
    ready: usize,
    opened: usize,
    drained: usize,
    stopped: usize,
    /// When a lame duck stops, and when a stop must be over.
    stop_at: Option<Instant>,
    end_at: Option<Instant>,
}

impl<'a> Life<'a> {
    pub fn new(plan: Arc<Plan>, flags: &'a Flags, bells: Vec<Arc<Bell>>) -> Life<'a> {
        let config = plan.config.clone();
        let (ready, opened, drained, stopped) = (0, 0, 0, 0);
        let (written, stop_at, end_at) = (Vec::new(), None, None);
        let cluster_id = None;
        Life { plan, config, flags, bells, written, cluster_id, ready, opened, drained, stopped, stop_at, end_at }
    }

    /// Until the server has stopped.
    pub fn run(&mut self, told: &Receiver<Told>) -> End {
        let end = loop {
            let due = self.end_at.or(self.stop_at);
            let told = match due {
                None => told.recv().ok(),
                Some(at) => told.recv_timeout(at.saturating_duration_since(Instant::now())).ok(),
            };
            let end = match told {
                Some(Told::Core(report)) => self.on_report(report),
                Some(Told::Wish(wish)) => {
                    self.on_wish(wish);
                    None
                }
                None => self.on_silence(),
            };
            if let Some(end) = end {
                break end;
            }
        };
        self.remove_files();
        end
    }

    /// The pid file and the ports file.
    fn remove_files(&mut self) {
        for path in self.written.drain(..) {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }

    /// A deadline has passed, or every core is gone.
    fn on_silence(&mut self) -> Option<End> {
        if self.end_at.is_some() {
            self.plan.logger.warn("Not everything has left within the time for a stop");
            return Some(End::Late);
        }
        if self.stop_at.is_some() {
            self.stop();
            return None;
        }
        Some(End::Failed)
    }

    fn on_report(&mut self, CoreReport { core, report }: CoreReport) -> Option<End> {
        match report {
            Report::Ready => {
                self.ready += 1;
                if self.ready == self.bells.len() {
                    return self.or_fatal(Life::open);
                }
            }
            Report::Open => {
                self.opened += 1;
                if self.opened == self.bells.len() {
                    return self.or_fatal(Life::announce);
                }
            }
            Report::ClusterFormed(id) => self.joined(&id),
            Report::ReloadAsked(id) => {
                let outcome = self.reload();
                if let Some(bell) = self.bells.get(usize::from(core)) {
                    bell.order(Order::Admin(Admin::ReloadDone { id, outcome }));
                }
            }
            Report::Drained => {
                self.drained += 1;
                if self.drained == self.bells.len() {
                    self.stop();
                }
            }
            Report::Stopped => {
                self.stopped += 1;
                return (self.stopped == self.bells.len()).then_some(End::Stopped);
            }
            Report::Fatal(why) => {
                self.plan.logger.fatal(if self.opened < self.bells.len() {
                    why
                } else {
                    format!("core {core}: {why}")
                });
                return Some(End::Failed);
            }
        }
        None
    }

    fn or_fatal(&mut self, step: fn(&mut Self) -> Result<(), String>) -> Option<End> {
        let why = step(self).err()?;
        self.plan.logger.fatal(why);
        Some(End::Failed)
    }

    fn on_wish(&mut self, wish: Wish) {
        self.plan.logger.info(format!("Trapped \"{}\" signal", wish.signal_text()));
        match wish {
            Wish::Stop | Wish::Interrupt => self.stop(),
            Wish::Reload => {
                let refused = self.reload().err().unwrap_or_default();
                for why in refused.lines() {
                    self.plan.logger.error(format!("Failed to reload server configuration: {why}"));
                }
            }
            Wish::ReopenLog => self.plan.logger.reopen(),
            Wish::LameDuck => self.lame_duck(),
        }
    }

    fn order(&self, order: &Order) {
        for bell in &self.bells {
            bell.order(order.clone());
        }
    }

    fn stop(&mut self) {
        if self.end_at.is_some() {
            return;
        }
        self.plan.logger.info("Initiating Shutdown...");
        self.end_at = Some(Instant::now() + STOP_PATIENCE);
        self.order(&Order::Admin(Admin::Stop));
    }

    /// Leaves gently: leadership moves, clients are told and closed one by one; then the server stops.
    fn lame_duck(&mut self) {
        if self.stop_at.is_some() || self.end_at.is_some() {
            return;
        }
        self.plan.logger.info("Entering lame duck mode, stop accepting new clients");
        self.stop_at = Some(Instant::now() + self.config.lame_duck.duration);
        self.order(&Order::Admin(Admin::LameDuck));
    }

    /// Every core has recovered: the store is what it says, and clients may come.
    fn open(&mut self) -> Result<(), String> {
        if let Some(store) = self.plan.store.as_ref().filter(|store| store.fresh) {
            store.finish_making(self.cluster_id)?;
        }
        self.order(&Order::Open);
        Ok(())
    }

    /// Every core listens: whoever waits for this server may know.
    fn announce(&mut self) -> Result<(), String> {
        let plan = &self.plan;
        let log = |text: String| plan.logger.info(text);
        log(format!("Listening for client connections on {}", plan.ports.client));
        self.written = plan.ports.announce(&plan.config, std::process::id())?;
        log("Server is ready".into());
        if let Some(cluster) = &plan.cluster {
            log(format!("Cluster name is {cluster}"));
            if plan.config.cluster.as_ref().is_some_and(|cluster| cluster.name.is_none()) {
                plan.logger.warn("Cluster name was dynamically generated, consider setting one");
            }
        }
        if let Some(addr) = plan.ports.cluster {
            log(format!("Listening for route connections on {addr}"));
        }
        Ok(())
    }

    /// The store belongs to a cluster from now on; the links know it already.
    fn joined(&mut self, cluster_id: &str) {
        let Some(store) = &self.plan.store else { return };
        let Ok(id) = u128::from_str_radix(cluster_id, 16) else {
            return self.plan.logger.error(format!("the cluster's id {cluster_id:?} is no number"));
        };
        self.cluster_id = Some(id);
        let unfinished = store.fresh && self.ready < self.bells.len();
        if store.identity.cluster_id != Some(id) && !unfinished {
            let identity = storage::Identity { cluster_id: Some(id), ..store.identity.clone() };
            if let Err(why) = Store::write_identity(&store.root, &identity) {
                self.plan.logger.error(why);
            }
        }
    }

    /// Takes the configuration as it is now, or leaves everything as it was and says why.
    fn reload(&mut self) -> Result<(), String> {
        let logger = self.plan.logger.clone();
        let new = crate::config::load(&source::Disk, self.flags).map_err(|error| error.to_string())?;
        let changes = reload::compare(&self.config, &new).map_err(|refused| refused.join("\n"))?;
        for note in &new.notes {
            logger.warn(&note.text);
        }
        for change in changes {
            logger.info(&change.text);
        }
        if let Err(error) = logger.configure(&new.log) {
            logger.error(format!("the log: {error}"));
        }
        let files = |config: &Config| (config.pid_file.clone(), config.ports_file_dir.clone());
        if files(&self.config) != files(&new) {
            self.remove_files();
            match self.plan.ports.announce(&new, std::process::id()) {
                Ok(written) => self.written = written,
                Err(why) => logger.error(why),
            }
        }
        self.config = Arc::new(new);
        self.order(&Order::Admin(Admin::Reload(self.config.clone())));
        Ok(())
    }
}
