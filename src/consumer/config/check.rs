//! Which configurations are accepted: defaults, the peer's refusals in the peer's order, and what an update may change.

use std::num::{IntErrorKind, ParseIntError};

use crate::api::errors::{self, ApiError};
use crate::limits::{DESCRIPTION_BYTES_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX};
use crate::stream::StreamConfig;

use super::PriorityPolicy;
use super::{ACK_PENDING_DEFAULT, ACK_WAIT_DEFAULT_NS, AckPolicy, ConsumerConfig, DeliverPolicy, INACTIVE_DEFAULT_NS};

/// Waiting pulls of a consumer that does not say (peer: 512).
const WAITING_DEFAULT: i64 = 512;
/// Shortest `max_expires`, nanoseconds.
const MAX_EXPIRES_MIN_NS: i64 = 1_000_000;

/// What of its stream's configuration binds a consumer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parent {
    pub replicas: usize,
    /// `consumer_limits.max_ack_pending`, 0 for none.
    pub max_ack_pending: i64,
    /// `consumer_limits.inactive_threshold`, nanoseconds, 0 for none.
    pub inactive_threshold: i64,
}

impl Parent {
    pub fn of(config: &StreamConfig) -> Parent {
        Parent {
            replicas: usize::try_from(config.num_replicas).unwrap_or(0).max(1),
            max_ack_pending: config.consumer_limits.max_ack_pending,
            inactive_threshold: config.consumer_limits.inactive_threshold,
        }
    }
}

/// The operator's limits: `jetstream { limits { … } }` and the account's. 0 is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerLimits {
    pub max_request_batch: i64,
    pub max_ack_pending: i64,
    pub account_max_ack_pending: i64,
}

impl ConsumerConfig {
    /// Fills in defaults and validates. The order of the checks is the peer's, so that a configuration with two
    /// mistakes is refused with the same one.
    pub fn defaulted(mut self, parent: &Parent, server: &ServerLimits, pedantic: bool) -> Result<Self, ApiError> {
        self.floor_negatives(pedantic)?;
        self.fill(parent, server, pedantic)?;
        self.check_names()?;
        self.check_replicas(parent)?;
        self.check_acks()?;
        self.check_mode(server)?;
        self.check_limits(parent, server)?;
        self.check_filters()?;
        self.check_start()?;
        self.check_rest()?;
        self.check_served()?;
        self = self.with_stored_metadata();
        self.check_metadata()?;
        Ok(self)
    }

    /// A new consumer that is not durable goes away by itself; an existing one keeps to what it was made as, whatever
    /// an update says of its name (peer behaviour).
    pub fn with_idle_time(mut self, durable: bool) -> Self {
        if !durable && self.inactive_threshold == 0 {
            self.inactive_threshold = INACTIVE_DEFAULT_NS;
        }
        self
    }

    /// Values below the smallest meaningful one become it; a pedantic request is refused instead.
    fn floor_negatives(&mut self, pedantic: bool) -> Result<(), ApiError> {
        let floor = |value: &mut i64, least: i64, text: &str| {
            if *value < least {
                if pedantic {
                    return Err(errors::PEDANTIC.with("err", text));
                }
                *value = least;
            }
            Ok(())
        };
        floor(&mut self.max_deliver, -1, "max_deliver must be set to -1")?;
        if self.max_deliver == 0 {
            self.max_deliver = -1;
        }
        floor(&mut self.max_waiting, 0, "max_waiting must not be negative")?;
        floor(&mut self.max_ack_pending, -1, "max_ack_pending must be set to -1")?;
        floor(&mut self.max_batch, 0, "max_batch must not be negative")?;
        floor(&mut self.max_expires, 0, "max_expires must not be negative")?;
        floor(&mut self.max_bytes, 0, "max_bytes must not be negative")?;
        floor(&mut self.idle_heartbeat, 0, "idle_heartbeat must not be negative")?;
        floor(&mut self.inactive_threshold, 0, "inactive_threshold must not be negative")?;
        floor(&mut self.priority_timeout, 0, "priority_timeout must not be negative")
    }

