//! Durations as Go writes them: `300ms`, `1h30m`, `1.5s`. Used by every directive that measures time.

use std::time::Duration;

/// Reads a duration; `None` for anything that is not one, is negative or is longer than Go's 64-bit nanoseconds hold.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0_f64;
    let mut exact = 0_u128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let (unit, after) = unit(tail)?;
        if number.contains('.') {
            // `1.` and `.5` are numbers to Go, `.` alone is none.
            let x: f64 = if number == "." { return None } else { number.parse().ok()? };
            nanos += x * unit as f64;
        } else {
            exact = exact.checked_add(number.parse::<u128>().ok()?.checked_mul(u128::from(unit))?)?;
        }
        rest = after;
    }
    let total = exact.checked_add(nanos as u128)?;
    let total = i64::try_from(total).ok()?;
    Some(Duration::from_nanos(total as u64))
}

/// The unit that `text` begins with, in nanoseconds, and what follows it.
fn unit(text: &str) -> Option<(u64, &str)> {
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    UNITS.iter().find_map(|&(name, nanos)| text.strip_prefix(name).map(|after| (nanos, after)))
}

/// The duration as Go prints it: `2m0s`, `1.5s`, `300ms`.
pub fn show(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |unit: u128| {
        let text = format!("{}.{:0width$}", nanos / unit, nanos % unit, width = unit.ilog10() as usize);
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    };
    match nanos {
        0 => "0s".to_string(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(1_000_000)),
        _ => {
            let secs = duration.as_secs();
            let (hours, minutes) = (secs / 3600, secs / 60 % 60);
            let seconds = show_seconds(secs % 60, duration.subsec_nanos());
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, _) => format!("{minutes}m{seconds}"),
                _ => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

fn show_seconds(secs: u64, nanos: u32) -> String {
    if nanos == 0 {
        return format!("{secs}s");
    }
    let fraction = format!("{nanos:09}");
    format!("{secs}.{}s", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown_as_go_does() {
        for (text, nanos, shown) in [
            ("2s", 2_000_000_000, "2s"),
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("120s", 120_000_000_000, "2m0s"),
            ("300ms", 300_000_000, "300ms"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("0.5ms", 500_000, "500µs"),
            ("7us", 7_000, "7µs"),
            ("1500µs", 1_500_000, "1.5ms"),
            ("9ns", 9, "9ns"),
            ("0", 0, "0s"),
            ("+1m", 60_000_000_000, "1m0s"),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
            assert_eq!(show(Duration::from_nanos(nanos)), shown);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "2", "s", "x", "2x", "-1s", ".s", "1..5s", "2 s", "999999999999h", "1s2"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
