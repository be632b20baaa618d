//! What many streams cost that nobody uses.

use std::thread;
use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Side, retry};
use crate::options::Options;
use crate::row::Figures;

const STREAMS: usize = 1000;

/// Until everything has gone quiet, and how long it is watched then.
const SETTLE: Duration = Duration::from_secs(10);
const WATCH: Duration = Duration::from_secs(20);

/// How long the making of one stream may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn run(options: &Options, side: Side) -> Result<Figures, String> {
    let fleet = Fleet::start(options, side, 3)?;
    let mut client = fleet.client()?;
    for n in 0..STREAMS {
        let (name, subject) = (format!("idle{n}"), format!("idle.{n}.>"));
        retry(Instant::now() + PATIENCE, || client.create_stream(&name, &subject, 3))?;
    }
    thread::sleep(SETTLE);
    let (before, begun) = (fleet.cpu(), Instant::now());
    thread::sleep(WATCH);
    let used = fleet.cpu().saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let resident_mib = fleet.resident() as f64 / f64::from(1024 * 1024);
    Ok(Figures { cpu_percent: Some(used * 100.0), resident_mib: Some(resident_mib), ..Figures::default() })
}
