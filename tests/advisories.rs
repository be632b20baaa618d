//! What JetStream tells unasked, heard by clients of other servers than those that it happens on.

mod common;

use std::time::Duration;

use common::cluster::Cluster;
use common::{Client, Message, Scratch, Server, text, wait_for};

/// Listens to every advisory of its account.
struct Listener {
    client: Client,
    /// Heard and not yet asked for.
    heard: Vec<Message>,
}

/// The users' passwords are their names.
fn connect(addr: &str, user: &str) -> Client {
    Client::connect_as(addr, &format!("\"user\":\"{user}\",\"pass\":\"{user}\",")).unwrap()
}

impl Listener {
    fn new(addr: &str, user: &str) -> Listener {
        let mut client = connect(addr, user);
        client.send("SUB $JS.EVENT.ADVISORY.> 1\r\n");
        client.flush().unwrap();
        Listener { client, heard: Vec::new() }
    }

    fn listen(&mut self, within: Duration) {
        self.client.set_timeout(within);
        if let Ok(message) = self.client.message() {
            self.heard.push(message);
        }
    }

    /// The body of the next event on this subject that mentions `part`.
    fn hears(&mut self, subject: &str, part: &str) -> String {
        let subject = format!("$JS.EVENT.ADVISORY.{subject}");
        wait_for(&format!("{subject} with {part}"), || {
            let at = self.heard.iter().position(|event| event.subject == subject && event.payload.contains(part));
            if at.is_none() {
                self.listen(Duration::from_millis(200));
            }
            Some(self.heard.remove(at?).payload)
        })
    }
}

/// Asks until the listeners hear of it: then every server knows of their interest.
fn until_heard(client: &mut Client, listener: &mut Listener) {
    wait_for("the first audit", || {
        client.request("$JS.API.STREAM.NAMES", "").ok()?;
        listener.listen(Duration::from_millis(200));
        (!listener.heard.is_empty()).then_some(())
    });
}