    fn fill(&mut self, parent: &Parent, server: &ServerLimits, pedantic: bool) -> Result<(), ApiError> {
        let refuse = |text: &str| Err(errors::PEDANTIC.with("err", text));
        let pull = self.deliver_subject.is_empty();
        if pull && self.max_waiting == 0 {
            self.max_waiting = WAITING_DEFAULT;
        }
        if self.ack_wait == 0 && matches!(self.ack_policy, AckPolicy::Explicit | AckPolicy::All) {
            self.ack_wait = ACK_WAIT_DEFAULT_NS;
        }
        if let Some(first) = self.backoff.first().copied() {
            if pedantic && self.ack_wait != first {
                return refuse("first backoff value has to equal batch AckWait");
            }
            self.ack_wait = first;
        }
        if self.max_ack_pending == 0 {
            if pedantic && parent.max_ack_pending > 0 {
                return refuse("max_ack_pending must be set if it's configured in stream limits");
            }
            self.max_ack_pending = parent.max_ack_pending;
        }
        if self.inactive_threshold == 0 {
            if pedantic && parent.inactive_threshold > 0 {
                return refuse("inactive_threshold must be set if it's configured in stream limits");
            }
            self.inactive_threshold = parent.inactive_threshold;
        }
        if self.max_ack_pending == 0 && self.ack_policy != AckPolicy::None {
            let limits = [server.max_ack_pending, server.account_max_ack_pending];
            self.max_ack_pending = limits.into_iter().filter(|max| *max > 0).fold(ACK_PENDING_DEFAULT, i64::min);
        }
        if pull && self.max_batch == 0 && server.max_request_batch > 0 {
            if pedantic {
                return refuse("max_request_batch must be set if it's JetStream limits are set");
            }
            self.max_batch = server.max_request_batch;
        }
        Ok(())
    }

    fn check_names(&self) -> Result<(), ApiError> {
        let refuse = |what: &str| {
            let text = format!("consumer {what} can not contain '.', '*', '>', '\\', '/'");
            Err(errors::STREAM_INVALID_CONFIG.with("err", text))
        };
        if !self.name.is_empty() && !is_name(&self.name) {
            return refuse("name");
        }
        if !self.durable_name.is_empty() && !is_name(&self.durable_name) {
            return refuse("durable name");
        }
        if self.chosen_name().len() > NAME_BYTES_MAX {
            return Err(errors::CONSUMER_NAME_TOO_LONG.with("max", NAME_BYTES_MAX));
        }
        Ok(())
    }

    fn check_replicas(&self, parent: &Parent) -> Result<(), ApiError> {
        if self.num_replicas < 0 {
            return Err(errors::REPLICAS_COUNT_CANNOT_BE_NEGATIVE);
        }
        if self.num_replicas as u64 > parent.replicas as u64 {
            return Err(errors::CONSUMER_REPLICAS_EXCEEDS_STREAM);
        }
        Ok(())
    }

    fn check_acks(&self) -> Result<(), ApiError> {
        if self.backoff.iter().any(|wait| *wait < 0) {
            return Err(errors::CONSUMER_BACK_OFF_NEGATIVE);
        }
        if self.ack_wait < 0 {
            return Err(errors::CONSUMER_ACK_WAIT_NEGATIVE);
        }
        if self.ack_policy == AckPolicy::FlowControl && self.deliver_subject.is_empty() {
            return Err(errors::CONSUMER_ACK_FC_REQUIRES_PUSH);
        }
        check_backoff(self)?;
        if self.description.len() > DESCRIPTION_BYTES_MAX {
            return Err(errors::CONSUMER_DESCRIPTION_TOO_LONG.with("max", DESCRIPTION_BYTES_MAX));
        }
        Ok(())
    }

    /// What a pull consumer must not carry. Push consumers are refused as a whole.
    fn check_mode(&self, server: &ServerLimits) -> Result<(), ApiError> {
        if !self.deliver_subject.is_empty() {
            return Err(ApiError::not_supported("deliver_subject (push consumers)"));
        }
        if self.rate_limit_bps > 0 {
            return Err(errors::CONSUMER_PULL_WITH_RATE_LIMIT);
        }
        if self.idle_heartbeat > 0 {
            return Err(errors::CONSUMER_HB_REQUIRES_PUSH);
        }
        if self.flow_control {
            return Err(errors::CONSUMER_FC_REQUIRES_PUSH);
        }
        if self.max_expires != 0 && self.max_expires < MAX_EXPIRES_MIN_NS {
            return Err(errors::CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL);
        }
        if server.max_request_batch > 0 && self.max_batch > server.max_request_batch {
            return Err(errors::CONSUMER_MAX_REQUEST_BATCH_EXCEEDED.with("limit", server.max_request_batch));
        }
        Ok(())
    }

