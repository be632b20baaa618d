//! Reading: the durable pull consumer that runs beside the load, and the read-back of everything at the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::board::Board;
use super::client::{APP, Client, Message, Trouble};
use super::ledger::{Check, Ledger, Verdict};
use super::load::STREAM;

pub const CONSUMER: &str = "READER";

/// Messages of one pull; when reading back, as many as make round trips not matter.
const BATCH: usize = 256;
const BATCH_BACK: usize = 5000;

/// How long a pull waits at the server for messages.
const EXPIRES: Duration = Duration::from_secs(1);

/// A server that holds a pull says so this often. Once it has, and then nothing comes for `SILENCE`, its leader has died
/// and forgotten the pull: stock clients notice it the same way. Longer than a lost packet of a slow WAN takes.
const HEARTBEAT: Duration = Duration::from_millis(200);
const SILENCE: Duration = Duration::from_millis(800);

/// What was delivered into a broken connection comes again after this.
const ACK_WAIT: Duration = Duration::from_secs(5);

const API_PATIENCE: Duration = Duration::from_secs(5);

/// For reading back without any progress.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Creates the durable consumer, from behind `seq` on.
pub fn create_consumer(client: &mut Client, seq: u64) -> Result<(), Trouble> {
    // One of a kept directory stands elsewhere.
    let _ = client.api(&format!("CONSUMER.DELETE.{STREAM}.{CONSUMER}"), &Value::Null, API_PATIENCE);
    let config = json!({
        "durable_name": CONSUMER, "name": CONSUMER,
        "deliver_policy": "by_start_sequence", "opt_start_seq": seq + 1,
        "ack_policy": "explicit", "ack_wait": ACK_WAIT.as_nanos() as u64, "max_deliver": -1,
        "max_ack_pending": 4 * BATCH, "replay_policy": "instant",
    });
    let body = json!({"stream_name": STREAM, "config": config, "action": ""});
    client.api(&format!("CONSUMER.CREATE.{STREAM}.{CONSUMER}"), &body, API_PATIENCE).map(drop)
}

/// Which sequences were seen: all up to `floor`, and single ones above.
#[derive(Debug, Default)]
struct Seen {
    floor: u64,
    above: std::collections::BTreeSet<u64>,
}

impl Seen {
    /// False when it was seen before.
    fn insert(&mut self, seq: u64) -> bool {
        if seq <= self.floor || !self.above.insert(seq) {
            return false;
        }
        while self.above.remove(&(self.floor + 1)) {
            self.floor += 1;
        }
        true
    }
}

