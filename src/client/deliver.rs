//! What waits to be written to one connection.
//!
//! ```text
//!   queued: parts ─ parts ─ tail ──take()──► handed to the shell ──written()──► gone
//!   └─────────────────── pending ───────────────────┘   bounded by max_pending
//! ```
//!
//! Small payloads are copied into one growing buffer, larger ones stay slices of what was read. Everything of a turn
//! leaves in one write. Past its bound a connection is a slow consumer: the caller closes it, nothing is dropped in
//! between. Handed bytes without any progress for `write_deadline` are the other way to be slow.

use bytes::{Bytes, BytesMut};
use net::client::write;

use crate::route::Message;

/// The buffer for lines and small payloads grows by the need of a message and is given away every turn; it starts here
/// so that a handful of messages need one allocation.
const TAIL_BYTES: usize = 4096;

/// The outgoing side of one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    parts: Vec<Bytes>,
    tail: BytesMut,
    /// In `parts`.
    parts_len: usize,
    /// Handed to the shell and not written yet.
    handed: usize,
    /// When handed bytes last began to wait or made progress, microseconds.
    waiting_since: Option<u64>,
}

impl Outbox {
    /// One protocol line; the writer is one of [`net::client::write`].
    pub fn line(&mut self, write: impl FnOnce(&mut BytesMut)) {
        self.prepare();
        write(&mut self.tail);
    }

    /// One message; headers are left out for a client that does not know them.
    pub fn message(&mut self, sid: &[u8], message: &Message, with_headers: bool) {
        self.prepare();
        let headers = message.headers.as_ref().filter(|_| with_headers);
        let reply = message.reply.as_deref();
        if message.payload.len() <= write::COPY_BYTES_MAX {
            let headers = headers.map(|block| &block[..]);
            let whole = write::Message { subject: &message.subject, reply, headers, payload: &message.payload };
            write::msg(&mut self.tail, sid, &whole);
            return;
        }
        let headers_len = headers.map_or(0, Bytes::len);
        let size = headers_len + message.payload.len();
        write::msg_line(&mut self.tail, sid, &message.subject, reply, headers_len, size);
        if let Some(block) = headers {
            self.tail.extend_from_slice(block);
        }
        self.cut();
        self.parts_len += message.payload.len();
        self.parts.push(message.payload.clone());
        self.tail.extend_from_slice(write::END);
    }

    /// Bytes that have not reached the socket.
    pub fn pending(&self) -> usize {
        self.parts_len + self.tail.len() + self.handed
    }

    /// Whether there is something to hand over.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.tail.is_empty()
    }

    /// Everything that is queued, in order, for one write. True beside it when it is the first that waits, so that the
    /// write deadline must be watched from now on.
    pub fn take(&mut self, now_us: u64) -> (Vec<Bytes>, bool) {
        self.cut();
        self.handed += self.parts_len;
        self.parts_len = 0;
        let first = self.waiting_since.is_none();
        self.waiting_since.get_or_insert(now_us);
        (std::mem::take(&mut self.parts), first)
    }

    /// The shell wrote this many of the handed bytes.
    pub fn written(&mut self, now_us: u64, bytes: usize) {
        self.handed = self.handed.saturating_sub(bytes);
        self.waiting_since = (self.handed > 0).then_some(now_us);
    }

    /// Since when handed bytes wait without progress.
    pub fn waiting_since(&self) -> Option<u64> {
        self.waiting_since
    }

    /// Handed bytes that wait, for the log.
    pub fn handed(&self) -> usize {
        self.handed
    }

    /// Drops what is queued: nobody will read it.
    pub fn discard(&mut self) {
        self.parts.clear();
        self.parts_len = 0;
        self.tail.clear();
    }

    fn prepare(&mut self) {
        if self.tail.capacity() == 0 {
            self.tail.reserve(TAIL_BYTES);
        }
    }

    /// Closes the growing buffer as a part.
    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.parts_len += self.tail.len();
            self.parts.push(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: Bytes, headers: Option<&'static str>) -> Message {
        Message {
            subject: Bytes::from_static(b"a"),
            inbox: None,
            reply: None,
            headers: headers.map(|text| Bytes::from_static(text.as_bytes())),
            payload,
        }
    }

    #[test]
    fn small_messages_leave_as_one_part_and_large_payloads_as_they_are() {
        let mut out = Outbox::default();
        out.line(write::ping);
        out.message(b"1", &message(Bytes::from_static(b"hi"), None), true);
        let large = Bytes::from(vec![7; write::COPY_BYTES_MAX + 1]);
        out.message(b"2", &message(large.clone(), Some("NATS/1.0\r\n\r\n")), true);
        out.line(write::pong);
        let pending = out.pending();
        let (data, first) = out.take(5);
        assert!(first);
        assert_eq!(data.len(), 3);
        assert_eq!(data[1].as_ptr(), large.as_ptr());
        assert_eq!(data[0], "PING\r\nMSG a 1 2\r\nhi\r\nHMSG a 2 12 4109\r\nNATS/1.0\r\n\r\n");
        assert_eq!(data[2], "\r\nPONG\r\n");
        assert_eq!(data.iter().map(Bytes::len).sum::<usize>(), pending);
        assert_eq!(out.pending(), pending);
        assert!(out.is_empty());
    }

    #[test]
    fn headers_are_left_out_for_clients_that_do_not_know_them() {
        for size in [2, write::COPY_BYTES_MAX + 1] {
            let mut out = Outbox::default();
            out.message(b"1", &message(Bytes::from(vec![b'x'; size]), Some("NATS/1.0\r\n\r\n")), false);
            let (data, _) = out.take(0);
            assert!(data[0].starts_with(format!("MSG a 1 {size}\r\n").as_bytes()));
        }
    }

    #[test]
    fn the_deadline_starts_with_the_first_handed_byte_and_anew_with_progress() {
        let mut out = Outbox::default();
        out.line(write::ping);
        assert!(out.take(10).1);
        out.line(write::ping);
        assert!(!out.take(20).1);
        assert_eq!(out.waiting_since(), Some(10));
        out.written(30, 6);
        assert_eq!((out.waiting_since(), out.handed()), (Some(30), 6));
        out.written(40, 6);
        assert_eq!((out.waiting_since(), out.pending()), (None, 0));
        out.written(50, 99);
        assert_eq!(out.pending(), 0);
    }
}
