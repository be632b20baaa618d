//! Makes the actions of a story happen, waits for what they cause, and says how long acknowledgements paused.
//!
//! Runs on the main thread, which alone starts servers. What does not come true in time is told and counted: a lab that
//! never recovered is not a success even if nothing got lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::board::Board;
use super::client::{APP, Client, Trouble};
use super::cluster::Cluster;
use super::load::STREAM;
use super::story::{Action, PARTITION_HOLD};

/// For a new leader and the next acknowledgement. Good is well under a second; this is when to give up.
const LEADER_PATIENCE: Duration = Duration::from_secs(20);

/// For servers that start and catch up, also in a debug build on a busy machine.
const WHOLE_PATIENCE: Duration = Duration::from_secs(60);

/// What cannot recover by itself is watched this long before the story goes on.
const STANDSTILL: Duration = Duration::from_secs(2);

/// Load between two actions, so that each shows in the figures alone.
const SETTLE: Duration = Duration::from_secs(1);

pub struct Play<'a> {
    cluster: &'a mut Cluster,
    board: Arc<Board>,
    /// Whether anything is published: without it acknowledgements cannot pause.
    load: bool,
    pub failures: u32,
}

impl<'a> Play<'a> {
    pub fn new(cluster: &'a mut Cluster, load: bool) -> Play<'a> {
        let board = cluster.board();
        Play { cluster, board, load, failures: 0 }
    }

    /// One action, to its end.
    pub fn perform(&mut self, action: &Action) {
        self.board.watch_pauses();
        let phase = std::mem::replace(&mut self.board.facts().phase, action.to_string());
        let done = match action {
            Action::KillLeader => self.kill_leader(),
            Action::Kill(name) => self.cluster.find(name).and_then(|at| self.kill(&[at])),
            Action::KillDc(dc) => self.cluster.of_dc(*dc).and_then(|all| self.kill(&all)),
            Action::Stop(name) => self.cluster.find(name).and_then(|at| self.stop(at)),
            Action::Restart(None) => self.restart_all(),
            Action::Restart(Some(name)) => self.cluster.find(name).and_then(|at| self.restart(at)),
            Action::PartitionDc(dc) => self.cluster.of_dc(*dc).and_then(|_| self.partition(*dc)),
            Action::Heal => self.heal(),
            Action::Stepdown => self.stepdown(),
            Action::Wait(time) => {
                self.idle(*time);
                Ok(())
            }
        };
        if let Err(why) = done
            && !self.board.stopping()
        {
            self.failures += 1;
            self.board.tell(format!("{action}: {why}"));
        }
        self.board.facts().phase = phase;
        if !matches!(action, Action::Wait(_)) {
            self.idle(SETTLE);
        }
    }

    /// Lets time pass and looks after the servers meanwhile.
    pub fn idle(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while Instant::now() < deadline && !self.board.stopping() {
            self.look_after();
            std::thread::sleep(Duration::from_millis(20).min(deadline.saturating_duration_since(Instant::now())));
        }
    }

    /// Servers that ended unasked are failures.
    pub fn look_after(&mut self) {
        for obituary in self.cluster.reap() {
            self.failures += 1;
            self.board.tell(obituary);
        }
    }

    /// Joins what was cut and starts what is down; true when all replicas are current then.
    pub fn mend(&mut self) -> bool {
        self.board.wan.heal();
        let started = self.start_down();
        started.is_ok() && self.wait_whole().is_ok()
    }

    fn kill_leader(&mut self) -> Result<(), String> {
        let leader = self.leader()?;
        let at = self.cluster.find(&leader)?;
        self.kill(&[at])
    }

    fn kill(&mut self, all: &[usize]) -> Result<(), String> {
        let before = self.board.facts().leader();
        let names: Vec<String> = all.iter().map(|at| self.cluster.servers[*at].name.clone()).collect();
        for at in all {
            self.cluster.kill(*at);
        }
        self.after_loss(&format!("killed {}", names.join(", ")), before, &names)
    }

    fn stop(&mut self, at: usize) -> Result<(), String> {
        let before = self.board.facts().leader();
        let name = self.cluster.servers[at].name.clone();
        if !self.cluster.stop(at) {
            return Err(format!("{name} did not stop within 10s and was killed"));
        }
        self.after_loss(&format!("stopped {name}"), before, &[name])
    }

    /// Waits until acknowledgements flow again and says what it cost.
    fn after_loss(&mut self, what: &str, before: Option<String>, gone: &[String]) -> Result<(), String> {
        let led = before.clone().filter(|leader| gone.contains(leader));
        let what = if led.is_some() { format!("{what} (leader)") } else { what.to_owned() };
        if !self.board.can_acknowledge() {
            self.idle(STANDSTILL);
            self.board.tell(format!("{what}; no majority of the stream's replicas is left: nothing is acknowledged"));
            return Ok(());
        }
        let start = Instant::now();
        let board = self.board.clone();
        let moved = board.wait(LEADER_PATIENCE, || {
            let leader = board.facts().leader();
            leader.is_some_and(|leader| !gone.contains(&leader))
        });
        if !moved {
            return Err(format!("{what}, and no new leader within {LEADER_PATIENCE:?}"));
        }
        let after = start.elapsed();
        self.wait_acks(&what)?;
        let leader = board.facts().leader().unwrap_or_default();
        let who = match led {
            Some(_) => format!("{leader} leads after {:.2}s", after.as_secs_f64()),
            None => format!("{leader} still leads"),
        };
        board.tell(format!("{what}: {who}{}", self.pause_text()));
        Ok(())
    }

    fn restart_all(&mut self) -> Result<(), String> {
        let start = Instant::now();
        let started = self.start_down()?;
        if started.is_empty() {
            self.board.tell("restart: no server is down");
            return Ok(());
        }
        self.back(&started.join(", "), start)
    }

    fn restart(&mut self, at: usize) -> Result<(), String> {
        let name = self.cluster.servers[at].name.clone();
        if self.cluster.is_running(at) {
            self.stop(at)?;
        }
        let start = Instant::now();
        self.cluster.start(at)?;
        self.back(&name, start)
    }

    /// While the WAN is cut nothing can be whole; then it is enough to run.
    fn back(&mut self, names: &str, start: Instant) -> Result<(), String> {
        if self.board.wan.is_cut() {
            self.idle(STANDSTILL);
            self.board.tell(format!("started {names}, behind the cut"));
            return Ok(());
        }
        self.wait_whole()?;
        self.board.tell(match self.board.can_acknowledge() {
            true => format!("started {names}: all current after {:.2}s", start.elapsed().as_secs_f64()),
            false => format!("started {names}; no majority of the stream's replicas runs yet"),
        });
        Ok(())
    }

    fn partition(&mut self, dc: u32) -> Result<(), String> {
        self.board.wan.cut();
        self.idle(PARTITION_HOLD);
        if self.board.can_acknowledge() {
            self.wait_acks(&format!("data center {dc} is cut off"))?;
        }
        self.board.tell(format!("cut data center {dc} off{}", self.pause_text()));
        Ok(())
    }

    fn heal(&mut self) -> Result<(), String> {
        let start = Instant::now();
        self.board.wan.heal();
        self.wait_whole()?;
        if !self.board.can_acknowledge() {
            self.board.tell("healed; no majority of the stream's replicas runs: nothing is acknowledged");
            return Ok(());
        }
        let all = self.start_acks();
        self.board.wait(LEADER_PATIENCE, || !self.load || self.acks_since(&all).iter().all(|more| *more));
        let text = format!("healed: all current after {:.2}s{}", start.elapsed().as_secs_f64(), self.pause_text());
        self.board.tell(text);
        Ok(())
    }

    fn stepdown(&mut self) -> Result<(), String> {
        let before = self.leader()?;
        let dc = self.cluster.servers[self.cluster.find(&before)?].dc;
        let mut asked = Err(Trouble("no server can be reached".into()));
        for addr in self.board.candidates(dc) {
            if let Ok(mut client) = Client::connect(addr, APP, "lab-story") {
                asked = client.api(&format!("STREAM.LEADER.STEPDOWN.{STREAM}"), &json!({}), Duration::from_secs(5));
                break;
            }
        }
        asked.map_err(|error| error.to_string())?;
        let board = self.board.clone();
        let start = Instant::now();
        let moved = board.wait(LEADER_PATIENCE, || board.facts().leader().is_some_and(|leader| leader != before));
        if !moved {
            return Err(format!("{before} still leads after {LEADER_PATIENCE:?}"));
        }
        let after = start.elapsed().as_secs_f64();
        self.wait_acks("stepped down")?;
        let leader = board.facts().leader().unwrap_or_default();
        board.tell(format!("{before} stepped down: {leader} leads after {after:.2}s{}", self.pause_text()));
        Ok(())
    }

    fn leader(&self) -> Result<String, String> {
        self.board.wait(LEADER_PATIENCE, || self.board.facts().leader().is_some());
        self.board.facts().leader().ok_or("the stream has no leader".to_owned())
    }

    fn start_down(&mut self) -> Result<Vec<String>, String> {
        self.look_after();
        let mut started = Vec::new();
        for at in 0..self.cluster.servers.len() {
            if !self.cluster.is_running(at) {
                self.cluster.start(at)?;
                started.push(self.cluster.servers[at].name.clone());
            }
        }
        Ok(started)
    }

    /// Every server that runs healthy, and every replica there current.
    fn wait_whole(&mut self) -> Result<(), String> {
        let board = self.board.clone();
        // What was seen before does not count: a server that has just started has not been looked at yet.
        let (start, failures) = (Instant::now(), self.failures);
        let whole = board.wait(WHOLE_PATIENCE, || {
            self.look_after();
            if self.failures > failures {
                return true;
            }
            start.elapsed() > Duration::from_millis(300) && board.is_whole()
        });
        match whole {
            true if self.failures > failures => Err("a server ended meanwhile".into()),
            true => Ok(()),
            false => Err(format!("not whole after {WHOLE_PATIENCE:?}: {}", self.what_is_missing())),
        }
    }

    fn what_is_missing(&self) -> String {
        let facts = self.board.facts();
        let mut missing: Vec<String> = Vec::new();
        for (place, server) in self.board.places.iter().zip(&facts.servers).filter(|(_, server)| !server.healthy) {
            missing.push(format!("{} {}", place.name, if server.running { &server.complaint } else { "is down" }));
        }
        match facts.view() {
            Some(view) if view.leader.is_none() => missing.push("the stream has no leader".into()),
            Some(view) => missing.extend(
                view.replicas
                    .iter()
                    .filter(|r| !r.keeps_up(self.board.under_way()))
                    .map(|r| format!("{} is {} entries behind", r.name, r.lag)),
            ),
            None => missing.push("nobody answers for the stream".into()),
        }
        missing.join("; ")
    }

    fn start_acks(&self) -> Vec<u64> {
        self.board.facts().meters.iter().map(|meter| meter.acked).collect()
    }

    /// By data center: whether anything was acknowledged since.
    fn acks_since(&self, before: &[u64]) -> Vec<bool> {
        self.board.facts().meters.iter().zip(before).map(|(meter, before)| meter.acked > *before).collect()
    }

    fn wait_acks(&mut self, what: &str) -> Result<(), String> {
        let before = self.start_acks();
        let flows = self.board.wait(LEADER_PATIENCE, || !self.load || self.acks_since(&before).contains(&true));
        if flows { Ok(()) } else { Err(format!("{what}, and nothing was acknowledged for {LEADER_PATIENCE:?}")) }
    }

    fn pause_text(&self) -> String {
        if !self.load {
            return String::new();
        }
        let each: Vec<String> =
            self.board.pauses().iter().map(|(dc, pause)| format!("{:.2}s in dc {dc}", pause.as_secs_f64())).collect();
        format!(", acks paused {}", each.join(", "))
    }
}
