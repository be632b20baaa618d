//! Servers that meet: of one name, of other names and versions, over a path that breaks, in mixed sizes, one restart
//! after the other.

mod common;

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::cluster::{Cluster, FILE_STORE, conf};
use common::intruder::handshake;
use common::{Client, Scratch, Server, free_ports, wait_for};
use net::peer::hello::{Hello, VERSION_MAX, VERSION_MIN};
use net::peer::lane::Lane;
use net::peer::link::{LinkEvent, RefusalCode};
use nix::sys::signal::Signal;

/// A server without streams: its name, its cluster, its port for routes and the routes that it dials.
fn plain(dir: &Scratch, name: &str, cluster: &str, own: u16, routes: &[u16], more: &str) -> String {
    let urls: Vec<String> = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
    let text = format!(
        "listen: \"127.0.0.1:-1\"\nserver_name: {name}\ncluster {{ name: {cluster}, listen: \"127.0.0.1:{own}\", \
         routes: [{}] }}\n{more}\n",
        urls.join(", ")
    );
    dir.file(&format!("{name}-{own}.conf"), &text)
}

fn launch(dir: &Scratch, log: &str, config: &str, cores: &str) -> Server {
    Server::start(dir, log, &["-c", config, "--cores", cores])
}

fn serves(server: &Server) {
    let mut client = server.connect();
    client.send("SUB self 1\r\nPUB self 2\r\nok\r\n");
    assert_eq!(client.message().unwrap().payload, "ok");
}

/// A message published at one server reaches a client of another.
fn crosses(from: &Server, to: &Server) {
    let (mut publisher, mut subscriber) = (from.connect(), to.connect());
    subscriber.send("SUB across 1\r\n");
    subscriber.flush().unwrap();
    subscriber.set_timeout(Duration::from_millis(200));
    wait_for("a message to cross", || {
        publisher.send("PUB across 2\r\nhi\r\n");
        publisher.flush().ok()?;
        subscriber.message().ok()
    });
}

#[test]
fn servers_of_one_name_and_of_other_clusters_refuse_each_other_and_serve_on() {
    let dir = Scratch::new("clash");
    let ports = free_ports(4);
    let first = launch(&dir, "first", &plain(&dir, "a", "C", ports[0], &[], ""), "1");
    let second = launch(&dir, "second", &plain(&dir, "b", "C", ports[1], &[ports[0]], ""), "1");
    crosses(&first, &second);
    let double = launch(&dir, "double", &plain(&dir, "b", "C", ports[2], &[ports[0]], ""), "1");
    double.wait_log("server name \"b\" is taken by \"b\"");
    let foreign = launch(&dir, "foreign", &plain(&dir, "c", "D", ports[3], &[ports[0]], ""), "1");
    foreign.wait_log("cluster name \"D\" does not match \"C\"");
    first.wait_log("cluster name \"D\" does not match \"C\"");
    for server in [&first, &second, &double, &foreign] {
        serves(server);
    }
    crosses(&second, &first);
}

