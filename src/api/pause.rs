//! `CONSUMER.PAUSE`: a consumer delivers nothing until a point in time; without one, or with one that has passed, it goes
//! on. Follows `jsConsumerPauseRequest` of `jetstream_api.go`: the point in time becomes part of the configuration, and
//! the consumer's leader answers once it is in force.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::errors::{self, ApiError};
use super::facts::Facts;
use super::message::Time;
use super::request;
use super::verdict::MetaVerdict;
use super::{in_flight, render};
use crate::cluster::table::{Asked, MetaEntry};
use crate::consumer::ConsumerConfig;
use crate::consumer::info::NO_TIME;
use crate::ids::Now;
use crate::stream::info::time_text;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pause {
    pause_until: Option<Time>,
}

#[derive(Debug, Serialize)]
struct Paused {
    paused: bool,
    pause_until: String,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_remaining: Option<i64>,
}

pub(super) fn pause(
    facts: &Facts,
    (stream, consumer): (&str, &str),
    asked_by: Option<Asked>,
    body: &[u8],
) -> Result<MetaVerdict, ApiError> {
    let asked: Pause = request::read(body, facts.strict())?;
    if in_flight::consumer(facts, stream, consumer) {
        return Ok(MetaVerdict::Later);
    }
    let slot = facts.table.stream(&facts.account.name, stream).ok_or(errors::STREAM_NOT_FOUND)?;
    let there = slot.consumers.get(consumer).ok_or(errors::CONSUMER_NOT_FOUND)?;
    // Go's zero time stands for none.
    let until_ns = asked.pause_until.map(|Time(ns)| ns).filter(|ns| *ns > 0);
    let until = until_ns.and_then(|ns| Timestamp::from_nanosecond(i128::from(ns)).ok());
    let config = ConsumerConfig { pause_until: until, ..there.config.clone() }.with_stored_metadata();
    if config == there.config {
        return Ok(MetaVerdict::Answer(paused(&config, facts.now)));
    }
    Ok(MetaVerdict::Propose(vec![MetaEntry::PutConsumer {
        account: facts.account.name.clone(),
        stream: stream.to_owned(),
        name: consumer.to_owned(),
        config: Box::new(config),
        created_ns: there.created_ns,
        peers: there.peers.clone(),
        asked: asked_by.map(|asked| Asked { pause: true, ..asked }),
    }]))
}

/// The answer to a pause that is in force.
pub fn paused(config: &ConsumerConfig, now: Now) -> Bytes {
    let until = config.pause_until.map(|until| until.as_nanosecond()).filter(|until| *until > 0);
    let until_ns = until.and_then(|until| i64::try_from(until).ok());
    let remaining = until_ns.map(|until| until.saturating_sub(now.wall_ns)).filter(|left| *left > 0);
    let answer = Paused {
        paused: remaining.is_some(),
        pause_until: until_ns.map_or_else(|| NO_TIME.to_owned(), time_text),
        pause_remaining: remaining,
    };
    render::typed(Call::ConsumerPause { stream: "", consumer: "" }, &answer)
}
