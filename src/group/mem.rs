//! The log of a memory group: entries by index, gone when the process is. A checkpoint is
//! nothing here: what a restart would begin with is forgotten anyway.
//!
//! Follows the rules of the log on disk: an entry supersedes every entry with its index or a higher one, what is
//! released or wholly dead is not there any more.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::log::Stored;

#[derive(Default)]
pub(super) struct MemLog {
    entries: BTreeMap<u64, Slot>,
    bytes: usize,
}

struct Slot {
    term: u64,
    body: Bytes,
    dead: u32,
}

impl MemLog {
    pub fn append(&mut self, index: u64, term: u64, body: Bytes) {
        self.truncate(index);
        self.insert(index, term, body);
    }

    /// Puts an entry among the others without superseding any: how a catch-up fills a fresh log.
    pub fn insert(&mut self, index: u64, term: u64, body: Bytes) {
        self.bytes += body.len();
        if let Some(old) = self.entries.insert(index, Slot { term, body, dead: 0 }) {
            self.bytes -= old.body.len();
        }
    }

    pub fn truncate(&mut self, from: u64) {
        let gone = self.entries.split_off(&from);
        self.bytes -= gone.values().map(|slot| slot.body.len()).sum::<usize>();
    }

    pub fn release(&mut self, below: u64) {
        while let Some(entry) = self.entries.first_entry() {
            if *entry.key() >= below {
                break;
            }
            self.bytes -= entry.remove().body.len();
        }
    }

    /// Counts dead bytes of an entry; it goes when all its bytes are dead.
    pub fn kill(&mut self, index: u64, bytes: u32) {
        let Some(slot) = self.entries.get_mut(&index) else { return };
        slot.dead = slot.dead.saturating_add(bytes);
        if slot.dead as usize >= slot.body.len() {
            self.bytes -= slot.body.len();
            self.entries.remove(&index);
        }
    }

    pub fn get(&self, index: u64) -> Option<Stored> {
        let slot = self.entries.get(&index)?;
        Some(Stored { index, term: slot.term, body: slot.body.clone() })
    }

    /// Entries of the range in order, until `bytes_max` is reached; at least one if there is one.
    pub fn range(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Stored> {
        let mut bytes = 0;
        let mut out = Vec::new();
        if from > to {
            return out;
        }
        for (&index, slot) in self.entries.range(from..=to) {
            if bytes > 0 && bytes + slot.body.len() > bytes_max {
                break;
            }
            bytes += slot.body.len().max(1);
            out.push(Stored { index, term: slot.term, body: slot.body.clone() });
        }
        out
    }

    pub fn bounds(&self) -> Option<(u64, u64)> {
        Some((*self.entries.first_key_value()?.0, *self.entries.last_key_value()?.0))
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    #[test]
    fn appends_supersede_releases_and_deaths_free() {
        let mut log = MemLog::default();
        for index in 1..=9 {
            log.append(index, 1, body(10));
        }
        log.append(7, 2, body(4));
        assert_eq!((log.bounds(), log.bytes()), (Some((1, 7)), 64));
        log.release(3);
        log.kill(4, 6);
        assert!(log.get(4).is_some());
        log.kill(4, 4);
        assert!(log.get(4).is_none());
        assert_eq!((log.bounds(), log.bytes()), (Some((3, 7)), 34));
        let range: Vec<u64> = log.range(3, 100, 25).iter().map(|stored| stored.index).collect();
        assert_eq!(range, [3, 5]);
        assert_eq!(log.range(7, 7, 0).len(), 1);
        log.truncate(1);
        assert_eq!((log.bounds(), log.bytes()), (None, 0));
    }
}
