//! Writes the client protocol: each function appends one operation to a buffer that is sent once per turn.
//!
//! Numbers are formatted in place and nothing else is allocated. Subjects, replies and ids are written as given: they
//! must hold no blank and no line break, which the parser and the subject check saw to on the way in.
//!
//! A payload above [`COPY_BYTES_MAX`] should not be copied: write its line with [`msg_line`], send the payload's own
//! bytes, then [`END`].

use bytes::{BufMut, BytesMut};

/// The end of every line and payload.
pub const END: &[u8] = b"\r\n";

/// Payloads up to here are cheaper to copy into the connection's buffer than to send as a part of their own.
pub const COPY_BYTES_MAX: usize = 4096;

/// A decimal u64 has at most twenty digits.
const DIGITS_MAX: usize = 20;

/// One message to a subscriber or, without `sid`, the parts of a publish.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub subject: &'a [u8],
    pub reply: Option<&'a [u8]>,
    /// A whole header block, closing blank line included. Empty counts as none.
    pub headers: Option<&'a [u8]>,
    pub payload: &'a [u8],
}

impl Message<'_> {
    fn headers_len(&self) -> usize {
        self.headers.map_or(0, <[u8]>::len)
    }
}

/// MSG, or HMSG when there are headers, with its payload.
pub fn msg(out: &mut BytesMut, sid: &[u8], message: &Message<'_>) {
    let size = message.headers_len() + message.payload.len();
    out.reserve(message.subject.len() + sid.len() + message.reply.map_or(0, <[u8]>::len) + size + 2 * DIGITS_MAX + 16);
    msg_line(out, sid, message.subject, message.reply, message.headers_len(), size);
    body(out, message);
}

/// The line of a MSG, or of an HMSG when `headers_len` is not 0. `size` counts headers and payload. Headers, payload
/// and [`END`] must follow it on the wire.
pub fn msg_line(out: &mut BytesMut, sid: &[u8], subject: &[u8], reply: Option<&[u8]>, headers_len: usize, size: usize) {
    out.put_slice(if headers_len > 0 { b"HMSG " } else { b"MSG " });
    out.put_slice(subject);
    out.put_u8(b' ');
    out.put_slice(sid);
    sizes(out, reply, headers_len, size);
}

/// PUB, or HPUB when there are headers, with its payload.
pub fn publish(out: &mut BytesMut, message: &Message<'_>) {
    let size = message.headers_len() + message.payload.len();
    out.reserve(message.subject.len() + message.reply.map_or(0, <[u8]>::len) + size + 2 * DIGITS_MAX + 16);
    publish_line(out, message.subject, message.reply, message.headers_len(), size);
    body(out, message);
}

/// The line of a PUB, or of an HPUB when `headers_len` is not 0; see [`msg_line`].
pub fn publish_line(out: &mut BytesMut, subject: &[u8], reply: Option<&[u8]>, headers_len: usize, size: usize) {
    out.put_slice(if headers_len > 0 { b"HPUB " } else { b"PUB " });
    out.put_slice(subject);
    sizes(out, reply, headers_len, size);
}

/// SUB
pub fn sub(out: &mut BytesMut, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
    out.put_slice(b"SUB ");
    out.put_slice(subject);
    out.put_u8(b' ');
    if let Some(queue) = queue {
        out.put_slice(queue);
        out.put_u8(b' ');
    }
    out.put_slice(sid);
    out.put_slice(END);
}

/// UNSUB, at once or after `max` messages.
pub fn unsub(out: &mut BytesMut, sid: &[u8], max: Option<u64>) {
    out.put_slice(b"UNSUB ");
    out.put_slice(sid);
    if let Some(max) = max {
        out.put_u8(b' ');
        decimal(out, max);
    }
    out.put_slice(END);
}

/// INFO; the peer writes a blank before the line's end, and so do we.
pub fn info(out: &mut BytesMut, json: &[u8]) {
    out.put_slice(b"INFO ");
    out.put_slice(json);
    out.put_slice(b" \r\n");
}

/// CONNECT
pub fn connect(out: &mut BytesMut, json: &[u8]) {
    out.put_slice(b"CONNECT ");
    out.put_slice(json);
    out.put_slice(END);
}

/// PING
pub fn ping(out: &mut BytesMut) {
    out.put_slice(b"PING\r\n");
}

/// PONG
pub fn pong(out: &mut BytesMut) {
    out.put_slice(b"PONG\r\n");
}

/// +OK
pub fn ok(out: &mut BytesMut) {
    out.put_slice(b"+OK\r\n");
}

/// -ERR with the quotes around the text. Line breaks in it (a subject that is quoted back, say) become blanks.
pub fn err(out: &mut BytesMut, text: &str) {
    out.put_slice(b"-ERR '");
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.put_slice(b"'\r\n");
}

