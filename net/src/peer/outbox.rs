//! What waits to be written on one lane connection: bounded, in order, gathered into few writes.
//!
//! ```text
//!            push                       take                    written
//!   message ──────▶ waiting frames ───────────▶ one write ──────────────▶ gone
//!                  └────────── bytes: waiting and being written ────────┘
//! ```
//!
//! What happens when the other side does not read fast enough depends on the lane:
//!
//! | lane    | at `bytes_max`                                                                                |
//! |---------|-----------------------------------------------------------------------------------------------|
//! | control | [`Full::Break`]: votes and heartbeats that are late are worthless; a new link starts clean      |
//! | data    | taken, but [`Taken::Pressed`]: stop the source until [`Outbox::is_pressed`] is false again; at twice the limit [`Full::Break`], since leaving a message out would break the order |
//! | bulk    | [`Full::Later`]: not taken; ask again when there is room                                        |
//!
//! Small frames are copied together so that a turn's messages leave in one write; large bodies are handed on as they
//! are.

use super::frame;
use super::lane::Lane;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;

/// Bodies up to here are copied next to their neighbours: cheaper than a part of its own in the write.
const COPY_BYTES_MAX: usize = 4096;

/// A gathered part is closed at this size, so that writing can begin before everything was gathered.
const PART_BYTES_MAX: usize = 64 * 1024;

/// Default of `bytes_max` for control: thousands of votes or heartbeats; a side that lags further is dead.
pub const CONTROL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Default for data: the peer's bound for what waits for one connection (`max_pending`).
pub const DATA_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Default for bulk: what a link of 1 Gbit/s at 100 ms holds, some 12 MB; more would only delay the rest.
pub const BULK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The message was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// There is room for more.
    Free,
    /// Stop the source of these messages for a while.
    Pressed,
}

/// The message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The other side is too slow to be kept: close the connection.
    Break,
    /// Offer it again when [`Outbox::has_room`].
    Later,
}

/// The queue of one lane connection.
#[derive(Debug)]
pub struct Outbox {
    lane: Lane,
    bytes_max: usize,
    /// Closed parts, in order.
    parts: VecDeque<Bytes>,
    /// The part that small frames are being copied into; behind all of `parts`.
    open: BytesMut,
    /// In `parts` and `open`.
    waiting: usize,
    /// Taken for writing and not yet reported written.
    in_flight: usize,
    pressed: bool,
}

impl Outbox {
    /// A queue with the lane's default bound.
    pub fn new(lane: Lane) -> Self {
        let bytes_max = match lane {
            Lane::Control => CONTROL_BYTES_MAX,
            Lane::Data => DATA_BYTES_MAX,
            Lane::Bulk => BULK_BYTES_MAX,
        };
        Self::with_bytes_max(lane, bytes_max)
    }

    /// A queue with another bound, in bytes.
    pub fn with_bytes_max(lane: Lane, bytes_max: usize) -> Self {
        let (parts, open) = (VecDeque::new(), BytesMut::new());
        Outbox { lane, bytes_max, parts, open, waiting: 0, in_flight: 0, pressed: false }
    }

    /// Queues one message. `kind` is at least [`frame::KIND_MESSAGES_FIRST`], `body` at most
    /// [`frame::BODY_BYTES_MAX`].
    pub fn push(&mut self, kind: u8, flags: u8, body: Bytes) -> Result<Taken, Full> {
        assert!(kind >= frame::KIND_MESSAGES_FIRST, "kind {kind} belongs to the link");
        let bytes = frame::HEADER_BYTES + body.len();
        self.check_room(bytes)?;
        self.open.put_slice(&frame::header(kind, self.lane, flags, &[&body]));
        if body.len() <= COPY_BYTES_MAX {
            self.open.put_slice(&body);
        } else {
            self.close_part();
            self.parts.push_back(body);
        }
        if self.open.len() >= PART_BYTES_MAX {
            self.close_part();
        }
        self.waiting += bytes;
        self.pressed |= self.bytes() >= self.bytes_max;
        Ok(if self.pressed { Taken::Pressed } else { Taken::Free })
    }

    /// Queues bytes of the link itself (handshake, PING, PONG): always taken, they are few and small.
    pub fn push_link(&mut self, frames: Bytes) {
        self.waiting += frames.len();
        self.open.put_slice(&frames);
    }

    /// Moves up to about `bytes_max` waiting bytes, at least one part if there is any, behind `out` for one write.
    /// Says how many; [`Outbox::on_written`] must hear of them when they have left.
    pub fn take(&mut self, out: &mut Vec<Bytes>, bytes_max: usize) -> usize {
        if self.parts.is_empty() {
            self.close_part();
        }
        let mut taken = 0;
        while let Some(part) = self.parts.front() {
            if taken > 0 && taken + part.len() > bytes_max {
                break;
            }
            taken += part.len();
            out.extend(self.parts.pop_front());
            if self.parts.is_empty() {
                self.close_part();
            }
        }
        self.waiting -= taken;
        self.in_flight += taken;
        taken
    }

    /// This many bytes have reached the socket.
    pub fn on_written(&mut self, bytes: usize) {
        assert!(bytes <= self.in_flight, "{bytes} bytes written of {} in flight", self.in_flight);
        self.in_flight -= bytes;
        // Half way down, so that the source does not stop and go with every message.
        if self.bytes() <= self.bytes_max / 2 {
            self.pressed = false;
        }
    }

