//! Makes this core look like the table: opens and closes replicas, tells leaders what configuration and which members
//! their groups should have, and passes what machines say to where it belongs.

use std::collections::VecDeque;

use super::hosted::{HostedConsumer, HostedStream};
use super::meta::Forgets;
use super::{JetStream, JsOutput};
use crate::api;
use crate::cluster::table::{Asked, ConsumerSlot, MetaEntry, StreamKey, StreamSlot, Table, TableChange};
use crate::cluster::view::View;
use crate::cluster::wire::{NodeMsg, Request, RequestKind};
use crate::consumer::Consumer;
use crate::event::Level;
use crate::group::{GroupKind, GroupSpec, RecoveredGroup, home_core};
use crate::ids::{AccountId, GroupId, Now, Seq, ServerId};
use crate::stream::config::StorageKind;
use crate::stream::{Answer, Stream, StreamOutput};

impl JetStream {
    pub(super) fn on_recovered(&mut self, now: Now, view: &View, found: &[RecoveredGroup]) {
        self.recovered = true;
        let meta = found.iter().find(|group| group.group == GroupId::META);
        self.open_meta(now, meta);
        self.be_ready(now);
        if self.table_ready {
            self.open_all(now, view, false);
            self.drop_orphans(now);
        }
    }

    /// The table arrived as a whole.
    pub(super) fn table_restored(&mut self, now: Now, view: &View, forgets: Forgets) {
        self.forgets = forgets;
        self.log_eviction();
        let first = !std::mem::replace(&mut self.table_ready, true);
        if self.recovered {
            self.open_all(now, view, !first);
        }
        let gone: Vec<GroupId> = self.hosted_groups().filter(|group| !self.assigned(*group)).collect();
        for group in gone {
            self.close(now, group);
        }
        self.drop_orphans(now);
    }

    pub fn on_table_copy(&mut self, now: Now, view: &View, table: &Table, forgets: Forgets) {
        self.table = table.clone();
        self.table_restored(now, view, forgets);
    }

    /// Committed entries: on core 0 from the meta group, elsewhere by mail.
    pub fn on_table(&mut self, now: Now, view: &View, entries: Vec<(u64, MetaEntry)>) {
        let behind = !self.caught_up();
        for (index, entry) in entries {
            if index <= self.table.applied {
                continue;
            }
            if let Some(change) = self.table.apply(index, entry) {
                self.tell_change(now, index, &change);
                self.on_change(now, view, change);
            }
        }
        if behind && self.caught_up() {
            self.open_all(now, view, false);
        }
    }

    fn on_change(&mut self, now: Now, view: &View, change: TableChange) {
        match change {
            TableChange::Formed { cluster_id } => {
                if self.me.core == 0 {
                    self.out.push_back(JsOutput::Formed { cluster_id });
                }
            }
            TableChange::Server { server } => self.on_server_entered(now, view, server),
            TableChange::ServerGone { server } => self.on_server_gone(now, view, server),
            TableChange::Restored => {}
            TableChange::Stream { key } => self.want_stream(now, &key, true),
            TableChange::Consumer { key, name } => self.want_consumer(now, view, &key, &name, true),
            TableChange::StreamGone { key, slot, asked } => {
                for consumer in slot.consumers.values() {
                    self.drop_consumer(now, consumer.group());
                }
                self.close(now, slot.group());
                self.answer_drop(&key.0, asked, api::render::dropped_stream());
            }
            TableChange::ConsumerGone { key, slot, asked, .. } => {
                self.drop_consumer(now, slot.group());
                self.answer_drop(&key.0, asked, api::render::dropped_consumer());
            }
        }
    }

