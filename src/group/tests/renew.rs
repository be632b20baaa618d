//! Damaged records beside the entries: votes, notes, checkpoints.

use storage::RecordKind;

use super::change::{G, fill, started, value};
use super::toy::trim;
use super::world::{World, id};
use crate::group::GroupKind;
use crate::group::log::DESCRIPTOR;
use crate::ids::Now;

const RUN: &[u8] = b"TRSTRUN1";

/// Flips a bit in the body of every record of a kind that the group has on a server's disk. How many.
fn spoil(world: &mut World, at: u64, kind: RecordKind) -> usize {
    let disk = &mut world.servers.get_mut(&id(at)).unwrap().disk;
    let mut spoilt = 0;
    for data in disk.files.values_mut() {
        let u32_at = |data: &[u8], at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap()) as usize;
        for run in (0..data.len().saturating_sub(64)).step_by(4096) {
            if !data[run..].starts_with(RUN) {
                continue;
            }
            for entry in (0..u32_at(data, run + 12)).map(|at| run + 64 + 56 * at) {
                let group = u64::from_le_bytes(data[entry..entry + 8].try_into().unwrap());
                let (body, len) = (run + u32_at(data, entry + 40), u32_at(data, entry + 44));
                if group == G.0 && data[entry + 36] == kind.0 && len > 0 {
                    data[body + len / 2] ^= 4;
                    spoilt += 1;
                }
            }
        }
    }
    spoilt
}

fn settled(seed: u64) -> World {
    let mut world = started(seed, 3, GroupKind::Stream, &[1, 2, 3]);
    fill(&mut world, 300, 500);
    let last = world.acked[&G];
    world.put(G, trim(last - 50));
    world.offer(G);
    world.until(5_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
    world.run(2_000_000);
    world
}

/// Starts a server that hears nobody; whether its replica has no vote.
fn starts_voteless(world: &mut World, at: u64) -> bool {
    (1..=3)
        .filter(|at| world.up().contains(&id(*at)))
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|at| world.crash(id(at)));
    world.start(id(at));
    world.until(5_000_000, "read", |world| world.status(id(at), G).is_some_and(|status| status.last > 0));
    world.run(1_000_000);
    world.status(id(at), G).unwrap().voteless
}

#[test]
fn a_damaged_vote_stays_forgotten_until_a_leader_says_otherwise() {
    for kind in [RecordKind::HARD_STATE, DESCRIPTOR] {
        let mut world = settled(60);
        (1..=3).for_each(|at| world.crash(id(at)));
        assert!(spoil(&mut world, 3, kind) > 0);
        assert!(starts_voteless(&mut world, 3));
        assert!(starts_voteless(&mut world, 3), "the second start takes what the first one wrote for the whole truth");
        [1, 2].into_iter().for_each(|at| world.start(id(at)));
        world.until(20_000_000, "whole", |world| world.status(id(3), G).is_some_and(|status| !status.voteless));
        world.put(G, value(1, 10));
        world.until(5_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
        world.run(2_000_000);
        assert!(!starts_voteless(&mut world, 3), "what was damaged was not written anew");
    }
}

#[test]
fn what_is_found_to_be_damaged_in_service_is_written_anew_at_once() {
    for kind in [RecordKind::CHECKPOINT, RecordKind::HARD_STATE, DESCRIPTOR] {
        let mut world = settled(61);
        assert!(spoil(&mut world, 3, kind) > 0);
        let time = Now { us: world.now, wall_ns: 0 };
        world.groups(id(3)).on_damage(time, Some(G), Some(kind), None, "found by the scrub".into());
        world.pump(id(3));
        world.run(2_000_000);
        assert!(!starts_voteless(&mut world, 3), "{kind:?}");
        let errors = world.errors(id(3));
        assert!(!errors.iter().any(|text| text.contains("checkpoint is damaged")), "{errors:?}");
    }
}
