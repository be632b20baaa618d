//! What the process uses of the machine, read from the kernel now and then for the pages that show it.

use std::time::Instant;

/// Reads `/proc/self`. Costs two small files, some 20 microseconds.
pub struct Gauge {
    ticks_per_second: f64,
    page_bytes: u64,
    last: (Instant, u64),
}

impl Gauge {
    /// Counts from now on.
    pub fn start() -> Gauge {
        let asked = |what| nix::unistd::sysconf(what).ok().flatten().unwrap_or(0);
        Gauge {
            ticks_per_second: asked(nix::unistd::SysconfVar::CLK_TCK).max(1) as f64,
            page_bytes: u64::try_from(asked(nix::unistd::SysconfVar::PAGE_SIZE)).unwrap_or(0),
            last: (Instant::now(), cpu_ticks().unwrap_or(0)),
        }
    }

    /// Percent of one CPU since the last reading, and bytes of memory that are resident now. Zeros where the kernel
    /// does not say.
    pub fn read(&mut self) -> (f64, u64) {
        let (now, ticks) = (Instant::now(), cpu_ticks().unwrap_or(self.last.1));
        let seconds = now.duration_since(self.last.0).as_secs_f64();
        let used = ticks.saturating_sub(self.last.1) as f64 / self.ticks_per_second;
        self.last = (now, ticks);
        let percent = if seconds > 0.0 { (used / seconds * 1000.0).round() / 10.0 } else { 0.0 };
        (percent, resident_pages().unwrap_or(0) * self.page_bytes)
    }
}

/// User and system time of the process, in ticks.
fn cpu_ticks() -> Option<u64> {
    parse_ticks(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

fn parse_ticks(stat: &str) -> Option<u64> {
    // The program's name is in brackets and may hold anything; what follows the last bracket is plain.
    let mut words = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(words.next()?.parse::<u64>().ok()? + words.next()?.parse::<u64>().ok()?)
}

fn resident_pages() -> Option<u64> {
    std::fs::read_to_string("/proc/self/statm").ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory_and_time() {
        let mut gauge = Gauge::start();
        let (percent, memory) = gauge.read();
        assert!(percent >= 0.0 && memory > 100_000, "{percent} {memory}");
        assert_eq!(parse_ticks("1 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 30 12 0 0 20 0"), Some(42));
        assert_eq!(parse_ticks("nonsense"), None);
    }
}
