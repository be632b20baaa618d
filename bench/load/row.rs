//! The workloads.

use std::fmt;
use std::time::Duration;

use crate::fleet::{Fleet, Side};
use crate::load::{self, Bench};
use crate::options::Options;
use crate::{failover, idle, stretch};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    R1Async,
    R3Async,
    R1Sync,
    R3Sync,
    CorePub,
    CoreSub,
    Consume,
    Failover,
    Idle,
    Stretch,
}

/// What a run found; what a row does not measure is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Messages a second.
    pub rate: Option<f64>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    /// Processor time of all servers per message.
    pub cpu_us: Option<f64>,
    /// Longest time without an acknowledgement.
    pub gap_ms: Option<f64>,
    /// Of one core, all servers together.
    pub cpu_percent: Option<f64>,
    pub resident_mib: Option<f64>,
    /// Median latency beyond one round trip.
    pub over_rtt_ms: Option<f64>,
}

/// Where the stream's messages go.
pub const SUBJECT: &str = "bench.load";
pub const STREAM: &str = "benchload";

/// How long a subscriber gets to be known to the server before the first message leaves.
const SETTLE: Duration = Duration::from_millis(500);

impl Row {
    pub const ALL: [Row; 10] = [
        Row::R1Async,
        Row::R3Async,
        Row::R1Sync,
        Row::R3Sync,
        Row::CorePub,
        Row::CoreSub,
        Row::Consume,
        Row::Failover,
        Row::Idle,
        Row::Stretch,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Row::R1Async => "r1-async",
            Row::R3Async => "r3-async",
            Row::R1Sync => "r1-sync",
            Row::R3Sync => "r3-sync",
            Row::CorePub => "core-pub",
            Row::CoreSub => "core-sub",
            Row::Consume => "consume",
            Row::Failover => "failover",
            Row::Idle => "idle",
            Row::Stretch => "stretch",
        }
    }

    pub fn about(self) -> &'static str {
        match self {
            Row::R1Async => "nats bench js pub async --size 128, one server, one copy on disk",
            Row::R3Async => "nats bench js pub async --size 128, three servers, three copies",
            Row::R1Sync => "nats bench js pub sync --size 128, one server, one copy on disk",
            Row::R3Sync => "nats bench js pub sync --size 128, three servers, three copies",
            Row::CorePub => "nats bench pub --size 128, nobody listens",
            Row::CoreSub => "nats bench sub and pub --size 128, one subscriber; the rate is the subscriber's",
            Row::Consume => "nats bench js consume, a durable consumer with explicit acknowledgements, one server",
            Row::Failover => "kill -9 of the leader of a three-copy stream at 1,000 messages a second",
            Row::Idle => "1,000 idle streams with three copies on three servers",
            Row::Stretch => {
                "nats bench js pub sync --size 128, three copies, 20 ms round trip, client beside the leader"
            }
        }
    }

    pub fn parse(name: &str) -> Result<Row, String> {
        Row::ALL.into_iter().find(|row| row.name() == name).ok_or_else(|| format!("there is no row {name:?}"))
    }

    /// Whether it matters how the peer syncs.
    pub fn is_durable(self) -> bool {
        !matches!(self, Row::CorePub | Row::CoreSub | Row::Idle)
    }
}

pub fn run(options: &Options, row: Row, side: Side) -> Result<Figures, String> {
    match row {
        // A server that syncs every message by itself takes a hundred times as long.
        Row::R1Async => publish(options, side, 1, "js pub async", by(side, 400_000, 10_000)),
        Row::R3Async => publish(options, side, 3, "js pub async", by(side, 200_000, 5_000)),
        Row::R1Sync => publish(options, side, 1, "js pub sync", by(side, 10_000, 3_000)),
        Row::R3Sync => publish(options, side, 3, "js pub sync", by(side, 5_000, 2_000)),
        Row::CorePub => core_pub(options, side),
        Row::CoreSub => core_sub(options, side),
        Row::Consume => consume(options, side),
        Row::Failover => failover::run(options, side),
        Row::Idle => idle::run(options, side),
        Row::Stretch => stretch::run(options, side),
    }
}

fn by(side: Side, quick: u64, synced: u64) -> u64 {
    if side == Side::Synced { synced } else { quick }
}

fn publish(options: &Options, side: Side, servers: usize, words: &str, messages: u64) -> Result<Figures, String> {
    let fleet = Fleet::start(options, side, servers)?;
    let url = with_stream(&fleet, servers)?;
    let flags = ["--size", "128", "--stream", STREAM];
    Bench { url: &url, words, subject: SUBJECT, messages: options.messages(messages), flags: &flags }.run(&fleet)
}

/// Makes the stream; the URL of the server that leads it.
pub fn with_stream(fleet: &Fleet, replicas: usize) -> Result<String, String> {
    let mut client = fleet.client()?;
    client.create_stream(STREAM, SUBJECT, replicas)?;
    Ok(fleet.url_of(&client.leader(STREAM)?))
}

fn core_pub(options: &Options, side: Side) -> Result<Figures, String> {
    let fleet = Fleet::start(options, side, 1)?;
    let (url, messages) = (fleet.url(), options.messages(5_000_000));
    Bench { url: &url, words: "pub", subject: SUBJECT, messages, flags: &["--size", "128"] }.run(&fleet)
}

fn core_sub(options: &Options, side: Side) -> Result<Figures, String> {
    let fleet = Fleet::start(options, side, 1)?;
    let (url, messages) = (fleet.url(), options.messages(2_000_000));
    let flags = ["--size", "128"];
    let reader = Bench { url: &url, words: "sub", subject: SUBJECT, messages, flags: &flags }.spawn()?;
    std::thread::sleep(SETTLE);
    let before = fleet.cpu();
    let writer = Bench { url: &url, words: "pub", subject: SUBJECT, messages, flags: &flags }.spawn()?;
    load::finish(writer)?;
    let said = load::finish(reader)?;
    Ok(load::figures(said, fleet.cpu().saturating_sub(before), messages))
}

fn consume(options: &Options, side: Side) -> Result<Figures, String> {
    let fleet = Fleet::start(options, side, 1)?;
    let url = with_stream(&fleet, 1)?;
    let messages = options.messages(by(side, 200_000, 10_000));
    let flags = ["--size", "128", "--stream", STREAM];
    Bench { url: &url, words: "js pub async", subject: SUBJECT, messages, flags: &flags }.run(&fleet)?;
    let words = "js consume --stream benchload";
    let flags = ["--size", "128", "--acks", "explicit"];
    let before = fleet.cpu();
    let bench = Bench { url: &url, words, subject: "--batch=500", messages, flags: &flags };
    let said = load::finish(bench.spawn()?)?;
    Ok(load::figures(said, fleet.cpu().saturating_sub(before), messages))
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.rate, "msgs/s"),
            (self.p50_us, "us p50"),
            (self.p99_us, "us p99"),
            (self.cpu_us, "us/msg of the servers"),
            (self.gap_ms, "ms without an ack"),
            (self.cpu_percent, "% of a core"),
            (self.resident_mib, "MiB resident"),
            (self.over_rtt_ms, "ms over the round trip"),
        ];
        for (value, unit) in parts {
            if let Some(value) = value {
                write!(f, "{value:.1} {unit}  ")?;
            }
        }
        Ok(())
    }
}
