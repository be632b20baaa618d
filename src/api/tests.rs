//! The handlers together, against answers recorded from nats-server 2.15.1.
//!
//! [`World`] is one server that stands alone: a table and the machines, each entry applied as soon as it is proposed.
//! `testdata/single.txt` is a conversation: `+` a message published (subject, header, payload), `>` a request (subject
//! below `$JS.API.`, body), `<` its answers. Times are written TIME, line ends of headers `|`.

mod follow;
mod pause;
mod room;

use std::collections::BTreeMap;

use bytes::Bytes;
use net::client::headers::no_responders;

use super::call::{Call, PREFIX};
use super::enter::{self, Entry};
use super::facts::Facts;
use super::verdict::{ConsumerVerdict, MetaVerdict, Read, StreamVerdict};
use super::{consumer, list, message, meta, stream};
use crate::account::Accounts;
use crate::cluster::table::{Asked, MetaEntry, ServerFacts, Table, TableChange};
use crate::cluster::view::{Peer, View};
use crate::cluster::wire::{Asset, Lead};
use crate::config::Config;
use crate::config::options::JetStream;
use crate::consumer::{Consumer, ConsumerOutput};
use crate::group::{GroupKind, GroupRole, GroupStatus};
use crate::ids::{AccountId, GroupId, Now, Place, ServerId};
use crate::jetstream::Tally;
use crate::stream::config::StorageKind;
use crate::stream::{Answer, Publish, Stream, StreamOutput};

type Reply = (Option<Bytes>, Bytes);

/// Where answers go.
const INBOX: &str = "_INBOX.1";

struct World {
    now: Now,
    config: Config,
    accounts: Accounts,
    table: Table,
    view: View,
    cluster: Option<&'static str>,
    streams: BTreeMap<GroupId, (Stream, u64)>,
    consumers: BTreeMap<GroupId, (Consumer, GroupId, u64)>,
    replies: Vec<Reply>,
}

impl World {
    fn alone() -> World {
        let me = Place { server: ServerId::of("solo"), core: 0 };
        let config = Config { jetstream: Some(JetStream::default()), ..Config::default() };
        let mut view = View::new(me, 1);
        view.leads.learn(Lead { group: GroupId::META, server: me.server, term: 1, asset: Asset::Meta });
        World {
            now: Now { us: 1_000_000, wall_ns: 1_795_257_319_156_919_482 },
            accounts: Accounts::new(&config),
            config,
            table: Table::default(),
            view,
            cluster: None,
            streams: BTreeMap::new(),
            consumers: BTreeMap::new(),
            replies: Vec::new(),
        }
    }

    /// Three servers with tags `dc:1` to `dc:3`; this is the first. The two others are up.
    fn of_three() -> World {
        let mut world = World::alone();
        let me = Place { server: ServerId::of("n1"), core: 0 };
        world.view = View::new(me, 1);
        world.view.leads.learn(Lead { group: GroupId::META, server: me.server, term: 1, asset: Asset::Meta });
        world.cluster = Some("C");
        for (at, name) in ["n1", "n2", "n3"].into_iter().enumerate() {
            let facts = ServerFacts {
                name: name.to_owned(),
                cluster: "C".to_owned(),
                domain: String::new(),
                tags: vec![format!("dc:{}", at + 1), "all:1".to_owned()],
                file_bytes_max: 0,
                memory_bytes_max: 0,
            };
            if at > 0 {
                let peer = Peer { cores: 1, facts: facts.clone(), jetstream: true, empty: false, rtt_us: None };
                world.view.peers.insert(ServerId::of(name), peer);
            }
            world.apply(MetaEntry::PutServer { server: ServerId::of(name).0, facts });
        }
        world
    }

