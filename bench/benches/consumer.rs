//! A pull consumer: what one turn of deliveries and one of acknowledgements cost.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use trestle::consumer::config::ConsumerConfig;
use trestle::consumer::{Consumer, ConsumerOutput, PullRequest};
use trestle::ids::{AccountId, GroupId};

use crate::stream::{HERE, NOW, batch, leader};

/// Messages of one pull.
const PULL: u64 = 500;

pub fn deliveries(criterion: &mut Criterion) {
    let mut stream = leader();
    batch(&mut stream, 1);
    let mut group = criterion.benchmark_group("consumer");
    group.throughput(Throughput::Elements(PULL));
    group.bench_function("pull, deliver and acknowledge", |bencher| {
        bencher.iter_batched_ref(
            || {
                let config: ConsumerConfig = serde_json::from_str(
                    r#"{"durable_name":"c","ack_policy":"explicit","ack_wait":30000000000,"max_ack_pending":1000}"#,
                )
                .expect("a configuration");
                let mut consumer = Consumer::new(GroupId(8), GroupId(7), AccountId(0), "S", "c", config, 1);
                consumer.lead(NOW, true, &stream);
                consumer
            },
            |consumer| {
                let request = PullRequest { batch: PULL as i64, ..PullRequest::default() };
                consumer.on_next(NOW, HERE, Bytes::from_static(b"_INBOX.a.1"), request);
                consumer.turn(NOW, &stream);
                let mut acks = Vec::with_capacity(PULL as usize);
                drain(consumer, &mut acks);
                assert_eq!(acks.len() as u64, PULL);
                for ack in &acks {
                    consumer.on_ack(NOW, ack, b"+ACK", None);
                }
                consumer.turn(NOW, &stream);
                drain(consumer, &mut Vec::new());
            },
            BatchSize::LargeInput,
        );
    });
}

fn drain(consumer: &mut Consumer, acks: &mut Vec<Bytes>) {
    let mut index = consumer.applied();
    while let Some(output) = consumer.poll_output() {
        match output {
            ConsumerOutput::Deliver(delivery) => acks.push(delivery.ack_subject),
            ConsumerOutput::Propose(body) => {
                index += 1;
                consumer.appended(index, &body).expect("its own bytes");
                consumer.apply(NOW, index);
            }
            _ => {}
        }
    }
}
