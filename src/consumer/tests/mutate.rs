//! Bytes from a damaged disk: an entry or a checkpoint that was changed is refused or is another valid one; nothing
//! panics, neither while reading nor while applying.

use bytes::Bytes;

use crate::consumer::config::AckPolicy;
use crate::consumer::record::Op;
use crate::consumer::*;
use crate::ids::{AccountId, GroupId, Now};

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn config(ack_policy: AckPolicy) -> ConsumerConfig {
    ConsumerConfig { durable_name: "d".into(), ack_policy, ack_wait: 1_000_000_000, ..Default::default() }
}

fn entry() -> Entry {
    let ops = vec![
        Op::Started { next: 3, resume: 9 },
        Op::Delivered { consumer_seq: 1, stream_seq: 3, count: 1 },
        Op::Delivered { consumer_seq: 2, stream_seq: 300, count: 1 },
        Op::Delivered { consumer_seq: 3, stream_seq: 301, count: 1 },
        Op::Delayed { stream_seq: 3, wait_us: 5_000_000 },
        Op::Progress { stream_seq: 300 },
        Op::Returned { stream_seq: 300 },
        Op::Acked { stream_seq: 300 },
        Op::AckedAll { stream_seq: 301, consumer_seq: 7 },
        Op::Exhausted { stream_seq: 301 },
        Op::Dropped { stream_seq: 3 },
        Op::Trimmed { first: 290 },
        Op::Config(Box::new(config(AckPolicy::Explicit))),
        Op::Delivered { consumer_seq: u64::MAX, stream_seq: u64::MAX, count: u32::MAX },
    ];
    Entry { time_ns: -5, ops }
}

fn consumer(ack_policy: AckPolicy) -> Consumer {
    Consumer::new(GroupId(2), GroupId(1), AccountId(0), "S", "d", config(ack_policy), 1)
}

fn mutated(bytes: &[u8], dice: &mut u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=next(dice) % 3 {
        let at = (next(dice) % bytes.len() as u64) as usize;
        match next(dice) % 4 {
            0 => bytes[at] ^= 1 << (next(dice) % 8),
            1 => bytes[at] = next(dice) as u8,
            2 => bytes.truncate(at.max(1)),
            _ => bytes.insert(at, next(dice) as u8),
        }
    }
    bytes
}

#[test]
fn entries_read_back_as_written() {
    let entry = entry();
    assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
}

#[test]
fn changed_entries_never_panic_and_leave_a_sound_state() {
    let (body, mut dice) = (entry().encode(), 77);
    for round in 0..30_000 {
        let bytes = Bytes::from(mutated(&body, &mut dice));
        let policies = [AckPolicy::Explicit, AckPolicy::All, AckPolicy::None];
        let mut consumer = consumer(policies[round % 3]);
        consumer.appended(1, &body).expect("the whole one");
        if consumer.appended(2, &bytes).is_ok() {
            consumer.apply(Now::default(), 2);
            let checkpoint = consumer.checkpoint();
            consumer.restore(&checkpoint).expect("a sound state reads back");
        }
    }
}

#[test]
fn changed_checkpoints_never_panic() {
    let mut consumer = consumer(AckPolicy::Explicit);
    let ops = (1..40).map(|n| Op::Delivered { consumer_seq: n, stream_seq: n * 7, count: (n % 3) as u32 }).collect();
    consumer.appended(1, &Entry { time_ns: 9, ops }.encode()).expect("a good entry");
    consumer.apply(Now::default(), 1);
    let (checkpoint, mut dice) = (consumer.checkpoint(), 5);
    let mut refused = 0;
    for _ in 0..30_000 {
        let bytes = mutated(&checkpoint, &mut dice);
        match consumer.restore(&bytes) {
            Ok(()) => drop(consumer.fingerprint()),
            Err(Damaged(what)) => refused += usize::from(!what.is_empty()),
        }
    }
    assert!(refused > 10_000, "{refused}");
}
