//! What a new configuration changes in a running server, and what it must not.
//!
//! `compare` promises all or nothing: either every difference can be taken in service and is listed, or none may be
//! and every reason is. It changes nothing itself.

use std::path::PathBuf;

use super::duration::show;
use super::options::{Advertise, Cluster, Config, HostPort, JetStream, Limits, LogOptions};
use super::summary;

/// A part of the server that has to take its part of the new configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Tags,
    Metadata,
    Log,
    Limits,
    LameDuck,
    Users,
    Accounts,
    PidFile,
    PortsFileDir,
    /// Routes, gossip, credentials and timers between servers.
    Cluster,
    JetStreamLimits,
}

/// One difference that can be taken in service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub part: Part,
    /// The line for the log, in the peer's form: `Reloaded: ping_max = 3`.
    pub text: String,
}

/// Lists the differences, in a fixed order.
///
/// Errors: each directive that differs and cannot be changed in service, in the peer's form.
pub fn compare(old: &Config, new: &Config) -> Result<Vec<Change>, Vec<String>> {
    let mut diff = Diff::default();
    diff.fixed_parts(old, new);
    diff.server(old, new);
    diff.log(&old.log, &new.log);
    diff.limits(&old.limits, &new.limits);
    diff.users(old, new);
    if let (Some(old), Some(new)) = (&old.cluster, &new.cluster) {
        diff.cluster(old, new);
    }
    if let (Some(old), Some(new)) = (&old.jetstream, &new.jetstream) {
        diff.jetstream(old, new);
    }
    if diff.refusals.is_empty() { Ok(diff.changes) } else { Err(diff.refusals) }
}

#[derive(Default)]
struct Diff {
    changes: Vec<Change>,
    refusals: Vec<String>,
}

impl Diff {
    /// Notes a change and how the log shows the new value.
    fn value<T: PartialEq>(&mut self, part: Part, name: &str, old: &T, new: &T, shown: impl Fn(&T) -> String) {
        if old != new {
            self.changes.push(Change { part, text: format!("Reloaded: {name} = {}", shown(new)) });
        }
    }

    /// Notes a change whose value is too long or too secret for the log.
    fn word<T: PartialEq>(&mut self, part: Part, name: &str, old: &T, new: &T) {
        if old != new {
            self.changes.push(Change { part, text: format!("Reloaded: {name}") });
        }
    }

    /// Refuses a change.
    fn fixed<T: PartialEq>(&mut self, name: &str, old: &T, new: &T, shown: impl Fn(&T) -> String) {
        if old != new {
            let (old, new) = (shown(old), shown(new));
            self.refusals.push(format!("config reload not supported for {name}: old={old}, new={new}"));
        }
    }

    /// What other servers, open sockets or the bytes on disk depend on.
    fn fixed_parts(&mut self, old: &Config, new: &Config) {
        self.fixed("host", &old.listen.host, &new.listen.host, String::clone);
        self.fixed("port", &old.listen.port, &new.listen.port, u16::to_string);
        self.fixed("http", &old.http, &new.http, |http| or_none(http.as_ref().map(|http| http.text())));
        self.fixed("http_base_path", &old.http_base_path, &new.http_base_path, String::clone);
        self.fixed("server_name", &old.server_name, &new.server_name, shown_name);
        self.fixed("client_advertise", &old.client_advertise, &new.client_advertise, address);
        self.fixed("no_sublist_cache", &!old.limits.sublist_cache, &!new.limits.sublist_cache, bool::to_string);
        self.fixed("system_account", &old.system_account, &new.system_account, shown_name);
        self.fixed("no_header_support", &!old.limits.headers, &!new.limits.headers, bool::to_string);
        self.fixed("cluster", &old.cluster.is_some(), &new.cluster.is_some(), bool::to_string);
        self.fixed("jetstream", &old.jetstream.is_some(), &new.jetstream.is_some(), bool::to_string);
        self.fixed("trestle", &old.trestle, &new.trestle, |trestle| format!("{trestle:?}"));
    }

    fn server(&mut self, old: &Config, new: &Config) {
        self.word(Part::Tags, "tags", &old.server_tags, &new.server_tags);
        self.word(Part::Metadata, "metadata", &old.server_metadata, &new.server_metadata);
        self.value(Part::PidFile, "pid_file", &old.pid_file, &new.pid_file, path);
        self.value(Part::PortsFileDir, "ports_file_dir", &old.ports_file_dir, &new.ports_file_dir, path);
        let (before, after) = (&old.lame_duck, &new.lame_duck);
        self.value(Part::LameDuck, "lame_duck_duration", &before.duration, &after.duration, |time| show(*time));
        self.value(Part::LameDuck, "lame_duck_grace_period", &before.grace_period, &after.grace_period, |time| {
            show(*time)
        });
    }

