//! A cluster in memory: nodes, their disks, the network between them. Nothing moves by itself; whoever drives it decides
//! what is written, delivered, lost, and when. What must hold always is checked at every output.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, VecDeque};

use raft::{
    Anew, Body, Entry, EntryKind, HardState, Index, Installed, Membership, Message, Node, NodeId, Now, Options, Output,
    Restore, Role, Status, Term, Ticket,
};

pub struct Cluster {
    pub now: Now,
    pub replicas: BTreeMap<NodeId, Replica>,
    pub net: VecDeque<Packet>,
    pub trace: Vec<String>,
    pub options: fn(NodeId, u64) -> Options,
    /// Groups may begin anew: who shall be a member, one decision after the other.
    pub placements: Vec<Vec<NodeId>>,
    /// How many of those a node knows. It never forgets them.
    pub known: BTreeMap<NodeId, usize>,
    starts: u64,
    facts: Facts,
}

/// What travels.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    Raft(Message),
    /// The state as of `index`, streamed outside of raft.
    State {
        from: NodeId,
        to: NodeId,
        index: Index,
        term: Term,
        membership: Membership,
    },
}

impl Packet {
    pub fn ends(&self) -> (NodeId, NodeId) {
        match self {
            Packet::Raft(message) => (message.from, message.to),
            Packet::State { from, to, .. } => (*from, *to),
        }
    }
}

#[derive(Default)]
pub struct Replica {
    pub node: Option<Node>,
    pub disk: Disk,
    /// Given to the disk, not yet durable.
    pub pending: VecDeque<Write>,
    pub reads: Vec<u64>,
}

/// What survives.
#[derive(Clone, Default)]
pub struct Disk {
    pub hard: HardState,
    pub snapshot: (Index, Term),
    pub membership: Membership,
    pub entries: Vec<Entry>,
    pub applied: Index,
    /// Set when something was lost, until the node says that it is healed.
    pub voteless: bool,
    pub votes_lost: bool,
}

pub struct Write {
    ticket: Ticket,
    hard: Option<HardState>,
    truncate_from: Option<Index>,
    append: Vec<Entry>,
}

/// What may never change once it was seen.
#[derive(Default)]
struct Facts {
    leaders: BTreeMap<Term, NodeId>,
    committed: BTreeMap<Index, (Term, u32)>,
}

impl Disk {
    pub fn last(&self) -> Index {
        self.snapshot.0 + self.entries.len() as u64
    }

    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.entries.get(index.checked_sub(self.snapshot.0 + 1)? as usize)
    }

    fn write(&mut self, write: Write) {
        if let Some(hard) = write.hard {
            assert!(hard.term >= self.hard.term, "terms never go back");
            let changed = self.hard.vote.is_some() && hard.vote != self.hard.vote;
            assert!(!changed || hard.term > self.hard.term, "one vote per term");
            self.hard = hard;
        }
        if let Some(from) = write.truncate_from {
            self.entries.retain(|entry| entry.index < from);
        }
        for entry in write.append {
            assert_eq!(entry.index, self.last() + 1, "a log without holes");
            self.entries.push(entry);
        }
    }

    pub fn compact(&mut self, to: Index) {
        if to <= self.snapshot.0 {
            return;
        }
        for entry in self.entries.iter().take_while(|entry| entry.index <= to) {
            if let EntryKind::Membership(membership) = &entry.kind {
                self.membership = (**membership).clone();
            }
        }
        let Some(entry) = self.entry(to) else { return };
        self.snapshot = (to, entry.term);
        self.entries.retain(|entry| entry.index > to);
    }
}

pub fn options(id: NodeId, seed: u64) -> Options {
    Options { election_timeout_us: 1_000, heartbeat_us: 100, ..Options::new(id, 1, seed) }
}

