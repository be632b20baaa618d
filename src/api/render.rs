//! Answers as bytes: the `type` that each call's answer carries, errors, successes, and status headers.
//!
//! JSON is written as Go writes it, with `<`, `>` and `&` escaped, so that answers can be compared byte by byte with
//! the peer's. Clients read any JSON; the `type` alone must be right.

use bytes::Bytes;
use net::client::headers::Builder;
use serde::Serialize;

use super::call::Call;
use super::errors::{ApiError, REQUIRED_API_LEVEL};
use crate::consumer::info::NO_TIME;
use crate::stream::answer::ErrorObject;

/// The `type` of the answers to a call.
pub fn kind(call: Call) -> &'static str {
    match call {
        Call::AccountInfo => "io.nats.jetstream.api.v1.account_info_response",
        Call::StreamCreate { .. } => "io.nats.jetstream.api.v1.stream_create_response",
        Call::StreamUpdate { .. } => "io.nats.jetstream.api.v1.stream_update_response",
        Call::StreamInfo { .. } => "io.nats.jetstream.api.v1.stream_info_response",
        Call::StreamNames => "io.nats.jetstream.api.v1.stream_names_response",
        Call::StreamList => "io.nats.jetstream.api.v1.stream_list_response",
        Call::StreamDelete { .. } => "io.nats.jetstream.api.v1.stream_delete_response",
        Call::StreamPurge { .. } => "io.nats.jetstream.api.v1.stream_purge_response",
        Call::StreamStepdown { .. } => "io.nats.jetstream.api.v1.stream_leader_stepdown_response",
        Call::StreamPeerRemove { .. } => "io.nats.jetstream.api.v1.stream_remove_peer_response",
        Call::MessageGet { .. } | Call::DirectGet { .. } => "io.nats.jetstream.api.v1.stream_msg_get_response",
        Call::MessageDelete { .. } => "io.nats.jetstream.api.v1.stream_msg_delete_response",
        Call::ConsumerCreate { .. } | Call::ConsumerDurableCreate { .. } => {
            "io.nats.jetstream.api.v1.consumer_create_response"
        }
        Call::ConsumerInfo { .. } => "io.nats.jetstream.api.v1.consumer_info_response",
        Call::ConsumerNames { .. } => "io.nats.jetstream.api.v1.consumer_names_response",
        Call::ConsumerList { .. } => "io.nats.jetstream.api.v1.consumer_list_response",
        Call::ConsumerDelete { .. } => "io.nats.jetstream.api.v1.consumer_delete_response",
        Call::ConsumerPause { .. } => "io.nats.jetstream.api.v1.consumer_pause_response",
        Call::ConsumerStepdown { .. } => "io.nats.jetstream.api.v1.consumer_leader_stepdown_response",
        Call::MetaStepdown => "io.nats.jetstream.api.v1.meta_leader_stepdown_response",
        Call::ServerRemove => "io.nats.jetstream.api.v1.meta_server_remove_response",
        Call::ServerReadmit => "io.nats.jetstream.api.v1.meta_server_readmit_response",
        Call::ConsumerNext { .. } => SYSTEM,
        Call::Unsupported { what } => unsupported_kind(what),
    }
}

/// The `type` of answers that belong to no call.
const SYSTEM: &str = "io.nats.jetstream.api.v1.system_response";

/// The `type` of the answers that a client of a refused call expects.
fn unsupported_kind(what: &str) -> &'static str {
    match what {
        "priority groups" => "io.nats.jetstream.api.v1.consumer_unpin_response",
        "resetting a consumer" => "io.nats.jetstream.api.v1.consumer_reset_response",
        "stream backup" => "io.nats.jetstream.api.v1.stream_snapshot_response",
        "stream restore" => "io.nats.jetstream.api.v1.stream_restore_response",
        _ => SYSTEM,
    }
}

/// Fields that an error answer carries beside its `type` and `error`, as zeros.
#[derive(Default, Serialize)]
struct Zeros {
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purged: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    streams: Option<Option<[u8; 0]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumers: Option<[u8; 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_until: Option<&'static str>,
}

impl Zeros {
    fn of(call: Call) -> Zeros {
        let paged = Zeros { total: Some(0), offset: Some(0), limit: Some(0), ..Zeros::default() };
        match call {
            Call::StreamInfo { .. } => paged,
            Call::StreamPurge { .. } => Zeros { purged: Some(0), ..Zeros::default() },
            Call::StreamNames => Zeros { streams: Some(None), ..paged },
            Call::StreamList => Zeros { streams: Some(Some([])), ..paged },
            Call::ConsumerNames { .. } | Call::ConsumerList { .. } => Zeros { consumers: Some([]), ..paged },
            Call::ConsumerPause { .. } => Zeros { paused: Some(false), pause_until: Some(NO_TIME), ..Zeros::default() },
            _ => Zeros::default(),
        }
    }
}

/// The refusal of a call, with the fields that its clients expect to find.
pub fn error(call: Call, error: &ApiError) -> Bytes {
    #[derive(Serialize)]
    struct Refusal<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        error: ErrorObject<'a>,
        #[serde(flatten)]
        zeros: Zeros,
    }
    json(&Refusal { kind: kind(call), error: error.into(), zeros: Zeros::of(call) })
}

