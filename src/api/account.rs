//! `$JS.API.INFO`: what an account uses and may use. Follows `jsAccountInfoRequest` of `jetstream_api.go`.
//!
//! Counts and reservations stand in the table, a reservation as its `max_bytes`; the bytes in use are asked of the streams' leaders, each counted once for
//! every replica, as the peer does.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::call::{Call, PREFIX};
use super::choose::is_led;
use super::facts::Facts;
use super::render;
use super::verdict::{Gather, GatherKind, MetaVerdict};
use crate::config::options::AccountJetStream;
use crate::jetstream::Tally;
use crate::stream::config::{API_LEVEL, StorageKind};

/// Streams whose usage is asked for. An account with more shows what the first of them use: every client asks this when
/// it starts, and tens of thousands of requests for one answer are worse than a number that is too small.
const STREAMS_ASKED_MAX: usize = 1024;

pub(super) fn info(facts: &Facts) -> MetaVerdict {
    let streams = || facts.table.streams_of(&facts.account.name);
    let reserved = |kind: StorageKind| {
        let configs = streams().map(|(_, slot)| &slot.config).filter(|config| config.storage == kind);
        configs.filter_map(|config| u64::try_from(config.max_bytes).ok()).sum()
    };
    let led = streams().filter(|(_, slot)| is_led(facts, slot.group())).take(STREAMS_ASKED_MAX);
    let part = |(name, slot): (&str, &crate::cluster::table::StreamSlot)| {
        (slot.group(), Bytes::from(format!("{PREFIX}STREAM.INFO.{name}")), Bytes::new())
    };
    MetaVerdict::Gather(Gather {
        parts: led.map(part).collect(),
        kind: GatherKind::AccountInfo {
            streams: streams().count(),
            consumers: streams().map(|(_, slot)| slot.consumers.len()).sum(),
            reserved_memory: reserved(StorageKind::Memory),
            reserved_storage: reserved(StorageKind::File),
        },
    })
}

#[derive(Debug, Serialize)]
struct AccountInfo<'a> {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    streams: usize,
    consumers: usize,
    limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    api: Api,
}

#[derive(Debug, Serialize)]
struct Limits {
    max_memory: i64,
    max_storage: i64,
    max_streams: i64,
    max_consumers: i64,
    max_ack_pending: i64,
    memory_max_stream_bytes: i64,
    storage_max_stream_bytes: i64,
    max_bytes_required: bool,
}

#[derive(Debug, Serialize)]
struct Api {
    level: u64,
    total: u64,
    errors: u64,
}

impl Limits {
    fn of(account: &AccountJetStream) -> Limits {
        let bytes = |limit: Option<u64>| limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let count = |limit: Option<u32>| limit.map_or(-1, i64::from);
        Limits {
            max_memory: bytes(account.memory_bytes_max),
            max_storage: bytes(account.file_bytes_max),
            max_streams: count(account.streams_max),
            max_consumers: count(account.consumers_max),
            max_ack_pending: count(account.ack_pending_max),
            memory_max_stream_bytes: bytes(account.memory_stream_bytes_max),
            storage_max_stream_bytes: bytes(account.file_stream_bytes_max),
            max_bytes_required: account.bytes_required,
        }
    }
}

/// The totals of a gather; `infos` are the STREAM.INFO answers that came, and what other cores have counted.
pub(super) fn finish(
    facts: &Facts,
    infos: &[Value],
    (streams, consumers): (usize, usize),
    (reserved_memory, reserved_storage): (u64, u64),
) -> Bytes {
    let used = |storage: &str| {
        let of = infos.iter().filter(|info| info["config"]["storage"] == storage);
        of.map(bytes_on_all_replicas).fold(0, u64::saturating_add)
    };
    let add = |a: Tally, b: Tally| Tally {
        total: a.total.saturating_add(b.total),
        errors: a.errors.saturating_add(b.errors),
    };
    let counted = infos.iter().filter_map(|info| Tally::deserialize(info).ok()).fold(facts.tally, add);
    let unlimited = AccountJetStream::default();
    let info = AccountInfo {
        memory: used("memory"),
        storage: used("file"),
        reserved_memory,
        reserved_storage,
        streams,
        consumers,
        limits: Limits::of(facts.account.jetstream.as_ref().unwrap_or(&unlimited)),
        domain: facts.domain(),
        // The peer counts a request once it is answered: this one not yet.
        api: Api {
            level: API_LEVEL.parse().unwrap_or(0),
            total: counted.total.saturating_sub(1),
            errors: counted.errors,
        },
    };
    render::typed(Call::AccountInfo, &info)
}

fn bytes_on_all_replicas(info: &Value) -> u64 {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    number(&info["state"]["bytes"]).saturating_mul(number(&info["config"]["num_replicas"]).max(1))
}
