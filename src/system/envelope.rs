//! What is around the pages: who says it, and how their values become bytes.
//!
//! Over `$SYS`: `{"server":{..},"data":{..}}`, or `error` in place of `data`; STATSZ calls it `statsz`. Over HTTP the
//! value alone, indented.

use bytes::Bytes;
use serde::Serialize;

use super::page::Selection;
use super::scene::Server;
use super::text::now_text;
use crate::ids::Now;

/// The server runs JetStream.
const FLAG_JETSTREAM: u64 = 1;

/// Who says something; the peer's `ServerInfo`.
#[derive(Debug, Serialize)]
pub struct ServerInfo<'a> {
    name: &'a str,
    host: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    ver: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    metadata: &'a std::collections::BTreeMap<String, String>,
    jetstream: bool,
    flags: u64,
    /// Counts what this server has said.
    seq: u64,
    time: String,
}

impl<'a> ServerInfo<'a> {
    pub fn new(server: &'a Server, seq: u64, now: Now) -> ServerInfo<'a> {
        let config = server.config();
        let jetstream = config.jetstream.is_some();
        ServerInfo {
            name: server.name(),
            host: &config.listen.host,
            id: server.id(),
            cluster: server.options.cluster.as_deref(),
            domain: config.jetstream.as_ref().and_then(|js| js.domain.as_deref()),
            ver: &server.options.version,
            tags: &server.facts.tags,
            metadata: &config.server_metadata,
            jetstream,
            flags: if jetstream { FLAG_JETSTREAM } else { 0 },
            seq,
            time: now_text(now),
        }
    }
}

/// Answer of IDZ: the same in three words.
#[derive(Debug, Serialize)]
pub struct Identity {
    pub name: String,
    pub host: String,
    pub id: String,
}

/// A page's value, whatever it is.
pub trait Json: std::fmt::Debug {
    fn compact(&self) -> Vec<u8>;
    /// Indented, for people.
    fn pretty(&self) -> Vec<u8>;
}

impl<T: Serialize + std::fmt::Debug> Json for T {
    fn compact(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("pages have text keys only")
    }

    fn pretty(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("pages have text keys only")
    }
}

/// Why there is no page.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// The request is not for this server; nobody hears anything.
    Skip,
    Error {
        /// As HTTP counts them.
        code: u16,
        text: String,
    },
}

impl Refusal {
    pub fn new(code: u16, text: impl Into<String>) -> Refusal {
        Refusal::Error { code, text: text.into() }
    }
}

/// What a page has become.
pub type Outcome = Result<Box<dyn Json>, Refusal>;

#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    code: u16,
    description: &'a str,
}

/// `{"server":..,"<key>":..}`.
pub fn seal(info: &ServerInfo, key: &str, value: &dyn Json) -> Bytes {
    let mut out = b"{\"server\":".to_vec();
    out.extend(info.compact());
    out.extend(format!(",\"{key}\":").into_bytes());
    out.extend(value.compact());
    out.push(b'}');
    out.into()
}

/// `{"server":..}`: done, and nothing to say about it.
pub fn seal_done(info: &ServerInfo) -> Bytes {
    let mut out = b"{\"server\":".to_vec();
    out.extend(info.compact());
    out.push(b'}');
    out.into()
}

/// What an answer with an error has in place of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blank {
    /// The request could not be read.
    Absent,
    /// The page was refused.
    Null,
    /// For readers that look there without asking.
    Empty,
}

/// `{"server":..,"error":..}`.
pub fn seal_error(info: &ServerInfo, code: u16, text: &str, data: Blank) -> Bytes {
    let mut out = b"{\"server\":".to_vec();
    out.extend(info.compact());
    out.extend(match data {
        Blank::Absent => &b""[..],
        Blank::Null => b",\"data\":null",
        Blank::Empty => b",\"data\":{}",
    });
    out.extend(b",\"error\":");
    out.extend(ErrorBody { code, description: text }.compact());
    out.push(b'}');
    out.into()
}

/// Whether this server is meant by a request that went to all.
pub fn is_meant(server: &Server, selection: &Selection) -> bool {
    let config = server.config();
    let fits = |wanted: &str, own: &str| match selection.exact_match {
        _ if wanted.is_empty() => true,
        true => wanted == own,
        false => own.contains(wanted),
    };
    let domain = config.jetstream.as_ref().and_then(|js| js.domain.as_deref()).unwrap_or("");
    let tagged = |tag: &String| server.facts.tags.contains(&tag.trim().to_lowercase());
    fits(&selection.server_name, server.name())
        && fits(&selection.host, &config.listen.host)
        && fits(&selection.cluster, server.options.cluster.as_deref().unwrap_or(""))
        && selection.tags.iter().all(tagged)
        && (selection.domain.is_empty() || selection.domain == domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::fixture::server;

    fn selection(json: &str) -> Selection {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn requests_are_for_the_servers_that_they_describe() {
        let server = server();
        for (json, meant) in [
            ("{}", true),
            (r#"{"server_name":"mea"}"#, true),
            (r#"{"server_name":"mea","exact_match":true}"#, false),
            (r#"{"server_name":"emea_1","exact_match":true}"#, true),
            (r#"{"cluster":"OTHER"}"#, false),
            (r#"{"host":"127"}"#, true),
            (r#"{"domain":"hub"}"#, true),
            (r#"{"domain":"hu"}"#, false),
            (r#"{"tags":["dc:1"]}"#, true),
            (r#"{"tags":["DC:1","dc:2"]}"#, false),
        ] {
            assert_eq!(is_meant(&server, &selection(json)), meant, "{json}");
        }
    }

    #[test]
    fn envelopes_are_json_with_the_peers_keys() {
        let server = server();
        let info = ServerInfo::new(&server, 7, Now { us: 0, wall_ns: 1 });
        let sealed: serde_json::Value = serde_json::from_slice(&seal(&info, "data", &vec![1, 2])).unwrap();
        assert_eq!(sealed["data"], serde_json::json!([1, 2]));
        for key in ["name", "host", "id", "cluster", "domain", "ver", "tags", "jetstream", "flags", "seq", "time"] {
            assert!(!sealed["server"][key].is_null(), "{key}");
        }
        let refused: serde_json::Value =
            serde_json::from_slice(&seal_error(&info, 400, "a \"b\"", Blank::Empty)).unwrap();
        assert_eq!(refused["error"], serde_json::json!({"code": 400, "description": "a \"b\""}));
        assert_eq!(refused["data"], serde_json::json!({}));
        for (data, there) in [(Blank::Absent, false), (Blank::Null, true)] {
            let refused: serde_json::Value = serde_json::from_slice(&seal_error(&info, 500, "x", data)).unwrap();
            assert_eq!(refused.as_object().unwrap().contains_key("data"), there);
            assert!(refused["data"].is_null());
        }
    }
}
