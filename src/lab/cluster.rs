//! The six processes: started, killed, stopped, and looked after, so that none of them outlives the lab.
//!
//! A server is not started directly but through this program again ([`become_server`]), which asks the kernel to kill it
//! when its parent dies and then becomes the server. The kernel ties that to the *thread* that started it: only the
//! main thread may call [`Cluster::start`].

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::board::{Board, Place};
use super::files::{self, ServerFile};
use super::options::Options;
use super::story::Action;
use super::wan::{Wan, Weather};

/// For a clean stop: handing over leadership and closing takes a second at most.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// For a health page; it answers from memory.
const PAGE_PATIENCE: Duration = Duration::from_millis(500);

/// Of a log, shown when its server went away by itself.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: usize = 64 * 1024;

pub struct Cluster {
    pub servers: Vec<Server>,
    board: Arc<Board>,
    program: PathBuf,
    cores: Option<u16>,
}

pub struct Server {
    pub name: String,
    pub dc: u32,
    pub config: PathBuf,
    pub log: PathBuf,
    health: Page,
    child: Option<Child>,
}

/// Where a server's health page is.
#[derive(Debug, Clone)]
pub struct Page {
    pub addr: SocketAddr,
    pub path: String,
}

impl Cluster {
    /// Writes the copies of the files and opens the doors of the WAN; starts nothing yet.
    pub fn prepare(options: &Options, folder: &Path, plain: bool) -> Result<Cluster, String> {
        let servers = files::read(&options.config_dir)?;
        let chosen = files::ports(&servers, options.base_port)?;
        let ports: Vec<files::Ports> = chosen.iter().map(|(ports, _)| *ports).collect();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let wan = Wan::new(Weather { rtt: options.rtt, jitter: options.jitter, loss: options.loss });
        for (ports, door) in chosen {
            wan.open_door(door, at(ports.cluster));
        }
        let place = |(server, ports): (&ServerFile, &files::Ports)| Place {
            name: server.name.clone(),
            dc: server.dc,
            client: at(ports.client),
        };
        let places = servers.iter().zip(&ports).map(place).collect();
        let conf = folder.join("conf");
        copy_files(&options.config_dir, &conf)?;
        let mut running = Vec::new();
        for (server, own) in servers.iter().zip(&ports) {
            let config = conf.join(&server.file);
            let text = server.rewrite(&servers, &ports, &folder.join(&server.name))?;
            write_file(&config, &text)?;
            running.push(Server {
                name: server.name.clone(),
                dc: server.dc,
                config,
                log: folder.join(format!("{}.log", server.name)),
                health: Page { addr: at(own.http), path: format!("{}/healthz", server.http_base_path) },
                child: None,
            });
        }
        let board = Arc::new(Board::new(places, wan, under_way(options), plain));
        let own = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
        let cores = options.server.is_none().then_some(options.cores);
        Ok(Cluster { servers: running, board, program: options.server.clone().unwrap_or(own), cores })
    }

    pub fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    pub fn find(&self, name: &str) -> Result<usize, String> {
        let at = self.servers.iter().position(|server| server.name == name);
        at.ok_or_else(|| {
            let names: Vec<&str> = self.servers.iter().map(|server| server.name.as_str()).collect();
            format!("there is no server {name}: {}", names.join(", "))
        })
    }

    pub fn of_dc(&self, dc: u32) -> Result<Vec<usize>, String> {
        let all: Vec<usize> = (0..self.servers.len()).filter(|at| self.servers[*at].dc == dc).collect();
        if all.is_empty() { Err(format!("there is no data center {dc}: {:?}", self.board.dcs)) } else { Ok(all) }
    }

    /// Whether everybody whom a story names exists: better heard of before the play than in its middle.
    pub fn check(&self, story: &[Action]) -> Result<(), String> {
        for action in story {
            let known = match action {
                Action::Kill(name) | Action::Stop(name) | Action::Restart(Some(name)) => self.find(name).map(drop),
                Action::KillDc(dc) | Action::PartitionDc(dc) => self.of_dc(*dc).map(drop),
                Action::KillLeader | Action::Restart(None) | Action::Heal | Action::Wait(_) | Action::Stepdown => {
                    Ok(())
                }
            };
            known.map_err(|why| format!("--script {action}: {why}"))?;
        }
        Ok(())
    }

    pub fn is_running(&self, at: usize) -> bool {
        self.servers[at].child.is_some()
    }

    pub fn pages(&self) -> Vec<Page> {
        self.servers.iter().map(|server| server.health.clone()).collect()
    }

