//! The meta group on core 0: it forms, keeps the servers it consists of, and turns committed entries into changes of
//! the table on every core.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{JetStream, JsOptions, JsOutput};
use crate::api;
use crate::cluster::forming::{FormOutput, FormStep, Forming};
use crate::cluster::table::{MetaEntry, Moves, ServerFacts, Table};
use crate::cluster::view::View;
use crate::cluster::wire::{Asset, Lead, NodeMsg, Request};
use crate::event::Level;
use crate::group::{Anew, GroupKind, GroupSpec, RecoveredGroup};
use crate::ids::{GroupId, Now, Place, ServerId};

/// How often the meta leader compares the servers it sees with the servers in the table.
const UPKEEP_US: u64 = 200_000;

pub(super) struct Meta {
    /// Entries in the log that are not committed yet.
    pending: BTreeMap<u64, MetaEntry>,
    /// Entries that this server has proposed while it leads and that are not applied yet.
    pub(super) proposed: BTreeMap<u64, MetaEntry>,
    /// Requests about names that a proposed entry concerns: decided once it is applied.
    pub(super) waiting: Vec<Request>,
    /// `Some` while this server belongs to no cluster.
    pub(super) forming: Option<Forming>,
    pub(super) opened: bool,
    pub(super) leading: bool,
    /// Who leads, as the log was last told.
    pub(super) said_leader: Option<ServerId>,
    term: u64,
    facts: ServerFacts,
    cluster_id: Option<String>,
    fresh_cluster_id: String,
    upkeep_at: u64,
    /// Groups that were created up to this meta index may have been forgotten by this server: see `backend`.
    pub(super) forgets: Forgets,
}

/// Up to which meta index a group's earlier life on this server may be lost: the replica then starts without a vote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgets {
    /// For groups that are not on disk and should be: 0 unless the store was new when it joined a cluster that had a past;
    /// the highest number until a leader has said that the meta replica is whole.
    pub file: u64,
    /// For groups in memory: everything that existed before this process.
    pub memory: u64,
    /// The table has caught up with all that an earlier life of this server can have acted on.
    pub outgrown: bool,
}

impl Forgets {
    /// By whose word a memory group may go on when its servers have restarted: of all that it can have had as members. Who
    /// made somebody else a member was one of them, and has the table's word for that on its disk.
    pub(super) fn anew(self, group: GroupId, peers: &[u64], bootstrap: &[u64], moves: &Moves) -> Option<Anew> {
        let ids = |servers: &[u64]| servers.iter().copied().map(ServerId).collect();
        let stamp = moves.last.max(group.created_at());
        // A table of an older build does not say whom a group had before.
        let known = moves.last > 0 || !bootstrap.is_empty();
        (known && self.outgrown && self.file != u64::MAX).then(|| Anew {
            voters: ids(peers),
            former: ids(&moves.former),
            stamp,
        })
    }
}

impl Meta {
    pub(super) fn new(options: &JsOptions) -> Meta {
        let clustered = options.cluster.is_some() && options.cluster_id.is_none();
        let configured = options.config.cluster.as_ref().map_or(0, |cluster| cluster.routes.len());
        let fresh_cluster_id = options.fresh_cluster_id.clone();
        let forming = clustered.then(|| Forming::new(options.me.server, configured + 1, fresh_cluster_id.clone()));
        Meta {
            pending: BTreeMap::new(),
            proposed: BTreeMap::new(),
            waiting: Vec::new(),
            forming,
            opened: false,
            leading: false,
            said_leader: None,
            term: 0,
            facts: options.facts.clone(),
            cluster_id: options.cluster_id.clone(),
            fresh_cluster_id,
            upkeep_at: 0,
            forgets: Forgets::default(),
        }
    }

    pub(super) fn next_wakeup(&self, _now: Now) -> Option<u64> {
        let forming = self.forming.as_ref().filter(|_| !self.opened).and_then(Forming::next_wakeup);
        let upkeep = self.leading.then_some(self.upkeep_at);
        forming.into_iter().chain(upkeep).min()
    }
}

