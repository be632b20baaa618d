//! Kills the leader of a stream under load and measures how long nothing is acknowledged.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::fleet::{Fleet, Side};
use crate::options::Options;
use crate::row::{Figures, STREAM, SUBJECT, with_stream};

/// Pause between two publishes: a thousand a second, which every side carries with ease.
const PACE: Duration = Duration::from_millis(1);

/// Load before the kill, and how long after it the gap may take.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(12);

pub fn run(options: &Options, side: Side) -> Result<Figures, String> {
    let mut fleet = Fleet::start(options, side, 3)?;
    with_stream(&fleet, 3)?;
    let leader = fleet.client()?.leader(STREAM)?;
    let other = fleet.servers().iter().find(|server| server.name != leader).ok_or("everybody leads")?;
    let (client, writer) = Client::connect(other.port)?.split();
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = thread::spawn({
        let stop = stop.clone();
        move || publish(writer, &stop)
    });
    let listener = thread::spawn({
        let stop = stop.clone();
        move || listen(client, &stop)
    });
    thread::sleep(BEFORE);
    let killed = Instant::now();
    fleet.kill(&leader);
    thread::sleep(AFTER);
    stop.store(true, Ordering::Relaxed);
    let _ = publisher.join();
    let acks = listener.join().map_err(|_| "the listening thread failed")?;
    let gap = longest_gap(&acks, killed).ok_or("acknowledgements did not come back")?;
    Ok(Figures { gap_ms: Some(gap.as_secs_f64() * 1e3), ..Figures::default() })
}

fn publish(mut writer: std::net::TcpStream, stop: &AtomicBool) {
    let payload = "x".repeat(128);
    let mut n = 0u64;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let line = format!("PUB {SUBJECT} _INBOX.bench.p{n} 128\r\n{payload}\r\n");
        if writer.write_all(line.as_bytes()).is_err() {
            return;
        }
        thread::sleep(PACE);
    }
}

/// When each acknowledgement came.
fn listen(mut client: Client, stop: &AtomicBool) -> Vec<Instant> {
    let mut acks = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match client.receive() {
            Ok(Some(message)) if !message.has_status && message.payload.starts_with(b"{\"stream\"") => {
                acks.push(Instant::now());
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    acks
}

/// Between two acknowledgements that follow each other, the later of which came after the kill.
fn longest_gap(acks: &[Instant], killed: Instant) -> Option<Duration> {
    let gaps = acks.windows(2).filter(|pair| pair[1] > killed).map(|pair| pair[1] - pair[0]);
    gaps.max()
}