    fn open_all(&mut self, now: Now, view: &View, live: bool) {
        let keys: Vec<StreamKey> = self.table.streams().map(|(key, _)| key).collect();
        for key in keys {
            self.want_stream(now, &key, live);
            let names: Vec<String> = self
                .table
                .stream(&key.0, &key.1)
                .map(|slot| slot.consumers.keys().cloned().collect())
                .unwrap_or_default();
            for name in names {
                self.want_consumer(now, view, &key, &name, live);
            }
        }
    }

    fn lives_here(&self, group: GroupId) -> bool {
        self.recovered && home_core(group, self.cores) == self.me.core
    }

    /// Opens a stream's replica if it should be here, or is and the group may still count on it; brings it up to the table.
    pub(super) fn want_stream(&mut self, now: Now, key: &StreamKey, live: bool) {
        let Some(slot) = self.table.stream(&key.0, &key.1) else { return };
        let group = slot.group();
        if !self.lives_here(group) {
            return;
        }
        if slot.has_peer(self.me.server) && self.caught_up() || self.groups.has_found(group) {
            self.open_stream(now, key, live);
        }
        self.align_stream(now, group);
    }

    pub(super) fn open_stream(&mut self, now: Now, key: &StreamKey, live: bool) {
        let Some(slot) = self.table.stream(&key.0, &key.1) else { return };
        let group = slot.group();
        if self.streams.contains_key(&group) || !self.lives_here(group) {
            return;
        }
        let Some(account) = self.accounts.id(&key.0) else {
            let text = format!("stream {:?} belongs to account {:?}, which this server does not have", key.1, key.0);
            return self.log(Level::Warn, text);
        };
        let hosted = self.new_stream(account, key, slot, !live);
        let spec = self.stream_spec(slot);
        self.streams.insert(group, hosted);
        self.groups.open(now, spec);
    }

    fn new_stream(&self, account: AccountId, key: &StreamKey, slot: &StreamSlot, created: bool) -> HostedStream {
        let mut stream = Stream::new(slot.group(), account, slot.config.clone(), slot.created_ns);
        stream.set_domain(self.config.jetstream.as_ref().and_then(|js| js.domain.clone()));
        stream.store_is_full(self.groups.is_full() && slot.config.storage == StorageKind::File);
        HostedStream {
            key: key.clone(),
            stream,
            leading: false,
            term: 0,
            restored: false,
            created,
            asked_config: None,
            checkpointing: false,
            consumers: Vec::new(),
        }
    }

    fn stream_spec(&self, slot: &StreamSlot) -> GroupSpec {
        let memory = slot.config.storage == StorageKind::Memory;
        self.spec(slot.group(), GroupKind::Stream, memory, &slot.bootstrap)
    }

    /// First members are only those that the group was created with; whoever is added later learns from the leader.
    fn spec(&self, group: GroupId, kind: GroupKind, memory: bool, bootstrap: &[u64]) -> GroupSpec {
        // Of a log with damage that might have been any group's, nobody can tell that a group never was in it.
        let forgotten = if memory || self.groups.has_doubts() { self.forgets.memory } else { self.forgets.file };
        let founder = bootstrap.contains(&self.me.server.0);
        GroupSpec {
            group,
            kind,
            memory,
            bootstrap: founder.then(|| bootstrap.iter().map(|server| ServerId(*server)).collect()),
            forgetful: group.created_at() <= forgotten,
            priority_low: false,
        }
    }

    pub(super) fn want_consumer(&mut self, now: Now, view: &View, key: &StreamKey, name: &str, live: bool) {
        let Some(stream) = self.table.stream(&key.0, &key.1) else { return };
        let Some(slot) = stream.consumers.get(name) else { return };
        let group = slot.group();
        if !self.lives_here(group) {
            return;
        }
        if self.groups.has_found(group) {
            self.open_stream(now, key, live);
            self.open_consumer(now, key, name, live);
        } else if slot.has_peer(self.me.server) && self.caught_up() {
            self.open_consumer(now, key, name, live);
        }
        self.align_consumer(now, view, group);
    }

