//! JetStream on one core: the raft groups that live here and the machines that they feed.
//!
//! ```text
//!  requests ──► machine (ingest, pull, ack) ──► Groups::propose ──► … disk, peers … ──► Committed ──► machine ──► replies
//!                     ▲                                                                        │
//!                     └────────────── table (what should be here) ◄── meta group ◄─────────────┘
//! ```
//!
//! It carries values between parts that do not know each other and decides nothing that they could. Each core holds a
//! copy of the table; core 0 also hosts the meta group and hands its committed entries to the others.

mod advisories;
mod backend;
mod evicted;
mod fetch;
mod gather;
mod hosted;
mod leaving;
mod lines;
mod links;
mod meta;
mod outputs;
mod ready;
mod requests;
mod rooms;
mod tally;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::account::Accounts;
use crate::api::facts::Facts;
use crate::cluster::table::{MetaEntry, ServerFacts, Table};
use crate::cluster::view::View;
use crate::cluster::wire::{Lead, NodeMsg, Request};
use crate::config::Config;
use crate::event::Level;
use crate::group::timers::Timers;
use crate::group::{GroupRole, GroupStatus, Groups, GroupsOptions};
use crate::ids::{AccountId, CoreId, GroupId, Now, Place};
use crate::reply::Reply;

use fetch::Fetches;
use gather::Gathers;
pub use hosted::{HostedConsumer, HostedStream};
pub use meta::Forgets;
use meta::Meta;
use rooms::Rooms;
use tally::Tallies;
pub use tally::Tally;

/// How often requests for a group without a leader look for one, microseconds.
const UNLED_LOOK_US: u64 = 20_000;

/// What JetStream wants of the shard.
#[derive(Debug)]
pub enum JsOutput {
    /// A service's answer for a core, of this server or another.
    Reply(Reply),
    Send {
        to: Place,
        msg: NodeMsg,
    },
    /// This core leads a group now; everybody must hear of it.
    Lead(Lead),
    Unlead {
        group: GroupId,
        term: u64,
    },
    /// Committed meta entries for the copies of the other cores.
    Table(Vec<(u64, MetaEntry)>),
    TableRestored(Arc<Table>, Forgets),
    Formed {
        cluster_id: String,
    },
    Disk(storage::DiskOp),
    /// Recovered: this core serves.
    Ready,
    /// A message of JetStream's own on a subject of an account (advisories).
    Publish {
        account: AccountId,
        subject: Bytes,
        payload: Bytes,
    },
    Log {
        level: Level,
        text: String,
    },
    Broken {
        why: String,
    },
}

/// What JetStream needs to know at start.
pub struct JsOptions {
    pub me: Place,
    pub config: Arc<Config>,
    pub accounts: Accounts,
    pub server_id: String,
    pub server_name: String,
    /// `None`: this server runs alone.
    pub cluster: Option<String>,
    pub facts: ServerFacts,
    pub groups: GroupsOptions,
    /// The id in the store's identity; `None`: it belongs to no cluster yet.
    pub cluster_id: Option<String>,
    /// Becomes the id of the cluster if this server begins one.
    pub fresh_cluster_id: String,
}

pub struct JetStream {
    me: Place,
    config: Arc<Config>,
    accounts: Accounts,
    server_id: String,
    server_name: String,
    cluster: Option<String>,
    groups: Groups,
    /// Groups are opened once the log is read and the table is there.
    recovered: bool,
    table: Table,
    table_ready: bool,
    /// Core 0 only.
    meta: Option<Meta>,
    streams: BTreeMap<GroupId, HostedStream>,
    consumers: BTreeMap<GroupId, HostedConsumer>,
    /// Streams and consumers that have something to do at the end of the turn.
    busy_streams: BTreeSet<GroupId>,
    busy_consumers: BTreeSet<GroupId>,
    /// When streams and consumers want to be woken.
    stream_timers: Timers,
    consumer_timers: Timers,
    fetches: Fetches,
    gathers: Gathers,
    tallies: Tallies,
    rooms: Rooms,
    stopping: bool,
    /// Clients are let in by then at the latest; `None` once they are.
    ready_by: Option<u64>,
    /// Requests of this core itself, for the leaders of other groups.
    asks: VecDeque<NodeMsg>,
    /// Requests for groups that have no leader yet, each with the time at which it is refused.
    unled: Vec<(u64, Request)>,
    /// Which groups may have had an earlier life that this server has forgotten.
    forgets: Forgets,
    cores: CoreId,
    out: VecDeque<JsOutput>,
}

