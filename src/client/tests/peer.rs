//! The recorded sessions, against the peer itself where it is installed: what keeps the recording true.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::script::{Stage, play, sessions};

/// Longer than the peer ever takes; only waited for in full when it says nothing where something is expected.
const PATIENCE: Duration = Duration::from_secs(60);

/// The release whose sessions are recorded.
const RELEASE: &str = "2.15.1";

/// A running nats-server, killed and cleaned away at the end.
struct Peer {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
    clients: BTreeMap<char, BufReader<TcpStream>>,
}

impl Peer {
    /// Starts it with a configuration; its log says where it listens.
    fn start(folder: &Path, config: &str) -> std::io::Result<Peer> {
        std::fs::create_dir_all(folder)?;
        let file = folder.join("peer.conf");
        std::fs::write(&file, format!("listen: \"127.0.0.1:-1\"\n{config}"))?;
        let mut child = Command::new("nats-server").arg("-c").arg(&file).stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(child.stderr.take().ok_or(std::io::ErrorKind::BrokenPipe)?);
        let mut address = None;
        let mut line = String::new();
        while log.read_line(&mut line)? > 0 {
            if let Some((_, told)) = line.trim_end().split_once("client connections on ") {
                address = told.parse().ok();
            }
            if line.contains("Server is ready") {
                break;
            }
            line.clear();
        }
        // Whoever stops reading a pipe stops the writer.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let address = address.ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        Ok(Peer { child, folder: folder.to_path_buf(), address, clients: BTreeMap::new() })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Stage for Peer {
    fn connect(&mut self, client: char) {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.clients.insert(client, BufReader::new(stream));
        let info = self.line(client).unwrap();
        assert!(info.starts_with("INFO {"), "{info}");
    }

    fn send(&mut self, client: char, text: &str) {
        // A connection that the peer has closed shows in what is read.
        let _ = self.clients.get_mut(&client).unwrap().get_mut().write_all(text.as_bytes());
    }

    fn line(&mut self, client: char) -> Option<String> {
        let reader = self.clients.get_mut(&client).unwrap();
        loop {
            let mut line = Vec::new();
            if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
                return None;
            }
            let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_string();
            // It measures the round trip when it likes to.
            if line != "PING" {
                return Some(line);
            }
        }
    }

    fn closed(&mut self, client: char) -> bool {
        let mut rest = [0; 1];
        match self.clients.get_mut(&client).unwrap().read(&mut rest) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn the_peer_answers_every_session_as_recorded() {
    let version = Command::new("nats-server").arg("--version").output();
    if !version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(RELEASE)) {
        println!("skipped: nats-server {RELEASE} is not on PATH");
        return;
    }
    let root = std::env::temp_dir().join(format!("trestle-sessions-{}", std::process::id()));
    let mut faults = Vec::new();
    for (at, session) in sessions().iter().enumerate() {
        let mut peer = Peer::start(&root.join(at.to_string()), &session.config).unwrap();
        faults.extend(play(session, &mut peer).err());
    }
    let _ = std::fs::remove_dir_all(&root);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