    fn check_limits(&self, parent: &Parent, server: &ServerLimits) -> Result<(), ApiError> {
        for limit in [server.max_ack_pending, server.account_max_ack_pending, parent.max_ack_pending] {
            if limit > 0 && self.max_ack_pending > limit {
                return Err(errors::CONSUMER_MAX_PENDING_ACK_EXCESS.with("limit", limit));
            }
        }
        let inactive_max = parent.inactive_threshold;
        if inactive_max > 0 && self.inactive_threshold > inactive_max {
            return Err(errors::CONSUMER_INACTIVE_THRESHOLD_EXCESS.with("limit", go_duration(inactive_max)));
        }
        if self.direct {
            return Err(errors::CONSUMER_DIRECT_REQUIRES_PUSH);
        }
        Ok(())
    }

    fn check_filters(&self) -> Result<(), ApiError> {
        if !self.filter_subject.is_empty() && !self.filter_subjects.is_empty() {
            return Err(errors::CONSUMER_DUPLICATE_FILTER_SUBJECTS);
        }
        let bad = || errors::STREAM_INVALID_CONFIG.with("err", "invalid subject");
        if !self.filter_subject.is_empty() && !net::subject::is_valid(self.filter_subject.as_bytes()) {
            return Err(bad());
        }
        if self.filter_subjects.iter().any(String::is_empty) {
            return Err(errors::CONSUMER_EMPTY_FILTER);
        }
        for (at, filter) in self.filter_subjects.iter().enumerate() {
            if !net::subject::is_valid(filter.as_bytes()) {
                return Err(bad());
            }
            let covered = |other: &String| net::subject::is_subset(filter.as_bytes(), other.as_bytes());
            if self.filter_subjects.iter().enumerate().any(|(other_at, other)| other_at != at && covered(other)) {
                return Err(errors::CONSUMER_OVERLAPPING_SUBJECT_FILTERS);
            }
        }
        Ok(())
    }

    /// A start sequence or time belongs to exactly one deliver policy each.
    fn check_start(&self) -> Result<(), ApiError> {
        let policy = match self.deliver_policy {
            DeliverPolicy::All => "all",
            DeliverPolicy::Last => "last",
            DeliverPolicy::LastPerSubject => "last per subject",
            DeliverPolicy::New => "new",
            DeliverPolicy::ByStartSequence => "by start sequence",
            DeliverPolicy::ByStartTime => "by start time",
        };
        let refuse = |what: &str, set: &str| {
            let text = format!("consumer delivery policy is deliver {policy}, but optional {what} is {set} set");
            Err(errors::CONSUMER_INVALID_POLICY.with("err", text))
        };
        let (by_seq, by_time) = match self.deliver_policy {
            DeliverPolicy::ByStartSequence => (true, false),
            DeliverPolicy::ByStartTime => (false, true),
            _ => (false, false),
        };
        if by_seq && self.opt_start_seq == 0 {
            return refuse("start sequence", "not");
        }
        if by_time && self.opt_start_time.is_none() {
            return refuse("start time", "not");
        }
        if !by_seq && self.opt_start_seq > 0 {
            return refuse(if by_time { "start start sequence" } else { "start sequence" }, "also");
        }
        if !by_time && self.opt_start_time.is_some() {
            return refuse("start time", "also");
        }
        if self.deliver_policy == DeliverPolicy::LastPerSubject && self.filters().is_empty() {
            return refuse("filter subject", "not");
        }
        Ok(())
    }

