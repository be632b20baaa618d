use super::*;
use crate::dice::Dice;
use crate::peer::hello::{VERSION_MAX, VERSION_MIN};

fn server(name: &str) -> Hello {
    Hello {
        server_name: name.into(),
        server_id: format!("id-{name}"),
        peer_id: name.bytes().map(u64::from).sum(),
        cluster: "C1".into(),
        boot_id: 5,
        lane: Lane::Data,
        ..Hello::default()
    }
}

/// Two ends with a wire of no length between them.
struct Pair {
    dialer: Link,
    acceptor: Link,
    now_us: u64,
}

impl Pair {
    fn new(dialer: Hello, acceptor: Hello) -> Pair {
        Pair::with_rules(dialer, Rules::open(), acceptor, Rules::open())
    }

    fn with_rules(dialer: Hello, dialer_rules: Rules, acceptor: Hello, acceptor_rules: Rules) -> Pair {
        Pair {
            dialer: Link::dial(dialer, dialer_rules, Timing::default()),
            acceptor: Link::accept(acceptor, acceptor_rules, Timing::default()),
            now_us: 1_000,
        }
    }

    /// Carries bytes until nothing moves: the events on both sides. Each crossing takes 50 us.
    fn drive(&mut self) -> (Vec<LinkEvent>, Vec<LinkEvent>) {
        let mut events = (Vec::new(), Vec::new());
        loop {
            let (there, back) = (self.dialer.take_output(), self.acceptor.take_output());
            if there.is_empty() && back.is_empty() {
                return events;
            }
            self.now_us += 50;
            self.acceptor.push(there);
            self.dialer.push(back);
            events.0.extend(std::iter::from_fn(|| self.dialer.poll(self.now_us).unwrap()));
            events.1.extend(std::iter::from_fn(|| self.acceptor.poll(self.now_us).unwrap()));
        }
    }

