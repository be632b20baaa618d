//! JSON of requests, read the way the peer's decoder reads it.
//!
//! The peer takes what other readers refuse: several documents in one body, each laid over the one before; a field that
//! is named twice; bytes that are no UTF-8 and halves of surrogate pairs, which become U+FFFD. So a body is first read
//! into a [`Doc`], which keeps all fields in the order they came in, and [`decode`] then makes a value of it by the
//! peer's rules. Complaints are worded as its clients know them. Nothing here knows what a field means.

use std::fmt;

mod decode;
mod scan;

pub use decode::Unknown;

use scan::Scanner;
use serde::de::DeserializeOwned;

/// One JSON value as it was written. Numbers stay text until somebody says of what type they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doc {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Doc>),
    Object(Vec<(String, Doc)>),
}

/// Why something cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    text: String,
    /// Bytes up to and with the one that is wrong; `None` where the body ends too early or a value has the wrong type.
    offset: Option<usize>,
}

impl Fault {
    fn new(text: impl Into<String>) -> Fault {
        Fault { text: text.into(), offset: None }
    }

    fn at(text: String, offset: usize) -> Fault {
        Fault { text, offset: Some(offset) }
    }

    /// The words with the place, as the API gives them.
    pub fn placed(&self) -> String {
        match self.offset {
            Some(offset) => format!("{} at offset {offset}", self.text),
            None => self.text.clone(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads one document with blanks around it.
pub fn one(body: &[u8]) -> Result<Doc, Fault> {
    let mut scanner = Scanner::new(body);
    let doc = scanner.document()?;
    if !scanner.at_end() {
        return Err(scanner.after_top_level());
    }
    doc.ok_or_else(|| Fault::new("unexpected end of JSON input"))
}

/// Reads any number of documents as if the fields of all of them stood in one. None at all, and `null`, name no field.
pub fn all(body: &[u8]) -> Result<Doc, Fault> {
    let mut scanner = Scanner::new(body);
    let mut fields = Vec::new();
    while let Some(doc) = scanner.document()? {
        match doc {
            Doc::Null => {}
            Doc::Object(more) => fields.extend(more),
            other => return Ok(other),
        }
    }
    Ok(Doc::Object(fields))
}

impl Doc {
    /// Makes a value of it.
    pub fn decode<T: DeserializeOwned>(&self, unknown: Unknown) -> Result<T, Fault> {
        decode::decode(self, unknown)
    }

    /// Takes one field out of an object, however often and in whatever case it is named.
    pub fn split_off(self, field: &str) -> (Doc, Doc) {
        let Doc::Object(fields) = self else { return (self, Doc::Object(Vec::new())) };
        let (apart, rest) = fields.into_iter().partition(|(name, _)| name.eq_ignore_ascii_case(field));
        (Doc::Object(rest), Doc::Object(apart))
    }
}

#[cfg(test)]
mod tests;
