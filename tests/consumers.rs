//! Consumers as clients of other servers see them: pulls whose client is gone, acks that nobody takes, a replay.

mod common;

use std::time::{Duration, Instant};

use common::cluster::Cluster;
use common::{Client, Message, number, text, wait_for};

/// A cluster with the replicated stream S and its consumer C.
fn with_consumer(name: &str, config: &str) -> (Cluster, Client) {
    let cluster = Cluster::of(name, &["2", "1", "2"], "", &[]);
    let mut client = cluster.servers[0].connect();
    cluster.create(&mut client, r#"{"name":"S","subjects":["s.>"],"num_replicas":3}"#);
    add_consumer(&mut client, config);
    (cluster, client)
}

fn add_consumer(client: &mut Client, config: &str) {
    let body = format!(r#"{{"stream_name":"S","config":{{"durable_name":"C","ack_policy":"explicit"{config}}}}}"#);
    let created = client.request("$JS.API.CONSUMER.CREATE.S.C", &body).unwrap().payload;
    assert!(created.contains("\"num_pending\""), "{created}");
}

/// Asks for one message and waits for it.
fn next(client: &mut Client) -> Message {
    client.send("SUB next.box 7\r\nPUB $JS.API.CONSUMER.MSG.NEXT.S.C next.box 1\r\n1\r\n");
    let message = client.message().unwrap();
    client.send("UNSUB 7\r\n");
    message
}

fn consumer_info(client: &mut Client, key: &str) -> Option<u64> {
    number(&client.request("$JS.API.CONSUMER.INFO.S.C", "").ok()?.payload, key)
}

#[test]
fn a_pull_whose_client_is_gone_takes_no_message() {
    let (cluster, mut client) = with_consumer("gone", "");
    for server in &cluster.servers {
        let mut other = server.connect();
        other.send("SUB gone.box 7\r\nPUB $JS.API.CONSUMER.MSG.NEXT.S.C gone.box 1\r\n9\r\n");
        other.flush().unwrap();
        wait_for("a waiting pull", || (consumer_info(&mut client, "num_waiting") == Some(1)).then_some(()));
        drop(other);
        wait_for("the pull to go", || (consumer_info(&mut client, "num_waiting") == Some(0)).then_some(()));
    }
    client.publish("s.1", "x").unwrap();
    let message = next(&mut client);
    assert_eq!(message.payload, "x");
    assert!(message.reply.starts_with("$JS.ACK.S.C.1.1.1."), "the first delivery of all: {}", message.reply);
}

#[test]
fn an_ack_that_nobody_takes_finds_no_responders() {
    let (_cluster, mut client) = with_consumer("nobody", "");
    client.publish("s.1", "x").unwrap();
    let ack = next(&mut client).reply;
    for nobody in [ack.replace(".S.C.", ".S.D."), ack.replace(".S.C.", ".T.C."), format!("{ack}.more")] {
        let answer = client.request(&nobody, "").unwrap();
        assert!(answer.headers.starts_with("NATS/1.0 503\r\n"), "{nobody}: {}", answer.headers);
    }
    assert_eq!(client.request(&ack, "").unwrap().headers, "");
    assert_eq!(consumer_info(&mut client, "num_ack_pending"), Some(0));
}

#[test]
fn a_replay_keeps_the_gaps_between_messages() {
    let (_cluster, mut client) = with_consumer("pace", "");
    let gap = Duration::from_millis(400);
    client.publish("s.1", "first").unwrap();
    let published = Instant::now();
    wait_for("a gap", || (published.elapsed() >= gap).then_some(()));
    client.publish("s.2", "second").unwrap();
    client.request("$JS.API.CONSUMER.DELETE.S.C", "").unwrap();
    add_consumer(&mut client, r#","replay_policy":"original""#);
    // It cannot have gone out before it was asked for, and the other one not before the gap was over.
    let asked = Instant::now();
    assert_eq!(next(&mut client).payload, "first");
    assert_eq!(next(&mut client).payload, "second");
    assert!(asked.elapsed() >= gap, "{:?}", asked.elapsed());
}

#[test]
fn a_server_that_stops_tells_the_pulls_that_wait_at_it() {
    let (mut cluster, mut client) = with_consumer("stops", "");
    let info = client.request("$JS.API.CONSUMER.INFO.S.C", "").unwrap().payload;
    let leader = text(&info, "leader").expect("a leader");
    let at = (0..3).find(|n| leader == format!("stops{}", n + 1)).expect("one of the three");
    let mut other = cluster.servers[(at + 1) % 3].connect();
    other.send("SUB stop.box 7\r\nPUB $JS.API.CONSUMER.MSG.NEXT.S.C stop.box 1\r\n9\r\n");
    other.flush().unwrap();
    let mut asker = cluster.servers[(at + 1) % 3].connect();
    wait_for("a waiting pull", || (consumer_info(&mut asker, "num_waiting") == Some(1)).then_some(()));
    assert_eq!(cluster.servers[at].stop(), 0);
    let told = other.message().unwrap().headers;
    assert!(told.starts_with("NATS/1.0 409 Server Shutdown\r\nNats-Pending-Messages: 9\r\n"), "{told}");
}
