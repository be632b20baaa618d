//! What goes wrong, one thing at a time, while the storm lasts.
//!
//! Damage that takes data away (flipped bits, writes that fail) hits one server per run, so that every record is still
//! good somewhere. No space hits one or two. Everything that only takes time away hits anybody.

use trestle::event::{Admin, Event};

use crate::mutants::Mutant;
use crate::people::STREAMS;
use crate::world::{Happening, World};

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Crash,
    CrashAll,
    Stop,
    Pause,
    Cut,
    OneWay,
    Isolate,
    Heal,
    Reset,
    Stall,
    Clock,
    Full,
    Failing,
    Rot,
    Wipe,
    Reload,
}

impl World {
    /// Faults begin.
    pub fn begin_storm(&mut self) {
        self.storm = true;
        self.after(10_000, Happening::Fault);
    }

    /// Faults end: everything that is broken by hand is mended, and everybody comes back.
    pub fn end_storm(&mut self) {
        self.storm = false;
        self.net.lossy_percent = 0;
        self.heal_cuts();
        for at in 0..self.servers.len() {
            let server = &mut self.servers[at];
            server.paused_until = server.paused_until.min(self.now_us);
            for core in &mut server.cores {
                core.disk.sickness = crate::disk::Sickness::default();
            }
            if !server.running && !std::mem::replace(&mut server.returning, true) {
                self.after(1_000, Happening::Start { server: at });
            }
        }
        for actor in &mut self.people.actors {
            actor.calm = true;
        }
    }

    pub(crate) fn on_fault(&mut self) {
        if !self.storm {
            return;
        }
        self.figures.faults += 1;
        if self.options.mutant == Some(Mutant::ClockAhead) {
            self.servers.iter_mut().for_each(|server| server.wall_shift_ns += 3_600_000_000_000);
        }
        let kinds = self.kinds();
        if !kinds.is_empty() {
            let fault = self.fault_dice.pick(&kinds);
            self.strike(fault);
        }
        let pause = self.fault_dice.between(20_000, 700_000);
        self.after(pause, Happening::Fault);
    }

    fn kinds(&self) -> Vec<Fault> {
        let faults = self.options.faults;
        let mut kinds = Vec::new();
        let mut allow = |on: bool, list: &[Fault]| kinds.extend(list.iter().copied().filter(|_| on));
        allow(faults.crash, &[Fault::Crash, Fault::Crash, Fault::Crash, Fault::CrashAll]);
        allow(faults.stop, &[Fault::Stop]);
        allow(faults.pause, &[Fault::Pause]);
        allow(faults.partition, &[Fault::Cut, Fault::OneWay, Fault::Isolate, Fault::Heal, Fault::Heal, Fault::Reset]);
        allow(faults.stall, &[Fault::Stall]);
        allow(faults.clock, &[Fault::Clock]);
        allow(faults.full, &[Fault::Full]);
        allow(faults.failing, &[Fault::Failing]);
        allow(faults.rot, &[Fault::Rot]);
        // Of two servers neither can do without what the other one knew.
        allow(faults.wipe && !self.wiped && self.servers.len() > 2, &[Fault::Wipe]);
        allow(faults.reload, &[Fault::Reload]);
        kinds
    }

    fn strike(&mut self, fault: Fault) {
        let servers = self.servers.len();
        let at = self.fault_dice.below(servers as u64) as usize;
        let other = (at + 1 + self.fault_dice.below(servers as u64 - 1) as usize) % servers;
        self.trace.note(self.now_us, &self.servers[at].name, &format!("fault: {fault:?}"));
        match fault {
            Fault::Crash => self.crash(at, "loses power"),
            Fault::CrashAll if self.fault_dice.chance(30) => {
                for one in 0..servers {
                    self.crash(one, "loses power with all others");
                }
            }
            Fault::CrashAll => {}
            Fault::Stop => self.stop(at),
            Fault::Pause => {
                let until = self.now_us + self.fault_dice.between(50_000, 3_000_000);
                self.servers[at].paused_until = until;
                for peer in 0..servers {
                    self.silence(at, peer, until);
                }
            }
            Fault::Cut => {
                self.cut(at, other);
                self.cut(other, at);
            }
            Fault::OneWay => self.cut(at, other),
            Fault::Isolate => {
                for one in (0..servers).filter(|one| *one != at) {
                    self.cut(at, one);
                    self.cut(one, at);
                }
            }
            Fault::Heal => self.heal_cuts(),
            Fault::Reset => self.break_link(at, other, "connection reset"),
            Fault::Stall => {
                let until = self.now_us + self.fault_dice.between(100_000, 3_000_000);
                self.each_disk(at, |sickness| sickness.stalled_until = until);
            }
            Fault::Clock => {
                let hour_ns = 3_600_000_000_000;
                self.servers[at].wall_shift_ns = self.fault_dice.below(2 * hour_ns as u64) as i64 - hour_ns;
                // A jump is longer than the ids of a stream with an age are remembered.
                self.oracle.streams.values_mut().filter(|story| story.age_us > 0).for_each(|story| story.lossy = true);
            }
            Fault::Full => {
                let full = self.fault_dice.chance(60);
                self.full_disks().into_iter().for_each(|one| self.each_disk(one, |sickness| sickness.full = full));
            }
            Fault::Failing => {
                let victim = self.victim();
                self.servers[victim].excused = true;
                self.each_disk(victim, |sickness| sickness.failing = true);
            }
            Fault::Rot => self.strike_rot(),
            Fault::Wipe => self.strike_wipe(),
            Fault::Reload => self.reload(at),
        }
    }

