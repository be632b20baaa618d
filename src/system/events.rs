//! What a server says unasked: clients that come, go or are refused, and its own end. Subjects and JSON are the peer's.

use serde::Serialize;

use super::envelope::ServerInfo;
use super::scene::Server;
use super::text::time_text;
use crate::client::{ClientFacts, SysEvent, Traffic};
use crate::ids::Now;

const CONNECT: &str = "io.nats.server.advisory.v1.client_connect";
const DISCONNECT: &str = "io.nats.server.advisory.v1.client_disconnect";

#[derive(Debug, Serialize)]
struct Advisory<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    timestamp: String,
    server: ServerInfo<'a>,
    client: Client<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// A client as events and audits name it.
#[derive(Debug, Serialize)]
pub(super) struct Client<'a> {
    start: String,
    host: String,
    id: u64,
    acc: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    lang: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    ver: &'a str,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    rtt: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_tag: Option<&'a str>,
    kind: &'static str,
    client_type: &'static str,
}

#[derive(Debug, Serialize)]
struct Data {
    msgs: u64,
    bytes: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where an event is told.
pub fn subject(event: &SysEvent, server_id: &str) -> String {
    match event {
        SysEvent::Connect { client } => format!("$SYS.ACCOUNT.{}.CONNECT", client.account_name),
        SysEvent::Disconnect { client, .. } => format!("$SYS.ACCOUNT.{}.DISCONNECT", client.account_name),
        SysEvent::AuthError { .. } => format!("$SYS.SERVER.{server_id}.CLIENT.AUTH.ERR"),
    }
}

/// The JSON of an event. `id` is unique; it happened `now`.
pub fn body(event: &SysEvent, id: String, server: ServerInfo, now: Now) -> Vec<u8> {
    let advisory = match event {
        SysEvent::Connect { client } => Advisory {
            kind: CONNECT,
            id,
            timestamp: time_text(now.wall_ns),
            server,
            client: Client::new(client, None),
            sent: None,
            received: None,
            reason: None,
        },
        SysEvent::Disconnect { client, stop_wall_ns, traffic, reason } => {
            gone(id, server, client, *stop_wall_ns, *traffic, reason)
        }
        SysEvent::AuthError { client, stop_wall_ns, reason } => {
            gone(id, server, client, *stop_wall_ns, Traffic::default(), reason)
        }
    };
    serde_json::to_vec(&advisory).expect("texts and numbers")
}

/// `sent` is what the client sent, `received` what it got.
fn gone<'a>(
    id: String,
    server: ServerInfo<'a>,
    client: &'a ClientFacts,
    stop_wall_ns: i64,
    traffic: Traffic,
    reason: &'static str,
) -> Advisory<'a> {
    Advisory {
        kind: DISCONNECT,
        id,
        timestamp: time_text(stop_wall_ns),
        server,
        client: Client::new(client, Some(stop_wall_ns)),
        sent: Some(Data { msgs: traffic.in_msgs, bytes: traffic.in_bytes }),
        received: Some(Data { msgs: traffic.out_msgs, bytes: traffic.out_bytes }),
        reason: Some(reason),
    }
}

impl<'a> Client<'a> {
    fn new(facts: &'a ClientFacts, stop_wall_ns: Option<i64>) -> Client<'a> {
        Client {
            start: time_text(facts.start_wall_ns),
            host: facts.remote.ip().to_string(),
            id: facts.cid,
            acc: &facts.account_name,
            user: &facts.user,
            name: &facts.name,
            lang: &facts.lang,
            ver: &facts.version,
            rtt: facts.rtt_us.saturating_mul(1_000),
            server: None,
            cluster: None,
            stop: stop_wall_ns.map(time_text),
            name_tag: Some(&facts.account_name),
            kind: "Client",
            client_type: "nats",
        }
    }

    /// One that asked for something, with the server that it is connected to.
    pub(super) fn asking(facts: &'a ClientFacts, server: &'a Server) -> Client<'a> {
        let cluster = server.options.cluster.as_deref();
        Client { server: Some(server.name()), cluster, name_tag: None, ..Client::new(facts, None) }
    }
}

/// A number that only this run of this core gives, as 22 digits of base 62: what the peer's ids look like.
pub fn unique_id(boot: u64, core: u16, count: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = u128::from(boot) << 64 | u128::from(core) << 48 | u128::from(count & 0xffff_ffff_ffff);
    let mut text = [b'0'; 22];
    for digit in text.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::system::fixture::{client, server};

    fn keys(value: &serde_json::Value) -> Vec<&str> {
        value.as_object().map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    fn told(event: &SysEvent) -> serde_json::Value {
        let server = server();
        let info = ServerInfo::new(&server, 1, Now::default());
        serde_json::from_slice(&body(event, "x".into(), info, Now::default())).unwrap()
    }

    #[test]
    fn a_connect_names_the_client_and_its_account() {
        let event = SysEvent::Connect { client: Arc::new(client()) };
        assert_eq!(subject(&event, "NID"), "$SYS.ACCOUNT.ACC1.CONNECT");
        let body = told(&event);
        assert_eq!(keys(&body), ["client", "id", "server", "timestamp", "type"]);
        assert_eq!(body["client"]["acc"], "ACC1");
        assert!(body["client"]["stop"].is_null());
    }

    #[test]
    fn a_disconnect_and_a_refusal_say_why() {
        let traffic = Traffic { in_msgs: 1, in_bytes: 2, out_msgs: 3, out_bytes: 4 };
        let (client, stop_wall_ns, reason) = (Arc::new(client()), 5, "Client Closed");
        let body = told(&SysEvent::Disconnect { client: client.clone(), stop_wall_ns, traffic, reason });
        assert_eq!((&body["sent"]["msgs"], &body["received"]["bytes"]), (&1.into(), &4.into()));
        assert_eq!(body["reason"], "Client Closed");
        let refused = SysEvent::AuthError { client, stop_wall_ns, reason: "Authentication Failure" };
        assert_eq!(subject(&refused, "NID"), "$SYS.SERVER.NID.CLIENT.AUTH.ERR");
        assert_eq!(told(&refused)["type"], DISCONNECT);
    }

    #[test]
    fn ids_are_never_given_twice() {
        let ids: BTreeSet<String> =
            (0..4).flat_map(|core| (0..100).map(move |count| unique_id(u64::MAX, core, count))).collect();
        assert_eq!(ids.len(), 400);
        assert!(ids.iter().all(|id| id.len() == 22));
    }
}