/// The refusal as it must be sent: in headers for the calls whose answers are messages, else as JSON.
pub fn refusal(call: Call, refused: &ApiError) -> (Option<Bytes>, Bytes) {
    match call {
        Call::DirectGet { .. } | Call::ConsumerNext { .. } => {
            // The peer's text for this one differs from the table's.
            let level = refused.err_code == REQUIRED_API_LEVEL.err_code;
            let text = if level { "Required Api Level" } else { &refused.description };
            (Some(status(refused.code, text)), Bytes::new())
        }
        _ => (None, error(call, refused)),
    }
}

/// An answer that says no more than that it was done.
pub fn success(call: Call) -> Bytes {
    #[derive(Serialize)]
    struct Success {
        #[serde(rename = "type")]
        kind: &'static str,
        success: bool,
    }
    json(&Success { kind: kind(call), success: true })
}

/// A body with the call's `type` in front of its fields.
pub fn typed<T: Serialize>(call: Call, body: &T) -> Bytes {
    #[derive(Serialize)]
    struct Typed<'a, T> {
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(flatten)]
        body: &'a T,
    }
    json(&Typed { kind: kind(call), body })
}

/// A header block with a status, such as `404 Message Not Found`.
pub fn status(code: u16, text: &str) -> Bytes {
    Builder::status(code, text).build()
}

pub fn dropped_stream() -> Bytes {
    success(Call::StreamDelete { stream: "" })
}

pub fn dropped_consumer() -> Bytes {
    success(Call::ConsumerDelete { stream: "", consumer: "" })
}

pub fn removed_server() -> Bytes {
    success(Call::ServerRemove)
}

/// The answer to a readmission.
pub fn readmitted_server() -> Bytes {
    success(Call::ServerReadmit)
}

/// JSON as Go's encoder prints it. The three characters occur inside of strings only.
pub fn json<T: Serialize>(value: &T) -> Bytes {
    let text = serde_json::to_vec(value).expect("answers have string keys and finite numbers");
    if !text.iter().any(|byte| matches!(byte, b'<' | b'>' | b'&')) {
        return text.into();
    }
    let mut escaped = Vec::with_capacity(text.len() + 64);
    for byte in text {
        match byte {
            b'<' => escaped.extend_from_slice(b"\\u003c"),
            b'>' => escaped.extend_from_slice(b"\\u003e"),
            b'&' => escaped.extend_from_slice(b"\\u0026"),
            other => escaped.push(other),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::errors;

    fn text(bytes: Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// Recorded from nats-server 2.15.1.
    #[test]
    fn refusals_are_those_of_the_peer_byte_by_byte() {
        let s = "S";
        for (call, refused, expected) in [
            (
                Call::StreamInfo { stream: s },
                &errors::STREAM_NOT_FOUND,
                r#"{"type":"io.nats.jetstream.api.v1.stream_info_response","error":{"code":404,"err_code":10059,"description":"stream not found"},"total":0,"offset":0,"limit":0}"#,
            ),
            (
                Call::StreamCreate { stream: s },
                &errors::STREAM_REPLICAS_NOT_SUPPORTED,
                r#"{"type":"io.nats.jetstream.api.v1.stream_create_response","error":{"code":500,"err_code":10074,"description":"replicas \u003e 1 not supported in non-clustered mode"}}"#,
            ),
            (
                Call::StreamPurge { stream: s },
                &errors::STREAM_NOT_FOUND,
                r#"{"type":"io.nats.jetstream.api.v1.stream_purge_response","error":{"code":404,"err_code":10059,"description":"stream not found"},"purged":0}"#,
            ),
            (
                Call::ConsumerNames { stream: s },
                &errors::STREAM_NOT_FOUND,
                r#"{"type":"io.nats.jetstream.api.v1.consumer_names_response","error":{"code":404,"err_code":10059,"description":"stream not found"},"total":0,"offset":0,"limit":0,"consumers":[]}"#,
            ),
            (
                Call::StreamPeerRemove { stream: s },
                &errors::CLUSTER_REQUIRED,
                r#"{"type":"io.nats.jetstream.api.v1.stream_remove_peer_response","error":{"code":503,"err_code":10010,"description":"JetStream clustering support required"}}"#,
            ),
        ] {
            assert_eq!(text(error(call, refused)), expected);
        }
    }

    #[test]
    fn successes_carry_their_type() {
        assert_eq!(
            text(dropped_stream()),
            r#"{"type":"io.nats.jetstream.api.v1.stream_delete_response","success":true}"#
        );
        assert_eq!(
            text(removed_server()),
            r#"{"type":"io.nats.jetstream.api.v1.meta_server_remove_response","success":true}"#
        );
        assert_eq!(status(404, "Message Not Found").as_ref(), b"NATS/1.0 404 Message Not Found\r\n\r\n");
    }
}