impl Cluster {
    /// `members` make up the group; `others` run without knowing of it.
    pub fn new(members: &Membership, others: &[u64], seed: u64, options: fn(NodeId, u64) -> Options) -> Cluster {
        let (replicas, net, trace, facts, placements, known) = Default::default();
        let mut cluster =
            Cluster { now: 0, replicas, net, trace, options, placements, known, starts: seed << 16, facts };
        let empty = Membership::default();
        let known = members.members().into_iter().map(|id| (id, members));
        for (id, membership) in known.chain(others.iter().map(|id| (NodeId(*id), &empty))) {
            let hard = HardState { epoch: 1, ..HardState::default() };
            let disk = Disk { hard, membership: membership.clone(), ..Disk::default() };
            cluster.replicas.insert(id, Replica { disk, ..Replica::default() });
            cluster.start(id);
        }
        cluster
    }

    pub fn node(&mut self, id: NodeId) -> &mut Node {
        self.replicas.get_mut(&id).and_then(|replica| replica.node.as_mut()).expect("a running node")
    }

    pub fn is_up(&self, id: NodeId) -> bool {
        self.replicas.get(&id).is_some_and(|replica| replica.node.is_some())
    }

    pub fn up(&self) -> Vec<NodeId> {
        self.replicas.keys().copied().filter(|id| self.is_up(*id)).collect()
    }

    /// The leader of the highest term.
    pub fn leader(&self) -> Option<NodeId> {
        let nodes = self.replicas.values().filter_map(|replica| replica.node.as_ref());
        nodes.filter(|node| node.is_leader()).max_by_key(|node| node.term()).map(Node::id)
    }

    /// By whose word the group may begin anew, as far as a node knows.
    pub fn anew(&self, id: NodeId) -> Option<Anew> {
        let known = self.known.get(&id).copied().unwrap_or(1);
        let (voters, before) = self.placements.get(..known)?.split_last()?;
        let former = before.iter().flatten().copied().filter(|id| !voters.contains(id)).collect();
        let members = Membership::new(voters.clone(), Vec::new(), former).expect("a membership");
        Some(Anew { members, stamp: known as u64 })
    }

    pub fn start(&mut self, id: NodeId) {
        self.starts += 1;
        let anew = self.anew(id);
        let replica = self.replicas.get_mut(&id).expect("a replica");
        let disk = &mut replica.disk;
        disk.applied = disk.applied.clamp(disk.snapshot.0, disk.last());
        let restore = Restore {
            hard: disk.hard,
            membership: disk.membership.clone(),
            snapshot: disk.snapshot,
            entries: disk.entries.clone(),
            commit: disk.applied,
            applied: disk.applied,
            voteless: disk.voteless,
            votes_lost: disk.votes_lost,
        };
        let options = Options { epoch: disk.hard.epoch.max(1), ..(self.options)(id, self.starts) };
        let mut node = Node::new(options, restore, self.now).expect("a sound restore");
        node.set_anew(anew);
        replica.node = Some(node);
        self.drain(id);
    }

    /// The process is gone; of what was given to the disk the first `durable` writes survive.
    pub fn crash(&mut self, id: NodeId, durable: usize) {
        let replica = self.replicas.get_mut(&id).expect("a replica");
        replica.node = None;
        for write in std::mem::take(&mut replica.pending).into_iter().take(durable) {
            replica.disk.write(write);
        }
        replica.reads.clear();
    }

    /// Completes the first pending write.
    pub fn persist(&mut self, id: NodeId) -> bool {
        let Some(replica) = self.replicas.get_mut(&id) else { return false };
        let (Some(node), Some(write)) = (replica.node.as_mut(), replica.pending.pop_front()) else { return false };
        let ticket = write.ticket;
        replica.disk.write(write);
        node.persisted(self.now, ticket);
        self.drain(id);
        true
    }

    pub fn deliver(&mut self, packet: Packet) {
        let to = packet.ends().1;
        if !self.is_up(to) {
            return self.lose(packet);
        }
        if let Packet::Raft(message) = &packet {
            self.trace.push(format!("{to}: take {}", show_message(message)));
        }
        match packet {
            Packet::Raft(message) => self.deliver_raft(message),
            Packet::State { from, to, index, term, membership } => self.install(from, to, (index, term), membership),
        }
        self.drain(to);
    }

