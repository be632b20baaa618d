//! Groups in memory whose servers restart: when they begin anew, and when they must not.

use super::change::{G, fill, started, value};
use super::disk::Disk;
use super::world::{World, id};
use crate::group::{Anew, GroupKind, GroupSpec};
use crate::ids::Now;

/// What the hub tells a replica of a group whose members never changed.
fn allow(world: &mut World, at: u64) {
    tell(world, at, &[1, 2, 3], &[], 77);
}

fn tell(world: &mut World, at: u64, voters: &[u64], former: &[u64], stamp: u64) {
    let ids = |list: &[u64]| list.iter().copied().map(id).collect();
    let anew = Anew { voters: ids(voters), former: ids(former), stamp };
    world.groups(id(at)).set_anew(G, Some(anew));
}

/// A memory group of three with 200 entries, whose members may have restarted.
fn in_memory(seed: u64) -> World {
    let mut world = World::new(seed, 3);
    world.run(100_000);
    world.open(&GroupSpec { memory: true, ..World::spec(G, GroupKind::Stream, &[1, 2, 3]) });
    world.put(G, value(0, 10));
    fill(&mut world, 200, 500);
    world.until(5_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
    world
}

fn restart(world: &mut World, gone: &[u64]) {
    gone.iter().for_each(|at| world.crash(id(*at)));
    gone.iter().for_each(|at| world.start(id(*at)));
    world.run(100_000);
}

#[test]
fn a_memory_group_whose_replicas_all_restarted_begins_anew_by_everybodys_word() {
    let mut world = in_memory(32);
    restart(&mut world, &[1, 2, 3]);
    // Unless they may.
    allow(&mut world, 1);
    allow(&mut world, 2);
    world.run(5_000_000);
    assert_eq!(world.leader(G), None);
    world.crash(id(3));
    world.run(5_000_000);
    assert_eq!(world.leader(G), None, "nobody knows what the third has");
    world.start(id(3));
    world.run(100_000);
    allow(&mut world, 3);
    // Nobody is left who knew what was acknowledged.
    world.acked.clear();
    world.history.clear();
    world.until(5_000_000, "led", |world| world.leader(G).is_some());
    world.put(G, value(1, 10));
    world.until(5_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
    assert!((1..=3).all(|at| !world.status(id(at), G).unwrap().voteless));
}

#[test]
fn a_memory_group_whose_majority_restarted_keeps_what_the_third_has() {
    let mut world = in_memory(33);
    (1..=3).for_each(|at| allow(&mut world, at));
    let leader = world.leader(G).unwrap().0;
    let gone: Vec<u64> = (1..=3).filter(|at| *at != 1 + leader % 3).collect();
    restart(&mut world, &gone);
    gone.iter().for_each(|at| allow(&mut world, *at));
    world.until(5_000_000, "led", |world| world.leader(G) == Some(id(1 + leader % 3)));
    world.put(G, value(1, 10));
    world.until(5_000_000, "converged", |world| world.converged(G, &[1, 2, 3]));
    assert_eq!(world.servers[&id(leader)].machines[&G].live.len(), 1 + 201 + 1);
}

#[test]
fn a_file_group_never_begins_anew() {
    let mut world = started(34, 3, GroupKind::Stream, &[1, 2, 3]);
    for server in world.servers.values_mut() {
        server.specs.get_mut(&G).unwrap().forgetful = true;
        server.disk = Disk::default();
    }
    restart(&mut world, &[1, 2, 3]);
    (1..=3).for_each(|at| allow(&mut world, at));
    world.run(5_000_000);
    assert_eq!(world.leader(G), None);
}

#[test]
fn a_memory_group_of_one_starts_afresh() {
    let mut world = World::new(31, 1);
    world.run(100_000);
    let spec = GroupSpec { memory: true, forgetful: true, ..World::spec(G, GroupKind::Stream, &[1]) };
    world.open(&spec);
    world.run(5_000_000);
    assert_eq!(world.leader(G), None, "it may have company by now");
    let anew = Anew { voters: vec![id(1)], former: vec![], stamp: 77 };
    world.groups(id(1)).set_anew(G, Some(anew));
    world.until(1_000_000, "led", |world| world.leader(G).is_some());
    assert_eq!(world.put(G, value(1, 10)), 2);
}

/// What the hub opens once the members have changed: nobody is a founder any more.
fn open_later(world: &mut World, at: u64, forgetful: bool) {
    let spec = GroupSpec { memory: true, forgetful, ..World::spec(G, GroupKind::Stream, &[]) };
    world.open_at(id(at), spec);
}

/// The group of 1, 2, 3 has moved to 1, 4, 5, and all five servers have restarted.
fn moved_and_restarted(seed: u64) -> World {
    let mut world = World::new(seed, 5);
    world.run(100_000);
    world.open(&GroupSpec { memory: true, ..World::spec(G, GroupKind::Stream, &[1, 2, 3]) });
    world.put(G, value(0, 10));
    fill(&mut world, 200, 500);
    let to = [1, 4, 5].map(id);
    [4, 5].into_iter().for_each(|at| open_later(&mut world, at, false));
    (1..=5).for_each(|at| {
        let now = Now { us: world.now, wall_ns: 0 };
        world.groups(id(at)).change_members(now, G, to.to_vec());
    });
    for at in [2, 3] {
        world.until(20_000_000, "removed", |world| world.is_removed(id(at), G));
        world.close_at(id(at), G);
    }
    world.until(20_000_000, "moved", |world| world.converged(G, &[1, 4, 5]));
    for at in 1..=5 {
        world.servers.get_mut(&id(at)).unwrap().specs.clear();
    }
    restart(&mut world, &[1, 2, 3, 4, 5]);
    world.acked.clear();
    world.history.clear();
    [1, 4, 5].into_iter().for_each(|at| open_later(&mut world, at, true));
    world
}

#[test]
fn a_memory_group_whose_members_changed_begins_anew_by_the_word_of_all_it_ever_had() {
    let mut world = moved_and_restarted(35);
    [1, 4, 5].into_iter().for_each(|at| tell(&mut world, at, &[1, 4, 5], &[2, 3], 80));
    world.run(5_000_000);
    assert_eq!(world.leader(G), None, "2 and 3 may know more");
    for at in [2, 3] {
        open_later(&mut world, at, true);
        tell(&mut world, at, &[1, 4, 5], &[2, 3], 80);
    }
    world.until(10_000_000, "led", |world| world.leader(G).is_some());
    world.put(G, value(1, 10));
    world.until(10_000_000, "converged", |world| world.converged(G, &[1, 4, 5]));
    assert!([1, 4, 5].iter().all(|at| !world.status(id(*at), G).unwrap().voteless));
}

/// Those that an older table calls the founders agree; 1 knows that the group went on with others, and grants nothing.
#[test]
fn nobody_begins_anew_with_the_word_of_one_who_knows_of_a_later_change() {
    let mut world = moved_and_restarted(36);
    for at in [2, 3] {
        open_later(&mut world, at, true);
        tell(&mut world, at, &[1, 2, 3], &[], 77);
    }
    tell(&mut world, 1, &[1, 4, 5], &[2, 3], 80);
    world.run(10_000_000);
    assert_eq!(world.leader(G), None);
}
