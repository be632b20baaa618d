//! Questions about the applied messages. None of them touches payload: they answer with sequences, and
//! [`Stream::locate`] says which log entry to read.
//!
//! A message that a reader located may be gone by the time its entry was read; whoever delivers looks again.

use bytes::Bytes;
use net::subject;

use super::filters::Picks;
use super::info::StreamState;
use super::{At, Filters, Stream};
use crate::ids::Seq;

impl Stream {
    /// Sums and bounds. `consumer_count`, `subjects` and `deleted` are the caller's to fill in.
    pub fn state(&self) -> StreamState {
        let index = &self.index;
        StreamState {
            messages: index.messages,
            bytes: index.bytes,
            first_seq: index.first_seq,
            first_ts: (index.messages > 0).then(|| self.time_of(index.first_seq)).flatten(),
            last_seq: index.last_seq,
            last_ts: index.last_time_ns,
            num_subjects: index.subjects.live_len(),
            num_deleted: index.deleted_len(),
            ..StreamState::default()
        }
    }

    /// The first message; in an empty stream one past the last, or 0 when there never was one.
    pub fn first_seq(&self) -> Seq {
        self.index.first_seq
    }

    pub fn last_seq(&self) -> Seq {
        self.index.last_seq
    }

    /// Where a message lies; `None` when there is none. O(log entries).
    pub fn locate(&self, seq: Seq) -> Option<At> {
        self.index.size_of(seq)?;
        let span = self.index.spans.find(seq)?;
        Some(At { index: span.index, slot: u32::try_from(seq - span.base_seq).ok()? })
    }

    /// When a message was stored, nanoseconds since the Unix epoch. O(log entries).
    pub fn time_of(&self, seq: Seq) -> Option<i64> {
        self.index.size_of(seq)?;
        self.index.spans.find(seq).map(|span| span.time_ns)
    }

    /// Subject, headers and payload of a message together, bytes.
    pub fn size_of(&self, seq: Seq) -> Option<u32> {
        self.index.size_of(seq).map(|size| size.raw())
    }

    pub fn subject_of(&self, seq: Seq) -> Option<Bytes> {
        let (subject, _) = self.index.rows.get(seq)?;
        Some(Bytes::copy_from_slice(&self.index.subjects.get(subject).text))
    }

    /// The first match at or after `from`.
    ///
    /// Costs what lies between for filters with wildcards; when it is `None`, nothing up to [`Stream::last_seq`]
    /// matches and the caller goes on after that.
    pub fn next_match(&self, from: Seq, filters: &Filters) -> Option<Seq> {
        let from = from.max(self.index.first_seq);
        if from > self.index.last_seq {
            return None;
        }
        match filters.picks(&self.index) {
            Picks::All => self.index.next_live(from),
            Picks::Some(ids) => ids.into_iter().filter_map(|id| self.index.next_of(id, from)).min(),
            Picks::Bits => filters.with_bits(|passes| self.index.rows.next_where(from, passes)),
        }
    }

    /// The last match at or before `upto`.
    pub fn last_match(&self, upto: Seq, filters: &Filters) -> Option<Seq> {
        if self.index.messages == 0 || upto < self.index.first_seq {
            return None;
        }
        match filters.picks(&self.index) {
            Picks::All => self.index.rows.prev_where(upto, |_| true),
            Picks::Some(ids) => ids.into_iter().filter_map(|id| self.index.prev_of(id, upto)).max(),
            Picks::Bits => filters.with_bits(|passes| self.index.rows.prev_where(upto, passes)),
        }
    }

    /// The newest message of every matching subject, ascending by sequence. O(subjects).
    pub fn last_per_subject(&self, filters: &Filters) -> Vec<Seq> {
        let matching = self.index.subjects.live().filter(|(_, one)| filters.matches(&one.text));
        let mut last: Vec<Seq> = matching.map(|(_, one)| one.last).collect();
        last.sort_unstable();
        last
    }

    /// Matches at or after `seq`: what a consumer there has still to read.
    ///
    /// Constant for a stream without gaps and no filter; otherwise the filters remember their last count and pay for
    /// what happened since, or once for everything when too much did.
    pub fn count_from(&self, seq: Seq, filters: &Filters) -> u64 {
        filters.count_from(&self.index, seq)
    }

    /// The first message that is not older than `ns` (nanoseconds since the Unix epoch), or one past the last.
    pub fn seq_at_time(&self, ns: i64) -> Seq {
        let found =
            self.index.spans.seq_at_time(ns).and_then(|base| self.index.next_live(base.max(self.index.first_seq)));
        found.unwrap_or(self.index.last_seq + 1)
    }

    /// Matching subjects in byte order with their message counts, from `offset` on and at most `limit`; and how many
    /// match in all. An empty filter matches nothing. O(subjects).
    pub fn subjects(&self, filter: &[u8], offset: usize, limit: usize) -> (Vec<(Bytes, u64)>, usize) {
        let live = self.index.subjects.live().map(|(_, one)| one);
        let mut matching: Vec<_> = live.filter(|one| subject::matches(filter, &one.text)).collect();
        matching.sort_unstable_by(|a, b| a.text.cmp(&b.text));
        let total = matching.len();
        let page = matching.into_iter().skip(offset).take(limit);
        (page.map(|one| (Bytes::copy_from_slice(&one.text), one.count)).collect(), total)
    }

    /// Sequences between the first and the last that hold no message, ascending, at most `limit`.
    pub fn deleted(&self, limit: usize) -> Vec<Seq> {
        self.gaps().flat_map(|(start, end)| start..end).take(limit).collect()
    }

    /// The same as ranges `start..end`.
    pub(super) fn gaps(&self) -> impl Iterator<Item = (Seq, Seq)> + '_ {
        let index = &self.index;
        let mut from = index.first_seq;
        std::iter::from_fn(move || {
            if index.messages == 0 || index.is_dense() {
                return None;
            }
            let start = index.rows.first_gap(from, index.last_seq + 1)?;
            let end = index.next_live(start).unwrap_or(index.last_seq + 1);
            from = end;
            Some((start, end))
        })
    }

    /// Indexes of the entries that hold living messages, ascending: what a new replica needs beside a checkpoint.
    pub fn live_entries(&self, from_index: u64) -> impl Iterator<Item = u64> + '_ {
        self.index.spans.live().map(|span| span.index).filter(move |index| *index >= from_index)
    }
}
