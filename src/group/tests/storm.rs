//! Random crashes, cuts, drops and proposals over several groups; then everything must converge.

use bytes::Bytes;

use super::toy::trim;
use super::world::{World, id};
use crate::group::{GroupKind, GroupSpec};
use crate::ids::GroupId;

#[test]
fn storms_lose_nothing_and_calm_down() {
    for seed in 0..3 {
        storm(seed);
    }
}

fn storm(seed: u64) {
    eprintln!("seed {seed}");
    let mut world = World::new(1000 + seed, 3);
    world.run(100_000);
    let groups: Vec<GroupId> = (1..=4).map(GroupId).collect();
    for (at, group) in groups.iter().enumerate() {
        let kind = [GroupKind::Stream, GroupKind::Consumer, GroupKind::Meta, GroupKind::Stream][at];
        world.open(&GroupSpec { memory: at == 3, ..World::spec(*group, kind, &[1, 2, 3]) });
    }
    for round in 0..60u64 {
        for _ in 0..world.rng.below(200) {
            let group = groups[world.rng.below(4) as usize];
            let len = 8 + world.rng.below(900) as usize;
            let body = Bytes::from(vec![world.rng.next() as u8; len]);
            let _ = world.propose(group, body);
            if world.rng.chance(20) {
                let us = world.rng.below(2_000);
                world.run(us);
            }
        }
        disturb(&mut world, &groups, round);
        let us = world.rng.below(400_000);
        world.run(us);
    }
    world.cut.clear();
    (world.drop_percent, world.delay_us) = (0, (100, 400));
    for at in 1..=3 {
        if world.servers[&id(at)].groups.is_none() {
            world.start(id(at));
        }
    }
    for group in &groups {
        world.put(*group, Bytes::from_static(b"the last one"));
        world.until(60_000_000, "converged", |world| world.converged(*group, &[1, 2, 3]));
    }
    world.run(3_000_000);
    let messages = world.messages();
    world.run(1_000_000);
    assert_eq!(world.messages(), messages, "not quiet");
}

/// One fault. At most one server has forgotten a memory group at a time: two of three would be the end of it.
fn disturb(world: &mut World, groups: &[GroupId], round: u64) {
    let at = id(1 + world.rng.below(3));
    match world.rng.below(8) {
        0 | 1 => {
            let whole = world.up().len() == 3 && world.converged(groups[3], &[1, 2, 3]);
            let counts = |at: u64| world.status(id(at), groups[3]).is_some_and(|status| !status.voteless);
            if whole && (1..=3).all(counts) {
                world.crash(at);
                if world.rng.chance(60) {
                    world.start(at);
                }
            }
        }
        2 => world.isolate(at),
        3 => world.cut.clear(),
        4 => world.drop_percent = world.rng.below(10),
        5 => world.delay_us = if round.is_multiple_of(2) { (100, 400) } else { (100, 20_000) },
        6 => {
            let group = groups[world.rng.below(4) as usize];
            let below = world.acked.get(&group).copied().unwrap_or(0).saturating_sub(50);
            let _ = world.propose(group, trim(below));
            world.offer(group);
        }
        _ => {
            for at in 1..=3 {
                if world.servers[&id(at)].groups.is_none() {
                    world.start(id(at));
                }
            }
        }
    }
}
