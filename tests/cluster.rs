//! Clusters of server processes: streams of three replicas through crashes and restarts, and servers that must not meet.

mod common;

use std::io::Write;
use std::net::TcpStream;

use common::cluster::Cluster;
use common::{Client, Server, free_ports, wait_for};

const STREAM: &str = r#"{"name":"S","subjects":["s.>"],"num_replicas":3}"#;

/// Publishes until acknowledged; the sequence. A try whose answer was lost may have been stored.
fn publish(client: &mut Client, payload: &str) -> u64 {
    // A try that reaches a leader as it dies is never answered.
    client.set_timeout(std::time::Duration::from_millis(500));
    let seq = wait_for("an acknowledgement", || client.publish("s.x", payload).ok());
    client.set_timeout(common::PATIENCE);
    seq
}

/// Every payload of the stream, read back one by one, once it holds at least `expected`: a new leader may not have
/// applied its last entries when it is first asked.
fn contents(client: &mut Client, expected: usize) -> Vec<String> {
    let count = wait_for("all messages", || client.count("S").ok().filter(|count| *count >= expected as u64));
    (1..=count)
        .map(|seq| {
            let ask = format!("{{\"seq\":{seq}}}");
            wait_for("a message", || {
                let got = client.request("$JS.API.STREAM.MSG.GET.S", &ask).ok()?;
                common::text(&got.payload, "data")
            })
        })
        .collect()
}

fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let n = chunk.iter().fold(0u32, |n, byte| n << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let letter = char::from(LETTERS[(n >> (18 - 6 * i) & 63) as usize]);
            out.push(if i <= chunk.len() { letter } else { '=' });
        }
    }
    out
}

fn assert_all_there(contents: &[String], acked: &[String]) {
    let mut at = contents.iter();
    for payload in acked {
        let wanted = base64(payload);
        assert!(at.any(|stored| *stored == wanted), "{payload} was acknowledged and is not there, or not in order");
    }
}

#[test]
fn three_replicas_lose_nothing_to_kill_9_of_the_leader_and_to_a_full_restart() {
    let mut cluster = Cluster::start("r", 3, "");
    let mut client = cluster.servers[0].connect();
    cluster.create(&mut client, STREAM);
    let mut acked = Vec::new();
    let mut send = |client: &mut Client, count: usize| {
        for _ in 0..count {
            let payload = format!("m{}", acked.len());
            publish(client, &payload);
            acked.push(payload);
        }
    };
    send(&mut cluster.servers[1].connect(), 20);
    let leader = cluster.leader(&mut client, "S");
    cluster.servers[leader].kill();
    let mut other = cluster.servers[(leader + 1) % 3].connect();
    send(&mut other, 20);
    cluster.servers[leader].again();
    cluster.servers[leader].wait_ready();
    let mut back = cluster.servers[leader].connect();
    send(&mut back, 20);
    wait_for("everyone to be current again", || {
        let info = back.request("$JS.API.STREAM.INFO.S", "").ok()?;
        let current = info.payload.matches("\"current\":true").count();
        (current == 2).then_some(())
    });
    for server in &cluster.servers {
        server.signal(nix::sys::signal::Signal::SIGTERM);
    }
    for server in &mut cluster.servers {
        assert_eq!(server.wait_exit(), 0);
        server.again();
    }
    cluster.wait_formed();
    let mut client = cluster.servers[2].connect();
    assert_all_there(&contents(&mut client, acked.len()), &acked);
}

#[test]
fn a_message_crosses_servers_and_clients_hear_of_the_other_servers() {
    let cluster = Cluster::start("x", 3, "");
    let (mut one, mut three) = (cluster.servers[0].connect(), cluster.servers[2].connect());
    three.send("SUB across 1\r\n");
    three.flush().unwrap();
    three.set_timeout(std::time::Duration::from_millis(200));
    let message = wait_for("the interest to travel", || {
        one.send("PUB across 5\r\nhello\r\n");
        one.flush().ok()?;
        three.message().ok()
    });
    assert_eq!(message.payload, "hello");
    let urls = wait_for("all three addresses", || {
        let info = cluster.servers[0].connect().info;
        let all = cluster.servers.iter().all(|server| info.contains(&server.client_addr()));
        all.then_some(info)
    });
    assert!(urls.contains("connect_urls"));
}

#[test]
fn wrong_credentials_of_a_route_are_refused_and_said_once() {
    let dir = common::Scratch::new("credentials");
    let ports = free_ports(2);
    let text = |own: u16, user: &str, routes: &str| {
        format!(
            "listen: \"127.0.0.1:-1\"\ncluster {{ name: C, listen: \"127.0.0.1:{own}\", routes: [{routes}]\n\
             authorization {{ user: {user}, password: secret }} }}\n"
        )
    };
    let good = dir.file("good.conf", &text(ports[0], "right", ""));
    let server = Server::start(&dir, "good", &["-c", &good]);
    let url = format!("\"nats://wrong:secret@127.0.0.1:{}\"", ports[0]);
    let bad = dir.file("bad.conf", &text(ports[1], "wrong", &url));
    let stranger = Server::start(&dir, "bad", &["-c", &bad]);
    stranger.wait_log("Authorization Violation");
    server.wait_log("refused: Authorization Violation");
    // By the time that a garbled hello has been answered, the stranger has tried again several times.
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.route_addr()).unwrap();
        stream.write_all(b"TRST").unwrap();
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    }
    for log in [server.log(), stranger.log()] {
        assert_eq!(log.matches("Authorization Violation").count(), 1, "{log}");
    }
}

