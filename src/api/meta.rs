//! What the meta leader answers: which streams and consumers there are and shall be, listings, account totals, and the
//! cluster's own members. Follows `jetstream_api.go` and `jetstream_cluster.go`.
//!
//! Decides from the table of what is committed; two requests that race for one name are told apart when they are
//! applied.

use net::client::headers::Headers;

use super::call::Call;
use super::errors::{self, ApiError};
use super::facts::Facts;
use super::verdict::MetaVerdict;
use super::{account, edit, enlist, evict, list, pause, render, stepdown};
use crate::cluster::table::Asked;
use crate::consumer::CreateForm;
use crate::ids::ServerId;
use crate::stream::config::API_LEVEL;

/// Decides about a request; `asked` is where its sender waits.
pub fn decide(facts: &Facts, call: Call, asked: Option<Asked>, headers: Option<&[u8]>, body: &[u8]) -> MetaVerdict {
    verdict(facts, call, asked, headers, body).unwrap_or_else(|error| MetaVerdict::Answer(render::error(call, &error)))
}

fn verdict(
    facts: &Facts,
    call: Call,
    asked: Option<Asked>,
    headers: Option<&[u8]>,
    body: &[u8],
) -> Result<MetaVerdict, ApiError> {
    check_level(headers)?;
    check_account(facts, call)?;
    match call {
        Call::AccountInfo => Ok(account::info(facts)),
        Call::StreamNames => list::stream_names(facts, body),
        Call::StreamList => list::streams_in_full(facts, body),
        Call::StreamCreate { stream } => edit::create(facts, stream, asked, body),
        Call::StreamUpdate { stream } => edit::update(facts, stream, asked, body),
        Call::StreamDelete { stream } => edit::delete(facts, stream, asked, body),
        Call::StreamPeerRemove { stream } => edit::remove_peer(facts, call, stream, body),
        Call::ConsumerCreate { stream, name, filter } => {
            let form = match name {
                Some(name) => CreateForm::Named { name, filter: filter.unwrap_or("") },
                None => CreateForm::Ephemeral,
            };
            enlist::create(facts, stream, form, asked, body)
        }
        Call::ConsumerDurableCreate { stream, name } => {
            enlist::create(facts, stream, CreateForm::Durable { name }, asked, body)
        }
        Call::ConsumerDelete { stream, consumer } => enlist::delete(facts, stream, consumer, asked, body),
        Call::ConsumerPause { stream, consumer } => pause::pause(facts, (stream, consumer), asked, body),
        Call::ConsumerNames { stream } => list::consumer_names(facts, call, stream, body),
        Call::ConsumerList { stream } => list::consumers_in_full(facts, stream, body),
        Call::MetaStepdown => step_down(facts, call, body),
        Call::ServerRemove => evict::remove(facts, body),
        Call::ServerReadmit => evict::readmit(facts, body),
        Call::Unsupported { what } => Err(ApiError::not_supported(what)),
        // Calls of streams and consumers come here only when their leader moved away under them.
        _ => Err(errors::CLUSTER_NOT_AVAIL),
    }
}

/// `Nats-Required-Api-Level`: a client that needs a newer API than this is told so.
pub fn check_level(headers: Option<&[u8]>) -> Result<(), ApiError> {
    let Some(wanted) = headers.and_then(|block| Headers::new(block).get_str("Nats-Required-Api-Level")) else {
        return Ok(());
    };
    let enough = wanted.parse::<u64>().is_ok_and(|wanted| API_LEVEL.parse::<u64>().is_ok_and(|level| level >= wanted));
    if enough || wanted.is_empty() { Ok(()) } else { Err(errors::REQUIRED_API_LEVEL) }
}

fn check_account(facts: &Facts, call: Call) -> Result<(), ApiError> {
    let for_operators = matches!(call, Call::MetaStepdown | Call::ServerRemove | Call::ServerReadmit);
    match for_operators {
        true if facts.is_system => Ok(()),
        false if facts.account.jetstream.is_some() => Ok(()),
        _ => Err(errors::NOT_ENABLED_FOR_ACCOUNT),
    }
}

/// `META.LEADER.STEPDOWN`.
fn step_down(facts: &Facts, call: Call, body: &[u8]) -> Result<MetaVerdict, ApiError> {
    if facts.cluster.is_none() {
        return Err(errors::CLUSTER_REQUIRED);
    }
    let members: Vec<ServerId> = facts.table.servers.keys().map(|server| ServerId(*server)).collect();
    let to = stepdown::successor(facts, &members, body)?;
    Ok(MetaVerdict::Stepdown { to, answer: render::success(call) })
}
