//! How a publisher is held back for what other cores cannot take yet.
//!
//! ```text
//!   publisher's core ──messages──► subscriber's core ──► socket
//!                    ◄──heard────                          a window of bytes that were sent and not heard yet
//!                    ◄──push back                          three quarters of a subscriber's bound wait for its socket
//! ```
//! Both are told by mail, and both hold back whoever publishes to that core for a moment, never for good: a publisher
//! that is held by the window goes on when it opens again, and after the moment at the latest, for one message.

use std::collections::BTreeSet;

use super::front::Front;
use super::output::FrontOutput;
use crate::ids::{CoreId, Now};
use crate::route::Message;

/// How long a publisher is held back when a subscriber of its messages has three quarters of its bound waiting (the
/// peer's value): long enough for a healthy subscriber's socket to drain, short enough that one slow subscriber cannot
/// stop a publisher.
pub(super) const STALL_US: u64 = 5_000;

/// What may be on its way to one core, bytes: some milliseconds of a fast publisher, so that a core which has to wait
/// for its processor is not idle afterwards, and little against the quarter of a subscriber's bound (16 MiB) that is
/// left when its core pushes back.
const WINDOW_BYTES: u64 = 2 << 20;

/// What is heard is told in steps of this many bytes: some hundred small messages, an eighth of the window.
const STEP_BYTES: u64 = WINDOW_BYTES / 8;

/// Beside a message's own bytes, for what it costs in a queue: else empty messages would weigh nothing.
const MESSAGE_BYTES: u64 = 128;

/// What one core knows of the ways to and from the others.
#[derive(Debug, Default)]
pub struct Pressure {
    /// By core.
    ways: Vec<Way>,
}

#[derive(Debug, Default)]
struct Way {
    /// Sent there and not heard yet, bytes.
    sent: u64,
    /// Heard from there and not told yet, bytes.
    heard: u64,
    /// Until when publishers to it are held back, microseconds: it pushed back.
    pressed_until: u64,
    /// When it may be pushed back again, microseconds.
    push_again: u64,
    /// Connections here that wait for the window.
    held: BTreeSet<u32>,
}

impl Pressure {
    fn way(&mut self, core: CoreId) -> &mut Way {
        let at = usize::from(core);
        if self.ways.len() <= at {
            self.ways.resize_with(at + 1, Way::default);
        }
        &mut self.ways[at]
    }
}

impl Front {
    /// A message goes to another core; whoever published it waits when there is enough on its way.
    pub(super) fn leaves_for(&mut self, now: Now, from: Option<u32>, core: CoreId, message: &Message) {
        let way = self.pressure.way(core);
        way.sent += weight(message);
        if way.sent > WINDOW_BYTES {
            way.held.extend(from);
            self.stall(now, from);
        } else if way.pressed_until > now.us {
            self.stall(now, from);
        }
    }

    /// A message came from another core and was delivered here.
    pub(super) fn came_from(&mut self, core: CoreId, weight: u64) {
        let way = self.pressure.way(core);
        way.heard += weight;
        if way.heard >= STEP_BYTES {
            let bytes = std::mem::take(&mut way.heard);
            self.outputs.push_back(FrontOutput::Heard { core, bytes });
        }
    }

    /// A core heard so much of what was sent to it: publishers may go on when half of the window is open.
    pub fn heard(&mut self, now: Now, core: CoreId, bytes: u64) {
        let way = self.pressure.way(core);
        way.sent = way.sent.saturating_sub(bytes);
        if way.sent > WINDOW_BYTES / 2 || way.pressed_until > now.us {
            return;
        }
        for slot in std::mem::take(&mut way.held) {
            let Some(conn) = self.conn(slot) else { continue };
            if conn.stalled_until.take().is_some() {
                self.pause(slot);
                self.rearm(slot);
                self.drain(now, slot);
            }
        }
    }

    /// Tells the core where the publisher is that a subscriber here does not keep up; once per stall, not per message.
    pub(super) fn push_back(&mut self, now: Now, core: CoreId) {
        let way = self.pressure.way(core);
        if way.push_again <= now.us {
            way.push_again = now.us + STALL_US / 2;
            self.outputs.push_back(FrontOutput::PushBack { core });
        }
    }

    /// A core says that a subscriber there does not keep up: whoever publishes to it from here is held back for a moment.
    pub fn pressed(&mut self, now: Now, core: CoreId) {
        self.pressure.way(core).pressed_until = now.us + STALL_US;
    }

    /// Holds a publisher back for a moment.
    pub(super) fn stall(&mut self, now: Now, publisher: Option<u32>) {
        let Some(slot) = publisher else { return };
        let Some(conn) = self.conn(slot) else { return };
        if !conn.is_open() || conn.stalled_until.is_some() {
            return;
        }
        conn.stalled_until = Some(now.us + STALL_US);
        conn.stalls += 1;
        self.counts.stalls += 1;
        self.pause(slot);
        self.rearm(slot);
    }
}

/// What a message counts for on its way: both ends must agree.
pub(super) fn weight(message: &Message) -> u64 {
    (message.subject.len() + message.len()) as u64 + MESSAGE_BYTES
}
