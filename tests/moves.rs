//! Clients that wait for each answer end up on the core of their stream, and nobody notices.

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{Client, Scratch, Server, get, number, wait_for};

const REQUESTERS: usize = 8;
const PUBLISHERS: usize = 3;
/// Messages that a publisher sends before it waits for the server to have taken them.
const BURST: u64 = 50;

/// What the threads of the test have in common.
#[derive(Default)]
struct Stage {
    /// Publishers and requesters finish.
    over: AtomicBool,
    /// Requests answered, by requester.
    asked: [AtomicU64; REQUESTERS],
    /// Messages to each requester, by publisher, once it has finished.
    sent: [AtomicU64; PUBLISHERS],
    done: AtomicU64,
}

/// Sends numbered messages to every requester's inbox, as fast as the server takes them.
fn flood(stage: &Stage, mut client: Client, at: usize) {
    let mut n = 0;
    while !stage.over.load(Ordering::SeqCst) {
        let mut text = String::new();
        for _ in 0..BURST {
            n += 1;
            for to in 0..REQUESTERS {
                let body = format!("{at} {n}");
                text.push_str(&format!("PUB in.{to}.flood {}\r\n{body}\r\n", body.len()));
            }
        }
        client.send(&text);
        client.flush().unwrap();
    }
    stage.sent[at].store(n, Ordering::SeqCst);
    stage.done.fetch_add(1, Ordering::SeqCst);
}

/// Publishes to the stream, one message after the other, and reads what else comes; how often it published.
fn ask(stage: &Stage, mut client: Client, at: usize) -> u64 {
    client.send(&format!("SUB in.{at}.* 1\r\n"));
    client.flush().unwrap();
    let mut heard = [0u64; PUBLISHERS];
    let mut asked = 0;
    loop {
        let over = stage.done.load(Ordering::SeqCst) == PUBLISHERS as u64;
        let whole = || (0..PUBLISHERS).all(|from| heard[from] == stage.sent[from].load(Ordering::SeqCst));
        if over && whole() {
            return asked;
        }
        asked += 1;
        client.send(&format!("PUB t.x in.{at}.{asked} 2\r\nhi\r\n"));
        loop {
            let message = client.message().unwrap();
            if message.subject.ends_with(".flood") {
                let (from, n) = message.payload.split_once(' ').unwrap();
                let (from, n) = (from.parse::<usize>().unwrap(), n.parse::<u64>().unwrap());
                heard[from] += 1;
                assert_eq!(heard[from], n, "requester {at}, publisher {from}");
            } else {
                assert_eq!(message.subject, format!("in.{at}.{asked}"));
                assert!(message.payload.contains("\"seq\":"), "{}", message.payload);
                break;
            }
        }
        stage.asked[at].store(asked, Ordering::SeqCst);
    }
}

