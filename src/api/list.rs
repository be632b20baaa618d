//! Listings of streams and consumers: names from the table, and full lists that are gathered from the leaders. Follows
//! `jetstream_api.go` (`jsStreamNamesRequest`, `jsStreamListRequest` and their consumer twins).
//!
//! What has no leader, or did not answer in time, is named in `missing`.

use bytes::Bytes;
use net::subject;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::account;
use super::call::{Call, PREFIX};
use super::choose::is_led;
use super::errors::{self, ApiError};
use super::facts::Facts;
use super::render;
use super::request;
use super::verdict::{Gather, GatherKind, MetaVerdict};
use crate::cluster::table::StreamSlot;
use crate::ids::GroupId;
use crate::limits::{API_LIST_PAGE, API_NAMES_PAGE};
use crate::stream::config::{META_LEVEL, META_VERSION};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamsPage {
    offset: i64,
    /// Only streams that store (some of) this subject.
    subject: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConsumersPage {
    offset: i64,
}

/// One page of names.
#[derive(Debug, Serialize)]
struct Names<'a> {
    total: usize,
    offset: usize,
    limit: usize,
    /// `null` where there is none, as the peer has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    streams: Option<Option<Vec<&'a str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumers: Option<Vec<&'a str>>,
}

/// One page of what leaders answered.
#[derive(Debug, Serialize)]
struct Infos {
    total: usize,
    offset: usize,
    limit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    streams: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumers: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// `STREAM.NAMES`.
pub(super) fn stream_names(facts: &Facts, body: &[u8]) -> Result<MetaVerdict, ApiError> {
    let asked: StreamsPage = request::read(body, facts.strict())?;
    let all: Vec<&str> = streams(facts, &asked.subject).map(|(name, _)| name).collect();
    let offset = offset_in(asked.offset, all.len());
    let page: Vec<&str> = all.iter().skip(offset).take(API_NAMES_PAGE).copied().collect();
    let streams = Some(Some(page).filter(|page| !page.is_empty()));
    let names = Names { total: all.len(), offset, limit: API_NAMES_PAGE, streams, consumers: None };
    Ok(MetaVerdict::Answer(render::typed(Call::StreamNames, &names)))
}

/// `CONSUMER.NAMES`.
pub(super) fn consumer_names(facts: &Facts, call: Call, stream: &str, body: &[u8]) -> Result<MetaVerdict, ApiError> {
    let asked: ConsumersPage = request::read(body, facts.strict())?;
    let slot = facts.table.stream(&facts.account.name, stream).ok_or(errors::STREAM_NOT_FOUND)?;
    let total = slot.consumers.len();
    let offset = offset_in(asked.offset, total);
    let page = slot.consumers.keys().skip(offset).take(API_NAMES_PAGE).map(String::as_str).collect();
    let names = Names { total, offset, limit: API_NAMES_PAGE, streams: None, consumers: Some(page) };
    Ok(MetaVerdict::Answer(render::typed(call, &names)))
}

/// `STREAM.LIST`.
pub(super) fn streams_in_full(facts: &Facts, body: &[u8]) -> Result<MetaVerdict, ApiError> {
    let asked: StreamsPage = request::read(body, facts.strict())?;
    let total = streams(facts, &asked.subject).count();
    let offset = offset_in(asked.offset, total);
    let page = streams(facts, &asked.subject).skip(offset).take(API_LIST_PAGE);
    let page = page.map(|(name, slot)| (name, slot.group(), format!("{PREFIX}STREAM.INFO.{name}")));
    let Asking { parts, names, missing } = ask(facts, page);
    Ok(MetaVerdict::Gather(Gather { parts, kind: GatherKind::StreamList { names, missing, offset, total } }))
}

/// `CONSUMER.LIST`.
pub(super) fn consumers_in_full(facts: &Facts, stream: &str, body: &[u8]) -> Result<MetaVerdict, ApiError> {
    let asked: ConsumersPage = request::read(body, facts.strict())?;
    let slot = facts.table.stream(&facts.account.name, stream).ok_or(errors::STREAM_NOT_FOUND)?;
    let total = slot.consumers.len();
    let offset = offset_in(asked.offset, total);
    let page = slot.consumers.iter().skip(offset).take(API_LIST_PAGE);
    let page = page.map(|(name, one)| (name.as_str(), one.group(), format!("{PREFIX}CONSUMER.INFO.{stream}.{name}")));
    let Asking { parts, names, missing } = ask(facts, page);
    Ok(MetaVerdict::Gather(Gather { parts, kind: GatherKind::ConsumerList { names, missing, offset, total } }))
}

struct Asking {
    parts: Vec<(GroupId, Bytes, Bytes)>,
    names: Vec<String>,
    missing: Vec<String>,
}

/// Splits a page into what can be asked and what has no leader.
fn ask<'a>(facts: &Facts, page: impl Iterator<Item = (&'a str, GroupId, String)>) -> Asking {
    let mut asking = Asking { parts: Vec::new(), names: Vec::new(), missing: Vec::new() };
    for (name, group, subject) in page {
        if is_led(facts, group) {
            asking.parts.push((group, subject.into(), Bytes::new()));
            asking.names.push(name.to_owned());
        } else {
            asking.missing.push(name.to_owned());
        }
    }
    asking
}