#[test]
fn a_server_that_stands_still_is_given_up_and_comes_back() {
    let cluster = Cluster::start("z", 3, "");
    let mut client = cluster.servers[0].connect();
    cluster.create(&mut client, STREAM);
    publish(&mut client, "before");
    cluster.servers[2].signal(nix::sys::signal::Signal::SIGSTOP);
    cluster.servers[0].wait_log("Route to z3 is down: stale connection");
    publish(&mut client, "during");
    cluster.servers[2].signal(nix::sys::signal::Signal::SIGCONT);
    wait_for("the link to stand again", || {
        let log = cluster.servers[0].log();
        (log.rfind("Route to z3 is up") > log.rfind("Route to z3 is down")).then_some(())
    });
    let stored = contents(&mut cluster.servers[2].connect(), 2);
    assert_all_there(&stored, &["before".to_owned(), "during".to_owned()]);
}

/// What a server says of its JetStream, asked through another one.
fn jsz(system: &mut Client, server: &str) -> Option<String> {
    let ask = format!("{{\"server_name\":\"{server}\"}}");
    Some(system.request("$SYS.REQ.SERVER.PING.JSZ", &ask).ok()?.payload)
}

#[test]
fn a_running_server_that_is_evicted_disables_its_jetstream_until_it_is_let_in_again() {
    let cluster = Cluster::start("e", 3, "");
    let mut client = cluster.servers[0].connect();
    let operator = "\"user\":\"sys\",\"pass\":\"sys\",";
    let mut system = Client::connect_as(&cluster.servers[0].client_addr(), operator).expect("the system account");
    let meta_leader = wait_for("a meta leader", || common::text(&jsz(&mut system, "e1")?, "leader"));
    // One stream on each server: one of them is not on the meta leader, and not on the one that is asked.
    for name in ["S", "A", "B", "C"] {
        let replicas = if name == "S" { 3 } else { 1 };
        let config = format!("{{\"name\":\"{name}\",\"subjects\":[\"{name}.>\"],\"num_replicas\":{replicas}}}");
        cluster.create(&mut client, &config);
    }
    let (stream, leaver) = ["A", "B", "C"]
        .into_iter()
        .map(|stream| (stream, format!("e{}", cluster.leader(&mut client, stream) + 1)))
        .find(|(_, server)| *server != meta_leader && *server != "e1")
        .expect("three servers hold one stream each");
    let publish_there = |client: &mut Client| client.publish(&format!("{stream}.x"), "kept").ok();
    wait_for("an acknowledgement", || publish_there(&mut client));
    let named = format!("{{\"peer\":\"{leaver}\"}}");
    let removed = system.request("$JS.API.SERVER.REMOVE", &named).expect("an answer");
    assert!(removed.payload.contains("\"success\":true"), "{}", removed.payload);
    wait_for("a disabled JetStream", || jsz(&mut system, &leaver)?.contains("\"disabled\":true").then_some(()));
    wait_for("nobody to lead its stream", || {
        client.request(&format!("$JS.API.STREAM.INFO.{stream}"), "").ok()?.payload.contains("\"error\"").then_some(())
    });
    assert!(publish_there(&mut client).is_none());
    // Its clients are served by the others.
    let number: usize = leaver[1..].parse::<usize>().expect("a number") - 1;
    let mut there = cluster.servers[number].connect();
    wait_for("a publish through it", || there.publish("S.x", "m").ok());
    let gone = system.request("$JS.API.SERVER.REMOVE", &named).expect("an answer");
    assert!(gone.payload.contains("\"err_code\":10044"), "{}", gone.payload);
    let back = system.request("$JS.API.SERVER.READMIT", &named).expect("an answer");
    assert!(back.payload.contains("\"success\":true"), "{}", back.payload);
    wait_for("its stream", || publish_there(&mut client).filter(|seq| *seq >= 2));
    wait_for("JetStream there", || (!jsz(&mut system, &leaver)?.contains("\"disabled\":true")).then_some(()));
}

#[test]
fn account_totals_count_the_requests_of_every_core_and_server() {
    let cluster = Cluster::of("t", &["2", "2", "2"], "", &[]);
    let mut client = cluster.servers[0].connect();
    for n in 0..8 {
        cluster.create(&mut client, &format!(r#"{{"name":"S{n}","subjects":["s{n}.>"],"num_replicas":1}}"#));
    }
    let number = |text: &str, name: &str| -> u64 {
        let (_, rest) = text.split_once(&format!("\"{name}\":")).unwrap();
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let api = |server: usize| {
        let mut client = cluster.servers[server].connect();
        let info = client.request("$JS.API.INFO", "").unwrap().payload;
        let (_, api) = info.split_once("\"api\":").unwrap();
        (number(api, "total"), number(api, "errors"))
    };
    let before = api(0);
    // The streams are spread over servers and cores; what a core counted is asked of it.
    for n in 0..8 {
        for server in 0..3 {
            let mut client = cluster.servers[server].connect();
            let info = client.request(&format!("$JS.API.STREAM.INFO.S{n}"), "").unwrap();
            assert!(info.payload.contains("\"created\""), "{}", info.payload);
        }
    }
    for server in 0..3 {
        let refused = cluster.servers[server].connect().request("$JS.API.STREAM.INFO.NONE", "").unwrap();
        assert!(refused.payload.contains("\"error\""), "{}", refused.payload);
    }
    // The first INFO itself counts by now.
    assert_eq!(api(1), (before.0 + 24 + 3 + 1, before.1 + 3));
}
