//! What a meta leader that ended halfway left undone: a change of a stream's servers is an entry for the stream and one for
//! each consumer that moves with it, an eviction one for each stream that goes elsewhere, and the log may keep the first
//! of them without the others. The next leader finishes them from the table, which shows what is missing.

use super::choose::consumers_follow;
use super::evict;
use super::facts::Facts;
use crate::cluster::table::{MetaEntry, StreamSlot};
use crate::ids::ServerId;

/// The entries by which a stream of the facts' account stands as a finished change leaves it; none, as a rule.
pub fn unfinished(facts: &Facts, slot: &StreamSlot) -> Vec<MetaEntry> {
    if facts.cluster.is_none() {
        return Vec::new();
    }
    let evicted = |server: &&u64| facts.table.evicted.contains_key(server);
    let gone = slot.peers.iter().find(evicted).map(|server| ServerId(*server));
    let elsewhere = gone.map(|gone| evict::replaced(facts, &facts.account.name, slot, gone)).unwrap_or_default();
    if elsewhere.is_empty() {
        consumers_follow(facts, &facts.account.name, slot, slot.config.num_replicas, &slot.peers)
    } else {
        elsewhere
    }
}
