//! The `cluster` part of STREAM.INFO and CONSUMER.INFO: who leads, who replicates, and how far behind they are.
//!
//! Follows the peer's `ClusterInfo` (`jetstream_cluster.go`): absent on a server that stands alone, without a group's
//! name where there is one replica. Only a leader knows how far the others are; another replica says who they are.

use serde::Serialize;
use sha2::Digest;

use super::facts::Facts;
use crate::group::{GroupKind, GroupRole, GroupStatus};
use crate::ids::ServerId;
use crate::stream::info::time_text;

#[derive(Debug, Serialize)]
struct ClusterInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raft_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader_since: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    system_account: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_account: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    replicas: Vec<Replica>,
}

/// One member as others see it.
#[derive(Debug, Clone, Serialize)]
pub struct Replica {
    name: String,
    current: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    offline: bool,
    /// Nanoseconds since it was last heard of.
    active: u64,
    #[serde(skip_serializing_if = "is_zero")]
    lag: u64,
    peer: String,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The whole object. `peers` are the servers that should replicate the group by the table. On a server that stands
/// alone it says no more than who leads.
pub fn cluster_info(facts: &Facts, status: &GroupStatus, peers: &[u64]) -> serde_json::Value {
    let members = members(status, peers);
    let single = members.len() <= 1;
    let leader = leader(facts, status);
    let clustered = facts.cluster.is_some();
    let system = facts.config.system_account.as_deref().filter(|_| clustered && !single);
    let info = ClusterInfo {
        name: facts.cluster,
        raft_group: (clustered && !single).then(|| group_name(status, members.len())),
        leader: leader.map(|server| facts.name_of(server)),
        leader_since: status.led_since_ns.filter(|_| clustered && !single).map(time_text),
        system_account: system.is_some(),
        traffic_account: system,
        replicas: if clustered { replicas(facts, status, &members, leader) } else { Vec::new() },
    };
    serde_json::to_value(info).expect("texts and numbers")
}

/// The same for whoever only shows it in a cluster.
pub fn cluster_info_if_clustered(facts: &Facts, status: &GroupStatus, peers: &[u64]) -> Option<serde_json::Value> {
    facts.cluster.map(|_| cluster_info(facts, status, peers))
}

/// What is known about a group of which this server has no replica, or none that answers.
pub fn cluster_info_from_table(facts: &Facts, peers: &[u64]) -> serde_json::Value {
    let members: Vec<ServerId> = peers.iter().map(|peer| ServerId(*peer)).collect();
    let replica = |server: &ServerId| Replica {
        name: facts.name_of(*server),
        current: false,
        offline: !facts.view.online(*server),
        active: 0,
        lag: 0,
        peer: server.to_string(),
    };
    let info = ClusterInfo {
        name: facts.cluster,
        raft_group: None,
        leader: None,
        leader_since: None,
        system_account: false,
        traffic_account: None,
        replicas: members.iter().map(replica).collect(),
    };
    serde_json::to_value(info).expect("texts and numbers")
}

/// Who leads, as far as this server knows.
pub fn leader(facts: &Facts, status: &GroupStatus) -> Option<ServerId> {
    match status.role {
        GroupRole::Leader => Some(facts.view.me.server),
        _ => status.leader.or_else(|| facts.view.leads.leader(status.group)),
    }
}

/// Members that are, and those that are to come.
fn members(status: &GroupStatus, peers: &[u64]) -> Vec<ServerId> {
    let mut all: Vec<ServerId> = status.voters.iter().chain(&status.learners).copied().collect();
    all.extend(peers.iter().map(|peer| ServerId(*peer)));
    all.sort_unstable();
    all.dedup();
    all
}

/// Everybody but the leader, or but this server while there is no leader.
fn replicas(facts: &Facts, status: &GroupStatus, members: &[ServerId], leader: Option<ServerId>) -> Vec<Replica> {
    let mut list: Vec<Replica> = members
        .iter()
        .filter(|server| leader != Some(**server))
        .map(|server| replica(facts, status, *server))
        .collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

/// All members of a group, the leader among them: what its advisories say.
pub fn everybody(facts: &Facts, status: &GroupStatus) -> Vec<Replica> {
    replicas(facts, status, &members(status, &[]), None)
}

fn replica(facts: &Facts, status: &GroupStatus, server: ServerId) -> Replica {
    let offline = !facts.view.online(server);
    let me = server == facts.view.me.server;
    let seen = status.peers.iter().find(|peer| peer.server == server);
    let active_us = seen.and_then(|peer| peer.last_contact_us).map_or(0, |at| facts.now.us.saturating_sub(at));
    Replica {
        name: facts.name_of(server),
        current: !offline && (seen.is_some_and(|peer| peer.current) || me && status.applied >= status.commit),
        offline,
        active: active_us.saturating_mul(1000),
        lag: seen.map_or(0, |peer| peer.lag),
        peer: server.to_string(),
    }
}

/// A name in the peer's shape, `S-R3F-6tV5Zt5D`: kind, replicas, storage, and eight characters of the group's id.
pub fn group_name(status: &GroupStatus, replicas: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let kind = match status.kind {
        GroupKind::Meta => "_meta_",
        GroupKind::Stream => "S",
        GroupKind::Consumer => "C",
    };
    let storage = if status.memory { 'M' } else { 'F' };
    let hash = sha2::Sha256::digest(status.group.0.to_be_bytes());
    let id: String = hash.iter().take(8).map(|byte| char::from(DIGITS[usize::from(byte % 62)])).collect();
    format!("{kind}-R{replicas}{storage}-{id}")
}
