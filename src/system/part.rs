//! What one core contributes to a page, as values: the core that was asked puts the parts of all together.
//!
//! Every core holds its own clients, streams and groups, so nothing here is counted twice; what all cores know alike
//! (the table, who leads) is taken from the core that builds the page.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::health::{self, Problem};
use super::page::{JszOptions, Page};
use super::scene::Scene;
use super::{connz, raftz, subsz};
use crate::api::cluster_info;
use crate::api::facts::Facts;
use crate::client::{AccountTotals, Totals};
use crate::consumer::ConsumerInfo;
use crate::group::GroupStatus;
use crate::ids::{AccountId, CoreId, GroupId};
use crate::jetstream::{HostedConsumer, HostedStream, JetStream, Tally};
use crate::stream::config::{META_LEVEL, META_VERSION, StorageKind};
use crate::stream::{StreamConfig, StreamState};

#[derive(Debug, Default)]
pub struct PagePart {
    pub core: CoreId,
    /// Boxed like the rest that is large: parts travel in the same envelope as a core's other mail.
    pub totals: Box<Totals>,
    /// By account number; every core has the same list.
    pub accounts: Vec<AccountTotals>,
    pub body: Body,
}

/// What only some pages need.
#[derive(Debug, Default)]
pub enum Body {
    #[default]
    None,
    JetStream(Box<JsPart>),
    Conns(connz::ConnsPart),
    Subs(Vec<subsz::SubDetail>),
    Problems(Vec<Problem>),
    Groups(Vec<raftz::GroupRow>),
    /// Whether the client to be closed was here.
    Kicked(bool),
    /// Whether the client to be told was here, and listens.
    Told(Option<bool>),
}

/// The streams and consumers of a core.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct JsPart {
    pub api_total: u64,
    pub api_errors: u64,
    pub streams: u64,
    pub streams_led: u64,
    pub consumers: u64,
    pub consumers_led: u64,
    /// Groups with more than one member; the meta group counts on its core.
    pub replicated: u64,
    pub messages: u64,
    pub bytes: u64,
    pub memory_bytes: u64,
    pub file_bytes: u64,
    pub accounts: BTreeMap<String, AccountPart>,
    /// On the core that has a replica of the meta group.
    pub meta: Option<GroupStatus>,
}

/// What a core stores for one account.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct AccountPart {
    pub api: Tally,
    pub memory_bytes: u64,
    pub file_bytes: u64,
    /// By name; only when the request wants streams.
    pub streams: Vec<StreamDetail>,
}

/// One replica of a stream in JSZ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamDetail {
    pub name: String,
    pub created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<StreamConfig>,
    pub state: StreamState,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consumer_detail: Vec<ConsumerInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_raft_group: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consumer_raft_groups: Vec<ConsumerGroup>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConsumerGroup {
    pub name: String,
    pub raft_group: String,
}

/// This core's part of a page.
pub fn gather(scene: &Scene, page: &Page) -> PagePart {
    PagePart {
        core: scene.view.me.core,
        totals: Box::new(scene.front.totals()),
        accounts: scene.front.account_totals(),
        body: body(scene, page),
    }
}

fn body(scene: &Scene, page: &Page) -> Body {
    let summary = JszOptions::default();
    match page {
        Page::Statsz | Page::Varz => Body::JetStream(Box::new(js_part(scene, &summary))),
        Page::Jsz(options) | Page::AccountJsz(options) => Body::JetStream(Box::new(js_part(scene, options))),
        Page::Connz(options) => Body::Conns(connz::part(scene, options)),
        Page::Subsz(options) => Body::Subs(subsz::part(scene, options)),
        Page::Healthz(options) => Body::Problems(health::of_core(scene, options)),
        Page::Raftz(options) => Body::Groups(raftz::part(scene, options)),
        _ => Body::None,
    }
}

fn js_part(scene: &Scene, options: &JszOptions) -> JsPart {
    let Some(js) = scene.js else { return JsPart::default() };
    let mut part = JsPart { api_total: js.tally().total, api_errors: js.tally().errors, ..JsPart::default() };
    part.meta = js.status(GroupId::META);
    part.replicated = u64::from(part.meta.as_ref().is_some_and(is_replicated));
    for (group, hosted) in js.streams() {
        add_stream(&mut part, scene, js, *group, hosted, options);
    }
    for (group, hosted) in js.consumers() {
        part.consumers += 1;
        part.consumers_led += u64::from(hosted.leading);
        part.replicated += u64::from(js.status(*group).as_ref().is_some_and(is_replicated));
    }
    for (account, tally) in js.tally_by_account() {
        if let Some(account) = scene.accounts().get(account) {
            part.accounts.entry(account.name.clone()).or_default().api = tally;
        }
    }
    for account in part.accounts.values_mut() {
        account.streams.sort_by(|a, b| a.name.cmp(&b.name));
    }
    part
}

