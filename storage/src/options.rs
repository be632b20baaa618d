//! The settings of one log, with their bounds and reasons.

use crate::op::BLOCK;

/// Smallest segment: header, footer and one run of a useful size must fit.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// Largest segment: offsets inside a segment are 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Fewest segments of a log: one that is written, one held back for votes and deletes, one to move into.
pub const SEGMENTS_MIN: u64 = 3;
/// Unused segments that are kept for the next writes; more of them go back to the file system.
pub const FREE_SEGMENTS_MAX: usize = 16;
/// Appended but not durable bytes at which `append` answers `Busy`: a disk that far behind needs back-pressure, not
/// memory.
pub const UNSTORED_BYTES_MAX: usize = 64 << 20;

/// Which entries recovery hands out with their bodies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Replay {
    /// Every live record.
    #[default]
    All,
    /// Entries above their group's latest checkpoint, and every latest-wins record. The others stay readable.
    AfterCheckpoint,
}

/// Settings of one log. `check` says whether they make sense together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreOptions {
    /// Size of a segment file in bytes, a multiple of 4096. Only for new logs; an existing one keeps its own.
    pub segment_bytes: u64,
    /// Most bytes of all segment files together; `None` is "as much as the file system gives".
    pub bytes_max: Option<u64>,
    /// Bytes at which a run is closed (a single larger record still goes out alone).
    pub run_bytes_max: usize,
    /// Runs that may be on their way to the disk at once, 1 to 8.
    pub writes_in_flight_max: usize,
    /// Memory for bodies of records that are already durable, in bytes.
    pub cache_bytes: usize,
    /// Memory for chunks read back from disk, in bytes.
    pub read_cache_bytes: usize,
    /// A sealed segment with at least this share of dead bytes has its live records moved, 1 to 100.
    pub move_dead_percent: u8,
    /// True where a directory without a log may be given a new one. False (the default) for a store that is known to
    /// exist: then a missing log is a lost log.
    pub create: bool,
    /// A random number for a new log: salts every checksum, so that stored payload never parses as the log's own.
    pub seed: u64,
    /// Which entries recovery hands out.
    pub replay: Replay,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            segment_bytes: 64 << 20,
            bytes_max: None,
            run_bytes_max: 1 << 20,
            writes_in_flight_max: 2,
            cache_bytes: 64 << 20,
            read_cache_bytes: 16 << 20,
            move_dead_percent: 75,
            create: false,
            seed: 0,
            replay: Replay::All,
        }
    }
}

impl StoreOptions {
    /// Says in words what is wrong with the settings.
    pub fn check(&self) -> Result<(), String> {
        let segment = self.segment_bytes;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment) || !segment.is_multiple_of(BLOCK as u64) {
            return Err(format!(
                "segment size {segment} must be a multiple of 4096 from {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"
            ));
        }
        if self.bytes_max.is_some_and(|bytes| bytes / segment < SEGMENTS_MIN) {
            return Err(format!(
                "a store of at most {} bytes cannot hold the {SEGMENTS_MIN} segments of {segment} bytes that a log needs",
                self.bytes_max.unwrap_or(0)
            ));
        }
        if !(BLOCK..=segment as usize / 4).contains(&self.run_bytes_max) {
            return Err(format!("run size {} must be from 4096 to a quarter of a segment", self.run_bytes_max));
        }
        if !(1..=8).contains(&self.writes_in_flight_max) {
            return Err(format!("{} writes in flight must be 1 to 8", self.writes_in_flight_max));
        }
        if !(1..=100).contains(&self.move_dead_percent) {
            return Err(format!("move at {} % dead must be 1 to 100", self.move_dead_percent));
        }
        Ok(())
    }
}

/// Segments that a quota should hold, so that space comes back in useful steps.
const SEGMENTS_WITHIN: u64 = 8;

/// The size of the segments of a new log: as configured, or smaller where a small quota would hold too few of them.
pub fn segment_bytes_within(segment_bytes: u64, bytes_max: Option<u64>) -> u64 {
    let most = bytes_max.map_or(SEGMENT_BYTES_MAX, |bytes| bytes / SEGMENTS_WITHIN).max(SEGMENT_BYTES_MIN);
    // Rounded down to a power of two, as segments are.
    segment_bytes.min(1 << most.ilog2())
}

/// Largest body of one record in a log with segments of that size: a quarter, so that rolling to the next segment
/// never wastes more than that.
pub const fn record_bytes_max(segment_bytes: u64) -> usize {
    let quarter = (segment_bytes / 4) as usize;
    quarter - 2 * BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sound_and_nonsense_is_named() {
        assert_eq!(StoreOptions::default().check(), Ok(()));
        let within = |quota| segment_bytes_within(64 << 20, quota);
        assert_eq!((within(None), within(Some(1 << 40))), (64 << 20, 64 << 20));
        assert_eq!((within(Some(100 << 20)), within(Some(1))), (8 << 20, 1 << 20));
        let bad = |change: fn(&mut StoreOptions)| {
            let mut options = StoreOptions::default();
            change(&mut options);
            options.check().unwrap_err()
        };
        assert!(bad(|o| o.segment_bytes = 4096).contains("segment size"));
        assert!(bad(|o| o.segment_bytes += 1).contains("segment size"));
        assert!(bad(|o| o.bytes_max = Some(100)).contains("cannot hold"));
        assert!(bad(|o| o.run_bytes_max = 1 << 30).contains("run size"));
        assert!(bad(|o| o.writes_in_flight_max = 0).contains("writes in flight"));
        assert!(bad(|o| o.move_dead_percent = 0).contains("dead"));
    }
}
