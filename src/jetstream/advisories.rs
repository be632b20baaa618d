//! What JetStream says unasked about streams, consumers and the meta group: created, changed, deleted, a leader elected,
//! the quorum lost. Subjects and JSON are the peer's (`jetstream_events.go`).
//!
//! Assets that come and go are told by the meta leader when the entry is committed, before the asset has a leader of its
//! own; leaders by themselves; a lost quorum by every replica that notices. An event is told once or, when the one that
//! would tell it fails in that moment, never: whoever must know looks at the asset.

use bytes::Bytes;
use serde::Serialize;

use super::{JetStream, JsOutput};
use crate::api;
use crate::api::cluster_info::{Replica, everybody};
use crate::cluster::table::TableChange;
use crate::cluster::view::View;
use crate::consumer::advisory::event_id;
use crate::group::{GroupKind, GroupStatus};
use crate::ids::{AccountId, GroupId, Now, ServerId};
use crate::stream::info::time_text;

/// Fields in the peer's order; each event has some of them.
#[derive(Debug, Default, Clone, Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<Vec<Replica>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
}

/// A leader came, or the majority went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Elected,
    QuorumLost,
}

impl Turn {
    /// The last token of the subject's family, and the end of the type.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Turn::Elected => ("LEADER_ELECTED", "leader_elected"),
            Turn::QuorumLost => ("QUORUM_LOST", "quorum_lost"),
        }
    }
}

impl JetStream {
    /// A committed entry of the meta group changed the table: `index` is the entry's.
    pub(super) fn tell_change(&mut self, now: Now, index: u64, change: &TableChange) {
        if !self.leads_meta() {
            return;
        }
        let created_here = |group: GroupId| group.created_at() == index;
        match change {
            TableChange::Stream { key } => match self.table.stream(&key.0, &key.1) {
                Some(slot) if created_here(slot.group()) => self.tell_action(now, index, key, None, "create"),
                Some(slot) if slot.asked.is_some() => self.tell_action(now, index, key, None, "modify"),
                _ => {}
            },
            TableChange::StreamGone { key, slot, .. } => {
                for consumer in slot.consumers.keys() {
                    self.tell_action(now, index, key, Some(consumer), "delete");
                }
                self.tell_action(now, index, key, None, "delete");
            }
            TableChange::Consumer { key, name } => {
                let slot = self.table.consumer(&key.0, &key.1, name);
                if slot.is_some_and(|slot| created_here(slot.group())) {
                    self.tell_action(now, index, key, Some(name), "create");
                }
            }
            TableChange::ConsumerGone { key, name, .. } => self.tell_action(now, index, key, Some(name), "delete"),
            TableChange::Formed { .. }
            | TableChange::Server { .. }
            | TableChange::ServerGone { .. }
            | TableChange::Restored => {}
        }
    }

    fn tell_action(
        &mut self,
        now: Now,
        index: u64,
        (account, stream): &(String, String),
        consumer: Option<&str>,
        action: &'static str,
    ) {
        let Some(account) = self.accounts.id(account) else { return };
        let (asset, dot, name) = match consumer {
            Some(name) => ("consumer", ".", name),
            None => ("stream", "", ""),
        };
        let word = match action {
            "create" => "CREATED",
            "modify" => "UPDATED",
            _ => "DELETED",
        };
        let subject = format!("$JS.EVENT.ADVISORY.{}.{word}.{stream}{dot}{name}", asset.to_ascii_uppercase());
        let seed = index ^ subject.bytes().fold(0, |hash: u64, byte| hash.rotate_left(5) ^ u64::from(byte));
        let body = Body {
            kind: format!("io.nats.jetstream.advisory.v1.{asset}_action"),
            id: event_id(seed, now, index),
            timestamp: time_text(now.wall_ns),
            stream: Some(stream),
            consumer,
            action: Some(action),
            domain: self.config.jetstream.as_ref().and_then(|js| js.domain.as_deref()),
            ..Body::default()
        };
        let payload = api::render::json(&body);
        self.tell(account, subject, payload);
    }

