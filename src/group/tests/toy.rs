//! A machine as simple as one can be: it keeps a fingerprint of everything it applied, and the entries that are alive.
//!
//! An entry is a value, or an instruction to let go of everything below an index. Like a stream, its checkpoint names the
//! live entries and the log holds them; or like a consumer, the checkpoint is everything.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::group::GroupKind;
use crate::group::mix;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toy {
    pub applied: u64,
    /// Over everything applied, in order.
    pub chain: u64,
    /// Live entries and their hashes.
    pub live: BTreeMap<u64, u64>,
    pub pending: BTreeMap<u64, Bytes>,
    restored: BTreeMap<u64, Bytes>,
    /// Checkpoints taken, and the first entry that each needs.
    taken: BTreeMap<u64, u64>,
    pub reading: bool,
    pub leading: bool,
    pub restarts: u32,
}

pub fn trim(below: u64) -> Bytes {
    Bytes::from([b"trim".as_slice(), &below.to_le_bytes()].concat())
}

pub fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(mix(bytes.len() as u64), |hash, byte| mix(hash ^ u64::from(*byte)))
}

impl Toy {
    pub fn restore(&mut self, checkpoint: Option<&Bytes>) {
        *self = Toy { reading: true, restarts: self.restarts + 1, leading: self.leading, ..Toy::default() };
        let Some(bytes) = checkpoint else { return };
        let mut numbers = bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap()));
        self.applied = numbers.next().unwrap();
        self.chain = numbers.next().unwrap();
        while let Some(index) = numbers.next() {
            self.live.insert(index, numbers.next().unwrap());
        }
    }

    pub fn restore_entry(&mut self, index: u64, body: Bytes) {
        assert!(self.reading);
        self.restored.insert(index, body);
    }

    /// Returns what was applied. `strict`: every live entry must be in the log.
    pub fn restored(&mut self, kind: GroupKind, committed: u64, strict: bool) -> Vec<(u64, u64)> {
        assert!(self.reading);
        self.reading = false;
        let restored = std::mem::take(&mut self.restored);
        if kind == GroupKind::Stream && strict {
            for (index, want) in &self.live {
                let body = restored.get(index).unwrap_or_else(|| panic!("live entry {index} is not in the log"));
                assert_eq!(hash(body), *want, "entry {index}");
            }
        }
        self.pending = restored.into_iter().filter(|(index, _)| *index > self.applied).collect();
        self.apply(committed)
    }

    pub fn appended(&mut self, index: u64, body: Bytes) {
        assert!(!self.reading && index > self.applied, "{index} after {}", self.applied);
        self.pending.insert(index, body);
    }

    pub fn truncated(&mut self, from: u64) {
        assert!(from > self.applied);
        self.pending.split_off(&from);
    }

    /// Returns (index, fingerprint) of everything applied.
    pub fn apply(&mut self, upto: u64) -> Vec<(u64, u64)> {
        let mut applied = Vec::new();
        while let Some(entry) = self.pending.first_entry().filter(|entry| *entry.key() <= upto) {
            let (index, body) = entry.remove_entry();
            self.chain = mix(self.chain ^ mix(index) ^ hash(&body));
            match body.strip_prefix(b"trim".as_slice()) {
                Some(below) => {
                    self.live = self.live.split_off(&u64::from_le_bytes(below.try_into().unwrap()));
                }
                None => {
                    self.live.insert(index, hash(&body));
                }
            }
            applied.push((index, self.chain));
        }
        self.applied = self.applied.max(upto);
        applied
    }

    /// The first entry that is still needed once the checkpoint at `index` is durable.
    pub fn checkpointed(&self, index: u64) -> Option<u64> {
        self.taken.get(&index).copied()
    }

    pub fn checkpoint(&mut self) -> Bytes {
        self.taken.insert(self.applied, self.live.keys().next().copied().unwrap_or(self.applied + 1));
        let head = [self.applied, self.chain];
        let live = self.live.iter().flat_map(|(index, hash)| [*index, *hash]);
        head.into_iter().chain(live).flat_map(u64::to_le_bytes).collect::<Vec<u8>>().into()
    }
}
