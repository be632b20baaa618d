//! Guests of one server: crowds at its bound, the same door on every core, silent readers of pages.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};

use common::{Client, Scratch, Server, wait_for};
use nix::sys::signal::Signal;

/// Clients that come at once and meet a bound.
const CROWD: usize = 60;

#[test]
fn a_crowd_that_comes_at_once_meets_one_bound_over_all_cores() {
    let dir = Scratch::new("crowd");
    let config = dir.file("a.conf", "listen: \"127.0.0.1:-1\"\nmax_connections: 10\n");
    let server = Server::start(&dir, "one", &["-c", &config, "--cores", "4"]);
    let addr = server.client_addr();
    let start = Arc::new(Barrier::new(CROWD));
    let guests: Vec<_> = (0..CROWD)
        .map(|_| {
            let (addr, start) = (addr.clone(), start.clone());
            std::thread::spawn(move || {
                start.wait();
                Client::connect_as(&addr, "")
            })
        })
        .collect();
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for guest in guests {
        match guest.join().unwrap() {
            Ok(client) => inside.push(client),
            Err(why) => outside.push(why),
        }
    }
    // One that is turned away may hold a seat for the moment that another one needs: fewer may be in, never more.
    assert!((1..=10).contains(&inside.len()), "{} are in", inside.len());
    let words = "-ERR 'maximum connections exceeded'";
    assert!(outside.iter().any(|why| why == words), "{outside:?}");
    while inside.len() < 10 {
        inside.push(wait_for("a free seat", || Client::connect_as(&addr, "").ok()));
    }
    assert!(Client::connect_as(&addr, "").is_err());
    for client in &mut inside {
        client.flush().unwrap();
    }
    drop(inside.pop());
    wait_for("the seat of the one that left", || Client::connect_as(&addr, "").ok());
}

#[test]
fn hashed_passwords_let_in_and_keep_out_on_every_core() {
    let dir = Scratch::new("hashed");
    let hash = bcrypt::hash_with_salt("pw", 4, *b"0123456789abcdef").unwrap();
    let hash = hash.format_for_version(bcrypt::Version::TwoA);
    let text = format!(
        "listen: \"127.0.0.1:-1\"\nauthorization {{ timeout: 20, users: [ {{user: u, password: {hash:?}}}, \
         {{user: v, password: v}} ] }}\n"
    );
    let server = Server::start(&dir, "one", &["-c", &dir.file("a.conf", &text), "--cores", "2"]);
    let addr = server.client_addr();
    let guesses: Vec<_> = (0..40)
        .map(|n| {
            let addr = addr.clone();
            let pass = if n % 4 == 0 { "pw" } else { "guess" };
            std::thread::spawn(move || {
                let user = format!("\"user\":\"u\",\"pass\":\"{pass}\",");
                (pass, Client::connect_as(&addr, &user).map(|_| ()))
            })
        })
        .collect();
    let mut quick = Client::connect_as(&addr, "\"user\":\"v\",\"pass\":\"v\",").unwrap();
    quick.flush().unwrap();
    for guess in guesses {
        let (pass, end) = guess.join().unwrap();
        match pass {
            "pw" => assert_eq!(end, Ok(())),
            _ => assert_eq!(end, Err("-ERR 'Authorization Violation'".into())),
        }
    }
    quick.flush().unwrap();
}

#[test]
fn half_sent_requests_keep_nobody_from_the_pages() {
    let dir = Scratch::new("silent");
    let server = Server::start(&dir, "one", &["-a", "127.0.0.1", "-p", "-1", "-m", "-1"]);
    let addr = server.http_addr();
    let mut silent = Vec::new();
    for n in 0..300 {
        let mut stream = TcpStream::connect(&addr).unwrap();
        stream.write_all(if n % 2 == 0 { b"" } else { b"GET /varz HT" }).unwrap();
        silent.push(stream);
    }
    let mut stream = TcpStream::connect(&addr).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
}

#[test]
fn a_reload_moves_the_pid_file_and_refuses_what_cannot_change() {
    let dir = Scratch::new("pidfile");
    let (one, two) = (dir.path("one.pid"), dir.path("two.pid"));
    let text = |pid: &str, more: &str| format!("listen: \"127.0.0.1:-1\"\npid_file: {pid:?}\n{more}\n");
    let config = dir.file("a.conf", &text(&one, ""));
    let mut server = Server::start(&dir, "a", &["-c", &config, "--cores", "2"]);
    let pid = server.pid().to_string();
    assert_eq!(std::fs::read_to_string(&one).unwrap(), pid);
    dir.file("a.conf", &text(&two, ""));
    server.signal(Signal::SIGHUP);
    wait_for("the new pid file", || std::fs::read_to_string(&two).ok().filter(|text| *text == pid));
    assert!(!std::path::Path::new(&one).exists());
    dir.file("a.conf", &text(&two, "client_advertise: \"example:1\""));
    server.signal(Signal::SIGHUP);
    server.wait_log("Failed to reload server configuration: config reload not supported for client_advertise");
    assert_eq!(server.log().matches("Reloaded server configuration").count(), 1, "{}", server.log());
    assert_eq!(server.stop(), 0);
    assert!(!std::path::Path::new(&two).exists());
}

#[test]
fn the_system_account_has_the_configuration_read_again_and_hears_how_it_went() {
    let dir = Scratch::new("remote-reload");
    let text = |more: &str| {
        format!(
            "listen: \"127.0.0.1:-1\"\naccounts {{ SYS {{ users [{{user: s, password: s}}] }} }}\nsystem_account: SYS\n{more}\n"
        )
    };
    let config = dir.file("a.conf", &text(""));
    let server = Server::start(&dir, "a", &["-c", &config, "--cores", "2"]);
    let mut client = Client::connect_as(&server.client_addr(), "\"user\":\"s\",\"pass\":\"s\",").unwrap();
    let id = common::text(&client.request("$SYS.REQ.SERVER.PING.IDZ", "").unwrap().payload, "id").unwrap();
    let mut reload = |more: &str, body: &str| {
        dir.file("a.conf", &text(more));
        client.request(&format!("$SYS.REQ.SERVER.{id}.RELOAD"), body).unwrap().payload
    };
    let done = reload("max_payload: 2000", "");
    assert!(done.starts_with("{\"server\":{") && done.ends_with("}}") && !done.contains("error"), "{done}");
    server.wait_log("Reloaded: max_payload = 2000");
    let refused = reload("server_name: other", "{}");
    let why =
        "\"error\":{\"code\":500,\"description\":\"config reload not supported for server_name: old=, new=other\"}";
    assert!(refused.contains(why) && !refused.contains("\"data\""), "{refused}");
    assert!(reload("nonsense {", "").contains("Unexpected EOF processing map"));
    assert!(reload("", "no json").contains("\"code\":400"));
    assert_eq!(server.log().matches("Reloaded server configuration").count(), 1, "{}", server.log());
}
