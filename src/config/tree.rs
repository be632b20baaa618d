//! What both file languages are read into: maps, lists and plain values, each knowing where it stands.
//!
//! The tree promises that a map has each key once (the last one written wins whole) and keeps the order of the
//! file. It gives no meaning to keys: that is `build`'s work.

use std::collections::BTreeMap;

use super::place::Place;

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub value: Value,
    pub place: Place,
}

/// The kinds of values that the languages have.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Map(Map),
    List(Vec<Node>),
    Text(String),
    /// Size suffixes are already multiplied out.
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Seconds since 1970, UTC.
    Date(i64),
}

impl Node {
    pub fn new(value: Value, place: Place) -> Node {
        Node { value, place }
    }

    /// How many values this is, itself included. O(its size).
    pub fn count(&self) -> usize {
        1 + match &self.value {
            Value::Map(map) => map.entries().map(|entry| entry.node.count()).sum(),
            Value::List(nodes) => nodes.iter().map(Node::count).sum(),
            _ => 0,
        }
    }

    /// What a person would call it, for "expected .., found ..".
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Map(_) => "a block".to_string(),
            Value::List(_) => "a list".to_string(),
            Value::Text(text) => format!("the text {text:?}"),
            Value::Int(n) => format!("the number {n}"),
            Value::Float(x) => format!("the number {x}"),
            Value::Bool(on) => format!("{on}"),
            Value::Date(_) => "a date".to_string(),
        }
    }
}

/// One `key: value`.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// As written.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    pub node: Node,
    /// Some `$key` referred to it: then it may be a name that means nothing to the server.
    pub used: bool,
}

/// Keys to values, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    entries: Vec<Entry>,
    at: BTreeMap<String, usize>,
}

impl Map {
    /// Sets the key, replacing an earlier value whole. O(log keys).
    pub fn insert(&mut self, entry: Entry) {
        match self.at.get(&entry.key) {
            Some(&i) => self.entries[i] = entry,
            None => {
                self.at.insert(entry.key.clone(), self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    /// The entry of exactly that key. O(log keys).
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.at.get(key).map(|&i| &self.entries[i])
    }

    /// As `get`, and remembers that the key has been referred to.
    pub fn refer(&mut self, key: &str) -> Option<&Node> {
        let &i = self.at.get(key)?;
        self.entries[i].used = true;
        Some(&self.entries[i].node)
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.entries.into_iter()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
