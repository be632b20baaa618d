//! Pausing a consumer and letting it go on.

use super::*;
use crate::api::pause::paused;

/// What whoever asked for a pause is told once it is in force.
fn told(world: &World) -> serde_json::Value {
    let config = &world.table.consumer("$G", "A", "c").unwrap().config;
    serde_json::from_slice(&paused(config, Now::default())).unwrap()
}

#[test]
fn a_pause_is_part_of_the_configuration_until_it_is_taken_back() {
    let mut world = World::of_three();
    world.commit("STREAM.CREATE.A", r#"{"name":"A"}"#);
    world.commit("CONSUMER.CREATE.A.c", r#"{"stream_name":"A","config":{"durable_name":"c","ack_policy":"explicit"}}"#);
    let (call, until) = ("CONSUMER.PAUSE.A.c", r#"{"pause_until":"2099-01-01T00:00:00Z"}"#);
    let MetaVerdict::Propose(entries) = world.decide(call, until) else { panic!() };
    let [MetaEntry::PutConsumer { asked: Some(asked), .. }] = &entries[..] else { panic!("{entries:?}") };
    assert!(asked.pause);
    world.commit(call, until);
    let paused = told(&world);
    assert_eq!((&paused["paused"], &paused["pause_until"]), (&true.into(), &"2099-01-01T00:00:00Z".into()));
    assert!(paused["pause_remaining"].as_i64().unwrap() > 0);
    assert!(matches!(world.decide(call, until), MetaVerdict::Answer(_)), "it is in force already");
    let config = |world: &World| world.table.consumer("$G", "A", "c").unwrap().config.clone();
    assert!(config(&world).pause_until.is_some());
    // A client that repeats or changes its configuration neither ends nor begins a pause.
    for pause in [r#""1""#, r#""2","pause_until":"2098-01-01T00:00:00Z""#] {
        let body = r#""durable_name":"c","ack_policy":"explicit","description":"#;
        world.commit("CONSUMER.CREATE.A.c", &format!(r#"{{"stream_name":"A","config":{{{body}{pause}}}}}"#));
        assert_eq!(config(&world).pause_until.map(|until| until.to_string()).as_deref(), Some("2099-01-01T00:00:00Z"));
    }
    world.commit(call, "");
    let resumed = told(&world);
    assert_eq!((&resumed["paused"], &resumed["pause_until"]), (&false.into(), &"0001-01-01T00:00:00Z".into()));
    assert_eq!(config(&world).pause_until, None);
    assert_eq!(world.refused("CONSUMER.PAUSE.A.d", until), 10014);
    assert_eq!(world.refused("CONSUMER.PAUSE.B.c", until), 10059);
    assert_eq!(world.refused(call, r#"{"pause_until":"soon"}"#), 10025);
}
