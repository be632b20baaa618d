//! Publishes numbered messages, many at a time, and knows which were acknowledged; reads a stream back and compares.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Client, PATIENCE, number, wait_for};

/// Messages under way at once.
const WINDOW: usize = 32;

/// One publisher over all its connections. Every message has an id, and one whose answer was lost is sent again.
#[derive(Default)]
pub struct Writer {
    next: u64,
    /// Sent and not answered, oldest first.
    open: VecDeque<u64>,
    again: VecDeque<u64>,
    /// Sequence by message.
    pub acked: BTreeMap<u64, u64>,
    sessions: u64,
    bytes: usize,
}

impl Writer {
    /// `bytes`: of each payload.
    pub fn new(bytes: usize) -> Writer {
        Writer { bytes, ..Writer::default() }
    }

    /// A new connection: what is open is sent again.
    pub fn begin(&mut self, client: &mut Client) {
        self.sessions += 1;
        let open = std::mem::take(&mut self.open);
        self.again.extend(open);
        client.send(&format!("SUB w{}.* 7\r\n", self.sessions));
    }

    fn send_one(&mut self, client: &mut Client) {
        let n = self.again.pop_front().unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        let head = format!("NATS/1.0\r\nNats-Msg-Id: id-{n}\r\n\r\n");
        let (payload, session) = (payload(n, self.bytes), self.sessions);
        let (inner, all) = (head.len(), head.len() + payload.len());
        client.send(&format!("HPUB s.x w{session}.{n} {inner} {all}\r\n{head}{payload}\r\n"));
        self.open.push_back(n);
    }

    /// Publishes until so many more are acknowledged; `Err` with the answer that was no acknowledgement, or with how the
    /// connection ended.
    pub fn write(&mut self, client: &mut Client, count: usize) -> Result<(), String> {
        let goal = self.acked.len() + count;
        while self.acked.len() < goal {
            while self.open.len() < WINDOW && self.acked.len() + self.open.len() < goal {
                self.send_one(client);
            }
            self.answer(client)?;
        }
        Ok(())
    }

    /// The same in a cluster, whose leader may change at any time: what finds nobody there is sent again.
    pub fn insist(&mut self, client: &mut Client, count: usize) {
        let goal = self.acked.len() + count;
        wait_for("acknowledgements", || match self.write(client, goal.saturating_sub(self.acked.len())) {
            Ok(()) => Some(()),
            Err(why) => {
                assert!(is_absence(&why), "{why}");
                None
            }
        });
    }

    /// The same over new connections to that address, however often one ends or a leader is away.
    pub fn persist(&mut self, addr: &str, count: usize) {
        let goal = self.acked.len() + count;
        wait_for("acknowledgements", || {
            let mut client = Client::connect_as(addr, "").ok()?;
            client.set_timeout(Duration::from_secs(5));
            self.begin(&mut client);
            self.write(&mut client, goal - self.acked.len()).ok()
        });
    }

    /// The next answer.
    fn answer(&mut self, client: &mut Client) -> Result<(), String> {
        let message = client.message()?;
        let Some(n) = message.subject.rsplit('.').next().and_then(|n| n.parse::<u64>().ok()) else { return Ok(()) };
        self.open.retain(|one| *one != n);
        match number(&message.payload, "seq").filter(|_| !message.payload.contains("\"error\"")) {
            Some(seq) => {
                let first = *self.acked.entry(n).or_insert(seq);
                assert_eq!(first, seq, "message {n} was acknowledged twice");
                Ok(())
            }
            None => {
                self.again.push_back(n);
                Err(format!("{}{}", message.headers, message.payload))
            }
        }
    }

    /// Waits for the answers to all that is open; refusals do not matter.
    pub fn settle(&mut self, client: &mut Client) {
        while let open @ 1.. = self.open.len() {
            let answer = self.answer(client);
            assert!(self.open.len() < open || answer.is_ok(), "{open} have no answer: {answer:?}");
        }
    }

    /// Sends once more what was sent and not acknowledged, until it is: nothing of it may be stored twice.
    pub fn finish(&mut self, client: &mut Client) {
        self.begin(client);
        let goal = self.acked.len() + self.again.len();
        client.set_timeout(Duration::from_secs(5));
        // Its leader may still be on its way: then nobody is there to answer, which is said at once.
        let written = wait_for("a leader", || {
            let written = self.write(client, goal - self.acked.len());
            let absent = written.as_ref().is_err_and(|refused| is_absence(refused));
            (!absent).then_some(written)
        });
        written.unwrap();
        client.set_timeout(PATIENCE);
    }

    /// Every acknowledged message stands at its place, from `first` on, and nothing stands twice.
    pub fn check(&self, client: &mut Client, first: u64) {
        let by_seq: BTreeMap<u64, u64> = self.acked.iter().map(|(n, seq)| (*seq, *n)).collect();
        assert_eq!(by_seq.len(), self.acked.len(), "a sequence was acknowledged twice");
        let last = self.acked.values().max().copied().unwrap_or(0);
        let info = wait_for("the stream", || {
            let info = client.request("$JS.API.STREAM.INFO.S", "").ok()?;
            (number(&info.payload, "last_seq")? >= last).then_some(info.payload)
        });
        let stored = number(&info, "last_seq").unwrap();
        let mut seen = BTreeSet::new();
        for seq in first..=stored {
            let got = client.request("$JS.API.DIRECT.GET.S", &format!("{{\"seq\":{seq}}}")).unwrap();
            let n = got.payload.split(':').next().and_then(|n| n.parse::<u64>().ok());
            let n = n.unwrap_or_else(|| panic!("message {seq} of {stored}: {} {:?}", got.headers, by_seq.get(&seq)));
            assert!(got.payload == payload(n, self.bytes), "message {seq} has other bytes");
            assert!(seen.insert(n), "message {n} is stored twice");
            assert!(by_seq.get(&seq).is_none_or(|acked| *acked == n), "{seq} was acknowledged for another message");
        }
        let lost: Vec<u64> =
            by_seq.iter().filter(|(seq, n)| **seq >= first && !seen.contains(n)).map(|(s, _)| *s).collect();
        assert_eq!(lost, Vec::<u64>::new(), "acknowledged and not there");
    }
}

/// The answer of a server that knows nobody who takes it.
fn is_absence(answer: &str) -> bool {
    answer.starts_with("NATS/1.0 503")
}

fn payload(n: u64, bytes: usize) -> String {
    let mut text = format!("{n}:");
    let letter = char::from(b'a' + (n % 26) as u8);
    text.extend(std::iter::repeat_n(letter, bytes.saturating_sub(text.len())));
    text
}
