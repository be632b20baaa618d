//! `trestle-sim`: runs simulated clusters until one of them breaks a promise, and says how to see it again.

use std::process::ExitCode;

use trestle_sim::mutants::{self, Mutant};
use trestle_sim::options::Options;
use trestle_sim::run::{Report, run};

const USAGE: &str = "trestle-sim [--seeds N] [--seed 0xS] [--servers N] [--cores N] [--storm MS] [--mutant NAME] [--edits] [--wipe] [--trace] [--watch GROUP] [--all]";

/// Lines of a failing run that are printed without --trace.
const TAIL: usize = 40;

struct Wish {
    seeds: u64,
    first: u64,
    servers: Option<usize>,
    cores: Option<u16>,
    storm_ms: Option<u64>,
    mutant: Option<Mutant>,
    trace: bool,
    watch: Option<u64>,
    /// Go on after a failure.
    all: bool,
    /// The operator changes replica counts in every seed.
    edits: bool,
    /// One server may come back with an empty disk.
    wipe: bool,
}

fn main() -> ExitCode {
    let wish = match read(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let mut failed = 0;
    for seed in wish.first..wish.first.saturating_add(wish.seeds) {
        let report = run(&options(&wish, seed));
        println!("{}", line(&report));
        if !report.passed() {
            failed += 1;
            tell(&report, &wish);
            if !wish.all {
                break;
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(wish: &Wish, seed: u64) -> Options {
    let mut options = Options::of_seed(seed);
    options.servers = wish.servers.unwrap_or(options.servers);
    options.cores = wish.cores.unwrap_or(options.cores);
    options.storm_ms = wish.storm_ms.unwrap_or(options.storm_ms);
    options.faults.edits |= wish.edits;
    options.faults.wipe |= wish.wipe;
    (options.mutant, options.trace, options.watch) = (wish.mutant, wish.trace, wish.watch);
    options
}

fn line(report: &Report) -> String {
    let Report { seed, acks, deliveries, figures, hash, .. } = report;
    let verdict = if report.passed() { "ok  " } else { "FAIL" };
    format!(
        "{verdict} seed {seed:#x}  {:.1} s of the world, {acks} acks, {deliveries} deliveries, {} turns, {} frames, {} disk operations, {} faults, {} crashes, {} moves  [{hash:016x}]",
        report.world_us as f64 / 1e6,
        figures.turns,
        figures.frames,
        figures.disk_ops,
        figures.faults,
        figures.crashes,
        figures.moves,
    )
}

fn tell(report: &Report, wish: &Wish) {
    if !wish.trace {
        for line in report.lines.iter().rev().take(TAIL).rev() {
            println!("    {line}");
        }
    }
    for what in &report.violations {
        println!("  ! {what}");
    }
    let mutant = wish.mutant.map(|mutant| format!(" --mutant {}", mutant.name())).unwrap_or_default();
    let edits = if wish.edits { " --edits" } else { "" };
    let wipe = if wish.wipe { " --wipe" } else { "" };
    println!("  again: trestle-sim --seed {:#x}{mutant}{edits}{wipe} --trace   (same commit)", report.seed);
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut wish = Wish {
        seeds: 0,
        first: 1,
        servers: None,
        cores: None,
        storm_ms: None,
        mutant: None,
        trace: false,
        watch: None,
        all: false,
        edits: false,
        wipe: false,
    };
    while let Some(word) = words.next() {
        let flag = match word.as_str() {
            "--trace" => Some(&mut wish.trace),
            "--all" => Some(&mut wish.all),
            "--edits" => Some(&mut wish.edits),
            "--wipe" => Some(&mut wish.wipe),
            _ => None,
        };
        if let Some(flag) = flag {
            *flag = true;
            continue;
        }
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        if word == "--mutant" {
            let names: Vec<&str> = mutants::ALL.iter().map(|mutant| mutant.name()).collect();
            let mutant = Mutant::from_name(&value).ok_or(format!("no mutant {value}: {}", names.join(", ")))?;
            wish.mutant = Some(mutant);
            continue;
        }
        let number = number(&value).ok_or(format!("{value} is no number"))?;
        match word.as_str() {
            "--seeds" => wish.seeds = number,
            "--seed" => wish.first = number,
            "--servers" => wish.servers = Some(number.clamp(2, 9) as usize),
            "--cores" => wish.cores = Some(number.clamp(1, 8) as u16),
            "--watch" => wish.watch = Some(number),
            "--storm" => wish.storm_ms = Some(number),
            _ => return Err(format!("{word} is not known")),
        }
    }
    wish.seeds = wish.seeds.max(1);
    Ok(wish)
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
