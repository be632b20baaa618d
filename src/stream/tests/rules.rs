//! The rules one by one; answers in quotes were recorded from nats-server 2.15.1.

use super::*;
use crate::api::errors::{CLUSTER_NOT_AVAIL, INSUFFICIENT_RESOURCES};

const BASIC: &str = r#"{"name":"S","subjects":["foo.>"],"max_msg_size":100}"#;

fn refused(code: u16, err_code: u16, description: &str) -> String {
    format!(r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"{description}"}},"stream":"S","seq":0}}"#)
}

#[test]
fn expectations_are_answered_like_the_peer_does() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"]}"#);
    solo.stream.set_domain(Some("hub".into()));
    assert_eq!(solo.ask("foo.1", "hello", &[]), r#"{"stream":"S","domain":"hub","seq":1}"#);
    let id = [("Nats-Msg-Id", "a")];
    assert_eq!(solo.ask("foo.1", "hello", &id), r#"{"stream":"S","domain":"hub","seq":2}"#);
    assert_eq!(solo.ask("foo.1", "hello", &id), r#"{"stream":"S","domain":"hub","seq":2,"duplicate": true}"#);
    let wrong = refused(400, 10071, "wrong last sequence: 2");
    for (header, value, expected) in [
        ("Nats-Expected-Stream", "X", refused(400, 10060, "expected stream does not match")),
        ("Nats-Expected-Last-Sequence", "9", wrong.clone()),
        ("Nats-Expected-Last-Sequence", "x", wrong.clone()),
        ("Nats-Expected-Last-Msg-Id", "z", refused(400, 10070, "wrong last msg ID: a")),
        ("Nats-Expected-Last-Subject-Sequence", "9", wrong),
        (
            "Nats-Expected-Last-Subject-Sequence-Subject",
            "foo.*",
            refused(400, 10193, "missing sequence for expected last sequence per subject"),
        ),
        ("Nats-Rollup", "sub", refused(500, 10111, "rollup not permitted")),
        ("Nats-TTL", "1s", refused(400, 10166, "per-message TTL is disabled")),
    ] {
        assert_eq!(solo.ask("foo.1", "hello", &[(header, value)]), expected, "{header}: {value}");
    }
    let of = |seq: &'static str, filter: &'static str| {
        [("Nats-Expected-Last-Subject-Sequence", seq), ("Nats-Expected-Last-Subject-Sequence-Subject", filter)]
    };
    assert!(solo.ask("foo.2", "x", &of("2", "foo.1")).contains("\"seq\":3"));
    assert!(solo.ask("foo.2", "x", &of("3", "foo.*")).contains("\"seq\":4"));
    assert!(solo.ask("foo.2", "x", &of("0", "foo.9")).contains("\"seq\":5"));
    assert!(solo.ask("foo.2", "x", &[("Nats-Expected-Last-Sequence", "5")]).contains("\"seq\":6"));
}

#[test]
fn a_repeated_id_and_a_wrong_expectation_are_weighed_as_the_replicas_say() {
    let both = [("Nats-Expected-Last-Sequence", "9"), ("Nats-Expected-Last-Subject-Sequence", "7")];
    let again = [("Nats-Msg-Id", "a"), both[0]];
    for (replicas, of_id, of_both) in [(1, "wrong last sequence: 2", "sequence: 1"), (3, "duplicate", "sequence: 2")] {
        let config = r#"{"name":"S","subjects":["foo.>"],"num_replicas":REPLICAS}"#;
        let mut solo = Solo::new(&config.replace("REPLICAS", &replicas.to_string()));
        assert!(solo.ask("foo.1", "x", &again[..1]).contains("\"seq\":1"));
        assert!(solo.ask("foo.2", "x", &[]).contains("\"seq\":2"));
        let answer = solo.ask("foo.1", "x", &again);
        assert!(answer.contains(of_id), "{replicas}: {answer}");
        let answer = solo.ask("foo.1", "x", &both);
        assert!(answer.contains(of_both), "{replicas}: {answer}");
        // What the last message's id should be is looked at behind the duplicates, always.
        let answer = solo.ask("foo.1", "x", &[again[0], ("Nats-Expected-Last-Msg-Id", "z")]);
        assert!(answer.contains("duplicate"), "{replicas}: {answer}");
    }
}

#[test]
fn size_limits_are_those_of_the_peer() {
    let mut solo = Solo::new(BASIC);
    assert!(solo.ask("foo.1", &"x".repeat(100), &[]).contains("\"seq\":1"));
    assert_eq!(solo.ask("foo.1", &"x".repeat(101), &[]), refused(400, 10054, "message size exceeds maximum allowed"));
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"]}"#);
    let long = "x".repeat(65_600);
    assert_eq!(
        solo.ask("foo.1", "", &[("A", &long)]),
        refused(400, 10097, "header size exceeds maximum allowed of 64k")
    );
}

/// Five messages `foo.N` of five bytes are 130 bytes in memory; three messages with the sizes below were 208 in a file.
#[test]
fn bytes_are_counted_as_the_peer_counts_them() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"],"storage":"memory"}"#);
    (1..=5).for_each(|n| drop(solo.ask(&format!("foo.{n}"), &format!("test{n}"), &[])));
    assert_eq!(solo.stream.state().bytes, 130);
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"]}"#);
    solo.ask("foo.1", "hello", &[]);
    solo.ask("foo.1", "hello", &[("Nats-Msg-Id", "a")]);
    solo.ask("foo.2", "hello", &[("Nats-Expected-Last-Subject-Sequence", "0")]);
    assert_eq!(solo.stream.state().bytes, 208);
}

#[test]
fn a_duplicate_of_a_message_in_flight_waits_for_its_commit() {
    let mut solo = Solo::new(BASIC);
    let id = [("Nats-Msg-Id", "a")];
    assert_eq!(solo.put("foo.1", "x", &id), None);
    assert_eq!(solo.put("foo.1", "x", &id), None);
    solo.append();
    assert_eq!(solo.put("foo.1", "x", &id), None);
    assert_eq!(solo.replies(), Vec::<String>::new());
    solo.commit();
    let again = r#"{"stream":"S","seq":1,"duplicate": true}"#;
    assert_eq!(solo.replies(), [r#"{"stream":"S","seq":1}"#, again, again]);
    assert_eq!(solo.stream.state().messages, 1);
}

#[test]
fn an_id_is_free_again_after_the_window() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"],"duplicate_window":1000000000}"#);
    let id = [("Nats-Msg-Id", "a")];
    solo.ask("foo.1", "x", &id);
    solo.now = at(1000);
    assert!(solo.ask("foo.1", "x", &id).contains("duplicate"));
    solo.now = at(1001);
    assert_eq!(solo.ask("foo.1", "x", &id), r#"{"stream":"S","seq":2}"#);
}

#[test]
fn expected_sequences_see_what_is_in_flight() {
    let mut solo = Solo::new(BASIC);
    assert_eq!(solo.put("foo.1", "x", &[("Nats-Expected-Last-Subject-Sequence", "0")]), None);
    let second = solo.put("foo.1", "x", &[("Nats-Expected-Last-Subject-Sequence", "0")]);
    assert_eq!(second, Some(refused(400, 10071, "wrong last sequence: 1")));
    assert_eq!(solo.put("foo.1", "x", &[("Nats-Expected-Last-Subject-Sequence", "1")]), None);
    assert_eq!(solo.put("foo.2", "x", &[("Nats-Expected-Last-Sequence", "2")]), None);
    solo.commit();
    assert_eq!(solo.replies().len(), 3);
}

#[test]
fn an_expectation_that_a_purge_in_flight_could_change_is_to_be_tried_again() {
    let mut solo = Solo::new(BASIC);
    solo.ask("foo.1", "x", &[]);
    let purge = Purge { filter: bytes("foo.1"), ..Purge::default() };
    assert_eq!(solo.stream.propose_purge(solo.now, purge, None), None);
    let expected = [("Nats-Expected-Last-Subject-Sequence", "1")];
    assert_eq!(solo.put("foo.1", "x", &expected), Some(refused(400, 10164, "wrong last sequence")));
    assert_eq!(solo.put("foo.2", "x", &[("Nats-Expected-Last-Subject-Sequence", "0")]), None);
    solo.commit();
    assert_eq!(solo.replies(), [r#"{"stream":"S","seq":2}"#]);
    assert!(solo.ask("foo.1", "x", &[("Nats-Expected-Last-Subject-Sequence", "0")]).contains("\"seq\":3"));
}

#[test]
fn discard_new_counts_what_is_in_flight() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"],"discard":"new","max_msgs":2}"#);
    assert_eq!(solo.put("foo.1", "x", &[]), None);
    assert_eq!(solo.put("foo.2", "x", &[]), None);
    let full = refused(503, 10077, "maximum messages exceeded");
    assert_eq!(solo.put("foo.3", "x", &[]), Some(full.clone()));
    solo.commit();
    assert_eq!(solo.put("foo.3", "x", &[]), Some(full));
    // 40 bytes each: two fit exactly.
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"],"discard":"new","max_bytes":80}"#);
    assert_eq!(solo.put("foo.1", "12345", &[]), None);
    assert_eq!(solo.put("foo.1", "12345", &[]), None);
    assert_eq!(solo.put("foo.1", "12345", &[]), Some(refused(503, 10077, "maximum bytes exceeded")));
}

#[test]
fn discard_new_per_subject_keeps_the_old_and_lets_roll_ups_pass() {
    let mut solo = Solo::new(
        r#"{"name":"S","subjects":["foo.>"],"discard":"new","discard_new_per_subject":true,"max_msgs_per_subject":1,"allow_rollup_hdrs":true}"#,
    );
    solo.ask("foo.1", "x", &[]);
    assert_eq!(solo.ask("foo.1", "x", &[]), refused(503, 10077, "maximum messages per subject exceeded"));
    assert!(solo.ask("foo.1", "y", &[("Nats-Rollup", "sub")]).contains("\"seq\":2"));
    assert_eq!(solo.seqs(), [2]);
}

#[test]
fn limits_remove_the_oldest() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"],"max_msgs":5,"max_msgs_per_subject":2}"#);
    for n in 0..10 {
        solo.ask(&format!("foo.{}", n % 3), "x", &[]);
    }
    assert_eq!(solo.seqs(), [6, 7, 8, 9, 10]);
    (0..3).for_each(|_| drop(solo.ask("foo.9", "x", &[])));
    assert_eq!(solo.seqs(), [8, 9, 10, 12, 13]);
    assert_eq!(solo.stream.deleted(10), [11]);
}

#[test]
fn roll_ups_replace_what_came_before() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"],"allow_rollup_hdrs":true}"#);
    ["foo.1", "foo.2", "foo.1"].iter().for_each(|subject| drop(solo.ask(subject, "x", &[])));
    assert_eq!(
        solo.ask("foo.1", "x", &[("Nats-Rollup", "some")]),
        refused(500, 10111, r#"rollup value invalid: \"some\""#)
    );
    solo.ask("foo.1", "x", &[("Nats-Rollup", "sub")]);
    assert_eq!(solo.seqs(), [2, 4]);
    solo.ask("foo.3", "x", &[("Nats-Rollup", "all")]);
    assert_eq!(solo.seqs(), [5]);
}

#[test]
fn deletes_and_purges_are_answered_when_applied() {
    let mut solo = Solo::new(BASIC);
    (0..3).for_each(|n| drop(solo.ask(&format!("foo.{n}"), "x", &[])));
    let delete = |solo: &mut Solo, seq| {
        let now = solo.now;
        match solo.stream.propose_delete(now, seq, false, answer("r")) {
            Some(reply) => text(&reply.payload),
            None => {
                solo.commit();
                solo.replies().remove(0)
            }
        }
    };
    let failed = |rest: &str| format!(r#"{{"type":"io.nats.jetstream.api.v1.stream_msg_delete_response",{rest}}}"#);
    assert_eq!(delete(&mut solo, 2), failed(r#""success":true"#));
    assert_eq!(
        delete(&mut solo, 2),
        failed(r#""error":{"code":400,"err_code":10043,"description":"sequence 2 not found"}"#)
    );
    assert_eq!(
        delete(&mut solo, 200),
        failed(r#""error":{"code":500,"err_code":10057,"description":"stream store EOF"}"#)
    );
    assert_eq!(
        delete(&mut solo, 0),
        failed(r#""error":{"code":500,"err_code":10057,"description":"no message found"}"#)
    );
    let purge = |solo: &mut Solo, purge: Purge| {
        let now = solo.now;
        assert_eq!(solo.stream.propose_purge(now, purge, answer("r")), None);
        solo.commit();
        solo.replies().remove(0)
    };
    let purged = |count: u64| {
        format!(r#"{{"type":"io.nats.jetstream.api.v1.stream_purge_response","success":true,"purged":{count}}}"#)
    };
    assert_eq!(purge(&mut solo, Purge { filter: bytes("bar"), ..Purge::default() }), purged(0));
    assert_eq!(purge(&mut solo, Purge { filter: bytes("foo.0"), ..Purge::default() }), purged(1));
    assert_eq!(purge(&mut solo, Purge { seq: 20, ..Purge::default() }), purged(1));
    let state = solo.stream.state();
    assert_eq!((state.first_seq, state.last_seq, state.first_ts), (20, 19, None));
    assert_eq!(solo.ask("foo.1", "x", &[]), r#"{"stream":"S","seq":20}"#);
    (0..4).for_each(|_| drop(solo.ask("foo.1", "x", &[])));
    assert_eq!(purge(&mut solo, Purge { keep: 2, ..Purge::default() }), purged(3));
    assert_eq!(purge(&mut solo, Purge::default()), purged(2));
    assert_eq!((solo.stream.first_seq(), solo.stream.last_seq()), (25, 24));
    assert_eq!(
        delete(&mut solo, 24),
        failed(r#""error":{"code":500,"err_code":10057,"description":"no message found"}"#),
        "below the first message"
    );
}

#[test]
fn sealed_and_denying_streams_refuse_changes() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"],"deny_delete":true,"deny_purge":true}"#);
    solo.ask("foo.1", "x", &[]);
    let now = solo.now;
    let delete = solo.stream.propose_delete(now, 1, false, answer("r")).unwrap();
    assert!(text(&delete.payload).contains("message delete not permitted"));
    let purge = solo.stream.propose_purge(now, Purge::default(), answer("r")).unwrap();
    assert!(text(&purge.payload).contains("stream purge not permitted"));
    let sealed = StreamConfig { sealed: true, ..solo.stream.config().clone() };
    assert_eq!(solo.stream.propose_config(now, sealed, answer("r")), None);
    solo.commit();
    assert_eq!(solo.outputs(), [StreamOutput::ConfigChanged { answer: answer("r") }]);
    assert_eq!(solo.ask("foo.1", "x", &[]), refused(400, 10109, "invalid operation on sealed stream"));
}

#[test]
fn a_smaller_limit_takes_effect_when_the_configuration_changes() {
    let mut solo = Solo::new(BASIC);
    (0..10).for_each(|n| drop(solo.ask(&format!("foo.{}", n % 2), "x", &[])));
    let smaller = StreamConfig { max_msgs_per_subject: 3, max_msgs: 5, ..solo.stream.config().clone() };
    solo.stream.propose_config(solo.now, smaller, None);
    solo.commit();
    assert_eq!(solo.seqs(), [6, 7, 8, 9, 10]);
}

#[test]
fn old_messages_leave_when_the_leader_says_so() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"],"max_age":1000000000}"#);
    for ms in [100, 200, 300] {
        solo.now = at(ms);
        solo.ask("foo.1", "x", &[]);
    }
    assert_eq!(solo.stream.next_wakeup(solo.now), Some(1_100_001));
    solo.now = at(1099);
    assert_eq!(solo.stream.take_entries(solo.now), Vec::<Bytes>::new());
    solo.now = at(1201);
    solo.commit();
    assert_eq!(solo.seqs(), [3]);
    solo.now = at(1400);
    solo.commit();
    assert_eq!(solo.seqs(), Vec::<Seq>::new());
    assert_eq!(solo.stream.next_wakeup(solo.now), None);
    assert_eq!((solo.stream.first_seq(), solo.stream.last_seq()), (4, 3));
}

#[test]
fn time_never_goes_backwards_in_the_log() {
    let mut solo = Solo::new(BASIC);
    solo.now = at(500);
    solo.ask("foo.1", "x", &[]);
    solo.now = at(400);
    solo.ask("foo.1", "x", &[]);
    assert_eq!(solo.stream.time_of(2), Some(500_000_000));
}

/// The wall clock of a leader is set an hour ahead, and later right again. Monotonic time goes on.
#[test]
fn a_clock_that_jumps_ages_messages_by_its_time_and_never_takes_one_early() {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let id = |id| [("Nats-Msg-Id", id)];
    let mut solo =
        Solo::new(r#"{"name":"S","subjects":["foo.>"],"max_age":60000000000,"duplicate_window":30000000000}"#);
    solo.now = at(1_000);
    solo.ask("foo.1", "x", &id("a"));
    let due_us = solo.stream.next_wakeup(solo.now).unwrap();
    assert!(due_us <= 1_000_000 + crate::limits::STREAM_AGE_CHECK_US_MAX, "a jump is noticed within a minute");

    let ahead = |ms| Now { wall_ns: at(ms).wall_ns + HOUR_NS, ..at(ms) };
    solo.now = ahead(2_000);
    solo.ask("foo.1", "x", &id("b"));
    assert_eq!(solo.seqs(), [2], "by the new time the first one is older than a minute");
    assert_eq!(solo.ask("foo.1", "x", &id("b")), r#"{"stream":"S","seq":2,"duplicate": true}"#);
    assert_eq!(solo.ask("foo.1", "x", &id("a")), r#"{"stream":"S","seq":3}"#, "its window is over");

    // Set right: what is stored keeps its time, what comes has at least that, nothing goes early, ids stay known.
    solo.now = at(3_000);
    assert_eq!(solo.ask("foo.1", "x", &id("c")), r#"{"stream":"S","seq":4}"#);
    assert_eq!(solo.stream.time_of(4), Some(ahead(2_000).wall_ns));
    solo.now = at(70_000);
    solo.commit();
    assert_eq!(solo.seqs(), [2, 3, 4]);
    assert_eq!(solo.ask("foo.1", "x", &id("c")), r#"{"stream":"S","seq":4,"duplicate": true}"#);
    // Once the clock has reached the stored times again, all is as ever.
    solo.now = ahead(63_000);
    solo.commit();
    assert_eq!(solo.seqs(), Vec::<Seq>::new());
}

#[test]
fn a_first_sequence_can_be_configured() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"],"first_seq":10}"#);
    let state = solo.stream.state();
    assert_eq!((state.first_seq, state.last_seq), (10, 9));
    assert_eq!(solo.ask("foo.1", "x", &[]), r#"{"stream":"S","seq":10}"#);
}

#[test]
fn a_stream_without_acks_never_answers() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"],"no_ack":true,"max_msg_size":5}"#);
    assert_eq!(solo.put("foo.1", "x", &[]), None);
    assert_eq!(solo.put("foo.1", "too long", &[]), None);
    solo.commit();
    assert_eq!(solo.replies(), Vec::<String>::new());
    assert_eq!(solo.seqs(), [1]);
}

#[test]
fn what_cannot_be_proposed_is_answered_and_leaves_no_trace() {
    let mut solo = Solo::new(BASIC);
    let id = [("Nats-Msg-Id", "a")];
    assert_eq!(solo.put("foo.1", "x", &id), None);
    assert_eq!(solo.put("foo.1", "x", &id), None);
    solo.stream.take_entries(solo.now);
    assert_eq!(solo.put("foo.2", "x", &[]), None);
    solo.stream.refuse_taken(1, &CLUSTER_NOT_AVAIL);
    let told = refused(503, 10008, "JetStream system temporarily unavailable");
    assert_eq!(solo.replies(), [told.clone(), told.clone(), told]);
    assert_eq!(
        solo.ask("foo.1", "x", &[("Nats-Msg-Id", "a"), ("Nats-Expected-Last-Sequence", "0")]),
        r#"{"stream":"S","seq":1}"#
    );
}

#[test]
fn bytes_in_flight_are_bounded() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"]}"#);
    let payload = "x".repeat(1024 * 1024);
    let mut accepted = 0;
    let refusal = loop {
        match solo.put("foo.1", &payload, &[]) {
            None => accepted += 1,
            Some(text) => break text,
        }
        solo.append();
    };
    assert_eq!(refusal, refused(429, 10167, "too many requests"));
    assert_eq!(accepted, 64);
    solo.commit();
    assert_eq!(solo.put("foo.1", &payload, &[]), None);
}

#[test]
fn batches_keep_to_their_bounds_and_order() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"]}"#);
    for n in 0..10_000 {
        assert_eq!(solo.put("foo.1", &n.to_string(), &[]), None);
    }
    solo.commit();
    assert_eq!(solo.log.len(), 3);
    let acks = solo.replies();
    assert_eq!(acks.len(), 10_000);
    assert_eq!(acks[9_999], r#"{"stream":"S","seq":10000}"#);
    assert_eq!(solo.read(4097).unwrap().payload, "4096");
    assert_eq!(solo.stream.locate(4097), Some(At { index: 2, slot: 0 }));
    assert_eq!(solo.stream.locate(10_001), None);
}

#[test]
fn what_was_proposed_before_a_refusal_is_not_refused() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"]}"#);
    for n in 0..10_000 {
        assert_eq!(solo.put("foo.1", "x", &[("Nats-Msg-Id", &n.to_string())]), None);
    }
    let bodies = solo.stream.take_entries(solo.now);
    solo.stream.refuse_taken(bodies.len() - 1, &INSUFFICIENT_RESOURCES);
    assert_eq!(solo.replies().len(), 10_000 - 4096);
    solo.stream.appended(1, &bodies[0]).unwrap();
    solo.next_index = 2;
    assert_eq!(solo.put("foo.1", "y", &[("Nats-Expected-Last-Sequence", "4096")]), None);
    solo.commit();
    let acks = solo.replies();
    assert_eq!((acks.len(), acks[4096].as_str()), (4097, r#"{"stream":"S","seq":4097}"#));
    assert_eq!(solo.ask("foo.1", "z", &[("Nats-Msg-Id", "5000")]), r#"{"stream":"S","seq":4098}"#);
}

#[test]
fn a_new_leader_knows_what_its_log_holds() {
    let mut solo = Solo::new(BASIC);
    solo.put("foo.1", "x", &[("Nats-Msg-Id", "a")]);
    solo.append();
    let mut other = Stream::new(GroupId(7), AccountId(1), solo.stream.config().clone(), 5);
    other.appended(1, &solo.log[0].1).unwrap();
    other.lead(at(2), true);
    let again = publish("foo.1", "x", &[("Nats-Msg-Id", "a")], Some("inbox"));
    assert_eq!(other.ingest(at(2), again), None, "waits for the one in the log");
    let next = publish("foo.1", "y", &[("Nats-Expected-Last-Sequence", "1")], Some("inbox"));
    assert_eq!(other.ingest(at(2), next), None);
    other.take_entries(at(2)).iter().for_each(|body| other.appended(2, body).unwrap());
    other.apply(at(2), 2);
    let acks: Vec<_> = std::iter::from_fn(|| other.poll_output())
        .filter_map(|output| if let StreamOutput::Reply(reply) = output { Some(text(&reply.payload)) } else { None })
        .collect();
    assert_eq!(acks, [r#"{"stream":"S","seq":1,"duplicate": true}"#, r#"{"stream":"S","seq":2}"#]);
}

#[test]
fn a_lost_leadership_answers_nobody_before_it_is_certain() {
    let mut solo = Solo::new(BASIC);
    solo.put("foo.1", "x", &[]);
    solo.append();
    solo.put("foo.2", "x", &[]);
    solo.stream.lead(solo.now, false);
    solo.stream.truncated(1, &CLUSTER_NOT_AVAIL);
    solo.stream.apply(solo.now, 0);
    assert_eq!(solo.outputs(), []);
    // Another's entry is committed in its place, one without a body.
    solo.stream.apply(solo.now, 1);
    let told = solo.replies();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("\"err_code\":10008") && told[0].contains("\"seq\":0"), "{told:?}");
    solo.stream.lead(solo.now, true);
    solo.next_index = 2;
    assert_eq!(solo.ask("foo.3", "x", &[]), r#"{"stream":"S","seq":1}"#);
}

#[test]
fn what_a_former_leader_appended_is_acknowledged_when_its_successor_commits_it() {
    let mut solo = Solo::new(BASIC);
    solo.put("foo.1", "x", &[]);
    solo.append();
    let index = solo.next_index - 1;
    solo.stream.lead(solo.now, false);
    solo.stream.apply(solo.now, index);
    assert_eq!(solo.replies(), [r#"{"stream":"S","seq":1}"#]);
}

#[test]
fn an_entry_that_was_cut_off_and_came_back_is_not_refused() {
    let mut solo = Solo::new(BASIC);
    solo.put("foo.1", "x", &[]);
    solo.append();
    let index = solo.next_index - 1;
    let body = solo.log.last().unwrap().1.clone();
    solo.stream.truncated(index, &CLUSTER_NOT_AVAIL);
    solo.stream.appended(index, &body).unwrap();
    solo.stream.apply(solo.now, index);
    assert_eq!(solo.replies(), [""; 0]);
    // Another message in the place of one that was cut off is another message.
    solo.stream.lead(solo.now, true);
    solo.put("foo.2", "x", &[]);
    solo.append();
    let index = solo.next_index - 1;
    solo.stream.truncated(index, &INSUFFICIENT_RESOURCES);
    let mut other = Solo::new(BASIC);
    other.ask("foo.1", "x", &[]);
    other.put("foo.2", "another", &[]);
    other.append();
    let body = other.log.last().unwrap().1.clone();
    solo.stream.appended(index, &body).unwrap();
    solo.stream.apply(solo.now, index);
    let told = solo.replies();
    assert!(told.len() == 1 && told[0].contains("\"err_code\":10023"), "{told:?}");
}

#[test]
fn damaged_entries_are_named_and_change_nothing() {
    let mut solo = Solo::new(BASIC);
    solo.ask("foo.1", "x", &[]);
    let before = solo.stream.fingerprint();
    solo.stream.lead(solo.now, false);
    let body = solo.log[0].1.clone();
    assert_eq!(solo.stream.appended(1, &body), Err(Damaged("entry index does not rise")));
    assert_eq!(solo.stream.appended(2, &body), Err(Damaged("sequence does not follow the log")));
    assert!(solo.stream.appended(2, &body.slice(..body.len() - 1)).is_err());
    solo.stream.apply(solo.now, 2);
    assert_eq!(solo.stream.fingerprint(), before);
}

#[test]
fn space_is_given_back_only_after_a_durable_checkpoint() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"],"max_msgs_per_subject":1}"#);
    ["foo.1", "foo.2", "foo.2", "foo.2"].iter().for_each(|subject| drop(solo.ask(subject, "x", &[])));
    solo.outputs();
    solo.stream.checkpoint();
    solo.ask("foo.1", "x", &[]);
    solo.outputs();
    solo.stream.checkpointed(4);
    let len = |at: usize| solo.log[at].1.len() as u32;
    let (second, third) = (len(1), len(2));
    assert_eq!(
        solo.outputs(),
        [
            StreamOutput::Released { below_index: 1 },
            StreamOutput::Dead { index: 2, bytes: second },
            StreamOutput::Dead { index: 3, bytes: third },
        ]
    );
    solo.stream.checkpoint();
    solo.stream.checkpointed(5);
    assert_eq!(solo.outputs(), [StreamOutput::Released { below_index: 4 }]);
}

#[test]
fn subjects_are_listed_in_pages() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"]}"#);
    ["foo.c", "foo.a", "foo.b", "foo.a"].iter().for_each(|subject| drop(solo.ask(subject, "x", &[])));
    assert_eq!(solo.stream.subjects(b">", 1, 1), (vec![(bytes("foo.b"), 1)], 3));
    assert_eq!(solo.stream.subjects(b"foo.a", 0, 10), (vec![(bytes("foo.a"), 2)], 1));
    assert_eq!(solo.stream.state().num_subjects, 3);
}

/// Recorded from nats-server 2.15.1 for the same publishes, but for times and the cluster.
#[test]
fn info_has_the_fields_of_the_peer_in_its_order() {
    let mut solo = Solo::new(BASIC);
    solo.stream.set_domain(Some("hub".into()));
    (0..3).for_each(|n| drop(solo.ask(["foo.1", "foo.1", "foo.2"][n], "hello", &[])));
    solo.stream.propose_delete(solo.now, 2, false, None);
    solo.commit();
    let request = serde_json::from_str(r#"{"subjects_filter":"foo.1","deleted_details":true,"offset":0}"#).unwrap();
    let mut info = solo.stream.info(&request);
    info.kind = Some(crate::stream::info::TYPE_INFO);
    let json = serde_json::to_string(&info).unwrap();
    let start = r#"{"type":"io.nats.jetstream.api.v1.stream_info_response","total":1,"offset":0,"limit":100000,"config":{"name":"S","subjects":["foo.>"],"#;
    assert!(json.starts_with(start), "{json}");
    let end = r#""created":"1970-01-01T00:00:00.000000005Z","state":{"messages":2,"bytes":80,"first_seq":1,"first_ts":"1970-01-01T00:00:00.001Z","last_seq":3,"last_ts":"1970-01-01T00:00:00.001Z","num_subjects":2,"subjects":{"foo.1":1},"num_deleted":1,"deleted":[2],"consumer_count":0},"domain":"hub","ts":"1970-01-01T00:00:00Z"}"#;
    assert!(json.ends_with(end), "{json}");
}

#[test]
fn changed_checkpoints_never_panic() {
    let mut solo = Solo::new(r#"{"name":"S","subjects":["foo.>"],"max_msgs_per_subject":1}"#);
    for n in 0..20 {
        solo.ask(&format!("foo.{}", n % 7), "x", &[("Nats-Msg-Id", &n.to_string())]);
    }
    let checkpoint = solo.stream.checkpoint();
    for at in 0..checkpoint.len() {
        for byte in [0, 1, 0x7f, 0xff] {
            let mut other = checkpoint.to_vec();
            other[at] = byte;
            let mut stream = Stream::new(GroupId(7), AccountId(1), config(BASIC), 5);
            if stream.restore(&other).is_ok() {
                let fed = solo.log.iter().all(|(index, body)| stream.recover_entry(*index, body).is_ok());
                let _ = fed && stream.recovered(Now::default(), 20).is_ok();
            }
        }
        let mut stream = Stream::new(GroupId(7), AccountId(1), config(BASIC), 5);
        assert!(stream.restore(&checkpoint[..at]).is_err());
    }
}

#[test]
fn a_missing_entry_is_noticed_and_can_be_brought_later() {
    let mut solo = Solo::new(BASIC);
    (0..3).for_each(|_| drop(solo.ask("foo.1", "x", &[])));
    let checkpoint = solo.stream.checkpoint();
    let mut stream = Stream::new(GroupId(7), AccountId(1), config(BASIC), 5);
    stream.recover_entry(3, &solo.log[2].1).unwrap();
    stream.restore(&checkpoint).unwrap();
    stream.recover_entry(1, &solo.log[0].1).unwrap();
    assert_eq!(stream.recovered(at(1), 3), Err(Damaged("entries that hold messages are missing")));
    stream.recover_entry(2, &solo.log[1].1).unwrap();
    assert_eq!(stream.recovered(at(1), 3), Ok(()));
    assert_eq!(stream.fingerprint(), solo.stream.fingerprint());
}