impl JetStream {
    /// The log is read: the meta group goes on where it was, or begins, or waits to be part of one.
    pub(super) fn open_meta(&mut self, now: Now, found: Option<&RecoveredGroup>) {
        let alone = self.cluster.is_none();
        let Some(meta) = self.meta.as_mut() else { return };
        match found {
            Some(found) => {
                meta.forgets = Forgets { file: found.past, memory: found.last_index, outgrown: false };
                meta.forming = None;
                self.start_meta(now, None, false);
            }
            None if alone => self.start_meta(now, Some(vec![self.me.server]), false),
            None => {}
        }
    }

    fn start_meta(&mut self, now: Now, bootstrap: Option<Vec<ServerId>>, forgetful: bool) {
        if let Some(meta) = self.meta.as_mut() {
            meta.opened = true;
        }
        let spec = GroupSpec {
            group: GroupId::META,
            kind: GroupKind::Meta,
            memory: false,
            bootstrap,
            forgetful,
            priority_low: false,
        };
        self.groups.open(now, spec);
    }

    /// A server without a past that hears from a meta leader joins that cluster: as one that may have forgotten. An earlier
    /// life of this server may have known any group; which ones exist only since then is known when a leader has said
    /// that the meta replica is whole (a heartbeat or an append alone proves nothing: a new leader knows commits of its
    /// own only, and tells a server no more than what it believes to be there).
    pub(super) fn meet_meta(&mut self, now: Now) {
        let recovered = self.recovered;
        let Some(meta) = self.meta.as_mut().filter(|meta| !meta.opened && recovered) else { return };
        meta.forming = None;
        meta.forgets = Forgets { file: u64::MAX, memory: u64::MAX, outgrown: false };
        self.start_meta(now, None, true);
    }

    /// The meta replica here had forgotten and is whole again: what is created from now on has no past here.
    pub(super) fn on_whole(&mut self, now: Now, view: &View, group: GroupId, upto: u64) {
        let applied = self.groups.status(GroupId::META).map_or(0, |status| status.applied);
        let Some(meta) = self.meta.as_mut().filter(|meta| group == GroupId::META && meta.forgets.file == u64::MAX)
        else {
            return;
        };
        meta.forgets.file = upto;
        meta.forgets.memory = if meta.forgets.memory == u64::MAX { upto } else { meta.forgets.memory };
        meta.forgets.outgrown = meta.forgets.memory <= applied;
        self.tell_forgets(now, view);
    }

    fn tell_forgets(&mut self, now: Now, view: &View) {
        let Some(forgets) = self.meta.as_ref().map(|meta| meta.forgets) else { return };
        self.out.push_back(JsOutput::TableRestored(Arc::new(self.table.clone()), forgets));
        self.table_restored(now, view, forgets);
    }

    pub(super) fn on_form(&mut self, now: Now, from: ServerId, step: FormStep) {
        if let Some(forming) = self.forming() {
            forming.on_step(now.us, from, step);
            self.drain_forming(now);
        }
    }

    pub(super) fn forming(&mut self) -> Option<&mut Forming> {
        self.meta.as_mut().filter(|meta| !meta.opened).and_then(|meta| meta.forming.as_mut())
    }

    pub(super) fn drain_forming(&mut self, now: Now) {
        while let Some(output) = self.forming().and_then(Forming::poll_output) {
            match output {
                FormOutput::Send { to, step } => {
                    let to = Place { server: to, core: 0 };
                    self.out.push_back(JsOutput::Send { to, msg: NodeMsg::Form(step) });
                }
                FormOutput::Begin { cluster_id, voters } => {
                    let text = format!("Forming a JetStream cluster of {} servers, id {cluster_id}", voters.len());
                    self.log(Level::Info, text);
                    if let Some(meta) = self.meta.as_mut() {
                        meta.fresh_cluster_id = cluster_id;
                    }
                    self.start_meta(now, Some(voters), false);
                }
            }
        }
    }

