//! Bytes from strangers before every reader that has no such test beside it: texts that make sense, changed here and
//! there by a seeded dice. Nothing may panic or hang; what the readers make of it is their own tests' business.

use std::collections::BTreeMap;
use std::path::PathBuf;

use trestle::args::{self, Flags};
use trestle::client::connect::Connect;
use trestle::cluster::table::Table;
use trestle::config::{self, source::Memory};
use trestle::consumer::{PullRequest, ack, parse_create};
use trestle::stream::StreamConfig;

/// Changed copies of each text.
const ROUNDS: usize = 3_000;

struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// The same bytes with a few of them changed, added, removed, moved or cut off.
    fn change(&mut self, text: &[u8]) -> Vec<u8> {
        const ODD: &[u8] = b"{}[]()\"'#/:=,;$\\\n\r\t .-+*>0129eEkKMxntf%\xc3\xa4\xff\0";
        let mut bytes = text.to_vec();
        for _ in 0..1 + self.below(5) {
            let at = self.below(bytes.len().max(1)).min(bytes.len());
            match self.below(6) {
                0 if at < bytes.len() => bytes[at] = ODD[self.below(ODD.len())],
                1 if at < bytes.len() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                3 => {
                    let from = self.below(text.len().max(1)).min(text.len());
                    let piece = &text[from..(from + self.below(20)).min(text.len())];
                    bytes.splice(at..at, piece.iter().copied());
                }
                _ => bytes.insert(at, ODD[self.below(ODD.len())]),
            }
        }
        bytes
    }
}

/// Hands changed copies of the texts to a reader, which says whether it took one; some must be taken and some not, or
/// the changes test nothing.
fn feed(texts: &[&[u8]], mut read: impl FnMut(&[u8]) -> bool) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut taken, mut refused) = (0, 0);
    for text in texts {
        assert!(read(text), "{}", String::from_utf8_lossy(text));
        for _ in 0..ROUNDS {
            let counter = if read(&dice.change(text)) { &mut taken } else { &mut refused };
            *counter += 1;
        }
    }
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
}

fn loads(name: &str, text: &[u8]) -> bool {
    let path = PathBuf::from(name);
    let source = Memory { files: BTreeMap::from([(path.clone(), text.to_vec())]), ..Memory::default() };
    config::load(&source, &Flags { config: Some(path), ..Flags::default() }).is_ok()
}

#[test]
fn configurations_in_either_language() {
    let conf: [&[u8]; 3] = [
        b"server_name: a\nserver_tags: [\"dc:1\"]\nlisten: \"127.0.0.1:-1\"\nhttp: 8222\nmax_payload: 1MB\n\
          ping_interval: \"2m\"\ncluster { name: c, listen: 6222, routes: [\"nats://u:p@h:6222\"]\n\
          authorization { user: u, password: p, timeout: 2 } }\n",
        b"jetstream { store_dir: d, max_mem: 1G, max_file: \"10G\", limits { duplicate_window: \"2m\" } }\n\
          lame_duck_duration: \"60s\"\nlame_duck_grace_period: \"5s\"\n",
        b"accounts { A { users [ { user: a, password: b, permissions { publish: { allow: [\"a.>\"], deny: b },\n\
          subscribe: \"q w\", allow_responses: { max: 2, expires: \"1m\" } } } ], jetstream: { max_mem: 1 } } }\n\
          no_auth_user: a\n",
    ];
    feed(&conf, |text| loads("x.conf", text));
    let toml: [&[u8]; 1] = [
        b"server_name = \"a\"\nport = 4222\nserver_tags = [\"x\"]\nping_interval = \"20s\"\n\
          [jetstream]\nstore_dir = \"d\"\nmax_mem = \"1GB\"\n[[authorization.users]]\nuser = \"u\"\npassword = \"p\"\n",
    ];
    feed(&toml, |text| loads("x.toml", text));
}

#[test]
fn command_lines() {
    let line =
        b"-p 4333 -a host -js -sd /d --cluster nats://u:p@h:1 --routes nats://a:1,nats://b:2 -DV --cores 2 -m -1";
    let line = &line[..];
    feed(&[line, b"--signal ldm=12", b"--signal reload=/p --max_traced_msg_len=5"], |text| {
        args::parse(String::from_utf8_lossy(text).split(' ').map(str::to_owned)).is_ok()
    });
}

#[test]
fn bodies_of_requests() {
    let stream = br#"{"name":"S","subjects":["a.*",">"],"retention":"limits","max_msgs":5,"max_age":1000000000,"storage":"file","num_replicas":3,"placement":{"cluster":"c","tags":["x"]},"metadata":{"a":"b"},"discard":"new"}"#;
    feed(&[&stream[..]], |body| StreamConfig::parse(body).is_ok());
    let consumer = br#"{"stream_name":"S","config":{"durable_name":"c","ack_policy":"explicit","ack_wait":30000000000,"deliver_policy":"by_start_sequence","opt_start_seq":5,"filter_subjects":["a","b.>"],"max_deliver":3,"backoff":[1000000,2000000]},"action":"create"}"#;
    feed(&[&consumer[..]], |body| parse_create(body, true).is_ok());
    let pull = br#"{"batch":10,"expires":5000000000,"no_wait":true,"max_bytes":1000,"idle_heartbeat":1000000}"#;
    feed(&[&pull[..], b"5", b""], |body| PullRequest::parse(body).is_ok());
    let connect = br#"{"verbose":false,"pedantic":false,"user":"u","pass":"p","lang":"x","version":"1","protocol":1,"echo":true,"headers":true}"#;
    feed(&[&connect[..]], |body| Connect::default().apply(body).is_ok());
}

#[test]
fn acknowledgements() {
    feed(
        &[b"$JS.ACK.S.c.1.2.3.1700000000000000000.4", b"$JS.ACK.hub.ACC.S.c.1.2.3.1700000000000000000.4.x"],
        |subject| ack::AckSubject::parse(subject).is_some(),
    );
    feed(&[b"-NAK {\"delay\":100}", b"+NXT {\"batch\":5}", b"+TERM why"], |payload| {
        ack::AckVerb::parse(payload).is_some()
    });
}

#[test]
fn entries_of_the_cluster() {
    let mut table = Table::default();
    let entry = br#"{"Form":{"cluster_id":"00000000000000000000000000000001"}}"#;
    if let Ok(entry) = Table::decode(entry) {
        table.apply(1, entry);
    }
    feed(&[&table.checkpoint()], |state| Table::restore(state).is_ok());
}
