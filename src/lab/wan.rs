//! A WAN in user space: TCP relays that hold bytes back for as long as they would be on their way.
//!
//! ```text
//!   dialler ──► door of server X ──reader──► parcels, each with its time of arrival ──writer──► server X
//!                                ◄─writer──                                         ◄──reader──
//! ```
//!
//! One door stands before every server, for the servers of the other data center. Each direction keeps its order, as
//! TCP does: jitter and loss delay everything behind them. A cut stalls both directions and new connections, as a cable
//! does that somebody has dug up: nobody is told. What was on its way arrives after the heal, as after a retransmit.
//!
//! It models delay, not bandwidth.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of one read; a parcel arrives as a whole.
const PARCEL_BYTES_MAX: usize = 64 * 1024;

/// Parcels on their way in one direction of a connection, 16 MiB at most: more than a fast link holds in a long round
/// trip. When they are full the sender feels it, as it would feel a full window.
const PARCELS_MAX: usize = 256;

/// The shortest pause after which TCP sends again what got lost (Linux, RFC 6298's minimum lowered to 200 ms).
const RETRANSMIT: Duration = Duration::from_millis(200);

/// What the way between the data centers is like.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    pub rtt: Duration,
    pub jitter: Duration,
    /// Chance, 0 to 1, that a parcel is lost once.
    pub loss: f64,
}

/// All doors of a lab, and whether anything gets through.
#[derive(Clone)]
pub struct Wan(Arc<Inner>);

struct Inner {
    weather: Weather,
    cut: Mutex<bool>,
    healed: Condvar,
}

impl Wan {
    pub fn new(weather: Weather) -> Wan {
        Wan(Arc::new(Inner { weather, cut: Mutex::new(false), healed: Condvar::new() }))
    }

