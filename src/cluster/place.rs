//! Placement: which servers a stream's replicas stand on.
//!
//! All tags of the request must be on the server (`!tag` must not be); with the server-side `unique_tag` no two
//! replicas share a tag of that prefix, unless the request itself names one. Servers that are up are preferred; one
//! that is away may be chosen if a majority of the replicas is up (peer behaviour of 2.15). A refusal names the reason
//! per server (error 10005).

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::table::ServerFacts;
use crate::ids::ServerId;

/// One server as placement sees it.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    pub server: ServerId,
    pub facts: &'a ServerFacts,
    pub online: bool,
    /// Replicas it already holds: the emptier server is preferred.
    pub replicas: usize,
    /// Bytes it has left for a stream of this kind.
    pub free: u64,
}

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    pub replicas: usize,
    pub cluster: &'a str,
    pub tags: &'a [String],
    /// The server-side prefix, empty when unset.
    pub unique_tag: &'a str,
    /// Servers that hold it now: kept when they still fit.
    pub keep: &'a [ServerId],
    /// Servers that must not be chosen (being removed).
    pub exclude: &'a [ServerId],
}

/// Chooses the servers, kept ones first, then those with room, then the emptiest; ties go to the smaller `spread` value, which the caller
/// derives from the stream's name so that equal servers are used evenly. O(n log n) in the servers.
///
/// # Errors
/// The text of error 10005, naming what stood in the way.
pub fn place(wanted: &Wanted, candidates: &[Candidate], spread: u64) -> Result<Vec<ServerId>, String> {
    let mut why = Refusals::default();
    let mut fit: Vec<&Candidate> = candidates.iter().filter(|c| why.admits(wanted, c)).collect();
    let roomiest = fit.iter().map(|c| c.free).max().unwrap_or(0);
    fit.sort_by_key(|c| {
        let kept = wanted.keep.iter().position(|k| *k == c.server).unwrap_or(usize::MAX);
        // Free bytes differ a little everywhere; only a server with much less than another is passed over for it.
        let scarce = c.free < roomiest / 2;
        (!c.online, kept, scarce, c.replicas, mix(c.server.0 ^ spread))
    });
    let unique = !wanted.unique_tag.is_empty() && !wanted.tags.iter().any(|t| t.starts_with(wanted.unique_tag));
    let mut chosen: Vec<&Candidate> = Vec::new();
    let mut taken = BTreeSet::new();
    for c in fit {
        if chosen.len() == wanted.replicas {
            break;
        }
        if unique {
            match c.facts.tags.iter().find(|t| t.starts_with(wanted.unique_tag)) {
                Some(tag) if taken.insert(tag.as_str()) => {}
                _ => {
                    why.unique += 1;
                    continue;
                }
            }
        }
        chosen.push(c);
    }
    let online = chosen.iter().filter(|c| c.online).count();
    if chosen.len() < wanted.replicas || online < wanted.replicas / 2 + 1 {
        why.offline += chosen.len() - online;
        return Err(why.text());
    }
    Ok(chosen.iter().map(|c| c.server).collect())
}

/// Why servers were passed over, in the words of the peer's error 10005.
#[derive(Default)]
struct Refusals {
    tags: BTreeSet<String>,
    excluded: BTreeSet<String>,
    unique: usize,
    offline: usize,
}

impl Refusals {
    fn admits(&mut self, wanted: &Wanted, c: &Candidate) -> bool {
        if wanted.exclude.contains(&c.server) {
            return false;
        }
        if !wanted.cluster.is_empty() && c.facts.cluster != wanted.cluster {
            return false;
        }
        let has = |tag: &str| c.facts.tags.iter().any(|t| t.eq_ignore_ascii_case(tag));
        let mut fits = true;
        for tag in wanted.tags {
            match tag.strip_prefix('!') {
                Some(not) if has(not) => {
                    self.excluded.insert(not.to_owned());
                    fits = false;
                }
                None if !has(tag) => {
                    self.tags.insert(tag.clone());
                    fits = false;
                }
                _ => {}
            }
        }
        fits
    }

    fn text(&self) -> String {
        let quoted = |set: &BTreeSet<String>| {
            let all: Vec<String> = set.iter().map(|t| format!("'{t}'")).collect();
            format!("[{}]", all.join(", "))
        };
        let mut parts = vec!["no suitable peers for placement".to_owned()];
        if self.offline > 0 {
            parts.push("peer offline".into());
        }
        if !self.tags.is_empty() {
            parts.push(format!("tags not matched {}", quoted(&self.tags)));
        }
        if !self.excluded.is_empty() {
            parts.push(format!("tags excluded {}", quoted(&self.excluded)));
        }
        if self.unique > 0 {
            parts.push("server tag not unique".into());
        }
        parts.join(", ")
    }
}

