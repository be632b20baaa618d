//! Times and durations as the peer's pages print them.

use crate::ids::Now;

pub use crate::stream::info::time_text;

const NS_PER_S: u64 = 1_000_000_000;

/// The moment that Go prints for "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// Whole seconds as years, days, hours, minutes and seconds: `1d2h3m4s`. Leading units that are zero are left out.
pub fn uptime(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    let years = days / 365;
    let tail = format!("{}s", seconds % 60);
    if years > 0 {
        format!("{years}y{}d{}h{}m{tail}", days % 365, hours % 24, minutes % 60)
    } else if days > 0 {
        format!("{days}d{}h{}m{tail}", hours % 24, minutes % 60)
    } else if hours > 0 {
        format!("{hours}h{}m{tail}", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes}m{tail}")
    } else {
        tail
    }
}

/// A duration as Go prints it: `498µs`, `1.5ms`, `2m0.25s`.
pub fn duration(ns: u64) -> String {
    if ns < 1_000 {
        return format!("{ns}ns");
    }
    if ns < 1_000_000 {
        return format!("{}µs", decimal(ns, 1_000));
    }
    if ns < NS_PER_S {
        return format!("{}ms", decimal(ns, 1_000_000));
    }
    let (minutes, rest) = (ns / (60 * NS_PER_S), ns % (60 * NS_PER_S));
    let seconds = decimal(rest, NS_PER_S);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` with as many decimals as are needed; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{part:0width$}").trim_end_matches('0').to_string()
}

/// Now, as text.
pub fn now_text(now: Now) -> String {
    time_text(now.wall_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_leave_out_leading_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m0s"),
            (3_661, "1h1m1s"),
            (90_061, "1d1h1m1s"),
            (31_536_000 + 86_400, "1y1d0h0m0s"),
        ] {
            assert_eq!(uptime(seconds), text);
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (ns, text) in [
            (0, "0ns"),
            (498_000, "498µs"),
            (1_500_000, "1.5ms"),
            (272_774_854, "272.774854ms"),
            (1_209_550_744, "1.209550744s"),
            (120_250_000_000, "2m0.25s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }
}
