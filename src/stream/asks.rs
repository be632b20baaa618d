//! What a publisher asks for in the headers of a message: one pass over the block, the first value of each name.
//!
//! Reads any bytes. Whether what is asked for may be had is decided in [`super::ingest`].

use net::client::headers::Headers;

use super::record::Rollup;
use crate::api::errors::{
    ATOMIC_PUBLISH_DISABLED, ApiError, MESSAGE_INCR_DISABLED, MESSAGE_INCR_INVALID, MESSAGE_SCHEDULES_DISABLED,
    MESSAGE_SCHEDULES_SCHEDULER_INVALID, MESSAGE_SOURCE_HDR_NOT_ALLOWED, MESSAGE_TTL_DISABLED, MESSAGE_TTL_INVALID,
};
use crate::ids::Seq;

/// Added by the server that a request crosses accounts on; never stored.
pub(super) const REQUEST_INFO: &[u8] = b"Nats-Request-Info";

/// Header values that concern the server, empty where absent.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Asks<'a> {
    pub(super) id: &'a [u8],
    pub(super) stream: &'a [u8],
    last_seq: &'a [u8],
    pub(super) last_id: &'a [u8],
    subject_seq: &'a [u8],
    pub(super) subject_filter: &'a [u8],
    rollup: &'a [u8],
    ttl: &'a [u8],
    incr: &'a [u8],
    schedule: &'a [u8],
    schedule_next: &'a [u8],
    scheduler: &'a [u8],
    source: &'a [u8],
    batch: &'a [u8],
    pub(super) request_info: bool,
}

impl<'a> Asks<'a> {
    pub(super) fn read(block: &'a [u8]) -> Asks<'a> {
        let mut asks = Asks::default();
        for (name, value) in Headers::new(block).iter().filter(|(name, _)| name.starts_with(b"Nats-")) {
            let place = match name {
                b"Nats-Msg-Id" => &mut asks.id,
                b"Nats-Expected-Stream" => &mut asks.stream,
                b"Nats-Expected-Last-Sequence" => &mut asks.last_seq,
                b"Nats-Expected-Last-Msg-Id" => &mut asks.last_id,
                b"Nats-Expected-Last-Subject-Sequence" => &mut asks.subject_seq,
                b"Nats-Expected-Last-Subject-Sequence-Subject" => &mut asks.subject_filter,
                b"Nats-Rollup" => &mut asks.rollup,
                b"Nats-TTL" => &mut asks.ttl,
                b"Nats-Incr" => &mut asks.incr,
                b"Nats-Schedule" => &mut asks.schedule,
                b"Nats-Schedule-Next" => &mut asks.schedule_next,
                b"Nats-Scheduler" => &mut asks.scheduler,
                b"Nats-Stream-Source" => &mut asks.source,
                b"Nats-Batch-Id" => &mut asks.batch,
                REQUEST_INFO => {
                    asks.request_info = true;
                    continue;
                }
                _ => continue,
            };
            if place.is_empty() {
                *place = value;
            }
        }
        asks
    }

    /// The refusal of a message that needs a capability which this stream cannot have, as the peer answers when the
    /// capability is switched off.
    pub(super) fn check_supported(&self, subject: &[u8]) -> Result<(), ApiError> {
        if !self.batch.is_empty() {
            return Err(ATOMIC_PUBLISH_DISABLED);
        }
        if !self.incr.is_empty() {
            let digits = self.incr.strip_prefix(b"-").or(self.incr.strip_prefix(b"+")).unwrap_or(self.incr);
            let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            return Err(if valid { MESSAGE_INCR_DISABLED } else { MESSAGE_INCR_INVALID });
        }
        match ttl_seconds(self.ttl) {
            Some(0) => {}
            Some(_) => return Err(MESSAGE_TTL_DISABLED),
            None => return Err(MESSAGE_TTL_INVALID),
        }
        if !self.schedule.is_empty() {
            return Err(MESSAGE_SCHEDULES_DISABLED);
        }
        if !self.schedule_next.is_empty() || !self.scheduler.is_empty() {
            let valid = self.schedule_next == b"purge"
                && self.scheduler != subject
                && net::subject::is_valid_literal(self.scheduler);
            return Err(if valid { MESSAGE_SCHEDULES_DISABLED } else { MESSAGE_SCHEDULES_SCHEDULER_INVALID });
        }
        if !self.source.is_empty() {
            return Err(MESSAGE_SOURCE_HDR_NOT_ALLOWED);
        }
        Ok(())
    }

    /// `Nats-Expected-Last-Sequence`; a value that is no number equals no sequence.
    pub(super) fn last_seq(&self) -> Option<Seq> {
        expected(self.last_seq)
    }

    /// `Nats-Expected-Last-Subject-Sequence`, the same way.
    pub(super) fn subject_seq(&self) -> Option<Seq> {
        expected(self.subject_seq)
    }

    /// `Nats-Rollup`; the error holds the value as the peer quotes it.
    pub(super) fn rollup(&self) -> Result<Rollup, String> {
        match self.rollup.to_ascii_lowercase().as_slice() {
            b"" => Ok(Rollup::None),
            b"sub" => Ok(Rollup::Subject),
            b"all" => Ok(Rollup::All),
            other => Err(format!("{:?}", String::from_utf8_lossy(other))),
        }
    }
}

fn expected(value: &[u8]) -> Option<Seq> {
    (!value.is_empty()).then(|| number(value).unwrap_or(Seq::MAX))
}

fn number(digits: &[u8]) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

/// A time to live as the peer reads it: `never`, whole seconds, or a duration of at least one second. 0 for none,
/// `None` for what it refuses. Fractions of a duration only matter for being below a second.
fn ttl_seconds(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return Some(0);
    }
    if value.eq_ignore_ascii_case(b"never") {
        return Some(u64::MAX);
    }
    number(value).or_else(|| duration_seconds(value).filter(|seconds| *seconds >= 1.0).map(|seconds| seconds as u64))
}

