//! The recorded fields against a running nats-server of that release, where one is on the PATH.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::fields::{Fields, fields, recorded};
use super::json;

/// The release whose fields are recorded.
const RELEASE: &str = "2.15.1";

/// Pages that a server has that stands alone.
const PAGES: &[&str] = &[
    "varz",
    "connz",
    "connz?subs=detail&auth=1&state=all",
    "routez",
    "subsz",
    "jsz",
    "healthz",
    "accountz",
    "gatewayz",
    "leafz",
];

/// Stopped and swept away at the end of the test, however it ends.
struct Peer {
    child: Child,
    dir: PathBuf,
    monitor: String,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Peer {
    /// `None`: there is no such program, or it does not start.
    fn start() -> Option<Peer> {
        let version = Command::new("nats-server").arg("-v").output().ok()?;
        if !String::from_utf8_lossy(&version.stdout).contains(RELEASE) {
            return None;
        }
        let dir = std::env::temp_dir().join(format!("trestle-pages-{}", std::process::id()));
        std::fs::create_dir_all(&dir).ok()?;
        let file = dir.join("peer.conf");
        let store = dir.display();
        let text = format!(
            "listen: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\nserver_tags: [\"dc:1\"]\n\
             jetstream: {{ store_dir: \"{store}\", domain: hub }}\n"
        );
        std::fs::write(&file, text).ok()?;
        let child = Command::new("nats-server").arg("-c").arg(&file).stderr(Stdio::piped()).spawn().ok()?;
        let mut peer = Peer { child, dir, monitor: String::new() };
        let lines = BufReader::new(peer.child.stderr.take()?).lines();
        for line in lines.map_while(Result::ok) {
            if let Some((_, address)) = line.split_once("Starting http monitor on ") {
                peer.monitor = address.trim().to_owned();
            }
            if line.contains("Server is ready") {
                return Some(peer);
            }
        }
        None
    }

    fn get(&self, page: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(&self.monitor).expect("it listens");
        write!(stream, "GET /{page} HTTP/1.0\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        json(answer.split_once("\r\n\r\n").expect("a head and a body").1.as_bytes())
    }
}

#[test]
fn the_recorded_fields_are_those_of_the_running_peer() {
    let Some(peer) = Peer::start() else {
        eprintln!("skipped: no nats-server {RELEASE} that starts on the PATH");
        return;
    };
    let recorded: BTreeMap<&str, Fields> = recorded();
    for page in PAGES {
        let live = fields(page, &peer.get(page));
        let unknown: Vec<&String> = live.difference(&recorded[page]).collect();
        assert!(unknown.is_empty(), "{page}: {unknown:?}");
        assert!(!live.is_empty(), "{page}");
    }
}
