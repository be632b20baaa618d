//! The `accounts` block.

use super::super::options::{Account, AccountJetStream, AccountLimits, GLOBAL_ACCOUNT};
use super::super::report::Report;
use super::super::tree::{Entry, Map, Value};
use super::{Draft, auth};

impl Draft {
    /// Accounts by name, or only a list of names.
    pub fn accounts(&mut self, entry: &Entry, report: &mut Report) {
        let Value::List(_) = entry.node.value else {
            if let Some(map) = report.map(entry) {
                // A key that only serves as a variable is no account.
                map.entries().filter(|entry| !entry.used).for_each(|entry| self.account(entry, report));
            }
            return;
        };
        for name in report.texts(entry).unwrap_or_default() {
            if name == GLOBAL_ACCOUNT {
                report.wrong(&entry.place, format_args!("{name:?} is a Reserved Account"));
            } else if self.config.account(&name).is_some() {
                report.wrong(&entry.place, format_args!("Duplicate Account Entry: {name}"));
            } else {
                self.config.accounts.push(Account { name, ..Account::default() });
            }
        }
    }

    fn account(&mut self, entry: &Entry, report: &mut Report) {
        let name = entry.key.clone();
        if name == GLOBAL_ACCOUNT {
            report.wrong(&entry.place, format_args!("{name:?} is a Reserved Account"));
            return;
        }
        let Some(map) = report.map(entry) else { return };
        let mut account = Account { name: name.clone(), ..Account::default() };
        let (mut users, mut users_at, mut permissions) = (Vec::new(), entry, None);
        for entry in map.entries() {
            match entry.key.to_lowercase().as_str() {
                "users" => {
                    users = auth::users(entry, &name, report).unwrap_or_default();
                    users_at = entry;
                }
                "default_permissions" => permissions = auth::permissions(entry, report),
                "jetstream" => account.jetstream = jetstream(entry, report),
                "limits" => account.limits = limits(entry, report),
                key @ ("exports" | "imports" | "mappings" | "maps" | "nkey" | "msg_trace" | "trace_dest") => {
                    report.unsupported(entry, &format!("accounts.{name}.{key}"));
                }
                _ => report.unknown(entry, &["users", "default_permissions", "jetstream", "limits"]),
            }
        }
        if !users.is_empty() {
            if self.user.is_some() {
                report.wrong(&users_at.place, "Can not have a single user/pass and accounts");
            }
            if self.config.auth.token.is_some() {
                report.wrong(&users_at.place, "Can not have a token and accounts");
            }
            self.users_listed = true;
        }
        self.add_users(users_at, users, permissions, report);
        self.config.accounts.push(account);
    }
}

/// `enabled`, `true`, or limits.
fn jetstream(entry: &Entry, report: &mut Report) -> Option<AccountJetStream> {
    match &entry.node.value {
        Value::Bool(on) => on.then(AccountJetStream::default),
        Value::Text(text) => match text.to_lowercase().as_str() {
            "enabled" | "enable" => Some(AccountJetStream::default()),
            "disabled" | "disable" => None,
            _ => {
                let text = format!("Expected 'enabled' or 'disabled' for string value, got '{text}'");
                report.wrong(&entry.node.place, text);
                None
            }
        },
        Value::Map(map) => Some(jetstream_limits(map, report)),
        _ => {
            report.expected(entry, "enabled, disabled or a block of limits");
            None
        }
    }
}

fn jetstream_limits(map: &Map, report: &mut Report) -> AccountJetStream {
    const KNOWN: &[&str] = &[
        "max_memory",
        "max_mem",
        "mem",
        "memory",
        "max_store",
        "max_file",
        "max_disk",
        "store",
        "disk",
        "max_streams",
        "streams",
        "max_consumers",
        "consumers",
        "max_bytes_required",
        "max_stream_bytes",
        "max_bytes",
        "mem_max_stream_bytes",
        "memory_max_stream_bytes",
        "disk_max_stream_bytes",
        "store_max_stream_bytes",
        "max_ack_pending",
    ];
    let mut limits = AccountJetStream::default();
    for entry in map.entries() {
        match entry.key.to_lowercase().as_str() {
            "max_memory" | "max_mem" | "mem" | "memory" => limits.memory_bytes_max = none_below_zero(entry, report),
            "max_store" | "max_file" | "max_disk" | "store" | "disk" => {
                limits.file_bytes_max = none_below_zero(entry, report);
            }
            "max_streams" | "streams" => limits.streams_max = report.limit(entry).flatten(),
            "max_consumers" | "consumers" => limits.consumers_max = report.limit(entry).flatten(),
            "max_bytes_required" | "max_stream_bytes" | "max_bytes" => {
                limits.bytes_required = report.bool(entry).unwrap_or(false);
            }
            "mem_max_stream_bytes" | "memory_max_stream_bytes" => {
                limits.memory_stream_bytes_max = report.limit(entry).flatten();
            }
            "disk_max_stream_bytes" | "store_max_stream_bytes" => {
                limits.file_stream_bytes_max = report.limit(entry).flatten();
            }
            "max_ack_pending" => limits.ack_pending_max = report.limit(entry).flatten(),
            "cluster_traffic" => match report.text(entry).as_deref() {
                None | Some("system" | "") => {}
                Some("owner") => report.unsupported(entry, "cluster_traffic: owner"),
                Some(_) => report.expected(entry, "system or owner"),
            },
            _ => report.unknown(entry, KNOWN),
        }
    }
    limits
}

fn limits(entry: &Entry, report: &mut Report) -> AccountLimits {
    const KNOWN: &[&str] = &["max_connections", "max_conn", "max_subscriptions", "max_subs", "max_payload", "max_pay"];
    let mut limits = AccountLimits::default();
    let Some(map) = report.map(entry) else { return limits };
    for entry in map.entries() {
        match entry.key.to_lowercase().as_str() {
            "max_connections" | "max_conn" => limits.connections_max = none_below_zero(entry, report),
            "max_subscriptions" | "max_subs" => limits.subscriptions_max = none_below_zero(entry, report),
            "max_payload" | "max_pay" => limits.payload_bytes_max = none_below_zero(entry, report),
            "max_leafnodes" | "max_leafs" => {
                if report.int(entry, i64::MIN, i64::MAX).is_some() {
                    report.no_effect(entry, "there are no leaf nodes");
                }
            }
            _ => report.unknown(entry, KNOWN),
        }
    }
    limits
}

/// A limit of 0 allows nothing, one below 0 everything.
fn none_below_zero<T: TryFrom<i64>>(entry: &Entry, report: &mut Report) -> Option<T> {
    let n = report.int(entry, i64::MIN, i64::MAX)?;
    if n < 0 {
        return None;
    }
    let fits = T::try_from(n).ok();
    if fits.is_none() {
        report.expected(entry, "a smaller number");
    }
    fits
}
