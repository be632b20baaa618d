use super::*;
use crate::dice::Dice;

/// The list written as plainly as it can be.
#[derive(Default)]
struct Dumb {
    subscriptions: Vec<(Vec<u8>, Option<Vec<u8>>, u32)>,
}

impl Dumb {
    fn insert(&mut self, filter: &[u8], queue: Option<&[u8]>, value: u32) -> bool {
        let entry = (filter.to_vec(), queue.map(<[u8]>::to_vec), value);
        if !subject::is_valid(filter) || self.subscriptions.contains(&entry) {
            return false;
        }
        self.subscriptions.push(entry);
        true
    }

    fn remove(&mut self, filter: &[u8], queue: Option<&[u8]>, value: u32) -> bool {
        let entry = (filter.to_vec(), queue.map(<[u8]>::to_vec), value);
        let Some(at) = self.subscriptions.iter().position(|other| *other == entry) else { return false };
        self.subscriptions.remove(at);
        true
    }

    fn matches(&self, literal: &[u8]) -> Vec<(Option<Vec<u8>>, u32)> {
        let matching = self.subscriptions.iter().filter(|(filter, ..)| subject::matches(filter, literal));
        let mut found: Vec<_> = matching.map(|(_, queue, value)| (queue.clone(), *value)).collect();
        found.sort();
        found
    }

    fn overlaps(&self, filter: &[u8]) -> bool {
        self.subscriptions.iter().any(|(other, ..)| subject::overlaps(filter, other))
    }
}

fn flat(matches: &Matches<u32>) -> Vec<(Option<Vec<u8>>, u32)> {
    let mut found: Vec<_> = matches.plain.iter().map(|value| (None, *value)).collect();
    for (queue, members) in &matches.queues {
        found.extend(members.iter().map(|value| (Some(queue.to_vec()), *value)));
    }
    found.sort();
    found
}

fn random_subject(dice: &mut Dice, alphabet: &[&str]) -> Vec<u8> {
    let tokens: Vec<&str> = (0..1 + dice.below(4)).map(|_| *dice.pick(alphabet)).collect();
    tokens.join(".").into_bytes()
}

const FILTER_TOKENS: &[&str] = &["a", "b", "c", "*", ">"];
const SUBJECT_TOKENS: &[&str] = &["a", "b", "c", "d", "a", "b", "*", ">", ""];
const QUEUES: [Option<&[u8]>; 4] = [None, None, Some(b"q1"), Some(b"q2")];

#[test]
fn it_equals_its_dumb_twin_under_random_change() {
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        // A table of two answers is overwritten all the time, one of 1,024 never, and one of none is never used.
        let mut lists = [Sublist::with_recent(seed, 0), Sublist::with_recent(seed, 2), Sublist::new(!seed)];
        let mut dumb = Dumb::default();
        let mut found = [Matches::new(), Matches::new(), Matches::new()];
        for _ in 0..1_500 {
            let (filter, value) = (random_subject(&mut dice, FILTER_TOKENS), dice.below(4) as u32);
            let queue = *dice.pick(&QUEUES);
            let add = dice.below(100) < 52;
            let expected = if add { dumb.insert(&filter, queue, value) } else { dumb.remove(&filter, queue, value) };
            let subject = random_subject(&mut dice, SUBJECT_TOKENS);
            for (list, found) in lists.iter_mut().zip(&mut found) {
                let done = if add { list.insert(&filter, queue, value) } else { list.remove(&filter, queue, value) };
                assert_eq!(done, expected);
                assert_eq!(list.len(), dumb.subscriptions.len());
                list.matches(&subject, found);
                assert_eq!(flat(found), dumb.matches(&subject), "seed {seed}: {:?}", String::from_utf8_lossy(&subject));
                assert_eq!(list.has_interest(&subject), !found.is_empty());
                assert_eq!(list.reverse_overlap(&filter), subject::is_valid(&filter) && dumb.overlaps(&filter));
            }
            // Remembered or not, the order is the same too.
            assert_eq!(found[0].plain, found[1].plain);
            assert_eq!(found[0].plain, found[2].plain);
            assert_eq!(found[0].queues, found[2].queues);
        }
    }
}

#[test]
fn the_result_does_not_depend_on_the_order_of_arrival() {
    let mut dice = Dice::new(3);
    let mut filters: Vec<(Vec<u8>, u32)> =
        (0..200).map(|value| (random_subject(&mut dice, FILTER_TOKENS), value)).collect();
    let mut results = Vec::new();
    for seed in 0..3 {
        let mut list = Sublist::new(seed);
        for (filter, value) in &filters {
            list.insert(filter, (value % 3 == 0).then_some(b"q"), *value);
        }
        let mut found = Matches::new();
        list.matches(b"a.b.c", &mut found);
        results.push((found.plain.clone(), found.queues.clone()));
        filters.reverse();
        filters.rotate_left(17);
    }
    assert!(!results[0].0.is_empty());
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[test]
fn an_emptied_list_holds_nothing_back() {
    let mut dice = Dice::new(5);
    let mut list = Sublist::new(1);
    let mut kept = Vec::new();
    for value in 0..2_000u32 {
        let filter = random_subject(&mut dice, FILTER_TOKENS);
        let queue = *dice.pick(&QUEUES);
        if list.insert(&filter, queue, value) {
            kept.push((filter, queue, value));
        }
    }
    for (filter, queue, value) in kept {
        assert!(list.remove(&filter, queue, value));
    }
    assert!(list.is_empty());
    assert!(list.trie.is_bare());
    assert!(!list.reverse_overlap(b">"));
}

#[test]
fn groups_of_one_name_on_several_filters_are_one_group() {
    let mut list = Sublist::new(1);
    list.insert(b"a.b", Some(b"q"), 1);
    list.insert(b"a.*", Some(b"q"), 2);
    list.insert(b">", Some(b"r"), 3);
    let mut found = Matches::new();
    list.matches(b"a.b", &mut found);
    assert_eq!(found.queues.len(), 2);
    assert_eq!(found.count(), 3);
}

#[test]
fn an_unrelated_subscription_does_not_flush_what_is_remembered() {
    let mut list = Sublist::new(9);
    let mut found = Matches::new();
    list.insert(b"orders.*", None, 1);
    list.matches(b"orders.eu", &mut found);
    list.insert(b"_INBOX.x.*", None, 2);
    list.insert(b"orders.us", None, 3);
    list.matches(b"orders.eu", &mut found);
    assert_eq!(list.recent_hits(), (1, 2));
    list.insert(b"orders.>", None, 4);
    list.matches(b"orders.eu", &mut found);
    assert_eq!(list.recent_hits(), (1, 3));
    assert_eq!(found.plain, [4, 1]);
}

#[test]
fn invalid_filters_are_not_taken() {
    let mut list = Sublist::new(1);
    for filter in [&b""[..], b"a..b", b">.a", b"a b", b"."] {
        assert!(!list.insert(filter, None, 1));
    }
    assert!(list.is_empty());
}

#[test]
fn subjects_of_thousands_of_tokens_need_no_stack() {
    let deep = "*.".repeat(2_000) + ">";
    let mut list = Sublist::new(1);
    list.insert(deep.as_bytes(), None, 1);
    let literal = "x.".repeat(2_040) + "x";
    assert!(list.has_interest(literal.as_bytes()));
    assert!(list.reverse_overlap(literal.as_bytes()));
    assert!(list.remove(deep.as_bytes(), None, 1));
    assert!(list.trie.is_bare());
}
