//! Where an API request goes from the core where it entered: to the leader that answers it, or straight back.
//!
//! Leaders that were announced win over the table: an answer to a create travels behind the new leader's announcement,
//! so whoever has the answer finds the stream, even while its own copy of the table is a moment behind.

use bytes::Bytes;

use super::call::{self, Call, Target};
use super::errors::{self, ApiError};
use super::render;
use super::request;
use crate::account::Accounts;
use crate::cluster::table::{StreamSlot, Table};
use crate::cluster::view::View;
use crate::cluster::wire::RequestKind;
use crate::config::Config;
use crate::ids::{AccountId, GroupId, ServerId};

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    To {
        group: GroupId,
        kind: RequestKind,
        server: ServerId,
    },
    /// An error, without asking anybody.
    Refuse(Bytes),
    /// Nobody listens on this subject.
    NoResponders,
    /// Not a subject of the API, or not for this domain.
    Silent,
}

/// Decides. `table` is this core's copy, `None` on a server without JetStream.
pub fn enter(
    config: &Config,
    accounts: &Accounts,
    table: Option<&Table>,
    view: &View,
    account: AccountId,
    subject: &[u8],
    body: &[u8],
) -> Entry {
    let domain = config.jetstream.as_ref().and_then(|js| js.domain.as_deref());
    let Some(rest) = std::str::from_utf8(subject).ok().and_then(|s| call::strip_prefix(s, domain)) else {
        return Entry::Silent;
    };
    let is_system = accounts.is_system(account);
    let call = match Call::parse(rest) {
        Some(call) => call,
        None if is_system => Call::Unsupported { what: "" },
        None => return Entry::Silent,
    };
    let enabled = accounts.get(account).is_some_and(|account| account.jetstream.is_some());
    let for_operators = call.is_for_operators();
    if for_operators != is_system {
        // Only the system account has these subjects, and it has no others.
        let nobodys = if call == Call::AccountInfo { call } else { Call::Unsupported { what: "" } };
        return if for_operators { Entry::Silent } else { refuse(nobodys, &errors::NOT_ENABLED_FOR_ACCOUNT) };
    }
    if !enabled && !is_system {
        return refuse(call, &errors::NOT_ENABLED_FOR_ACCOUNT);
    }
    if config.cluster.is_none() && matches!(call, Call::StreamStepdown { .. } | Call::ConsumerStepdown { .. }) {
        return refuse(call, &errors::CLUSTER_REQUIRED);
    }
    let name = accounts.name(account);
    if config.cluster.is_none()
        && let Call::StreamInfo { stream }
        | Call::StreamPurge { stream }
        | Call::MessageGet { stream }
        | Call::MessageDelete { stream } = call
        && find_stream(table, view, account, name, stream).is_none()
    {
        // A server that stands alone reads a request before it looks for the stream, one of a cluster afterwards.
        let strict = config.jetstream.as_ref().is_none_or(|js| js.strict);
        return refuse(call, &super::stream::misread(call, body, strict).unwrap_or(errors::STREAM_NOT_FOUND));
    }
    if matches!(call, Call::ConsumerInfo { .. }) && !request::is_empty(body) {
        return refuse(call, &errors::NOT_EMPTY_REQUEST);
    }
    match call.target() {
        Target::Here => match call {
            Call::Unsupported { what } => refuse(call, &ApiError::not_supported(what)),
            _ => Entry::Silent,
        },
        Target::Meta => to_leader(view, GroupId::META, RequestKind::Api, call),
        Target::Stream { stream } => match find_stream(table, view, account, name, stream) {
            Some(group) => to_leader(view, group, RequestKind::Api, call),
            None => not_found(view, call, &errors::STREAM_NOT_FOUND),
        },
        Target::StreamOrReplica { stream } => to_stream_or_replica(table, view, account, name, stream, call),
        Target::Consumer { stream, consumer } => to_consumer(table, view, (account, name), stream, consumer, call),
    }
}

fn refuse(call: Call, error: &ApiError) -> Entry {
    match call {
        // Their subjects are a stream's and a consumer's own: where there is none, nobody listens.
        Call::DirectGet { .. } | Call::ConsumerNext { .. } => Entry::NoResponders,
        _ => Entry::Refuse(render::error(call, error)),
    }
}

/// Without a meta leader nobody can say that something does not exist.
fn not_found(view: &View, call: Call, error: &ApiError) -> Entry {
    match view.leads.leader(GroupId::META) {
        Some(_) => refuse(call, error),
        None => refuse(call, &errors::CLUSTER_NOT_AVAIL),
    }
}

fn to_leader(view: &View, group: GroupId, kind: RequestKind, call: Call) -> Entry {
    match view.leads.leader(group) {
        Some(server) => Entry::To { group, kind, server },
        None => refuse(call, &errors::CLUSTER_NOT_AVAIL),
    }
}

fn find_stream(table: Option<&Table>, view: &View, account: AccountId, name: &str, stream: &str) -> Option<GroupId> {
    let led = view.leads.stream(account, stream).map(|lead| lead.group);
    led.or_else(|| Some(table?.stream(name, stream)?.group()))
}

/// Reads that any replica can serve go to the leader if there is one, else to this server's replica, else to any.
fn to_stream_or_replica(
    table: Option<&Table>,
    view: &View,
    account: AccountId,
    name: &str,
    stream: &str,
    call: Call,
) -> Entry {
    let Some(group) = find_stream(table, view, account, name, stream) else {
        return not_found(view, call, &errors::STREAM_NOT_FOUND);
    };
    if let Some(server) = view.leads.leader(group) {
        return Entry::To { group, kind: RequestKind::Api, server };
    }
    let replica = table.and_then(|table| a_replica(table, view, table.stream(name, stream)?));
    match replica {
        Some(server) => Entry::To { group, kind: RequestKind::Read, server },
        None => refuse(call, &errors::CLUSTER_NOT_AVAIL),
    }
}

/// Any server that holds the stream and was not put out of the cluster.
fn a_replica(table: &Table, view: &View, slot: &StreamSlot) -> Option<ServerId> {
    if slot.has_peer(view.me.server) {
        return Some(view.me.server);
    }
    let serves = |server: &ServerId| view.online(*server) && table.servers.contains_key(&server.0);
    slot.peers.iter().map(|peer| ServerId(*peer)).find(serves)
}

fn to_consumer(
    table: Option<&Table>,
    view: &View,
    (account, name): (AccountId, &str),
    stream: &str,
    consumer: &str,
    call: Call,
) -> Entry {
    if let Some(lead) = view.leads.consumer(account, stream, consumer) {
        return Entry::To { group: lead.group, kind: RequestKind::Api, server: lead.server };
    }
    let known = table.is_some_and(|table| table.consumer(name, stream, consumer).is_some());
    if known {
        // A pull finds no responders; everything else is told that the cluster is not available.
        return if let Call::ConsumerNext { .. } = call {
            Entry::NoResponders
        } else {
            refuse(call, &errors::CLUSTER_NOT_AVAIL)
        };
    }
    match (find_stream(table, view, account, name, stream), call) {
        (_, Call::ConsumerNext { .. }) => Entry::NoResponders,
        (Some(_), _) => not_found(view, call, &errors::CONSUMER_NOT_FOUND),
        (None, _) => not_found(view, call, &errors::STREAM_NOT_FOUND),
    }
}
