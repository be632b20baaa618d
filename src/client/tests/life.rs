//! Time, limits, reload, lame duck and what the pages show.

use bytes::Bytes;

use super::desk::{Desk, SECOND, config, options};
use crate::account::Accounts;
use crate::client::{FrontOutput, Inward, Service, SysEvent};
use crate::ids::{ConnId, GroupId};
use crate::reply::Reply;

fn info_of(text: &str) -> serde_json::Value {
    let json = text.split("INFO ").last().unwrap().trim();
    serde_json::from_str(json).unwrap()
}

#[test]
fn info_has_the_peers_fields_in_the_peers_order() {
    let mut options = options(config("jetstream { domain: hub, store_dir: x }"), 1, 1, 2);
    options.cluster = Some("C".to_string());
    options.client_urls = vec!["10.0.0.1:4222".to_string()];
    let mut desk = Desk::with(options);
    let id = desk.dial();
    assert_eq!(
        desk.text(id),
        "INFO {\"server_id\":\"NABC\",\"server_name\":\"server1\",\"version\":\"2.15.1\",\"proto\":1,\"go\":\"go1.27.2\",\
         \"host\":\"0.0.0.0\",\"port\":4222,\"headers\":true,\"max_payload\":1048576,\"jetstream\":true,\"client_id\":2,\
         \"client_ip\":\"127.0.0.1\",\"cluster\":\"C\",\"domain\":\"hub\",\"connect_urls\":[\"10.0.0.1:4222\"],\
         \"api_lvl\":5} \r\n"
    );
    let next = desk.dial();
    assert_eq!(info_of(&desk.text(next))["client_id"], 4);
}

#[test]
fn the_first_pong_is_followed_by_who_the_client_is() {
    let mut desk = Desk::new("accounts { A: { users: [ {user: a, password: a} ] } }");
    let id = desk.connect();
    desk.send(id, "CONNECT {\"user\":\"a\",\"pass\":\"a\",\"verbose\":false,\"protocol\":1}\r\nPING\r\n");
    let text = desk.text(id);
    let info = info_of(&text);
    assert!(text.starts_with("PONG\r\nINFO "));
    assert_eq!((&info["connect_info"], &info["remote_account"]), (&true.into(), &"A".into()));
    assert_eq!(desk.ask(id, "PING\r\n"), "PONG\r\n");
}

#[test]
fn a_client_that_does_not_present_itself_in_time_is_sent_away() {
    let mut desk = Desk::new("authorization { user: u, password: p, timeout: 1 }");
    let (slow, quick) = (desk.connect(), desk.connect());
    desk.send(quick, "CONNECT {\"user\":\"u\",\"pass\":\"p\",\"verbose\":false}\r\n");
    assert_eq!(desk.front.next_wakeup(), Some(desk.now.us + SECOND));
    desk.advance(SECOND - 1);
    assert!(!desk.is_closed(slow));
    desk.advance(1);
    assert_eq!(desk.text(slow), "-ERR 'Authentication Timeout'\r\n");
    assert!(desk.is_closed(slow) && !desk.is_closed(quick));
}

#[test]
fn a_client_that_answers_no_ping_is_stale() {
    let mut desk = Desk::new("ping_interval: 10, ping_max: 2");
    let (dead, alive) = (desk.quiet(), desk.quiet());
    let mut pings = 0;
    for _ in 0..60 {
        desk.advance(SECOND);
        pings += desk.text(dead).matches("PING\r\n").count();
        if desk.text(alive).contains("PING") {
            desk.send(alive, "PONG\r\n");
        }
        if desk.is_closed(dead) {
            break;
        }
    }
    assert_eq!(pings, 2);
    assert!(desk.is_closed(dead) && !desk.is_closed(alive));
    assert_eq!(desk.front.totals().stale, 1);
    assert_eq!(desk.front.closed().last().unwrap().stop.unwrap().1, "Stale Connection");
}

