//! Defaults and refusals of stream configurations: what the peer's create and update requests answer, rule by rule and
//! in its order, so that a request with two faults names the same one.
//!
//! Rules that need to see other streams (overlapping subjects, account limits) or servers (placement) are not here.

use net::subject;

use super::{
    Compression, Discard, META_LEVEL, META_REQUIRED_LEVEL, META_VERSION, PersistMode, Placement, Retention,
    StorageKind, StreamConfig,
};
use crate::api::errors::{
    ApiError, PEDANTIC, REPLICAS_COUNT_CANNOT_BE_NEGATIVE, STREAM_INVALID_CONFIG, STREAM_MAX_BYTES_REQUIRED,
    STREAM_MAX_STREAM_BYTES_EXCEEDED, STREAM_NAME_CONTAINS_PATH_SEPARATORS, STREAM_REPLICAS_NOT_SUPPORTED,
};
use crate::limits::{DESCRIPTION_BYTES_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX, REPLICAS_MAX};

/// Shortest age and duplicate window, nanoseconds (peer: 100 ms).
const SPAN_NS_MIN: i64 = 100_000_000;
/// Duplicate window of a stream that names none, nanoseconds (peer: 2 min).
const DUPLICATE_WINDOW_NS: i64 = 120_000_000_000;

/// What the server and the account allow, as far as a single configuration can be judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamLimits {
    /// Whether this server is part of a cluster: more than one replica is possible.
    pub clustered: bool,
    /// Longest duplicate window, nanoseconds; 0 for no limit (`jetstream.limits.duplicate_window`).
    pub duplicate_window_ns_max: i64,
    /// Account rule: every stream must have `max_bytes`.
    pub max_bytes_required: bool,
    /// Account rule: largest `max_bytes` of one stream; 0 for no limit.
    pub stream_bytes_max: i64,
    /// The request asked to refuse what would be adjusted silently.
    pub pedantic: bool,
}

impl StreamConfig {
    /// A create request's configuration with every default filled in, or the refusal.
    pub fn defaulted(self, server: &StreamLimits) -> Result<StreamConfig, ApiError> {
        if self.name.contains(['\\', '/']) {
            return Err(STREAM_NAME_CONTAINS_PATH_SEPARATORS);
        }
        if self.sealed {
            return Err(invalid("stream configuration for create can not be sealed"));
        }
        if self.mirror_direct && self.mirror.is_none() {
            return Err(invalid("stream has no mirror but does have mirror direct"));
        }
        let config = self.checked(server)?;
        if config.num_replicas > 1 && !server.clustered {
            return Err(STREAM_REPLICAS_NOT_SUPPORTED);
        }
        Ok(config)
    }

    /// An update request's configuration with defaults filled in, or the refusal. `old` is what is in force.
    pub fn check_update(
        old: &StreamConfig,
        new: StreamConfig,
        server: &StreamLimits,
    ) -> Result<StreamConfig, ApiError> {
        let mut new = new.checked(server)?;
        if new.name != old.name {
            return Err(invalid("stream configuration name must match original"));
        }
        if new.num_replicas > 1 && !server.clustered {
            return Err(STREAM_REPLICAS_NOT_SUPPORTED);
        }
        let refusals = [
            (new.storage != old.storage, "can not change storage type"),
            (old.sealed && !new.sealed, "can not unseal a sealed stream"),
            (old.deny_delete && !new.deny_delete, "can not cancel deny message deletes"),
            (old.deny_purge && !new.deny_purge, "can not cancel deny purge"),
        ];
        if let Some((_, text)) = refusals.iter().find(|(refused, _)| *refused) {
            return Err(invalid(format_args!("stream configuration update {text}")));
        }
        if new.sealed {
            new.max_age = 0;
            new.discard = Discard::New;
            new.deny_delete = true;
            new.deny_purge = true;
            new.allow_rollup_hdrs = false;
        }
        Ok(new)
    }

    /// The rules that creates and updates share.
    pub(crate) fn checked(mut self, server: &StreamLimits) -> Result<StreamConfig, ApiError> {
        self.metadata.remove(META_VERSION);
        self.metadata.remove(META_LEVEL);
        let level = if self.allow_batched {
            "4"
        } else if self.allow_atomic {
            "2"
        } else {
            "0"
        };
        self.metadata.insert(META_REQUIRED_LEVEL.to_owned(), level.to_owned());
        self.check_texts()?;
        self.fill_limits(server)?;
        self.fill_window(server)?;
        self.check_flags()?;
        self.check_supported()?;
        self.fill_subjects()?;
        self.check_account(server)?;
        self.check_placement()?;
        Ok(self)
    }

