//! Reads operations out of the bytes of one connection: in place, resumable, without allocating.
//!
//! The caller keeps the bytes that are not consumed yet and calls [`Parser::parse`] with all of them; the parser only
//! remembers how far it has looked, so that a line or a payload that arrives in many pieces is not read again from its
//! start. [`super::intake::Intake`] is that caller, ready made.
//!
//! ```text
//! PUB orders.eu reply 5\r\nhello\r\n
//! └┬┘ └───────── line ┘    └─┬─┘└┬┘     a line ends at \n (a \r before it is dropped), a payload must end in \r\n
//! verb, any case             payload
//! ```
//!
//! What is accepted, and what it is refused with, is what nats-server does: blanks are spaces and tabs in any number,
//! anything may follow PING, PONG and +OK up to the end of the line, CONNECT and INFO need no blank, a number has at
//! most nine digits. One difference: a carriage return or newline inside a subject is refused here, where the peer
//! would pass it on and break the line of whoever receives it.
//!
//! It does not check subjects, permissions or JSON, and it does not enforce that CONNECT comes first unless told.

use super::op::Op;
use bytes::Bytes;
use std::fmt;
use std::ops::Range;

/// A number of more digits is refused, as by the peer: 999,999,999 is above any payload that is ever allowed.
const NUMBER_DIGITS_MAX: usize = 9;

/// HMSG with a reply has the most arguments.
const ARGS_MAX: usize = 5;

/// Which end of the connection is reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads what clients send.
    Server,
    /// Reads what a server sends: for load generators, the lab and tests.
    Client,
}

/// What one connection may send; the server's configuration, or what the server announced in INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest argument part of a line, in bytes, without the verb (`max_control_line`).
    pub control_line_max: usize,
    /// Largest headers and payload together, in bytes (`max_payload`).
    pub payload_max: usize,
}

impl Default for Limits {
    /// The defaults of nats-server: 4 KiB and 1 MiB.
    fn default() -> Self {
        Limits { control_line_max: 4096, payload_max: 1024 * 1024 }
    }
}

/// What came out of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// One operation, made of the first `consumed` bytes of the input.
    Op { op: Op, consumed: usize },
    /// Call again with the same bytes and more after them, `at_least` in all (more than that is fine).
    NeedMore { at_least: usize },
}

/// Why the connection must be closed. Display is what nats-server writes (to the client where it tells it, else to
/// its log); [`ParseError::reply`] is the part that goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Not a verb that this end accepts, or a payload that does not end where its size says.
    UnknownOperation,
    /// The arguments of a line exceed `control_line_max`.
    ControlLineTooLong,
    /// The size on the line exceeds `payload_max`; known before any of the payload is read.
    PayloadTooLarge { size: usize, max: usize },
    /// The arguments of `verb` are wrong in number or form.
    Malformed { verb: &'static str, what: &'static str },
    /// HPUB on a connection that did not ask for headers.
    HeadersNotSupported,
    /// Something else than CONNECT came first where it must not (see [`Parser::set_connect_only`]).
    AuthorizationViolation,
}

impl ParseError {
    /// The text for `-ERR` before the connection closes, or `None` where the peer closes without a word.
    pub fn reply(&self) -> Option<&'static str> {
        match self {
            ParseError::UnknownOperation => Some("Unknown Protocol Operation"),
            ParseError::ControlLineTooLong => Some("maximum control line exceeded"),
            ParseError::PayloadTooLarge { .. } => Some("Maximum Payload Violation"),
            ParseError::AuthorizationViolation => Some("Authorization Violation"),
            ParseError::Malformed { .. } | ParseError::HeadersNotSupported => None,
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Malformed { verb, what } => write!(f, "{verb} parse error: {what}"),
            ParseError::HeadersNotSupported => f.write_str("message headers not supported"),
            other => f.write_str(other.reply().unwrap_or_default()),
        }
    }
}

impl std::error::Error for ParseError {}

/// The reading state of one connection. After an error it must not be used again.
#[derive(Debug)]
pub struct Parser {
    role: Role,
    limits: Limits,
    headers: bool,
    connect_only: bool,
    /// No newline in the input before this offset; 0 when nothing was looked at yet.
    scanned: usize,
    /// The line of a message whose payload is not complete yet.
    message: Option<Message>,
}

