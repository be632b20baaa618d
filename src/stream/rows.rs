//! One row of metadata per message: subject, size, and where the next message of the same subject is. 12 bytes each.
//!
//! ```text
//!            chunk 0          chunk 1     chunk 2
//!  seq    … 1021 1022 1023 │   (none)   │ 2048 2049 …        a chunk is 1024 sequences, allocated as it fills and
//!  subject   7   DEAD   7  │            │   3    7           dropped once nothing in it lives
//!  next     +2    +1    …  │            │
//! ```
//!
//! Rows are appended in order of sequence and never inserted. Removing marks the row; its link stays, so that
//! chains of a subject lead through removed rows. A link into a dropped chunk is followed by a scan instead.

use std::collections::VecDeque;

use super::subjects::SubjectId;
use crate::ids::Seq;

/// Rows of one chunk. Small enough that a partly dead chunk wastes little, large enough that a scan is one loop.
const CHUNK: u64 = 1024;

/// Subject of a removed row.
const DEAD: SubjectId = SubjectId::MAX;
/// Link of the newest row of a subject, or of one whose successor is too far to name.
const UNLINKED: u32 = 0;

#[derive(Debug, Default)]
struct Chunk {
    /// Row number in the chunk of the first row that is kept.
    from: u64,
    live: u32,
    subject: Vec<SubjectId>,
    size: Vec<u32>,
    next: Vec<u32>,
}

impl Chunk {
    fn at(&self, seq: Seq) -> Option<usize> {
        let at = (seq % CHUNK).checked_sub(self.from)? as usize;
        (at < self.subject.len()).then_some(at)
    }
}

/// Rows `start..end` by sequence, some of them dead.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Number (`seq / CHUNK`) of the first chunk.
    first: u64,
    chunks: VecDeque<Option<Box<Chunk>>>,
    /// One past the newest row; 0 when nothing was ever appended.
    end: Seq,
}

impl Rows {
    /// Appends the row of `seq`, which is above every row here. Sequences in between count as removed.
    pub(super) fn append(&mut self, seq: Seq, subject: SubjectId, size: u32) {
        assert!(seq >= self.end, "rows are appended in order");
        if self.chunks.is_empty() {
            self.first = seq / CHUNK;
        }
        while self.first + (self.chunks.len() as u64) <= seq / CHUNK {
            self.chunks.push_back(None);
        }
        let chunk = self.chunks.back_mut().expect("a chunk was just made sure of");
        let chunk = chunk.get_or_insert_with(|| Box::new(Chunk { from: seq % CHUNK, ..Chunk::default() }));
        while chunk.from + (chunk.subject.len() as u64) < seq % CHUNK {
            chunk.push(DEAD, 0);
        }
        chunk.push(subject, size);
        chunk.live += 1;
        self.end = seq + 1;
    }

    /// Notes that the message after `seq` with the same subject is `next`.
    pub(super) fn link(&mut self, seq: Seq, next: Seq) {
        if let Some(chunk) = self.chunk_mut(seq)
            && let Some(at) = chunk.at(seq)
        {
            chunk.next[at] = u32::try_from(next - seq).unwrap_or(UNLINKED);
        }
    }

