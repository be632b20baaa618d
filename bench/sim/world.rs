//! The shell of the simulator: servers, links, disks and people under one seeded clock.
//!
//! ```text
//!  queue ──► next happening ──► inbox of a core ──► turn: handle … poll_effect ──► net, disk, people ──► queue
//! ```
//! A core's events gather until its turn, as they do under the real shell. Nothing here sleeps or asks the machine for
//! anything: equal options give equal worlds, byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use net::peer::lane::Lane;
use storage::DiskOpKind;
use trestle::event::{Admin, Effect, Event, Level, Mail};
use trestle::ids::{CoreId, GroupId, ServerId};
use trestle::shard::LINK_CORE;

use crate::dice::Dice;
use crate::lost::Known;
use crate::mutants::Mutant;
use crate::net::Net;
use crate::options::Options;
use crate::oracle::Oracle;
use crate::people::People;
use crate::server::Server;
use crate::trace::Trace;

/// How long after a process dies an operator (or its unit file) starts it again when nothing else is planned.
const RESTART_US: u64 = 1_000_000;

/// Turns without events and effects, one behind the other, that a core may make: beyond it, it spins.
const IDLE_TURNS_MAX: u32 = 2_000;

pub struct World {
    pub options: Options,
    pub now_us: u64,
    pub servers: Vec<Server>,
    pub net: Net,
    pub people: People,
    post: Post,
    pub oracle: Oracle,
    pub trace: Trace,
    pub dice: Dice,
    /// Who was seen to lead a group in a term.
    pub leaders: BTreeMap<(GroupId, u64), ServerId>,
    /// A majority of the memories of some group may have gone.
    pub memory_void: bool,
    pub figures: Figures,
    pub(crate) fault_dice: Dice,
    pub(crate) storm: bool,
    /// A server has lost its disk; one per run.
    pub(crate) wiped: bool,
    /// By server: what its replicas knew of their groups when it was last looked at.
    pub(crate) known: Vec<BTreeMap<GroupId, Known>>,
    pub(crate) lost_groups: BTreeSet<GroupId>,
    queue: BTreeMap<(u64, u64), Happening>,
    sequence: u64,
    idle_turns: BTreeMap<(usize, CoreId), u32>,
}

/// What happened in a run, for people.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Figures {
    pub happenings: u64,
    pub turns: u64,
    pub frames: u64,
    pub disk_ops: u64,
    pub crashes: u64,
    pub faults: u64,
    /// Connections that moved from core to core.
    pub moves: u64,
}

/// Mail between the cores of a server where it takes its time: in order per pair of cores, late by lot.
struct Post {
    dice: Dice,
    /// When the last letter from one core to another arrives.
    last_us: BTreeMap<(usize, CoreId, CoreId), u64>,
}

/// How long a letter takes at most there, microseconds: a core that has to wait for its processor.
const MAIL_US_MAX: u64 = 150;

impl Post {
    fn new(seed: u64) -> Post {
        Post { dice: Dice::new(seed ^ 0x0f0f_1e1e_2d2d_3c3c), last_us: BTreeMap::new() }
    }

    fn arrival(&mut self, now_us: u64, lane: (usize, CoreId, CoreId)) -> u64 {
        let due = now_us + self.dice.between(3, MAIL_US_MAX);
        let last = self.last_us.entry(lane).or_default();
        *last = due.max(*last);
        *last
    }
}

/// Something that is due.
#[derive(Debug)]
pub(crate) enum Happening {
    Turn { server: usize, core: CoreId, life: u32 },
    Disk { server: usize, core: CoreId, life: u32, number: u64, early: bool },
    Core { server: usize, core: CoreId, life: u32, event: Box<Event> },
    Frame { generation: u64, from: usize, to: usize, lane: Lane, frame: Bytes },
    Link { a: usize, b: usize },
    LinkBreaks { a: usize, b: usize, generation: u64 },
    Rtt { a: usize, b: usize, generation: u64 },
    ToServer { actor: usize, session: u64, bytes: Bytes },
    ToClient { actor: usize, session: u64, bytes: Bytes },
    Hangup { actor: usize, session: u64 },
    Connect { actor: usize },
    Tick { actor: usize },
    Start { server: usize },
    StopIsLate { server: usize, life: u32 },
    Fault,
}

