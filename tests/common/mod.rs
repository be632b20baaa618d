//! Server processes on free ports with a directory of their own, and a small client that speaks the protocol by hand.
//!
//! Waits are bounded and look often; nothing here outlives its test: a server that is dropped is killed.
#![allow(dead_code)] // every test file uses its part

pub mod cluster;
pub mod intruder;
pub mod mount;
pub mod nonsense;
pub mod writer;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for anything that a healthy server does at once: the machine may be very busy. Less than the two minutes
/// after which a server asks whether its client is still there.
pub const PATIENCE: Duration = Duration::from_secs(100);

static DIRS: AtomicU32 = AtomicU32::new(0);

/// A directory that goes with its owner.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let number = DIRS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("trestle-{name}-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the server answers to an HTTP GET, head and body.
pub fn get(addr: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Looks until there is something, or panics with what was waited for.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ports that are free and that the kernel gives to nobody who asks for any port. They come out of blocks, of which each
/// test process has its own: while it lives, it listens on the first port of each.
pub fn free_ports(count: usize) -> Vec<u16> {
    const BLOCKS: u32 = 120;
    const BLOCK: u16 = 100;
    static MINE: Mutex<(Vec<TcpListener>, Vec<u16>)> = Mutex::new((Vec::new(), Vec::new()));
    let bind = |port: u16| TcpListener::bind(("127.0.0.1", port)).ok();
    let mut mine = MINE.lock().unwrap_or_else(PoisonError::into_inner);
    let (guards, left) = &mut *mine;
    let mut ports = Vec::new();
    for turn in 0..BLOCKS {
        while let Some(port) = left.pop_if(|_| ports.len() < count) {
            ports.extend(bind(port).map(|_| port));
        }
        if ports.len() == count {
            return ports;
        }
        let block = (std::process::id().wrapping_add(turn) % BLOCKS) as u16;
        let first = 20_000 + block * BLOCK;
        if let Some(guard) = bind(first) {
            guards.push(guard);
            left.extend((1..BLOCK).rev().map(|n| first + n));
        }
    }
    panic!("no free ports from 20000 to 32000");
}

/// A server process.
pub struct Server {
    child: Child,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
    /// Lines of the log that belong to earlier lives.
    seen: usize,
}

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trestle"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the program to its end: exit code and everything it said.
pub fn run(args: &[&str]) -> (i32, String) {
    let output = command(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

impl Server {
    /// Starts a server that logs into the directory, and waits until it is ready.
    pub fn start(dir: &Scratch, name: &str, args: &[&str]) -> Server {
        let server = Server::launch(dir, name, args);
        server.wait_ready();
        server
    }

    /// The same without waiting.
    pub fn launch(dir: &Scratch, name: &str, args: &[&str]) -> Server {
        Server::launch_with(dir, name, args, &[])
    }

    /// The same with more in its environment.
    pub fn launch_with(dir: &Scratch, name: &str, args: &[&str], env: &[(&str, &str)]) -> Server {
        let log = dir.0.join(format!("{name}.log"));
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let child = Server::spawn(&args, &env, &log);
        Server { child, args, env, log, seen: 0 }
    }

    fn spawn(args: &[String], env: &[(String, String)], log: &Path) -> Child {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        let env = env.iter().map(|(name, value)| (name, value));
        command(&words).envs(env).stdout(Stdio::null()).stderr(file).spawn().unwrap()
    }

    pub fn wait_ready(&self) {
        self.wait_log("Server is ready");
    }

    /// The log of this life.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().skip(self.seen).map(|line| format!("{line}\n")).collect()
    }

    pub fn wait_log(&self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(part)) {
                return line.to_owned();
            }
            assert!(Instant::now() < until, "no line with {part:?} in:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn address(&self, part: &str) -> String {
        let line = self.wait_log(part);
        line.rsplit(' ').next().unwrap().to_owned()
    }

    pub fn client_addr(&self) -> String {
        self.address("Listening for client connections on ")
    }

    pub fn http_addr(&self) -> String {
        self.address("Starting http monitor on ")
    }

    pub fn route_addr(&self) -> String {
        self.address("Listening for route connections on ")
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The exit code, once it ends by itself.
    pub fn wait_exit(&mut self) -> i32 {
        wait_for("the server's end", || self.child.try_wait().unwrap()).code().unwrap_or(-1)
    }

    /// TERM, and the exit code.
    pub fn stop(&mut self) -> i32 {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.wait_exit()
    }

    /// Starts again after an end, with the same words.
    pub fn again(&mut self) {
        self.seen += self.log().lines().count();
        self.child = Server::spawn(&self.args, &self.env, &self.log);
    }

    pub fn connect(&self) -> Client {
        Client::connect(&self.client_addr())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// A client by hand.
pub struct Client {
    stream: TcpStream,
    /// What arrived, from `taken` on not yet looked at. A read that is given up loses nothing.
    arrived: Vec<u8>,
    taken: usize,
    pub info: String,
    inbox: u32,
}

/// One message that arrived. `status` is what a header without payload says (503: nobody there).
#[derive(Debug)]
pub struct Message {
    pub subject: String,
    /// The subscription's number, as the client chose it.
    pub sid: String,
    pub reply: String,
    pub headers: String,
    pub payload: String,
}

impl Client {
    pub fn connect(addr: &str) -> Client {
        Client::connect_as(addr, "").unwrap()
    }

    /// `user` is what goes into CONNECT besides: `"user":"u","pass":"p",` for instance.
    pub fn connect_as(addr: &str, user: &str) -> Result<Client, String> {
        let addr = addr.replace("0.0.0.0", "127.0.0.1");
        let stream = TcpStream::connect(&addr).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Client { stream, arrived: Vec::new(), taken: 0, info: String::new(), inbox: 0 };
        client.info = client.line()?;
        client.send(&format!(
            "CONNECT {{{user}\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}}\r\nPING\r\n"
        ));
        loop {
            let line = client.line()?;
            if line == "PONG" {
                return Ok(client);
            }
            if line.starts_with("-ERR") {
                return Err(line);
            }
        }
    }

    /// Longest wait of one read.
    pub fn set_timeout(&self, timeout: Duration) {
        self.stream.set_read_timeout(Some(timeout)).unwrap();
    }

    pub fn send(&mut self, text: &str) {
        // A connection that is gone is noticed by who reads.
        let _ = self.stream.write_all(text.as_bytes());
    }

    /// Reads until so many bytes are there that were not yet looked at.
    fn await_bytes(&mut self, count: usize) -> Result<(), String> {
        while self.arrived.len() < self.taken + count {
            if self.taken == self.arrived.len() {
                self.arrived.clear();
                self.taken = 0;
            }
            let mut bytes = [0; 16 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err("closed".into()),
                Ok(read) => self.arrived.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// The next line, which stays there, and its length with its end.
    fn peek_line(&mut self) -> Result<(String, usize), String> {
        let mut looked = 0;
        loop {
            let fresh = &self.arrived[self.taken..];
            if let Some(at) = fresh[looked..].iter().position(|byte| *byte == b'\n') {
                let length = looked + at + 1;
                return Ok((String::from_utf8_lossy(&fresh[..length]).trim_end().to_owned(), length));
            }
            looked = fresh.len();
            self.await_bytes(looked + 1)?;
        }
    }

    pub fn line(&mut self) -> Result<String, String> {
        let (line, length) = self.peek_line()?;
        self.taken += length;
        Ok(line)
    }

    /// The next message; what the protocol says in between is answered.
    pub fn message(&mut self) -> Result<Message, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let (line, length) = self.peek_line()?;
            let words: Vec<&str> = line.split(' ').collect();
            let size = |from_end: usize| words[words.len() - from_end].parse::<usize>().unwrap();
            let (reply, head, total) = match words[0] {
                "MSG" => (if words.len() > 4 { words[3] } else { "" }, 0, size(1)),
                "HMSG" => (if words.len() > 5 { words[3] } else { "" }, size(2), size(1)),
                other => {
                    self.taken += length;
                    match other {
                        "PING" if Instant::now() > until => return Err("nothing but PING".into()),
                        "PING" => self.send("PONG\r\n"),
                        "-ERR" => return Err(line),
                        _ => {}
                    }
                    continue;
                }
            };
            self.await_bytes(length + total + 2)?;
            let body = &self.arrived[self.taken + length..][..total];
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (headers, payload) = (text(&body[..head]), text(&body[head..]));
            self.taken += length + total + 2;
            let (subject, sid) = (words[1].into(), words[2].into());
            return Ok(Message { subject, sid, reply: reply.into(), headers, payload });
        }
    }

    /// One request and its first answer.
    pub fn request(&mut self, subject: &str, payload: &str) -> Result<Message, String> {
        self.inbox += 1;
        let inbox = format!("_INBOX.{}.{}", std::process::id(), self.inbox);
        let (sid, size) = (1000 + self.inbox, payload.len());
        self.send(&format!("SUB {inbox} {sid}\r\nUNSUB {sid} 1\r\nPUB {subject} {inbox} {size}\r\n{payload}\r\n"));
        loop {
            let message = self.message()?;
            if message.subject == inbox {
                return Ok(message);
            }
        }
    }

    /// Waits for the server to have handled everything before.
    pub fn flush(&mut self) -> Result<(), String> {
        self.send("PING\r\n");
        while self.line()? != "PONG" {}
        Ok(())
    }

    /// Publishes to a stream: the sequence it got.
    pub fn publish(&mut self, subject: &str, payload: &str) -> Result<u64, String> {
        let ack = self.request(subject, payload)?;
        let seq = number(&ack.payload, "seq").filter(|_| !ack.payload.contains("\"error\""));
        seq.ok_or(format!("{}{}", ack.headers, ack.payload))
    }

    /// Messages in a stream.
    pub fn count(&mut self, stream: &str) -> Result<u64, String> {
        let info = self.request(&format!("$JS.API.STREAM.INFO.{stream}"), "")?;
        number(&info.payload, "messages").ok_or(format!("{}{}", info.headers, info.payload))
    }
}

/// A number of a JSON object, wherever it stands.
pub fn number(json: &str, key: &str) -> Option<u64> {
    let at = json.find(&format!("\"{key}\":"))? + key.len() + 3;
    let digits: String = json[at..].trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// A text of a JSON object, wherever it stands.
pub fn text(json: &str, key: &str) -> Option<String> {
    let at = json.find(&format!("\"{key}\":"))? + key.len() + 3;
    let rest = json[at..].trim_start().strip_prefix('"')?;
    Some(rest.split('"').next()?.to_owned())
}
