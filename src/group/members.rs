//! Changing who belongs to a group, while it serves.
//!
//! Every replica may be told the target; the leader drives towards it, one committed step after the other:
//!
//! ```text
//!   missing servers join as learners ──► all targets have caught up ──► one joint change: voters = target ──► done
//! ```
//!
//! Each look derives the next step from the membership as it is, so it does not matter who led the steps before, how
//! often the target is told, or that it changed halfway: the newest target wins from whatever state it finds.

use raft::{MembershipChange, NodeId};

use super::core::Core;
use super::replica::{Replica, node_id};
use crate::ids::{Now, ServerId};
use crate::limits::{MEMBERS_LAG_MAX, MEMBERS_LOOK_US};

/// The next step towards the target.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Done,
    Propose(MembershipChange),
    /// Look again later: a change is under way, or a learner still lags.
    Wait,
}

impl Replica {
    pub(super) fn set_target(&mut self, core: &mut Core, now: Now, voters: &[ServerId]) {
        let mut target: Vec<NodeId> = voters.iter().copied().map(node_id).collect();
        target.sort_unstable();
        target.dedup();
        if target.is_empty() || self.target.as_ref() == Some(&target) {
            return;
        }
        self.target = Some(target);
        self.leave.tell_again();
        self.members_at = Some(now.us);
        core.dirty.insert(self.id);
    }

    /// Takes the next step, if this replica leads and it is time to look.
    pub(super) fn drive_members(&mut self, core: &mut Core, now: Now) {
        if self.members_at.is_none_or(|at| now.us < at) {
            return;
        }
        self.members_at = None;
        let (Some(target), Some(node)) = (&self.target, self.node.as_mut()) else { return };
        if !node.is_leader() {
            return;
        }
        match next_step(&node.status(), target) {
            Step::Done => return,
            Step::Wait => {}
            // A refusal (term not committed yet, another change pending) is a reason to look again.
            Step::Propose(change) => {
                let _ = node.propose_membership(now.us, change);
                core.dirty.insert(self.id);
            }
        }
        self.members_at = Some(now.us + MEMBERS_LOOK_US);
    }

    /// The target, while the membership is not there yet.
    pub(super) fn open_target(&self) -> Option<Vec<ServerId>> {
        let (target, node) = (self.target.as_ref()?, self.node.as_ref()?);
        let membership = node.membership();
        let there = membership.voters == *target && !membership.is_joint() && membership.learners.is_empty();
        (!there).then(|| target.iter().map(|id| ServerId(id.0)).collect())
    }
}

fn next_step(status: &raft::Status, target: &[NodeId]) -> Step {
    let now = &status.membership;
    if now.is_joint() || status.membership_index > status.commit {
        return Step::Wait;
    }
    if now.voters == target && now.learners.is_empty() {
        return Step::Done;
    }
    let missing: Vec<NodeId> = target.iter().copied().filter(|id| !now.contains(*id)).collect();
    // Learners that the target does not want any more go with the next change.
    let mut learners: Vec<NodeId> = now.learners.iter().copied().filter(|id| target.contains(id)).collect();
    if !missing.is_empty() {
        learners.extend(missing);
        return Step::Propose(MembershipChange { voters: now.voters.clone(), learners });
    }
    // Only who has acknowledged its own admission is surely there, in this life of it, and only who has nothing forgotten
    // is a vote: two new voters without one would leave a group of one without a quorum.
    let current = |id: &NodeId| {
        let peer = status.peers.iter().find(|peer| peer.id == *id);
        let there = |peer: &&raft::PeerStatus| !peer.forgot && peer.matched >= status.membership_index;
        peer.filter(there).is_some_and(|peer| peer.matched + MEMBERS_LAG_MAX >= status.last)
    };
    // Nor does a voter that stays and has lost its disk make one: a group of it alone could never decide again.
    let sound = target.iter().filter(|id| **id == status.id || current(id)).count();
    if learners.iter().all(current) && sound > target.len() / 2 {
        return Step::Propose(MembershipChange { voters: target.to_vec(), learners: Vec::new() });
    }
    Step::Wait
}