    /// An account of the configuration's only kind, its name, and what handlers may look at.
    fn facts(&self) -> Facts<'_> {
        Facts {
            now: self.now,
            account: self.accounts.get(AccountId(0)).expect("$G is always there"),
            is_system: false,
            config: &self.config,
            server_name: "solo",
            cluster: self.cluster,
            table: &self.table,
            proposed: None,
            view: &self.view,
            tally: Tally::default(),
        }
    }

    fn decide(&self, rest: &str, body: &str) -> MetaVerdict {
        let call = Call::parse(rest).expect("a call");
        meta::decide(&self.facts(), call, Some(asked()), None, body.as_bytes())
    }

    /// The error code of a refusal, 0 for anything else.
    fn refused(&self, rest: &str, body: &str) -> u64 {
        let MetaVerdict::Answer(answer) = self.decide(rest, body) else { return 0 };
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        answer["error"]["err_code"].as_u64().unwrap_or(0)
    }

    /// Puts what was proposed into the table.
    fn commit(&mut self, rest: &str, body: &str) -> Vec<MetaEntry> {
        let entries = match self.decide(rest, body) {
            MetaVerdict::Propose(entries) | MetaVerdict::ProposeAnd { entries, .. } => entries,
            other => panic!("{rest} {body}: {other:?}"),
        };
        entries.iter().for_each(|entry| self.apply(entry.clone()));
        entries
    }

    fn request(&mut self, rest: &str, body: &str) -> Vec<Reply> {
        self.tick();
        let subject = format!("{PREFIX}{rest}");
        let (account, subject_bytes) = (AccountId(0), subject.as_bytes());
        let table = Some(&self.table);
        let entry =
            enter::enter(&self.config, &self.accounts, table, &self.view, account, subject_bytes, body.as_bytes());
        match entry {
            Entry::Silent => {}
            Entry::Refuse(payload) => self.replies.push((None, payload)),
            Entry::NoResponders => self.replies.push((Some(no_responders(subject.as_bytes())), Bytes::new())),
            Entry::To { group: GroupId::META, .. } => {
                let verdict = self.decide(rest, body);
                self.carry_out(rest, body, verdict);
            }
            Entry::To { group, .. } => self.ask(group, rest, body),
        }
        std::mem::take(&mut self.replies)
    }

    fn carry_out(&mut self, rest: &str, body: &str, verdict: MetaVerdict) {
        match verdict {
            MetaVerdict::Answer(answer) | MetaVerdict::Stepdown { answer, .. } => self.replies.push((None, answer)),
            MetaVerdict::Propose(entries) => entries.into_iter().for_each(|entry| self.apply(entry)),
            MetaVerdict::ProposeAnd { entries, then } => {
                entries.into_iter().for_each(|entry| self.apply(entry));
                self.carry_out(rest, body, *then);
            }
            MetaVerdict::Later => panic!("nothing is in flight here"),
            MetaVerdict::Forward(group) => self.ask(group, rest, body),
            MetaVerdict::Gather(gather) => {
                let before = std::mem::take(&mut self.replies);
                let mut parts = Vec::new();
                for (group, subject, body) in gather.parts {
                    let subject = std::str::from_utf8(&subject).unwrap().strip_prefix(PREFIX).unwrap().to_owned();
                    self.ask(group, &subject, std::str::from_utf8(&body).unwrap());
                    parts.push(self.replies.pop().map(|(_, payload)| payload));
                }
                self.replies = before;
                let answer = list::finish(&self.facts(), &gather.kind, &parts);
                self.replies.push((None, answer));
            }
        }
    }

    /// The leader of a group answers.
    fn ask(&mut self, group: GroupId, rest: &str, body: &str) {
        let call = Call::parse(rest).unwrap();
        let status = status(group, self.view.me.server);
        let answer = Answer { to: self.view.me, account: AccountId(0), subject: INBOX.into() };
        if let Some((mut stream, index)) = self.streams.remove(&group) {
            let verdict = stream::decide(&self.facts(), &mut stream, &status, call, Some(answer), body.as_bytes());
            self.streams.insert(group, (stream, index));
            match verdict {
                StreamVerdict::Answer(answer) | StreamVerdict::Stepdown { answer, .. } => {
                    self.replies.push((None, answer));
                }
                StreamVerdict::Status { headers } => self.replies.push((Some(headers), Bytes::new())),
                StreamVerdict::Proposed => self.turn(group),
                StreamVerdict::Read(read) => self.read(group, read),
            }
        } else if let Some((mut consumer, of, index)) = self.consumers.remove(&group) {
            let (me, reply) = (self.view.me, Some(Bytes::from(INBOX)));
            let stream = &self.streams[&of].0;
            let facts = self.facts();
            let verdict = consumer::decide(&facts, &mut consumer, stream, &status, call, me, reply, body.as_bytes());
            self.consumers.insert(group, (consumer, of, index));
            match verdict {
                ConsumerVerdict::Answer(answer) | ConsumerVerdict::Stepdown { answer, .. } => {
                    self.replies.push((None, answer));
                }
                ConsumerVerdict::Status { headers } => self.replies.push((Some(headers), Bytes::new())),
                ConsumerVerdict::Taken => self.turn_consumer(group),
            }
        }
    }

    /// Messages are read from what was published: this world keeps no log.
    fn read(&mut self, group: GroupId, read: Read) {
        let facts = self.facts();
        let stream = &self.streams[&group].0;
        let mut replies: Vec<Reply> = Vec::new();
        for (seq, how) in read.messages {
            let at = stream.locate(seq).expect("it was found just now");
            let body = BODIES.with(|bodies| bodies.borrow()[&(group, at.index)].clone());
            let stored = crate::stream::message(&body, at.slot).unwrap();
            replies.push(message::render(&facts, stream, seq, how, &stored));
        }
        replies.extend(read.end.map(|headers| (Some(headers), Bytes::new())));
        self.replies.extend(replies);
    }

    fn publish(&mut self, subject: &str, header: &str, payload: &str) {
        self.tick();
        let headers = (header != "-").then(|| format!("NATS/1.0\r\n{}\r\n\r\n", header.replace(':', ": ")).into());
        let publish = Publish {
            origin: self.view.me,
            subject: Bytes::copy_from_slice(subject.as_bytes()),
            reply: None,
            headers,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
        };
        let group = *self.streams.keys().next().expect("a stream");
        self.streams.get_mut(&group).unwrap().0.ingest(self.now, publish);
        self.turn(group);
    }

    /// Everything that a stream wants logged is committed at once.
    fn turn(&mut self, group: GroupId) {
        let now = self.now;
        let Some((stream, index)) = self.streams.get_mut(&group) else { return };
        for body in stream.take_entries(now) {
            *index += 1;
            stream.appended(*index, &body).unwrap();
            BODIES.with(|bodies| bodies.borrow_mut().insert((group, *index), body));
        }
        stream.apply(now, *index);
        let mut created = false;
        while let Some(output) = stream.poll_output() {
            match output {
                StreamOutput::Reply(reply) if reply.subject == INBOX => self.replies.push((None, reply.payload)),
                StreamOutput::ConfigChanged { answer } => created = answer.is_some(),
                _ => {}
            }
        }
        if created {
            let update = self.streams[&group].1 > 1;
            let status = status(group, self.view.me.server);
            let answer = stream::created(&self.facts(), &self.streams[&group].0, &status, update);
            self.replies.push((None, answer));
        }
        let readers: Vec<GroupId> = self.consumers.iter().filter(|(_, c)| c.1 == group).map(|(id, _)| *id).collect();
        readers.into_iter().for_each(|reader| self.turn_consumer(reader));
    }

    fn turn_consumer(&mut self, group: GroupId) {
        let now = self.now;
        let Some((consumer, of, index)) = self.consumers.get_mut(&group) else { return };
        let stream = &self.streams[of].0;
        consumer.turn(now, stream);
        while let Some(output) = consumer.poll_output() {
            match output {
                ConsumerOutput::Reply(reply) => self.replies.push((reply.headers, reply.payload)),
                ConsumerOutput::Propose(body) => {
                    *index += 1;
                    consumer.appended(*index, &body).unwrap();
                    consumer.apply(now, *index);
                }
                _ => {}
            }
        }
    }

    fn tick(&mut self) {
        self.now.us += 1000;
        self.now.wall_ns += 1_000_000;
    }

    fn apply(&mut self, entry: MetaEntry) {
        let index = self.table.applied + 1;
        match self.table.apply(index, entry) {
            Some(TableChange::Stream { key }) => self.open_stream(&key.1),
            Some(TableChange::Consumer { key, name }) => self.open_consumer(&key.1, &name),
            Some(TableChange::StreamGone { slot, .. }) => {
                self.streams.remove(&slot.group());
                self.view.leads.unlearn(slot.group(), 1);
                self.replies.push((None, super::render::dropped_stream()));
            }
            Some(TableChange::ConsumerGone { slot, .. }) => {
                self.consumers.remove(&slot.group());
                self.view.leads.unlearn(slot.group(), 1);
                self.replies.push((None, super::render::dropped_consumer()));
            }
            _ => {}
        }
    }

    fn open_stream(&mut self, name: &str) {
        let slot = self.table.stream("$G", name).unwrap().clone();
        let (group, me) = (slot.group(), self.view.me.server);
        if self.cluster.is_some() {
            let server = ServerId(*slot.peers.first().unwrap());
            return self.lead(group, server, stream_asset(name));
        }
        let now = self.now;
        let (stream, _) = self.streams.entry(group).or_insert_with(|| {
            let mut stream = Stream::new(group, AccountId(0), slot.config.clone(), slot.created_ns);
            stream.lead(now, true);
            (stream, 0)
        });
        let answer = Answer { to: self.view.me, account: AccountId(0), subject: INBOX.into() };
        stream.propose_config(now, slot.config.clone(), Some(answer));
        self.lead(group, me, stream_asset(name));
        self.turn(group);
    }

    fn open_consumer(&mut self, stream: &str, name: &str) {
        let slot = self.table.consumer("$G", stream, name).unwrap().clone();
        let of = self.table.stream("$G", stream).unwrap().group();
        let (group, me, now) = (slot.group(), self.view.me.server, self.now);
        if self.cluster.is_some() {
            return;
        }
        let source = &self.streams[&of].0;
        let (consumer, _, _) = self.consumers.entry(group).or_insert_with(|| {
            let mut consumer =
                Consumer::new(group, of, AccountId(0), stream, name, slot.config.clone(), slot.created_ns);
            consumer.lead(now, true, source);
            (consumer, of, 0)
        });
        if *consumer.config() != slot.config {
            consumer.update(now, slot.config.clone());
        }
        self.turn_consumer(group);
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let asset = Asset::Consumer { account: AccountId(0), stream: bytes(stream), name: bytes(name) };
        self.lead(group, me, asset);
        let (consumer, of, _) = &self.consumers[&group];
        let answer = consumer::created(&self.facts(), consumer, &self.streams[of].0, &status(group, me));
        self.replies.push((None, answer));
    }

    fn lead(&mut self, group: GroupId, server: ServerId, asset: Asset) {
        self.view.leads.learn(Lead { group, server, term: 1, asset });
    }

    fn peers(&self, stream: &str) -> Vec<String> {
        let slot = self.table.stream("$G", stream).unwrap();
        let mut names: Vec<String> = slot.peers.iter().map(|peer| self.facts().name_of(ServerId(*peer))).collect();
        names.sort();
        names
    }

    fn consumer_peers(&self, stream: &str, name: &str) -> Vec<String> {
        let slot = self.table.consumer("$G", stream, name).unwrap();
        let mut names: Vec<String> = slot.peers.iter().map(|peer| self.facts().name_of(ServerId(*peer))).collect();
        names.sort();
        names
    }
}

