//! The parts that every message passes through, one at a time and without IO: `cargo bench -p trestle-bench`.
//!
//! They say which change made a part slower; what a server does as a whole is `trestle-bench compare`'s business.

mod consensus;
mod consumer;
mod interest;
mod log;
mod parser;
mod stream;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    hot,
    parser::publishes,
    interest::matching,
    stream::ingest_to_apply,
    log::appends,
    consensus::three_nodes,
    consumer::deliveries
);
criterion_main!(hot);
