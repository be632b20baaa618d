//! Scenes with one replica: what goes in, and every output as text.

use bytes::Bytes;

use super::tape::Tape;
use crate::consumer::config::{AckPolicy, DeliverPolicy};
use crate::consumer::*;
use crate::ids::{AccountId, GroupId, Now, Place, Seq, ServerId};

pub(super) struct Scene {
    pub now: Now,
    pub tape: Tape,
    pub consumer: Consumer,
    index: u64,
    /// Entries stay uncommitted while set.
    hold: bool,
    last: Vec<Delivery>,
}

fn place() -> Place {
    Place { server: ServerId(1), core: 0 }
}

pub(super) fn explicit() -> ConsumerConfig {
    ConsumerConfig {
        durable_name: "c".into(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: 30_000_000_000,
        max_deliver: -1,
        max_ack_pending: 1000,
        max_waiting: 3,
        ..Default::default()
    }
}

impl Scene {
    /// A stream with `messages` messages of 20 bytes, subjects `a.1`, `a.2`, `a.0`, `a.1`, …
    pub fn new(config: ConsumerConfig, messages: u64) -> Scene {
        let mut tape = Tape::new();
        for n in 1..=messages {
            tape.publish(&format!("a.{}", n % 3), n as i64, 20);
        }
        let consumer = Consumer::new(GroupId(2), GroupId(1), AccountId(0), "S", "c", config, 1_700_000_000_000_000_000);
        let now = Now { us: 10_000_000, wall_ns: 1_700_000_000_000_000_000 };
        let mut scene = Scene { now, tape, consumer, index: 0, hold: false, last: vec![] };
        scene.consumer.lead(now, true, &scene.tape);
        assert_eq!(scene.turn(), "");
        scene
    }

    pub fn pass(&mut self, us: u64) {
        self.now.us += us;
        self.now.wall_ns += us as i64 * 1000;
    }

    /// A pull request in JSON; its inbox is `inbox`.
    pub fn pull(&mut self, inbox: &'static str, body: &str) -> String {
        match PullRequest::parse(body.as_bytes()) {
            Ok(request) => self.consumer.on_next(self.now, place(), Bytes::from(inbox), request),
            Err(status) => self.consumer.refuse(place(), Bytes::from(inbox), &status),
        }
        self.turn()
    }

    /// Says something about the latest delivery of a message.
    pub fn say(&mut self, seq: Seq, payload: &str, answer: Option<&'static str>) -> String {
        let delivery = self.last.iter().rev().find(|delivery| delivery.seq == seq).expect("it was delivered");
        let answer = answer.map(|inbox| (place(), Bytes::from(inbox)));
        self.consumer.on_ack(self.now, &delivery.ack_subject, payload.as_bytes(), answer);
        self.turn()
    }

    /// Runs a turn and commits; all outputs but proposals, in order.
    pub fn turn(&mut self) -> String {
        let mut lines = vec![];
        self.consumer.turn(self.now, &self.tape);
        while let Some(output) = self.consumer.poll_output() {
            match output {
                ConsumerOutput::Propose(body) => {
                    self.index += 1;
                    self.consumer.appended(self.index, &body).expect("own entry");
                    if !self.hold {
                        self.consumer.apply(self.now, self.index);
                    }
                }
                other => lines.push(self.line(other)),
            }
        }
        lines.join("; ")
    }

    fn line(&mut self, output: ConsumerOutput) -> String {
        match output {
            ConsumerOutput::Deliver(delivery) => {
                let ack = String::from_utf8_lossy(&delivery.ack_subject).replace("$JS.ACK.S.c.", "");
                let inbox = String::from_utf8_lossy(&delivery.inbox).into_owned();
                self.last.push(delivery);
                format!("{inbox}<-{ack}")
            }
            ConsumerOutput::Reply(reply) => {
                let headers = reply.headers.unwrap_or_default();
                let text = String::from_utf8_lossy(&headers).replace("NATS/1.0 ", "").replace("\r\n", "|");
                let text = text.trim_end_matches('|').replace("Nats-Pending-", "");
                format!("{}: {text}", String::from_utf8_lossy(&reply.subject))
            }
            ConsumerOutput::Advisory(advisory) => advisory.subject.replace("$JS.EVENT.", ""),
            ConsumerOutput::Probe { inbox, .. } => format!("{}?", String::from_utf8_lossy(&inbox)),
            ConsumerOutput::Expired => "expired".into(),
            ConsumerOutput::Released { below_index } => format!("released {below_index}"),
            ConsumerOutput::Propose(_) => unreachable!("handled by the caller"),
        }
    }

    pub fn info(&self) -> ConsumerInfo {
        self.consumer.info(self.now, &self.tape, None)
    }
}

#[test]
fn a_pull_gets_its_batch_in_order_with_what_is_left() {
    let mut scene = Scene::new(explicit(), 3);
    assert_eq!(scene.pull("p", "2"), "p<-1.1.1.1.2; p<-1.2.2.2.1");
    assert_eq!(scene.pull("q", ""), "q<-1.3.3.3.0");
    assert_eq!(scene.pull("r", "{\"batch\":5,\"no_wait\":true}"), "r: 404 No Messages");
}

#[test]
fn waiting_pulls_share_the_messages() {
    let mut scene = Scene::new(explicit(), 0);
    assert_eq!(scene.pull("p", "2") + &scene.pull("q", "2"), "");
    for seq in 1..=3 {
        scene.tape.publish("a", seq, 10);
    }
    assert_eq!(scene.turn(), "p<-1.1.1.1.2; q<-1.2.2.2.1; p<-1.3.3.3.0");
}

#[test]
fn pulls_end_with_the_peers_words() {
    let mut scene = Scene::new(explicit(), 0);
    assert_eq!(scene.pull("p", "{\"batch\":4,\"max_bytes\":99,\"expires\":2000000,\"idle_heartbeat\":1000000}"), "");
    assert_eq!(scene.consumer.next_wakeup(), Some(scene.now.us + 1000));
    scene.pass(1000);
    assert_eq!(scene.turn(), "p: 100 Idle Heartbeat|Nats-Last-Consumer: 0|Nats-Last-Stream: 0");
    scene.pass(1000);
    assert_eq!(scene.turn(), "p: 408 Request Timeout|Messages: 4|Bytes: 99");
    assert_eq!(
        scene.pull("q", "{\"batch\":1,\"idle_heartbeat\":6,\"expires\":10}"),
        "q: 400 Bad Request - heartbeat value too large"
    );
    assert_eq!(scene.pull("a", "1") + &scene.pull("b", "1") + &scene.pull("c", "1"), "");
    assert_eq!(scene.pull("d", "1"), "a?; b?; c?; d: 409 Exceeded MaxWaiting");
    assert_eq!(scene.pull("e", "{\"batch\":1,\"idle_heartbeat\":1000000,\"expires\":9000000000}"), "");
    scene.consumer.deleted();
    assert_eq!(scene.turn(), "a: 409 Consumer Deleted; b: 409 Consumer Deleted; c: 409 Consumer Deleted");
}

#[test]
fn a_leader_that_steps_down_says_so_to_waiting_pulls() {
    let mut scene = Scene::new(explicit(), 0);
    scene.pull("p", "1");
    scene.consumer.lead(scene.now, false, &scene.tape);
    assert_eq!(scene.turn(), "p: 409 Leadership Change");
    assert_eq!(scene.consumer.next_wakeup(), None);
}

#[test]
fn a_pull_takes_as_many_bytes_as_it_asked_for() {
    let mut scene = Scene::new(explicit(), 3);
    // 20 bytes of message and 21 of ack subject each.
    assert_eq!(scene.pull("p", "{\"batch\":5,\"max_bytes\":41}"), "p<-1.1.1.1.2");
    assert_eq!(
        scene.pull("q", "{\"batch\":5,\"max_bytes\":60}"),
        "q<-1.2.2.2.1; q: 409 Message Size Exceeds MaxBytes|Messages: 4|Bytes: 19"
    );
    assert_eq!(
        scene.pull("r", "{\"batch\":1,\"max_bytes\":100}"),
        "r<-1.3.3.3.0; r: 409 Batch Completed|Messages: 0|Bytes: 59"
    );
}

#[test]
fn no_wait_waits_for_nothing() {
    let mut scene = Scene::new(explicit(), 2);
    let batch = "{\"batch\":5,\"no_wait\":true}";
    assert_eq!(scene.pull("p", batch), "p<-1.1.1.1.1; p<-1.2.2.2.0; p: 404 No Messages");
    assert_eq!(scene.pull("q", "{\"batch\":5,\"no_wait\":true,\"expires\":5000000000}"), "");
    scene.tape.publish("a", 9, 5);
    assert_eq!(scene.turn(), "q<-1.3.3.9.0; q: 404 No Messages");
}

#[test]
fn no_wait_that_got_something_ends_with_the_first_timer_when_acks_are_missing() {
    let mut scene = Scene::new(ConsumerConfig { max_ack_pending: 1, ..explicit() }, 2);
    let body = "{\"batch\":5,\"no_wait\":true,\"expires\":9000000,\"idle_heartbeat\":1000000}";
    assert_eq!(scene.pull("p", body), "p<-1.1.1.1.1");
    assert_eq!(scene.pull("q", "{\"batch\":1,\"expires\":5000000}"), "");
    scene.pass(1000);
    assert_eq!(scene.turn(), "p: 404 No Messages");
}

#[test]
fn limits_of_the_configuration_are_limits_of_pulls() {
    let config = ConsumerConfig { max_batch: 5, max_expires: 60_000_000_000, max_bytes: 100, ..explicit() };
    let mut scene = Scene::new(config, 1);
    assert_eq!(scene.pull("p", "6"), "p: 409 Exceeded MaxRequestBatch of 5");
    let over = "q: 408 Request Timeout|Messages: 2|Bytes: 0";
    assert_eq!(scene.pull("q", "{\"batch\":2,\"expires\":-1}"), over);
    assert_eq!(scene.pull("p", "{\"expires\":61000000000}"), "p: 409 Exceeded MaxRequestExpires of 1m0s");
    assert_eq!(scene.pull("p", "{\"max_bytes\":101}"), "p: 409 Exceeded MaxRequestMaxBytes of 100");
}

#[test]
fn an_ack_is_answered_when_it_is_committed() {
    let mut scene = Scene::new(explicit(), 1);
    scene.pull("p", "1");
    scene.hold = true;
    assert_eq!(scene.say(1, "+ACK", Some("done")), "");
    assert_eq!(scene.say(1, "+ACK", Some("again")), "", "the first one is still on its way");
    assert_eq!(scene.info().num_ack_pending, 0);
    scene.consumer.apply(scene.now, scene.index);
    assert_eq!(scene.turn(), "done: ; again: ");
    assert_eq!(scene.say(1, "", Some("later")), "later: ");
}

#[test]
fn acks_of_what_was_never_delivered_are_not_answered() {
    let mut scene = Scene::new(explicit(), 1);
    scene.pull("p", "1");
    scene.consumer.on_ack(scene.now, b"$JS.ACK.S.c.1.9.9.1.0", b"", Some((place(), Bytes::from("x"))));
    scene.consumer.on_ack(scene.now, b"nonsense", b"", Some((place(), Bytes::from("x"))));
    assert_eq!(scene.turn(), "");
    assert_eq!(scene.info().num_ack_pending, 1);
}

#[test]
fn what_is_not_acknowledged_comes_again_after_each_wait_and_is_given_up() {
    let config = ConsumerConfig {
        backoff: vec![1_000_000_000, 3_000_000_000],
        ack_wait: 1_000_000_000,
        max_deliver: 3,
        ..explicit()
    };
    let mut scene = Scene::new(config, 1);
    assert_eq!(scene.pull("p", "9"), "p<-1.1.1.1.0");
    scene.pass(1_000_000);
    assert_eq!(scene.turn(), "p<-2.1.2.1.0");
    scene.pass(2_999_999);
    assert_eq!(scene.turn(), "");
    scene.pass(1);
    assert_eq!(scene.turn(), "p<-3.1.3.1.0");
    assert_eq!(scene.info().num_redelivered, 1);
    scene.pass(3_000_000);
    assert_eq!(scene.turn(), "ADVISORY.CONSUMER.MAX_DELIVERIES.S.c");
    let info = scene.info();
    assert_eq!((info.num_ack_pending, info.num_redelivered, info.ack_floor.stream_seq), (0, 1, 1));
    scene.say(1, "", None);
    assert_eq!(scene.info().num_redelivered, 0, "a late ack still counts");
}

#[test]
fn nak_progress_and_term_do_what_they_say() {
    let config = ConsumerConfig { ack_wait: 1_000_000_000, ..explicit() };
    let mut scene = Scene::new(config, 1);
    scene.pull("p", "9");
    assert_eq!(scene.say(1, "-NAK", Some("x")), "ADVISORY.CONSUMER.MSG_NAKED.S.c; x: ; p<-2.1.2.1.0");
    assert_eq!(scene.say(1, "-NAK {\"delay\":5000000000}", None), "ADVISORY.CONSUMER.MSG_NAKED.S.c");
    scene.pass(4_999_999);
    assert_eq!(scene.turn(), "");
    scene.pass(1);
    assert_eq!(scene.turn(), "p<-3.1.3.1.0");
    scene.pass(900_000);
    assert_eq!(scene.say(1, "+WPI", Some("y")), "y: ");
    scene.pass(999_999);
    assert_eq!(scene.turn(), "");
    assert_eq!(scene.say(1, "+TERM broken", Some("z")), "ADVISORY.CONSUMER.MSG_TERMINATED.S.c; z: ");
    scene.pass(5_000_000);
    assert_eq!(scene.turn(), "");
    assert_eq!(scene.info().ack_floor.stream_seq, 1);
}

#[test]
fn ack_and_next_in_one_message() {
    let mut scene = Scene::new(explicit(), 3);
    scene.pull("p", "1");
    assert_eq!(scene.say(1, "+NXT", Some("q")), "q<-1.2.2.2.1");
    assert_eq!(scene.say(2, "+NXT {\"batch\":2,\"no_wait\":true}", Some("r")), "r<-1.3.3.3.0; r: 404 No Messages");
    assert_eq!(scene.info().num_ack_pending, 1);
}

#[test]
fn ack_all_means_all_before() {
    let config = ConsumerConfig { ack_policy: AckPolicy::All, ..explicit() };
    let mut scene = Scene::new(config, 4);
    scene.pull("p", "4");
    scene.say(3, "", None);
    let info = scene.info();
    assert_eq!((info.num_ack_pending, info.ack_floor.stream_seq, info.ack_floor.consumer_seq), (1, 3, 3));
}

#[test]
fn the_floor_stays_until_the_first_ack_and_waits_for_gaps() {
    let config = ConsumerConfig { filter_subject: "a.0".into(), ..explicit() };
    let mut scene = Scene::new(config, 9);
    scene.pull("p", "3");
    let floor = |scene: &Scene| (scene.info().ack_floor.consumer_seq, scene.info().ack_floor.stream_seq);
    assert_eq!(floor(&scene), (0, 0), "messages 3, 6 and 9 are out");
    scene.say(6, "", None);
    assert_eq!(floor(&scene), (0, 0));
    scene.say(3, "", None);
    assert_eq!(floor(&scene), (2, 8));
    scene.say(9, "", None);
    assert_eq!(floor(&scene), (3, 9));
}

#[test]
fn a_full_pending_set_frees_itself_when_its_messages_are_deleted() {
    // Messages that were deleted elsewhere once kept max_ack_pending full for ever at the peer.
    let config = ConsumerConfig { max_ack_pending: 2, ..explicit() };
    let mut scene = Scene::new(config, 4);
    assert_eq!(scene.pull("p", "9"), "p<-1.1.1.1.3; p<-1.2.2.2.2");
    scene.tape.delete(2);
    assert_eq!(scene.turn(), "ADVISORY.CONSUMER.MSG_TERMINATED.S.c; p<-1.3.3.3.1");
    scene.tape.purge(4);
    let told = "ADVISORY.CONSUMER.MSG_TERMINATED.S.c";
    assert_eq!(scene.turn(), format!("{told}; {told}; p<-1.4.4.4.0"));
    scene.consumer.stream_purged(scene.now, 5);
    scene.tape.purge(5);
    scene.turn();
    assert_eq!(scene.info().num_ack_pending, 0);
    assert_eq!(scene.info().delivered.stream_seq, 4);
}

#[test]
fn a_purge_ahead_of_delivery_moves_it() {
    let mut scene = Scene::new(explicit(), 5);
    scene.tape.purge(4);
    scene.consumer.stream_purged(scene.now, 4);
    assert_eq!(scene.turn(), "");
    assert_eq!((scene.info().delivered.stream_seq, scene.info().num_pending), (3, 2));
    assert_eq!(scene.pull("p", "1"), "p<-1.4.1.4.1");
}

#[test]
fn a_delivery_to_nobody_does_not_count() {
    let config = ConsumerConfig { max_deliver: 1, ..explicit() };
    let mut scene = Scene::new(config, 1);
    assert_eq!(scene.pull("gone", "5"), "gone<-1.1.1.1.0");
    scene.consumer.bounced(scene.now, scene.last[0].token);
    assert_eq!(scene.turn(), "");
    assert_eq!((scene.info().num_waiting, scene.info().num_ack_pending), (0, 1));
    assert_eq!(scene.pull("p", "1"), "p<-1.1.2.1.0");
    scene.consumer.bounced(scene.now, 12345);
    assert_eq!(scene.turn(), "");
}

#[test]
fn without_acks_a_delivery_to_nobody_comes_again() {
    let config = ConsumerConfig { ack_policy: AckPolicy::None, ..explicit() };
    let mut scene = Scene::new(config, 2);
    assert_eq!(scene.pull("gone", "5"), "gone<-1.1.1.1.1; gone<-1.2.2.2.0");
    scene.consumer.bounced(scene.now, scene.last[1].token);
    assert_eq!(scene.pull("p", "2"), "p<-1.2.3.2.0");
}

#[test]
fn an_unused_ephemeral_wants_to_go() {
    let config = ConsumerConfig { inactive_threshold: 5_000_000_000, ..explicit() };
    let mut scene = Scene::new(config, 1);
    scene.pull("p", "1");
    scene.say(1, "", None);
    let at = scene.consumer.next_wakeup().expect("a timer");
    scene.pass(at - scene.now.us - 1);
    assert_eq!(scene.turn(), "");
    scene.pass(1);
    assert_eq!(scene.turn(), "expired");
    scene.pull("q", "1");
    scene.pass(6_000_000);
    assert_eq!(scene.turn(), "q?", "somebody may still wait");
}

#[test]
fn work_in_progress_keeps_an_ephemeral_alive() {
    let config = ConsumerConfig { inactive_threshold: 1_000_000_000, ack_wait: 60_000_000_000, ..explicit() };
    let mut scene = Scene::new(config, 1);
    scene.pull("p", "1");
    scene.pass(59_000_000);
    assert_eq!(scene.turn(), "");
    scene.pass(2_600_000);
    assert_eq!(scene.turn(), "expired");
}

#[test]
fn a_paused_consumer_delivers_when_its_time_comes() {
    let mut config = explicit();
    config.pause_until = Some("2023-11-14T22:13:30Z".parse().expect("a time"));
    let mut scene = Scene::new(config, 1);
    assert_eq!(scene.pull("p", "1"), "");
    assert!(scene.info().paused);
    assert_eq!(scene.consumer.next_wakeup(), Some(scene.now.us + 10_000_000));
    scene.pass(10_000_000);
    assert_eq!(scene.turn(), "ADVISORY.CONSUMER.PAUSE.S.c; p<-1.1.1.1.0");
    assert!(!scene.info().paused);
}

#[test]
fn every_deliver_policy_starts_where_it_says() {
    let start = |deliver_policy, opt_start_seq, opt_start_ns: Option<i64>, filter: &str| {
        let opt_start_time = opt_start_ns.map(|ns| jiff::Timestamp::from_nanosecond(i128::from(ns)).expect("in range"));
        let filter_subject = filter.to_owned();
        let config = ConsumerConfig { deliver_policy, opt_start_seq, opt_start_time, filter_subject, ..explicit() };
        let mut scene = Scene::new(config, 7);
        let out = scene.pull("p", "{\"batch\":9,\"no_wait\":true}");
        let seqs: Vec<&str> = out.split("; ").filter_map(|line| line.split('.').nth(1)).collect();
        seqs.join(" ")
    };
    assert_eq!(start(DeliverPolicy::All, 0, None, ""), "1 2 3 4 5 6 7");
    assert_eq!(start(DeliverPolicy::New, 0, None, ""), "");
    assert_eq!(start(DeliverPolicy::Last, 0, None, ""), "7");
    assert_eq!(start(DeliverPolicy::Last, 0, None, "a.0"), "6");
    assert_eq!(start(DeliverPolicy::ByStartSequence, 5, None, ""), "5 6 7");
    assert_eq!(start(DeliverPolicy::ByStartSequence, 99, None, ""), "");
    assert_eq!(start(DeliverPolicy::ByStartTime, 0, Some(6), ""), "6 7");
    assert_eq!(start(DeliverPolicy::LastPerSubject, 0, None, "a.>"), "5 6 7");
    assert_eq!(start(DeliverPolicy::LastPerSubject, 0, None, "a.0"), "6");
}

#[test]
fn one_proposal_is_on_its_way_at_a_time_and_a_refused_one_comes_again() {
    let mut scene = Scene::new(explicit(), 2);
    scene.consumer.on_next(scene.now, place(), Bytes::from("p"), PullRequest { batch: 1, ..Default::default() });
    scene.consumer.turn(scene.now, &scene.tape);
    let proposals = |scene: &mut Scene| {
        let outputs = std::iter::from_fn(|| scene.consumer.poll_output());
        outputs
            .filter_map(|output| if let ConsumerOutput::Propose(body) = output { Some(body) } else { None })
            .collect()
    };
    let first: Vec<Bytes> = proposals(&mut scene);
    assert_eq!(first.len(), 1);
    scene.consumer.on_next(scene.now, place(), Bytes::from("q"), PullRequest { batch: 1, ..Default::default() });
    scene.consumer.turn(scene.now, &scene.tape);
    assert_eq!(proposals(&mut scene), Vec::<Bytes>::new());
    scene.consumer.propose_refused(scene.now);
    scene.pass(10_000);
    assert!(scene.consumer.next_wakeup().is_some_and(|at| at <= scene.now.us));
    scene.consumer.turn(scene.now, &scene.tape);
    assert_eq!(proposals(&mut scene), first);
    assert_eq!(scene.consumer.state().delivered.stream, 0);
}

#[test]
fn a_delay_survives_a_change_of_leader() {
    let mut scene = Scene::new(explicit(), 1);
    scene.pull("p", "1");
    scene.say(1, "-NAK 100s", None);
    scene.consumer.lead(scene.now, false, &scene.tape);
    scene.pass(40_000_000);
    scene.consumer.lead(scene.now, true, &scene.tape);
    assert_eq!(scene.pull("q", "1"), "");
    scene.pass(59_000_000);
    assert_eq!(scene.turn(), "");
    scene.pass(1_000_000);
    assert_eq!(scene.turn(), "q<-2.1.2.1.0");
}

#[test]
fn an_update_changes_what_comes_next() {
    let mut scene = Scene::new(explicit(), 6);
    assert_eq!(scene.pull("p", "1"), "p<-1.1.1.1.5");
    let config = ConsumerConfig { filter_subject: "a.0".into(), headers_only: true, ..explicit() };
    scene.consumer.update(scene.now, config.clone());
    assert_eq!(scene.pull("p", "9"), "p<-1.3.2.3.1; p<-1.6.3.6.0");
    assert!(scene.last.iter().rev().take(2).all(|delivery| delivery.headers_only));
    assert_eq!(scene.consumer.state().config, config);
}

#[test]
fn a_checkpoint_releases_the_log_before_it() {
    let mut scene = Scene::new(explicit(), 1);
    scene.pull("p", "1");
    let checkpoint = scene.consumer.checkpoint();
    let applied = scene.consumer.applied();
    scene.consumer.checkpointed(applied);
    assert_eq!(scene.turn(), format!("released {}", applied + 1));
    let mut other = Scene::new(explicit(), 1);
    other.consumer.install(&checkpoint).expect("own checkpoint");
    assert_eq!(other.consumer.fingerprint(), scene.consumer.fingerprint());
    assert!(!other.consumer.is_leading());
}

#[test]
fn a_checkpoint_knows_what_was_given_up() {
    let config = ConsumerConfig { ack_wait: 1_000_000_000, max_deliver: 1, ..explicit() };
    let mut scene = Scene::new(config.clone(), 1);
    scene.pull("p", "1");
    scene.pass(1_000_000);
    assert_eq!(scene.turn(), "ADVISORY.CONSUMER.MAX_DELIVERIES.S.c");
    let mut other = Scene::new(config, 1);
    other.consumer.restore(&scene.consumer.checkpoint()).expect("own checkpoint");
    assert_eq!(other.consumer.state().pending.num_redelivered(), 1);
    assert!(other.consumer.state().pending.is_exhausted(1));
}

#[test]
fn info_has_the_peers_fields() {
    let mut scene = Scene::new(explicit(), 3);
    scene.pull("p", "2");
    scene.say(1, "", None);
    scene.pull("q", "5");
    let mut json = serde_json::to_value(scene.info()).expect("json");
    json["config"].take();
    let expected = serde_json::json!({
        "stream_name": "S",
        "name": "c",
        "created": "2023-11-14T22:13:20Z",
        "config": null,
        "delivered": {"consumer_seq": 3, "stream_seq": 3, "last_active": "2023-11-14T22:13:20Z"},
        "ack_floor": {"consumer_seq": 1, "stream_seq": 1, "last_active": "2023-11-14T22:13:20Z"},
        "num_ack_pending": 2,
        "num_redelivered": 0,
        "num_waiting": 1,
        "num_pending": 0,
        "ts": "2023-11-14T22:13:20Z",
    });
    assert_eq!(json, expected);
}

#[test]
fn info_counts_as_the_peer_counts() {
    // Recorded from nats-server 2.15.1 with the same nine messages.
    let numbers = |scene: &Scene| {
        let info = scene.info();
        let (delivered, floor) = (&info.delivered, &info.ack_floor);
        let points = [delivered.consumer_seq, delivered.stream_seq, floor.consumer_seq, floor.stream_seq];
        let [dc, ds, fc, fs] = points;
        let (ap, rd, w, np) = (info.num_ack_pending, info.num_redelivered, info.num_waiting, info.num_pending);
        format!("d={dc}/{ds} f={fc}/{fs} ap={ap} rd={rd} w={w} np={np}")
    };
    let started = |deliver_policy, opt_start_seq, filter: &str| {
        let config = ConsumerConfig { deliver_policy, opt_start_seq, filter_subject: filter.into(), ..explicit() };
        Scene::new(config, 9)
    };
    assert_eq!(numbers(&started(DeliverPolicy::All, 0, "a.0")), "d=0/0 f=0/0 ap=0 rd=0 w=0 np=3");
    assert_eq!(numbers(&started(DeliverPolicy::New, 0, "")), "d=0/9 f=0/9 ap=0 rd=0 w=0 np=0");
    assert_eq!(numbers(&started(DeliverPolicy::ByStartSequence, 5, "")), "d=0/4 f=0/4 ap=0 rd=0 w=0 np=5");
    assert_eq!(numbers(&started(DeliverPolicy::Last, 0, "")), "d=0/8 f=0/8 ap=0 rd=0 w=0 np=1");

    let mut last = started(DeliverPolicy::LastPerSubject, 0, "a.>");
    assert_eq!(numbers(&last), "d=0/6 f=0/6 ap=0 rd=0 w=0 np=3");
    last.pull("p", "1");
    assert_eq!(numbers(&last), "d=1/7 f=0/6 ap=1 rd=0 w=0 np=2");
    last.pull("p", "5");
    assert_eq!(numbers(&last), "d=3/9 f=0/6 ap=3 rd=0 w=1 np=0");

    let mut purged = started(DeliverPolicy::All, 0, "");
    purged.pull("p", "2");
    assert_eq!(numbers(&purged), "d=2/2 f=0/0 ap=2 rd=0 w=0 np=7");
    purged.tape.purge(5);
    purged.consumer.stream_purged(purged.now, 5);
    purged.turn();
    assert_eq!(numbers(&purged), "d=2/4 f=2/4 ap=0 rd=0 w=0 np=5");
    purged.pull("p", "1");
    assert_eq!(numbers(&purged), "d=3/5 f=2/4 ap=1 rd=0 w=0 np=4");
}

#[test]
fn advisories_are_the_peers_json() {
    let mut scene = Scene::new(explicit(), 1);
    scene.consumer.set_domain("hub");
    scene.consumer.lead(scene.now, false, &scene.tape);
    scene.consumer.lead(scene.now, true, &scene.tape);
    scene.pull("p", "1");
    let subject = scene.last[0].ack_subject.clone();
    scene.consumer.on_ack(scene.now, &subject, b"+TERM no use", None);
    let Some(ConsumerOutput::Advisory(advisory)) = scene.consumer.poll_output() else { panic!("an advisory") };
    let mut json: serde_json::Value = serde_json::from_str(&advisory.json).expect("json");
    assert_eq!(json["id"].take().as_str().map(str::len), Some(22));
    let expected = serde_json::json!({
        "type": "io.nats.jetstream.advisory.v1.terminated",
        "id": null,
        "timestamp": "2023-11-14T22:13:20Z",
        "stream": "S",
        "consumer": "c",
        "consumer_seq": 1,
        "stream_seq": 1,
        "deliveries": 1,
        "reason": "no use",
        "domain": "hub",
    });
    assert_eq!(json, expected);
}
