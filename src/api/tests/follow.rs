//! Consumers that follow their stream.

use super::*;

#[test]
fn a_consumer_asks_for_no_more_replicas_than_its_stream_keeps() {
    let mut world = World::of_three();
    world.commit("STREAM.CREATE.A", r#"{"name":"A","num_replicas":3}"#);
    let consumer = |replicas: u8| {
        format!(
            r#"{{"stream_name":"A","config":{{"durable_name":"c","ack_policy":"explicit","num_replicas":{replicas}}}}}"#
        )
    };
    world.commit("CONSUMER.CREATE.A.c", &consumer(3));
    world.commit("STREAM.UPDATE.A", r#"{"name":"A","num_replicas":1}"#);
    let asked = |world: &World| world.table.consumer("$G", "A", "c").unwrap().config.num_replicas;
    assert_eq!((asked(&world), world.consumer_peers("A", "c").len()), (1, 1));
    world.commit("STREAM.UPDATE.A", r#"{"name":"A","num_replicas":3}"#);
    assert_eq!((asked(&world), world.consumer_peers("A", "c").len()), (1, 1), "until somebody asks for more");
    world.commit("CONSUMER.CREATE.A.c", &consumer(3));
    assert_eq!((asked(&world), world.consumer_peers("A", "c").len()), (3, 3));
}

#[test]
fn a_server_alone_looks_at_an_update_before_it_looks_for_the_stream() {
    for (world, code) in [(World::alone(), 10052), (World::of_three(), 10059)] {
        assert_eq!(world.refused("STREAM.UPDATE.A", r#"{"name":"A","max_age":-1}"#), code);
        assert_eq!(world.refused("STREAM.UPDATE.A", r#"{"name":"A"}"#), 10059);
    }
}
