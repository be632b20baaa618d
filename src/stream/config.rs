//! The configuration of a stream, as the peer's JSON: field names, order, and what is left out are the peer's, so that
//! a configuration passes through clients, the log and a restart unchanged.
//!
//! [`StreamConfig::parse_request`] reads a request strictly, [`StreamConfig::defaulted`] (in [`check`]) fills in defaults and
//! refuses what the peer refuses, [`StreamConfig::check_update`] compares with what is there. What Trestle does not
//! have yet is refused by name there: it is never taken in and ignored. This file decides nothing about placement.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::errors::ApiError;
use crate::api::request;

pub mod check;

pub use check::StreamLimits;

/// Metadata key: the API level that the configuration needs. Stored.
pub const META_REQUIRED_LEVEL: &str = "_nats.req.level";
/// Metadata key: version of the server that answers. Added to answers only.
pub const META_VERSION: &str = "_nats.ver";
/// Metadata key: API level of the server that answers. Added to answers only.
pub const META_LEVEL: &str = "_nats.level";
/// The API level that answers name (peer 2.15).
pub const API_LEVEL: &str = "5";
/// The peer's version that Trestle answers like.
pub const PEER_VERSION: &str = "2.15.1";

/// When messages leave the stream. Trestle keeps `limits` only; the others are read so that they can be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retention {
    #[default]
    Limits,
    Interest,
    Workqueue,
}

/// Which side gives way at a limit: the oldest messages, or the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Discard {
    #[default]
    #[serde(alias = "OLD", alias = "Old")]
    Old,
    #[serde(alias = "NEW", alias = "New")]
    New,
}

/// Where records live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    #[default]
    File,
    Memory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    None,
    S2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PersistMode {
    #[default]
    #[serde(alias = "")]
    Default,
    Async,
}

/// Which servers may hold replicas.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Placement {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Only meaningful in step-down requests; refused in a stream's configuration, as by the peer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub preferred: String,
}

/// Bounds and defaults for the stream's consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsumerLimits {
    /// Nanoseconds; 0 is unset.
    #[serde(skip_serializing_if = "is_zero")]
    pub inactive_threshold: i64,
    /// 0 is unset.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_ack_pending: i64,
}

/// Every field of the peer's stream configuration. Durations are nanoseconds; limits of -1 mean none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    pub retention: Retention,
    pub max_consumers: i64,
    pub max_msgs: i64,
    pub max_bytes: i64,
    pub max_age: i64,
    pub max_msgs_per_subject: i64,
    #[serde(skip_serializing_if = "is_zero_i32")]
    pub max_msg_size: i32,
    pub discard: Discard,
    pub storage: StorageKind,
    pub num_replicas: i64,
    #[serde(skip_serializing_if = "is_false")]
    pub no_ack: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicate_window: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Value>,
    pub compression: Compression,
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub first_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_transform: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub republish: Option<Value>,
    pub allow_direct: bool,
    pub mirror_direct: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub discard_new_per_subject: bool,
    pub sealed: bool,
    pub deny_delete: bool,
    pub deny_purge: bool,
    pub allow_rollup_hdrs: bool,
    pub consumer_limits: ConsumerLimits,
    pub allow_msg_ttl: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub subject_delete_marker_ttl: i64,
    #[serde(skip_serializing_if = "is_false")]
    pub allow_msg_counter: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub allow_atomic: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub allow_msg_schedules: bool,
    #[serde(skip_serializing_if = "is_default_mode")]
    pub persist_mode: PersistMode,
    #[serde(skip_serializing_if = "is_false")]
    pub allow_batched: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Default for StreamConfig {
    /// What an empty JSON object means; [`StreamConfig::defaulted`] makes a usable configuration of it.
    fn default() -> Self {
        StreamConfig {
            name: String::new(),
            description: String::new(),
            subjects: Vec::new(),
            retention: Retention::Limits,
            max_consumers: 0,
            max_msgs: 0,
            max_bytes: 0,
            max_age: 0,
            max_msgs_per_subject: 0,
            max_msg_size: 0,
            discard: Discard::Old,
            storage: StorageKind::File,
            num_replicas: 0,
            no_ack: false,
            duplicate_window: 0,
            placement: None,
            mirror: None,
            sources: Vec::new(),
            compression: Compression::None,
            first_seq: 0,
            subject_transform: None,
            republish: None,
            allow_direct: false,
            mirror_direct: false,
            discard_new_per_subject: false,
            sealed: false,
            deny_delete: false,
            deny_purge: false,
            allow_rollup_hdrs: false,
            consumer_limits: ConsumerLimits::default(),
            allow_msg_ttl: false,
            subject_delete_marker_ttl: 0,
            allow_msg_counter: false,
            allow_atomic: false,
            allow_msg_schedules: false,
            persist_mode: PersistMode::Default,
            allow_batched: false,
            metadata: BTreeMap::new(),
        }
    }
}

impl StreamConfig {
    /// Reads the body of a create or update request strictly.
    pub fn parse(body: &[u8]) -> Result<StreamConfig, ApiError> {
        StreamConfig::parse_request(body, true).map(|request| request.0)
    }

    /// Reads the body of a create or update request, and the request's own `pedantic` flag, which asks to refuse what
    /// would be adjusted. Unknown fields are refused with 10025 where the server is strict.
    pub fn parse_request(body: &[u8], strict: bool) -> Result<(StreamConfig, bool), ApiError> {
        request::read_doc(body, strict, &|doc, unknown| {
            let (config, flags) = doc.split_off("pedantic");
            let flags: Flags = flags.decode(unknown)?;
            Ok((config.decode(unknown)?, flags.pedantic))
        })
    }

    /// The configuration as stored in the log and read back by [`StreamConfig::from_stored`].
    pub fn to_stored(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a configuration has string keys and finite numbers only")
    }

    /// Reads what [`StreamConfig::to_stored`] wrote; `None` for anything else.
    pub fn from_stored(json: &[u8]) -> Option<StreamConfig> {
        serde_json::from_slice(json).ok()
    }

    /// The configuration as answers show it: with the version and level of the server that answers.
    pub fn shown(&self) -> StreamConfig {
        let mut shown = self.clone();
        shown.metadata.insert(META_VERSION.to_owned(), PEER_VERSION.to_owned());
        shown.metadata.insert(META_LEVEL.to_owned(), API_LEVEL.to_owned());
        shown
    }

    /// Whether a create request for `other` may be answered as already done.
    pub fn same_as(&self, other: &StreamConfig) -> bool {
        let strip = |config: &StreamConfig| {
            let mut config = config.clone();
            config.metadata.retain(|key, _| !key.starts_with("_nats."));
            config
        };
        strip(self) == strip(other)
    }

    /// A limit as a bound: `None` where the field says that there is none.
    pub(crate) fn bound(limit: i64) -> Option<u64> {
        u64::try_from(limit).ok().filter(|limit| *limit > 0)
    }
}

/// What a request says beside the configuration.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Flags {
    pedantic: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_zero_i32(number: &i32) -> bool {
    *number == 0
}

fn is_zero_u64(number: &u64) -> bool {
    *number == 0
}

fn is_default_mode(mode: &PersistMode) -> bool {
    *mode == PersistMode::Default
}

#[cfg(test)]
mod tests;
