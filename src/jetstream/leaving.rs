//! Replicas that the table does not want here: they stay until their groups have let them go.
//!
//! ```text
//!   table: not here any more ──► the group is told its members ──► Removed ──► dropped (a stream after its consumers)
//!   recovery: one that is not wanted ──► opened, asks                 ▲
//!   a member counts on one that is gone ──► opened, has forgotten ────┘
//! ```
//!
//! Its vote may still be needed: a change of members is decided by the old members too. What recovery found of groups
//! that the table has deleted is dropped at once.

use std::collections::BTreeSet;

use super::JetStream;
use crate::cluster::table::StreamKey;
use crate::cluster::view::View;
use crate::event::Level;
use crate::group::home_core;
use crate::ids::{GroupId, Now};

impl JetStream {
    /// The group goes on without this replica: it is dropped if the table agrees.
    pub(super) fn on_removed(&mut self, now: Now, group: GroupId) {
        if self.wanted_here(group) {
            return;
        }
        match self.consumers.get(&group).map(|hosted| hosted.stream) {
            Some(stream) => {
                self.drop_left(now, group);
                self.leave_stream(now, stream);
            }
            None => self.leave_stream(now, group),
        }
    }

    /// A stream's replica goes after those of its consumers: their groups change by themselves, and one that has not done
    /// so yet needs the votes of this server for it.
    fn leave_stream(&mut self, now: Now, group: GroupId) {
        let free = self.streams.get(&group).is_some_and(|hosted| hosted.consumers.is_empty());
        if free && self.groups.is_removed(group) && !self.wanted_here(group) {
            self.drop_left(now, group);
        }
    }

    fn drop_left(&mut self, now: Now, group: GroupId) {
        if self.streams.contains_key(&group) || self.consumers.contains_key(&group) {
            self.log_of(group, Level::Info, "goes on without this server; its replica here is dropped");
        }
        self.close(now, group);
    }

    /// Whether the table wants a replica of an open group on this server.
    fn wanted_here(&self, group: GroupId) -> bool {
        let me = self.me.server;
        if let Some(hosted) = self.streams.get(&group) {
            return self.table.stream(&hosted.key.0, &hosted.key.1).is_some_and(|slot| slot.has_peer(me));
        }
        let Some(hosted) = self.consumers.get(&group) else { return true };
        let slot = self.table.consumer(&hosted.key.0, &hosted.key.1, &hosted.name);
        slot.is_some_and(|slot| slot.has_peer(me))
    }

    /// A message of raft has come for a group: see `meet`.
    pub(super) fn meet_message(&mut self, now: Now, view: &View, group: GroupId, message: &raft::Message) {
        use raft::Body::{Append, Heartbeat, PreVote, Snapshot, Vote};
        let leads = matches!(message.body, Append { .. } | Heartbeat { .. });
        if leads || group != GroupId::META && matches!(message.body, Snapshot { .. } | PreVote { .. } | Vote { .. }) {
            self.meet(now, view, group);
        }
    }

    /// Somebody counts on a replica here, by a message or by the list of what it leads. When that is not open, though the
    /// table knows the group, there was one in a former life, and nobody has told the group that it is gone.
    pub(super) fn meet(&mut self, now: Now, view: &View, group: GroupId) {
        if group == GroupId::META {
            return self.meet_meta(now);
        }
        let new = group.created_at() > self.table.applied;
        let here = home_core(group, self.cores) == self.me.core;
        let known = here && self.table_ready && !new && self.caught_up();
        if !known || self.groups.is_open(group) {
            return;
        }
        let Some((key, name)) = self.find(group) else { return };
        if self.accounts.id(&key.0).is_none() {
            return;
        }
        self.log_of(group, Level::Info, "its other replicas count on one here that is gone; it begins empty");
        self.open_stream(now, &key, true);
        if let Some(name) = name {
            self.open_consumer(now, &key, &name, true);
            self.want_consumer(now, view, &key, &name, true);
        }
        self.want_stream(now, &key, true);
    }

    /// The stream, and if it is one's, the consumer that the table has under this group.
    pub(super) fn find(&self, group: GroupId) -> Option<(StreamKey, Option<String>)> {
        let of_home = |id: u64| GroupId(id).home_key() == group.home_key();
        for (key, slot) in self.table.streams().filter(|(_, slot)| of_home(slot.group)) {
            if slot.group() == group {
                return Some((key, None));
            }
            if let Some((name, _)) = slot.consumers.iter().find(|(_, slot)| slot.group() == group) {
                return Some((key, Some(name.clone())));
            }
        }
        None
    }

    /// Whether the table is at least as new as the one that groups were dropped by. Before that, a group that the table
    /// wants and the log does not have may be one of those.
    pub(super) fn caught_up(&self) -> bool {
        self.table.applied >= self.groups.acted_on()
    }

    /// Groups that recovery found and that the table has deleted since.
    pub(super) fn drop_orphans(&mut self, now: Now) {
        let orphans = self.groups.orphans();
        if orphans.is_empty() || !self.recovered {
            return;
        }
        let mut known = BTreeSet::from([GroupId::META]);
        for (_, slot) in self.table.streams() {
            known.insert(slot.group());
            known.extend(slot.consumers.values().map(|slot| slot.group()));
        }
        let deleted = |group: &GroupId| !known.contains(group) && group.created_at() <= self.table.applied;
        for group in orphans.into_iter().filter(deleted).collect::<Vec<_>>() {
            let text = format!("group {} was deleted while this server was away; its data is dropped", group.0);
            self.log(Level::Info, text);
            self.groups.act_on(self.table.applied);
            self.groups.close(now, group);
        }
    }
}
