//! Frames: how messages between servers are cut out of a byte stream.
//!
//! ```text
//!  0        4      5      6       7        8        12            all numbers little-endian
//! ┌────────┬──────┬──────┬───────┬────────┬────────┬───────────┐
//! │ length │ kind │ lane │ flags │ 0xb7   │ crc32  │ body ...  │  crc32 (IEEE) over bytes 0..8 and the body
//! └────────┴──────┴──────┴───────┴────────┴────────┴───────────┘  length counts the body alone
//! ```
//!
//! A frame arrives whole and undamaged or the connection is given up: there is no resynchronising, since a damaged
//! length would only be found by luck. The decoder hands bodies on as slices of what was read; only a frame that spans
//! reads is joined. Kinds below [`KIND_MESSAGES_FIRST`] belong to [`super::link`].

use super::lane::Lane;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::fmt;

/// Bytes in front of every body.
pub const HEADER_BYTES: usize = 12;

/// Largest body: the largest payload that nats-server allows without a warning (8 MiB) and room for what surrounds a
/// message (subject, reply, account, term and index). Longer things are sent in pieces.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024 + 64 * 1024;

/// Kinds from here on are messages; the ones below are the link's own.
pub const KIND_MESSAGES_FIRST: u8 = 16;

/// Tells our frames from a client or browser that dialled the wrong port: not a byte of any text.
const MARK: u8 = 0xb7;

/// Reserved ahead for an announced body; more grows as bytes really arrive.
const RESERVE_BYTES_MAX: usize = 256 * 1024;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub lane: Lane,
    /// Meaning depends on the kind; 0 where none is defined.
    pub flags: u8,
    pub body: Bytes,
}

/// Why a connection must be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The bytes are not frames: something else dialled this port.
    NotOurs,
    /// The announced body exceeds the limit.
    TooLarge { bytes: usize, max: usize },
    /// No such lane.
    UnknownLane(u8),
    /// The bytes were damaged on the way.
    Checksum,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::NotOurs => f.write_str("not the protocol of a Trestle server"),
            FrameError::TooLarge { bytes, max } => write!(f, "frame of {bytes} bytes exceeds {max}"),
            FrameError::UnknownLane(code) => write!(f, "frame for unknown lane {code}"),
            FrameError::Checksum => f.write_str("frame checksum does not match"),
        }
    }
}

impl std::error::Error for FrameError {}

