//! The outermost block.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::super::duration;
use super::super::options::{CORES_MAX, Trestle};
use super::super::report::Report;
use super::super::tree::{Entry, Map};
use super::Draft;

/// The peer's own floor for a drain that clients can follow.
const LAME_DUCK_MIN: Duration = Duration::from_secs(30);
/// The largest size that the peer's 32-bit limits hold.
const I32_MAX: i64 = i32::MAX as i64;

/// The keys that are read here.
pub const KNOWN: &[&str] = &[
    "listen",
    "port",
    "host",
    "net",
    "client_advertise",
    "server_name",
    "server_tags",
    "server_metadata",
    "http",
    "http_port",
    "monitor_port",
    "http_base_path",
    "pid_file",
    "pidfile",
    "ports_file_dir",
    "log_file",
    "logfile",
    "log_size_limit",
    "logfile_size_limit",
    "log_max_num",
    "logfile_max_num",
    "debug",
    "trace",
    "trace_verbose",
    "trace_headers",
    "max_traced_msg_len",
    "logtime",
    "logtime_utc",
    "max_payload",
    "max_control_line",
    "max_pending",
    "max_connections",
    "max_conn",
    "max_subscriptions",
    "max_subs",
    "max_sub_tokens",
    "max_subscription_tokens",
    "write_deadline",
    "ping_interval",
    "ping_max",
    "no_header_support",
    "disable_sublist_cache",
    "no_sublist_cache",
    "max_closed_clients",
    "lame_duck_duration",
    "lame_duck_grace_period",
    "authorization",
    "accounts",
    "no_auth_user",
    "system_account",
    "system",
    "no_system_account",
    "no_system",
    "no_sys_acc",
    "cluster",
    "jetstream",
    "store_dir",
    "storedir",
    "trestle",
    "write_timeout",
    "connect_error_reports",
    "reconnect_error_reports",
    "no_fast_producer_stall",
];

/// The peer's keys whose capability does not exist.
pub const UNSUPPORTED: &[&str] = &[
    "leafnodes",
    "leaf",
    "gateway",
    "gateways",
    "mappings",
    "maps",
    "tls",
    "allow_non_tls",
    "https",
    "https_port",
    "websocket",
    "ws",
    "mqtt",
    "operator",
    "operators",
    "root",
    "roots",
    "root_operator",
    "root_operators",
    "resolver",
    "account_resolver",
    "accounts_resolver",
    "resolver_tls",
    "resolver_preload",
    "resolver_pinned_accounts",
    "trusted",
    "trusted_keys",
    "default_sentinel",
    "default_js_domain",
    "ocsp",
    "ocsp_cache",
    "proxies",
    "proxy_protocol",
    "feature_flags",
    "syslog",
    "remote_syslog",
    "prof_port",
    "prof_block_rate",
];

impl Draft {
    /// Reads the outermost block.
    pub fn top(&mut self, map: &Map, report: &mut Report) {
        for entry in map.entries() {
            let key = entry.key.to_lowercase();
            let taken = self.top_server(&key, entry, report)
                || self.top_log(&key, entry, report)
                || self.top_limits(&key, entry, report)
                || self.top_blocks(&key, entry, report);
            if !taken {
                if UNSUPPORTED.contains(&key.as_str()) {
                    report.unsupported(entry, &key);
                } else {
                    report.unknown(entry, KNOWN);
                }
            }
        }
    }

    fn top_server(&mut self, key: &str, entry: &Entry, report: &mut Report) -> bool {
        let config = &mut self.config;
        match key {
            "listen" => {
                if let Some((host, port)) = report.listen(entry) {
                    self.host = host.or(self.host.take());
                    self.port = port.bind();
                }
            }
            "port" => self.port = report.port(entry).and_then(|port| port.bind()),
            "host" | "net" => self.host = report.word(entry),
            "client_advertise" => config.client_advertise = report.advertise(entry),
            "server_name" => config.server_name = report.name(entry, "server"),
            "server_tags" => config.server_tags = tags(report.texts(entry).unwrap_or_default()),
            "server_metadata" => config.server_metadata = metadata(entry, report),
            "http" => {
                if let Some((host, port)) = report.listen(entry) {
                    self.http_host = host;
                    self.http_port = port.bind();
                }
            }
            "http_port" | "monitor_port" => self.http_port = report.port(entry).and_then(|port| port.bind()),
            "http_base_path" => config.http_base_path = base_path(&report.text(entry).unwrap_or_default()),
            "pid_file" | "pidfile" => config.pid_file = report.word(entry).map(PathBuf::from),
            "ports_file_dir" => config.ports_file_dir = report.word(entry).map(PathBuf::from),
            _ => return false,
        }
        true
    }

