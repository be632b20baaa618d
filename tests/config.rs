//! The configuration files of this repository, and the same texts before this reader and before nats-server.

use std::path::{Path, PathBuf};
use std::process::Command;

use trestle::args::Flags;
use trestle::config::source::Disk;
use trestle::config::{self, Config};

fn load(path: &Path) -> Result<Config, String> {
    let flags = Flags { config: Some(path.to_path_buf()), ..Flags::default() };
    config::load(&Disk, &flags).map_err(|error| error.to_string())
}

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

#[test]
fn the_single_server_has_streams() {
    let config = load(&configs().join("single/trestle.conf")).unwrap();
    assert!(config.jetstream.is_some() && config.cluster.is_none() && config.account_jetstream("$G").is_some());
}

#[test]
fn the_six_servers_of_the_stretched_cluster_know_each_other() {
    let names = ["us_1", "us_2", "us_3", "emea_1", "emea_2", "emea_3"];
    let servers = names.map(|name| load(&configs().join(format!("stretch/{name}.conf"))).unwrap());
    let ports: Vec<u16> = servers.iter().map(|server| server.cluster.as_ref().unwrap().listen.port).collect();
    for (i, server) in servers.iter().enumerate() {
        assert_eq!(server.server_name.as_deref(), Some(names[i]));
        assert_eq!(server.listen.port, 4220 + i as u16);
        let cluster = server.cluster.as_ref().unwrap();
        assert_eq!(cluster.name.as_deref(), Some("STRETCH"));
        let mut routes: Vec<u16> = cluster.routes.iter().map(|route| route.port).collect();
        routes.push(cluster.listen.port);
        routes.sort();
        assert_eq!(routes, ports, "{}", names[i]);
        assert_eq!(server.notes, []);
        assert!(server.account_jetstream("ACC1").is_some());
    }
    let tagged = |tag: &str| servers.iter().filter(|server| server.server_tags.iter().any(|t| t == tag)).count();
    assert_eq!((tagged("ha:1"), tagged("ha:2"), tagged("dc:1"), tagged("dc:2")), (3, 3, 3, 3));
    let arbiter = load(&configs().join("stretch/temp_emea_4.conf")).unwrap();
    assert_eq!((arbiter.listen.port, arbiter.cluster.unwrap().routes.len()), (4226, 5));
    assert!(arbiter.server_tags.contains(&"ha:nope".to_string()));
}

/// Whether this reader and the peer agree on a text.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Verdict {
    /// Both take it.
    Good,
    /// Both refuse it.
    Bad,
    /// Both refuse it in the same words.
    SameWords,
}

