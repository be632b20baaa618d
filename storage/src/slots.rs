//! Where the entries of one group are: a sparse array by index.
//!
//! Entries come in ascending order and mostly die from the front or the back, but interior deletes leave holes that
//! may stay for years, so memory follows what is live rather than the range. Chunks of 256 indexes hold their slots
//! (32 bytes each) in order; a dense chunk is found by position, a sparse one by binary search. Terms change rarely and
//! are kept once per chunk.
//!
//! Compared with a plain map, step by step, in the tests.

use std::collections::BTreeMap;

use crate::record::{Index, Lsn, Term};

/// Segment number of a record that waits for its run.
pub(crate) const UNPLACED: u32 = u32::MAX;

/// Indexes per chunk: a position fits a byte.
const CHUNK: u64 = 256;

/// One live entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub index: Index,
    pub term: Term,
    pub epoch: u32,
    pub lsn: Lsn,
    pub segment: u32,
    pub offset: u32,
    pub bytes: u32,
    pub crc: u32,
    /// Bytes of the body that no longer count.
    pub dead: u32,
    pub damaged: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    lsn: Lsn,
    segment: u32,
    offset: u32,
    bytes: u32,
    crc: u32,
    dead: u32,
    term: u16,
    position: u8,
    damaged: bool,
}

#[derive(Debug, Default)]
struct Chunk {
    slots: Vec<Slot>,
    /// Terms and epochs of the slots, in no order.
    terms: Vec<(Term, u32)>,
}

/// The entries of one group. `len` is the number of live ones; every operation but `take_range` is logarithmic.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    chunks: BTreeMap<u64, Chunk>,
    len: u64,
}

impl Slots {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn first(&self) -> Option<Index> {
        let (key, chunk) = self.chunks.first_key_value()?;
        Some(key * CHUNK + u64::from(chunk.slots.first()?.position))
    }

    pub fn last(&self) -> Option<Index> {
        let (key, chunk) = self.chunks.last_key_value()?;
        Some(key * CHUNK + u64::from(chunk.slots.last()?.position))
    }

    pub fn get(&self, index: Index) -> Option<Place> {
        let chunk = self.chunks.get(&(index / CHUNK))?;
        let at = chunk.find(index as u8).ok()?;
        Some(chunk.place(index / CHUNK, &chunk.slots[at]))
    }

    /// Puts an entry in its place and answers with the one that was there.
    pub fn put(&mut self, place: Place) -> Option<Place> {
        let key = place.index / CHUNK;
        let chunk = self.chunks.entry(key).or_default();
        let term = chunk.term(place.term, place.epoch);
        let Place { lsn, segment, offset, bytes, crc, dead, damaged, .. } = place;
        let slot = Slot { lsn, segment, offset, bytes, crc, dead, position: place.index as u8, term, damaged };
        match chunk.find(slot.position) {
            Ok(at) => {
                let before = chunk.place(key, &chunk.slots[at]);
                chunk.slots[at] = slot;
                Some(before)
            }
            Err(at) => {
                chunk.slots.insert(at, slot);
                self.len += 1;
                None
            }
        }
    }

    pub fn remove(&mut self, index: Index) -> Option<Place> {
        let key = index / CHUNK;
        let chunk = self.chunks.get_mut(&key)?;
        let at = chunk.find(index as u8).ok()?;
        let place = chunk.place(key, &chunk.slots[at]);
        chunk.slots.remove(at);
        self.len -= 1;
        if chunk.slots.is_empty() {
            self.chunks.remove(&key);
        }
        Some(place)
    }

    /// Live entries from `from` to `to`, both inclusive, in order.
    pub fn range(&self, from: Index, to: Index) -> impl Iterator<Item = Place> + '_ {
        let keys = if from <= to { from / CHUNK..=to / CHUNK } else { 1..=1 };
        let (from, to) = if from <= to { (from, to) } else { (1, 0) };
        let chunks = self.chunks.range(keys);
        let places = chunks.flat_map(move |(key, chunk)| {
            let start = if *key == from / CHUNK { chunk.find(from as u8).unwrap_or_else(|at| at) } else { 0 };
            chunk.slots[start..].iter().map(move |slot| chunk.place(*key, slot))
        });
        places.take_while(move |place| place.index <= to).skip_while(move |place| place.index < from)
    }

    /// Removes the entries from `from` to `to`, both inclusive, that `which` picks; each is handed to `gone`.
    pub fn take_range(&mut self, from: Index, to: Index, which: impl Fn(&Place) -> bool, mut gone: impl FnMut(Place)) {
        if from > to {
            return;
        }
        let keys: Vec<u64> = self.chunks.range(from / CHUNK..=to / CHUNK).map(|(key, _)| *key).collect();
        for key in keys {
            let Some(chunk) = self.chunks.get_mut(&key) else { continue };
            let Chunk { slots, terms } = chunk;
            let before = slots.len();
            slots.retain(|slot| {
                let place = place_of(terms, key, slot);
                let hit = (from..=to).contains(&place.index) && which(&place);
                if hit {
                    gone(place);
                }
                !hit
            });
            self.len -= (before - slots.len()) as u64;
            if slots.is_empty() {
                self.chunks.remove(&key);
            }
        }
    }
}

