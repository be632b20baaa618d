//! Remembers which lines were logged, so that what happens at every retry is said once.

use std::cell::RefCell;
use std::collections::VecDeque;

/// Lines remembered. Strangers can cause new ones, so the oldest are forgotten and may then be said again.
const LINES_MAX: usize = 256;

#[derive(Default)]
pub struct Told(RefCell<VecDeque<(String, String)>>);

impl Told {
    /// True the first time that this is said about somebody.
    pub fn is_new(&self, about: &str, text: &str) -> bool {
        let mut lines = self.0.borrow_mut();
        if lines.iter().any(|(who, line)| who == about && line == text) {
            return false;
        }
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back((about.to_owned(), text.to_owned()));
        true
    }

    /// All is well there again: the next trouble is news.
    pub fn forget(&self, about: &str) {
        self.0.borrow_mut().retain(|(who, _)| who != about);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_said_once_until_it_is_news_again() {
        let told = Told::default();
        assert!(told.is_new("a:1", "refused"));
        assert!(!told.is_new("a:1", "refused"));
        assert!(told.is_new("a:1", "timeout") && told.is_new("b:2", "refused"));
        told.forget("a:1");
        assert!(told.is_new("a:1", "refused") && !told.is_new("b:2", "refused"));
        for n in 0..10 * LINES_MAX {
            assert!(told.is_new("stranger", &n.to_string()));
        }
        assert_eq!(told.0.borrow().len(), LINES_MAX);
    }
}
