//! One heartbeat per pair of nodes stands for every quiet group between them, so that ten thousand idle groups are as
//! quiet as one.
//!
//! A heartbeat carries a digest of what its sender leads for the receiver: how many groups, and the exclusive-or of
//! their hashed (group, term). The receiver keeps the same digest of what it believes that the sender leads. As long as
//! the two agree and heartbeats arrive, no group needs a message of its own:
//!
//! ```text
//!   core a of server A: leads {7@3, 9@1} for b ──── groups 2, digest x ───►  core b of server B: follows {7@3, 9@1} of a
//!                                                  equal: nothing to do
//!                                                  different twice: list_wanted ──► HeartbeatList [(7,3), (9,1)]
//! ```
//!
//! * Different digests are normal for a moment around an election: only the second in a row asks for the list, and the
//!   same difference is asked about again only after [`ASK_AGAIN_US`].
//! * A node that is silent for three intervals is reported dead with the time when it was last heard: its followers'
//!   election timers then run as if the last contact had been then.
//! * Heartbeats wake processors, so they come together: the cores of a server beat on one grid of their common clock, all
//!   pairs of a core at once, and the core that owns the links last, taking its own along with those of the others.
//! * Another `boot` number means that the sender forgot what it led: everything it leads is in doubt.
//!
//! Pairs without a common group say nothing. This file decides nothing about groups; `group` does.

use std::collections::BTreeMap;

use crate::cluster::wire::Heartbeat;
use crate::ids::{GroupId, Place};

/// Heartbeats that may be missed before the other node is taken for dead. Three: one lost to a redial, one to a stall.
pub const MISSED_MAX: u64 = 3;
/// Longest interval, however long the round trip: death must be noticed in a few seconds even on a link around the world.
const INTERVAL_US_MAX: u64 = 1_000_000;
/// The core that owns the links beats this part of an interval after the others. Theirs pass through it, and its own
/// leave in the same frames; by itself it beats only when none comes.
const LATE_PART: u64 = 8;
/// A heartbeat that is due within this part of an interval leaves with another one.
const ALONG_PART: u64 = 2;
/// How long an unchanged difference between two digests is left alone after the list was asked for. A difference that
/// lists do not settle (a group that the other side has not opened yet) must not cost a list per heartbeat.
pub const ASK_AGAIN_US: u64 = 5_000_000;

/// All pairs that one core is part of.
pub struct Heartbeats {
    boot: u64,
    interval_us: u64,
    /// After the grid.
    late_us: u64,
    pairs: BTreeMap<Place, Pair>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    Send {
        to: Place,
        heartbeat: Heartbeat,
    },
    /// Silent for [`MISSED_MAX`] intervals.
    Dead {
        peer: Place,
        heard_us: u64,
    },
}

/// What a heartbeat means for the groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// The sender is a new process: what it led is in doubt.
    pub restarted: bool,
    /// The sender asks for the list of what this core leads for it.
    pub list_wanted: bool,
    /// The sender was taken for dead until now.
    pub returned: bool,
}

/// A set of (group, term), as two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Digest {
    groups: u32,
    xor: u64,
}

#[derive(Debug, Default)]
struct Pair {
    up: bool,
    dead: bool,
    rtt_us: u64,
    boot: Option<u64>,
    heard_us: u64,
    /// The sender's clock in its last heartbeat, and when that came.
    echo: Option<(u64, u64)>,
    beat_us: u64,
    leads: Digest,
    follows: Digest,
    differed: bool,
    asked: Option<(Digest, Digest, u64)>,
    list_wanted: bool,
}

impl Heartbeats {
    /// `boot` differs for every process start. `interval_us`: between two heartbeats on a short link.
    pub fn new(boot: u64, interval_us: u64) -> Heartbeats {
        Heartbeats { boot, interval_us: interval_us.max(1), late_us: 0, pairs: BTreeMap::new() }
    }

    /// The heartbeats of the other cores of this server pass through this one: see [`Heartbeats::along`].
    pub fn carries_others(self) -> Heartbeats {
        Heartbeats { late_us: self.interval_us / LATE_PART, ..self }
    }

    /// A link stands; heartbeats start with the first common group.
    pub fn connect(&mut self, now_us: u64, peer: Place) {
        let pair = self.pairs.entry(peer).or_default();
        pair.up = true;
        pair.dead = false;
        (pair.heard_us, pair.beat_us) = (now_us, now_us);
        (pair.differed, pair.asked) = (false, None);
    }