/// A Go duration such as `1h30m` or `1.5s`.
fn duration_seconds(value: &[u8]) -> Option<f64> {
    let mut rest = std::str::from_utf8(value).ok()?;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|byte: char| !byte.is_ascii_digit() && byte != '.')?;
        let (count, tail) = rest.split_at_checked(digits)?;
        let unit_len = tail.find(|byte: char| byte.is_ascii_digit() || byte == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_len)?;
        let unit = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum += count.parse::<f64>().ok()? * unit;
        rest = tail;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> Option<u16> {
        let block = format!("NATS/1.0\r\n{line}\r\n\r\n");
        Asks::read(block.as_bytes()).check_supported(b"foo.2").err().map(|error| error.err_code)
    }

    /// Codes recorded from nats-server 2.15.1 on a stream with none of these capabilities.
    #[test]
    fn headers_of_missing_capabilities_are_refused_like_the_peer_does() {
        for (line, code) in [
            ("Nats-TTL: 1s", Some(10166)),
            ("Nats-TTL: bad", Some(10165)),
            ("Nats-TTL: 100ms", Some(10165)),
            ("Nats-TTL: 1h30m", Some(10166)),
            ("Nats-TTL: never", Some(10166)),
            ("Nats-Incr: 1", Some(10168)),
            ("Nats-Incr: q", Some(10171)),
            ("Nats-Batch-Id: q", Some(10174)),
            ("Nats-Schedule: garbage", Some(10188)),
            ("Nats-Stream-Source: q", Some(10227)),
            ("Nats-Scheduler: foo", Some(10212)),
            ("Nats-Msg-Id: 1", None),
            ("Other: 1", None),
        ] {
            assert_eq!(refusal(line), code, "{line}");
        }
    }

    #[test]
    fn the_first_value_of_a_name_counts() {
        let asks = Asks::read(b"NATS/1.0\r\nNats-Msg-Id: a\r\nNats-Msg-Id: b\r\nnats-msg-id: c\r\n\r\n");
        assert_eq!(asks.id, b"a");
        assert_eq!(Asks::read(b"NATS/1.0\r\nNats-Expected-Last-Sequence: x\r\n\r\n").last_seq(), Some(Seq::MAX));
        assert_eq!(Asks::read(b"NATS/1.0\r\nNats-Rollup: SUB\r\n\r\n").rollup(), Ok(Rollup::Subject));
    }
}
