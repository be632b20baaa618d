//! Reading single messages and batches: `STREAM.MSG.GET`, which only the leader answers, in JSON, and `DIRECT.GET`,
//! which any replica answers, in headers. Follows `stream.go` (`getDirectRequest`, `getDirectMulti`) and ADR-31.
//!
//! Which messages are meant is decided here from the index alone; the hub reads them and [`render()`] makes each an
//! answer. A message that went away meanwhile is answered as not found.

use std::collections::VecDeque;

use bytes::Bytes;
use jiff::Timestamp;
use net::client::headers::{Builder, no_responders};
use serde::{Deserialize, Serialize};

use super::call::{Call, PREFIX};
use super::errors::{self, ApiError};
use super::facts::Facts;
use super::render;
use super::request;
use super::verdict::{InBatch, Read, Render, StreamVerdict};
use crate::ids::Seq;
use crate::stream::info::time_text;
use crate::stream::{Filters, StoredMessage, Stream};

/// Messages that one batch answers with at most: one turn's worth of reading. A client sees by `Nats-Num-Pending` that
/// there are more.
const BATCH_MESSAGES_MAX: usize = 4096;
/// Bytes after which a batch ends when the request names no bound (the peer takes `max_pending`, 64 MiB).
const BATCH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Subjects that `multi_last` may match (peer: 1024).
const MULTI_LAST_MAX: usize = 1024;

/// The body of both kinds of get.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Get {
    seq: Seq,
    last_by_subj: String,
    next_by_subj: String,
    batch: i64,
    max_bytes: i64,
    start_time: Option<Time>,
    multi_last: Vec<String>,
    up_to_seq: Seq,
    up_to_time: Option<Time>,
    no_hdr: bool,
}

/// A point in time, nanoseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Time(pub(super) i64);

impl TryFrom<String> for Time {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Time, jiff::Error> {
        let ns = text.parse::<Timestamp>()?.as_nanosecond();
        let ns = ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Ok(Time(i64::try_from(ns).expect("clamped to 64 bits")))
    }
}

impl Get {
    fn asks_nothing(&self) -> bool {
        self.multi_last.is_empty() && self.names_no_message()
    }

    /// Apart from `multi_last`, which only direct gets know.
    fn names_no_message(&self) -> bool {
        self.seq == 0 && self.last_by_subj.is_empty() && self.next_by_subj.is_empty() && self.start_time.is_none()
    }

    /// Two ways of naming a message at once.
    fn conflicts(&self) -> bool {
        let (last, next) = (!self.last_by_subj.is_empty(), !self.next_by_subj.is_empty());
        let timed = self.start_time.is_some();
        self.seq > 0 && (last || timed) || last && (timed || next)
    }

    /// Where a search begins.
    fn start(&self, stream: &Stream) -> Seq {
        self.start_time.map_or(self.seq, |Time(ns)| stream.seq_at_time(ns))
    }

    /// The one message that is meant.
    fn find(&self, stream: &Stream) -> Option<Seq> {
        if !self.last_by_subj.is_empty() {
            return last_of(stream, &self.last_by_subj, stream.last_seq());
        }
        let start = self.start(stream);
        if !self.next_by_subj.is_empty() {
            return stream.next_match(start, &filter_of(&self.next_by_subj));
        }
        stream.locate(start).map(|_| start)
    }
}

/// `STREAM.MSG.GET`.
pub(super) fn get(facts: &Facts, stream: &Stream, call: Call, body: &[u8]) -> StreamVerdict {
    match find_for_json(facts, stream, body) {
        Ok((seq, how)) => StreamVerdict::Read(Read { messages: VecDeque::from([(seq, how)]), end: None }),
        Err(error) => StreamVerdict::Answer(render::error(call, &error)),
    }
}

/// What is wrong with a `STREAM.MSG.GET`, whatever stream it is about.
pub(super) fn misread(body: &[u8], strict: bool) -> Option<ApiError> {
    read_for_json(body, strict).err()
}

