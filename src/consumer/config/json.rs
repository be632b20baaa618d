//! JSON of consumer requests, read as strictly as the peer reads it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::errors::ApiError;
use crate::api::request;

use super::ConsumerConfig;

/// What a create request wants to happen when the consumer exists, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Action {
    /// Create it, or update the one that is there.
    #[default]
    #[serde(rename = "")]
    CreateOrUpdate,
    /// Only create: an existing consumer must have the same configuration.
    #[serde(rename = "create")]
    Create,
    /// Only update: it must exist.
    #[serde(rename = "update")]
    Update,
}

/// The body of `$JS.API.CONSUMER.CREATE.…` and `$JS.API.CONSUMER.DURABLE.CREATE.…`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateRequest {
    pub stream_name: String,
    pub config: ConsumerConfig,
    pub action: Action,
    /// Refuse what would otherwise be silently replaced by a default.
    #[serde(skip_serializing_if = "is_default")]
    pub pedantic: bool,
}

/// Reads a create request. Wrong types are refused with 10025, unknown fields where the server is strict.
pub fn parse_create(body: &[u8], strict: bool) -> Result<CreateRequest, ApiError> {
    request::required(body, strict)
}

/// Whether a field has its zero value and is left out, as Go's `omitempty` leaves it out.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Points in time as RFC 3339 text. The year 1 is Go's zero time, which clients send for "none".
pub(super) mod time {
    use serde::{Deserializer, Serializer};

    use super::{Deserialize, Timestamp};

    pub fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
    }
}

/// Marks what of the API the configuration needs; stored with it.
const LEVEL_REQUIRED_KEY: &str = "_nats.req.level";
/// Server version and API level: added to answers, never stored.
const VERSION_KEY: &str = "_nats.ver";
const LEVEL_KEY: &str = "_nats.level";
/// The peer whose API this is.
const VERSION: &str = "2.15.1";
const LEVEL: &str = "5";

impl ConsumerConfig {
    /// Sets the stored `_nats.*` metadata and drops the keys that only answers carry.
    pub fn with_stored_metadata(mut self) -> Self {
        drop_answer_keys(&mut self.metadata);
        let level = if self.pause_until.is_some_and(|until| !is_zero_time(until)) { "1" } else { "0" };
        self.metadata.insert(LEVEL_REQUIRED_KEY.into(), level.into());
        self
    }

    /// A copy as it is shown in answers, with the server's version and API level.
    pub fn with_answer_metadata(&self) -> Self {
        let mut shown = self.clone();
        shown.metadata.insert(VERSION_KEY.into(), VERSION.into());
        shown.metadata.insert(LEVEL_KEY.into(), LEVEL.into());
        shown
    }

    /// Takes over the `_nats.*` metadata of the stored configuration, so that a client which does not send those keys
    /// compares equal.
    pub fn with_metadata_of(mut self, stored: &ConsumerConfig) -> Self {
        drop_answer_keys(&mut self.metadata);
        match stored.metadata.get(LEVEL_REQUIRED_KEY) {
            Some(level) => self.metadata.insert(LEVEL_REQUIRED_KEY.into(), level.clone()),
            None => self.metadata.remove(LEVEL_REQUIRED_KEY),
        };
        self
    }
}

fn drop_answer_keys(metadata: &mut BTreeMap<String, String>) {
    metadata.remove(VERSION_KEY);
    metadata.remove(LEVEL_KEY);
}

/// Whether this is Go's zero time.
pub fn is_zero_time(time: Timestamp) -> bool {
    time.as_nanosecond() <= ZERO_TIME_NS
}

/// 0001-01-01T00:00:00Z since the Unix epoch.
const ZERO_TIME_NS: i128 = -62_135_596_800_000_000_000;