    /// Marks the row and says what it held; `None` when there is no living one.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<(SubjectId, u32)> {
        let end = self.end;
        let slot = self.slot_mut(seq)?;
        let chunk = slot.as_mut()?;
        let at = chunk.at(seq)?;
        let subject = std::mem::replace(&mut chunk.subject[at], DEAD);
        if subject == DEAD {
            return None;
        }
        let size = chunk.size[at];
        chunk.live -= 1;
        if chunk.live == 0 && end / CHUNK > seq / CHUNK {
            *slot = None;
        }
        Some((subject, size))
    }

    /// Subject and size of a living row.
    pub(super) fn get(&self, seq: Seq) -> Option<(SubjectId, u32)> {
        let chunk = self.chunk(seq)?;
        let at = chunk.at(seq)?;
        Some((chunk.subject[at], chunk.size[at])).filter(|(subject, _)| *subject != DEAD)
    }

    /// The next living row of `subject` after `seq`, by its links where they lead on.
    pub(super) fn next_same(&self, seq: Seq, subject: SubjectId) -> Option<Seq> {
        let mut at = seq;
        loop {
            let hop = self.chunk(at).and_then(|chunk| Some(chunk.next[chunk.at(at)?])).unwrap_or(UNLINKED);
            if hop == UNLINKED {
                return self.next_where(at + 1, |other| other == subject);
            }
            at += u64::from(hop);
            if self.get(at).is_some_and(|(other, _)| other == subject) {
                return Some(at);
            }
        }
    }

    /// The first living row at or after `from` whose subject passes.
    pub(super) fn next_where(&self, from: Seq, passes: impl Fn(SubjectId) -> bool) -> Option<Seq> {
        let mut number = (from / CHUNK).max(self.first);
        let mut skip = if number == from / CHUNK { from % CHUNK } else { 0 };
        while let Some(slot) = self.chunks.get((number - self.first) as usize) {
            if let Some(chunk) = slot {
                let skipped = skip.saturating_sub(chunk.from) as usize;
                let rows = chunk.subject.get(skipped..).unwrap_or_default();
                if let Some(at) = rows.iter().position(|subject| *subject != DEAD && passes(*subject)) {
                    return Some(number * CHUNK + chunk.from + (skipped + at) as u64);
                }
            }
            number += 1;
            skip = 0;
        }
        None
    }

    /// The last living row at or before `upto` whose subject passes.
    pub(super) fn prev_where(&self, upto: Seq, passes: impl Fn(SubjectId) -> bool) -> Option<Seq> {
        let upto = upto.min(self.end.checked_sub(1)?);
        let mut number = upto / CHUNK;
        let mut keep = upto % CHUNK + 1;
        while number >= self.first {
            if let Some(Some(chunk)) = self.chunks.get((number - self.first) as usize) {
                let kept = (keep.saturating_sub(chunk.from) as usize).min(chunk.subject.len());
                let rows = chunk.subject.get(..kept).unwrap_or_default();
                if let Some(at) = rows.iter().rposition(|subject| *subject != DEAD && passes(*subject)) {
                    return Some(number * CHUNK + chunk.from + at as u64);
                }
            }
            number = number.checked_sub(1)?;
            keep = CHUNK;
        }
        None
    }

    /// The first sequence in `from..to` that has no living row. Whole living chunks cost one step each.
    pub(super) fn first_gap(&self, from: Seq, to: Seq) -> Option<Seq> {
        let mut at = from;
        while at < to {
            let chunk_end = (at / CHUNK + 1) * CHUNK;
            let Some(chunk) = self.chunk(at) else { return Some(at) };
            if u64::from(chunk.live) < CHUNK {
                let gap = (at..chunk_end.min(to)).find(|seq| self.get(*seq).is_none());
                if gap.is_some() {
                    return gap;
                }
            }
            at = chunk_end;
        }
        None
    }

    /// Living rows in `from..to`. Whole chunks cost one step each.
    pub(super) fn count(&self, from: Seq, to: Seq) -> u64 {
        self.fold(from, to, |chunk, rows| match rows {
            None => u64::from(chunk.live),
            Some(rows) => chunk.subject[rows].iter().filter(|subject| **subject != DEAD).count() as u64,
        })
    }

    /// Living rows in `from..to` whose subject passes.
    pub(super) fn count_where(&self, from: Seq, to: Seq, passes: impl Fn(SubjectId) -> bool) -> u64 {
        self.fold(from, to, |chunk, rows| {
            let rows = &chunk.subject[rows.unwrap_or(0..chunk.subject.len())];
            rows.iter().filter(|subject| **subject != DEAD && passes(**subject)).count() as u64
        })
    }

    /// Sums over the chunks of `from..to`; the rows are named only where a chunk is cut.
    fn fold(&self, from: Seq, to: Seq, each: impl Fn(&Chunk, Option<std::ops::Range<usize>>) -> u64) -> u64 {
        let from = from.max(self.first * CHUNK);
        let to = to.min(self.end);
        let mut sum = 0;
        let mut at = from;
        while at < to {
            let chunk_end = (at / CHUNK + 1) * CHUNK;
            if let Some(chunk) = self.chunk(at) {
                let rows = |seq: Seq| (seq.saturating_sub(chunk.from) as usize).min(chunk.subject.len());
                let whole = at.is_multiple_of(CHUNK) && chunk_end <= to;
                let cut = rows(at % CHUNK)..rows(to.min(chunk_end) - (chunk_end - CHUNK));
                sum += each(chunk, (!whole).then_some(cut));
            }
            at = chunk_end;
        }
        sum
    }

    /// Drops chunks that lie wholly below `first_seq`.
    pub(super) fn trim(&mut self, first_seq: Seq) {
        while self.first < first_seq / CHUNK && self.chunks.pop_front().is_some() {
            self.first += 1;
        }
    }

    pub(super) fn clear(&mut self) {
        self.chunks.clear();
    }

    fn slot_mut(&mut self, seq: Seq) -> Option<&mut Option<Box<Chunk>>> {
        self.chunks.get_mut(usize::try_from((seq / CHUNK).checked_sub(self.first)?).ok()?)
    }

    fn chunk_mut(&mut self, seq: Seq) -> Option<&mut Chunk> {
        self.slot_mut(seq)?.as_deref_mut()
    }

    fn chunk(&self, seq: Seq) -> Option<&Chunk> {
        self.chunks.get(usize::try_from((seq / CHUNK).checked_sub(self.first)?).ok()?)?.as_deref()
    }
}

