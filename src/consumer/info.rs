//! What CONSUMER.INFO and the pages show of a consumer, with the peer's fields in the peer's order.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::config::ConsumerConfig;

/// A place in both countings and when it was last reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SequenceInfo {
    pub consumer_seq: u64,
    pub stream_seq: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_active: Option<String>,
}

impl SequenceInfo {
    pub fn new(point: super::state::Point, active_ns: i64) -> Self {
        let last_active = (active_ns != 0).then(|| rfc3339(active_ns));
        SequenceInfo { consumer_seq: point.consumer, stream_seq: point.stream, last_active }
    }
}

/// `C` is the cluster part, made by those who know the group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsumerInfo<C = serde_json::Value> {
    pub stream_name: String,
    pub name: String,
    pub created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ConsumerConfig>,
    pub delivered: SequenceInfo,
    pub ack_floor: SequenceInfo,
    pub num_ack_pending: usize,
    pub num_redelivered: usize,
    pub num_waiting: usize,
    pub num_pending: u64,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub cluster: Option<C>,
    /// Never for a pull consumer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub push_bound: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Nanoseconds until `pause_until`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pause_remaining: i64,
    /// When this was gathered.
    pub ts: String,
}

fn none<C>() -> Option<C> {
    None
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// What the peer shows for "at no time": Go's zero time.
pub const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// Wall nanoseconds as RFC 3339 in UTC, with as many digits as needed.
pub fn rfc3339(time_ns: i64) -> String {
    Timestamp::from_nanosecond(i128::from(time_ns)).map_or_else(|_| String::new(), |time| time.to_string())
}
