//! Who leads what, as every core of the cluster has heard it: the map by which requests and publishes find their way.
//!
//! A leader announces itself with its term and with the names that clients use; the announcement travels on the same
//! ordered lane as its answers, so whoever has an answer knows the leader too. A group without an announced leader has
//! none: a publish to it finds no responders. Newer terms win; what a lost server led is forgotten with it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::wire::{Asset, Lead};
use crate::ids::{AccountId, GroupId, ServerId};

#[derive(Debug, Default)]
pub struct Leads {
    by_group: BTreeMap<GroupId, Lead>,
    streams: BTreeMap<(AccountId, Bytes), GroupId>,
    consumers: BTreeMap<(AccountId, Bytes, Bytes), GroupId>,
}

impl Leads {
    /// Takes an announcement. False if an equal or newer one is known already. O(log groups).
    pub fn learn(&mut self, lead: Lead) -> bool {
        if let Some(known) = self.by_group.get(&lead.group)
            && (known.term > lead.term || *known == lead)
        {
            return false;
        }
        match &lead.asset {
            Asset::Meta => {}
            Asset::Stream { account, name, .. } => {
                self.streams.insert((*account, name.clone()), lead.group);
            }
            Asset::Consumer { account, stream, name } => {
                self.consumers.insert((*account, stream.clone(), name.clone()), lead.group);
            }
        }
        self.by_group.insert(lead.group, lead);
        true
    }

    /// A leader gives up. False if a newer one is known.
    pub fn unlearn(&mut self, group: GroupId, term: u64) -> bool {
        if self.by_group.get(&group).is_none_or(|known| known.term > term) {
            return false;
        }
        self.remove(group);
        true
    }

    /// Forgets everything that a server led; the groups that lost their leader.
    pub fn forget_server(&mut self, server: ServerId) -> Vec<GroupId> {
        let groups: Vec<GroupId> = self.of(server).map(|lead| lead.group).collect();
        for group in &groups {
            self.remove(*group);
        }
        groups
    }

    /// Everything that a server leads, by group.
    pub fn of(&self, server: ServerId) -> impl Iterator<Item = &Lead> {
        self.by_group.values().filter(move |lead| lead.server == server)
    }

    pub fn get(&self, group: GroupId) -> Option<&Lead> {
        self.by_group.get(&group)
    }

    pub fn leader(&self, group: GroupId) -> Option<ServerId> {
        self.get(group).map(|lead| lead.server)
    }

    /// The led stream of that name.
    pub fn stream(&self, account: AccountId, name: &str) -> Option<&Lead> {
        self.get(*self.streams.get(&(account, Bytes::copy_from_slice(name.as_bytes())))?)
    }

    /// The led consumer of that name.
    pub fn consumer(&self, account: AccountId, stream: &str, name: &str) -> Option<&Lead> {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        self.get(*self.consumers.get(&(account, bytes(stream), bytes(name)))?)
    }

    fn remove(&mut self, group: GroupId) {
        let Some(lead) = self.by_group.remove(&group) else { return };
        // A name may belong to a newer group by now (deleted and created again).
        match lead.asset {
            Asset::Meta => {}
            Asset::Stream { account, name, .. } => {
                remove_if(&mut self.streams, &(account, name), group);
            }
            Asset::Consumer { account, stream, name } => {
                remove_if(&mut self.consumers, &(account, stream, name), group);
            }
        }
    }
}

fn remove_if<K: Ord>(map: &mut BTreeMap<K, GroupId>, key: &K, group: GroupId) {
    if map.get(key) == Some(&group) {
        map.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(group: u64, server: u64, term: u64, name: &'static str) -> Lead {
        let name = Bytes::from_static(name.as_bytes());
        let asset = Asset::Stream { account: AccountId(1), name, subjects: vec![] };
        Lead { group: GroupId(group), server: ServerId(server), term, asset }
    }

    #[test]
    fn the_newer_term_wins_in_any_order() {
        let mut leads = Leads::default();
        assert!(leads.learn(stream(5, 1, 3, "S")));
        assert!(!leads.learn(stream(5, 2, 2, "S")));
        assert_eq!(leads.leader(GroupId(5)), Some(ServerId(1)));
        assert!(leads.learn(stream(5, 2, 4, "S")));
        assert!(!leads.unlearn(GroupId(5), 3));
        assert_eq!(leads.stream(AccountId(1), "S").unwrap().server, ServerId(2));
        assert!(leads.unlearn(GroupId(5), 4));
        assert!(leads.stream(AccountId(1), "S").is_none());
    }

    #[test]
    fn a_lost_server_leads_nothing() {
        let mut leads = Leads::default();
        leads.learn(stream(5, 1, 1, "A"));
        leads.learn(stream(6, 2, 1, "B"));
        assert_eq!(leads.forget_server(ServerId(1)), [GroupId(5)]);
        assert!(leads.stream(AccountId(1), "A").is_none());
        assert!(leads.stream(AccountId(1), "B").is_some());
    }

    #[test]
    fn a_name_that_was_created_again_survives_the_end_of_the_old_group() {
        let mut leads = Leads::default();
        leads.learn(stream(5, 1, 1, "A"));
        leads.learn(stream(9, 1, 1, "A"));
        leads.unlearn(GroupId(5), 1);
        assert_eq!(leads.stream(AccountId(1), "A").unwrap().group, GroupId(9));
    }
}
