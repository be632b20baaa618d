//! The tables next to this file were recorded from nats-server 2.15.1: a request, and below it the configuration or the
//! error ("code err_code text") that it answered. The stream S has no limits, L has `consumer_limits` of 20 messages and
//! one minute.

use serde_json::Value;

use super::*;
use crate::api::errors::ApiError;

fn parent(stream: &str) -> Parent {
    match stream {
        "L" => Parent { replicas: 1, max_ack_pending: 20, inactive_threshold: 60_000_000_000 },
        _ => Parent { replicas: 1, ..Default::default() },
    }
}

fn words(error: &ApiError) -> String {
    format!("{} {} {}", error.code, error.err_code, error.description)
}

fn create(body: &str) -> Result<ConsumerConfig, ApiError> {
    let request = parse_create(body.as_bytes(), true)?;
    let stream = request.stream_name.clone();
    let name = request.config.chosen_name().to_owned();
    let form = if name.is_empty() || name.contains(['.', ' ', '/']) {
        CreateForm::Ephemeral
    } else {
        CreateForm::Named { name: &name, filter: "" }
    };
    let request = request.addressed(&stream, form)?;
    let pedantic = request.pedantic;
    let config = request.config.defaulted(&parent(&stream), &ServerLimits::default(), pedantic)?;
    let durable = config.is_durable();
    Ok(config.with_idle_time(durable))
}

fn table(text: &'static str) -> Vec<(&'static str, &'static str)> {
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() >= 2 && lines.len().is_multiple_of(2));
    lines.chunks_exact(2).map(|pair| (pair[0], pair[1].trim())).collect()
}

fn assert_answer(request: &str, result: Result<ConsumerConfig, ApiError>, recorded: &str) {
    match result {
        Err(error) => assert_eq!(words(&error), recorded, "{request}"),
        Ok(config) => {
            let ours = serde_json::to_value(config.with_answer_metadata()).expect("json");
            let theirs: Value = serde_json::from_str(recorded).unwrap_or_else(|_| panic!("{request}: {recorded}"));
            assert_eq!(ours, theirs, "{request}");
        }
    }
}

#[test]
fn create_requests_are_answered_like_the_peer() {
    for (request, recorded) in table(include_str!("recorded_create.txt")) {
        assert_answer(request, create(request), recorded);
    }
}

#[test]
fn updates_are_answered_like_the_peer() {
    for (pair, recorded) in table(include_str!("recorded_update.txt")) {
        let pair_value: Vec<Value> = serde_json::from_str(pair).expect("a pair");
        let [old, new] = &pair_value[..] else { panic!("{pair}") };
        let full = |config: &Value| create(&format!("{{\"stream_name\":\"S\",\"config\":{config}}}"));
        let old = full(old).expect("the first is good");
        let result = full(new).map(|new| new.with_metadata_of(&old)).and_then(|new| {
            check_update(&old, &new)?;
            Ok(new)
        });
        assert_answer(pair, result, recorded);
    }
}

#[test]
fn fields_come_in_the_peers_order() {
    for (request, recorded) in table(include_str!("recorded_create.txt")) {
        let Ok(config) = create(request) else { continue };
        let keys = |json: &str| -> Vec<String> {
            let fields =
                ["durable_name", "name", "deliver_policy", "opt_start", "ack_policy", "ack_wait", "max_deliver"];
            let more = ["backoff", "filter_subject", "replay_policy", "max_waiting", "num_replicas", "metadata"];
            let mut found: Vec<(usize, &str)> = fields
                .into_iter()
                .chain(more)
                .filter_map(|field| json.find(&format!("\"{field}")).map(|at| (at, field)))
                .collect();
            found.sort_unstable();
            found.into_iter().map(|(_, field)| field.to_owned()).collect()
        };
        let ours = serde_json::to_string(&config.with_answer_metadata()).expect("json");
        assert_eq!(keys(&ours), keys(recorded), "{request}");
    }
}

#[test]
fn what_is_not_served_says_so() {
    let cases = [
        r#"{"durable_name":"d","deliver_subject":"push.here"}"#,
        r#"{"durable_name":"d","deliver_group":"g"}"#,
        r#"{"durable_name":"d","priority_policy":"overflow","priority_groups":["a"]}"#,
    ];
    for config in cases {
        let error = create(&format!("{{\"stream_name\":\"S\",\"config\":{config}}}")).expect_err(config);
        assert_eq!(error.err_code, 10052, "{config}");
        assert!(error.description.ends_with("not supported"), "{config}: {error}");
    }
}

#[test]
fn wrong_types_and_long_names_are_refused() {
    let code = |config: &str| create(&format!("{{\"stream_name\":\"S\",\"config\":{config}}}")).map_err(|e| e.err_code);
    assert_eq!(code(r#"{"durable_name":5}"#), Err(10025));
    assert_eq!(code(r#"{"max_deliver":1.5}"#), Err(10025));
    assert_eq!(code(r#"{"opt_start_time":"yesterday"}"#), Err(10025));
    assert_eq!(code(&format!("{{\"name\":\"{}\"}}", "x".repeat(256))), Err(10102));
    assert_eq!(code(&format!("{{\"metadata\":{{\"k\":\"{}\"}}}}", "x".repeat(140_000))), Err(10135));
    assert_eq!(code(&format!("{{\"description\":\"{}\"}}", "x".repeat(5000))), Err(10107));
    assert_eq!(code(r#"{"num_replicas":3}"#), Err(10126));
}

#[test]
fn a_stored_configuration_reads_back_equal() {
    for (request, _) in table(include_str!("recorded_create.txt")) {
        let Ok(config) = create(request) else { continue };
        let json = serde_json::to_vec(&config).expect("json");
        let back: ConsumerConfig = serde_json::from_slice(&json).expect("own json");
        assert_eq!(back, config, "{request}");
    }
}

#[test]
fn durations_are_written_as_go_does() {
    let cases = [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (2_000_000, "2ms"),
        (1_500_000_000, "1.5s"),
        (60_000_000_000, "1m0s"),
        (3_661_000_000_000, "1h1m1s"),
        (-90_000_000_000, "-1m30s"),
    ];
    for (ns, text) in cases {
        assert_eq!(go_duration(ns), text);
    }
}

#[test]
fn waits_follow_the_backoff_and_stay_at_its_end() {
    let config = ConsumerConfig { ack_wait: 1_000_000, backoff: vec![1_000_000, 5_000_000], ..Default::default() };
    assert_eq!([0, 1, 2, 3, u32::MAX].map(|count| config.wait_us(count)), [1000, 1000, 5000, 5000, 5000]);
    let plain = ConsumerConfig { ack_wait: 7_000_000, ..Default::default() };
    assert_eq!([1, 2].map(|count| plain.wait_us(count)), [7000, 7000]);
}
