//! What the log says of groups: their names in place of numbers, who leads, and what stands still for want of a quorum.
//!
//! The sentences about leaders and quorums are the peer's (`jetstream_cluster.go`), for whoever greps for them.

use super::advisories::Turn;
use super::{JetStream, JsOutput};
use crate::cluster::view::View;
use crate::event::Level;
use crate::group::{GroupKind, GroupStatus};
use crate::ids::{GroupId, ServerId};

impl JetStream {
    pub(super) fn log(&mut self, level: Level, text: String) {
        self.out.push_back(JsOutput::Log { level, text });
    }

    /// A line about one group.
    pub(super) fn log_of(&mut self, group: GroupId, level: Level, text: &str) {
        let line = format!("{}: {text}", self.title(group));
        self.log(level, line);
    }

    /// A group as people know it: `stream 'acc1 > ORDERS'`; its number when it is none of the table's any more.
    pub(super) fn title(&self, group: GroupId) -> String {
        if group == GroupId::META {
            return "the meta group".into();
        }
        if let Some(hosted) = self.streams.get(&group) {
            return format!("stream '{} > {}'", hosted.key.0, hosted.key.1);
        }
        if let Some(hosted) = self.consumers.get(&group) {
            return format!("consumer '{} > {} > {}'", hosted.key.0, hosted.key.1, hosted.name);
        }
        match self.find(group) {
            Some(((account, stream), None)) => format!("stream '{account} > {stream}'"),
            Some(((account, stream), Some(name))) => format!("consumer '{account} > {stream} > {name}'"),
            None => format!("group {}", group.0),
        }
    }

    /// A replicated stream or consumer has a leader here, or has lost its quorum.
    pub(super) fn log_turn(&mut self, turn: Turn, status: &GroupStatus) {
        let title = self.title(status.group);
        match turn {
            Turn::Elected => {
                let kind = if status.kind == GroupKind::Stream { "stream" } else { "consumer" };
                let name = title.strip_prefix(kind).map_or(title.as_str(), str::trim_start);
                self.log(Level::Info, format!("JetStream cluster new {kind} leader for {name}"));
            }
            // Whoever stops takes its own vote along: nobody has to act on that.
            Turn::QuorumLost if self.stopping => {}
            Turn::QuorumLost => self.log(Level::Warn, format!("JetStream cluster {title} has NO quorum, stalled")),
        }
    }

    /// Who leads the meta group, each time it changes. `leader` may be this server before it serves: then it is said later.
    pub(super) fn log_meta_leader(&mut self, view: &View, leader: Option<ServerId>) {
        let soon = leader == Some(self.me.server) && !self.leads_meta();
        if self.cluster.is_none() || self.stopping || soon {
            return;
        }
        let Some(meta) = self.meta.as_mut() else { return };
        if std::mem::replace(&mut meta.said_leader, leader) == leader {
            return;
        }
        let line = match leader {
            Some(server) if server == self.me.server => "Self is new JetStream cluster metadata leader".to_owned(),
            Some(server) => format!("JetStream cluster new metadata leader: {}", self.name_of(view, server)),
            None => "JetStream cluster no metadata leader".to_owned(),
        };
        self.log(Level::Info, line);
    }

    fn name_of(&self, view: &View, server: ServerId) -> String {
        let known = self.table.servers.get(&server.0).or_else(|| view.peers.get(&server).map(|peer| &peer.facts));
        known.map_or_else(|| server.to_string(), |facts| facts.name.clone())
    }
}
