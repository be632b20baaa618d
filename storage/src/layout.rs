//! Bytes in and out, with every length checked.
//!
//! All numbers on disk are little-endian and of fixed size, or LEB128 in footers. A [`Cursor`] over foreign bytes
//! answers `None` past the end; nothing here can panic on what it reads.

use crate::op::BLOCK;

/// CRC-32 (IEEE) over a log's salt and the parts in turn. The salt is what keeps stored payload, which a client
/// chooses, from ever parsing as a header of ours.
pub(crate) fn checksum(salt: u64, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

/// `bytes` rounded up to whole blocks.
pub(crate) const fn blocks(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK)
}

/// Reads foreign bytes from front to back.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    pub fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    /// LEB128, at most ten bytes.
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A difference to `base`, written by [`put_delta`].
    pub fn delta(&mut self, base: u64) -> Option<u64> {
        let zigzag = self.varint()?;
        Some(base.wrapping_add((zigzag >> 1) ^ (zigzag & 1).wrapping_neg()))
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Writes `value` as its difference to `base`: small either way costs one byte.
pub(crate) fn put_delta(out: &mut Vec<u8>, base: u64, value: u64) {
    let difference = value.wrapping_sub(base) as i64;
    put_varint(out, ((difference << 1) ^ (difference >> 63)) as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_short_input_ends() {
        let samples = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        for base in samples {
            for value in samples {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                put_delta(&mut out, base, value);
                let mut cursor = Cursor::new(&out);
                assert_eq!((cursor.varint(), cursor.delta(base)), (Some(value), Some(value)));
                assert_eq!(cursor.varint(), None);
            }
        }
    }

    #[test]
    fn a_varint_longer_than_a_number_is_refused() {
        assert_eq!(Cursor::new(&[0xff; 20]).varint(), None);
        let mut ten = [0x80; 10];
        ten[9] = 0x02;
        assert_eq!(Cursor::new(&ten).varint(), None);
    }
}
