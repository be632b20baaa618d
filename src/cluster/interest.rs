//! What is listened to in one account: by clients of this core, by the other cores of this server, by other servers.
//!
//! ```text
//!   subscriptions here ──► own ──┬──► told to the other cores
//!   told by the other cores ─────┴──► union ──► told to the servers (only the core that owns the links does)
//!   told by cores and servers ──► remote entries, each a target of the account's subject list
//! ```
//!
//! A plain filter is told once, when its first subscription comes, and untold when its last one goes. A member of a
//! queue group is told each time: the number of members is the node's weight when a message picks one of them.
//! What a server tells is told to every core of the receiving server and never further, so interest cannot go round.
//!
//! This file counts; it sends nothing and matches nothing. All maps are ordered, so that two runs say the same things
//! in the same order.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ids::{CoreId, ServerId};

/// The core that owns the links to other servers.
pub const LINK_CORE: CoreId = 0;

/// Filters that one node may tell for one account. Far above what a server holds in memory: it only keeps a peer that
/// has lost its mind from taking this server with it.
pub const REMOTE_FILTERS_MAX: usize = 16 << 20;

/// Another core of this server, or another server, as a source of interest and a place for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    Core(CoreId),
    Server(ServerId),
}

/// A filter with its queue group as one ordered name: `subject` or `subject queue`. A blank cannot be in either.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Bytes);

impl Key {
    /// Copies both; what comes from a read buffer must not keep it alive.
    pub fn new(subject: &[u8], queue: Option<&[u8]>) -> Key {
        let mut name = Vec::with_capacity(subject.len() + queue.map_or(0, |queue| queue.len() + 1));
        name.extend_from_slice(subject);
        if let Some(queue) = queue {
            name.push(b' ');
            name.extend_from_slice(queue);
        }
        Key(name.into())
    }

    pub fn subject(&self) -> &[u8] {
        &self.0[..self.blank().unwrap_or(self.0.len())]
    }

    pub fn queue(&self) -> Option<&[u8]> {
        self.blank().map(|at| &self.0[at + 1..])
    }

    pub fn subject_bytes(&self) -> Bytes {
        self.0.slice(..self.blank().unwrap_or(self.0.len()))
    }

    pub fn queue_bytes(&self) -> Option<Bytes> {
        self.blank().map(|at| self.0.slice(at + 1..))
    }

    fn blank(&self) -> Option<usize> {
        self.0.iter().position(|byte| *byte == b' ')
    }
}

/// A line of what is told: the filter, its group, and whether it came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub key: Key,
    pub add: bool,
}

/// What follows from a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spread {
    /// Tell the other cores of this server.
    pub cores: bool,
    /// Tell the other servers.
    pub servers: bool,
}

/// A filter that another node has; `slot` is its number while it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub node: Node,
    pub key: Key,
    /// Members of the queue group behind it; 1 for a plain filter.
    pub weight: u32,
}

/// What a node's word changed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteChange {
    /// A new entry: put it into the subject list.
    Came(u32),
    /// The entry is gone: take it out of the subject list.
    Gone(u32, Remote),
    /// Only a weight changed, or nothing did.
    Kept,
    /// Beyond [`REMOTE_FILTERS_MAX`]; ignored.
    Refused,
}

/// All interest in one account, as one core sees it.
#[derive(Debug, Default)]
pub struct Interest {
    /// Subscriptions of this core's clients.
    own: BTreeMap<Key, u32>,
    /// This core and the others together; only kept on the core that owns the links.
    union: BTreeMap<Key, u32>,
    keeps_union: bool,
    remote: BTreeMap<(Node, Key), u32>,
    slots: Vec<Option<Remote>>,
    free: Vec<u32>,
}

impl Interest {
    /// `core`: where this lives; only [`LINK_CORE`] speaks for the server.
    pub fn new(core: CoreId) -> Interest {
        Interest { keeps_union: core == LINK_CORE, ..Interest::default() }
    }

    /// A client of this core subscribes. Returns the shared key as well: subscriptions keep a handle to it.
    pub fn subscribe(&mut self, subject: &[u8], queue: Option<&[u8]>) -> (Key, Spread) {
        let key = Key::new(subject, queue);
        // One copy of the name serves all subscriptions of the same filter.
        let key = self.own.get_key_value(&key).map_or(key, |(shared, _)| shared.clone());
        let cores = raise(&mut self.own, &key, 1) || queue.is_some();
        let servers = cores && self.join(&key);
        (key, Spread { cores, servers })
    }

    /// The reverse of one [`Interest::subscribe`].
    pub fn unsubscribe(&mut self, key: &Key) -> Spread {
        let cores = lower(&mut self.own, key, 1) || key.queue().is_some();
        let servers = cores && self.leave(key, 1);
        Spread { cores, servers }
    }

    /// Another node gained or lost a filter. The second value says whether this core must tell it to the servers.
    pub fn hear(&mut self, node: Node, key: &Key, add: bool) -> (RemoteChange, bool) {
        if add { self.hear_add(node, key) } else { self.hear_remove(node, key) }
    }

