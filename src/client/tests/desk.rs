//! A [`Front`] with clients whose bytes can be read as text, and a clock that stands until it is moved.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::args::Flags;
use crate::client::auth::secret_matches;
use crate::client::{Front, FrontOptions, FrontOutput};
use crate::config::source::Memory;
use crate::config::{Config, load};
use crate::ids::{ConnId, Now, Place, ServerId};

pub const SECOND: u64 = 1_000_000;

/// The configuration that a text in the peer's language stands for.
pub fn config(text: &str) -> Arc<Config> {
    let path = PathBuf::from("test.conf");
    let files = BTreeMap::from([(path.clone(), text.as_bytes().to_vec())]);
    let flags = Flags { config: Some(path), ..Flags::default() };
    Arc::new(load(&Memory { files, ..Memory::default() }, &flags).unwrap())
}

pub fn options(config: Arc<Config>, server: u64, core: u16, cores: u16) -> FrontOptions {
    FrontOptions {
        place: Place { server: ServerId(server), core },
        cores,
        config,
        server_id: "NABC".to_string(),
        server_name: format!("server{server}"),
        cluster: None,
        version: "2.15.1".to_string(),
        git_commit: String::new(),
        go: "go1.27.2".to_string(),
        api_level: 5,
        client_urls: Vec::new(),
        move_after: crate::client::moving::MOVE_AFTER_READS,
        seed: 42 + u64::from(core) + server * 100,
    }
}

/// A core's client side and what came out of it.
pub struct Desk {
    pub front: Front,
    pub now: Now,
    /// What each connection received and nobody has looked at yet.
    pub received: BTreeMap<u64, Vec<u8>>,
    pub closed: Vec<u64>,
    /// Everything that was not for a client.
    pub others: VecDeque<FrontOutput>,
    /// Bytes count as written at once.
    pub writes_through: bool,
    /// Passwords are compared at once.
    pub compares: bool,
    next_conn: u64,
}

impl Desk {
    pub fn new(text: &str) -> Desk {
        Desk::with(options(config(text), 1, 0, 1))
    }

    pub fn with(options: FrontOptions) -> Desk {
        Desk {
            front: Front::new(options),
            now: Now { us: SECOND, wall_ns: 1_700_000_000_000_000_000 },
            received: BTreeMap::new(),
            closed: Vec::new(),
            others: VecDeque::new(),
            writes_through: true,
            compares: true,
            next_conn: 0,
        }
    }

    /// Connection numbers begin here, for desks that share clients.
    pub fn number_from(&mut self, first: u64) {
        self.next_conn = first;
    }

    /// A new client; its INFO is read away.
    pub fn connect(&mut self) -> u64 {
        let id = self.dial();
        let text = self.text(id);
        assert!(text.starts_with("INFO {"), "{text}");
        if let Some((_, rest)) = text.split_once("\r\n") {
            self.received.insert(id, rest.as_bytes().to_vec());
        }
        id
    }

    /// A new client, with its INFO still to be read.
    pub fn dial(&mut self) -> u64 {
        self.next_conn += 1;
        let port = 40_000 + self.next_conn as u16;
        self.front.accepted(
            self.now,
            ConnId(self.next_conn),
            ([127, 0, 0, 1], port).into(),
            ([127, 0, 0, 1], 4222).into(),
            (self.next_conn as u32 - 1).saturating_sub(self.closed.len() as u32),
        );
        self.settle();
        self.next_conn
    }

    /// A client that said a quiet CONNECT.
    pub fn quiet(&mut self) -> u64 {
        let id = self.connect();
        self.send(id, "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"protocol\":0}\r\n");
        id
    }

    pub fn send(&mut self, id: u64, text: &str) {
        self.send_bytes(id, Bytes::copy_from_slice(text.as_bytes()));
    }

    pub fn send_bytes(&mut self, id: u64, bytes: Bytes) {
        self.front.bytes(self.now, ConnId(id), bytes);
        self.settle();
    }

    /// Everything that a client has received since last asked.
    pub fn text(&mut self, id: u64) -> String {
        String::from_utf8_lossy(&self.received.remove(&id).unwrap_or_default()).into_owned()
    }

    /// Sends and reads the answer.
    pub fn ask(&mut self, id: u64, text: &str) -> String {
        self.send(id, text);
        self.text(id)
    }

    pub fn is_closed(&self, id: u64) -> bool {
        self.closed.contains(&id)
    }

    pub fn advance(&mut self, us: u64) {
        self.now.us += us;
        self.now.wall_ns += us as i64 * 1000;
        self.front.wakeup(self.now);
        self.settle();
    }

    /// The end of a batch.
    pub fn settle(&mut self) {
        self.front.turn(self.now);
        while let Some(output) = self.front.poll_output() {
            match output {
                FrontOutput::Write { conn, data } => {
                    let bytes = data.concat();
                    self.received.entry(conn.0).or_default().extend_from_slice(&bytes);
                    if self.writes_through {
                        self.front.written(self.now, conn, bytes.len());
                    }
                }
                FrontOutput::Close { conn } => {
                    self.closed.push(conn.0);
                    self.front.gone(self.now, conn, "");
                }
                FrontOutput::Compare { conn, claim } if self.compares => {
                    let right = secret_matches(&claim.secret, &claim.given);
                    self.front.compared(self.now, conn, right);
                    self.front.turn(self.now);
                }
                other => self.others.push_back(other),
            }
        }
    }

    /// What was said to the log, without the other outputs.
    pub fn logged(&mut self) -> Vec<String> {
        let lines = self.others.iter().filter_map(|output| match output {
            FrontOutput::Log { text, .. } => Some(text.clone()),
            _ => None,
        });
        lines.collect()
    }
}