    /// The link is gone. When the peer was last heard of, if it counted as alive until now.
    pub fn disconnect(&mut self, peer: Place) -> Option<u64> {
        let pair = self.pairs.get_mut(&peer)?;
        let alive = pair.up && !pair.dead;
        pair.up = false;
        alive.then_some(pair.heard_us)
    }

    pub fn set_rtt(&mut self, peer: Place, rtt_us: u64) {
        self.pairs.entry(peer).or_default().rtt_us = rtt_us;
    }

    /// Connected and not silent.
    pub fn is_alive(&self, peer: Place) -> bool {
        self.pairs.get(&peer).is_some_and(|pair| pair.up && !pair.dead)
    }

    /// When the peer was last heard of, if it counts as alive.
    pub fn heard_us(&self, peer: Place) -> Option<u64> {
        self.pairs.get(&peer).filter(|pair| pair.up && !pair.dead).map(|pair| pair.heard_us)
    }

    pub fn lead(&mut self, now_us: u64, peer: Place, group: GroupId, term: u64) {
        self.pair(now_us, peer).leads.add(group, term);
    }

    /// Takes back an earlier `lead` with the same values.
    pub fn unlead(&mut self, peer: Place, group: GroupId, term: u64) {
        self.pairs.entry(peer).or_default().leads.remove(group, term);
    }

    pub fn follow(&mut self, now_us: u64, peer: Place, group: GroupId, term: u64) {
        self.pair(now_us, peer).follows.add(group, term);
    }

    /// Takes back an earlier `follow` with the same values.
    pub fn unfollow(&mut self, peer: Place, group: GroupId, term: u64) {
        self.pairs.entry(peer).or_default().follows.remove(group, term);
    }

    fn pair(&mut self, now_us: u64, peer: Place) -> &mut Pair {
        let pair = self.pairs.entry(peer).or_default();
        if !pair.shares() {
            // The first common group: silence counts from here on.
            (pair.heard_us, pair.beat_us) = (now_us, pair.beat_us.max(now_us));
        }
        pair
    }

    pub fn on_heartbeat(&mut self, now_us: u64, from: Place, heartbeat: &Heartbeat) -> Heard {
        let pair = self.pairs.entry(from).or_default();
        let restarted = pair.boot.replace(heartbeat.boot).is_some_and(|boot| boot != heartbeat.boot);
        let returned = std::mem::take(&mut pair.dead);
        pair.heard_us = now_us;
        pair.echo = Some((heartbeat.sent_us, now_us));
        pair.compare(now_us, Digest { groups: heartbeat.groups, xor: heartbeat.digest });
        Heard { restarted, list_wanted: heartbeat.list_wanted, returned }
    }

    /// What has become due. Linear in the number of pairs, which is servers times cores.
    pub fn wakeup(&mut self, now_us: u64, beats: &mut Vec<Beat>) {
        let base = self.interval_us;
        for (&peer, pair) in self.pairs.iter_mut().filter(|(_, pair)| pair.up && pair.shares()) {
            if !pair.dead && now_us >= pair.death_us(base) {
                pair.dead = true;
                beats.push(Beat::Dead { peer, heard_us: pair.heard_us });
            }
        }
        let mut beating = self.pairs.values().filter(|pair| pair.up && pair.shares());
        if beating.any(|pair| now_us >= pair.beat_us) {
            self.along(now_us, beats);
        }
    }

    /// A frame with a heartbeat leaves anyway: what is due soon leaves with it.
    pub fn along(&mut self, now_us: u64, beats: &mut Vec<Beat>) {
        let (boot, base, late_us) = (self.boot, self.interval_us, self.late_us);
        for (&peer, pair) in self.pairs.iter_mut().filter(|(_, pair)| pair.up && pair.shares()) {
            let interval_us = pair.interval_us(base);
            if now_us + interval_us / ALONG_PART >= pair.beat_us {
                pair.beat_us = (now_us / interval_us + 1) * interval_us + late_us;
                beats.push(Beat::Send { to: peer, heartbeat: pair.heartbeat(now_us, boot) });
            }
        }
    }

    pub fn next_wakeup(&self) -> Option<u64> {
        let due =
            |pair: &Pair| if pair.dead { pair.beat_us } else { pair.beat_us.min(pair.death_us(self.interval_us)) };
        self.pairs.values().filter(|pair| pair.up && pair.shares()).map(due).min()
    }
}

impl Pair {
    fn shares(&self) -> bool {
        self.leads.groups > 0 || self.follows.groups > 0 || self.list_wanted
    }

