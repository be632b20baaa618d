//! Collects everything that is wrong with a configuration, so that a person can mend it in one go, and turns plain
//! values of the tree into typed ones on the way.
//!
//! Each reader takes an entry and returns `None` after having noted what was expected and what was found.

use std::fmt;
use std::time::Duration;

use super::options::{Advertise, HostPort};
use super::place::{Note, Place};
use super::tree::{Entry, Map, Node, Value};
use super::{duration, near, toml};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The problems and remarks found so far.
#[derive(Debug, Default)]
pub struct Report {
    pub problems: Vec<Problem>,
    pub notes: Vec<Note>,
}

/// A port as configuration files say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// 0: whatever the default is.
    Unset,
    /// -1: a free one.
    Any,
    Number(u16),
}

impl Port {
    /// The number to bind to (0 picks a free one), `None` when unset.
    pub fn bind(self) -> Option<u16> {
        match self {
            Port::Unset => None,
            Port::Any => Some(0),
            Port::Number(port) => Some(port),
        }
    }

    fn of(n: i64) -> Option<Port> {
        match n {
            0 => Some(Port::Unset),
            -1 => Some(Port::Any),
            n => u16::try_from(n).ok().map(Port::Number),
        }
    }
}

impl Report {
    /// Something wrong that no single place is to blame for.
    pub fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(Problem { text: text.into() });
    }

    /// Something wrong at a place: `file:line:col: text`.
    pub fn wrong(&mut self, place: &Place, text: impl fmt::Display) {
        self.problem(format!("{place}: {text}"));
    }

    pub fn note(&mut self, place: &Place, text: impl fmt::Display) {
        self.notes.push(Note { text: format!("{}: {text}", place.line_text()) });
    }

    /// A directive that means something to the peer and nothing here, and that harms nobody.
    pub fn no_effect(&mut self, entry: &Entry, why: &str) {
        self.note(&entry.place, format_args!("{:?} has no effect: {why}", entry.key));
    }

    /// A directive of a capability that does not exist. Switched off (`false`) it asks for nothing.
    pub fn unsupported(&mut self, entry: &Entry, path: &str) {
        if entry.node.value != Value::Bool(false) {
            self.problem(format!("not supported yet: {path} ({})", entry.place.line_text()));
        }
    }

    /// A key that nobody knows, unless it is there for variables to refer to.
    pub fn unknown(&mut self, entry: &Entry, known: &[&str]) {
        if entry.used {
            return;
        }
        let hint = match near::nearest(&entry.key, known) {
            Some(known) => format!(", did you mean {known:?}?"),
            None => String::new(),
        };
        self.problem(format!("unknown field {:?} ({}){hint}", entry.key, entry.place.line_text()));
    }

    pub fn expected(&mut self, entry: &Entry, what: &str) {
        self.expected_node(&entry.key, &entry.node, what);
    }

    fn expected_node(&mut self, key: &str, node: &Node, what: &str) {
        // A value that was read from the environment has no place of its own; the key's is near enough.
        self.wrong(&node.place, format_args!("{key}: expected {what}, found {}", node.describe()));
    }

    pub fn map<'m>(&mut self, entry: &'m Entry) -> Option<&'m Map> {
        match &entry.node.value {
            Value::Map(map) => Some(map),
            _ => {
                self.expected(entry, "a block { .. }");
                None
            }
        }
    }

    pub fn text(&mut self, entry: &Entry) -> Option<String> {
        match &entry.node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Date(_) => {
                self.expected(entry, "text (put it in quotes)");
                None
            }
            _ => {
                self.expected(entry, "text");
                None
            }
        }
    }

    /// Text; an empty one says nothing, as with the peer.
    pub fn word(&mut self, entry: &Entry) -> Option<String> {
        self.text(entry).filter(|text| !text.trim().is_empty())
    }

    /// Text that is not empty, where "nothing" would open a door.
    pub fn filled(&mut self, entry: &Entry) -> Option<String> {
        let text = self.text(entry)?;
        if text.trim().is_empty() {
            self.expected(entry, "some text");
            return None;
        }
        Some(text)
    }

    /// The name of a server or a cluster, without blanks.
    pub fn name(&mut self, entry: &Entry, what: &str) -> Option<String> {
        let name = self.word(entry)?;
        if name.contains(' ') {
            self.wrong(&entry.place, format_args!("{what} name cannot contain spaces"));
        }
        // Whatever else is asked of the name is asked of one that could stand.
        Some(name.replace(' ', "_"))
    }

    pub fn bool(&mut self, entry: &Entry) -> Option<bool> {
        match entry.node.value {
            Value::Bool(on) => Some(on),
            _ => {
                self.expected(entry, "true or false");
                None
            }
        }
    }

    /// A whole number between the two; sizes may have a suffix (`64MB`), in TOML as text.
    pub fn int(&mut self, entry: &Entry, min: i64, max: i64) -> Option<i64> {
        let n = match &entry.node.value {
            Value::Int(n) => Some(*n),
            Value::Text(text) => toml::size(text),
            _ => None,
        };
        match n {
            Some(n) if (min..=max).contains(&n) => Some(n),
            Some(_) => {
                self.expected(entry, &format!("a whole number from {min} to {max}"));
                None
            }
            None => {
                self.expected(entry, "a whole number");
                None
            }
        }
    }

    /// A bound where 0 means "the default": `None` then.
    pub fn bound<T: TryFrom<i64>>(&mut self, entry: &Entry, max: i64) -> Option<T> {
        match self.int(entry, 0, max)? {
            0 => None,
            n => T::try_from(n).ok(),
        }
    }

    /// A limit where 0 and everything below mean "none": `Some(None)` then. `None` when the value is wrong.
    pub fn limit<T: TryFrom<i64>>(&mut self, entry: &Entry) -> Option<Option<T>> {
        let n = self.int(entry, i64::MIN, i64::MAX)?;
        if n <= 0 {
            return Some(None);
        }
        match T::try_from(n) {
            Ok(n) => Some(Some(n)),
            Err(_) => {
                self.expected(entry, "a smaller number");
                None
            }
        }
    }

    /// Text as Go writes durations (`"2m30s"`). A bare number counts seconds, as with the peer, and is remarked on.
    pub fn duration(&mut self, entry: &Entry) -> Option<Duration> {
        match &entry.node.value {
            Value::Text(text) => {
                let read = duration::parse(text);
                if read.is_none() {
                    self.wrong(
                        &entry.node.place,
                        format_args!("error parsing {}: invalid duration {text:?}", entry.key),
                    );
                }
                read
            }
            Value::Int(n) if *n >= 0 => {
                let key = &entry.key;
                self.note(&entry.place, format_args!("{key} should be converted to a duration (\"{n}s\")"));
                Some(Duration::from_secs(*n as u64))
            }
            _ => {
                self.expected(entry, "a duration such as \"30s\"");
                None
            }
        }
    }

    /// One text or a list of texts.
    pub fn texts(&mut self, entry: &Entry) -> Option<Vec<String>> {
        let nodes = match &entry.node.value {
            Value::Text(text) => return Some(vec![text.clone()]),
            Value::List(nodes) => nodes,
            _ => {
                self.expected(entry, "text or a list of texts");
                return None;
            }
        };
        let mut texts = Vec::with_capacity(nodes.len());
        for node in nodes {
            match &node.value {
                Value::Text(text) => texts.push(text.clone()),
                _ => self.expected_node(&entry.key, node, "text"),
            }
        }
        Some(texts)
    }

    pub fn port(&mut self, entry: &Entry) -> Option<Port> {
        let n = self.int(entry, -1, 65_535)?;
        Port::of(n)
    }

    /// A port, or `host:port`. The host is `None` when only a port was given or the host part is empty.
    pub fn listen(&mut self, entry: &Entry) -> Option<(Option<String>, Port)> {
        match &entry.node.value {
            Value::Int(_) => self.port(entry).map(|port| (None, port)),
            Value::Text(text) => {
                let Some((host, port)) = split_host_port(text) else {
                    self.wrong(&entry.node.place, format_args!("could not parse address string {text:?}"));
                    return None;
                };
                let Some(port) = port.parse::<i64>().ok().and_then(Port::of) else {
                    self.wrong(&entry.node.place, format_args!("could not parse port {port:?}"));
                    return None;
                };
                Some(((!host.is_empty()).then(|| host.to_string()), port))
            }
            _ => {
                self.expected(entry, "a port or host:port");
                None
            }
        }
    }

    pub fn advertise(&mut self, entry: &Entry) -> Option<Advertise> {
        let text = self.word(entry)?;
        let read = advertise(&text);
        if read.is_none() {
            self.expected(entry, "host or host:port");
        }
        read
    }
}

/// `host`, `host:port` or `[v6]:port`.
pub fn advertise(text: &str) -> Option<Advertise> {
    let text = text.trim();
    if let Some((host, port)) = split_host_port(text) {
        let port = match port.parse::<u16>() {
            Ok(0) => None,
            Ok(port) => Some(port),
            Err(_) if port == "-1" => None,
            Err(_) => return None,
        };
        return (!host.is_empty()).then(|| Advertise { host: host.to_string(), port });
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    (!bare.is_empty() && !bare.contains(['[', ']', ' ', '/'])).then(|| Advertise { host: bare.to_string(), port: None })
}

/// Splits at the last colon; an IPv6 address needs brackets, as with Go's `net.SplitHostPort`.
pub fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| !inner.contains(['[', ']'])).map(|inner| (inner, port)),
        None if host.contains([':', '[', ']']) => None,
        None => Some((host, port)),
    }
}

impl HostPort {
    /// The address with brackets where needed.
    pub fn text(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}
