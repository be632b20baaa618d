//! The `.conf` language of nats-server: from text to a tree.
//!
//! ```text
//!   port: 4222                 # `:`, `=` or nothing between key and value
//!   cluster {                  // blocks, with newlines, `,` or `;` between their entries
//!     name = C1
//!     routes [nats://a:6222, nats://b:6222]
//!   }
//!   max: 64MB
//!   max_payload: $max          # a key of an enclosing block, else of the environment
//!   include ./accounts.conf    # relative to this file; its keys land in the block it stands in
//! ```
//!
//! It promises never to panic and always to end: files, nesting, includes and the copies that variables make are
//! bounded. Errors carry the peer's words, because people look them up. It knows no directive.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::cursor::Cursor;
use super::scalar::{self, Scalar};
use super::source::Source;
use super::tree::{Entry, Map, Node, Value};

/// Longest file: a configuration of ten thousand accounts is about 2 MiB.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Blocks in blocks: real files have six or so, and each level costs stack.
pub const NEST_MAX: usize = 64;
/// Includes in includes.
pub const INCLUDE_DEPTH_MAX: usize = 16;
/// Included files in all, so that files that include each other twice per level still end.
pub const INCLUDES_MAX: usize = 10_000;
/// Values in the whole tree, so that variables that refer to lists of variables cannot fill the memory.
pub const NODES_MAX: usize = 1_000_000;
/// Environment variables that refer to environment variables.
const VARIABLE_DEPTH_MAX: usize = 16;

/// A text that is not in the language, in the peer's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LangError {
    text: String,
}

impl LangError {
    pub fn new(text: String) -> LangError {
        LangError { text }
    }

    pub fn on_line(line: u32, text: &str) -> LangError {
        LangError { text: format!("Parse error on line {line}: '{text}'") }
    }
}

impl fmt::Display for LangError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads a file and everything it includes. O(size of all of it).
pub fn read_file(source: &dyn Source, path: &Path) -> Result<Map, LangError> {
    Parser::new(source).file(path)
}

/// Reads text that came from no file; includes are relative to the working directory.
pub fn read_text(source: &dyn Source, text: &str) -> Result<Map, LangError> {
    let mut parser = Parser::new(source);
    parser.document(Cursor::new(text.as_bytes(), Arc::from(""))?, Path::new(""))
}

struct Parser<'s> {
    source: &'s dyn Source,
    /// The blocks that are open in the file being read, outermost first: what `$NAME` is looked up in.
    scopes: Vec<Map>,
    /// The files being read, outermost first.
    files: Vec<PathBuf>,
    /// Environment variables being expanded.
    variables: Vec<String>,
    depth: usize,
    includes: usize,
    nodes: usize,
}

/// What stands where a key is expected.
enum Key {
    Name(Entry),
    Include(PathBuf),
}

