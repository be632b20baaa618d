//! Disks that lose power, and disks that fill up: real servers on real file systems.

mod common;

use std::path::Path;
use std::time::Duration;

use common::cluster::Cluster;
use common::mount::{Mount, or_skip};
use common::writer::Writer;
use common::{Client, Scratch, Server, run, wait_for};

const S: &str = r#"{"name":"S","subjects":["s.>"],"allow_direct":true}"#;
const S3: &str = r#"{"name":"S","subjects":["s.>"],"allow_direct":true,"num_replicas":3}"#;

fn create(client: &mut Client, config: &str) {
    let name = common::text(config, "name").unwrap();
    wait_for("the stream to be made", || {
        let made = client.request(&format!("$JS.API.STREAM.CREATE.{name}"), config).ok()?;
        made.payload.contains("\"did_create\":true").then_some(())
    });
}

/// A server of one core whose store has small segments.
fn server(dir: &Scratch, store: &str, more: &str) -> Server {
    let text = format!(
        "listen: \"127.0.0.1:-1\"\nserver_name: one\njetstream {{ store_dir: \"{store}\"{more} }}\n\
         trestle {{ segment_bytes: 1MB }}\n"
    );
    let conf = dir.file("one.conf", &text);
    Server::start(dir, "one", &["-c", &conf, "--cores", "1"])
}

fn assert_sound(store: &str) {
    let (code, text) = run(&["check", store]);
    assert!(code == 0 && text.contains("the store is sound"), "{text}");
}

#[test]
fn what_was_acknowledged_survives_power_cuts() {
    let dir = Scratch::new("power");
    let Some(disk) = or_skip(Mount::ext4(&dir, 64)) else { return };
    let mut server = server(&dir, &disk.store(), "");
    let mut client = server.connect();
    create(&mut client, S);
    let mut writer = Writer::new(300);
    for acks in [1, 150, 700, 1_500] {
        writer.begin(&mut client);
        wait_for("a leader", || writer.write(&mut client, 1).ok());
        writer.write(&mut client, acks).unwrap();
        disk.cut_power();
        // The window may still be answered by what was flushed before; then there is silence or an end.
        let _ = writer.write(&mut client, 100_000).expect_err("a disk without power acknowledges nothing");
        assert_ne!(server.wait_exit(), 0);
        // A write to the log, or to the head of its next segment.
        assert!(server.log().contains("Input/output error"), "{}", server.log());
        disk.power_on();
        server.again();
        server.wait_ready();
        client = server.connect();
        wait_for("the stream", || client.count("S").ok());
        writer.check(&mut client, 1);
    }
    writer.finish(&mut client);
    writer.check(&mut client, 1);
    drop(client);
    assert_eq!(server.stop(), 0);
    assert_sound(&disk.store());
}

#[test]
fn three_replicas_that_lose_power_at_once_lose_nothing() {
    let dir = Scratch::new("power3");
    let Some(disk) = or_skip(Mount::ext4(&dir, 128)) else { return };
    let mut cluster = Cluster::start_on("p", 3, &disk.dir, "");
    let mut client = cluster.servers[0].connect();
    cluster.create(&mut client, S3);
    let mut writer = Writer::new(300);
    for acks in [100, 900] {
        writer.begin(&mut client);
        writer.insist(&mut client, 1 + acks);
        disk.cut_power();
        for server in &mut cluster.servers {
            server.wait_exit();
        }
        disk.power_on();
        for server in &mut cluster.servers {
            server.again();
        }
        cluster.wait_formed();
        client = cluster.servers[0].connect();
        cluster.leader(&mut client, "S");
        writer.check(&mut client, 1);
    }
    drop(client);
    drop(cluster);
}

