//! Creating, changing and deleting streams, and taking a server out of one: decided by the meta leader, from the table.
//! Follows `jetstream_cluster.go` (`jsClusteredStreamRequest`, `…UpdateRequest`, `…DeleteRequest`).
//!
//! A create that is there already, and an update that changes nothing, are answered by the stream's leader like fresh
//! ones. Everything else becomes entries of the meta group: the stream's, and those of consumers that move with it.

use net::subject;
use serde::Deserialize;

use super::call::Call;
use super::choose::{self, all_offline, consumers_follow, leader_first, stream_peers};
use super::errors::{self, ApiError};
use super::facts::Facts;
use super::in_flight;
use super::render;
use super::request;
use super::verdict::MetaVerdict;
use crate::cluster::table::{Asked, MetaEntry, StreamSlot};
use crate::ids::ServerId;
use crate::stream::config::StorageKind;
use crate::stream::{StreamConfig, StreamLimits};

/// `STREAM.CREATE`.
pub(super) fn create(facts: &Facts, name: &str, asked: Option<Asked>, body: &[u8]) -> Result<MetaVerdict, ApiError> {
    let (config, pedantic) = StreamConfig::parse_request(body, facts.strict())?;
    if config.name != name {
        return Err(errors::STREAM_MISMATCH);
    }
    let config = limits_for(facts, &config, pedantic).map(|limits| config.defaulted(&limits))??;
    if in_flight::stream(facts, name, &config.subjects) {
        return Ok(MetaVerdict::Later);
    }
    if let Some(slot) = facts.table.stream(&facts.account.name, name) {
        return match slot.config.same_as(&config) {
            true => Ok(MetaVerdict::Forward(slot.group())),
            false => Err(errors::STREAM_NAME_EXIST),
        };
    }
    check_account(facts, &config, None)?;
    check_overlap(facts, &config)?;
    let peers = stream_peers(facts, &config, &[], &[]).map_err(no_peers)?;
    Ok(MetaVerdict::Propose(vec![MetaEntry::PutStream {
        account: facts.account.name.clone(),
        config: Box::new(config),
        created_ns: facts.now.wall_ns,
        peers,
        asked,
    }]))
}

/// `STREAM.UPDATE`.
pub(super) fn update(facts: &Facts, name: &str, asked: Option<Asked>, body: &[u8]) -> Result<MetaVerdict, ApiError> {
    let (config, pedantic) = StreamConfig::parse_request(body, facts.strict())?;
    config.check_name()?;
    if config.name != name {
        return Err(errors::STREAM_MISMATCH);
    }
    if in_flight::stream(facts, name, &config.subjects) {
        return Ok(MetaVerdict::Later);
    }
    let limits = limits_for(facts, &config, pedantic)?;
    let Some(slot) = facts.table.stream(&facts.account.name, name) else {
        // What is wrong with the configuration is told first.
        return Err(config.checked(&limits).err().unwrap_or(errors::STREAM_NOT_FOUND));
    };
    if all_offline(facts, &slot.peers) {
        return Err(errors::STREAM_OFFLINE);
    }
    let config = StreamConfig::check_update(&slot.config, config, &limits)?;
    check_overlap(facts, &config)?;
    check_consumers(slot, &config)?;
    let peers = updated_peers(facts, slot, &config)?;
    if config.max_bytes > slot.config.max_bytes || config.num_replicas > slot.config.num_replicas {
        check_account(facts, &config, Some(slot))?;
    }
    if config == slot.config && peers == slot.peers {
        return Ok(MetaVerdict::Forward(slot.group()));
    }
    Ok(put(facts, slot, config, peers, asked))
}

/// The entries for a changed stream. The stream's leader answers once a new configuration is in force; where only the
/// servers change, or nobody leads to answer, the meta leader does.
fn put(facts: &Facts, slot: &StreamSlot, config: StreamConfig, peers: Vec<u64>, asked: Option<Asked>) -> MetaVerdict {
    let led = choose::is_led(facts, slot.group());
    let by_leader = led && config != slot.config;
    let answer = super::stream::updated_without_leader(facts, slot, &config, &peers);
    let mut entries = consumers_follow(facts, &facts.account.name, slot, config.num_replicas, &peers);
    entries.insert(0, put_stream(facts, slot, config, peers, asked.filter(|_| by_leader)));
    if by_leader {
        return MetaVerdict::Propose(entries);
    }
    let then = if led { MetaVerdict::Forward(slot.group()) } else { MetaVerdict::Answer(answer) };
    MetaVerdict::ProposeAnd { entries, then: Box::new(then) }
}

