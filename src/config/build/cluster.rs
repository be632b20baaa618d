//! The `cluster` block, and the URLs of routes.

use super::super::options::Route;
use super::super::report::{Report, split_host_port};
use super::super::tree::{Entry, Value};
use super::top::{longer_than_zero, set, write_timeout};
use super::{Draft, auth};

/// More seed URLs than this are no seeds: gossip finds the others.
const ROUTES_MAX: usize = 1024;

/// The keys that are read here.
pub const KNOWN: &[&str] = &[
    "name",
    "listen",
    "port",
    "host",
    "net",
    "authorization",
    "routes",
    "cluster_advertise",
    "advertise",
    "no_advertise",
    "connect_retries",
    "connect_backoff",
    "pool_size",
    "accounts",
    "compression",
    "ping_interval",
    "ping_max",
    "write_deadline",
    "write_timeout",
];

impl Draft {
    pub fn cluster(&mut self, entry: &Entry, report: &mut Report) {
        let Some(map) = report.map(entry) else { return };
        self.cluster_block = true;
        for entry in map.entries() {
            let key = entry.key.to_lowercase();
            let taken = self.cluster_address(&key, entry, report) || self.cluster_tuning(&key, entry, report);
            match key.as_str() {
                _ if taken => {}
                "tls" | "permissions" | "arbiter" => report.unsupported(entry, &format!("cluster.{key}")),
                _ => report.unknown(entry, KNOWN),
            }
        }
    }

    fn cluster_address(&mut self, key: &str, entry: &Entry, report: &mut Report) -> bool {
        let cluster = &mut self.cluster;
        match key {
            "name" => cluster.name = report.name(entry, "cluster"),
            "listen" => {
                if let Some((host, port)) = report.listen(entry) {
                    self.cluster_host = host.or(self.cluster_host.take());
                    self.cluster_port = port.bind();
                }
            }
            "port" => self.cluster_port = report.port(entry).and_then(|port| port.bind()),
            "host" | "net" => self.cluster_host = report.word(entry),
            "routes" => cluster.routes = routes(entry, report),
            "cluster_advertise" | "advertise" => cluster.advertise = report.advertise(entry),
            "authorization" => self.cluster_authorization(entry, report),
            _ => return false,
        }
        true
    }

    fn cluster_tuning(&mut self, key: &str, entry: &Entry, report: &mut Report) -> bool {
        let cluster = &mut self.cluster;
        match key {
            "no_advertise" => cluster.no_advertise = report.bool(entry).unwrap_or(false),
            "connect_retries" => {
                if report.int(entry, 0, i32::MAX.into()).is_some() {
                    report.no_effect(entry, "a learnt route is given up after some twenty seconds without an answer");
                }
            }
            "connect_backoff" => {
                if report.bool(entry).is_some() {
                    report.no_effect(entry, "the pauses between dials always grow, to half a second");
                }
            }
            "ping_interval" => {
                if longer_than_zero(report.duration(entry)).is_some() {
                    report.no_effect(entry, "a link is asked three times a second whether it stands");
                }
            }
            "ping_max" => {
                if report.int(entry, 0, i32::MAX.into()).is_some() {
                    report.no_effect(entry, "how long a link may be silent follows its round trip");
                }
            }
            "write_deadline" => {
                if longer_than_zero(report.duration(entry)).is_some() {
                    report.no_effect(entry, "a server that does not read is cut by what waits for it");
                }
            }
            "write_timeout" => write_timeout(entry, report),
            "pool_size" => {
                if report.int(entry, i32::MIN.into(), i32::MAX.into()).is_some() {
                    report.no_effect(entry, "servers keep one connection per pair of cores");
                }
            }
            "accounts" => {
                if report.texts(entry).is_some() {
                    report.no_effect(entry, "accounts share the connections between servers");
                }
            }
            "compression" => match entry.node.value {
                Value::Bool(_) | Value::Text(_) | Value::Map(_) => {
                    report.no_effect(entry, "traffic between servers is not compressed");
                }
                _ => report.expected(entry, "on, off, a mode or a block"),
            },
            _ => return false,
        }
        true
    }