impl<'s> Parser<'s> {
    fn new(source: &'s dyn Source) -> Parser<'s> {
        Parser { source, scopes: Vec::new(), files: Vec::new(), variables: Vec::new(), depth: 0, includes: 0, nodes: 0 }
    }

    fn file(&mut self, path: &Path) -> Result<Map, LangError> {
        let bytes = self
            .source
            .read(path, FILE_BYTES_MAX)
            .map_err(|error| LangError::new(format!("open {}: {}", path.display(), io_words(&error))))?;
        let shown: Arc<str> = path.to_string_lossy().into();
        self.files.push(path.to_path_buf());
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let map = self.document(Cursor::new(&bytes, shown)?, &folder);
        self.files.pop();
        map
    }

    /// A whole text. Keys of the including file are not visible in the included one, as with the peer.
    fn document(&mut self, mut cursor: Cursor, folder: &Path) -> Result<Map, LangError> {
        let outer = std::mem::replace(&mut self.scopes, vec![Map::default()]);
        let read = self.top(&mut cursor, folder, false);
        let map = std::mem::replace(&mut self.scopes, outer).into_iter().next().unwrap_or_default();
        read.map(|()| map)
    }

    /// The entries of the outermost level, which may stand in braces as a whole (JSON).
    fn top(&mut self, cursor: &mut Cursor, folder: &Path, braced: bool) -> Result<(), LangError> {
        loop {
            cursor.skip_space();
            if cursor.skip_comment() {
                continue;
            }
            match cursor.peek() {
                None if braced => return Err(cursor.error("Unexpected EOF processing map.")),
                None => return Ok(()),
                Some('{') => {
                    cursor.step();
                    self.deeper(cursor)?;
                    self.top(cursor, folder, true)?;
                    self.depth -= 1;
                }
                Some('}') => {
                    cursor.step();
                    if braced {
                        return Ok(());
                    }
                    cursor.skip_space();
                    return match cursor.peek() {
                        None => Ok(()),
                        Some(_) => Err(cursor.error("Unexpected map end '}'.")),
                    };
                }
                Some(',' | ';') if braced => {
                    cursor.step();
                }
                Some(_) => {
                    self.entry(cursor, folder, false)?;
                    end_of_top_value(cursor, braced)?;
                }
            }
        }
    }

    /// The inside of a block, after its `{`.
    fn map(&mut self, cursor: &mut Cursor, folder: &Path) -> Result<Map, LangError> {
        self.scopes.push(Map::default());
        loop {
            cursor.skip_space();
            if cursor.skip_comment() {
                continue;
            }
            match cursor.peek() {
                None => return Err(cursor.error("Unexpected EOF processing map.")),
                Some(']') => {
                    cursor.step();
                    return Err(cursor.error("Unexpected array end ']' processing map."));
                }
                Some('}') => {
                    cursor.step();
                    break;
                }
                Some(_) => {
                    self.entry(cursor, folder, true)?;
                    end_of_map_value(cursor)?;
                }
            }
        }
        Ok(self.scopes.pop().unwrap_or_default())
    }

    fn list(&mut self, cursor: &mut Cursor, folder: &Path) -> Result<Vec<Node>, LangError> {
        let mut nodes = Vec::new();
        loop {
            cursor.skip_space();
            if cursor.skip_comment() {
                continue;
            }
            match cursor.peek() {
                Some(',') => return Err(cursor.error("Unexpected array value terminator ','.")),
                Some(']') => {
                    cursor.step();
                    return Ok(nodes);
                }
                None => return Err(cursor.error("Unexpected EOF processing array.")),
                Some(_) => nodes.push(self.value(cursor, folder)?),
            }
            end_of_list_value(cursor)?;
        }
    }

    /// `key: value`, or an include. Sets it in the innermost block.
    fn entry(&mut self, cursor: &mut Cursor, folder: &Path, in_map: bool) -> Result<(), LangError> {
        match key(cursor, in_map)? {
            Key::Include(path) => self.include(&path, folder),
            Key::Name(mut entry) => {
                if cursor.peek().is_none() && !in_map {
                    let place = cursor.place();
                    let text = format!("config is invalid ({}:{}:{})", place.file, place.line, place.col - 1);
                    return Err(LangError::new(text));
                }
                if in_map {
                    match cursor.peek() {
                        Some(',') => return Err(cursor.error("Unexpected map value terminator \",\".")),
                        Some('}') => return Err(cursor.error("Expected value but found map end '}'.")),
                        _ => {}
                    }
                }
                entry.node = self.value(cursor, folder)?;
                self.set(entry);
                Ok(())
            }
        }
    }

    fn set(&mut self, entry: Entry) {
        match self.scopes.last_mut() {
            Some(scope) => scope.insert(entry),
            None => unreachable!("a document opens a scope before it reads entries"),
        }
    }

    fn value(&mut self, cursor: &mut Cursor, folder: &Path) -> Result<Node, LangError> {
        cursor.skip_blanks();
        let place = cursor.place();
        self.spend(1)?;
        let value = match cursor.peek() {
            Some('[') => {
                cursor.step();
                self.deeper(cursor)?;
                let nodes = self.list(cursor, folder)?;
                self.depth -= 1;
                Value::List(nodes)
            }
            Some('{') => {
                cursor.step();
                self.deeper(cursor)?;
                let map = self.map(cursor, folder)?;
                self.depth -= 1;
                Value::Map(map)
            }
            _ => match scalar::read(cursor)? {
                Scalar::Value(value) => value,
                Scalar::Variable(name) => self.variable(&name, cursor.line())?,
            },
        };
        Ok(Node::new(value, place))
    }

    /// What `$name` stands for: a key of an enclosing block, the innermost first, else of the environment.
    fn variable(&mut self, name: &str, line: u32) -> Result<Value, LangError> {
        // A password hash needs no quotes, although it begins like a variable.
        if ["2a$", "2b$", "2x$", "2y$"].iter().any(|prefix| name.starts_with(prefix)) {
            return Ok(Value::Text(format!("${name}")));
        }
        let found = self.scopes.iter_mut().rev().find_map(|scope| scope.refer(name).cloned());
        if let Some(node) = found {
            self.spend(node.count())?;
            return Ok(node.value);
        }
        let words = |why: &str| LangError::new(format!("variable reference for '{name}' on line {line} {why}"));
        let Some(text) = self.source.variable(name) else { return Err(words("can not be found")) };
        if self.variables.iter().any(|open| open == name) || self.variables.len() >= VARIABLE_DEPTH_MAX {
            return Err(words(&format!("could not be parsed: variable reference cycle for '{name}'")));
        }
        self.variables.push(name.to_string());
        let value = self.environment(&text);
        self.variables.pop();
        value.map_err(|error| words(&format!("could not be parsed: {error}")))
    }

    /// The text of an environment variable, read as a value of the language.
    fn environment(&mut self, text: &str) -> Result<Value, LangError> {
        let cursor = Cursor::new(format!("pk={text}").as_bytes(), Arc::from(""))?;
        let map = self.document(cursor, Path::new(""))?;
        match map.into_entries().find(|entry| entry.key == "pk") {
            Some(entry) => Ok(entry.node.value),
            None => Err(LangError::new("the value is empty".to_string())),
        }
    }

    fn include(&mut self, path: &Path, folder: &Path) -> Result<(), LangError> {
        let shown = path.display();
        let wrap = |why: String| LangError::new(format!("error parsing include file '{shown}', {why}"));
        let target: PathBuf = folder.join(path).components().filter(|part| *part != Component::CurDir).collect();
        self.includes += 1;
        if self.files.contains(&target) {
            return Err(wrap("the file includes itself".to_string()));
        }
        if self.files.len() >= INCLUDE_DEPTH_MAX {
            return Err(wrap(format!("more than {INCLUDE_DEPTH_MAX} includes in each other")));
        }
        if self.includes > INCLUDES_MAX {
            return Err(wrap(format!("more than {INCLUDES_MAX} includes")));
        }
        let map = self.file(&target).map_err(|error| wrap(error.to_string()))?;
        for entry in map.into_entries() {
            self.set(entry);
        }
        Ok(())
    }

    fn deeper(&mut self, cursor: &Cursor) -> Result<(), LangError> {
        self.depth += 1;
        if self.depth > NEST_MAX {
            return Err(cursor.error(format!("more than {NEST_MAX} blocks in each other")));
        }
        Ok(())
    }

    fn spend(&mut self, nodes: usize) -> Result<(), LangError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODES_MAX {
            return Err(LangError::new(format!("the configuration has more than {NODES_MAX} values")));
        }
        Ok(())
    }
}

