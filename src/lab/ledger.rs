//! What was acknowledged, and what is found when everything is read back.
//!
//! Each lane publishes one message at a time and goes on only when it is acknowledged, so that its messages must lie in
//! the stream in the order of their numbers, each once, each where its acknowledgement said.
//!
//! ```text
//! Nats-Msg-Id: 5f3a91c2-17-204       run, lane, number from 0
//! payload:     the id, then filler derived from it
//! ```

use std::fmt;

/// Kept of a run that goes wrong: enough to see the pattern.
const EXAMPLES_MAX: usize = 10;

/// Who published what, by lane; `acked[lane][number]` is the sequence that the acknowledgement named.
#[derive(Debug, Default)]
pub struct Ledger {
    pub run: String,
    pub acked: Vec<Vec<u64>>,
}

/// The id of a message.
pub fn id(run: &str, lane: usize, number: usize) -> String {
    format!("{run}-{lane}-{number}")
}

/// The payload that belongs to an id: itself, filled up to `size` bytes with what only this id fills with.
pub fn payload(id: &str, size: usize) -> Vec<u8> {
    let mut payload = id.as_bytes().to_vec();
    payload.truncate(size);
    let seed =
        id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut state = seed | 1;
    while payload.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        payload.push(b'a' + (state >> 33) as u8 % 26);
    }
    payload
}

/// The result of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub acknowledged: u64,
    pub found: u64,
    pub missing: u64,
    pub doubled: u64,
    pub out_of_order: u64,
    pub examples: Vec<String>,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.missing == 0 && self.doubled == 0 && self.out_of_order == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { acknowledged, found, missing, doubled, out_of_order, .. } = self;
        write!(
            f,
            "acknowledged {acknowledged}  found {found}  missing {missing}  doubled {doubled}  out of order {out_of_order}"
        )
    }
}

/// Compares what is read back with the ledger, message by message in the order of the stream.
pub struct Check<'a> {
    ledger: &'a Ledger,
    /// `found[lane][number]`, beyond the acknowledged ones too.
    found: Vec<Vec<bool>>,
    last_seq: u64,
    size: usize,
    verdict: Verdict,
}

impl<'a> Check<'a> {
    pub fn new(ledger: &'a Ledger, size: usize) -> Check<'a> {
        let found = ledger.acked.iter().map(|lane| vec![false; lane.len()]).collect();
        Check { ledger, found, last_seq: 0, size, verdict: Verdict::default() }
    }

    /// A message as it lies in the stream; those of other runs are passed over.
    pub fn on_message(&mut self, seq: u64, id: &str, payload: &[u8]) {
        if seq <= self.last_seq {
            self.verdict.out_of_order += 1;
            self.example(format!("sequence {seq} was read after {}", self.last_seq));
        }
        self.last_seq = self.last_seq.max(seq);
        let Some((lane, number)) = self.place(id) else { return };
        if payload != self::payload(id, self.size) {
            // Counted as missing at the end: what was acknowledged is not there.
            return self.example(format!("{id} at sequence {seq} has another payload"));
        }
        // One more than acknowledged may be there: the last one, whose acknowledgement nobody saw.
        if number == self.found[lane].len() {
            self.found[lane].push(false);
        }
        if self.found[lane].get(number) != Some(&false) {
            self.verdict.doubled += 1;
            return self.example(format!("{id} is there again, at sequence {seq}"));
        }
        let before = number == 0 || self.found[lane][number - 1];
        let acked = self.ledger.acked[lane].get(number);
        if !before || acked.is_some_and(|acked| *acked != seq) {
            self.verdict.out_of_order += 1;
            self.example(format!("{id} is at sequence {seq}, acknowledged as {acked:?}"));
        }
        self.found[lane][number] = true;
    }

    pub fn finish(mut self) -> Verdict {
        for (lane, acked) in self.ledger.acked.iter().enumerate() {
            self.verdict.acknowledged += acked.len() as u64;
            for (number, seq) in acked.iter().enumerate() {
                if self.found[lane][number] {
                    self.verdict.found += 1;
                } else {
                    self.verdict.missing += 1;
                    self.example(format!("{} is missing, acknowledged as {seq}", id(&self.ledger.run, lane, number)));
                }
            }
        }
        self.verdict
    }

    fn place(&self, id: &str) -> Option<(usize, usize)> {
        let (lane, number) = id.strip_prefix(self.ledger.run.as_str())?.strip_prefix('-')?.split_once('-')?;
        let (lane, number) = (lane.parse::<usize>().ok()?, number.parse::<usize>().ok()?);
        // A number far beyond was never published: it is passed over like a stranger.
        (number <= self.ledger.acked.get(lane)?.len()).then_some((lane, number))
    }

    fn example(&mut self, text: String) {
        if self.verdict.examples.len() < EXAMPLES_MAX {
            self.verdict.examples.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 40;

    /// Two lanes; lane 0 was acknowledged at 1 and 3, lane 1 at 2.
    fn ledger() -> Ledger {
        Ledger { run: "r".into(), acked: vec![vec![1, 3], vec![2]] }
    }

    fn judge(read: &[(u64, &str)]) -> (u64, u64, u64, u64) {
        let ledger = ledger();
        let mut check = Check::new(&ledger, SIZE);
        for (seq, id) in read {
            check.on_message(*seq, id, &payload(id, SIZE));
        }
        let verdict = check.finish();
        assert_eq!(verdict.acknowledged, 3);
        (verdict.found, verdict.missing, verdict.doubled, verdict.out_of_order)
    }

    #[test]
    fn all_there_in_order_is_good() {
        assert_eq!(judge(&[(1, "r-0-0"), (2, "r-1-0"), (3, "r-0-1")]), (3, 0, 0, 0));
    }

    #[test]
    fn one_that_nobody_saw_acknowledged_and_those_of_others_do_no_harm() {
        let read = [(1, "r-0-0"), (2, "r-1-0"), (3, "r-0-1"), (4, "r-1-1"), (5, "other-0-0"), (6, "")];
        assert_eq!(judge(&read), (3, 0, 0, 0));
    }

    #[test]
    fn each_fault_is_counted() {
        assert_eq!(judge(&[(1, "r-0-0"), (3, "r-0-1")]), (2, 1, 0, 0), "missing");
        assert_eq!(judge(&[(1, "r-0-0"), (2, "r-1-0"), (3, "r-0-1"), (4, "r-0-0")]), (3, 0, 1, 0), "doubled");
        assert_eq!(judge(&[(1, "r-0-1"), (2, "r-1-0"), (3, "r-0-0")]), (3, 0, 0, 2), "swapped");
        assert_eq!(judge(&[(1, "r-0-0"), (4, "r-1-0"), (3, "r-0-1")]), (3, 0, 0, 2), "elsewhere");
    }

    #[test]
    fn an_altered_payload_does_not_count_as_found() {
        let ledger = ledger();
        let mut check = Check::new(&ledger, SIZE);
        check.on_message(1, "r-0-0", b"something else");
        let verdict = check.finish();
        assert_eq!(verdict.missing, 3);
        assert!(verdict.examples[0].contains("another payload"), "{:?}", verdict.examples);
        assert!(!verdict.is_good());
    }

    #[test]
    fn payloads_have_the_size_asked_for_and_belong_to_their_id() {
        assert_eq!(payload("r-0-0", 3), b"r-0");
        assert_eq!(payload("r-0-0", 100).len(), 100);
        assert_ne!(payload("r-0-0", 100)[10..], payload("r-0-1", 100)[10..]);
    }
}
