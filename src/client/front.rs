//! The client side of one core as one value; see [`super`] for the way of a message through it.
//!
//! Every call takes the time and may leave [`FrontOutput`]s: drain [`Front::poll_output`] after each, call
//! [`Front::turn`] once at the end of a batch (that is when queued bytes become writes), and call [`Front::wakeup`] when
//! [`Front::next_wakeup`] has come. Nothing here fails: what a client does wrong ends or answers that client.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use ahash::RandomState;
use bytes::Bytes;
use net::sublist::{Matches, Sublist};

use super::auth::Gate;
use super::barrier::Barrier;
use super::conn::Conn;
use super::lame_duck::LameDuck;
use super::lost::Lost;
use super::moving::Moves;
use super::output::{FrontOutput, Level, Service, Traffic};
use super::pages::ConnInfo;
use super::pressure::{self, Pressure};
use super::timers::Timers;
use crate::account::Accounts;
use crate::cluster::interest::{Interest, Key, LINK_CORE, Node, RemoteChange, Spread};
use crate::cluster::wire::{NodeMsg, Routed};
use crate::config::Config;
use crate::ids::{AccountId, ConnId, CoreId, GroupId, Now, Place, ServerId};
use crate::reply::Reply;
use crate::route::{Lot, Message, Plan, Scope, Target};

/// What a core's client side must know from its birth.
#[derive(Debug, Clone)]
pub struct FrontOptions {
    pub place: Place,
    /// Cores of this server; all of them exchange interest from the start.
    pub cores: u16,
    pub config: Arc<Config>,
    /// The public id, `N…`, 56 characters.
    pub server_id: String,
    pub server_name: String,
    /// `None`: the server stands alone.
    pub cluster: Option<String>,
    /// What INFO says of the program: version that clients gate features by, commit, and toolchain.
    pub version: String,
    pub git_commit: String,
    pub go: String,
    /// Level of the JetStream API.
    pub api_level: u32,
    /// Client URLs (`host:port`) of this server for `connect_urls`; empty where the peer names none.
    pub client_urls: Vec<String>,
    /// Reads that must have been requests to one other core before a connection moves there:
    /// [`super::moving::MOVE_AFTER_READS`].
    pub move_after: u32,
    /// For queue choices, timer spread and hash tables.
    pub seed: u64,
}

/// The client side of one core.
#[derive(Debug)]
pub struct Front {
    pub(super) options: FrontOptions,
    pub(super) config: Arc<Config>,
    pub(super) accounts: Accounts,
    pub(super) exchanges: Vec<Exchange>,
    /// Streams with their subjects, to take them out of the subject lists again.
    streams: BTreeMap<GroupId, (AccountId, Vec<Bytes>)>,
    pub(super) gate: Gate,
    pub(super) conns: Vec<Option<Conn>>,
    pub(super) conns_free: Vec<u32>,
    pub(super) by_id: HashMap<ConnId, u32, RandomState>,
    /// Connections that are neither closing nor gone.
    pub(super) open: u32,
    pub(super) accepted: u64,
    /// Connections of the other cores by account: an account's limit is for the server.
    pub(super) elsewhere: Vec<(AccountId, u32)>,
    /// The other cores have not been told how many connections this one's accounts have.
    pub(super) census_changed: bool,
    pub(super) barrier: Barrier,
    pub(super) pressure: Pressure,
    pub(super) moves: Moves,
    pub(super) timers: Timers,
    /// Servers that hear this server's interest; only kept by the core that owns the links.
    pub(super) servers: Vec<ServerId>,
    /// Client URLs of the other servers.
    pub(super) other_urls: Vec<String>,
    pub(super) lame_duck: Option<LameDuck>,
    pub(super) closed: VecDeque<ConnInfo>,
    pub(super) counts: Counts,
    pub(super) dirty: Vec<u32>,
    pub(super) outputs: VecDeque<FrontOutput>,
    pub(super) matches: Matches<Target>,
    pub(super) plan: Plan,
    pub(super) lot: Lot,
    pub(super) hasher: RandomState,
    pub(super) lost: Lost,
}

/// Who listens in one account, and what passed through it.
#[derive(Debug)]
pub(super) struct Exchange {
    pub list: Sublist<Target>,
    pub interest: Interest,
    pub traffic: Traffic,
    pub connections: u32,
    pub total_connections: u64,
    pub subscriptions: u64,
    pub slow_consumers: u64,
}