/// A message line, as offsets into the input.
#[derive(Debug)]
struct Message {
    subject: Range<usize>,
    /// Only in what a server sends.
    sid: Range<usize>,
    reply: Option<Range<usize>>,
    headers_len: usize,
    payload_start: usize,
    size: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Connect,
    Pub,
    Hpub,
    Sub,
    Unsub,
    Ping,
    Pong,
    Info,
    Ok,
    Err,
    Msg,
    Hmsg,
}

impl Verb {
    const fn name(self) -> &'static str {
        match self {
            Verb::Connect => "CONNECT",
            Verb::Pub => "PUB",
            Verb::Hpub => "HPUB",
            Verb::Sub => "SUB",
            Verb::Unsub => "UNSUB",
            Verb::Ping => "PING",
            Verb::Pong => "PONG",
            Verb::Info => "INFO",
            Verb::Ok => "+OK",
            Verb::Err => "-ERR",
            Verb::Msg => "MSG",
            Verb::Hmsg => "HMSG",
        }
    }

    fn malformed(self, what: &'static str) -> ParseError {
        ParseError::Malformed { verb: self.name(), what }
    }
}

impl Parser {
    /// A parser that takes headers and any first operation.
    pub fn new(role: Role, limits: Limits) -> Self {
        Parser { role, limits, headers: true, connect_only: false, scanned: 0, message: None }
    }

    /// New limits, for what is parsed from here on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Whether HPUB is allowed: the server offers headers and the client asked for them in CONNECT.
    pub fn set_headers(&mut self, headers: bool) {
        self.headers = headers;
    }

    /// While set, anything but CONNECT is refused at its first byte: a connection that must authenticate has no
    /// right to make the server buffer a payload.
    pub fn set_connect_only(&mut self, connect_only: bool) {
        self.connect_only = connect_only;
    }

    /// Whether a message line was read and its payload is being waited for.
    pub fn in_payload(&self) -> bool {
        self.message.is_some()
    }

    /// Reads the first operation of `input`. Between a `NeedMore` and the next call, bytes may only be added at the
    /// end; after an `Op` the next call starts behind the consumed bytes.
    pub fn parse(&mut self, input: &Bytes) -> Result<Step, ParseError> {
        if self.message.is_none() {
            let Some(verb) = self.verb(input)? else {
                return Ok(Step::NeedMore { at_least: input.len() + 1 });
            };
            let Some((line, next)) = self.line(verb, input)? else {
                return Ok(Step::NeedMore { at_least: input.len() + 1 });
            };
            self.scanned = 0;
            if let Some(op) = self.line_op(verb, input, line, next)? {
                return Ok(Step::Op { op, consumed: next });
            }
        }
        self.payload_op(input)
    }

    /// The verb at the start of the input, or `None` while it could still become one.
    fn verb(&self, input: &[u8]) -> Result<Option<Verb>, ParseError> {
        let Some(first) = input.first().map(u8::to_ascii_uppercase) else { return Ok(None) };
        if self.connect_only && first != b'C' {
            return Err(ParseError::AuthorizationViolation);
        }
        let second = input.get(1).map(u8::to_ascii_uppercase);
        let server = self.role == Role::Server;
        let verb = match (first, second) {
            (b'P', None) | (b'H', None) => return Ok(None),
            (b'P', Some(b'U')) if server => Verb::Pub,
            (b'P', Some(b'I')) => Verb::Ping,
            (b'P', Some(b'O')) => Verb::Pong,
            (b'H', _) if server => Verb::Hpub,
            (b'H', _) => Verb::Hmsg,
            (b'M', _) if !server => Verb::Msg,
            (b'S', _) if server => Verb::Sub,
            (b'U', _) if server => Verb::Unsub,
            (b'C', _) if server => Verb::Connect,
            (b'I', _) => Verb::Info,
            (b'+', _) => Verb::Ok,
            (b'-', _) => Verb::Err,
            _ => return Err(ParseError::UnknownOperation),
        };
        let name = verb.name().as_bytes();
        if input.iter().zip(name).any(|(byte, want)| byte.to_ascii_uppercase() != *want) {
            return Err(ParseError::UnknownOperation);
        }
        Ok((input.len() >= name.len()).then_some(verb))
    }