/// Consumes beside the load until `Board::publishers_done`, in the first data center while that can be reached.
pub fn start(board: &Arc<Board>, seq: u64) -> JoinHandle<()> {
    let board = board.clone();
    std::thread::spawn(move || {
        let mut seen = Seen { floor: seq, ..Seen::default() };
        let mut attempt = 0;
        while !is_done(&board) {
            let candidates = board.candidates(board.dcs[0]);
            let addr = candidates[attempt % candidates.len()];
            attempt += 1;
            match Client::connect(addr, APP, "lab-reader") {
                // Any error means: elsewhere.
                Ok(mut client) => drop(consume(&board, &mut client, &mut seen)),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    })
}

fn is_done(board: &Board) -> bool {
    board.publishers_done.load(Ordering::Relaxed) || board.stopping()
}

/// Pull after pull over one connection, until a pull is not even answered.
fn consume(board: &Board, client: &mut Client, seen: &mut Seen) -> Result<(), Trouble> {
    let mut pulls = 0;
    while !is_done(board) {
        pulls += 1;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}");
        match pull(client, &subject, BATCH, pulls, |client, message| {
            let Some(seq) = stream_sequence(message) else { return };
            if let Some(reply) = message.reply.as_ref().and_then(|reply| std::str::from_utf8(reply).ok()) {
                client.publish(reply, None, None, b"+ACK");
            }
            let new = seen.insert(seq);
            let reading = &mut board.facts().reading;
            reading.seen += u64::from(new);
            reading.redelivered += u64::from(!new);
            reading.floor = seen.floor;
        })? {
            Pulled::Answered => {}
            Pulled::Refused => std::thread::sleep(Duration::from_millis(100)),
            Pulled::Silence => return Ok(()),
        }
    }
    Ok(())
}

enum Pulled {
    /// Messages, or the word that there are none.
    Answered,
    /// No consumer, or no leader of it, right now.
    Refused,
    Silence,
}

/// One pull: `take` gets each message.
fn pull(
    client: &mut Client,
    subject: &str,
    batch: usize,
    number: u64,
    mut take: impl FnMut(&mut Client, &Message),
) -> Result<Pulled, Trouble> {
    let mark = format!("p{number}");
    let body = json!({
        "batch": batch, "expires": EXPIRES.as_nanos() as u64, "idle_heartbeat": HEARTBEAT.as_nanos() as u64,
    });
    let reply = client.inbox(&mark);
    client.publish(subject, Some(&reply), None, body.to_string().as_bytes());
    client.flush()?;
    let mut deadline = Instant::now() + 2 * EXPIRES;
    let mut taken = 0;
    while taken < batch {
        // What is there already is taken before acknowledgements are sent.
        let message = match client.receive(Instant::now())? {
            Some(message) => Some(message),
            None => {
                client.flush()?;
                client.receive(deadline)?
            }
        };
        let Some(message) = message else {
            return Ok(if taken > 0 { Pulled::Answered } else { Pulled::Silence });
        };
        deadline = Instant::now() + SILENCE;
        match message.status() {
            Some(404 | 408) if message.mark() == mark => return Ok(Pulled::Answered),
            Some(100) => {}
            Some(_) if message.mark() == mark => return Ok(Pulled::Refused),
            Some(_) => {}
            None => {
                taken += 1;
                take(client, &message);
            }
        }
    }
    client.flush()?;
    Ok(Pulled::Answered)
}

/// The stream's sequence in the reply subject of a delivery.
///
/// ```text
/// $JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>
/// $JS.ACK.<domain>.<account>.<stream>.<consumer>.<deliveries>.<stream seq>. ... .<random>
/// ```
fn stream_sequence(message: &Message) -> Option<u64> {
    let reply = std::str::from_utf8(message.reply.as_ref()?).ok()?;
    let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    tokens.get(if tokens.len() == 7 { 3 } else { 5 })?.parse().ok()
}

/// Reads everything behind `first` and compares it with the ledger.
pub fn read_back(board: &Board, ledger: &Ledger, size: usize, first: u64) -> Result<Verdict, String> {
    let mut check = Check::new(ledger, size);
    let (mut at, mut attempt) = (first, 0);
    let mut progress = Instant::now();
    let mut last_error = String::new();
    while progress.elapsed() < STALL_MAX && !board.stopping() {
        let candidates = board.candidates(board.dcs[0]);
        let addr = candidates[attempt % candidates.len()];
        attempt += 1;
        let before = at;
        match Client::connect(addr, APP, "lab-check")
            .and_then(|mut client| read_on(board, &mut client, &mut check, &mut at))
        {
            Ok(true) => return Ok(check.finish()),
            Ok(false) => last_error = "a pull was not answered".into(),
            Err(error) => last_error = error.to_string(),
        }
        if at > before {
            progress = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err(format!("the stream could not be read back beyond sequence {at}: {last_error}"))
}

/// Reads on behind `at` by a fresh consumer; true when the end of the stream is reached.
fn read_on(board: &Board, client: &mut Client, check: &mut Check, at: &mut u64) -> Result<bool, Trouble> {
    let info = client.api(&format!("STREAM.INFO.{STREAM}"), &Value::Null, API_PATIENCE)?;
    let last = info["state"]["last_seq"].as_u64().ok_or(Trouble("STREAM.INFO has no last_seq".into()))?;
    let name = format!("CHECK-{}-{at}", std::process::id());
    let config = json!({
        "name": name, "deliver_policy": "by_start_sequence", "opt_start_seq": *at + 1, "ack_policy": "none",
        "mem_storage": true, "num_replicas": 1, "inactive_threshold": 30_000_000_000u64, "replay_policy": "instant",
    });
    let body = json!({"stream_name": STREAM, "config": config, "action": ""});
    client.api(&format!("CONSUMER.CREATE.{STREAM}.{name}"), &body, API_PATIENCE)?;
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{name}");
    let mut pulls = 0;
    while *at < last && !board.stopping() {
        pulls += 1;
        let before = *at;
        pull(client, &subject, BATCH_BACK, pulls, |_, message| {
            if let Some(seq) = stream_sequence(message) {
                check.on_message(seq, message.header("Nats-Msg-Id").unwrap_or(""), &message.payload);
                *at = seq.max(*at);
            }
        })?;
        if *at == before {
            return Ok(false);
        }
    }
    // Left alone it would go by itself after its threshold.
    let _ = client.api(&format!("CONSUMER.DELETE.{STREAM}.{name}"), &Value::Null, API_PATIENCE);
    Ok(*at >= last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_rises_over_what_was_seen_in_any_order() {
        let mut seen = Seen { floor: 10, ..Seen::default() };
        assert!(seen.insert(12));
        assert_eq!(seen.floor, 10);
        assert!(seen.insert(11));
        assert_eq!(seen.floor, 12);
        assert!(!seen.insert(11) && !seen.insert(3));
        assert!(seen.above.is_empty());
    }

    #[test]
    fn both_forms_of_the_reply_subject_name_the_sequence() {
        for (reply, seq) in [
            ("$JS.ACK.LAB.READER.1.204.7.1700000000.0", Some(204)),
            ("$JS.ACK.hub.ABCD.LAB.READER.1.204.7.1700000000.0", Some(204)),
            ("$JS.ACK.hub.ABCD.LAB.READER.1.204.7.1700000000.0.xyz", Some(204)),
            ("$JS.ACK.LAB.READER", None),
            ("_INBOX.x", None),
        ] {
            assert_eq!(stream_sequence(&Message::delivered(reply)), seq, "{reply}");
        }
    }
}
