//! One server as a process: start, signals, stop, crashes, and everything unpleasant that may come over its ports.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use common::{Client, Scratch, Server, free_ports, get, run, wait_for};
use nix::sys::signal::Signal;

const LOCAL: [&str; 4] = ["-a", "127.0.0.1", "-p", "-1"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&LOCAL, more].concat()
}

#[test]
fn a_server_starts_serves_and_stops_on_any_number_of_cores() {
    for cores in ["1", "2", "4"] {
        let dir = Scratch::new("cores");
        let (pid, store, cwd) = (dir.path("pid"), dir.path("store"), dir.path("."));
        let args = with(&["--cores", cores, "-m", "-1", "-P", &pid, "-js", "-sd", &store, "--ports_file_dir", &cwd]);
        let mut server = Server::start(&dir, "one", &args);
        assert_eq!(std::fs::read_to_string(&pid).unwrap(), server.pid().to_string());
        let ports = dir.0.join(format!("trestle_{}.ports", server.pid()));
        assert!(std::fs::read_to_string(&ports).unwrap().contains(&server.client_addr()));
        let (mut publisher, mut subscriber) = (server.connect(), server.connect());
        assert!(publisher.info.contains("\"version\":\"2.15.1\""), "{}", publisher.info);
        subscriber.send("SUB greet.* 1\r\n");
        subscriber.flush().unwrap();
        publisher.send("PUB greet.all 5\r\nhello\r\n");
        let message = subscriber.message().unwrap();
        assert_eq!((message.subject.as_str(), message.payload.as_str()), ("greet.all", "hello"));
        wait_for("healthy", || get(&server.http_addr(), "/healthz").contains("\"status\":\"ok\"").then_some(()));
        assert_eq!(server.stop(), 0);
        assert!(
            server.log().contains("[INF] Initiating Shutdown...") && server.log().contains("[INF] Server Exiting..")
        );
        assert!(!std::path::Path::new(&pid).exists() && !ports.exists());
    }
}

#[test]
fn nobody_is_let_in_once_a_server_has_ended() {
    let dir = Scratch::new("ended");
    let port = free_ports(1)[0].to_string();
    let mut server = Server::start(&dir, "one", &["-a", "127.0.0.1", "-p", &port]);
    for _ in 0..5 {
        let addr = server.client_addr();
        assert_eq!(server.stop(), 0);
        let refused = TcpStream::connect(&addr).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some(std::io::ErrorKind::ConnectionRefused));
        server.again();
        server.wait_ready();
        server.connect().flush().unwrap();
    }
}

#[test]
fn servers_whose_cluster_has_no_name_find_one() {
    let dir = Scratch::new("nameless");
    let ports = free_ports(2);
    let [first, second] = [ports[0], ports[1]].map(|port| format!("nats://127.0.0.1:{port}"));
    let one = Server::start(&dir, "one", &with(&["--cluster", &first, "--routes", &first]));
    let two = Server::start(&dir, "two", &with(&["--cluster", &second, "--routes", &first]));
    assert!(one.log().contains("[WRN] Cluster name was dynamically generated, consider setting one"));
    let name = wait_for("the same name on both", || {
        let names = [&one, &two].map(|server| common::text(&server.connect().info, "cluster"));
        (names[0] == names[1]).then(|| names[0].clone()).flatten()
    });
    let updated = format!("Cluster name updated to {name}");
    assert_eq!([&one, &two].iter().filter(|server| server.log().contains(&updated)).count(), 1);
    let mut subscriber = two.connect();
    subscriber.send("SUB a 1\r\n");
    subscriber.flush().unwrap();
    subscriber.set_timeout(Duration::from_millis(200));
    let mut publisher = one.connect();
    let message = wait_for("a message across", || {
        publisher.send("PUB a 1\r\nx\r\n");
        subscriber.message().ok()
    });
    assert_eq!((message.subject.as_str(), message.payload.as_str()), ("a", "x"));
}

#[test]
fn what_cannot_start_says_why_and_exits_with_1() {
    let dir = Scratch::new("refusals");
    let store = dir.path("store");
    let first = Server::start(&dir, "first", &with(&["-js", "-sd", &store, "-n", "first"]));
    let (addr, port) = (first.client_addr(), first.client_addr().rsplit(':').next().unwrap().to_owned());
    let (code, text) = run(&["-a", "127.0.0.1", "-p", &port]);
    let line = format!("[FTL] Error listening on port: {addr}, \"listen tcp {addr}: bind: address already in use\"");
    assert!(code == 1 && text.contains(&line), "{code} {text}");
    let (code, text) = run(&with(&["-js", "-sd", &store, "-n", "first"]));
    assert!(code == 1 && text.contains("[FTL] ") && text.contains("another server uses this store (pid "), "{text}");
    let (code, text) = run(&["check", &store]);
    assert!(code == 1 && text.contains("another server uses this store"), "{text}");
    drop(first);
    let (code, text) = run(&with(&["-js", "-sd", &store, "-n", "second"]));
    assert!(code == 1 && text.contains("foreign store: it belongs to server \"first\""), "{text}");
    std::fs::remove_file(dir.0.join("store/jetstream/identity")).unwrap();
    let (code, text) = run(&with(&["-js", "-sd", &store, "-n", "first"]));
    assert!(code == 1 && text.contains("lost store: "), "{text}");
    let bad = dir.file("bad.conf", "port: 4222\n max_payloat: 5\n");
    let (code, text) = run(&["-c", &bad]);
    assert!(code == 1 && text.contains("max_payload"), "{text}");
    let (code, text) = run(&["-c", &dir.path("absent.conf")]);
    assert!(code == 1 && text.contains("no such file") || text.contains("No such file"), "{text}");
    let (code, text) = run(&["--nonsense"]);
    assert!(code != 0 && text.contains("flag provided but not defined: -nonsense"), "{text}");
}

