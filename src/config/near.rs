//! The known word nearest to a mistyped one.

/// Words further apart than this are different words, not typing mistakes.
const DISTANCE_MAX: usize = 3;
/// Longer keys are not compared: the distance costs the product of the lengths.
const LENGTH_MAX: usize = 64;

/// The nearest of `known`, if any is near. O(words × length²).
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase();
    let length = word.chars().count();
    if length > LENGTH_MAX {
        return None;
    }
    let near = (length / 2).clamp(1, DISTANCE_MAX);
    known
        .iter()
        .map(|&known| (distance(&word, known), known))
        .filter(|&(far, _)| far <= near)
        .min()
        .map(|(_, known)| known)
}

/// Insertions, deletions, replacements and swaps of neighbours from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = a[i - 1] == b[j - 1];
            let mut least = (last[j - 1] + usize::from(!same)).min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_finds_its_word() {
        let known = ["jetstream", "port", "ping_max", "ping_interval", "listen"];
        for (word, near) in [
            ("jetsteam", Some("jetstream")),
            ("JetStraem", Some("jetstream")),
            ("prot", Some("port")),
            ("ping_intervall", Some("ping_interval")),
            ("jetstream{", Some("jetstream")),
            ("foo", None),
            ("a", None),
        ] {
            assert_eq!(nearest(word, &known), near, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), &known), None);
    }

    #[test]
    fn distances_count_single_edits() {
        for (a, b, far) in [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("kitten", "sitting", 3), ("abc", "abc", 0)] {
            assert_eq!(distance(a, b), far, "{a} {b}");
            assert_eq!(distance(b, a), far, "{b} {a}");
        }
    }
}