    fn top_log(&mut self, key: &str, entry: &Entry, report: &mut Report) -> bool {
        let log = &mut self.config.log;
        match key {
            "log_file" | "logfile" => log.file = report.word(entry).map(PathBuf::from),
            "log_size_limit" | "logfile_size_limit" => {
                log.size_limit_bytes = report.bound(entry, i64::MAX).unwrap_or(0);
            }
            "log_max_num" | "logfile_max_num" => log.files_max = report.bound(entry, I32_MAX).unwrap_or(0),
            "debug" => log.debug = report.bool(entry).unwrap_or(false),
            "trace" => log.trace |= report.bool(entry).unwrap_or(false),
            "trace_verbose" => {
                log.trace_verbose = report.bool(entry).unwrap_or(false);
                log.trace |= log.trace_verbose;
            }
            "trace_headers" => {
                log.trace_headers = report.bool(entry).unwrap_or(false);
                log.trace |= log.trace_headers;
            }
            "max_traced_msg_len" => log.trace_bytes_max = report.bound(entry, I32_MAX).unwrap_or(0),
            "logtime" => log.time = report.bool(entry).unwrap_or(true),
            "logtime_utc" => log.time_utc = report.bool(entry).unwrap_or(false),
            _ => return false,
        }
        true
    }

    fn top_limits(&mut self, key: &str, entry: &Entry, report: &mut Report) -> bool {
        let limits = &mut self.config.limits;
        let lame_duck = &mut self.config.lame_duck;
        match key {
            "max_payload" => set(&mut limits.payload_bytes_max, report.bound(entry, I32_MAX)),
            "max_control_line" => set(&mut limits.control_line_bytes_max, report.bound(entry, I32_MAX)),
            "max_pending" => set(&mut limits.pending_bytes_max, report.bound(entry, i64::MAX)),
            "max_connections" | "max_conn" => set(&mut limits.connections_max, report.limit(entry)),
            "max_subscriptions" | "max_subs" => set(&mut limits.subscriptions_max, report.limit(entry)),
            "max_sub_tokens" | "max_subscription_tokens" => {
                limits.sub_tokens_max = report.int(entry, 1, i64::from(u8::MAX)).and_then(|n| u8::try_from(n).ok());
            }
            "write_deadline" => set(&mut limits.write_deadline, longer_than_zero(report.duration(entry))),
            "write_timeout" => write_timeout(entry, report),
            "ping_interval" => set(&mut limits.ping_interval, longer_than_zero(report.duration(entry))),
            "ping_max" => set(&mut limits.pings_out_max, report.bound(entry, I32_MAX)),
            "no_header_support" => limits.headers = !report.bool(entry).unwrap_or(false),
            "disable_sublist_cache" | "no_sublist_cache" => {
                limits.sublist_cache = !report.bool(entry).unwrap_or(false);
            }
            "max_closed_clients" => set(&mut limits.closed_clients_max, report.bound(entry, I32_MAX)),
            "lame_duck_duration" => match report.duration(entry) {
                Some(time) if time < LAME_DUCK_MIN => {
                    let time = duration::show(time);
                    report.wrong(&entry.place, format_args!("invalid {key} of {time}, minimum is 30 seconds"));
                }
                time => set(&mut lame_duck.duration, time),
            },
            "lame_duck_grace_period" => set(&mut lame_duck.grace_period, longer_than_zero(report.duration(entry))),
            "connect_error_reports" | "reconnect_error_reports" => {
                if report.int(entry, 0, I32_MAX).is_some() {
                    report.no_effect(entry, "failed connections are reported when they change");
                }
            }
            "no_fast_producer_stall" => {
                if report.bool(entry).is_some() {
                    report.no_effect(entry, "a producer is slowed down by its own connection only");
                }
            }
            _ => return false,
        }
        true
    }