    /// A stream that breaks is known to its sender; a message is just gone.
    pub fn lose(&mut self, packet: Packet) {
        if let Packet::State { from, to, index, .. } = packet
            && self.is_up(from)
        {
            let now = self.now;
            self.node(from).snapshot_sent(now, to, index, false);
            self.drain(from);
        }
    }

    fn deliver_raft(&mut self, message: Message) {
        let mut bytes = Vec::new();
        raft::wire::encode(&message, &mut bytes);
        assert_eq!(raft::wire::decode(&bytes).as_ref(), Ok(&message));
        let now = self.now;
        self.node(message.to).step(now, message);
    }

    fn install(&mut self, from: NodeId, to: NodeId, (index, term): (Index, Term), membership: Membership) {
        let now = self.now;
        let installed = self.node(to).install_snapshot(now, index, term, membership.clone());
        self.note(to, format!("install {index}: {installed:?}"));
        if installed == Installed::Restarted {
            let replica = self.replicas.get_mut(&to).expect("a replica");
            let disk = &mut replica.disk;
            (disk.snapshot, disk.membership, disk.applied) = ((index, term), membership, index);
            disk.entries.clear();
            for write in &mut replica.pending {
                write.truncate_from = None;
                write.append.clear();
            }
        }
        if self.is_up(from) {
            self.node(from).snapshot_sent(now, to, index, true);
            self.drain(from);
        }
    }

    /// Lets time pass and wakes whoever asked for it.
    pub fn advance(&mut self, by: Now) {
        self.now += by;
        let now = self.now;
        for id in self.up() {
            self.node(id).wakeup(now);
            self.drain(id);
        }
    }

    /// Does what the node asks for.
    pub fn drain(&mut self, id: NodeId) {
        while let Some(output) = self.node(id).poll() {
            self.note(id, show_output(&output));
            self.perform(id, output);
        }
    }

    fn perform(&mut self, id: NodeId, output: Output) {
        match output {
            Output::Persist { ticket, hard, truncate_from, append } => {
                let write = Write { ticket, hard, truncate_from, append };
                self.replicas.get_mut(&id).expect("a replica").pending.push_back(write);
            }
            Output::Send(message) => {
                self.check_message(&message);
                self.net.push_back(Packet::Raft(message));
            }
            Output::Commit(index) => self.apply(id, index),
            Output::Role { role: Role::Leader, term, .. } => {
                let first = *self.facts.leaders.entry(term).or_insert(id);
                assert_eq!(first, id, "two leaders in term {term}");
            }
            Output::SendSnapshot { to } => self.send_state(id, to),
            Output::ReadReady { context, .. } => {
                self.replicas.get_mut(&id).expect("a replica").reads.push(context);
            }
            Output::Healed => {
                let disk = &mut self.replicas.get_mut(&id).expect("a replica").disk;
                (disk.voteless, disk.votes_lost) = (false, false);
            }
            Output::BeganAnew => {
                // What only those had who forgot is lost, and what the leader has instead may be of an older term.
                let leading = self.node(id).clone();
                for other in self.replicas.values().filter_map(|replica| replica.node.as_ref()) {
                    let known = (leading.status().first..=other.commit()).filter(|_| !other.status().voteless);
                    let same = |at: &Index| other.term_at(*at).is_none() || leading.term_at(*at) == other.term_at(*at);
                    let lost = known.into_iter().find(|at| !same(at));
                    assert_eq!(lost, None, "{id} begins anew without what {} knows as committed", other.id());
                }
                let kept: Vec<Index> = self.facts.committed.keys().copied().collect();
                let node = self.node(id);
                let (opens, commit) = (node.last_index(), node.commit());
                let terms: BTreeMap<Index, Option<Term>> =
                    kept.into_iter().map(|index| (index, node.term_at(index))).collect();
                let same = |index: &Index, fact: &(Term, u32)| terms[index] == Some(fact.0);
                self.facts.committed.retain(|index, fact| *index <= commit || *index < opens && same(index, fact));
            }
            Output::Diverged { from, index } => panic!("{id} diverged from {from} at {index}"),
            _ => {}
        }
    }

