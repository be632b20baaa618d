//! What the streams of an account may hold together, where the account has a limit.

mod common;

use common::{Client, Scratch, Server, number, wait_for};

/// The limit of the account, bytes.
const LIMIT: u64 = 100_000;
const MESSAGE: usize = 20_000;

fn held(client: &mut Client, field: &str) -> u64 {
    let info = client.request("$JS.API.INFO", "").unwrap();
    number(&info.payload, field).unwrap()
}

fn make(client: &mut Client, name: &str, storage: &str) {
    let body = format!(r#"{{"name":"{name}","subjects":["{name}.*"],"storage":"{storage}"}}"#);
    let made = client.request(&format!("$JS.API.STREAM.CREATE.{name}"), &body).unwrap();
    assert!(made.payload.contains("\"did_create\":true"), "{}", made.payload);
}

fn purge(client: &mut Client, name: &str) {
    let purged = client.request(&format!("$JS.API.STREAM.PURGE.{name}"), "").unwrap();
    assert!(purged.payload.contains("\"success\":true"), "{}", purged.payload);
}

#[test]
fn the_streams_of_an_account_hold_no_more_than_it_may() {
    let dir = Scratch::new("rooms");
    let text = format!(
        "listen: \"127.0.0.1:-1\"\nserver_name: one\njetstream {{ store_dir: \"{}\", max_file_store: 64MB }}\naccounts: {{ \
         A: {{ users: [{{user: a, password: a}}], jetstream: {{ max_mem: {LIMIT}, max_file: {LIMIT} }} }} }}\n",
        dir.path("store")
    );
    let config = dir.file("a.conf", &text);
    let server = Server::start(&dir, "one", &["-c", &config, "--cores", "2"]);
    server.wait_ready();
    let mut client = Client::connect_as(&server.client_addr(), "\"user\":\"a\",\"pass\":\"a\",").unwrap();
    let message = "x".repeat(MESSAGE);
    let refusal =
        "\"error\":{\"code\":400,\"err_code\":10002,\"description\":\"resource limits exceeded for account\"}";
    for (storage, field) in [("file", "storage"), ("memory", "memory")] {
        make(&mut client, "A", storage);
        for seq in 1..=4 {
            assert_eq!(client.publish("A.1", &message), Ok(seq));
        }
        // The fifth would pass the limit by its headers and record alone.
        assert!(client.publish("A.1", &message).unwrap_err().contains(refusal));
        assert!(held(&mut client, field) <= LIMIT);
        // A smaller one fits still, and what is purged makes room.
        assert_eq!(client.publish("A.1", "x"), Ok(5));
        purge(&mut client, "A");
        assert_eq!(client.publish("A.1", &message), Ok(6));
        for seq in 7..=9 {
            assert_eq!(client.publish("A.1", &message), Ok(seq));
        }
        // Streams led by other cores hear of it within moments.
        for name in ["B", "C", "D"] {
            make(&mut client, name, storage);
            let refused = wait_for("the account to be full for every core", || {
                let refused = client.publish(&format!("{name}.1"), &message).err();
                if refused.is_none() {
                    purge(&mut client, name);
                }
                refused
            });
            assert!(refused.contains(refusal), "{refused}");
        }
        for name in ["A", "B", "C", "D"] {
            client.request(&format!("$JS.API.STREAM.DELETE.{name}"), "").unwrap();
        }
    }
}
