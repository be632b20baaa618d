//! Leaving gently: clients are told at once, and closed one after the other, so that the other servers are not all
//! reconnected to in the same moment.

use super::close::CloseReason;
use super::conn::Conn;
use super::front::Front;
use super::output::Level;
use crate::ids::Now;

/// Longest pause between two closes: with few clients there is no need to take the whole time (peer: 1 s).
const PAUSE_US_MAX: u64 = 1_000_000;

/// Where the leaving stands.
#[derive(Debug)]
pub(super) struct LameDuck {
    /// When the next client is closed; `None` once all are.
    pub next_us: Option<u64>,
    /// Said in the log when the first one is.
    begun: bool,
    /// Between two closes; 0 closes all at once.
    pause_us: u64,
}

impl Front {
    /// Begins to leave. Clients that understand it are told; the first is closed after the grace period, the last
    /// before the configured duration is over.
    pub fn lame_duck(&mut self, now: Now) {
        if self.lame_duck.is_some() {
            return;
        }
        let duck = &self.config.lame_duck;
        let grace_us = duck.grace_period.as_micros() as u64;
        let rest_us = (duck.duration.as_micros() as u64).saturating_sub(grace_us);
        let pause_us = rest_us.checked_div(u64::from(self.open)).unwrap_or(0).min(PAUSE_US_MAX);
        self.lame_duck = Some(LameDuck { next_us: Some(now.us + grace_us), begun: false, pause_us });
        self.tell_clients();
    }

    /// The cluster's name, as INFO shows it, has changed.
    pub fn name_cluster(&mut self, name: &str) {
        self.options.cluster = Some(name.to_owned());
        self.tell_clients();
    }

    /// Whether a client can be told things at any time; `None` when there is none of that number.
    pub fn listens(&self, cid: u64) -> Option<bool> {
        let slot = self.slot_of(cid)?;
        self.conns.get(slot as usize)?.as_ref().map(listens)
    }

    /// Tells one client to look for another server, if it listens.
    pub fn lame_duck_client(&mut self, cid: u64) {
        let Some(slot) = self.slot_of(cid).filter(|_| self.listens(cid) == Some(true)) else { return };
        let before = self.lame_duck.take();
        self.lame_duck = Some(LameDuck { next_us: None, begun: true, pause_us: 0 });
        self.send_info(slot, false);
        self.lame_duck = before;
    }

    /// Whether this core is leaving and has closed its last client.
    pub fn lame_duck_done(&self) -> bool {
        self.lame_duck.as_ref().is_some_and(|duck| duck.begun) && self.open == 0
    }

    /// The client URLs of the other servers changed: clients that understand it hear it at once.
    pub fn cluster_urls(&mut self, _now: Now, urls: Vec<String>) {
        if urls != self.other_urls {
            self.other_urls = urls;
            self.tell_clients();
        }
    }

    /// Closes whose turn it is.
    pub(super) fn lame_duck_step(&mut self, now: Now) {
        while let Some(duck) = &mut self.lame_duck
            && duck.next_us.is_some_and(|due| due <= now.us)
        {
            let first = !std::mem::replace(&mut duck.begun, true);
            let pause_us = duck.pause_us;
            if first && self.owns_links() {
                self.log(Level::Info, || "Closing existing clients".to_string());
            }
            if let Some(slot) = self.next_to_leave() {
                self.close(now, slot, CloseReason::Shutdown);
            }
            // Between half the pause and all of it, by lot.
            let wait_us = pause_us / 2 + self.lot.below(pause_us - pause_us / 2);
            let next_us = self.next_to_leave().map(|_| now.us + wait_us);
            if let Some(duck) = &mut self.lame_duck {
                duck.next_us = next_us;
            }
        }
    }

    /// A client that came from another core when this one had closed all of its own.
    pub(super) fn lame_duck_late(&mut self, now: Now) {
        if let Some(duck) = &mut self.lame_duck {
            duck.next_us.get_or_insert(now.us);
        }
    }

    /// An open client whose end is not decided yet.
    fn next_to_leave(&self) -> Option<u32> {
        let stays = |conn: &Option<Conn>| conn.as_ref().is_some_and(|conn| conn.is_open() && conn.fate.is_none());
        self.conns.iter().position(stays).map(|slot| slot as u32)
    }

    /// INFO to everybody who has said that it may come at any time.
    fn tell_clients(&mut self) {
        for slot in 0..self.conns.len() as u32 {
            if self.conn(slot).is_some_and(|conn| listens(conn)) {
                self.send_info(slot, false);
            }
        }
    }
}

/// It has said that INFO may come at any time.
fn listens(conn: &Conn) -> bool {
    conn.is_open() && conn.connected && conn.greeted && conn.connect.protocol >= 1
}
