//! Wall clocks that jump under running servers. A small library, built here by the C compiler and loaded before libc,
//! shifts what each process takes for the time by as much as a file says.

mod common;

use std::os::unix::fs::FileExt;
use std::process::Command;

use common::cluster::{Cluster, FILE_STORE, conf};
use common::writer::Writer;
use common::{Client, Scratch, Server, free_ports, number, wait_for};

const SHIM: &str = r#"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long *shift;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_SHIFT");
    int file = path ? open(path, O_RDONLY) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    if (map != MAP_FAILED) shift = map;
}

int clock_gettime(clockid_t id, struct timespec *at) {
    int result = (int)syscall(SYS_clock_gettime, id, at);
    if (id == CLOCK_REALTIME && shift) at->tv_sec += *shift;
    return result;
}
"#;

const HOUR: i64 = 3_600;

/// Three servers, each with a clock that can be set.
struct Shifted {
    cluster: Cluster,
    files: Vec<std::fs::File>,
}

impl Shifted {
    /// `None` without a C compiler.
    fn start() -> Option<Shifted> {
        let dir = Scratch::new("clocks");
        let (source, library) = (dir.file("shim.c", SHIM), dir.path("shim.so"));
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o", &library, &source]).status();
        if !built.is_ok_and(|status| status.success()) {
            println!("skipped: there is no C compiler");
            return None;
        }
        let routes = free_ports(3);
        let (mut servers, mut files) = (Vec::new(), Vec::new());
        for (n, own) in routes.iter().enumerate() {
            let name = format!("t{}", n + 1);
            let text = conf("t", n + 1, *own, &routes, "");
            let text = text.replace("store-", &format!("{}/store-", dir.0.display()));
            let text = text.replace("jetstream { ", &format!("jetstream {{ {FILE_STORE} "));
            let (path, shift) = (dir.file(&format!("{name}.conf"), &text), dir.file(&name, "\0\0\0\0\0\0\0\0"));
            let env = [("LD_PRELOAD", library.as_str()), ("CLOCK_SHIFT", shift.as_str())];
            servers.push(Server::launch_with(&dir, &name, &["-c", &path, "--cores", "1"], &env));
            files.push(std::fs::OpenOptions::new().write(true).open(&shift).unwrap());
        }
        let cluster = Cluster { servers, routes, dir };
        cluster.wait_formed();
        Some(Shifted { cluster, files })
    }

    fn set(&self, server: usize, seconds: i64) {
        self.files[server].write_all_at(&seconds.to_le_bytes(), 0).unwrap();
    }

    fn set_all(&self, seconds: i64) {
        (0..3).for_each(|server| self.set(server, seconds));
    }

    /// Makes that server the leader of the stream.
    fn lead(&self, client: &mut Client, server: usize) {
        let ask = format!("{{\"placement\":{{\"preferred\":\"t{}\"}}}}", server + 1);
        wait_for("the leader to be there", || {
            if self.cluster.leader(client, "S") == server {
                return Some(());
            }
            let _ = client.request("$JS.API.STREAM.LEADER.STEPDOWN.S", &ask);
            None
        });
    }
}

/// When a message was stored, as a text that sorts by time.
fn time_of(client: &mut Client, seq: u64) -> String {
    let got = client.request("$JS.API.DIRECT.GET.S", &format!("{{\"seq\":{seq}}}")).unwrap();
    let stamp = got.headers.lines().find_map(|line| line.strip_prefix("Nats-Time-Stamp: ")).unwrap();
    let (second, part) = stamp.trim_end_matches('Z').split_once('.').unwrap_or((stamp.trim_end_matches('Z'), ""));
    format!("{second}.{part:0<9}")
}

/// Publishes under an id until that is acknowledged; the answer.
fn publish_id(client: &mut Client, id: &str) -> String {
    let head = format!("NATS/1.0\r\nNats-Msg-Id: {id}\r\n\r\n");
    client.send("SUB answers 5\r\n");
    wait_for("an acknowledgement", || {
        client.send(&format!("HPUB s.id answers {0} {0}\r\n{head}\r\n", head.len()));
        let answer = std::iter::from_fn(|| client.message().ok()).find(|message| message.subject == "answers")?;
        answer.payload.contains("\"seq\"").then_some(answer.payload)
    })
}

