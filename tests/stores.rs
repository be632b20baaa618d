//! Data directories that are lost, foreign, half-written or rotten: refused with a word of advice, or served as far as
//! they are whole and healed from a peer. `trestle check` finds each.

mod common;

use std::path::{Path, PathBuf};

use common::cluster::Cluster;
use common::writer::Writer;
use common::{Client, Scratch, Server, run, wait_for};

/// Bytes of a message: a segment of 1 MiB holds about 120.
const BYTES: usize = 8_000;

fn conf(dir: &Scratch, store: &Path) -> String {
    let text = format!(
        "listen: \"127.0.0.1:-1\"\nserver_name: one\njetstream {{ store_dir: \"{}\" }}\ntrestle {{ segment_bytes: 1MB }}\n",
        store.display()
    );
    dir.file("one.conf", &text)
}

/// A stopped store with a stream of that many messages.
fn filled(dir: &Scratch, messages: usize) -> (PathBuf, Server, Writer) {
    let store = dir.0.join("store");
    let mut server = Server::start(dir, "one", &["-c", &conf(dir, &store), "--cores", "1"]);
    let mut client = server.connect();
    wait_for("a stream", || {
        let config = r#"{"name":"S","subjects":["s.>"],"allow_direct":true}"#;
        let made = client.request("$JS.API.STREAM.CREATE.S", config).ok()?;
        made.payload.contains("\"created\"").then_some(())
    });
    let mut writer = Writer::new(BYTES);
    writer.begin(&mut client);
    wait_for("a leader", || writer.write(&mut client, 1).ok());
    writer.write(&mut client, messages - 1).unwrap();
    assert_eq!(server.stop(), 0);
    (store.join("jetstream"), server, writer)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

fn replace(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

/// What happened to a directory: what is done to the store, what a start says about it, and whether a check, which does
/// not know whose the store should be, finds it, too.
type Case = (fn(&Path), &'static str, &'static str, bool);

const CASES: [Case; 13] = [
    (|root| remove(&root.join("identity")), "lost store: ", "move the directory away", true),
    (
        |root| change(&root.join("identity"), |bytes| bytes.truncate(bytes.len() / 2)),
        "damaged store: identity",
        "backup",
        true,
    ),
    (
        |root| replace(&root.join("identity"), "trestle store 1", "trestle store 2"),
        "format version 2",
        "a newer one",
        true,
    ),
    (|root| replace(&root.join("identity"), "server one", "server two"), "damaged store: identity", "backup", true),
    (
        |root| {
            remove(&root.join("identity"));
            std::fs::create_dir(root.join("identity")).unwrap();
        },
        "cannot read ",
        "identity",
        true,
    ),
    (|root| remove(&root.join("shard-000/manifest")), "manifest is missing", "move the directory away", true),
    (|root| std::fs::remove_dir_all(root.join("shard-000")).unwrap(), "manifest is missing", "backup", true),
    (
        |root| change(&root.join("shard-000/manifest"), |bytes| bytes.truncate(20)),
        "damaged log: manifest",
        "backup",
        true,
    ),
    (
        |root| {
            change(&root.join("shard-000/manifest"), |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            });
        },
        "damaged log: manifest",
        "backup",
        true,
    ),
    (
        |root| replace(&root.join("shard-000/manifest"), "trestle log 1", "trestle log 9"),
        "format version 9",
        "a newer one",
        true,
    ),
    (|root| remove(&root.join("shard-000/segment-00000002")), "segment-00000002", "put back what is missing", true),
    (
        |root| change(&root.join("shard-000/segment-00000001"), |bytes| bytes.truncate(500_000)),
        "segment-00000001 has 500000 bytes",
        "put back what is missing",
        true,
    ),
    (
        |root| change(&root.join("shard-000/segment-00000001"), |bytes| bytes[..8192].fill(7)),
        "segment-00000001",
        "backup",
        true,
    ),
];

#[test]
fn lost_half_written_and_newer_stores_are_refused_with_advice() {
    let dir = Scratch::new("refused");
    let (whole, server, _) = filled(&dir, 200);
    drop(server);
    let root = dir.0.join("victim/jetstream");
    let conf = conf(&dir, &dir.0.join("victim"));
    for (at, (harm, says, advises, found)) in CASES.into_iter().enumerate() {
        let _ = std::fs::remove_dir_all(&root);
        copy(&whole, &root);
        harm(&root);
        let mut server = Server::launch(&dir, &format!("case{at}"), &["-c", &conf, "--cores", "1"]);
        assert_eq!(server.wait_exit(), 1, "case {at}");
        let log = server.log();
        let line = log.lines().find(|line| line.contains("[FTL]")).unwrap_or_default();
        assert!(line.contains(says) && line.contains(advises), "case {at}, {says:?}: {log}");
        let (code, text) = run(&["check", &root.display().to_string()]);
        assert!(!found || code == 1 && text.contains("PROBLEM"), "case {at}: {text}");
    }
}

#[test]
fn a_segment_of_another_store_is_not_taken_for_one_of_this() {
    let (dir, other) = (Scratch::new("mixed"), Scratch::new("mixed"));
    let ((root, mut server, _), (foreign, ..)) = (filled(&dir, 200), filled(&other, 200));
    let segment = "shard-000/segment-00000001";
    std::fs::copy(foreign.join(segment), root.join(segment)).unwrap();
    server.again();
    assert_eq!(server.wait_exit(), 1);
    let log = server.log();
    let line = log.lines().find(|line| line.contains("[FTL]")).unwrap_or_default();
    assert!(line.contains("segment-00000001") && line.contains("backup"), "{log}");
    let (code, text) = run(&["check", &root.display().to_string()]);
    assert!(code == 1 && text.contains("PROBLEM"), "{text}");
}

#[test]
fn the_store_of_another_server_is_refused_and_is_sound() {
    let dir = Scratch::new("foreign");
    let (root, server, _) = filled(&dir, 10);
    drop(server);
    let store = root.parent().unwrap().display().to_string();
    let (code, text) = run(&["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", &store, "-n", "other"]);
    assert!(code == 1 && text.contains("it belongs to server \"one\"") && text.contains("its own store_dir"), "{text}");
    assert_eq!(run(&["check", &store]).0, 0);
}

/// Flips a bit in the middle of the stored payload of a message; false if it is not in a file of the store.
fn rot(shard: &Path, message: u64) -> bool {
    let wanted = format!("{message}:{}", char::from(b'a' + (message % 26) as u8).to_string().repeat(100));
    for entry in std::fs::read_dir(shard).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-")) {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        // A longer number ends like a shorter one.
        let digit = |at: usize| bytes[at - 1].is_ascii_digit();
        let found = bytes.windows(wanted.len()).position(|window| window == wanted.as_bytes());
        if let Some(at) = found.filter(|at| !digit(*at)) {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &[bytes[at + 50] ^ 4], at as u64 + 50).unwrap();
            file.sync_all().unwrap();
            return true;
        }
    }
    false
}

