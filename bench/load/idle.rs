//! What many streams cost that nobody uses.

use std::thread;
use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Side, retry};
use crate::options::Options;
use crate::row::Figures;

const STREAMS: usize = 1000;

/// Clients that make them at the same time.
const MAKERS: usize = 8;

/// Until everything has gone quiet, and how long it is watched then.
const SETTLE: Duration = Duration::from_secs(10);
const WATCH: Duration = Duration::from_secs(20);

/// How long the making of one stream may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn run(options: &Options, side: Side) -> Result<Figures, String> {
    let fleet = Fleet::start(options, side, 3)?;
    let fleet = &fleet;
    thread::scope(|scope| {
        let makers: Vec<_> = (0..MAKERS).map(|maker| scope.spawn(move || make(fleet, maker))).collect();
        makers.into_iter().try_for_each(|maker| maker.join().map_err(|_| "a thread failed")?)
    })?;
    thread::sleep(SETTLE);
    let (before, begun) = (fleet.cpu(), Instant::now());
    thread::sleep(WATCH);
    let used = fleet.cpu().saturating_sub(before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let resident_mib = fleet.resident() as f64 / f64::from(1024 * 1024);
    Ok(Figures { cpu_percent: Some(used * 100.0), resident_mib: Some(resident_mib), ..Figures::default() })
}

/// Makes every so many-th stream.
fn make(fleet: &Fleet, first: usize) -> Result<(), String> {
    let mut client = fleet.client()?;
    for n in (first..STREAMS).step_by(MAKERS) {
        let (name, subject) = (format!("idle{n}"), format!("idle.{n}.>"));
        retry(Instant::now() + PATIENCE, || client.create_stream(&name, &subject, 3))?;
    }
    Ok(())
}