/// Counters over the life of the server.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub slow_pending: u64,
    pub slow_deadline: u64,
    pub stale: u64,
    pub stalls: u64,
    pub auth_errors: u64,
    /// What came from, and went to, other servers and cores.
    pub routed: Traffic,
}

impl Front {
    pub fn new(options: FrontOptions) -> Front {
        let config = Arc::clone(&options.config);
        let accounts = Accounts::new(&config);
        let seed = options.seed;
        let hasher = RandomState::with_seeds(seed, seed.rotate_left(17), seed.rotate_left(31), !seed);
        let mut front = Front {
            gate: Gate::new(&config, &accounts),
            exchanges: Vec::new(),
            streams: BTreeMap::new(),
            conns: Vec::new(),
            conns_free: Vec::new(),
            by_id: HashMap::with_hasher(hasher.clone()),
            open: 0,
            accepted: 0,
            elsewhere: Vec::new(),
            census_changed: false,
            barrier: Barrier::default(),
            pressure: Pressure::default(),
            moves: Moves::default(),
            timers: Timers::default(),
            servers: Vec::new(),
            other_urls: Vec::new(),
            lame_duck: None,
            closed: VecDeque::new(),
            counts: Counts::default(),
            dirty: Vec::new(),
            outputs: VecDeque::new(),
            matches: Matches::new(),
            plan: Plan::new(),
            lot: Lot::new(seed),
            hasher,
            lost: Lost::default(),
            accounts,
            config,
            options,
        };
        front.open_exchanges();
        front
    }

    /// The next thing to do; drain until `None` after every call.
    pub fn poll_output(&mut self) -> Option<FrontOutput> {
        self.outputs.pop_front()
    }

    /// All accounts by number and name.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Publishes as a service of this server would: to subscribers, streams, services, cores and servers. True when
    /// anybody got it.
    pub fn publish(
        &mut self,
        now: Now,
        account: AccountId,
        subject: Bytes,
        reply: Option<Bytes>,
        headers: Option<Bytes>,
        payload: Bytes,
    ) -> bool {
        self.route(now, None, account, Scope::Here, Message { subject, inbox: None, reply, headers, payload })
    }

    /// A service's answer or delivery that was sent to this core: published here. When nobody listens and the sender
    /// asked to be told, [`FrontOutput::Bounce`].
    pub fn reply(&mut self, now: Now, reply: Reply) {
        let Reply { account, subject, shown, reply, headers, payload, bounce, .. } = reply;
        let (subject, inbox) = match shown {
            Some(shown) => (shown, Some(subject)),
            None => (subject, None),
        };
        let message = Message { subject, inbox, reply, headers, payload };
        let heard = self.route(now, None, account, Scope::Here, message);
        if let (false, Some((group, token))) = (heard, bounce) {
            self.outputs.push_back(FrontOutput::Bounce { group, token });
        }
    }

    /// Whether a message on this subject would reach anybody, here or on any node. For probes of silent inboxes.
    pub fn has_interest(&mut self, account: AccountId, subject: &[u8]) -> bool {
        self.exchanges.get_mut(account.0 as usize).is_some_and(|exchange| exchange.list.has_interest(subject))
    }

    /// A message that another node published. `from` is another core of this server or, on the core that owns the
    /// links, a core of another server.
    pub fn routed(&mut self, now: Now, from: Place, message: Routed) {
        let Routed { account, subject, inbox, reply, headers, payload, plain, queues } = message;
        let message = Message { subject, inbox, reply, headers, payload };
        self.counts.routed.in_msgs += 1;
        self.counts.routed.in_bytes += message.len() as u64;
        if from.server == self.options.place.server {
            let weight = pressure::weight(&message);
            self.route(now, None, account, Scope::FromCore { core: from.core, plain, queues: &queues }, message);
            self.came_from(from.core, weight);
        } else {
            self.route(now, None, account, Scope::FromServer { plain, queues: &queues }, message);
        }
    }

