//! Runs the transcripts in `testdata/`: commands after `>`, and below each what the cluster did. A changed behaviour shows
//! as a changed text. `REWRITE=1 cargo test -p trestle-raft --test script` records anew; read the difference before
//! keeping it.
//!
//! ```text
//! > cluster 1 2 3 [learners 4] [others 5]   replicas that know their group, and ones that wait to be told
//! > campaign 1 · propose 1 100 · unreachable 1 2 · members 1 1 2 4 [learners 5] · seek 2 1 · transfer 1 2 · read 1 77 · compact 1 5
//! > fence 1 on|off · anew 1 on|off · quiesce 1 · wake 1 500 · advance 1000 (µs)
//! > persist 1 [count]                       complete its pending writes
//! > deliver 1>2 [count] · drop 1>2 [count]  packets under way between two; `drop` alone: all
//! > later 2>1 [count]                     the first of them change places with those that come after
//! > settle                                  write and deliver until nothing is left (messages are not shown)
//! > crash 1 [durable writes] · start 1 · forget 1 (its log) · wipe 1 (everything) · epoch 1 2
//! > net · status [1]
//! ```

mod cluster;

use std::path::Path;

use cluster::{Cluster, Packet, show_message, show_status};
use raft::{Anew, Membership, MembershipChange, NodeId, Options};

/// An append carries 100 bytes, so that a transcript decides what travels together.
fn options(id: NodeId, seed: u64) -> Options {
    Options { append_bytes_max: 100, ..cluster::options(id, seed) }
}

struct Script {
    cluster: Option<Cluster>,
}

impl Script {
    fn run(&mut self, command: &str) -> Vec<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (verb, rest) = words.split_first().expect("a command");
        if *verb == "cluster" {
            let [voters, learners, others] = lists(rest, ["learners", "others"]);
            let members = Membership::new(nodes(&voters), vec![], nodes(&learners)).expect("members");
            self.cluster = Some(Cluster::new(&members, &others, 1, options));
            return Vec::new();
        }
        let cluster = self.cluster.as_mut().expect("`cluster` comes first");
        let said = perform(cluster, verb, rest);
        let mut lines = std::mem::take(&mut cluster.trace);
        if *verb == "settle" {
            lines.retain(|line| !["send", "take", "persist"].iter().any(|word| line[3..].starts_with(word)));
        }
        lines.extend(said);
        lines
    }
}

fn perform(cluster: &mut Cluster, verb: &str, rest: &[&str]) -> Vec<String> {
    let number = |at: usize| rest.get(at).and_then(|word| word.parse::<u64>().ok());
    match verb {
        "settle" => cluster.settle(),
        "advance" => cluster.advance(number(0).expect("microseconds")),
        "net" => return cluster.net.iter().map(show_packet).collect(),
        "status" => return status(cluster, number(0)),
        "deliver" | "drop" | "later" => carry(cluster, verb, rest),
        "persist" => {
            let mut count = number(1).unwrap_or(u64::MAX);
            while count > 0 && cluster.persist(NodeId(number(0).expect("a node"))) {
                count -= 1;
            }
        }
        "start" => cluster.start(NodeId(number(0).expect("a node"))),
        "crash" => cluster.crash(NodeId(number(0).expect("a node")), number(1).unwrap_or(0) as usize),
        "forget" | "wipe" | "epoch" => lose(cluster, verb, number(0).expect("a node"), number(1)),
        _ => return ask(cluster, verb, NodeId(number(0).expect("a node")), number(1).unwrap_or(0), rest),
    }
    Vec::new()
}

/// One call of the node's.
fn ask(cluster: &mut Cluster, verb: &str, id: NodeId, number: u64, rest: &[&str]) -> Vec<String> {
    let now = cluster.now;
    let node = cluster.node(id);
    let mut said = None;
    match verb {
        "campaign" => node.campaign(now),
        "fence" => node.fence(rest[1] == "on"),
        "anew" => {
            let [voters, former, _] = lists(&rest[1..], ["former", "others"]);
            let members = Membership::new(nodes(&voters), Vec::new(), nodes(&former));
            node.set_anew(members.ok().map(|members| Anew { members, stamp: 1 }));
        }
        "wake" => node.wake(now, now.saturating_sub(number)),
        "seek" => node.seek(NodeId(number)),
        "unreachable" => node.report_unreachable(now, NodeId(number)),
        "propose" => said = Some(format!("{:?}", node.propose(now, number as u32))),
        "quiesce" => said = Some(format!("{:?}", node.quiesce())),
        "transfer" => said = refusal(node.transfer(now, NodeId(number))),
        "read" => said = refusal(node.read_index(now, number)),
        "members" => {
            let [voters, learners, _] = lists(&rest[1..], ["learners", "others"]);
            let to = MembershipChange { voters: nodes(&voters), learners: nodes(&learners) };
            said = Some(format!("{:?}", node.propose_membership(now, to)));
        }
        "compact" => {
            node.compact(number);
            cluster.replicas.get_mut(&id).expect("a replica").disk.compact(number);
        }
        other => panic!("unknown command {other}"),
    }
    cluster.drain(id);
    said.into_iter().map(|said| format!("= {said}")).collect()
}