thread_local! {
    /// Bodies of log entries, by group and index.
    static BODIES: std::cell::RefCell<BTreeMap<(GroupId, u64), Bytes>> = const { std::cell::RefCell::new(BTreeMap::new()) };
}

fn asked() -> Asked {
    Asked { server: ServerId::of("solo").0, core: 0, subject: INBOX.to_owned(), pause: false }
}

fn stream_asset(name: &str) -> Asset {
    Asset::Stream { account: AccountId(0), name: Bytes::copy_from_slice(name.as_bytes()), subjects: vec![] }
}

fn status(group: GroupId, me: ServerId) -> GroupStatus {
    GroupStatus {
        group,
        kind: GroupKind::Stream,
        memory: false,
        role: GroupRole::Leader,
        epoch: 0,
        term: 1,
        leader: Some(me),
        led_since_ns: None,
        voters: vec![me],
        outgoing: vec![],
        learners: vec![],
        voteless: Default::default(),
        commit: 0,
        applied: 0,
        last: 0,
        first: 0,
        peers: vec![],
        target: None,
        damaged: 0,
        quiet: false,
    }
}

/// One line of the conversation for one answer, with times taken out and keys in order.
fn line((headers, payload): &Reply) -> String {
    let headers = headers.as_ref().map(|block| String::from_utf8_lossy(block).replace("\r\n", "|") + " ");
    canonical(&format!("{}{}", headers.unwrap_or_default(), String::from_utf8_lossy(payload)))
}

