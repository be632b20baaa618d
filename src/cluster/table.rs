//! The table: every server, stream and consumer that the meta group has assigned. Each core holds a copy, changed only
//! by committed meta entries, so that every copy goes through the same states.
//!
//! The table says what *should* be: which configuration, on which servers. What *is* (leaders, lag) is the groups' own
//! knowledge and never stored here.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::consumer::config::ConsumerConfig;
use crate::ids::{GroupId, Place, ServerId};
use crate::stream::config::StreamConfig;

/// Who is answered when a change has taken effect; kept with the assignment because another server than the one that
/// accepted the request may be the one to answer (the stream's leader).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub server: u64,
    pub core: u16,
    pub subject: String,
    /// Whether a pause was asked for, which has an answer of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pause: bool,
}

impl Asked {
    pub fn place(&self) -> Place {
        Place { server: ServerId(self.server), core: self.core }
    }
}

/// A committed entry of the meta group, JSON so that servers of different versions read each other's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum MetaEntry {
    /// The first entry of a cluster's life: its id.
    Form {
        cluster_id: String,
    },
    /// A server joins, or tells new facts about itself.
    PutServer {
        server: u64,
        facts: ServerFacts,
    },
    /// A server is evicted; its replicas are placed anew by the entries that follow.
    DropServer {
        server: u64,
    },
    /// An evicted server may enter again.
    Readmit {
        server: u64,
    },
    PutStream {
        account: String,
        config: Box<StreamConfig>,
        created_ns: i64,
        peers: Vec<u64>,
        asked: Option<Asked>,
    },
    DropStream {
        account: String,
        stream: String,
        asked: Option<Asked>,
    },
    PutConsumer {
        account: String,
        stream: String,
        name: String,
        config: Box<ConsumerConfig>,
        created_ns: i64,
        peers: Vec<u64>,
        asked: Option<Asked>,
    },
    DropConsumer {
        account: String,
        stream: String,
        name: String,
        asked: Option<Asked>,
    },
}

/// What the cluster knows about a server even while it is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFacts {
    pub name: String,
    pub cluster: String,
    pub domain: String,
    pub tags: Vec<String>,
    /// Bytes this server gives to file and memory streams; 0 means "as much as there is".
    pub file_bytes_max: u64,
    pub memory_bytes_max: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamSlot {
    pub group: u64,
    pub account: String,
    pub config: StreamConfig,
    pub created_ns: i64,
    /// Servers that should replicate it.
    pub peers: Vec<u64>,
    /// The servers it was created on: a group's first members. Empty once its members have changed.
    pub bootstrap: Vec<u64>,
    #[serde(default)]
    pub moves: Moves,
    pub asked: Option<Asked>,
    pub consumers: BTreeMap<String, ConsumerSlot>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsumerSlot {
    pub group: u64,
    pub config: ConsumerConfig,
    pub created_ns: i64,
    pub peers: Vec<u64>,
    pub bootstrap: Vec<u64>,
    #[serde(default)]
    pub moves: Moves,
    pub asked: Option<Asked>,
}

/// What a group that lives in memory must know of its past, to begin anew when its servers have restarted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    /// The entry that last changed its servers; 0 while they are those it was created on.
    pub last: u64,
    /// Servers that it had before, may still be members of it, and have not been evicted since.
    pub former: Vec<u64>,
}

/// Key of a stream: account and name.
pub type StreamKey = (String, String);

/// What one committed entry did, for the backends of every core.
#[derive(Debug, Clone, PartialEq)]
pub enum TableChange {
    Formed {
        cluster_id: String,
    },
    Server {
        server: ServerId,
    },
    ServerGone {
        server: ServerId,
    },
    /// Created, or changed in configuration or peers.
    Stream {
        key: StreamKey,
    },
    StreamGone {
        key: StreamKey,
        slot: Box<StreamSlot>,
        asked: Option<Asked>,
    },
    Consumer {
        key: StreamKey,
        name: String,
    },
    ConsumerGone {
        key: StreamKey,
        name: String,
        slot: Box<ConsumerSlot>,
        asked: Option<Asked>,
    },
    /// The whole table was replaced (restart, or this server had fallen far behind).
    Restored,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Index of the last meta entry applied.
    pub applied: u64,
    pub cluster_id: Option<String>,
    pub servers: BTreeMap<u64, ServerFacts>,
    /// Names of evicted servers by id: they stay out, linked or not, until an operator lets them in again.
    #[serde(default)]
    pub evicted: BTreeMap<u64, String>,
    /// By account, then by name.
    streams: BTreeMap<String, BTreeMap<String, StreamSlot>>,
}

impl Table {
    /// Decodes an entry's payload.
    pub fn decode(body: &[u8]) -> Result<MetaEntry, serde_json::Error> {
        serde_json::from_slice(body)
    }

    pub fn encode(entry: &MetaEntry) -> Bytes {
        Bytes::from(serde_json::to_vec(entry).expect("a meta entry has only string keys"))
    }

