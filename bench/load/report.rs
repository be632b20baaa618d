//! Medians and ratios of a row.

use std::collections::BTreeMap;
use std::fmt;

use crate::fleet::Side;
use crate::row::{Figures, Row};

pub struct Report {
    row: Row,
    rounds: BTreeMap<Side, Vec<Figures>>,
}

type Pick = fn(&Figures) -> Option<f64>;

/// Name, how to find it, whether more is better.
const COLUMNS: [(&str, Pick); 8] = [
    ("msgs/s", |f| f.rate),
    ("p50 us", |f| f.p50_us),
    ("p99 us", |f| f.p99_us),
    ("server us/msg", |f| f.cpu_us),
    ("longest gap ms", |f| f.gap_ms),
    ("cpu %", |f| f.cpu_percent),
    ("rss MiB", |f| f.resident_mib),
    ("over rtt ms", |f| f.over_rtt_ms),
];

impl Report {
    pub fn new(row: Row) -> Report {
        Report { row, rounds: BTreeMap::new() }
    }

    pub fn add(&mut self, side: Side, figures: Figures) {
        self.rounds.entry(side).or_default().push(figures);
    }

    /// Median, least and greatest of a figure.
    fn spread(&self, side: Side, pick: Pick) -> Option<(f64, f64, f64)> {
        let mut values: Vec<f64> = self.rounds.get(&side)?.iter().filter_map(pick).collect();
        values.sort_by(f64::total_cmp);
        Some((*values.get(values.len() / 2)?, *values.first()?, *values.last()?))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}: {}", self.row.name(), self.row.about())?;
        for (name, pick) in COLUMNS {
            let Some((ours, least, most)) = self.spread(Side::Ours, pick) else { continue };
            write!(f, "  {name:<15} trestle {ours:>12.1} ({least:.1} to {most:.1})")?;
            for side in [Side::Lazy, Side::Synced] {
                if let Some((theirs, least, most)) = self.spread(side, pick) {
                    let ratio = if theirs > 0.0 { ours / theirs } else { f64::NAN };
                    write!(f, "   {} {theirs:>12.1} ({least:.1} to {most:.1}) = {ratio:.2} x", side.name())?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