fn canonical(text: &str) -> String {
    let text = without_times(text.trim_end());
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(value) => value.to_string(),
        Err(_) => text,
    }
}

/// RFC 3339 times of this century become TIME.
fn without_times(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("20") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let end = from.find('Z').filter(|end| (19..31).contains(end) && from.as_bytes()[10] == b'T');
        match end {
            Some(end) => {
                out.push_str("TIME");
                rest = &from[end + 1..];
            }
            None => {
                out.push_str(&from[..2]);
                rest = &from[2..];
            }
        }
    }
    out + rest
}

#[test]
fn one_server_answers_a_recorded_conversation_as_the_peer_does() {
    let mut world = World::alone();
    let mut answers: Vec<String> = Vec::new();
    let mut request = "";
    for spoken in include_str!("testdata/single.txt").lines() {
        let (mark, rest) = spoken.split_at(spoken.len().min(2));
        if mark != "< " {
            assert_eq!(answers, Vec::<String>::new(), "{request}: not in the recording");
        }
        match mark {
            "+ " => {
                let mut words = rest.splitn(3, ' ');
                let mut next = || words.next().unwrap();
                world.publish(next(), next(), next());
            }
            "> " => {
                request = rest;
                let (subject, body) = rest.split_once(' ').unwrap_or((rest, ""));
                answers = world.request(subject, body).iter().map(line).collect();
            }
            _ => {
                assert!(!answers.is_empty(), "{request}: no answer, but {rest}");
                assert_eq!(answers.remove(0), canonical(rest), "{request}");
            }
        }
    }
    assert_eq!(answers, Vec::<String>::new(), "{request}: not in the recording");
}

