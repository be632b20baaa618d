//! What a leader knows about one peer, and how that knowledge moves. Every change of `matched`, `next` and `pace` is a
//! method here, so that `matched < next` holds by reading one file.
//!
//! ```text
//!            rejected, unreachable, stalled
//!         ┌──────────────────────────────────┐
//!         ▼            answered              │
//!       Probe ──────────────────────────► Replicate
//!         │ ▲                                ▲
//!         │ │ sent, or failed                │ reports a state that the log reaches
//!         ▼ │                                │
//!       Snapshot ────────────────────────────┘
//! ```

use crate::inflight::Inflight;
use crate::{Amnesia, Index, Now, PeerState};

/// How the peer is fed; see [`PeerState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// `paused`: one message is out, wait for an answer or the next heartbeat's.
    Probe {
        paused: bool,
    },
    Replicate,
    /// Waiting for the state as of this index or a later one.
    Snapshot {
        index: Index,
    },
}

/// A peer that has forgotten what it acknowledged, and what ends that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forgot {
    pub(crate) what: Amnesia,
    /// Everything the peer can ever have acknowledged to this leader lies at or below.
    pub(crate) until: Index,
    /// The first round that was asked after the leader learned of it. If votes were lost, a quorum of the others must
    /// have answered it: that proves that the leader still was one.
    pub(crate) round: u64,
    pub(crate) healed: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) matched: Index,
    pub(crate) next: Index,
    pub(crate) pace: Pace,
    pub(crate) inflight: Inflight,
    pub(crate) last_contact: Now,
    /// What the peer said that it knows as committed, and what it was told last.
    pub(crate) commit: Index,
    pub(crate) commit_told: Index,
    /// The latest round of heartbeats that it answered.
    pub(crate) round: u64,
    pub(crate) forgot: Option<Forgot>,
    /// `matched` when the last heartbeat was answered: unchanged at the next one means that something got lost.
    stalled_at: Option<Index>,
}

impl Progress {
    pub(crate) fn new(next: Index, now: Now) -> Progress {
        Progress {
            matched: 0,
            next,
            pace: Pace::Probe { paused: false },
            inflight: Inflight::default(),
            last_contact: now,
            commit: 0,
            commit_told: 0,
            round: 0,
            forgot: None,
            stalled_at: None,
        }
    }

    /// Whether its copy and its answers count for a quorum.
    pub(crate) fn counts(&self) -> bool {
        self.forgot.is_none_or(|forgot| !forgot.what.votes)
    }

    /// What its log counts for.
    pub(crate) fn counted_match(&self) -> Index {
        if self.counts() { self.matched } else { 0 }
    }

    pub(crate) fn state(&self) -> PeerState {
        match self.pace {
            Pace::Probe { .. } => PeerState::Probe,
            Pace::Replicate => PeerState::Replicate,
            Pace::Snapshot { .. } => PeerState::Snapshot,
        }
    }

    /// The peer's log is durable and equal up to `matched`.
    pub(crate) fn on_matched(&mut self, matched: Index) {
        self.matched = self.matched.max(matched);
        self.inflight.free_to(matched);
        match self.pace {
            Pace::Probe { .. } => self.replicate(),
            Pace::Replicate => self.next = self.next.max(self.matched + 1),
            Pace::Snapshot { index } if self.matched >= index => self.replicate(),
            Pace::Snapshot { .. } => {}
        }
    }

    /// The peer has nothing fitting at `rejected`; `agree` is where the logs can agree at best.
    /// False when this answers a question of the past.
    pub(crate) fn on_rejected(&mut self, rejected: Index, agree: Index) -> bool {
        match self.pace {
            Pace::Snapshot { .. } => false,
            Pace::Replicate if rejected <= self.matched => false,
            Pace::Replicate => {
                self.probe();
                true
            }
            Pace::Probe { .. } if rejected + 1 != self.next => false,
            Pace::Probe { .. } => {
                self.next = rejected.min(agree + 1).max(self.matched + 1);
                // It has lost what it vouched for, and does not say so: asked again with every heartbeat, not in a loop.
                self.pace = Pace::Probe { paused: agree < self.matched };
                true
            }
        }
    }

    /// Something may be lost: look again from what is known.
    pub(crate) fn probe(&mut self) {
        let from = match self.pace {
            Pace::Snapshot { index } => index.max(self.matched),
            _ => self.matched,
        };
        self.next = from + 1;
        self.pace = Pace::Probe { paused: false };
        self.inflight.clear();
    }

