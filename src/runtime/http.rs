//! A small HTTP/1.1 face for the pages: GET and HEAD, nothing else. Heads are bounded and so is the time they may take.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_lite::FutureExt;
use glommio::timer::Timer;
use net::uring::conn::{Closer, Conn};
use net::uring::listen::Listener;

use super::inbox::{Inbox, Notify};
use crate::event::Event;
use crate::ids::ConnId;
use crate::system::{JSON, TEXT};

/// A request's line and headers; browsers stay far below.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// For a whole head to arrive, byte by byte or not, and between two requests of a connection that is kept.
const PATIENCE: Duration = Duration::from_secs(15);

/// For a page to be made and to be taken by a slow reader.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// Connections at once: pages are for a few tools, and each holds a buffer. When there are so many, the one that has been
/// silent for longest makes room: half-sent requests keep nobody out.
const CONNECTIONS_MAX: usize = 256;

#[derive(Clone, Default)]
pub struct Pages(Rc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: RefCell<HashMap<ConnId, Rc<Slot>>>,
    /// Connections whose next request has not come whole, the longest waiting first.
    silent: RefCell<VecDeque<(ConnId, Closer)>>,
    open: Cell<usize>,
}

#[derive(Default)]
struct Slot {
    reply: RefCell<Option<(u16, &'static str, Bytes)>>,
    ready: Notify,
}

impl Pages {
    pub fn reply(&self, conn: ConnId, status: u16, content_type: &'static str, body: Bytes) {
        if let Some(slot) = self.0.waiting.borrow_mut().remove(&conn) {
            *slot.reply.borrow_mut() = Some((status, content_type, body));
            slot.ready.raise();
        }
    }

