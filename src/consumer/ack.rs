//! The ack subject of a delivery, and what a client may say on it.
//!
//! ```text
//! $JS.ACK.<stream>.<consumer>.<count>.<stream seq>.<consumer seq>.<time ns>.<pending>                    written and read
//! $JS.ACK.<domain>.<account>.<stream>.<consumer>.<count>.<stream seq>.<consumer seq>.<time ns>.<pending>[.…]    read
//! ```
//!
//! Both come from clients, so everything in them is doubted: a subject is taken for a hint which message is meant, and
//! the pending set decides whether that makes sense.

use bytes::Bytes;
use serde::Deserialize;

use crate::api::json::{self, Unknown};
use crate::ids::Seq;

/// Tokens of the short form and of the long one, which may have more behind them.
const TOKENS_SHORT: usize = 9;
const TOKENS_LONG: usize = 11;

/// What an ack subject says about its delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckSubject<'a> {
    pub stream: &'a [u8],
    pub consumer: &'a [u8],
    /// Which delivery of the message this was, from 1.
    pub count: u32,
    pub stream_seq: Seq,
    pub consumer_seq: u64,
    /// When the message was stored, wall nanoseconds.
    pub time_ns: i64,
    /// Messages that were left behind this one.
    pub pending: u64,
}

impl<'a> AckSubject<'a> {
    /// Reads either form; `None` for everything else. A number that is none is the largest there is, which no message has:
    /// the peer, too, takes an ack whose stream sequence alone can be read.
    pub fn parse(subject: &'a [u8]) -> Option<Self> {
        let rest = subject.strip_prefix(b"$JS.ACK.")?;
        let tokens = subject.split(|byte| *byte == b'.').count();
        let mut rest = rest.split(|byte| *byte == b'.');
        match tokens {
            TOKENS_SHORT => {}
            n if n >= TOKENS_LONG => {
                rest.nth(1)?;
            }
            _ => return None,
        }
        Some(AckSubject {
            stream: rest.next()?,
            consumer: rest.next()?,
            count: u32::try_from(number(rest.next()?).unwrap_or(u64::MAX)).unwrap_or(u32::MAX),
            stream_seq: number(rest.next()?).unwrap_or(u64::MAX),
            consumer_seq: number(rest.next()?).unwrap_or(u64::MAX),
            time_ns: number(rest.next()?).and_then(|time| i64::try_from(time).ok()).unwrap_or(0),
            pending: number(rest.next()?).unwrap_or(0),
        })
    }
}

/// Decimal digits only; no sign, no overflow.
fn number(token: &[u8]) -> Option<u64> {
    if token.is_empty() {
        return None;
    }
    token.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Writes ack subjects of one consumer; the constant part is formed once.
#[derive(Debug, Clone)]
pub struct AckWriter {
    prefix: Vec<u8>,
}

impl AckWriter {
    pub fn new(stream: &str, consumer: &str) -> Self {
        AckWriter { prefix: format!("$JS.ACK.{stream}.{consumer}.").into_bytes() }
    }

    /// The subject for one delivery.
    pub fn write(&self, count: u32, stream_seq: Seq, consumer_seq: u64, time_ns: i64, pending: u64) -> Bytes {
        let mut subject = Vec::with_capacity(self.prefix.len() + 64);
        subject.extend_from_slice(&self.prefix);
        for value in [u64::from(count), stream_seq, consumer_seq, time_ns.max(0) as u64] {
            push_number(&mut subject, value);
            subject.push(b'.');
        }
        push_number(&mut subject, pending);
        subject.into()
    }
}

fn push_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// What the client says about the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AckVerb<'a> {
    /// Done with it.
    Ack,
    /// Send it again, after this many microseconds if it says so.
    Nak { delay_us: Option<u64> },
    /// Still working: start the ack timer again.
    Progress,
    /// Done, and here is my next pull request.
    Next { request: &'a [u8] },
    /// Never send it again.
    Term { reason: &'a [u8] },
}

impl<'a> AckVerb<'a> {
    /// Reads the payload of a message on an ack subject; `None` when it is no verb, which means nothing is done.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        match payload {
            b"" | b"+ACK" | b"+OK" => return Some(AckVerb::Ack),
            b"+WPI" => return Some(AckVerb::Progress),
            _ => {}
        }
        if let Some(request) = payload.strip_prefix(b"+NXT") {
            return Some(AckVerb::Next { request });
        }
        if let Some(argument) = payload.strip_prefix(b"-NAK") {
            return Some(AckVerb::Nak { delay_us: nak_delay_us(argument.trim_ascii()) });
        }
        payload.strip_prefix(b"+TERM").map(|reason| AckVerb::Term { reason: reason.trim_ascii() })
    }
}

