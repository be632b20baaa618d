//! A thread that rings every core's bell each few tens of milliseconds.
//!
//! glommio 0.9 can park an executor that still has a runnable task (its preempt timer fires in the wrong
//! microsecond); any foreign wake gets it going again, so the longest stall is one interval. The same round notices a
//! core that does not react at all and says so once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::mesh::Bell;

/// Between two rings: short against what a client notices as a hang, long against the cost of a wake (0.4 % of a core
/// for a process at 20 ms, measured).
const INTERVAL: Duration = Duration::from_millis(50);

/// A core that has not run its mail task for this long is reported.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// Between two looks at what the process uses.
const VITALS_INTERVAL: Duration = Duration::from_secs(2);

/// Runs until `stop` is set. `report` gets the core and how long it has been silent; `vitals` is called now and then.
pub fn watch(bells: &[Arc<Bell>], stop: &AtomicBool, mut vitals: impl FnMut(), report: impl Fn(usize, Duration)) {
    let mut seen: Vec<(u64, Instant, bool)> = bells.iter().map(|_| (0, Instant::now(), false)).collect();
    let mut looked = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        std::thread::park_timeout(INTERVAL);
        if looked.elapsed() >= VITALS_INTERVAL {
            looked = Instant::now();
            vitals();
        }
        for (core, bell) in bells.iter().enumerate() {
            bell.ring();
            let beats = bell.beats.load(Ordering::Relaxed);
            let (last, since, told) = &mut seen[core];
            if *last != beats {
                (*last, *since, *told) = (beats, Instant::now(), false);
            } else if since.elapsed() > STUCK_AFTER && !*told {
                *told = true;
                report(core, since.elapsed());
            }
        }
    }
}