    /// A node gained or lost a filter. What a server says must be passed to every core of this server.
    pub fn interest(&mut self, from: Node, account: AccountId, subject: Bytes, queue: Option<Bytes>, add: bool) {
        let Some(exchange) = self.exchanges.get_mut(account.0 as usize) else { return };
        if !net::subject::is_valid_filter(&subject) || queue.as_ref().is_some_and(|queue| queue.contains(&b' ')) {
            return;
        }
        let key = Key::new(&subject, queue.as_deref());
        let (change, tell) = exchange.interest.hear(from, &key, add);
        match change {
            RemoteChange::Came(slot) => drop(exchange.list.insert(&subject, queue.as_deref(), Target::Remote(slot))),
            RemoteChange::Gone(slot, _) => {
                exchange.list.remove(&subject, queue.as_deref(), Target::Remote(slot));
                self.lost.filter(account, &subject);
            }
            RemoteChange::Kept => {}
            RemoteChange::Refused => {
                self.log(Level::Error, || format!("Too many subscriptions told by {from:?}, ignored"))
            }
        }
        self.tell(account, &key, add, Spread { cores: false, servers: tell });
    }

    /// A server's link stands: it is told everything that this server's clients listen to, and all changes from now
    /// on. Only called on the core that owns the links; cores know each other from the start.
    pub fn node_up(&mut self, server: ServerId) {
        if self.servers.contains(&server) {
            return;
        }
        self.servers.push(server);
        self.servers.sort_unstable();
        for (account, key) in self.server_interest() {
            self.tell_one(Node::Server(server), account, &key, true);
        }
    }

    /// Hints of what lost its last listener.
    pub fn lost(&mut self) -> &mut Lost {
        &mut self.lost
    }

    /// When there are such hints to look at.
    pub fn next_look(&self) -> Option<u64> {
        self.lost.next_look()
    }

    /// A node is gone: it listens to nothing any more and hears nothing.
    pub fn forget(&mut self, node: Node) {
        if let Node::Server(server) = node {
            self.servers.retain(|other| *other != server);
        }
        for at in 0..self.exchanges.len() {
            let exchange = &mut self.exchanges[at];
            let (gone, told) = exchange.interest.forget(node);
            for (slot, entry) in gone {
                exchange.list.remove(entry.key.subject(), entry.key.queue(), Target::Remote(slot));
            }
            for line in told {
                self.tell(AccountId(at as u32), &line.key, line.add, Spread { cores: false, servers: true });
            }
        }
    }

    /// What this core's clients listen to, as another core would be told: queue members one by one.
    pub fn my_interest(&self) -> Vec<(AccountId, Key)> {
        self.tellable(Node::Core(self.options.place.core))
    }

    /// What this server's clients listen to, as another server would be told. Only known by the core that owns the
    /// links.
    pub fn server_interest(&self) -> Vec<(AccountId, Key)> {
        self.tellable(Node::Server(self.options.place.server))
    }

    /// Makes messages on these subjects go into a stream; `None`: the stream is gone, whatever its account. Replaces
    /// what was said before; saying the same again costs nothing. O(subjects).
    pub fn stream_subjects(&mut self, group: GroupId, account: AccountId, subjects: Option<Vec<Bytes>>) {
        if let (Some(now), Some((before, was))) = (&subjects, self.streams.get(&group))
            && (account, now) == (*before, was)
        {
            return;
        }
        if let Some((before, was)) = self.streams.remove(&group) {
            let list = &mut self.exchanges[before.0 as usize].list;
            for subject in &was {
                list.remove(subject, None, Target::Stream(group));
            }
        }
        let Some(exchange) = self.exchanges.get_mut(account.0 as usize) else { return };
        let Some(subjects) = subjects else { return };
        for subject in &subjects {
            exchange.list.insert(subject, None, Target::Stream(group));
        }
        self.streams.insert(group, (account, subjects));
    }

    /// Subscribes a service of this server to a filter. `announce`: other nodes are told, so that it also gets what is
    /// published there; otherwise it only serves what enters on this core.
    pub fn service(&mut self, account: AccountId, filter: Bytes, service: Service, announce: bool) {
        let Some(exchange) = self.exchanges.get_mut(account.0 as usize) else { return };
        let target = Target::Service { service, announced: announce };
        if exchange.list.insert(&filter, None, target) && announce {
            let (key, spread) = exchange.interest.subscribe(&filter, None);
            self.tell(account, &key, true, spread);
        }
    }

