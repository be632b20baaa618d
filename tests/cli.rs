//! The `nats` command line tool against a cluster of three: every command of daily use exits with success.
//!
//! Without the tool on PATH there is nothing to compare with, and the test says so.

mod common;

use std::process::Command;

use common::cluster::Cluster;
use common::wait_for;

/// What applications do.
const APP: &[&str] = &[
    "account info",
    "rtt",
    "pub greet hello",
    "stream add ORDERS --subjects orders.> --storage file --replicas 3 --retention limits --discard old --defaults",
    "pub orders.new first",
    "bench js pub sync --stream ORDERS --msgs 20 --size 128 orders.bench --no-progress",
    "stream info ORDERS",
    "stream ls",
    "stream report",
    "stream get ORDERS 1",
    "stream rmm ORDERS 1 --force",
    "stream edit ORDERS --max-msgs 1000 --force",
    "stream state ORDERS",
    "stream subjects ORDERS",
    "stream find --replicas 3",
    "stream copy ORDERS COPY --subjects copied.>",
    "stream purge ORDERS --subject orders.bench --keep 5 --force",
    "stream cluster balance",
    "pub --jetstream orders.new acknowledged",
    "server check jetstream",
    "server check stream --stream ORDERS --peer-expect 3 --peer-lag-critical 100 --peer-seen-critical 1m",
    "server check message --stream ORDERS --subject orders.new --age-critical 1h",
    "consumer add ORDERS work --pull --deliver all --ack explicit --replay instant --filter orders.> --defaults",
    "consumer next ORDERS work --count 2",
    "consumer info ORDERS work",
    "consumer ls ORDERS",
    "consumer report ORDERS",
    "consumer next ORDERS work --ack",
    "consumer edit ORDERS work --max-pending 50 --force",
    "consumer copy ORDERS work work2",
    "consumer pause ORDERS work 1h --force",
    "consumer resume ORDERS work --force",
    "consumer cluster step-down ORDERS work",
    "server check consumer --stream ORDERS --consumer work --outstanding-ack-critical 100",
    "consumer rm ORDERS work --force",
    "stream purge ORDERS --force",
    "stream cluster step-down ORDERS",
    "stream rm ORDERS --force",
    "kv add BUCKET --replicas 3 --history 5",
    "kv put BUCKET colour red",
    "kv get BUCKET colour --raw",
    "kv info BUCKET",
    "kv create BUCKET shape round",
    "kv update BUCKET shape square 2",
    "kv purge BUCKET shape --force",
    "server check kv --bucket BUCKET --key colour",
    "kv ls",
    "kv del BUCKET colour --force",
    "kv rm BUCKET --force",
    "object add THINGS --replicas 3",
    "object ls",
    "object rm THINGS --force",
    "bench pub bench.core --msgs 1000 --size 128 --no-progress",
    "bench js pub async --create --stream BENCH --replicas 3 --msgs 1000 --batch 100 --no-progress bench.js",
    "bench js pub sync --stream BENCH --purge --msgs 50 --no-progress bench.js",
    "bench js consume --stream BENCH --msgs 50 --no-progress",
    "bench js ordered --stream BENCH --msgs 50 --no-progress",
    "bench js get sync --stream BENCH --msgs 20 --no-progress",
    "bench js get batch --stream BENCH --msgs 50 --no-progress",
];

/// What operators look at.
const SYSTEM: &[&str] = &[
    "server list 3",
    "server ping 3",
    "server info r1",
    "server report jetstream",
    "server report connections",
    "server report accounts",
    "server report health",
    "server request jetstream --all",
    "server request raft",
    "server check connection",
    "server check meta --expect 3 --lag-critical 1000 --seen-critical 1m",
    "account report connections",
];

struct Cli {
    urls: String,
    home: String,
}

impl Cli {
    fn run(&self, user: &str, line: &str) -> (bool, String) {
        let output = Command::new("nats")
            .args(["-s", &self.urls, "--user", user, "--password", user, "--timeout", "20s"])
            .args(line.split(' '))
            .env("HOME", &self.home)
            .env("XDG_CONFIG_HOME", &self.home)
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

#[test]
fn the_command_line_tool_is_content() {
    if Command::new("nats").arg("--version").output().is_err() {
        return println!("skipped: nats is not on PATH");
    }
    let cluster = Cluster::start("r", 3, "");
    let urls: Vec<String> = cluster.servers.iter().map(|server| format!("nats://{}", server.client_addr())).collect();
    let cli = Cli { urls: urls.join(","), home: cluster.dir.path("home") };
    wait_for("all three servers", || cli.run("sys", "server list 3").0.then_some(()));
    let mut failed = Vec::new();
    for (user, commands) in [("sys", SYSTEM), ("app", APP)] {
        for line in commands {
            let (good, text) = cli.run(user, line);
            if !good || text.contains("panic") {
                failed.push(format!("nats {line}\n{text}"));
            }
        }
    }
    assert!(failed.is_empty(), "{} commands failed:\n{}", failed.len(), failed.join("\n"));
}