    /// The write-ordering law, seen from outside: what leaves is backed by what is on the disk.
    fn check_message(&self, message: &Message) {
        let disk = &self.replicas[&message.from].disk;
        let speaks_of_next = matches!(message.body, Body::PreVote { .. } | Body::PreVoteReply { granted: true, .. });
        assert!(speaks_of_next || message.term <= disk.hard.term, "a term left before it was durable: {message:?}");
        match message.body {
            Body::Vote { .. } if message.term == disk.hard.term => assert_eq!(disk.hard.vote, Some(message.from)),
            Body::VoteReply { granted: true, .. } if message.term == disk.hard.term => {
                assert_eq!(disk.hard.vote, Some(message.to), "a vote left before it was durable");
            }
            Body::AppendReply { matched, .. } if message.term == disk.hard.term => {
                assert!(matched <= disk.last(), "an answer left before its entries were durable: {message:?}");
            }
            _ => {}
        }
    }

    fn apply(&mut self, id: NodeId, to: Index) {
        let replica = self.replicas.get_mut(&id).expect("a replica");
        let node = replica.node.as_mut().expect("a running node");
        for index in node.applied_index() + 1..=to {
            let entry = replica.disk.entry(index).expect("only durable entries are committed");
            let fact = (entry.term, entry.len);
            let first = *self.facts.committed.entry(index).or_insert(fact);
            assert_eq!(first, fact, "{id} committed another entry at {index}");
        }
        replica.disk.applied = to;
        node.applied(to);
    }

    fn send_state(&mut self, from: NodeId, to: NodeId) {
        let node = self.node(from);
        let index = node.applied_index();
        let term = node.term_at(index).expect("the applied entry is known");
        let membership = node.membership_at(index).expect("so are its members").clone();
        self.net.push_back(Packet::State { from, to, index, term, membership });
    }

    /// Writes and delivers until nothing is left.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for id in self.up() {
                moved |= self.persist(id);
            }
            if let Some(packet) = self.net.pop_front() {
                self.deliver(packet);
                moved = true;
            }
            if !moved {
                return;
            }
        }
        panic!("the cluster talks without end: {:?}", self.net);
    }

    pub fn committed(&self) -> Index {
        self.facts.committed.last_key_value().map_or(0, |(index, _)| *index)
    }

    fn note(&mut self, id: NodeId, what: String) {
        self.trace.push(format!("{id}: {what}"));
    }
}

pub fn show_ids(ids: &[NodeId]) -> String {
    ids.iter().map(NodeId::to_string).collect::<Vec<_>>().join(" ")
}

pub fn show_members(membership: &Membership) -> String {
    let part = |name: &str, ids: &[NodeId]| match ids {
        [] => String::new(),
        ids => format!(", {name} {}", show_ids(ids)),
    };
    let (outgoing, learners) = (part("outgoing", &membership.outgoing), part("learners", &membership.learners));
    format!("{{{}{outgoing}{learners}}}", show_ids(&membership.voters))
}

fn show_entry(entry: &Entry) -> String {
    let kind = match &entry.kind {
        EntryKind::Data => format!("{}B", entry.len),
        EntryKind::Noop => "noop".into(),
        EntryKind::Membership(membership) => show_members(membership),
    };
    format!("{}@{}:{kind}", entry.index, entry.term)
}

fn show_entries(entries: &[Entry]) -> String {
    entries.iter().map(show_entry).collect::<Vec<_>>().join(" ")
}

/// One line per replica, one more per peer of a leader.
pub fn show_status(status: &Status) -> String {
    let leader = status.leader.map_or("none".into(), |id| id.to_string());
    let mut text = format!("{}: {:?} term {} leader {leader}", status.id, status.role, status.term);
    text += &format!(" log {}..={} durable {}", status.first, status.last, status.durable);
    text += &format!(" commit {} applied {}", status.commit, status.applied);
    text += &format!(" members {}@{}", show_members(&status.membership), status.membership_index);
    let flags = [
        (status.voteless, "voteless"),
        (status.fenced, "fenced"),
        (status.quiet, "quiet"),
        (status.removed, "removed"),
    ];
    for (_, name) in flags.iter().filter(|flag| flag.0) {
        text += &format!(" {name}");
    }
    for peer in &status.peers {
        let (id, state) = (peer.id, peer.state);
        text += &format!("\n   {id}: {state:?} matched {} next {}", peer.matched, peer.next);
        text += &format!(" in flight {} ({} B)", peer.inflight_messages, peer.inflight_bytes);
        text += if peer.counts { "" } else { " does not count" };
    }
    text
}