    /// A group's leader is another one, or none. `led`: this replica led before.
    pub(super) fn tell_role(&mut self, now: Now, view: &View, group: GroupId, led: bool, leader: Option<ServerId>) {
        if group == GroupId::META {
            self.log_meta_leader(view, leader);
        }
        let leads = self.leads(group);
        let turn = if leads && !led {
            Turn::Elected
        } else if !leads && leader.is_none() && !self.groups.hears_quorum(group) {
            Turn::QuorumLost
        } else {
            return;
        };
        let Some(status) = self.groups.status(group).filter(|status| status.voters.len() > 1) else { return };
        match status.kind {
            GroupKind::Meta if turn == Turn::Elected => self.tell_meta_leader(now, view, &status),
            GroupKind::Meta => {}
            GroupKind::Stream | GroupKind::Consumer => {
                self.log_turn(turn, &status);
                self.tell_turn(now, view, turn, &status);
            }
        }
    }

    pub(super) fn leads(&self, group: GroupId) -> bool {
        if group == GroupId::META {
            return self.leads_meta();
        }
        let stream = self.streams.get(&group).is_some_and(|hosted| hosted.leading);
        stream || self.consumers.get(&group).is_some_and(|hosted| hosted.leading)
    }

    /// Told in the asset's account, and in the system account with the account's name.
    fn tell_turn(&mut self, now: Now, view: &View, turn: Turn, status: &GroupStatus) {
        let (key, consumer) = match (self.streams.get(&status.group), self.consumers.get(&status.group)) {
            (Some(hosted), _) => (&hosted.key, None),
            (_, Some(hosted)) => (&hosted.key, Some(hosted.name.as_str())),
            _ => return,
        };
        let Some(account) = self.accounts.id(&key.0) else { return };
        let Some(facts) = self.facts(now, view, account) else { return };
        let (asset, dot, name) = match consumer {
            Some(name) => ("consumer", ".", name),
            None => ("stream", "", ""),
        };
        let (word, kind) = turn.words();
        let subject = format!("$JS.EVENT.ADVISORY.{}.{word}.{}{dot}{name}", asset.to_ascii_uppercase(), key.1);
        let mut body = Body {
            kind: format!("io.nats.jetstream.advisory.v1.{asset}_{kind}"),
            id: event_id(status.group.0 ^ self.me.server.0, now, status.term),
            timestamp: time_text(now.wall_ns),
            stream: Some(&key.1),
            consumer,
            leader: (turn == Turn::Elected).then(|| facts.name_of(self.me.server)),
            replicas: Some(everybody(&facts, status)),
            domain: facts.domain(),
            ..Body::default()
        };
        let to_account = api::render::json(&body);
        body.account = Some(&key.0);
        let to_system = api::render::json(&body);
        if let Some(system) = self.accounts.system().filter(|system| *system != account) {
            self.tell(system, subject.clone(), to_system);
        }
        self.tell(account, subject, to_account);
    }

    fn tell_meta_leader(&mut self, now: Now, view: &View, status: &GroupStatus) {
        let Some(system) = self.accounts.system() else { return };
        let Some(facts) = self.facts(now, view, system) else { return };
        let body = Body {
            kind: "io.nats.jetstream.advisory.v1.domain_leader_elected".to_owned(),
            id: event_id(self.me.server.0, now, status.term),
            timestamp: time_text(now.wall_ns),
            leader: Some(self.me.server.to_string()),
            replicas: Some(everybody(&facts, status)),
            cluster: facts.cluster,
            domain: facts.domain(),
            ..Body::default()
        };
        let payload = api::render::json(&body);
        self.tell(system, "$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED".to_owned(), payload);
    }

    /// Something befell this server itself; the system account hears of it. `word` ends the subject, `kind` the type.
    pub(super) fn tell_server(&mut self, now: Now, word: &str, kind: &str) {
        let Some(system) = self.accounts.system() else { return };
        let body = Body {
            kind: format!("io.nats.jetstream.advisory.v1.server_{kind}"),
            id: event_id(self.me.server.0 ^ u64::from(self.me.core), now, now.us),
            timestamp: time_text(now.wall_ns),
            server: Some(&self.server_name),
            server_id: Some(&self.server_id),
            cluster: Some(self.cluster.as_deref().unwrap_or_default()),
            domain: self.config.jetstream.as_ref().and_then(|js| js.domain.as_deref()),
            ..Body::default()
        };
        let payload = api::render::json(&body);
        self.tell(system, format!("$JS.EVENT.ADVISORY.SERVER.{word}"), payload);
    }

    fn tell(&mut self, account: AccountId, subject: String, payload: Bytes) {
        self.out.push_back(JsOutput::Publish { account, subject: subject.into(), payload });
    }
}
