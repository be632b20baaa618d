//! From a [`Doc`] to a typed value, by the rules of the peer's decoder.
//!
//! Field names match in any case, and of two fields with one name the later one counts (objects are laid over each
//! other). `null` empties a list and leaves other fields as they are; only a choice among words cannot be `null`. A number must be written as its
//! type demands: `1.0` is no whole number.

use std::fmt::Display;

use serde::de::value::{MapDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};

use super::{Doc, Fault};

/// What happens to a field that a request does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    Refused,
    Skipped,
}

/// Makes a value of `doc`.
pub(super) fn decode<T: de::DeserializeOwned>(doc: &Doc, unknown: Unknown) -> Result<T, Fault> {
    T::deserialize(Node { doc, unknown })
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(text: T) -> Fault {
        Fault::new(text.to_string())
    }

    fn unknown_variant(word: &str, _: &'static [&'static str]) -> Fault {
        Fault::new(format!("can not unmarshal {:?}", format!("\"{word}\"")))
    }
}

/// A value about to be read.
#[derive(Clone, Copy)]
struct Node<'a> {
    doc: &'a Doc,
    unknown: Unknown,
}

impl<'a> Node<'a> {
    fn of(self, doc: &'a Doc) -> Node<'a> {
        Node { doc, unknown: self.unknown }
    }

    /// The value is not what the field's type demands.
    fn mismatch(self, wanted: &str) -> Fault {
        let found = match self.doc {
            Doc::Null => "null".to_owned(),
            Doc::Bool(_) => "bool".to_owned(),
            Doc::Number(number) => format!("number {number}"),
            Doc::Text(_) => "string".to_owned(),
            Doc::List(_) => "array".to_owned(),
            Doc::Object(_) => "object".to_owned(),
        };
        let found = if wanted.contains("int") { found } else { found.split(' ').next().unwrap_or("").to_owned() };
        Fault::new(format!("json: cannot unmarshal {found} into Go value of type {wanted}"))
    }

    /// The complaint about a word of those choices that have one of their own.
    fn complaint(self, choice: &str) -> Option<Fault> {
        let word = match self.doc {
            Doc::Text(word) => format!("{word:?}"),
            _ => "null".to_owned(),
        };
        Some(Fault::new(match choice {
            "Compression" => "unknown compression algorithm".to_owned(),
            "PriorityPolicy" => format!("unknown priority policy: {word}"),
            "Action" => format!("unknown consumer action: {word}"),
            _ => return None,
        }))
    }

    /// The fields of an object for a type that has `names`: each name once, spelt as the type spells it.
    fn fields(self, owner: &str, names: &'static [&'static str]) -> Result<Vec<(&'static str, Doc)>, Fault> {
        let Doc::Object(fields) = self.doc else { return Err(self.mismatch(&format!("server.{owner}"))) };
        let mut kept: Vec<(&'static str, Doc)> = Vec::new();
        for (name, value) in fields {
            let Some(known) = names.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
                match self.unknown {
                    Unknown::Refused => return Err(Fault::new(format!("json: unknown field {name:?}"))),
                    Unknown::Skipped => continue,
                }
            };
            match kept.iter_mut().find(|(name, _)| name == known).map(|(_, value)| value) {
                None => kept.push((known, value.clone())),
                Some(before) => lay_over(before, value),
            }
        }
        Ok(kept)
    }
}

/// A field named again.
fn lay_over(before: &mut Doc, value: &Doc) {
    match (before, value) {
        (before @ Doc::List(_), Doc::Null) => *before = Doc::Null,
        (_, Doc::Null) => {}
        (Doc::Object(before), Doc::Object(more)) => before.extend(more.iter().cloned()),
        (before, value) => *before = value.clone(),
    }
}

