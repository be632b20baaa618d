//! A consumer's configuration as clients write and read it.
//!
//! Field names, their order and when one is left out are the peer's, so that a configuration survives the way through
//! any client unchanged. Every field of the peer is known here; which of them Trestle serves is decided in [`check`].

mod address;
mod check;
mod json;

pub use address::CreateForm;
pub use check::{Parent, ServerLimits, check_update};
pub(crate) use check::{go_duration, sample_percent};
pub use json::{Action, CreateRequest, parse_create};

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use json::is_default;

/// Time without an ack after which a message is delivered again, unless configured (peer: 30 s).
pub const ACK_WAIT_DEFAULT_NS: i64 = 30_000_000_000;
/// Idle time after which an ephemeral consumer goes away, unless configured (peer: 5 s).
pub const INACTIVE_DEFAULT_NS: i64 = 5_000_000_000;
/// Unacknowledged messages that a consumer may have out, unless configured (peer: 1000).
pub const ACK_PENDING_DEFAULT: i64 = 1000;

/// Where delivery starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliverPolicy {
    #[default]
    #[serde(alias = "undefined")]
    All,
    Last,
    New,
    ByStartSequence,
    ByStartTime,
    LastPerSubject,
}

/// What an acknowledgement means. Absent in JSON is `none`, as at the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AckPolicy {
    #[default]
    None,
    All,
    Explicit,
    FlowControl,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayPolicy {
    #[default]
    Instant,
    Original,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriorityPolicy {
    #[default]
    None,
    Overflow,
    PinnedClient,
    Prioritized,
}

/// The whole configuration. Durations are nanoseconds, as in JSON. Sizes and counts of 0 mean "not set", -1 "no limit".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsumerConfig {
    #[serde(skip_serializing_if = "is_default")]
    pub durable_name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    #[serde(skip_serializing_if = "is_default")]
    pub description: String,
    pub deliver_policy: DeliverPolicy,
    #[serde(skip_serializing_if = "is_default")]
    pub opt_start_seq: u64,
    #[serde(skip_serializing_if = "is_default", with = "json::time")]
    pub opt_start_time: Option<Timestamp>,
    pub ack_policy: AckPolicy,
    #[serde(skip_serializing_if = "is_default")]
    pub ack_wait: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub max_deliver: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub backoff: Vec<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub filter_subject: String,
    #[serde(skip_serializing_if = "is_default")]
    pub filter_subjects: Vec<String>,
    pub replay_policy: ReplayPolicy,
    #[serde(skip_serializing_if = "is_default")]
    pub rate_limit_bps: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub sample_freq: String,
    #[serde(skip_serializing_if = "is_default")]
    pub max_waiting: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub max_ack_pending: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub flow_control: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub headers_only: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub max_batch: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub max_expires: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub max_bytes: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub deliver_subject: String,
    #[serde(skip_serializing_if = "is_default")]
    pub deliver_group: String,
    #[serde(skip_serializing_if = "is_default")]
    pub idle_heartbeat: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub inactive_threshold: i64,
    pub num_replicas: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub mem_storage: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub direct: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub sourcing: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default", with = "json::time")]
    pub pause_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_default")]
    pub priority_groups: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub priority_policy: PriorityPolicy,
    #[serde(skip_serializing_if = "is_default")]
    pub priority_timeout: i64,
}

impl ConsumerConfig {
    /// Whether the consumer outlives its users.
    pub fn is_durable(&self) -> bool {
        !self.durable_name.is_empty()
    }

    /// The name that the client chose, empty when it left the choice to the server.
    pub fn chosen_name(&self) -> &str {
        if self.is_durable() { &self.durable_name } else { &self.name }
    }

    /// Filter subjects from either field, empty when the consumer sees everything.
    pub fn filters(&self) -> Vec<String> {
        if self.filter_subject.is_empty() {
            return self.filter_subjects.clone();
        }
        vec![self.filter_subject.clone()]
    }

    /// Replicas that the consumer gets on a stream with `stream_replicas` of them: an ephemeral without a wish gets
    /// one, all others their stream's number unless they ask for fewer.
    pub fn replicas(&self, stream_replicas: usize) -> usize {
        let wanted = usize::try_from(self.num_replicas).unwrap_or(0);
        match wanted {
            0 if !self.is_durable() => 1,
            0 => stream_replicas,
            n => n.min(stream_replicas),
        }
    }

    /// How long to wait for an ack of the delivery with this number (1 is the first), microseconds.
    pub fn wait_us(&self, count: u32) -> u64 {
        let step = (count.max(1) as usize - 1).min(self.backoff.len().saturating_sub(1));
        let wait_ns = self.backoff.get(step).copied().unwrap_or(self.ack_wait);
        u64::try_from(wait_ns).unwrap_or(0) / 1000
    }

    /// Deliveries of one message before it is given up; `None` when there is no limit.
    pub fn deliveries_max(&self) -> Option<u32> {
        (self.max_deliver > 0).then(|| u32::try_from(self.max_deliver).unwrap_or(u32::MAX))
    }

    /// Unacknowledged messages that may be out at once; `None` when there is no limit.
    pub fn pending_max(&self) -> Option<usize> {
        (self.max_ack_pending > 0 && self.ack_policy != AckPolicy::None).then_some(self.max_ack_pending as usize)
    }
}

#[cfg(test)]
mod tests;