    pub(super) fn restore_meta(&mut self, state: &[u8]) -> Result<(), String> {
        self.table = Table::restore(state).map_err(|e| e.to_string())?;
        Ok(())
    }

    pub(super) fn pend_meta(&mut self, index: u64, body: &[u8]) -> Result<(), String> {
        let entry = Table::decode(body).map_err(|e| e.to_string())?;
        if let Some(meta) = self.meta.as_mut() {
            meta.pending.insert(index, entry);
        }
        Ok(())
    }

    pub(super) fn unpend_meta(&mut self, from: u64) {
        if let Some(meta) = self.meta.as_mut() {
            meta.pending.split_off(&from);
        }
    }

    /// The table stands as of `committed`; every core gets a copy and opens what it should have.
    pub(super) fn meta_restored(&mut self, now: Now, view: &View, committed: u64) {
        let table = &mut self.table;
        let Some(meta) = self.meta.as_mut() else { return };
        let later = meta.pending.split_off(&(committed + 1));
        for (index, entry) in std::mem::replace(&mut meta.pending, later) {
            if index > table.applied {
                table.apply(index, entry);
            }
        }
        meta.forgets.outgrown |= committed >= meta.forgets.memory;
        self.groups.applied(GroupId::META, committed);
        self.tell_forgets(now, view);
    }

    pub(super) fn apply_meta(&mut self, now: Now, view: &View, upto: u64) {
        let Some(meta) = self.meta.as_mut() else { return };
        let later = meta.pending.split_off(&(upto + 1));
        let entries: Vec<(u64, MetaEntry)> = std::mem::replace(&mut meta.pending, later).into_iter().collect();
        if !entries.is_empty() {
            self.out.push_back(JsOutput::Table(entries.clone()));
            self.on_table(now, view, entries);
        }
        if let Some(meta) = self.meta.as_mut() {
            meta.proposed = meta.proposed.split_off(&(upto + 1));
        }
        self.outgrow(now, view, upto);
        self.decide_waiting(now, view);
    }

    /// Once everything is applied that the log had at the start, no change of members is unknown here that an earlier life
    /// of this server began: every core hears of it.
    fn outgrow(&mut self, now: Now, view: &View, upto: u64) {
        let Some(meta) = self.meta.as_mut().filter(|meta| !meta.forgets.outgrown && upto >= meta.forgets.memory) else {
            return;
        };
        meta.forgets.outgrown = true;
        self.tell_forgets(now, view);
    }

    pub(super) fn meta_role(&mut self, now: Now, view: &View, leading: bool, term: u64) {
        let me = self.me.server;
        let cluster_known = self.table.cluster_id.is_some();
        let Some(meta) = self.meta.as_mut() else { return };
        let led = std::mem::replace(&mut meta.leading, leading);
        let old_term = std::mem::replace(&mut meta.term, term);
        meta.proposed.clear();
        if leading {
            meta.upkeep_at = now.us;
            let cluster_id = meta.cluster_id.clone().unwrap_or_else(|| meta.fresh_cluster_id.clone());
            self.out.push_back(JsOutput::Lead(Lead { group: GroupId::META, server: me, term, asset: Asset::Meta }));
            if !cluster_known {
                self.propose_meta(now, &MetaEntry::Form { cluster_id });
            }
            self.wake_meta(now, view);
            self.finish_changes(now, view);
        } else if led {
            self.out.push_back(JsOutput::Unlead { group: GroupId::META, term: old_term });
        }
        self.decide_waiting(now, view);
    }