/// A decimal number.
pub fn decimal(out: &mut BytesMut, mut value: u64) {
    let mut digits = [0u8; DIGITS_MAX];
    let mut start = DIGITS_MAX;
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.put_slice(&digits[start..]);
}

/// ` [reply] [headers] size\r\n`
fn sizes(out: &mut BytesMut, reply: Option<&[u8]>, headers_len: usize, size: usize) {
    out.put_u8(b' ');
    if let Some(reply) = reply.filter(|reply| !reply.is_empty()) {
        out.put_slice(reply);
        out.put_u8(b' ');
    }
    if headers_len > 0 {
        decimal(out, headers_len as u64);
        out.put_u8(b' ');
    }
    decimal(out, size as u64);
    out.put_slice(END);
}

fn body(out: &mut BytesMut, message: &Message<'_>) {
    if let Some(headers) = message.headers {
        out.put_slice(headers);
    }
    out.put_slice(message.payload);
    out.put_slice(END);
}

#[cfg(test)]
mod tests {
    use super::super::op::Op;
    use super::super::parse::{Limits, Parser, Role, Step};
    use super::*;
    use crate::dice::Dice;
    use bytes::Bytes;

    fn written(write: impl FnOnce(&mut BytesMut)) -> Bytes {
        let mut out = BytesMut::new();
        write(&mut out);
        out.freeze()
    }

    fn read(role: Role, wire: &Bytes) -> Op {
        match Parser::new(role, Limits::default()).parse(wire) {
            Ok(Step::Op { op, consumed }) if consumed == wire.len() => op,
            other => panic!("{other:?} from {wire:?}"),
        }
    }

    #[test]
    fn each_operation_looks_as_the_protocol_says() {
        let message = Message { subject: b"a.b", reply: None, headers: None, payload: b"hi" };
        let full = Message { reply: Some(b"r"), headers: Some(b"NATS/1.0\r\n\r\n"), ..message };
        assert_eq!(written(|out| msg(out, b"7", &message)), "MSG a.b 7 2\r\nhi\r\n");
        assert_eq!(written(|out| msg(out, b"7", &full)), "HMSG a.b 7 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
        assert_eq!(written(|out| publish(out, &message)), "PUB a.b 2\r\nhi\r\n");
        assert_eq!(written(|out| publish(out, &full)), "HPUB a.b r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n");
        assert_eq!(written(|out| sub(out, b"a", None, b"1")), "SUB a 1\r\n");
        assert_eq!(written(|out| sub(out, b"a", Some(b"q"), b"1")), "SUB a q 1\r\n");
        assert_eq!(written(|out| unsub(out, b"1", None)), "UNSUB 1\r\n");
        assert_eq!(written(|out| unsub(out, b"1", Some(5))), "UNSUB 1 5\r\n");
        assert_eq!(written(|out| info(out, b"{}")), "INFO {} \r\n");
        assert_eq!(written(|out| connect(out, b"{}")), "CONNECT {}\r\n");
        assert_eq!(written(|out| err(out, "Stale Connection")), "-ERR 'Stale Connection'\r\n");
        assert_eq!(written(ping), "PING\r\n");
        assert_eq!(written(pong), "PONG\r\n");
        assert_eq!(written(ok), "+OK\r\n");
    }

    #[test]
    fn an_error_text_cannot_break_its_line() {
        assert_eq!(written(|out| err(out, "no \"a\r\nb\"")), "-ERR 'no \"a  b\"'\r\n");
    }

    #[test]
    fn decimals_are_right_at_every_length() {
        for value in [0, 9, 10, 99, 100, 4096, u32::MAX as u64, u64::MAX - 1, u64::MAX] {
            assert_eq!(written(|out| decimal(out, value)), value.to_string());
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut dice = Dice::new(11);
        for _ in 0..2_000 {
            let (reply_len, headers_len, payload_len) = (dice.below(3), dice.below(40), dice.below(200));
            let (reply, headers, payload) = (vec![b'r'; reply_len], dice.bytes(headers_len), dice.bytes(payload_len));
            let reply = (reply_len > 0).then_some(&reply[..]);
            let headers = (headers_len > 0).then_some(&headers[..]);
            let message = Message { subject: b"x.y", reply, headers, payload: &payload };
            let copy = |part: Option<&[u8]>| part.map(Bytes::copy_from_slice);
            let (subject, payload) = (Bytes::from_static(b"x.y"), Bytes::copy_from_slice(&payload));
            let sid = Bytes::from_static(b"12");
            let expected = Op::Msg {
                subject: subject.clone(),
                sid,
                reply: copy(reply),
                headers: copy(headers),
                payload: payload.clone(),
            };
            assert_eq!(read(Role::Client, &written(|out| msg(out, b"12", &message))), expected);
            let expected = Op::Pub { subject, reply: copy(reply), headers: copy(headers), payload };
            assert_eq!(read(Role::Server, &written(|out| publish(out, &message))), expected);
        }
    }
}