    /// Main thread only; see above.
    pub fn start(&mut self, at: usize) -> Result<(), String> {
        let server = &mut self.servers[at];
        let log = OpenOptions::new().create(true).append(true).open(&server.log);
        let log = log.map_err(|e| format!("{}: {e}", server.log.display()))?;
        let own = std::env::current_exe().map_err(|e| format!("this program cannot be found: {e}"))?;
        let mut command = Command::new(own);
        command.args(["lab", "server"]).arg(std::process::id().to_string()).arg(&self.program);
        command.arg("-c").arg(&server.config);
        if let Some(cores) = self.cores {
            command.args(["--cores", &cores.to_string()]);
        }
        // A group of its own: Ctrl-C in the terminal is for the lab alone.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|e| format!("{} cannot be started: {e}", server.name))?;
        server.child = Some(child);
        self.board.facts().servers[at].running = true;
        Ok(())
    }

    /// kill -9.
    pub fn kill(&mut self, at: usize) {
        if let Some(mut child) = self.servers[at].child.take() {
            // Both fail only for a process that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.board.mark_down(at);
    }

    /// SIGTERM and the end of the process; false when it had to be killed.
    pub fn stop(&mut self, at: usize) -> bool {
        let Some(child) = &mut self.servers[at].child else { return true };
        let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                self.servers[at].child = None;
                self.board.mark_down(at);
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill(at);
        false
    }

    /// Stops all, at once.
    pub fn stop_all(&mut self) {
        for server in &self.servers {
            if let Some(child) = &server.child {
                let _ = kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM);
            }
        }
        for at in 0..self.servers.len() {
            self.stop(at);
        }
    }

    /// Servers that ended by themselves since the last call, with the end of their logs.
    pub fn reap(&mut self) -> Vec<String> {
        let mut dead = Vec::new();
        for at in 0..self.servers.len() {
            let server = &mut self.servers[at];
            if let Some(status) = server.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                server.child = None;
                dead.push(server.obituary(status));
                self.board.mark_down(at);
            }
        }
        dead
    }
}

impl Server {
    fn obituary(&self, status: ExitStatus) -> String {
        format!("{} ended by itself ({status}); the end of {}:\n{}", self.name, self.log.display(), self.log_tail())
    }

    pub fn log_tail(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        tail.iter().map(|line| format!("    {line}\n")).collect()
    }
}

impl Page {
    /// `Ok` when the page answers 200, else what it says.
    pub fn check(&self) -> Result<(), String> {
        let answer = self.get().map_err(|e| e.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        match head.split(' ').nth(1) {
            Some("200") => Ok(()),
            Some(code) => Err(format!("{code} {}", body.trim())),
            None => Err("no HTTP".into()),
        }
    }

    fn get(&self) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.addr, PAGE_PATIENCE)?;
        stream.set_read_timeout(Some(PAGE_PATIENCE))?;
        stream.write_all(format!("GET {} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n", self.path).as_bytes())?;
        let mut answer = Vec::new();
        stream.take(TAIL_BYTES as u64).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// `lab server PARENT PROGRAM ARGS...`: dies with its parent, then becomes the program. Returns only if that fails.
pub fn become_server(words: &[String]) -> i32 {
    let [parent, program, args @ ..] = words else {
        eprintln!("lab server is for the lab itself");
        return 2;
    };
    if let Err(error) = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL) {
        eprintln!("cannot tie this server to the lab: {error}");
        return 1;
    }
    // The lab blocks signals for itself; a program starts with none blocked.
    let _ = nix::sys::signal::SigSet::all().thread_unblock();
    // It may have died before it was asked for.
    if nix::unistd::getppid().to_string() != *parent {
        return 1;
    }
    let error = Command::new(program).args(args).exec();
    eprintln!("{program} cannot be run: {error}");
    1
}

/// What the load puts on the WAN within two round trips and the pauses of a busy disk.
fn under_way(options: &Options) -> u64 {
    let time = 2.0 * (options.rtt + options.jitter).as_secs_f64() + 0.1;
    (f64::from(options.rate) * time) as u64 + 1
}

fn copy_files(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::create_dir_all(to).map_err(|e| format!("{}: {e}", to.display()))?;
    for entry in std::fs::read_dir(from).map_err(|e| format!("{}: {e}", from.display()))?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let target = to.join(entry.file_name());
            std::fs::copy(entry.path(), &target).map_err(|e| format!("{}: {e}", target.display()))?;
        }
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
