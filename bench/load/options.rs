//! The command line.

use std::path::PathBuf;

use crate::row::Row;

pub const USAGE: &str = "\
Usage: trestle-bench compare --ours PATH [--peer PATH] [options]

Runs workloads against this server and, alternating with it, against a nats-server with its default lazy sync (L) and one
that syncs always (A). Prints the median of each figure and the ratios. Needs the nats command line tool on PATH.

  --ours PATH     the trestle program (build it with cargo build --release)
  --peer PATH     the nats-server program; without it only ours runs
  --rows A,B,...  r1-async r3-async r1-sync r3-sync core-pub core-sub consume failover idle stretch (default: all)
  --rounds N      rounds per row (default 3)
  --cores N       cores for each server of ours (default: as many as the machine has)
  --scale F       multiplies the number of messages (default 1)
  --dir DIR       where the stores go; emptied by every run (default: a folder in the temporary directory)";

pub struct Options {
    pub ours: PathBuf,
    pub peer: Option<PathBuf>,
    pub rows: Vec<Row>,
    pub rounds: usize,
    pub cores: Option<u16>,
    pub scale: f64,
    pub dir: PathBuf,
}

impl Options {
    /// `None`: help is wanted.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        match words.next().as_deref() {
            Some("compare") => {}
            None | Some("-h" | "--help" | "help") => return Ok(None),
            Some(other) => return Err(format!("{other:?} is not a command")),
        }
        let mut ours = None;
        let dir = std::env::temp_dir().join(format!("trestle-bench-{}", std::process::id()));
        let rows = Row::ALL.to_vec();
        let mut options = Options { ours: PathBuf::new(), peer: None, rows, rounds: 3, cores: None, scale: 1.0, dir };
        while let Some(flag) = words.next() {
            if flag == "-h" || flag == "--help" {
                return Ok(None);
            }
            let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--ours" => ours = Some(PathBuf::from(value)),
                "--peer" => options.peer = Some(value.into()),
                "--rows" => options.rows = value.split(',').map(Row::parse).collect::<Result<_, _>>()?,
                "--rounds" => options.rounds = number(&flag, &value)?,
                "--cores" => options.cores = Some(number(&flag, &value)?),
                "--scale" => options.scale = number(&flag, &value)?,
                "--dir" => options.dir = value.into(),
                _ => return Err(format!("{flag} is not an option")),
            }
        }
        options.ours = ours.ok_or("--ours PATH is missing")?;
        Ok(Some(options))
    }

    /// So many messages, scaled.
    pub fn messages(&self, count: u64) -> u64 {
        ((count as f64 * self.scale) as u64).max(1)
    }
}

fn number<T: std::str::FromStr>(flag: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{flag} {value:?} is not a number"))
}