    /// The arguments behind the verb and the offset behind their newline, or `None` while the line is incomplete.
    fn line(&mut self, verb: Verb, input: &[u8]) -> Result<Option<(Range<usize>, usize)>, ParseError> {
        let Some(start) = self.line_start(verb, input)? else { return Ok(None) };
        // The first byte of the arguments is never taken for the end of the line: the peer reads it so.
        let from = match verb {
            Verb::Ping | Verb::Pong | Verb::Ok => start,
            _ => start + 1,
        };
        let from = from.max(self.scanned);
        let newline = input.get(from..).and_then(|rest| memchr::memchr(b'\n', rest)).map(|at| from + at);
        let stop = newline.unwrap_or(input.len());
        let returned = usize::from(stop > start && input.get(stop - 1) == Some(&b'\r'));
        let end = (stop - returned).max(start);
        if end - start > self.limits.control_line_max {
            return Err(ParseError::ControlLineTooLong);
        }
        self.scanned = from.max(stop);
        Ok(newline.map(|at| (start..end, at + 1)))
    }

    /// Where the arguments start, behind the blanks that must or may follow the verb; `None` when not there yet.
    fn line_start(&self, verb: Verb, input: &[u8]) -> Result<Option<usize>, ParseError> {
        let after = verb.name().len();
        let blanks = match verb {
            Verb::Ping | Verb::Pong | Verb::Ok => return Ok(Some(after)),
            _ => input.get(after..).unwrap_or_default().iter().take_while(|byte| is_blank(**byte)).count(),
        };
        if blanks > self.limits.control_line_max {
            return Err(ParseError::ControlLineTooLong);
        }
        let start = after + blanks;
        if start >= input.len() {
            return Ok(None);
        }
        if blanks == 0 && !matches!(verb, Verb::Connect | Verb::Info) {
            return Err(ParseError::UnknownOperation);
        }
        Ok(Some(start))
    }

    /// The operation of a complete line, or `None` with `self.message` set when a payload follows.
    fn line_op(
        &mut self,
        verb: Verb,
        input: &Bytes,
        line: Range<usize>,
        next: usize,
    ) -> Result<Option<Op>, ParseError> {
        Ok(Some(match verb {
            Verb::Ping => Op::Ping,
            Verb::Pong => Op::Pong,
            Verb::Ok => Op::Ok,
            Verb::Connect => Op::Connect { json: input.slice(line) },
            Verb::Info => Op::Info { json: input.slice(line) },
            Verb::Err => Op::Err { text: input.slice(line) },
            Verb::Sub => sub(input, line)?,
            Verb::Unsub => unsub(input, line)?,
            Verb::Pub | Verb::Hpub | Verb::Msg | Verb::Hmsg => {
                self.message = Some(self.message_line(verb, input, line, next)?);
                return Ok(None);
            }
        }))
    }

    /// `PUB subject [reply] size` · `HPUB subject [reply] headers size` · MSG and HMSG with a sid behind the subject.
    fn message_line(
        &self,
        verb: Verb,
        input: &[u8],
        line: Range<usize>,
        payload_start: usize,
    ) -> Result<Message, ParseError> {
        let with_headers = matches!(verb, Verb::Hpub | Verb::Hmsg);
        if with_headers && !self.headers {
            return Err(ParseError::HeadersNotSupported);
        }
        let with_sid = usize::from(matches!(verb, Verb::Msg | Verb::Hmsg));
        let fixed = 2 + with_sid + usize::from(with_headers);
        let args = Args::split(input, line);
        if args.line_break {
            return Err(verb.malformed("line break in an argument"));
        }
        if args.count != fixed && args.count != fixed + 1 {
            return Err(verb.malformed("wrong number of arguments"));
        }
        let size = number(&input[args.at(args.count - 1)]).ok_or(verb.malformed("bad or missing size"))?;
        let headers_len = match with_headers {
            true => number(&input[args.at(args.count - 2)]).ok_or(verb.malformed("bad or missing header size"))?,
            false => 0,
        };
        if headers_len > size {
            return Err(verb.malformed("header size larger than total size"));
        }
        if size > self.limits.payload_max {
            return Err(ParseError::PayloadTooLarge { size, max: self.limits.payload_max });
        }
        let reply = (args.count > fixed).then(|| args.at(1 + with_sid));
        Ok(Message { subject: args.at(0), sid: args.at(with_sid), reply, headers_len, payload_start, size })
    }