/// The header of a body that is given in parts. Panics when the body exceeds [`BODY_BYTES_MAX`]: the sender must cut.
pub fn header(kind: u8, lane: Lane, flags: u8, parts: &[&[u8]]) -> [u8; HEADER_BYTES] {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    assert!(length <= BODY_BYTES_MAX, "a frame body of {length} bytes was not cut");
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&(length as u32).to_le_bytes());
    header[4..8].copy_from_slice(&[kind, lane.code(), flags, MARK]);
    let crc = checksum(&header[..8], parts);
    header[8..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Appends a whole frame. Panics as [`header`] does.
pub fn encode(out: &mut BytesMut, kind: u8, lane: Lane, flags: u8, body: &[u8]) {
    out.reserve(HEADER_BYTES + body.len());
    out.put_slice(&header(kind, lane, flags, &[body]));
    out.put_slice(body);
}

fn checksum(head: &[u8], parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// Cuts what was read into frames. After an error it must not be used again.
#[derive(Debug)]
pub struct Decoder {
    body_bytes_max: usize,
    chunks: VecDeque<Bytes>,
    /// The start of a frame that spans reads.
    partial: BytesMut,
}

/// What a header says.
struct Head {
    length: usize,
    kind: u8,
    lane: Lane,
    flags: u8,
    crc: u32,
}

impl Decoder {
    /// A decoder that takes bodies up to this size.
    pub fn new(body_bytes_max: usize) -> Self {
        Decoder { body_bytes_max, chunks: VecDeque::new(), partial: BytesMut::new() }
    }

    /// Another limit, for the frames from here on.
    pub fn set_body_bytes_max(&mut self, body_bytes_max: usize) {
        self.body_bytes_max = body_bytes_max;
    }

    /// What was just read.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next frame; `None` until more is pushed.
    pub fn poll(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.partial.is_empty() {
            let Some(chunk) = self.chunks.front() else { return Ok(None) };
            if let Some(head) = self.head(chunk)?
                && chunk.len() >= HEADER_BYTES + head.length
            {
                let frame = self.take_front(HEADER_BYTES + head.length);
                return finish(head, frame).map(Some);
            }
        }
        self.join()
    }

    /// Bytes that wait, decoded or not.
    pub fn len(&self) -> usize {
        self.partial.len() + self.chunks.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.chunks.is_empty()
    }

    /// Gathers a frame that spans reads: first its header, then its body.
    fn join(&mut self) -> Result<Option<Frame>, FrameError> {
        if !self.gather(HEADER_BYTES) {
            // Also before a header is complete: a stranger may send four bytes and wait for an answer.
            self.head(&self.partial)?;
            return Ok(None);
        }
        let Some(head) = self.head(&self.partial)? else { return Ok(None) };
        self.partial.reserve(head.length.min(RESERVE_BYTES_MAX));
        if !self.gather(HEADER_BYTES + head.length) {
            return Ok(None);
        }
        finish(head, self.partial.split().freeze()).map(Some)
    }

    /// Moves bytes over until `partial` has this many; false when there are not enough.
    fn gather(&mut self, wanted: usize) -> bool {
        while self.partial.len() < wanted {
            let Some(chunk) = self.chunks.front() else { return false };
            let take = (wanted - self.partial.len()).min(chunk.len());
            let bytes = self.take_front(take);
            self.partial.extend_from_slice(&bytes);
        }
        true
    }

    fn take_front(&mut self, bytes: usize) -> Bytes {
        let Some(chunk) = self.chunks.front_mut() else { return Bytes::new() };
        let taken = chunk.split_to(bytes);
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        taken
    }

    /// The header at the start of these bytes, checked; `None` while it is incomplete.
    fn head(&self, bytes: &[u8]) -> Result<Option<Head>, FrameError> {
        if bytes.get(7).is_some_and(|mark| *mark != MARK) {
            return Err(FrameError::NotOurs);
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let [l0, l1, l2, l3, kind, lane, flags, _, c0, c1, c2, c3] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > self.body_bytes_max {
            return Err(FrameError::TooLarge { bytes: length, max: self.body_bytes_max });
        }
        let lane = Lane::from_code(lane).ok_or(FrameError::UnknownLane(lane))?;
        Ok(Some(Head { length, kind, lane, flags, crc: u32::from_le_bytes([c0, c1, c2, c3]) }))
    }
}

fn finish(head: Head, mut frame: Bytes) -> Result<Frame, FrameError> {
    let body = frame.split_off(HEADER_BYTES);
    if checksum(&frame[..8], &[&body]) != head.crc {
        return Err(FrameError::Checksum);
    }
    Ok(Frame { kind: head.kind, lane: head.lane, flags: head.flags, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn drain(decoder: &mut Decoder) -> Result<Vec<Frame>, FrameError> {
        let mut frames = Vec::new();
        while let Some(frame) = decoder.poll()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn wire(frames: &[Frame]) -> Bytes {
        let mut out = BytesMut::new();
        for frame in frames {
            encode(&mut out, frame.kind, frame.lane, frame.flags, &frame.body);
        }
        out.freeze()
    }

    fn samples(dice: &mut Dice, count: usize) -> Vec<Frame> {
        let frame = |dice: &mut Dice| {
            let size = dice.below(300);
            let body = Bytes::from(dice.bytes(size));
            Frame { kind: dice.next() as u8, lane: *dice.pick(&Lane::ALL), flags: dice.next() as u8, body }
        };
        (0..count).map(|_| frame(dice)).collect()
    }

    #[test]
    fn the_bytes_are_as_drawn() {
        let mut out = BytesMut::new();
        encode(&mut out, 17, Lane::Bulk, 3, b"ab");
        assert_eq!(&out[..8], &[2, 0, 0, 0, 17, 2, 3, 0xb7]);
        assert_eq!(out[8..12], crc32fast::hash(&[2, 0, 0, 0, 17, 2, 3, 0xb7, b'a', b'b']).to_le_bytes());
        assert_eq!(&out[12..], b"ab");
    }

    #[test]
    fn frames_read_back_at_any_cut() {
        let mut dice = Dice::new(1);
        for _ in 0..300 {
            let frames = samples(&mut dice, 5);
            let bytes = wire(&frames);
            let mut decoder = Decoder::new(BODY_BYTES_MAX);
            let mut got = Vec::new();
            let mut rest = bytes;
            while !rest.is_empty() {
                let size = (1 + dice.below(200)).min(rest.len());
                decoder.push(rest.split_to(size));
                got.extend(drain(&mut decoder).unwrap());
            }
            assert_eq!(got, frames);
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn a_body_within_one_read_is_not_copied() {
        let bytes = wire(&samples(&mut Dice::new(2), 3));
        let mut decoder = Decoder::new(BODY_BYTES_MAX);
        decoder.push(bytes.clone());
        for frame in drain(&mut decoder).unwrap().iter().filter(|frame| !frame.body.is_empty()) {
            assert!(bytes.as_ptr_range().contains(&frame.body.as_ptr()));
        }
    }

    #[test]
    fn one_flipped_bit_never_yields_a_frame() {
        let frames = samples(&mut Dice::new(3), 1);
        let bytes = wire(&frames);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut decoder = Decoder::new(BODY_BYTES_MAX);
            decoder.push(Bytes::from(damaged));
            // A longer length waits for bytes that do not come; everything else is an error at once.
            assert!(matches!(decoder.poll(), Ok(None) | Err(_)), "bit {bit}");
        }
    }

    #[test]
    fn strangers_and_oversized_frames_are_refused_at_their_header() {
        let refused = |bytes: &'static [u8]| {
            let mut decoder = Decoder::new(1000);
            decoder.push(Bytes::from_static(bytes));
            decoder.poll()
        };
        assert_eq!(refused(b"GET / HTTP/1.1\r\n"), Err(FrameError::NotOurs));
        assert_eq!(refused(b"CONNECT {"), Err(FrameError::NotOurs));
        assert_eq!(refused(b"\xe9\x03\0\0\x11\0\0\xb7...."), Err(FrameError::TooLarge { bytes: 1001, max: 1000 }));
        assert_eq!(refused(b"\x01\0\0\0\x11\x09\0\xb7...."), Err(FrameError::UnknownLane(9)));
        assert_eq!(refused(b"\x01\0\0\0\x11\x01\0\xb7....x"), Err(FrameError::Checksum));
        assert_eq!(refused(b"\x01\0\0"), Ok(None));
    }

    #[test]
    fn an_announced_body_reserves_little() {
        let mut decoder = Decoder::new(BODY_BYTES_MAX);
        let mut head = header(20, Lane::Data, 0, &[]).to_vec();
        head[..4].copy_from_slice(&(BODY_BYTES_MAX as u32).to_le_bytes());
        decoder.push(Bytes::from(head));
        assert_eq!(decoder.poll(), Ok(None));
        assert!(decoder.partial.capacity() <= 2 * RESERVE_BYTES_MAX);
    }

    #[test]
    fn damaged_streams_never_panic() {
        let mut dice = Dice::new(4);
        for _ in 0..20_000 {
            let bytes = wire(&samples(&mut dice, 2));
            let mut decoder = Decoder::new(BODY_BYTES_MAX);
            let damaged = dice.damage(&bytes);
            let cut = dice.below(damaged.len() + 1);
            decoder.push(Bytes::copy_from_slice(&damaged[..cut]));
            if drain(&mut decoder).is_ok() {
                decoder.push(Bytes::copy_from_slice(&damaged[cut..]));
                let waiting = decoder.len();
                let frames = drain(&mut decoder).unwrap_or_default();
                assert!(frames.len() * HEADER_BYTES <= waiting);
            }
        }
    }
}
