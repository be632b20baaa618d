//! The only place that reads clocks for a shard: once per turn.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::ids::Now;

/// Both clocks of the machine. Monotonic time counts from the start of the process.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    pub fn now(&self) -> Now {
        // One second ahead, so that no deadline is ever zero.
        Now { us: 1_000_000 + self.start.elapsed().as_micros() as u64, wall_ns: wall_ns() }
    }
}

/// Nanoseconds since the Unix epoch; 0 if the clock stands before it.
pub fn wall_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}