impl Chunk {
    fn find(&self, position: u8) -> Result<usize, usize> {
        let first = self.slots.first().map_or(0, |slot| slot.position);
        let guess = usize::from(position.wrapping_sub(first));
        match self.slots.get(guess) {
            Some(slot) if slot.position == position => Ok(guess),
            _ => self.slots.binary_search_by_key(&position, |slot| slot.position),
        }
    }

    fn place(&self, key: u64, slot: &Slot) -> Place {
        place_of(&self.terms, key, slot)
    }

    /// The number of a term in this chunk.
    fn term(&mut self, term: Term, epoch: u32) -> u16 {
        if let Some(at) = self.terms.iter().rposition(|known| *known == (term, epoch)) {
            return at as u16;
        }
        if self.terms.len() >= 2 * CHUNK as usize {
            self.forget_terms();
        }
        self.terms.push((term, epoch));
        (self.terms.len() - 1) as u16
    }

    /// Drops the terms that no slot has any more; at most one per slot stays.
    fn forget_terms(&mut self) {
        let before = std::mem::take(&mut self.terms);
        for slot in &mut self.slots {
            let term = before[usize::from(slot.term)];
            let known = self.terms.iter().position(|other| *other == term);
            let at = known.unwrap_or(self.terms.len());
            if known.is_none() {
                self.terms.push(term);
            }
            slot.term = at as u16;
        }
    }
}

fn place_of(terms: &[(Term, u32)], key: u64, slot: &Slot) -> Place {
    let (term, epoch) = terms[usize::from(slot.term)];
    let Slot { lsn, segment, offset, bytes, crc, dead, damaged, .. } = *slot;
    let index = key * CHUNK + u64::from(slot.position);
    Place { index, term, epoch, lsn, segment, offset, bytes, crc, dead, damaged }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn place(dice: &mut Dice, index: Index) -> Place {
        Place {
            index,
            term: dice.below(700),
            epoch: dice.below(2) as u32,
            lsn: Lsn(dice.next()),
            segment: dice.below(5) as u32,
            offset: 1,
            bytes: 2,
            crc: 3,
            dead: 0,
            damaged: dice.below(2) == 0,
        }
    }

    /// Every operation gives the same answer as on a plain map.
    #[test]
    fn slots_equal_their_dumb_twin() {
        for seed in 0..20 {
            let mut dice = Dice::new(seed);
            let (mut fast, mut dumb) = (Slots::default(), BTreeMap::<Index, Place>::new());
            let reach = [50, 600, 5000][seed as usize % 3];
            for _ in 0..3000 {
                let (a, b) = (dice.below(reach), dice.below(reach));
                match dice.below(8) {
                    0..4 => {
                        let place = place(&mut dice, a);
                        assert_eq!(fast.put(place), dumb.insert(a, place));
                    }
                    4 | 5 => assert_eq!(fast.remove(a), dumb.remove(&a)),
                    6 => {
                        let expected: Vec<_> = dumb.values().filter(|p| (a..=b).contains(&p.index)).copied().collect();
                        assert_eq!(fast.range(a, b).collect::<Vec<_>>(), expected);
                    }
                    _ if dice.below(20) == 0 => {
                        let pick = |p: &Place| p.segment < 2;
                        let mut gone = Vec::new();
                        fast.take_range(a, b, pick, |place| gone.push(place));
                        let expected = dumb.values().filter(|p| (a..=b).contains(&p.index) && pick(p)).copied();
                        assert_eq!(gone, expected.collect::<Vec<_>>());
                        dumb.retain(|i, p| !((a..=b).contains(i) && pick(p)));
                    }
                    _ => assert_eq!(fast.get(a), dumb.get(&a).copied()),
                }
                assert_eq!(fast.len(), dumb.len() as u64);
                assert_eq!(fast.first(), dumb.keys().next().copied());
                assert_eq!(fast.last(), dumb.keys().next_back().copied());
            }
            assert_eq!(fast.range(0, u64::MAX).collect::<Vec<_>>(), dumb.values().copied().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_slot_is_half_a_cache_line() {
        assert_eq!(size_of::<Slot>(), 32);
    }
}