/// Where each connection that moved is now, by its number: `... cid:7 ... moved from core 0 to core 1`.
fn moved(log: &str) -> BTreeMap<u64, String> {
    let lines = log.lines().filter(|line| line.contains(" moved from core "));
    let cid = |line: &str| {
        let digits: String = line.split("cid:").nth(1)?.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    lines.filter_map(|line| Some((cid(line)?, line.rsplit(' ').next()?.to_owned()))).collect()
}

#[test]
fn requesters_move_to_the_core_of_their_stream_while_others_flood_them() {
    let dir = Scratch::new("moves");
    let store = dir.path("store");
    let words = ["-a", "127.0.0.1", "-p", "-1", "--cores", "3", "-m", "-1", "-js", "-sd", &store, "-D"];
    let mut server = Server::start(&dir, "one", &words);
    let mut operator = server.connect();
    let made = operator.request("$JS.API.STREAM.CREATE.T", r#"{"name":"T","subjects":["t.>"]}"#).unwrap();
    assert!(made.payload.contains("\"created\""), "{}", made.payload);

    let stage = Stage::default();
    let requesters: Vec<Client> = (0..REQUESTERS).map(|_| server.connect()).collect();
    let cids: Vec<u64> = requesters.iter().map(|client| number(&client.info, "client_id").unwrap()).collect();
    let asked: Vec<u64> = std::thread::scope(|scope| {
        let stage = &stage;
        let asking: Vec<_> = requesters
            .into_iter()
            .enumerate()
            .map(|(at, client)| {
                let keep = scope.spawn(move || ask(stage, client, at));
                wait_for("the first answer", || (stage.asked[at].load(Ordering::SeqCst) > 0).then_some(()));
                keep
            })
            .collect();
        for at in 0..PUBLISHERS {
            let client = server.connect();
            scope.spawn(move || flood(stage, client, at));
        }
        // With eight of them on three cores, two thirds have somewhere to go.
        wait_for("requesters to move", || (!moved(&server.log()).is_empty()).then_some(()));
        let so_far: Vec<u64> = stage.asked.iter().map(|asked| asked.load(Ordering::SeqCst)).collect();
        wait_for("a hundred more requests of each", || {
            let more = |at: usize| stage.asked[at].load(Ordering::SeqCst) > so_far[at] + 100;
            (0..REQUESTERS).all(more).then_some(())
        });
        stage.over.store(true, Ordering::SeqCst);
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    assert_eq!(operator.count("T").unwrap(), asked.iter().sum::<u64>());
    let places = moved(&server.log());
    let mut cores: Vec<&String> = places.values().collect();
    cores.dedup();
    assert_eq!(cores.len(), 1, "they went to one core: {places:?}");
    assert!(places.keys().all(|cid| cids.contains(cid)), "only requesters move: {places:?}");
    let page = get(&server.http_addr(), "/varz");
    assert_eq!(number(&page, "total_connections"), Some((1 + REQUESTERS + PUBLISHERS) as u64));
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_connection_that_moved_is_the_one_that_it_was() {
    let dir = Scratch::new("moved");
    let store = dir.path("store");
    let words = ["-a", "127.0.0.1", "-p", "-1", "--cores", "2", "-m", "-1", "-js", "-sd", &store, "-D"];
    let server = Server::start(&dir, "one", &words);
    let mut operator = server.connect();
    operator.request("$JS.API.STREAM.CREATE.T", r#"{"name":"T","subjects":["t.>"]}"#).unwrap();
    // Which core the kernel gives a client to is its own choice: some come to the core of the stream at once.
    let (mut client, cid, asked) = wait_for("a client that moves", || {
        let mut client = server.connect();
        let cid = number(&client.info, "client_id").unwrap();
        client.send("SUB in.* 1\r\nSUB other 2\r\nUNSUB 2 2\r\n");
        client.flush().unwrap();
        let mut asked = 0;
        while asked < 100 && !moved(&server.log()).contains_key(&cid) {
            asked += 1;
            client.send(&format!("PUB t.x in.{asked} 2\r\nhi\r\n"));
            assert_eq!(client.message().unwrap().subject, format!("in.{asked}"));
        }
        moved(&server.log()).contains_key(&cid).then_some((client, cid, asked))
    });
    let page = get(&server.http_addr(), &format!("/connz?cid={cid}&subs=1"));
    assert_eq!(page.matches("\"cid\":").count(), 1, "{page}");
    assert_eq!((number(&page, "in_msgs"), number(&page, "out_msgs")), (Some(asked), Some(asked)), "{page}");
    assert_eq!(number(&page, "subscriptions"), Some(2), "{page}");
    // The subscription that ends after two messages does, and the other one goes on.
    operator.send("PUB other 1\r\n1\r\nPUB other 1\r\n2\r\nPUB other 1\r\n3\r\nPUB in.last 1\r\n4\r\n");
    let heard: Vec<String> = (0..3).map(|_| client.message().unwrap().payload).collect();
    assert_eq!(heard, ["1", "2", "4"]);
    // It can be closed from outside, and is gone from the pages.
    drop(client);
    wait_for("its end", || {
        let page = get(&server.http_addr(), "/connz");
        (!page.contains(&format!("\"cid\": {cid},"))).then_some(())
    });
    let closed = get(&server.http_addr(), &format!("/connz?state=closed&cid={cid}"));
    assert!(closed.contains("Client Closed"), "{closed}");
}
