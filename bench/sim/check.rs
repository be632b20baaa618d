//! What must always be true, looked at after every turn, and what must be true once the storm is over.

use std::collections::BTreeMap;

use bytes::Bytes;
use storage::{Damage, Record, RecordKind, Recovery};
use trestle::cluster::table::StreamKey;
use trestle::group::{GroupRole, GroupStatus};
use trestle::ids::{CoreId, GroupId, ServerId};
use trestle::jetstream::JetStream;
use trestle::stream::record;

use crate::oracle::publisher_of;
use crate::people::ACK_ALL;
use crate::world::World;

/// Bytes that a group's log puts in front of what a machine proposed.
const ENTRY_HEAD_BYTES: usize = 12;

/// Entries of one server's logs by group and index: term and body.
type Logs = BTreeMap<(GroupId, u64), (u64, Bytes)>;

impl World {
    /// After a turn: at most one leader per group and term.
    pub(crate) fn check_turn(&mut self, server: usize, core: CoreId) {
        let me = self.servers[server].id;
        for status in self.statuses(server, usize::from(core)) {
            if status.role != GroupRole::Leader {
                continue;
            }
            let key = (status.group, status.term);
            match self.leaders.get(&key).copied() {
                None => {
                    self.leaders.insert(key, me);
                    let text = format!("leads {}: {}", self.group_name(status.group), self.state_text(server, &status));
                    self.trace.note(self.now_us, &self.servers[server].name, &text);
                }
                Some(first) if first != me => {
                    let names = (self.name_of(first), self.name_of(me));
                    let all = self.all_statuses();
                    let states: Vec<String> =
                        all[&status.group].iter().map(|(at, s)| self.state_text(*at, s)).collect();
                    let (name, term) = (self.group_name(status.group), status.term);
                    self.oracle
                        .wrong(format!("{name} has two leaders in term {term}, {names:?}: {}", states.join("; ")));
                }
                Some(_) => {}
            }
        }
    }

    /// What people call a group, with its number.
    fn group_name(&self, group: GroupId) -> String {
        let all = self.servers.iter().flat_map(|server| &server.cores);
        for js in all.filter_map(|core| core.shard.as_ref()?.jetstream()) {
            if let Some(hosted) = js.streams().get(&group) {
                return format!("{} ({:x})", hosted.key.1, group.0);
            }
            if let Some(hosted) = js.consumers().get(&group) {
                return format!("{} ({:x})", hosted.name, group.0);
            }
        }
        format!("group {:x}", group.0)
    }

    fn jetstream(&self, server: usize, core: usize) -> Option<&JetStream> {
        self.servers[server].cores[core].shard.as_ref()?.jetstream()
    }

    fn statuses(&self, server: usize, core: usize) -> Vec<GroupStatus> {
        let Some(js) = self.jetstream(server, core) else { return Vec::new() };
        let groups = js.streams().keys().chain(js.consumers().keys()).copied();
        let meta = (core == 0).then_some(GroupId::META);
        groups.chain(meta).filter_map(|group| js.status(group)).collect()
    }

    fn all_statuses(&self) -> BTreeMap<GroupId, Vec<(usize, GroupStatus)>> {
        let mut all: BTreeMap<GroupId, Vec<(usize, GroupStatus)>> = BTreeMap::new();
        for server in 0..self.servers.len() {
            for core in 0..self.servers[server].cores.len() {
                for status in self.statuses(server, core) {
                    all.entry(status.group).or_default().push((server, status));
                }
            }
        }
        all
    }

    pub(crate) fn name_of(&self, id: ServerId) -> String {
        self.index_of(id).map_or_else(|| id.to_string(), |at| self.servers[at].name.clone())
    }

