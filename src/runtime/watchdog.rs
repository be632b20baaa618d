//! A thread that rings every core that has been still for some tens of milliseconds.
//!
//! glommio 0.9 can park an executor that still has a runnable task (its preempt timer fires in the wrong
//! microsecond); any foreign wake gets it going again, so the longest stall is one interval. A core that ran meanwhile
//! was woken by something else and needs no ring: on a server with heartbeats that saves half of them. The same round
//! notices a core that does not react at all and says so once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::clock::Clock;
use super::mesh::Bell;

/// Longest stillness of a core: short against what a client notices as a hang, long against the cost of a wake (0.4 % of
/// a core for a process at 20 ms, measured).
const INTERVAL_US: u64 = 50_000;

/// A core whose time comes so soon is rung together with the others: one wake of this thread serves all.
const SLACK_US: u64 = 5_000;

/// A core that has not run its tasks for this long is reported.
const STUCK_US: u64 = 5_000_000;

/// Between two looks at what the process uses.
const VITALS_US: u64 = 2_000_000;

/// What is remembered of a core.
struct Watched {
    bell: Arc<Bell>,
    rung_us: u64,
    /// It was reported, and has not moved since.
    stuck: bool,
}

/// Runs until `stop` is set. `report` gets the core and how long it has been silent; `vitals` is called now and then.
pub fn watch(
    bells: &[Arc<Bell>],
    clock: Clock,
    stop: &AtomicBool,
    mut vitals: impl FnMut(),
    report: impl Fn(usize, Duration),
) {
    let start_us = clock.now().us;
    let watched = |bell: &Arc<Bell>| Watched { bell: bell.clone(), rung_us: start_us, stuck: false };
    let mut cores: Vec<Watched> = bells.iter().map(watched).collect();
    let mut looked_us = start_us;
    // Pages show what the process uses from the first moment on.
    vitals();
    while !stop.load(Ordering::Relaxed) {
        let now_us = clock.now().us;
        if now_us >= looked_us + VITALS_US {
            looked_us = now_us;
            vitals();
        }
        let mut next_us = now_us + INTERVAL_US;
        for (number, core) in cores.iter_mut().enumerate() {
            let seen_us = core.bell.seen_us().max(start_us);
            let stuck = now_us.saturating_sub(seen_us) > STUCK_US;
            if stuck && !core.stuck {
                report(number, Duration::from_micros(now_us - seen_us));
            }
            core.stuck = stuck;
            let due_us = seen_us.max(core.rung_us) + INTERVAL_US;
            if due_us <= now_us + SLACK_US {
                core.rung_us = now_us;
                core.bell.ring();
            } else {
                next_us = next_us.min(due_us);
            }
        }
        std::thread::park_timeout(Duration::from_micros(next_us - now_us));
    }
}