    pub(crate) fn await_snapshot(&mut self, index: Index) {
        self.pace = Pace::Snapshot { index };
        self.inflight.clear();
    }

    /// The snapshot at `index` was sent, or not. A peer that has reported it already is past waiting.
    pub(crate) fn on_snapshot_sent(&mut self, index: Index, ok: bool) {
        let Pace::Snapshot { .. } = self.pace else { return };
        self.pace = Pace::Snapshot { index: if ok { index } else { 0 } };
        self.probe();
        // The answer, or the next heartbeat's, says when to go on.
        self.pace = Pace::Probe { paused: true };
    }

    /// A heartbeat was answered. True when an append should ask where the peer stands, window or not.
    pub(crate) fn on_heartbeat(&mut self, last: Index) -> bool {
        if let Pace::Probe { paused } = &mut self.pace {
            *paused = false;
        }
        let stalled = self.pace == Pace::Replicate && self.matched < last && self.stalled_at == Some(self.matched);
        self.stalled_at = Some(self.matched);
        stalled
    }

    /// An append with these entries (none: `last` is the index before) is on its way.
    pub(crate) fn on_sent(&mut self, last: Index, entries: usize, bytes: u64) {
        match &mut self.pace {
            Pace::Probe { paused } => *paused = true,
            Pace::Replicate if entries > 0 => {
                self.inflight.add(last, bytes);
                self.next = last + 1;
            }
            _ => {}
        }
    }

    /// The peer says that it has forgotten. Everything known about it is void.
    pub(crate) fn forget(&mut self, forgot: Forgot, last: Index) {
        *self = Progress { forgot: Some(forgot), ..Progress::new(last + 1, self.last_contact) };
    }

    fn replicate(&mut self) {
        self.next = self.matched + 1;
        self.pace = Pace::Replicate;
        self.inflight.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_is_answered_starts_the_stream() {
        let mut peer = Progress::new(11, 0);
        peer.on_sent(10, 0, 0);
        assert_eq!(peer.pace, Pace::Probe { paused: true });
        assert!(peer.on_rejected(10, 4));
        assert_eq!((peer.next, peer.pace), (5, Pace::Probe { paused: false }));
        peer.on_matched(4);
        assert_eq!((peer.matched, peer.next, peer.pace), (4, 5, Pace::Replicate));
        peer.on_sent(7, 3, 30);
        assert_eq!((peer.next, peer.inflight.bytes()), (8, 30));
    }

    #[test]
    fn stale_rejections_change_nothing() {
        let mut peer = Progress::new(11, 0);
        assert!(!peer.on_rejected(7, 1));
        peer.on_matched(10);
        assert!(!peer.on_rejected(10, 1));
        assert!(peer.on_rejected(12, 1), "beyond what is known: an append got lost");
        assert_eq!((peer.next, peer.pace), (11, Pace::Probe { paused: false }));
    }

    #[test]
    fn a_rejection_never_goes_below_what_is_known() {
        let mut peer = Progress::new(1, 0);
        peer.on_matched(10);
        peer.on_rejected(15, 0);
        assert!(peer.on_rejected(10, 3));
        assert_eq!(peer.next, 11);
    }

    #[test]
    fn a_snapshot_ends_by_report_or_by_arrival() {
        let mut peer = Progress::new(5, 0);
        peer.await_snapshot(20);
        peer.on_matched(3);
        assert_eq!(peer.state(), PeerState::Snapshot);
        peer.on_matched(20);
        assert_eq!((peer.pace, peer.next), (Pace::Replicate, 21));
        peer.await_snapshot(40);
        peer.on_snapshot_sent(42, true);
        assert_eq!((peer.pace, peer.next), (Pace::Probe { paused: true }, 43));
        peer.await_snapshot(60);
        peer.on_snapshot_sent(60, false);
        assert_eq!(peer.next, 21);
    }

    #[test]
    fn two_heartbeats_without_progress_ask_again() {
        let mut peer = Progress::new(1, 0);
        peer.on_matched(3);
        assert!(!peer.on_heartbeat(9));
        assert!(peer.on_heartbeat(9));
        peer.on_matched(4);
        assert!(!peer.on_heartbeat(9));
        peer.on_matched(9);
        assert!(!peer.on_heartbeat(9));
        assert!(!peer.on_heartbeat(9));
    }
}
