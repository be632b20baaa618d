//! An entry of the log that is not applied yet, parsed down to what applying needs. No payload is held.
//!
//! Subjects are numbered when an entry is parsed, so that applying is arithmetic only. A parsed entry counts as
//! "on its way" with its subjects: it must end in [`Pending::drop_from`] or be applied.

use bytes::Bytes;

use super::Answer;
use super::config::StreamConfig;
use super::index::Size;
use super::record::{Batch, Damaged, Entry, Purge, Rollup};
use super::siphash;
use super::subjects::{SubjectId, Subjects};
use crate::ids::{Place, Seq};

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) index: u64,
    pub(super) body_len: u32,
    pub(super) work: Work,
    /// Leader only: who is told when it is applied.
    pub(super) answers: Answers,
    /// Leader only: what it was counted for while in flight.
    pub(super) grown: Grown,
}

#[derive(Debug)]
pub(super) enum Work {
    Store(Store),
    Delete { seq: Seq },
    Purge(Purge),
    Trim { first_seq: Seq },
    Config(Box<StreamConfig>),
}

#[derive(Debug)]
pub(super) struct Store {
    pub(super) base_seq: Seq,
    pub(super) time_ns: i64,
    pub(super) rows: Vec<(SubjectId, Size)>,
    /// Of the messages that have an id or roll up, by slot.
    pub(super) marks: Vec<Mark>,
    /// Message id of the last message, as text; empty for none.
    pub(super) last_id: Box<[u8]>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) slot: u32,
    pub(super) id: Option<u128>,
    pub(super) rollup: Rollup,
}

#[derive(Debug, Default)]
pub(super) enum Answers {
    #[default]
    Nobody,
    /// Publishers, by slot.
    Publishers(Vec<(u32, Place, Bytes)>),
    Request(Answer),
}

/// How much messages and bytes an entry may add to the stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Grown {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Store {
    /// One past the last sequence.
    pub(super) fn end(&self) -> Seq {
        self.base_seq + self.rows.len() as u64
    }

    fn parse(batch: &Batch, subjects: &mut Subjects) -> Store {
        let mut rows = Vec::with_capacity(batch.count as usize);
        let mut marks = Vec::new();
        let mut last_id: &[u8] = &[];
        for (slot, glance) in batch.glances().enumerate() {
            let id = (!glance.id.is_empty()).then(|| siphash::hash(glance.id));
            let subject = subjects.expect(glance.subject);
            subjects.get_mut(subject).pending_last = batch.base_seq + slot as u64;
            rows.push((subject, Size::new(glance.bytes_raw, glance.with_headers)));
            if id.is_some() || glance.rollup != Rollup::None {
                marks.push(Mark { slot: slot as u32, id, rollup: glance.rollup });
            }
            last_id = glance.id;
        }
        Store { base_seq: batch.base_seq, time_ns: batch.time_ns, rows, marks, last_id: last_id.into() }
    }
}

impl Pending {
    pub(super) fn parse(index: u64, body: &Bytes, subjects: &mut Subjects) -> Result<Pending, Damaged> {
        let work = match Entry::decode(body)? {
            Entry::Batch(batch) => Work::Store(Store::parse(&batch, subjects)),
            Entry::Delete { seq, .. } => Work::Delete { seq },
            Entry::Purge(purge) => Work::Purge(purge),
            Entry::Trim { first_seq } => Work::Trim { first_seq },
            Entry::Config(config) => Work::Config(config),
        };
        let body_len = u32::try_from(body.len()).map_err(|_| Damaged("body length"))?;
        Ok(Pending { index, body_len, work, answers: Answers::Nobody, grown: Grown::default() })
    }

    /// Takes it back from the subjects it counted with.
    pub(super) fn drop_from(self, subjects: &mut Subjects) {
        if let Work::Store(store) = self.work {
            store.rows.iter().for_each(|(subject, _)| subjects.arrived(*subject));
        }
    }

    /// The last sequence once this is applied after `last_seq`.
    pub(super) fn last_seq_after(&self, last_seq: Seq) -> Seq {
        match &self.work {
            Work::Store(store) => store.end() - 1,
            Work::Purge(purge) => last_seq.max(purge.last_seq_floor()),
            _ => last_seq,
        }
    }

    /// Whether it may take messages away that an expectation of a publisher could be about.
    pub(super) fn removes(&self) -> bool {
        match &self.work {
            Work::Store(store) => store.marks.iter().any(|mark| mark.rollup == Rollup::All),
            Work::Delete { .. } | Work::Purge(_) => true,
            Work::Trim { .. } | Work::Config(_) => false,
        }
    }
}

impl Purge {
    pub(super) fn is_unfiltered(&self) -> bool {
        self.filter.is_empty() || self.filter.as_ref() == b">"
    }

    /// A purge of everything below a sequence that is not reached yet makes the stream go on from there.
    pub(super) fn last_seq_floor(&self) -> Seq {
        if self.is_unfiltered() { self.seq.saturating_sub(1) } else { 0 }
    }
}
