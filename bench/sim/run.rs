//! One run: a cluster forms, a storm passes over it, and once it is over everything must come to rest and be right.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::options::Options;
use crate::world::{Figures, World};

/// How long a fresh cluster may take until its streams and consumers exist, microseconds of the world.
const FORM_US: u64 = 20_000_000;
/// How long it may take to come to rest after the storm.
const REST_US: u64 = 60_000_000;
/// How long a server may take to start and to have its damage healed.
const HEAL_US: u64 = 8_000_000;
/// How often the world is looked at while it should come to rest.
const LOOK_US: u64 = 100_000;

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub seed: u64,
    /// Empty: all is well.
    pub violations: Vec<String>,
    /// Equal for equal runs.
    pub hash: u64,
    pub world_us: u64,
    pub acks: u64,
    pub deliveries: u64,
    pub figures: Figures,
    /// The last lines of what happened.
    pub lines: Vec<String>,
}

impl Report {
    pub fn passed(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Runs one world. A panic of the product is a violation like any other.
pub fn run(options: &Options) -> Report {
    let mut world = World::new(options.clone());
    let ended = catch_unwind(AssertUnwindSafe(|| live(&mut world)));
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        world.oracle.wrong(format!("panic: {text}"));
    }
    report(&world)
}

fn live(world: &mut World) {
    if !settle(world, FORM_US, "forming") {
        return;
    }
    world.begin_storm();
    let until = world.now_us + world.options.storm_ms * 1_000;
    while world.now_us < until && world.oracle.violations.is_empty() {
        let next = (world.now_us + 10 * LOOK_US).min(until);
        world.run_until(next);
        world.check_fingerprints();
        world.check_ages();
    }
    if !world.oracle.violations.is_empty() {
        return;
    }
    world.end_storm();
    let mut rests = settle(world, REST_US, "after the storm");
    if rests && world.options.faults.rot {
        world.look_again();
        world.run_until(world.now_us + HEAL_US);
        rests = settle(world, REST_US, "after the storm");
    }
    if rests {
        world.check_end();
    }
}

/// Runs until nothing is unsettled; a violation if that does not happen in time.
fn settle(world: &mut World, within_us: u64, when: &str) -> bool {
    let until = world.now_us + within_us;
    world.run_until(world.now_us + LOOK_US);
    loop {
        if !world.oracle.violations.is_empty() {
            return false;
        }
        let unsettled = if when == "forming" { world.unformed() } else { world.unsettled() };
        let Some(why) = unsettled else { return true };
        if world.now_us >= until {
            world.oracle.wrong(format!("{when}, after {} s: {why}", within_us / 1_000_000));
            return false;
        }
        world.run_until(world.now_us + LOOK_US);
    }
}

impl World {
    /// Why the streams and consumers of the workload are not there yet.
    fn unformed(&self) -> Option<String> {
        self.people.actors.last().filter(|operator| !operator.settled()).map(|operator| operator.waits_for())
    }
}

fn report(world: &World) -> Report {
    Report {
        seed: world.options.seed,
        violations: world.oracle.violations.clone(),
        hash: world.trace.hash(),
        world_us: world.now_us,
        acks: world.oracle.acks,
        deliveries: world.oracle.deliveries,
        figures: world.figures.clone(),
        lines: world.trace.lines().map(str::to_owned).collect(),
    }
}