fn is_replicated(status: &GroupStatus) -> bool {
    status.voters.len() + status.learners.len() > 1
}

fn add_stream(
    part: &mut JsPart,
    scene: &Scene,
    js: &JetStream,
    group: GroupId,
    hosted: &HostedStream,
    options: &JszOptions,
) {
    let state = hosted.stream.state();
    let status = js.status(group);
    part.streams += 1;
    part.streams_led += u64::from(hosted.leading);
    part.messages += state.messages;
    part.bytes += state.bytes;
    part.replicated += u64::from(status.as_ref().is_some_and(is_replicated));
    let account = part.accounts.entry(hosted.key.0.clone()).or_default();
    match hosted.stream.config().storage {
        StorageKind::Memory => {
            part.memory_bytes += state.bytes;
            account.memory_bytes += state.bytes;
        }
        StorageKind::File => {
            part.file_bytes += state.bytes;
            account.file_bytes += state.bytes;
        }
    }
    let wanted = options.account.is_empty() || options.account == hosted.key.0;
    let led = hosted.leading || !options.stream_leader_only;
    if wanted && led && (options.streams || options.consumer) {
        account.streams.push(stream_detail(scene, js, hosted, status.as_ref(), options));
    }
}

fn stream_detail(
    scene: &Scene,
    js: &JetStream,
    hosted: &HostedStream,
    status: Option<&GroupStatus>,
    options: &JszOptions,
) -> StreamDetail {
    let stream = &hosted.stream;
    let peers = js.table().stream(&hosted.key.0, &hosted.key.1).map(|slot| slot.peers.clone()).unwrap_or_default();
    let cluster = status.and_then(|status| cluster_of(scene, stream.account(), status, &peers));
    // A server that stands alone leads its streams, and says so here.
    let alone = || serde_json::json!({"leader": scene.server.name()});
    let cluster = if scene.config().cluster.is_none() { Some(alone()) } else { cluster };
    let consumers: Vec<&HostedConsumer> = hosted.consumers.iter().filter_map(|id| js.consumers().get(id)).collect();
    let mut state = stream.state();
    state.consumer_count = consumers.len() as u64;
    let mut detail = StreamDetail {
        name: hosted.key.1.clone(),
        created: super::text::time_text(stream.created_ns()),
        stream_raft_group: if options.raft { raft_group(cluster.as_ref()) } else { None },
        cluster,
        config: options.config.then(|| stream.config().clone()),
        state,
        consumer_detail: Vec::new(),
        consumer_raft_groups: Vec::new(),
    };
    if options.consumer {
        for consumer in consumers {
            let info = consumer_info(scene, js, hosted, consumer, options);
            if let Some(raft_group) = raft_group(info.cluster.as_ref()).filter(|_| options.raft) {
                detail.consumer_raft_groups.push(ConsumerGroup { name: info.name.clone(), raft_group });
            }
            detail.consumer_detail.push(info);
        }
        detail.consumer_detail.sort_by(|a, b| a.name.cmp(&b.name));
        detail.consumer_raft_groups.sort_by(|a, b| a.name.cmp(&b.name));
    }
    detail
}

fn consumer_info(
    scene: &Scene,
    js: &JetStream,
    stream: &HostedStream,
    hosted: &HostedConsumer,
    options: &JszOptions,
) -> ConsumerInfo {
    let identity = hosted.consumer.identity();
    let slot = js.table().consumer(&hosted.key.0, &hosted.key.1, &hosted.name);
    let peers = slot.map(|slot| slot.peers.clone()).unwrap_or_default();
    let status = js.status(identity.group);
    let cluster = status.and_then(|status| cluster_of(scene, identity.account, &status, &peers));
    let mut info = hosted.consumer.info(scene.now, &stream.stream, cluster);
    info.config = info.config.take().filter(|_| options.config).map(|mut config| {
        // What the API adds of its own server stays away from pages.
        config.metadata.remove(META_VERSION);
        config.metadata.remove(META_LEVEL);
        config
    });
    info
}

/// The `cluster` object that STREAM.INFO and CONSUMER.INFO show too.
fn cluster_of(scene: &Scene, account: AccountId, status: &GroupStatus, peers: &[u64]) -> Option<Value> {
    let facts = Facts {
        now: scene.now,
        account: scene.accounts().get(account)?,
        is_system: false,
        config: scene.config(),
        server_name: scene.server.name(),
        cluster: scene.server.options.cluster.as_deref(),
        table: scene.table()?,
        proposed: None,
        view: scene.view,
        tally: Tally::default(),
    };
    cluster_info::cluster_info_if_clustered(&facts, status, peers)
}

