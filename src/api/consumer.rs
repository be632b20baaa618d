//! What a consumer's leader answers: info, pull requests and step-down; and the answer to a create once it is in force.
//! Follows `jetstream_api.go`; the statuses that answer pulls are the consumer's own.

use bytes::Bytes;

use super::call::Call;
use super::cluster_info::cluster_info_if_clustered;
use super::errors;
use super::facts::Facts;
use super::stream::may_step_down;
use super::verdict::ConsumerVerdict;
use super::{render, request};
use crate::consumer::{Consumer, PullRequest};
use crate::group::GroupStatus;
use crate::ids::Place;
use crate::stream::Stream;

/// Decides about a request for this consumer; `reply` is where its sender waits.
#[allow(clippy::too_many_arguments)]
pub fn decide(
    facts: &Facts,
    consumer: &mut Consumer,
    stream: &Stream,
    status: &GroupStatus,
    call: Call,
    origin: Place,
    reply: Option<Bytes>,
    body: &[u8],
) -> ConsumerVerdict {
    let refused = |error| ConsumerVerdict::Answer(render::error(call, error));
    match call {
        Call::ConsumerNext { .. } => next(facts, consumer, origin, reply, body),
        Call::ConsumerInfo { .. } if !request::is_empty(body) => refused(&errors::NOT_EMPTY_REQUEST),
        Call::ConsumerInfo { .. } | Call::ConsumerCreate { .. } | Call::ConsumerDurableCreate { .. } => {
            ConsumerVerdict::Answer(info(facts, consumer, stream, status, call))
        }
        Call::ConsumerStepdown { .. } => match may_step_down(facts, status, body) {
            Ok(to) => ConsumerVerdict::Stepdown { to, answer: render::success(call) },
            Err(error) => refused(&error),
        },
        _ => refused(&errors::CLUSTER_NOT_LEADER),
    }
}

/// The answer to a create or update that is in force.
pub fn created(facts: &Facts, consumer: &Consumer, stream: &Stream, status: &GroupStatus) -> Bytes {
    info(facts, consumer, stream, status, Call::ConsumerCreate { stream: "", name: None, filter: None })
}

fn info(facts: &Facts, consumer: &Consumer, stream: &Stream, status: &GroupStatus, call: Call) -> Bytes {
    let identity = consumer.identity();
    let slot = facts.table.consumer(&facts.account.name, &identity.stream_name, &identity.name);
    let peers = slot.map_or(&[][..], |slot| &slot.peers);
    let cluster = cluster_info_if_clustered(facts, status, peers);
    render::typed(call, &consumer.info(facts.now, stream, cluster))
}

/// A pull that cannot be read is told so; one without a place to answer to asks for nothing.
fn next(facts: &Facts, consumer: &mut Consumer, origin: Place, reply: Option<Bytes>, body: &[u8]) -> ConsumerVerdict {
    let Some(reply) = reply else { return ConsumerVerdict::Taken };
    match PullRequest::parse(body) {
        Ok(pull) => {
            consumer.on_next(facts.now, origin, reply, pull);
            ConsumerVerdict::Taken
        }
        Err(status) => ConsumerVerdict::Status { headers: status.headers() },
    }
}
