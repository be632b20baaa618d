//! What everybody in the lab knows: who stands where, what the servers and the load last said, what happened.
//!
//! One lock around plain facts. Threads write what they see and read what they need; nobody waits while holding it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::wan::Wan;

/// Latencies above this are shown as this: an outage is told in words.
const LATENCY_MAX_US: u64 = 60_000_000;

/// The answers of a while ago say nothing about now.
const VIEW_LIFE: Duration = Duration::from_secs(3);

/// Where a server stands; fixed.
#[derive(Debug, Clone)]
pub struct Place {
    pub name: String,
    pub dc: u32,
    pub client: SocketAddr,
}

#[derive(Debug, Clone, Default)]
pub struct ServerFacts {
    pub running: bool,
    /// Its own health page says so.
    pub healthy: bool,
    /// What the page says instead.
    pub complaint: String,
}

/// The stream as a server of one data center describes it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StreamView {
    pub leader: Option<String>,
    /// Replicas beside the leader (all of them when there is no leader).
    pub replicas: Vec<Replica>,
    pub messages: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Replica {
    pub name: String,
    pub current: bool,
    pub offline: bool,
    /// Entries behind, when the leader says so.
    pub lag: u64,
}

impl Replica {
    /// Has what the leader has, but for `under_way` entries that may be on the WAN right now.
    pub fn keeps_up(&self, under_way: u64) -> bool {
        !self.offline && (self.current || (1..=under_way).contains(&self.lag))
    }
}

impl StreamView {
    pub fn members(&self) -> impl Iterator<Item = &str> {
        self.leader.iter().map(String::as_str).chain(self.replicas.iter().map(|replica| replica.name.as_str()))
    }
}

/// What the publishers of one data center count.
pub struct Meter {
    pub dc: u32,
    pub acked: u64,
    pub in_flight: usize,
    pub retries: u64,
    /// Since it was last taken, and in all.
    recent: Histogram<u32>,
    pub total: Histogram<u32>,
    last_ack: Instant,
    pause_max: Duration,
}

impl Meter {
    fn new(dc: u32) -> Meter {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("constant bounds");
        let (recent, total) = (histogram(), histogram());
        let last_ack = Instant::now();
        Meter { dc, acked: 0, in_flight: 0, retries: 0, recent, total, last_ack, pause_max: Duration::ZERO }
    }

    pub fn on_ack(&mut self, now: Instant, latency: Duration) {
        let latency_us = latency.as_micros().clamp(1, u128::from(LATENCY_MAX_US)) as u64;
        self.recent.saturating_record(latency_us);
        self.total.saturating_record(latency_us);
        self.acked += 1;
        self.pause_max = self.pause_max.max(now.saturating_duration_since(self.last_ack));
        self.last_ack = now;
    }
}

/// Median and 99th percentile.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latency {
    pub p50: Duration,
    pub p99: Duration,
}

impl Latency {
    pub fn of<'a>(histograms: impl Iterator<Item = &'a Histogram<u32>>) -> Option<Latency> {
        let mut sum: Option<Histogram<u32>> = None;
        for histogram in histograms {
            match &mut sum {
                Some(sum) => sum.add(histogram).expect("the same bounds"),
                None => sum = Some(histogram.clone()),
            }
        }
        let sum = sum.filter(|sum| !sum.is_empty())?;
        let at = |quantile| Duration::from_micros(sum.value_at_quantile(quantile));
        Some(Latency { p50: at(0.5), p99: at(0.99) })
    }
}

#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// Different messages seen.
    pub seen: u64,
    pub redelivered: u64,
    /// Every sequence up to this was seen.
    pub floor: u64,
}

pub struct Facts {
    pub servers: Vec<ServerFacts>,
    /// By data center, as its servers see the stream.
    views: Vec<(u32, Instant, StreamView)>,
    /// The stream's servers, as last heard.
    members: Vec<String>,
    pub meters: Vec<Meter>,
    pub reading: Reading,
    pub events: Vec<(Duration, String)>,
    /// What the lab is doing now, for the head of the picture.
    pub phase: String,
}