fn read_for_json(body: &[u8], strict: bool) -> Result<Get, ApiError> {
    if request::is_empty(body) {
        return Err(errors::BAD_REQUEST);
    }
    let get: Get = request::required(body, strict)?;
    let batched = get.batch > 0 || get.max_bytes > 0;
    if batched || get.names_no_message() || get.conflicts() {
        return Err(errors::BAD_REQUEST);
    }
    Ok(get)
}

fn find_for_json(facts: &Facts, stream: &Stream, body: &[u8]) -> Result<(Seq, Render), ApiError> {
    let get = read_for_json(body, facts.strict())?;
    let seq = get.find(stream).ok_or(errors::NO_MESSAGE_FOUND)?;
    Ok((seq, Render::Json { no_headers: get.no_hdr }))
}

/// `DIRECT.GET.<stream>` and, with a subject behind it, the last message of that subject.
pub(super) fn direct(stream: &Stream, subject: Option<&str>, body: &[u8]) -> StreamVerdict {
    // Nobody listens on these subjects of a stream that does not allow it.
    if !stream.config().allow_direct {
        let dot = if subject.is_some() { "." } else { "" };
        let (name, last) = (&stream.config().name, subject.unwrap_or_default());
        let asked = format!("{PREFIX}DIRECT.GET.{name}{dot}{last}");
        return StreamVerdict::Status { headers: no_responders(asked.as_bytes()) };
    }
    direct_read(stream, subject, body).map_or_else(|headers| StreamVerdict::Status { headers }, StreamVerdict::Read)
}

/// The error is the status to send.
fn direct_read(stream: &Stream, subject: Option<&str>, body: &[u8]) -> Result<Read, Bytes> {
    let refuse = |text: &str| Err(render::status(408, text));
    if subject.is_none() && body.is_empty() {
        return refuse("Empty Request");
    }
    let blank = !body.is_empty() && body.trim_ascii().is_empty();
    let get = if body.is_empty() { Ok(Get::default()) } else { request::required::<Get>(body, false) };
    let Some(mut get) = get.ok().filter(|_| !blank) else { return refuse("Malformed Request") };
    if let Some(subject) = subject {
        if !get.asks_nothing() || get.batch > 0 || get.up_to_seq > 0 || get.up_to_time.is_some() {
            return refuse("Bad Request");
        }
        get.last_by_subj = subject.to_owned();
    }
    if get.asks_nothing() {
        return refuse("Empty Request");
    }
    let multi = !get.multi_last.is_empty();
    let last = !get.last_by_subj.is_empty();
    let bounded_twice = get.up_to_seq > 0 && get.up_to_time.is_some();
    if get.conflicts() || bounded_twice || last && (get.batch > 0 || multi) || multi && !get.next_by_subj.is_empty() {
        return refuse("Bad Request");
    }
    if multi {
        return multi_last(stream, &get);
    }
    if get.batch != 0 {
        return batch(stream, &get);
    }
    let Some(seq) = get.find(stream) else { return Err(not_found()) };
    let how = Render::Direct { no_headers: get.no_hdr, batch: None };
    Ok(Read { messages: VecDeque::from([(seq, how)]), end: None })
}

/// Messages from a place on, in order.
fn batch(stream: &Stream, get: &Get) -> Result<Read, Bytes> {
    let filters = if get.next_by_subj.is_empty() { Filters::all() } else { filter_of(&get.next_by_subj) };
    let mut from = get.start(stream);
    let mut pending = stream.count_from(from, &filters);
    let wanted = usize::try_from(get.batch).unwrap_or(0).min(BATCH_MESSAGES_MAX);
    let mut part = Part::new(get, wanted);
    while !part.is_full()
        && let Some(seq) = stream.next_match(from, &filters)
    {
        pending = pending.saturating_sub(1);
        part.push(stream, seq, pending);
        from = seq + 1;
    }
    if wanted > 0 && part.messages.is_empty() {
        return Err(not_found());
    }
    let end = Builder::status(204, "EOB")
        .add("Nats-Num-Pending", pending.to_string())
        .add("Nats-Last-Sequence", part.last_seq.to_string());
    Ok(Read { messages: part.messages, end: Some(end.build()) })
}

