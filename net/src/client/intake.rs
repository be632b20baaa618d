//! Keeps the bytes of one connection between reads and turns them into operations.
//!
//! Reads that hold whole operations are parsed where they are. Only an operation that spans reads is joined into a
//! buffer of its own, and nothing but that operation: the rest of the read is again parsed in place. A payload is
//! copied once however many reads it takes.
//!
//! Memory is bounded by what was pushed and not yet taken, plus one operation (`control_line_max` + `payload_max`).
//! The caller bounds the first part by not reading on before it has drained [`Intake::poll`].

use super::op::Op;
use super::parse::{ParseError, Parser, Step};
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;

/// Reserved ahead for an announced payload. More grows as bytes really arrive, so that a client which announces a
/// large payload on many connections and sends none of it holds little memory.
const RESERVE_BYTES_MAX: usize = 256 * 1024;

/// A [`Parser`] and the bytes that wait for it.
#[derive(Debug)]
pub struct Intake {
    pub parser: Parser,
    /// Being parsed in place.
    front: Bytes,
    /// Pushed behind `front`.
    chunks: VecDeque<Bytes>,
    /// The start of an operation that spans reads; when not empty, `front` is.
    partial: BytesMut,
    /// `partial` is worth parsing when it has this length.
    wanted: usize,
}

impl Intake {
    pub fn new(parser: Parser) -> Self {
        Intake { parser, front: Bytes::new(), chunks: VecDeque::new(), partial: BytesMut::new(), wanted: 0 }
    }

    /// What was just read.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// The next operation; `None` until more is pushed. After an error the connection must be closed.
    pub fn poll(&mut self) -> Result<Option<Op>, ParseError> {
        loop {
            if !self.partial.is_empty() && !self.join() {
                return Ok(None);
            }
            if self.front.is_empty() {
                match self.chunks.pop_front() {
                    Some(chunk) => self.front = chunk,
                    None => return Ok(None),
                }
            }
            match self.parser.parse(&self.front)? {
                Step::Op { op, consumed } => {
                    self.front.advance(consumed);
                    return Ok(Some(op));
                }
                Step::NeedMore { at_least } => self.set_aside(at_least),
            }
        }
    }

    /// Bytes that are waiting, parsed or not.
    pub fn len(&self) -> usize {
        self.front.len() + self.partial.len() + self.chunks.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `front` is the start of an operation that goes on in the next read.
    fn set_aside(&mut self, at_least: usize) {
        self.wanted = at_least;
        self.partial.reserve(at_least.min(RESERVE_BYTES_MAX.max(self.front.len())));
        self.partial.extend_from_slice(&self.front);
        self.front = Bytes::new();
    }

    /// Moves what the operation in `partial` lacks over from the chunks. True when it became `front`.
    fn join(&mut self) -> bool {
        while self.partial.len() < self.wanted {
            let Some(chunk) = self.chunks.front_mut() else { return false };
            let mut take = (self.wanted - self.partial.len()).min(chunk.len());
            if !self.parser.in_payload() {
                // The length of a line is not known before its end.
                take = memchr::memchr(b'\n', chunk).map_or(chunk.len(), |at| at + 1);
            }
            self.partial.extend_from_slice(&chunk.split_to(take));
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        self.front = self.partial.split().freeze();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Limits, Role};
    use super::*;

    fn intake() -> Intake {
        Intake::new(Parser::new(Role::Server, Limits::default()))
    }

    fn drain(intake: &mut Intake) -> Vec<Op> {
        let mut ops = Vec::new();
        while let Some(op) = intake.poll().unwrap() {
            ops.push(op);
        }
        ops
    }

    #[test]
    fn whole_operations_are_slices_of_the_read() {
        let read = Bytes::from_static(b"PUB a 5\r\nhello\r\nPING\r\n");
        let mut intake = intake();
        intake.push(read.clone());
        let ops = drain(&mut intake);
        assert_eq!(ops.len(), 2);
        let Op::Pub { payload, .. } = &ops[0] else { panic!("{ops:?}") };
        assert!(read.as_ptr_range().contains(&payload.as_ptr()));
        assert!(intake.is_empty());
    }

    #[test]
    fn an_operation_over_two_reads_leaves_the_rest_of_the_second_in_place() {
        let second = Bytes::from_static(b"lo\r\nPUB b 2\r\nhi\r\n");
        let mut intake = intake();
        intake.push(Bytes::from_static(b"PUB a 5\r\nhel"));
        assert_eq!(drain(&mut intake), []);
        intake.push(second.clone());
        let ops = drain(&mut intake);
        let Op::Pub { payload, .. } = &ops[0] else { panic!("{ops:?}") };
        assert_eq!(&payload[..], b"hello");
        let Op::Pub { payload, .. } = &ops[1] else { panic!("{ops:?}") };
        assert!(second.as_ptr_range().contains(&payload.as_ptr()));
    }

    #[test]
    fn any_cut_gives_the_same_operations() {
        let text = b"CONNECT {}\r\nSUB a.> q 1\r\nPUB a.b 3\r\nabc\r\nHPUB x y 12 14\r\nNATS/1.0\r\n\r\nhi\r\nping\nUNSUB 1 7\r\n";
        let mut whole = intake();
        whole.push(Bytes::from_static(text));
        let expected = drain(&mut whole);
        assert_eq!(expected.len(), 6);
        for size in 1..text.len() {
            let mut cut = intake();
            let mut ops = Vec::new();
            for piece in text.chunks(size) {
                cut.push(Bytes::copy_from_slice(piece));
                ops.extend(drain(&mut cut));
            }
            assert_eq!(ops, expected, "pieces of {size}");
            assert!(cut.is_empty());
        }
    }

    #[test]
    fn a_large_payload_arrives_in_many_reads() {
        let payload: Vec<u8> = (0..700_000u32).map(|n| n as u8).collect();
        let mut text = format!("PUB big {}\r\n", payload.len()).into_bytes();
        text.extend_from_slice(&payload);
        text.extend_from_slice(b"\r\nPING\r\n");
        let mut intake = intake();
        let mut ops = Vec::new();
        for piece in text.chunks(1460) {
            intake.push(Bytes::copy_from_slice(piece));
            ops.extend(drain(&mut intake));
        }
        assert_eq!(ops.len(), 2);
        let Op::Pub { payload: got, .. } = &ops[0] else { panic!("{:?}", ops[1]) };
        assert_eq!(&got[..], &payload[..]);
    }

    #[test]
    fn an_announced_payload_reserves_little() {
        let limits = Limits { payload_max: 64 * 1024 * 1024, ..Limits::default() };
        let mut intake = Intake::new(Parser::new(Role::Server, limits));
        intake.push(Bytes::from_static(b"PUB a 67108864\r\nx"));
        assert_eq!(intake.poll(), Ok(None));
        assert!(intake.partial.capacity() <= 2 * RESERVE_BYTES_MAX);
    }
}