    pub(super) fn open_consumer(&mut self, now: Now, key: &StreamKey, name: &str, live: bool) {
        let Some(stream) = self.table.stream(&key.0, &key.1) else { return };
        let Some(slot) = stream.consumers.get(name) else { return };
        let (group, stream_group) = (slot.group(), stream.group());
        let Some(account) = self.accounts.id(&key.0) else { return };
        if self.consumers.contains_key(&group) || !self.streams.contains_key(&stream_group) {
            return;
        }
        let memory = slot.config.mem_storage || stream.config.storage == StorageKind::Memory;
        let spec = self.spec(group, GroupKind::Consumer, memory, &slot.bootstrap);
        let mut hosted = new_consumer(account, key, name, stream_group, slot, !live);
        if let Some(domain) = self.config.jetstream.as_ref().and_then(|js| js.domain.as_deref()) {
            hosted.consumer.set_domain(domain);
        }
        self.consumers.insert(group, hosted);
        if let Some(hosted) = self.streams.get_mut(&stream_group) {
            hosted.consumers.push(group);
        }
        self.groups.open(now, spec);
    }

    pub(super) fn hosted_groups(&self) -> impl Iterator<Item = GroupId> {
        self.streams.keys().chain(self.consumers.keys()).copied().collect::<Vec<_>>().into_iter()
    }

    fn assigned(&self, group: GroupId) -> bool {
        if let Some(hosted) = self.streams.get(&group) {
            return self.table.stream(&hosted.key.0, &hosted.key.1).is_some_and(|slot| slot.group() == group);
        }
        let Some(hosted) = self.consumers.get(&group) else { return false };
        let slot = self.table.consumer(&hosted.key.0, &hosted.key.1, &hosted.name);
        slot.is_some_and(|slot| slot.group() == group)
    }

    /// Drops a replica for good.
    pub(super) fn close(&mut self, now: Now, group: GroupId) {
        let leading = match (self.streams.remove(&group), self.consumers.remove(&group)) {
            (Some(stream), _) => stream.leading.then_some(stream.term),
            (_, Some(consumer)) => {
                if let Some(stream) = self.streams.get_mut(&consumer.stream) {
                    stream.consumers.retain(|c| *c != group);
                }
                consumer.leading.then_some(consumer.term)
            }
            _ => None,
        };
        self.busy_streams.remove(&group);
        self.busy_consumers.remove(&group);
        self.stream_timers.set(group, None);
        self.consumer_timers.set(group, None);
        if let Some(term) = leading {
            self.out.push_back(JsOutput::Unlead { group, term });
        }
        if self.lives_here(group) {
            self.groups.act_on(self.table.applied);
            self.groups.close(now, group);
        }
    }

