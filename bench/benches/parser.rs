//! One read of a busy publisher, taken apart.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput};
use net::client::intake::Intake;
use net::client::parse::{Limits, Parser, Role};

/// Operations that fit into one read of 64 KiB.
const OPERATIONS: usize = 400;

pub fn publishes(criterion: &mut Criterion) {
    let one = format!("PUB orders.created _INBOX.a1b2c3.17 128\r\n{}\r\n", "x".repeat(128));
    let read = Bytes::from(one.repeat(OPERATIONS));
    let mut group = criterion.benchmark_group("parser");
    group.throughput(Throughput::Elements(OPERATIONS as u64));
    group.bench_function("publishes of 128 bytes", |bencher| {
        bencher.iter_batched_ref(
            || Intake::new(Parser::new(Role::Server, Limits::default())),
            |intake| {
                intake.push(read.clone());
                let mut seen = 0;
                while let Ok(Some(_)) = intake.poll() {
                    seen += 1;
                }
                assert_eq!(seen, OPERATIONS);
            },
            BatchSize::SmallInput,
        );
    });
}
