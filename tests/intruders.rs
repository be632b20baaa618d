//! A cluster of three under load while strangers, broken servers and liars work on all its ports: nothing acknowledged is
//! lost, doubled or moved, nobody else is disturbed, and each intruder gets an end and a line in the log.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::cluster::Cluster;
use common::intruder::{Intruder, accounts, end_of, throw};
use common::nonsense::{Dice, broken_frames, lies, raft_message};
use common::writer::Writer;
use common::{Client, PATIENCE, Server, number, text, wait_for};
use net::peer::lane::Lane;
use raft::Body;
use trestle::cluster::wire::{Asset, CatchupStep, Lead, NodeMsg};
use trestle::ids::{GroupId, ServerId};

const STREAM: &str = r#"{"name":"S","subjects":["s.>"],"allow_direct":true,"num_replicas":3}"#;
const CONSUMER: &str =
    r#"{"stream_name":"S","config":{"durable_name":"c","name":"c","ack_policy":"explicit","max_ack_pending":10000}}"#;

/// Memory that a server may take in addition while it is pestered: far below what it was told to expect.
const GROWTH_KIB_MAX: u64 = 150 * 1024;

/// A publisher and a consumer at work.
struct Load {
    over: &'static AtomicBool,
    publisher: JoinHandle<Writer>,
    /// Numbers of the messages, by sequence.
    reader: JoinHandle<BTreeMap<u64, u64>>,
}

impl Load {
    fn start(cluster: &Cluster) -> Load {
        let over: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
        let mut client = cluster.servers[0].connect();
        cluster.create(&mut client, STREAM);
        wait_for("the consumer", || {
            let made = client.request("$JS.API.CONSUMER.CREATE.S.c", CONSUMER).ok()?;
            made.payload.contains("\"created\"").then_some(())
        });
        let mut writer = Writer::new(300);
        let [first, second] = [0, 1].map(|server: usize| cluster.servers[server].client_addr());
        writer.persist(&first, 1);
        let publisher = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                writer.persist(&first, 500);
            }
            writer
        });
        let reader = std::thread::spawn(move || read_all(&second, over));
        Load { over, publisher, reader }
    }

    /// Everything that was acknowledged was delivered as what it was, and the end of it is on every server.
    fn end(self, cluster: &Cluster) {
        self.over.store(true, Ordering::Relaxed);
        let writer = self.publisher.join().unwrap();
        let delivered = self.reader.join().unwrap();
        for (n, seq) in &writer.acked {
            assert_eq!(delivered.get(seq), Some(n), "message {seq}");
        }
        assert_eq!(delivered.values().collect::<BTreeSet<_>>().len(), delivered.len(), "nothing is there twice");
        assert!(writer.acked.len() > 100, "{}", writer.acked.len());
        for server in &cluster.servers {
            writer.check(&mut server.connect(), (delivered.len() as u64).saturating_sub(TAIL) + 1);
        }
    }
}

/// Messages that are read from each server at the end.
const TAIL: u64 = 300;

/// Pulls and acknowledges until it is over and nothing is left that was not delivered. A message may come again when a
/// leader changes, as the same.
fn read_all(addr: &str, over: &AtomicBool) -> BTreeMap<u64, u64> {
    let mut read = BTreeMap::new();
    let until = Instant::now() + 4 * PATIENCE;
    while Instant::now() < until {
        let ending = over.load(Ordering::Relaxed);
        let Ok(mut client) = Client::connect_as(addr, "") else { continue };
        client.set_timeout(Duration::from_secs(2));
        client.send("SUB pulled 9\r\n");
        while pull(&mut client, &mut read).is_ok_and(|came| came) {}
        if ending && client.count("S").is_ok_and(|count| count == read.len() as u64) {
            return read;
        }
    }
    panic!("{} messages came, and no more", read.len());
}

/// One pull; whether anything came.
fn pull(client: &mut Client, read: &mut BTreeMap<u64, u64>) -> Result<bool, String> {
    let ask = "{\"batch\":100,\"expires\":500000000}";
    client.send(&format!("PUB $JS.API.CONSUMER.MSG.NEXT.S.c pulled {}\r\n{ask}\r\n", ask.len()));
    for came in 0..100 {
        let message = client.message()?;
        if message.reply.is_empty() {
            return Ok(came > 0);
        }
        let seq: u64 = message.reply.split('.').nth(5).unwrap().parse().unwrap();
        let number = message.payload.split(':').next().unwrap().parse().unwrap();
        assert_eq!(*read.entry(seq).or_insert(number), number, "{message:?}");
        client.send(&format!("PUB {} 4\r\n+ACK\r\n", message.reply));
    }
    Ok(true)
}

