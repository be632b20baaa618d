//! Bodies of requests: JSON read the way the peer's decoder reads it, into whatever a handler wants to know.
//!
//! Keys match in any case and `null` counts as absent. A body that is no object asks for nothing, as with the peer
//! (`isJSONObjectOrArray` of `jetstream_api.go`). Unknown fields are refused with 10025 where the server is strict,
//! else skipped. Nothing here knows what a field means.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::errors::{ApiError, INVALID_JSON};

/// Longest body that is parsed, bytes: the largest legal one is a list of a few thousand filters.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A request with optional fields; a missing body is its default.
pub trait Fields: DeserializeOwned + Default {
    /// The names in lower case.
    const NAMES: &'static [&'static str];
}

/// Whether a body asks for nothing at all: no bytes, or an object without fields. Blanks alone are no request.
pub fn is_empty(body: &[u8]) -> bool {
    if body.is_empty() {
        return true;
    }
    let inside = body.trim_ascii().strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    inside.is_some_and(|inside| inside.trim_ascii().is_empty())
}

/// Reads an optional body.
pub fn read<T: Fields>(body: &[u8], strict: bool) -> Result<T, ApiError> {
    match body.trim_ascii().first() {
        Some(b'{' | b'[') => required(body, strict),
        _ => Ok(T::default()),
    }
}

/// Reads a body that must be there; blanks and `null` name no field.
pub fn required<T: Fields>(body: &[u8], strict: bool) -> Result<T, ApiError> {
    let invalid = |text: &dyn std::fmt::Display| INVALID_JSON.with("err", text);
    if body.len() > BODY_BYTES_MAX {
        return Err(invalid(&"request too large"));
    }
    if matches!(body.trim_ascii(), b"" | b"null") {
        return Ok(T::default());
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| invalid(&error))?;
    let Value::Object(fields) = value else {
        return Err(invalid(&"json: cannot unmarshal into Go value"));
    };
    let mut kept = serde_json::Map::new();
    for (key, value) in fields {
        let name = key.to_ascii_lowercase();
        if !T::NAMES.contains(&name.as_str()) {
            if strict {
                return Err(invalid(&format_args!("json: unknown field {key:?}")));
            }
        } else if !value.is_null() {
            kept.insert(name, value);
        }
    }
    serde_json::from_value(Value::Object(kept)).map_err(|error| invalid(&format_args!("json: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Page {
        offset: i64,
        subject: String,
    }

    impl Fields for Page {
        const NAMES: &'static [&'static str] = &["offset", "subject"];
    }

    #[test]
    fn keys_match_in_any_case_and_null_is_absent() {
        let page: Page = read(br#"{"Offset":3,"subject":null}"#, true).unwrap();
        assert_eq!(page, Page { offset: 3, subject: String::new() });
        assert_eq!(read::<Page>(b"q", true).unwrap(), Page::default());
        assert_eq!(read::<Page>(b"", true).unwrap(), Page::default());
    }

    #[test]
    fn unknown_fields_are_refused_only_by_a_strict_server() {
        let refused = read::<Page>(br#"{"x":5}"#, true).unwrap_err();
        assert_eq!(refused.description, "invalid JSON: json: unknown field \"x\"");
        assert_eq!(read::<Page>(br#"{"x":5}"#, false).unwrap(), Page::default());
        assert_eq!(read::<Page>(br#"{"offset":"a"}"#, false).unwrap_err().err_code, 10025);
        assert_eq!(read::<Page>(b"[", false).unwrap_err().err_code, 10025);
    }

    #[test]
    fn an_object_without_fields_is_empty() {
        assert!(is_empty(b"") && is_empty(b" {} ") && is_empty(b"{ \n }"));
        assert!(!is_empty(b"{\"a\":1}") && !is_empty(b"x") && !is_empty(b"[]") && !is_empty(b"  "));
        for body in [&b"null"[..], b"  ", b" null\n"] {
            assert_eq!(required::<Page>(body, true).unwrap(), Page::default());
        }
    }
}