    /// Every group in memory has all of itself on the servers other than this one.
    pub(crate) fn memories_whole_without(&self, at: usize) -> bool {
        let others = (0..self.servers.len()).filter(|server| *server != at);
        let alive = others.clone().all(|server| self.servers[server].open());
        let memory = |(_, status): &&(usize, GroupStatus)| status.memory;
        alive
            && self.all_statuses().values().all(|list| {
                let newest = list.iter().filter(memory).map(|(_, status)| status.commit).max().unwrap_or(0);
                let behind = |(server, status): &(usize, GroupStatus)| {
                    *server != at && status.memory && (status.applied < newest || status.leader.is_none())
                };
                // A server that lost its disk opens its replicas only once it knows the table again.
                let there = |voter: &ServerId| list.iter().any(|(server, _)| self.servers[*server].id == *voter);
                let whole = |(_, status): &(usize, GroupStatus)| !status.memory || status.voters.iter().all(there);
                list.iter().all(whole) && !list.iter().any(behind)
            })
    }

    /// Whether everything has come to rest, or what has not.
    pub fn unsettled(&self) -> Option<String> {
        let up = |at: usize| self.servers[at].open() || self.servers[at].excused;
        if let Some(down) = (0..self.servers.len()).find(|at| !up(*at)) {
            return Some(format!("{} does not serve", self.servers[down].name));
        }
        for (group, list) in self.all_statuses() {
            if let Some(why) = self.group_unsettled(group, &list) {
                return Some(why);
            }
        }
        if let Some(actor) = self.people.actors.iter().find(|actor| !actor.settled() && !self.is_void(&actor.name)) {
            return Some(actor.waits_for());
        }
        self.overstaying().or_else(|| self.undelivered())
    }

    /// A replica on a server that the table does not name for it.
    fn overstaying(&self) -> Option<String> {
        let all = self.all_statuses();
        let lost = |group: &GroupId| all.get(group).is_some_and(|list| self.is_lost(*group, list));
        for server in self.servers.iter().filter(|server| !server.excused) {
            for js in server.cores.iter().filter_map(|core| core.shard.as_ref()?.jetstream()) {
                let wanted = |key: &StreamKey, name: Option<&str>| {
                    let slot = js.table().stream(&key.0, &key.1)?;
                    Some(match name {
                        None => slot.has_peer(server.id),
                        Some(name) => slot.consumers.get(name)?.has_peer(server.id),
                    })
                };
                let streams = js.streams().iter().map(|(group, hosted)| (group, &hosted.key, None));
                let consumers =
                    js.consumers().iter().map(|(group, hosted)| (group, &hosted.key, Some(hosted.name.as_str())));
                let stays = |(group, key, name): &(&GroupId, &StreamKey, Option<&str>)| {
                    wanted(key, *name) != Some(true) && !self.waits_for_lost(js, **group, &lost)
                };
                if let Some((group, key, _)) = streams.chain(consumers).find(stays) {
                    return Some(format!("{} still has a replica of {} ({:x})", server.name, key.1, group.0));
                }
                if let Some(group) = js.groups().orphans().into_iter().find(|group| js.groups().has_found(*group)) {
                    return Some(format!("{} still stores group {:x}", server.name, group.0));
                }
            }
        }
        None
    }

    /// A replica whose group is lost, or a stream's whose consumer's is: nobody can let it go.
    fn waits_for_lost(&self, js: &JetStream, group: GroupId, lost: &impl Fn(&GroupId) -> bool) -> bool {
        let consumers = js.streams().get(&group).map(|hosted| hosted.consumers.as_slice()).unwrap_or_default();
        lost(&group) || consumers.iter().any(lost)
    }

    fn is_void(&self, actor: &str) -> bool {
        let memory = self.oracle.streams.iter().any(|(name, story)| story.memory && actor.starts_with(name.as_str()));
        let damaged = self.oracle.streams.iter().any(|(name, story)| story.lossy && actor.starts_with(name.as_str()));
        memory && self.memory_void || damaged
    }