    /// Drives a handshake that must fail: what the dialler and the acceptor see.
    fn refused(mut self) -> (bool, Refusal) {
        let (mut at_dialer, mut at_acceptor) = self.drive();
        assert!(!self.dialer.is_up());
        assert!(!self.acceptor.is_up());
        match (at_dialer.pop(), at_acceptor.pop()) {
            (
                Some(LinkEvent::Refused { by_us, refusal }),
                Some(LinkEvent::Refused { by_us: by_acceptor, refusal: same }),
            ) => {
                assert_eq!(refusal, same);
                assert_ne!(by_us, by_acceptor);
                (by_us, refusal)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn message(kind: u8, lane: Lane, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    frame::encode(&mut out, kind, lane, 0, body);
    out.freeze()
}

#[test]
fn both_sides_learn_each_other_and_messages_flow() {
    let mut pair = Pair::new(server("a"), server("b"));
    let (at_dialer, at_acceptor) = pair.drive();
    assert_eq!(at_dialer, [LinkEvent::Established { hello: Box::new(server("b")), version: VERSION_MAX }]);
    assert_eq!(at_acceptor, [LinkEvent::Established { hello: Box::new(server("a")), version: VERSION_MAX }]);
    pair.acceptor.push(message(16, Lane::Data, b"hello"));
    let Ok(Some(LinkEvent::Frame(frame))) = pair.acceptor.poll(0) else { panic!() };
    assert_eq!((frame.kind, &frame.body[..]), (16, &b"hello"[..]));
}

#[test]
fn the_acceptor_is_up_only_after_the_dialler_agreed() {
    // The dialler knows another "b": it must refuse although the acceptor found nothing wrong.
    let known = Known { server_name: "b".into(), server_id: "id-other".into(), peer_id: 9, lanes: [true, true, true] };
    let rules = Rules { known: vec![known], ..Rules::open() };
    let (by_dialer, refusal) = Pair::with_rules(server("a"), rules, server("b"), Rules::open()).refused();
    assert!(by_dialer);
    assert_eq!(refusal.code, RefusalCode::DuplicateName);
}

#[test]
fn versions_must_meet() {
    let newer = Hello { version_min: VERSION_MAX + 1, version_max: VERSION_MAX + 3, ..server("a") };
    let (_, refusal) = Pair::new(newer.clone(), server("b")).refused();
    assert_eq!(refusal.code, RefusalCode::Version);
    let (min, max) = (VERSION_MAX + 1, VERSION_MAX + 3);
    let ours = format!("{VERSION_MIN} to {VERSION_MAX} on one side");
    let text = format!("no common protocol version: {ours}, {min} to {max} on the other");
    assert_eq!(refusal.text, text);
    let wide = Hello { version_max: VERSION_MAX + 2, ..server("b") };
    let mut pair = Pair::new(newer, wide);
    assert!(matches!(&pair.drive().0[..], [LinkEvent::Established { version, .. }] if *version == VERSION_MAX + 2));
}

#[test]
fn a_server_does_not_link_to_itself() {
    let (_, refusal) = Pair::new(server("a"), server("a")).refused();
    assert_eq!(refusal.code, RefusalCode::SelfConnection);
}

#[test]
fn clusters_of_other_names_are_refused() {
    let other = Hello { cluster: "C2".into(), ..server("a") };
    let (_, refusal) = Pair::new(other, server("b")).refused();
    assert_eq!(refusal.code, RefusalCode::Cluster);
    assert_eq!(refusal.text, "cluster name \"C2\" does not match \"C1\"");
}

#[test]
fn a_made_up_cluster_name_fits_every_other_and_gives_way() {
    let made_up = |name, cluster: &str| Hello { cluster: cluster.into(), cluster_made_up: true, ..server(name) };
    let (small, great, named) = (made_up("a", "AAA"), made_up("b", "ZZZ"), server("c"));
    for (one, other) in [(&small, &named), (&great, &named), (&small, &great)] {
        let mut pair = Pair::new(one.clone(), other.clone());
        assert!(matches!(&pair.drive().0[..], [LinkEvent::Established { .. }]));
        assert!(one.yields_name_to(other) && !other.yields_name_to(one));
    }
    assert!(!small.yields_name_to(&small));
}

#[test]
fn servers_that_join_different_clusters_after_they_met_part() {
    // Neither holds data yet, or one of them does: nothing is wrong.
    for early in [None, Some("one")] {
        let mut pair = Pair::new(Hello { store: early.map(str::to_owned), ..server("a") }, server("b"));
        pair.drive();
        pair.dialer.joined("one");
        assert_eq!(pair.drive(), (vec![], vec![]));
        pair.acceptor.joined("two");
        let (at_dialer, at_acceptor) = pair.drive();
        let text = "data of different clusters: two and one; two clusters never merge".to_owned();
        let refusal = Refusal { code: RefusalCode::Store, text };
        assert_eq!(at_dialer, [LinkEvent::Refused { by_us: true, refusal: refusal.clone() }]);
        assert_eq!(at_acceptor, [LinkEvent::Refused { by_us: false, refusal }]);
        assert!(!pair.dialer.is_up() && !pair.acceptor.is_up());
    }
}

#[test]
fn servers_that_join_one_cluster_stay_linked() {
    let mut pair = Pair::new(server("a"), server("b"));
    pair.drive();
    pair.acceptor.joined("one");
    pair.dialer.joined("one");
    assert_eq!(pair.drive(), (vec![], vec![]));
    pair.acceptor.joined("one");
    assert!(pair.acceptor.take_output().is_empty(), "said once");
    assert!(pair.dialer.is_up() && pair.acceptor.is_up());
}

#[test]
fn a_second_server_of_the_same_name_is_refused() {
    let twin = Hello { server_id: "id-twin".into(), ..server("b") };
    let (_, refusal) = Pair::new(twin, server("b")).refused();
    assert_eq!(refusal.code, RefusalCode::DuplicateName);
    assert_eq!(refusal.text, "server name \"b\" is taken by \"b\" with id id-b");
    // Nor one whose peer id collides.
    let twin = Hello { peer_id: server("b").peer_id, ..server("a") };
    assert_eq!(Pair::new(twin, server("b")).refused().1.code, RefusalCode::DuplicateName);
}

#[test]
fn stores_of_different_clusters_never_meet_but_an_empty_one_joins() {
    let store = |name, id: Option<&str>| Hello { store: id.map(str::to_string), ..server(name) };
    let (_, refusal) = Pair::new(store("a", Some("X")), store("b", Some("Y"))).refused();
    assert_eq!(refusal.code, RefusalCode::Store);
    for (left, right) in [(None, Some("Y")), (Some("X"), None), (Some("X"), Some("X")), (None, None)] {
        let mut pair = Pair::new(store("a", left), store("b", right));
        pair.drive();
        assert!(pair.dialer.is_up() && pair.acceptor.is_up());
    }
}

#[test]
fn credentials_are_checked_first_and_not_passed_on() {
    let right = |given: &Credentials| given.user == "u" && given.pass == "p";
    let verifier: Verifier = Arc::new(move |given| if given.is_some_and(right) { Verdict::Yes } else { Verdict::No });
    let rules = Rules { verifier, ..Rules::open() };
    let with = |pass: &str| Hello {
        credentials: Some(Credentials { user: "u".into(), pass: pass.into() }),
        cluster: "C1".into(),
        ..server("a")
    };
    let wrong = Hello { cluster: "guess".into(), ..with("x") };
    for hello in [wrong, server("a")] {
        let (_, refusal) = Pair::with_rules(hello, Rules::open(), server("b"), rules.clone()).refused();
        assert_eq!(refusal.code, RefusalCode::Credentials);
        assert_eq!(refusal.text, "Authorization Violation");
    }
    let mut pair = Pair::with_rules(with("p"), Rules::open(), server("b"), rules);
    let (_, at_acceptor) = pair.drive();
    assert_eq!(at_acceptor, [LinkEvent::Established { hello: Box::new(server("a")), version: VERSION_MAX }]);
}

#[test]
fn credentials_that_take_long_to_check_hold_only_their_own_handshake() {
    let rules = Rules { verifier: Arc::new(|_| Verdict::Later), ..Rules::open() };
    let given = Credentials { user: "u".into(), pass: "p".into() };
    for right in [true, false] {
        let hello = Hello { credentials: Some(given.clone()), ..server("a") };
        let mut pair = Pair::with_rules(hello, Rules::open(), server("b"), rules.clone());
        let (_, at_acceptor) = pair.drive();
        assert_eq!(at_acceptor, [LinkEvent::Asked { credentials: Some(given.clone()) }]);
        assert_eq!(pair.acceptor.poll(pair.now_us), Ok(None));
        assert!(pair.acceptor.take_output().is_empty());
        let refused = pair.acceptor.judged(pair.now_us, right);
        assert_eq!(refused.is_none(), right);
        pair.drive();
        assert_eq!((pair.dialer.is_up(), pair.acceptor.is_up()), (right, right));
        assert_eq!(pair.acceptor.judged(pair.now_us, true), None, "nobody asked");
    }
}

/// Two ends with a wire of that length, from the dial on; the dialling side goes silent after `talk_us`. When and at
/// which end a link was given up, and the last round trip that the accepting side measured.
fn over_a_wire(one_way_us: u64, talk_us: u64, timing: Timing) -> (Option<u64>, u64) {
    let mut ends = [Link::dial(server("a"), Rules::open(), timing), Link::accept(server("b"), Rules::open(), timing)];
    let mut wire: [VecDeque<(u64, Bytes)>; 2] = Default::default();
    for now_us in (0..talk_us + 20_000_000).step_by(10_000) {
        for end in 0..2 {
            while wire[end].front().is_some_and(|(at, _)| *at <= now_us) {
                ends[end].push(wire[end].pop_front().unwrap().1);
            }
            while ends[end].poll(now_us).unwrap().is_some() {}
            if ends[end].on_timer(now_us).is_err() {
                return (Some(now_us), ends[1].rtt_us());
            }
            let out = ends[end].take_output();
            if !out.is_empty() && (end == 1 || now_us <= talk_us) {
                wire[1 - end].push_back((now_us + one_way_us, out));
            }
        }
    }
    (None, ends[1].rtt_us())
}

#[test]
fn a_link_is_as_patient_as_its_path_is_long() {
    let timing = Timing { ping_every_us: 300_000, measure_every_us: 2_000_000, unanswered_max: 3 };
    for one_way_us in [1_000, 10_000, 150_000, 450_000, 600_000, 2_000_000] {
        let talk_us = 60_000_000;
        let (stale, rtt_us) = over_a_wire(one_way_us, talk_us, timing);
        let stale = stale.expect("a dead peer is noticed");
        assert!(stale > talk_us, "{one_way_us}: given up after {stale} while the other side talked");
        let bound = talk_us + 4 * timing.ping_every_us + 5 * one_way_us + 100_000;
        assert!(stale <= bound, "{one_way_us}: noticed only after {stale}");
        assert!(rtt_us.abs_diff(2 * one_way_us) <= 20_000, "{one_way_us}: {rtt_us} measured");
    }
}

#[test]
fn a_lane_that_stands_is_not_made_twice() {
    let known = Known {
        server_name: "a".into(),
        server_id: "id-a".into(),
        peer_id: server("a").peer_id,
        lanes: [true, true, false],
    };
    let rules = Rules { known: vec![known], ..Rules::open() };
    let (_, refusal) = Pair::with_rules(server("a"), Rules::open(), server("b"), rules.clone()).refused();
    assert_eq!(refusal.code, RefusalCode::Redundant);
    let bulk = Hello { lane: Lane::Bulk, ..server("a") };
    let mut pair = Pair::with_rules(bulk, Rules::open(), server("b"), rules);
    pair.drive();
    assert!(pair.acceptor.is_up());
    assert_eq!(pair.acceptor.lane(), Lane::Bulk);
}

#[test]
fn of_two_crossing_dials_both_sides_keep_the_same() {
    let (a, b) = (server("a"), server("b"));
    assert_ne!(keeps_our_dial(&a, &b), keeps_our_dial(&b, &a));
}

#[test]
fn round_trips_are_measured_and_cannot_be_invented() {
    let mut pair = Pair::new(server("a"), server("b"));
    pair.drive();
    let due = pair.dialer.next_timer().unwrap();
    pair.dialer.on_timer(due - 1).unwrap();
    assert!(pair.dialer.take_output().is_empty());
    pair.now_us = due;
    pair.dialer.on_timer(due).unwrap();
    assert_eq!(pair.drive().0, [LinkEvent::Rtt { rtt_us: 100 }]);
    pair.dialer.push(message(PONG, Lane::Data, &due.to_le_bytes()));
    pair.dialer.push(message(PONG, Lane::Data, b"short"));
    assert_eq!(pair.dialer.poll(due + 500), Ok(None));
}

#[test]
fn a_silent_link_becomes_stale_and_any_frame_keeps_it() {
    let mut pair = Pair::new(server("a"), server("b"));
    pair.drive();
    let (mut link, mut pings) = (pair.dialer, 0);
    let stale = loop {
        let due = link.next_timer().unwrap();
        if pings == 2 {
            link.push(message(16, Lane::Data, b"x"));
            assert!(link.poll(due).unwrap().is_some());
        }
        if let Err(error) = link.on_timer(due) {
            break error;
        }
        pings += usize::from(!link.take_output().is_empty());
    };
    assert_eq!(stale, LinkError::Stale);
    assert_eq!(pings, 2 + Timing::default().unanswered_max as usize);
}

#[test]
fn a_link_that_talks_is_asked_for_its_round_trip_only() {
    let mut pair = Pair::new(server("a"), server("b"));
    pair.drive();
    let (mut link, timing, start) = (pair.dialer, Timing::default(), pair.now_us);
    let mut asked = Vec::new();
    for now in (start..start + 3 * timing.measure_every_us).step_by(100_000) {
        link.push(message(16, Lane::Data, b"x"));
        assert!(link.poll(now).unwrap().is_some());
        link.on_timer(now).unwrap();
        if !link.take_output().is_empty() {
            asked.push(now);
        }
    }
    let gaps: Vec<u64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(gaps, vec![timing.measure_every_us; gaps.len()]);
    assert!(asked.len() >= 2, "{asked:?}");
    let heard = start + 3 * timing.measure_every_us - 100_000;
    assert!(link.next_timer().is_some_and(|due| due <= heard + timing.ping_every_us), "silence is asked about");
}

#[test]
fn frames_out_of_place_end_the_link() {
    let unexpected = |kind| Err(LinkError::Unexpected { kind });
    let mut link = Link::accept(server("b"), Rules::open(), Timing::default());
    link.push(message(16, Lane::Data, b"too early"));
    assert_eq!(link.poll(0), unexpected(16));
    let mut pair = Pair::new(server("a"), server("b"));
    pair.drive();
    pair.dialer.push(message(16, Lane::Bulk, b"wrong lane"));
    assert_eq!(pair.dialer.poll(0), unexpected(16));
    pair.acceptor.push(message(HELLO, Lane::Data, b"again"));
    assert_eq!(pair.acceptor.poll(0), unexpected(HELLO));
    // An endless PING would be written back in full.
    let mut pair = Pair::new(server("a"), server("b"));
    pair.drive();
    pair.acceptor.push(message(PING, Lane::Data, &[0; 5_000]));
    assert_eq!(pair.acceptor.poll(0), unexpected(PING));
}

#[test]
fn a_stranger_cannot_make_a_link_hold_a_large_frame_before_the_handshake() {
    let mut link = Link::accept(server("b"), Rules::open(), Timing::default());
    link.push(message(HELLO, Lane::Data, &vec![0; HELLO_BYTES_MAX + 1]));
    assert!(matches!(link.poll(0), Err(LinkError::Frame(FrameError::TooLarge { .. }))));
}

#[test]
fn a_refusal_from_afar_is_printable_and_short() {
    let mut link = Link::dial(server("a"), Rules::open(), Timing::default());
    let mut body = vec![99, b'x', 0x1b, b'\n'];
    body.extend([b'y'; 4_000]);
    link.push(message(REFUSED, Lane::Data, &body));
    let Ok(Some(LinkEvent::Refused { by_us: false, refusal })) = link.poll(0) else { panic!() };
    assert_eq!(refusal.code, RefusalCode::Other);
    assert!(refusal.text.starts_with("x  y") && refusal.text.len() <= REASON_BYTES_MAX);
    assert_eq!(link.poll(0), Ok(None));
}

#[test]
fn the_callers_own_reason_reaches_the_other_side() {
    let mut pair = Pair::new(server("a"), server("b"));
    pair.drive();
    pair.acceptor.refuse(Refusal { code: RefusalCode::Other, text: "lame duck".into() });
    let (at_dialer, _) = pair.drive();
    let refusal = Refusal { code: RefusalCode::Other, text: "lame duck".into() };
    assert_eq!(at_dialer, [LinkEvent::Refused { by_us: false, refusal }]);
}

#[test]
fn damaged_handshakes_never_panic() {
    let mut dice = Dice::new(13);
    let hello = Link::dial(server("a"), Rules::open(), Timing::default()).take_output();
    let ready = message(READY, Lane::Data, b"");
    for _ in 0..5_000 {
        // Damage inside a frame of right checksum reaches further than damage on the wire.
        let body = dice.damage(&hello[frame::HEADER_BYTES..]);
        let mut link = Link::accept(server("b"), Rules::open(), Timing::default());
        link.push(message(HELLO, Lane::Data, &body));
        link.push(ready.clone());
        let mut events = 0;
        while let Ok(Some(_)) = link.poll(0) {
            events += 1;
        }
        assert!(events <= 1);
        let mut reply = vec![1, 0];
        reply.extend(dice.damage(&hello[frame::HEADER_BYTES..]));
        let mut link = Link::dial(server("b"), Rules::open(), Timing::default());
        link.push(message(HELLO_REPLY, Lane::Data, &reply));
        assert!(!matches!(link.poll(0), Ok(Some(LinkEvent::Frame(_) | LinkEvent::Rtt { .. }))));
    }
}