    fn cluster_authorization(&mut self, entry: &Entry, report: &mut Report) {
        let Some(block) = auth::read(entry, report) else { return };
        if block.users.is_some() {
            report.wrong(&entry.place, "Cluster authorization does not allow multiple users");
        }
        if block.token.is_some() {
            report.wrong(&entry.place, "Cluster authorization does not support tokens");
        }
        if block.permissions.is_some() {
            report.unsupported(entry, "cluster.authorization.permissions");
        }
        self.cluster.user = block.user;
        self.cluster.password = block.password;
        set(&mut self.cluster.auth_timeout, block.timeout);
    }
}

/// The seed URLs; a double one is taken once.
fn routes(entry: &Entry, report: &mut Report) -> Vec<Route> {
    let Value::List(nodes) = &entry.node.value else {
        report.expected(entry, "a list of URLs");
        return Vec::new();
    };
    if nodes.len() > ROUTES_MAX {
        report.expected(entry, &format!("at most {ROUTES_MAX} URLs"));
        return Vec::new();
    }
    let mut routes: Vec<Route> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Value::Text(text) = &node.value else {
            report.wrong(&node.place, format_args!("{}: expected a URL, found {}", entry.key, node.describe()));
            continue;
        };
        match route(text) {
            Ok(route) if routes.contains(&route) => {
                report.note(&node.place, format_args!("Duplicate route entry detected: {route}"));
            }
            Ok(route) => routes.push(route),
            Err(why) => report.wrong(&node.place, why),
        }
    }
    routes
}

/// Reads `nats://[user:password@]host:port`. The error never repeats the credentials.
pub fn route(text: &str) -> Result<Route, String> {
    let text = text.trim();
    let bare = text.rsplit_once('@').map_or(text, |(_, address)| address);
    let wrong = |why: &str| format!("error parsing route url [{bare:?}]: {why}");
    let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("expected nats://host:port"))?;
    match scheme.to_ascii_lowercase().as_str() {
        "nats" | "nats-route" => {}
        "tls" => return Err(wrong("TLS is not supported yet")),
        _ => return Err(wrong("expected nats:// or nats-route://")),
    }
    let (credentials, address) = match rest.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, rest),
    };
    let address = address.strip_suffix('/').unwrap_or(address);
    let (host, port) = split_host_port(address).ok_or_else(|| wrong("the port is missing"))?;
    let port = match port.parse::<u16>() {
        Ok(port) if port > 0 => port,
        _ => return Err(wrong("the port must be 1 to 65535")),
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#')) {
        return Err(wrong("the host is missing or wrong"));
    }
    let (user, password) = match credentials.map(|both| both.split_once(':').unwrap_or((both, ""))) {
        Some((user, password)) => {
            let decode = |text| percent_decode(text).ok_or_else(|| wrong("the credentials are wrongly escaped"));
            (Some(decode(user)?), Some(decode(password)?))
        }
        None => (None, None),
    };
    Ok(Route { host: host.to_string(), port, user, password })
}

/// `%41` is `A`, as in every URL.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (high, low) = (char::from(rest.next()?).to_digit(16)?, char::from(rest.next()?).to_digit(16)?);
        bytes.push((high * 16 + low) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_urls_are_read_with_and_without_credentials() {
        let read = |text: &str| route(text).map(|r| (r.to_string(), r.user, r.password));
        let some = |text: &str| Some(text.to_string());
        assert_eq!(read("nats-route://host_b:6222"), Ok(("host_b:6222".into(), None, None)));
        assert_eq!(read(" nats://127.0.0.1:4272 "), Ok(("127.0.0.1:4272".into(), None, None)));
        assert_eq!(read("nats://u:p%40x@[::1]:1/"), Ok(("[::1]:1".into(), some("u"), some("p@x"))));
    }

    #[test]
    fn a_wrong_route_is_named_without_its_password() {
        for text in
            ["u:secret@h", "nats://u:secret@h", "nats://u:secret@h:0", "http://u:secret@h:1", "tls://u:secret@h:1"]
        {
            let error = route(text).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        for text in ["", "nats://", "nats://:1", "nats://a b:1", "nats://h:70000", "nats://u%zz:p@h:1", "nats://::1:1"]
        {
            assert!(route(text).is_err(), "{text}");
        }
    }
}