    /// The reverse of [`Front::service`].
    pub fn unservice(&mut self, account: AccountId, filter: Bytes, service: Service) {
        let Some(exchange) = self.exchanges.get_mut(account.0 as usize) else { return };
        exchange.list.remove(&filter, None, Target::Service { service, announced: false });
        if exchange.list.remove(&filter, None, Target::Service { service, announced: true }) {
            let key = Key::new(&filter, None);
            let spread = exchange.interest.unsubscribe(&key);
            self.tell(account, &key, false, spread);
        }
    }

    /// Open connections of this core by account, if that changed since it was last asked: what the other cores count
    /// with. O(accounts) then.
    /// With it the number of those that came from other cores.
    pub fn census(&mut self) -> Option<(Vec<(AccountId, u32)>, u32)> {
        if !std::mem::take(&mut self.census_changed) {
            return None;
        }
        let by_account =
            self.exchanges.iter().enumerate().map(|(at, exchange)| (AccountId(at as u32), exchange.connections));
        Some((by_account.filter(|(_, count)| *count > 0).collect(), self.moves.lodgers))
    }

    /// Connections of the other cores, so that accounts' limits hold for the whole server. Told after each turn that
    /// changed them.
    pub fn elsewhere(&mut self, by_account: Vec<(AccountId, u32)>) {
        self.elsewhere = by_account;
    }

    /// Tells nodes of a filter that came or went.
    pub(super) fn tell(&mut self, account: AccountId, key: &Key, add: bool, spread: Spread) {
        if spread.cores {
            let own = self.options.place.core;
            for core in (0..self.options.cores).filter(|core| *core != own) {
                self.tell_one(Node::Core(core), account, key, add);
            }
        }
        if spread.servers {
            for at in 0..self.servers.len() {
                self.tell_one(Node::Server(self.servers[at]), account, key, add);
            }
        }
    }

    /// A line of the log; the text is only made when somebody reads that level.
    pub(super) fn log(&mut self, level: Level, text: impl FnOnce() -> String) {
        if level > Level::Debug || self.config.log.debug {
            self.outputs.push_back(FrontOutput::Log { level, text: text() });
        }
    }

    /// One exchange per account number.
    pub(super) fn open_exchanges(&mut self) {
        for at in self.exchanges.len()..self.accounts.len() {
            let seed = self.options.seed.wrapping_add(at as u64);
            self.exchanges.push(Exchange::new(seed, self.options.place.core, self.config.limits.sublist_cache));
        }
    }

    pub(super) fn conn(&mut self, slot: u32) -> Option<&mut Conn> {
        self.conns.get_mut(slot as usize).and_then(Option::as_mut)
    }

    fn tellable(&self, node: Node) -> Vec<(AccountId, Key)> {
        let of = |(at, exchange): (usize, &Exchange)| {
            exchange.interest.tellable(node).map(|key| (AccountId(at as u32), key)).collect::<Vec<_>>()
        };
        self.exchanges.iter().enumerate().flat_map(of).collect()
    }

    fn tell_one(&mut self, node: Node, account: AccountId, key: &Key, add: bool) {
        let msg = NodeMsg::Interest { account, subject: key.subject_bytes(), queue: key.queue_bytes(), add };
        if let Node::Core(_) = node {
            self.barrier.said();
        }
        self.outputs.push_back(FrontOutput::ToNode { node, msg });
    }

    /// Another core has heard everything that was told to it before this mark.
    pub fn barrier_heard(&mut self, core: CoreId, mark: u64) {
        let others = usize::from(self.options.cores.saturating_sub(1));
        for conn in self.barrier.heard(others, core, mark) {
            if self.passed(conn) {
                continue;
            }
            if let Some(slot) = self.by_id.get(&conn).copied() {
                self.pong(slot);
            }
        }
    }

    /// Whether this core speaks for the server.
    pub fn owns_links(&self) -> bool {
        self.options.place.core == LINK_CORE
    }
}

impl Exchange {
    fn new(seed: u64, core: CoreId, cache: bool) -> Exchange {
        Exchange {
            list: if cache { Sublist::new(seed) } else { Sublist::with_recent(seed, 0) },
            interest: Interest::new(core),
            traffic: Traffic::default(),
            connections: 0,
            total_connections: 0,
            subscriptions: 0,
            slow_consumers: 0,
        }
    }
}