impl Facts {
    /// The stream as the data center sees it that has its leader; else as anybody does.
    pub fn view(&self) -> Option<&StreamView> {
        let fresh = || self.views.iter().filter(|(_, at, _)| at.elapsed() < VIEW_LIFE).map(|(_, _, view)| view);
        // A cut-off leader may not know it yet: the one that stores more is the one that goes on.
        fresh().filter(|view| view.leader.is_some()).max_by_key(|view| view.messages).or(fresh().next())
    }

    pub fn leader(&self) -> Option<String> {
        self.view().and_then(|view| view.leader.clone())
    }

    pub fn see(&mut self, dc: u32, view: StreamView) {
        self.views.retain(|(other, ..)| *other != dc);
        if view.leader.is_some() {
            self.members = view.members().map(str::to_owned).collect();
        }
        self.views.push((dc, Instant::now(), view));
    }

    /// A server that was killed does not lead, whatever the others still believe.
    fn forget_leader(&mut self, name: &str) {
        for (_, _, view) in &mut self.views {
            view.leader.take_if(|leader| leader.as_str() == name);
        }
    }

    pub fn acked(&self) -> u64 {
        self.meters.iter().map(|meter| meter.acked).sum()
    }

    /// Latency since the last call.
    pub fn take_recent(&mut self) -> Option<Latency> {
        let latency = Latency::of(self.meters.iter().map(|meter| &meter.recent));
        self.meters.iter_mut().for_each(|meter| meter.recent.reset());
        latency
    }
}

pub struct Board {
    pub places: Vec<Place>,
    pub dcs: Vec<u32>,
    pub wan: Wan,
    pub started: Instant,
    /// Ctrl-C: everybody ends what they do.
    pub stop: AtomicBool,
    /// No new messages; what is under way is finished.
    pub load_over: AtomicBool,
    /// Everything was acknowledged or given up: the reader ends when it has seen it all.
    pub publishers_done: AtomicBool,
    /// Events are printed as they happen (no terminal).
    pub plain: bool,
    /// Entries that the load keeps on their way between the data centers.
    under_way: u64,
    facts: Mutex<Facts>,
}

impl Board {
    pub fn new(places: Vec<Place>, wan: Wan, under_way: u64, plain: bool) -> Board {
        let mut dcs: Vec<u32> = places.iter().map(|place| place.dc).collect();
        dcs.sort_unstable();
        dcs.dedup();
        let facts = Facts {
            servers: vec![ServerFacts::default(); places.len()],
            views: Vec::new(),
            members: Vec::new(),
            meters: dcs.iter().map(|dc| Meter::new(*dc)).collect(),
            reading: Reading::default(),
            events: Vec::new(),
            phase: String::new(),
        };
        Board {
            places,
            dcs,
            wan,
            started: Instant::now(),
            stop: AtomicBool::new(false),
            load_over: AtomicBool::new(false),
            publishers_done: AtomicBool::new(false),
            plain,
            under_way,
            facts: Mutex::new(facts),
        }
    }

    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn load_is_over(&self) -> bool {
        self.load_over.load(Ordering::Relaxed) || self.stopping()
    }

    /// By how many entries a replica may be behind and yet keep up.
    pub fn under_way(&self) -> u64 {
        if self.load_is_over() { 0 } else { self.under_way }
    }

    pub fn mark_down(&self, at: usize) {
        let mut facts = self.facts();
        (facts.servers[at].running, facts.servers[at].healthy) = (false, false);
        facts.forget_leader(&self.places[at].name);
    }

