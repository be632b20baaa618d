//! Whole streams: a cluster of replicas over a made-up log against a dumb twin, and the rules one by one.

mod rules;
mod twin;

use bytes::Bytes;

use super::*;
use crate::ids::{Now, ServerId};

const HERE: Place = Place { server: ServerId(1), core: 0 };

fn config(json: &str) -> StreamConfig {
    let limits = StreamLimits { clustered: true, ..StreamLimits::default() };
    StreamConfig::parse(json.as_bytes()).unwrap().defaulted(&limits).unwrap()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn at(ms: u64) -> Now {
    Now { us: ms * 1000, wall_ns: ms as i64 * 1_000_000 }
}

fn publish(subject: &str, payload: &str, headers: &[(&str, &str)], reply: Option<&str>) -> Publish {
    let block = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>();
    Publish {
        origin: HERE,
        subject: bytes(subject),
        reply: reply.map(bytes),
        headers: (!headers.is_empty()).then(|| Bytes::from(format!("NATS/1.0\r\n{block}\r\n"))),
        payload: bytes(payload),
    }
}

fn answer(subject: &str) -> Option<Answer> {
    Some(Answer { to: HERE, account: AccountId(1), subject: bytes(subject) })
}

/// A leader with a log of its own: what it proposes is appended, and committed on demand.
struct Solo {
    stream: Stream,
    log: Vec<(u64, Bytes)>,
    next_index: u64,
    now: Now,
}

impl Solo {
    fn new(json: &str) -> Solo {
        let mut stream = Stream::new(GroupId(7), AccountId(1), config(json), 5);
        stream.lead(at(0), true);
        Solo { stream, log: Vec::new(), next_index: 1, now: at(1) }
    }

    /// Appends what is queued without committing it.
    fn append(&mut self) {
        for body in self.stream.take_entries(self.now) {
            self.stream.appended(self.next_index, &body).unwrap();
            self.log.push((self.next_index, body));
            self.next_index += 1;
        }
    }

    /// Appends and commits everything.
    fn commit(&mut self) {
        self.append();
        self.stream.apply(self.now, self.next_index - 1);
    }

    /// Publishes with a reply; the immediate answer, if there is one.
    fn put(&mut self, subject: &str, payload: &str, headers: &[(&str, &str)]) -> Option<String> {
        let reply = self.stream.ingest(self.now, publish(subject, payload, headers, Some("inbox")))?;
        Some(text(&reply.payload))
    }

    /// Publishes, commits, and returns the one answer.
    fn ask(&mut self, subject: &str, payload: &str, headers: &[(&str, &str)]) -> String {
        match self.put(subject, payload, headers) {
            Some(text) => text,
            None => {
                self.commit();
                let mut replies = self.replies();
                assert_eq!(replies.len(), 1, "one answer for one publish");
                replies.remove(0)
            }
        }
    }

    fn outputs(&mut self) -> Vec<StreamOutput> {
        std::iter::from_fn(|| self.stream.poll_output()).collect()
    }

    fn replies(&mut self) -> Vec<String> {
        let replies = self.outputs().into_iter().filter_map(|output| match output {
            StreamOutput::Reply(reply) => Some(text(&reply.payload)),
            _ => None,
        });
        replies.collect()
    }

    fn read(&self, seq: Seq) -> Option<StoredMessage> {
        let at = self.stream.locate(seq)?;
        let body = &self.log.iter().find(|(index, _)| *index == at.index)?.1;
        message(body, at.slot).ok()
    }

    fn seqs(&self) -> Vec<Seq> {
        let mut seqs = Vec::new();
        while let Some(seq) = self.stream.next_match(seqs.last().map_or(0, |last| last + 1), &Filters::all()) {
            seqs.push(seq);
        }
        seqs
    }
}

fn text(payload: &Bytes) -> String {
    String::from_utf8(payload.to_vec()).unwrap()
}