#[test]
fn a_stream_is_placed_by_its_tags_or_refused() {
    let mut world = World::of_three();
    world.commit("STREAM.CREATE.A", r#"{"name":"A","placement":{"tags":["dc:2"]}}"#);
    assert_eq!(world.peers("A"), ["n2"]);
    world.commit("STREAM.CREATE.B", r#"{"name":"B","num_replicas":3}"#);
    assert_eq!(world.peers("B"), ["n1", "n2", "n3"]);
    assert_eq!(world.refused("STREAM.CREATE.Q", r#"{"name":"Q","placement":{"tags":["dc:9"]}}"#), 10005);
    assert_eq!(world.refused("STREAM.CREATE.Q", r#"{"name":"Q","num_replicas":5}"#), 10005);
    assert_eq!(world.refused("STREAM.CREATE.Q", r#"{"name":"Q","subjects":["A"]}"#), 10065);
    assert_eq!(world.refused("STREAM.CREATE.A", r#"{"name":"A","subjects":["x"]}"#), 10058);
}

#[test]
fn a_stream_that_moves_or_scales_takes_its_consumers_along() {
    let mut world = World::of_three();
    let config = |tag: &str, replicas: u8| {
        format!(r#"{{"name":"M","placement":{{"tags":["{tag}"]}},"num_replicas":{replicas}}}"#)
    };
    world.commit("STREAM.CREATE.M", &config("dc:1", 1));
    world.commit("CONSUMER.CREATE.M.d", r#"{"stream_name":"M","config":{"durable_name":"d","ack_policy":"explicit"}}"#);
    assert_eq!(world.consumer_peers("M", "d"), ["n1"]);
    assert_eq!(world.refused("STREAM.UPDATE.M", &config("dc:2", 2)), 10123);
    world.commit("STREAM.UPDATE.M", &config("dc:2", 1));
    assert_eq!((world.peers("M"), world.consumer_peers("M", "d")), (vec!["n2".to_owned()], vec!["n2".to_owned()]));
    world.commit("STREAM.UPDATE.M", &config("all:1", 1));
    assert_eq!(world.peers("M"), ["n2"]);
    world.commit("STREAM.UPDATE.M", &config("all:1", 3));
    assert_eq!(world.peers("M").len(), 3);
    assert_eq!(world.consumer_peers("M", "d").len(), 3);
    // Down again, the leader stays.
    world.commit("STREAM.UPDATE.M", &config("all:1", 1));
    assert_eq!((world.peers("M"), world.consumer_peers("M", "d")), (vec!["n2".to_owned()], vec!["n2".to_owned()]));
}

#[test]
fn an_update_that_changes_nothing_is_answered_by_the_streams_leader() {
    let mut world = World::of_three();
    world.commit("STREAM.CREATE.S", r#"{"name":"S"}"#);
    assert!(matches!(world.decide("STREAM.CREATE.S", r#"{"name":"S"}"#), MetaVerdict::Forward(_)));
    assert!(matches!(world.decide("STREAM.UPDATE.S", r#"{"name":"S"}"#), MetaVerdict::Forward(_)));
    let group = world.table.stream("$G", "S").unwrap().group();
    world.view.leads.unlearn(group, 1);
    // Nobody leads: the meta leader answers an edit itself, so that a stream can be moved away from a lost majority.
    let verdict = world.decide("STREAM.UPDATE.S", r#"{"name":"S","description":"x"}"#);
    let MetaVerdict::ProposeAnd { then, .. } = verdict else { panic!("{verdict:?}") };
    assert!(matches!(*then, MetaVerdict::Answer(_)));
}

#[test]
fn blanks_are_no_direct_get_and_null_asks_for_nothing() {
    let mut world = World::alone();
    world.request("STREAM.CREATE.S", r#"{"name":"S","allow_direct":true}"#);
    let told: Vec<String> = world.request("DIRECT.GET.S", "  ").iter().map(line).collect();
    assert!(told.len() == 1 && told[0].contains("408 Malformed Request"), "{told:?}");
    let told: Vec<String> = world.request("DIRECT.GET.S", "null").iter().map(line).collect();
    assert!(told.len() == 1 && told[0].contains("408 Empty Request"), "{told:?}");
}

#[test]
fn removing_a_peer_needs_another_server_that_fits() {
    let mut world = World::of_three();
    world.commit("STREAM.CREATE.S", r#"{"name":"S","num_replicas":2}"#);
    let before = world.peers("S");
    assert_eq!(world.refused("STREAM.PEER.REMOVE.S", r#"{"peer":"zz"}"#), 10040);
    assert_eq!(world.refused("STREAM.PEER.REMOVE.S", ""), 10003);
    assert_eq!(world.refused("STREAM.PEER.REMOVE.X", r#"{"peer":"n1"}"#), 10059);
    world.commit("STREAM.PEER.REMOVE.S", &format!(r#"{{"peer":"{}"}}"#, before[0]));
    assert!(!world.peers("S").contains(&before[0]));
    assert_eq!(world.peers("S").len(), 2);
    world.commit("STREAM.CREATE.T", r#"{"name":"T","num_replicas":3}"#);
    assert_eq!(world.refused("STREAM.PEER.REMOVE.T", r#"{"peer":"n1"}"#), 10075);
    world.commit("STREAM.CREATE.R1", r#"{"name":"R1"}"#);
    let only = world.peers("R1").remove(0);
    assert_eq!(world.refused("STREAM.PEER.REMOVE.R1", &format!(r#"{{"peer":"{only}"}}"#)), 10075);
}

#[test]
fn an_evicted_servers_streams_go_on_elsewhere_or_with_fewer() {
    let mut world = World::of_three();
    world.commit("STREAM.CREATE.TWO", r#"{"name":"TWO","num_replicas":2}"#);
    world.commit("STREAM.CREATE.THREE", r#"{"name":"THREE","num_replicas":3}"#);
    world.commit("STREAM.CREATE.ONE", r#"{"name":"ONE","placement":{"tags":["dc:3"]}}"#);
    let remove = |peer: &str| {
        let mut facts = world.facts();
        facts.is_system = true;
        meta::decide(&facts, Call::ServerRemove, None, None, peer.as_bytes())
    };
    let MetaVerdict::Answer(unknown) = remove(r#"{"peer":"zz"}"#) else { panic!("a refusal") };
    assert!(String::from_utf8_lossy(&unknown).contains("10044"));
    let MetaVerdict::ProposeAnd { entries, .. } = remove(&format!(r#"{{"peer_id":"{}"}}"#, ServerId::of("n3"))) else {
        panic!("a proposal")
    };
    entries.into_iter().for_each(|entry| world.apply(entry));
    assert_eq!(world.peers("TWO"), ["n1", "n2"]);
    assert_eq!(world.peers("THREE"), ["n1", "n2"]);
    assert_eq!(world.table.stream("$G", "ONE").unwrap().peers, [ServerId::of("n3").0]);
    assert!(!world.table.servers.contains_key(&ServerId::of("n3").0));
}

#[test]
fn what_is_in_flight_is_waited_for() {
    let mut world = World::of_three();
    world.commit("STREAM.CREATE.S", r#"{"name":"S"}"#);
    let MetaVerdict::Propose(entries) = world.decide("STREAM.CREATE.Q", r#"{"name":"Q","subjects":["q.>"]}"#) else {
        panic!("a proposal")
    };
    let proposed: BTreeMap<u64, MetaEntry> = (9..).zip(entries).collect();
    let mut facts = world.facts();
    facts.proposed = Some(&proposed);
    let later = |rest: &str, body: &str| {
        meta::decide(&facts, Call::parse(rest).unwrap(), None, None, body.as_bytes()) == MetaVerdict::Later
    };
    assert!(later("STREAM.CREATE.Q", r#"{"name":"Q","subjects":["q.>"]}"#));
    assert!(later("STREAM.CREATE.R", r#"{"name":"R","subjects":["q.1"]}"#));
    assert!(later("STREAM.DELETE.Q", ""));
    assert!(later("CONSUMER.CREATE.Q.c", r#"{"stream_name":"Q","config":{"durable_name":"c"}}"#));
    assert!(!later("STREAM.CREATE.R", r#"{"name":"R"}"#));
    assert!(!later("STREAM.DELETE.S", ""));
}

#[test]
fn operators_calls_are_the_system_accounts_alone() {
    let world = World::of_three();
    assert_eq!(world.refused("META.LEADER.STEPDOWN", ""), 10039);
    let mut facts = world.facts();
    facts.is_system = true;
    let step_down = |body: &str| meta::decide(&facts, Call::MetaStepdown, None, None, body.as_bytes());
    let to = |verdict: MetaVerdict| match verdict {
        MetaVerdict::Stepdown { to, .. } => Ok(to),
        MetaVerdict::Answer(answer) => Err(String::from_utf8_lossy(&answer).into_owned()),
        other => panic!("{other:?}"),
    };
    assert_eq!(to(step_down("")), Ok(None));
    assert_eq!(to(step_down(r#"{"placement":{"preferred":"n2"}}"#)), Ok(Some(ServerId::of("n2"))));
    assert_eq!(to(step_down(r#"{"placement":{"tags":["dc:3"],"cluster":"C"}}"#)), Ok(Some(ServerId::of("n3"))));
    for (body, text) in [
        (r#"{"placement":{"preferred":"zz"}}"#, r#"preferred server \"zz\" not known"#),
        (r#"{"placement":{"preferred":"n1"}}"#, r#"preferred server \"n1\" is already leader"#),
        (r#"{"placement":{"tags":["dc:9"]}}"#, "no replacement peer connected"),
        (r#"{"z":1}"#, r#"unknown field \"z\""#),
    ] {
        assert!(to(step_down(body)).unwrap_err().contains(text), "{body}");
    }
}

#[test]
fn an_accounts_limits_hold_over_all_its_streams() {
    let mut world = World::of_three();
    let limits = crate::config::options::AccountJetStream {
        file_bytes_max: Some(10_000_000),
        memory_bytes_max: Some(1_000_000),
        streams_max: Some(2),
        consumers_max: Some(1),
        ..Default::default()
    };
    let block =
        crate::config::options::Account { name: "$G".to_owned(), jetstream: Some(limits), ..Default::default() };
    world.config.accounts.push(block);
    world.accounts.reload(&world.config.clone());
    world.commit("STREAM.CREATE.A", r#"{"name":"A","max_bytes":6000000}"#);
    assert_eq!(world.refused("STREAM.CREATE.B", r#"{"name":"B","max_bytes":2000000,"num_replicas":3}"#), 10047);
    assert_eq!(world.refused("STREAM.CREATE.B", r#"{"name":"B","max_bytes":2000000,"storage":"memory"}"#), 10028);
    assert_eq!(world.refused("STREAM.CREATE.B", r#"{"name":"B","max_consumers":5}"#), 10026);
    world.commit("STREAM.CREATE.B", r#"{"name":"B","max_bytes":1000000,"num_replicas":3}"#);
    assert_eq!(world.refused("STREAM.CREATE.C", r#"{"name":"C"}"#), 10027);
    assert_eq!(world.refused("STREAM.UPDATE.A", r#"{"name":"A","max_bytes":9000000}"#), 10047);
    // Shown once, whatever the replicas; counted on each of them.
    let MetaVerdict::Gather(gather) = world.decide("INFO", "") else { panic!("a gather") };
    let info = list::finish(&world.facts(), &gather.kind, &[]);
    let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
    assert_eq!((&info["reserved_storage"], &info["streams"]), (&7_000_000.into(), &2.into()));
    let consumer =
        |name: &str| format!(r#"{{"stream_name":"A","config":{{"durable_name":"{name}","ack_policy":"explicit"}}}}"#);
    world.commit("CONSUMER.CREATE.A.c", &consumer("c"));
    assert_eq!(world.refused("CONSUMER.CREATE.A.d", &consumer("d")), 10026);
    assert_eq!(world.table.stream("$G", "A").unwrap().config.storage, StorageKind::File);
}
