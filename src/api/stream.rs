//! What a stream's leader answers: info, purge, deletes, gets and step-down; and the answer to a create or update once it
//! is in force. Any replica answers info and direct gets while there is no leader. Follows `jetstream_api.go`.

use bytes::Bytes;
use serde::Deserialize;

use super::call::Call;
use super::cluster_info::{cluster_info, cluster_info_if_clustered};
use super::errors::{self, ApiError};
use super::facts::Facts;
use super::request;
use super::verdict::StreamVerdict;
use super::{message, render, stepdown};
use crate::cluster::table::StreamSlot;
use crate::group::GroupStatus;
use crate::ids::{Seq, ServerId};
use crate::stream::info::{Paging, StreamInfo, TYPE_CREATE, TYPE_INFO, TYPE_UPDATE};
use crate::stream::{Answer, InfoRequest, Purge, Stream, StreamState};

/// Subjects with their counts in one INFO answer (peer: 100,000).
const SUBJECTS_PAGE: usize = 100_000;
/// Deleted sequences listed in one INFO answer: a megabyte of text, beyond which nobody reads them.
const DELETED_MAX: usize = 100_000;

/// Decides about a request for this stream.
pub fn decide(
    facts: &Facts,
    stream: &mut Stream,
    status: &GroupStatus,
    call: Call,
    answer: Option<Answer>,
    body: &[u8],
) -> StreamVerdict {
    match call {
        Call::StreamInfo { .. } => StreamVerdict::Answer(info(facts, stream, status, call, body)),
        Call::DirectGet { subject, .. } => message::direct(stream, subject, body),
        Call::StreamCreate { .. } => StreamVerdict::Answer(unchanged(facts, stream, status, false)),
        Call::StreamUpdate { .. } => StreamVerdict::Answer(unchanged(facts, stream, status, true)),
        // Everything below is the leader's alone.
        _ if !stream.is_leading() => refused(call, &errors::CLUSTER_NOT_AVAIL),
        Call::MessageGet { .. } => message::get(facts, stream, call, body),
        Call::MessageDelete { .. } => delete(facts, stream, call, answer, body),
        Call::StreamPurge { .. } => purge(facts, stream, call, answer, body),
        Call::StreamStepdown { .. } => step_down(facts, status, call, body),
        _ => refused(call, &errors::CLUSTER_NOT_LEADER),
    }
}

/// The answer to a create or update that is in force.
pub fn created(facts: &Facts, stream: &Stream, status: &GroupStatus, update: bool) -> Bytes {
    let kind = if update { TYPE_UPDATE } else { TYPE_CREATE };
    in_force(facts, stream, status, kind, !update)
}

/// The answer to a create or update that changed nothing. In a cluster it does not claim to have created.
fn unchanged(facts: &Facts, stream: &Stream, status: &GroupStatus, update: bool) -> Bytes {
    let kind = if update { TYPE_UPDATE } else { TYPE_CREATE };
    in_force(facts, stream, status, kind, !update && facts.cluster.is_none())
}

fn in_force(facts: &Facts, stream: &Stream, status: &GroupStatus, kind: &'static str, did_create: bool) -> Bytes {
    let cluster = cluster_info_if_clustered(facts, status, peers(facts, stream));
    render::json(&StreamInfo {
        kind: Some(kind),
        paging: None,
        config: stream.config().shown(),
        created: stream.created_ns(),
        state: state(facts, stream),
        domain: None,
        cluster,
        ts: facts.now.wall_ns,
        did_create,
    })
}

/// The answer to an update of a stream that nobody leads: what is known without it.
pub(super) fn updated_without_leader(
    facts: &Facts,
    slot: &StreamSlot,
    config: &crate::stream::StreamConfig,
    peers: &[u64],
) -> Bytes {
    render::json(&StreamInfo {
        kind: Some(TYPE_UPDATE),
        paging: None,
        config: config.shown(),
        created: slot.created_ns,
        state: StreamState { consumer_count: slot.consumers.len() as u64, ..StreamState::default() },
        domain: None,
        cluster: facts.cluster.map(|_| super::cluster_info::cluster_info_from_table(facts, peers)),
        ts: facts.now.wall_ns,
        did_create: false,
    })
}

