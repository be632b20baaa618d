//! What the words after `lab stretch` ask for.
//!
//! Reads words into values and explains itself; opens and starts nothing.

use std::path::PathBuf;
use std::time::Duration;

use super::story::{self, Action};

/// The defaults of a stretched cluster on one machine.
const RTT: Duration = Duration::from_millis(20);
const RATE: u32 = 1000;
const SIZE_BYTES: usize = 128;
/// More is refused: the ids of all acknowledged messages are kept in memory to check them at the end.
const RATE_MAX: u32 = 200_000;
/// Below the servers' `max_payload`.
const SIZE_BYTES_MAX: usize = 512 * 1024;
/// How long the load runs when nobody says so and nobody can press a key.
const SECONDS: u64 = 10;

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Round trip between the data centers.
    pub rtt: Duration,
    /// Largest extra delay of one direction; the order is kept.
    pub jitter: Duration,
    /// Chance of 0 to 1 that what is sent at once has to be sent again.
    pub loss: f64,
    /// Messages a second, of both data centers together; 0: no load.
    pub rate: u32,
    pub size_bytes: usize,
    /// At least this long; `None`: until the script ends or a key says so.
    pub seconds: Option<u64>,
    pub script: Vec<Action>,
    pub keep: bool,
    pub dir: Option<PathBuf>,
    /// `None`: the ports of the files. 0: any free ones.
    pub base_port: Option<u16>,
    pub config_dir: PathBuf,
    pub cores: u16,
    /// Another program than this one.
    pub server: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            rtt: RTT,
            jitter: Duration::ZERO,
            loss: 0.0,
            rate: RATE,
            size_bytes: SIZE_BYTES,
            seconds: None,
            script: Vec::new(),
            keep: false,
            dir: None,
            base_port: None,
            config_dir: PathBuf::from("configs/stretch"),
            cores: 1,
            server: None,
        }
    }
}

impl Options {
    /// The words behind `stretch`; `Ok(None)` asks for help.
    pub fn parse(words: &[String]) -> Result<Option<Options>, String> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--").or(word.strip_prefix('-')) else {
                return Err(format!("lab stretch takes only options, not {word:?}"));
            };
            let (name, given) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            match name {
                "h" | "help" => return Ok(None),
                "keep" => options.keep = true,
                _ => {
                    let value = given.or_else(|| words.next().cloned()).ok_or(format!("--{name} needs a value"))?;
                    options.set(name, &value).map_err(|why| format!("--{name} {value}: {why}"))?;
                }
            }
        }
        Ok(Some(options))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "rtt" => self.rtt = duration(value)?,
            "jitter" => self.jitter = duration(value)?,
            "loss" => self.loss = percent(value)?,
            "rate" => self.rate = number(value, RATE_MAX)?,
            "size" => self.size_bytes = number(value, SIZE_BYTES_MAX)?,
            "seconds" => self.seconds = Some(number(value, 30 * 24 * 3600)?),
            "script" => self.script = story::parse(value)?,
            "dir" => self.dir = Some(value.into()),
            "base-port" => self.base_port = Some(number(value, 65_000)?),
            "config-dir" => self.config_dir = value.into(),
            "cores" => self.cores = number(value, 256)?,
            "server" => self.server = Some(value.into()),
            _ => return Err("unknown option; `lab --help` lists them".into()),
        }
        Ok(())
    }

    /// Seconds of load, or `None` when a key ends it.
    pub fn load_seconds(&self, keys: bool) -> Option<u64> {
        match self.seconds {
            Some(seconds) => Some(seconds),
            None if !self.script.is_empty() => Some(0),
            None if keys && !self.keep => None,
            None => Some(SECONDS),
        }
    }
}

/// `20ms`, `1.5s`, `0`; a bare number counts milliseconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let value: f64 = digits.parse().map_err(|_| "not a time such as 20ms or 1.5s")?;
    let seconds = match unit {
        "us" => value / 1e6,
        "ms" | "" => value / 1e3,
        "s" => value,
        _ => return Err("unknown unit: us, ms or s".into()),
    };
    // A longer way than any on this planet would only look like a partition.
    if seconds > 10.0 { Err("more than 10s".into()) } else { Ok(Duration::from_secs_f64(seconds)) }
}

