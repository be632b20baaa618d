//! Every field that the peer shows is shown here too, except those that are named with the reason.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{World, at, cluster, furnish, json, payloads};

pub type Fields = BTreeSet<String>;

/// Keys of these objects are names, not fields.
const NAMED: &[&str] = &["http_req_stats", "mappings", "feature_flags", "peers"];

/// Fields that are not shown, by how they end: what they stand for does not exist here or cannot be known.
const ABSENT: &[(&str, &str)] = &[
    ("feature_flags", "there are no optional features of that kind"),
    ("feature_flags.*", "see above"),
    ("git_commit", "a build does not know its commit"),
    ("disk_io_wait_stats", "no operation waits for a thread"),
    ("disk_io_wait_stats.max_wait_time", "see above"),
    ("disk_io_wait_stats.wait_time", "see above"),
    ("disk_io_wait_stats.waiters", "see above"),
    ("disk_io_wait_stats.waits", "see above"),
    ("cluster.tls_timeout", "links have no TLS"),
    ("limits.default_max_consumers", "streams have no default bound"),
    ("voted_for", "a vote is the replica's own business"),
    ("metadata._nats.req.level", "given by the API, not by the page"),
    ("account_detail.mappings", "subjects are not mapped"),
    ("account_detail.mappings.*", "see above"),
    ("account_detail.mappings.*[].subject", "see above"),
    ("account_detail.mappings.*[].weight", "see above"),
    ("snapshot.last_duration", "a checkpoint is not timed"),
    ("unique_tag", "not configured in this test"),
    ("subscriptions_list_detail[].account", "shown for closed connections only, and none closes in this test"),
    ("subscriptions_list_detail[].account_tag", "see above"),
    ("routes[].rtt", "not measured yet in this test"),
    ("routes[].account", "a link serves all accounts"),
    ("lag", "nobody lags"),
    ("consumer_detail[].config.pause_until", "a consumer that was never paused has none"),
];

fn is_absent(page: &str, field: &str) -> bool {
    let imports = page.starts_with("accountz") && field.contains("account_detail.imports");
    imports || ABSENT.iter().any(|(end, _)| field == *end || field.ends_with(&format!(".{end}")))
}

/// The recorded fields, by page.
pub fn recorded() -> BTreeMap<&'static str, Fields> {
    let mut pages: BTreeMap<&str, Fields> = BTreeMap::new();
    let mut page = "";
    for line in include_str!("../testdata/peer.txt").lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("== ") {
            Some(name) => page = name,
            None => drop(pages.entry(page).or_default().insert(line.to_owned())),
        }
    }
    pages
}

/// `names`: how many levels of keys are names.
fn collect(value: &Value, path: &str, names: usize, out: &mut Fields) {
    match value {
        Value::Object(map) => {
            let named = names > 0 || NAMED.contains(&path.rsplit('.').next().unwrap_or(""));
            for (key, value) in map {
                let key = if named { "*" } else { key };
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                out.insert(path.clone());
                collect(value, &path, names.saturating_sub(1), out);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, &format!("{path}[]"), 0, out)),
        _ => {}
    }
}

pub fn fields(page: &str, value: &Value) -> Fields {
    let mut out = Fields::new();
    collect(value, "", if page.starts_with("raftz") { 2 } else { 0 }, &mut out);
    out
}

fn missing(page: &str, peer: &Fields, own: &Fields) -> Vec<String> {
    let absent = |field: &&String| !own.contains(*field) && !is_absent(page, field);
    peer.iter().filter(absent).map(|field| format!("{page}: {field}")).collect()
}

fn shown(world: &mut World) -> BTreeMap<String, Value> {
    furnish(world);
    // Only a leader shows what it knows of the others.
    let leader =
        json(&world.http("n1", "/nats/jsz").1)["meta_cluster"]["leader"].as_str().expect("one leads").to_owned();
    let (leader, place) = (leader.as_str(), at(&leader, 0));
    let other = world.client(leader, 0, "acc1");
    world.say(place, other, "SUB bar 1\r\nPUB a 1\r\nx\r\n");
    let admin = world.client(leader, 0, "admin");
    world.say(place, admin, "SUB $SYS.ACCOUNT.> 1\r\nSUB $SYS.SERVER.> 2\r\n");
    world.run(11_000_000);
    let mut shown = BTreeMap::new();
    let of_leader = |body: &Value| !body["statsz"].is_null() && body["server"]["name"] == leader;
    let statsz = payloads(&world.heard(admin)).into_iter().find(of_leader);
    shown.insert("STATSZ".to_owned(), statsz.expect("sent while somebody listens"));
    let passing = world.client(leader, 0, "acc1");
    shown.insert("CONNECT".to_owned(), payloads(&world.heard(admin)).remove(0));
    world.say(place, passing, "SUB x 1\r\n");
    let event = crate::event::Event::ClientGone { conn: passing, why: "Client Closed".into() };
    world.tell(place, event);
    shown.insert("DISCONNECT".to_owned(), payloads(&world.heard(admin)).remove(0));
    world.client(leader, 0, "nobody");
    let refused = payloads(&world.heard(admin)).into_iter().find(|body| body["reason"] == "Authentication Failure");
    shown.insert("AUTH.ERR".to_owned(), refused.expect("somebody listens"));
    for page in recorded().keys().filter(|page| page.chars().next().is_some_and(char::is_lowercase)) {
        let (status, body) = world.http(leader, &format!("/nats/{page}"));
        assert_eq!(status, 200, "{page}: {}", String::from_utf8_lossy(&body));
        shown.insert((*page).to_owned(), json(&body));
    }
    world.tell(place, crate::event::Event::Admin(crate::event::Admin::Stop));
    world.run(3_000_000);
    let heard = world.heard(admin);
    let gone = heard.split("SHUTDOWN").nth(1).expect("told before it stops");
    shown.insert("SHUTDOWN".to_owned(), payloads(gone).remove(0));
    assert!(world.is_closed(admin));
    shown
}

#[test]
fn every_field_of_the_peer_is_shown() {
    let mut world = cluster();
    let shown = shown(&mut world);
    let mut lacking = Vec::new();
    for (page, peer) in recorded() {
        let own = fields(page, &shown[page]);
        lacking.extend(missing(page, &peer, &own));
    }
    assert!(lacking.is_empty(), "{lacking:#?}");
}
