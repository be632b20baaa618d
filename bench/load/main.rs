//! `trestle-bench`: runs this server and a nats-server side by side through the same workloads and prints ratios.
//!
//! The load comes from the stock `nats bench` where it has the workload, so that the figures can be repeated by hand, and
//! from a small client of its own where it has not (failover, idle streams). Every round starts each server afresh on an
//! empty store, one after the other, so that what else the machine does hits all of them alike; what is printed is the
//! median over the rounds. Nothing here is a test: figures belong to a machine and an hour.

mod client;
mod cpu;
mod failover;
mod fleet;
mod idle;
mod load;
mod options;
mod report;
mod row;
mod stretch;

use fleet::Side;
use options::Options;
use report::Report;
use row::Row;

fn main() {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return println!("{}", options::USAGE),
        Err(why) => {
            eprintln!("trestle-bench: {why}\n\n{}", options::USAGE);
            std::process::exit(2);
        }
    };
    if let Err(why) = compare(&options) {
        eprintln!("trestle-bench: {why}");
        std::process::exit(1);
    }
}

fn compare(options: &Options) -> Result<(), String> {
    for row in options.rows.iter().copied() {
        let mut report = Report::new(row);
        for round in 0..options.rounds {
            for side in sides(options, row) {
                match row::run(options, row, side) {
                    Ok(figures) => {
                        eprintln!("{:<14} round {} {:<7} {figures}", row.name(), round + 1, side.name());
                        report.add(side, figures);
                    }
                    Err(why) => eprintln!("{:<14} round {} {:<7} failed: {why}", row.name(), round + 1, side.name()),
                }
            }
        }
        println!("{report}");
    }
    Ok(())
}

/// Who takes part in a row.
fn sides(options: &Options, row: Row) -> Vec<Side> {
    let wanted = |side: &Side| match side {
        Side::Ours => true,
        Side::Lazy => options.peer.is_some(),
        Side::Synced => options.peer.is_some() && row.is_durable(),
    };
    [Side::Lazy, Side::Synced, Side::Ours].into_iter().filter(wanted).collect()
}