    /// A leader before this one may have ended in the middle of a change that takes several entries.
    fn finish_changes(&mut self, now: Now, view: &View) {
        let mut entries = Vec::new();
        for ((account, _), slot) in self.table.streams() {
            let facts = self.accounts.id(&account).and_then(|account| self.facts(now, view, account));
            entries.extend(facts.map(|facts| api::mend::unfinished(&facts, slot)).unwrap_or_default());
        }
        for entry in &entries {
            self.propose_meta(now, entry);
        }
        if !entries.is_empty() {
            let text = format!("{} entries of changes that a former meta leader began were missing", entries.len());
            self.log(Level::Info, text);
        }
    }

    fn decide_waiting(&mut self, now: Now, view: &View) {
        let waiting = self.meta.as_mut().map(|meta| std::mem::take(&mut meta.waiting)).unwrap_or_default();
        waiting.into_iter().for_each(|request| self.on_api(now, view, request));
    }

    /// False when it could not be taken: the caller answers that the cluster is not available.
    pub(super) fn propose_meta(&mut self, now: Now, entry: &MetaEntry) -> bool {
        let body = Table::encode(entry);
        // Deletes, edits and servers that come and go must work when the store is full.
        let proposed = match entry {
            MetaEntry::PutConsumer { account, stream, name, .. }
                if self.table.consumer(account, stream, name).is_none() =>
            {
                self.groups.propose(now, GroupId::META, body)
            }
            MetaEntry::PutStream { account, config, .. } if self.table.stream(account, &config.name).is_none() => {
                self.groups.propose(now, GroupId::META, body)
            }
            _ => self.groups.propose_relief(now, GroupId::META, body),
        };
        let Ok(index) = proposed else { return false };
        if let Some(meta) = self.meta.as_mut() {
            meta.proposed.insert(index, entry.clone());
        }
        true
    }

    /// The leader's upkeep: servers that it sees and that the table does not know (or knows otherwise) are entered;
    /// the group's members follow the table.
    pub(super) fn wake_meta(&mut self, now: Now, view: &View) {
        if let Some(forming) = self.forming() {
            forming.wakeup(now.us);
            self.drain_forming(now);
        }
        let Some(meta) = self.meta.as_mut().filter(|meta| meta.leading && now.us >= meta.upkeep_at) else { return };
        meta.upkeep_at = now.us + UPKEEP_US;
        let pending: Vec<u64> = meta.pending.values().filter_map(entered_server).collect();
        let seen = view.peers.iter().filter(|(_, peer)| peer.jetstream).map(|(id, peer)| (id.0, &peer.facts));
        let changed: Vec<MetaEntry> = seen
            .chain([(self.me.server.0, &meta.facts)])
            .filter(|(server, _)| !self.table.evicted.contains_key(server) && !pending.contains(server))
            .filter(|(server, facts)| self.table.servers.get(server) != Some(*facts))
            .map(|(server, facts)| MetaEntry::PutServer { server, facts: facts.clone() })
            .collect();
        for entry in &changed {
            self.propose_meta(now, entry);
        }
        let members: Vec<ServerId> = self.table.servers.keys().map(|server| ServerId(*server)).collect();
        if !members.is_empty() {
            self.groups.change_members(now, GroupId::META, members);
        }
    }

    /// This server's own facts changed (tags after a reload): the meta leader hears of it with the next link or here.
    pub fn set_facts(&mut self, now: Now, facts: ServerFacts) {
        if let Some(meta) = self.meta.as_mut() {
            meta.facts = facts;
            meta.upkeep_at = now.us;
        }
    }

    /// A server came: the leader looks at its members at the next wakeup, not after the whole interval.
    pub(super) fn upkeep_soon(&mut self, now: Now) {
        if let Some(meta) = self.meta.as_mut() {
            meta.upkeep_at = now.us;
        }
    }

    pub fn leads_meta(&self) -> bool {
        self.meta.as_ref().is_some_and(|meta| meta.leading)
    }
}

fn entered_server(entry: &MetaEntry) -> Option<u64> {
    match entry {
        MetaEntry::PutServer { server, .. } => Some(*server),
        _ => None,
    }
}