fn read(client: &mut Client, seq: u64) -> String {
    let got = client.request("$JS.API.DIRECT.GET.S", &format!("{{\"seq\":{seq}}}")).unwrap();
    got.payload
}

#[test]
fn damage_under_a_lone_server_is_named_and_the_rest_is_served() {
    let dir = Scratch::new("lone");
    let (root, mut server, mut writer) = filled(&dir, 600);
    let shard = root.join("shard-000");
    server.again();
    server.wait_ready();
    let mut client = server.connect();
    wait_for("the stream", || client.count("S").ok());
    let made = client.request("$JS.API.STREAM.CREATE.T", r#"{"name":"T","subjects":["t"]}"#).unwrap();
    assert!(made.payload.contains("\"did_create\":true"), "{made:?}");
    // Under the running server, which verifies what it stored from time to time.
    let damaged = 200;
    assert!(rot(&shard, damaged));
    server.wait_log("the store is damaged: segment ");
    server.wait_log("there is no other replica to heal it");
    let seq = writer.acked[&damaged];
    let got = client.request("$JS.API.STREAM.MSG.GET.S", &format!("{{\"seq\":{seq}}}")).unwrap();
    assert!(got.payload.contains("\"error\""), "{}", got.payload.len());
    for whole in [1, 100, 300, 600] {
        assert!(read(&mut client, writer.acked[&whole]).starts_with(&format!("{whole}:")));
    }
    writer.begin(&mut client);
    writer.write(&mut client, 20).unwrap();
    let (code, text) = (server.stop(), run(&["check", &root.display().to_string()]));
    assert!(code == 0 && text.0 == 1 && text.1.contains("DAMAGED segment"), "{text:?}");

    // A start needs what came since the last checkpoint: without it the stream stays closed. The others are served, and it
    // can be deleted.
    server.again();
    server.wait_ready();
    server.wait_log("is damaged and there is no other replica; it stays closed, restore its store from");
    let mut client = server.connect();
    wait_for("the other stream", || client.publish("t", "on").ok());
    let info = client.request("$JS.API.STREAM.INFO.S", "").unwrap().payload;
    assert!(info.contains("\"err_code\":10194") && info.contains("is damaged and there is no other replica"), "{info}");
    assert!(client.publish("s.x", "nobody takes it").is_err());
    let gone = client.request("$JS.API.STREAM.DELETE.S", "").unwrap();
    assert!(gone.payload.contains("\"success\":true"), "{gone:?}");
    wait_for("a new stream", || {
        let made = client.request("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"]}"#).ok()?;
        made.payload.contains("\"did_create\":true").then_some(())
    });
    wait_for("a leader", || client.publish("s.x", "again").ok());
}

#[test]
fn damage_under_a_replica_is_found_without_a_reader_and_healed_from_a_peer() {
    let dir = Scratch::new("heals");
    let mut cluster = Cluster::start_on("h", 3, &dir.0, "");
    let mut client = cluster.servers[0].connect();
    cluster.create(&mut client, r#"{"name":"S","subjects":["s.>"],"allow_direct":true,"num_replicas":3}"#);
    let mut writer = Writer::new(BYTES);
    writer.begin(&mut client);
    writer.insist(&mut client, 401);
    let victim = (cluster.leader(&mut client, "S") + 1) % 3;
    let root = dir.0.join(format!("store-h{}/jetstream", victim + 1));
    drop(client);
    // Once before a start, once under the running server.
    assert_eq!(cluster.servers[victim].stop(), 0);
    assert!(rot(&root.join("shard-000"), 20));
    cluster.servers[victim].again();
    cluster.servers[victim].wait_ready();
    cluster.servers[victim].wait_log("healed from another replica");
    assert!(rot(&root.join("shard-000"), 90));
    wait_for("the second healing", || {
        (cluster.servers[victim].log().matches("healed from another replica").count() >= 2).then_some(())
    });
    let mut client = cluster.servers[victim].connect();
    writer.check(&mut client, 1);
    drop(client);
    drop(cluster);
}