fn streams<'a>(facts: &Facts<'a>, filter: &'a str) -> impl Iterator<Item = (&'a str, &'a StreamSlot)> {
    let stores = move |slot: &StreamSlot| {
        let mut subjects = slot.config.subjects.iter();
        filter.is_empty() || subjects.any(|one| subject::overlaps(one.as_bytes(), filter.as_bytes()))
    };
    facts.table.streams_of(&facts.account.name).filter(move |(_, slot)| stores(slot))
}

fn offset_in(offset: i64, total: usize) -> usize {
    usize::try_from(offset).unwrap_or(0).min(total)
}

/// The answer of a gather, from parts in the order in which they were asked; `None` for one that did not come.
pub fn finish(facts: &Facts, kind: &GatherKind, parts: &[Option<Bytes>]) -> Bytes {
    let parsed = || parts.iter().map(|part| part.as_ref().and_then(answered));
    match kind {
        GatherKind::AccountInfo { streams, consumers, reserved_memory, reserved_storage } => {
            let infos: Vec<Value> = parsed().flatten().collect();
            account::finish(facts, &infos, (*streams, *consumers), (*reserved_memory, *reserved_storage))
        }
        GatherKind::StreamList { names, missing, offset, total } => {
            let (page, missing) = sort_out(facts, names, missing, parsed());
            let (total, offset, limit) = (*total, *offset, API_LIST_PAGE);
            let infos = Infos { total, offset, limit, streams: Some(page), consumers: None, missing };
            render::typed(Call::StreamList, &infos)
        }
        GatherKind::ConsumerList { names, missing, offset, total } => {
            let (page, missing) = sort_out(facts, names, missing, parsed());
            let (total, offset, limit) = (*total, *offset, API_LIST_PAGE);
            let infos = Infos { total, offset, limit, streams: None, consumers: Some(page), missing };
            render::typed(Call::ConsumerList { stream: "" }, &infos)
        }
    }
}

/// A part that is no refusal.
fn answered(part: &Bytes) -> Option<Value> {
    let value: Value = serde_json::from_slice(part).ok()?;
    (value.is_object() && value.get("error").is_none()).then_some(value)
}

fn sort_out(
    facts: &Facts,
    names: &[String],
    missing: &[String],
    parts: impl Iterator<Item = Option<Value>>,
) -> (Vec<Value>, Vec<String>) {
    let mut missing = missing.to_vec();
    let mut page = Vec::new();
    for (name, part) in names.iter().zip(parts) {
        match part {
            Some(info) => page.push(element(facts, info)),
            None => missing.push(name.clone()),
        }
    }
    missing.sort_unstable();
    (page, missing)
}

/// An INFO answer as an element of a list: without what belongs to the answer alone.
fn element(facts: &Facts, mut info: Value) -> Value {
    if let Value::Object(fields) = &mut info {
        for key in ["type", "total", "offset", "limit", "domain"] {
            fields.remove(key);
        }
        if facts.cluster.is_none() {
            fields.remove("cluster");
        }
    }
    if let Some(Value::Object(metadata)) = info.pointer_mut("/config/metadata") {
        metadata.remove(META_VERSION);
        metadata.remove(META_LEVEL);
    }
    info
}
