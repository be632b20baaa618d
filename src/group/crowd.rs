//! Full logs elsewhere: what a leader with space does while too many of its followers have none.
//!
//! ```text
//!   follower's log full ── Space ──► leader: no quorum has room ──► publishes are refused (Full), relief goes on
//!                                        │ what was on its way does not get in for GROUP_YIELD_US
//!                                        └──► the full voter with the longest log leads; what nobody could store is cut off
//! ```
//!
//! Each core tells the others when its log becomes full or has space again, and says again now and then that it is full.
//! Half of what a log holds back is for what leaders had sent until they heard. When even that is used up, the entries that
//! are stuck at the front of the leader's log keep out the very purges that would end it. The full voters are a quorum
//! without them, so leadership goes there: their logs end before the stuck entries, which are cut off and so certainly never
//! applied, and a full leader refuses for itself.
//!
//! It decides nothing about who may win: raft's votes do.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft::NodeId;
use raft::quorum::is_quorum;

use super::Groups;
use super::body::{Header, Tag};
use super::core::Core;
use super::output::{GroupOutput, LogLevel};
use super::replica::{Replica, server};
use crate::cluster::wire::NodeMsg;
use crate::ids::{GroupId, Now, Place, ServerId};
use crate::limits::{GROUP_YIELD_US, SPACE_RETRY_US};

/// The logs of other servers that are full.
#[derive(Debug, Default)]
pub(super) struct Crowd(BTreeSet<Place>);

impl Crowd {
    fn set(&mut self, place: Place, full: bool) -> bool {
        if full { self.0.insert(place) } else { self.0.remove(&place) }
    }

    /// Nothing is known of a server that is away.
    pub fn forget(&mut self, server: ServerId) {
        self.0.retain(|place| place.server != server);
    }
}

/// Entries that a quorum has no room for: the commit that stands still, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stuck {
    commit: u64,
    since_us: u64,
}

impl Groups {
    /// What another core says of its log.
    pub fn on_space(&mut self, from: Place, full: bool) {
        if self.core.crowd.set(from, full) {
            let groups = self.shared(from);
            self.core.dirty.extend(groups);
        }
    }

    /// Tells the cores of one server, or of all, how it stands with this log.
    pub(super) fn tell_space(&mut self, to: Option<ServerId>) {
        let full = self.core.space_low;
        let peers = self.core.peers.iter().filter(|(id, peer)| peer.up && to.is_none_or(|to| to == **id));
        let places = peers.flat_map(|(id, peer)| (0..peer.cores).map(|core| Place { server: *id, core }));
        for to in places.collect::<Vec<_>>() {
            self.core.output(GroupOutput::Send { to, msg: NodeMsg::Space { full } });
        }
    }

    /// Too many of the group's logs on other servers are full: what is not relief is refused, and what was on its way may
    /// never get in.
    pub fn is_crowded(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(|replica| replica.is_crowded(&self.core))
    }
}

impl Replica {
    pub(super) fn full_at(&self, core: &Core, id: NodeId) -> bool {
        core.home(server(id), self.id).is_some_and(|place| core.crowd.0.contains(&place))
    }

    fn alive_at(&self, core: &Core, id: NodeId) -> bool {
        server(id) == core.server() || core.place(server(id), self.id).is_some_and(|place| core.beats.is_alive(place))
    }

    /// Enough members are alive, and not enough of them have room.
    pub(super) fn is_crowded(&self, core: &Core) -> bool {
        let Some(node) = self.node.as_deref().filter(|_| !core.crowd.0.is_empty() && self.mem.is_none()) else {
            return false;
        };
        let alive = |id| self.alive_at(core, id);
        is_quorum(node.membership(), alive) && !is_quorum(node.membership(), |id| alive(id) && !self.full_at(core, id))
    }

    /// Lets a full voter lead when what is stuck here keeps everything else out.
    pub(super) fn yield_if_stuck(&mut self, core: &mut Core, now: Now) {
        let stands = |node: &raft::Node| node.is_leader() && node.last_index() > node.commit();
        if !self.node.as_deref().is_some_and(stands) || !self.is_crowded(core) {
            self.stuck = None;
            return;
        }
        let commit = self.node.as_ref().map_or(0, |node| node.commit());
        match self.stuck {
            Some(stuck) if stuck.commit == commit && now.us < stuck.since_us + GROUP_YIELD_US => return,
            Some(stuck) if stuck.commit == commit => self.yield_now(core, now),
            _ => {}
        }
        self.stuck = Some(Stuck { commit, since_us: now.us });
    }

    fn yield_now(&mut self, core: &mut Core, now: Now) {
        let Some(node) = self.node.as_deref() else { return };
        let status = node.status();
        let able = |peer: &&raft::PeerStatus| {
            !peer.forgot && peer.counts && self.alive_at(core, peer.id) && self.full_at(core, peer.id)
        };
        let elects = is_quorum(&status.membership, |id| status.peers.iter().filter(able).any(|peer| peer.id == id));
        let voters = status.peers.iter().filter(able).filter(|peer| status.membership.voters.contains(&peer.id));
        let Some(to) = voters.max_by_key(|peer| peer.matched).map(|peer| peer.id).filter(|_| elects) else { return };
        if self.node.as_mut().is_some_and(|node| node.ask_to_lead(now.us, to).is_ok()) {
            let (first, last) = (status.commit + 1, status.last);
            let text = format!(
                "too many replicas are full to store entries {first} to {last}; {} is asked to lead",
                server(to)
            );
            core.log_of(self.id, LogLevel::Warn, text);
            core.dirty.insert(self.id);
        }
    }

    /// An entry that gives space back is in the log.
    pub(super) fn note_relief(&mut self, core: &Core, now: Now, index: u64, body: &Bytes) {
        if !core.crowd.0.is_empty() && Header::decode(body).is_some_and(|header| header.tag == Tag::Relief) {
            self.relief = index;
            self.relief_at.get_or_insert(now.us + SPACE_RETRY_US);
        }
    }

    /// A full follower that could not follow cannot take a purge either: it stands behind entries that it has no room for. A
    /// state as of after the purge it can take, for it names only what is left.
    pub(super) fn relieve_followers(&mut self, core: &mut Core, now: Now) {
        if self.relief_at.is_none_or(|at| now.us < at) {
            return;
        }
        self.relief_at = None;
        let Some(node) = self.node.as_deref().filter(|node| node.is_leader()) else { return };
        let lags = |peer: &raft::PeerStatus| peer.matched < self.relief && self.full_at(core, peer.id);
        if self.retain.checkpoint >= self.relief || !node.status().peers.iter().any(lags) {
            return;
        }
        if self.relief <= self.retain.applied && !self.retain.is_busy() {
            self.ask_for_checkpoint(core);
        } else {
            self.relief_at = Some(now.us + SPACE_RETRY_US);
        }
    }

    /// When the group wants to be looked at because of it.
    pub(super) fn stuck_due(&self) -> Option<u64> {
        self.stuck.map(|stuck| stuck.since_us + GROUP_YIELD_US)
    }
}
