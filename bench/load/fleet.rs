//! The servers of one run: configured alike, started on an empty store, killed at the end.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::cpu;
use crate::options::Options;

/// Longest wait for a server, or a cluster of them, to take requests.
const READY: Duration = Duration::from_secs(30);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// nats-server as it comes: it acknowledges before the disk has it.
    Lazy,
    /// nats-server with `sync_interval: always`.
    Synced,
    Ours,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Lazy => "L",
            Side::Synced => "A",
            Side::Ours => "trestle",
        }
    }
}

/// Running servers.
pub struct Fleet {
    servers: Vec<Server>,
    dir: PathBuf,
}

pub struct Server {
    pub name: String,
    pub port: u16,
    child: Option<Child>,
}

/// Where servers listen for each other, and where the others dial them: the same, unless something stands in between.
pub struct Links {
    pub listen: Vec<u16>,
    pub dial: Vec<u16>,
}

impl Fleet {
    /// Starts so many servers; more than one form a cluster.
    pub fn start(options: &Options, side: Side, count: usize) -> Result<Fleet, String> {
        let listen = free_ports(count)?;
        Fleet::start_linked(options, side, Links { dial: listen.clone(), listen })
    }

    pub fn start_linked(options: &Options, side: Side, links: Links) -> Result<Fleet, String> {
        let dir = options.dir.clone();
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
        let ports = free_ports(links.listen.len())?;
        let mut fleet = Fleet { servers: Vec::new(), dir };
        for (at, &port) in ports.iter().enumerate() {
            let name = format!("s{}", at + 1);
            let config = fleet.dir.join(format!("{name}.conf"));
            let text = config_text(&fleet.dir, side, &name, port, &links, at);
            fs::write(&config, text).map_err(|e| format!("cannot write {}: {e}", config.display()))?;
            let child = Some(spawn(options, side, &config, &fleet.dir.join(format!("{name}.log")))?);
            fleet.servers.push(Server { name, port, child });
        }
        fleet.wait_ready()?;
        Ok(fleet)
    }

    pub fn url(&self) -> String {
        url(self.servers[0].port)
    }

    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server of that name, or the first one.
    pub fn url_of(&self, name: &str) -> String {
        url(self.named(name).map_or(self.servers[0].port, |server| server.port))
    }

    pub fn named(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| server.name == name)
    }

    pub fn client(&self) -> Result<Client, String> {
        Client::connect(self.servers[0].port)
    }

    /// SIGKILL.
    pub fn kill(&mut self, name: &str) {
        for server in self.servers.iter_mut().filter(|server| server.name == name) {
            server.stop();
        }
    }

    /// Processor time that all servers have used.
    pub fn cpu(&self) -> Duration {
        self.pids().map(cpu::time).sum()
    }

    /// Memory that all servers hold, bytes.
    pub fn resident(&self) -> u64 {
        self.pids().map(cpu::resident).sum()
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        self.servers.iter().filter_map(|server| server.child.as_ref()).map(Child::id)
    }

    /// JetStream answers on every server, and a stream with a copy on each can be made and removed again.
    fn wait_ready(&self) -> Result<(), String> {
        let until = Instant::now() + READY;
        for server in &self.servers {
            retry(until, || {
                let mut client = Client::connect(server.port)?;
                client.request_json("$JS.API.INFO", "").map(|_| ())
            })
            .map_err(|why| format!("{} is not ready: {why}", server.name))?;
        }
        let mut client = self.client()?;
        retry(until, || client.create_stream("ready", "bench.ready", self.servers.len()))?;
        client.request_json("$JS.API.STREAM.DELETE.ready", "").map(|_| ())
    }
}

impl Server {
    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for server in &mut self.servers {
            server.stop();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Ports that nobody listens on at this moment.
pub fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<Result<_, _>>()
        .map_err(|e| format!("no free port: {e}"))?;
    listeners.iter().map(|l| l.local_addr().map(|a| a.port()).map_err(|e| e.to_string())).collect()
}

fn url(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

fn config_text(dir: &Path, side: Side, name: &str, port: u16, links: &Links, at: usize) -> String {
    let sync = if side == Side::Synced { ", sync_interval: always" } else { "" };
    let store = dir.join(name);
    let mut text = format!(
        "server_name: {name}\nlisten: 127.0.0.1:{port}\njetstream {{ store_dir: \"{}\"{sync} }}\n",
        store.display()
    );
    if links.listen.len() > 1 {
        let (listen, dial) = (links.listen[at], links.dial[at]);
        let others = links.dial.iter().enumerate().filter(|(n, _)| *n != at);
        let routes: Vec<String> = others.map(|(_, port)| format!("\"{}\"", url(*port))).collect();
        let advertise =
            if listen == dial { String::new() } else { format!(", cluster_advertise: \"127.0.0.1:{dial}\"") };
        text += &format!(
            "cluster {{ name: BENCH, listen: \"127.0.0.1:{listen}\"{advertise}, routes: [{}] }}\n",
            routes.join(", ")
        );
    }
    text
}

fn spawn(options: &Options, side: Side, config: &Path, log: &Path) -> Result<Child, String> {
    let program = match side {
        Side::Ours => &options.ours,
        Side::Lazy | Side::Synced => options.peer.as_ref().ok_or("--peer PATH is missing")?,
    };
    let out = fs::File::create(log).map_err(|e| format!("cannot create {}: {e}", log.display()))?;
    let err = out.try_clone().map_err(|e| e.to_string())?;
    let mut command = Command::new(program);
    command.arg("-c").arg(config).stdin(Stdio::null()).stdout(out).stderr(err);
    if let (Side::Ours, Some(cores)) = (side, options.cores) {
        command.arg("--cores").arg(cores.to_string());
    }
    command.spawn().map_err(|e| format!("cannot start {}: {e}", program.display()))
}

/// Tries until it works or the time is over; the last failure.
pub fn retry(until: Instant, mut act: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    loop {
        match act() {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(100)),
            done => return done,
        }
    }
}
