//! Requests whose JSON can be read and whose values cannot be meant: each is answered, as nats-server answers it where that is
//! installed, and what was there before is served on.

mod common;

use std::process::{Child, Command, Stdio};

use common::{Client, Scratch, Server, free_ports, number, wait_for};

const NUMBERS: [&str; 18] = [
    "-9223372036854775808",
    "-9223372036854775809",
    "-2",
    "-1",
    "0",
    "1",
    "2147483648",
    "9007199254740992",
    "1000000000000000000",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "1.5",
    "\"1\"",
    "null",
    "true",
];

const OF_STREAMS: [&str; 9] = [
    "max_msgs",
    "max_bytes",
    "max_age",
    "max_msg_size",
    "num_replicas",
    "max_consumers",
    "max_msgs_per_subject",
    "duplicate_window",
    "first_seq",
];

const OF_CONSUMERS: [&str; 11] = [
    "ack_wait",
    "max_deliver",
    "max_ack_pending",
    "max_waiting",
    "inactive_threshold",
    "max_batch",
    "max_expires",
    "max_bytes",
    "num_replicas",
    "opt_start_seq",
    "idle_heartbeat",
];

/// Subjects and bodies, in an order in which each leaves nothing behind.
fn requests() -> Vec<(String, String)> {
    let mut list: Vec<(String, String)> = Vec::new();
    let mut ask = |subject: &str, body: String| list.push((format!("$JS.API.{subject}"), body));
    for (field, value) in OF_STREAMS.iter().flat_map(|field| NUMBERS.map(|value| (field, value))) {
        ask("STREAM.CREATE.T", format!("{{\"name\":\"T\",\"subjects\":[\"t\"],\"{field}\":{value}}}"));
        ask("STREAM.DELETE.T", String::new());
    }
    for (field, value) in OF_CONSUMERS.iter().flat_map(|field| NUMBERS.map(|value| (field, value))) {
        let from = if *field == "opt_start_seq" { ",\"deliver_policy\":\"by_start_sequence\"" } else { "" };
        let config = format!("{{\"durable_name\":\"d\",\"ack_policy\":\"explicit\",\"{field}\":{value}{from}}}");
        ask("CONSUMER.CREATE.S.d", format!("{{\"stream_name\":\"S\",\"config\":{config}}}"));
        ask("CONSUMER.DELETE.S.d", String::new());
    }
    let names = ["", "a b", "a.b", "a*", "a>", "a/b", "ä", "a\\u0000b", "a\\nb", " ", "..", "$G"].map(str::to_owned);
    for name in names.into_iter().chain([255, 256, 3_000].map(|long| "n".repeat(long))) {
        ask("STREAM.CREATE.T", format!("{{\"name\":\"{name}\",\"subjects\":[\"q\"]}}"));
        let said: String = name.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        ask(&format!("STREAM.CREATE.{said}x"), format!("{{\"name\":\"{said}x\",\"subjects\":[\"q\"]}}"));
        ask(&format!("STREAM.DELETE.{said}x"), String::new());
    }
    let (long, deep) = ("a".repeat(5_000), vec!["a"; 3_000].join("."));
    let filters =
        ["", ".", "a..b", "a.>.b", "*a", "$JS.API.>", "$JS.>", "$SYS.>", "_INBOX.>", "a\\u0000b", &long, &deep];
    for filter in filters {
        ask("STREAM.CREATE.T", format!("{{\"name\":\"T\",\"subjects\":[\"{filter}\"]}}"));
        ask("STREAM.DELETE.T", String::new());
    }
    let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in ["", "{", "[]", "null", "x", "{\"name\":5}", "{\"name\":\"T\",\"storage\":5}", &nested] {
        ask("STREAM.CREATE.T", body.to_owned());
        ask("CONSUMER.CREATE.S.d", body.to_owned());
        ask("STREAM.DELETE.T", String::new());
    }
    for value in ["-1", "0", "99999999999999999999", "9223372036854775807"] {
        ask("STREAM.MSG.GET.S", format!("{{\"seq\":{value}}}"));
        ask("STREAM.MSG.DELETE.S", format!("{{\"seq\":{value}}}"));
        ask("STREAM.NAMES", format!("{{\"offset\":{value}}}"));
        ask("CONSUMER.LIST.S", format!("{{\"offset\":{value}}}"));
    }
    ask("STREAM.PURGE.S", "{\"keep\":-1}".into());
    ask("STREAM.PURGE.S", "{\"seq\":1,\"keep\":1}".into());
    ask("CONSUMER.PAUSE.S.c", "{\"pause_until\":\"9999-99-99T00:00:00Z\"}".into());
    list
}

