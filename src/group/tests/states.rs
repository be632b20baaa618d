//! States that are too large for one record: parts, banks, crashes in between, damage.

use bytes::Bytes;

use super::toy::trim;
use super::world::{World, id};
use crate::group::GroupKind;
use crate::group::states::{STATE_PARTS_MAX, part_kind};
use crate::ids::GroupId;

const G: GroupId = GroupId(77);

fn value(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

/// Notes with a piece of a state, per bank.
fn parts(world: &mut World, at: u64) -> [usize; 2] {
    let disk = &mut world.groups(id(at)).core.disk;
    [0, 1].map(|bank| (0..STATE_PARTS_MAX).filter(|part| disk.part_bytes(G, part_kind(bank, *part)) > 0).count())
}

/// A checkpoint of everything that is applied, until it is durable.
fn checkpoint(world: &mut World, at: u64) {
    let applied = world.servers[&id(at)].machines[&G].applied;
    world.offer(G);
    world.run(1_000_000);
    assert!(world.groups(id(at)).groups[&G].retain.checkpoint >= applied, "a durable checkpoint");
}

fn again(world: &mut World, at: u64) {
    world.crash(id(at));
    world.start(id(at));
    world.until(2_000_000, "restored", |world| world.converged(G, &[at]));
}

#[test]
fn a_large_state_is_stored_in_parts_of_two_banks_in_turn_and_a_small_one_sweeps_them() {
    let mut world = World::with_parts(1, 1, 512);
    world.run(100_000);
    world.open(&World::spec(G, GroupKind::Stream, &[1]));
    let mut last = 0;
    for round in 0..3 {
        for number in 0..200 {
            last = world.put(G, value(number));
        }
        checkpoint(&mut world, 1);
        let live = world.servers[&id(1)].machines[&G].live.len();
        let wanted = (16 + 16 * live).div_ceil(512);
        let mut expected = [0, 0];
        expected[round % 2] = wanted;
        assert_eq!(parts(&mut world, 1), expected, "round {round}");
        again(&mut world, 1);
        assert_eq!(world.servers[&id(1)].machines[&G].live.len(), live);
    }
    world.put(G, trim(last));
    checkpoint(&mut world, 1);
    assert_eq!(parts(&mut world, 1), [0, 0]);
    again(&mut world, 1);
    assert_eq!(world.servers[&id(1)].machines[&G].live.len(), 1);
}

#[test]
fn a_crash_between_the_parts_leaves_the_checkpoint_before() {
    for seed in 0..40 {
        let mut world = World::with_parts(seed, 1, 512);
        world.run(100_000);
        world.open(&World::spec(G, GroupKind::Stream, &[1]));
        for round in 0..6 {
            let mut last = 0;
            for number in 0..40 + world.rng.below(100) {
                last = world.put(G, value(number));
            }
            if world.rng.chance(30) {
                let below = last - world.rng.below(30);
                world.put(G, trim(below));
            }
            world.offer(G);
            let pause = world.rng.below(1_500);
            world.run(pause);
            let before = world.servers[&id(1)].machines[&G].clone();
            again(&mut world, 1);
            let after = &world.servers[&id(1)].machines[&G];
            assert_eq!((after.chain, &after.live), (before.chain, &before.live), "seed {seed} round {round}");
        }
        // What was left of unfinished ones goes with the next that is finished.
        checkpoint(&mut world, 1);
        let [a, b] = parts(&mut world, 1);
        assert!(a == 0 || b == 0, "seed {seed}: {a} and {b} parts");
    }
}

#[test]
fn a_damaged_part_is_a_damaged_checkpoint_and_the_leader_sends_everything() {
    let mut world = World::with_parts(3, 3, 512);
    world.run(100_000);
    world.open(&World::spec(G, GroupKind::Consumer, &[1, 2, 3]));
    for number in 0..300 {
        world.put(G, value(number));
    }
    world.until(1_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
    checkpoint(&mut world, 3);
    world.run(500_000);
    let state = world.servers.get_mut(&id(3)).unwrap().machines.get_mut(&G).unwrap().checkpoint();
    world.crash(id(3));
    let piece = &state[2_000..2_064];
    let mut damaged = 0;
    for file in world.servers.get_mut(&id(3)).unwrap().disk.files.values_mut() {
        while let Some(at) = file.windows(piece.len()).position(|window| window == piece) {
            file[at] ^= 1;
            damaged += 1;
        }
    }
    assert!(damaged > 0, "the state stands in the log");
    world.start(id(3));
    world.until(5_000_000, "whole again", |world| world.converged(G, &[1, 2, 3]));
    assert!(world.errors(id(3)).iter().any(|text| text.contains("checkpoint is damaged")));
}
