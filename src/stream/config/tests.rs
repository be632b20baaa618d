//! Configurations against the answers of nats-server 2.15.1 (standalone), recorded in `peer.txt`: a request, below it
//! the configuration that it led to or the code, error code and text of the refusal.

use super::*;

const PEER: &str = include_str!("peer.txt");

struct Case<'a> {
    old: Option<&'a str>,
    request: &'a str,
    answer: &'a str,
}

fn cases() -> Vec<Case<'static>> {
    let mut cases = Vec::new();
    for block in PEER.split("\n\n") {
        let mut lines = block.lines();
        let mut line = lines.next().unwrap_or_default();
        let old = line.strip_prefix("old ").map(str::trim);
        if old.is_some() {
            line = lines.next().unwrap_or_default();
        }
        let request = line.strip_prefix("update ").or_else(|| line.strip_prefix("create ")).map(str::trim);
        let answer = lines.next().map(str::trim);
        if let (Some(request), Some(answer)) = (request, answer) {
            cases.push(Case { old, request, answer });
        }
    }
    cases
}

fn outcome(case: &Case<'_>) -> Result<StreamConfig, ApiError> {
    let mut limits = StreamLimits::default();
    let (config, pedantic) = StreamConfig::parse_request(case.request.as_bytes(), true)?;
    limits.pedantic = pedantic;
    match case.old {
        None => config.defaulted(&limits),
        Some(old) => {
            let old = StreamConfig::parse(old.as_bytes())?.defaulted(&StreamLimits::default())?;
            StreamConfig::check_update(&old, config, &limits)
        }
    }
}

#[test]
fn every_recorded_request_ends_as_it_does_in_the_peer() {
    let cases = cases();
    assert!(cases.len() > 50, "the table was read: {}", cases.len());
    for case in cases {
        let ours = match outcome(&case) {
            Ok(config) => serde_json::to_string(&config.shown()).unwrap(),
            Err(error) => format!("{} {} {}", error.code, error.err_code, error.description),
        };
        // What a decoder finds wrong is said in its own words; only the unknown field is the peer's.
        let about_json = case.answer.starts_with("400 10025") && !case.answer.contains("unknown field");
        if about_json {
            assert!(ours.starts_with("400 10025 invalid JSON: "), "{} -> {ours}", case.request);
        } else {
            assert_eq!(ours, case.answer, "{}", case.request);
        }
    }
}

#[test]
fn texts_are_bounded() {
    let config = |config: StreamConfig| config.defaulted(&StreamLimits::default()).map_err(|error| error.to_string());
    let named = || StreamConfig { name: "S".into(), ..StreamConfig::default() };
    assert_eq!(
        config(StreamConfig { description: "x".repeat(4097), ..named() }),
        Err("stream description is too long, maximum allowed is 4096 (10052)".into())
    );
    let metadata = BTreeMap::from([("k".to_owned(), "x".repeat(128 * 1024))]);
    assert_eq!(
        config(StreamConfig { metadata, ..named() }),
        Err("stream metadata exceeds maximum size of 131072 bytes (10052)".into())
    );
    let name = "n".repeat(256);
    assert_eq!(
        config(StreamConfig { name, ..named() }),
        Err("stream name is too long, maximum allowed is 255 (10052)".into())
    );
    for name in ["", "a.b", "a b", "a*", ">"] {
        assert!(config(StreamConfig { name: name.into(), ..named() }).is_err(), "{name:?}");
    }
    assert_eq!(
        config(StreamConfig { name: "a/b".into(), ..named() }),
        Err("Stream name can not contain path separators (10128)".into())
    );
}

#[test]
fn what_is_missing_is_refused_by_name() {
    for (json, what) in [
        (r#"{"name":"S","retention":"workqueue"}"#, "retention workqueue"),
        (r#"{"name":"S","retention":"interest"}"#, "retention interest"),
        (r#"{"name":"S","mirror":{"name":"X"}}"#, "mirror"),
        (r#"{"name":"S","sources":[{"name":"X"}]}"#, "sources"),
        (r#"{"name":"S","compression":"s2"}"#, "compression s2"),
        (r#"{"name":"S","subject_transform":{"src":"a","dest":"b"}}"#, "subject_transform"),
        (r#"{"name":"S","republish":{"dest":"b"}}"#, "republish"),
        (r#"{"name":"S","allow_msg_ttl":true}"#, "allow_msg_ttl"),
        (r#"{"name":"S","subject_delete_marker_ttl":1000000000}"#, "subject_delete_marker_ttl"),
        (r#"{"name":"S","allow_msg_counter":true}"#, "allow_msg_counter"),
        (r#"{"name":"S","allow_msg_schedules":true}"#, "allow_msg_schedules"),
        (r#"{"name":"S","persist_mode":"async"}"#, "persist_mode async"),
    ] {
        let error = StreamConfig::parse(json.as_bytes()).unwrap().defaulted(&StreamLimits::default()).unwrap_err();
        assert_eq!(error, ApiError::not_supported(what));
    }
}

#[test]
fn a_cluster_allows_replicas_and_servers_bound_the_window() {
    let three = || StreamConfig { name: "S".into(), num_replicas: 3, ..StreamConfig::default() };
    let clustered = StreamLimits { clustered: true, ..StreamLimits::default() };
    assert_eq!(three().defaulted(&clustered).unwrap().num_replicas, 3);
    let short = StreamLimits { duplicate_window_ns_max: 60_000_000_000, clustered: true, ..StreamLimits::default() };
    assert_eq!(three().defaulted(&short).unwrap().duplicate_window, 60_000_000_000);
    let asked = StreamConfig { duplicate_window: 90_000_000_000, ..three() };
    assert_eq!(
        asked.defaulted(&short).unwrap_err().description,
        "duplicates window can not be larger then server limit of 1m0s"
    );
}

#[test]
fn a_configuration_survives_the_log_and_a_repeated_create_is_recognised() {
    let json =
        br#"{"name":"S","subjects":["a.>"],"placement":{"tags":["dc:1"]},"metadata":{"k":"v"},"max_age":1000000000}"#;
    let config = StreamConfig::parse(json).unwrap().defaulted(&StreamLimits::default()).unwrap();
    assert_eq!(StreamConfig::from_stored(&config.to_stored()), Some(config.clone()));
    assert!(config.same_as(&config.shown()));
    assert!(!config.same_as(&StreamConfig { max_msgs: 5, ..config.clone() }));
}

#[test]
fn parsing_takes_any_bytes() {
    let json = br#"{"name":"S","subjects":["a.>"],"placement":{"tags":["dc:1"]},"metadata":{"k":"v"},"max_age":100}"#;
    for at in 0..json.len() {
        for byte in [0, b'"', b'{', b'9', 0xff] {
            let mut other = json.to_vec();
            other[at] = byte;
            if let Err(error) = StreamConfig::parse(&other) {
                assert_eq!(error.err_code, 10025);
            }
        }
    }
}
