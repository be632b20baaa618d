//! SipHash-2-4 with 128 bits of output (Aumasson, Bernstein 2012), so that a message id costs 16 bytes in memory
//! whatever its length.
//!
//! The result is part of checkpoints, so it must be the same on every machine and for ever; that rules out hashes that
//! follow the processor. The key is public: two ids that collide need about 2^64 attempts to find, and would only hide
//! a message of the one who looked for them.

const KEY: (u64, u64) = (0x7472_6573_746c_6520, 0x6d73_672d_6964_2031);

/// 128-bit hash of `bytes` under Trestle's fixed key.
pub fn hash(bytes: &[u8]) -> u128 {
    keyed(KEY.0, KEY.1, bytes)
}

fn keyed(k0: u64, k1: u64, bytes: &[u8]) -> u128 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        absorb(&mut v, u64::from_le_bytes(*word));
    }
    let mut last = [0u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = bytes.len() as u8;
    absorb(&mut v, u64::from_le_bytes(last));
    v[2] ^= 0xee;
    let low = squeeze(&mut v);
    v[1] ^= 0xdd;
    let high = squeeze(&mut v);
    u128::from(low) | u128::from(high) << 64
}

fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

fn squeeze(v: &mut [u64; 4]) -> u64 {
    for _ in 0..4 {
        round(v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_vectors() {
        let key = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| (at + byte) as u8));
        let vector = |bytes: &[u8]| keyed(key(0), key(8), bytes).to_le_bytes();
        let empty = [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93];
        let one = [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45];
        assert_eq!(vector(&[]), empty);
        assert_eq!(vector(&[0]), one);
    }

    #[test]
    fn every_byte_counts() {
        let text = b"a message id that is longer than two words";
        for at in 0..text.len() {
            let mut other = *text;
            other[at] ^= 1;
            assert_ne!(hash(&other), hash(text));
        }
    }
}
