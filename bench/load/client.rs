//! A small blocking client: enough of the protocol to make streams, publish and time the answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    asked: u64,
}

/// A message that arrived.
pub struct Message {
    pub subject: String,
    pub has_status: bool,
    pub payload: Vec<u8>,
}

impl Client {
    pub fn connect(port: u16) -> Result<Client, String> {
        let open = || -> io::Result<Client> {
            let writer = TcpStream::connect(("127.0.0.1", port))?;
            writer.set_nodelay(true)?;
            writer.set_read_timeout(Some(PATIENCE))?;
            let mut client = Client { reader: BufReader::new(writer.try_clone()?), writer, asked: 0 };
            let options = r#"{"verbose":false,"headers":true,"no_responders":true,"lang":"bench","version":"1"}"#;
            client.send(format!("CONNECT {options}\r\nSUB _INBOX.bench.> 1\r\nPING\r\n").as_bytes())?;
            while client.line()? != "PONG" {}
            Ok(client)
        };
        open().map_err(|e| e.to_string())
    }

    /// The two halves, for a thread each.
    pub fn split(self) -> (Client, TcpStream) {
        let writer = self.writer.try_clone();
        match writer {
            Ok(writer) => (self, writer),
            Err(error) => panic!("a socket cannot be shared: {error}"),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    /// A request to the JetStream API; an error in the answer is an error here.
    pub fn request_json(&mut self, subject: &str, payload: &str) -> Result<Value, String> {
        self.asked += 1;
        let inbox = format!("_INBOX.bench.{}", self.asked);
        let request = format!("PUB {subject} {inbox} {}\r\n{payload}\r\n", payload.len());
        self.send(request.as_bytes()).map_err(|e| e.to_string())?;
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let Some(message) = self.receive().map_err(|e| e.to_string())? else { continue };
            if message.subject != inbox {
                continue;
            }
            if message.has_status {
                return Err(format!("nobody answers {subject}"));
            }
            let answer: Value = serde_json::from_slice(&message.payload).map_err(|e| e.to_string())?;
            return match answer.get("error") {
                Some(error) => Err(error.to_string()),
                None => Ok(answer),
            };
        }
        Err(format!("no answer to {subject}"))
    }

    /// A stream on the disk of so many servers.
    pub fn create_stream(&mut self, name: &str, subject: &str, replicas: usize) -> Result<(), String> {
        let config = serde_json::json!({
            "name": name, "subjects": [subject], "retention": "limits", "storage": "file", "discard": "old",
            "num_replicas": replicas, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_consumers": -1,
        });
        self.request_json(&format!("$JS.API.STREAM.CREATE.{name}"), &config.to_string()).map(|_| ())
    }

    /// The name of the server that leads a stream; empty without a cluster.
    pub fn leader(&mut self, stream: &str) -> Result<String, String> {
        let info = self.request_json(&format!("$JS.API.STREAM.INFO.{stream}"), "")?;
        let leader = info.pointer("/cluster/leader").and_then(Value::as_str);
        Ok(leader.unwrap_or_default().to_owned())
    }

    /// The next message; `None` when something else came instead.
    pub fn receive(&mut self) -> io::Result<Option<Message>> {
        let line = self.line()?;
        let words: Vec<&str> = line.split(' ').collect();
        let has_status = match words.first() {
            Some(&"MSG") => false,
            Some(&"HMSG") => true,
            Some(&"PING") => {
                self.send(b"PONG\r\n")?;
                return Ok(None);
            }
            _ => return Ok(None),
        };
        let broken = || io::Error::new(io::ErrorKind::InvalidData, line.clone());
        let len: usize = words.last().and_then(|len| len.parse().ok()).ok_or_else(broken)?;
        let subject = words.get(1).copied().ok_or_else(broken)?.to_owned();
        let mut payload = vec![0; len + 2];
        self.reader.read_exact(&mut payload)?;
        payload.truncate(len);
        Ok(Some(Message { subject, has_status, payload }))
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }
}