    pub fn checkpoint(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("the table has only string keys"))
    }

    pub fn restore(state: &[u8]) -> Result<Table, serde_json::Error> {
        serde_json::from_slice(state)
    }

    pub fn stream(&self, account: &str, name: &str) -> Option<&StreamSlot> {
        self.streams.get(account)?.get(name)
    }

    pub fn consumer(&self, account: &str, stream: &str, name: &str) -> Option<&ConsumerSlot> {
        self.stream(account, stream)?.consumers.get(name)
    }

    /// Streams of one account by name.
    pub fn streams_of(&self, account: &str) -> impl Iterator<Item = (&str, &StreamSlot)> {
        self.streams.get(account).into_iter().flatten().map(|(name, slot)| (name.as_str(), slot))
    }

    /// Every stream with its key, by account and name.
    pub fn streams(&self) -> impl Iterator<Item = (StreamKey, &StreamSlot)> {
        self.streams
            .iter()
            .flat_map(|(account, of)| of.iter().map(move |(name, slot)| ((account.clone(), name.clone()), slot)))
    }

    /// Applies one committed entry. An entry that no longer fits (its stream went away between proposal and commit)
    /// changes nothing, the same way on every server.
    pub fn apply(&mut self, index: u64, entry: MetaEntry) -> Option<TableChange> {
        assert!(index > self.applied, "meta entries are applied once and in order");
        self.applied = index;
        match entry {
            MetaEntry::Form { cluster_id } => {
                if self.cluster_id.is_some() {
                    return None;
                }
                self.cluster_id = Some(cluster_id.clone());
                Some(TableChange::Formed { cluster_id })
            }
            MetaEntry::PutServer { server, facts } => {
                if self.evicted.contains_key(&server) {
                    return None;
                }
                self.servers.insert(server, facts);
                Some(TableChange::Server { server: ServerId(server) })
            }
            MetaEntry::DropServer { server } => {
                let facts = self.servers.remove(&server)?;
                self.forget_former(server);
                self.evicted.insert(server, facts.name);
                Some(TableChange::ServerGone { server: ServerId(server) })
            }
            MetaEntry::Readmit { server } => {
                self.evicted.remove(&server);
                None
            }
            MetaEntry::PutStream { account, config, created_ns, peers, asked } => {
                Some(self.put_stream(index, account, *config, created_ns, peers, asked))
            }
            MetaEntry::DropStream { account, stream, asked } => {
                let of = self.streams.get_mut(&account)?;
                let slot = of.remove(&stream)?;
                if of.is_empty() {
                    self.streams.remove(&account);
                }
                Some(TableChange::StreamGone { key: (account, stream), slot: Box::new(slot), asked })
            }
            MetaEntry::PutConsumer { account, stream, name, config, created_ns, peers, asked } => {
                let slot = self.streams.get_mut(&account)?.get_mut(&stream)?;
                put_consumer(slot, index, &name, *config, created_ns, peers, asked, &self.evicted);
                Some(TableChange::Consumer { key: (account, stream), name })
            }
            MetaEntry::DropConsumer { account, stream, name, asked } => {
                let slot = self.streams.get_mut(&account)?.get_mut(&stream)?.consumers.remove(&name)?;
                Some(TableChange::ConsumerGone { key: (account, stream), name, slot: Box::new(slot), asked })
            }
        }
    }

    fn put_stream(
        &mut self,
        index: u64,
        account: String,
        config: StreamConfig,
        created_ns: i64,
        peers: Vec<u64>,
        asked: Option<Asked>,
    ) -> TableChange {
        let name = config.name.clone();
        let key = (account.clone(), name.clone());
        let of = self.streams.entry(account.clone()).or_default();
        match of.get_mut(&name) {
            Some(slot) => {
                slot.config = config;
                slot.moves.note(index, &mut slot.bootstrap, &slot.peers, &peers, &self.evicted);
                slot.peers = peers;
                slot.asked = asked;
            }
            None => {
                let (bootstrap, moves) = (peers.clone(), Moves::default());
                let consumers = BTreeMap::new();
                let group = GroupId::of_stream(index).0;
                let slot = StreamSlot { group, account, config, created_ns, peers, bootstrap, moves, asked, consumers };
                of.insert(name, slot);
            }
        }
        TableChange::Stream { key }
    }

    /// Nobody waits for the word of a server that an operator has given up.
    fn forget_former(&mut self, server: u64) {
        for slot in self.streams.values_mut().flat_map(BTreeMap::values_mut) {
            let consumers = slot.consumers.values_mut().map(|slot| &mut slot.moves);
            consumers.chain([&mut slot.moves]).for_each(|moves| moves.former.retain(|former| *former != server));
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn put_consumer(
    stream: &mut StreamSlot,
    index: u64,
    name: &str,
    config: ConsumerConfig,
    created_ns: i64,
    peers: Vec<u64>,
    asked: Option<Asked>,
    evicted: &BTreeMap<u64, String>,
) {
    match stream.consumers.get_mut(name) {
        Some(slot) => {
            slot.config = config;
            slot.moves.note(index, &mut slot.bootstrap, &slot.peers, &peers, evicted);
            slot.peers = peers;
            slot.asked = asked;
        }
        None => {
            let (bootstrap, moves) = (peers.clone(), Moves::default());
            let group = GroupId::of_consumer(GroupId(stream.group), index).0;
            let slot = ConsumerSlot { group, config, created_ns, peers, bootstrap, moves, asked };
            stream.consumers.insert(name.to_owned(), slot);
        }
    }
}

impl Moves {
    /// Once a group's members have changed, nobody founds it any more: a server that left has dropped its log and its
    /// votes, and if it came back as a founder, two of them could elect a leader of an empty log beside the real one.
    fn note(
        &mut self,
        index: u64,
        bootstrap: &mut Vec<u64>,
        before: &[u64],
        after: &[u64],
        evicted: &BTreeMap<u64, String>,
    ) {
        if before.len() == after.len() && before.iter().all(|server| after.contains(server)) {
            return;
        }
        bootstrap.clear();
        self.last = index;
        self.former.extend(before.iter().filter(|server| !evicted.contains_key(server)));
        self.former.retain(|server| !after.contains(server));
        self.former.sort_unstable();
        self.former.dedup();
    }
}

impl StreamSlot {
    pub fn group(&self) -> GroupId {
        GroupId(self.group)
    }

    pub fn has_peer(&self, server: ServerId) -> bool {
        self.peers.contains(&server.0)
    }
}

impl ConsumerSlot {
    pub fn group(&self) -> GroupId {
        GroupId(self.group)
    }

    pub fn has_peer(&self, server: ServerId) -> bool {
        self.peers.contains(&server.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &str) -> MetaEntry {
        let MetaEntry::PutServer { facts, .. } = server(0) else { unreachable!() };
        MetaEntry::PutServer { server: ServerId::of(name).0, facts: ServerFacts { name: name.into(), ..facts } }
    }

    fn server(server: u64) -> MetaEntry {
        let facts = ServerFacts {
            name: String::new(),
            cluster: "C".into(),
            domain: String::new(),
            tags: vec![],
            file_bytes_max: 0,
            memory_bytes_max: 0,
        };
        MetaEntry::PutServer { server, facts }
    }

    #[test]
    fn an_evicted_server_stays_out_until_it_is_let_in_again() {
        let mut table = Table::default();
        let server = ServerId::of("n1").0;
        table.apply(1, put("n1"));
        assert_eq!(
            table.apply(2, MetaEntry::DropServer { server }),
            Some(TableChange::ServerGone { server: ServerId(server) })
        );
        assert_eq!(table.apply(3, put("n1")), None);
        assert!(table.servers.is_empty());
        let copy = Table::restore(&table.checkpoint()).unwrap();
        assert_eq!(copy, table);
        table.apply(4, MetaEntry::Readmit { server });
        assert!(table.apply(5, put("n1")).is_some());
    }

    /// Found by the simulator: E3 went from three replicas to one and back; the two that returned had dropped their
    /// logs, founded the group once more and elected a leader beside the one that had the data.
    #[test]
    fn nobody_founds_a_group_whose_members_have_changed() {
        let put = |peers: &[u64]| MetaEntry::PutStream {
            account: "A".into(),
            config: Box::new(StreamConfig { name: "S".into(), ..StreamConfig::default() }),
            created_ns: 1,
            peers: peers.to_vec(),
            asked: None,
        };
        let bootstrap = |table: &Table| table.stream("A", "S").unwrap().bootstrap.clone();
        let mut table = Table::default();
        table.apply(1, put(&[1, 2, 3]));
        table.apply(2, put(&[3, 2, 1]));
        assert_eq!(bootstrap(&table), [1, 2, 3]);
        table.apply(3, put(&[3]));
        table.apply(4, put(&[1, 2, 3]));
        assert!(bootstrap(&table).is_empty());
        let moves = |table: &Table| table.stream("A", "S").unwrap().moves.clone();
        assert_eq!(moves(&table), Moves { last: 4, former: vec![] });
        table.apply(5, put(&[4, 5]));
        assert_eq!(moves(&table), Moves { last: 5, former: vec![1, 2, 3] });
        table.apply(6, server(2));
        table.apply(7, MetaEntry::DropServer { server: 2 });
        table.apply(8, put(&[5, 1]));
        assert_eq!(moves(&table), Moves { last: 8, former: vec![3, 4] });
        table.apply(9, put(&[1, 5]));
        assert_eq!(moves(&Table::restore(&table.checkpoint()).unwrap()), Moves { last: 8, former: vec![3, 4] });
    }

    #[test]
    fn entries_read_back_as_they_were_written() {
        for entry in [put("n1"), MetaEntry::Form { cluster_id: "x".into() }, MetaEntry::Readmit { server: 7 }] {
            assert_eq!(Table::decode(&Table::encode(&entry)).unwrap(), entry);
        }
        assert!(Table::decode(b"{\"op\":\"unheard_of\"}").is_err());
        assert!(Table::decode(b"").is_err());
    }
}
