//! Three servers in three places, 20 ms apart: what a publish costs beyond the one round trip that it must cost.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use trestle::lab::wan::{Wan, Weather};

use crate::fleet::{self, Fleet, Links, Side};
use crate::load::Bench;
use crate::options::Options;
use crate::row::{Figures, STREAM, SUBJECT, with_stream};

const RTT: Duration = Duration::from_millis(20);
const MESSAGES: u64 = 300;

pub fn run(options: &Options, side: Side) -> Result<Figures, String> {
    let wan = Wan::new(Weather { rtt: RTT, ..Weather::default() });
    let listen = fleet::free_ports(3)?;
    let dial = listen.iter().map(|port| open_door(&wan, *port)).collect::<Result<_, _>>()?;
    let fleet = Fleet::start_linked(options, side, Links { listen, dial })?;
    let url = with_stream(&fleet, 3)?;
    let flags = ["--size", "128", "--stream", STREAM];
    let messages = options.messages(MESSAGES);
    let figures = Bench { url: &url, words: "js pub sync", subject: SUBJECT, messages, flags: &flags }.run(&fleet)?;
    let over_rtt_ms = figures.p50_us.map(|us| us / 1e3 - RTT.as_secs_f64() * 1e3);
    Ok(Figures { over_rtt_ms, ..figures })
}

/// The port of a door to a server.
fn open_door(wan: &Wan, port: u16) -> Result<u16, String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| format!("no free port: {e}"))?;
    let door = listener.local_addr().map_err(|e| e.to_string())?.port();
    wan.open_door(listener, SocketAddr::from(([127, 0, 0, 1], port)));
    Ok(door)
}
