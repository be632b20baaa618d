//! Where a stream goes when servers have little room, and when none has any.

use super::*;

/// Servers of the world with these bytes for file streams.
fn world_with(bytes: [u64; 3]) -> World {
    let mut world = World::of_three();
    for (name, file_bytes_max) in ["n1", "n2", "n3"].into_iter().zip(bytes) {
        let server = ServerId::of(name).0;
        let facts = ServerFacts { file_bytes_max, ..world.table.servers[&server].clone() };
        world.apply(MetaEntry::PutServer { server, facts });
    }
    world
}

fn peers(entries: &[MetaEntry]) -> Vec<u64> {
    entries
        .iter()
        .find_map(|entry| match entry {
            MetaEntry::PutStream { peers, .. } => Some(peers.clone()),
            _ => None,
        })
        .expect("a stream")
}

#[test]
fn a_stream_goes_where_there_is_much_more_room() {
    let mut world = world_with([1_000_000, 1_000_000, 10_000_000]);
    for name in ["A", "B", "C"] {
        let made = world.commit(&format!("STREAM.CREATE.{name}"), &format!(r#"{{"name":"{name}"}}"#));
        assert_eq!(peers(&made), [ServerId::of("n3").0], "{name}");
    }
    // What is reserved there counts: 1.5 MB are left, no more than twice what the others have.
    world.commit("STREAM.CREATE.D", r#"{"name":"D","max_bytes":8500000}"#);
    let made = world.commit("STREAM.CREATE.E", r#"{"name":"E"}"#);
    assert_ne!(peers(&made), [ServerId::of("n3").0]);
}

#[test]
fn nobody_with_room_for_it_is_a_refusal() {
    let mut world = world_with([1_000_000, 1_000_000, 10_000_000]);
    let (call, body) = ("STREAM.CREATE.A", r#"{"name":"A","max_bytes":2000000,"num_replicas":2}"#);
    assert_eq!(world.refused(call, body), 10005);
    let MetaVerdict::Answer(answer) = world.decide(call, body) else { panic!("a refusal") };
    assert!(text_of(&answer).contains("no suitable peers for placement, insufficient storage"));
    world.commit("STREAM.CREATE.A", r#"{"name":"A","max_bytes":2000000}"#);
    // It stays where it is while it grows within what is left there.
    let grown = world.commit("STREAM.UPDATE.A", r#"{"name":"A","max_bytes":9000000}"#);
    assert_eq!(peers(&grown), [ServerId::of("n3").0]);
}

#[test]
fn replicated_streams_and_consumers_are_limited_per_server() {
    let mut world = World::of_three();
    let mut js = world.config.jetstream.clone().unwrap();
    js.limits.ha_assets_max = Some(2);
    world.config.jetstream = Some(js);
    world.commit("STREAM.CREATE.A", r#"{"name":"A","num_replicas":3}"#);
    world.commit("CONSUMER.CREATE.A.c", r#"{"stream_name":"A","config":{"durable_name":"c","ack_policy":"explicit"}}"#);
    assert_eq!(world.refused("STREAM.CREATE.B", r#"{"name":"B","num_replicas":3}"#), 10005);
}

#[test]
fn a_server_that_stands_alone_has_no_more_than_its_own_room() {
    let mut world = World::alone();
    let facts = ServerFacts {
        name: "solo".to_owned(),
        cluster: String::new(),
        domain: String::new(),
        tags: Vec::new(),
        file_bytes_max: 5_000_000,
        memory_bytes_max: 1_000_000,
    };
    world.apply(MetaEntry::PutServer { server: world.view.me.server.0, facts });
    assert_eq!(world.refused("STREAM.CREATE.A", r#"{"name":"A","max_bytes":6000000}"#), 10047);
    assert_eq!(world.refused("STREAM.CREATE.A", r#"{"name":"A","max_bytes":2000000,"storage":"memory"}"#), 10028);
    world.commit("STREAM.CREATE.A", r#"{"name":"A","max_bytes":4000000}"#);
    assert_eq!(world.refused("STREAM.CREATE.B", r#"{"name":"B","max_bytes":2000000}"#), 10047);
    let consumer = r#"{"stream_name":"A","config":{"name":"c","num_replicas":3,"ack_policy":"explicit"}}"#;
    assert_eq!(world.refused("CONSUMER.CREATE.A.c", consumer), 10074);
}

fn text_of(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