    fn log(&mut self, old: &LogOptions, new: &LogOptions) {
        self.value(Part::Log, "trace_verbose", &old.trace_verbose, &new.trace_verbose, bool::to_string);
        self.value(Part::Log, "trace_headers", &old.trace_headers, &new.trace_headers, bool::to_string);
        self.value(Part::Log, "trace", &old.trace, &new.trace, bool::to_string);
        self.value(Part::Log, "debug", &old.debug, &new.debug, bool::to_string);
        self.value(Part::Log, "logtime", &old.time, &new.time, bool::to_string);
        self.value(Part::Log, "logtime_utc", &old.time_utc, &new.time_utc, bool::to_string);
        self.value(Part::Log, "log_file", &old.file, &new.file, path);
        self.value(Part::Log, "log_size_limit", &old.size_limit_bytes, &new.size_limit_bytes, u64::to_string);
        self.value(Part::Log, "log_max_num", &old.files_max, &new.files_max, u32::to_string);
        self.value(Part::Log, "max_traced_msg_len", &old.trace_bytes_max, &new.trace_bytes_max, u32::to_string);
    }

    fn limits(&mut self, old: &Limits, new: &Limits) {
        let part = Part::Limits;
        self.value(part, "max_payload", &old.payload_bytes_max, &new.payload_bytes_max, u32::to_string);
        self.value(part, "max_control_line", &old.control_line_bytes_max, &new.control_line_bytes_max, u32::to_string);
        self.value(part, "max_pending", &old.pending_bytes_max, &new.pending_bytes_max, u64::to_string);
        self.value(part, "max_connections", &old.connections_max, &new.connections_max, shown_limit);
        self.value(part, "max_subscriptions", &old.subscriptions_max, &new.subscriptions_max, shown_limit);
        self.value(part, "max_sub_tokens", &old.sub_tokens_max, &new.sub_tokens_max, shown_limit);
        self.value(part, "max_closed_clients", &old.closed_clients_max, &new.closed_clients_max, u32::to_string);
        self.value(part, "write_deadline", &old.write_deadline, &new.write_deadline, |time| show(*time));
        self.value(part, "ping_interval", &old.ping_interval, &new.ping_interval, |time| show(*time));
        self.value(part, "ping_max", &old.pings_out_max, &new.pings_out_max, u32::to_string);
    }

    fn users(&mut self, old: &Config, new: &Config) {
        let (before, after) = (&old.auth, &new.auth);
        self.word(Part::Users, "authorization token", &before.token, &after.token);
        self.word(Part::Users, "authorization users", &before.users, &after.users);
        self.value(Part::Users, "authorization timeout", &before.timeout, &after.timeout, |time| show(*time));
        self.value(Part::Users, "no_auth_user", &before.no_auth_user, &after.no_auth_user, shown_name);
        self.word(Part::Accounts, "accounts", &old.accounts, &new.accounts);
    }

    fn cluster(&mut self, old: &Cluster, new: &Cluster) {
        self.fixed("cluster name", &old.name, &new.name, shown_name);
        self.fixed("cluster host", &old.listen.host, &new.listen.host, String::clone);
        self.fixed("cluster port", &old.listen.port, &new.listen.port, u16::to_string);
        self.fixed("cluster advertise", &old.advertise, &new.advertise, address);
        self.fixed("cluster no_advertise", &old.no_advertise, &new.no_advertise, bool::to_string);
        self.word(Part::Cluster, "cluster routes", &old.routes, &new.routes);
        let access = |cluster: &Cluster| (cluster.user.clone(), cluster.password.clone(), cluster.auth_timeout);
        self.word(Part::Cluster, "cluster authorization", &access(old), &access(new));
    }

    fn jetstream(&mut self, old: &JetStream, new: &JetStream) {
        if old.store_dir != new.store_dir {
            self.refusals.push("config reload not supported for jetstream storage directory".to_string());
        }
        self.fixed("jetstream domain", &old.domain, &new.domain, shown_name);
        self.fixed("jetstream unique_tag", &old.unique_tag, &new.unique_tag, shown_name);
        self.storage("max_mem_store", old.memory_bytes_max, new.memory_bytes_max);
        self.storage("max_file_store", old.file_bytes_max, new.file_bytes_max);
        let rest = |jetstream: &JetStream| JetStream {
            store_dir: Default::default(),
            domain: None,
            unique_tag: None,
            memory_bytes_max: None,
            file_bytes_max: None,
            ..jetstream.clone()
        };
        self.word(Part::JetStreamLimits, "JetStream", &rest(old), &rest(new));
    }

    /// Streams were placed by what the server said it can hold: that may only grow.
    fn storage(&mut self, name: &str, old: Option<u64>, new: Option<u64>) {
        let refusal = match (old, new) {
            (old, new) if old == new => return,
            (Some(old), Some(new)) if new > old => {
                let text = format!("Reloaded: JetStream {name} = {}", summary::bytes(new));
                self.changes.push(Change { part: Part::JetStreamLimits, text });
                return;
            }
            (Some(_), Some(_)) => "decreasing jetstream max memory and store",
            (None, _) => "jetstream dynamic max memory and store",
            (Some(_), None) => "jetstream max memory and max store",
        };
        let text = format!("config reload not supported for {refusal}");
        if !self.refusals.contains(&text) {
            self.refusals.push(text);
        }
    }
}

