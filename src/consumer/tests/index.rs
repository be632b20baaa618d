//! The stream's own index, behind the same trait, answers like the tape.

use bytes::Bytes;

use super::tape::Tape;
use crate::consumer::Source;
use crate::ids::{AccountId, GroupId, Now, Place, Seq, ServerId};
use crate::stream::{Filters, Publish, Stream, StreamConfig, StreamLimits};

struct Pair {
    stream: Stream,
    tape: Tape,
    index: u64,
    now: Now,
}

impl Pair {
    fn new() -> Pair {
        let config = StreamConfig::parse(br#"{"name":"S","subjects":["a.>","b.>"]}"#).expect("a config");
        let config = config.defaulted(&StreamLimits::default()).expect("a good one");
        let mut stream = Stream::new(GroupId(1), AccountId(0), config, 1);
        stream.lead(Now::default(), true);
        Pair { stream, tape: Tape::new(), index: 0, now: Now { us: 1, wall_ns: 1_000 } }
    }

    fn commit(&mut self) {
        for body in self.stream.take_entries(self.now) {
            self.index += 1;
            self.stream.appended(self.index, &body).expect("own entry");
        }
        self.stream.apply(self.now, self.index);
        while self.stream.poll_output().is_some() {}
    }

    fn publish(&mut self, subject: &str, payload: &'static [u8]) {
        self.now.wall_ns += 10;
        let publish = Publish {
            origin: Place { server: ServerId(1), core: 0 },
            subject: Bytes::copy_from_slice(subject.as_bytes()),
            reply: None,
            headers: None,
            payload: Bytes::from_static(payload),
        };
        assert_eq!(self.stream.ingest(self.now, publish), None);
        self.tape.publish(subject, self.now.wall_ns, (subject.len() + payload.len()) as u64);
        self.commit();
    }

    fn delete(&mut self, seq: Seq) {
        if self.tape.contains(seq) {
            self.stream.propose_delete(self.now, seq, false, None);
            self.tape.delete(seq);
            self.commit();
        }
    }

    fn compare(&self) {
        let (stream, tape) = (&self.stream, &self.tape);
        assert_eq!(Source::last_seq(stream), tape.last_seq());
        assert_eq!(Source::first_seq(stream).max(1), tape.first_seq());
        assert_eq!(stream.holes(), tape.holes());
        let last = tape.last_seq() + 2;
        for seq in 0..=last {
            assert_eq!(stream.contains(seq), tape.contains(seq), "{seq}");
            assert_eq!(Source::time_of(stream, seq), tape.time_of(seq), "{seq}");
            assert_eq!(Source::size_of(stream, seq), tape.size_of(seq), "{seq}");
        }
        for filters in [vec![], vec!["a.*"], vec!["a.1", "b.>"], vec!["c"], vec![">"]] {
            let filters = Filters::new(filters.into_iter().map(|filter| Bytes::from_static(filter.as_bytes())));
            assert_eq!(Source::last_match(stream, &filters), tape.last_match(&filters));
            assert_eq!(Source::last_per_subject(stream, &filters), tape.last_per_subject(&filters));
            for seq in 0..=last {
                assert_eq!(Source::next_match(stream, seq, &filters), tape.next_match(seq, &filters), "{seq}");
                assert_eq!(Source::count_from(stream, seq, &filters), tape.count_from(seq, &filters), "{seq}");
            }
        }
        for time_ns in (900..self.now.wall_ns + 20).step_by(5) {
            assert_eq!(Source::seq_at_time(stream, time_ns), tape.seq_at_time(time_ns), "{time_ns}");
        }
    }
}

#[test]
fn the_streams_index_answers_like_the_tape() {
    let mut pair = Pair::new();
    pair.compare();
    for n in 0..60u64 {
        let subject = ["a.1", "b.2", "a.1.x", "a.2", "b.1.1"][(n * 7 % 5) as usize];
        pair.publish(subject, b"payload");
        if n % 3 == 2 {
            pair.delete(1 + n * 5 % (n + 1));
        }
        if n % 6 == 0 {
            pair.compare();
        }
    }
    pair.compare();
}
