//! A running server that an operator takes out of the cluster: its JetStream is disabled, as the peer's is.
//!
//! What this core led is led by nobody any more, so that a stream whose only replica is here can be reached by nobody
//! either; nothing is deleted. The meta group stays open: a server that is let in again (`$JS.API.SERVER.READMIT`) hears
//! so, and goes on where it was. Pages and requests treat the server as one without JetStream.

use super::JetStream;
use crate::cluster::view::View;
use crate::event::Level;
use crate::ids::{GroupId, Now, ServerId};

impl JetStream {
    /// This server was taken out of the cluster and not let in again.
    pub fn is_evicted(&self) -> bool {
        self.table.evicted.contains_key(&self.me.server.0)
    }

    /// A server left the table for good.
    pub(super) fn on_server_gone(&mut self, now: Now, view: &View, server: ServerId) {
        if server != self.me.server {
            return;
        }
        self.log_eviction();
        if self.me.core == 0 {
            self.tell_server(now, "REMOVED", "removed");
        }
        let led = |group: &GroupId| {
            let stream = self.streams.get(group).filter(|hosted| hosted.leading).map(|hosted| hosted.term);
            stream.or_else(|| self.consumers.get(group).filter(|hosted| hosted.leading).map(|hosted| hosted.term))
        };
        let led: Vec<(GroupId, u64)> =
            self.hosted_groups().filter_map(|group| led(&group).map(|term| (group, term))).collect();
        for (group, term) in led {
            self.on_role(now, view, group, false, term);
        }
    }

    /// A server entered the table. If it is this one, it serves what it leads again.
    pub(super) fn on_server_entered(&mut self, now: Now, view: &View, server: ServerId) {
        if server != self.me.server {
            return;
        }
        let silent = |group: &GroupId| {
            let stream = self.streams.get(group).is_some_and(|hosted| !hosted.leading);
            stream || self.consumers.get(group).is_some_and(|hosted| !hosted.leading)
        };
        let led: Vec<(GroupId, u64)> = self
            .hosted_groups()
            .filter(silent)
            .filter_map(|group| self.groups.status(group))
            .filter(|status| status.led_since_ns.is_some())
            .map(|status| (status.group, status.term))
            .collect();
        for (group, term) in led {
            self.on_role(now, view, group, true, term);
        }
    }

    pub(super) fn log_eviction(&mut self) {
        if self.me.core == 0 && self.is_evicted() {
            self.log(Level::Error, "JetStream being DISABLED, our server was removed from the cluster".into());
        }
    }
}