#[test]
fn assets_that_come_change_and_go_are_told_with_every_request_and_every_leader() {
    let cluster = Cluster::start("adv", 3, "");
    let mut app = Listener::new(&cluster.servers[1].client_addr(), "app");
    let mut system = Listener::new(&cluster.servers[2].client_addr(), "sys");
    let mut client = cluster.servers[0].connect();
    let mut operator = connect(&cluster.servers[0].client_addr(), "sys");
    until_heard(&mut client, &mut app);
    until_heard(&mut operator, &mut system);

    cluster.create(&mut client, r#"{"name":"S","subjects":["s.>"],"num_replicas":3}"#);
    let created = app.hears("STREAM.CREATED.S", "");
    assert!(created.contains(r#""type":"io.nats.jetstream.advisory.v1.stream_action""#), "{created}");
    assert!(created.contains(r#""stream":"S","action":"create""#), "{created}");
    let elected = app.hears("STREAM.LEADER_ELECTED.S", "");
    assert!(elected.starts_with(r#"{"type":"io.nats.jetstream.advisory.v1.stream_leader_elected""#), "{elected}");
    assert_eq!(elected.matches(r#""peer":"#).count(), 3, "all members: {elected}");
    assert!(!elected.contains("account"), "{elected}");
    let elected = system.hears("STREAM.LEADER_ELECTED.S", "");
    assert_eq!(text(&elected, "account").as_deref(), Some("APP"));

    let audit = app.hears("API", "STREAM.CREATE.S");
    assert_eq!(text(&audit, "subject").as_deref(), Some("$JS.API.STREAM.CREATE.S"));
    assert!(audit.contains(r#""acc":"APP","user":"app""#) && audit.contains(r#""server":"adv1""#), "{audit}");
    assert!(audit.contains(r#""response":"{\"type\":\"io.nats.jetstream.api.v1.stream_create_response\""#), "{audit}");

    let update = r#"{"name":"S","subjects":["s.>","t"],"num_replicas":3}"#;
    client.request("$JS.API.STREAM.UPDATE.S", update).unwrap();
    assert!(app.hears("STREAM.UPDATED.S", "").contains(r#""action":"modify""#));
    let consumer = r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#;
    for ack_wait in ["", ",\"ack_wait\":1000000000"] {
        let body = consumer.replace("\"explicit\"", &format!("\"explicit\"{ack_wait}"));
        client.request("$JS.API.CONSUMER.CREATE.S.C", &body).unwrap();
    }
    assert!(app.hears("CONSUMER.CREATED.S.C", "").contains(r#""stream":"S","consumer":"C","action":"create""#));
    assert_eq!(text(&system.hears("CONSUMER.LEADER_ELECTED.S.C", ""), "account").as_deref(), Some("APP"));
    client.request("$JS.API.STREAM.INFO.NONE", "").unwrap();
    assert!(app.hears("API", "STREAM.INFO.NONE").contains(r#"\"err_code\":10059"#));

    client.request("$JS.API.STREAM.LEADER.STEPDOWN.S", "").unwrap();
    app.hears("STREAM.LEADER_ELECTED.S", "");
    client.request("$JS.API.STREAM.DELETE.S", "").unwrap();
    app.hears("STREAM.DELETED.S", "\"delete\"");
    app.hears("CONSUMER.DELETED.S.C", "\"delete\"");
    let again: Vec<&str> = app.heard.iter().map(|event| event.subject.as_str()).collect();
    assert!(!again.iter().any(|subject| subject.contains("CREATED")), "an update is no creation: {again:?}");

    operator.request("$JS.API.META.LEADER.STEPDOWN", "").unwrap();
    let elected = system.hears("DOMAIN.LEADER_ELECTED", "");
    assert_eq!(text(&elected, "cluster").as_deref(), Some("adv"));
    assert_eq!(text(&elected, "leader").map(|peer| peer.len()), Some(8), "{elected}");
}

#[test]
fn a_server_that_is_taken_out_says_so() {
    let cluster = Cluster::start("advr", 3, "");
    let mut system = Listener::new(&cluster.servers[0].client_addr(), "sys");
    let mut operator = connect(&cluster.servers[1].client_addr(), "sys");
    until_heard(&mut operator, &mut system);
    // Who has just come is entered by the meta leader's next look.
    let removed = wait_for("the server to be a member", || {
        let removed = operator.request("$JS.API.SERVER.REMOVE", r#"{"peer":"advr3"}"#).unwrap();
        (!removed.payload.contains("10044")).then_some(removed)
    });
    assert!(removed.payload.contains("\"success\":true"), "{}", removed.payload);
    let told = system.hears("SERVER.REMOVED", "");
    assert!(told.starts_with(r#"{"type":"io.nats.jetstream.advisory.v1.server_removed","id":"#), "{told}");
    assert_eq!((text(&told, "server").as_deref(), text(&told, "cluster").as_deref()), (Some("advr3"), Some("advr")));
    assert!(cluster.servers[2].log().contains(&text(&told, "server_id").unwrap()), "{told}");
}

#[test]
fn a_store_that_is_full_says_so() {
    let dir = Scratch::new("advfull");
    let config = format!(
        "listen: \"127.0.0.1:-1\"\nserver_name: full\njetstream {{ store_dir: \"{}\", max_file_store: 16MB }}\n\
         trestle {{ segment_bytes: 1MB }}\naccounts: {{ APP: {{ users: [{{user: app, password: app}}], jetstream: enabled \
         }}, SYS: {{ users: [{{user: sys, password: sys}}] }} }}\nsystem_account: SYS\n",
        dir.path("store")
    );
    let server = Server::start(&dir, "full", &["-c", &dir.file("a.conf", &config), "--cores", "1"]);
    server.wait_ready();
    let mut system = Listener::new(&server.client_addr(), "sys");
    let mut client = connect(&server.client_addr(), "app");
    client.request("$JS.API.STREAM.CREATE.S", r#"{"name":"S"}"#).unwrap();
    let message = "x".repeat(200_000);
    // More than the store may hold: one of them is refused.
    let refused = (0..100).find_map(|_| client.publish("S", &message).err());
    assert!(refused.is_some_and(|why| why.contains("\"err_code\":10023")));
    let told = system.hears("SERVER.OUT_OF_STORAGE", "");
    assert!(told.starts_with(r#"{"type":"io.nats.jetstream.advisory.v1.server_out_of_space","id":"#), "{told}");
    assert_eq!(text(&told, "server").as_deref(), Some("full"), "{told}");
}

#[test]
fn a_leader_that_loses_its_majority_says_so() {
    let mut cluster = Cluster::start("advq", 3, "");
    let mut client = cluster.servers[0].connect();
    cluster.create(&mut client, r#"{"name":"S","subjects":["s.>"],"num_replicas":3}"#);
    let leader = cluster.leader(&mut client, "S");
    let addr = cluster.servers[leader].client_addr();
    let (mut app, mut system) = (Listener::new(&addr, "app"), Listener::new(&addr, "sys"));
    for other in (0..3).filter(|n| *n != leader) {
        cluster.servers[other].kill();
    }
    let lost = app.hears("STREAM.QUORUM_LOST.S", "");
    assert_eq!(text(&lost, "type").as_deref(), Some("io.nats.jetstream.advisory.v1.stream_quorum_lost"));
    assert_eq!(lost.matches(r#""peer":"#).count(), 3, "{lost}");
    assert_eq!(text(&system.hears("STREAM.QUORUM_LOST.S", ""), "account").as_deref(), Some("APP"));
    // The operator reads the same in the log.
    let server = &cluster.servers[leader];
    for line in [
        "[INF] JetStream cluster new stream leader for 'APP > S'",
        "[WRN] JetStream cluster stream 'APP > S' has NO quorum, stalled",
        "[INF] JetStream cluster no metadata leader",
    ] {
        wait_for(line, || server.log().contains(line).then_some(()));
    }
}

#[test]
fn a_server_that_stops_is_heard_to_the_end_on_the_others() {
    let mut cluster = Cluster::start("bye", 3, "");
    let mut system = connect(&cluster.servers[2].client_addr(), "sys");
    system.send("SUB $SYS.SERVER.*.SHUTDOWN 1\r\n");
    system.flush().unwrap();
    // What comes back from a server went there behind the subscription.
    wait_for("an answer of the server", || {
        let one = r#"{"server_name":"bye1"}"#;
        system.request("$SYS.REQ.SERVER.PING.STATSZ", one).ok().filter(|answer| answer.payload.contains("statsz"))
    });
    assert_eq!(cluster.servers[0].stop(), 0);
    let told = system.message().unwrap();
    assert!(told.subject.ends_with(".SHUTDOWN") && told.payload.contains("\"name\":\"bye1\""), "{}", told.payload);
}