    /// Notes what a server said about the stream, unless it names a leader that is down.
    pub fn see(&self, dc: u32, mut view: StreamView) {
        let mut facts = self.facts();
        let down = |name: &str| {
            let at = self.places.iter().position(|place| place.name == name);
            at.is_some_and(|at| !facts.servers[at].running)
        };
        view.leader.take_if(|leader| down(leader));
        facts.see(dc, view);
    }

    /// Something happened that a person wants to know.
    pub fn tell(&self, text: impl Into<String>) {
        let (at, text) = (self.started.elapsed(), text.into());
        if self.plain {
            println!("[{:6.1}s] {text}", at.as_secs_f64());
        }
        self.facts().events.push((at, text));
    }

    /// What goes on from here.
    pub fn phase(&self, text: &str) {
        self.facts().phase = text.to_owned();
        self.tell(text);
    }

    /// Waits, in small steps, until something is true; false when it does not become so in time or all is to end.
    pub fn wait(&self, patience: Duration, mut done: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if done() {
                return true;
            }
            if self.stopping() || Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Servers that a client in `dc` would try, its own data center first. The others only while the WAN stands.
    pub fn candidates(&self, dc: u32) -> Vec<SocketAddr> {
        let near = self.places.iter().filter(|place| place.dc == dc);
        let far = self.places.iter().filter(|place| place.dc != dc && !self.wan.is_cut());
        near.chain(far).map(|place| place.client).collect()
    }

    /// From here on the longest time without an acknowledgement is measured anew.
    pub fn watch_pauses(&self) {
        let now = Instant::now();
        for meter in &mut self.facts().meters {
            (meter.last_ack, meter.pause_max) = (now, Duration::ZERO);
        }
    }

    /// The longest pause since, by data center; one that still lasts counts as well.
    pub fn pauses(&self) -> Vec<(u32, Duration)> {
        let facts = self.facts();
        facts.meters.iter().map(|meter| (meter.dc, meter.pause_max.max(meter.last_ack.elapsed()))).collect()
    }

    /// Every server that runs is healthy, the stream is led, and its replicas there keep up. Without a majority none of
    /// that can be, and nothing is left to wait for.
    pub fn is_whole(&self) -> bool {
        if !self.can_acknowledge() {
            return true;
        }
        let facts = self.facts();
        let running = |name: &str| {
            self.places.iter().zip(&facts.servers).any(|(place, server)| place.name == name && server.running)
        };
        let up = facts.servers.iter().filter(|server| server.running).count();
        let formed = up > facts.servers.len() / 2;
        let healthy = facts.servers.iter().all(|server| server.healthy || !server.running);
        let in_step = facts.view().is_some_and(|view| {
            let mut replicas = view.replicas.iter().filter(|replica| running(&replica.name));
            view.leader.is_some() && replicas.all(|replica| replica.keeps_up(self.under_way()))
        });
        (healthy || !formed) && in_step
    }

    /// Whether the reachable part of any data center, or all of them together, holds a majority of the stream.
    pub fn can_acknowledge(&self) -> bool {
        let facts = self.facts();
        let members = &facts.members;
        let alive = |dc: Option<u32>| {
            let here = |at: &usize| dc.is_none_or(|dc| self.places[*at].dc == dc) && facts.servers[*at].running;
            let up = (0..self.places.len()).filter(here);
            up.filter(|at| members.contains(&self.places[*at].name)).count()
        };
        let most =
            if self.wan.is_cut() { self.dcs.iter().map(|dc| alive(Some(*dc))).max().unwrap_or(0) } else { alive(None) };
        most > members.len() / 2
    }
}

#[cfg(test)]
mod tests {
    use super::super::wan::Weather;
    use super::*;

    fn board() -> Board {
        let place = |name: &str, dc| Place { name: name.into(), dc, client: "127.0.0.1:1".parse().unwrap() };
        let board =
            Board::new(vec![place("a", 1), place("b", 1), place("c", 2)], Wan::new(Weather::default()), 5, false);
        let replica = |name: &str| Replica { name: name.into(), current: true, offline: false, lag: 0 };
        let view = StreamView { leader: Some("a".into()), replicas: vec![replica("b"), replica("c")], messages: 1 };
        let mut facts = board.facts();
        facts.see(1, view);
        facts.servers.iter_mut().for_each(|server| server.running = true);
        drop(facts);
        board
    }