fn memory_kib(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// What each server took before it is pestered.
struct Before {
    memory: Vec<u64>,
}

impl Before {
    fn of(cluster: &Cluster) -> Before {
        Before { memory: cluster.servers.iter().map(|server| memory_kib(server.pid())).collect() }
    }

    /// Every server serves, none has grown, and all replicas are there.
    fn check(&self, cluster: &Cluster) {
        for (server, before) in cluster.servers.iter().zip(&self.memory) {
            let (log, memory) = (server.log(), memory_kib(server.pid()));
            assert!(!log.contains("panicked"), "{log}");
            assert!(memory < before + GROWTH_KIB_MAX, "{before} KiB became {memory}");
            assert!(server.connect().flush().is_ok());
            // A busy machine may cost a leader, a war of terms costs hundreds.
            let leaders = log.matches("JetStream cluster new ").count();
            assert!(leaders < 20, "{log}");
        }
        let mut client = cluster.servers[0].connect();
        wait_for("both followers to have everything", || {
            let info = client.request("$JS.API.STREAM.INFO.S", "").ok()?.payload;
            (info.matches("\"current\":true").count() == 2).then_some(())
        });
    }
}

/// Protocol that makes sense, to be cut off anywhere.
const SENSE: [&str; 3] = [
    "CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB a.> q 1\r\nHPUB a.b r.s 12 17\r\nNATS/1.0\r\n\r\nhello\r\nUNSUB 1 5\r\n",
    "GET /varz?subs=1 HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
    "TRST\x02\0\x02\0",
];

/// What strangers send to any port.
fn garbage(round: usize) -> Vec<Vec<u8>> {
    let noise = |seed: u32| -> Vec<u8> {
        (0..30_000u32).map(|n| ((n ^ seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    };
    let connect = "CONNECT {\"verbose\":false,\"headers\":true}\r\n";
    let mut list = vec![
        noise(round as u32),
        vec![0xff; 100_000],
        vec![0; 100_000],
        b"A".repeat(5_000),
        format!("CONNECT {}\r\n", "[".repeat(100_000)).into_bytes(),
        format!("CONNECT {}1{}\r\nPING\r\n", "{\"a\":".repeat(700), "}".repeat(700)).into_bytes(),
        b"CONNECT {\"protocol\":1e400,\"user\":\"\xff\xfe\"}\r\nPING\r\n".to_vec(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "%zz".repeat(100_000)).into_bytes(),
        format!("GET /varz HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(1_000_000)).into_bytes(),
        b"POST /varz HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    ];
    let after = [
        "PUB a 99999999999999999999\r\n",
        "PUB s.x 1048577\r\n",
        "PUB a -1\r\nx\r\n",
        "HPUB a 12 5\r\nNATS/1.0\r\n\r\n\r\n",
        "HPUB a 99999999999999999999 5\r\n",
        "UNSUB 1 99999999999999999999999\r\nSUB\r\n",
        "MSG a 1 1\r\nx\r\n",
        "PUB a 3\r\nxxxx\r\n",
    ];
    list.extend(after.map(|line| format!("{connect}{line}").into_bytes()));
    list.push(format!("{connect}SUB {} 1\r\n", "a".repeat(100_000)).into_bytes());
    list.push(format!("{connect}PUB {} 1\r\nx\r\n", "a.".repeat(2_000)).into_bytes());
    for sense in SENSE {
        list.extend((0..sense.len()).filter(|at| at % 3 == round % 3).map(|at| sense.as_bytes()[..at].to_vec()));
    }
    list
}

/// All kinds of strangers at one port; those that stay, and how many came with bytes.
fn pester(addr: &str, round: usize) -> (Vec<TcpStream>, usize) {
    // Byte by byte, and nothing at all, for as long as it lasts.
    let mut slow: Vec<TcpStream> = (0..20).map(|_| throw(addr, b"").0).collect();
    let (mut held, garbage) = (Vec::new(), garbage(round));
    for (n, bytes) in garbage.iter().enumerate() {
        let (stream, _) = throw(addr, bytes);
        let sense = SENSE[n % SENSE.len()].as_bytes();
        for one in &mut slow {
            let _ = one.write_all(&sense[n % sense.len()..][..1]);
        }
        if n % 4 == 0 {
            held.push(stream);
        }
    }
    // A crowd that comes and goes at once.
    let crowd: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(addr).ok()).collect();
    drop(crowd);
    held.extend(slow);
    (held, garbage.len())
}

#[test]
fn a_load_does_not_notice_garbage_on_any_port_of_any_server() {
    let cluster = Cluster::of("i", &["2", "1", "2"], "", &["-m", "-1"]);
    let load = Load::start(&cluster);
    let before = Before::of(&cluster);
    let pestered: Vec<_> = std::thread::scope(|scope| {
        let each = |(round, server): (usize, &Server)| {
            let addrs = [server.client_addr(), server.route_addr(), server.http_addr()];
            scope.spawn(move || addrs.map(|addr| pester(&addr, round)))
        };
        let all: Vec<_> = cluster.servers.iter().enumerate().map(each).collect();
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    let thrown = pestered.iter().map(|(_, thrown)| thrown).sum::<usize>() / 3;
    before.check(&cluster);
    load.end(&cluster);
    drop(pestered);
    for server in &cluster.servers {
        // One line each at the client port; elsewhere each kind of trouble is named once.
        let (log, trouble) = (server.log(), server.log().matches("[ERR]").count());
        assert!(trouble > 10 && trouble < thrown / 2, "{trouble} lines about {thrown}: {log}");
        let line = "on the route port was closed: not the protocol of a Trestle server";
        assert_eq!(log.matches(line).count(), 1, "{log}");
    }
}

#[test]
fn who_has_the_password_and_nothing_else_has_no_say_in_any_group() {
    let cluster = Cluster::of("p", &["1", "2", "1"], "", &[]);
    let load = Load::start(&cluster);
    let before = Before::of(&cluster);
    let accounts = accounts();
    for server in &cluster.servers {
        let addr = server.route_addr();
        let to = ServerId::of(&text(&server.connect().info, "server_name").unwrap());
        let me = ServerId::of("liar");
        let lead = |server| Lead { group: GroupId::of_stream(5), server, term: u64::MAX, asset: Asset::Meta };
        let begin = CatchupStep::Begin {
            session: 1,
            index: u64::MAX,
            term: u64::MAX,
            membership: Bytes::new(),
            checkpoint: Bytes::new(),
        };
        let mut all: Vec<(NodeMsg, &str)> = vec![
            (NodeMsg::Lead(lead(me)), "no say"),
            (NodeMsg::Lead(lead(to)), "another server's name"),
            (NodeMsg::Unlead { group: GroupId::META, term: u64::MAX }, "no say"),
            (NodeMsg::Catchup { group: GroupId::META, epoch: 1, step: begin }, "no say"),
            (raft_message(to, to, GroupId::META, 1, 9, Body::TimeoutNow), "another server's name"),
        ];
        all.push((lies(me, to, 1 << 40).swap_remove(0), "no say"));
        for (before, (msg, why)) in all.iter().enumerate() {
            let mut intruder = Intruder::enter(&addr, "p", "liar", false, None);
            intruder.say(&accounts, 0, msg);
            intruder.wait_end();
            let line = wait_for("a word about it", || {
                let log = server.log();
                log.lines().filter(|line| line.contains("Route to liar is down")).nth(before).map(str::to_owned)
            });
            assert!(line.contains(why), "{msg:?}: {line}");
        }
        let lines = server.log().lines().filter(|line| line.contains("liar")).count();
        assert!(lines <= 2 * all.len(), "{lines} lines: {}", server.log());
    }
    before.check(&cluster);
    load.end(&cluster);
}

#[test]
fn a_member_that_talks_nonsense_stops_no_core_and_no_load() {
    let cluster = Cluster::of("n", &["2", "1", "2"], "", &[]);
    let load = Load::start(&cluster);
    let before = Before::of(&cluster);
    let accounts = accounts();
    let me = ServerId::of("mad");
    let ids: Vec<ServerId> = (1..=3).map(|n| ServerId::of(&format!("n{n}"))).chain([me]).collect();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for server in &cluster.servers {
        let addr = server.route_addr();
        for frame in broken_frames() {
            let mut intruder = Intruder::enter(&addr, "n", "mad", true, None);
            intruder.raw(Lane::Data, &frame);
            intruder.wait_end();
        }
        // With the cluster's own id it has every right to be heard.
        let store = Intruder::enter(&addr, "n", "mad", true, None).met.store.clone();
        assert!(store.is_some());
        for _ in 0..20 {
            let mut intruder = Intruder::enter(&addr, "n", "mad", true, store.clone());
            for _ in 0..100 {
                let msg = dice.nonsense(me, &ids);
                let core = dice.pick(&[0, 0, 1, 2, u16::MAX]);
                intruder.say(&accounts, core, &msg);
            }
            intruder.raw(Lane::Control, &[0xff; 64]);
            intruder.wait_end();
        }
    }
    // A link that is cut in the middle of the greeting, and one that never goes on.
    let mut half = throw(&cluster.servers[0].route_addr(), b"\x10\0\0\0\x01\0\0\xb7").0;
    end_of(&mut half);
    before.check(&cluster);
    load.end(&cluster);
    let dead = cluster.servers.iter().flat_map(|server| {
        let log = server.log();
        log.lines().filter(|line| line.contains("contradicts what is committed")).map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(dead.collect::<Vec<_>>(), Vec::<String>::new());
    let info = cluster.servers[0].connect().request("$JS.API.STREAM.INFO.S", "").unwrap().payload;
    assert!(number(&info, "messages").is_some(), "{info}");
}
