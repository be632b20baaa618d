//! Subjects and filters: dot-separated tokens, `*` for exactly one token, a closing `>` for one or more.
//!
//! ```text
//! orders.eu.*      filter   orders │ eu │ *        matches orders.eu.1, not orders.eu nor orders.eu.1.2
//! orders.>         filter   orders │ >             matches orders.eu and orders.eu.1, not orders
//! orders.e*        literal  orders │ e*            a star inside a longer token is an ordinary byte
//! ```
//!
//! The rules are those of nats-server: a subject is any run of bytes without space, tab, newline, carriage return or
//! form feed, without an empty token, and with `>` as its last token only. All functions are linear in the length of
//! their input, allocate nothing and accept any bytes.

/// Splits tokens.
pub const SEPARATOR: u8 = b'.';
/// Stands for exactly one token.
pub const WILDCARD: &[u8] = b"*";
/// As the last token, stands for one or more tokens.
pub const WILDCARD_REST: &[u8] = b">";

/// The tokens of a subject, in order. An empty subject has one empty token, as a doubled dot has between its dots.
pub fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    subject.split(|byte| *byte == SEPARATOR)
}

/// How many tokens a subject has; 0 for the empty subject.
pub fn token_count(subject: &[u8]) -> usize {
    if subject.is_empty() { 0 } else { tokens(subject).count() }
}

/// The rule of `max_sub_tokens`: at most `tokens_max` tokens, where 0 means that there is no limit.
pub fn within_tokens(subject: &[u8], tokens_max: usize) -> bool {
    tokens_max == 0 || tokens(subject).take(tokens_max + 1).count() <= tokens_max
}

/// Whether this can be published to or subscribed to: no empty token, no white space, `>` only at the end.
pub fn is_valid(subject: &[u8]) -> bool {
    let mut closed = false;
    for token in tokens(subject) {
        if closed || token.is_empty() || token.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c)) {
            return false;
        }
        closed = token == WILDCARD_REST;
    }
    true
}

/// Whether this can be subscribed to. The same rule as [`is_valid`]; named apart because the callers mean different
/// things.
pub fn is_valid_filter(filter: &[u8]) -> bool {
    is_valid(filter)
}

/// Whether this is valid and names exactly one subject.
pub fn is_valid_literal(subject: &[u8]) -> bool {
    is_valid(subject) && is_literal(subject)
}

/// Whether no token is a wildcard. Says nothing about validity.
pub fn is_literal(subject: &[u8]) -> bool {
    tokens(subject).all(|token| token != WILDCARD && token != WILDCARD_REST)
}

