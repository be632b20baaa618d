//! What a consumer's log entries and checkpoints look like in bytes.
//!
//! ```text
//! entry       version u8 = 1 │ time i64, wall ns │ ops u32 │ op, op, …
//! op          kind u8 │ fields as LEB128 varints (a configuration: length, JSON)
//! checkpoint  version u8 = 1 │ applied index │ the state, all varints but the configuration
//! ```
//!
//! Fixed numbers are little-endian. One entry carries all changes of one turn. Every read is bounded by what is there;
//! bytes that make no sense are [`Damaged`], never a panic.

use std::fmt;

use bytes::Bytes;

use crate::ids::Seq;
use crate::limits::{CONSUMER_CONFIG_BYTES_MAX, CONSUMER_ENTRY_OPS_MAX};

use super::config::ConsumerConfig;

pub const VERSION: u8 = 1;

/// Bytes that are not what they should be: which field could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damaged(pub &'static str);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damaged consumer record: {}", self.0)
    }
}

/// One change of a consumer's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Delivery starts at `next`. With `resume` above it, only the last message per subject is delivered below `resume`.
    Started {
        next: Seq,
        resume: Seq,
    },
    /// The message was sent as the consumer's delivery number `consumer_seq`; its `count`th time.
    Delivered {
        consumer_seq: u64,
        stream_seq: Seq,
        count: u32,
    },
    /// Acknowledged or terminated.
    Acked {
        stream_seq: Seq,
    },
    /// The same with ack policy `all`: so are all before it, and the floor takes the number of the delivery that was
    /// acknowledged.
    AckedAll {
        stream_seq: Seq,
        consumer_seq: u64,
    },
    /// A NAK that wants the message again after this time.
    Delayed {
        stream_seq: Seq,
        wait_us: u64,
    },
    /// Its ack timer starts again.
    Progress {
        stream_seq: Seq,
    },
    /// The delivery reached nobody and does not count.
    Returned {
        stream_seq: Seq,
    },
    /// Delivered as often as allowed; given up.
    Exhausted {
        stream_seq: Seq,
    },
    /// The message is gone from the stream.
    Dropped {
        stream_seq: Seq,
    },
    /// Everything below `first` is gone from the stream.
    Trimmed {
        first: Seq,
    },
    Config(Box<ConsumerConfig>),
}

/// The body of one log entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The leader's wall clock, nanoseconds.
    pub time_ns: i64,
    pub ops: Vec<Op>,
}

impl Entry {
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(16 + self.ops.len() * 12);
        out.push(VERSION);
        out.extend_from_slice(&self.time_ns.to_le_bytes());
        out.extend_from_slice(&(self.ops.len() as u32).to_le_bytes());
        for op in &self.ops {
            op.encode(&mut out);
        }
        out.into()
    }

    pub fn decode(body: &[u8]) -> Result<Entry, Damaged> {
        let mut reader = Reader(body);
        if reader.byte("version")? != VERSION {
            return Err(Damaged("version"));
        }
        let time_ns = i64::from_le_bytes(reader.array("time")?);
        let count = u32::from_le_bytes(reader.array("count")?) as usize;
        if count > CONSUMER_ENTRY_OPS_MAX {
            return Err(Damaged("count"));
        }
        let mut ops = Vec::with_capacity(count.min(reader.0.len()));
        for _ in 0..count {
            ops.push(Op::decode(&mut reader)?);
        }
        reader.end()?;
        Ok(Entry { time_ns, ops })
    }
}

impl Op {
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, fields): (u8, [u64; 3]) = match self {
            Op::Started { next, resume } => (1, [*next, *resume, 0]),
            Op::Delivered { consumer_seq, stream_seq, count } => (2, [*consumer_seq, *stream_seq, u64::from(*count)]),
            Op::Acked { stream_seq } => (3, [*stream_seq, 0, 0]),
            Op::Delayed { stream_seq, wait_us } => (4, [*stream_seq, *wait_us, 0]),
            Op::Progress { stream_seq } => (5, [*stream_seq, 0, 0]),
            Op::Returned { stream_seq } => (6, [*stream_seq, 0, 0]),
            Op::Exhausted { stream_seq } => (7, [*stream_seq, 0, 0]),
            Op::Dropped { stream_seq } => (8, [*stream_seq, 0, 0]),
            Op::Trimmed { first } => (9, [*first, 0, 0]),
            Op::AckedAll { stream_seq, consumer_seq } => (11, [*stream_seq, *consumer_seq, 0]),
            Op::Config(config) => {
                out.push(10);
                return put_config(out, config);
            }
        };
        out.push(kind);
        for field in &fields[..Self::fields(kind)] {
            put(out, *field);
        }
    }

    fn fields(kind: u8) -> usize {
        match kind {
            2 => 3,
            1 | 4 | 11 => 2,
            _ => 1,
        }
    }

    fn decode(reader: &mut Reader) -> Result<Op, Damaged> {
        let kind = reader.byte("op")?;
        if kind == 10 {
            return Ok(Op::Config(Box::new(reader.config()?)));
        }
        let mut fields = [0u64; 3];
        for field in &mut fields[..Self::fields(kind)] {
            *field = reader.number("field")?;
        }
        let [stream_seq, second, third] = fields;
        Ok(match kind {
            1 => Op::Started { next: stream_seq, resume: second },
            2 => {
                let count = u32::try_from(third).map_err(|_| Damaged("delivery count"))?;
                Op::Delivered { consumer_seq: stream_seq, stream_seq: second, count }
            }
            3 => Op::Acked { stream_seq },
            4 => Op::Delayed { stream_seq, wait_us: second },
            5 => Op::Progress { stream_seq },
            6 => Op::Returned { stream_seq },
            7 => Op::Exhausted { stream_seq },
            8 => Op::Dropped { stream_seq },
            9 => Op::Trimmed { first: stream_seq },
            11 => Op::AckedAll { stream_seq, consumer_seq: second },
            _ => return Err(Damaged("op")),
        })
    }
}

/// Appends a varint: seven bits a byte, low ones first.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a configuration: length and JSON.
pub fn put_config(out: &mut Vec<u8>, config: &ConsumerConfig) {
    let json = serde_json::to_vec(config).expect("a configuration has string keys only");
    put(out, json.len() as u64);
    out.extend_from_slice(&json);
}

/// Reads foreign bytes from the front.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn byte(&mut self, what: &'static str) -> Result<u8, Damaged> {
        let (first, rest) = self.0.split_first().ok_or(Damaged(what))?;
        self.0 = rest;
        Ok(*first)
    }

    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Damaged> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(Damaged(what))?;
        self.0 = rest;
        Ok(*first)
    }

    /// A varint of at most 64 bits.
    pub fn number(&mut self, what: &'static str) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            if shift == 63 && byte > 1 {
                return Err(Damaged(what));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged(what))
    }

    pub fn config(&mut self) -> Result<ConsumerConfig, Damaged> {
        let len = self.number("config length")? as usize;
        if len > CONSUMER_CONFIG_BYTES_MAX || len > self.0.len() {
            return Err(Damaged("config length"));
        }
        let (json, rest) = self.0.split_at(len);
        self.0 = rest;
        serde_json::from_slice(json).map_err(|_| Damaged("config"))
    }

    /// Nothing may follow.
    pub fn end(&self) -> Result<(), Damaged> {
        if self.0.is_empty() { Ok(()) } else { Err(Damaged("bytes after the end")) }
    }
}
