//! Replicas that come, go, fall behind, forget and are damaged.

use bytes::Bytes;

use super::toy::trim;
use super::world::{World, id};
use crate::group::{GroupKind, GroupRole, GroupSpec, ProposeRefused, ReadGone};
use crate::ids::{GroupId, Now, ServerId};

pub(super) const G: GroupId = GroupId(77);

pub(super) fn value(number: u64, bytes: usize) -> Bytes {
    let mut body = vec![number as u8; bytes.max(8)];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body.into()
}

pub(super) fn started(seed: u64, servers: u64, kind: GroupKind, voters: &[u64]) -> World {
    let mut world = World::new(seed, servers);
    world.run(100_000);
    world.open(&World::spec(G, kind, voters));
    world.put(G, value(0, 10));
    world
}

pub(super) fn fill(world: &mut World, entries: u64, bytes: usize) {
    for number in 0..entries {
        let _ = world.propose(G, value(number, bytes));
        if number % 16 == 0 {
            world.run(300);
        }
    }
    world.put(G, value(entries, 10));
}

#[test]
fn a_replica_that_missed_more_than_the_log_holds_is_streamed_the_state() {
    for kind in [GroupKind::Stream, GroupKind::Consumer] {
        let mut world = started(11, 3, kind, &[1, 2, 3]);
        let gone = (1..=3).find(|at| world.leader(G) != Some(id(*at))).unwrap();
        world.crash(id(gone));
        for round in 0..12 {
            fill(&mut world, 500, 2_000);
            let last = world.acked[&G];
            world.put(G, trim(last - 3_000.min(last - 1)));
            world.offer(G);
            world.run(20_000 + round);
        }
        world.start(id(gone));
        world.until(20_000_000, "caught up", |world| world.converged(G, &[1, 2, 3]));
        assert!(world.sent["catchup"] > 0, "the log alone did it");
        let live: Vec<u64> = world.servers[&id(gone)].machines[&G].live.keys().copied().collect();
        if kind == GroupKind::Stream {
            for index in [live[0], live[live.len() / 2], *live.last().unwrap()] {
                assert!(matches!(world.read(id(gone), G, index), Some(Ok(_))), "{index}");
            }
        }
        // What was streamed is there after a restart, too.
        world.crash(id(gone));
        world.start(id(gone));
        world.until(5_000_000, "restored", |world| world.converged(G, &[1, 2, 3]));
    }
}

#[test]
fn a_catch_up_survives_broken_links_and_restarts_of_the_receiver() {
    let mut world = started(12, 3, GroupKind::Stream, &[1, 2, 3]);
    let gone = (1..=3).find(|at| world.leader(G) != Some(id(*at))).unwrap();
    world.crash(id(gone));
    for _ in 0..15 {
        fill(&mut world, 500, 2_000);
        world.offer(G);
    }
    world.delay_us = (5_000, 9_000);
    world.drop_percent = 3;
    world.start(id(gone));
    for round in 0..6 {
        world.run(40_000 + 30_000 * round);
        assert!(!world.converged(G, &[1, 2, 3]), "over before it could be disturbed");
        if round % 2 == 0 {
            world.crash(id(gone));
            world.start(id(gone));
        } else {
            world.isolate(id(gone));
            world.run(400_000);
            world.cut.clear();
        }
    }
    world.drop_percent = 0;
    world.until(60_000_000, "caught up", |world| world.converged(G, &[1, 2, 3]));
}

/// A leader that was cut off kept entries that nobody else ever had. What the catch-up brought replaced the end of them
/// only; after a crash in the middle, the rest of them and the new entries read like one history, and the commit stamps
/// of the new ones made the replica apply what was never committed. The marker must say where the own log ends now.
#[test]
fn a_crash_in_the_middle_of_a_catch_up_does_not_mix_two_histories() {
    for offset in 0..8 {
        let mut world = started(70, 3, GroupKind::Stream, &[1, 2, 3]);
        world.until(1_000_000, "equal", |world| world.converged(G, &[1, 2, 3]));
        let old = world.leader(G).unwrap();
        world.isolate(old);
        let mut first = 0;
        for number in 0..30 {
            let index = world.propose(G, value(1_000 + number, 50)).unwrap();
            first = if number == 0 { index } else { first };
        }
        world.run(2_000_000);
        for number in 0..40 {
            world.put(G, value(number, 300));
        }
        fill(&mut world, 5_000, 300);
        world.put(G, trim(first + 10));
        world.offer(G);
        world.run(50_000);
        world.delay_us = (3_000, 6_000);
        world.cut.clear();
        let streams = |world: &World| world.servers[&old].logs.iter().any(|(_, text)| text.contains("receiving"));
        world.until(5_000_000, "a catch-up", streams);
        world.run(5_000 + 1_000 * offset);
        world.crash(old);
        world.start(old);
        world.until(20_000_000, "caught up", |world| world.converged(G, &[1, 2, 3]));
    }
}