    /// Its waiting pulls are told that it is deleted.
    fn drop_consumer(&mut self, now: Now, group: GroupId) {
        if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.consumer.deleted();
            self.drain_consumer(now, group);
        }
        self.close(now, group);
    }

    fn answer_drop(&mut self, account: &str, asked: Option<Asked>, payload: bytes::Bytes) {
        let Some(asked) = asked.filter(|_| self.leads_meta()) else { return };
        let Some(account) = self.accounts.id(account) else { return };
        let answer = Answer { to: asked.place(), account, subject: asked.subject.into() };
        self.answer(&answer, None, payload);
    }

    /// The group's members follow the table; so does its configuration, which is the leader's duty.
    fn align_stream(&mut self, now: Now, group: GroupId) {
        let Some(hosted) = self.streams.get_mut(&group) else { return };
        let Some(slot) = self.table.stream(&hosted.key.0, &hosted.key.1) else { return };
        if slot.group() != group {
            return;
        }
        self.groups.change_members(now, group, slot.peers.iter().map(|server| ServerId(*server)).collect());
        let anew = self.forgets.anew(group, &slot.peers, &slot.bootstrap, &slot.moves);
        self.groups.set_anew(group, anew);
        if !hosted.leading {
            return;
        }
        let first = !hosted.created && hosted.asked_config.is_none();
        let differs = hosted.asked_config.as_ref().unwrap_or(hosted.stream.config()) != &slot.config;
        if first || differs {
            let answer = slot.asked.as_ref().map(|asked| Answer {
                to: asked.place(),
                account: hosted.stream.account(),
                subject: asked.subject.clone().into(),
            });
            hosted.asked_config = Some(slot.config.clone());
            hosted.stream.propose_config(now, slot.config.clone(), answer);
            self.busy_streams.insert(group);
        }
    }

    pub(super) fn stream_role(&mut self, now: Now, group: GroupId, leading: bool, term: u64) {
        let Some(hosted) = self.streams.get_mut(&group) else { return };
        let led = std::mem::replace(&mut hosted.leading, leading);
        let old_term = std::mem::replace(&mut hosted.term, term);
        hosted.asked_config = None;
        hosted.stream.lead(now, leading);
        self.stream_timers.set(group, hosted.stream.next_wakeup(now));
        if leading {
            let lead = hosted.lead(group, self.me.server);
            self.out.push_back(JsOutput::Lead(lead));
            self.align_stream(now, group);
            self.busy_streams.insert(group);
        } else if led {
            self.out.push_back(JsOutput::Unlead { group, term: old_term });
        }
    }

    fn align_consumer(&mut self, now: Now, view: &View, group: GroupId) {
        let Some(hosted) = self.consumers.get_mut(&group) else { return };
        let Some(slot) = self.table.consumer(&hosted.key.0, &hosted.key.1, &hosted.name) else { return };
        if slot.group() != group {
            return;
        }
        self.groups.change_members(now, group, slot.peers.iter().map(|server| ServerId(*server)).collect());
        let anew = self.forgets.anew(group, &slot.peers, &slot.bootstrap, &slot.moves);
        self.groups.set_anew(group, anew);
        if !hosted.leading {
            return;
        }
        hosted.consumer.set_replicated(slot.peers.len() > 1);
        let asked = slot.asked.clone();
        let update = hosted.created;
        let differs = hosted.consumer.config() != &slot.config;
        if differs {
            hosted.consumer.update(now, slot.config.clone());
            self.busy_consumers.insert(group);
        }
        if let Some(asked) = asked.filter(|_| differs || !update) {
            self.answer_consumer(now, view, group, &asked);
        }
        if let Some(hosted) = self.consumers.get_mut(&group) {
            hosted.created = true;
        }
    }

    fn answer_consumer(&mut self, now: Now, view: &View, group: GroupId, asked: &Asked) {
        let Some(hosted) = self.consumers.get(&group) else { return };
        let Some(stream) = self.streams.get(&hosted.stream) else { return };
        let Some(status) = self.groups.status(group) else { return };
        let account = hosted.consumer.identity().account;
        let Some(facts) = self.facts(now, view, account) else { return };
        let payload = if asked.pause {
            api::pause::paused(hosted.consumer.config(), now)
        } else {
            api::consumer::created(&facts, &hosted.consumer, &stream.stream, &status)
        };
        let answer = Answer { to: asked.place(), account, subject: asked.subject.clone().into() };
        self.answer(&answer, None, payload);
    }

    pub(super) fn consumer_role(&mut self, now: Now, view: &View, group: GroupId, leading: bool, term: u64) {
        let Some(hosted) = self.consumers.get_mut(&group) else { return };
        let Some(stream) = self.streams.get(&hosted.stream) else { return };
        let led = std::mem::replace(&mut hosted.leading, leading);
        let old_term = std::mem::replace(&mut hosted.term, term);
        // A leader that began has answered whoever asked for the consumer, in the same turn.
        hosted.created |= hosted.consumer.has_begun();
        hosted.consumer.lead(now, leading, &stream.stream);
        self.busy_consumers.insert(group);
        if leading {
            let lead = hosted.lead(group, self.me.server);
            self.out.push_back(JsOutput::Lead(lead));
            self.align_consumer(now, view, group);
        } else if led {
            self.out.push_back(JsOutput::Unlead { group, term: old_term });
        }
    }

    pub(super) fn drain_stream(&mut self, now: Now, view: &View, group: GroupId) {
        while let Some(output) = self.streams.get_mut(&group).and_then(|hosted| hosted.stream.poll_output()) {
            match output {
                StreamOutput::Reply(reply) => self.out.push_back(JsOutput::Reply(reply)),
                StreamOutput::Released { below_index } => self.groups.release(group, below_index),
                StreamOutput::Dead { index, bytes } => self.groups.dead(group, index, bytes),
                StreamOutput::Grew { .. } | StreamOutput::Shrunk { .. } => self.wake_readers(group),
                StreamOutput::Purged { first_seq } => self.purged(now, group, first_seq),
                StreamOutput::ConfigChanged { answer } => self.config_changed(now, view, group, answer),
            }
        }
        if let Some(hosted) = self.streams.get_mut(&group) {
            self.stream_timers.set(group, hosted.stream.next_wakeup(now));
        }
    }

    pub(super) fn wake_readers(&mut self, group: GroupId) {
        if let Some(hosted) = self.streams.get(&group) {
            self.busy_consumers.extend(hosted.consumers.iter().copied());
        }
    }

    fn purged(&mut self, now: Now, group: GroupId, first_seq: Seq) {
        let readers = self.streams.get(&group).map(|hosted| hosted.consumers.clone()).unwrap_or_default();
        for reader in readers {
            if let Some(hosted) = self.consumers.get_mut(&reader) {
                hosted.consumer.stream_purged(now, first_seq);
                self.busy_consumers.insert(reader);
            }
        }
    }

    fn config_changed(&mut self, now: Now, view: &View, group: GroupId, answer: Option<Answer>) {
        let Some(hosted) = self.streams.get_mut(&group) else { return };
        let update = std::mem::replace(&mut hosted.created, true);
        if hosted.leading {
            let lead = hosted.lead(group, self.me.server);
            self.out.push_back(JsOutput::Lead(lead));
        }
        let Some(answer) = answer else { return };
        let Some(hosted) = self.streams.get(&group) else { return };
        let Some(status) = self.groups.status(group) else { return };
        let Some(facts) = self.facts(now, view, answer.account) else { return };
        let payload = api::stream::created(&facts, &hosted.stream, &status, update);
        self.answer(&answer, None, payload);
    }

    /// A consumer that nobody has used for its whole inactive threshold asks the meta leader to delete it.
    pub(super) fn ask_to_drop(&mut self, group: GroupId) {
        let Some(hosted) = self.consumers.get(&group) else { return };
        let subject = format!("{}CONSUMER.DELETE.{}.{}", api::call::PREFIX, hosted.key.1, hosted.name);
        let request = Request {
            group: GroupId::META,
            hops: 0,
            origin: self.me,
            account: hosted.consumer.identity().account,
            kind: RequestKind::Api,
            subject: subject.into(),
            reply: None,
            headers: None,
            payload: bytes::Bytes::new(),
        };
        self.asks.push_back(NodeMsg::Request(request));
    }
}

fn new_consumer(
    account: AccountId,
    key: &StreamKey,
    name: &str,
    stream: GroupId,
    slot: &ConsumerSlot,
    created: bool,
) -> HostedConsumer {
    let consumer = Consumer::new(slot.group(), stream, account, &key.1, name, slot.config.clone(), slot.created_ns);
    HostedConsumer {
        key: key.clone(),
        name: name.to_owned(),
        stream,
        consumer,
        leading: false,
        term: 0,
        restored: false,
        created,
        checkpointing: false,
        parcels: VecDeque::new(),
    }
}
