//! Creating, changing and deleting consumers: decided by the meta leader, from the table. Follows
//! `jetstream_cluster.go` (`jsClusteredConsumerRequest`).

use sha2::Digest;

use super::choose::{all_offline, consumer_peers};
use super::errors::{self, ApiError};
use super::facts::Facts;
use super::in_flight;
use super::request;
use super::verdict::MetaVerdict;
use crate::cluster::table::{Asked, ConsumerSlot, MetaEntry, StreamSlot};
use crate::consumer::config::Action;
use crate::consumer::{ConsumerConfig, CreateForm, CreateRequest, Parent, ServerLimits, check_update, parse_create};

/// `CONSUMER.CREATE` and `CONSUMER.DURABLE.CREATE`.
pub(super) fn create(
    facts: &Facts,
    stream: &str,
    form: CreateForm,
    asked: Option<Asked>,
    body: &[u8],
) -> Result<MetaVerdict, ApiError> {
    let CreateRequest { config, action, pedantic, .. } = parse_create(body, facts.strict())?.addressed(stream, form)?;
    if in_flight::consumer(facts, stream, config.chosen_name()) {
        return Ok(MetaVerdict::Later);
    }
    let slot = facts.table.stream(&facts.account.name, stream).ok_or(errors::STREAM_NOT_FOUND)?;
    if facts.cluster.is_none() && config.num_replicas > 1 {
        return Err(errors::STREAM_REPLICAS_NOT_SUPPORTED);
    }
    let config = config.defaulted(&parent(slot), &limits(facts), pedantic)?;
    let name = config.chosen_name().to_owned();
    if let Some(there) = slot.consumers.get(&name) {
        return change(facts, slot, there, &name, config, action, asked);
    }
    check_count(facts, slot, action)?;
    if action == Action::Update {
        return Err(errors::CONSUMER_DOES_NOT_EXIST);
    }
    let name = if name.is_empty() { fresh_name(facts, slot, asked.as_ref()) } else { name };
    let durable = config.is_durable();
    let config = config.with_idle_time(durable);
    let peers = consumer_peers(facts, Some(slot), &slot.peers, &config, &[]);
    Ok(MetaVerdict::Propose(vec![put(facts, slot, &name, config, facts.now.wall_ns, peers, asked)]))
}

fn change(
    facts: &Facts,
    slot: &StreamSlot,
    there: &ConsumerSlot,
    name: &str,
    config: ConsumerConfig,
    action: Action,
    asked: Option<Asked>,
) -> Result<MetaVerdict, ApiError> {
    let config = config.with_idle_time(there.config.is_durable()).with_metadata_of(&there.config);
    if action == Action::Create && config != there.config {
        return Err(errors::CONSUMER_ALREADY_EXISTS);
    }
    // Pausing and going on have a call of their own; a client that repeats its configuration ends no pause.
    let config = ConsumerConfig { pause_until: there.config.pause_until, ..config };
    check_update(&there.config, &config)?;
    if all_offline(facts, &there.peers) {
        return Err(errors::CONSUMER_OFFLINE);
    }
    if config == there.config {
        return Ok(MetaVerdict::Forward(there.group()));
    }
    let replicas = |config: &ConsumerConfig| config.replicas(slot.peers.len());
    let peers = match replicas(&config) == replicas(&there.config) {
        true => there.peers.clone(),
        false => consumer_peers(facts, Some(slot), &slot.peers, &config, &there.peers),
    };
    Ok(MetaVerdict::Propose(vec![put(facts, slot, name, config, there.created_ns, peers, asked)]))
}

fn put(
    facts: &Facts,
    slot: &StreamSlot,
    name: &str,
    config: ConsumerConfig,
    created_ns: i64,
    peers: Vec<u64>,
    asked: Option<Asked>,
) -> MetaEntry {
    MetaEntry::PutConsumer {
        account: facts.account.name.clone(),
        stream: slot.config.name.clone(),
        name: name.to_owned(),
        config: Box::new(config),
        created_ns,
        peers,
        asked,
    }
}

/// `CONSUMER.DELETE`.
pub(super) fn delete(
    facts: &Facts,
    stream: &str,
    consumer: &str,
    asked: Option<Asked>,
    body: &[u8],
) -> Result<MetaVerdict, ApiError> {
    if !request::is_empty(body) {
        return Err(errors::NOT_EMPTY_REQUEST);
    }
    if in_flight::consumer(facts, stream, consumer) {
        return Ok(MetaVerdict::Later);
    }
    let slot = facts.table.stream(&facts.account.name, stream).ok_or(errors::STREAM_NOT_FOUND)?;
    slot.consumers.get(consumer).ok_or(errors::CONSUMER_NOT_FOUND)?;
    Ok(MetaVerdict::Propose(vec![MetaEntry::DropConsumer {
        account: facts.account.name.clone(),
        stream: stream.to_owned(),
        name: consumer.to_owned(),
        asked,
    }]))
}

fn parent(slot: &StreamSlot) -> Parent {
    Parent {
        replicas: usize::try_from(slot.config.num_replicas).unwrap_or(1),
        max_ack_pending: slot.config.consumer_limits.max_ack_pending,
        inactive_threshold: slot.config.consumer_limits.inactive_threshold,
    }
}

fn limits(facts: &Facts) -> ServerLimits {
    let number = |limit: Option<u32>| limit.map_or(0, i64::from);
    let server = facts.config.jetstream.as_ref().map(|js| &js.limits);
    let account = facts.account.jetstream.as_ref();
    ServerLimits {
        max_request_batch: number(server.and_then(|limits| limits.request_batch_max)),
        max_ack_pending: number(server.and_then(|limits| limits.ack_pending_max)),
        account_max_ack_pending: number(account.and_then(|account| account.ack_pending_max)),
    }
}

/// The stream's limit and the account's, which also counts per stream, as with the peer.
fn check_count(facts: &Facts, slot: &StreamSlot, action: Action) -> Result<(), ApiError> {
    let account = facts.account.jetstream.as_ref().and_then(|account| account.consumers_max);
    let limits = [slot.config.max_consumers, account.map_or(0, i64::from)];
    let full = limits.iter().any(|max| *max > 0 && slot.consumers.len() as i64 >= *max);
    if full && action != Action::Update { Err(errors::MAXIMUM_CONSUMERS_LIMIT) } else { Ok(()) }
}

/// A name for a consumer that was given none: eight characters that follow from the request, its time and its reply
/// subject, which no two requests share.
fn fresh_name(facts: &Facts, slot: &StreamSlot, asked: Option<&Asked>) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut salt = 0u64;
    loop {
        let mut hash = sha2::Sha256::new();
        hash.update(facts.now.wall_ns.to_be_bytes());
        hash.update(facts.now.us.to_be_bytes());
        hash.update(slot.group.to_be_bytes());
        hash.update(asked.map_or("", |asked| asked.subject.as_str()));
        hash.update(salt.to_be_bytes());
        let name: String = hash.finalize().iter().take(8).map(|b| char::from(DIGITS[usize::from(b % 62)])).collect();
        if !slot.consumers.contains_key(&name) {
            return name;
        }
        salt += 1;
    }
}