    fn interval_us(&self, base_us: u64) -> u64 {
        base_us.max(self.rtt_us / 2).min(base_us.max(INTERVAL_US_MAX))
    }

    fn death_us(&self, base_us: u64) -> u64 {
        self.heard_us + MISSED_MAX * self.interval_us(base_us) + self.rtt_us
    }

    fn compare(&mut self, now_us: u64, theirs: Digest) {
        if theirs == self.follows {
            (self.differed, self.asked) = (false, None);
            return;
        }
        let again = match self.asked {
            Some((a, b, at)) => (a, b) != (theirs, self.follows) || now_us >= at + ASK_AGAIN_US,
            None => true,
        };
        if self.differed && again {
            self.list_wanted = true;
            self.asked = Some((theirs, self.follows, now_us));
        }
        self.differed = true;
    }

    fn heartbeat(&mut self, now_us: u64, boot: u64) -> Heartbeat {
        // The time that the echo lay here is not part of the round trip.
        let echo_us = self.echo.take().map_or(0, |(sent, came)| sent.saturating_add(now_us - came));
        Heartbeat {
            boot,
            groups: self.leads.groups,
            digest: self.leads.xor,
            list_wanted: std::mem::take(&mut self.list_wanted),
            sent_us: now_us,
            echo_us,
        }
    }
}

impl Digest {
    fn add(&mut self, group: GroupId, term: u64) {
        self.groups += 1;
        self.xor ^= hash(group, term);
    }

    fn remove(&mut self, group: GroupId, term: u64) {
        assert!(self.groups > 0, "a group leaves a digest that it is not in");
        self.groups -= 1;
        self.xor ^= hash(group, term);
    }
}

