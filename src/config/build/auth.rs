//! Users, passwords and what they may do: the `authorization` block, and `users` and `permissions` wherever they
//! stand.

use std::time::Duration;

use super::super::duration;
use super::super::options::{GLOBAL_ACCOUNT, Permissions, ResponseRule, Secret, SubjectRules, User};
use super::super::report::Report;
use super::super::tree::{Entry, Node, Value};
use super::Draft;

/// A client that takes longer than this to present itself is worth a remark (`1m` without quotes is a million).
const TIMEOUT_ADVISED: Duration = Duration::from_secs(60);

/// The `authorization` block of the server or of the cluster.
#[derive(Default)]
pub struct Authorization {
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub token: Option<Secret>,
    pub timeout: Option<Duration>,
    /// `None`: there was no `users`.
    pub users: Option<Vec<User>>,
    pub permissions: Option<Permissions>,
}

impl Draft {
    /// The server's `authorization`.
    pub fn authorization(&mut self, entry: &Entry, report: &mut Report) {
        let Some(block) = read(entry, report) else { return };
        if block.user.is_some() && block.token.is_some() {
            report.wrong(&entry.place, "Cannot have a user/pass and token");
        }
        let users_listed = block.users.is_some() || !self.config.auth.users.is_empty();
        if users_listed && block.user.is_some() {
            report.wrong(&entry.place, "Can not have a single user/pass and a users array");
        }
        if users_listed && block.token.is_some() {
            report.wrong(&entry.place, "Can not have a token and a users array");
        }
        self.user = block.user;
        self.password = block.password;
        self.config.auth.token = block.token;
        if let Some(timeout) = block.timeout {
            self.config.auth.timeout = timeout;
        }
        if let Some(users) = block.users {
            self.users_listed = true;
            self.add_users(entry, users, block.permissions, report);
        }
    }

    /// Adds users whose names nobody has yet, with the block's permissions where they have none of their own.
    pub fn add_users(&mut self, at: &Entry, users: Vec<User>, default: Option<Permissions>, report: &mut Report) {
        for mut user in users {
            if self.config.auth.users.iter().any(|other| other.name == user.name) {
                report.wrong(&at.place, format_args!("Duplicate user {:?} detected", user.name));
                continue;
            }
            user.permissions = user.permissions.or_else(|| default.clone());
            self.config.auth.users.push(user);
        }
    }
}

/// Reads an `authorization` block.
pub fn read(entry: &Entry, report: &mut Report) -> Option<Authorization> {
    const KNOWN: &[&str] = &[
        "user",
        "username",
        "pass",
        "password",
        "token",
        "timeout",
        "users",
        "permissions",
        "default_permissions",
        "default_permission",
    ];
    let mut block = Authorization::default();
    for entry in report.map(entry)?.entries() {
        match entry.key.to_lowercase().as_str() {
            "user" | "username" => block.user = report.filled(entry),
            "pass" | "password" => block.password = report.text(entry).map(Secret::new),
            "token" => block.token = report.filled(entry).map(Secret::new),
            "timeout" => block.timeout = timeout(entry, report),
            "users" => block.users = users(entry, GLOBAL_ACCOUNT, report),
            "permissions" | "default_permissions" | "default_permission" => {
                block.permissions = permissions(entry, report);
            }
            key @ ("auth_callout" | "auth_hook" | "proxy_required") => {
                report.unsupported(entry, &format!("authorization.{key}"));
            }
            _ => report.unknown(entry, KNOWN),
        }
    }
    Some(block)
}

/// Seconds, with a fraction if need be, or a duration.
fn timeout(entry: &Entry, report: &mut Report) -> Option<Duration> {
    let time = match &entry.node.value {
        Value::Int(n) => u64::try_from(*n).ok().map(Duration::from_secs),
        Value::Float(x) => Duration::try_from_secs_f64(*x).ok(),
        Value::Text(text) => duration::parse(text),
        _ => None,
    };
    match time {
        None => report.expected(entry, "seconds or a duration such as \"2s\""),
        Some(time) if time > TIMEOUT_ADVISED => {
            let time = duration::show(time);
            report.note(&entry.place, format_args!("timeout of {time} is high, consider keeping it under 60 seconds"));
        }
        Some(_) => {}
    }
    time.filter(|time| !time.is_zero())
}

/// A `users` list. Users that cannot be read are left out after their problem is noted.
pub fn users(entry: &Entry, account: &str, report: &mut Report) -> Option<Vec<User>> {
    let Value::List(nodes) = &entry.node.value else {
        report.expected(entry, "a list of users [ {user: .., password: ..} ]");
        return None;
    };
    Some(nodes.iter().filter_map(|node| user(entry, node, account, report)).collect())
}

