//! The JSON that a stream answers with: publish acknowledgements, and the results of deletes and purges.
//!
//! Acknowledgements are built from a prefix that is made once per configuration, with the peer's spacing, byte by byte.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};
use serde::Serialize;

use super::info::{TYPE_MSG_DELETE, TYPE_PURGE, TYPE_UPDATE};
use crate::api::errors::ApiError;
use crate::ids::Seq;

/// The start of every positive acknowledgement of one stream: `{"stream":"S","domain":"hub","seq":`.
#[derive(Debug)]
pub(super) struct Acks {
    prefix: Vec<u8>,
    name: String,
    /// Acknowledgements are cut from here: one allocation for many.
    arena: BytesMut,
}

/// Bytes of acknowledgements that are allocated together. One that is still queued somewhere keeps its neighbours.
const ARENA: usize = 16 * 1024;

impl Acks {
    pub(super) fn new(name: &str, domain: Option<&str>) -> Acks {
        let name = serde_json::Value::from(name).to_string();
        let prefix = match domain {
            Some(domain) => {
                format!("{{\"stream\":{name},\"domain\":{},\"seq\":", serde_json::Value::from(domain))
            }
            None => format!("{{\"stream\":{name},\"seq\":"),
        };
        Acks { prefix: prefix.into_bytes(), name, arena: BytesMut::new() }
    }

    pub(super) fn stored(&mut self, seq: Seq) -> Bytes {
        self.with(seq, b"}")
    }

    /// The message was stored before; the blank is the peer's.
    pub(super) fn duplicate(&mut self, seq: Seq) -> Bytes {
        self.with(seq, b",\"duplicate\": true}")
    }

    pub(super) fn refused(&self, error: &ApiError) -> Bytes {
        let error = ErrorObject::from(error);
        let error = serde_json::to_string(&error).expect("two numbers and a text");
        format!("{{\"error\":{error},\"stream\":{},\"seq\":0}}", self.name).into()
    }

    fn with(&mut self, seq: Seq, end: &[u8]) -> Bytes {
        let len_max = self.prefix.len() + 20 + end.len();
        if self.arena.capacity() < len_max {
            self.arena = BytesMut::with_capacity(ARENA.max(len_max));
        }
        self.arena.extend_from_slice(&self.prefix);
        // Writing numbers into memory that grows cannot fail.
        let _ = write!(self.arena, "{seq}");
        self.arena.extend_from_slice(end);
        self.arena.split().freeze()
    }
}

/// An API error inside an answer.
#[derive(Debug, Serialize)]
pub struct ErrorObject<'a> {
    code: u16,
    err_code: u16,
    description: &'a str,
}

impl<'a> From<&'a ApiError> for ErrorObject<'a> {
    fn from(error: &'a ApiError) -> Self {
        ErrorObject { code: error.code, err_code: error.err_code, description: &error.description }
    }
}

#[derive(Serialize)]
struct Outcome<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorObject<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    purged: Option<u64>,
}

impl Outcome<'_> {
    fn json(&self) -> Bytes {
        serde_json::to_vec(self).expect("numbers and texts").into()
    }
}

/// The answer to STREAM.MSG.DELETE.
pub(super) fn deleted(result: Result<(), &ApiError>) -> Bytes {
    let error = result.err().map(ErrorObject::from);
    Outcome { kind: TYPE_MSG_DELETE, error, success: result.is_ok(), purged: None }.json()
}

/// The answer to STREAM.PURGE, with the number of messages removed.
pub(super) fn purged(result: Result<u64, &ApiError>) -> Bytes {
    let error = result.err().map(ErrorObject::from);
    Outcome { kind: TYPE_PURGE, error, success: result.is_ok(), purged: Some(result.unwrap_or(0)) }.json()
}

/// The refusal of STREAM.UPDATE. What it answers when it succeeds holds more than a stream knows of itself.
pub(super) fn not_updated(error: &ApiError) -> Bytes {
    Outcome { kind: TYPE_UPDATE, error: Some(error.into()), success: false, purged: None }.json()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::errors::{BAD_REQUEST, SEQUENCE_NOT_FOUND, STREAM_NOT_MATCH};

    fn text(bytes: Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// The expected texts were recorded from nats-server 2.15.1.
    #[test]
    fn answers_are_those_of_the_peer_byte_by_byte() {
        let mut acks = Acks::new("S", Some("hub"));
        assert_eq!(text(acks.stored(1)), r#"{"stream":"S","domain":"hub","seq":1}"#);
        assert_eq!(text(acks.duplicate(2)), r#"{"stream":"S","domain":"hub","seq":2,"duplicate": true}"#);
        assert_eq!(text(Acks::new("S", None).stored(1)), r#"{"stream":"S","seq":1}"#);
        assert_eq!(
            text(acks.refused(&STREAM_NOT_MATCH)),
            r#"{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"},"stream":"S","seq":0}"#
        );
        assert_eq!(
            text(deleted(Ok(()))),
            r#"{"type":"io.nats.jetstream.api.v1.stream_msg_delete_response","success":true}"#
        );
        assert_eq!(
            text(deleted(Err(&SEQUENCE_NOT_FOUND.with("seq", 2)))),
            r#"{"type":"io.nats.jetstream.api.v1.stream_msg_delete_response","error":{"code":400,"err_code":10043,"description":"sequence 2 not found"}}"#
        );
        assert_eq!(
            text(purged(Ok(1))),
            r#"{"type":"io.nats.jetstream.api.v1.stream_purge_response","success":true,"purged":1}"#
        );
        assert_eq!(
            text(purged(Err(&BAD_REQUEST))),
            r#"{"type":"io.nats.jetstream.api.v1.stream_purge_response","error":{"code":400,"err_code":10003,"description":"bad request"},"purged":0}"#
        );
    }
}
