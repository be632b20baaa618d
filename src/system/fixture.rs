//! A server and a client for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::SystemOptions;
use super::scene::{Server, Vitals};
use crate::client::ClientFacts;
use crate::cluster::table::ServerFacts;
use crate::config::Config;
use crate::config::options::{HostPort, JetStream};
use crate::ids::AccountId;

pub fn config() -> Config {
    Config {
        listen: HostPort { host: "127.0.0.1".into(), port: 4222 },
        server_tags: vec!["dc:1".into(), "region:emea".into()],
        jetstream: Some(JetStream { domain: Some("hub".into()), ..JetStream::default() }),
        ..Config::default()
    }
}

pub fn facts() -> ServerFacts {
    ServerFacts {
        name: "emea_1".into(),
        cluster: "STRETCH".into(),
        domain: "hub".into(),
        tags: config().server_tags,
        file_bytes_max: 0,
        memory_bytes_max: 0,
    }
}

pub fn options(config: Config) -> SystemOptions {
    SystemOptions {
        core: 0,
        cores: 1,
        config: Arc::new(config),
        server_id: "NID".into(),
        server_name: "emea_1".into(),
        cluster: Some("STRETCH".into()),
        version: "2.15.1".into(),
        start_wall_ns: 1_795_257_319_000_000_000,
        client_url: "127.0.0.1:4222".into(),
        route_url: Some("127.0.0.1:6222".into()),
        http_url: Some("127.0.0.1:8222".into()),
        pid: 1,
        boot: 7,
    }
}

pub fn server() -> Server {
    Server {
        options: options(config()),
        facts: facts(),
        vitals: Vitals::default(),
        links: BTreeMap::new(),
        http_counts: BTreeMap::new(),
        config_wall_ns: 0,
    }
}

pub fn client() -> ClientFacts {
    ClientFacts {
        cid: 5,
        remote: "127.0.0.1:50000".parse().expect("an address"),
        account: AccountId(1),
        account_name: "ACC1".into(),
        user: "acc1".into(),
        name: "cli".into(),
        lang: "go".into(),
        version: "1.52.0".into(),
        start_wall_ns: 0,
        rtt_us: 400,
        permissions: None,
    }
}
