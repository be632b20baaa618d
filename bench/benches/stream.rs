//! A stream's leader from publish to acknowledgement, with a log that is durable at once.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use trestle::ids::{AccountId, GroupId, Now, Place, ServerId};
use trestle::stream::config::StreamLimits;
use trestle::stream::{Publish, Stream, StreamConfig};

/// Publishes that one turn gathers under load.
const BATCH: usize = 500;

pub const NOW: Now = Now { us: 1_000_000, wall_ns: 1_700_000_000_000_000_000 };
pub const HERE: Place = Place { server: ServerId(1), core: 0 };

pub fn ingest_to_apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stream");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("ingest to acknowledgement", |bencher| {
        bencher.iter_batched_ref(leader, |stream| assert_eq!(batch(stream, 1), BATCH), BatchSize::LargeInput);
    });
}

pub fn leader() -> Stream {
    let config = StreamConfig::parse(br#"{"name":"S","subjects":["orders.>"]}"#).expect("a configuration");
    let config = config.defaulted(&StreamLimits::default()).expect("a whole configuration");
    let mut stream = Stream::new(GroupId(7), AccountId(0), config, 1);
    stream.lead(NOW, true);
    stream
}

/// Publishes a batch whose first entry has this index; how many were acknowledged.
pub fn batch(stream: &mut Stream, index: u64) -> usize {
    let payload = Bytes::from_static(&[b'x'; 128]);
    for _ in 0..BATCH {
        let (subject, reply) = (Bytes::from_static(b"orders.created"), Some(Bytes::from_static(b"_INBOX.a1b2c3.17")));
        let refused =
            stream.ingest(NOW, Publish { origin: HERE, subject, reply, headers: None, payload: payload.clone() });
        assert!(refused.is_none());
    }
    let mut last = index;
    for (n, body) in stream.take_entries(NOW).iter().enumerate() {
        last = index + n as u64;
        stream.appended(last, body).expect("its own bytes");
    }
    stream.apply(NOW, last);
    let mut replies = 0;
    while let Some(output) = stream.poll_output() {
        replies += usize::from(matches!(output, trestle::stream::StreamOutput::Reply(_)));
    }
    replies
}