#[test]
fn members_change_from_one_to_five_and_back_while_serving() {
    for seed in 0..3 {
        let mut world = started(20 + seed, 5, GroupKind::Stream, &[1]);
        let steps: [&[u64]; 5] = [&[1, 2, 3], &[1, 2, 3, 4, 5], &[3, 4, 5], &[4], &[2, 4]];
        let mut open: Vec<u64> = vec![1];
        for voters in steps {
            fill(&mut world, 300, 500);
            world.offer(G);
            for at in voters.iter().filter(|at| !open.contains(at)) {
                let spec = World::spec(G, GroupKind::Stream, &[]);
                world.open_at(id(*at), GroupSpec { forgetful: false, ..spec });
            }
            let target: Vec<ServerId> = voters.iter().copied().map(id).collect();
            let time = Now { us: world.now, wall_ns: 0 };
            let all: Vec<u64> = open.iter().chain(voters.iter()).copied().collect();
            for at in all {
                assert!(world.groups(id(at)).change_members(time, G, target.clone()));
                world.pump(id(at));
            }
            for number in 0..20 {
                world.put(G, value(number, 100));
            }
            world.until(20_000_000, "the new members", |world| {
                let status = world.leader(G).and_then(|leader| world.status(leader, G));
                status.is_some_and(|status| {
                    status.voters == target && status.learners.is_empty() && status.target.is_none()
                })
            });
            for at in open.iter().filter(|at| !voters.contains(at)) {
                world.until(20_000_000, "removed", |world| world.is_removed(id(*at), G));
                world.close_at(id(*at), G);
            }
            open = voters.to_vec();
            world.put(G, value(1, 10));
            world.until(20_000_000, "converged", |world| world.converged(G, voters));
        }
        let mut quiet = world.now + 3_000_000;
        while world.now < quiet {
            world.run(100_000);
            if [2, 4].iter().all(|at| world.status(id(*at), G).unwrap().quiet) {
                quiet = world.now;
            }
        }
        assert!(world.status(id(2), G).unwrap().quiet && world.status(id(4), G).unwrap().quiet);
    }
}

#[test]
fn a_memory_group_keeps_nothing_on_disk_and_a_replica_that_forgot_gets_it_back() {
    let mut world = World::new(30, 3);
    world.run(100_000);
    let spec = GroupSpec { memory: true, ..World::spec(G, GroupKind::Stream, &[1, 2, 3]) };
    world.open(&spec);
    world.put(G, value(0, 10));
    fill(&mut world, 200, 500);
    assert_eq!(world.groups(id(1)).log_stats().unwrap().records, 0);
    for at in [1, 2, 3] {
        world.crash(id(at));
        world.start(id(at));
        world.put(G, value(at, 10));
        world.until(5_000_000, "remembered", |world| world.converged(G, &[1, 2, 3]));
        world.run(500_000);
    }
    assert_eq!(world.servers[&id(2)].machines[&G].live.len(), 1 + 201 + 3);
    let index = *world.servers[&id(2)].machines[&G].live.keys().next().unwrap();
    assert!(matches!(world.read(id(2), G, index), Some(Ok(_))));
}