    /// Refuses what cannot name a stream, whatever else the configuration says.
    pub fn check_name(&self) -> Result<(), ApiError> {
        match is_asset_name(&self.name) {
            true => Ok(()),
            false => Err(invalid(r"stream name is required and can not contain '.', '*', '>', '\', '/'")),
        }
    }

    fn check_texts(&self) -> Result<(), ApiError> {
        self.check_name()?;
        if self.name.len() > NAME_BYTES_MAX {
            return Err(invalid(format_args!("stream name is too long, maximum allowed is {NAME_BYTES_MAX}")));
        }
        if self.description.len() > DESCRIPTION_BYTES_MAX {
            return Err(invalid(format_args!(
                "stream description is too long, maximum allowed is {DESCRIPTION_BYTES_MAX}"
            )));
        }
        if self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > METADATA_BYTES_MAX {
            return Err(invalid(format_args!("stream metadata exceeds maximum size of {METADATA_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    fn fill_limits(&mut self, server: &StreamLimits) -> Result<(), ApiError> {
        if self.num_replicas == 0 {
            self.num_replicas = 1;
        }
        if self.num_replicas > REPLICAS_MAX as i64 {
            return Err(invalid(format_args!("maximum replicas is {REPLICAS_MAX}")));
        }
        if self.num_replicas < 0 {
            return Err(REPLICAS_COUNT_CANNOT_BE_NEGATIVE);
        }
        let mut size = i64::from(self.max_msg_size);
        let limits = [
            ("max_msgs", &mut self.max_msgs),
            ("max_msgs_per_subject", &mut self.max_msgs_per_subject),
            ("max_bytes", &mut self.max_bytes),
            ("max_msg_size", &mut size),
            ("max_consumers", &mut self.max_consumers),
        ];
        for (name, limit) in limits {
            if server.pedantic && *limit < -1 {
                return Err(PEDANTIC.with("err", format_args!("{name} must be set to -1")));
            }
            if *limit == 0 || *limit < -1 {
                *limit = -1;
            }
        }
        self.max_msg_size = i32::try_from(size).unwrap_or(i32::MAX);
        if self.max_age < 0 {
            return Err(invalid("max age can not be negative"));
        }
        if self.max_age != 0 && self.max_age < SPAN_NS_MIN {
            return Err(invalid("max age needs to be >= 100ms"));
        }
        Ok(())
    }

    fn fill_window(&mut self, server: &StreamLimits) -> Result<(), ApiError> {
        let limit = server.duplicate_window_ns_max;
        if self.duplicate_window == 0 && self.mirror.is_none() && self.sources.is_empty() {
            let mut window = DUPLICATE_WINDOW_NS;
            if limit > 0 && window > limit {
                if server.pedantic {
                    return Err(PEDANTIC.with("err", "duplicate window limits are higher than current limits"));
                }
                window = limit;
            }
            if self.max_age != 0 && self.max_age < window {
                if server.pedantic {
                    return Err(PEDANTIC.with("err", "duplicate window cannot be bigger than max age"));
                }
                window = self.max_age;
            }
            self.duplicate_window = window;
        }
        let window = self.duplicate_window;
        if window < 0 {
            return Err(invalid("duplicates window can not be negative"));
        }
        if self.max_age != 0 && window > self.max_age {
            return Err(invalid("duplicates window can not be larger then max age"));
        }
        if limit > 0 && window > limit {
            let limit = go_duration(limit);
            return Err(invalid(format_args!("duplicates window can not be larger then server limit of {limit}")));
        }
        if window > 0 && window < SPAN_NS_MIN {
            return Err(invalid("duplicates window needs to be >= 100ms"));
        }
        Ok(())
    }

    fn check_flags(&self) -> Result<(), ApiError> {
        if self.deny_purge && self.allow_rollup_hdrs {
            return Err(invalid("roll-ups require the purge permission"));
        }
        if self.discard_new_per_subject {
            if self.discard != Discard::New {
                return Err(invalid("discard new per subject requires discard new policy to be set"));
            }
            if self.max_msgs_per_subject <= 0 {
                return Err(invalid("discard new per subject requires max msgs per subject > 0"));
            }
        }
        if self.subject_delete_marker_ttl < 0 {
            return Err(invalid("subject delete marker TTL must not be negative"));
        }
        Ok(())
    }

    /// What the peer has and Trestle does not have yet is refused by name. Atomic and fast batches are only *allowed* by a
    /// configuration (the CLI's bench always allows both); a publish that uses one is refused when it comes.
    fn check_supported(&self) -> Result<(), ApiError> {
        let missing = [
            (self.retention == Retention::Workqueue, "retention workqueue"),
            (self.retention == Retention::Interest, "retention interest"),
            (self.mirror.is_some(), "mirror"),
            (!self.sources.is_empty(), "sources"),
            (self.compression == Compression::S2, "compression s2"),
            (self.subject_transform.is_some(), "subject_transform"),
            (self.republish.is_some(), "republish"),
            (self.allow_msg_ttl, "allow_msg_ttl"),
            (self.subject_delete_marker_ttl > 0, "subject_delete_marker_ttl"),
            (self.allow_msg_counter, "allow_msg_counter"),
            (self.allow_msg_schedules, "allow_msg_schedules"),
            (self.persist_mode == PersistMode::Async, "persist_mode async"),
        ];
        match missing.iter().find(|(asked, _)| *asked) {
            Some((_, what)) => Err(ApiError::not_supported(what)),
            None => Ok(()),
        }
    }

    fn fill_subjects(&mut self) -> Result<(), ApiError> {
        if self.subjects.is_empty() {
            self.subjects.push(self.name.clone());
            return Ok(());
        }
        for (at, one) in self.subjects.iter().enumerate() {
            if !subject::is_valid(one.as_bytes()) {
                return Err(invalid("invalid subject"));
            }
            if self.subjects.iter().take(at).any(|earlier| earlier == one) {
                return Err(invalid("duplicate subjects detected"));
            }
            self.check_reserved(one)?;
            // A subject equal to a later one is reported as a duplicate only when its turn comes, like the peer.
            if let Some(other) =
                self.subjects.iter().skip(at + 1).find(|other| subject::overlaps(other.as_bytes(), one.as_bytes()))
            {
                return Err(invalid(format_args!("subject {one:?} overlaps with {other:?}")));
            }
        }
        Ok(())
    }

    /// Subjects that the server itself uses can be captured only by a stream that never acknowledges.
    fn check_reserved(&self, one: &str) -> Result<(), ApiError> {
        if one == ">" {
            if !self.no_ack {
                return Err(invalid("capturing all subjects requires no-ack to be true"));
            }
            if self.num_replicas != 1 {
                return Err(invalid("capturing all subjects requires replicas of 1"));
            }
        }
        if self.no_ack {
            return Ok(());
        }
        let one = one.as_bytes();
        let api: [&[u8]; 3] = [b"$JS.>", b"$JSC.>", b"$NRG.>"];
        if api.iter().any(|space| subject::overlaps(one, space)) && !subject::is_subset(one, b"$JS.EVENT.>") {
            return Err(invalid("subjects that overlap with jetstream api require no-ack to be true"));
        }
        if subject::overlaps(one, b"$SYS.>") && !subject::is_subset(one, b"$SYS.ACCOUNT.>") {
            return Err(invalid("subjects that overlap with system api require no-ack to be true"));
        }
        Ok(())
    }

    fn check_account(&self, server: &StreamLimits) -> Result<(), ApiError> {
        if server.max_bytes_required && self.max_bytes <= 0 {
            return Err(STREAM_MAX_BYTES_REQUIRED);
        }
        if server.stream_bytes_max > 0 && self.max_bytes > server.stream_bytes_max {
            return Err(STREAM_MAX_STREAM_BYTES_EXCEEDED);
        }
        Ok(())
    }

    fn check_placement(&mut self) -> Result<(), ApiError> {
        if self.placement.as_ref().is_some_and(|placement| *placement == Placement::default()) {
            self.placement = None;
        }
        match &self.placement {
            Some(placement) if !placement.preferred.is_empty() => {
                Err(invalid("preferred server not permitted in placement"))
            }
            _ => Ok(()),
        }
    }

    /// Bytes that a message counts for in the stream's state and limits: the peer's record sizes, so that `max_bytes`
    /// and reports agree (memory: subject, headers, payload and 16; file: and 30, with headers 34).
    pub fn message_bytes(storage: StorageKind, raw: u64, with_headers: bool) -> u64 {
        match (storage, with_headers) {
            (StorageKind::Memory, _) => raw + 16,
            (StorageKind::File, false) => raw + 30,
            (StorageKind::File, true) => raw + 34,
        }
    }
}

fn invalid(text: impl std::fmt::Display) -> ApiError {
    STREAM_INVALID_CONFIG.with("err", text)
}

/// Whether this can name a stream or a consumer (peer rule; the length is checked apart).
pub fn is_asset_name(name: &str) -> bool {
    !name.is_empty() && !name.contains([' ', '\t', '\r', '\n', '\x0c', '.', '*', '>', '\\', '/'])
}

/// A duration as Go prints it, for the one text that holds one: whole hours, minutes and seconds with a fraction.
fn go_duration(ns: i64) -> String {
    let total = ns as f64 / 1e9;
    if ns < 1_000_000_000 {
        return format!("{}ms", ns as f64 / 1e6);
    }
    let (hours, minutes) = (ns / 3_600_000_000_000, ns / 60_000_000_000 % 60);
    let seconds = total - (hours * 3600 + minutes * 60) as f64;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}
