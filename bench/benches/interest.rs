//! Who listens to a subject, among ten thousand filters.

use criterion::{Criterion, Throughput};
use net::sublist::{Matches, Sublist};

const FILTERS: usize = 10_000;
const SUBJECTS: usize = 1_000;

pub fn matching(criterion: &mut Criterion) {
    let subjects: Vec<String> = (0..SUBJECTS).map(|n| format!("orders.{}.created", n * 7 % FILTERS)).collect();
    let mut group = criterion.benchmark_group("interest");
    group.throughput(Throughput::Elements(SUBJECTS as u64));
    for (name, recent_max) in [("subjects seen before", SUBJECTS * 4), ("subjects never seen", 0)] {
        let mut list = filled(recent_max);
        let mut matches = Matches::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut found = 0;
                for subject in &subjects {
                    list.matches(subject.as_bytes(), &mut matches);
                    found += matches.count();
                }
                assert!(found >= SUBJECTS);
            });
        });
    }
}

fn filled(recent_max: usize) -> Sublist<u32> {
    let mut list = Sublist::with_recent(1, recent_max);
    for n in 0..FILTERS {
        list.insert(format!("orders.{n}.*").as_bytes(), None, n as u32);
    }
    list.insert(b"orders.>", None, u32::MAX);
    list
}