/// Fills the store until it refuses, shows what must go on then, makes room, and sees that everything is there.
fn fills_up(dir: &Scratch, store: &str, more: &str) {
    let mut one = server(dir, store, more);
    let mut client = one.connect();
    create(&mut client, S);
    create(&mut client, r#"{"name":"T","subjects":["t.>"],"allow_direct":true}"#);
    for _ in 0..5 {
        wait_for("a leader", || client.publish("t.x", "small").ok());
    }
    let mut writer = Writer::new(8_000);
    writer.begin(&mut client);
    wait_for("a leader", || writer.write(&mut client, 1).ok());
    let refused = writer.write(&mut client, 100_000).unwrap_err();
    assert!(refused.contains("\"err_code\":10023") && refused.contains("insufficient resources"), "{refused}");
    writer.settle(&mut client);
    assert!(writer.acked.len() > 500, "{} messages of 8 kB", writer.acked.len());
    assert!(client.publish("t.x", "small").unwrap_err().contains("\"err_code\":10023"));
    writer.check(&mut client, 1);
    let made = client.request("$JS.API.STREAM.CREATE.U", r#"{"name":"U","subjects":["u"]}"#).unwrap();
    assert!(made.payload.contains("insufficient"), "{made:?}");

    // It is as full after a start, and its owner can do something about it.
    one.kill();
    one.again();
    one.wait_ready();
    client = one.connect();
    wait_for("the stream", || client.count("S").ok());
    let deleted = client.request("$JS.API.STREAM.MSG.DELETE.T", r#"{"seq":2,"no_erase":true}"#).unwrap();
    assert!(deleted.payload.contains("\"success\":true"), "{deleted:?}");
    writer.begin(&mut client);
    let purged = client.request("$JS.API.STREAM.PURGE.S", r#"{"keep":100}"#).unwrap();
    assert!(purged.payload.contains("\"success\":true"), "{purged:?}");
    let first = common::number(&client.request("$JS.API.STREAM.INFO.S", "").unwrap().payload, "first_seq").unwrap();
    let enough = writer.acked.len() + 100;
    wait_for("space", || writer.write(&mut client, enough.saturating_sub(writer.acked.len())).ok());
    writer.settle(&mut client);
    writer.check(&mut client, first);
    let said = |server: &Server, part: &str| server.log().lines().filter(|line| line.contains(part)).count();
    // What was purged comes back segment by segment: the first of them may be used up before the next.
    assert!(said(&one, "the store is full") <= 6 && said(&one, "the store has space again") <= 6, "{}", one.log());

    // A stream that goes gives everything back.
    let refused = writer.write(&mut client, 100_000).unwrap_err();
    assert!(refused.contains("\"err_code\":10023"), "{refused}");
    let gone = client.request("$JS.API.STREAM.DELETE.S", "").unwrap();
    assert!(gone.payload.contains("\"success\":true"), "{gone:?}");
    let mut client = one.connect();
    wait_for("space", || client.publish("t.x", "small").ok());
    assert_eq!(client.count("T"), Ok(5));
    assert_eq!(one.stop(), 0);
    assert_sound(store);
}

#[test]
fn a_full_ext4_is_an_answer() {
    let dir = Scratch::new("full-ext4");
    let Some(disk) = or_skip(Mount::ext4(&dir, 24)) else { return };
    fills_up(&dir, &disk.store(), "");
}

#[test]
fn a_full_tmpfs_is_an_answer() {
    let dir = Scratch::new("full-tmpfs");
    let Some(disk) = or_skip(Mount::tmpfs(&dir, 16)) else { return };
    fills_up(&dir, &disk.store(), "");
}

#[test]
fn a_used_up_max_file_store_is_an_answer() {
    let dir = Scratch::new("full-quota");
    fills_up(&dir, &dir.path("store"), ", max_file_store: 12MB");
    let small = Path::new(&dir.0).join("tiny.conf");
    let text =
        format!("listen: \"127.0.0.1:-1\"\njetstream {{ store_dir: \"{}\", max_file_store: 1MB }}\n", dir.path("tiny"));
    std::fs::write(&small, text).unwrap();
    let (code, text) = run(&["-c", small.to_str().unwrap(), "--cores", "1"]);
    assert!(code == 1 && text.contains("cannot hold the 3 segments"), "{code} {text}");
}

#[test]
fn full_replicas_elect_leaders_and_can_be_emptied() {
    let dir = Scratch::new("full3");
    let mut cluster = Cluster::start_on("f", 3, &dir.0, "max_file_store: 12MB,");
    let mut client = cluster.servers[0].connect();
    cluster.create(&mut client, S3);
    let mut writer = Writer::new(8_000);
    writer.begin(&mut client);
    let refused = wait_for("a refusal", || {
        let refused = writer.write(&mut client, 100_000).unwrap_err();
        refused.contains("10023").then_some(refused)
    });
    assert!(refused.contains("insufficient resources"), "{refused}");
    writer.settle(&mut client);
    let leader = cluster.leader(&mut client, "S");
    cluster.servers[leader].kill();
    let mut client = cluster.servers[(leader + 1) % 3].connect();
    wait_for("another leader", || (cluster.leader(&mut client, "S") != leader).then_some(()));
    writer.check(&mut client, 1);
    cluster.servers[leader].again();
    cluster.servers[leader].wait_ready();
    wait_for("a purge", || {
        let purged = client.request("$JS.API.STREAM.PURGE.S", "").ok()?;
        purged.payload.contains("\"success\":true").then_some(())
    });
    drop(client);
    wait_for("space", || {
        // What reaches a leader that has just changed is not answered.
        let mut client = cluster.servers[leader].connect();
        client.set_timeout(Duration::from_secs(1));
        writer.begin(&mut client);
        writer.write(&mut client, 1).ok()
    });
}

/// Pulls and acknowledges so many messages, each acknowledgement with an answer; what came, in order.
fn consume(client: &mut Client, count: usize) -> Vec<u64> {
    const BATCH: usize = 100;
    let mut seqs = Vec::new();
    while seqs.len() < count {
        let ask = format!("{{\"batch\":{BATCH},\"no_wait\":true}}");
        client.send(&format!("SUB pulled 5\r\nPUB $JS.API.CONSUMER.MSG.NEXT.S.C pulled {}\r\n{ask}\r\n", ask.len()));
        let given: Vec<_> = (0..BATCH).map(|_| client.message().unwrap()).collect();
        client.send("UNSUB 5\r\n");
        for message in given {
            assert!(!message.headers.starts_with("NATS/1.0 "), "after {}: {message:?}", seqs.len());
            seqs.push(message.reply.split('.').nth(5).unwrap().parse().unwrap());
            let answer = client.request(&message.reply, "+ACK").unwrap();
            assert!(answer.headers.is_empty(), "{answer:?}");
        }
    }
    seqs
}

/// So long that nothing comes again, however slow the disk is: ten minutes in nanoseconds.
const ACK_WAIT: u64 = 600_000_000_000;

fn create_consumer(client: &mut Client, name: &str) -> String {
    let config = format!(
        r#"{{"stream_name":"S","config":{{"durable_name":"{name}","ack_policy":"explicit","ack_wait":{ACK_WAIT}}}}}"#
    );
    client.request(&format!("$JS.API.CONSUMER.CREATE.S.{name}"), &config).unwrap().payload
}

#[test]
fn a_consumer_reads_and_acknowledges_a_full_store() {
    let dir = Scratch::new("full-consumer");
    let mut one = server(&dir, &dir.path("store"), ", max_file_store: 10MB");
    let mut client = one.connect();
    create(&mut client, S);
    wait_for("the consumer to be made", || create_consumer(&mut client, "C").contains("\"created\"").then_some(()));
    let mut writer = Writer::new(1_500);
    writer.begin(&mut client);
    let refused = writer.write(&mut client, 100_000).unwrap_err();
    assert!(refused.contains("\"err_code\":10023"), "{refused}");
    writer.settle(&mut client);
    // Each acknowledgement is written, and takes a block: several times what is held back.
    let acks = 1_200;
    assert!(writer.acked.len() > 2 * acks, "{}", writer.acked.len());
    assert!((1..=acks as u64).eq(consume(&mut client, acks)));
    let refused = create_consumer(&mut client, "D");
    assert!(refused.contains("\"err_code\":10023"), "{refused}");
    let info = client.request("$JS.API.CONSUMER.INFO.S.C", "").unwrap().payload;
    assert!(info.contains(&format!("\"ack_floor\":{{\"consumer_seq\":{acks},\"stream_seq\":{acks}")), "{info}");
    drop(client);
    one.kill();
    one.again();
    one.wait_ready();
    let mut client = one.connect();
    wait_for("the consumer", || {
        client.request("$JS.API.CONSUMER.INFO.S.C", "").ok()?.payload.contains("num_pending").then_some(())
    });
    assert!(
        (acks as u64 + 1..=acks as u64 + 200).eq(consume(&mut client, 200)),
        "what was confirmed is not delivered again"
    );
    writer.check(&mut client, 1);
    assert!(client.request("$JS.API.STREAM.PURGE.S", "").unwrap().payload.contains("\"success\":true"));
    wait_for("space", || create_consumer(&mut client, "D").contains("\"created\"").then_some(()));
    assert_eq!(one.stop(), 0);
    assert_sound(&dir.path("store"));
}

#[test]
fn followers_that_are_fuller_than_their_leader_are_an_answer() {
    let dir = Scratch::new("crowd");
    let (large, small) = ("max_file_store: 60MB,", "max_file_store: 9MB,");
    let mut cluster = Cluster::start_each_on("g", &dir.0, &[large, small, small]);
    let mut client = cluster.servers[0].connect();
    cluster.create(&mut client, S3);
    wait_for("the roomy server to lead", || {
        let to = r#"{"placement":{"preferred":"g1"}}"#;
        client.request("$JS.API.STREAM.LEADER.STEPDOWN.S", to).ok()?;
        (cluster.leader(&mut client, "S") == 0).then_some(())
    });
    let mut writer = Writer::new(8_000);
    writer.begin(&mut client);
    let refused = wait_for("a refusal", || writer.write(&mut client, 100_000).err().filter(|e| e.contains("10023")));
    assert!(refused.contains("insufficient resources"), "{refused}");
    // Every one that is under way has its answer.
    writer.settle(&mut client);
    assert!(writer.acked.len() > 400, "{}", writer.acked.len());
    assert!(!cluster.servers[0].log().contains("the store is full"), "the leader has space");
    writer.check(&mut client, 1);
    let deleted = client.request("$JS.API.STREAM.MSG.DELETE.S", r#"{"seq":1,"no_erase":true}"#).unwrap();
    assert!(deleted.payload.contains("\"success\":true"), "{deleted:?}");
    let purged = client.request("$JS.API.STREAM.PURGE.S", r#"{"keep":100}"#).unwrap();
    assert!(purged.payload.contains("\"success\":true"), "{purged:?}");
    let first = common::number(&client.request("$JS.API.STREAM.INFO.S", "").unwrap().payload, "first_seq").unwrap();
    let mut client = cluster.servers[1].connect();
    writer.begin(&mut client);
    let enough = writer.acked.len() + 300;
    wait_for("space", || writer.write(&mut client, enough.saturating_sub(writer.acked.len())).ok());
    writer.settle(&mut client);
    writer.check(&mut client, first);
    wait_for("all replicas to have everything", || {
        let info = client.request("$JS.API.STREAM.INFO.S", "").ok()?.payload;
        (info.matches("\"current\":true").count() == 2 && !info.contains("\"lag\"")).then_some(())
    });
    drop(client);
    for server in &mut cluster.servers {
        assert_eq!(server.stop(), 0);
    }
    (1..=3).for_each(|n| assert_sound(&dir.path(&format!("store-g{n}"))));
}
