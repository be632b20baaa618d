//! What a consumer tells whoever listens to its advisories: events with the peer's subjects and JSON.

use serde::Serialize;

use crate::ids::{Now, Seq};

use super::Identity;
use super::info::rfc3339;

/// An event of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Given up after `max_deliver` deliveries.
    MaxDeliveries,
    /// A client wants it again.
    Naked,
    /// Never to be delivered again, because a client said so or the message is gone.
    Terminated { reason: &'a str },
    /// Acknowledged so many nanoseconds after its delivery (only a sample is told).
    Acked { ack_time: i64 },
}

/// The message that an event is about.
#[derive(Debug, Clone, Copy)]
pub struct About {
    pub consumer_seq: u64,
    pub stream_seq: Seq,
    pub deliveries: u32,
}

/// Something to publish: a subject and a JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advisory {
    pub subject: String,
    pub json: String,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: String,
    stream: &'a str,
    consumer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_seq: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ack_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_until: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    domain: &'a str,
}

/// Forms advisories of one consumer.
#[derive(Debug, Clone)]
pub struct Herald {
    identity: Identity,
    told: u64,
}

impl Herald {
    pub fn new(identity: &Identity) -> Self {
        Herald { identity: identity.clone(), told: 0 }
    }

    pub fn tell(&mut self, now: Now, event: Event, about: About) -> Advisory {
        let (family, kind) = match event {
            Event::MaxDeliveries => ("ADVISORY.CONSUMER.MAX_DELIVERIES", "io.nats.jetstream.advisory.v1.max_deliver"),
            Event::Naked => ("ADVISORY.CONSUMER.MSG_NAKED", "io.nats.jetstream.advisory.v1.nak"),
            Event::Terminated { .. } => {
                ("ADVISORY.CONSUMER.MSG_TERMINATED", "io.nats.jetstream.advisory.v1.terminated")
            }
            Event::Acked { .. } => ("METRIC.CONSUMER.ACK", "io.nats.jetstream.metric.v1.consumer_ack"),
        };
        let id = self.id(now);
        let body = Body {
            consumer_seq: (event != Event::MaxDeliveries).then_some(about.consumer_seq),
            stream_seq: Some(about.stream_seq),
            deliveries: Some(about.deliveries),
            ack_time: if let Event::Acked { ack_time } = event { Some(ack_time) } else { None },
            reason: if let Event::Terminated { reason } = event { reason } else { "" },
            ..self.body(now, id, kind)
        };
        self.finish(family, &body)
    }

    /// The consumer was paused or goes on.
    pub fn tell_pause(&mut self, now: Now, paused: bool, until: String) -> Advisory {
        let id = self.id(now);
        let body = Body {
            paused: Some(paused),
            pause_until: Some(until),
            ..self.body(now, id, "io.nats.jetstream.advisory.v1.consumer_pause")
        };
        self.finish("ADVISORY.CONSUMER.PAUSE", &body)
    }

    fn body(&self, now: Now, id: String, kind: &'static str) -> Body<'_> {
        Body {
            kind,
            id,
            timestamp: rfc3339(now.wall_ns),
            stream: &self.identity.stream_name,
            consumer: &self.identity.name,
            consumer_seq: None,
            stream_seq: None,
            ack_time: None,
            deliveries: None,
            reason: "",
            paused: None,
            pause_until: None,
            domain: &self.identity.domain,
        }
    }

    fn finish(&self, family: &str, body: &Body) -> Advisory {
        let subject = format!("$JS.EVENT.{family}.{}.{}", self.identity.stream_name, self.identity.name);
        let json = serde_json::to_string(body).expect("an advisory has string keys only");
        Advisory { subject, json }
    }

    fn id(&mut self, now: Now) -> String {
        self.told += 1;
        event_id(self.identity.group.0, now, self.told)
    }
}

/// An id that no other event has: 22 characters like the peer's, from whom it is about, the clock and a counter.
pub fn event_id(about: u64, now: Now, count: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let high = mix(about ^ now.wall_ns as u64);
    let mut value = u128::from(high) << 64 | u128::from(mix(high ^ count));
    let mut id = String::with_capacity(22);
    for _ in 0..22 {
        id.push(DIGITS[(value % 62) as usize] as char);
        value /= 62;
    }
    id
}

/// SplitMix64's finisher: every input bit reaches every output bit.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
