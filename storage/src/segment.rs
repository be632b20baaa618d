//! The head of a segment file: which use of the file this is.
//!
//! ```text
//!  0      4096   8192                                     end - footer   end - 4096   end
//!  ├─head─┼─head─┼─run─┼─run─┼─run─┼ ... old or zero ... ┼─ footer ─────┼─ trailer ──┤
//!
//!  head    0 magic "TRSTSEG1"  8 version u32  12 state u32 (1 free, 2 open)  16 segment u32  20 zero u32
//!         24 generation u64   32 segment bytes u64   40 CRC-32 of the salt and bytes 0..40   rest zero
//! ```
//!
//! The head is written twice, side by side, each in one sector: a write that is torn leaves the old or the new one in
//! either place, and one damaged sector loses nothing. The higher generation counts, and free before open. Only a segment whose records are
//! all dead, durably, gets a new head; from then on nothing that an earlier use left behind parses.

use bytes::Bytes;

use crate::layout::{Cursor, checksum};
use crate::op::BLOCK;

/// Where the first run of a segment begins, in bytes.
pub(crate) const RUNS_START: u32 = 2 * BLOCK as u32;

const MAGIC: &[u8; 8] = b"TRSTSEG1";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 44;

/// What a segment's head says about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HeadState {
    /// Holds nothing, and nothing was written since.
    Free,
    /// May hold runs of this generation.
    Open,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub state: HeadState,
    pub segment: u32,
    pub generation: u64,
    pub segment_bytes: u64,
}

impl Head {
    /// Both copies, to be written at offset 0.
    pub fn encode(&self, salt: u64) -> Vec<Bytes> {
        let mut block = Vec::with_capacity(BLOCK);
        block.extend_from_slice(MAGIC);
        block.extend_from_slice(&VERSION.to_le_bytes());
        let state: u32 = if self.state == HeadState::Free { 1 } else { 2 };
        block.extend_from_slice(&state.to_le_bytes());
        block.extend_from_slice(&self.segment.to_le_bytes());
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&self.generation.to_le_bytes());
        block.extend_from_slice(&self.segment_bytes.to_le_bytes());
        let crc = checksum(salt, &[&block]);
        block.extend_from_slice(&crc.to_le_bytes());
        block.resize(BLOCK, 0);
        let block = Bytes::from(block);
        vec![block.clone(), block]
    }

    /// The newer of the two copies at the front of a segment; `None` when neither can be read.
    pub fn decode(salt: u64, segment: u32, segment_bytes: u64, bytes: &[u8]) -> Option<Head> {
        let copies = [bytes.get(..BLOCK), bytes.get(BLOCK..2 * BLOCK)];
        let heads = copies.into_iter().flatten().filter_map(|block| decode_one(salt, block));
        let ours = heads.filter(|head| head.segment == segment && head.segment_bytes == segment_bytes);
        ours.max_by_key(|head| (head.generation, head.state == HeadState::Free))
    }
}

fn decode_one(salt: u64, block: &[u8]) -> Option<Head> {
    let raw = block.get(..HEAD_BYTES)?;
    let mut cursor = Cursor::new(raw);
    if cursor.take(8)? != MAGIC || cursor.u32()? != VERSION {
        return None;
    }
    let state = match cursor.u32()? {
        1 => HeadState::Free,
        2 => HeadState::Open,
        _ => return None,
    };
    let segment = cursor.u32()?;
    cursor.u32()?;
    let (generation, segment_bytes) = (cursor.u64()?, cursor.u64()?);
    let crc = cursor.u32()?;
    let sound = crc == checksum(salt, &[raw.get(..HEAD_BYTES - 4)?]);
    sound.then_some(Head { state, segment, generation, segment_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn head(generation: u64) -> Head {
        Head { state: HeadState::Open, segment: 3, generation, segment_bytes: 1 << 20 }
    }

    #[test]
    fn the_newer_of_two_readable_copies_counts() {
        let old = head(4).encode(9).concat();
        let new = head(5).encode(9).concat();
        let read = |bytes: &[u8]| Head::decode(9, 3, 1 << 20, bytes).map(|h| h.generation);
        assert_eq!(read(&old), Some(4));
        assert_eq!(read(&[&new[..BLOCK], &old[BLOCK..]].concat()), Some(5), "torn behind the first copy");
        assert_eq!(read(&[&old[..BLOCK], &new[BLOCK..]].concat()), Some(5), "the second copy came first");
        let mut damaged = new.clone();
        damaged[20] ^= 1;
        assert_eq!(read(&damaged), Some(5), "one damaged copy costs nothing");
        damaged[BLOCK + 30] ^= 1;
        assert_eq!(read(&damaged), None);
        assert_eq!(Head::decode(9, 4, 1 << 20, &new), None, "another segment's head");
        assert_eq!(Head::decode(8, 3, 1 << 20, &new), None, "another log's head");
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        let mut dice = Dice::new(3);
        for _ in 0..200 {
            let _ = Head::decode(9, 3, 1 << 20, &dice.bytes(2 * BLOCK as u64));
        }
    }
}