#[test]
fn too_little_locked_memory_is_raised_or_named() {
    let dir = Scratch::new("locked");
    let log = std::fs::File::create(dir.0.join("log")).unwrap();
    let script = "ulimit -S -l 64 && ulimit -H -l 64 && exec \"$0\" -a 127.0.0.1 -p -1";
    let mut child = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_trestle")]).stderr(log).spawn().unwrap();
    let text = wait_for("a start or a refusal", || {
        let text = std::fs::read_to_string(dir.0.join("log")).unwrap();
        (text.contains("Server is ready") || text.contains("[FTL]")).then_some(text)
    });
    // Only a privileged process may raise its own limit.
    assert!(text.contains("ready") || text.contains("[FTL] io_uring cannot lock memory: raise the limit"), "{text}");
    let _ = child.kill();
    child.wait().unwrap();
}

#[test]
fn signals_reload_reopen_and_lead_out() {
    let dir = Scratch::new("signals");
    let base = "listen: \"127.0.0.1:-1\"\nlame_duck_duration: 30s\nlame_duck_grace_period: 1s\n";
    let config = dir.file("a.conf", base);
    let log = dir.path("server.log");
    let mut server = Server::launch(&dir, "unused", &["-c", &config, "-l", &log]);
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    let line = |part: &str| wait_for(part, || read().lines().find(|l| l.contains(part)).map(str::to_owned));
    line("Server is ready");
    let addr = line("client connections on ").rsplit(' ').next().unwrap().to_owned();
    let mut client = Client::connect(&addr);
    dir.file("a.conf", &format!("{base}max_payload: 1000\n"));
    server.signal(Signal::SIGHUP);
    line("Reloaded server configuration");
    dir.file("a.conf", "nonsense {");
    server.signal(Signal::SIGHUP);
    line("Failed to reload server configuration");
    client.flush().unwrap();
    std::fs::rename(&log, dir.path("old.log")).unwrap();
    server.signal(Signal::SIGUSR1);
    line("File log re-opened");
    server.signal(Signal::SIGUSR2);
    line("Entering lame duck mode, stop accepting new clients");
    let told = wait_for("INFO", || client.line().ok().filter(|line| line.starts_with("INFO")));
    assert!(told.contains("\"ldm\":true"), "{told}");
    // Each core stops accepting by itself.
    wait_for("a refusal", || Client::connect_as(&addr, "").is_err().then_some(()));
    assert_eq!(server.wait_exit(), 0, "the server stops once its clients have gone");
}

#[test]
fn another_process_can_send_the_signal() {
    let dir = Scratch::new("signal");
    let pid = dir.path("pid");
    let mut server = Server::start(&dir, "one", &with(&["-P", &pid]));
    assert_eq!(run(&["--signal", &format!("reopen={pid}")]).0, 0);
    server.wait_log("File log re-open ignored, not a file logger");
    assert_eq!(run(&["--signal", &format!("ldm={}", server.pid())]).0, 0);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn what_was_acknowledged_survives_kill_9_and_a_start_on_the_same_ports() {
    let dir = Scratch::new("kill");
    let free = free_ports(1)[0].to_string();
    let store = dir.path("store");
    let mut server = Server::start(&dir, "one", &["-a", "127.0.0.1", "-p", &free, "-js", "-sd", &store]);
    let mut client = server.connect();
    let made = client.request("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"]}"#).unwrap();
    assert!(made.payload.contains("\"did_create\":true"), "{made:?}");
    for round in 1..=4u64 {
        for n in 1..=25 {
            assert_eq!(client.publish("s.x", "payload"), Ok((round - 1) * 25 + n));
        }
        server.kill();
        server.again();
        server.wait_ready();
        client = server.connect();
        // A server that is alone lets nobody in before its streams are there.
        assert_eq!(client.count("S"), Ok(round * 25));
    }
    assert_eq!(server.stop(), 0);
    let (code, text) = run(&["check", &store]);
    assert!(code == 0 && text.contains("the store is sound"), "{text}");
}