/// Messages of the consumer that were delivered again.
fn redelivered(client: &mut Client) -> u64 {
    number(&client.request("$JS.API.CONSUMER.INFO.S.c", "").unwrap().payload, "num_redelivered").unwrap()
}

#[test]
fn clocks_that_jump_under_a_load_disturb_nobody() {
    let Some(shifted) = Shifted::start() else { return };
    let cluster = &shifted.cluster;
    let mut client = cluster.servers[0].connect();
    cluster.create(&mut client, r#"{"name":"S","subjects":["s.>"],"allow_direct":true,"num_replicas":3}"#);
    cluster.create(
        &mut client,
        r#"{"name":"A","subjects":["a"],"num_replicas":3,"max_age":1800000000000,"duplicate_window":60000000000}"#,
    );
    wait_for("the consumer", || {
        let ask = r#"{"stream_name":"S","config":{"durable_name":"c","name":"c","ack_policy":"explicit","ack_wait":600000000000}}"#;
        let made = client.request("$JS.API.CONSUMER.CREATE.S.c", ask).ok()?;
        made.payload.contains("\"created\"").then_some(())
    });
    let mut writer = Writer::new(100);
    let addr = cluster.servers[0].client_addr();
    writer.persist(&addr, 1);
    wait_for("a leader of the other", || client.publish("a", "old").ok());
    // One message is out and not acknowledged, for ten minutes.
    client.send("SUB pulled 6\r\n");
    let out = wait_for("a message", || {
        client.send("PUB $JS.API.CONSUMER.MSG.NEXT.S.c pulled 0\r\n\r\n");
        client.message().ok().filter(|message| !message.reply.is_empty())
    });
    assert!(out.reply.starts_with("$JS.ACK.S.c.1.1.1."), "{out:?}");
    let leader = cluster.leader(&mut client, "S");

    // An hour ahead, and as far back, everywhere at once, in the middle of a load.
    for (id, seconds) in [("ahead", HOUR), ("back", -HOUR), ("right", 0), ("far", 400 * HOUR), ("near", 0)] {
        writer.persist(&addr, 100);
        publish_id(&mut client, id);
        shifted.set_all(seconds);
        writer.persist(&addr, 100);
        if seconds <= 0 {
            // No time has passed: what was said a moment ago is still known.
            let answer = publish_id(&mut client, id);
            assert!(answer.contains("\"duplicate\""), "{id}: {answer}");
        }
        // Only a new leader, which a busy machine may bring, looks at when it was delivered.
        if cluster.leader(&mut client, "S") == leader {
            assert_eq!(redelivered(&mut client), 0, "{id}");
        }
    }
    // A leader whose clock is an hour ahead of the others, and one that is as far behind.
    for (server, seconds) in [((leader + 1) % 3, HOUR), ((leader + 2) % 3, -HOUR), (leader, 0)] {
        shifted.set(server, seconds);
        shifted.lead(&mut client, server);
        writer.persist(&addr, 100);
    }
    let last = client.count("S").unwrap();
    assert!(last > writer.acked.len() as u64);
    let times: Vec<String> = (1..=last).step_by(7).map(|seq| time_of(&mut client, seq)).collect();
    assert!(times.is_sorted(), "{times:?}");
    check_written(&writer, &mut client);

    // What is too old by a clock that was set ahead goes, and nothing goes while it is set back.
    shifted.set_all(-HOUR);
    assert!(wait_for("an acknowledgement", || client.publish("a", "new").ok()) > 1);
    assert_eq!(client.count("A"), Ok(2));
    shifted.set_all(500 * HOUR);
    client.request("$JS.API.STREAM.LEADER.STEPDOWN.A", "").unwrap();
    wait_for("old messages to go", || (client.count("A") == Ok(0)).then_some(()));
    for server in &cluster.servers {
        assert!(!server.log().contains("panicked") && !server.log().contains("has not reacted"), "{}", server.log());
    }
}

/// Every acknowledged message stands where it was said to.
fn check_written(writer: &Writer, client: &mut Client) {
    for (n, seq) in &writer.acked {
        let got = client.request("$JS.API.DIRECT.GET.S", &format!("{{\"seq\":{seq}}}")).unwrap();
        assert!(got.payload.starts_with(&format!("{n}:")), "{seq}: {got:?}");
    }
}
