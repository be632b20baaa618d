//! When to act: the seeded generator and the waits drawn from it. Time itself always comes from outside.

use crate::{Now, Options, Preference};

/// A small seeded generator (the splitmix64 sequence). Spreads election timeouts; not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }
}

/// A node's clock face: what it was told last, and when it must act.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    rng: Rng,
    /// The latest time that any call brought.
    pub(crate) seen: Now,
    /// When a leader was last heard, on a replica that is none.
    pub(crate) contact: Now,
    /// When to stop waiting for a leader, or for votes.
    pub(crate) election: Now,
    /// On a leader: when the next heartbeats go out.
    pub(crate) heartbeat: Now,
}

impl Timing {
    pub(crate) fn new(seed: u64, now: Now) -> Timing {
        Timing { rng: Rng::new(seed), seen: now, contact: now, election: now, heartbeat: now }
    }

    /// A number that tells this start from any other.
    pub(crate) fn nonce(&mut self) -> u64 {
        self.rng.next()
    }

    /// Draws the next wait for a leader, counted from `from`.
    pub(crate) fn await_leader(&mut self, options: &Options, from: Now) {
        let base = options.election_timeout_us;
        let spread = match options.preference {
            Preference::Neutral => self.rng.below(base),
            Preference::Preferred => self.rng.below(base / 2),
            Preference::Averse => base / 2 + self.rng.below(base / 2),
        };
        self.election = from.saturating_add(base).saturating_add(spread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    #[test]
    fn waits_stay_in_their_part_of_the_range() {
        let base = 1_000;
        for (preference, low, high) in
            [(Preference::Neutral, 0, 1_000), (Preference::Preferred, 0, 500), (Preference::Averse, 500, 1_000)]
        {
            let options = Options { election_timeout_us: base, preference, ..Options::new(NodeId(1), 0, 0) };
            let mut timing = Timing::new(3, 50);
            let mut seen = (u64::MAX, 0);
            for _ in 0..2_000 {
                timing.await_leader(&options, 50);
                let spread = timing.election - 50 - base;
                seen = (seen.0.min(spread), seen.1.max(spread));
            }
            assert!(seen.0 >= low && seen.0 < low + 20, "{preference:?} {seen:?}");
            assert!(seen.1 < high && seen.1 >= high - 20, "{preference:?} {seen:?}");
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_waits() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            [rng.next(), rng.next(), rng.below(10)]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