impl World {
    pub fn new(options: Options) -> World {
        let mut dice = Dice::new(options.seed);
        let servers = (0..options.servers).map(|number| Server::new(number, &options)).collect();
        let mut oracle = Oracle::default();
        let people = People::new(&mut dice.fork(), &mut oracle, &options);
        let mut world = World {
            now_us: 1_000,
            net: Net::new(options.servers, &mut dice, &options),
            servers,
            people,
            post: Post::new(options.seed),
            oracle,
            trace: Trace::new(options.trace),
            leaders: BTreeMap::new(),
            memory_void: false,
            figures: Figures::default(),
            fault_dice: dice.fork(),
            storm: false,
            wiped: false,
            known: vec![BTreeMap::new(); options.servers],
            lost_groups: BTreeSet::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            idle_turns: BTreeMap::new(),
            dice,
            options,
        };
        for server in 0..world.servers.len() {
            let at = world.dice.below(20_000);
            world.after(at, Happening::Start { server });
        }
        for actor in 0..world.people.len() {
            world.after(50_000, Happening::Connect { actor });
        }
        world
    }

    pub(crate) fn after(&mut self, us: u64, happening: Happening) {
        self.at(self.now_us + us, happening);
    }

    pub(crate) fn at(&mut self, us: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((us.max(self.now_us), self.sequence), happening);
    }

