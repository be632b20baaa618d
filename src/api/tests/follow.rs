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
fn an_update_is_looked_at_before_the_stream_is_looked_for() {
    for world in [World::alone(), World::of_three()] {
        assert_eq!(world.refused("STREAM.UPDATE.A", r#"{"name":"A","max_age":-1}"#), 10052);
        assert_eq!(world.refused("STREAM.UPDATE.A", r#"{"name":"A"}"#), 10059);
    }
}
