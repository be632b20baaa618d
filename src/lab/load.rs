//! The load: one publisher per data center, paced, every message with an id and repeated under it until acknowledged.
//!
//! A publisher drives many *lanes*, each with one message under way, so that the pace does not depend on the round trip
//! and yet every lane's order can be checked at the end. When no lane is free (an outage) the pace skips: a backlog
//! would only measure itself.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use net::client::headers::Builder;
use serde_json::{Value, json};

use super::board::{Board, Meter};
use super::client::{APP, Client, Message};
use super::ledger::{self, Ledger};
use super::options::Options;

pub const STREAM: &str = "LAB";

/// Ids older than this could be stored twice; longer than anybody leaves a partition standing.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(3600);

/// A publish without an answer is repeated after this and some round trips, then at half the pace: soon enough that a
/// pause shows the servers' time and not the publisher's. After a refusal (no responders, no leader) it is sooner.
const RETRY_SILENCE: Duration = Duration::from_millis(200);
const RETRY_REFUSAL: Duration = Duration::from_millis(100);

/// Without any answer for this long, a publisher turns to another server.
const SERVER_PATIENCE: Duration = Duration::from_secs(3);

/// How often lanes are looked at for repeats.
const SCAN_EVERY: Duration = Duration::from_millis(20);

/// Behind schedule by more than this, the pace starts anew.
const LATE_MAX: Duration = Duration::from_millis(100);

/// For what is under way when the load ends.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

const LANES_MIN: usize = 4;
/// Beyond this the memory of a publisher and the scan of its lanes would be felt.
const LANES_MAX: usize = 4096;

/// Creates the stream; its last sequence (not 0 when a kept directory is used again).
pub fn create_stream(client: &mut Client, patience: Duration) -> Result<u64, String> {
    let config = json!({
        "name": STREAM,
        "subjects": ["lab.>"],
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "num_replicas": 3,
        "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msg_size": -1,
        "allow_direct": true,
        "duplicate_window": DUPLICATE_WINDOW.as_nanos() as u64,
        // The tag of two servers in one data center and one in the other.
        "placement": {"tags": ["ha:1"]},
    });
    let created = client.api(&format!("STREAM.CREATE.{STREAM}"), &config, patience).map_err(|e| e.to_string())?;
    let replicas = created["cluster"]["replicas"].as_array().map_or(0, Vec::len);
    if replicas != 2 {
        return Err(format!("the stream has {} replicas instead of 3: {}", replicas + 1, created["cluster"]));
    }
    Ok(created["state"]["last_seq"].as_u64().unwrap_or(0))
}

/// The running publishers.
pub struct Load {
    run: String,
    publishers: Vec<JoinHandle<Vec<Vec<u64>>>>,
}

impl Load {
    pub fn start(board: &Arc<Board>, options: &Options, run: &str) -> Load {
        let dcs = board.dcs.len();
        let lanes = lanes(options.rate / dcs as u32, options.rtt + options.jitter);
        let publishers = (0..dcs).map(|meter| {
            let publisher = Publisher {
                board: board.clone(),
                meter,
                run: run.to_owned(),
                lane_first: meter * lanes,
                size: options.size_bytes,
                interval: Duration::from_secs(dcs as u64) / options.rate,
                patience: RETRY_SILENCE + 4 * (options.rtt + options.jitter),
                lanes: (0..lanes).map(|_| Lane::default()).collect(),
                free: (0..lanes).collect(),
                told: BTreeSet::new(),
            };
            std::thread::spawn(move || publisher.run())
        });
        Load { run: run.to_owned(), publishers: publishers.collect() }
    }

    /// Waits for what is under way, then says what was acknowledged.
    pub fn finish(self) -> Ledger {
        let lanes = self.publishers.into_iter().flat_map(|publisher| publisher.join().unwrap_or_default());
        Ledger { run: self.run, acked: lanes.collect() }
    }
}

/// Enough lanes to keep the pace when an acknowledgement takes two round trips and a slow disk.
fn lanes(rate: u32, rtt: Duration) -> usize {
    let under_way = f64::from(rate) * (3.0 * rtt.as_secs_f64() + 0.05);
    (under_way.ceil() as usize).clamp(LANES_MIN, LANES_MAX)
}

#[derive(Default)]
struct Lane {
    /// Sequences by number; the next number is its length.
    acked: Vec<u64>,
    flight: Option<Flight>,
}

struct Flight {
    first_sent: Instant,
    repeat_at: Instant,
}

struct Publisher {
    board: Arc<Board>,
    meter: usize,
    run: String,
    lane_first: usize,
    size: usize,
    interval: Duration,
    /// For an answer, before the first repeat.
    patience: Duration,
    lanes: Vec<Lane>,
    free: VecDeque<usize>,
    /// Refusals that were told already.
    told: BTreeSet<String>,
}

impl Publisher {
    fn dc(&self) -> u32 {
        self.board.dcs[self.meter]
    }

    /// From server to server until the load is over; the sequences of all lanes.
    fn run(mut self) -> Vec<Vec<u64>> {
        let mut attempt = 0;
        let mut over_at = None;
        while !self.is_done(&mut over_at) {
            let candidates = self.board.candidates(self.dc());
            let addr = candidates[attempt % candidates.len()];
            attempt += 1;
            let far = !self.board.places.iter().any(|place| place.client == addr && place.dc == self.dc());
            match Client::connect(addr, APP, &format!("lab-publisher-{}", self.dc())) {
                // Any error means: elsewhere.
                Ok(mut client) => drop(self.serve(&mut client, far, &mut over_at)),
                Err(_) => std::thread::sleep(SCAN_EVERY),
            }
        }
        self.board.facts().meters[self.meter].in_flight = self.lanes.len() - self.free.len();
        self.lanes.into_iter().map(|lane| lane.acked).collect()
    }