    /// Bytes waiting or being written.
    pub fn bytes(&self) -> usize {
        self.waiting + self.in_flight
    }

    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Whether the source of a data lane should still pause.
    pub fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// Whether a body of this size would be taken now.
    pub fn has_room(&self, body_bytes: usize) -> bool {
        self.check_room(frame::HEADER_BYTES + body_bytes).is_ok()
    }

    fn check_room(&self, bytes: usize) -> Result<(), Full> {
        // One message is taken into an empty queue whatever its size, or it could never leave.
        let after = if self.bytes() == 0 { 0 } else { self.bytes() + bytes };
        match self.lane {
            Lane::Control if after > self.bytes_max => Err(Full::Break),
            Lane::Data if after > self.bytes_max.saturating_mul(2) => Err(Full::Break),
            Lane::Bulk if after > self.bytes_max => Err(Full::Later),
            _ => Ok(()),
        }
    }

    fn close_part(&mut self) {
        if !self.open.is_empty() {
            self.parts.push_back(self.open.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{BODY_BYTES_MAX, Decoder};
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn what_goes_in_comes_out_in_order_whatever_the_sizes_and_the_pace() {
        for seed in 0..20 {
            let mut dice = Dice::new(seed);
            let mut outbox = Outbox::new(Lane::Data);
            let mut decoder = Decoder::new(BODY_BYTES_MAX);
            let (mut sent, mut got) = (Vec::new(), Vec::new());
            for _ in 0..400 {
                let size = if dice.below(4) == 0 { dice.below(20_000) } else { dice.below(200) };
                let body = Bytes::from(dice.bytes(size));
                assert_eq!(outbox.push(20, 1, body.clone()), Ok(Taken::Free));
                sent.push(body);
                if dice.below(3) == 0 {
                    let mut write = Vec::new();
                    let taken = outbox.take(&mut write, 30_000);
                    assert_eq!(taken, write.iter().map(Bytes::len).sum());
                    write.into_iter().for_each(|part| decoder.push(part));
                    outbox.on_written(taken);
                }
            }
            let mut write = Vec::new();
            let taken = outbox.take(&mut write, usize::MAX);
            write.into_iter().for_each(|part| decoder.push(part));
            outbox.on_written(taken);
            while let Some(frame) = decoder.poll().unwrap() {
                got.push(frame.body);
            }
            assert_eq!(got, sent);
            assert_eq!(outbox.bytes(), 0);
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn small_messages_leave_as_one_part_and_large_bodies_uncopied() {
        let mut outbox = Outbox::new(Lane::Data);
        for _ in 0..100 {
            outbox.push(20, 0, Bytes::from_static(b"small")).unwrap();
        }
        let large = Bytes::from(vec![7; 100_000]);
        outbox.push(20, 0, large.clone()).unwrap();
        outbox.push(20, 0, Bytes::from_static(b"small")).unwrap();
        let mut write = Vec::new();
        outbox.take(&mut write, usize::MAX);
        assert_eq!(write.len(), 3);
        assert_eq!(write[1].as_ptr(), large.as_ptr());
    }

    #[test]
    fn a_full_control_lane_breaks_the_link() {
        let mut outbox = Outbox::with_bytes_max(Lane::Control, 100);
        assert_eq!(outbox.push(20, 0, Bytes::from(vec![0; 60])), Ok(Taken::Free));
        assert_eq!(outbox.push(20, 0, Bytes::from(vec![0; 60])), Err(Full::Break));
    }

    #[test]
    fn a_full_data_lane_presses_until_half_has_left_and_breaks_at_twice_its_bound() {
        let mut outbox = Outbox::with_bytes_max(Lane::Data, 100);
        let body = Bytes::from(vec![0; 38]);
        assert_eq!(outbox.push(20, 0, body.clone()), Ok(Taken::Free));
        assert_eq!(outbox.push(20, 0, body.clone()), Ok(Taken::Pressed));
        assert_eq!(outbox.push(20, 0, body.clone()), Ok(Taken::Pressed));
        assert_eq!(outbox.push(20, 0, body.clone()), Ok(Taken::Pressed));
        assert_eq!(outbox.push(20, 0, body.clone()), Err(Full::Break));
        let mut write = Vec::new();
        assert_eq!(outbox.take(&mut write, usize::MAX), 200);
        outbox.on_written(149);
        assert!(outbox.is_pressed());
        outbox.on_written(1);
        assert!(!outbox.is_pressed());
        assert_eq!(outbox.push(20, 0, Bytes::new()), Ok(Taken::Free));
    }

    #[test]
    fn a_full_bulk_lane_says_later_and_means_it() {
        let mut outbox = Outbox::with_bytes_max(Lane::Bulk, 100);
        let body = Bytes::from(vec![0; 60]);
        outbox.push(20, 0, body.clone()).unwrap();
        assert_eq!(outbox.push(20, 0, body.clone()), Err(Full::Later));
        assert!(!outbox.has_room(body.len()));
        let mut write = Vec::new();
        let taken = outbox.take(&mut write, usize::MAX);
        outbox.on_written(taken);
        assert!(outbox.has_room(body.len()));
        assert_eq!(outbox.push(20, 0, body), Ok(Taken::Free));
    }

    #[test]
    fn one_message_larger_than_the_bound_is_taken_when_nothing_waits() {
        let mut outbox = Outbox::with_bytes_max(Lane::Bulk, 100);
        outbox.push(20, 0, Bytes::from(vec![0; 5_000])).unwrap();
        assert_eq!(outbox.push(20, 0, Bytes::new()), Err(Full::Later));
    }
}