/// Reads a key and the separator after it, or the word `include` and its path.
fn key(cursor: &mut Cursor, in_map: bool) -> Result<Key, LangError> {
    let place = cursor.place();
    let quote = cursor.peek();
    let name = match quote {
        Some(c @ (':' | '=')) => {
            let stop = if in_map { "." } else { "" };
            return Err(cursor.error(format!("Unexpected key separator '{c}'{stop}")));
        }
        Some('"' | '\'') => {
            cursor.step();
            let name = cursor.take_while(|c| Some(c) != quote);
            if cursor.step().is_none() {
                let text = if in_map { "Unexpected EOF processing quoted map key." } else { "Unexpected EOF." };
                return Err(cursor.error(text));
            }
            name
        }
        _ => {
            let name = cursor.take_while(|c| !c.is_whitespace() && c != ':' && c != '=');
            if cursor.peek().is_none() && in_map {
                return Err(cursor.error("Unexpected EOF processing map key."));
            }
            if cursor.peek().is_some_and(char::is_whitespace) && name.eq_ignore_ascii_case("include") {
                cursor.skip_blanks();
                return include_path(cursor).map(Key::Include);
            }
            name
        }
    };
    cursor.skip_space();
    if cursor.take(':') || cursor.take('=') {
        if in_map { cursor.skip_space() } else { cursor.skip_blanks() }
    }
    let node = Node::new(Value::Bool(false), place.clone());
    Ok(Key::Name(Entry { key: name, place, node, used: false }))
}

