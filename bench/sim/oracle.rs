//! What the workload knows: every message that was asked to be stored, what was acknowledged, what was seen.
//!
//! An acknowledgement carries the sequence, so the checks need no search: each acknowledged sequence holds exactly that
//! message for every reader and replica; a message that was acknowledged before another one was first sent stands
//! before it; no message id stands twice.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::people::ACK_ALL;

/// Names one message of the workload: its `Nats-Msg-Id`.
pub type Key = String;

#[derive(Debug, Clone)]
pub struct Sent {
    pub payload: Bytes,
    /// When it was first sent, microseconds of the world.
    pub sent_us: u64,
    /// Sequence and time of the first acknowledgement.
    pub acked: Option<(u64, u64)>,
}

/// One stream as its users see it.
#[derive(Debug, Default)]
pub struct StreamStory {
    pub sent: BTreeMap<Key, Sent>,
    pub by_seq: BTreeMap<u64, Key>,
    /// Somebody asked for these to be deleted; a delete may or may not have happened.
    pub maybe_gone: BTreeSet<u64>,
    /// Purges that were asked for: below which sequence, of whom.
    pub purged: Vec<(u64, String)>,
    /// Deletes that were acknowledged.
    pub gone: BTreeSet<u64>,
    /// Messages go by themselves: what is not there is not missed.
    pub limited: bool,
    /// Messages of one publisher that stay, the newest; 0: all.
    pub subject_max: u64,
    /// Messages that the stream may hold: more are refused. 0: any number.
    pub messages_max: u64,
    /// Age at which they go, microseconds; 0: never.
    pub age_us: u64,
    /// All copies of something may have been damaged or forgotten: nothing is promised.
    pub lossy: bool,
    pub memory: bool,
}

/// One durable consumer as its reader sees it.
#[derive(Debug, Default)]
pub struct ConsumerStory {
    pub stream: String,
    /// The publisher whose messages alone it wants; empty for all.
    pub only: String,
    pub delivered: BTreeMap<u64, u64>,
    /// Acknowledgements that were confirmed, and when.
    pub confirmed: BTreeMap<u64, u64>,
    /// Messages that arrived long after their acknowledgement was confirmed.
    pub again: BTreeMap<u64, u32>,
    /// Acked in any way: an unconfirmed ack may count.
    pub acked: BTreeSet<u64>,
}

#[derive(Debug, Default)]
pub struct Oracle {
    pub streams: BTreeMap<String, StreamStory>,
    pub consumers: BTreeMap<String, ConsumerStory>,
    pub violations: Vec<String>,
    /// Figures for people.
    pub acks: u64,
    pub deliveries: u64,
}

/// How long after its time a message may still be there: a leader must be elected and look.
const OVERDUE_US: u64 = 10_000_000;

/// How long a message that was delivered before its acknowledgement was confirmed may still be on its way: longer than
/// any link takes to break and any process is paused.
const LATE_US: u64 = 5_000_000;

/// Late redeliveries of one message that stop being an accident of timing.
const AGAIN_MAX: u32 = 2;

/// Violations that are kept: the first says most.
const VIOLATIONS_MAX: usize = 20;

