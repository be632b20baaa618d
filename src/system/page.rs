//! The pages by name, each with what a request may say about it.
//!
//! A [`Page`] is a value that cores of a server hand to each other. It is read from the JSON of a `$SYS` request (the
//! peer's field names, unknown ones are passed over) or from the query of an HTTP one (see `http`).

use serde::{Deserialize, Deserializer};

use super::conns::ConnsOptions;

/// Rows of a listing when the request names no number (peer: 1024).
pub const LIMIT_DEFAULT: usize = 1024;

/// Most rows of one answer: as many connections as a server takes by default. A larger number is cut to it.
pub const LIMIT_MAX: usize = 64 * 1024;

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Page {
    Statsz,
    Varz,
    Connz(ConnzOptions),
    Routez,
    Subsz(SubszOptions),
    Jsz(JszOptions),
    /// One account's part of [`Page::Jsz`].
    AccountJsz(JszOptions),
    Healthz(HealthzOptions),
    Accountz(AccountzOptions),
    /// The `account_detail` of [`Page::Accountz`] alone.
    AccountInfo(String),
    AccountStatz(AccountStatzOptions),
    /// The connections of one account, as an advisory.
    AccountConns {
        account: String,
        asked: bool,
    },
    Raftz(RaftzOptions),
    Gatewayz,
    Leafz,
    /// Who the server is, without an envelope.
    Idz,
    /// Close a client.
    Kick(u64),
    /// Tell one client to look for another server.
    LameDuck(u64),
    /// Read the configuration again. The process does it, not the cores.
    Reload,
    /// Known by name and not offered: the answer says so.
    Unsupported(&'static str),
}

/// Which servers should answer a request that goes to all. `exact_match`: names as a whole, else as a part.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Selection {
    #[serde(deserialize_with = "or_default")]
    pub server_name: String,
    #[serde(deserialize_with = "or_default")]
    pub cluster: String,
    #[serde(deserialize_with = "or_default")]
    pub host: String,
    #[serde(deserialize_with = "or_default")]
    pub exact_match: bool,
    /// All of them must be there.
    #[serde(deserialize_with = "or_default")]
    pub tags: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub domain: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ConnzOptions {
    #[serde(deserialize_with = "or_default")]
    pub sort: String,
    /// Show users and accounts.
    #[serde(deserialize_with = "or_default")]
    pub auth: bool,
    #[serde(deserialize_with = "or_default")]
    pub subscriptions: bool,
    #[serde(deserialize_with = "or_default")]
    pub subscriptions_detail: bool,
    #[serde(deserialize_with = "or_default")]
    pub offset: i64,
    #[serde(deserialize_with = "or_default")]
    pub limit: i64,
    #[serde(deserialize_with = "or_default")]
    pub cid: u64,
    /// 0 open, 1 closed, 2 both.
    #[serde(deserialize_with = "or_default")]
    pub state: u8,
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    #[serde(deserialize_with = "or_default")]
    pub acc: String,
    #[serde(deserialize_with = "or_default")]
    pub filter_subject: String,
    #[serde(deserialize_with = "or_default")]
    pub mqtt_client: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct SubszOptions {
    #[serde(deserialize_with = "or_default")]
    pub offset: i64,
    #[serde(deserialize_with = "or_default")]
    pub limit: i64,
    #[serde(deserialize_with = "or_default")]
    pub subscriptions: bool,
    #[serde(deserialize_with = "or_default")]
    pub account: String,
    /// Only subscriptions that a message on this subject would reach.
    #[serde(deserialize_with = "or_default")]
    pub test: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct JszOptions {
    #[serde(deserialize_with = "or_default")]
    pub account: String,
    #[serde(deserialize_with = "or_default")]
    pub accounts: bool,
    #[serde(deserialize_with = "or_default")]
    pub streams: bool,
    #[serde(deserialize_with = "or_default")]
    pub consumer: bool,
    #[serde(deserialize_with = "or_default")]
    pub config: bool,
    /// Only the meta leader answers.
    #[serde(deserialize_with = "or_default")]
    pub leader_only: bool,
    #[serde(deserialize_with = "or_default")]
    pub stream_leader_only: bool,
    #[serde(deserialize_with = "or_default")]
    pub offset: i64,
    #[serde(deserialize_with = "or_default")]
    pub limit: i64,
    /// Name the raft groups.
    #[serde(deserialize_with = "or_default")]
    pub raft: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct HealthzOptions {
    #[serde(deserialize_with = "or_default")]
    pub js_enabled: bool,
    #[serde(deserialize_with = "or_default")]
    pub js_enabled_only: bool,
    #[serde(deserialize_with = "or_default")]
    pub js_server_only: bool,
    #[serde(deserialize_with = "or_default")]
    pub js_meta_only: bool,
    #[serde(deserialize_with = "or_default")]
    pub account: String,
    #[serde(deserialize_with = "or_default")]
    pub stream: String,
    #[serde(deserialize_with = "or_default")]
    pub consumer: String,
    /// A list of everything that is wrong instead of the first thing.
    #[serde(deserialize_with = "or_default")]
    pub details: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AccountzOptions {
    #[serde(deserialize_with = "or_default")]
    pub account: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AccountStatzOptions {
    #[serde(deserialize_with = "or_default")]
    pub accounts: Vec<String>,
    /// Also accounts without a connection.
    #[serde(deserialize_with = "or_default")]
    pub include_unused: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RaftzOptions {
    /// Empty: the system account.
    #[serde(deserialize_with = "or_default")]
    pub account: String,
    #[serde(deserialize_with = "or_default")]
    pub group: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClientOptions {
    #[serde(deserialize_with = "or_default")]
    pub cid: u64,
}

/// `null` is what some clients write for an empty list or text.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// A page of a listing: which rows, of how many at most. Negative and zero mean the defaults.
pub fn window(offset: i64, limit: i64) -> (usize, usize) {
    let offset = usize::try_from(offset).unwrap_or(0);
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(LIMIT_DEFAULT);
    (offset, limit.min(LIMIT_MAX))
}

impl Page {
    /// Reads the options of the page called `name` from a request's body.
    ///
    /// # Errors
    /// The JSON's fault in words. `None` for a name that no server knows.
    pub fn parse(name: &str, body: &[u8]) -> Option<Result<Page, String>> {
        Some(match name {
            "STATSZ" => Ok(Page::Statsz),
            "VARZ" => Ok(Page::Varz),
            "CONNZ" => read(body).map(Page::Connz),
            "ROUTEZ" => Ok(Page::Routez),
            "SUBSZ" => read(body).map(Page::Subsz),
            "JSZ" => read(body).map(Page::Jsz),
            "HEALTHZ" => read(body).map(Page::Healthz),
            "ACCOUNTZ" => read(body).map(Page::Accountz),
            "RAFTZ" => read(body).map(Page::Raftz),
            "GATEWAYZ" => Ok(Page::Gatewayz),
            "LEAFZ" => Ok(Page::Leafz),
            "IDZ" => Ok(Page::Idz),
            "KICK" => read(body).map(|ClientOptions { cid }| Page::Kick(cid)),
            "RELOAD" => Ok(Page::Reload),
            "LDM" => read(body).map(|ClientOptions { cid }| Page::LameDuck(cid)),
            other => Ok(Page::Unsupported(UNSUPPORTED.iter().find(|name| **name == other)?)),
        })
    }

    /// The same for requests about one account.
    pub fn parse_account(name: &str, account: &str, body: &[u8]) -> Option<Result<Page, String>> {
        let account = account.to_owned();
        Some(match name {
            "CONNZ" => read(body).map(|options| Page::Connz(ConnzOptions { acc: account, ..options })),
            "SUBSZ" => read(body).map(|options| Page::Subsz(SubszOptions { account, subscriptions: true, ..options })),
            "JSZ" => read(body).map(|options| Page::AccountJsz(JszOptions { account, ..options })),
            "INFO" => Ok(Page::AccountInfo(account)),
            "STATZ" => {
                read(body).map(|options| Page::AccountStatz(AccountStatzOptions { accounts: vec![account], ..options }))
            }
            "LEAFZ" => Ok(Page::Leafz),
            "CONNS" => match read::<ConnsOptions>(body) {
                Ok(options) if options.acc.is_empty() || options.acc == account => {
                    Ok(Page::AccountConns { account, asked: true })
                }
                // Whoever asks in two ways at once hears nothing, as from the peer.
                _ => return None,
            },
            _ => return None,
        })
    }
}

/// Asked of one server or of all.
pub const SERVER_PAGES: &[&str] = &[
    "STATSZ",
    "VARZ",
    "CONNZ",
    "ROUTEZ",
    "SUBSZ",
    "JSZ",
    "HEALTHZ",
    "ACCOUNTZ",
    "RAFTZ",
    "GATEWAYZ",
    "LEAFZ",
    "IDZ",
    "IPQUEUESZ",
    "PROFILEZ",
    "EXPVARZ",
];

/// Asked of one server only.
pub const SERVER_WISHES: &[&str] = &["KICK", "RELOAD", "LDM"];

/// Asked about one account.
pub const ACCOUNT_PAGES: &[&str] = &["CONNZ", "SUBSZ", "JSZ", "INFO", "STATZ", "LEAFZ", "CONNS"];

const UNSUPPORTED: &[&str] = &["IPQUEUESZ", "PROFILEZ", "EXPVARZ"];

/// Options from a body; nothing at all means the defaults.
pub fn read<T: Default + for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, String> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => return Ok(T::default()),
        // A list would be read as the fields in their order.
        Some(b'[') => return Err("a list is no set of options".to_owned()),
        Some(_) => {}
    }
    serde_json::from_slice::<Option<T>>(body).map(Option::unwrap_or_default).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_announced_page_can_be_parsed() {
        for name in SERVER_PAGES.iter().chain(SERVER_WISHES) {
            assert!(matches!(Page::parse(name, b""), Some(Ok(_))), "{name}");
        }
        for name in ACCOUNT_PAGES {
            assert!(matches!(Page::parse_account(name, "A", b"{}"), Some(Ok(_))), "{name}");
        }
        assert_eq!(Page::parse("NOSUCHZ", b""), None);
        assert_eq!(Page::parse_account("NOSUCHZ", "A", b""), None);
    }

    #[test]
    fn unknown_fields_and_null_are_passed_over() {
        let body = br#"{"accounts":true,"raft":true,"exact_match":true,"tags":null,"what":{"ever":1}}"#;
        let Some(Ok(Page::Jsz(options))) = Page::parse("JSZ", body) else { panic!() };
        assert!(options.accounts && options.raft);
        let selection: Selection = read(body).unwrap();
        assert!(selection.exact_match && selection.tags.is_empty());
        assert_eq!(read::<Selection>(b" null ").unwrap(), Selection::default());
    }

    #[test]
    fn bad_json_is_an_error_and_never_a_panic() {
        for body in [&b"{bad"[..], b"[]", b"{\"limit\":\"x\"}", b"\xff", b"{\"cid\":-1}"] {
            assert!(matches!(Page::parse("CONNZ", body), Some(Err(_))), "{body:?}");
        }
    }

    #[test]
    fn an_account_request_is_about_its_account_whatever_the_body_says() {
        let Some(Ok(Page::Connz(options))) = Page::parse_account("CONNZ", "A", br#"{"acc":"B","limit":3}"#) else {
            panic!()
        };
        assert_eq!((options.acc.as_str(), options.limit), ("A", 3));
    }

    #[test]
    fn windows_have_defaults_and_a_bound() {
        assert_eq!(window(0, 0), (0, LIMIT_DEFAULT));
        assert_eq!(window(-5, -1), (0, LIMIT_DEFAULT));
        assert_eq!(window(7, 3), (7, 3));
        assert_eq!(window(0, i64::MAX), (0, LIMIT_MAX));
    }
}
