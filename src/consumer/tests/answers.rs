//! Scenes of what clients are told, where the peer's habits are not what one would guess.

use bytes::Bytes;

use super::scenes::{Scene, explicit};
use super::tape::Tape;
use crate::consumer::config::{AckPolicy, DeliverPolicy, ReplayPolicy};
use crate::consumer::cursor::Start;
use crate::consumer::*;
use crate::ids::{AccountId, GroupId};
use crate::stream::Filters;

#[test]
fn what_is_no_verb_is_answered_and_does_nothing() {
    let mut scene = Scene::new(explicit(), 1);
    scene.pull("p", "1");
    assert_eq!(scene.say(1, "+ACK ", Some("x")), "x: ");
    assert_eq!(scene.info().num_ack_pending, 1);
}

#[test]
fn a_consumer_without_acks_has_nobody_for_them() {
    let mut scene = Scene::new(ConsumerConfig { ack_policy: AckPolicy::None, ..explicit() }, 1);
    scene.pull("p", "1");
    assert_eq!(scene.say(1, "", Some("x")), "x: 503|Nats-Subject: $JS.ACK.S.c.1.1.1.1.0");
}

#[test]
fn of_what_ends_a_message_only_acks_are_sampled() {
    let mut scene = Scene::new(ConsumerConfig { sample_freq: "100%".into(), ..explicit() }, 2);
    scene.pull("p", "2");
    assert_eq!(scene.say(1, "+TERM", None), "ADVISORY.CONSUMER.MSG_TERMINATED.S.c");
    assert_eq!(scene.say(2, "", None), "METRIC.CONSUMER.ACK.S.c");
}

#[test]
fn a_replay_keeps_the_gaps_of_what_was_there_when_it_began() {
    let mut scene = Scene::new(ConsumerConfig { replay_policy: ReplayPolicy::Original, ..explicit() }, 0);
    for (at_ms, subject) in [(0, "a"), (500, "b"), (500, "c"), (800, "d")] {
        scene.tape.publish(subject, 1_000_000 * at_ms, 20);
    }
    scene.consumer.lead(scene.now, false, &scene.tape);
    scene.consumer.lead(scene.now, true, &scene.tape);
    assert_eq!(scene.pull("p", "9"), "p<-1.1.1.0.3");
    assert_eq!(scene.consumer.next_wakeup(), Some(scene.now.us + 500_000));
    scene.pass(499_999);
    assert_eq!(scene.turn(), "");
    scene.pass(1);
    assert_eq!(scene.turn(), "p<-1.2.2.500000000.2; p<-1.3.3.500000000.1");
    assert_eq!(scene.say(2, "-NAK", None), "ADVISORY.CONSUMER.MSG_NAKED.S.c; p<-2.2.4.500000000.1", "again, at once");
    scene.pass(300_000);
    assert_eq!(scene.turn(), "p<-1.4.5.800000000.0");
    scene.tape.publish("e", 900_000_000_000, 20);
    assert_eq!(scene.turn(), "p<-1.5.6.900000000000.0", "newer ones wait for nothing");
}

#[test]
fn a_follower_knows_that_a_leader_has_begun() {
    let config = explicit();
    let mut follower = Consumer::new(GroupId(2), GroupId(1), AccountId(0), "S", "c", config.clone(), 1);
    assert!(!follower.has_begun());
    let mut scene = Scene::new(config, 1);
    assert!(scene.consumer.has_begun());
    follower.restore(&scene.consumer.checkpoint()).expect("own checkpoint");
    assert!(follower.has_begun());
}

#[test]
fn a_replicated_consumer_says_what_a_pull_that_does_not_wait_did_not_get() {
    let mut scene = Scene::new(explicit(), 1);
    scene.consumer.set_replicated(true);
    let body = "{\"batch\":3,\"no_wait\":true}";
    assert_eq!(scene.pull("p", body), "p<-1.1.1.1.0; p: 408 Request Timeout|Messages: 2|Bytes: 0");
    assert_eq!(scene.pull("q", body), "q: 404 No Messages", "it got none");
}

#[test]
fn pulls_of_an_inbox_without_listeners_go_silently() {
    let mut scene = Scene::new(explicit(), 0);
    scene.pull("p", "1");
    scene.pull("q", "1");
    assert!(scene.consumer.drop_unheard(&mut |_, inbox| inbox == b"p"));
    assert!(!scene.consumer.drop_unheard(&mut |_, inbox| inbox == b"p"));
    assert_eq!((scene.turn(), scene.info().num_waiting), (String::new(), 1));
    scene.tape.publish("a", 1, 20);
    assert_eq!(scene.turn(), "q<-1.1.1.1.0");
}

#[test]
fn a_request_is_told_its_own_numbers() {
    let mut scene = Scene::new(explicit(), 0);
    scene.pull("p", "{\"expires\":1000000,\"max_bytes\":-1}");
    scene.pass(1_000);
    assert_eq!(scene.turn(), "p: 408 Request Timeout|Messages: 0|Bytes: -1");
    scene.pull("q", "{\"batch\":0}");
    scene.tape.publish("a", 1, 20);
    assert_eq!(scene.turn(), "q<-1.1.1.1.0", "none is one");
}

#[test]
fn a_deleted_message_counts_as_the_last_activity_of_acks() {
    let mut scene = Scene::new(explicit(), 2);
    scene.pull("p", "2");
    assert_eq!(scene.info().ack_floor.last_active, None);
    scene.tape.delete(2);
    scene.turn();
    assert!(scene.info().ack_floor.last_active.is_some());
}

#[test]
fn a_start_time_before_the_first_match_starts_there() {
    let mut tape = Tape::new();
    for (at, subject) in [(10, "a"), (20, "b"), (30, "b"), (40, "a")] {
        tape.publish(subject, at, 20);
    }
    let start = |filter: &str| {
        let config = ConsumerConfig {
            deliver_policy: DeliverPolicy::ByStartTime,
            opt_start_time: Some(jiff::Timestamp::from_nanosecond(5).expect("a time")),
            filter_subject: filter.into(),
            ..explicit()
        };
        Start::choose(&config, &tape, &Filters::new(config.filters().into_iter().map(Bytes::from))).next
    };
    assert_eq!((start(""), start("a"), start("b"), start("c")), (1, 1, 2, 1));
}

#[test]
fn last_without_a_filter_is_the_last_sequence_there_or_not() {
    let start = |filter: &str| {
        let config =
            ConsumerConfig { deliver_policy: DeliverPolicy::Last, filter_subject: filter.into(), ..explicit() };
        let mut tape = Tape::new();
        for n in 1..=3 {
            tape.publish("a", n, 20);
        }
        tape.delete(3);
        Start::choose(&config, &tape, &Filters::new(config.filters().into_iter().map(Bytes::from))).next
    };
    assert_eq!((start(""), start("a")), (3, 2));
}

#[test]
fn messages_that_expire_end_one_by_one_and_deliver_nothing() {
    let mut scene = Scene::new(explicit(), 4);
    scene.pull("p", "2");
    scene.tape.purge(5);
    let told = "ADVISORY.CONSUMER.MSG_TERMINATED.S.c";
    assert_eq!(scene.turn(), format!("{told}; {told}"));
    let info = scene.info();
    assert_eq!((info.delivered.stream_seq, info.ack_floor.stream_seq, info.num_ack_pending), (2, 2, 0));
}