/// The last message of every subject that matches, as of a sequence or a time.
fn multi_last(stream: &Stream, get: &Get) -> Result<Read, Bytes> {
    let upto = match get.up_to_time {
        Some(Time(ns)) => stream.seq_at_time(ns).saturating_sub(1),
        None if get.up_to_seq > 0 => get.up_to_seq,
        None => stream.last_seq(),
    };
    if get.up_to_time.is_some() && upto < stream.first_seq() {
        return Err(render::status(404, "No Results"));
    }
    let filters = Filters::new(get.multi_last.iter().map(|one| Bytes::copy_from_slice(one.as_bytes())));
    let seqs: Vec<Seq> = last_upto(stream, &filters, upto).into_iter().filter(|seq| *seq >= get.seq).collect();
    if seqs.is_empty() {
        return Err(render::status(404, "No Results"));
    }
    if seqs.len() > MULTI_LAST_MAX {
        return Err(render::status(413, "Too Many Results"));
    }
    let wanted = usize::try_from(get.batch).ok().filter(|batch| *batch > 0).unwrap_or(usize::MAX);
    // The peer sends headers here whatever is asked: they say which subject a message is of.
    let mut part = Part { no_headers: false, ..Part::new(get, wanted) };
    let mut pending = seqs.len() as u64;
    for seq in seqs {
        if part.is_full() {
            break;
        }
        pending -= 1;
        part.push(stream, seq, pending);
    }
    let end = Builder::status(204, "EOB")
        .add("Nats-Num-Pending", pending.to_string())
        .add("Nats-Last-Sequence", part.last_seq.to_string())
        .add("Nats-UpTo-Sequence", upto.to_string());
    Ok(Read { messages: part.messages, end: Some(end.build()) })
}

/// Ascending. O(subjects), and for an earlier `upto` a search per subject whose newest message is later.
fn last_upto(stream: &Stream, filters: &Filters, upto: Seq) -> Vec<Seq> {
    let newest = stream.last_per_subject(filters);
    if upto >= stream.last_seq() {
        return newest;
    }
    let mut seqs: Vec<Seq> = newest
        .into_iter()
        .filter_map(|seq| {
            if seq <= upto {
                return Some(seq);
            }
            let subject = stream.subject_of(seq)?;
            stream.last_match(upto, &Filters::new([subject]))
        })
        .collect();
    seqs.sort_unstable();
    seqs
}

/// A batch as it grows.
struct Part {
    messages: VecDeque<(Seq, Render)>,
    wanted: usize,
    bytes: u64,
    bytes_max: u64,
    last_seq: Seq,
    no_headers: bool,
}

impl Part {
    fn new(get: &Get, wanted: usize) -> Part {
        let bytes_max = u64::try_from(get.max_bytes).ok().filter(|max| *max > 0).unwrap_or(BATCH_BYTES_MAX);
        Part { messages: VecDeque::new(), wanted, bytes: 0, bytes_max, last_seq: 0, no_headers: get.no_hdr }
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= self.wanted || self.bytes >= self.bytes_max
    }

    fn push(&mut self, stream: &Stream, seq: Seq, pending: u64) {
        let batch = Some(InBatch { pending, last_seq: self.last_seq });
        self.messages.push_back((seq, Render::Direct { no_headers: self.no_headers, batch }));
        self.bytes += u64::from(stream.size_of(seq).unwrap_or(0));
        self.last_seq = seq;
    }
}

/// The answer that a message is: headers and payload.
pub fn render(
    _facts: &Facts,
    stream: &Stream,
    seq: Seq,
    how: Render,
    message: &StoredMessage,
) -> (Option<Bytes>, Bytes) {
    let time = time_text(stream.time_of(seq).unwrap_or(0));
    match how {
        Render::Json { no_headers } => (None, as_json(seq, &time, no_headers, message)),
        Render::Direct { no_headers: true, .. } => (None, message.payload.clone()),
        Render::Direct { batch, .. } => {
            let headers = direct_headers(&stream.config().name, seq, &time, batch, message);
            (Some(headers), message.payload.clone())
        }
    }
}