    fn group_unsettled(&self, group: GroupId, list: &[(usize, GroupStatus)]) -> Option<String> {
        // What begins anew does so by the word of all; a server with a damaged disk may stay away for good.
        let silent = self.servers.iter().any(|server| server.excused && !server.open());
        let void = self.memory_void && silent && list.iter().any(|(_, status)| status.memory);
        let excused = |server: usize| self.servers[server].excused;
        if void || self.is_lost(group, list) || list.iter().all(|(server, _)| excused(*server)) {
            return None;
        }
        let Some((_, leader)) = list.iter().find(|(_, status)| status.role == GroupRole::Leader) else {
            let states: Vec<String> = list.iter().map(|(at, s)| self.state_text(*at, s)).collect();
            return Some(format!("{} has no leader: {}", self.group_name(group), states.join("; ")));
        };
        for voter in &leader.voters {
            let Some(at) = self.index_of(*voter) else { return Some(format!("group {:x}: {voter} votes", group.0)) };
            let found = list.iter().find(|(server, _)| *server == at);
            let behind = found.is_none_or(|(_, status)| status.applied != leader.commit || status.damaged > 0);
            if behind && !excused(at) {
                let state = found
                    .map_or_else(|| format!("{} has none", self.servers[at].name), |(at, s)| self.state_text(*at, s));
                let lead = self.state_text(self.index_of(leader.leader.unwrap_or(*voter)).unwrap_or(at), leader);
                return Some(format!("group {:x}: {state}; the leader: {lead}", group.0));
            }
        }
        None
    }

    fn state_text(&self, at: usize, status: &GroupStatus) -> String {
        format!(
            "{} {:?} term {} commit {} applied {} last {} damaged {} voters {:?} learners {:?}",
            self.servers[at].name,
            status.role,
            status.term,
            status.commit,
            status.applied,
            status.last,
            status.damaged,
            status.voters.iter().map(|voter| self.name_of(*voter)).collect::<Vec<_>>(),
            status.learners.iter().map(|learner| self.name_of(*learner)).collect::<Vec<_>>(),
        )
    }

    fn undelivered(&self) -> Option<String> {
        for (consumer, story) in &self.oracle.consumers {
            let stream = self.oracle.streams.get(&story.stream)?;
            if stream.lossy || stream.limited {
                continue;
            }
            let wanted = |key: &str| story.only.is_empty() || publisher_of(key) == story.only;
            let owed = stream.by_seq.iter().filter(|(seq, key)| !stream.maybe_gone.contains(seq) && wanted(key));
            // An acknowledgement of everything up to a message covers what was lost on its way, too.
            let covered = if consumer == ACK_ALL { story.acked.last().copied().unwrap_or(0) } else { 0 };
            let missing = |seq: &u64| *seq > covered && !story.delivered.contains_key(seq);
            let missing: Vec<u64> = owed.map(|(seq, _)| *seq).filter(missing).take(5).collect();
            if !missing.is_empty() {
                return Some(format!("{consumer} has not delivered {missing:?} of {}", stream.by_seq.len()));
            }
        }
        None
    }

    // ---- the end

    /// Every replica against what the workload knows and against every other replica.
    pub fn check_end(&mut self) {
        self.check_fingerprints();
        let logs: Vec<Logs> = (0..self.servers.len()).map(|server| self.read_logs(server)).collect();
        self.check_log_matching(&logs);
        for (server, log) in logs.iter().enumerate() {
            if self.servers[server].running && !self.servers[server].excused {
                self.check_holdings(server, log);
            }
        }
    }