    fn is_done(&self, over_at: &mut Option<Instant>) -> bool {
        if !self.board.load_is_over() {
            return false;
        }
        let over_at = *over_at.get_or_insert_with(Instant::now);
        self.free.len() == self.lanes.len() || over_at.elapsed() > DRAIN_PATIENCE || self.board.stopping()
    }

    /// Publishes over one connection until the load is over or the server is not worth staying with.
    fn serve(
        &mut self,
        client: &mut Client,
        far: bool,
        over_at: &mut Option<Instant>,
    ) -> Result<(), super::client::Trouble> {
        let mut now = Instant::now();
        let (mut due, mut scan_at, mut heard_at) = (now, now, now);
        for flight in self.lanes.iter_mut().filter_map(|lane| lane.flight.as_mut()) {
            flight.repeat_at = now;
        }
        while !self.is_done(over_at) {
            if far && self.board.wan.is_cut() {
                return Ok(());
            }
            if now >= scan_at {
                self.repeat(client, now);
                scan_at = now + SCAN_EVERY;
                self.board.facts().meters[self.meter].in_flight = self.lanes.len() - self.free.len();
            }
            self.send_due(client, now, &mut due);
            client.flush()?;
            let mut message = client.receive(due.max(now).min(scan_at))?;
            now = Instant::now();
            while let Some(answer) = message {
                heard_at = now;
                self.on_answer(now, &answer);
                message = client.receive(now)?;
            }
            let waiting = self.free.len() < self.lanes.len();
            if waiting && now.saturating_duration_since(heard_at) > SERVER_PATIENCE {
                return Ok(());
            }
            if !waiting {
                heard_at = now;
            }
        }
        Ok(())
    }

    /// New messages, as the pace wants them and free lanes allow.
    fn send_due(&mut self, client: &mut Client, now: Instant, due: &mut Instant) {
        if self.board.load_is_over() {
            *due = now + SCAN_EVERY;
            return;
        }
        if *due + LATE_MAX < now {
            *due = now;
        }
        while *due <= now {
            let Some(at) = self.free.pop_front() else {
                *due = now + self.interval;
                return;
            };
            self.lanes[at].flight = Some(Flight { first_sent: now, repeat_at: now + self.patience });
            self.send(client, at);
            *due += self.interval;
        }
    }

    fn repeat(&mut self, client: &mut Client, now: Instant) {
        let mut repeated = 0;
        for at in 0..self.lanes.len() {
            if let Some(flight) = self.lanes[at].flight.as_mut().filter(|flight| flight.repeat_at <= now) {
                flight.repeat_at = now + 2 * self.patience;
                repeated += 1;
                self.send(client, at);
            }
        }
        self.board.facts().meters[self.meter].retries += repeated;
    }

    fn send(&self, client: &mut Client, at: usize) {
        let (lane, number) = (self.lane_first + at, self.lanes[at].acked.len());
        let id = ledger::id(&self.run, lane, number);
        let headers = Builder::new().add("Nats-Msg-Id", &id).build();
        let reply = client.inbox(format!("{at}-{number}"));
        let subject = format!("lab.dc{}.{lane}", self.dc());
        client.publish(&subject, Some(&reply), Some(&headers), &ledger::payload(&id, self.size));
    }

    fn on_answer(&mut self, now: Instant, answer: &Message) {
        let mark =
            answer.mark().split_once('-').and_then(|(at, number)| Some((at.parse().ok()?, number.parse().ok()?)));
        let Some((at, number)): Option<(usize, usize)> = mark else { return };
        // The answer to a repeat of what was acknowledged before.
        if at >= self.lanes.len() || self.lanes[at].acked.len() != number {
            return;
        }
        let Some(flight) = self.lanes[at].flight.as_mut() else { return };
        let body = answer.json();
        match body["seq"].as_u64().filter(|seq| *seq > 0 && body.get("error").is_none()) {
            Some(seq) => {
                let latency = now.saturating_duration_since(flight.first_sent);
                self.lanes[at].flight = None;
                self.lanes[at].acked.push(seq);
                self.free.push_back(at);
                Meter::on_ack(&mut self.board.facts().meters[self.meter], now, latency);
            }
            None => {
                flight.repeat_at = now + RETRY_REFUSAL;
                self.tell_refusal(&body);
            }
        }
    }

    /// No responders is part of an outage; anything else is said once.
    fn tell_refusal(&mut self, body: &Value) {
        if let Some(text) = body["error"]["description"].as_str()
            && self.told.insert(text.to_owned())
        {
            let (dc, code) = (self.dc(), &body["error"]["err_code"]);
            self.board.tell(format!("dc {dc}: a publish was refused: {text} ({code}); it is repeated"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_suffice_for_the_pace() {
        let rtt = Duration::from_millis(20);
        assert_eq!(lanes(500, rtt), 55);
        assert_eq!(lanes(1, rtt), LANES_MIN);
        assert_eq!(lanes(1_000_000, rtt), LANES_MAX);
    }
}