fn raft_group(cluster: Option<&Value>) -> Option<String> {
    Some(cluster?.get("raft_group")?.as_str()?.to_owned())
}

/// Sums of all parts.
#[derive(Debug, Default)]
pub struct Sums {
    pub totals: Totals,
    pub accounts: Vec<AccountTotals>,
    pub js: JsPart,
}

impl Sums {
    pub fn of(parts: &[PagePart]) -> Sums {
        let mut sums = Sums::default();
        for part in parts {
            sums.add_totals(&part.totals);
            sums.add_accounts(part);
            if let Body::JetStream(js) = &part.body {
                sums.js.add(js);
            }
        }
        sums
    }

    fn add_totals(&mut self, more: &Totals) {
        let sum = &mut self.totals;
        sum.connections += more.connections;
        sum.total_connections += more.total_connections;
        sum.subscriptions += more.subscriptions;
        sum.traffic += more.traffic;
        sum.routed += more.routed;
        sum.slow_consumers += more.slow_consumers;
        sum.slow_pending += more.slow_pending;
        sum.slow_deadline += more.slow_deadline;
        sum.stale += more.stale;
        sum.stalls += more.stalls;
        sum.auth_errors += more.auth_errors;
    }

    /// What other nodes told is the same on every core and counted on core 0 alone.
    fn add_accounts(&mut self, part: &PagePart) {
        for more in &part.accounts {
            let own_entries = more.list_entries.saturating_sub(more.remote_entries);
            let entries = if part.core == 0 { more.list_entries } else { own_entries };
            match self.accounts.iter_mut().find(|sum| sum.account == more.account) {
                None => self.accounts.push(AccountTotals { list_entries: entries, ..more.clone() }),
                Some(sum) => {
                    sum.connections += more.connections;
                    sum.total_connections += more.total_connections;
                    sum.subscriptions += more.subscriptions;
                    sum.traffic += more.traffic;
                    sum.slow_consumers += more.slow_consumers;
                    sum.list_entries += entries;
                }
            }
        }
    }
}

impl JsPart {
    fn add(&mut self, more: &JsPart) {
        self.api_total += more.api_total;
        self.api_errors += more.api_errors;
        self.streams += more.streams;
        self.streams_led += more.streams_led;
        self.consumers += more.consumers;
        self.consumers_led += more.consumers_led;
        self.replicated += more.replicated;
        self.messages += more.messages;
        self.bytes += more.bytes;
        self.memory_bytes += more.memory_bytes;
        self.file_bytes += more.file_bytes;
        for (name, more) in &more.accounts {
            let sum = self.accounts.entry(name.clone()).or_default();
            sum.api.total += more.api.total;
            sum.api.errors += more.api.errors;
            sum.memory_bytes += more.memory_bytes;
            sum.file_bytes += more.file_bytes;
            sum.streams.extend(more.streams.iter().cloned());
            sum.streams.sort_by(|a, b| a.name.cmp(&b.name));
        }
        if self.meta.is_none() {
            self.meta = more.meta.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(list_entries: u64, remote_entries: u64, connections: u32) -> AccountTotals {
        AccountTotals {
            account: AccountId(0),
            name: "$G".into(),
            connections,
            total_connections: u64::from(connections),
            subscriptions: 1,
            traffic: crate::client::Traffic::default(),
            slow_consumers: 0,
            list_entries,
            remote_entries,
        }
    }

    #[test]
    fn entries_that_every_core_was_told_are_counted_once() {
        let part = |core, row| PagePart { core, accounts: vec![row], ..PagePart::default() };
        let sums = Sums::of(&[part(0, account(10, 4, 2)), part(1, account(7, 4, 3))]);
        assert_eq!(sums.accounts.len(), 1);
        assert_eq!((sums.accounts[0].list_entries, sums.accounts[0].connections), (13, 5));
    }

    #[test]
    fn streams_of_several_cores_come_together_in_order() {
        let js = |bytes| {
            let account = AccountPart { file_bytes: bytes, ..AccountPart::default() };
            let accounts = BTreeMap::from([("A".to_owned(), account)]);
            Body::JetStream(Box::new(JsPart { streams: 1, bytes, accounts, ..JsPart::default() }))
        };
        let parts: Vec<PagePart> =
            [3, 4].into_iter().map(|bytes| PagePart { body: js(bytes), ..PagePart::default() }).collect();
        let sums = Sums::of(&parts);
        assert_eq!((sums.js.streams, sums.js.bytes, sums.js.accounts["A"].file_bytes), (2, 7, 7));
    }
}