    #[test]
    fn a_majority_must_be_together_to_acknowledge() {
        let board = board();
        assert!(board.can_acknowledge());
        board.wan.cut();
        assert!(board.can_acknowledge(), "two of three stand in data center 1");
        board.facts().servers[0].running = false;
        assert!(!board.can_acknowledge());
        board.wan.heal();
        assert!(board.can_acknowledge());
    }

    #[test]
    fn the_view_with_a_leader_and_more_messages_counts() {
        let board = board();
        let mut facts = board.facts();
        facts.see(2, StreamView { leader: None, replicas: Vec::new(), messages: 9 });
        assert_eq!(facts.leader().as_deref(), Some("a"));
        facts.see(2, StreamView { leader: Some("c".into()), replicas: Vec::new(), messages: 9 });
        assert_eq!(facts.leader().as_deref(), Some("c"));
    }

    #[test]
    fn a_leader_that_is_down_is_not_believed_in() {
        let board = board();
        let view = board.facts().view().unwrap().clone();
        board.mark_down(0);
        assert_eq!(board.facts().leader(), None);
        board.see(2, view);
        assert_eq!(board.facts().leader(), None);
    }

    #[test]
    fn a_replica_may_be_behind_by_what_is_under_way() {
        let replica = |current, offline, lag| Replica { name: "b".into(), current, offline, lag };
        assert!(replica(true, false, 0).keeps_up(0));
        assert!(replica(false, false, 5).keeps_up(5));
        assert!(!replica(false, false, 6).keeps_up(5));
        assert!(!replica(false, false, 0).keeps_up(5), "nothing is known of it");
        assert!(!replica(true, true, 0).keeps_up(5));
    }

    #[test]
    fn whole_means_that_all_who_run_are_well_and_in_step() {
        let board = board();
        let heal = |healthy: bool| board.facts().servers.iter_mut().for_each(|server| server.healthy = healthy);
        assert!(!board.is_whole(), "nobody is healthy");
        heal(true);
        assert!(board.is_whole());
        let view = |lag| {
            let replica = |name: &str, lag| Replica { name: name.into(), current: lag == 0, offline: false, lag };
            StreamView { leader: Some("a".into()), replicas: vec![replica("b", lag), replica("c", 0)], messages: 1 }
        };
        board.see(1, view(6));
        assert!(!board.is_whole(), "b is behind by more than what is under way");
        board.mark_down(1);
        assert!(board.is_whole(), "b does not run");
        board.mark_down(2);
        heal(false);
        assert!(board.is_whole(), "one of three can be neither healthy nor leader");
    }

    #[test]
    fn pauses_are_the_longest_time_between_two_acknowledgements() {
        let board = board();
        let start = Instant::now();
        {
            let mut facts = board.facts();
            facts.meters[0].last_ack = start;
            for ms in [10, 20, 320, 330] {
                facts.meters[0].on_ack(start + Duration::from_millis(ms), Duration::from_millis(1));
            }
            assert_eq!(facts.acked(), 4);
        }
        assert_eq!(board.facts().meters[0].pause_max, Duration::from_millis(300));
        let since = Instant::now();
        board.watch_pauses();
        let (pause, at_most) = (board.pauses()[0].1, since.elapsed());
        assert!(pause <= at_most, "what was before does not count: {pause:?}");
    }

    #[test]
    fn clients_try_their_own_data_center_first_and_the_other_unless_it_is_cut_off() {
        let board = board();
        assert_eq!(board.candidates(2).len(), 3);
        board.wan.cut();
        assert_eq!(board.candidates(2).len(), 1);
    }
}