    /// Runs until `until_us` or the first violation.
    pub fn run_until(&mut self, until_us: u64) {
        while self.oracle.violations.is_empty() {
            let Some(key) = self.queue.keys().next().copied().filter(|key| key.0 <= until_us) else { break };
            let Some(happening) = self.queue.remove(&key) else { break };
            self.now_us = key.0;
            self.figures.happenings += 1;
            self.happen(happening);
        }
        self.now_us = self.now_us.max(until_us);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Turn { server, core, life } => self.on_turn(server, core, life),
            Happening::Disk { server, core, life, number, early } => self.on_disk(server, core, life, number, early),
            Happening::Core { server, core, life, event } => self.hand_in(server, core, life, *event),
            Happening::Frame { generation, from, to, lane, frame } => self.on_frame(generation, from, to, lane, frame),
            Happening::Link { a, b } => self.link(a, b),
            Happening::LinkBreaks { a, b, generation } => {
                if self.net.generation(a, b) == generation {
                    self.break_link(a, b, "silence");
                }
            }
            Happening::Rtt { a, b, generation } => self.on_rtt(a, b, generation),
            Happening::ToServer { actor, session, bytes } => self.bytes_to_server(actor, session, bytes),
            Happening::ToClient { actor, session, bytes } => self.bytes_to_client(actor, session, &bytes),
            Happening::Hangup { actor, session } => self.on_hangup(actor, session),
            Happening::Connect { actor } => self.connect(actor),
            Happening::Tick { actor } => self.tick_actor(actor),
            Happening::Start { server } => self.start(server),
            Happening::StopIsLate { server, life } => {
                if self.servers[server].life == life && self.servers[server].running {
                    self.crash(server, "a clean stop took too long");
                }
            }
            Happening::Fault => self.on_fault(),
        }
    }

    // ---- cores

    /// An event for a core of a process that may be gone by now.
    pub(crate) fn hand_in(&mut self, server: usize, core: CoreId, life: u32, event: Event) {
        let one = &mut self.servers[server];
        if one.life != life || !one.running {
            return;
        }
        one.cores[usize::from(core)].inbox.push(event);
        let due = (self.now_us + self.dice.between(2, 30)).max(one.paused_until);
        self.turn_by(server, core, due);
    }

    /// A core gets a turn at that time, or before.
    fn turn_by(&mut self, server: usize, core: CoreId, due: u64) {
        let one = &mut self.servers[server];
        let life = one.life;
        let slot = &mut one.cores[usize::from(core)];
        if slot.turn_at.is_none_or(|at| at > due) {
            slot.turn_at = Some(due);
            self.at(due, Happening::Turn { server, core, life });
        }
    }

    fn on_turn(&mut self, server: usize, core: CoreId, life: u32) {
        let one = &mut self.servers[server];
        let slot = &mut one.cores[usize::from(core)];
        if one.life != life || !one.running || slot.turn_at != Some(self.now_us) {
            return;
        }
        slot.turn_at = None;
        if one.paused_until > self.now_us {
            let due = one.paused_until;
            return self.turn_by(server, core, due);
        }
        let events = std::mem::take(&mut slot.inbox);
        let effects = self.turn(server, core, events);
        for effect in effects {
            self.effect(server, core, effect);
        }
        self.plan_wakeup(server, core);
        self.check_turn(server, core);
    }

    fn turn(&mut self, server: usize, core: CoreId, mut events: Vec<Event>) -> Vec<Effect> {
        self.figures.turns += 1;
        let one = &mut self.servers[server];
        let now = one.now(self.now_us);
        let slot = &mut one.cores[usize::from(core)];
        let Some(shard) = slot.shard.as_mut() else { return Vec::new() };
        let pure = events.is_empty();
        if shard.next_wakeup().is_some_and(|due| due.us <= now.us) {
            events.push(Event::Wakeup);
        }
        for event in events {
            self.trace.event(self.now_us, &one.name, core, &event);
            shard.handle(now, event);
        }
        let mut effects = Vec::new();
        while let Some(effect) = shard.poll_effect() {
            effects.push(effect);
        }
        let idle = self.idle_turns.entry((server, core)).or_default();
        *idle = if pure && effects.is_empty() { *idle + 1 } else { 0 };
        if *idle > IDLE_TURNS_MAX {
            let what = format!("{} core {core} spins: {IDLE_TURNS_MAX} wakeups did nothing", one.name);
            self.oracle.wrong(what);
        }
        effects
    }

    fn plan_wakeup(&mut self, server: usize, core: CoreId) {
        let one = &self.servers[server];
        let Some(due) = one.cores[usize::from(core)].shard.as_ref().and_then(|shard| shard.next_wakeup()) else {
            return;
        };
        let due = one.world_us(due.us).max(self.now_us + 20).max(one.paused_until);
        self.turn_by(server, core, due);
    }

    fn effect(&mut self, server: usize, core: CoreId, effect: Effect) {
        if !self.servers[server].running {
            return;
        }
        match effect {
            Effect::ClientWrite { conn, data } => self.client_write(server, core, conn, data),
            Effect::ClientClose { conn } => self.client_close(server, core, conn),
            Effect::ClientRelease { conn } => self.client_release(server, core, conn),
            Effect::ClientAdopt { conn } => self.client_adopt(server, core, conn),
            Effect::PeerSend { peer, lane, frame } => self.peer_send(server, peer, lane, frame),
            Effect::PeerClose { peer, why } => {
                if let Some(other) = self.index_of(peer) {
                    self.break_link(server, other, &why);
                }
            }
            Effect::Disk(op) => self.submit(server, core, op),
            Effect::Mail { to, mail } => self.mail(server, core, to, mail),
            Effect::Log { level, text } => self.log(server, core, level, &text),
            Effect::Ready => self.on_ready(server, core),
            Effect::ClusterFormed { cluster_id } => self.servers[server].joined(&cluster_id),
            Effect::Stopped => self.on_stopped(server, core),
            Effect::Fatal { text } => self.on_fatal(server, &text),
            // Every link is tried all the time; nobody here reads slowly, over HTTP, or has a hashed password.
            Effect::Dial { .. }
            | Effect::DialOnce { .. }
            | Effect::Undial { .. }
            | Effect::ClusterNamed { .. }
            | Effect::Reload { .. }
            | Effect::ReadPause { .. }
            | Effect::Compare { .. }
            | Effect::HttpReply { .. } => {}
        }
    }

    fn mail(&mut self, server: usize, from: CoreId, to: CoreId, mail: Mail) {
        let life = self.servers[server].life;
        // In order per pair of cores: the same delay for all, or one that never overtakes.
        let lane = (server, from, to);
        let due = if self.options.faults.moves { self.post.arrival(self.now_us, lane) } else { self.now_us + 3 };
        let event = Box::new(Event::Mail { from, mail: vec![mail] });
        self.at(due, Happening::Core { server, core: to, life, event });
    }

    fn submit(&mut self, server: usize, core: CoreId, op: storage::DiskOp) {
        self.figures.disk_ops += 1;
        let lies = self.options.mutant == Some(Mutant::AckBeforeFlush) && matches!(op.kind, DiskOpKind::Write { .. });
        let one = &mut self.servers[server];
        let life = one.life;
        let (number, mut ends) = one.cores[usize::from(core)].disk.submit(self.now_us, &mut self.dice, op);
        if lies {
            self.after(30, Happening::Disk { server, core, life, number, early: true });
            ends += 30_000;
        }
        self.at(ends, Happening::Disk { server, core, life, number, early: false });
    }

    fn on_disk(&mut self, server: usize, core: CoreId, life: u32, number: u64, early: bool) {
        let one = &mut self.servers[server];
        if one.life != life || !one.running {
            return;
        }
        let disk = &mut one.cores[usize::from(core)].disk;
        let done = if early { disk.answer_early(number) } else { disk.finish(number) };
        if let Some(done) = done {
            self.hand_in(server, core, life, Event::DiskDone(done));
        }
    }

    // ---- processes

    fn start(&mut self, server: usize) {
        let one = &mut self.servers[server];
        one.returning = false;
        if one.running {
            return;
        }
        match one.start(self.now_us, &mut self.dice) {
            Ok(()) => {
                self.trace.note(self.now_us, &one.name, "starts");
                for core in 0..one.cores.len() {
                    let due = self.now_us + self.dice.between(10, 200);
                    self.turn_by(server, core as CoreId, due);
                }
                for other in 0..self.servers.len() {
                    self.try_link_soon(server, other);
                }
            }
            Err(why) if one.excused => self.trace.note(self.now_us, &one.name, &format!("refuses its store: {why}")),
            Err(why) => {
                let what = format!("{} refuses its store: {why}", one.name);
                self.oracle.wrong(what);
            }
        }
    }

    /// The process ends here and now.
    pub(crate) fn crash(&mut self, server: usize, why: &str) {
        let one = &mut self.servers[server];
        if !one.running {
            return;
        }
        self.figures.crashes += 1;
        self.trace.note(self.now_us, &one.name, why);
        self.note_memory(server);
        self.remember(server);
        self.servers[server].die(&mut self.dice);
        for other in 0..self.servers.len() {
            self.break_link(server, other, "connection reset");
        }
        self.hang_up_all(server);
        if !std::mem::replace(&mut self.servers[server].returning, true) {
            let away = if self.storm { self.dice.below(2 * RESTART_US) } else { RESTART_US };
            self.after(away, Happening::Start { server });
        }
    }

    /// An operator asks the process to stop.
    pub(crate) fn stop(&mut self, server: usize) {
        let one = &self.servers[server];
        let life = one.life;
        if !one.running {
            return;
        }
        self.trace.note(self.now_us, &one.name, "is asked to stop");
        for core in 0..one.cores.len() {
            self.hand_in(server, core as CoreId, life, Event::Admin(Admin::Stop));
        }
        self.after(5_000_000, Happening::StopIsLate { server, life });
    }

    fn on_stopped(&mut self, server: usize, core: CoreId) {
        let one = &mut self.servers[server];
        one.cores[usize::from(core)].stopped = true;
        if one.cores.iter().all(|core| core.stopped) {
            self.crash(server, "has stopped");
        }
    }

    fn on_ready(&mut self, server: usize, core: CoreId) {
        let one = &mut self.servers[server];
        one.cores[usize::from(core)].ready = true;
        if one.open() {
            one.opened();
            self.trace.note(self.now_us, &one.name, "is ready");
        }
    }

    fn on_fatal(&mut self, server: usize, text: &str) {
        let one = &self.servers[server];
        if !one.excused {
            let what = format!("{} cannot go on: {text}", one.name);
            self.oracle.wrong(what);
        }
        self.crash(server, &format!("cannot go on: {text}"));
    }

    fn log(&mut self, server: usize, core: CoreId, level: Level, text: &str) {
        self.trace.log(self.now_us, &self.servers[server].name, core, level, text);
    }

    pub(crate) fn index_of(&self, id: ServerId) -> Option<usize> {
        self.servers.iter().position(|server| server.id == id)
    }

    /// The core that owns a server's links hears of them.
    pub(crate) fn tell_links(&mut self, server: usize, after_us: u64, event: Event) {
        let life = self.servers[server].life;
        self.after(after_us, Happening::Core { server, core: LINK_CORE, life, event: Box::new(event) });
    }
}