    /// A node is gone with all its interest. Returns the entries that went, and what the servers must be told.
    pub fn forget(&mut self, node: Node) -> (Vec<(u32, Remote)>, Vec<Told>) {
        let from = (node, Key(Bytes::new()));
        let keys: Vec<Key> = self
            .remote
            .range(from..)
            .take_while(|((other, _), _)| *other == node)
            .map(|((_, key), _)| key.clone())
            .collect();
        let mut gone = Vec::with_capacity(keys.len());
        let mut told = Vec::new();
        for key in keys {
            let Some((slot, entry)) = self.take(node, &key) else { continue };
            if matches!(node, Node::Core(_)) {
                let queue = key.queue().is_some();
                let last = self.leave(&key, entry.weight);
                let times = if queue { entry.weight } else { u32::from(last) };
                told.extend((0..times).filter(|_| self.keeps_union).map(|_| Told { key: key.clone(), add: false }));
            }
            gone.push((slot, entry));
        }
        (gone, told)
    }

    /// Behind a target of the subject list.
    pub fn remote(&self, slot: u32) -> Option<&Remote> {
        self.slots.get(slot as usize).and_then(Option::as_ref)
    }

    /// Everything that a node must be told when it comes up: for a core what clients of this core listen to, for a
    /// server what clients of any core do.
    pub fn tellable(&self, node: Node) -> impl Iterator<Item = Key> + '_ {
        let map = if matches!(node, Node::Server(_)) { &self.union } else { &self.own };
        map.iter().flat_map(|(key, count)| {
            let times = if key.queue().is_some() { *count } else { 1 };
            (0..times).map(|_| key.clone())
        })
    }

    /// Filters of this core's clients with their subscriptions.
    pub fn own(&self) -> impl Iterator<Item = (&Key, u32)> {
        self.own.iter().map(|(key, count)| (key, *count))
    }

    /// Filters that other nodes told.
    pub fn remote_len(&self) -> usize {
        self.remote.len()
    }

    fn hear_add(&mut self, node: Node, key: &Key) -> (RemoteChange, bool) {
        if let Some(slot) = self.remote.get(&(node, key.clone())) {
            if key.queue().is_none() {
                return (RemoteChange::Kept, false);
            }
            if let Some(Some(entry)) = self.slots.get_mut(*slot as usize) {
                entry.weight += 1;
            }
            return (RemoteChange::Kept, matches!(node, Node::Core(_)) && self.join(key));
        }
        if self.remote.len() >= REMOTE_FILTERS_MAX {
            return (RemoteChange::Refused, false);
        }
        let entry = Remote { node, key: key.clone(), weight: 1 };
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        match self.slots.get_mut(slot as usize) {
            Some(place) => *place = Some(entry),
            None => self.slots.push(Some(entry)),
        }
        self.remote.insert((node, key.clone()), slot);
        (RemoteChange::Came(slot), matches!(node, Node::Core(_)) && self.join(key))
    }

    fn hear_remove(&mut self, node: Node, key: &Key) -> (RemoteChange, bool) {
        let Some(slot) = self.remote.get(&(node, key.clone())).copied() else { return (RemoteChange::Kept, false) };
        let from_core = matches!(node, Node::Core(_));
        if let Some(Some(entry)) = self.slots.get_mut(slot as usize)
            && entry.weight > 1
        {
            entry.weight -= 1;
            return (RemoteChange::Kept, from_core && self.leave(key, 1));
        }
        let servers = from_core && self.leave(key, 1);
        match self.take(node, key) {
            Some((slot, entry)) => (RemoteChange::Gone(slot, entry), servers),
            None => (RemoteChange::Kept, servers),
        }
    }

    fn take(&mut self, node: Node, key: &Key) -> Option<(u32, Remote)> {
        let slot = self.remote.remove(&(node, key.clone()))?;
        let entry = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some((slot, entry))
    }

    /// One more of the server's cores (or queue members) has it; true when the servers must hear of it.
    fn join(&mut self, key: &Key) -> bool {
        self.keeps_union && (raise(&mut self.union, key, 1) || key.queue().is_some())
    }

    fn leave(&mut self, key: &Key, times: u32) -> bool {
        self.keeps_union && (lower(&mut self.union, key, times) || key.queue().is_some())
    }
}

/// True when it is the first.
fn raise(map: &mut BTreeMap<Key, u32>, key: &Key, by: u32) -> bool {
    if let Some(count) = map.get_mut(key) {
        *count += by;
        return false;
    }
    map.insert(key.clone(), by);
    true
}