impl Oracle {
    pub fn wrong(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    pub fn sending(&mut self, stream: &str, key: &str, payload: &Bytes, now_us: u64) {
        let story = self.streams.entry(stream.to_owned()).or_default();
        story.sent.entry(key.to_owned()).or_insert_with(|| Sent {
            payload: payload.clone(),
            sent_us: now_us,
            acked: None,
        });
    }

    pub fn acked(&mut self, stream: &str, key: &str, seq: u64, now_us: u64) {
        self.acks += 1;
        let Some(story) = self.streams.get_mut(stream) else { return };
        let lossy = story.lossy;
        let mut wrong = None;
        if let Some(sent) = story.sent.get_mut(key) {
            match sent.acked {
                Some((other, _)) if other != seq => {
                    wrong = Some(format!("{stream}: {key} was acknowledged as {other} and as {seq}"))
                }
                Some(_) => {}
                None => sent.acked = Some((seq, now_us)),
            }
        }
        match story.by_seq.get(&seq) {
            Some(other) if other != key => {
                wrong = Some(format!("{stream}: {seq} was acknowledged for {other} and for {key}"))
            }
            _ => {
                story.by_seq.insert(seq, key.to_owned());
                let gone =
                    |(below, only): &(u64, String)| seq < *below && (only.is_empty() || publisher_of(key) == only);
                if story.purged.iter().any(gone) {
                    story.maybe_gone.insert(seq);
                }
            }
        }
        if let Some(wrong) = wrong.filter(|_| !lossy) {
            self.wrong(wrong);
        }
    }

    /// Whether a message may have been deleted, or the stream have lost it rightly.
    pub fn may_be_gone(&self, stream: &str, seq: u64) -> bool {
        self.streams.get(stream).is_none_or(|story| story.lossy || story.maybe_gone.contains(&seq))
    }

    /// Limits of a replica's messages: never more than there may be, and of each publisher the newest.
    pub fn limits(&mut self, stream: &str, replica: &str, held: &BTreeMap<u64, Bytes>) {
        let Some(story) = self.streams.get(stream).filter(|story| !story.lossy) else { return };
        let mut wrong = Vec::new();
        if story.messages_max > 0 && held.len() as u64 > story.messages_max {
            wrong.push(format!("{stream}: {replica} holds {} messages, more than it may", held.len()));
        }
        let mut newest: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (seq, key) in story.by_seq.iter().rev().filter(|_| story.subject_max > 0) {
            newest.entry(publisher_of(key)).or_default().push(*seq);
        }
        for (publisher, seqs) in newest {
            let kept = held.values().filter(|payload| publisher_of(&key_of(payload)) == publisher).count() as u64;
            // One that was stored and whose answer was lost may stand among them.
            let last = seqs.first().filter(|seq| !held.contains_key(seq) && !story.maybe_gone.contains(seq));
            if kept > story.subject_max || last.is_some() {
                wrong.push(format!("{stream}: {replica} holds {kept} of {publisher}, without the newest: {last:?}"));
            }
        }
        wrong.into_iter().for_each(|what| self.wrong(what));
    }

    /// Somebody read this message at this sequence, from whatever replica.
    pub fn read(&mut self, stream: &str, seq: u64, payload: &[u8], from: &str) {
        let Some(story) = self.streams.get(stream).filter(|story| !story.lossy) else { return };
        let key = key_of(payload);
        let mut wrong = None;
        match story.sent.get(&key) {
            None => wrong = Some(format!("{stream}: {from} shows {key:?} at {seq}, which nobody sent")),
            Some(sent) if sent.payload != payload => {
                wrong = Some(format!("{stream}: {from} shows {key} at {seq} with other bytes"))
            }
            Some(sent) => {
                if let Some((acked, _)) = sent.acked.filter(|(acked, _)| *acked != seq) {
                    wrong = Some(format!("{stream}: {from} shows {key} at {seq}, acknowledged as {acked}"));
                }
            }
        }
        if let Some(other) = story.by_seq.get(&seq).filter(|other| **other != key) {
            wrong = Some(format!("{stream}: {from} shows {key} at {seq}, acknowledged for {other}"));
        }
        if let Some(wrong) = wrong {
            self.wrong(wrong);
        }
    }

    pub fn delivered(&mut self, consumer: &str, seq: u64, payload: &[u8], now_us: u64) {
        self.deliveries += 1;
        let Some(story) = self.consumers.get_mut(consumer) else { return };
        let stream = story.stream.clone();
        story.delivered.entry(seq).or_insert(now_us);
        // A stream that began anew gives the same sequences to other messages.
        let lossy = self.streams.get(&stream).is_some_and(|story| story.lossy);
        let late = !lossy && story.confirmed.get(&seq).is_some_and(|at| now_us > at + LATE_US);
        if late {
            let again = story.again.entry(seq).or_default();
            *again += 1;
            if *again == AGAIN_MAX {
                self.wrong(format!("{consumer}: {seq} comes again and again after its acknowledgement was confirmed"));
            }
        }
        self.read(&stream, seq, payload, consumer);
    }

    pub fn ack_confirmed(&mut self, consumer: &str, seq: u64, now_us: u64) {
        let Some(story) = self.consumers.get_mut(consumer) else { return };
        story.confirmed.entry(seq).or_insert(now_us);
        if consumer == ACK_ALL {
            for covered in story.delivered.range(..seq).map(|(seq, _)| *seq) {
                story.confirmed.entry(covered).or_insert(now_us);
            }
        }
    }

    /// Somebody asked for everything below `seq` to be removed (of one publisher, unless empty): what may go with it.
    pub fn purging(&mut self, stream: &str, seq: u64, only: &str) -> Vec<u64> {
        let Some(story) = self.streams.get_mut(stream) else { return Vec::new() };
        let below = story.by_seq.range(..seq).filter(|(_, key)| only.is_empty() || publisher_of(key) == only);
        let below: Vec<u64> = below.map(|(seq, _)| *seq).collect();
        // An answer that is still on its way may name a sequence below, too.
        story.purged.push((seq, only.to_owned()));
        story.maybe_gone.extend(&below);
        below
    }

    /// What goes by its age is there until then, and not for long after. Only where all clocks are right.
    pub fn ages(&mut self, stream: &str, replica: &str, now_us: u64, held: &BTreeMap<u64, Bytes>) {
        let Some(story) = self.streams.get(stream).filter(|story| !story.lossy && story.age_us > 0) else { return };
        let mut wrong = Vec::new();
        for (seq, key) in &story.by_seq {
            let Some(sent) = story.sent.get(key) else { continue };
            let Some((_, acked_us)) = sent.acked else { continue };
            let there = held.contains_key(seq);
            if !there && now_us < sent.sent_us + story.age_us && !story.maybe_gone.contains(seq) {
                wrong.push(format!("{stream}: {replica} has let {key} at {seq} go before its time"));
            }
            if there && now_us > acked_us + story.age_us + OVERDUE_US {
                wrong.push(format!("{stream}: {replica} still has {key} at {seq}, whose time is long over"));
            }
        }
        wrong.truncate(3);
        wrong.into_iter().for_each(|what| self.wrong(what));
    }

    /// What one replica holds at the end: (sequence, payload) in order, and its first sequence.
    pub fn holds(&mut self, stream: &str, replica: &str, first: u64, last: u64, held: &BTreeMap<u64, Bytes>) {
        let Some(story) = self.streams.get(stream).filter(|story| !story.lossy) else { return };
        let mut wrong = Vec::new();
        for (seq, key) in &story.by_seq {
            let there = held.contains_key(seq);
            if !there && !story.limited && !story.maybe_gone.contains(seq) {
                wrong.push(format!(
                    "{stream}: {replica} has lost {key}, acknowledged as {seq} (it holds {first} to {last})"
                ));
            }
            if there && story.gone.contains(seq) {
                wrong.push(format!("{stream}: {replica} still has {seq}, whose deletion was acknowledged"));
            }
        }
        let mut places: BTreeMap<Key, u64> = BTreeMap::new();
        let mut newest_sent = (0, String::new());
        for (seq, payload) in held {
            let key = key_of(payload);
            if let Some(other) = places.insert(key.clone(), *seq) {
                wrong.push(format!("{stream}: {replica} holds {key} twice, at {other} and {seq}"));
            }
            let Some(sent) = story.sent.get(&key) else { continue };
            if let Some((_, acked_us)) = sent.acked.filter(|(_, acked_us)| *acked_us < newest_sent.0) {
                let (at, before) = &newest_sent;
                wrong.push(format!(
                    "{stream}: {key} was acknowledged at {acked_us}, yet {before}, sent at {at}, stands before it"
                ));
            }
            if sent.sent_us > newest_sent.0 {
                newest_sent = (sent.sent_us, key);
            }
        }
        for what in wrong {
            self.wrong(what);
        }
        for (seq, payload) in held {
            self.read(stream, *seq, payload, replica);
        }
    }

    /// What a consumer should have seen of a stream by now.
    pub fn missing(&self, consumer: &str, held: &BTreeMap<u64, Bytes>) -> Vec<u64> {
        let Some(story) = self.consumers.get(consumer) else { return Vec::new() };
        held.keys().copied().filter(|seq| !story.delivered.contains_key(seq)).collect()
    }
}

/// Who sent a message, by its id.
pub fn publisher_of(key: &str) -> &str {
    key.rsplit_once('-').map_or(key, |(name, _)| name)
}

/// A payload begins with its message id and a colon.
pub fn key_of(payload: &[u8]) -> Key {
    let end = payload.iter().position(|byte| *byte == b':').unwrap_or(payload.len().min(40));
    String::from_utf8_lossy(&payload[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Oracle {
        let mut oracle = Oracle::default();
        for (n, seq) in [(1, 1), (2, 2)] {
            oracle.sending("S", &format!("p-{n}"), &Bytes::from(format!("p-{n}:x")), n * 10);
            oracle.acked("S", &format!("p-{n}"), seq, n * 10 + 5);
        }
        oracle
    }

    fn held(list: &[(u64, &'static str)]) -> BTreeMap<u64, Bytes> {
        list.iter().map(|(seq, text)| (*seq, Bytes::from_static(text.as_bytes()))).collect()
    }

    #[test]
    fn a_replica_that_holds_what_was_acknowledged_is_right() {
        let mut oracle = told();
        oracle.holds("S", "n1", 1, 2, &held(&[(1, "p-1:x"), (2, "p-2:x")]));
        assert_eq!(oracle.violations, Vec::<String>::new());
    }

    #[test]
    fn loss_doubling_swaps_and_changed_bytes_are_each_found() {
        let cases: [&[(u64, &str)]; 4] = [
            &[(1, "p-1:x")],
            &[(1, "p-1:x"), (2, "p-2:x"), (3, "p-1:x")],
            &[(1, "p-2:x"), (2, "p-1:x")],
            &[(1, "p-1:x"), (2, "p-2:y")],
        ];
        for case in cases {
            let mut oracle = told();
            oracle.holds("S", "n1", 1, 2, &held(case));
            assert!(!oracle.violations.is_empty(), "{case:?}");
        }
    }

    #[test]
    fn a_sequence_is_acknowledged_once() {
        let mut oracle = told();
        oracle.sending("S", "p-3", &Bytes::from_static(b"p-3:x"), 40);
        oracle.acked("S", "p-3", 2, 41);
        assert_eq!(oracle.violations.len(), 1);
    }
}