fn put_stream(
    facts: &Facts,
    slot: &StreamSlot,
    config: StreamConfig,
    peers: Vec<u64>,
    asked: Option<Asked>,
) -> MetaEntry {
    let account = facts.account.name.clone();
    MetaEntry::PutStream { account, config: Box::new(config), created_ns: slot.created_ns, peers, asked }
}

/// `STREAM.DELETE`.
pub(super) fn delete(facts: &Facts, name: &str, asked: Option<Asked>, body: &[u8]) -> Result<MetaVerdict, ApiError> {
    if !request::is_empty(body) {
        return Err(errors::NOT_EMPTY_REQUEST);
    }
    if in_flight::stream(facts, name, &[]) {
        return Ok(MetaVerdict::Later);
    }
    facts.table.stream(&facts.account.name, name).ok_or(errors::STREAM_NOT_FOUND)?;
    let account = facts.account.name.clone();
    Ok(MetaVerdict::Propose(vec![MetaEntry::DropStream { account, stream: name.to_owned(), asked }]))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PeerRemove {
    peer: String,
}

/// `STREAM.PEER.REMOVE`: another server that fits takes over, else nothing changes.
pub(super) fn remove_peer(facts: &Facts, call: Call, name: &str, body: &[u8]) -> Result<MetaVerdict, ApiError> {
    if facts.cluster.is_none() {
        return Err(errors::CLUSTER_REQUIRED);
    }
    if request::is_empty(body) {
        return Err(errors::BAD_REQUEST);
    }
    let asked: PeerRemove = request::required(body, facts.strict())?;
    if asked.peer.is_empty() {
        return Err(errors::BAD_REQUEST);
    }
    if in_flight::stream(facts, name, &[]) {
        return Ok(MetaVerdict::Later);
    }
    let slot = facts.table.stream(&facts.account.name, name).ok_or(errors::STREAM_NOT_FOUND)?;
    let named =
        |peer: &&u64| facts.name_of(ServerId(**peer)) == asked.peer || ServerId(**peer).to_string() == asked.peer;
    let leaving = *slot.peers.iter().find(named).ok_or(errors::CLUSTER_PEER_NOT_MEMBER)?;
    // The only replica cannot leave: there would be nobody to copy from.
    if slot.peers.len() < 2 {
        return Err(errors::PEER_REMAP);
    }
    let peers = without(facts, slot, ServerId(leaving)).map_err(|_| errors::PEER_REMAP)?;
    let mut entries = vec![put_stream(facts, slot, slot.config.clone(), peers.clone(), None)];
    entries.extend(consumers_follow(facts, &facts.account.name, slot, slot.config.num_replicas, &peers));
    Ok(MetaVerdict::ProposeAnd { entries, then: Box::new(MetaVerdict::Answer(render::success(call))) })
}

/// A stream's servers when one of them leaves and a fitting one takes its place.
pub(super) fn without(facts: &Facts, slot: &StreamSlot, leaving: ServerId) -> Result<Vec<u64>, String> {
    let keep: Vec<ServerId> = leader_first(facts, slot).into_iter().filter(|peer| *peer != leaving).collect();
    stream_peers(facts, &slot.config, &keep, &[leaving])
}

/// Where an updated stream lives. Moving and scaling at once is refused; whatever else changes, the servers stay, unless
/// one of them is no longer a member of the cluster.
fn updated_peers(facts: &Facts, slot: &StreamSlot, config: &StreamConfig) -> Result<Vec<u64>, ApiError> {
    let moves = config.placement.is_some() && config.placement != slot.config.placement;
    let scales = config.num_replicas != slot.config.num_replicas;
    if moves && scales {
        return Err(errors::STREAM_MOVE_AND_SCALE);
    }
    let known = |peer: &u64| facts.cluster.is_none() || facts.table.servers.contains_key(peer);
    let whole = slot.peers.iter().all(known) && slot.peers.len() as i64 == config.num_replicas;
    if !moves && !scales && whole {
        return Ok(slot.peers.clone());
    }
    let chosen = stream_peers(facts, config, &leader_first(facts, slot), &[]);
    match chosen {
        // A repair that was not asked for must not refuse an edit.
        Err(_) if !moves && !scales => Ok(slot.peers.clone()),
        chosen => chosen.map_err(no_peers),
    }
}

fn no_peers(text: String) -> ApiError {
    errors::CLUSTER_NO_PEERS.with("err", text)
}

fn limits_for(facts: &Facts, config: &StreamConfig, pedantic: bool) -> Result<StreamLimits, ApiError> {
    let account = facts.account.jetstream.as_ref().ok_or(errors::NOT_ENABLED_FOR_ACCOUNT)?;
    let stream_bytes_max = match config.storage {
        StorageKind::File => account.file_stream_bytes_max,
        StorageKind::Memory => account.memory_stream_bytes_max,
    };
    let window = facts.config.jetstream.as_ref().and_then(|js| js.limits.duplicate_window_max);
    Ok(StreamLimits {
        clustered: facts.cluster.is_some(),
        duplicate_window_ns_max: window.map_or(0, |window| i64::try_from(window.as_nanos()).unwrap_or(i64::MAX)),
        max_bytes_required: account.bytes_required,
        stream_bytes_max: stream_bytes_max.map_or(0, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        pedantic,
    })
}

/// The account's limits on all its streams together; `old` is the stream that changes, if it is not new.
fn check_account(facts: &Facts, config: &StreamConfig, old: Option<&StreamSlot>) -> Result<(), ApiError> {
    let Some(limits) = facts.account.jetstream.as_ref() else { return Err(errors::NOT_ENABLED_FOR_ACCOUNT) };
    let streams = || facts.table.streams_of(&facts.account.name);
    if old.is_none() && limits.streams_max.is_some_and(|max| streams().count() as u64 >= u64::from(max)) {
        return Err(errors::MAXIMUM_STREAMS_LIMIT);
    }
    if limits.consumers_max.is_some_and(|max| max > 0 && config.max_consumers > i64::from(max)) {
        return Err(errors::MAXIMUM_CONSUMERS_LIMIT);
    }
    let others = streams().map(|(_, slot)| &slot.config).filter(|other| other.name != config.name);
    let reserved: u64 = others.filter(|other| other.storage == config.storage).map(reserved_bytes).sum();
    let (limit, error) = match config.storage {
        StorageKind::File => (limits.file_bytes_max, errors::STORAGE_RESOURCES_EXCEEDED),
        StorageKind::Memory => (limits.memory_bytes_max, errors::MEMORY_RESOURCES_EXCEEDED),
    };
    if limit.is_some_and(|limit| reserved.saturating_add(reserved_bytes(config).max(1)) > limit) {
        return Err(error);
    }
    check_server(facts, config, error)
}

/// A server that stands alone has no other to place it on.
fn check_server(facts: &Facts, config: &StreamConfig, error: ApiError) -> Result<(), ApiError> {
    let Some(known) = facts.facts_of(facts.view.me.server).filter(|_| facts.cluster.is_none()) else { return Ok(()) };
    let limit = match config.storage {
        StorageKind::File => known.file_bytes_max,
        StorageKind::Memory => known.memory_bytes_max,
    };
    let others = facts.table.streams().map(|(_, slot)| &slot.config).filter(|other| other.name != config.name);
    let reserved: u64 = others.filter(|other| other.storage == config.storage).map(reserved_bytes).sum();
    match limit > 0 && reserved.saturating_add(reserved_bytes(config)) > limit {
        true => Err(error),
        false => Ok(()),
    }
}

/// What a stream reserves of its account: `max_bytes` on each replica.
fn reserved_bytes(config: &StreamConfig) -> u64 {
    let bytes = u64::try_from(config.max_bytes).unwrap_or(0);
    bytes.saturating_mul(u64::try_from(config.num_replicas).unwrap_or(1))
}

/// A subject belongs to one stream of an account.
fn check_overlap(facts: &Facts, config: &StreamConfig) -> Result<(), ApiError> {
    let others = facts.table.streams_of(&facts.account.name).filter(|(name, _)| *name != config.name);
    let mut taken = others.flat_map(|(_, slot)| &slot.config.subjects);
    let collides = |one: &String| config.subjects.iter().any(|mine| subject::overlaps(mine.as_bytes(), one.as_bytes()));
    if taken.any(collides) { Err(errors::STREAM_SUBJECT_OVERLAP) } else { Ok(()) }
}

/// Consumers that are there keep within limits that the stream now sets.
fn check_consumers(slot: &StreamSlot, config: &StreamConfig) -> Result<(), ApiError> {
    let (old, new) = (slot.config.consumer_limits, config.consumer_limits);
    if old == new {
        return Ok(());
    }
    let over = |value: i64, limit: i64| limit > 0 && value > limit;
    let violating = slot.consumers.iter().filter(|(_, consumer)| {
        over(consumer.config.inactive_threshold, new.inactive_threshold)
            || over(consumer.config.max_ack_pending, new.max_ack_pending)
    });
    let names: Vec<&str> = violating.map(|(name, _)| name.as_str()).collect();
    if names.is_empty() {
        return Ok(());
    }
    let text = format!("change to limits violates consumers: {}", names.join(", "));
    Err(errors::STREAM_UPDATE.with("err", text))
}
