//! The same keys from a `.toml` file, into the same tree.
//!
//! TOML has no includes and no variables, and its own rules hold: quotes around text, dates as TOML writes them.
//! Sizes may be text (`"64MB"`), which is read as the `.conf` language would.

use std::path::Path;
use std::sync::Arc;

use ::toml::Spanned;
use ::toml::de::{DeTable, DeValue};

use super::cursor::Cursor;
use super::lang::{FILE_BYTES_MAX, LangError, NEST_MAX, NODES_MAX};
use super::place::Place;
use super::scalar::{self, Scalar};
use super::source::Source;
use super::tree::{Entry, Map, Node, Value};

/// Reads a TOML file. O(size).
pub fn read_file(source: &dyn Source, path: &Path) -> Result<Map, LangError> {
    let bytes = source
        .read(path, FILE_BYTES_MAX)
        .map_err(|error| LangError::new(format!("open {}: {}", path.display(), super::lang::io_words(&error))))?;
    let text = String::from_utf8(bytes).map_err(|_| LangError::new(format!("{}: not UTF-8", path.display())))?;
    read_text(&text, &path.to_string_lossy())
}

/// Reads TOML text; `file` is what places say.
pub fn read_text(text: &str, file: &str) -> Result<Map, LangError> {
    let lines = Lines::new(text, file);
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| lines.place(span.start).line);
        LangError::on_line(line, error.message())
    })?;
    let mut reader = Reader { lines, nodes: 0 };
    reader.table(table.get_ref(), 0)
}

struct Reader<'t> {
    lines: Lines<'t>,
    nodes: usize,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, depth: usize) -> Result<Map, LangError> {
        // The parser sorts the keys; the file's order is in their positions.
        let mut keys: Vec<_> = table.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let mut map = Map::default();
        for (key, value) in keys {
            let node = self.node(value, depth + 1)?;
            let place = self.lines.place(key.span().start);
            map.insert(Entry { key: key.get_ref().to_string(), place, node, used: false });
        }
        Ok(map)
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, LangError> {
        let place = self.lines.place(value.span().start);
        self.nodes += 1;
        if depth > NEST_MAX || self.nodes > NODES_MAX {
            return Err(LangError::on_line(place.line, "too many values or too deeply nested"));
        }
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(Value::Int)
                .map_err(|_| LangError::on_line(place.line, &format!("integer '{number}' is out of the range")))?,
            DeValue::Float(number) => match number.as_str().parse::<f64>() {
                Ok(x) if x.is_finite() => Value::Float(x),
                _ => return Err(LangError::on_line(place.line, &format!("float '{number}' is out of the range"))),
            },
            DeValue::Boolean(on) => Value::Bool(*on),
            DeValue::Datetime(date) => Value::Text(date.to_string()),
            DeValue::Array(items) => {
                let nodes: Result<_, _> = items.iter().map(|item| self.node(item, depth + 1)).collect();
                Value::List(nodes?)
            }
            DeValue::Table(table) => Value::Map(self.table(table, depth)?),
        };
        Ok(Node::new(value, place))
    }
}

/// A size written as text, `"64MB"`: the number it is in the `.conf` language, if it is one.
pub fn size(text: &str) -> Option<i64> {
    let mut cursor = Cursor::new(text.as_bytes(), Arc::from("")).ok()?;
    match scalar::read(&mut cursor) {
        Ok(Scalar::Value(Value::Int(n))) if cursor.peek().is_none() => Some(n),
        _ => None,
    }
}

/// From byte offsets to lines and columns.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
    file: Arc<str>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str, file: &str) -> Lines<'t> {
        let breaks = text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1);
        Lines { text, starts: std::iter::once(0).chain(breaks).collect(), file: file.into() }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|&start| start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let col = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        Place { file: self.file.clone(), line: line as u32, col: col as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toml_text_makes_the_tree_that_the_same_conf_text_makes() {
        let toml = "port = 4222\nserver_tags = [\"a\", \"b\"]\n[cluster]\nname = \"C1\"\n[jetstream.limits]\nmax_ha_assets = 5\n";
        let conf = "port: 4222, server_tags: [a, b], cluster {name: C1}, jetstream {limits {max_ha_assets: 5}}";
        let conf = conf.replace(", ", "\n").replace("a\nb", "a, b");
        let conf = super::super::lang::read_text(&super::super::source::Memory::default(), &conf).unwrap();
        assert_eq!(shape(&read_text(toml, "x.toml").unwrap()), shape(&conf));
    }

    #[test]
    fn places_and_errors_name_the_line() {
        let map = read_text("a = 1\n[cluster]\n  name = 5\n", "x.toml").unwrap();
        let Value::Map(cluster) = &map.get("cluster").unwrap().node.value else { panic!("no block") };
        let name = cluster.get("name").unwrap();
        assert_eq!((name.place.to_string(), name.node.place.to_string()), ("x.toml:3:3".into(), "x.toml:3:10".into()));
        let error = read_text("a = 1\nb = = 2\n", "x.toml").unwrap_err().to_string();
        assert!(error.starts_with("Parse error on line 2: "), "{error}");
    }

    #[test]
    fn deep_nesting_is_refused_before_the_stack_is() {
        for open in ["a = ".to_string() + &"[".repeat(100_000), "a = ".to_string() + &"{b=".repeat(100_000)] {
            assert!(read_text(&open, "x.toml").is_err());
        }
        let nested = format!("a = {}1{}", "[".repeat(NEST_MAX + 1), "]".repeat(NEST_MAX + 1));
        assert!(read_text(&nested, "x.toml").is_err());
    }

    #[test]
    fn sizes_as_text_are_the_sizes_of_the_conf_language() {
        assert_eq!(size("64MB"), Some(64 * 1024 * 1024));
        assert_eq!(size("10k"), Some(10_000));
        assert_eq!((size("10s"), size("x"), size("1 2"), size("")), (None, None, None, None));
    }

    /// Keys and values without their places.
    fn shape(map: &Map) -> String {
        let entries = map.entries().map(|entry| format!("{}={}", entry.key, shape_of(&entry.node)));
        format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
    }

    fn shape_of(node: &Node) -> String {
        match &node.value {
            Value::Map(map) => shape(map),
            Value::List(nodes) => format!("[{}]", nodes.iter().map(shape_of).collect::<Vec<_>>().join(" ")),
            value => format!("{value:?}"),
        }
    }
}