fn user(list: &Entry, node: &Node, account: &str, report: &mut Report) -> Option<User> {
    const KNOWN: &[&str] = &["user", "username", "pass", "password", "permission", "permissions", "authorization"];
    let entry = Entry { node: node.clone(), place: node.place.clone(), ..list.clone() };
    let (mut name, mut password, mut rules) = (None, None, None);
    let mut whole = true;
    for entry in report.map(&entry)?.entries() {
        match entry.key.to_lowercase().as_str() {
            "user" | "username" => {
                name = report.filled(entry);
                whole &= name.is_some();
            }
            "pass" | "password" => password = report.text(entry),
            "permission" | "permissions" | "authorization" => rules = permissions(entry, report),
            key @ ("nkey" | "allowed_connection_types" | "connection_types" | "clients" | "proxy_required") => {
                report.unsupported(entry, &format!("users.{key}"));
                whole = false;
            }
            _ => report.unknown(entry, KNOWN),
        }
    }
    match name {
        Some(name) => {
            let password = Secret::new(password.unwrap_or_default());
            Some(User { name, password, account: account.to_string(), permissions: rules })
        }
        None => {
            if whole {
                report.wrong(&node.place, "User entry requires a user");
            }
            None
        }
    }
}

/// A `permissions` block.
pub fn permissions(entry: &Entry, report: &mut Report) -> Option<Permissions> {
    const KNOWN: &[&str] =
        &["publish", "pub", "import", "subscribe", "sub", "export", "allow_responses", "publish_allow_responses"];
    let mut rules = Permissions::default();
    for entry in report.map(entry)?.entries() {
        match entry.key.to_lowercase().as_str() {
            "pub" | "publish" | "import" => rules.publish = subject_rules(entry, false, report),
            "sub" | "subscribe" | "export" => rules.subscribe = subject_rules(entry, true, report),
            "allow_responses" | "publish_allow_responses" => rules.responses = response_rule(entry, report),
            _ => report.unknown(entry, KNOWN),
        }
    }
    // Whoever may answer may publish nothing else unless it is said.
    if rules.responses.is_some() {
        rules.publish.allow.get_or_insert_default();
    }
    Some(rules)
}

/// A subject, a list of them, or `{allow, deny}`.
fn subject_rules(entry: &Entry, queues: bool, report: &mut Report) -> SubjectRules {
    let Value::Map(map) = &entry.node.value else {
        return SubjectRules { allow: subjects(entry, queues, report), deny: Vec::new() };
    };
    let mut rules = SubjectRules::default();
    for entry in map.entries() {
        match entry.key.to_lowercase().as_str() {
            "allow" => rules.allow = subjects(entry, queues, report),
            "deny" => rules.deny = subjects(entry, queues, report).unwrap_or_default(),
            _ => report.unknown(entry, &["allow", "deny"]),
        }
    }
    rules
}

fn subjects(entry: &Entry, queues: bool, report: &mut Report) -> Option<Vec<String>> {
    let texts = report.texts(entry)?;
    for text in &texts {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            _ if valid_subject(text) => {}
            [subject, queue] if queues => {
                if !valid_subject(subject) {
                    report.wrong(&entry.node.place, format_args!("subject {subject:?} is not a valid subject"));
                }
                if !valid_subject(queue) {
                    report.wrong(&entry.node.place, format_args!("queue {queue:?} is not a valid queue"));
                }
            }
            _ => report.wrong(&entry.node.place, format_args!("subject {text:?} is not a valid subject")),
        }
    }
    Some(texts)
}

/// Tokens between dots, none empty, none with a blank; `>` only as the last.
fn valid_subject(text: &str) -> bool {
    let mut tokens = text.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() || token.contains(char::is_whitespace) || (token == ">" && tokens.peek().is_some()) {
            return false;
        }
    }
    true
}

/// `true`, or `{max, expires}`.
fn response_rule(entry: &Entry, report: &mut Report) -> Option<ResponseRule> {
    const KNOWN: &[&str] = &["max", "max_msgs", "max_messages", "max_responses", "expires", "expiration", "ttl"];
    if let Value::Bool(on) = entry.node.value {
        return on.then(ResponseRule::default);
    }
    let mut rule = ResponseRule::default();
    for entry in report.map(entry)?.entries() {
        match entry.key.to_lowercase().as_str() {
            "max" | "max_msgs" | "max_messages" | "max_responses" => match report.int(entry, i64::MIN, i32::MAX.into())
            {
                Some(n) if n < 0 => rule.messages_max = None,
                Some(n) if n > 0 => rule.messages_max = u32::try_from(n).ok(),
                _ => {}
            },
            "expires" | "expiration" | "ttl" => match report.text(entry) {
                Some(text) if text.starts_with('-') && duration::parse(&text[1..]).is_some() => rule.expires = None,
                Some(text) => match duration::parse(&text) {
                    Some(time) if time.is_zero() => {}
                    Some(time) => rule.expires = Some(time),
                    None => report.expected(entry, "a duration such as \"2m\""),
                },
                None => {}
            },
            _ => report.unknown(entry, KNOWN),
        }
    }
    Some(rule)
}