fn path(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
}

fn address(advertise: &Option<Advertise>) -> String {
    let text = |Advertise { host, port }: &Advertise| match port {
        Some(port) => HostPort { host: host.clone(), port: *port }.text(),
        None => host.clone(),
    };
    advertise.as_ref().map(text).unwrap_or_default()
}

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| "none".to_string())
}

fn shown_name(name: &Option<String>) -> String {
    name.clone().unwrap_or_default()
}

fn shown_limit<T: ToString>(limit: &Option<T>) -> String {
    limit.as_ref().map_or_else(|| "unlimited".to_string(), T::to_string)
}

#[cfg(test)]
mod tests {
    use super::super::source::Memory;
    use super::*;
    use crate::args::Flags;

    const BASE: &str = "server_name: a\nserver_tags: [\"dc:1\"]\nport: 4222\njetstream {store_dir: d, max_mem: 1GB, max_file: 1GB}\n\
                        cluster {name: c, listen: 6222, routes: [\"nats://x:1\"]}\n";

    fn config(text: &str) -> Config {
        let mut source = Memory::default();
        source.files.insert("x.conf".into(), text.as_bytes().to_vec());
        let flags = Flags { config: Some("x.conf".into()), ..Flags::default() };
        super::super::load(&source, &flags).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Compares the base with the base after the text `from` has become `to`.
    fn reload(from: &str, to: &str) -> Result<Vec<String>, Vec<String>> {
        assert!(BASE.contains(from));
        let changes = compare(&config(BASE), &config(&BASE.replacen(from, to, 1)))?;
        Ok(changes.into_iter().map(|change| change.text).collect())
    }

    #[test]
    fn the_same_configuration_changes_nothing() {
        assert_eq!(compare(&config(BASE), &config(BASE)), Ok(vec![]));
    }

    #[test]
    fn what_can_change_in_service_is_listed() {
        let end = "routes: [\"nats://x:1\"]}\n";
        let add = |text: &str| reload(end, &format!("{end}{text}\n"));
        for (text, line) in [
            ("debug: true", "Reloaded: debug = true"),
            ("ping_interval: \"20s\"", "Reloaded: ping_interval = 20s"),
            ("max_connections: 5", "Reloaded: max_connections = 5"),
            ("max_conn: -1", "Reloaded: max_connections = unlimited"),
            ("lame_duck_duration: \"60s\"", "Reloaded: lame_duck_duration = 1m0s"),
            ("authorization {token: secret}", "Reloaded: authorization token"),
            ("pid_file: \"p\"", "Reloaded: pid_file = p"),
        ] {
            assert_eq!(add(text), Ok(vec![line.to_string()]), "{text}");
        }
        assert_eq!(reload("dc:1", "dc:2"), Ok(vec!["Reloaded: tags".into()]));
        assert_eq!(
            reload("listen: 6222", "listen: 6222, authorization {user: u, password: p}"),
            Ok(vec!["Reloaded: cluster authorization".into()])
        );
        assert_eq!(reload("nats://x:1", "nats://y:1"), Ok(vec!["Reloaded: cluster routes".into()]));
        let accounts = add("accounts {A {users [{user: u, pass: p}]}}").unwrap();
        assert_eq!(accounts, ["Reloaded: authorization users", "Reloaded: accounts"]);
        assert_eq!(
            reload("max_file: 1GB", "max_file: 2GB"),
            Ok(vec!["Reloaded: JetStream max_file_store = 2.00 GB".into()])
        );
    }

    #[test]
    fn what_cannot_change_in_service_is_refused_in_the_words_of_the_peer() {
        for (from, to, line) in [
            ("port: 4222", "port: 4333", "config reload not supported for port: old=4222, new=4333"),
            ("server_name: a", "server_name: b", "config reload not supported for server_name: old=a, new=b"),
            ("listen: 6222", "listen: 6223", "config reload not supported for cluster port: old=6222, new=6223"),
            ("store_dir: d", "store_dir: e", "config reload not supported for jetstream storage directory"),
            (
                "max_mem: 1GB",
                "max_mem: 1MB",
                "config reload not supported for decreasing jetstream max memory and store",
            ),
            (
                "listen: 6222",
                "listen: 6222, no_advertise: true",
                "config reload not supported for cluster no_advertise: old=false, new=true",
            ),
            ("name: c", "name: d", "config reload not supported for cluster name: old=c, new=d"),
        ] {
            assert_eq!(reload(from, to), Err(vec![line.to_string()]), "{to}");
        }
    }

    #[test]
    fn one_refusal_refuses_everything_and_all_are_named() {
        let text = BASE.replace("port: 4222", "port: 1\ndebug: true").replace("server_name: a", "server_name: b");
        assert_eq!(compare(&config(BASE), &config(&text)).unwrap_err().len(), 2);
    }
}
