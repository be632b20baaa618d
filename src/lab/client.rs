//! A small blocking NATS client, enough for the lab's load and its questions: what a stock client would send, nothing
//! more. One connection, one wildcard inbox, no reconnect: whoever uses it decides where to go next.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use net::client::headers::Headers;
use net::client::intake::Intake;
use net::client::op::Op;
use net::client::parse::{Limits, Parser, Role};
use net::client::write;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use serde_json::{Value, json};

/// For a connection, and for the answers of its handshake. On loopback both take microseconds: a server that needs
/// longer is not serving.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

const READ_BYTES: usize = 64 * 1024;

/// More than any server's `max_payload` and control line.
const LIMITS: Limits = Limits { control_line_max: 256 * 1024, payload_max: 64 * 1024 * 1024 };

/// Who connects.
#[derive(Debug, Clone, Copy)]
pub struct User {
    pub name: &'static str,
    pub password: &'static str,
}

/// The account that holds streams, as configs/stretch/accounts.conf has it.
pub const APP: User = User { name: "acc1", password: "password" };

#[derive(Debug)]
pub struct Trouble(pub String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Trouble {
        Trouble(error.to_string())
    }
}

impl From<nix::errno::Errno> for Trouble {
    fn from(error: nix::errno::Errno) -> Trouble {
        Trouble(error.to_string())
    }
}

/// A message that arrived in the inbox.
#[derive(Debug, Clone)]
pub struct Message {
    pub subject: Bytes,
    pub reply: Option<Bytes>,
    headers: Option<Bytes>,
    pub payload: Bytes,
}

impl Message {
    pub fn header(&self, name: &str) -> Option<&str> {
        Headers::new(self.headers.as_deref()?).get_str(name)
    }

    /// The status that a server answers with instead of a message, `503` when nobody listens.
    pub fn status(&self) -> Option<u16> {
        Headers::new(self.headers.as_deref()?).status().map(|(code, _)| code)
    }

    /// What follows the inbox in the subject: the sender's own mark.
    pub fn mark(&self) -> &str {
        std::str::from_utf8(&self.subject).ok().and_then(|s| s.rsplit('.').next()).unwrap_or("")
    }

    /// As a consumer delivers it, for tests.
    #[cfg(test)]
    pub fn delivered(reply: &'static str) -> Message {
        let reply = Some(Bytes::from_static(reply.as_bytes()));
        Message { subject: Bytes::new(), reply, headers: None, payload: Bytes::new() }
    }

    /// The payload as JSON, `Null` if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or(Value::Null)
    }
}

pub struct Client {
    stream: TcpStream,
    intake: Intake,
    out: BytesMut,
    inbox: String,
    requests: u64,
}

impl Client {
    /// Connects and logs in; the inbox is subscribed.
    pub fn connect(addr: SocketAddr, user: User, name: &str) -> Result<Client, Trouble> {
        let stream = TcpStream::connect_timeout(&addr, CONNECT_PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(CONNECT_PATIENCE))?;
        let inbox = format!("_INBOX.{name}.{}", stream.local_addr()?.port());
        let intake = Intake::new(Parser::new(Role::Client, LIMITS));
        let mut client = Client { stream, intake, out: BytesMut::new(), inbox, requests: 0 };
        let connect = json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "echo": true, "protocol": 1,
            "lang": "rust", "version": env!("CARGO_PKG_VERSION"), "name": name, "user": user.name, "pass": user.password,
        });
        write::connect(&mut client.out, connect.to_string().as_bytes());
        write::sub(&mut client.out, format!("{}.*", client.inbox).as_bytes(), None, b"1");
        write::ping(&mut client.out);
        client.flush()?;
        let deadline = Instant::now() + CONNECT_PATIENCE;
        loop {
            match client.next_op(deadline)? {
                Some(Op::Pong) => return Ok(client),
                Some(_) => {}
                None => return Err(Trouble("no answer to CONNECT".into())),
            }
        }
    }

    /// Where an answer with this mark arrives.
    pub fn inbox(&self, mark: impl fmt::Display) -> String {
        format!("{}.{mark}", self.inbox)
    }

    /// Queues a publish; [`Client::flush`] sends it.
    pub fn publish(&mut self, subject: &str, reply: Option<&str>, headers: Option<&[u8]>, payload: &[u8]) {
        let reply = reply.map(str::as_bytes);
        write::publish(&mut self.out, &write::Message { subject: subject.as_bytes(), reply, headers, payload });
    }

    pub fn flush(&mut self) -> Result<(), Trouble> {
        let out = self.out.split();
        Ok(self.stream.write_all(&out)?)
    }

    /// The next message of the inbox; `None` when none came in time.
    pub fn receive(&mut self, deadline: Instant) -> Result<Option<Message>, Trouble> {
        loop {
            match self.next_op(deadline)? {
                Some(Op::Msg { subject, reply, headers, payload, .. }) => {
                    return Ok(Some(Message { subject, reply, headers, payload }));
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// One question and its answer. Other messages that arrive meanwhile are passed over.
    pub fn request(&mut self, subject: &str, payload: &[u8], patience: Duration) -> Result<Message, Trouble> {
        self.requests += 1;
        let mark = format!("r{}", self.requests);
        let reply = self.inbox(&mark);
        self.publish(subject, Some(&reply), None, payload);
        self.flush()?;
        let deadline = Instant::now() + patience;
        while let Some(message) = self.receive(deadline)? {
            if message.mark() == mark {
                return match message.status() {
                    Some(code) if code >= 300 => Err(Trouble(format!("{subject}: {code}"))),
                    _ => Ok(message),
                };
            }
        }
        Err(Trouble(format!("{subject}: no answer")))
    }

    /// A JetStream API call; an error object of the answer becomes an error.
    pub fn api(&mut self, subject: &str, body: &Value, patience: Duration) -> Result<Value, Trouble> {
        let payload = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.request(&format!("$JS.API.{subject}"), payload.as_bytes(), patience)?.json();
        match answer.get("error") {
            Some(error) => Err(Trouble(format!(
                "{subject}: {} ({})",
                error["description"].as_str().unwrap_or("no description"),
                error["err_code"]
            ))),
            None => Ok(answer),
        }
    }

    /// The next operation; pings are answered on the way, an error of the server is ours.
    fn next_op(&mut self, deadline: Instant) -> Result<Option<Op>, Trouble> {
        loop {
            match self.intake.poll().map_err(|e| Trouble(e.to_string()))? {
                Some(Op::Ping) => {
                    write::pong(&mut self.out);
                    self.flush()?;
                }
                Some(Op::Err { text }) => return Err(Trouble(String::from_utf8_lossy(&text).into_owned())),
                Some(op) => return Ok(Some(op)),
                None if self.fill(deadline)? => {}
                None => return Ok(None),
            }
        }
    }

    /// Reads once; false when nothing came in time.
    fn fill(&mut self, deadline: Instant) -> Result<bool, Trouble> {
        let left = TimeSpec::from_duration(deadline.saturating_duration_since(Instant::now()));
        let mut waiting = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        if ppoll(&mut waiting, Some(left), None)? == 0 {
            return Ok(false);
        }
        let mut buffer = BytesMut::zeroed(READ_BYTES);
        let len = self.stream.read(&mut buffer)?;
        if len == 0 {
            return Err(Trouble("the server closed the connection".into()));
        }
        buffer.truncate(len);
        self.intake.push(Bytes::copy_from_slice(&buffer));
        Ok(true)
    }
}