/// Spreads (group, term) over 64 bits, equally on every server (the finalizer of splitmix64, twice).
fn hash(group: GroupId, term: u64) -> u64 {
    let mix = |value: u64| {
        let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    mix(mix(group.0) ^ term)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ServerId;

    const A: Place = Place { server: ServerId(1), core: 0 };
    const B: Place = Place { server: ServerId(2), core: 1 };

    fn pair() -> (Heartbeats, Heartbeats) {
        let (mut a, mut b) = (Heartbeats::new(10, 100), Heartbeats::new(20, 100));
        a.connect(0, B);
        b.connect(0, A);
        (a, b)
    }

    fn beat(from: &mut Heartbeats, now: u64) -> Option<Heartbeat> {
        let mut beats = Vec::new();
        from.wakeup(now, &mut beats);
        beats.into_iter().find_map(|beat| match beat {
            Beat::Send { heartbeat, .. } => Some(heartbeat),
            Beat::Dead { .. } => None,
        })
    }

    #[test]
    fn pairs_without_a_common_group_say_nothing() {
        let (mut a, _) = pair();
        assert_eq!((a.next_wakeup(), beat(&mut a, 1000)), (None, None));
        a.lead(1000, B, GroupId(5), 1);
        assert!(beat(&mut a, 1000).is_some());
        a.unlead(B, GroupId(5), 1);
        assert_eq!((a.next_wakeup(), beat(&mut a, 2000)), (None, None));
    }

    #[test]
    fn equal_digests_ask_for_nothing_whatever_the_order() {
        let (mut a, mut b) = pair();
        for (group, term) in [(7, 3), (9, 1), (8, 1)] {
            a.lead(0, B, GroupId(group), term);
        }
        for (group, term) in [(8, 1), (7, 3), (9, 1)] {
            b.follow(0, A, GroupId(group), term);
        }
        for now in [0, 100, 200, 300] {
            let heartbeat = beat(&mut a, now).unwrap();
            assert_eq!(b.on_heartbeat(now, A, &heartbeat), Heard::default());
            assert!(!beat(&mut b, now).unwrap().list_wanted);
        }
    }

    #[test]
    fn the_second_difference_asks_once_until_it_changes_or_time_has_passed() {
        let (mut a, mut b) = pair();
        a.lead(0, B, GroupId(7), 3);
        b.follow(0, A, GroupId(7), 2);
        let mut asked = Vec::new();
        for turn in 0..6 {
            let now = turn * 100;
            let heartbeat = beat(&mut a, now).unwrap();
            b.on_heartbeat(now, A, &heartbeat);
            asked.push(beat(&mut b, now).unwrap().list_wanted);
        }
        assert_eq!(asked, [false, true, false, false, false, false]);
        a.lead(600, B, GroupId(8), 1);
        let heartbeat = beat(&mut a, 600).unwrap();
        b.on_heartbeat(600, A, &heartbeat);
        assert!(beat(&mut b, 600).unwrap().list_wanted);
        b.on_heartbeat(600 + ASK_AGAIN_US, A, &heartbeat);
        assert!(beat(&mut b, 600 + ASK_AGAIN_US).unwrap().list_wanted);
    }

    #[test]
    fn heartbeats_of_a_server_leave_together() {
        const C: Place = Place { server: ServerId(3), core: 0 };
        let sent = |beats: &mut Vec<Beat>| -> Vec<Place> {
            beats.drain(..).filter_map(|beat| if let Beat::Send { to, .. } = beat { Some(to) } else { None }).collect()
        };
        let mut carrier = Heartbeats::new(10, 80).carries_others();
        let mut other = Heartbeats::new(10, 80);
        let mut beats = Vec::new();
        // Links come up and groups are shared at different times.
        for (now, peer) in [(5, B), (47, C)] {
            for side in [&mut carrier, &mut other] {
                side.connect(now, peer);
                side.lead(now, peer, GroupId(7), 1);
                side.wakeup(now, &mut beats);
            }
        }
        sent(&mut beats);
        for turn in 1..3 {
            let now = turn * 80;
            assert_eq!((other.next_wakeup(), carrier.next_wakeup()), (Some(now), Some(now + 10)));
            other.wakeup(now, &mut beats);
            assert_eq!(sent(&mut beats), [B, C]);
            carrier.along(now, &mut beats);
            assert_eq!(sent(&mut beats), [B, C]);
        }
        // Nothing came through: the carrier beats by itself.
        carrier.wakeup(250, &mut beats);
        assert_eq!(sent(&mut beats), [B, C]);
        carrier.along(260, &mut beats);
        assert!(beats.is_empty(), "it has just beaten");
    }

    #[test]
    fn three_missed_intervals_are_a_death_told_once_and_the_next_heartbeat_a_return() {
        let (mut a, mut b) = pair();
        a.lead(0, B, GroupId(7), 3);
        b.follow(0, A, GroupId(7), 3);
        let heartbeat = beat(&mut a, 50).unwrap();
        b.on_heartbeat(50, A, &heartbeat);
        let mut beats = Vec::new();
        b.wakeup(349, &mut beats);
        assert!(beats.iter().all(|beat| matches!(beat, Beat::Send { .. })));
        assert_eq!(b.next_wakeup(), Some(350));
        beats.clear();
        b.wakeup(350, &mut beats);
        b.wakeup(400, &mut beats);
        let dead: Vec<_> = beats.iter().filter(|beat| matches!(beat, Beat::Dead { .. })).collect();
        assert_eq!(dead, [&Beat::Dead { peer: A, heard_us: 50 }]);
        assert!(!b.is_alive(A));
        assert!(b.on_heartbeat(450, A, &heartbeat).returned);
        assert!(b.is_alive(A));
    }

    #[test]
    fn another_boot_is_a_restart() {
        let (mut a, mut b) = pair();
        a.lead(0, B, GroupId(7), 3);
        let mut heartbeat = beat(&mut a, 0).unwrap();
        assert!(!b.on_heartbeat(0, A, &heartbeat).restarted);
        heartbeat.boot += 1;
        assert!(b.on_heartbeat(100, A, &heartbeat).restarted);
        assert!(!b.on_heartbeat(200, A, &heartbeat).restarted);
    }

    #[test]
    fn long_links_beat_slower_and_die_later_and_the_echo_is_the_round_trip() {
        let (mut a, mut b) = pair();
        a.set_rtt(B, 1_000);
        a.lead(0, B, GroupId(7), 3);
        b.follow(0, A, GroupId(7), 3);
        let heartbeat = beat(&mut a, 0).unwrap();
        assert_eq!(a.next_wakeup(), Some(500));
        b.on_heartbeat(20, A, &heartbeat);
        let answer = beat(&mut b, 70).unwrap();
        // Sent at 0, held for 50: a receiver at 90 sees a round trip of 40.
        assert_eq!(90 - answer.echo_us, 40);
        let mut beats = Vec::new();
        a.wakeup(2_499, &mut beats);
        assert!(beats.iter().all(|beat| matches!(beat, Beat::Send { .. })));
        a.wakeup(2_500, &mut beats);
        assert!(beats.contains(&Beat::Dead { peer: B, heard_us: 0 }));
    }
}
