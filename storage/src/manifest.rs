//! Which segment files a log has.
//!
//! A small text file beside the segments, replaced as a whole when a segment file is made or given back, never in the
//! write path. A segment is listed before its first run is written and unlisted before it is deleted: one that is
//! listed and missing is lost, one that is not listed holds nothing and may be deleted.
//!
//! ```text
//! trestle log 1
//! salt 00c0ffee00c0ffee       hex; goes into every checksum of the log
//! segment_bytes 67108864
//! segments 1 2 3
//! check 89abcdef              CRC-32 of all lines above, hex
//! ```

use std::collections::BTreeSet;

use crate::identity::FORMAT_VERSION;

/// Most segment files of one log; keeps the manifest below the 1 MiB of a small file.
pub(crate) const SEGMENTS_MAX: usize = 100_000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Manifest {
    pub salt: u64,
    pub segment_bytes: u64,
    pub segments: BTreeSet<u32>,
}

/// Why a manifest is not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ManifestError {
    Version(u32),
    Damaged(&'static str),
}

impl Manifest {
    pub fn encode(&self) -> Vec<u8> {
        let mut text =
            format!("trestle log {FORMAT_VERSION}\nsalt {:016x}\nsegment_bytes {}\n", self.salt, self.segment_bytes);
        text.push_str("segments");
        for segment in &self.segments {
            text.push_str(&format!(" {segment}"));
        }
        text.push('\n');
        let check = crc32fast::hash(text.as_bytes());
        text.push_str(&format!("check {check:08x}\n"));
        text.into_bytes()
    }

    pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        use ManifestError::{Damaged, Version};
        let text = std::str::from_utf8(bytes).map_err(|_| Damaged("not text"))?;
        let version = text.strip_prefix("trestle log ").and_then(|rest| rest.lines().next()?.parse::<u32>().ok());
        match version {
            Some(FORMAT_VERSION) => {}
            Some(other) => return Err(Version(other)),
            None => return Err(Damaged("does not begin with \"trestle log VERSION\"")),
        }
        let at = text.rfind("check ").ok_or(Damaged("no check line"))?;
        let (body, check) = text.split_at(at);
        if check != format!("check {:08x}\n", crc32fast::hash(body.as_bytes())) {
            return Err(Damaged("the checksum does not fit"));
        }
        parse_lines(body).ok_or(Damaged("a line is missing or malformed"))
    }
}

fn parse_lines(body: &str) -> Option<Manifest> {
    let mut lines = body.lines().skip(1);
    let salt = u64::from_str_radix(lines.next()?.strip_prefix("salt ")?, 16).ok()?;
    let segment_bytes = lines.next()?.strip_prefix("segment_bytes ")?.parse().ok()?;
    let numbers = lines.next()?.strip_prefix("segments")?.split_ascii_whitespace();
    let segments = numbers.map(|n| n.parse().ok()).collect::<Option<BTreeSet<u32>>>()?;
    let sizes = crate::options::SEGMENT_BYTES_MIN..=crate::options::SEGMENT_BYTES_MAX;
    let sound = sizes.contains(&segment_bytes) && segment_bytes % 4096 == 0 && segments.len() <= SEGMENTS_MAX;
    sound.then_some(Manifest { salt, segment_bytes, segments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn a_manifest_reads_back_and_a_changed_one_is_refused() {
        let manifest = Manifest { salt: 7, segment_bytes: 1 << 20, segments: [1, 5, 900].into() };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Ok(manifest));
        let empty = Manifest { salt: 0, segment_bytes: 1 << 20, segments: BTreeSet::new() };
        assert_eq!(Manifest::decode(&empty.encode()), Ok(empty));
        let mut dice = Dice::new(4);
        for _ in 0..500 {
            let mut changed = bytes.clone();
            let at = dice.below(changed.len() as u64) as usize;
            changed[at] ^= 1 << dice.below(8);
            assert!(Manifest::decode(&changed).is_err());
            changed.truncate(at);
            assert!(Manifest::decode(&changed).is_err());
        }
        assert_eq!(Manifest::decode(b"trestle log 9\n"), Err(ManifestError::Version(9)));
    }
}