    fn check_rest(&self) -> Result<(), ApiError> {
        if !self.sample_freq.is_empty() && sample_percent(&self.sample_freq).is_none() {
            let number = self.sample_freq.strip_suffix('%').unwrap_or(&self.sample_freq);
            let text = match number.parse::<i64>() {
                Ok(_) => "<nil>".to_owned(),
                Err(error) => format!("strconv.Atoi: parsing \"{number}\": {}", go_reason(&error)),
            };
            return Err(errors::CONSUMER_INVALID_SAMPLING.with("err", text));
        }
        if self.is_durable() && !self.name.is_empty() && self.name != self.durable_name {
            return Err(errors::CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH);
        }
        if self.priority_policy == PriorityPolicy::None {
            if !self.priority_groups.is_empty() {
                return Err(errors::CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE);
            }
            if self.priority_timeout > 0 {
                return Err(errors::CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE);
            }
        } else if self.priority_groups.is_empty() {
            return Err(errors::CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP);
        }
        Ok(())
    }

    /// The stored keys count too.
    fn check_metadata(&self) -> Result<(), ApiError> {
        let bytes: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > METADATA_BYTES_MAX {
            let limit = format!("{}KB", METADATA_BYTES_MAX / 1024);
            return Err(errors::CONSUMER_METADATA_LENGTH.with("limit", limit));
        }
        Ok(())
    }

    /// What the peer would accept and Trestle does not serve.
    fn check_served(&self) -> Result<(), ApiError> {
        if !self.deliver_group.is_empty() {
            return Err(ApiError::not_supported("deliver_group (push consumers)"));
        }
        if self.priority_policy != PriorityPolicy::None {
            return Err(ApiError::not_supported("priority_policy"));
        }
        if self.sourcing {
            return Err(ApiError::not_supported("sourcing"));
        }
        Ok(())
    }
}

/// What an update may not change. Both configurations are complete ([`ConsumerConfig::defaulted`]); the new one
/// carries the old metadata ([`ConsumerConfig::with_metadata_of`]).
pub fn check_update(old: &ConsumerConfig, new: &ConsumerConfig) -> Result<(), ApiError> {
    let frozen = [
        (old.deliver_policy != new.deliver_policy, "deliver policy"),
        (old.mem_storage != new.mem_storage, "storage type"),
        (old.direct != new.direct, "direct"),
        (old.sourcing != new.sourcing, "sourcing"),
        (old.opt_start_seq != new.opt_start_seq, "start sequence"),
        (old.opt_start_time != new.opt_start_time, "start time"),
        (old.ack_policy != new.ack_policy, "ack policy"),
        (old.replay_policy != new.replay_policy, "replay policy"),
        (old.max_waiting != new.max_waiting, "max waiting"),
    ];
    if let Some((_, what)) = frozen.iter().find(|(changed, _)| *changed) {
        return Err(errors::CONSUMER_CREATE.with("err", format_args!("{what} can not be updated")));
    }
    check_backoff(new)
}

fn check_backoff(config: &ConsumerConfig) -> Result<(), ApiError> {
    let steps = config.backoff.len();
    if steps > 0 && config.max_deliver != -1 && (config.max_deliver < 0 || (config.max_deliver as usize) < steps) {
        return Err(errors::CONSUMER_MAX_DELIVER_BACKOFF);
    }
    Ok(())
}

/// A name that can be one token of a subject and one directory.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['.', '*', '>', '\\', '/', ' ', '\t', '\r', '\n', '\x0c'])
}

/// How many of a hundred acks are reported, from `"30"` or `"30%"`.
pub(crate) fn sample_percent(text: &str) -> Option<u32> {
    text.strip_suffix('%').unwrap_or(text).parse::<u32>().ok()
}

/// Why Go's reader of numbers refuses one.
fn go_reason(error: &ParseIntError) -> &'static str {
    match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

/// A duration as Go prints it ("1m0s", "1.5s", "100ms").
pub(crate) fn go_duration(ns: i64) -> String {
    let total = ns.unsigned_abs();
    let sign = if ns < 0 { "-" } else { "" };
    if total == 0 {
        return "0s".into();
    }
    if total < 1_000 {
        return format!("{sign}{total}ns");
    }
    if total < 1_000_000 {
        return format!("{sign}{}µs", decimal(total, 1_000));
    }
    if total < 1_000_000_000 {
        return format!("{sign}{}ms", decimal(total, 1_000_000));
    }
    let minute = 60_000_000_000;
    let (minutes, seconds) = (total / minute, decimal(total % minute, 1_000_000_000));
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` without trailing zeros; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / unit, value % unit);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
