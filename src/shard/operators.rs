//! What an operator asks of a running server: reload, lame duck, a clean stop.

use std::sync::Arc;

use super::{LINK_CORE, Shard};
use crate::cluster::wire::NodeMsg;
use crate::config::Config;
use crate::event::{Admin, Effect, Level};

/// A clean stop waits for leadership to be handed over, but not for ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopping {
    /// Until then the cores hear what others have for their clients.
    settled_us: u64,
    deadline_us: u64,
    pub(super) done: bool,
}

/// How long the cores of a server that stops pass on what they have for each other's clients: one ring each way, on a busy
/// machine.
const STOP_SETTLE_US: u64 = 20_000;

/// How long a clean stop waits for others to take leadership over: a few round trips over a WAN.
const STOP_PATIENCE_US: u64 = 1_500_000;

impl Stopping {
    /// When to look again.
    pub(super) fn next_us(&self, now_us: u64) -> u64 {
        if now_us < self.settled_us { self.settled_us } else { self.deadline_us }
    }
}

impl Shard {
    pub(super) fn on_admin(&mut self, admin: Admin) {
        let now = self.now;
        match admin {
            Admin::Reload(config) => self.reload(config),
            Admin::ReloadDone { id, outcome } => self.system.on_reload_done(now, id, &outcome),
            Admin::LameDuck => {
                self.front.lame_duck(now);
                self.say_goodbye(true);
                if let Some(js) = &mut self.js {
                    js.hand_over(now);
                }
            }
            Admin::Stop => {
                let settled_us = if self.cores > 1 { now.us + STOP_SETTLE_US } else { now.us };
                self.stopping = Some(Stopping { settled_us, deadline_us: now.us + STOP_PATIENCE_US, done: false });
                if let Some(js) = &mut self.js {
                    js.end_pulls();
                    js.hand_over(now);
                }
            }
        }
    }

    /// Lame duck keeps its links: others only learn that its clients will leave.
    fn say_goodbye(&mut self, lame_duck: bool) {
        if self.me.core == LINK_CORE {
            self.system.going(self.now, lame_duck);
            self.send_all_peers(&NodeMsg::Goodbye { lame_duck });
        }
    }

    pub(super) fn check_stop(&mut self) {
        let Some(stopping) = self.stopping.filter(|stopping| !stopping.done) else { return };
        let leads = self.js.as_ref().is_some_and(|js| js.leads_others());
        if self.now.us < stopping.settled_us || (leads && self.now.us < stopping.deadline_us) {
            return;
        }
        self.stopping = Some(Stopping { done: true, ..stopping });
        self.say_goodbye(false);
        self.drain_system();
        self.front.close_all(self.now, "");
        self.effects.push_back(Effect::Stopped);
    }

    fn reload(&mut self, config: Arc<Config>) {
        self.accounts.reload(&config);
        self.config = Arc::clone(&config);
        self.front.reload(self.now, Arc::clone(&config));
        self.system.reload(&config);
        let facts = self.system.facts().clone();
        if let Some(js) = &mut self.js {
            js.reload(config, self.accounts.clone());
            js.set_facts(self.now, facts);
        }
        self.register_services();
        self.dial_routes();
        if self.me.core == LINK_CORE {
            let text = match self.config.digest.as_str() {
                "" => "Reloaded server configuration".to_string(),
                digest => format!("Reloaded server configuration ({digest})"),
            };
            self.effects.push_back(Effect::Log { level: Level::Info, text });
        }
    }
}
