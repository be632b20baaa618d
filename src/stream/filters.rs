//! Compiled filter subjects of one reader.
use bytes::Bytes;

/// Compiled filter subjects of one reader (a consumer, a request), with what it has learned of the stream's subjects.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    subjects: Vec<Bytes>,
}

impl Filters {
    /// Matches what any of the filters matches; an empty list matches everything.
    pub fn new(subjects: impl IntoIterator<Item = Bytes>) -> Filters {
        Filters { subjects: subjects.into_iter().collect() }
    }

    pub fn all() -> Filters {
        Filters::default()
    }

    pub fn subjects(&self) -> &[Bytes] {
        &self.subjects
    }
}
