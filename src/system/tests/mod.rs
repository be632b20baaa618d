//! Pages of whole servers.

mod fields;
mod pages;
mod peer;
mod world;

use std::time::Duration;

use crate::config::Config;
use crate::config::options::{
    Account, AccountJetStream, Auth, Cluster, HostPort, JetStream, JetStreamLimits, Route, Secret, User,
};
use crate::ids::Place;
use world::{World, id};

/// The system account `SYS` with user `admin`, and `ACC1` with user `acc1` and JetStream; passwords like the names.
fn config(clustered: bool) -> Config {
    let user = |name: &str, account: &str| User {
        name: name.into(),
        password: Secret::new(name.into()),
        account: account.into(),
        permissions: None,
    };
    let account = |name: &str, jetstream| Account { name: name.into(), jetstream, ..Account::default() };
    let route = |host: &str| Route { host: host.into(), port: 6222, user: None, password: None };
    let cluster = Cluster {
        name: Some("C1".into()),
        auth_timeout: Duration::from_secs(2),
        routes: vec![route("n1"), route("n2")],
        ..Cluster::default()
    };
    Config {
        server_tags: vec!["dc:1".into()],
        listen: HostPort { host: "127.0.0.1".into(), port: 4222 },
        http: Some(HostPort { host: "127.0.0.1".into(), port: 8222 }),
        http_base_path: "/nats".into(),
        accounts: vec![account("SYS", None), account("ACC1", Some(AccountJetStream::default()))],
        auth: Auth { users: vec![user("admin", "SYS"), user("acc1", "ACC1")], ..Auth::default() },
        system_account: Some("SYS".into()),
        cluster: clustered.then_some(cluster),
        jetstream: Some(JetStream {
            domain: Some("hub".into()),
            unique_tag: None,
            limits: JetStreamLimits::default(),
            ..JetStream::default()
        }),
        ..Config::default()
    }
}

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// Three linked servers with a meta leader.
fn cluster() -> World {
    let mut world = World::new(&NAMES, 1, config(true));
    world.link_all();
    world.run(3_000_000);
    world
}

fn at(server: &str, core: u16) -> Place {
    Place { server: id(server), core }
}

fn json(body: &[u8]) -> serde_json::Value {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(body)))
}

/// The payload of the message on an inbox among what a client heard.
fn payloads(heard: &str) -> Vec<serde_json::Value> {
    let bodies = heard.lines().filter(|line| line.starts_with('{'));
    bodies.map(|line| json(line.as_bytes())).collect()
}

/// A stream of three replicas with a message, a consumer, and a client that listens.
fn furnish(world: &mut World) -> (Place, crate::ids::ConnId) {
    let place = at("n1", 0);
    let client = world.client("n1", 0, "acc1");
    let stream = r#"{"name":"S1","subjects":["s1.>"],"num_replicas":3,"storage":"file","retention":"limits"}"#;
    let made = world.request(place, client, "$JS.API.STREAM.CREATE.S1", stream);
    assert!(made.contains("stream_create_response") && !made.contains("error"), "{made}");
    let consumer = r#"{"stream_name":"S1","config":{"durable_name":"C1","name":"C1","ack_policy":"explicit"}}"#;
    let made = world.request(place, client, "$JS.API.CONSUMER.CREATE.S1.C1", consumer);
    assert!(made.contains("consumer_create_response") && !made.contains("error"), "{made}");
    assert!(world.request(place, client, "s1.a", "hello").contains("\"seq\":1"));
    world.say(place, client, "SUB foo.> 1\r\nSUB q.> qq 2\r\n");
    world.run(1_000_000);
    (place, client)
}
