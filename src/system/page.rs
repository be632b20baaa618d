//! Names of pages and what a request may say about them.

use bytes::Bytes;

/// A page that every core contributes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub kind: PageKind,
    /// The request's options: JSON of a `$SYS` request, or the query of an HTTP one turned into the same JSON.
    pub options: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    Statsz,
    Varz,
    Connz,
    Routez,
    Subsz,
    Jsz,
    Healthz,
    Accountz,
    Raftz,
}