fn refusal<E: std::fmt::Debug>(answer: Result<(), E>) -> Option<String> {
    answer.err().map(|error| format!("{error:?}"))
}

fn carry(cluster: &mut Cluster, verb: &str, rest: &[&str]) {
    let ends = rest.first().map(|pair| {
        let (from, to) = pair.split_once('>').expect("FROM>TO");
        (NodeId(from.parse().expect("a node")), NodeId(to.parse().expect("a node")))
    });
    let count = rest.get(1).map_or(usize::MAX, |count| count.parse().expect("a count"));
    let mut taken = Vec::new();
    cluster.net.retain(|packet| {
        let take = taken.len() < count && ends.is_none_or(|ends| packet.ends() == ends);
        if take {
            taken.push(packet.clone());
        }
        !take
    });
    for packet in taken {
        match verb {
            "deliver" => cluster.deliver(packet),
            "later" => cluster.net.push_back(packet),
            _ => cluster.lose(packet),
        }
    }
}

fn lose(cluster: &mut Cluster, what: &str, id: u64, number: Option<u64>) {
    let disk = &mut cluster.replicas.get_mut(&NodeId(id)).expect("a replica").disk;
    if what == "epoch" {
        disk.hard.epoch = number.expect("an epoch") as u32;
        return;
    }
    disk.entries.clear();
    (disk.snapshot, disk.applied, disk.voteless) = ((0, 0), 0, true);
    if what == "wipe" {
        (disk.hard, disk.votes_lost) = (Default::default(), true);
    }
}

fn status(cluster: &Cluster, only: Option<u64>) -> Vec<String> {
    let shown = cluster.replicas.iter().filter(|(id, _)| only.is_none_or(|only| id.0 == only));
    let text = |(id, replica): (&NodeId, &cluster::Replica)| match &replica.node {
        Some(node) => show_status(&node.status()),
        None => format!("{id}: down"),
    };
    shown.map(text).flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn show_packet(packet: &Packet) -> String {
    match packet {
        Packet::Raft(message) => show_message(message),
        Packet::State { from, to, index, term, .. } => format!("{from}>{to} the state as of {index}@{term}"),
    }
}

fn nodes(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().map(|number| NodeId(*number)).collect()
}

/// Numbers up to the first name, after the first, after the second.
fn lists(words: &[&str], names: [&str; 2]) -> [Vec<u64>; 3] {
    let mut lists = [const { Vec::new() }; 3];
    let mut at = 0;
    for word in words {
        match names.iter().position(|name| name == word) {
            Some(name) => at = name + 1,
            None => lists[at].push(word.parse().expect("a number")),
        }
    }
    lists
}

/// The transcript as it is now: comments, blank lines and commands stay, outputs are made anew.
fn replay(text: &str) -> String {
    let mut script = Script { cluster: None };
    let mut now = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            now += &format!("{line}\n");
            for line in script.run(command) {
                now += &format!("    {line}\n");
            }
        } else if line.is_empty() || line.starts_with('#') {
            now += &format!("{line}\n");
        }
    }
    now
}

#[test]
fn every_transcript_still_says_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "transcripts are missing");
    let mut changed = Vec::new();
    for file in files {
        let told = std::fs::read_to_string(&file).unwrap();
        let now = replay(&told);
        if std::env::var_os("REWRITE").is_some() {
            std::fs::write(&file, now).unwrap();
        } else if now != told {
            let first = now.lines().zip(told.lines()).find(|(now, told)| now != told);
            changed.push(format!("{}: {first:?}", file.display()));
        }
    }
    assert!(changed.is_empty(), "{changed:#?}");
}
