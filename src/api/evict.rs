//! `SERVER.REMOVE`: an operator takes a server out of the cluster. Follows `jsLeaderServerRemoveRequest` of
//! `jetstream_api.go`.
//!
//! Its replicas go to other servers that fit; where none does, the stream goes on with those that are left. A stream
//! whose only replica was there stays where its data is: it serves again if the server comes back.

use serde::Deserialize;

use super::choose::consumers_follow;
use super::edit::without;
use super::errors::{self, ApiError};
use super::facts::Facts;
use super::render;
use super::request;
use super::verdict::MetaVerdict;
use crate::cluster::table::{MetaEntry, StreamSlot};
use crate::ids::ServerId;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServerRemove {
    /// A server's name.
    peer: String,
    /// Its id; wins over the name.
    peer_id: String,
}

pub(super) fn remove(facts: &Facts, body: &[u8]) -> Result<MetaVerdict, ApiError> {
    if facts.cluster.is_none() {
        return Err(errors::CLUSTER_REQUIRED);
    }
    if request::is_empty(body) {
        return Err(errors::BAD_REQUEST);
    }
    let asked: ServerRemove = request::required(body, facts.strict())?;
    let named = |(id, known): &(&u64, &crate::cluster::table::ServerFacts)| match asked.peer_id.is_empty() {
        true => known.name == asked.peer,
        false => ServerId(**id).to_string() == asked.peer_id,
    };
    if facts.proposed().any(|entry| matches!(entry, MetaEntry::DropServer { .. })) {
        return Err(errors::CLUSTER_SERVER_MEMBER_CHANGE_INFLIGHT);
    }
    let (id, _) = facts.table.servers.iter().find(named).ok_or(errors::CLUSTER_SERVER_NOT_MEMBER)?;
    let leaving = ServerId(*id);
    let mut entries = vec![MetaEntry::DropServer { server: leaving.0 }];
    for ((account, _), slot) in facts.table.streams().filter(|(_, slot)| slot.has_peer(leaving)) {
        entries.extend(replaced(facts, &account, slot, leaving));
    }
    Ok(MetaVerdict::ProposeAnd { entries, then: Box::new(MetaVerdict::Answer(render::removed_server())) })
}

/// `SERVER.READMIT`, ours: the peer lets a removed server in again after five minutes and has no word for it.
pub(super) fn readmit(facts: &Facts, body: &[u8]) -> Result<MetaVerdict, ApiError> {
    let asked: ServerRemove = request::required(body, facts.strict())?;
    let named = |(id, name): &(&u64, &String)| match asked.peer_id.is_empty() {
        true => **name == asked.peer,
        false => ServerId(**id).to_string() == asked.peer_id,
    };
    let (id, _) = facts.table.evicted.iter().find(named).ok_or(errors::CLUSTER_SERVER_NOT_MEMBER)?;
    let answer = Box::new(MetaVerdict::Answer(render::readmitted_server()));
    Ok(MetaVerdict::ProposeAnd { entries: vec![MetaEntry::Readmit { server: *id }], then: answer })
}

pub(super) fn replaced(facts: &Facts, account: &str, slot: &StreamSlot, leaving: ServerId) -> Vec<MetaEntry> {
    if slot.peers.len() < 2 {
        return Vec::new();
    }
    let rest = || slot.peers.iter().copied().filter(|peer| *peer != leaving.0).collect();
    let peers: Vec<u64> = without(facts, slot, leaving).unwrap_or_else(|_| rest());
    let mut entries = vec![MetaEntry::PutStream {
        account: account.to_owned(),
        config: Box::new(slot.config.clone()),
        created_ns: slot.created_ns,
        peers: peers.clone(),
        asked: None,
    }];
    entries.extend(consumers_follow(facts, account, slot, slot.config.num_replicas, &peers));
    entries
}
