//! Whole servers in one thread: shards with disks in memory and links that lose nothing, until nothing moves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use net::peer::hello::Hello;
use net::peer::lane::Lane;
use storage::{DiskData, DiskDone, DiskError, DiskOp, DiskOpKind, FileId};

use crate::account::Accounts;
use crate::client::FrontOptions;
use crate::cluster::table::ServerFacts;
use crate::config::Config;
use crate::event::{Effect, Event};
use crate::group::{GroupsOptions, Timing};
use crate::ids::{ConnId, CoreId, Now, Place, ServerId};
use crate::jetstream::JsOptions;
use crate::shard::{Shard, ShardOptions};
use crate::system::SystemOptions;

/// Wall clock at the start, nanoseconds.
const START_NS: i64 = 1_795_257_319_000_000_000;

/// Most rounds of one wait: a world that never calms down is a failing test.
const ROUNDS_MAX: usize = 100_000;

#[derive(Default)]
struct Disk(BTreeMap<FileId, Vec<u8>>);

impl Disk {
    fn run(&mut self, op: DiskOp) -> DiskDone {
        DiskDone { id: op.id, result: self.perform(op.kind) }
    }

    fn perform(&mut self, kind: DiskOpKind) -> Result<DiskData, DiskError> {
        match kind {
            DiskOpKind::Create { file, bytes } => drop(self.0.insert(file, vec![0; bytes as usize])),
            DiskOpKind::Write { file, offset, data } => {
                let bytes = data.concat();
                let at = offset as usize;
                let target = self.0.get_mut(&file).ok_or(DiskError::Missing)?;
                target.get_mut(at..at + bytes.len()).ok_or(DiskError::Short)?.copy_from_slice(&bytes);
            }
            DiskOpKind::Read { file, offset, len } => {
                let at = offset as usize;
                let source = self.0.get(&file).ok_or(DiskError::Missing)?;
                let bytes = source.get(at..at + len).ok_or(DiskError::Short)?;
                return Ok(DiskData::Bytes(Bytes::copy_from_slice(bytes)));
            }
            DiskOpKind::Sync { .. } => {}
            DiskOpKind::Delete { file } => drop(self.0.remove(&file)),
            DiskOpKind::List => {
                let files = self.0.iter().map(|(file, bytes)| (*file, bytes.len() as u64)).collect();
                return Ok(DiskData::Files(files));
            }
            DiskOpKind::ReadFile { file } => {
                let bytes = self.0.get(&file).ok_or(DiskError::Missing)?;
                return Ok(DiskData::Bytes(Bytes::copy_from_slice(bytes)));
            }
            DiskOpKind::WriteFileAtomic { file, data } => drop(self.0.insert(file, data.to_vec())),
        }
        Ok(DiskData::Done)
    }
}

/// One core of one server.
struct Node {
    shard: Shard,
    disk: Disk,
    events: VecDeque<Event>,
}

/// An answered HTTP request.
pub type HttpReply = (u16, Bytes);

pub struct World {
    us: u64,
    nodes: BTreeMap<Place, Node>,
    hellos: BTreeMap<ServerId, Hello>,
    conns: u64,
    /// What was written to clients.
    written: BTreeMap<ConnId, Vec<u8>>,
    replies: BTreeMap<ConnId, HttpReply>,
    closed: BTreeSet<ConnId>,
}

pub fn id(name: &str) -> ServerId {
    ServerId::of(name)
}

impl World {
    /// Servers with that many cores each, not linked yet. `config` is the same for all.
    pub fn new(names: &[&str], cores: CoreId, config: Config) -> World {
        let mut world = World {
            us: 1_000_000,
            nodes: BTreeMap::new(),
            hellos: BTreeMap::new(),
            conns: 0,
            written: BTreeMap::new(),
            replies: BTreeMap::new(),
            closed: BTreeSet::new(),
        };
        let config = Arc::new(config);
        for name in names {
            world.hellos.insert(id(name), hello(name, cores, &config));
            for core in 0..cores {
                let options = shard_options(name, core, cores, &config);
                let shard = Shard::new(options, world.now());
                let node = Node { shard, disk: Disk::default(), events: VecDeque::new() };
                world.nodes.insert(Place { server: id(name), core }, node);
            }
        }
        world
    }

    pub fn now(&self) -> Now {
        Now { us: self.us, wall_ns: START_NS + self.us as i64 * 1_000 }
    }

    /// Links every pair of servers.
    pub fn link_all(&mut self) {
        let servers: Vec<ServerId> = self.hellos.keys().copied().collect();
        for me in &servers {
            for peer in servers.iter().filter(|peer| *peer != me) {
                let hello = Box::new(self.hellos[peer].clone());
                self.push(Place { server: *me, core: 0 }, Event::PeerUp { peer: *peer, hello });
            }
        }
    }

