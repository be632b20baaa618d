//! The `jetstream` block.

use std::path::PathBuf;

use super::super::options::{JetStream, JetStreamLimits};
use super::super::report::Report;
use super::super::toml;
use super::super::tree::{Entry, Map, Value};
use super::Draft;
use super::top::set;

/// The keys that are read here.
pub const KNOWN: &[&str] = &[
    "enabled",
    "enable",
    "strict",
    "store_dir",
    "storedir",
    "store",
    "sync_interval",
    "sync",
    "max_memory_store",
    "max_mem_store",
    "max_mem",
    "max_file_store",
    "max_file",
    "domain",
    "unique_tag",
    "limits",
    "max_outstanding_catchup",
    "max_buffered_size",
    "max_buffered_msgs",
    "request_queue_limit",
    "info_queue_limit",
    "extension_hint",
    "meta_compact",
    "meta_compact_size",
    "meta_compact_sync",
    "max_concurrent_io",
];

impl Draft {
    /// `enabled`, `true`, or a block (which means enabled unless it says otherwise).
    pub fn jetstream(&mut self, entry: &Entry, report: &mut Report) {
        match &entry.node.value {
            Value::Bool(on) => self.jetstream_on = *on,
            Value::Text(text) => match text.to_lowercase().as_str() {
                "enabled" | "enable" => self.jetstream_on = true,
                "disabled" | "disable" => self.jetstream_on = false,
                _ => report.wrong(
                    &entry.node.place,
                    format_args!("Expected 'enabled' or 'disabled' for string value, got '{text}'"),
                ),
            },
            Value::Map(map) => {
                self.jetstream_on = true;
                self.jetstream_block(map, report);
            }
            _ => report.expected(entry, "enabled, disabled or a block"),
        }
    }

    /// `store_dir`, in the block or outside it, but not both.
    pub fn store_dir(&mut self, entry: &Entry, report: &mut Report) {
        let dir = report.word(entry).map(PathBuf::from);
        if self.store_dir.is_some() {
            report.wrong(&entry.place, "Duplicate 'store_dir' configuration");
        }
        self.store_dir = dir;
    }

    fn jetstream_block(&mut self, map: &Map, report: &mut Report) {
        for entry in map.entries() {
            let key = entry.key.to_lowercase();
            match key.as_str() {
                "enabled" | "enable" => set(&mut self.jetstream_on, report.bool(entry)),
                "store_dir" | "storedir" | "store" => self.store_dir(entry, report),
                "key" | "ek" | "encryption_key" | "prev_key" | "prev_ek" | "prev_encryption_key" | "cipher" | "tpm" => {
                    report.unsupported(entry, &format!("jetstream.{key}"));
                }
                _ if read(&mut self.jetstream, &key, entry, report) => {}
                _ if without_effect(&key, entry, report) => {}
                _ => report.unknown(entry, KNOWN),
            }
        }
    }
}

fn read(jetstream: &mut JetStream, key: &str, entry: &Entry, report: &mut Report) -> bool {
    match key {
        "strict" => set(&mut jetstream.strict, report.bool(entry)),
        "max_memory_store" | "max_mem_store" | "max_mem" => jetstream.memory_bytes_max = size(entry, report),
        "max_file_store" | "max_file" => jetstream.file_bytes_max = size(entry, report),
        "domain" => jetstream.domain = report.word(entry),
        "unique_tag" => {
            let tag = report.text(entry).map(|tag| tag.trim().to_lowercase());
            jetstream.unique_tag = tag.filter(|tag| !tag.is_empty());
        }
        "limits" => jetstream.limits = limits(entry, report),
        _ => return false,
    }
    true
}

/// What tunes the peer's own machinery.
fn without_effect(key: &str, entry: &Entry, report: &mut Report) -> bool {
    match key {
        "sync" | "sync_interval" => {
            let always = matches!(&entry.node.value, Value::Text(text) if text.eq_ignore_ascii_case("always"));
            if always || report.duration(entry).is_some() {
                report.no_effect(entry, "every acknowledged message is on the disk of a quorum already");
            }
        }
        "meta_compact" | "meta_compact_size" | "meta_compact_sync" => {
            report.no_effect(entry, "the cluster's own log is compacted like every other");
        }
        "max_concurrent_io" => report.no_effect(entry, "each core queues its own disk operations"),
        "max_outstanding_catchup" => {
            if size(entry, report).is_some() {
                report.no_effect(entry, "each group is caught up within a window of its own");
            }
        }
        "max_buffered_size" => {
            if size(entry, report).is_some() {
                report.no_effect(entry, "what waits for the disk is bounded, and publishers are held back");
            }
        }
        "max_buffered_msgs" | "request_queue_limit" | "info_queue_limit" => {
            if report.int(entry, 0, i32::MAX.into()).is_some() {
                report.no_effect(entry, "what waits is bounded in bytes");
            }
        }
        "extension_hint" => {
            if report.text(entry).is_some() {
                report.no_effect(entry, "there are no leaf nodes");
            }
        }
        _ => return false,
    }
    true
}

/// Bytes; below zero means that the server decides. In quotes a single letter counts in powers of two (`"1G"` is
/// 1073741824, and a bare `1G` 1000000000), as with the peer.
fn size(entry: &Entry, report: &mut Report) -> Option<u64> {
    if let Value::Text(text) = &entry.node.value {
        let bytes = quoted_size(text);
        if bytes.is_none() {
            report.expected(entry, "a size such as 10GB");
        }
        return bytes;
    }
    u64::try_from(report.int(entry, i64::MIN, i64::MAX)?).ok()
}

fn quoted_size(text: &str) -> Option<u64> {
    let shift = match text.bytes().last()? {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => return toml::size(text).and_then(|n| u64::try_from(n).ok()),
    };
    let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    number.checked_mul(1 << shift).filter(|&bytes| bytes <= i64::MAX as u64)
}

fn limits(entry: &Entry, report: &mut Report) -> JetStreamLimits {
    const KNOWN: &[&str] = &["max_ack_pending", "max_ha_assets", "max_request_batch", "duplicate_window", "batch"];
    let mut limits = JetStreamLimits::default();
    let Some(map) = report.map(entry) else { return limits };
    for entry in map.entries() {
        match entry.key.to_lowercase().as_str() {
            "max_ack_pending" => limits.ack_pending_max = report.limit(entry).flatten(),
            "max_ha_assets" => {
                limits.ha_assets_max = report.limit(entry).flatten();
                report.no_effect(entry, "a server takes every replica that is placed on it");
            }
            "max_request_batch" => limits.request_batch_max = report.limit(entry).flatten(),
            "duplicate_window" => {
                limits.duplicate_window_max = report.duration(entry).filter(|time| !time.is_zero());
            }
            "batch" => report.unsupported(entry, "jetstream.limits.batch"),
            _ => report.unknown(entry, KNOWN),
        }
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_letter_counts_in_powers_of_two() {
        for (text, bytes) in
            [("1K", Some(1024)), ("2G", Some(2 << 30)), ("10GB", Some(10 << 30)), ("5", Some(5)), ("1k", Some(1000))]
        {
            assert_eq!(quoted_size(text), bytes, "{text}");
        }
        for text in ["", "G", "xG", "1X", "99999999999T", "-1K", "é"] {
            assert_eq!(quoted_size(text), None, "{text}");
        }
    }
}
