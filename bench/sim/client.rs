//! A client's end of a connection: real protocol bytes, in and out.
//!
//! Only what the workload needs: INFO, MSG, HMSG, PING, -ERR. Anything else that a server sends is a violation.

use bytes::{Buf, Bytes, BytesMut};

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Info,
    Ping,
    Pong,
    Message(Message),
    Error(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    pub subject: String,
    pub reply: String,
    /// The whole header block; empty for none.
    pub headers: Bytes,
    pub payload: Bytes,
}

impl Message {
    /// The status of a message that carries one: 503, 408, ...
    pub fn status(&self) -> Option<u16> {
        let line = self.headers.strip_prefix(b"NATS/1.0 ")?;
        std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()
    }
}

#[derive(Debug, Default)]
pub struct Parser {
    buffer: BytesMut,
}

impl Parser {
    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    /// Takes bytes; everything that is complete now.
    ///
    /// # Errors
    /// What a client of the protocol cannot understand.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Said>, String> {
        self.buffer.extend_from_slice(bytes);
        let mut said = Vec::new();
        while let Some(one) = self.next()? {
            said.push(one);
        }
        Ok(said)
    }

    fn next(&mut self) -> Result<Option<Said>, String> {
        let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let verb = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let said = match verb {
            "INFO" => Said::Info,
            "PING" => Said::Ping,
            "PONG" => Said::Pong,
            "-ERR" => Said::Error(line.clone()),
            "MSG" | "HMSG" => return self.message(end + 2, verb == "HMSG", &words),
            _ => return Err(format!("a server said {line:?}")),
        };
        self.buffer.advance(end + 2);
        Ok(Some(said))
    }

    fn message(&mut self, head: usize, with_headers: bool, words: &[&str]) -> Result<Option<Said>, String> {
        let sizes = if with_headers { 2 } else { 1 };
        let bad = || format!("a message's head reads {words:?}");
        if words.len() != 2 + sizes && words.len() != 3 + sizes {
            return Err(bad());
        }
        let number = |at: usize| words[at].parse::<usize>().map_err(|_| bad());
        let total = number(words.len() - 1)?;
        let headers = if with_headers { number(words.len() - 2)? } else { 0 };
        if headers > total {
            return Err(bad());
        }
        if self.buffer.len() < head + total + 2 {
            return Ok(None);
        }
        let reply = if words.len() == 3 + sizes { words[2].to_owned() } else { String::new() };
        let subject = words[0].to_owned();
        self.buffer.advance(head);
        let headers = self.buffer.split_to(headers).freeze();
        let payload = self.buffer.split_to(total - headers.len()).freeze();
        if !self.buffer.starts_with(b"\r\n") {
            return Err("a message's end is not where its head says".into());
        }
        self.buffer.advance(2);
        Ok(Some(Said::Message(Message { subject, reply, headers, payload })))
    }
}

/// The first bytes of a client: it wants headers and to hear when nobody listens.
pub fn hello(inbox: &str) -> Vec<u8> {
    format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,\"lang\":\"sim\",\"version\":\"1\",\"protocol\":1}}\r\n\
         PING\r\nSUB {inbox}.> 1\r\n"
    )
    .into_bytes()
}

pub fn publish(subject: &str, reply: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
    out
}

/// `expected`: the sequence that shall be the last on the subject.
pub fn publish_with_id(subject: &str, reply: &str, id: &str, expected: Option<u64>, payload: &[u8]) -> Vec<u8> {
    let expected = expected.map(|seq| format!("Nats-Expected-Last-Subject-Sequence: {seq}\r\n")).unwrap_or_default();
    let headers = format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n{expected}\r\n");
    let mut out =
        format!("HPUB {subject} {reply} {} {}\r\n{headers}", headers.len(), headers.len() + payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_whole_however_they_are_cut() {
        let bytes = b"INFO {}\r\nPING\r\nMSG a.b 1 re 3\r\nxyz\r\nHMSG c 1 30 32\r\nNATS/1.0 503 No Responders\r\n\r\nok\r\n-ERR 'x'\r\n";
        let mut whole = Parser::default();
        let all = whole.take(bytes).unwrap();
        assert_eq!(all.len(), 5);
        let Said::Message(message) = &all[3] else { panic!("{all:?}") };
        assert_eq!((message.status(), message.payload.as_ref()), (Some(503), b"ok".as_ref()));
        let mut cut = Parser::default();
        let pieces: Vec<Said> = bytes.iter().flat_map(|byte| cut.take(&[*byte]).unwrap()).collect();
        assert_eq!(pieces, all);
        assert!(Parser::default().take(b"NONSENSE\r\n").is_err());
    }
}