fn include_path(cursor: &mut Cursor) -> Result<PathBuf, LangError> {
    let found = match cursor.peek() {
        Some(quote @ ('"' | '\'')) => {
            cursor.step();
            let path = cursor.take_while(|c| c != quote);
            if cursor.step().is_none() {
                return Err(cursor.error("Unexpected EOF in quoted include"));
            }
            return Ok(PathBuf::from(path));
        }
        Some('[') => "start of an array",
        Some('{') => "start of a map",
        Some('(') => "start of a block",
        Some('\\') => "escape sequence",
        Some(c) if c.is_ascii_digit() || c == '-' => "start of a number",
        None | Some('\n' | '\r') => "new line",
        Some(_) => {
            let path = cursor.take_while(|c| !matches!(c, '\n' | '\r' | ';' | '}' | ' ' | '\t' | '\''));
            cursor.take('\'');
            return Ok(PathBuf::from(path));
        }
    };
    Err(cursor.error(format!("Expected include value but found {found}")))
}

fn end_of_top_value(cursor: &mut Cursor, braced: bool) -> Result<(), LangError> {
    cursor.skip_blanks();
    if cursor.skip_comment() {
        return Ok(());
    }
    match cursor.peek() {
        None | Some('\n' | '\r') => Ok(()),
        Some('}') if braced => Ok(()),
        Some(';' | ',' | '}') => {
            cursor.step();
            Ok(())
        }
        Some(_) if braced => Err(cursor.error_at_next(|c| {
            format!("Expected a block-level value to end with a new line, comment or EOF, but got '{c}' instead.")
        })),
        Some(_) => Err(cursor.error_at_next(|c| {
            format!("Expected a top-level value to end with a new line, comment or EOF, but got '{c}' instead.")
        })),
    }
}

fn end_of_map_value(cursor: &mut Cursor) -> Result<(), LangError> {
    cursor.skip_blanks();
    if cursor.skip_comment() {
        return Ok(());
    }
    match cursor.peek() {
        Some('}' | '\n' | '\r') => Ok(()),
        Some(';' | ',') => {
            cursor.step();
            Ok(())
        }
        _ => Err(cursor.error_at_next(|c| {
            format!("Expected a map value terminator \",\" or a map terminator \"}}\", but got '{c}' instead.")
        })),
    }
}

fn end_of_list_value(cursor: &mut Cursor) -> Result<(), LangError> {
    cursor.skip_blanks();
    cursor.skip_comment();
    match cursor.peek() {
        Some(']' | '\n' | '\r') => Ok(()),
        Some(',') => {
            cursor.step();
            Ok(())
        }
        _ => Err(cursor.error_at_next(|c| {
            format!("Expected an array value terminator \",\" or an array terminator \"]\", but got '{c}' instead.")
        })),
    }
}

/// The system's reason without Rust's `(os error 2)`, in the peer's lower case.
pub(super) fn io_words(error: &std::io::Error) -> String {
    let text = match error.kind() {
        std::io::ErrorKind::NotFound => return "no such file or directory".to_string(),
        _ => error.to_string(),
    };
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().collect::<String>() + chars.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
