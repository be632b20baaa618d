//! What the kernel says of a process.

use std::fs;
use std::time::Duration;

/// Ticks per second of the times in `/proc`: the same on every Linux that user space can see (`USER_HZ`).
const TICKS: u64 = 100;

/// The page size of the machines that the server runs on.
const PAGE_BYTES: u64 = 4096;

/// User and system time of a process; zero if it is gone.
pub fn time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold blanks; what follows its closing bracket does not. utime and stime are fields 14 and 15.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Resident bytes of a process; zero if it is gone.
pub fn resident(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * PAGE_BYTES
}