/// True when it was the last.
fn lower(map: &mut BTreeMap<Key, u32>, key: &Key, by: u32) -> bool {
    let Some(count) = map.get_mut(key) else { return false };
    *count = count.saturating_sub(by);
    let last = *count == 0;
    if last {
        map.remove(key);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Node = Node::Server(ServerId(9));

    fn key(subject: &str, queue: Option<&str>) -> Key {
        Key::new(subject.as_bytes(), queue.map(str::as_bytes))
    }

    fn both() -> Spread {
        Spread { cores: true, servers: true }
    }

    #[test]
    fn a_key_gives_back_what_it_was_made_of() {
        let plain = key("a.>", None);
        assert_eq!((plain.subject(), plain.queue()), (&b"a.>"[..], None));
        let group = key("a.>", Some("q"));
        assert_eq!((group.subject(), group.queue()), (&b"a.>"[..], Some(&b"q"[..])));
        assert_eq!(group.subject_bytes(), "a.>");
        assert_eq!(group.queue_bytes().unwrap(), "q");
    }

    #[test]
    fn a_plain_filter_is_told_once_and_a_queue_member_each_time() {
        let mut interest = Interest::new(LINK_CORE);
        let (plain, spread) = interest.subscribe(b"a", None);
        assert_eq!(spread, both());
        assert_eq!(interest.subscribe(b"a", None).1, Spread::default());
        assert_eq!(interest.unsubscribe(&plain), Spread::default());
        assert_eq!(interest.unsubscribe(&plain), both());
        let (group, spread) = interest.subscribe(b"a", Some(b"q"));
        assert_eq!(spread, both());
        assert_eq!(interest.subscribe(b"a", Some(b"q")).1, both());
        assert_eq!(interest.tellable(SERVER).count(), 2);
        assert_eq!(interest.unsubscribe(&group), both());
        assert_eq!(interest.unsubscribe(&group), both());
        assert_eq!(interest.tellable(SERVER).count(), 0);
    }

    #[test]
    fn servers_hear_the_union_of_the_cores_from_the_link_owner_alone() {
        let mut owner = Interest::new(LINK_CORE);
        owner.subscribe(b"a", None);
        assert_eq!(owner.hear(Node::Core(1), &key("a", None), true), (RemoteChange::Came(0), false));
        assert_eq!(owner.hear(Node::Core(1), &key("b", None), true), (RemoteChange::Came(1), true));
        assert_eq!(owner.hear(SERVER, &key("c", None), true), (RemoteChange::Came(2), false));
        assert_eq!(owner.tellable(SERVER).collect::<Vec<_>>(), [key("a", None), key("b", None)]);
        assert_eq!(owner.tellable(Node::Core(1)).collect::<Vec<_>>(), [key("a", None)]);
        assert_eq!(owner.unsubscribe(&key("a", None)), Spread { cores: true, servers: false });
        let gone = owner.hear(Node::Core(1), &key("a", None), false);
        assert!(matches!(gone, (RemoteChange::Gone(0, _), true)));
        let mut other = Interest::new(1);
        assert_eq!(other.subscribe(b"a", None).1, Spread { cores: true, servers: false });
        assert_eq!(other.hear(Node::Core(0), &key("b", None), true), (RemoteChange::Came(0), false));
    }

    #[test]
    fn weights_count_the_members_behind_a_node() {
        let mut interest = Interest::new(LINK_CORE);
        let group = key("a", Some("q"));
        assert_eq!(interest.hear(SERVER, &group, true), (RemoteChange::Came(0), false));
        assert_eq!(interest.hear(SERVER, &group, true), (RemoteChange::Kept, false));
        assert_eq!(interest.remote(0).unwrap().weight, 2);
        assert_eq!(interest.hear(SERVER, &group, false), (RemoteChange::Kept, false));
        assert!(matches!(interest.hear(SERVER, &group, false), (RemoteChange::Gone(0, _), false)));
        assert_eq!(interest.hear(SERVER, &group, false), (RemoteChange::Kept, false));
        assert!(interest.remote(0).is_none());
    }

    #[test]
    fn a_repeated_plain_word_of_a_node_changes_nothing() {
        let mut interest = Interest::new(LINK_CORE);
        assert!(interest.hear(Node::Core(1), &key("a", None), true).1);
        assert_eq!(interest.hear(Node::Core(1), &key("a", None), true), (RemoteChange::Kept, false));
        assert!(interest.hear(Node::Core(1), &key("a", None), false).1);
        assert_eq!(interest.tellable(SERVER).count(), 0);
    }

    #[test]
    fn forgetting_a_node_takes_all_it_told_and_nothing_else() {
        let mut interest = Interest::new(LINK_CORE);
        interest.subscribe(b"a", None);
        for node in [Node::Core(1), Node::Core(2), SERVER] {
            for name in [key("a", None), key("b", None), key("c", Some("q")), key("c", Some("q"))] {
                interest.hear(node, &name, true);
            }
        }
        let (gone, told) = interest.forget(Node::Core(1));
        assert_eq!(gone.len(), 3);
        assert_eq!(
            told,
            [Told { key: key("c", Some("q")), add: false }, Told { key: key("c", Some("q")), add: false }]
        );
        let (gone, told) = interest.forget(Node::Core(2));
        assert_eq!(gone.len(), 3);
        assert_eq!(told.len(), 3);
        let (gone, told) = interest.forget(SERVER);
        assert_eq!((gone.len(), told.len()), (3, 0));
        assert_eq!(interest.remote_len(), 0);
        assert_eq!(interest.tellable(SERVER).collect::<Vec<_>>(), [key("a", None)]);
    }
}