    /// Breaks the links between a server and all others.
    pub fn cut(&mut self, server: ServerId) {
        let others: Vec<ServerId> = self.hellos.keys().copied().filter(|other| *other != server).collect();
        for other in others {
            let gone = |peer| Event::PeerGone { peer, why: "cut".into() };
            self.push(Place { server, core: 0 }, gone(other));
            self.push(Place { server: other, core: 0 }, gone(server));
        }
    }

    fn push(&mut self, to: Place, event: Event) {
        if let Some(node) = self.nodes.get_mut(&to) {
            node.events.push_back(event);
        }
    }

    /// Lets time pass, in steps as the shards want to be woken.
    pub fn run(&mut self, us: u64) {
        let end = self.us + us;
        for _ in 0..ROUNDS_MAX {
            self.settle();
            let wakeups = self.nodes.values().filter_map(|node| node.shard.next_wakeup());
            match wakeups.map(|now| now.us).min() {
                Some(at) if at <= end => self.us = self.us.max(at),
                _ => {
                    self.us = end;
                    return;
                }
            }
            let now = self.now();
            for node in self.nodes.values_mut() {
                if node.shard.next_wakeup().is_some_and(|at| at.us <= now.us) {
                    node.events.push_back(Event::Wakeup);
                }
            }
            self.us += 1;
        }
        panic!("the world does not calm down");
    }

    /// Delivers until nothing is on its way.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let now = self.now();
            let mut moved = false;
            let places: Vec<Place> = self.nodes.keys().copied().collect();
            for place in places {
                let Some(node) = self.nodes.get_mut(&place) else { continue };
                for event in std::mem::take(&mut node.events) {
                    moved = true;
                    node.shard.handle(now, event);
                }
                let mut effects = Vec::new();
                while let Some(effect) = node.shard.poll_effect() {
                    effects.push(effect);
                }
                for effect in effects {
                    moved |= self.carry(place, effect);
                }
            }
            if !moved {
                return;
            }
        }
        panic!("the world does not settle");
    }

    /// True when it leads to an event.
    fn carry(&mut self, from: Place, effect: Effect) -> bool {
        match effect {
            Effect::Disk(op) => {
                let node = self.nodes.get_mut(&from).expect("it has just spoken");
                let done = node.disk.run(op);
                node.events.push_back(Event::DiskDone(done));
                true
            }
            Effect::Mail { to, mail } => {
                let event = Event::Mail { from: from.core, mail: vec![mail] };
                self.push(Place { server: from.server, core: to }, event);
                true
            }
            Effect::PeerSend { peer, frame, .. } => {
                let event = Event::PeerFrame { peer: from.server, lane: Lane::Data, frame };
                self.push(Place { server: peer, core: 0 }, event);
                true
            }
            Effect::HttpReply { conn, status, body, .. } => {
                self.replies.insert(conn, (status, body));
                false
            }
            Effect::ClientWrite { conn, data } => {
                let bytes = data.concat();
                let event = Event::ClientWritten { conn, bytes: bytes.len() };
                self.written.entry(conn).or_default().extend(bytes);
                self.push(from, event);
                true
            }
            Effect::ClientClose { conn } => {
                self.closed.insert(conn);
                self.push(from, Event::ClientGone { conn, why: "closed".into() });
                true
            }
            Effect::Fatal { text } => panic!("{text}"),
            _ => false,
        }
    }

    /// An HTTP GET to core 0 of a server.
    pub fn http(&mut self, server: &str, target: &str) -> HttpReply {
        let conn = self.next_conn();
        self.push(Place { server: id(server), core: 0 }, Event::Http { conn, target: target.into() });
        self.settle();
        self.replies.remove(&conn).expect("an answer at once")
    }

    /// The same, given some time; `None`: no answer yet.
    pub fn http_later(&mut self, server: &str, target: &str, us: u64) -> Option<HttpReply> {
        let conn = self.next_conn();
        self.push(Place { server: id(server), core: 0 }, Event::Http { conn, target: target.into() });
        self.run(us);
        self.replies.remove(&conn)
    }

    /// A core does nothing any more.
    pub fn stun(&mut self, place: Place) {
        self.nodes.remove(&place);
    }

    /// A client that has said `CONNECT` with this user (also its password).
    pub fn client(&mut self, server: &str, core: CoreId, user: &str) -> ConnId {
        let conn = self.next_conn();
        let place = Place { server: id(server), core };
        let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        self.push(place, Event::Accepted { conn, remote: address(50_000), local: address(4222), others: 0 });
        let connect = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"name\":\"n\",\
             \"lang\":\"rust\",\"version\":\"1\",\"user\":\"{user}\",\"pass\":\"{user}\"}}\r\nPING\r\n"
        );
        self.say(place, conn, &connect);
        conn
    }

    /// Something happens to a core, and everything that follows from it.
    pub fn tell(&mut self, place: Place, event: Event) {
        self.push(place, event);
        self.settle();
    }

    pub fn say(&mut self, place: Place, conn: ConnId, line: &str) {
        let data = Bytes::copy_from_slice(line.as_bytes());
        self.push(place, Event::ClientBytes { conn, data });
        self.settle();
    }

    /// Everything written to a client since the last call.
    pub fn heard(&mut self, conn: ConnId) -> String {
        String::from_utf8_lossy(&self.written.remove(&conn).unwrap_or_default()).into_owned()
    }

    pub fn is_closed(&self, conn: ConnId) -> bool {
        self.closed.contains(&conn)
    }

    /// Sends a request as that client and gives all that it gets within a second.
    pub fn request(&mut self, place: Place, conn: ConnId, subject: &str, body: &str) -> String {
        self.heard(conn);
        let inbox = format!("_INBOX.{}", self.us);
        let line = format!("SUB {inbox} 9\r\nPUB {subject} {inbox} {}\r\n{body}\r\n", body.len());
        self.say(place, conn, &line);
        self.run(1_000_000);
        self.say(place, conn, "UNSUB 9\r\n");
        self.heard(conn)
    }

    fn next_conn(&mut self) -> ConnId {
        self.conns += 1;
        ConnId(self.conns)
    }
}