impl JetStream {
    pub fn new(options: JsOptions) -> JetStream {
        let meta = (options.me.core == 0).then(|| Meta::new(&options));
        JetStream {
            me: options.me,
            cores: options.groups.cores,
            groups: Groups::new(options.groups),
            config: options.config,
            accounts: options.accounts,
            server_id: options.server_id,
            server_name: options.server_name,
            cluster: options.cluster,
            recovered: false,
            table: Table::default(),
            table_ready: false,
            meta,
            streams: BTreeMap::new(),
            consumers: BTreeMap::new(),
            busy_streams: BTreeSet::new(),
            busy_consumers: BTreeSet::new(),
            stream_timers: Timers::default(),
            consumer_timers: Timers::default(),
            fetches: Fetches::default(),
            gathers: Gathers::default(),
            tallies: Tallies::default(),
            rooms: Rooms::default(),
            stopping: false,
            ready_by: None,
            asks: VecDeque::new(),
            unled: Vec::new(),
            forgets: Forgets::default(),
            out: VecDeque::new(),
        }
    }

    pub fn on_disk(&mut self, now: Now, done: storage::DiskDone) {
        self.groups.on_disk(now, done);
    }

    /// A message of another node for the groups of this core.
    pub fn on_node(&mut self, now: Now, view: &View, from: Place, msg: NodeMsg) {
        if !self.is_at_home(&msg) {
            return;
        }
        match msg {
            NodeMsg::Raft { group, message, bodies } => {
                self.meet_message(now, view, group, &message);
                self.groups.on_raft(now, from.server, group, message, bodies);
            }
            NodeMsg::Catchup { group, epoch, step } => self.groups.on_catchup(now, from.server, group, epoch, step),
            NodeMsg::Heartbeat(heartbeat) => self.groups.on_heartbeat(now, from, heartbeat),
            NodeMsg::HeartbeatList { leads } => {
                leads.iter().for_each(|(group, _)| self.meet(now, view, *group));
                self.groups.on_heartbeat_list(now, from, leads);
            }
            NodeMsg::Space { full } => self.groups.on_space(from, full),
            NodeMsg::Form(step) => self.on_form(now, from.server, step),
            NodeMsg::Request(request) => self.on_request(now, view, request),
            NodeMsg::Bounce { group, token } => self.on_bounce(now, group, token),
            other => debug_assert!(false, "not for JetStream: {other:?}"),
        }
    }

    /// The end of a batch of events: machines hand on what they gathered, groups make it durable and send it, and what
    /// that decides goes back to the machines, until nothing moves.
    pub fn turn(&mut self, now: Now, view: &View) {
        self.send_unled(now, view);
        loop {
            self.turn_streams(now, view);
            self.turn_consumers(now);
            self.groups.turn(now);
            let mut moved = false;
            while let Some(output) = self.groups.poll_output() {
                moved = true;
                self.on_group(now, view, output);
            }
            if !moved && self.busy_streams.is_empty() && self.busy_consumers.is_empty() {
                break;
            }
        }
        self.look_if_ready(now, view);
        while let Some(op) = self.groups.poll_disk() {
            self.out.push_back(JsOutput::Disk(op));
        }
    }

    pub fn wakeup(&mut self, now: Now, view: &View) {
        self.groups.wakeup(now);
        self.wake_streams(now);
        self.wake_consumers(now);
        self.wake_gathers(now, view);
        self.wake_rooms(now, view);
        self.wake_meta(now, view);
    }

    /// Microseconds of [`Now::us`]; ask again after each turn.
    pub fn next_wakeup(&self, now: Now) -> Option<u64> {
        let machines = self.stream_timers.next().into_iter().chain(self.consumer_timers.next());
        let meta = self.meta.as_ref().and_then(|meta| meta.next_wakeup(now));
        let unled = (!self.unled.is_empty()).then_some(now.us + UNLED_LOOK_US);
        let asking = self.gathers.next_wakeup().into_iter().chain(self.rooms.next_wakeup());
        machines.chain(unled).chain(self.groups.next_wakeup()).chain(asking).chain(meta).chain(self.ready_by).min()
    }

    pub fn poll_output(&mut self) -> Option<JsOutput> {
        self.out.pop_front()
    }

    /// Every leadership goes to somebody else: the first step of a clean stop and of lame duck mode.
    pub fn hand_over(&mut self, now: Now) {
        self.stopping = true;
        self.groups.transfer_all(now);
    }

    /// Still leads a group that has other members.
    pub fn leads_others(&self) -> bool {
        let hosted = self.streams.keys().chain(self.consumers.keys()).copied().chain([GroupId::META]);
        hosted.filter_map(|group| self.groups.status(group)).any(|s| s.role == GroupRole::Leader && s.voters.len() > 1)
    }

    pub fn reload(&mut self, config: Arc<Config>, accounts: Accounts) {
        self.config = config;
        self.accounts = accounts;
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    pub fn status(&self, group: GroupId) -> Option<GroupStatus> {
        self.groups.status(group)
    }

    /// What API handlers may look at.
    fn facts<'a>(&'a self, now: Now, view: &'a View, account: AccountId) -> Option<Facts<'a>> {
        Some(Facts {
            now,
            account: self.accounts.get(account)?,
            is_system: self.accounts.is_system(account),
            config: &self.config,
            server_name: &self.server_name,
            cluster: self.cluster.as_deref(),
            table: &self.table,
            proposed: self.meta.as_ref().map(|meta| &meta.proposed),
            view,
            tally: self.tallies.of(account),
        })
    }
}
