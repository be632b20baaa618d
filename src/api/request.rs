//! Bodies of requests: JSON read the way the peer's decoder reads it, into whatever a handler wants to know.
//!
//! A body that is no object asks for nothing, as with the peer (`isJSONObjectOrArray` of `jetstream_api.go`). Unknown
//! fields are refused with 10025 where the server is strict, else skipped. Nothing here knows what a field means.

use serde::de::DeserializeOwned;

use super::errors::{ApiError, INVALID_JSON};
use super::json::{self, Doc, Fault, Unknown};

/// Longest body that is parsed, bytes: the largest legal one is a list of a few thousand filters.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Whether a body asks for nothing at all: no bytes, or an object without fields. Blanks alone are no request.
pub fn is_empty(body: &[u8]) -> bool {
    if body.is_empty() {
        return true;
    }
    let inside = body.trim_ascii().strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
    inside.is_some_and(|inside| inside.trim_ascii().is_empty())
}

/// Reads an optional body.
pub fn read<T: DeserializeOwned + Default>(body: &[u8], strict: bool) -> Result<T, ApiError> {
    match body.trim_ascii().first() {
        Some(b'{' | b'[') => required(body, strict),
        _ => Ok(T::default()),
    }
}

/// Reads a body that must be there; blanks and `null` name no field.
pub fn required<T: DeserializeOwned>(body: &[u8], strict: bool) -> Result<T, ApiError> {
    read_doc(body, strict, &|doc, unknown| doc.decode(unknown))
}

/// The same with what is to be made of the document. A server that is not strict reads a request which does not please
/// it a second time: then unknown fields are skipped, and there may be one document only.
pub fn read_doc<T>(body: &[u8], strict: bool, make: &dyn Fn(Doc, Unknown) -> Result<T, Fault>) -> Result<T, ApiError> {
    let invalid = |text: &dyn std::fmt::Display| INVALID_JSON.with("err", text);
    if body.len() > BODY_BYTES_MAX {
        return Err(invalid(&"request too large"));
    }
    match json::all(body).and_then(|doc| make(doc, Unknown::Refused)) {
        Err(_) if !strict => {
            let again = json::one(body).and_then(|doc| make(doc, Unknown::Skipped));
            again.map_err(|fault| invalid(&fault))
        }
        read => read.map_err(|fault| invalid(&fault.placed())),
    }
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
