//! What the pages say, of one server, of two cores, and of a cluster that loses members.

use serde_json::Value;

use super::world::{World, id};
use super::{at, cluster, config, furnish, json, payloads};
use crate::config::Config;
use crate::config::options::{Cluster, Route};

fn page(world: &mut World, server: &str, target: &str) -> Value {
    json(&world.http(server, target).1)
}

fn health(world: &mut World, server: &str) -> (u16, String) {
    let (status, body) = world.http(server, "/nats/healthz");
    (status, json(&body)["error"].as_str().unwrap_or("").to_owned())
}

#[test]
fn a_server_is_ready_only_once_the_meta_group_has_a_leader() {
    let mut world = World::new(&super::NAMES, 1, config(true));
    let (status, error) = health(&mut world, "n1");
    assert_eq!(status, 503);
    assert_eq!(error, "JetStream has not established contact with a meta leader");
    world.link_all();
    world.run(3_000_000);
    for server in super::NAMES {
        assert_eq!(health(&mut world, server), (200, String::new()), "{server}");
    }
    let (_, body) = world.http("n1", "/nats/healthz");
    assert_eq!(&body[..], br#"{"status":"ok"}"#);
}

#[test]
fn a_server_that_is_cut_off_is_not_ready_and_its_peers_are() {
    let mut world = cluster();
    furnish(&mut world);
    world.cut(id("n3"));
    world.run(5_000_000);
    let (status, error) = health(&mut world, "n3");
    assert_eq!(status, 503, "{error}");
    assert_eq!(health(&mut world, "n1"), (200, String::new()));
    let meta = page(&mut world, "n3", "/nats/jsz")["meta_cluster"].clone();
    assert!(meta["leader"].is_null(), "{meta}");
    assert_eq!(meta["cluster_size"], 3);
    let (_, body) = world.http("n3", "/nats/healthz?details=1");
    assert_eq!(json(&body)["errors"][0]["type"], "JETSTREAM");
    assert_eq!(world.http("n3", "/nats/healthz?js-enabled-only=1").0, 200);
    let offline: Vec<Value> = page(&mut world, "n1", "/nats/jsz")["meta_cluster"]["replicas"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|replica| replica["offline"] == true)
        .map(|replica| replica["name"].clone())
        .collect();
    assert_eq!(offline, ["n3"]);
}

#[test]
fn health_of_one_asset_names_what_is_not_there() {
    let mut world = cluster();
    furnish(&mut world);
    for (query, status, error) in [
        ("account=ACC1&stream=S1&consumer=C1", 200, ""),
        ("account=ACC1&stream=X", 404, "JetStream stream \"X\" not found on account \"ACC1\""),
        ("account=ACC9", 404, "JetStream account \"ACC9\" not found"),
        ("stream=X", 400, "\"account\" must not be empty when checking stream health"),
        ("account=A&consumer=X", 400, "\"stream\" must not be empty when checking consumer health"),
    ] {
        let (got, body) = world.http("n1", &format!("/nats/healthz?{query}"));
        assert_eq!((got, json(&body)["error"].as_str().unwrap_or("")), (status, error), "{query}");
    }
}

#[test]
fn before_it_is_formed_a_cluster_is_as_large_as_its_routes() {
    let route = |port| Route { host: "h".into(), port, user: None, password: None };
    let cluster = Cluster { routes: (1..=6).map(route).collect(), ..Cluster::default() };
    let mut world = World::new(&["n1"], 1, Config { cluster: Some(cluster), ..config(true) });
    world.run(2_000_000);
    let meta = page(&mut world, "n1", "/nats/jsz")["meta_cluster"].clone();
    assert_eq!((&meta["cluster_size"], &meta["quorum_needed"]), (&6.into(), &4.into()));
    assert!(meta["leader"].is_null() && meta["replicas"].is_null());
}

#[test]
fn every_server_answers_a_ping_and_counts_the_others() {
    let mut world = cluster();
    let admin = world.client("n2", 0, "admin");
    let heard = world.request(at("n2", 0), admin, "$SYS.REQ.SERVER.PING", "{}");
    let mut names: Vec<String> = Vec::new();
    for body in payloads(&heard) {
        assert_eq!(body["statsz"]["active_servers"], 3);
        assert_eq!(body["statsz"]["routes"].as_array().map(Vec::len), Some(8));
        names.push(body["server"]["name"].as_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, super::NAMES);
}

#[test]
fn requests_reach_the_servers_that_they_name() {
    let mut world = cluster();
    let admin = world.client("n1", 0, "admin");
    let mut ask = |subject: &str, body: &str| payloads(&world.request(at("n1", 0), admin, subject, body));
    let named = ask("$SYS.REQ.SERVER.PING.VARZ", r#"{"server_name":"n2","exact_match":true}"#);
    assert_eq!(named.len(), 1);
    assert_eq!(named[0]["data"]["server_name"], "n2");
    assert_eq!(ask("$SYS.REQ.SERVER.Nn3.IDZ", "")[0]["name"], "n3");
    let leaders = ask("$SYS.REQ.SERVER.PING.JSZ", r#"{"leader_only":true}"#);
    assert_eq!(leaders.len(), 1);
    assert_eq!(leaders[0]["server"]["name"], leaders[0]["data"]["meta_cluster"]["leader"]);
    let bad = ask("$SYS.REQ.SERVER.PING.JSZ", "{bad");
    assert!(bad.iter().all(|body| body["error"]["code"] == 400 && body["data"].is_object()));
    let refused = ask("$SYS.REQ.SERVER.PING.EXPVARZ", "");
    assert!(refused[0]["error"]["description"].as_str().unwrap().contains("EXPVARZ is not supported"));
    assert!(ask("$SYS.REQ.SERVER.PING.CONNZ", r#"{"sort":"foo"}"#)[0]["error"]["code"] == 500);
    assert_eq!(ask("$SYS.REQ.ACCOUNT.ACC1.STATZ", "").len(), 0);
    assert_eq!(ask("$SYS.REQ.ACCOUNT.ACC1.INFO", "")[0]["data"]["account_name"], "ACC1");
    assert_eq!(ask("$SYS.REQ.ACCOUNT.SYS.JSZ", "")[0]["error"]["code"], 500);
}

#[test]
fn the_connections_of_an_account_are_told_when_they_change_and_when_asked_for() {
    let mut world = World::new(&["n1"], 2, config(false));
    world.run(3_000_000);
    let admin = world.client("n1", 0, "admin");
    world.say(at("n1", 0), admin, "SUB $SYS.SERVER.ACCOUNT.ACC1.CONNS 1\r\n");
    world.run(1_000_000);
    world.heard(admin);
    world.client("n1", 1, "acc1");
    world.run(1_000_000);
    let told = payloads(&world.heard(admin));
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["type"], "io.nats.server.advisory.v1.account_connections");
    assert_eq!(
        (&told[0]["acc"], &told[0]["conns"], &told[0]["server"]["name"]),
        (&"ACC1".into(), &1.into(), &"n1".into())
    );
    world.run(31_000_000);
    assert_eq!(payloads(&world.heard(admin)).len(), 1, "a beat");
    let mut ask = |account: &str, body: &str| {
        payloads(&world.request(at("n1", 0), admin, &format!("$SYS.REQ.ACCOUNT.{account}.CONNS"), body))
    };
    assert_eq!(ask("ACC1", "")[0]["total_conns"], 1);
    assert_eq!(ask("ACC1", r#"{"acc":"ACC1"}"#).len(), 1);
    assert_eq!((ask("ACC1", r#"{"acc":"SYS"}"#).len(), ask("NOPE", "").len()), (0, 0));
}

#[test]
fn unknown_requests_find_no_responders() {
    let mut world = cluster();
    let admin = world.client("n1", 0, "admin");
    let heard = world.request(at("n1", 0), admin, "$SYS.REQ.SERVER.PING.NOSUCHZ", "");
    assert!(heard.contains("NATS/1.0 503"), "{heard}");
    let client = world.client("n1", 0, "acc1");
    let heard = world.request(at("n1", 0), client, "$SYS.REQ.SERVER.PING", "");
    assert!(heard.contains("NATS/1.0 503"), "{heard}");
}

#[test]
fn accounts_hear_about_themselves_only() {
    let mut world = cluster();
    let (place, client) = furnish(&mut world);
    world.client("n2", 0, "admin");
    let heard = payloads(&world.request(place, client, "$SYS.REQ.ACCOUNT.PING.CONNZ", r#"{"acc":"SYS","auth":true}"#));
    let rows: Vec<&Value> = heard.iter().flat_map(|body| body["data"]["connections"].as_array().unwrap()).collect();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["account"], "ACC1");
    let me = payloads(&world.request(place, client, "$SYS.REQ.USER.INFO", ""));
    assert_eq!(me.len(), 1);
    assert_eq!(me[0]["data"], serde_json::json!({"user": "acc1", "account": "ACC1", "account_name": "ACC1"}));
}

#[test]
fn two_cores_make_one_page() {
    let mut world = World::new(&["n1"], 2, config(false));
    world.run(2_000_000);
    let (_, second) = (world.client("n1", 0, "acc1"), world.client("n1", 1, "acc1"));
    assert_eq!(page(&mut world, "n1", "/nats/varz")["connections"], 2);
    let connz = page(&mut world, "n1", "/nats/connz?sort=subs&limit=1");
    assert_eq!((&connz["total"], &connz["num_connections"]), (&2.into(), &1.into()));
    world.say(at("n1", 1), second, "SUB a 1\r\nSUB b 2\r\n");
    let connz = page(&mut world, "n1", "/nats/connz?sort=subs&limit=1&subs=1");
    assert_eq!(connz["connections"][0]["subscriptions_list"].as_array().map(Vec::len), Some(2));
    let cid = connz["connections"][0]["cid"].clone();
    let subs = page(&mut world, "n1", "/nats/subsz?subs=1&acc=ACC1&test=b");
    assert_eq!((&subs["total"], &subs["subscriptions_list"][0]["cid"]), (&1.into(), &cid));
    let admin = world.client("n1", 0, "admin");
    let kick = |cid: &Value| format!("{{\"cid\":{cid}}}");
    let done = world.request(at("n1", 0), admin, "$SYS.REQ.SERVER.Nn1.KICK", &kick(&cid));
    assert!(payloads(&done)[0]["error"].is_null());
    assert!(world.is_closed(second));
    let again = world.request(at("n1", 0), admin, "$SYS.REQ.SERVER.Nn1.KICK", &kick(&cid));
    assert_eq!(payloads(&again)[0]["error"]["description"], "no such client or leafnode id");
    assert!(payloads(&again)[0].get("data").is_none());
    assert_eq!(page(&mut world, "n1", "/nats/connz?state=closed")["connections"][0]["cid"], cid);
}

#[test]
fn one_client_is_told_to_look_for_another_server() {
    let mut world = World::new(&["n1"], 2, config(false));
    world.run(2_000_000);
    let (deaf, listens) = (world.client("n1", 0, "acc1"), world.client("n1", 1, "acc1"));
    world.say(at("n1", 1), listens, "CONNECT {\"user\":\"acc1\",\"pass\":\"acc1\",\"protocol\":1}\r\nPING\r\n");
    let heard = world.heard(listens);
    let rows = page(&mut world, "n1", "/nats/connz")["connections"].clone();
    let admin = world.client("n1", 0, "admin");
    let mut answers = Vec::new();
    for cid in rows.as_array().unwrap().iter().map(|row| row["cid"].clone()).chain([9999.into()]) {
        let told = world.request(at("n1", 0), admin, "$SYS.REQ.SERVER.Nn1.LDM", &format!("{{\"cid\":{cid}}}"));
        let error = &payloads(&told)[0]["error"];
        answers.push(error["description"].as_str().unwrap_or("told").to_owned());
    }
    answers.sort();
    let deafness = "client does not support Lame Duck Mode or is not ready to receive the notification";
    assert_eq!(answers, [deafness, "no such client id", "told"]);
    assert!(world.heard(listens).contains("\"ldm\":true") && !heard.contains("\"ldm\":true"));
    assert!(!world.heard(deaf).contains("\"ldm\":true") && !world.is_closed(listens));
    assert_eq!(page(&mut world, "n1", "/nats/varz")["connections"], 3);
}

#[test]
fn a_server_alone_has_no_meta_cluster_and_one_without_jetstream_says_so() {
    let mut world = World::new(&["n1"], 1, config(false));
    world.run(2_000_000);
    assert_eq!(health(&mut world, "n1"), (200, String::new()));
    assert!(page(&mut world, "n1", "/nats/jsz")["meta_cluster"].is_null());
    let mut plain = World::new(&["n1"], 1, Config { jetstream: None, ..config(false) });
    plain.run(1_000_000);
    let jsz = page(&mut plain, "n1", "/nats/jsz");
    assert_eq!(jsz["disabled"], true);
    assert!(jsz["config"].is_object());
    assert_eq!(health(&mut plain, "n1").0, 200);
}

#[test]
fn pages_are_below_the_base_path_and_refuse_bad_queries() {
    let mut world = World::new(&["n1"], 1, config(false));
    world.run(2_000_000);
    for (target, status) in [
        ("/nats/varz", 200),
        ("/nats", 200),
        ("/varz", 404),
        ("/nats/nosuchz", 404),
        ("/nats/connz?limit=a", 400),
        ("/nats/connz?sort=foo", 400),
        ("/nats/accountz?acc=NONE", 400),
    ] {
        assert_eq!(world.http("n1", target).0, status, "{target}");
    }
    assert_eq!(page(&mut world, "n1", "/nats/varz")["http_req_stats"]["/connz"], 2);
}

#[test]
fn a_core_that_stays_silent_does_not_keep_a_page_for_ever() {
    let mut world = World::new(&["n1"], 2, config(false));
    world.run(2_000_000);
    world.stun(at("n1", 1));
    assert_eq!(world.http_later("n1", "/nats/varz", 900_000), None);
    let (status, body) = world.http_later("n1", "/nats/healthz", 1_200_000).expect("after a second");
    assert_eq!(status, 503);
    assert_eq!(json(&body)["error"], "only 1 of 2 cores answer");
}
