//! Replay as it was (`replay_policy: original`): the messages that were in the stream when a leader began go out with the
//! gaps between their times, until delivery has caught up. Newer ones, and what is delivered again, go out at once.
//!
//! A gap counts from the delivery before it, so a client that was away holds nobody up longer than the gap itself. A new
//! leader knows no delivery and begins with the next message at once.

use crate::ids::Seq;

use super::config::{ConsumerConfig, ReplayPolicy};
use super::source::Source;

/// Shorter gaps are not kept (peer: 1 ms).
const GAP_MIN_NS: i64 = 1_000_000;

#[derive(Debug)]
pub struct Pace {
    /// Last message that is held back.
    until: Seq,
    /// When the message before was stored, wall nanoseconds, and when it was sent.
    before: Option<(i64, u64)>,
}

impl Pace {
    /// `None` for a consumer that delivers as fast as it can.
    pub fn new<S: Source>(config: &ConsumerConfig, source: &S) -> Option<Pace> {
        let original = config.replay_policy == ReplayPolicy::Original;
        original.then(|| Pace { until: source.last_seq(), before: None })
    }

    /// When a message that was stored at this time may go out; `None` is at once.
    pub fn due_us(&self, seq: Seq, stored_ns: i64) -> Option<u64> {
        let (before_ns, sent_us) = self.before.filter(|_| seq <= self.until)?;
        let gap_ns = stored_ns.saturating_sub(before_ns);
        (gap_ns > GAP_MIN_NS).then(|| sent_us.saturating_add(gap_ns as u64 / 1000))
    }

    /// A message was sent for the first time.
    pub fn sent(&mut self, stored_ns: i64, now_us: u64) {
        self.before = Some((stored_ns, now_us));
    }
}
