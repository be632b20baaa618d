use std::collections::VecDeque;

use super::*;

fn hello(id: &str, peer_id: u64) -> Hello {
    Hello { server_name: format!("n{peer_id}"), server_id: id.into(), peer_id, ..Hello::default() }
}

/// Offers one lane of server B (peer 2) to server A (peer 1).
fn offer(sessions: &mut Sessions<u32>, id: &str, side: Side, lane: Lane, conn: u32) -> Outcome<u32> {
    sessions.offer(&hello("A", 1), Box::new(hello(id, 2)), side, lane, conn)
}

const B: ServerId = ServerId(2);

fn link(sessions: &mut Sessions<u32>, id: &str, side: Side, first: u32) -> Outcome<u32> {
    offer(sessions, id, side, Lane::Control, first);
    offer(sessions, id, side, Lane::Data, first + 1);
    offer(sessions, id, side, Lane::Bulk, first + 2)
}

#[test]
fn a_link_is_up_with_its_third_lane_and_down_with_any() {
    let mut sessions = Sessions::new();
    assert!(offer(&mut sessions, "B", Side::Theirs, Lane::Control, 1).kept);
    assert!(!offer(&mut sessions, "B", Side::Theirs, Lane::Bulk, 3).up);
    assert!(!sessions.is_up(B));
    assert!(offer(&mut sessions, "B", Side::Theirs, Lane::Data, 2).up);
    assert_eq!((sessions.is_up(B), sessions.lane(B, Lane::Data)), (true, Some(&2)));
    let end = sessions.broken(B, Side::Theirs, &3);
    assert_eq!((end.down, end.close), (true, vec![1, 2, 3]));
    assert!(!sessions.is_up(B));
    assert_eq!(sessions.broken(B, Side::Theirs, &1), Outcome::nothing());
}

#[test]
fn a_standing_link_is_not_given_up_for_another_connection() {
    let mut sessions = Sessions::new();
    link(&mut sessions, "B", Side::Theirs, 1);
    for side in [Side::Ours, Side::Theirs] {
        for lane in Lane::ALL {
            let outcome = offer(&mut sessions, "B", side, lane, 9);
            assert_eq!((outcome.kept, outcome.close), (false, vec![9]));
        }
    }
    assert!(sessions.is_up(B));
}

#[test]
fn a_server_that_started_anew_replaces_its_former_boot() {
    let mut sessions = Sessions::new();
    link(&mut sessions, "B", Side::Theirs, 1);
    let outcome = offer(&mut sessions, "B2", Side::Theirs, Lane::Control, 7);
    assert_eq!((outcome.down, outcome.kept, outcome.close), (true, true, vec![1, 2, 3]));
    assert!(!sessions.is_up(B));
    offer(&mut sessions, "B2", Side::Theirs, Lane::Data, 8);
    assert!(offer(&mut sessions, "B2", Side::Theirs, Lane::Bulk, 9).up);
    assert_eq!(sessions.hello(B).map(|hello| hello.server_id.as_str()), Some("B2"));
}

#[test]
fn of_two_control_lanes_the_one_of_the_smaller_id_stays() {
    let mut sessions = Sessions::new();
    offer(&mut sessions, "B", Side::Theirs, Lane::Control, 1);
    let outcome = offer(&mut sessions, "B", Side::Ours, Lane::Control, 2);
    assert_eq!((outcome.kept, outcome.close), (true, vec![1]));
    let outcome = offer(&mut sessions, "B", Side::Theirs, Lane::Data, 3);
    assert_eq!((outcome.kept, outcome.close), (false, vec![3]), "a lane whose set was given up");
    let mut sessions = Sessions::new();
    sessions.offer(&hello("Z", 1), Box::new(hello("B", 2)), Side::Theirs, Lane::Control, 1);
    let outcome = sessions.offer(&hello("Z", 1), Box::new(hello("B", 2)), Side::Ours, Lane::Control, 2);
    assert_eq!((outcome.kept, outcome.close), (false, vec![2]));
}

#[test]
fn a_set_that_was_being_dialled_leaves_nothing_behind() {
    let mut sessions = Sessions::new();
    offer(&mut sessions, "B", Side::Ours, Lane::Control, 1);
    offer(&mut sessions, "B", Side::Ours, Lane::Data, 2);
    assert_eq!(sessions.give_up(B, Side::Ours).close, vec![1, 2]);
    assert!(sessions.hello(B).is_none());
    link(&mut sessions, "B", Side::Ours, 3);
    assert_eq!(sessions.give_up(B, Side::Ours), Outcome::nothing(), "a link that stands is not given up");
}