/// `1%`, `0.5%`, `2`: of a hundred.
fn percent(text: &str) -> Result<f64, String> {
    let value: f64 = text.trim_end_matches('%').parse().map_err(|_| "not a share such as 1%")?;
    if (0.0..=50.0).contains(&value) { Ok(value / 100.0) } else { Err("from 0% to 50%".into()) }
}

fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display>(text: &str, max: T) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(value) if value <= max => Ok(value),
        Ok(_) => Err(format!("at most {max}")),
        Err(_) => Err("not a number".into()),
    }
}

/// The whole of `lab --help`.
pub const HELP: &str = "\
A stretched cluster on this machine: six servers, two data centers, a WAN between them.

Usage:
    trestle lab stretch [options]

Starts the servers of configs/stretch, waits until they are ready, creates the stream LAB with three replicas over
both data centers, publishes to it and consumes from it, shows what happens, and at the end reads everything back:
no acknowledged message may be missing, doubled or out of order. The exit code is 0 when that holds, else 1.

The WAN
    --rtt TIME          round trip between the data centers (20ms)
    --jitter TIME       up to this much more, each way; the order is kept (0ms)
    --loss PERCENT      share of what is sent that has to be sent again, 200ms and a round trip later (0%)

The load
    --rate N            messages a second (1000); 0: none
    --size BYTES        of a message (128)
    --seconds N         how long, at least (until q in a terminal, else 10)
    --script A,B,...    what happens meanwhile:
        kill-leader         kill -9 the server that leads the stream
        kill:NAME           kill -9 that server          kill-dc:N   all servers of that data center
        stop:NAME           stop it properly
        restart[:NAME]      start what is down; or stop and start that server
        partition-dc:N      cut that data center off     heal        join them again
        stepdown            the stream's leader hands over
        wait:SECONDS        nothing
    Keys in a terminal: k kill the leader, s step down, r restart, p partition, h heal, q finish.

The rest
    --keep              leave the servers running at the end, until Ctrl-C
    --dir DIR           keep data, logs and configurations there (else a temporary folder, removed at the end)
    --base-port P       clients from P, pages from P+10, routes from P+20; 0: any free ports (as in the files)
    --config-dir DIR    where the servers' files are (configs/stretch)
    --cores N           cores per server (1)
    --server FILE       run that program instead of this one, nats-server for instance, to compare

Examples
    trestle lab stretch
    trestle lab stretch --rtt 80ms --script kill-leader,restart,partition-dc:1,heal
    trestle lab stretch --keep --seconds 5
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Options>, String> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn words_become_values() {
        let options =
            parse("--rtt 80ms --jitter=1.5ms --loss 1% --rate 50 --seconds 3 --script kill-leader,heal --keep")
                .unwrap()
                .unwrap();
        assert_eq!((options.rtt, options.jitter), (Duration::from_millis(80), Duration::from_micros(1500)));
        assert_eq!((options.loss, options.rate, options.seconds, options.keep), (0.01, 50, Some(3), true));
        assert_eq!(options.script, [Action::KillLeader, Action::Heal]);
        assert_eq!(parse("").unwrap().unwrap(), Options::default());
        assert_eq!(parse("--rate 1 --help").unwrap(), None);
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (text, why) in [
            ("now", "takes only options"),
            ("--rtt", "needs a value"),
            ("--rtt 20min", "unknown unit"),
            ("--rtt 11s", "more than 10s"),
            ("--loss 51%", "from 0% to 50%"),
            ("--rate 1000000", "at most 200000"),
            ("--seconds x", "not a number"),
            ("--fast 1", "unknown option"),
            ("--script dance", "dance"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn the_load_ends_by_itself_where_no_key_can_end_it() {
        let given = |text: &str| parse(text).unwrap().unwrap();
        assert_eq!(given("").load_seconds(true), None);
        assert_eq!(given("").load_seconds(false), Some(SECONDS));
        assert_eq!(given("--keep").load_seconds(true), Some(SECONDS));
        assert_eq!(given("--script heal").load_seconds(true), Some(0));
        assert_eq!(given("--script heal --seconds 7").load_seconds(false), Some(7));
    }
}