/// Whether a message published to `literal` reaches a subscription on `filter`.
///
/// `literal` is taken byte by byte, so that a wildcard inside it (which the protocol lets through) is only
/// matched by the same wildcard or a wider one. A subject with an empty token matches nothing.
pub fn matches(filter: &[u8], literal: &[u8]) -> bool {
    let mut wanted = tokens(filter);
    let mut given = tokens(literal);
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(want), Some(token)) => {
                if token.is_empty() {
                    return false;
                }
                if want == WILDCARD_REST {
                    return given.all(|rest| !rest.is_empty());
                }
                if want != WILDCARD && want != token {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Whether every subject that `filter` matches is also matched by `of`. A literal is a subset of what matches it.
pub fn is_subset(filter: &[u8], of: &[u8]) -> bool {
    let mut inner = tokens(filter);
    let mut outer = tokens(of);
    loop {
        match (inner.next(), outer.next()) {
            (None, None) => return true,
            (Some(inner), Some(outer)) => {
                if inner.is_empty() {
                    return false;
                }
                if outer == WILDCARD_REST {
                    return true;
                }
                if inner == WILDCARD_REST || (outer != WILDCARD && inner != outer) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Whether some literal subject is matched by both filters. Symmetric.
pub fn overlaps(a: &[u8], b: &[u8]) -> bool {
    let mut left = tokens(a);
    let mut right = tokens(b);
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(left), Some(right)) => {
                if left.is_empty() || right.is_empty() {
                    return false;
                }
                if left == WILDCARD_REST || right == WILDCARD_REST {
                    return true;
                }
                if left != WILDCARD && right != WILDCARD && left != right {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every subject of one to `tokens_max` tokens over an alphabet.
    fn all(alphabet: &[&str], tokens_max: usize) -> Vec<Vec<u8>> {
        let mut found: Vec<String> = alphabet.iter().map(|token| token.to_string()).collect();
        let mut last = found.clone();
        for _ in 1..tokens_max {
            last = last.iter().flat_map(|head| alphabet.iter().map(move |token| format!("{head}.{token}"))).collect();
            found.extend(last.iter().cloned());
        }
        found.into_iter().map(String::into_bytes).collect()
    }

    fn filters() -> Vec<Vec<u8>> {
        all(&["a", "b", "*", ">"], 3).into_iter().filter(|filter| is_valid(filter)).collect()
    }

    /// The meaning of a filter, written as slowly and plainly as it can be.
    fn dumb_matches(filter: &[&str], literal: &[&str]) -> bool {
        match (filter.first(), literal.first()) {
            (None, None) => true,
            (Some(&">"), Some(_)) => true,
            (Some(&"*"), Some(_)) => dumb_matches(&filter[1..], &literal[1..]),
            (Some(want), Some(given)) if want == given => dumb_matches(&filter[1..], &literal[1..]),
            _ => false,
        }
    }

    fn words(subject: &[u8]) -> Vec<&str> {
        std::str::from_utf8(subject).unwrap().split('.').collect()
    }

    #[test]
    fn matching_equals_the_plain_definition_over_a_small_alphabet() {
        let literals = all(&["a", "b", "c"], 4);
        for filter in filters() {
            for literal in &literals {
                let expected = dumb_matches(&words(&filter), &words(literal));
                assert_eq!(matches(&filter, literal), expected, "{filter:?} {literal:?}");
            }
        }
    }

    #[test]
    fn subset_and_overlap_equal_their_definition_by_enumeration() {
        // Four tokens and a third letter suffice to tell any two filters of three tokens over {a, b} apart.
        let literals = all(&["a", "b", "c"], 4);
        let filters = filters();
        for a in &filters {
            let of_a: Vec<_> = literals.iter().filter(|literal| matches(a, literal)).collect();
            for b in &filters {
                let subset = of_a.iter().all(|literal| matches(b, literal));
                let overlap = of_a.iter().any(|literal| matches(b, literal));
                assert_eq!(is_subset(a, b), subset, "{} in {}", words(a).join("."), words(b).join("."));
                assert_eq!(overlaps(a, b), overlap, "{} and {}", words(a).join("."), words(b).join("."));
            }
        }
    }

    #[test]
    fn validity_follows_the_peer() {
        for good in ["a", "a.b", "*", ">", "a.*", "a.>", "*.*.>", "a*", "a.>b", "$JS.API.>", "_INBOX.x", "\u{e4}.b"] {
            assert!(is_valid(good.as_bytes()), "{good}");
            assert!(is_valid_filter(good.as_bytes()), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", ">.a", "a.>.b", "a b", "a\tb", "a.b\r", "a.\n", "\u{c}", " "] {
            assert!(!is_valid(bad.as_bytes()), "{bad:?}");
        }
        assert!(is_valid_literal(b"a.b*"));
        assert!(!is_valid_literal(b"a.*"));
        assert!(!is_valid_literal(b"a..b"));
    }

    #[test]
    fn a_wildcard_is_a_token_of_its_own() {
        assert!(is_literal(b"a.b*.>c"));
        assert!(!is_literal(b"a.*.c"));
        assert!(!is_literal(b">"));
        assert!(!matches(b"a.b*", b"a.bc"));
        assert!(matches(b"a.b*", b"a.b*"));
    }

    #[test]
    fn a_subject_with_an_empty_token_reaches_nobody() {
        for literal in [&b""[..], b"a.", b".a", b"a..b", b"a.b."] {
            for filter in [&b">"[..], b"a.>", b"*", b"*.*", b"*.*.*", b"a.*"] {
                assert!(!matches(filter, literal), "{filter:?} {literal:?}");
            }
        }
    }

    #[test]
    fn a_wildcard_in_a_published_subject_is_only_caught_by_wildcards() {
        assert!(matches(b"a.*", b"a.*"));
        assert!(matches(b"a.>", b"a.>"));
        assert!(!matches(b"a.b", b"a.*"));
    }

    #[test]
    fn tokens_are_counted_and_limited() {
        assert_eq!(token_count(b""), 0);
        assert_eq!(token_count(b"a"), 1);
        assert_eq!(token_count(b"a.b.c"), 3);
        assert!(within_tokens(b"a.b.c", 3));
        assert!(!within_tokens(b"a.b.c.d", 3));
        assert!(within_tokens(b"a.b.c.d", 0));
    }
}
