//! Looks at the servers all the time and writes on the board what they say: health by HTTP, the stream by the API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::board::{Board, Replica, StreamView};
use super::client::{APP, Client};
use super::cluster::Page;
use super::load::STREAM;

/// Between two looks. Each costs a request of a few hundred bytes.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// For an answer about the stream. Far above a round trip: who needs longer has no leader.
const ANSWER_PATIENCE: Duration = Duration::from_millis(800);

/// One thread per server and one per data center, until the process ends.
pub fn start(board: &Arc<Board>, pages: Vec<Page>) {
    for (at, page) in pages.into_iter().enumerate() {
        let board = board.clone();
        std::thread::spawn(move || watch_health(&board, at, &page));
    }
    for dc in board.dcs.clone() {
        let board = board.clone();
        std::thread::spawn(move || watch_stream(&board, dc));
    }
}

fn watch_health(board: &Board, at: usize, page: &Page) {
    while !board.stopping() {
        if board.facts().servers[at].running {
            let answer = page.check();
            let facts = &mut board.facts().servers[at];
            facts.healthy = answer.is_ok() && facts.running;
            facts.complaint = answer.err().unwrap_or_default();
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Asks one server of its data center after the other, staying with one that answers.
fn watch_stream(board: &Board, dc: u32) {
    let addresses: Vec<_> = board.places.iter().filter(|place| place.dc == dc).map(|place| place.client).collect();
    let mut next = 0;
    let mut client: Option<Client> = None;
    while !board.stopping() {
        let start = Instant::now();
        if client.is_none() {
            client = Client::connect(addresses[next % addresses.len()], APP, "lab-watch").ok();
            next += 1;
        }
        let answer =
            client.as_mut().map(|client| client.api(&format!("STREAM.INFO.{STREAM}"), &Value::Null, ANSWER_PATIENCE));
        match answer {
            Some(Ok(info)) => board.see(dc, view_of(&info)),
            Some(Err(_)) => client = None,
            None => {}
        }
        std::thread::sleep(LOOK_EVERY.saturating_sub(start.elapsed()));
    }
}

/// The part of STREAM.INFO's answer that the lab cares about.
pub fn view_of(info: &Value) -> StreamView {
    let cluster = &info["cluster"];
    let name = |value: &Value| value.as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    let replica = |row: &Value| {
        let is = |field: &str| row[field] == json!(true);
        let lag = row["lag"].as_u64().unwrap_or(0);
        Some(Replica { name: name(&row["name"])?, current: is("current"), offline: is("offline"), lag })
    };
    let mut replicas: Vec<Replica> = cluster["replicas"].as_array().into_iter().flatten().filter_map(replica).collect();
    replicas.sort_by(|a, b| a.name.cmp(&b.name));
    StreamView { leader: name(&cluster["leader"]), replicas, messages: info["state"]["messages"].as_u64().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_a_view() {
        let info = json!({
            "state": {"messages": 7},
            "cluster": {"leader": "us_1", "replicas": [
                {"name": "us_2", "current": true, "active": 1},
                {"name": "emea_1", "current": false, "lag": 3, "offline": true},
            ]},
        });
        let view = view_of(&info);
        assert_eq!((view.leader.as_deref(), view.messages), (Some("us_1"), 7));
        assert_eq!(view.replicas[0], Replica { name: "emea_1".into(), current: false, offline: true, lag: 3 });
        assert_eq!(view.members().collect::<Vec<_>>(), ["us_1", "emea_1", "us_2"]);
        assert_eq!(view_of(&json!({})), StreamView::default());
    }
}
