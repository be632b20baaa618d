//! Which groups a lost or damaged disk may end: those that cannot decide anything without that server, by what any of
//! their replicas knew. Nobody promises anything for them, and nobody else may be harmed by them.
//!
//! A group of one whose server comes back empty begins anew if that server founded it alone; once its members have
//! changed, nobody can know that there are no others, and it waits for an operator who deletes it.

use std::collections::BTreeMap;

use trestle::group::GroupStatus;
use trestle::ids::{GroupId, ServerId};

use crate::world::World;

/// What one replica knew of its group: the stream, the voters, and the voters before while they change.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    stream: String,
    voters: [Vec<ServerId>; 2],
}

impl Known {
    fn needs(&self, server: ServerId) -> bool {
        self.voters.iter().any(|voters| !is_quorum_without(voters, server))
    }
}

/// Whether these voters can decide without one of them; nobody's voters need nobody.
fn is_quorum_without(voters: &[ServerId], server: ServerId) -> bool {
    let left = voters.iter().filter(|voter| **voter != server).count();
    voters.is_empty() || left > voters.len() / 2
}

impl World {
    /// What the replicas of a server know, kept for the time when it is down, or cannot read it any more.
    pub(crate) fn remember(&mut self, server: usize) {
        let mut known = BTreeMap::new();
        for js in self.servers[server].cores.iter().filter_map(|core| core.shard.as_ref()?.jetstream()) {
            let streams = js.streams().iter().map(|(group, hosted)| (*group, &hosted.key.1));
            let consumers = js.consumers().iter().map(|(group, hosted)| (*group, &hosted.key.1));
            for (group, stream) in streams.chain(consumers) {
                let Some(status) = js.status(group) else { continue };
                if let Some(before) = self.known[server].get(&group).filter(|_| status.voters.is_empty()) {
                    known.insert(group, before.clone());
                    continue;
                }
                known.insert(group, Known { stream: stream.clone(), voters: [status.voters, status.outgoing] });
            }
        }
        if !known.is_empty() {
            self.known[server] = known;
        }
    }

    /// A server's disk is lost, or cannot be relied on.
    pub(crate) fn note_lost_groups(&mut self, victim: usize) {
        for server in 0..self.servers.len() {
            self.remember(server);
        }
        let id = self.servers[victim].id;
        let lost = self.known.iter().flatten().filter(|(_, known)| known.needs(id));
        let lost: Vec<(GroupId, String)> = lost.map(|(group, known)| (*group, known.stream.clone())).collect();
        for (group, stream) in lost {
            self.lost_groups.insert(group);
            if let Some(story) = self.oracle.streams.get_mut(&stream) {
                story.lossy = true;
            }
        }
    }

    /// Whether a group may stand still: what it needs is gone, or is on a server whose storage is damaged. A replica that
    /// stays closed says nothing itself: it counts with what it knew before.
    pub(crate) fn is_lost(&self, group: GroupId, list: &[(usize, GroupStatus)]) -> bool {
        let damaged = |at: &usize| self.servers[*at].excused;
        self.lost_groups.contains(&group)
            || (0..self.servers.len()).filter(damaged).any(|at| {
                let id = self.servers[at].id;
                let speaks = list.iter().any(|(server, status)| *server == at && !status.voters.is_empty());
                let before = self.known[at].get(&group).filter(|_| !speaks);
                list.iter().any(|(_, status)| {
                    [&status.voters, &status.outgoing].iter().any(|voters| !is_quorum_without(voters, id))
                }) || before.is_some_and(|known| known.needs(id))
            })
    }
}