/// One connection on its way: who dialled it, which lane, and what has reached each end.
struct Wire {
    dialler: usize,
    lane: Lane,
    /// Established at the dialling end, at the accepting end; closed.
    ends: [bool; 2],
    closed: bool,
}

/// Two servers that dial each other under a random order of deliveries.
struct World {
    nodes: [Sessions<usize>; 2],
    wires: Vec<Wire>,
    queue: Vec<(usize, usize)>,
    closes: VecDeque<(usize, usize)>,
    up: [bool; 2],
}

impl World {
    fn hello(node: usize) -> Hello {
        hello(["A", "B"][node], node as u64 + 1)
    }

    fn peer(node: usize) -> ServerId {
        ServerId(2 - node as u64)
    }

    fn dial(&mut self, node: usize, lane: Lane) {
        self.wires.push(Wire { dialler: node, lane, ends: [false; 2], closed: false });
        self.queue.push((self.wires.len() - 1, 0));
    }

    fn apply(&mut self, node: usize, outcome: &Outcome<usize>) {
        if outcome.down {
            assert!(std::mem::replace(&mut self.up[node], false), "down twice");
        }
        if outcome.up {
            assert!(!std::mem::replace(&mut self.up[node], true), "up twice");
        }
        for wire in &outcome.close {
            self.closes.push_back((*wire, 1 - node));
        }
    }

    /// One end of a handshake is done: first the dialling one, then the other.
    fn establish(&mut self, wire: usize, end: usize) {
        let (dialler, lane) = (self.wires[wire].dialler, self.wires[wire].lane);
        if self.wires[wire].closed {
            return;
        }
        self.wires[wire].ends[end] = true;
        let (node, side) = if end == 0 { (dialler, Side::Ours) } else { (1 - dialler, Side::Theirs) };
        let them = Box::new(World::hello(1 - node));
        let outcome = self.nodes[node].offer(&World::hello(node), them, side, lane, wire);
        self.apply(node, &outcome);
        if end == 0 {
            self.queue.push((wire, 1));
            if lane == Lane::Control && outcome.kept {
                self.dial(node, Lane::Data);
                self.dial(node, Lane::Bulk);
            }
        }
    }

    /// The close of a wire reaches the other end.
    fn close(&mut self, wire: usize, node: usize) {
        self.wires[wire].closed = true;
        let side = if self.wires[wire].dialler == node { Side::Ours } else { Side::Theirs };
        let outcome = self.nodes[node].broken(World::peer(node), side, &wire);
        self.apply(node, &outcome);
    }
}

#[test]
fn two_servers_that_dial_at_once_agree_in_every_order() {
    for seed in 1..2_000u64 {
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut roll = |n: usize| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice % n as u64) as usize
        };
        let mut world = World {
            nodes: [Sessions::new(), Sessions::new()],
            wires: Vec::new(),
            queue: Vec::new(),
            closes: VecDeque::new(),
            up: [false; 2],
        };
        world.dial(0, Lane::Control);
        world.dial(1, Lane::Control);
        let mut quiet = 0;
        while quiet < 6 {
            let (ready, closing) = (world.queue.len(), world.closes.len());
            if ready + closing == 0 {
                // Whoever has no link dials again, one after the other: the loser of a contest waits longer.
                if let Some(node) = (0..2).find(|node| !world.nodes[*node].is_up(World::peer(*node))) {
                    let outcome = world.nodes[node].give_up(World::peer(node), Side::Ours);
                    world.apply(node, &outcome);
                    world.dial(node, Lane::Control);
                }
                quiet += 1;
            } else if roll(ready + closing) < ready {
                let (wire, end) = world.queue.swap_remove(roll(ready));
                world.establish(wire, end);
            } else if let Some((wire, node)) = world.closes.pop_front() {
                world.close(wire, node);
            }
        }
        assert_eq!(world.up, [true, true], "seed {seed}");
        let chosen = |node: usize| Lane::ALL.map(|lane| world.nodes[node].lane(World::peer(node), lane).copied());
        assert_eq!(chosen(0), chosen(1), "seed {seed}: both use the same connections");
    }
}