    /// Machines that have applied the same entries are the same.
    pub fn check_fingerprints(&mut self) {
        let mut seen: BTreeMap<(GroupId, u64), (u64, String)> = BTreeMap::new();
        let mut wrong = Vec::new();
        for server in &self.servers {
            for js in server.cores.iter().filter_map(|core| core.shard.as_ref()?.jetstream()) {
                let streams = js.streams().iter().filter(|(_, hosted)| hosted.restored);
                let streams =
                    streams.map(|(group, hosted)| (*group, hosted.stream.applied(), hosted.stream.fingerprint()));
                let consumers = js.consumers().iter().filter(|(_, hosted)| hosted.restored);
                let consumers =
                    consumers.map(|(group, hosted)| (*group, hosted.consumer.applied(), hosted.consumer.fingerprint()));
                // One that has applied nothing is as its table was when it was opened.
                for (group, applied, print) in streams.chain(consumers).filter(|(_, applied, _)| *applied > 0) {
                    let first = seen.entry((group, applied)).or_insert((print, server.name.clone()));
                    if first.0 != print {
                        let names = (&first.1, &server.name);
                        wrong.push(format!("group {:x} differs at {applied} on {names:?}", group.0));
                    }
                }
            }
        }
        for what in wrong {
            self.oracle.wrong(what);
        }
    }

    /// Reads a server's disks as a restart would, without touching them.
    fn read_logs(&mut self, server: usize) -> Logs {
        let mut logs = Logs::new();
        for core in 0..self.servers[server].cores.len() {
            match self.read_log(server, core) {
                Ok((records, damaged)) => {
                    self.check_healed(server, &damaged);
                    for record in records.into_iter().filter(|record| record.kind == RecordKind::ENTRY) {
                        logs.insert((GroupId(record.group.0), record.index), (record.term, record.body));
                    }
                }
                Err(_) if self.servers[server].excused => {}
                Err(why) => {
                    let what = format!("{} core {core}: its log cannot be read back: {why}", self.servers[server].name);
                    self.oracle.wrong(what);
                }
            }
        }
        logs
    }

    fn read_log(&mut self, server: usize, core: usize) -> Result<(Vec<Record>, Vec<Damage>), String> {
        let options = self.servers[server].store_options(false, 0);
        let disk = &self.servers[server].cores[core].disk;
        let mut copy = disk.copy();
        if copy.is_blank() {
            return Ok(Default::default());
        }
        let mut recovery = Recovery::new(options);
        let mut records = Vec::new();
        loop {
            let mut moved = false;
            while let Some(op) = recovery.poll_op() {
                let result = copy.run(op.kind);
                recovery.on_done(storage::DiskDone { id: op.id, result });
                moved = true;
            }
            while let Some(item) = recovery.poll_item() {
                records.push(item.record);
                moved = true;
            }
            match recovery.poll_finished() {
                Some(Ok((_, report))) => return Ok((records, report.damaged)),
                Some(Err(error)) => return Err(error.to_string()),
                None if !moved => return Err("recovery stands still".into()),
                None => {}
            }
        }
    }

    /// What rotted has been fetched again from a peer, where there is one.
    fn check_healed(&mut self, server: usize, damaged: &[Damage]) {
        if self.servers[server].excused && (self.options.faults.failing || !self.servers[server].open()) {
            return;
        }
        let members = self.members();
        for damage in damaged.iter().filter(|damage| damage.kind == Some(RecordKind::ENTRY)) {
            let group = GroupId(damage.group.map_or(0, |group| group.0));
            if members.get(&group).is_some_and(|voters| voters.len() > 1 && voters.contains(&self.servers[server].id)) {
                let (group, name) = (self.group_name(group), &self.servers[server].name);
                self.oracle.wrong(format!("{group}: entry {} is damaged on {name} and was not healed", damage.first));
            }
        }
    }

