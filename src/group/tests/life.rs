//! The plain life of a group: open, propose, commit, restart, lead, fail over.

use bytes::Bytes;

use super::toy::trim;
use super::world::{World, id};
use crate::group::{GroupKind, ProposeRefused};
use crate::ids::GroupId;

const G: GroupId = GroupId(77);

fn value(number: u64, bytes: usize) -> Bytes {
    let mut body = vec![number as u8; bytes.max(8)];
    body[..8].copy_from_slice(&number.to_le_bytes());
    body.into()
}

#[test]
fn one_replica_commits_restarts_and_has_everything() {
    let mut world = World::new(1, 1);
    world.run(100_000);
    world.open(&World::spec(G, GroupKind::Stream, &[1]));
    for number in 0..50 {
        world.put(G, value(number, 100));
    }
    let before = world.servers[&id(1)].machines[&G].clone();
    world.crash(id(1));
    world.start(id(1));
    world.until(1_000_000, "restored", |world| world.converged(G, &[1]));
    let after = &world.servers[&id(1)].machines[&G];
    assert_eq!((after.chain, &after.live, after.live.len()), (before.chain, &before.live, 50));
    for (number, index) in after.live.keys().copied().collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(world.read(id(1), G, index), Some(Ok(value(number as u64, 100))));
    }
    assert!(world.put(G, value(99, 100)) > 50);
}

#[test]
fn three_replicas_agree_fail_over_and_lose_nothing() {
    let mut world = World::new(2, 3);
    world.run(100_000);
    world.open(&World::spec(G, GroupKind::Stream, &[1, 2, 3]));
    for number in 0..20 {
        world.put(G, value(number, 500));
    }
    let first = world.leader(G).unwrap();
    let from = world.now;
    world.crash(first);
    world.put(G, value(100, 500));
    assert!(world.now - from < 1_000_000, "{} us without a leader", world.now - from);
    world.start(first);
    world.until(3_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
    for at in [1, 2, 3] {
        world.crash(id(at));
    }
    for at in [1, 2, 3] {
        world.start(id(at));
    }
    world.put(G, value(101, 500));
    world.until(3_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
    assert_eq!(world.servers[&id(1)].machines[&G].live.len(), 22);
}

#[test]
fn a_follower_refuses_and_names_the_leader() {
    let mut world = World::new(3, 3);
    world.run(100_000);
    world.open(&World::spec(G, GroupKind::Meta, &[1, 2, 3]));
    world.put(G, value(1, 10));
    let leader = world.leader(G).unwrap();
    let other = [id(1), id(2), id(3)].into_iter().find(|at| *at != leader).unwrap();
    let time = crate::ids::Now { us: world.now, wall_ns: 0 };
    let refused = world.groups(other).propose(time, G, value(2, 10));
    assert_eq!(refused, Err(ProposeRefused::NotLeader { leader: Some(leader) }));
    assert_eq!(world.groups(other).propose(time, GroupId(9), value(2, 10)), Err(ProposeRefused::Unknown));
}

#[test]
fn checkpoints_compact_and_restarts_begin_at_them() {
    for kind in [GroupKind::Stream, GroupKind::Consumer] {
        let mut world = World::new(4, 3);
        world.run(100_000);
        world.open(&World::spec(G, kind, &[1, 2, 3]));
        for round in 0..40u64 {
            for number in 0..250 {
                let _ = world.propose(G, value(number, 300));
            }
            let last = world.put(G, value(round, 64));
            if round % 5 == 4 {
                world.put(G, trim(last - 600));
                world.offer(G);
            }
        }
        world.until(3_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
        let first = world.status(id(1), G).unwrap().first;
        assert!(first > 1, "{kind:?}: the log still begins at {first}");
        for at in [1, 2, 3] {
            world.crash(id(at));
            world.start(id(at));
        }
        world.put(G, value(7, 64));
        world.until(3_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
    }
}

#[test]
fn what_a_stream_released_leaves_the_log() {
    let mut world = World::new(5, 1);
    world.run(100_000);
    world.open(&World::spec(G, GroupKind::Stream, &[1]));
    world.until(1_000_000, "led", |world| world.leader(G).is_some());
    let mut last = 0;
    for number in 0..40_000 {
        if let Ok(index) = world.propose(G, value(number, 600)) {
            last = index;
        }
        if number % 500 == 499 {
            world.put(G, trim(last - 100));
        }
    }
    world.put(G, value(1, 10));
    world.run(1_000_000);
    let stats = world.groups(id(1)).log_stats().unwrap();
    assert!(stats.bytes_payload > 24_000_000, "{stats:?}");
    assert!(stats.bytes_live < 12_000_000, "{stats:?}");
    assert!(stats.segments < 24, "{stats:?}");
}

#[test]
fn idle_groups_say_nothing_and_cost_no_steps() {
    let mut world = World::new(6, 3);
    world.run(100_000);
    for number in 0..100 {
        // The first member leads: every server leads some.
        let mut members = [1, 2, 3];
        members.rotate_left(number as usize % 3);
        world.open(&World::spec(GroupId(1000 + number), GroupKind::Stream, &members));
    }
    world.run(3_000_000);
    for number in 0..100 {
        let quiet = |at| world.status(id(at), GroupId(1000 + number)).unwrap().quiet;
        assert!(quiet(1) && quiet(2) && quiet(3), "{number}");
    }
    let (messages, beats) = (world.messages(), world.sent["heartbeat"]);
    let steps: u64 = [1, 2, 3].iter().map(|at| world.groups(id(*at)).core.steps).sum();
    world.run(2_000_000);
    assert_eq!(world.messages(), messages);
    assert_eq!([1, 2, 3].iter().map(|at| world.groups(id(*at)).core.steps).sum::<u64>(), steps);
    // Six directions, ten a second.
    let beats = world.sent["heartbeat"] - beats;
    assert!((100..=130).contains(&beats), "{beats}");
}

#[test]
fn quiet_groups_get_a_new_leader_when_theirs_dies_silently() {
    let mut world = World::new(7, 3);
    world.run(100_000);
    for number in 0..20 {
        world.open(&World::spec(GroupId(1000 + number), GroupKind::Consumer, &[1, 2, 3]));
    }
    world.run(2_000_000);
    let led = |world: &World, at| (0..20).filter(|n| world.leader(GroupId(1000 + n)) == Some(id(at))).count();
    let victim = (1..=3).max_by_key(|at| led(&world, *at)).unwrap();
    assert!(led(&world, victim) > 0);
    world.isolate(id(victim));
    world.run(1_200_000);
    for number in 0..20 {
        let leads = |at: u64| world.servers[&id(at)].machines[&GroupId(1000 + number)].leading;
        assert!(!leads(victim), "group {number}: a leader that nobody hears still leads");
        assert!((1..=3).any(leads), "group {number} has no leader");
    }
    world.cut.clear();
    world.run(2_000_000);
    for number in 0..20 {
        world.put(GroupId(1000 + number), value(number, 10));
    }
    world.run(2_000_000);
    for number in 0..20 {
        assert!(world.converged(GroupId(1000 + number), &[1, 2, 3]), "{number}");
        assert!(world.status(id(victim), GroupId(1000 + number)).unwrap().quiet, "{number}");
    }
}