/// Pulls of nothing: what each is answered at once.
fn pulls() -> Vec<String> {
    let fields = ["batch", "max_bytes", "expires", "idle_heartbeat"];
    let each = fields.iter().flat_map(|field| NUMBERS.map(|value| format!("{{\"{field}\":{value},\"no_wait\":true}}")));
    // A heartbeat needs an end, a batch of all others is one.
    each.chain(["-1", "99999999999999999999", "x", "{", "[]"].map(str::to_owned)).collect()
}

/// What is the same on every server about an answer: that it is good, or the number of the error.
fn verdict(payload: &str) -> String {
    number(payload, "err_code").map_or_else(|| "good".to_owned(), |code| code.to_string())
}

/// Asks everything; the verdicts.
fn ask_all(client: &mut Client) -> Vec<String> {
    wait_for("a stream", || {
        let made = client.request("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"]}"#).ok()?;
        made.payload.contains("\"did_create\":true").then_some(())
    });
    assert_eq!(client.publish("s.x", "kept"), Ok(1));
    let ask = r#"{"stream_name":"S","config":{"durable_name":"c","ack_policy":"explicit","filter_subject":"s.none"}}"#;
    assert!(client.request("$JS.API.CONSUMER.CREATE.S.c", ask).unwrap().payload.contains("\"created\""));
    let verdicts = requests().into_iter().map(|(subject, body)| {
        let answer = client.request(&subject, &body).unwrap_or_else(|why| panic!("{subject} {body}: {why}"));
        format!("{} {:.60} {:.90}", verdict(&answer.payload), subject, body)
    });
    verdicts.collect()
}

/// A nats-server with JetStream, killed at the end.
struct Peer(Child);

impl Peer {
    fn start(dir: &Scratch) -> Option<(Peer, Client)> {
        let port = free_ports(1)[0].to_string();
        let args = ["-a", "127.0.0.1", "-p", &port, "-js", "-sd", &dir.path("peer")];
        let child = Command::new("nats-server").args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let peer = Peer(child.ok()?);
        let client = wait_for("the peer", || Client::connect_as(&format!("127.0.0.1:{port}"), "").ok());
        Some((peer, client))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn absurd_requests_are_answered_as_the_peer_answers_them() {
    let dir = Scratch::new("absurd");
    let args = ["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", &dir.path("store"), "--cores", "2"];
    let server = Server::start(&dir, "one", &args);
    let mut client = server.connect();
    let ours = ask_all(&mut client);
    client.send("SUB pulled 3\r\n");
    for pull in pulls() {
        client.send(&format!("PUB $JS.API.CONSUMER.MSG.NEXT.S.c pulled {}\r\n{pull}\r\n", pull.len()));
    }
    client.flush().unwrap();
    let kept = client.request("$JS.API.STREAM.MSG.GET.S", "{\"seq\":1}").unwrap();
    assert!(kept.payload.contains("\"data\":\"a2VwdA==\""), "{kept:?}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    let Some((_peer, mut client)) = Peer::start(&dir) else {
        println!("skipped against the peer: nats-server is not on PATH");
        return;
    };
    let theirs = ask_all(&mut client);
    let differ: Vec<_> = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).collect();
    assert!(differ.is_empty(), "{differ:#?}");
}