const TEXTS: &[(Verdict, &str)] = &[
    (Verdict::Good, "port: 4222\n"),
    (Verdict::Good, "port 4222\nhost = localhost; debug = on, trace: off\n"),
    (Verdict::Good, "port\n\n  4222 // c\n# d\n"),
    (Verdict::Good, "{\"port\": 4222, \"debug\": true}\n"),
    (Verdict::Good, "port: 4222\n}\n"),
    (Verdict::Good, "PORT: 4222\nServer_Name: x\n"),
    (Verdict::Good, "P: 10\nport: $P\n"),
    (Verdict::Good, "server_tags: [a, \"b\"\nc:1,\n]\n"),
    (Verdict::Good, "max_payload: 1MB\nmax_pending: 10M\nmax_control_line: 4ki\n"),
    (Verdict::Good, "accounts {A: {users: [{user: a, password: b}], jetstream: enabled}}\n"),
    (Verdict::Good, "accounts {A: {users: [{user: a, password: $2a$11$abc}]}}\n"),
    (Verdict::Good, "authorization {user: a, password: 'it: \"is\" b', timeout: 0.5}\n"),
    (
        Verdict::Good,
        "authorization {users [{user: a, pass: b, permissions: {pub: \"a.>\", sub: {allow: [x, \"y q\"]}}}]}\n",
    ),
    (
        Verdict::Good,
        "cluster {name: c, listen: localhost:6222\n routes: [nats-route://h_a:6222\n nats-route://h_b:6222]}\n",
    ),
    (Verdict::Good, "cluster {port: 6222, compression: s2_auto, pool_size: 3, no_advertise: true}\n"),
    (
        Verdict::Good,
        "jetstream {store_dir=/d, max_mem: 1G, max_file: \"10G\", unique_tag: \"az:\", limits {max_ha_assets: 3}}\n",
    ),
    (Verdict::Good, "write_deadline: \"2s\"\nping_interval: \"1m30s\"\nlame_duck_duration: \"31s\"\n"),
    (Verdict::Good, "ping_interval: 1m30s\nwrite_deadline: 1h1m\n"),
    (Verdict::Good, "server_name: \"\"\npid_file: ''\nhost: \"\"\ncluster {name: \"\", advertise: \"\"}\n"),
    (Verdict::Good, "http: \"127.0.0.1:-1\"\nlisten: \"[::1]:4222\"\n"),
    (Verdict::SameWords, "jetstream: {domain=hub store=\"x\"}\n"),
    (Verdict::SameWords, "ping_max: 3 debug: true\n"),
    (Verdict::SameWords, "server_tags: [a b]\n"),
    (Verdict::SameWords, "port: 4222\ncluster: {\n"),
    (Verdict::SameWords, "port:\n10\n"),
    (Verdict::SameWords, "server_tags: [,]\n"),
    (Verdict::SameWords, "cluster {name: ,}\n"),
    (Verdict::SameWords, ": 1\n"),
    (Verdict::SameWords, "port: .5\n"),
    (Verdict::SameWords, "port: -x\n"),
    (Verdict::SameWords, "port: 1.x\n"),
    (Verdict::SameWords, "port: 12-3\n"),
    (Verdict::SameWords, "server_name: \"a\\qb\"\n"),
    (Verdict::SameWords, "include nope.conf\n"),
    (Verdict::SameWords, "port: $TRESTLE_NO_SUCH_VARIABLE\n"),
    (Verdict::SameWords, "server_name: $\n"),
    (Verdict::SameWords, "port: 99999999999999999999\n"),
    (Verdict::Bad, "server_name: \"a b\"\n"),
    (Verdict::Bad, "jetsteam: {}\n"),
    (Verdict::Bad, "port: \"x\"\n"),
    (Verdict::Bad, "jetstream: maybe\n"),
    (Verdict::Bad, "authorization {user: a, password: b, token: c}\n"),
    (Verdict::Bad, "accounts {A {users [{user: a, password: a}, {user: a, password: b}]}}\n"),
    (Verdict::Bad, "accounts {$G {}}\n"),
    (Verdict::Bad, "lame_duck_duration: \"1s\"\n"),
    (Verdict::Bad, "ping_interval: \"x\"\n"),
    (Verdict::Bad, "max_sub_tokens: 0\n"),
    (Verdict::Bad, "max_payload: 10G\n"),
    (Verdict::Bad, "http: abc\n"),
    (Verdict::Bad, "listen: 1:2:3\n"),
    (Verdict::Bad, "authorization {permissions {publish: \"a b\"}}\n"),
    (Verdict::Bad, "store_dir: a\njetstream {store_dir: b}\n"),
    (Verdict::Bad, "cluster {port: 1, authorization {token: x}}\n"),
];

/// The release whose words are compared.
const RELEASE: &str = "nats-server: v2.15.1";

/// Whether the peer can be asked: this release of it, which is not this program under its name.
fn peer_is_here() -> bool {
    let Ok(version) = Command::new("nats-server").arg("-v").output() else { return false };
    let text = String::from_utf8_lossy(&version.stdout);
    text.starts_with(RELEASE) && !text.contains("trestle")
}

#[test]
fn the_same_texts_are_good_and_bad_as_before_the_peer() {
    let folder = std::env::temp_dir().join(format!("trestle-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("x.conf");
    let with_peer = peer_is_here();
    if !with_peer {
        println!("skipped against the peer: {RELEASE} is not on PATH");
    }
    for (verdict, text) in TEXTS {
        std::fs::write(&path, text).unwrap();
        let ours = load(&path);
        assert_eq!(ours.is_ok(), *verdict == Verdict::Good, "{text}: {ours:?}");
        if !with_peer {
            continue;
        }
        let theirs = Command::new("nats-server").arg("-t").arg("-c").arg(&path).output().unwrap();
        assert_eq!(theirs.status.success(), *verdict == Verdict::Good, "{text}: {theirs:?}");
        if *verdict == Verdict::SameWords {
            let words = String::from_utf8_lossy(&theirs.stderr).trim().to_string();
            assert_eq!(format!("nats-server: {}", ours.unwrap_err()), words, "{text}");
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
