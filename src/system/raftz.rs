//! RAFTZ: every raft group of an account that has a replica here, and how this replica stands.

use std::collections::BTreeMap;

use serde::Serialize;

use super::envelope::Outcome;
use super::page::RaftzOptions;
use super::part::{Body, PagePart};
use super::scene::Scene;
use super::text::{NEVER, duration};
use crate::api::cluster_info::group_name;
use crate::group::{GroupRole, GroupStatus};
use crate::ids::{GroupId, ServerId};
use crate::jetstream::JetStream;

/// The meta group's name in all reports.
pub const META_NAME: &str = "_meta_";

/// A group of this core and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRow {
    account: String,
    name: String,
    status: GroupStatus,
}

#[derive(Debug, Serialize)]
struct Raftz {
    id: String,
    state: &'static str,
    size: usize,
    quorum_needed: usize,
    committed: u64,
    applied: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    leader: String,
    ever_had_leader: bool,
    term: u64,
    pterm: u64,
    pindex: u64,
    epoch: u32,
    /// Entries that are damaged here and not healed.
    #[serde(skip_serializing_if = "is_zero")]
    damaged: u64,
    system_account: bool,
    traffic_account: String,
    ipq_proposal_len: u64,
    ipq_entry_len: u64,
    ipq_resp_len: u64,
    ipq_apply_len: u64,
    wal: Wal,
    peers: BTreeMap<String, Peer>,
}

#[derive(Debug, Serialize)]
struct Wal {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    first_ts: &'static str,
    last_seq: u64,
    last_ts: &'static str,
    consumer_count: u64,
}

#[derive(Debug, Serialize)]
struct Peer {
    name: String,
    known: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    learner: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    lag: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

pub fn part(scene: &Scene, options: &RaftzOptions) -> Vec<GroupRow> {
    let Some(js) = scene.js else { return Vec::new() };
    let system = scene.config().system_account.as_deref().unwrap_or_default();
    let account = if options.account.is_empty() { system } else { &options.account };
    let mut rows = of_account(js, account);
    if account == system
        && let Some(status) = js.status(GroupId::META)
    {
        rows.push(GroupRow { account: account.to_owned(), name: META_NAME.to_owned(), status });
    }
    rows.retain(|row| options.group.is_empty() || row.name == options.group);
    rows
}

fn of_account(js: &JetStream, account: &str) -> Vec<GroupRow> {
    let streams = js.streams().iter().map(|(group, hosted)| (*group, &hosted.key));
    let consumers = js.consumers().iter().map(|(group, hosted)| (*group, &hosted.key));
    let row = |group: GroupId| {
        let status = js.status(group)?;
        let name = group_name(&status, status.voters.len() + status.learners.len());
        Some(GroupRow { account: account.to_owned(), name, status })
    };
    streams.chain(consumers).filter(|(_, key)| key.0 == account).filter_map(|(group, _)| row(group)).collect()
}

pub fn build(scene: &Scene, parts: Vec<PagePart>) -> Outcome {
    let mut accounts: BTreeMap<String, BTreeMap<String, Raftz>> = BTreeMap::new();
    for part in parts {
        if let Body::Groups(rows) = part.body {
            for row in rows {
                let groups = accounts.entry(row.account.clone()).or_default();
                groups.insert(row.name, raftz(scene, &row.status));
            }
        }
    }
    Ok(Box::new(accounts))
}

fn raftz(scene: &Scene, status: &GroupStatus) -> Raftz {
    let me = scene.view.me.server;
    let leader = if status.role == GroupRole::Leader { Some(me) } else { status.leader };
    Raftz {
        id: me.to_string(),
        state: state(status.role),
        size: status.voters.len(),
        quorum_needed: status.voters.len() / 2 + 1,
        committed: status.commit,
        applied: status.applied,
        leader: leader.map(|server| server.to_string()).unwrap_or_default(),
        ever_had_leader: leader.is_some() || status.commit > 0,
        term: status.term,
        pterm: status.term,
        pindex: status.last,
        epoch: status.epoch,
        damaged: status.damaged,
        system_account: true,
        traffic_account: scene.config().system_account.clone().unwrap_or_default(),
        ipq_proposal_len: 0,
        ipq_entry_len: 0,
        ipq_resp_len: 0,
        ipq_apply_len: 0,
        wal: Wal {
            messages: (status.last + 1).saturating_sub(status.first),
            bytes: 0,
            first_seq: status.first,
            first_ts: NEVER,
            last_seq: status.last,
            last_ts: NEVER,
            consumer_count: 0,
        },
        peers: peers(scene, status, me),
    }
}

fn state(role: GroupRole) -> &'static str {
    match role {
        GroupRole::Leader => "LEADER",
        GroupRole::Candidate => "CANDIDATE",
        GroupRole::Follower | GroupRole::Restoring => "FOLLOWER",
        GroupRole::Closed => "CLOSED",
    }
}

fn peers(scene: &Scene, status: &GroupStatus, me: ServerId) -> BTreeMap<String, Peer> {
    let members = status.voters.iter().chain(&status.learners).filter(|server| **server != me);
    let peer = |server: &ServerId| {
        let seen = status.peers.iter().find(|peer| peer.server == *server);
        let silent_us = seen.and_then(|peer| peer.last_contact_us).map(|at| scene.now.us.saturating_sub(at));
        let peer = Peer {
            name: scene.name_of(*server),
            known: true,
            learner: status.learners.contains(server),
            last_seen: silent_us.map(|us| duration(us.saturating_mul(1_000))),
            lag: seen.map_or(0, |peer| peer.lag),
        };
        (server.to_string(), peer)
    };
    members.map(peer).collect()
}