#[test]
fn a_client_that_talks_is_not_pinged_once_its_round_trip_is_known() {
    let mut desk = Desk::new("ping_interval: 10");
    let id = desk.quiet();
    assert!(desk.front.connz(desk.now, false)[0].rtt_us > 0, "a first idea, from INFO to CONNECT");
    desk.advance(3 * SECOND);
    assert_eq!(desk.text(id), "PING\r\n");
    desk.now.us += 1500;
    desk.send(id, "PONG\r\n");
    assert_eq!(desk.front.connz(desk.now, false)[0].rtt_us, 1500);
    for _ in 0..10 {
        desk.advance(5 * SECOND);
        assert_eq!(desk.ask(id, "PING\r\n"), "PONG\r\n");
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_and_its_publisher_held_back_before() {
    let mut desk = Desk::new("max_pending: 100000, max_payload: 2000");
    let (slow, publisher) = (desk.quiet(), desk.quiet());
    desk.writes_through = false;
    desk.send(slow, "SUB a 1\r\n");
    let message = format!("PUB a 1000\r\n{}\r\n", "x".repeat(1000));
    let mut paused = 0;
    for _ in 0..200 {
        desk.send(publisher, &message);
        paused +=
            desk.others.iter().filter(|output| matches!(output, FrontOutput::ReadPause { paused: true, .. })).count();
        desk.others.clear();
        desk.advance(5_000);
    }
    assert!(paused > 5, "held back {paused} times");
    assert!(desk.is_closed(slow) && !desk.is_closed(publisher));
    assert_eq!(desk.front.closed().last().unwrap().stop.unwrap().1, "Slow Consumer (Pending Bytes)");
    let totals = desk.front.totals();
    assert_eq!((totals.slow_consumers, totals.connections, totals.subscriptions), (1, 1, 0));
    assert_eq!(totals.traffic.in_msgs, 200);
}

#[test]
fn a_socket_that_takes_nothing_for_the_write_deadline_is_cut() {
    let mut desk = Desk::new("write_deadline: \"2s\"");
    let stuck = desk.quiet();
    desk.writes_through = false;
    desk.send(stuck, "PING\r\n");
    assert_eq!(desk.front.next_wakeup(), Some(desk.now.us + 2 * SECOND));
    desk.advance(SECOND);
    desk.front.written(desk.now, ConnId(stuck), 1);
    desk.advance(SECOND);
    assert!(!desk.is_closed(stuck));
    desk.advance(SECOND);
    assert!(desk.is_closed(stuck));
    assert_eq!(desk.front.closed().last().unwrap().stop.unwrap().1, "Slow Consumer (Write Deadline)");
}

#[test]
fn a_stream_takes_each_message_once_beside_the_subscribers() {
    let mut desk = Desk::new("");
    let id = desk.quiet();
    desk.send(id, "SUB s.* 1\r\n");
    let subjects = |list: &[&'static str]| Some(list.iter().map(|text| Bytes::from_static(text.as_bytes())).collect());
    desk.front.stream_subjects(GroupId(7), Accounts::GLOBAL, subjects(&["s.>", "s.a"]));
    assert_eq!(desk.ask(id, "PUB s.a ack 1\r\nx\r\n"), "MSG s.a 1 ack 1\r\nx\r\n");
    let ingests: Vec<_> = desk.others.drain(..).filter(|output| matches!(output, FrontOutput::Ingest { .. })).collect();
    let [FrontOutput::Ingest { group: GroupId(7), message: Inward { subject, reply, payload, .. } }] = &ingests[..]
    else {
        panic!("{ingests:?}")
    };
    assert_eq!((&subject[..], reply.as_deref(), &payload[..]), (&b"s.a"[..], Some(&b"ack"[..]), &b"x"[..]));
    desk.front.stream_subjects(GroupId(7), Accounts::GLOBAL, subjects(&["t"]));
    desk.send(id, "PUB s.a 1\r\nx\r\nPUB t 1\r\nx\r\n");
    desk.front.stream_subjects(GroupId(7), Accounts::GLOBAL, None);
    desk.send(id, "PUB t 1\r\nx\r\n");
    assert_eq!(desk.others.iter().filter(|output| matches!(output, FrontOutput::Ingest { .. })).count(), 1);
}

#[test]
fn a_service_hears_who_asks_and_counts_as_a_responder() {
    let mut desk = Desk::new("");
    let id = desk.connect();
    desk.send(
        id,
        "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,\"name\":\"me\"}\r\nSUB re 1\r\n",
    );
    desk.front.service(Accounts::GLOBAL, Bytes::from_static(b"$JS.API.>"), Service::Api, false);
    assert_eq!(desk.ask(id, "PUB $JS.API.INFO re 0\r\n\r\n"), "");
    let asked = desk.others.pop_back().unwrap();
    let FrontOutput::Service { service: Service::Api, message: Inward { subject, .. }, client: Some(client) } = asked
    else {
        panic!("{asked:?}")
    };
    assert_eq!((&subject[..], client.name.as_str()), (&b"$JS.API.INFO"[..], "me"));
    assert!(desk.front.my_interest().iter().all(|(_, key)| key.subject() == b"re"));
    desk.front.unservice(Accounts::GLOBAL, Bytes::from_static(b"$JS.API.>"), Service::Api);
    assert!(desk.ask(id, "PUB $JS.API.INFO re 0\r\n\r\n").contains("503"));
}

#[test]
fn a_reply_that_nobody_hears_bounces_when_it_asks_to() {
    let mut desk = Desk::new("");
    let id = desk.quiet();
    desk.send(id, "SUB inbox 1\r\n");
    let reply = |subject: &'static str| Reply {
        to: crate::ids::Place { server: crate::ids::ServerId(1), core: 0 },
        account: Accounts::GLOBAL,
        subject: Bytes::from_static(subject.as_bytes()),
        shown: None,
        reply: Some(Bytes::from_static(b"$JS.ACK.s.c.1")),
        headers: Some(Bytes::from_static(b"NATS/1.0 100\r\n\r\n")),
        payload: Bytes::from_static(b"x"),
        bounce: Some((GroupId(3), 99)),
    };
    desk.front.reply(desk.now, reply("inbox"));
    desk.settle();
    assert_eq!(desk.text(id), "HMSG inbox 1 $JS.ACK.s.c.1 16 17\r\nNATS/1.0 100\r\n\r\nx\r\n");
    desk.front.reply(desk.now, reply("gone"));
    desk.settle();
    assert!(matches!(desk.others.pop_back(), Some(FrontOutput::Bounce { group: GroupId(3), token: 99 })));
    assert!(desk.front.has_interest(Accounts::GLOBAL, b"inbox") && !desk.front.has_interest(Accounts::GLOBAL, b"gone"));
}

#[test]
fn held_clients_are_not_read_and_go_on_where_they_were() {
    let mut desk = Desk::new("");
    let id = desk.quiet();
    desk.front.hold(desk.now, ConnId(id), true);
    assert_eq!(desk.ask(id, "PING\r\nPING\r\n"), "");
    assert!(matches!(desk.others.pop_back(), Some(FrontOutput::ReadPause { paused: true, .. })));
    desk.front.hold(desk.now, ConnId(id), false);
    desk.settle();
    assert_eq!(desk.text(id), "PONG\r\nPONG\r\n");
    assert!(matches!(desk.others.pop_back(), Some(FrontOutput::ReadPause { paused: false, .. })));
}

#[test]
fn a_reload_sends_away_whom_it_no_longer_knows_and_ends_what_it_forbids() {
    let users = |rest: &str| format!("accounts {{ A: {{ users: [ {{user: a, password: a}}, {rest} ] }} }}");
    let mut desk = Desk::new(&users("{user: b, password: b}, {user: c, password: c}"));
    let mut enter = |name: &str| {
        let id = desk.connect();
        desk.send(
            id,
            &format!("CONNECT {{\"user\":{name:?},\"pass\":{name:?},\"verbose\":false}}\r\nSUB s.1 1\r\nSUB x g 2\r\n"),
        );
        id
    };
    let (stays, changed, lost) = (enter("a"), enter("b"), enter("c"));
    let narrowed = users("{user: b, password: b, permissions: {subscribe: \"s.*\"}}");
    desk.front.reload(desk.now, config(&narrowed));
    desk.settle();
    assert_eq!(desk.text(stays), "");
    assert_eq!(
        desk.text(changed),
        "-ERR 'Permissions Violation for Subscription to \"x\" using queue \"g\" (sid \"2\")'\r\n"
    );
    assert_eq!(desk.text(lost), "-ERR 'Authorization Violation'\r\n");
    assert!(desk.is_closed(lost) && !desk.is_closed(changed));
    assert_eq!(desk.front.totals().subscriptions, 3);
    assert_eq!(desk.ask(stays, "PUB s.1 1\r\nx\r\n"), "MSG s.1 1 1\r\nx\r\n");
}

#[test]
fn a_limit_that_falls_below_what_is_connected_sends_the_latest_away() {
    let mut desk = Desk::new("");
    let clients: Vec<u64> = (0..6).map(|_| desk.quiet()).collect();
    desk.front.reload(desk.now, config("max_connections: 6"));
    desk.settle();
    assert!(clients.iter().all(|id| !desk.is_closed(*id)), "as many as may be");
    // Six more on another core: of eight, four may stay on each.
    let account = desk.front.accounts().id("$G").unwrap();
    desk.front.elsewhere(vec![(account, 6)]);
    desk.front.reload(desk.now, config("max_connections: 8"));
    desk.settle();
    let gone: Vec<bool> = clients.iter().map(|id| desk.is_closed(*id)).collect();
    assert_eq!(gone, [false, false, false, false, true, true]);
    assert_eq!(desk.text(clients[5]), "-ERR 'maximum connections exceeded'\r\n");
    assert_eq!(desk.ask(clients[0], "PING\r\n"), "PONG\r\n");
}

/// `pw`, at bcrypt's lowest cost.
const HASHED: &str = "$2a$04$KRGxLBS0Lxe3KBCwLBOuMuGnkSRkzqLMPDC9Iqk7BQH4SF0xo0ONW";

#[test]
fn while_a_hashed_password_is_compared_only_its_own_client_waits() {
    let users = format!("authorization {{ users: [ {{user: u, password: {HASHED:?}}}, {{user: v, password: v}} ] }}");
    let mut desk = Desk::new(&users);
    desk.compares = false;
    let asked = |desk: &mut Desk| {
        let at = desk.others.iter().position(|output| matches!(output, FrontOutput::Compare { .. })).unwrap();
        let Some(FrontOutput::Compare { conn, claim }) = desk.others.remove(at) else { panic!() };
        assert_eq!(claim.secret.text(), HASHED);
        conn
    };
    let say = |user: &str| format!("CONNECT {{\"verbose\":false,\"user\":{user:?},\"pass\":\"v\"}}\r\nPING\r\n");
    let (slow, quick, gone) = (desk.connect(), desk.connect(), desk.connect());
    assert_eq!(desk.ask(slow, &say("u")), "", "nothing is taken from it meanwhile");
    let slow_id = asked(&mut desk);
    assert_eq!(desk.ask(quick, &say("v")), "PONG\r\n");
    desk.send(gone, &say("u"));
    let gone_id = asked(&mut desk);
    desk.front.gone(desk.now, gone_id, "");
    desk.front.compared(desk.now, gone_id, true);
    desk.front.compared(desk.now, slow_id, true);
    desk.front.compared(desk.now, slow_id, false);
    desk.settle();
    assert_eq!(desk.text(slow), "PONG\r\n", "an answer counts once");

    // Never answered: the time to present oneself ends it. Wrong: the usual words.
    let (late, wrong) = (desk.connect(), desk.connect());
    desk.send(late, &say("u"));
    desk.send(wrong, &say("u"));
    asked(&mut desk);
    let wrong_id = asked(&mut desk);
    desk.front.compared(desk.now, wrong_id, false);
    desk.settle();
    assert_eq!(desk.text(wrong), "-ERR 'Authorization Violation'\r\n");
    desk.advance(3 * SECOND);
    assert_eq!(desk.text(late), "-ERR 'Authentication Timeout'\r\n");
    assert!(desk.is_closed(late) && desk.is_closed(wrong) && !desk.is_closed(slow));
}

#[test]
fn account_limits_hold_for_the_whole_server() {
    let mut desk = Desk::new(
        "accounts { A: { users: [ {user: a, password: a} ], limits: { max_conn: 2, max_subs: 1, max_payload: 4 } } }",
    );
    let account = desk.front.accounts().id("A").unwrap();
    let enter = |desk: &mut Desk| {
        let id = desk.connect();
        desk.send(id, "CONNECT {\"user\":\"a\",\"pass\":\"a\",\"verbose\":false}\r\n");
        id
    };
    let first = enter(&mut desk);
    desk.front.elsewhere(vec![(account, 1)]);
    let second = enter(&mut desk);
    assert_eq!(desk.text(second), "-ERR 'maximum account active connections exceeded'\r\n");
    assert!(desk.is_closed(second));
    assert_eq!(desk.ask(first, "SUB a 1\r\nSUB b 2\r\n"), "-ERR 'maximum subscriptions exceeded'\r\n");
    assert_eq!(
        desk.ask(first, "PUB a 4\r\n1234\r\nPUB a 5\r\n"),
        "MSG a 1 4\r\n1234\r\n-ERR 'Maximum Payload Violation'\r\n"
    );
}

#[test]
fn a_lame_duck_tells_its_clients_and_closes_them_one_by_one() {
    let mut options = options(config("lame_duck_duration: \"30s\", lame_duck_grace_period: \"10s\""), 1, 0, 1);
    options.cluster = Some("C".to_string());
    options.client_urls = vec!["own:1".to_string()];
    let mut desk = Desk::with(options);
    let clients: Vec<u64> = (0..5).map(|_| desk.connect()).collect();
    for id in &clients {
        desk.send(*id, "CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\n");
        desk.text(*id);
    }
    desk.front.cluster_urls(desk.now, vec!["other:1".to_string()]);
    desk.settle();
    assert_eq!(info_of(&desk.text(clients[0]))["connect_urls"], serde_json::json!(["own:1", "other:1"]));
    desk.front.cluster_urls(desk.now, vec!["other:1".to_string()]);
    desk.settle();
    assert_eq!(desk.text(clients[0]), "");
    desk.front.lame_duck(desk.now);
    desk.settle();
    let info = info_of(&desk.text(clients[4]));
    assert_eq!((&info["ldm"], &info["connect_urls"]), (&true.into(), &serde_json::json!(["other:1"])));
    desk.advance(10 * SECOND - 1);
    assert_eq!(desk.closed.len(), 0);
    let mut counts = Vec::new();
    for _ in 0..60 {
        desk.advance(SECOND / 10);
        counts.push(desk.closed.len());
    }
    assert!(counts.windows(2).all(|pair| pair[1] <= pair[0] + 1));
    assert_eq!(counts.last(), Some(&5));
    assert!(desk.front.lame_duck_done());
    assert!(desk.front.closed().all(|conn| conn.stop.unwrap().1 == "Server Shutdown"));
}

#[test]
fn the_connections_page_shows_who_is_there_and_who_was() {
    let mut desk = Desk::new("max_closed_clients: 2");
    let id = desk.connect();
    desk.send(id, "CONNECT {\"verbose\":false,\"name\":\"n\",\"lang\":\"go\",\"version\":\"1\",\"user\":\"me\"}\r\n");
    desk.send(id, "SUB a q 1\r\nUNSUB 1 9\r\nPUB a 3\r\nabc\r\n");
    desk.advance(SECOND);
    let conns = desk.front.connz(desk.now, true);
    let conn = &conns[0];
    assert_eq!(
        (conn.name.as_str(), conn.lang.as_str(), conn.version.as_str(), conn.user.as_str()),
        ("n", "go", "1", "me")
    );
    assert_eq!((conn.traffic.in_msgs, conn.traffic.out_bytes, conn.subscriptions, conn.uptime_us), (1, 3, 1, SECOND));
    assert_eq!((conn.subs[0].sid.as_str(), conn.subs[0].msgs, conn.subs[0].max), ("1", 1, 9));
    assert!(desk.front.kick(desk.now, conn.cid) && !desk.front.kick(desk.now, 12345));
    desk.settle();
    for _ in 0..3 {
        let brief = desk.connect();
        desk.front.gone(desk.now, ConnId(brief), "EOF");
    }
    assert_eq!(desk.front.closed().map(|conn| conn.stop.unwrap().1).collect::<Vec<_>>(), ["Client Closed"; 2]);
    assert_eq!((desk.front.totals().connections, desk.front.totals().total_connections), (0, 4));
    let row = &desk.front.account_totals()[0];
    assert_eq!((row.name.as_str(), row.connections, row.total_connections, row.subscriptions), ("$G", 0, 4, 0));
}

#[test]
fn coming_going_and_failing_to_enter_are_told() {
    let mut desk = Desk::new("authorization { user: u, password: p }");
    let (good, bad) = (desk.connect(), desk.connect());
    desk.send(good, "CONNECT {\"user\":\"u\",\"pass\":\"p\",\"verbose\":false}\r\n");
    desk.send(bad, "CONNECT {\"user\":\"u\",\"pass\":\"x\",\"verbose\":false}\r\n");
    desk.front.gone(desk.now, ConnId(good), "EOF");
    desk.settle();
    let events: Vec<SysEvent> = desk
        .others
        .drain(..)
        .filter_map(|output| match output {
            FrontOutput::SysEvent(event) => Some(event),
            _ => None,
        })
        .collect();
    let [SysEvent::Connect { client }, SysEvent::AuthError { client: failed, .. }, SysEvent::Disconnect { reason, .. }] =
        &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!((client.user.as_str(), failed.cid, *reason), ("u", 2, "Client Closed"));
}

#[test]
fn a_stop_closes_everybody_and_what_was_queued_still_leaves() {
    let mut desk = Desk::new("");
    let (one, two) = (desk.quiet(), desk.quiet());
    desk.send(one, "SUB a 1\r\n");
    desk.front.bytes(desk.now, ConnId(two), Bytes::from_static(b"PUB a 1\r\nx\r\n"));
    desk.front.close_all(desk.now, "");
    desk.settle();
    assert_eq!(desk.text(one), "MSG a 1 1\r\nx\r\n");
    assert!(desk.is_closed(one) && desk.is_closed(two));
    assert_eq!(desk.front.next_wakeup(), None);
}

#[test]
fn an_error_that_a_client_reports_is_shown_as_what_ended_it() {
    let mut desk = Desk::new("port: 4222");
    let id = desk.quiet();
    desk.send(id, "-ERR 'confused'\r\n");
    assert!(desk.is_closed(id));
    assert_eq!(desk.front.closed().last().unwrap().stop.unwrap().1, "Parse Error");
}