fn facts(name: &str, config: &Config) -> ServerFacts {
    ServerFacts {
        name: name.into(),
        cluster: if config.cluster.is_some() { "C1".into() } else { String::new() },
        domain: "hub".into(),
        tags: config.server_tags.clone(),
        file_bytes_max: 0,
        memory_bytes_max: 0,
    }
}

fn hello(name: &str, cores: CoreId, config: &Config) -> Hello {
    let facts = facts(name, config);
    Hello {
        server_name: name.into(),
        server_id: format!("N{name}"),
        peer_id: id(name).0,
        cluster: facts.cluster,
        boot_id: 1,
        client_urls: vec![format!("{name}:4222")],
        route_url: format!("{name}:6222"),
        domain: facts.domain,
        cores,
        jetstream: config.jetstream.is_some(),
        tags: facts.tags,
        ..Hello::default()
    }
}

fn shard_options(name: &str, core: CoreId, cores: CoreId, config: &Arc<Config>) -> ShardOptions {
    let place = Place { server: id(name), core };
    let seed = id(name).0 ^ u64::from(core);
    let cluster = config.cluster.as_ref().map(|_| "C1".to_owned());
    let groups = GroupsOptions {
        server: place.server,
        core,
        cores,
        boot: 1,
        seed,
        state_part_bytes: crate::limits::STATE_PART_BYTES,
        store: storage::StoreOptions {
            segment_bytes: 1 << 20,
            run_bytes_max: 1 << 16,
            create: true,
            seed,
            ..Default::default()
        },
        timing: Timing::default(),
    };
    let jetstream = config.jetstream.is_some().then(|| JsOptions {
        me: place,
        config: config.clone(),
        accounts: Accounts::new(config),
        server_id: name.into(),
        server_name: name.into(),
        cluster: cluster.clone(),
        facts: facts(name, config),
        groups,
        cluster_id: None,
        fresh_cluster_id: format!("of {name}"),
    });
    ShardOptions {
        front: FrontOptions {
            place,
            cores,
            config: config.clone(),
            server_id: format!("N{name}"),
            server_name: name.into(),
            cluster: cluster.clone(),
            version: "2.15.1".into(),
            git_commit: String::new(),
            go: String::new(),
            api_level: 5,
            client_urls: vec![format!("{name}:4222")],
            move_after: crate::client::moving::MOVE_AFTER_READS,
            seed,
        },
        jetstream,
        facts: facts(name, config),
        system: SystemOptions {
            core,
            cores,
            config: config.clone(),
            server_id: format!("N{name}"),
            server_name: name.into(),
            cluster,
            version: "2.15.1".into(),
            start_wall_ns: START_NS,
            client_url: format!("{name}:4222"),
            route_url: config.cluster.as_ref().map(|_| format!("{name}:6222")),
            http_url: Some(format!("{name}:8222")),
            pid: 1,
            boot: 1,
        },
    }
}