/// The answer for a message that was there and is gone.
pub fn lost(how: Render) -> (Option<Bytes>, Bytes) {
    match how {
        Render::Json { .. } => (None, render::error(Call::MessageGet { stream: "" }, &errors::NO_MESSAGE_FOUND)),
        Render::Direct { .. } => (Some(not_found()), Bytes::new()),
    }
}

fn as_json(seq: Seq, time: &str, no_headers: bool, message: &StoredMessage) -> Bytes {
    #[derive(Serialize)]
    struct Answer<'a> {
        message: Message<'a>,
    }
    #[derive(Serialize)]
    struct Message<'a> {
        subject: &'a str,
        seq: Seq,
        #[serde(skip_serializing_if = "Option::is_none")]
        hdrs: Option<String>,
        #[serde(skip_serializing_if = "String::is_empty")]
        data: String,
        time: &'a str,
    }
    let hdrs = message.headers.as_ref().filter(|_| !no_headers).map(|block| base64(block));
    let subject = String::from_utf8_lossy(&message.subject);
    let message = Message { subject: &subject, seq, hdrs, data: base64(&message.payload), time };
    render::typed(Call::MessageGet { stream: "" }, &Answer { message })
}

fn direct_headers(name: &str, seq: Seq, time: &str, batch: Option<InBatch>, message: &StoredMessage) -> Bytes {
    let block = message.headers.as_deref().unwrap_or(b"NATS/1.0\r\n\r\n");
    let mut headers = Vec::with_capacity(block.len() + 160);
    headers.extend_from_slice(block.strip_suffix(b"\r\n").unwrap_or(block));
    let mut line = |name: &str, value: &[u8]| {
        headers.extend_from_slice(name.as_bytes());
        headers.extend_from_slice(b": ");
        headers.extend_from_slice(value);
        headers.extend_from_slice(b"\r\n");
    };
    line("Nats-Stream", name.as_bytes());
    line("Nats-Subject", &message.subject);
    line("Nats-Sequence", seq.to_string().as_bytes());
    line("Nats-Time-Stamp", time.as_bytes());
    if let Some(InBatch { pending, last_seq }) = batch {
        line("Nats-Num-Pending", pending.to_string().as_bytes());
        line("Nats-Last-Sequence", last_seq.to_string().as_bytes());
    }
    headers.extend_from_slice(b"\r\n");
    headers.into()
}

fn not_found() -> Bytes {
    render::status(404, "Message Not Found")
}

fn filter_of(subject: &str) -> Filters {
    Filters::new([Bytes::copy_from_slice(subject.as_bytes())])
}

fn last_of(stream: &Stream, subject: &str, upto: Seq) -> Option<Seq> {
    stream.last_match(upto, &filter_of(subject))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(if digit <= three.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("hello0", "aGVsbG8w")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_headers_of_a_direct_get_follow_the_messages_own() {
        let message = StoredMessage {
            subject: Bytes::from_static(b"foo.h"),
            headers: Some(Bytes::from_static(b"NATS/1.0\r\nA: b\r\n\r\n")),
            payload: Bytes::from_static(b"x"),
        };
        let time = "2026-11-21T10:39:16.325065542Z";
        assert_eq!(
            direct_headers("S", 4, time, Some(InBatch { pending: 0, last_seq: 1 }), &message).as_ref(),
            b"NATS/1.0\r\nA: b\r\nNats-Stream: S\r\nNats-Subject: foo.h\r\nNats-Sequence: 4\r\n\
              Nats-Time-Stamp: 2026-11-21T10:39:16.325065542Z\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 1\r\n\r\n"
        );
        assert_eq!(
            as_json(4, time, false, &message).as_ref(),
            br#"{"type":"io.nats.jetstream.api.v1.stream_msg_get_response","message":{"subject":"foo.h","seq":4,"hdrs":"TkFUUy8xLjANCkE6IGINCg0K","data":"eA==","time":"2026-11-21T10:39:16.325065542Z"}}"#
        );
    }
}
