//! Paths and files that an operator names and that are not what they should be: a start ends with one sentence about which
//! it is and why, and never with a crash; a disk that may not be written is named as well.

mod common;

use common::mount::{Mount, or_skip};
use common::{Client, Scratch, Server, run, wait_for};

const LOCAL: [&str; 4] = ["-a", "127.0.0.1", "-p", "-1"];

/// Starts with these words besides; what it said, once it has ended.
fn refused(words: &[&str]) -> String {
    let (code, text) = run(&[&LOCAL, words].concat());
    assert!(code == 1 && !text.contains("panicked") && !text.contains("Server is ready"), "{words:?}: {code} {text}");
    text
}

#[test]
fn paths_that_cannot_be_used_are_named() {
    let dir = Scratch::new("paths");
    let (file, folder, absent) = (dir.file("file", "x"), dir.path("."), dir.path("absent/x"));
    let under = format!("{file}/store");
    let cases: [(&[&str], &str, &str); 8] = [
        (&["-js", "-sd", &file], "cannot create the store directory", "Not a directory"),
        (&["-js", "-sd", &under], "cannot create the store directory", "Not a directory"),
        (&["-js", "-sd", "/proc/trestle"], "cannot create the store directory /proc/trestle", "No such file"),
        (&["-P", &absent], "Could not write", "No such file"),
        (&["-P", &folder], "Could not write", "Is a directory"),
        (&["-l", &absent], "cannot open the log file", "No such file"),
        (&["-l", &folder], "cannot open the log file", "Is a directory"),
        (&["-c", &folder], "open ", "is a directory"),
    ];
    for (words, what, why) in cases {
        let text = refused(words);
        assert!(text.contains(what) && text.contains(why), "{words:?}: {text}");
    }
}

#[test]
fn a_log_file_that_takes_nothing_stops_nobody() {
    let dir = Scratch::new("full-log");
    let here = dir.path(".");
    let args = [&LOCAL[..], &["-l", "/dev/full", "--ports_file_dir", &here]].concat();
    let mut server = Server::launch(&dir, "one", &args);
    server.wait_log("cannot write to the log file /dev/full: No space left on device");
    let ports = dir.0.join(format!("trestle_{}.ports", server.pid()));
    let text = wait_for("the ports", || std::fs::read_to_string(&ports).ok().filter(|text| text.contains("nats://")));
    let addr = text.split("nats://").nth(1).unwrap().split('"').next().unwrap();
    Client::connect(addr).flush().unwrap();
    assert_eq!(server.stop(), 0);
}

#[test]
fn configurations_that_cannot_be_read_are_refused_with_the_place() {
    let dir = Scratch::new("texts");
    dir.file("loop-b.conf", "include \"loop-a.conf\"\n");
    for n in 0..200 {
        dir.file(&format!("chain-{n}.conf"), &format!("include \"chain-{}.conf\"\n", n + 1));
    }
    let long = "#".repeat(17 << 20);
    let deep = |before: &str, open: &str, after: &str| format!("{before}{}{after}", open.repeat(200_000));
    let cases: [(&str, &[u8], &str); 13] = [
        ("loop-a.conf", b"include \"loop-b.conf\"\n", "the file includes itself"),
        ("absent.conf", b"include \"none.conf\"\n", "none.conf: no such file or directory"),
        ("chain.conf", b"include \"chain-0.conf\"\n", "error parsing include file 'chain-0.conf'"),
        ("binary.conf", b"\x7fELF\x02\x01\xff\xfe", "the text is not UTF-8"),
        ("zero.conf", &[0; 4096], "line 1: 'Unexpected NUL byte'"),
        ("half.conf", b"jetstream {\n store_dir: \"x", "line"),
        ("long.conf", long.as_bytes(), "the file is longer than 16777216 bytes"),
        ("deep.conf", &deep("a: ", "[", "").into_bytes(), "more than 64 blocks in each other"),
        ("blocks.conf", &deep("", "a {", "").into_bytes(), "more than 64 blocks in each other"),
        ("deep.toml", &deep("a = ", "[", "").into_bytes(), "line 1: "),
        ("dots.toml", &deep("", "a.", "a = 1").into_bytes(), "line 1: "),
        ("broken.toml", b"port = [4222\n[", "line"),
        ("type.toml", b"port = \"x\"\n", "type.toml:1:8: port: expected a whole number"),
    ];
    for (name, bytes, says) in cases {
        std::fs::write(dir.0.join(name), bytes).unwrap();
        let (path, before) = (dir.path(name), std::time::Instant::now());
        for words in [vec!["-c", &path], vec!["-t", "-c", &path]] {
            let text = refused(&words);
            assert!(text.contains(says), "{name}: {}", &text[..text.len().min(2_000)]);
        }
        assert!(before.elapsed() < common::PATIENCE, "{name}");
    }
}

#[test]
fn a_disk_that_may_only_be_read_is_named_and_its_store_is_whole_afterwards() {
    let dir = Scratch::new("readonly");
    let Some(disk) = or_skip(Mount::tmpfs(&dir, 64)) else { return };
    let store = disk.store();
    let conf = dir.file("one.conf", "server_name: one\ntrestle { segment_bytes: 1MB }\n");
    let args = [&LOCAL[..], &["-c", &conf, "-js", "-sd", &store, "--cores", "1"]].concat();
    let mut server = Server::start(&dir, "one", &args);
    let mut client = server.connect();
    let made =
        client.request("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"],"max_bytes":1000000}"#).unwrap();
    assert!(made.payload.contains("\"did_create\":true"), "{made:?}");
    assert_eq!(client.publish("s", "x"), Ok(1));
    assert_eq!(server.stop(), 0);
    disk.remount("ro");
    server.again();
    assert_eq!(server.wait_exit(), 1);
    let log = server.log();
    assert!(log.contains("[FTL]") && log.contains("Read-only file system") && log.contains(&store), "{log}");
    disk.remount("rw");
    server.again();
    server.wait_ready();
    assert_eq!(server.connect().publish("s", "y"), Ok(2));
    assert_eq!(server.stop(), 0);
}