#[test]
fn two_clusters_whose_routes_are_joined_say_so_on_both_sides_and_serve_on() {
    // Of one name, or it would be told from the name already.
    let start = |name| Cluster::of(name, &["1", "1"], "", &["--cluster_name", "both"]);
    let (one, two) = (start("j"), start("k"));
    for (cluster, name) in [(&one, "j"), (&two, "k")] {
        for n in 1..=2 {
            let identity = cluster.dir.0.join(format!("store-{name}{n}/jetstream/identity"));
            wait_for("the cluster to be on disk", || {
                let text = std::fs::read_to_string(&identity).ok()?;
                (!text.contains("cluster -\n")).then_some(())
            });
        }
    }
    let folder = one.dir.0.display().to_string();
    let text = conf("j", 1, one.routes[0], &[one.routes[1], two.routes[0], two.routes[1]], "");
    let text = text.replace("store-", &format!("{folder}/store-"));
    one.dir.file("j1.conf", &text.replace("jetstream { ", &format!("jetstream {{ {FILE_STORE} ")));
    one.servers[0].signal(Signal::SIGHUP);
    for server in [&one.servers[0], &two.servers[0], &two.servers[1]] {
        let line = server.wait_log("data of different clusters");
        assert!(line.contains("two clusters never merge"), "{line}");
    }
    for cluster in [&one, &two] {
        let mut client = cluster.servers[0].connect();
        cluster.create(&mut client, r#"{"name":"S","subjects":["s.>"],"num_replicas":2}"#);
        assert_eq!(wait_for("an acknowledgement", || client.publish("s.x", "1").ok()), 1);
    }
}

/// Says hello on the route port as a build that speaks these versions would; what comes of it.
fn greet(addr: &str, version_min: u16, version_max: u16) -> LinkEvent {
    let hello = Hello {
        server_name: format!("speaks-{version_min}-{version_max}"),
        server_id: "NOTHERBUILD".into(),
        peer_id: 77,
        cluster: "C".into(),
        lane: Lane::Control,
        version_min,
        version_max,
        ..Hello::default()
    };
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    handshake(&mut stream, hello)
}

#[test]
fn another_build_links_in_a_common_version_or_is_told_both() {
    let dir = Scratch::new("versions");
    let server = launch(&dir, "now", &plain(&dir, "a", "C", free_ports(1)[0], &[], ""), "1");
    let addr = server.route_addr();
    for (min, max) in [(0, VERSION_MIN - 1), (VERSION_MAX + 1, VERSION_MAX + 9)] {
        let LinkEvent::Refused { by_us: false, refusal } = greet(&addr, min, max) else { panic!("not refused") };
        assert_eq!(refusal.code, RefusalCode::Version);
        let both = format!("no common protocol version: {VERSION_MIN} to {VERSION_MAX} on one side, {min} to {max}");
        assert!(refusal.text.contains(&both), "{}", refusal.text);
    }
    server.wait_log("no common protocol version");
    for (min, max) in [(VERSION_MIN, VERSION_MAX), (0, VERSION_MAX), (VERSION_MAX, VERSION_MAX + 9)] {
        let LinkEvent::Established { version, hello } = greet(&addr, min, max) else { panic!("no link") };
        assert_eq!((version, hello.server_name.as_str()), (VERSION_MAX, "a"));
    }
    serves(&server);
}

/// A path between two servers that can be cut.
struct Wire {
    port: u16,
    pipes: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(target: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let pipes: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let all = pipes.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                all.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Wire { port, pipes }
    }

    fn cut(&self) {
        for pipe in self.pipes.lock().unwrap().drain(..) {
            let _ = pipe.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn a_link_that_flaps_comes_back_each_time() {
    let dir = Scratch::new("flaps");
    let ports = free_ports(2);
    let far = launch(&dir, "far", &plain(&dir, "far", "C", ports[0], &[], ""), "2");
    let wire = Wire::to(ports[0]);
    let near = launch(&dir, "near", &plain(&dir, "near", "C", ports[1], &[wire.port], ""), "1");
    for round in 1..=5 {
        crosses(&near, &far);
        crosses(&far, &near);
        wire.cut();
        wait_for("the link to fall", || (near.log().matches("Route to far is down").count() >= round).then_some(()));
    }
    crosses(&near, &far);
}

#[test]
fn clients_on_every_core_hear_of_servers_that_come_leave_gently_and_go() {
    let dir = Scratch::new("urls");
    let ports = free_ports(2);
    let gentle = "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"20s\"";
    let first = launch(&dir, "first", &plain(&dir, "a", "C", ports[0], &[], ""), "4");
    let mut clients: Vec<Client> = (0..16).map(|_| first.connect()).collect();
    let config = plain(&dir, "b", "C", ports[1], &[ports[0]], gentle);
    let mut second = launch(&dir, "second", &config, "1");
    let url = second.client_addr();
    let mut told = |named: bool| {
        for client in &mut clients {
            wait_for("INFO", || {
                let line = client.line().ok().filter(|line| line.starts_with("INFO"))?;
                (line.contains("\"connect_urls\"") && line.contains(&url) == named).then_some(())
            });
        }
    };
    told(true);
    let guest = second.connect();
    second.signal(Signal::SIGUSR2);
    told(false);
    assert!(!first.connect().info.contains(&url));
    drop(guest);
    assert_eq!(second.wait_exit(), 0);
    second.again();
    second.wait_ready();
    wait_for("the new address", || first.connect().info.contains(&second.client_addr()).then_some(()));
}

#[test]
fn servers_of_one_two_and_four_cores_are_restarted_one_by_one_under_load() {
    let mut cluster = Cluster::of("w", &["1", "2", "4"], "", &[]);
    let mut client = cluster.servers[0].connect();
    cluster.create(&mut client, r#"{"name":"S","subjects":["s.>"],"num_replicas":3}"#);
    let addrs = |cluster: &Cluster| cluster.servers.iter().map(Server::client_addr).collect::<Vec<_>>();
    let publish = |addrs: &[String], n: usize| {
        wait_for("an acknowledgement", || {
            addrs.iter().find_map(|addr| {
                let mut client = Client::connect_as(addr, "").ok()?;
                client.set_timeout(Duration::from_millis(500));
                client.publish("s.x", &format!("m{n}")).ok()
            })
        })
    };
    let mut acked = 0;
    for at in 0..3 {
        cluster.servers[at].signal(Signal::SIGTERM);
        let others: Vec<String> =
            addrs(&cluster).into_iter().enumerate().filter(|(n, _)| *n != at).map(|(_, addr)| addr).collect();
        for _ in 0..20 {
            acked += 1;
            publish(&others, acked);
        }
        assert_eq!(cluster.servers[at].wait_exit(), 0);
        cluster.servers[at].again();
        cluster.servers[at].wait_ready();
        wait_for("all replicas to be current", || {
            let mut client = cluster.servers[at].connect();
            let info = client.request("$JS.API.STREAM.INFO.S", "").ok()?;
            (info.payload.matches("\"current\":true").count() == 2).then_some(())
        });
    }
    let mut client = cluster.servers[2].connect();
    let count = client.count("S").unwrap();
    assert!(count >= acked as u64, "{count} of {acked}");
    spreads_over(&cluster);
}

/// A queue group with members at both servers that the publisher is not at (its own would be preferred): each message
/// once, and everybody gets some.
fn spreads_over(cluster: &Cluster) {
    let mut members: Vec<Client> = [0, 2, 2, 0].map(|at: usize| cluster.servers[at].connect()).into();
    let mut boss = cluster.servers[1].connect();
    for (at, member) in members.iter_mut().enumerate() {
        member.send(&format!("SUB work.* crew 1\r\nSUB ready.{at} 2\r\nUNSUB 2 1\r\n"));
        member.flush().unwrap();
        member.set_timeout(Duration::from_millis(20));
        // Whoever knows of the second interest knows of the first.
        wait_for("the interest to travel", || {
            boss.send(&format!("PUB ready.{at} 0\r\n\r\n"));
            boss.flush().ok()?;
            member.message().ok()
        });
    }
    let (mut sent, mut got) = (0, vec![Vec::new(); members.len()]);
    wait_for("everybody to get some", || {
        for _ in 0..30 {
            sent += 1;
            boss.send(&format!("PUB work.{sent} 1\r\nx\r\n"));
        }
        boss.flush().ok()?;
        for (member, got) in members.iter_mut().zip(&mut got) {
            got.extend(std::iter::from_fn(|| member.message().ok().map(|message| message.subject)));
        }
        got.iter().all(|got| !got.is_empty()).then_some(())
    });
    let mut all = wait_for("every message", || {
        for (member, got) in members.iter_mut().zip(&mut got) {
            got.extend(std::iter::from_fn(|| member.message().ok().map(|message| message.subject)));
        }
        let all = got.concat();
        (all.len() >= sent).then_some(all)
    });
    all.sort();
    all.dedup();
    assert_eq!(all.len(), sent, "each once");
}

#[test]
fn servers_that_are_all_stopped_at_once_end_in_time() {
    let mut cluster = Cluster::of("t", &["1", "2", "2"], "", &[]);
    let mut client = cluster.servers[0].connect();
    cluster.create(&mut client, r#"{"name":"S","subjects":["s.>"],"num_replicas":3}"#);
    for n in 1..=20 {
        wait_for("an acknowledgement", || client.publish("s.x", &format!("m{n}")).ok());
    }
    let since = Instant::now();
    for server in &cluster.servers {
        server.signal(Signal::SIGTERM);
    }
    for server in &mut cluster.servers {
        assert_eq!(server.wait_exit(), 0);
        let log = server.log();
        assert!(log.contains("Server Exiting..") && !log.contains("Not everything has left"), "{log}");
    }
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "the bound of a stop is 5 s on a machine with nothing else to do"
    );
}