    /// Messages that go by their age go when it has come, where all clocks are right.
    pub fn check_ages(&mut self) {
        if self.options.faults.clock {
            return;
        }
        let mut wrong = None;
        for js in
            self.servers.iter().flat_map(|server| &server.cores).filter_map(|core| core.shard.as_ref()?.jetstream())
        {
            for hosted in js.streams().values().filter(|hosted| hosted.restored) {
                let Some(story) = self.oracle.streams.get(&hosted.key.1).filter(|story| story.age_us > 0) else {
                    continue;
                };
                let young =
                    |key: &str| story.sent.get(key).is_some_and(|sent| self.now_us < sent.sent_us + story.age_us);
                let gone = story.by_seq.range(..hosted.stream.first_seq()).next_back();
                if let Some((seq, key)) = gone.filter(|(seq, key)| young(key) && !story.maybe_gone.contains(seq)) {
                    wrong = Some(format!("{}: {key} at {seq} is gone before its time", hosted.key.1));
                }
            }
        }
        wrong.into_iter().for_each(|what| self.oracle.wrong(what));
    }

    /// Entries of the same group, index and term are the same bytes.
    fn check_log_matching(&mut self, logs: &[Logs]) {
        let mut seen: BTreeMap<(GroupId, u64, u64), &Bytes> = BTreeMap::new();
        let mut wrong = None;
        for ((group, index), (term, body)) in logs.iter().flatten() {
            let first = *seen.entry((*group, *index, *term)).or_insert(body);
            if first != body {
                wrong = Some(format!("group {:x}: entry {index} of term {term} differs between replicas", group.0));
            }
        }
        if let Some(wrong) = wrong {
            self.oracle.wrong(wrong);
        }
    }

    /// The voters of each group, as its leader knows them.
    fn members(&self) -> BTreeMap<GroupId, Vec<ServerId>> {
        let leader = |list: Vec<(usize, GroupStatus)>| {
            let leads = list.into_iter().filter(|(_, status)| status.role == GroupRole::Leader);
            leads.max_by_key(|(_, status)| status.term).map(|(_, status)| status.voters)
        };
        let all = self.all_statuses().into_iter();
        all.filter_map(|(group, list)| Some((group, leader(list)?))).collect()
    }

    /// What the stream replicas of a server hold, message by message, from its disks.
    fn check_holdings(&mut self, server: usize, logs: &Logs) {
        let name = self.servers[server].name.clone();
        let members = self.members();
        let mut found: Vec<(StreamKey, u64, u64, BTreeMap<u64, Bytes>)> = Vec::new();
        let mut wrong = Vec::new();
        for js in self.servers[server].cores.iter().filter_map(|core| core.shard.as_ref()?.jetstream()) {
            for (group, hosted) in js.streams() {
                let memory = js.status(*group).is_none_or(|status| status.memory);
                let member = members.get(group).is_some_and(|voters| voters.contains(&self.servers[server].id));
                if memory || !hosted.restored || !member {
                    continue;
                }
                let stream = &hosted.stream;
                let mut held = BTreeMap::new();
                for seq in stream.first_seq()..=stream.last_seq() {
                    let Some(at) = stream.locate(seq) else { continue };
                    let body =
                        logs.get(&(*group, at.index)).map(|(_, body)| body.slice(ENTRY_HEAD_BYTES.min(body.len())..));
                    match body.map(|body| record::message(&body, at.slot)) {
                        Some(Ok(message)) => {
                            held.insert(seq, message.payload);
                        }
                        Some(Err(damage)) => wrong.push(format!("{}: {name} has {seq} as {damage}", hosted.key.1)),
                        None => wrong.push(format!(
                            "{}: {name} knows {seq} but entry {} is not on its disk",
                            hosted.key.1, at.index
                        )),
                    }
                }
                found.push((hosted.key.clone(), stream.first_seq(), stream.last_seq(), held));
            }
        }
        wrong.truncate(5);
        for what in wrong {
            self.oracle.wrong(what);
        }
        for (key, first, last, held) in found {
            self.oracle.holds(&key.1, &name, first, last, &held);
            self.oracle.limits(&key.1, &name, &held);
            if !self.options.faults.clock {
                self.oracle.ages(&key.1, &name, self.now_us, &held);
            }
        }
    }
}