#[derive(Deserialize)]
struct NakOptions {
    #[serde(default)]
    delay: i64,
}

/// The delay of a NAK: JSON with nanoseconds, or a duration in words ("1.5s"). What cannot be read is no delay.
fn nak_delay_us(argument: &[u8]) -> Option<u64> {
    if argument.is_empty() {
        return None;
    }
    let delay_ns = match argument.first() {
        Some(b'{') => json::one(argument).and_then(|doc| doc.decode::<NakOptions>(Unknown::Skipped)).ok()?.delay,
        _ => duration_ns(std::str::from_utf8(argument).ok()?)?,
    };
    Some(u64::try_from(delay_ns).unwrap_or(0) / 1000)
}

/// A duration in Go's words: numbers with units, "1h30m", "250ms".
fn duration_ns(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..unit_at].parse().ok()?;
        rest = &rest[unit_at..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit_ns = match &rest[..unit_end] {
            "ns" => 1e0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += value * unit_ns;
        rest = &rest[unit_end..];
    }
    (!text.is_empty() && total < i64::MAX as f64).then_some(sign * total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let subject = AckWriter::new("ORDERS", "pump").write(2, 71, 19, 1_700_000_000_000_000_001, 0);
        assert_eq!(subject, "$JS.ACK.ORDERS.pump.2.71.19.1700000000000000001.0");
        let ack = AckSubject::parse(&subject).expect("own subject");
        assert_eq!((ack.stream, ack.consumer), (&b"ORDERS"[..], &b"pump"[..]));
        assert_eq!((ack.count, ack.stream_seq, ack.consumer_seq), (2, 71, 19));
        assert_eq!((ack.time_ns, ack.pending), (1_700_000_000_000_000_001, 0));
    }

    #[test]
    fn the_long_form_with_domain_and_account_is_read() {
        for tail in ["", ".x9Kq", ".a.b"] {
            let subject = format!("$JS.ACK.hub.ACCHASH.S.c.1.5.4.99.7{tail}");
            let ack = AckSubject::parse(subject.as_bytes()).expect("long form");
            assert_eq!((ack.stream, ack.consumer, ack.stream_seq, ack.pending), (&b"S"[..], &b"c"[..], 5, 7));
        }
    }

    #[test]
    fn foreign_subjects_are_refused() {
        let bad =
            ["", "$JS.ACK", "$JS.ACK.", "$JS.ACK.S.c.1.2.3.4", "$JS.ACK.S.c.1.2.3.4.5.6", "$JS.NAK.S.c.1.2.3.4.5"];
        for subject in bad {
            assert_eq!(AckSubject::parse(subject.as_bytes()), None, "{subject}");
        }
    }

    #[test]
    fn what_is_no_number_names_no_message() {
        let cases = [
            ("$JS.ACK.S.c.x.2.3.4.5", (u32::MAX, 2, 3)),
            ("$JS.ACK.S.c.1.-2.3.4.5", (1, u64::MAX, 3)),
            ("$JS.ACK.S.c.1..3.4.5", (1, u64::MAX, 3)),
            ("$JS.ACK.S.c.1.99999999999999999999.x.4.5", (1, u64::MAX, u64::MAX)),
        ];
        for (subject, read) in cases {
            let ack = AckSubject::parse(subject.as_bytes()).expect(subject);
            assert_eq!((ack.count, ack.stream_seq, ack.consumer_seq), read, "{subject}");
        }
    }

    #[test]
    fn verbs_are_the_peers() {
        let nak = |delay_us| Some(AckVerb::Nak { delay_us });
        let cases: [(&str, Option<AckVerb>); 17] = [
            ("", Some(AckVerb::Ack)),
            ("+ACK", Some(AckVerb::Ack)),
            ("+OK", Some(AckVerb::Ack)),
            ("+ACK ", None),
            ("+WPI", Some(AckVerb::Progress)),
            ("+WPI x", None),
            ("+NXT", Some(AckVerb::Next { request: b"" })),
            ("+NXT {\"batch\":5}", Some(AckVerb::Next { request: b" {\"batch\":5}" })),
            ("+TERM", Some(AckVerb::Term { reason: b"" })),
            ("+TERM bad order", Some(AckVerb::Term { reason: b"bad order" })),
            ("-NAK", nak(None)),
            ("-NAK {\"delay\": 1500000}", nak(Some(1500))),
            ("-NAK 1m2.5s", nak(Some(62_500_000))),
            ("-NAK {\"delay\":\"x\"}", nak(None)),
            ("-NAK tomorrow", nak(None)),
            ("-NAK {\"delay\":-5}", nak(Some(0))),
            ("hello", None),
        ];
        for (payload, verb) in cases {
            assert_eq!(AckVerb::parse(payload.as_bytes()), verb, "{payload}");
        }
    }
}
