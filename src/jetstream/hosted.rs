//! A machine with what this core keeps beside it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::JetStream;
use super::fetch::Parcel;
use crate::api::call::Call;
use crate::cluster::table::StreamKey;
use crate::cluster::wire::{Asset, Lead};
use crate::consumer::Consumer;
use crate::group::Groups;
use crate::ids::{GroupId, ServerId};
use crate::stream::{Stream, StreamConfig};

/// A replica of a stream on this core.
pub struct HostedStream {
    pub key: StreamKey,
    pub stream: Stream,
    pub leading: bool,
    pub term: u64,
    /// Its state was read back from the log; only then anything may be asked of it.
    pub restored: bool,
    /// The creation's answer has been given (or nobody asked).
    pub created: bool,
    /// The configuration that this leader has proposed last and that is not applied yet.
    pub asked_config: Option<StreamConfig>,
    /// A checkpoint is on its way to the disk.
    pub checkpointing: bool,
    pub consumers: Vec<GroupId>,
}

/// A replica of a consumer on this core; its stream lives on the same core.
pub struct HostedConsumer {
    pub key: StreamKey,
    pub name: String,
    pub stream: GroupId,
    pub consumer: Consumer,
    pub leading: bool,
    pub term: u64,
    pub restored: bool,
    pub created: bool,
    pub checkpointing: bool,
    /// Deliveries and answers in the order in which they must leave; the first may wait for its message to be read.
    pub parcels: VecDeque<Parcel>,
}

impl JetStream {
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    pub fn streams(&self) -> &BTreeMap<GroupId, HostedStream> {
        &self.streams
    }

    pub fn consumers(&self) -> &BTreeMap<GroupId, HostedConsumer> {
        &self.consumers
    }
}

impl HostedStream {
    /// Much could be given back, and no checkpoint is on its way that says so.
    pub fn wants_checkpoint(&self) -> bool {
        self.restored && !self.checkpointing && self.stream.wants_checkpoint()
    }

    pub fn lead(&self, group: GroupId, server: ServerId) -> Lead {
        let config = self.stream.config();
        let subjects = config.subjects.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect();
        let name = Bytes::copy_from_slice(self.key.1.as_bytes());
        let asset = Asset::Stream { account: self.stream.account(), name, subjects };
        Lead { group, server, term: self.term, asset }
    }
}

impl HostedConsumer {
    /// Its history is worth a checkpoint, and none is on its way. `full`: the store is.
    pub fn wants_checkpoint(&self, full: bool) -> bool {
        self.restored && !self.checkpointing && self.consumer.wants_checkpoint(full)
    }

    pub fn lead(&self, group: GroupId, server: ServerId) -> Lead {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let asset = Asset::Consumer {
            account: self.consumer.identity().account,
            stream: bytes(&self.key.1),
            name: bytes(&self.name),
        };
        Lead { group, server, term: self.term, asset }
    }
}

/// The call that a stored request subject stands for.
pub fn call_of<'a>(subject: &'a [u8], domain: Option<&str>) -> Option<Call<'a>> {
    let subject = std::str::from_utf8(subject).ok()?;
    Call::parse(crate::api::call::strip_prefix(subject, domain)?)
}
