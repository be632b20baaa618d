//! Bodies in memory: the tail of the log, and chunks that were read back.
//!
//! A body that waits for the disk is always here; once durable it stays until younger ones push it out, so followers
//! and consumers that keep up never touch the disk. Chunks from disk are kept whole, because readers of neighbouring
//! records come for the same blocks. Both are bounded in bytes; nothing is ever wrong when something is missing here.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::record::Lsn;

/// Most chunks that are kept; they are searched one by one.
const CHUNKS_MAX: usize = 64;

/// Bodies of the newest records.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Each with the number of times it waits for the disk (a record and its copy share an LSN).
    bodies: BTreeMap<Lsn, (Bytes, u32)>,
    /// Durable ones, oldest first: these may go.
    settled: VecDeque<Lsn>,
    bytes: usize,
    bytes_max: usize,
}

impl Tail {
    pub fn new(bytes_max: usize) -> Tail {
        Tail { bytes_max, ..Tail::default() }
    }

    pub fn put(&mut self, lsn: Lsn, body: &Bytes) {
        let (_, waits) = self.bodies.entry(lsn).or_insert_with(|| {
            self.bytes += body.len();
            (body.clone(), 0)
        });
        *waits += 1;
    }

    pub fn get(&self, lsn: Lsn) -> Option<&Bytes> {
        self.bodies.get(&lsn).map(|(body, _)| body)
    }

    /// The body is on disk and may go when memory is short.
    pub fn settle(&mut self, lsn: Lsn) {
        if let Some((_, waits)) = self.bodies.get_mut(&lsn) {
            *waits -= 1;
            self.settled.push_back(lsn);
        }
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.settled.pop_front() else { break };
            if self.bodies.get(&oldest).is_some_and(|(_, waits)| *waits == 0)
                && let Some((body, _)) = self.bodies.remove(&oldest)
            {
                self.bytes -= body.len();
            }
        }
    }
}

#[derive(Debug)]
struct Chunk {
    segment: u32,
    offset: u32,
    bytes: Bytes,
}

/// Pieces of segments as they were read.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    bytes_max: usize,
}

impl Chunks {
    pub fn new(bytes_max: usize) -> Chunks {
        Chunks { bytes_max, ..Chunks::default() }
    }

    pub fn put(&mut self, segment: u32, offset: u32, bytes: Bytes) {
        self.bytes += bytes.len();
        self.chunks.push_back(Chunk { segment, offset, bytes });
        while self.bytes > self.bytes_max || self.chunks.len() > CHUNKS_MAX {
            let Some(oldest) = self.chunks.pop_front() else { break };
            self.bytes -= oldest.bytes.len();
        }
    }

    /// A slice of a chunk that holds all of it.
    pub fn get(&self, segment: u32, offset: u32, len: u32) -> Option<Bytes> {
        let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(len));
        self.chunks.iter().rev().filter(|chunk| chunk.segment == segment).find_map(|chunk| {
            let base = u64::from(chunk.offset);
            let inside = start >= base && end <= base + chunk.bytes.len() as u64;
            inside.then(|| chunk.bytes.slice((start - base) as usize..(end - base) as usize))
        })
    }

    /// The segment is used again.
    pub fn forget(&mut self, segment: u32) {
        self.chunks.retain(|chunk| chunk.segment != segment);
        self.bytes = self.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_stay_until_settled_and_pushed_out() {
        let mut tail = Tail::new(10);
        for lsn in 1..=4 {
            tail.put(Lsn(lsn), &Bytes::from(vec![0; 5]));
        }
        assert!(tail.get(Lsn(1)).is_some(), "not durable, so not to be forgotten");
        tail.settle(Lsn(1));
        tail.settle(Lsn(2));
        tail.settle(Lsn(3));
        assert_eq!(tail.get(Lsn(2)), None);
        assert!(tail.get(Lsn(3)).is_some() && tail.get(Lsn(4)).is_some());
    }

    #[test]
    fn a_copy_that_waits_keeps_its_body() {
        let mut tail = Tail::new(0);
        let body = Bytes::from_static(b"body");
        tail.put(Lsn(1), &body);
        tail.put(Lsn(1), &body);
        tail.settle(Lsn(1));
        assert_eq!(tail.get(Lsn(1)), Some(&body));
        tail.settle(Lsn(1));
        assert_eq!(tail.get(Lsn(1)), None);
    }

    #[test]
    fn chunks_answer_for_what_they_hold_wholly() {
        let mut chunks = Chunks::new(8192);
        chunks.put(1, 4096, Bytes::from(vec![7; 4096]));
        assert_eq!(chunks.get(1, 5000, 10), Some(Bytes::from(vec![7; 10])));
        assert_eq!(chunks.get(1, 8190, 10), None);
        assert_eq!(chunks.get(2, 5000, 10), None);
        chunks.put(2, 0, Bytes::from(vec![8; 8192]));
        assert_eq!(chunks.get(1, 5000, 10), None, "pushed out");
        chunks.forget(2);
        assert_eq!(chunks.get(2, 0, 1), None);
    }
}
