//! What happened, as a hash that two runs of a seed must share and, when asked for, as lines for a person.

use std::fmt::Write as _;

use trestle::event::{Event, Level};
use trestle::ids::CoreId;

/// Lines that are kept for the report of a failure.
const LINES_MAX: usize = 4_000;

#[derive(Debug)]
pub struct Trace {
    hash: u64,
    print: bool,
    lines: std::collections::VecDeque<String>,
}

impl Trace {
    pub fn new(print: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, print, lines: std::collections::VecDeque::new() }
    }

    /// The same for equal runs.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    pub fn event(&mut self, now_us: u64, server: &str, core: CoreId, event: &Event) {
        self.mix(&now_us.to_le_bytes());
        self.mix(server.as_bytes());
        self.mix(&core.to_le_bytes());
        match event {
            Event::ClientBytes { conn, data } => {
                self.mix(&conn.0.to_le_bytes());
                self.mix(data);
            }
            Event::PeerFrame { peer, frame, .. } => {
                self.mix(&peer.0.to_le_bytes());
                self.mix(frame);
            }
            Event::DiskDone(done) => self.mix(&done.id.0.to_le_bytes()),
            other => {
                let mut text = String::new();
                // Writing into a string cannot fail.
                let _ = write!(text, "{:?}", std::mem::discriminant(other));
                self.mix(text.as_bytes());
            }
        }
    }

    pub fn note(&mut self, now_us: u64, server: &str, text: &str) {
        self.mix(text.as_bytes());
        self.line(now_us, server, text);
    }

    pub fn log(&mut self, now_us: u64, server: &str, core: CoreId, level: Level, text: &str) {
        self.mix(text.as_bytes());
        self.line(now_us, server, &format!("[{core}] {level:?}: {text}"));
    }

    /// A line for people alone: the same run has the same hash without it.
    pub fn aside(&mut self, now_us: u64, server: &str, text: &str) {
        self.line(now_us, server, text);
    }

    fn line(&mut self, now_us: u64, server: &str, text: &str) {
        let line = format!("{:>10.3} ms  {server:<4} {text}", now_us as f64 / 1e3);
        if self.print {
            println!("{line}");
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn mix(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.hash = (self.hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        }
    }
}
