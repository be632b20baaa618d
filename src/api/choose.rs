//! Servers for the replicas of streams and consumers, from the table and from what this server sees.
//!
//! A stream's servers come from [`crate::cluster::place`]; here is what it is asked, and what follows from its answer:
//! consumers live on servers of their stream, so that a stream that moves takes them along.

use crate::cluster::place::{self, Candidate, Wanted};
use crate::cluster::table::{ConsumerSlot, MetaEntry, ServerFacts, StreamSlot};
use crate::consumer::ConsumerConfig;
use crate::ids::{GroupId, ServerId};
use crate::stream::StreamConfig;
use crate::stream::config::StorageKind;

use super::facts::Facts;

/// Servers for a stream. `keep`: those that hold it now, first the one that should stay by all means; `exclude`: those
/// that must not be chosen.
///
/// # Errors
/// The text of error 10005.
pub(super) fn stream_peers(
    facts: &Facts,
    config: &StreamConfig,
    keep: &[ServerId],
    exclude: &[ServerId],
) -> Result<Vec<u64>, String> {
    if facts.cluster.is_none() {
        return Ok(vec![facts.view.me.server.0]);
    }
    let load = place::load(facts.table.streams().map(|(_, slot)| slot.peers.as_slice()));
    let wants = u64::try_from(config.max_bytes).unwrap_or(0);
    let (mut candidates, mut full, mut crowded) = (Vec::new(), false, false);
    for (server, known) in &facts.table.servers {
        let server = ServerId(*server);
        let free = free_bytes(facts, config, server, known);
        if !keep.contains(&server) {
            let no_room = wants > free;
            let too_many = has_too_many(facts, server);
            (full, crowded) = (full || no_room, crowded || too_many);
            if no_room || too_many {
                continue;
            }
        }
        let replicas = load.get(&server.0).copied().unwrap_or(0);
        candidates.push(Candidate { server, facts: known, online: facts.view.online(server), replicas, free });
    }
    let placement = config.placement.clone().unwrap_or_default();
    let unique_tag = facts.config.jetstream.as_ref().and_then(|js| js.unique_tag.as_deref());
    let wanted = Wanted {
        replicas: usize::try_from(config.num_replicas).unwrap_or(1),
        cluster: &placement.cluster,
        tags: &placement.tags,
        unique_tag: unique_tag.unwrap_or(""),
        keep,
        exclude,
    };
    let chosen = place::place(&wanted, &candidates, spread_of(&facts.account.name, &config.name));
    let chosen = chosen.map_err(|text| match (full, crowded) {
        (true, _) => format!("{text}, insufficient storage"),
        (false, true) => format!("{text}, miscellaneous issue"),
        (false, false) => text,
    })?;
    Ok(chosen.into_iter().map(|server| server.0).collect())
}

/// Bytes that a server has left for such a stream beside those reserved there already.
fn free_bytes(facts: &Facts, config: &StreamConfig, server: ServerId, known: &ServerFacts) -> u64 {
    let limit = match config.storage {
        StorageKind::File => known.file_bytes_max,
        StorageKind::Memory => known.memory_bytes_max,
    };
    if limit == 0 {
        return u64::MAX;
    }
    let there = facts.table.streams().filter(|(_, slot)| {
        let itself = slot.config.name == config.name && slot.account == facts.account.name;
        slot.has_peer(server) && slot.config.storage == config.storage && !itself
    });
    let reserved: u64 = there.filter_map(|(_, slot)| u64::try_from(slot.config.max_bytes).ok()).sum();
    limit.saturating_sub(reserved)
}

/// Whether a server holds more replicated streams and consumers than `max_ha_assets` allows.
fn has_too_many(facts: &Facts, server: ServerId) -> bool {
    let limit = facts.config.jetstream.as_ref().and_then(|js| js.limits.ha_assets_max).filter(|max| *max > 0);
    let Some(max) = limit else { return false };
    let held = |peers: &[u64]| usize::from(peers.len() > 1 && peers.contains(&server.0));
    let of = |slot: &StreamSlot| {
        held(&slot.peers) + slot.consumers.values().map(|consumer| held(&consumer.peers)).sum::<usize>()
    };
    facts.table.streams().map(|(_, slot)| of(slot)).sum::<usize>() as u64 >= u64::from(max)
}

/// A stream's servers with its leader first: whoever leads is the last to go.
pub(super) fn leader_first(facts: &Facts, slot: &StreamSlot) -> Vec<ServerId> {
    let leader = facts.view.leads.leader(slot.group());
    let mut peers: Vec<ServerId> = slot.peers.iter().map(|peer| ServerId(*peer)).collect();
    peers.sort_by_key(|peer| (leader != Some(*peer), !facts.view.online(*peer)));
    peers
}

/// Servers for a consumer of a stream on `stream_peers`: those that hold it now, then the stream's leader, then the ones
/// that are up and hold the fewest of this stream's consumers.
pub(super) fn consumer_peers(
    facts: &Facts,
    stream: Option<&StreamSlot>,
    stream_peers: &[u64],
    config: &ConsumerConfig,
    keep: &[u64],
) -> Vec<u64> {
    let wanted = config.replicas(stream_peers.len()).max(1);
    let leader = stream.and_then(|slot| facts.view.leads.leader(slot.group()));
    let held = |server: u64| {
        let consumers = stream.into_iter().flat_map(|slot| slot.consumers.values());
        consumers.filter(|consumer| consumer.has_peer(ServerId(server))).count()
    };
    let mut peers = stream_peers.to_vec();
    peers.sort_by_key(|peer| {
        let server = ServerId(*peer);
        (!keep.contains(peer), !facts.view.online(server), leader != Some(server), held(*peer), *peer)
    });
    peers.truncate(wanted);
    peers
}

/// The entries by which a stream's consumers follow it to other servers. One that asks for more replicas than the stream
/// keeps asks for as many from now on (peer behaviour): it could not be edited otherwise.
pub(super) fn consumers_follow(
    facts: &Facts,
    account: &str,
    slot: &StreamSlot,
    replicas: i64,
    peers: &[u64],
) -> Vec<MetaEntry> {
    let follow = |(name, consumer): (&String, &ConsumerSlot)| {
        let mut chosen = consumer_peers(facts, Some(slot), peers, &consumer.config, &consumer.peers);
        let mut there = consumer.peers.clone();
        chosen.sort_unstable();
        there.sort_unstable();
        let mut config = consumer.config.clone();
        config.num_replicas = config.num_replicas.min(replicas);
        (chosen != there || config != consumer.config).then(|| MetaEntry::PutConsumer {
            account: account.to_owned(),
            stream: slot.config.name.clone(),
            name: name.clone(),
            config: Box::new(config),
            created_ns: consumer.created_ns,
            peers: chosen,
            asked: None,
        })
    };
    slot.consumers.iter().filter_map(follow).collect()
}

/// The stream's place among servers that are otherwise equal: FNV-1a of its names, the same everywhere.
fn spread_of(account: &str, stream: &str) -> u64 {
    let names = account.bytes().chain([b'.']).chain(stream.bytes());
    names.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Whether nobody who holds a group is up.
pub(super) fn all_offline(facts: &Facts, peers: &[u64]) -> bool {
    !peers.iter().any(|peer| facts.view.online(ServerId(*peer)))
}

/// Whether somebody is known to lead a group.
pub(super) fn is_led(facts: &Facts, group: GroupId) -> bool {
    facts.view.leads.leader(group).is_some()
}
