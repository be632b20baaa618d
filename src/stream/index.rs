//! The applied messages of a stream as metadata: what exists, how large, under which subject, in which log entry.
//!
//! Everything here is a function of the committed log. [`Index::remove`] is the one way that a message goes; it keeps
//! rows, entries, subjects and sums in step and says what became of the entry.

use super::rows::Rows;
use super::spans::{Span, Spans};
use super::subjects::{SubjectId, Subjects};
use crate::ids::Seq;

/// Set in a row's size when the message has headers (the peer's file store counts 4 bytes more then).
const WITH_HEADERS: u32 = 1 << 31;

/// Bytes of subject, headers and payload, and whether there are headers, in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(u32);

impl Size {
    pub(super) fn new(raw: u32, with_headers: bool) -> Size {
        Size(raw & !WITH_HEADERS | if with_headers { WITH_HEADERS } else { 0 })
    }

    pub(super) fn raw(self) -> u32 {
        self.0 & !WITH_HEADERS
    }

    pub(super) fn with_headers(self) -> bool {
        self.0 & WITH_HEADERS != 0
    }
}

/// Invariants: `messages` rows live, all in `first_seq..=last_seq`; with `messages > 0` the row of `first_seq` lives,
/// without `first_seq == last_seq + 1` (or both are 0 in a stream that never had a message).
#[derive(Debug)]
pub(super) struct Index {
    pub(super) rows: Rows,
    pub(super) spans: Spans,
    pub(super) subjects: Subjects,
    pub(super) first_seq: Seq,
    pub(super) last_seq: Seq,
    pub(super) last_time_ns: Option<i64>,
    pub(super) messages: u64,
    /// As the peer counts them, see `StreamConfig::message_bytes`.
    pub(super) bytes: u64,
    /// Changes when the whole state is replaced, so that readers drop what they remember.
    pub(super) incarnation: (u64, u64),
}

/// A message that was just removed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Removed {
    pub(super) size: Size,
    /// Its entry as it is now, if it was removed from inside. What goes at the front is seen by where the front is.
    pub(super) inside: Option<Span>,
}

impl Index {
    pub(super) fn new(seeds: (u64, u64), first_seq: Seq, incarnation: (u64, u64)) -> Index {
        Index {
            rows: Rows::default(),
            spans: Spans::default(),
            subjects: Subjects::new(seeds),
            first_seq,
            last_seq: first_seq.saturating_sub(1),
            last_time_ns: None,
            messages: 0,
            bytes: 0,
            incarnation,
        }
    }

    /// Whether no message is missing between the first and the last.
    pub(super) fn is_dense(&self) -> bool {
        self.messages > 0 && self.last_seq - self.first_seq + 1 == self.messages
    }

    /// Messages removed from inside.
    pub(super) fn deleted_len(&self) -> u64 {
        if self.messages == 0 { 0 } else { self.last_seq - self.first_seq + 1 - self.messages }
    }

    /// Adds a message whose entry is there already. `bytes` is what it counts for.
    pub(super) fn store(&mut self, seq: Seq, subject: SubjectId, size: Size, bytes: u64) {
        assert!(seq > self.last_seq || self.last_seq == 0, "sequences rise");
        self.rows.append(seq, subject, size.0);
        let tail = self.subjects.stored(subject, seq);
        if tail != 0 {
            self.rows.link(tail, seq);
        }
        if self.messages == 0 {
            self.first_seq = seq;
        }
        self.last_seq = seq;
        self.messages += 1;
        self.bytes += bytes;
    }

    /// Removes a message; `None` when there is none. `bytes` tells what it counted for.
    pub(super) fn remove(&mut self, seq: Seq, bytes: impl Fn(Size) -> u64) -> Option<Removed> {
        let (subject, size) = self.rows.remove(seq)?;
        let size = Size(size);
        self.messages -= 1;
        self.bytes -= bytes(size);
        let at_front = seq == self.first_seq;
        let entry = self.spans.kill(seq);
        self.mend_subject(subject, seq, !at_front);
        if !at_front {
            return Some(Removed { size, inside: entry });
        }
        self.first_seq = match self.messages {
            0 => self.last_seq + 1,
            _ => self.rows.next_where(seq + 1, |_| true).unwrap_or(self.last_seq + 1),
        };
        self.rows.trim(self.first_seq);
        self.spans.trim(self.first_seq);
        Some(Removed { size, inside: None })
    }

    /// Removes everything; sequences go on after `last_seq`.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.spans.clear();
        self.subjects.clear_counts();
        self.messages = 0;
        self.bytes = 0;
        self.first_seq = self.last_seq + 1;
    }

    /// The first message at or after `from`.
    pub(super) fn next_live(&self, from: Seq) -> Option<Seq> {
        self.rows.next_where(from, |_| true)
    }

    pub(super) fn size_of(&self, seq: Seq) -> Option<Size> {
        self.rows.get(seq).map(|(_, size)| Size(size))
    }

    /// The first message of a subject at or after `from`.
    pub(super) fn next_of(&self, id: SubjectId, from: Seq) -> Option<Seq> {
        let subject = self.subjects.get(id);
        if subject.count == 0 || from > subject.last {
            return None;
        }
        if from <= subject.first {
            return Some(subject.first);
        }
        if subject.count > CHAIN_MAX {
            return self.rows.next_where(from, |other| other == id);
        }
        let mut at = subject.first;
        while at < from {
            at = self.rows.next_same(at, id)?;
        }
        Some(at)
    }

    /// The last message of a subject at or before `upto`.
    pub(super) fn prev_of(&self, id: SubjectId, upto: Seq) -> Option<Seq> {
        let subject = self.subjects.get(id);
        if subject.count == 0 || upto < subject.first {
            return None;
        }
        if upto >= subject.last {
            return Some(subject.last);
        }
        if subject.count > CHAIN_MAX {
            return self.rows.prev_where(upto, |other| other == id);
        }
        let mut at = subject.first;
        while let Some(next) = self.rows.next_same(at, id).filter(|next| *next <= upto) {
            at = next;
            if at == subject.last {
                break;
            }
        }
        Some(at)
    }

    fn mend_subject(&mut self, id: SubjectId, seq: Seq, from_inside: bool) {
        let subject = self.subjects.removed(id, seq, from_inside).clone();
        if subject.count == 0 {
            return;
        }
        if subject.first == seq {
            let first = self.rows.next_same(seq, id).unwrap_or(subject.last);
            self.subjects.get_mut(id).first = first;
        }
        if subject.last == seq {
            let last = if subject.count <= CHAIN_MAX {
                self.chain_end(id, subject.first, seq)
            } else {
                self.rows.prev_where(seq, |other| other == id).unwrap_or(subject.first)
            };
            self.subjects.get_mut(id).last = last;
        }
    }

    /// The last living message of a subject before `seq`, from `first` on.
    fn chain_end(&self, id: SubjectId, first: Seq, seq: Seq) -> Seq {
        let mut at = first;
        let mut found = first;
        for _ in 0..CHAIN_MAX {
            if self.rows.get(at).is_some() {
                found = at;
            }
            match self.rows.next_same(at, id) {
                Some(next) if next < seq => at = next,
                _ => break,
            }
        }
        found
    }
}

/// Up to so many messages a subject's chain is walked; beyond it a scan is as fast, because they are dense.
const CHAIN_MAX: u64 = 64;
