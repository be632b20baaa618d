//! Where the ack floor stands under ack policy `all`.

use super::scenes::explicit;
use crate::consumer::config::AckPolicy;
use crate::consumer::record::Op;
use crate::consumer::state::{Point, State};
use crate::consumer::*;

#[test]
fn the_floor_takes_the_number_of_the_delivery_that_was_acknowledged() {
    let mut state = State::new(ConsumerConfig { ack_policy: AckPolicy::All, ..explicit() });
    state.apply(1, &Op::Started { next: 1, resume: 0 });
    for seq in 1..=5 {
        state.apply(2, &Op::Delivered { consumer_seq: seq, stream_seq: seq, count: 1 });
    }
    // The third message went out again, as delivery number 6.
    state.apply(3, &Op::Delivered { consumer_seq: 6, stream_seq: 3, count: 2 });
    state.apply(4, &Op::AckedAll { stream_seq: 3, consumer_seq: 6 });
    assert_eq!(state.floor, Point { consumer: 6, stream: 3 });
    assert_eq!(state.pending.first().map(|(seq, _)| seq), Some(4));
    // An older delivery takes the floor on and never back; a number that was never given moves nothing.
    state.apply(5, &Op::AckedAll { stream_seq: 4, consumer_seq: 4 });
    assert_eq!(state.floor, Point { consumer: 6, stream: 4 });
    state.apply(6, &Op::AckedAll { stream_seq: 5, consumer_seq: u64::MAX });
    assert_eq!(state.floor, Point { consumer: 6, stream: 5 });
}