    /// Whoever had rotten bytes starts once more, so that all of them are met.
    pub fn look_again(&mut self) {
        self.crash(self.victim(), "restarts and reads its log");
    }

    fn each_disk(&mut self, server: usize, mut change: impl FnMut(&mut crate::disk::Sickness)) {
        for core in &mut self.servers[server].cores {
            change(&mut core.disk.sickness);
        }
    }

    /// A paused process answers no pings: if it lasts, its links break.
    fn silence(&mut self, at: usize, peer: usize, until_us: u64) {
        let generation = self.net.generation(at, peer);
        let notice = self.fault_dice.between(700_000, 1_200_000);
        if at != peer && generation != 0 && until_us > self.now_us + notice {
            self.after(notice, Happening::LinkBreaks { a: at, b: peer, generation });
        }
    }

    /// The one server whose storage may be damaged in this run.
    pub(crate) fn victim(&self) -> usize {
        (self.options.seed % self.servers.len() as u64) as usize
    }

    /// Space takes nothing away: in every second run two servers have none at the same time, of three a majority.
    fn full_disks(&self) -> Vec<usize> {
        let servers = self.servers.len();
        let two = self.options.seed / servers as u64 % 2 == 1;
        let next = (self.victim() + 1) % servers;
        [self.victim(), next].into_iter().take(if two { 2 } else { 1 }).collect()
    }

    fn strike_rot(&mut self) {
        let victim = self.victim();
        let core = self.fault_dice.below(self.servers[victim].cores.len() as u64) as usize;
        let server = &mut self.servers[victim];
        server.excused = true;
        if let Some(place) = server.cores[core].disk.rot(&mut self.fault_dice) {
            let text = format!("a bit of core {core} flips: {place}");
            self.trace.note(self.now_us, &server.name, &text);
            if self.options.mutant == Some(Mutant::TailCut) {
                self.cut_tail(victim, core, &place);
            }
        }
        self.excuse_single_copies();
    }

    /// A replica of one has no other copy.
    fn excuse_single_copies(&mut self) {
        for plan in STREAMS {
            let alone = plan.replicas == 1 || self.options.faults.edits && plan.name == "E3";
            if let Some(story) = self.oracle.streams.get_mut(plan.name).filter(|_| alone) {
                story.lossy = true;
            }
        }
    }

    /// One server dies and comes back with an empty disk: it must be filled from the others and take nothing from them.
    fn strike_wipe(&mut self) {
        let victim = self.victim();
        self.wiped = true;
        self.note_lost_groups(victim);
        self.crash(victim, "loses its disk");
        self.servers[victim].wipe();
    }

    /// An operator changes a server's tags and has the configuration read again.
    fn reload(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let mut config = (*server.config).clone();
        config.server_tags = vec![format!("az:{at}"), format!("mood:{}", self.fault_dice.below(5))];
        server.config = std::sync::Arc::new(config);
        let (config, life) = (server.config.clone(), server.life);
        for core in 0..self.servers[at].cores.len() {
            let reload = Event::Admin(Admin::Reload(config.clone()));
            self.hand_in(at, core as trestle::ids::CoreId, life, reload);
        }
    }

    /// The mutant's idea of repair: what stands behind the damage is thrown away.
    fn cut_tail(&mut self, victim: usize, core: usize, place: &str) {
        let Some((name, at)) = place.split_once(" at ") else { return };
        let Some(at) = at.parse::<usize>().ok().map(|at| at / storage::BLOCK * storage::BLOCK) else { return };
        for server in 0..self.servers.len() {
            let cut = self.servers[server].cores[core].disk.files.iter_mut().find(|(file, _)| file.name() == name);
            if let Some((_, data)) = cut.filter(|_| server == victim || self.options.mutant.is_some())
                && let Some(tail) = data.get_mut(at..)
            {
                tail.fill(0);
            }
            self.crash(server, "restarts and cuts its log");
        }
    }

    /// A process that goes takes its memories along: if another one has not got its own back, a majority may be gone.
    pub(crate) fn note_memory(&mut self, at: usize) {
        if self.servers[at].running && !self.memories_whole_without(at) {
            self.memory_void = true;
            for story in self.oracle.streams.values_mut().filter(|story| story.memory) {
                story.lossy = true;
            }
        }
    }
}
