//! Three replicas of a group: from proposals to commits everywhere, over a wire and disks that take no time.

use std::collections::VecDeque;

use criterion::{BatchSize, Criterion, Throughput};
use raft::{HardState, Membership, Message, Node, NodeId, Options, Output, Restore};

const PROPOSALS: u64 = 64;
const NOW: u64 = 10_000_000;

pub fn three_nodes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("raft");
    group.throughput(Throughput::Elements(PROPOSALS));
    group.bench_function("entries committed by three nodes", |bencher| {
        bencher.iter_batched_ref(
            Trio::new,
            |trio| {
                for _ in 0..PROPOSALS {
                    trio.nodes[0].propose(NOW, 4096).expect("it leads");
                    trio.settle();
                }
                assert!(trio.nodes.iter().all(|node| node.last_index() >= PROPOSALS));
            },
            BatchSize::SmallInput,
        );
    });
}

struct Trio {
    nodes: Vec<Node>,
    wire: VecDeque<Message>,
}

impl Trio {
    /// The first one leads.
    fn new() -> Trio {
        let ids = [NodeId(1), NodeId(2), NodeId(3)];
        let nodes = ids.map(|id| {
            let membership = Membership::new(ids.to_vec(), Vec::new(), Vec::new()).expect("three voters");
            let restore = Restore {
                hard: HardState::default(),
                membership,
                snapshot: (0, 0),
                entries: Vec::new(),
                commit: 0,
                applied: 0,
                voteless: false,
                votes_lost: false,
            };
            Node::new(Options::new(id, 0, id.0), restore, 0).expect("a fresh node")
        });
        let mut trio = Trio { nodes: nodes.into(), wire: VecDeque::new() };
        trio.nodes[0].wakeup(NOW);
        trio.settle();
        assert!(trio.nodes[0].is_leader());
        trio
    }

    /// Carries messages until there are none.
    fn settle(&mut self) {
        loop {
            for node in &mut self.nodes {
                while let Some(output) = node.poll() {
                    match output {
                        Output::Persist { ticket, .. } => node.persisted(NOW, ticket),
                        Output::Send(message) => self.wire.push_back(message),
                        Output::Commit(index) => node.applied(index),
                        _ => {}
                    }
                }
            }
            let Some(message) = self.wire.pop_front() else { return };
            let to = (message.to.0 - 1) as usize;
            self.nodes[to].step(NOW, message);
        }
    }
}
