//! A configuration in a few readable lines, for `-t` and the start-up log. Secrets are never among them.

use std::path::Path;

use super::duration::show;
use super::options::{Cluster, Config, JetStream};

/// What `-t` prints: the peer's sentence, then the lines.
pub fn checked(config: &Config) -> String {
    let file = config.file.as_deref().unwrap_or(Path::new("")).display();
    format!("nats-server: configuration file {file} is valid ({})\n{}", config.digest, lines(config).join("\n"))
}

/// The lines, without a newline at their ends.
pub fn lines(config: &Config) -> Vec<String> {
    let mut lines = vec![
        row("server", config.server_name.as_deref().unwrap_or("(its id)").to_string()),
        row("clients", listen(&config.listen.text(), config.listen.port)),
    ];
    if !config.server_tags.is_empty() {
        lines.push(row("tags", config.server_tags.join(", ")));
    }
    if let Some(http) = &config.http {
        lines.push(row("monitoring", format!("{} under {}", listen(&http.text(), http.port), config.http_base_path)));
    }
    lines.push(row("cluster", config.cluster.as_ref().map_or_else(|| "none, stands alone".to_string(), cluster)));
    lines.push(row("jetstream", config.jetstream.as_ref().map_or_else(|| "off".to_string(), jetstream)));
    lines.push(row("access", access(config)));
    for name in config.account_names() {
        lines.push(row("account", account(config, name)));
    }
    lines.push(row(
        "limits",
        format!(
            "payload {}, {} connections, ping every {}",
            bytes(config.limits.payload_bytes_max.into()),
            config.limits.connections_max.map_or_else(|| "unlimited".to_string(), |n| n.to_string()),
            show(config.limits.ping_interval)
        ),
    ));
    lines.extend(config.notes.iter().map(|note| row("note", note.text.clone())));
    lines
}

fn row(name: &str, text: String) -> String {
    format!("  {name:<11}{text}")
}

fn listen(address: &str, port: u16) -> String {
    match port {
        0 => format!("{} on a free port", address.trim_end_matches(":0")),
        _ => address.to_string(),
    }
}

fn cluster(cluster: &Cluster) -> String {
    let name = cluster.name.as_deref().unwrap_or("(made up at start)");
    let routes: Vec<String> = cluster.routes.iter().map(ToString::to_string).collect();
    let routes = if routes.is_empty() { "no routes".to_string() } else { format!("routes to {}", routes.join(", ")) };
    format!("{name} on {}, {routes}", listen(&cluster.listen.text(), cluster.listen.port))
}

fn jetstream(jetstream: &JetStream) -> String {
    let size = |size: Option<u64>| size.map_or_else(|| "by the machine".to_string(), bytes);
    let mut text = format!(
        "in {}, memory {}, files {}",
        jetstream.store_dir.display(),
        size(jetstream.memory_bytes_max),
        size(jetstream.file_bytes_max)
    );
    if let Some(domain) = &jetstream.domain {
        text.push_str(&format!(", domain {domain}"));
    }
    if let Some(tag) = &jetstream.unique_tag {
        text.push_str(&format!(", unique tag {tag}"));
    }
    text
}

fn access(config: &Config) -> String {
    let auth = &config.auth;
    match (auth.token.is_some(), auth.users.len()) {
        (true, _) => "one token".to_string(),
        (false, 0) => "open to everyone".to_string(),
        (false, 1) => "1 user".to_string(),
        (false, n) => format!("{n} users"),
    }
}

fn account(config: &Config, name: &str) -> String {
    let users = config.auth.users.iter().filter(|user| user.account == name).count();
    let mut text = format!("{name}, {users} {}", if users == 1 { "user" } else { "users" });
    if config.system_account.as_deref() == Some(name) {
        text.push_str(", the system account");
    }
    if config.account_jetstream(name).is_some() {
        text.push_str(", JetStream");
    }
    text
}

/// `1.00 MB` and the like, powers of two, as the peer's pages show sizes.
pub fn bytes(bytes: u64) -> String {
    let units = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];
    let power = (bytes.max(1).ilog2() / 10) as usize;
    match units.get(power) {
        Some(unit) if power > 0 => format!("{:.2} {unit}", bytes as f64 / (1_u64 << (10 * power)) as f64),
        _ => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::{Secret, User};
    use super::*;

    #[test]
    fn the_defaults_read_well() {
        let text = lines(&Config::default()).join("\n");
        let expected = "  server     (its id)\n  clients    0.0.0.0:4222\n  cluster    none, stands alone\n  jetstream  off\n  \
                        access     open to everyone\n  account    $G, 0 users\n  account    $SYS, 0 users, the system account\n  \
                        limits     payload 1.00 MB, 65536 connections, ping every 2m0s";
        assert_eq!(text, expected);
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config = Config::default();
        let password = Secret::new("s3cr3t".into());
        config.auth.users = vec![User { name: "u".into(), password, account: "$G".into(), permissions: None }];
        let text = lines(&config).join("\n");
        assert!(text.contains("1 user") && !text.contains("s3cr3t"), "{text}");
    }

    #[test]
    fn sizes_have_two_digits_after_the_point() {
        for (n, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KB"), (1 << 20, "1.00 MB"), (3 << 29, "1.50 GB")] {
            assert_eq!(bytes(n), text);
        }
    }
}
