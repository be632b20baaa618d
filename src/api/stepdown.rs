//! Who leads next when an operator asks the leader to step down. Follows `getStepDownPreferredPlacement` of
//! `jetstream_api.go`: a named server, or any other one that is up and has the cluster and tags, or whoever is best.

use serde::Deserialize;

use super::errors::{ApiError, CLUSTER_NO_PEERS};
use super::facts::Facts;
use super::request;
use crate::ids::ServerId;
use crate::stream::config::Placement;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stepdown {
    placement: Option<Placement>,
}

/// Reads the request of the leader `me` of a group with these members. `None`: the group chooses.
pub(super) fn successor(facts: &Facts, members: &[ServerId], body: &[u8]) -> Result<Option<ServerId>, ApiError> {
    let asked: Stepdown = request::read(body, facts.strict())?;
    let Some(placement) = asked.placement else { return Ok(None) };
    let me = facts.view.me.server;
    let refuse = |text: String| Err(CLUSTER_NO_PEERS.with("err", text));
    if !placement.preferred.is_empty() {
        let name = &placement.preferred;
        return match members.iter().find(|server| facts.name_of(**server) == *name) {
            Some(server) if *server == me => refuse(format!("preferred server {name:?} is already leader")),
            Some(server) => Ok(Some(*server)),
            None => refuse(format!("preferred server {name:?} not known")),
        };
    }
    let fits = |server: &ServerId| *server != me && facts.view.online(*server) && fits(facts, *server, &placement);
    match members.iter().find(|server| fits(server)) {
        // Nothing was asked for, so the group may choose the one that is furthest.
        Some(_) if placement.cluster.is_empty() && placement.tags.is_empty() => Ok(None),
        Some(server) => Ok(Some(*server)),
        None => refuse("no replacement peer connected".to_owned()),
    }
}

fn fits(facts: &Facts, server: ServerId, placement: &Placement) -> bool {
    let Some(known) = facts.facts_of(server) else { return false };
    let has = |tag: &String| known.tags.iter().any(|other| other.eq_ignore_ascii_case(tag));
    (placement.cluster.is_empty() || known.cluster == placement.cluster) && placement.tags.iter().all(has)
}
