//! What one user may publish and subscribe to.
//!
//! Deny wins over allow; no allow list allows all. A subscription must lie wholly inside an allowed filter, and a deny
//! rule forbids what lies wholly inside it; where a deny rule hits only a part of a wildcard subscription, the
//! subscription stands and single messages are held back. A rule `subject queue` is for that queue group only.
//!
//! One difference to the peer: `foo.*` does not allow a subscription to `foo.>`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use net::subject;

use crate::config::options::{Permissions, ResponseRule, SubjectRules};
use crate::ids::Now;

/// Reply subjects that a client may answer on at once; the oldest is forgotten beyond it (peer: 4096).
pub const REPLIES_MAX: usize = 4096;

/// The rules of one user, made ready for checking. Shared by the user's connections.
#[derive(Debug, PartialEq)]
pub struct Permit {
    publish: Rules,
    subscribe: Rules,
    responses: Option<ResponseRule>,
    /// As configured, for those who ask what they may do.
    pub source: Arc<Permissions>,
}

#[derive(Debug, PartialEq)]
struct Rules {
    allow: Option<Vec<Rule>>,
    deny: Vec<Rule>,
}

#[derive(Debug, PartialEq)]
struct Rule {
    filter: Vec<u8>,
    queue: Option<Vec<u8>>,
}

impl Permit {
    pub fn new(source: Arc<Permissions>) -> Permit {
        let mut publish = Rules::new(&source.publish);
        if source.responses.is_some() && publish.allow.is_none() {
            // Who may only answer may publish nothing else unless told (the peer's rule).
            publish.allow = Some(Vec::new());
        }
        Permit { publish, subscribe: Rules::new(&source.subscribe), responses: source.responses.clone(), source }
    }

    /// Whether a message may be published there. O(rules).
    pub fn may_publish(&self, subject: &[u8]) -> bool {
        let covers = |rule: &Rule| rule.queue.is_none() && subject::matches(&rule.filter, subject);
        self.publish.allow.as_ref().is_none_or(|allow| allow.iter().any(covers))
            && !self.publish.deny.iter().any(covers)
    }

    /// Whether a subscription may be made. O(rules).
    pub fn may_subscribe(&self, filter: &[u8], queue: Option<&[u8]>) -> bool {
        let covering = |rules: &'_ [Rule]| -> (bool, Option<bool>) {
            let mut plain = false;
            let mut grouped = None;
            for rule in rules.iter().filter(|rule| subject::is_subset(filter, &rule.filter)) {
                match (&rule.queue, queue) {
                    (None, _) => plain = true,
                    (Some(wanted), Some(queue)) => {
                        grouped = Some(grouped.unwrap_or(false) || subject::is_subset(queue, wanted));
                    }
                    (Some(_), None) => {}
                }
            }
            (plain, grouped)
        };
        if let Some(allow) = &self.subscribe.allow {
            // A rule that names queues decides over a plain one for the same subject.
            let (plain, grouped) = covering(allow);
            if !grouped.unwrap_or(plain) {
                return false;
            }
        }
        let (plain, grouped) = covering(&self.subscribe.deny);
        !plain && !grouped.unwrap_or(false)
    }

    /// Whether single messages of this filter must be checked by [`Permit::may_receive`].
    pub fn guards(&self, filter: &[u8], queue: Option<&[u8]>) -> bool {
        (queue.is_some() || !subject::is_literal(filter))
            && self.subscribe.deny.iter().any(|rule| subject::overlaps(&rule.filter, filter))
    }

    /// Whether a message may be handed to a guarded subscription. O(rules).
    pub fn may_receive(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        !self.subscribe.deny.iter().any(|rule| {
            subject::matches(&rule.filter, subject)
                && match (&rule.queue, queue) {
                    (None, _) => true,
                    (Some(denied), Some(queue)) => subject::is_subset(queue, denied),
                    (Some(_), None) => false,
                }
        })
    }

    pub fn responses(&self) -> Option<&ResponseRule> {
        self.responses.as_ref()
    }
}

impl Rules {
    fn new(rules: &SubjectRules) -> Rules {
        let all = |list: &Vec<String>| list.iter().map(|text| Rule::new(text)).collect();
        Rules { allow: rules.allow.as_ref().map(all), deny: all(&rules.deny) }
    }
}

impl Rule {
    /// `subject` or `subject queue`.
    fn new(text: &str) -> Rule {
        let mut words = text.split_ascii_whitespace();
        let filter = words.next().unwrap_or_default().as_bytes().to_vec();
        Rule { filter, queue: words.next().map(|queue| queue.as_bytes().to_vec()) }
    }
}

/// Reply subjects that a client was sent and may answer on, whatever its publish rules say.
#[derive(Debug, Default)]
pub struct Replies {
    open: BTreeMap<Box<[u8]>, Answered>,
    /// Oldest first; may name subjects that are no longer open, or opened again.
    order: VecDeque<(u64, Box<[u8]>)>,
}

#[derive(Debug)]
struct Answered {
    since_us: u64,
    count: u32,
}

impl Replies {
    /// The client was sent a message with this reply subject.
    pub fn open(&mut self, now: Now, reply: &[u8]) {
        while self.order.len() >= REPLIES_MAX
            && let Some((since_us, oldest)) = self.order.pop_front()
        {
            if self.open.get(&oldest).is_some_and(|answered| answered.since_us == since_us) {
                self.open.remove(&oldest);
            }
        }
        self.open.insert(reply.into(), Answered { since_us: now.us, count: 0 });
        self.order.push_back((now.us, reply.into()));
    }

