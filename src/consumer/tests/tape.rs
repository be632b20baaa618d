//! The dumbest stream that can be: a vector of messages, searched from one end to the other.

use std::collections::BTreeMap;

use crate::consumer::Source;
use crate::ids::Seq;
use crate::stream::Filters;

#[derive(Debug, Clone)]
pub struct Note {
    pub subject: String,
    pub time_ns: i64,
    pub size: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Tape {
    notes: Vec<Option<Note>>,
    first: Seq,
}

impl Tape {
    pub fn new() -> Tape {
        Tape { notes: Vec::new(), first: 1 }
    }

    pub fn publish(&mut self, subject: &str, time_ns: i64, size: u64) -> Seq {
        self.notes.push(Some(Note { subject: subject.into(), time_ns, size }));
        self.notes.len() as Seq
    }

    pub fn get(&self, seq: Seq) -> Option<&Note> {
        let at = usize::try_from(seq).ok()?.checked_sub(1)?;
        self.notes.get(at)?.as_ref()
    }

    pub fn delete(&mut self, seq: Seq) {
        if let Some(note) = self.notes.get_mut(seq as usize - 1) {
            *note = None;
        }
        while self.first <= self.last_seq() && !self.contains(self.first) {
            self.first += 1;
        }
    }

    pub fn purge(&mut self, first: Seq) {
        for seq in self.first..first.min(self.last_seq() + 1) {
            self.notes[seq as usize - 1] = None;
        }
        self.first = self.first.max(first.min(self.last_seq() + 1));
    }

    pub fn matches(&self, seq: Seq, filters: &Filters) -> bool {
        let Some(note) = self.get(seq) else { return false };
        let subjects = filters.subjects();
        subjects.is_empty() || subjects.iter().any(|filter| net::subject::matches(filter, note.subject.as_bytes()))
    }
}

impl Source for Tape {
    fn first_seq(&self) -> Seq {
        self.first
    }

    fn last_seq(&self) -> Seq {
        self.notes.len() as Seq
    }

    fn holes(&self) -> u64 {
        (self.first..=self.last_seq()).filter(|seq| !self.contains(*seq)).count() as u64
    }

    fn contains(&self, seq: Seq) -> bool {
        self.get(seq).is_some()
    }

    fn next_match(&self, from: Seq, filters: &Filters) -> Option<Seq> {
        (from.max(1)..=self.last_seq()).find(|seq| self.matches(*seq, filters))
    }

    fn last_match(&self, filters: &Filters) -> Option<Seq> {
        (1..=self.last_seq()).rev().find(|seq| self.matches(*seq, filters))
    }

    fn last_per_subject(&self, filters: &Filters) -> Vec<Seq> {
        let mut last = BTreeMap::new();
        for seq in (1..=self.last_seq()).filter(|seq| self.matches(*seq, filters)) {
            last.insert(self.get(seq).map(|note| note.subject.clone()), seq);
        }
        let mut seqs: Vec<Seq> = last.into_values().collect();
        seqs.sort_unstable();
        seqs
    }

    fn count_from(&self, from: Seq, filters: &Filters) -> u64 {
        (from.max(1)..=self.last_seq()).filter(|seq| self.matches(*seq, filters)).count() as u64
    }

    fn seq_at_time(&self, time_ns: i64) -> Seq {
        let late = |seq: &Seq| self.get(*seq).is_some_and(|note| note.time_ns >= time_ns);
        (1..=self.last_seq()).find(late).unwrap_or(self.last_seq() + 1)
    }

    fn time_of(&self, seq: Seq) -> i64 {
        self.get(seq).map_or(0, |note| note.time_ns)
    }

    fn size_of(&self, seq: Seq) -> u64 {
        self.get(seq).map_or(0, |note| note.size)
    }
}