    /// Relays everything that connects to the listener to `target`, until the process ends.
    pub fn open_door(&self, listener: TcpListener, target: SocketAddr) {
        let wan = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let wan = wan.clone();
                std::thread::spawn(move || wan.relay(stream, target));
            }
        });
    }

    pub fn cut(&self) {
        *self.lock() = true;
    }

    pub fn heal(&self) {
        *self.lock() = false;
        self.0.healed.notify_all();
    }

    pub fn is_cut(&self) -> bool {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, bool> {
        self.0.cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_whole(&self) {
        let healed = self.0.healed.wait_while(self.lock(), |cut| *cut);
        drop(healed);
    }

    /// Carries one connection, both ways. The dialler waits a round trip for its connection, as it would.
    fn relay(&self, near: TcpStream, target: SocketAddr) {
        std::thread::sleep(self.0.weather.rtt);
        self.wait_until_whole();
        let Ok(far) = TcpStream::connect(target) else { return };
        // Without a delay of the kernel's own: only this file decides when bytes arrive.
        if near.set_nodelay(true).and(far.set_nodelay(true)).is_err() {
            return;
        }
        let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { return };
        self.carry(near, far);
        self.carry(far_too, near_too);
    }

    fn carry(&self, from: TcpStream, to: TcpStream) {
        let (send, receive) = sync_channel(PARCELS_MAX);
        let (reader, writer) = (self.clone(), self.clone());
        std::thread::spawn(move || reader.read(from, &send));
        std::thread::spawn(move || writer.write(to, &receive));
    }

    fn read(&self, mut from: TcpStream, parcels: &SyncSender<(Instant, Vec<u8>)>) {
        let seed = Instant::now().duration_since(*START.get_or_init(Instant::now)).as_nanos() as u64;
        let mut way = Way::new(self.0.weather, seed);
        let mut buffer = vec![0; PARCEL_BYTES_MAX];
        loop {
            // An error ends a direction as an end does: an empty parcel closes the other side, in its turn.
            let len = from.read(&mut buffer).unwrap_or(0);
            let parcel = (way.arrival(Instant::now()), buffer[..len].to_vec());
            if parcels.send(parcel).is_err() || len == 0 {
                return;
            }
        }
    }

    fn write(&self, mut to: TcpStream, parcels: &Receiver<(Instant, Vec<u8>)>) {
        for (arrival, bytes) in parcels {
            std::thread::sleep(arrival.saturating_duration_since(Instant::now()));
            self.wait_until_whole();
            if bytes.is_empty() {
                // The other direction goes on until it ends by itself. An error: it has.
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            if to.write_all(&bytes).is_err() {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();

/// When things arrive in one direction of one connection.
struct Way {
    weather: Weather,
    last: Option<Instant>,
    state: u64,
}

impl Way {
    fn new(weather: Weather, seed: u64) -> Way {
        Way { weather, last: None, state: seed }
    }

    /// The time of arrival of what leaves now; never before what left earlier.
    fn arrival(&mut self, now: Instant) -> Instant {
        let Weather { rtt, jitter, loss } = self.weather;
        let mut at = now + rtt / 2 + jitter.mul_f64(self.chance());
        if self.chance() < loss {
            at += RETRANSMIT + rtt;
        }
        let at = self.last.map_or(at, |last| at.max(last));
        self.last = Some(at);
        at
    }

    /// Evenly from 0 up to 1 (splitmix64).
    fn chance(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A server that sends everything back, behind a door.
    fn echo(wan: &Wan) -> TcpStream {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut copy = stream.try_clone().unwrap();
            let _ = std::io::copy(&mut stream, &mut copy);
            let _ = stream.shutdown(Shutdown::Write);
        });
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(door.local_addr().unwrap()).unwrap();
        wan.open_door(door, target);
        stream
    }

    fn round_trip(stream: &mut TcpStream, bytes: &[u8]) -> Duration {
        let start = Instant::now();
        stream.write_all(bytes).unwrap();
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes);
        start.elapsed()
    }

    #[test]
    fn a_round_trip_takes_the_time_it_should() {
        let wan = Wan::new(Weather { rtt: 40 * MS, ..Weather::default() });
        let mut stream = echo(&wan);
        round_trip(&mut stream, b"the first one waits for the connection");
        assert!(round_trip(&mut stream, b"there and back") >= 40 * MS);
    }

    #[test]
    fn arrivals_keep_their_order_under_jitter_and_loss() {
        let weather = Weather { rtt: 20 * MS, jitter: 30 * MS, loss: 0.1 };
        let mut way = Way::new(weather, 7);
        let start = Instant::now();
        let (mut last, mut late) = (start, 0);
        for n in 0..1000u32 {
            let now = start + MS * n;
            let at = way.arrival(now);
            assert!(at >= last && at >= now + 10 * MS);
            late += u32::from(at >= now + 200 * MS);
            last = at;
        }
        assert!(late > 50, "a loss must hold up what is behind it: {late}");
    }

    #[test]
    fn bytes_arrive_whole_and_in_order_and_the_end_after_them() {
        let wan = Wan::new(Weather { rtt: 2 * MS, jitter: 2 * MS, loss: 0.0 });
        let mut stream = echo(&wan);
        let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut writer = stream.try_clone().unwrap();
        let copy = sent.clone();
        std::thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = vec![0; sent.len()];
        stream.read_exact(&mut back).unwrap();
        assert!(back == sent);
    }

    #[test]
    fn a_cut_stalls_and_a_heal_delivers() {
        let wan = Wan::new(Weather { rtt: 2 * MS, ..Weather::default() });
        let mut stream = echo(&wan);
        round_trip(&mut stream, b"before");
        wan.cut();
        stream.set_read_timeout(Some(50 * MS)).unwrap();
        stream.write_all(b"during").unwrap();
        let mut back = [0; 6];
        assert!(stream.read_exact(&mut back).is_err(), "nothing may pass");
        wan.heal();
        stream.set_read_timeout(None).unwrap();
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"during");
    }
}
