//! The parts of STREAM.INFO and its relatives that a stream knows of itself, as the peer's JSON.
//!
//! Who leads and where the replicas are is not the stream's to know: `cluster` is handed in as a value by the layer
//! that does. Times are nanoseconds since the Unix epoch inside and RFC 3339 text outside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::Stream;
use super::config::StreamConfig;
use crate::ids::Seq;
use crate::limits::{STREAM_DELETED_DETAILS_MAX, STREAM_SUBJECTS_PAGE};

pub const TYPE_INFO: &str = "io.nats.jetstream.api.v1.stream_info_response";
pub const TYPE_CREATE: &str = "io.nats.jetstream.api.v1.stream_create_response";
pub const TYPE_UPDATE: &str = "io.nats.jetstream.api.v1.stream_update_response";
pub const TYPE_PURGE: &str = "io.nats.jetstream.api.v1.stream_purge_response";
pub const TYPE_MSG_DELETE: &str = "io.nats.jetstream.api.v1.stream_msg_delete_response";

/// The `state` object. `deleted` and `subjects` are filled only when asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct StreamState {
    pub messages: u64,
    pub bytes: u64,
    pub first_seq: Seq,
    #[serde(serialize_with = "rfc3339")]
    pub first_ts: Option<i64>,
    pub last_seq: Seq,
    #[serde(serialize_with = "rfc3339")]
    pub last_ts: Option<i64>,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_subjects: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subjects: Option<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub num_deleted: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<Seq>,
    pub consumer_count: u64,
}

/// Paging of a subjects listing, present (as zeros) in every INFO answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Paging {
    pub total: u64,
    pub offset: u64,
    pub limit: u64,
}

/// Body of an INFO request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct InfoRequest {
    pub deleted_details: bool,
    pub subjects_filter: String,
    /// Subjects to leave out at the beginning; below 0 none.
    pub offset: i64,
}

impl InfoRequest {
    /// Subjects that the page leaves out.
    pub fn skipped(&self) -> usize {
        usize::try_from(self.offset.max(0)).unwrap_or(usize::MAX)
    }
}

/// A whole answer: `type`, paging where the request has it, and the stream. Also an element of STREAM.LIST (without a
/// type).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamInfo {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub paging: Option<Paging>,
    pub config: StreamConfig,
    #[serde(serialize_with = "rfc3339_always")]
    pub created: i64,
    pub state: StreamState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Built by the layer that knows the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Value>,
    #[serde(serialize_with = "rfc3339_always")]
    pub ts: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub did_create: bool,
}

impl Stream {
    /// What this replica can say to an INFO request: state with the details asked for, and paging. `kind`, `cluster` and
    /// `ts` are the caller's to set, as is `state.consumer_count`.
    ///
    /// Costs a walk over the subjects when they are asked for.
    pub fn info(&self, request: &InfoRequest) -> StreamInfo {
        let mut state = self.state();
        let mut paging = Paging::default();
        if request.deleted_details {
            state.deleted = self.deleted(STREAM_DELETED_DETAILS_MAX);
        }
        if !request.subjects_filter.is_empty() {
            let offset = request.skipped();
            let (page, total) = self.subjects(request.subjects_filter.as_bytes(), offset, STREAM_SUBJECTS_PAGE);
            let named = page.into_iter().map(|(text, count)| (String::from_utf8_lossy(&text).into_owned(), count));
            state.subjects = Some(named.collect::<BTreeMap<_, _>>()).filter(|page| !page.is_empty());
            paging = Paging { total: total as u64, offset: offset as u64, limit: STREAM_SUBJECTS_PAGE as u64 };
        }
        StreamInfo {
            kind: None,
            paging: Some(paging),
            config: self.config().shown(),
            created: self.created_ns(),
            state,
            domain: self.domain().map(str::to_owned),
            cluster: None,
            ts: 0,
            did_create: false,
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn rfc3339<S: Serializer>(time: &Option<i64>, out: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(ns) => rfc3339_always(ns, out),
        None => out.serialize_str("0001-01-01T00:00:00Z"),
    }
}

fn rfc3339_always<S: Serializer>(ns: &i64, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&time_text(*ns))
}

/// Nanoseconds since the Unix epoch as Go prints a UTC time: no trailing zeros in the fraction, none at all for zero.
pub fn time_text(ns: i64) -> String {
    let (seconds, fraction) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let clock = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{clock}");
    if fraction != 0 {
        let digits = format!("{fraction:09}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Days since 1970-01-01 as a date of the Gregorian calendar, counted in eras of 400 years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_as_go_prints_them() {
        for (ns, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_257_319_156_919_482, "2026-11-21T10:35:19.156919482Z"),
            (951_782_400_500_000_000, "2000-02-29T00:00:00.5Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
        ] {
            assert_eq!(time_text(ns), text);
        }
    }

    #[test]
    fn an_empty_state_has_the_fields_of_the_peer() {
        let text = serde_json::to_string(&StreamState::default()).unwrap();
        assert_eq!(
            text,
            r#"{"messages":0,"bytes":0,"first_seq":0,"first_ts":"0001-01-01T00:00:00Z","last_seq":0,"last_ts":"0001-01-01T00:00:00Z","consumer_count":0}"#
        );
    }
}
