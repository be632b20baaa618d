//! What nobody here listens to any more since the last look: hints for whoever waits to answer an inbox.
//!
//! A filter that went may still be covered by another one, and one that came back is no loss: whoever takes the hints asks
//! [`super::Front::has_interest`] before it believes them. A server that went is given time to come back first.

use bytes::Bytes;

use crate::ids::{AccountId, Now};

/// Filters that are told one by one; beyond them everything may be lost. So many go in a tenth of a second of a busy core,
/// and each is compared with each waiting inbox.
const FILTERS_MAX: usize = 256;

/// How often hints are looked at, microseconds.
const LOOK_US: u64 = 100_000;

/// So long a server may be away before its clients' inboxes count as lost, microseconds: a link that breaks is dialled
/// again at once.
const SERVER_AWAY_US: u64 = 3_000_000;

#[derive(Debug, Default)]
pub struct Lost {
    filters: Vec<(AccountId, Bytes)>,
    everything: bool,
    server_due_us: Option<u64>,
    looked_us: u64,
}

/// The hints of one look.
#[derive(Debug)]
pub struct Hints {
    filters: Vec<(AccountId, Bytes)>,
    everything: bool,
}

impl Lost {
    pub fn filter(&mut self, account: AccountId, subject: &Bytes) {
        if self.filters.len() < FILTERS_MAX {
            self.filters.push((account, subject.clone()));
        } else {
            self.everything = true;
        }
    }

    pub fn server(&mut self, now: Now) {
        self.server_due_us = Some(now.us.saturating_add(SERVER_AWAY_US));
    }

    /// When there is something to look at.
    pub fn next_look(&self) -> Option<u64> {
        let filters = (!self.filters.is_empty()).then(|| self.looked_us.saturating_add(LOOK_US));
        [filters, self.server_due_us].into_iter().flatten().min()
    }

    /// What is to be looked at now.
    pub fn look(&mut self, now: Now) -> Option<Hints> {
        if self.next_look().is_none_or(|at| at > now.us) {
            return None;
        }
        self.looked_us = now.us;
        let server = self.server_due_us.take_if(|due| *due <= now.us).is_some();
        let everything = std::mem::take(&mut self.everything) || server;
        Some(Hints { filters: std::mem::take(&mut self.filters), everything })
    }
}

impl Hints {
    /// Whether an inbox may have lost its listener.
    pub fn cover(&self, account: AccountId, inbox: &[u8]) -> bool {
        let covers = |(of, filter): &(AccountId, Bytes)| *of == account && net::subject::matches(filter, inbox);
        self.everything || self.filters.iter().any(covers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Now {
        Now { us, wall_ns: 0 }
    }

    #[test]
    fn hints_are_of_one_account_and_looked_at_in_turn() {
        let mut lost = Lost::default();
        assert_eq!(lost.next_look(), None);
        lost.filter(AccountId(1), &Bytes::from_static(b"_INBOX.a.*"));
        let hints = lost.look(at(LOOK_US)).expect("one filter went");
        assert!(hints.cover(AccountId(1), b"_INBOX.a.1"));
        assert!(!hints.cover(AccountId(2), b"_INBOX.a.1") && !hints.cover(AccountId(1), b"_INBOX.b.1"));
        lost.filter(AccountId(1), &Bytes::from_static(b"_INBOX.b"));
        assert!(lost.look(at(LOOK_US + 1)).is_none(), "too soon");
        assert_eq!(lost.next_look(), Some(2 * LOOK_US));
        assert!(lost.look(at(2 * LOOK_US)).is_some_and(|hints| hints.cover(AccountId(1), b"_INBOX.b")));
        assert_eq!(lost.next_look(), None);
    }

    #[test]
    fn beyond_the_bound_and_after_a_server_everything_may_be_lost() {
        let mut lost = Lost::default();
        for _ in 0..=FILTERS_MAX {
            lost.filter(AccountId(1), &Bytes::from_static(b"x"));
        }
        assert!(lost.look(at(LOOK_US)).is_some_and(|hints| hints.cover(AccountId(9), b"y")));
        lost.server(at(LOOK_US));
        assert!(lost.look(at(LOOK_US + SERVER_AWAY_US - 1)).is_none());
        assert!(lost.look(at(LOOK_US + SERVER_AWAY_US)).is_some_and(|hints| hints.cover(AccountId(9), b"y")));
    }
}