#[test]
fn the_first_publish_after_a_start_finds_its_stream_however_long_that_is_read() {
    const MESSAGES: usize = 60_000;
    let dir = Scratch::new("long");
    let store = dir.path("store");
    let args = with(&["--cores", "2", "-js", "-sd", &store]);
    let mut server = Server::start(&dir, "one", &args);
    let mut client = server.connect();
    for stream in ["A", "B", "C"] {
        let config = format!(r#"{{"name":"{stream}","subjects":["{stream}.>"]}}"#);
        client.request(&format!("$JS.API.STREAM.CREATE.{stream}"), &config).unwrap();
        let text: String = (0..MESSAGES).map(|n| format!("PUB {stream}.{n} 1\r\nx\r\n")).collect();
        client.send(&text);
        wait_for("all messages", || (client.count(stream) == Ok(MESSAGES as u64)).then_some(()));
    }
    server.kill();
    server.again();
    server.wait_ready();
    let mut client = server.connect();
    for stream in ["A", "B", "C"] {
        assert_eq!(client.publish(&format!("{stream}.new"), "payload"), Ok(MESSAGES as u64 + 1));
    }
}

#[test]
fn garbage_and_slow_bytes_on_any_port_leave_the_others_served() {
    let dir = Scratch::new("garbage");
    let args = with(&["-m", "-1", "--cluster", "nats://127.0.0.1:-1", "--cluster_name", "C"]);
    let server = Server::start(&dir, "one", &args);
    let addrs = [server.client_addr(), server.http_addr(), server.route_addr()];
    let mut held = Vec::new();
    for addr in &addrs {
        for kind in 0..8u8 {
            let mut stream = TcpStream::connect(addr).unwrap();
            let bytes: Vec<u8> = match kind {
                0 => Vec::new(),
                1 => b"GET / HTTP/1.1\r\n".to_vec(),
                2 => vec![0xff; 100_000],
                3 => vec![0; 100_000],
                4 => b"PUB a 999999999999\r\n".to_vec(),
                5 => [b"CONNECT ".as_slice(), &[b'{'; 9_000], b"\r\n"].concat(),
                6 => (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
                _ => b"TRST".to_vec(),
            };
            // The server may close in the middle of it: that is an answer, too.
            let _ = stream.write_all(&bytes);
            held.push(stream);
        }
    }
    let mut client = server.connect();
    client.send("SUB a 1\r\nPUB a 2\r\nok\r\n");
    assert_eq!(client.message().unwrap().payload, "ok");
    assert!(get(&addrs[1], "/varz").starts_with("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\n"));
    assert!(get(&addrs[1], "/nothing").starts_with("HTTP/1.1 404 "));
    let mut routes: Vec<TcpStream> = held.split_off(16);
    for stream in &mut routes {
        stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
        // Closed, with or without a word, within the handshake's time.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(server.log().lines().all(|line| !line.contains("panicked")), "{}", server.log());
}

#[test]
fn many_idle_clients_are_kept_and_served() {
    let dir = Scratch::new("many");
    let server = Server::start(&dir, "one", &LOCAL);
    let addr = server.client_addr();
    let mut crowd: Vec<Client> = (0..400).map(|_| Client::connect(&addr)).collect();
    crowd[0].send("SUB all 1\r\n");
    crowd[0].flush().unwrap();
    crowd[399].send("PUB all 2\r\nok\r\n");
    assert_eq!(crowd[0].message().unwrap().payload, "ok");
}

#[test]
fn a_reader_that_does_not_read_is_cut_and_nobody_else() {
    let dir = Scratch::new("slow");
    let config = dir.file("a.conf", "listen: \"127.0.0.1:-1\"\nmax_pending: 2MB\n");
    let server = Server::start(&dir, "one", &["-c", &config]);
    let (mut slow, mut publisher, mut good) = (server.connect(), server.connect(), server.connect());
    slow.send("SUB flood 1\r\n");
    slow.flush().unwrap();
    good.send("SUB other 1\r\n");
    good.flush().unwrap();
    let message = format!("PUB flood 60000\r\n{}\r\n", "x".repeat(60_000));
    // How much the kernel holds besides is the machine's own choice.
    wait_for("a slow consumer", || {
        publisher.send(&message.repeat(10));
        server.log().contains("Slow Consumer").then_some(())
    });
    publisher.send("PUB other 2\r\nok\r\n");
    assert_eq!(good.message().unwrap().payload, "ok");
    let end = wait_for("the end of the slow one", || slow.message().err());
    assert_ne!(end, "", "it was closed");
    publisher.flush().unwrap();
}

#[test]
fn a_page_asked_for_byte_by_byte_does_not_hold_up_the_others() {
    let dir = Scratch::new("drip");
    let server = Server::start(&dir, "one", &with(&["-m", "-1"]));
    let addr = server.http_addr();
    let mut drips: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(&addr).unwrap()).collect();
    for byte in b"GET /varz HTTP/1.1\r\nHost:" {
        for drip in &mut drips {
            drip.write_all(&[*byte]).unwrap();
        }
        if *byte == b' ' {
            assert!(get(&addr, "/healthz").contains("200 OK"));
        }
    }
    let mut last = drips.pop().unwrap();
    last.set_read_timeout(Some(common::PATIENCE)).unwrap();
    last.write_all(b" x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    last.read_to_string(&mut text).unwrap();
    assert!(text.contains("\"server_id\""), "{text}");
}