    fn top_blocks(&mut self, key: &str, entry: &Entry, report: &mut Report) -> bool {
        match key {
            "authorization" => self.authorization(entry, report),
            "accounts" => self.accounts(entry, report),
            "no_auth_user" => self.config.auth.no_auth_user = report.word(entry),
            "system_account" | "system" => {
                if let Some(name) = report.word(entry)
                    && self.config.system_account.is_some()
                {
                    self.config.system_account = Some(name);
                }
            }
            "no_system_account" | "no_system" | "no_sys_acc" => {
                if report.bool(entry) == Some(true) {
                    self.config.system_account = None;
                }
            }
            "cluster" => self.cluster(entry, report),
            "jetstream" => self.jetstream(entry, report),
            "store_dir" | "storedir" => self.store_dir(entry, report),
            "trestle" => trestle(entry, &mut self.config.trestle, report),
            _ => return false,
        }
        true
    }
}

/// Sets the field unless reading went wrong or the value asked for the default.
pub fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// A time of zero asks for the default.
pub fn longer_than_zero(time: Option<Duration>) -> Option<Duration> {
    time.filter(|time| !time.is_zero())
}

/// The client side closes a connection that cannot be written to, which is what `default` and `close` ask for.
pub fn write_timeout(entry: &Entry, report: &mut Report) {
    match report.text(entry).as_deref() {
        None | Some("default" | "close") => {}
        Some("retry") => report.unsupported(entry, &format!("{}: retry", entry.key)),
        Some(_) => report.wrong(&entry.node.place, "write_timeout must be 'default', 'close' or 'retry'"),
    }
}

/// Lower case, trimmed, each once, as the peer keeps them.
fn tags(texts: Vec<String>) -> Vec<String> {
    let mut tags: Vec<String> = Vec::with_capacity(texts.len());
    for tag in texts.iter().map(|text| text.trim().to_lowercase()) {
        if !tag.is_empty() && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    tags
}

fn metadata(entry: &Entry, report: &mut Report) -> BTreeMap<String, String> {
    let Some(map) = report.map(entry) else { return BTreeMap::new() };
    map.entries().filter_map(|entry| report.text(entry).map(|text| (entry.key.clone(), text))).collect()
}

/// `/`, or `/a/b` without a slash at its end and without empty steps.
fn base_path(text: &str) -> String {
    let steps: Vec<&str> = text.split('/').filter(|step| !step.is_empty() && *step != ".").collect();
    format!("/{}", steps.join("/"))
}

fn trestle(entry: &Entry, trestle: &mut Trestle, report: &mut Report) {
    const KNOWN: &[&str] = &["cores", "shards", "segment_bytes"];
    let Some(map) = report.map(entry) else { return };
    for entry in map.entries() {
        match entry.key.to_lowercase().as_str() {
            "cores" => trestle.soft.cores = cores(entry, report),
            "shards" => trestle.hard.shards = cores(entry, report),
            "segment_bytes" => match report.int(entry, 1 << 20, 1 << 30) {
                Some(n) if n.count_ones() == 1 => trestle.hard.segment_bytes = n as u64,
                Some(_) => report.expected(entry, "a power of two from 1MB to 1GB"),
                None => {}
            },
            _ => report.unknown(entry, KNOWN),
        }
    }
}

fn cores(entry: &Entry, report: &mut Report) -> Option<u16> {
    report.int(entry, 1, i64::from(CORES_MAX)).and_then(|n| u16::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::super::super::lang;
    use super::super::super::options::Config;
    use super::super::super::source::Memory;
    use super::*;

    #[test]
    fn no_key_is_both_known_and_unsupported() {
        for key in KNOWN {
            assert!(!UNSUPPORTED.contains(key), "{key}");
        }
    }

    #[test]
    fn every_known_key_is_read() {
        for key in KNOWN {
            let map = lang::read_text(&Memory::default(), &format!("{key}: {{}}")).unwrap();
            let mut report = Report::default();
            Draft::default().top(&map, &mut report);
            let texts: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
            assert!(!texts.iter().any(|text| text.contains("unknown field")), "{texts:?}");
        }
    }

    #[test]
    fn tags_and_paths_are_kept_as_the_peer_keeps_them() {
        assert_eq!(tags(vec![" DC:2".into(), "dc:2".into(), "".into(), "ha:1".into()]), ["dc:2", "ha:1"]);
        for (text, path) in [("", "/"), ("/", "/"), ("nats/dashboard", "/nats/dashboard"), ("//a//b/", "/a/b")] {
            assert_eq!(base_path(text), path);
        }
        assert_eq!(Config::default().http_base_path, base_path(""));
    }
}