impl Chunk {
    fn push(&mut self, subject: SubjectId, size: u32) {
        self.subject.push(subject);
        self.size.push(size);
        self.next.push(UNLINKED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A dumb twin: a map of living rows.
    #[test]
    fn rows_answer_like_a_map() {
        for seed in 1..40u64 {
            let mut state = seed;
            let mut roll = move |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let (mut rows, mut twin) = (Rows::default(), BTreeMap::new());
            let mut seq = roll(5000);
            let mut newest = BTreeMap::<u32, u64>::new();
            for _ in 0..3000 {
                seq += 1 + if roll(50) == 0 { roll(3000) } else { 0 };
                let subject = roll(4) as u32;
                rows.append(seq, subject, seq as u32);
                if let Some(previous) = newest.insert(subject, seq) {
                    rows.link(previous, seq);
                }
                twin.insert(seq, subject);
                if roll(2) == 0 {
                    let victim = seq - roll(seq.min(4000));
                    assert_eq!(rows.remove(victim).map(|(subject, _)| subject), twin.remove(&victim));
                }
                if roll(200) == 0 && !twin.is_empty() {
                    let keep = *twin.keys().nth(roll(twin.len() as u64) as usize).unwrap();
                    twin.keys().copied().filter(|seq| *seq < keep).collect::<Vec<_>>().iter().for_each(|seq| {
                        rows.remove(*seq);
                        twin.remove(seq);
                    });
                    rows.trim(keep);
                }
            }
            for _ in 0..300 {
                let (from, want) = (seq.saturating_sub(roll(9000)), roll(4) as u32);
                let to = from + roll(9000);
                let next = twin.range(from..).find(|(_, subject)| **subject == want).map(|(seq, _)| *seq);
                let prev = twin.range(..=from).rev().find(|(_, subject)| **subject == want).map(|(seq, _)| *seq);
                assert_eq!(rows.next_where(from, |subject| subject == want), next);
                assert_eq!(rows.prev_where(from, |subject| subject == want), prev);
                assert_eq!(rows.count(from, to), twin.range(from..to).count() as u64);
                let of_it = twin.range(from..to).filter(|(_, subject)| **subject == want).count() as u64;
                assert_eq!(rows.count_where(from, to, |subject| subject == want), of_it);
                if let Some(seq) = next {
                    let after = twin.range(seq + 1..).find(|(_, subject)| **subject == want).map(|(seq, _)| *seq);
                    assert_eq!(rows.next_same(seq, want), after);
                }
            }
        }
    }

    #[test]
    fn dead_chunks_cost_nothing() {
        let mut rows = Rows::default();
        for seq in 1..=10 * CHUNK {
            rows.append(seq, 0, 1);
        }
        for seq in 2..10 * CHUNK {
            rows.remove(seq);
        }
        assert_eq!(rows.chunks.iter().filter(|chunk| chunk.is_some()).count(), 2, "the first and the newest");
        assert_eq!(rows.next_same(1, 0), Some(10 * CHUNK));
    }
}