/// The fields of an object, one after the other; a complaint names the field.
struct Fields<'a> {
    node: Node<'a>,
    owner: &'static str,
    fields: std::vec::IntoIter<(&'static str, Doc)>,
    value: Option<(&'static str, Doc)>,
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((name, value)) = self.fields.next() else { return Ok(None) };
        self.value = Some((name, value));
        let name: StrDeserializer<'_, Fault> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let (name, doc) = self.value.take().ok_or_else(|| Fault::new("a value without its field"))?;
        let node = Node { doc: &doc, unknown: self.node.unknown };
        seed.deserialize(node).map_err(|fault| {
            let text = fault.text.replacen("Go value of", &format!("Go struct field {}.{name} of", self.owner), 1);
            Fault { text, ..fault }
        })
    }
}

macro_rules! whole_number {
    ($($method:ident $visit:ident $rust:ty, $name:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.doc {
                Doc::Null => visitor.$visit(0),
                Doc::Number(text) => match text.parse::<$rust>() {
                    Ok(number) => visitor.$visit(number),
                    Err(_) => Err(self.mismatch($name)),
                },
                _ => Err(self.mismatch($name)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Fault;

    whole_number! {
        deserialize_i8 visit_i8 i8, "int8";
        deserialize_i16 visit_i16 i16, "int16";
        deserialize_i32 visit_i32 i32, "int32";
        deserialize_i64 visit_i64 i64, "int64";
        deserialize_u8 visit_u8 u8, "uint8";
        deserialize_u16 visit_u16 u16, "uint16";
        deserialize_u32 visit_u32 u32, "uint32";
        deserialize_u64 visit_u64 u64, "uint64";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.doc {
            Doc::Null => visitor.visit_unit(),
            Doc::Bool(flag) => visitor.visit_bool(*flag),
            Doc::Text(text) => visitor.visit_str(text),
            Doc::List(_) => self.deserialize_seq(visitor),
            Doc::Object(_) => self.deserialize_map(visitor),
            Doc::Number(text) => {
                if let Ok(number) = text.parse::<u64>() {
                    return visitor.visit_u64(number);
                }
                if let Ok(number) = text.parse::<i64>() {
                    return visitor.visit_i64(number);
                }
                visitor.visit_f64(text.parse().map_err(|_| self.mismatch("float64"))?)
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.doc {
            Doc::Null => visitor.visit_bool(false),
            Doc::Bool(flag) => visitor.visit_bool(*flag),
            _ => Err(self.mismatch("bool")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_any(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.doc {
            Doc::Null => visitor.visit_str(""),
            Doc::Text(text) => visitor.visit_str(text),
            _ => Err(self.mismatch("string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.doc {
            Doc::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let items: &[Doc] = match self.doc {
            Doc::Null => &[],
            Doc::List(items) => items,
            _ => return Err(self.mismatch("list")),
        };
        visitor.visit_seq(de::value::SeqDeserializer::new(items.iter().map(|doc| self.of(doc))))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let fields: &[(String, Doc)] = match self.doc {
            Doc::Null => &[],
            Doc::Object(fields) => fields,
            _ => return Err(self.mismatch("map")),
        };
        visitor.visit_map(MapDeserializer::new(fields.iter().map(|(name, doc)| (name.as_str(), self.of(doc)))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        owner: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let fields = match self.doc {
            Doc::Null => Vec::new(),
            _ => self.fields(owner, names)?,
        };
        visitor.visit_map(Fields { node: self, owner, fields: fields.into_iter(), value: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        owner: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let read = match self.doc {
            Doc::Text(word) => {
                let word: StrDeserializer<'_, Fault> = word.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            Doc::Null => Err(Fault::new("can not unmarshal \"null\"")),
            Doc::Bool(flag) => Err(Fault::new(format!("can not unmarshal \"{flag}\""))),
            Doc::Number(number) => Err(Fault::new(format!("can not unmarshal \"{number}\""))),
            Doc::List(_) | Doc::Object(_) => Err(self.mismatch(owner)),
        };
        read.map_err(|fault| self.complaint(owner).unwrap_or(fault))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

impl<'de> IntoDeserializer<'de, Fault> for Node<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
