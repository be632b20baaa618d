//! An upgrade server by server: each is stopped properly and started again once the one before it is well, while
//! somebody publishes and somebody consumes. Nothing acknowledged may be missing or doubled, and what a consumer has
//! confirmed never comes back.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::cluster::Cluster;
use common::writer::Writer;
use common::{Client, number, text, wait_for};

/// An answer that takes longer was for a server that is no more.
const ANSWER: Duration = Duration::from_secs(1);
/// Between two bursts of the publisher: a load, of which every message is read back one by one at the end.
const PACE: Duration = Duration::from_millis(20);
/// Messages of one pull.
const BATCH: usize = 50;

/// Where clients may connect: a server that starts again has another port.
type Addresses = Arc<Mutex<Vec<String>>>;

/// Publishes until told to stop, over whatever server answers.
fn publish(addresses: &Addresses, stop: &AtomicBool) -> Writer {
    let mut writer = Writer::new(200);
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let addr = addresses.lock().unwrap()[turn % 3].clone();
        let Ok(mut client) = Client::connect_as(&addr, "") else { continue };
        client.set_timeout(ANSWER);
        writer.begin(&mut client);
        while !stop.load(Ordering::Relaxed) && writer.write(&mut client, 20).is_ok() {
            std::thread::sleep(PACE);
        }
    }
    writer
}

/// What a consumer was given.
#[derive(Default)]
struct Read {
    seen: BTreeSet<u64>,
    /// The server said that it has taken the acknowledgement.
    confirmed: BTreeSet<u64>,
    pulls: u32,
}

impl Read {
    /// One pull, and an acknowledgement with an answer for each message.
    fn pull(&mut self, client: &mut Client) -> Result<(), String> {
        let ask = format!("{{\"batch\":{BATCH},\"no_wait\":true}}");
        // What an earlier pull asked for may still be on its way: it was sent before what has been confirmed since.
        self.pulls += 1;
        let sid = format!("pull{}", self.pulls);
        let (inbox, api) = (format!("pulled.{}", self.pulls), "$JS.API.CONSUMER.MSG.NEXT.S.C");
        client.send(&format!("SUB {inbox} {sid}\r\nPUB {api} {inbox} {}\r\n{ask}\r\n", ask.len()));
        let mut given = Vec::new();
        while given.len() < BATCH {
            let message = client.message()?;
            if message.sid != sid {
                continue;
            }
            if message.headers.starts_with("NATS/1.0 ") {
                break;
            }
            given.push(message.reply);
        }
        client.send(&format!("UNSUB {sid}\r\n"));
        for ack in given {
            let seq: u64 = ack.split('.').nth(5).and_then(|seq| seq.parse().ok()).ok_or(ack.clone())?;
            assert!(!self.confirmed.contains(&seq), "{seq} came again after its acknowledgement was confirmed");
            self.seen.insert(seq);
            if client.request(&ack, "+ACK").is_ok_and(|answer| answer.headers.is_empty()) {
                self.confirmed.insert(seq);
            }
        }
        Ok(())
    }
}

#[test]
fn a_rolling_restart_under_load_loses_doubles_and_repeats_nothing() {
    let mut cluster = Cluster::start("roll", 3, "");
    let mut client = cluster.servers[0].connect();
    cluster.create(&mut client, r#"{"name":"S","subjects":["s.>"],"num_replicas":3,"allow_direct":true}"#);
    let consumer = r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit","ack_wait":2000000000}}"#;
    let made = client.request("$JS.API.CONSUMER.CREATE.S.C", consumer).unwrap();
    assert_eq!(text(&made.payload, "name").as_deref(), Some("C"), "{}", made.payload);

    let addresses: Addresses = Arc::new(Mutex::new(cluster.servers.iter().map(|s| s.client_addr()).collect()));
    let stop = Arc::new(AtomicBool::new(false));
    let (theirs, until) = (Arc::clone(&addresses), Arc::clone(&stop));
    let publisher = std::thread::spawn(move || publish(&theirs, &until));

    let mut read = Read::default();
    for n in 0..3 {
        let mut other = cluster.servers[(n + 1) % 3].connect();
        other.set_timeout(ANSWER);
        for _ in 0..3 {
            let _ = read.pull(&mut other);
        }
        assert_eq!(cluster.servers[n].stop(), 0);
        let _ = read.pull(&mut other);
        cluster.servers[n].again();
        cluster.servers[n].wait_ready();
        addresses.lock().unwrap()[n] = cluster.servers[n].client_addr();
        wait_for("everyone to be current again", || {
            let info = other.request("$JS.API.STREAM.INFO.S", "").ok()?.payload;
            (info.matches("\"current\":true").count() == 2).then_some(())
        });
    }
    stop.store(true, Ordering::Relaxed);
    let mut writer = publisher.join().unwrap();
    let mut client = cluster.servers[0].connect();
    writer.finish(&mut client);
    writer.check(&mut client, 1);

    client.set_timeout(ANSWER);
    wait_for("the consumer to have read all", || {
        read.pull(&mut client).ok()?;
        let info = client.request("$JS.API.CONSUMER.INFO.S.C", "").ok()?.payload;
        let left = number(&info, "num_pending")? + number(&info, "num_ack_pending")?;
        (left == 0).then_some(())
    });
    let stored = client.count("S").unwrap();
    assert_eq!(read.seen.len() as u64, stored, "every message came");
    assert!(stored > 100, "hardly anything was published: {stored}");
}