    /// Counts one answer; false when the subject is not open, or no longer.
    pub fn answer(&mut self, now: Now, subject: &[u8], rule: &ResponseRule) -> bool {
        let Some(answered) = self.open.get_mut(subject) else { return false };
        let age_us = now.us.saturating_sub(answered.since_us);
        answered.count += 1;
        let late = rule.expires.is_some_and(|expires| u128::from(age_us) > expires.as_micros());
        let often = rule.messages_max.is_some_and(|max| answered.count > max);
        if late || often {
            self.open.remove(subject);
        }
        !late && !often
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn rules(allow: Option<&[&str]>, deny: &[&str]) -> SubjectRules {
        let all = |list: &[&str]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        SubjectRules { allow: allow.map(all), deny: all(deny) }
    }

    fn permit(publish: SubjectRules, subscribe: SubjectRules, responses: Option<ResponseRule>) -> Permit {
        Permit::new(Arc::new(Permissions { publish, subscribe, responses }))
    }

    #[test]
    fn deny_wins_and_no_list_allows_all() {
        let open = permit(rules(None, &["a.b"]), rules(None, &[]), None);
        assert!(open.may_publish(b"x") && open.may_publish(b"a.c") && !open.may_publish(b"a.b"));
        let closed = permit(rules(Some(&["a.>"]), &["a.b.*"]), rules(None, &[]), None);
        assert!(closed.may_publish(b"a.b") && !closed.may_publish(b"a.b.c") && !closed.may_publish(b"x"));
        let nothing = permit(rules(Some(&[]), &[]), rules(Some(&[]), &[]), None);
        assert!(!nothing.may_publish(b"x") && !nothing.may_subscribe(b"x", None));
    }

    #[test]
    fn a_subscription_must_lie_inside_an_allowed_filter() {
        let permit = permit(rules(None, &[]), rules(Some(&["a.*", "b.>"]), &["b.no.>"]), None);
        for (filter, expected) in [
            ("a.x", true),
            ("a.*", true),
            ("a.>", false),
            ("b.>", true),
            ("b.no.x", false),
            ("b.no.*", false),
            (">", false),
        ] {
            assert_eq!(permit.may_subscribe(filter.as_bytes(), None), expected, "{filter}");
        }
        assert!(permit.guards(b"b.>", None) && !permit.guards(b"a.*", None) && !permit.guards(b"b.no.x", None));
        assert!(permit.may_receive(b"b.yes", None) && !permit.may_receive(b"b.no.x", None));
    }

    #[test]
    fn rules_with_a_queue_are_for_that_queue() {
        let only = permit(rules(None, &[]), rules(Some(&["a v1.*", "b", "b v2"]), &["c q"]), None);
        assert!(only.may_subscribe(b"a", Some(b"v1.x")) && !only.may_subscribe(b"a", None));
        assert!(!only.may_subscribe(b"a", Some(b"v2")));
        assert!(only.may_subscribe(b"b", None) && only.may_subscribe(b"b", Some(b"v2")));
        assert!(!only.may_subscribe(b"b", Some(b"v3")));
        let denied = permit(rules(None, &[]), rules(None, &["c q"]), None);
        assert!(denied.may_subscribe(b"c", None) && denied.may_subscribe(b"c", Some(b"r")));
        assert!(!denied.may_subscribe(b"c", Some(b"q")));
        assert!(denied.guards(b"*", Some(b"q")) && !denied.may_receive(b"c", Some(b"q")));
        assert!(denied.may_receive(b"c", None));
    }

    #[test]
    fn answers_are_counted_and_expire() {
        let now = |us| Now { us, wall_ns: 0 };
        let rule = ResponseRule { messages_max: Some(2), expires: Some(Duration::from_micros(100)) };
        let answering = permit(rules(None, &[]), rules(None, &[]), Some(rule.clone()));
        assert!(!answering.may_publish(b"r"));
        let mut replies = Replies::default();
        assert!(!replies.answer(now(0), b"r", &rule));
        replies.open(now(0), b"r");
        assert!(replies.answer(now(50), b"r", &rule) && replies.answer(now(100), b"r", &rule));
        assert!(!replies.answer(now(100), b"r", &rule));
        replies.open(now(200), b"r");
        assert!(!replies.answer(now(301), b"r", &rule));
        let unlimited = ResponseRule { messages_max: None, expires: None };
        replies.open(now(0), b"s");
        assert!((0..100).all(|_| replies.answer(now(u64::MAX), b"s", &unlimited)));
    }

    #[test]
    fn open_replies_are_bounded_and_the_oldest_goes_first() {
        let now = |us| Now { us, wall_ns: 0 };
        let rule = ResponseRule { messages_max: None, expires: None };
        let mut replies = Replies::default();
        for n in 0..=REPLIES_MAX as u64 {
            replies.open(now(n), format!("r.{n}").as_bytes());
        }
        assert!(!replies.answer(now(0), b"r.0", &rule));
        assert!(replies.answer(now(0), b"r.1", &rule));
        assert_eq!(replies.open.len(), REPLIES_MAX);
    }
}