#[test]
fn a_damaged_entry_is_healed_from_a_peer_and_reads_get_it() {
    let mut world = started(40, 3, GroupKind::Stream, &[1, 2, 3]);
    fill(&mut world, 3_000, 2_000);
    world.until(5_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
    world.run(1_000_000);
    let hurt = (1..=3).find(|at| world.leader(G) != Some(id(*at))).unwrap();
    let index = *world.servers[&id(hurt)].machines[&G].live.keys().nth(40).unwrap();
    let whole = world.read(id(hurt), G, index).unwrap().unwrap();
    assert!(rot(&mut world, hurt, &whole), "the entry is not on the disk");
    world.crash(id(hurt));
    world.start(id(hurt));
    world.until(20_000_000, "restored", |world| world.converged(G, &[1, 2, 3]));
    assert_eq!(world.read(id(hurt), G, index), Some(Ok(whole)));
    let status = world.status(id(hurt), G).unwrap();
    assert_eq!((status.damaged, status.role), (0, GroupRole::Follower));
    assert!(world.errors(id(hurt)).iter().any(|text| text.contains("damaged")), "{:?}", world.errors(id(hurt)));
}

/// Found by the simulator: the damaged entry was the last one of a leader that died with it, so nobody could give it back.
#[test]
fn a_damaged_entry_that_nobody_else_has_is_forgotten() {
    for more in [0, 40] {
        let mut world = started(43, 3, GroupKind::Stream, &[1, 2, 3]);
        fill(&mut world, 300, 2_000);
        world.until(5_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
        let old = world.leader(G).unwrap();
        world.isolate(old);
        let lone = value(9_007, 2_000);
        for number in 0..10 {
            world.propose(G, value(9_000 + number, 2_000)).unwrap();
            // Each in a write of its own: damage in the last one could be a torn one.
            world.run(20_000);
        }
        world.crash(old);
        assert!(rot(&mut world, old.0, &lone), "the entry is not on the disk");
        world.cut.clear();
        world.until(20_000_000, "a new leader", |world| world.leader(G).is_some());
        // Others have committed another entry in its place, or nothing yet.
        for number in 0..more {
            world.put(G, value(number, 100));
        }
        world.start(old);
        world.until(20_000_000, "restored", |world| world.converged(G, &[1, 2, 3]));
        let votes = |world: &World| world.status(old, G).is_some_and(|status| status.damaged == 0 && !status.voteless);
        world.until(20_000_000, "whole and voting", votes);
        let errors = world.errors(old);
        assert!(errors.iter().any(|text| text.contains("is lost; its log ends before it")), "{errors:?}");
    }
}

/// Found by the simulator: a leader's word came before the table that wanted the replica no more, and was not repeated.
#[test]
fn the_word_of_a_removal_is_repeated_when_the_table_changes() {
    let mut world = started(48, 4, GroupKind::Stream, &[1, 2, 3]);
    world.until(5_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
    world.crash(id(3));
    world.open_at(id(4), World::spec(G, GroupKind::Stream, &[]));
    let to = [1, 2, 4].map(id);
    let tell = |world: &mut World, at: u64| {
        let time = Now { us: world.now, wall_ns: 0 };
        assert!(world.groups(id(at)).change_members(time, G, to.to_vec()));
        world.pump(id(at));
    };
    [1, 2, 4].into_iter().for_each(|at| tell(&mut world, at));
    world.until(20_000_000, "moved", |world| world.converged(G, &[1, 2, 4]));
    world.start(id(3));
    world.run(1_000_000);
    world.groups(id(3)).with(G, |replica, core| {
        [1, 2].into_iter().for_each(|at| replica.running().unwrap().seek(raft::NodeId(at)));
        core.dirty.insert(G);
    });
    world.pump(id(3));
    world.until(5_000_000, "removed", |world| world.is_removed(id(3), G));
    let told = world.sent["removed"];
    world.run(2_000_000);
    assert_eq!(world.sent["removed"], told);
    tell(&mut world, 3);
    world.run(1_000_000);
    assert_eq!(world.sent["removed"], told + 1);
}

/// It waits for an entry that nobody has any more, so it never comes to life, and its group has long gone on elsewhere.
#[test]
fn a_damaged_replica_that_is_wanted_no_more_may_go() {
    let mut world = started(46, 6, GroupKind::Stream, &[1, 2, 3]);
    fill(&mut world, 300, 2_000);
    let lost = value(9_001, 2_000);
    world.put(G, lost.clone());
    world.put(G, value(1, 10));
    world.until(5_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
    world.run(1_000_000);
    world.crash(id(3));
    assert!(rot(&mut world, 3, &lost), "the entry is not on the disk");
    let to = [4, 5, 6].map(id);
    (4..=6).for_each(|at| world.open_at(id(at), World::spec(G, GroupKind::Stream, &[])));
    let tell = |world: &mut World, at: u64| {
        let time = Now { us: world.now, wall_ns: 0 };
        assert!(world.groups(id(at)).change_members(time, G, to.to_vec()));
        world.pump(id(at));
    };
    [1, 2, 4, 5, 6].into_iter().for_each(|at| tell(&mut world, at));
    for at in [1, 2] {
        world.until(20_000_000, "removed", |world| world.is_removed(id(at), G));
        world.close_at(id(at), G);
    }
    let last = world.acked[&G];
    world.put(G, trim(last + 1));
    world.offer(G);
    world.run(2_000_000);
    world.start(id(3));
    world.run(1_000_000);
    assert!(!world.is_removed(id(3), G), "nobody has told it that it is wanted no more");
    tell(&mut world, 3);
    world.until(20_000_000, "removed", |world| world.is_removed(id(3), G));
    assert!(world.status(id(3), G).unwrap().damaged > 0, "it was healed");
}

#[test]
fn damage_found_while_running_fences_until_healed() {
    let mut world = started(41, 3, GroupKind::Stream, &[1, 2, 3]);
    fill(&mut world, 3_000, 2_000);
    world.until(5_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
    world.run(1_000_000);
    let leader = world.leader(G).unwrap();
    let index = *world.servers[&leader].machines[&G].live.keys().nth(40).unwrap();
    let body = world.read(id(1 + leader.0 % 3), G, index).unwrap().unwrap();
    assert!(rot(&mut world, leader.0, &body));
    assert_eq!(world.read(leader, G, index), Some(Ok(body)));
    world.run(2_000_000);
    assert_eq!(world.status(leader, G).unwrap().damaged, 0);
    world.put(G, value(1, 10));
    world.until(5_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
}

#[test]
fn the_only_replica_says_what_is_damaged_and_goes_on() {
    let mut world = started(42, 1, GroupKind::Stream, &[1]);
    fill(&mut world, 3_000, 2_000);
    world.offer(G);
    world.run(1_000_000);
    let index = *world.servers[&id(1)].machines[&G].live.keys().nth(40).unwrap();
    let body = world.read(id(1), G, index).unwrap().unwrap();
    assert!(rot(&mut world, 1, &body));
    world.strict = false;
    world.crash(id(1));
    world.start(id(1));
    world.put(G, value(2, 10));
    assert_eq!(world.read(id(1), G, index), Some(Err(ReadGone::Damaged)));
    assert_eq!(world.status(id(1), G).unwrap().damaged, 1);
    assert!(!world.errors(id(1)).is_empty());
}

/// Flips a bit of the first place on a server's disk where these bytes lie.
fn rot(world: &mut World, at: u64, body: &Bytes) -> bool {
    let disk = &mut world.servers.get_mut(&id(at)).unwrap().disk;
    for data in disk.files.values_mut() {
        let found = (0..data.len().saturating_sub(body.len())).find(|at| data[*at..].starts_with(body));
        if let Some(at) = found {
            data[at + body.len() / 2] ^= 4;
            return true;
        }
    }
    false
}

#[test]
fn a_full_disk_refuses_and_takes_again_when_there_is_space() {
    let mut world = World::new(50, 1);
    world.servers.get_mut(&id(1)).unwrap().disk.bytes_max = Some(12 << 20);
    world.run(200_000);
    world.open(&World::spec(G, GroupKind::Stream, &[1]));
    world.put(G, value(0, 10));
    let mut refused = None;
    for number in 0..40_000 {
        if let Err(why) = world.propose(G, value(number, 2_000)) {
            refused = Some(why);
            break;
        }
        if number % 16 == 0 {
            world.run(500);
        }
    }
    assert_eq!(refused, Some(ProposeRefused::Full));
    world.run(1_000_000);
    let before = world.servers[&id(1)].machines[&G].live.len();
    assert!(before > 1_000);
    let any = *world.servers[&id(1)].machines[&G].live.keys().nth(before / 2).unwrap();
    assert!(matches!(world.read(id(1), G, any), Some(Ok(_))));
    world.servers.get_mut(&id(1)).unwrap().disk.bytes_max = Some(20 << 20);
    world.run(3_000_000);
    world.put(G, value(1, 2_000));
    world.crash(id(1));
    world.start(id(1));
    world.until(5_000_000, "restored", |world| world.converged(G, &[1]));
    assert!(world.servers[&id(1)].machines[&G].live.len() > before);
}

#[test]
fn closing_a_group_frees_it_and_its_name_may_come_back() {
    let mut world = started(60, 1, GroupKind::Stream, &[1]);
    fill(&mut world, 500, 2_000);
    world.close_at(id(1), G);
    world.history.clear();
    world.acked.clear();
    world.run(500_000);
    world.crash(id(1));
    world.start(id(1));
    world.run(1_000_000);
    assert_eq!(world.groups(id(1)).orphans(), []);
    world.open(&World::spec(G, GroupKind::Stream, &[1]));
    assert_eq!(world.put(G, value(1, 10)), 2);
    assert_eq!(world.servers[&id(1)].machines[&G].live.len(), 1);
}

/// Found by the simulator: a server dropped a group, crashed, and came back with a table from before that. It opened the
/// group as a founder, and gave the vote that it had forgotten away. The hub waits for the table that was acted on.
#[test]
fn what_table_groups_were_dropped_by_is_known_after_a_crash() {
    let mut world = started(62, 1, GroupKind::Stream, &[1]);
    world.groups(id(1)).act_on(7);
    assert_eq!(world.groups(id(1)).acted_on(), 7);
    world.close_at(id(1), G);
    world.run(500_000);
    world.crash(id(1));
    world.start(id(1));
    world.run(500_000);
    assert_eq!(world.groups(id(1)).orphans(), [GroupId::META], "only the note is left");
    assert_eq!(world.groups(id(1)).acted_on(), 7);
}

/// An uncommitted change is no reason to leave: it may never come to be, and then the vote is missing.
#[test]
fn a_replica_stays_until_its_removal_is_committed_and_hears_of_it_even_if_it_slept() {
    let mut world = started(63, 3, GroupKind::Stream, &[1, 2, 3]);
    let stays = world.leader(G).unwrap();
    let others: Vec<ServerId> = (1..=3).map(id).filter(|at| *at != stays).collect();
    let (cut, sleeps) = (others[0], others[1]);
    world.crash(sleeps);
    let tell = |world: &mut World, at: ServerId| {
        let time = Now { us: world.now, wall_ns: 0 };
        assert!(world.groups(at).change_members(time, G, vec![stays]));
        world.pump(at);
    };
    // The leader hears nobody, so its change is not committed; the others are told by the table all the same.
    world.cut.insert((cut, stays));
    tell(&mut world, stays);
    tell(&mut world, cut);
    world.run(150_000);
    assert!(world.status(cut, G).is_some_and(|status| status.last > world.acked[&G]), "the change has not arrived");
    world.run(5_000_000);
    assert!(!world.is_removed(cut, G) && !world.is_removed(stays, G));
    world.cut.clear();
    world.until(20_000_000, "removed", |world| world.is_removed(cut, G));
    world.close_at(cut, G);
    world.start(sleeps);
    world.until(5_000_000, "back", |world| world.status(sleeps, G).is_some_and(|status| status.term > 0));
    tell(&mut world, sleeps);
    world.until(20_000_000, "removed", |world| world.is_removed(sleeps, G));
    world.close_at(sleeps, G);
    world.put(G, value(1, 10));
    assert_eq!(world.leader(G), Some(stays));
}

#[test]
fn leadership_is_handed_over_on_wish() {
    let mut world = started(61, 3, GroupKind::Consumer, &[1, 2, 3]);
    world.run(500_000);
    let leader = world.leader(G).unwrap();
    let time = Now { us: world.now, wall_ns: 0 };
    world.groups(leader).transfer_all(time);
    world.pump(leader);
    world.run(50_000);
    assert!(world.leader(G).is_some_and(|now| now != leader));
    world.put(G, value(1, 10));
}

/// Found by killing servers and flipping bits: an entry was damaged that stands in the log before the change that gave the
/// replica company, and the replica took itself for the only one.
#[test]
fn a_replica_that_was_alone_once_asks_those_who_came_later() {
    let mut world = started(64, 3, GroupKind::Stream, &[1]);
    world.put(G, value(1, 100));
    let body = value(77, 900);
    world.put(G, body.clone());
    let everybody: Vec<ServerId> = (1..=3).map(id).collect();
    for at in [2, 3] {
        world.open_at(id(at), World::spec(G, GroupKind::Stream, &[]));
    }
    let time = Now { us: world.now, wall_ns: 0 };
    assert!(world.groups(id(1)).change_members(time, G, everybody));
    world.pump(id(1));
    world.until(10_000_000, "three members", |world| world.converged(G, &[1, 2, 3]));
    world.put(G, value(2, 10));
    world.until(10_000_000, "everybody has it", |world| world.converged(G, &[1, 2, 3]));
    world.run(500_000);
    world.crash(id(1));
    assert!(rot(&mut world, 1, &body));
    world.start(id(1));
    world.until(10_000_000, "healed", |world| world.converged(G, &[1, 2, 3]));
    assert!(world.errors(id(1)).iter().all(|text| !text.contains("stays closed")));
}