pub fn show_output(output: &Output) -> String {
    match output {
        Output::Persist { ticket, hard, truncate_from, append } => {
            let mut text = format!("persist #{}", ticket.0);
            if let Some(hard) = hard {
                let vote = hard.vote.map_or("nobody".into(), |id| id.to_string());
                text += &format!(" term {} vote {vote}", hard.term);
            }
            text += &truncate_from.map_or(String::new(), |from| format!(" cut from {from}"));
            text + &if append.is_empty() { String::new() } else { format!(" append {}", show_entries(append)) }
        }
        Output::Send(message) => format!("send {}", show_message(message)),
        Output::Commit(index) => format!("commit {index}"),
        Output::Role { role, term, leader } => {
            format!("{role:?} in term {term}, leader {}", leader.map_or("none".into(), |id| id.to_string()))
        }
        Output::ReadReady { context, index } => format!("read {context} may be served at {index}"),
        Output::SendSnapshot { to } => format!("send a snapshot to {to}"),
        Output::ReceiveSnapshot { from, index, term, membership } => {
            format!("receive the snapshot {index}@{term} {} from {from}", show_members(membership))
        }
        Output::MembershipChanged(membership) => format!("members {}", show_members(membership)),
        Output::Healed => "healed".into(),
        Output::BeganAnew => "begins anew".into(),
        Output::Diverged { from, index } => format!("diverged from {from} at {index}"),
    }
}

pub fn show_message(message: &Message) -> String {
    let body = match &message.body {
        Body::Append { prev_index, prev_term, commit, entries } => {
            let entries = if entries.is_empty() { "nothing".into() } else { show_entries(entries) };
            format!("append after {prev_index}@{prev_term}: {entries}, commit {commit}")
        }
        Body::AppendReply { matched, commit, amnesia } => {
            format!("matched {matched}, commit {commit}{}", show_amnesia(amnesia.is_some()))
        }
        Body::AppendReject { rejected, hint_index, hint_term, amnesia } => {
            format!("reject {rejected}, try {hint_index}@{hint_term}{}", show_amnesia(amnesia.is_some()))
        }
        Body::Heartbeat { commit, round, healed } => {
            format!("heartbeat {round}, commit {commit}{}", if healed.is_some() { ", healed" } else { "" })
        }
        Body::HeartbeatReply { commit, round, amnesia } => {
            format!("heard {round}, commit {commit}{}", show_amnesia(amnesia.is_some()))
        }
        Body::Snapshot { index, term, membership } => format!("snapshot {index}@{term} {}", show_members(membership)),
        Body::SnapshotReply { index, amnesia } => format!("stored {index}{}", show_amnesia(amnesia.is_some())),
        Body::PreVote { last_index, last_term, .. } => format!("pre-vote? last {last_index}@{last_term}"),
        Body::Vote { last_index, last_term, transfer, .. } => {
            format!("vote? last {last_index}@{last_term}{}", if *transfer { ", handed over" } else { "" })
        }
        Body::PreVoteReply { granted, amnesia } => format!("pre-vote {}", show_grant(*granted, *amnesia)),
        Body::VoteReply { granted, amnesia } => format!("vote {}", show_grant(*granted, *amnesia)),
        Body::TimeoutNow => "take over".into(),
        Body::Seek { .. } => "who leads?".into(),
        Body::Removed { index, .. } => format!("removed at {index}"),
    };
    format!("{}>{} [{}] {body}", message.from, message.to, message.term)
}

fn show_grant(granted: bool, amnesia: Option<raft::Amnesia>) -> &'static str {
    match (granted, amnesia) {
        (false, _) => "no",
        (true, None) => "yes",
        (true, Some(_)) => "yes, empty",
    }
}

fn show_amnesia(amnesia: bool) -> &'static str {
    if amnesia { ", forgot" } else { "" }
}
