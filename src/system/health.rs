//! Whether this server is ready: each core names what is missing among the groups that it should hold, and HEALTHZ is
//! built of the names.
//!
//! Ready means: the log is read, the meta group has a leader and this server is a member that is not behind, and every
//! stream and consumer that the table assigns to this server is open, led and not behind. A server that was put out of
//! the cluster has no JetStream any more and is not ready either.

use serde::Serialize;

use super::page::HealthzOptions;
use super::scene::Scene;
use crate::cluster::table::{ConsumerSlot, StreamSlot};
use crate::group::{GroupRole, GroupStatus, home_core};
use crate::ids::GroupId;
use crate::jetstream::JetStream;
use crate::limits::MEMBERS_LAG_MAX;

/// Problems that one core names at most: whoever reads more than these will not read them.
const PROBLEMS_MAX: usize = 1024;

/// The core that has the meta group and answers for it.
const META_CORE: u16 = 0;

/// What kind of thing is not well, with the peer's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    BadRequest,
    Connection,
    Jetstream,
    Account,
    Stream,
    Consumer,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: Kind,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consumer: String,
    pub error: String,
}

impl Problem {
    pub fn new(kind: Kind, error: impl Into<String>) -> Problem {
        let (account, stream, consumer) = Default::default();
        Problem { kind, account, stream, consumer, error: error.into() }
    }
}

/// What is wrong on this core, the meta group first.
pub fn of_core(scene: &Scene, options: &HealthzOptions) -> Vec<Problem> {
    let skips = options.js_server_only || options.js_enabled || options.js_enabled_only;
    let here = scene.view.me.core == META_CORE;
    let Some(js) = scene.js.filter(|_| !skips) else {
        let missing = here && scene.config().jetstream.is_some() && scene.js.is_none();
        return if missing { vec![Problem::new(Kind::Jetstream, DISABLED)] } else { Vec::new() };
    };
    if here && let Some(error) = meta_fault(scene, js) {
        return vec![Problem::new(Kind::Jetstream, error)];
    }
    if js.table().cluster_id.is_none() {
        return vec![Problem::new(Kind::Jetstream, RECOVERING)];
    }
    if options.js_meta_only { Vec::new() } else { asset_problems(scene, js, options) }
}

const DISABLED: &str = "JetStream not enabled (10076)";
const RECOVERING: &str = "JetStream is still recovering meta layer";
const NO_META_LEADER: &str = "JetStream has not established contact with a meta leader";
const META_BEHIND: &str = "JetStream is not current with the meta leader";

/// The peer's texts for a meta group that is not well.
fn meta_fault(scene: &Scene, js: &JetStream) -> Option<&'static str> {
    let Some(status) = js.status(GroupId::META) else { return Some(NO_META_LEADER) };
    let led = status.role == GroupRole::Leader || scene.meta_leader().is_some() && status.leader.is_some();
    match status.role {
        GroupRole::Closed => Some("JetStream meta layer is not running"),
        GroupRole::Restoring => Some(RECOVERING),
        _ if !led => Some(NO_META_LEADER),
        _ if !is_current(scene, &status, js.table().applied.max(status.applied)) => Some(META_BEHIND),
        _ if js.table().cluster_id.is_none() => Some(RECOVERING),
        _ => None,
    }
}

/// A member that votes, that has applied what it knows to be committed, and whose log is whole.
fn is_current(scene: &Scene, status: &GroupStatus, applied: u64) -> bool {
    let member = status.voters.contains(&scene.view.me.server) && !status.voteless;
    member && status.damaged == 0 && status.commit.saturating_sub(applied) <= MEMBERS_LAG_MAX
}

fn asset_problems(scene: &Scene, js: &JetStream, options: &HealthzOptions) -> Vec<Problem> {
    let me = scene.view.me;
    let mine = |group: GroupId| home_core(group, scene.view.cores) == me.core;
    let asked = |wanted: &str, name: &str| wanted.is_empty() || wanted == name;
    let mut problems = Vec::new();
    for ((account, name), slot) in js.table().streams().filter(|(_, slot)| mine(slot.group())) {
        if problems.len() >= PROBLEMS_MAX {
            break;
        }
        if !asked(&options.account, &account) || !asked(&options.stream, &name) || !slot.has_peer(me.server) {
            continue;
        }
        if let Some(why) = stream_fault(scene, js, slot) {
            let error = format!("JetStream stream '{account} > {name}' is not current: {why}");
            problems.push(Problem { account, stream: name, ..Problem::new(Kind::Stream, error) });
            continue;
        }
        for (consumer, slot) in slot.consumers.iter().filter(|(_, slot)| slot.has_peer(me.server)) {
            if asked(&options.consumer, consumer)
                && let Some(why) = consumer_fault(scene, js, slot)
            {
                let error = format!("JetStream consumer '{account} > {name} > {consumer}' is not current: {why}");
                let (account, stream, consumer) = (account.clone(), name.clone(), consumer.clone());
                problems.push(Problem { account, stream, consumer, ..Problem::new(Kind::Consumer, error) });
            }
        }
    }
    problems
}

fn stream_fault(scene: &Scene, js: &JetStream, slot: &StreamSlot) -> Option<&'static str> {
    let hosted = js.streams().get(&slot.group()).filter(|hosted| hosted.restored);
    let Some(hosted) = hosted else { return Some("stream not found") };
    group_fault(scene, js, slot.group(), hosted.stream.applied())
}

fn consumer_fault(scene: &Scene, js: &JetStream, slot: &ConsumerSlot) -> Option<&'static str> {
    let hosted = js.consumers().get(&slot.group()).filter(|hosted| hosted.restored);
    let Some(hosted) = hosted else { return Some("consumer not found") };
    group_fault(scene, js, slot.group(), hosted.consumer.applied())
}

fn group_fault(scene: &Scene, js: &JetStream, group: GroupId, applied: u64) -> Option<&'static str> {
    let Some(status) = js.status(group) else { return Some("group node missing") };
    match status.role {
        GroupRole::Closed => Some("group node is closed"),
        GroupRole::Restoring => Some("group is being read back"),
        GroupRole::Leader => None,
        _ if status.leader.is_none() => Some("group has no leader"),
        _ if !is_current(scene, &status, applied) => Some("group node is behind"),
        _ => None,
    }
}
