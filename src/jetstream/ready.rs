//! When clients may come. A server of a cluster takes them as soon as its log is read: others lead. A server that is alone
//! waits until it leads everything that it keeps, so that whoever comes first finds the streams, as on the peer.

use super::{JetStream, JsOutput};
use crate::cluster::view::View;
use crate::group::GroupRole;
use crate::ids::{GroupId, Now};

/// What is not led by then (it is very large, or the store is that of a member of a cluster) keeps nobody out any longer.
const READY_US_MAX: u64 = 5_000_000;

impl JetStream {
    /// The log is read.
    pub(super) fn be_ready(&mut self, now: Now) {
        if self.cluster.is_some() {
            return self.out.push_back(JsOutput::Ready);
        }
        self.ready_by = Some(now.us + READY_US_MAX);
    }

    /// At the end of each turn, until it is said.
    pub(super) fn look_if_ready(&mut self, now: Now, view: &View) {
        if self.ready_by.is_some_and(|by| now.us >= by || self.leads_everything(view)) {
            self.ready_by = None;
            self.out.push_back(JsOutput::Ready);
        }
    }

    /// The meta group's leader is announced behind all entries of the table, so by then every core knows what it keeps.
    fn leads_everything(&self, view: &View) -> bool {
        let meta = self.meta.as_ref().map_or_else(|| view.leads.leader(GroupId::META).is_some(), |meta| meta.leading);
        let closed = |group: &GroupId| self.groups.status(*group).is_none_or(|status| status.role == GroupRole::Closed);
        meta && self.streams.iter().all(|(group, hosted)| hosted.leading || closed(group))
            && self.consumers.iter().all(|(group, hosted)| hosted.leading || closed(group))
    }
}