fn info(facts: &Facts, stream: &Stream, status: &GroupStatus, call: Call, body: &[u8]) -> Bytes {
    let asked: InfoRequest = match request::read(body, facts.strict()) {
        Ok(asked) => asked,
        Err(error) => return render::error(call, &error),
    };
    let mut state = state(facts, stream);
    let mut paging = Paging::default();
    if !asked.subjects_filter.is_empty() {
        let offset = asked.skipped();
        let (page, total) = stream.subjects(asked.subjects_filter.as_bytes(), offset, SUBJECTS_PAGE);
        let named = page.into_iter().map(|(subject, count)| (String::from_utf8_lossy(&subject).into_owned(), count));
        state.subjects = Some(named.collect()).filter(|page: &std::collections::BTreeMap<_, _>| !page.is_empty());
        // The peer names its limit and the offset only beside subjects.
        if total > 0 {
            paging = Paging { total: total as u64, offset: offset as u64, limit: SUBJECTS_PAGE as u64 };
        }
    }
    if asked.deleted_details {
        state.deleted = stream.deleted(DELETED_MAX);
    }
    render::json(&StreamInfo {
        kind: Some(TYPE_INFO),
        paging: Some(paging),
        config: stream.config().shown(),
        created: stream.created_ns(),
        state,
        domain: facts.domain().map(str::to_owned),
        cluster: Some(cluster_info(facts, status, peers(facts, stream))),
        ts: facts.now.wall_ns,
        did_create: false,
    })
}

fn slot<'a>(facts: &Facts<'a>, stream: &Stream) -> Option<&'a StreamSlot> {
    facts.table.stream(&facts.account.name, &stream.config().name)
}

fn peers<'a>(facts: &Facts<'a>, stream: &Stream) -> &'a [u64] {
    slot(facts, stream).map_or(&[], |slot| &slot.peers)
}

fn state(facts: &Facts, stream: &Stream) -> StreamState {
    let consumer_count = slot(facts, stream).map_or(0, |slot| slot.consumers.len() as u64);
    StreamState { consumer_count, ..stream.state() }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delete {
    seq: Seq,
    no_erase: bool,
}

fn delete(facts: &Facts, stream: &mut Stream, call: Call, answer: Option<Answer>, body: &[u8]) -> StreamVerdict {
    if request::is_empty(body) {
        return refused(call, &errors::BAD_REQUEST);
    }
    match request::required::<Delete>(body, facts.strict()) {
        Ok(asked) => proposed(stream.propose_delete(facts.now, asked.seq, !asked.no_erase, answer)),
        Err(error) => refused(call, &error),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PurgeRequest {
    filter: String,
    seq: Seq,
    keep: u64,
}

/// What a purge asks for, if that makes sense.
fn purge_request(body: &[u8], strict: bool) -> Result<PurgeRequest, ApiError> {
    let asked: PurgeRequest = request::read(body, strict)?;
    if asked.seq > 0 && asked.keep > 0 { Err(errors::BAD_REQUEST) } else { Ok(asked) }
}

fn purge(facts: &Facts, stream: &mut Stream, call: Call, answer: Option<Answer>, body: &[u8]) -> StreamVerdict {
    match purge_request(body, facts.strict()) {
        Ok(PurgeRequest { filter, seq, keep }) => {
            let purge = Purge { filter: Bytes::from(filter.into_bytes()), seq, keep };
            proposed(stream.propose_purge(facts.now, purge, answer))
        }
        Err(error) => refused(call, &error),
    }
}

/// What is wrong with a request, whatever stream it is about.
pub(super) fn misread(call: Call, body: &[u8], strict: bool) -> Option<ApiError> {
    match call {
        Call::StreamInfo { .. } => request::read::<InfoRequest>(body, strict).err(),
        Call::StreamPurge { .. } => purge_request(body, strict).err(),
        Call::MessageGet { .. } => message::misread(body, strict),
        Call::MessageDelete { .. } if request::is_empty(body) => Some(errors::BAD_REQUEST),
        Call::MessageDelete { .. } => request::required::<Delete>(body, strict).err(),
        _ => None,
    }
}

fn proposed(refusal: Option<crate::reply::Reply>) -> StreamVerdict {
    refusal.map_or(StreamVerdict::Proposed, |reply| StreamVerdict::Answer(reply.payload))
}

fn step_down(facts: &Facts, status: &GroupStatus, call: Call, body: &[u8]) -> StreamVerdict {
    match may_step_down(facts, status, body) {
        Ok(to) => StreamVerdict::Stepdown { to, answer: render::success(call) },
        Err(error) => refused(call, &error),
    }
}

/// Who leads a stream or consumer next.
pub(super) fn may_step_down(facts: &Facts, status: &GroupStatus, body: &[u8]) -> Result<Option<ServerId>, ApiError> {
    if facts.cluster.is_none() {
        return Err(errors::CLUSTER_REQUIRED);
    }
    if status.voters.len() < 2 {
        return Ok(None);
    }
    stepdown::successor(facts, &status.voters, body)
}

fn refused(call: Call, error: &ApiError) -> StreamVerdict {
    StreamVerdict::Answer(render::error(call, error))
}