    pub async fn accept(self, listener: Listener, inbox: Inbox, number: Rc<Cell<u64>>) {
        loop {
            match listener.accept().await {
                Ok(conn) if self.has_room() => {
                    let id = ConnId(number.replace(number.get() + 1));
                    self.0.open.set(self.0.open.get() + 1);
                    let (pages, inbox) = (self.clone(), inbox.clone());
                    glommio::spawn_local(async move {
                        // An error here only means that the other side is gone, or slow beyond patience.
                        let _ = pages.serve(id, conn, inbox).await;
                        pages.0.waiting.borrow_mut().remove(&id);
                        pages.unlist(id);
                        pages.0.open.set(pages.0.open.get() - 1);
                    })
                    .detach();
                }
                Ok(_) => {}
                Err(_) => {
                    Timer::new(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Whether one more connection may come, if need be in the place of a silent one.
    fn has_room(&self) -> bool {
        if self.0.open.get() < CONNECTIONS_MAX {
            return true;
        }
        let longest = self.0.silent.borrow_mut().pop_front();
        longest.map(|(_, closer)| closer.close()).is_some()
    }

    /// No longer among the silent.
    fn unlist(&self, id: ConnId) {
        self.0.silent.borrow_mut().retain(|(silent, _)| *silent != id);
    }

    async fn serve(&self, id: ConnId, mut conn: Conn, inbox: Inbox) -> std::io::Result<()> {
        let mut gathered = BytesMut::new();
        loop {
            self.0.silent.borrow_mut().push_back((id, conn.closer()));
            let head = match read_head(&mut conn, &mut gathered).or(too_late(PATIENCE)).await? {
                Head::Request(head) => {
                    self.unlist(id);
                    head
                }
                Head::TooLarge => return refuse(&mut conn, 431, "Request Header Fields Too Large").await,
                Head::End => return Ok(()),
            };
            let request = match Request::parse(&head) {
                Some(request) if request.method == "GET" || request.method == "HEAD" => request,
                Some(_) => return refuse(&mut conn, 405, "Method Not Allowed").await,
                None => return refuse(&mut conn, 400, "Bad Request").await,
            };
            self.answer(id, &mut conn, &inbox, &request).or(too_late(ANSWER_PATIENCE)).await?;
            if !request.keep {
                return Ok(());
            }
        }
    }

    /// Asks the shard for a page and writes it.
    async fn answer(&self, id: ConnId, conn: &mut Conn, inbox: &Inbox, request: &Request<'_>) -> std::io::Result<()> {
        let slot = Rc::new(Slot::default());
        self.0.waiting.borrow_mut().insert(id, slot.clone());
        inbox.push(Event::Http { conn: id, target: request.target.to_owned() });
        slot.ready.wait().await;
        let Some((status, content_type, body)) = slot.reply.borrow_mut().take() else { return Ok(()) };
        let connection = if request.keep { "keep-alive" } else { "close" };
        // Dashboards in browsers read the pages from elsewhere, as on the peer.
        let open = if content_type == JSON { "Access-Control-Allow-Origin: *\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status} {}\r\n{open}Content-Type: {content_type}\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            reason(status),
            body.len()
        );
        let body = if request.method == "HEAD" { Bytes::new() } else { body };
        conn.write_parts(&[Bytes::from(head), body]).await
    }
}

enum Head {
    Request(String),
    TooLarge,
    End,
}

async fn read_head(conn: &mut Conn, gathered: &mut BytesMut) -> std::io::Result<Head> {
    loop {
        if let Some(at) = find_end(gathered) {
            let head = gathered.split_to(at + 4);
            return Ok(Head::Request(String::from_utf8_lossy(&head).into_owned()));
        }
        if gathered.len() > HEAD_BYTES_MAX {
            return Ok(Head::TooLarge);
        }
        let data = conn.read().await?;
        if data.is_empty() {
            return Ok(Head::End);
        }
        gathered.extend_from_slice(&data);
    }
}

fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n")
}

async fn too_late<T>(after: Duration) -> std::io::Result<T> {
    Timer::new(after).await;
    Err(std::io::ErrorKind::TimedOut.into())
}

async fn refuse(conn: &mut Conn, status: u16, text: &str) -> std::io::Result<()> {
    let body = format!("{status} {text}");
    let head = format!(
        "HTTP/1.1 {body}\r\nContent-Type: {TEXT}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    conn.write_all(head.as_bytes()).await
}

struct Request<'a> {
    method: &'a str,
    target: &'a str,
    keep: bool,
}

impl<'a> Request<'a> {
    fn parse(head: &'a str) -> Option<Request<'a>> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        // A proxy may name the whole URL.
        let target = match target.strip_prefix("http://") {
            Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => target,
        };
        if words.next().is_some() || !target.starts_with('/') {
            return None;
        }
        let mut keep = match version {
            "HTTP/1.1" => true,
            "HTTP/1.0" => false,
            _ => return None,
        };
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':')?;
            if name.eq_ignore_ascii_case("connection") {
                keep = !value.trim().eq_ignore_ascii_case("close");
            }
            // Bodies are not read, so whatever brings one ends the connection.
            let body = name.eq_ignore_ascii_case("content-length") && value.trim() != "0";
            keep &= !body && !name.eq_ignore_ascii_case("transfer-encoding");
        }
        Some(Request { method, target, keep })
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_refusals() {
        let request = Request::parse("GET /varz?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!((request.method, request.target, request.keep), ("GET", "/varz?x=1", true));
        for (whole, target) in [("http://a:1/varz?x=1", "/varz?x=1"), ("http://a", "/")] {
            let head = format!("GET {whole} HTTP/1.1\r\n\r\n");
            assert_eq!(Request::parse(&head).unwrap().target, target);
        }
        assert!(!Request::parse("GET / HTTP/1.1\r\nconnection: Close\r\n\r\n").unwrap().keep);
        assert!(!Request::parse("GET / HTTP/1.0\r\n\r\n").unwrap().keep);
        assert!(!Request::parse("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n").unwrap().keep);
        for bad in
            ["", "GET", "GET /", "GET x HTTP/1.1\r\n\r\n", "GET / HTTP/2\r\n\r\n", "GET / HTTP/1.1\r\nnocolon\r\n\r\n"]
        {
            assert!(Request::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn no_change_of_bytes_makes_a_request_panic() {
        let seed = b"GET /varz?subs=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = move |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % n as u64) as usize
        };
        let (mut read, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let mut bytes = seed.to_vec();
            for _ in 0..1 + draw(4) {
                let at = draw(bytes.len());
                match draw(4) {
                    0 => bytes[at] = b" \r\n:/\0\xff?"[draw(8)],
                    1 => bytes.insert(at, b" \r\n:/\0\xff?"[draw(8)]),
                    2 => bytes.truncate(at + 1),
                    _ if bytes.len() > 1 => drop(bytes.remove(at)),
                    _ => {}
                }
            }
            let Some(end) = find_end(&bytes) else { continue };
            let head = String::from_utf8_lossy(&bytes[..end + 4]).into_owned();
            let counter = if Request::parse(&head).is_some() { &mut read } else { &mut refused };
            *counter += 1;
        }
        assert!(read > 500 && refused > 500, "{read} read, {refused} refused");
    }
}