/// Spreads numbers that differ little (splitmix64's finalizer).
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Replicas per server over all streams, to prefer the emptier ones.
pub fn load<'a>(peers: impl Iterator<Item = &'a [u64]>) -> BTreeMap<u64, usize> {
    let mut load = BTreeMap::new();
    for peer in peers.flatten() {
        *load.entry(*peer).or_insert(0) += 1;
    }
    load
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(tags: &[&str]) -> ServerFacts {
        ServerFacts {
            name: tags.join("+"),
            cluster: "C".into(),
            domain: String::new(),
            tags: tags.iter().map(|t| t.to_string()).collect(),
            file_bytes_max: 0,
            memory_bytes_max: 0,
        }
    }

    fn six() -> Vec<ServerFacts> {
        ["1", "2", "3", "1", "2", "3"]
            .iter()
            .enumerate()
            .map(|(i, n)| facts(&[&format!("dc:{}", i / 3), &format!("unique:{i}"), &format!("zone:{n}")]))
            .collect()
    }

    fn all(facts: &[ServerFacts]) -> Vec<Candidate<'_>> {
        facts
            .iter()
            .enumerate()
            .map(|(i, f)| Candidate { server: ServerId(i as u64), facts: f, online: true, replicas: 0, free: u64::MAX })
            .collect()
    }

    fn tags(tags: &[&str]) -> Vec<String> {
        tags.iter().map(|t| t.to_string()).collect()
    }

    fn sorted(mut servers: Vec<ServerId>) -> Vec<u64> {
        servers.sort();
        servers.iter().map(|s| s.0).collect()
    }

    #[test]
    fn all_tags_must_match() {
        let f = six();
        let t = tags(&["dc:1"]);
        let wanted = Wanted { replicas: 3, tags: &t, ..Wanted::default() };
        assert_eq!(sorted(place(&wanted, &all(&f), 7).unwrap()), [3, 4, 5]);
        let t = tags(&["dc:1", "zone:2"]);
        let wanted = Wanted { replicas: 1, tags: &t, ..Wanted::default() };
        assert_eq!(sorted(place(&wanted, &all(&f), 7).unwrap()), [4]);
    }

    #[test]
    fn an_excluded_tag_keeps_servers_out() {
        let f = six();
        let t = tags(&["!dc:0"]);
        let wanted = Wanted { replicas: 3, tags: &t, ..Wanted::default() };
        assert_eq!(sorted(place(&wanted, &all(&f), 7).unwrap()), [3, 4, 5]);
    }

    #[test]
    fn refusal_names_the_tags() {
        let f = six();
        let t = tags(&["rg:9"]);
        let wanted = Wanted { replicas: 3, tags: &t, ..Wanted::default() };
        let why = place(&wanted, &all(&f), 7).unwrap_err();
        assert_eq!(why, "no suitable peers for placement, tags not matched ['rg:9']");
    }

    #[test]
    fn a_unique_tag_spreads_and_refuses_when_it_cannot() {
        let f = six();
        let wanted = Wanted { replicas: 3, unique_tag: "zone:", ..Wanted::default() };
        for spread in 0..50 {
            let zones: BTreeSet<_> = place(&wanted, &all(&f), spread).unwrap().iter().map(|s| s.0 % 3).collect();
            assert_eq!(zones.len(), 3);
        }
        let wanted = Wanted { replicas: 5, unique_tag: "zone:", ..Wanted::default() };
        assert!(place(&wanted, &all(&f), 7).unwrap_err().contains("server tag not unique"));
    }

    #[test]
    fn the_streams_own_tag_switches_the_unique_tag_off() {
        let f = six();
        let t = tags(&["zone:1"]);
        let wanted = Wanted { replicas: 1, tags: &t, unique_tag: "zone:", ..Wanted::default() };
        assert_eq!(place(&wanted, &all(&f), 7).unwrap().len(), 1);
    }

    #[test]
    fn one_of_three_may_be_away_but_not_two() {
        let f = six();
        let t = tags(&["dc:0"]);
        let wanted = Wanted { replicas: 3, tags: &t, ..Wanted::default() };
        let mut c = all(&f);
        c[1].online = false;
        assert_eq!(sorted(place(&wanted, &c, 7).unwrap()), [0, 1, 2]);
        c[2].online = false;
        assert!(place(&wanted, &c, 7).unwrap_err().contains("peer offline"));
    }

    #[test]
    fn holders_are_kept() {
        let f = six();
        let keep = [ServerId(5), ServerId(2)];
        let wanted = Wanted { replicas: 3, keep: &keep, ..Wanted::default() };
        for spread in 0..20 {
            let chosen = place(&wanted, &all(&f), spread).unwrap();
            assert_eq!(&chosen[..2], &keep);
        }
    }
}