    /// The message whose line was read, once its payload is there.
    fn payload_op(&mut self, input: &Bytes) -> Result<Step, ParseError> {
        let Some(message) = &self.message else { return Ok(Step::NeedMore { at_least: input.len() + 1 }) };
        let end = message.payload_start + message.size;
        if input.get(end).is_some_and(|byte| *byte != b'\r') || input.get(end + 1).is_some_and(|byte| *byte != b'\n') {
            return Err(ParseError::UnknownOperation);
        }
        let consumed = end + 2;
        if input.len() < consumed {
            return Ok(Step::NeedMore { at_least: consumed });
        }
        let body = message.payload_start + message.headers_len;
        let subject = input.slice(message.subject.clone());
        let reply = message.reply.clone().map(|range| input.slice(range));
        let headers = (message.headers_len > 0).then(|| input.slice(message.payload_start..body));
        let payload = input.slice(body..end);
        let op = match self.role {
            Role::Server => Op::Pub { subject, reply, headers, payload },
            Role::Client => Op::Msg { subject, sid: input.slice(message.sid.clone()), reply, headers, payload },
        };
        self.message = None;
        Ok(Step::Op { op, consumed })
    }
}

/// `SUB subject [queue] sid`
fn sub(input: &Bytes, line: Range<usize>) -> Result<Op, ParseError> {
    let args = Args::split(input, line);
    if args.count != 2 && args.count != 3 {
        return Err(Verb::Sub.malformed("wrong number of arguments"));
    }
    let queue = (args.count == 3).then(|| input.slice(args.at(1)));
    Ok(Op::Sub { subject: input.slice(args.at(0)), queue, sid: input.slice(args.at(args.count - 1)) })
}

/// `UNSUB sid [max]`
fn unsub(input: &Bytes, line: Range<usize>) -> Result<Op, ParseError> {
    let args = Args::split(input, line);
    if args.count != 1 && args.count != 2 {
        return Err(Verb::Unsub.malformed("wrong number of arguments"));
    }
    // A bad number counts as none, and 0 as well: both end the subscription now.
    let max = if args.count == 2 { number(&input[args.at(1)]).filter(|max| *max > 0) } else { None };
    Ok(Op::Unsub { sid: input.slice(args.at(0)), max: max.map(|max| max as u64) })
}

/// The arguments of a line as ranges of the input.
struct Args {
    ranges: [(usize, usize); ARGS_MAX],
    /// May exceed `ARGS_MAX`: then there are too many for any verb, and only the first ones are kept.
    count: usize,
    /// A carriage return or newline stood among them.
    line_break: bool,
}

impl Args {
    fn split(input: &[u8], line: Range<usize>) -> Args {
        let mut args = Args { ranges: [(0, 0); ARGS_MAX], count: 0, line_break: false };
        let mut start = None;
        for (at, byte) in input[line.clone()].iter().enumerate() {
            // Nearly all bytes are above the blank: one comparison decides.
            if *byte > b' ' || !(is_blank(*byte) || matches!(byte, b'\r' | b'\n')) {
                start = start.or(Some(line.start + at));
                continue;
            }
            args.line_break |= !is_blank(*byte);
            if let Some(begun) = start.take() {
                args.push(begun, line.start + at);
            }
        }
        if let Some(begun) = start {
            args.push(begun, line.end);
        }
        args
    }

    fn push(&mut self, start: usize, end: usize) {
        if let Some(range) = self.ranges.get_mut(self.count) {
            *range = (start, end);
        }
        self.count += 1;
    }

    /// The n-th argument; the caller has checked `count`.
    fn at(&self, n: usize) -> Range<usize> {
        assert!(n < self.count && n < ARGS_MAX);
        self.ranges[n].0..self.ranges[n].1
    }
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// A decimal number of one to nine digits.
fn number(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > NUMBER_DIGITS_MAX || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

#[cfg(test)]
mod tests;
