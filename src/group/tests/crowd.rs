//! Followers that are fuller than their leader.

use bytes::Bytes;

use super::toy::trim;
use super::world::{World, id};
use crate::group::{GroupKind, ProposeRefused};
use crate::ids::{GroupId, ServerId};

const G: GroupId = GroupId(7);
const SECOND: u64 = 1_000_000;

fn value(number: u64, bytes: usize) -> Bytes {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(bytes, number as u8);
    body.into()
}

/// Three replicas, of which those that do not lead have room for `follower` bytes; and who leads.
fn with_small_followers(seed: u64, kind: GroupKind, follower: u64) -> (World, ServerId) {
    let mut world = World::new(seed, 3);
    world.open(&World::spec(G, kind, &[1, 2, 3]));
    world.until(20 * SECOND, "a leader", |world| world.leader(G).is_some());
    let leader = world.leader(G).unwrap();
    for at in (1..=3).map(id).filter(|at| *at != leader) {
        limit(&mut world, at, Some(follower));
    }
    (world, leader)
}

fn limit(world: &mut World, at: ServerId, bytes: Option<u64>) {
    world.servers.get_mut(&at).unwrap().disk.bytes_max = bytes;
}

fn is_acked(world: &World, index: u64) -> bool {
    world.acked.get(&G).is_some_and(|acked| *acked >= index)
}

/// Waits until a relief is taken and acknowledged.
fn relieve(world: &mut World, below: u64) {
    let end = world.now + 10 * SECOND;
    let index = loop {
        match world.relieve(G, trim(below)) {
            Ok(index) => break index,
            Err(why) => assert!(world.now < end && why != ProposeRefused::Full, "{why:?}"),
        }
        world.run(20_000);
    };
    world.until(10 * SECOND, "the relief is acknowledged", |world| is_acked(world, index));
}

/// Checkpoints until values are taken again.
fn takes_again(world: &mut World) {
    let end = world.now + 20 * SECOND;
    while world.propose(G, value(9, 4_000)).is_err() {
        if world.now >= end {
            world.explain();
            panic!("no space came back: {:?}", world.propose(G, value(9, 4_000)));
        }
        world.offer(G);
        world.run(SECOND / 4);
    }
    world.put(G, value(10, 4_000));
    world.run(3 * SECOND);
    world.until(10 * SECOND, "all are equal", |world| world.converged(G, &[1, 2, 3]));
}

#[test]
fn full_followers_make_their_leader_refuse_and_can_be_emptied() {
    for seed in 0..4 {
        let (mut world, leader) = with_small_followers(seed, GroupKind::Stream, 8 << 20);
        let (mut taken, mut refused) = (0, 0);
        // What comes back by packing records closer is used up, too.
        while refused < 1_000 {
            match world.propose(G, value(taken, 4_000)) {
                Ok(index) => {
                    (taken, refused) = (taken + 1, 0);
                    world.until(SECOND, "what is taken is acknowledged", |world| is_acked(world, index));
                }
                Err(why) => {
                    assert_eq!(why, ProposeRefused::Full);
                    refused += 1;
                    world.run(5_000);
                }
            }
            assert!(taken < 3_000);
        }
        assert!(taken > 500, "{taken}");
        assert!(world.groups(leader).is_crowded(G) && !world.groups(leader).is_full());
        assert_eq!(world.leader(G), Some(leader), "nothing is stuck: nobody else need lead");
        let last = world.acked[&G];
        relieve(&mut world, last + 1);
        takes_again(&mut world);
    }
}

#[test]
fn what_followers_have_no_room_for_is_cut_off_and_never_applied() {
    for seed in 0..4 {
        let (mut world, leader) = with_small_followers(seed, GroupKind::Stream, 8 << 20);
        for number in 0..550 {
            world.put(G, value(number, 8_000));
        }
        let sound = world.acked[&G];
        // More at once than any follower holds back for what is on its way, and before it can say that it is full.
        let delay_us = std::mem::replace(&mut world.delay_us, (20_000, 21_000));
        let mut last = 0;
        for number in 0..1_000 {
            last = world.propose(G, value(number, 8_000)).unwrap();
            world.run(15);
        }
        world.delay_us = delay_us;
        world.until(10 * SECOND, "a full replica leads", |world| world.leader(G).is_some_and(|now| now != leader));
        let now = world.leader(G).unwrap();
        let end = world.now + 10 * SECOND;
        while world.propose(G, value(0, 10)) != Err(ProposeRefused::Full) {
            assert!(world.now < end, "the new leader does not refuse");
            world.run(50_000);
        }
        relieve(&mut world, sound);
        assert!(world.servers[&leader].machines[&G].pending.is_empty());
        let acked = world.acked[&G];
        assert!(acked > sound && acked < last, "{sound} {acked} {last}");
        assert_eq!(world.servers[&leader].machines[&G].applied, world.servers[&now].machines[&G].applied);
        takes_again(&mut world);
    }
}

#[test]
fn one_full_follower_keeps_nobody_waiting_and_follows_once_it_can() {
    for seed in 0..4 {
        let (mut world, leader) = with_small_followers(seed, GroupKind::Stream, 8 << 20);
        let roomy = (1..=3).map(id).find(|at| *at != leader).unwrap();
        limit(&mut world, roomy, None);
        for number in 0..900 {
            world.put(G, value(number, 8_000));
        }
        assert!(world.servers.values().all(|server| server.broken.is_none()));
        let last = world.acked[&G];
        relieve(&mut world, last + 1);
        takes_again(&mut world);
    }
}

#[test]
fn a_consumer_goes_on_while_its_followers_are_full() {
    let (mut world, _) = with_small_followers(1, GroupKind::Consumer, 8 << 20);
    let stream = World::spec(GroupId(8), GroupKind::Stream, &[1, 2, 3]);
    world.open(&stream);
    world.until(20 * SECOND, "a leader", |world| world.leader(GroupId(8)).is_some());
    while world.propose(GroupId(8), value(1, 8_000)) != Err(ProposeRefused::Full) {
        world.run(5_000);
    }
    let end = world.now + 600 * SECOND;
    for number in 0..3_000 {
        while world.propose(G, value(number, 500)).is_err() {
            if world.now >= end {
                world.explain();
                panic!("after {number}");
            }
            world.offer(G);
            world.run(20_000);
        }
        world.run(1_000);
    }
    let leader = world.leader(G).unwrap();
    let last = world.status(leader, G).unwrap().last;
    world.until(10 * SECOND, "the last one is acknowledged", |world| is_acked(world, last));
    assert_eq!(world.propose(GroupId(8), value(1, 10)), Err(ProposeRefused::Full));
}
