//! The HTTP face of the pages: paths below `http_base_path`, and queries as the peer spells them.
//!
//! `?callback=` is passed over: scripts of other origins get JSON, never code.

use super::page::{
    AccountStatzOptions, AccountzOptions, ConnzOptions, HealthzOptions, JszOptions, Page, RaftzOptions, SubszOptions,
};

pub const JSON: &str = "application/json";
pub const TEXT: &str = "text/plain; charset=utf-8";
pub const HTML: &str = "text/html; charset=utf-8";

/// What a request's target means.
#[derive(Debug, PartialEq)]
pub enum Target {
    /// The list of pages.
    Root,
    Page {
        path: &'static str,
        page: Page,
    },
    NotFound,
    /// The query is wrong; why, in words.
    Bad {
        path: &'static str,
        why: String,
    },
}

/// Paths below the base, with what the list of pages says about them.
const PATHS: &[(&str, &str)] = &[
    ("/varz", "General"),
    ("/jsz", "JetStream"),
    ("/connz", "Connections"),
    ("/accountz", "Accounts"),
    ("/accstatz", "Account Stats"),
    ("/subsz", "Subscriptions"),
    ("/routez", "Routes"),
    ("/leafz", "LeafNodes"),
    ("/gatewayz", "Gateways"),
    ("/raftz", "Raft Groups"),
    ("/healthz", "Health Probe"),
    ("/statsz", "Stats"),
];

/// Reads a request's target (`/path?query`). `base` begins with `/` and does not end with one, unless it is `/` alone.
pub fn parse(base: &str, target: &str) -> Target {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = if path.contains('%') { &unescape(path) } else { path };
    let Some(rest) = path.strip_prefix(base.trim_end_matches('/')) else { return Target::NotFound };
    if rest.is_empty() || rest == "/" {
        return Target::Root;
    }
    let rest = if rest == "/subscriptionsz" { "/subsz" } else { rest };
    let Some((path, _)) = PATHS.iter().find(|(path, _)| *path == rest) else { return Target::NotFound };
    match page(path, &Query::new(query)) {
        Ok(page) => Target::Page { path, page },
        Err(why) => Target::Bad { path, why },
    }
}

fn page(path: &str, query: &Query) -> Result<Page, String> {
    Ok(match path {
        "/varz" => Page::Varz,
        "/statsz" => Page::Statsz,
        "/routez" => {
            if !query.is_detail() {
                query.flag("subs")?;
            }
            Page::Routez
        }
        "/leafz" => Page::Leafz,
        "/gatewayz" => Page::Gatewayz,
        "/connz" => Page::Connz(connz(query)?),
        "/subsz" => Page::Subsz(SubszOptions {
            offset: query.number("offset")?,
            limit: query.number("limit")?,
            subscriptions: query.flag("subs")?,
            account: query.text("acc"),
            test: query.text("test"),
        }),
        "/jsz" => Page::Jsz(jsz(query)?),
        "/healthz" => Page::Healthz(healthz(query)?),
        "/accountz" => Page::Accountz(AccountzOptions { account: query.text("acc") }),
        "/accstatz" => {
            Page::AccountStatz(AccountStatzOptions { accounts: Vec::new(), include_unused: query.flag("unused")? })
        }
        _ => Page::Raftz(RaftzOptions { account: query.text("acc"), group: query.text("group") }),
    })
}

fn connz(query: &Query) -> Result<ConnzOptions, String> {
    let detail = query.is_detail();
    let state = query.text("state");
    Ok(ConnzOptions {
        sort: query.text("sort"),
        auth: query.flag("auth")?,
        subscriptions: !detail && query.flag("subs")?,
        subscriptions_detail: detail,
        offset: query.number("offset")?,
        limit: query.number("limit")?,
        cid: query.unsigned("cid")?,
        state: match state.to_ascii_lowercase().as_str() {
            "" | "open" => 0,
            "closed" => 1,
            "any" | "all" => 2,
            _ => return Err(format!("Error decoding state for {state}")),
        },
        user: query.text("user"),
        acc: query.text("acc"),
        filter_subject: query.text("filter_subject"),
        mqtt_client: query.text("mqtt_client"),
    })
}

fn jsz(query: &Query) -> Result<JszOptions, String> {
    Ok(JszOptions {
        account: query.text("acc"),
        accounts: query.flag("accounts")?,
        streams: query.flag("streams")?,
        consumer: query.flag("consumers")?,
        config: query.flag("config")?,
        leader_only: query.flag("leader-only")?,
        stream_leader_only: query.flag("stream-leader-only")?,
        offset: query.number("offset")?,
        limit: query.number("limit")?,
        raft: query.flag("raft")?,
    })
}

fn healthz(query: &Query) -> Result<HealthzOptions, String> {
    Ok(HealthzOptions {
        js_enabled: query.flag("js-enabled")?,
        js_enabled_only: query.flag("js-enabled-only")?,
        js_server_only: query.flag("js-server-only")?,
        js_meta_only: query.flag("js-meta-only")?,
        account: query.text("account"),
        stream: query.text("stream"),
        consumer: query.text("consumer"),
        details: query.flag("details")?,
    })
}

/// A query's parameters; the first of a name counts.
struct Query(Vec<(String, String)>);

impl Query {
    fn new(query: &str) -> Query {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (unescape(name), unescape(value))
        };
        Query(query.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    fn text(&self, name: &str) -> String {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// `subs=detail`.
    fn is_detail(&self) -> bool {
        self.text("subs").eq_ignore_ascii_case("detail")
    }

    /// The spellings that Go takes for a boolean.
    fn flag(&self, name: &str) -> Result<bool, String> {
        match self.text(name).as_str() {
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            other => Err(format!(
                "Error decoding boolean for '{name}': strconv.ParseBool: parsing {other:?}: invalid syntax"
            )),
        }
    }

    fn number(&self, name: &str) -> Result<i64, String> {
        self.parse(name, "int", "Atoi")
    }

    fn unsigned(&self, name: &str) -> Result<u64, String> {
        self.parse(name, "uint64", "ParseUint")
    }

    /// `reader`: the function of Go whose words the peer passes on.
    fn parse<T: std::str::FromStr + Default>(&self, name: &str, kind: &str, reader: &str) -> Result<T, String> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(T::default());
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(&text);
        let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let signed = reader == "Atoi" || digits.len() == text.len();
        let why = if only_digits && signed { "value out of range" } else { "invalid syntax" };
        let refused = || format!("Error decoding {kind} for '{name}': strconv.{reader}: parsing {text:?}: {why}");
        text.parse().map_err(|_| refused())
    }
}

/// `%41` and `+` undone; what is not a valid escape stays as it is.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escape = after.first_chunk::<2>().filter(|_| *byte == b'%').and_then(|digits| hex(*digits));
        match (byte, escape) {
            (_, Some(value)) => {
                out.push(value);
                rest = &after[2..];
            }
            (b'+', None) => {
                out.push(b' ');
                rest = after;
            }
            (byte, None) => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digits: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

/// The list of pages, for people.
pub fn root(base: &str, version: &str) -> String {
    let base = base.trim_end_matches('/');
    let links: String =
        PATHS.iter().map(|(path, title)| format!("<li><a href=\"{base}{path}\">{title}</a></li>\n")).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><title>Trestle</title></head>\n<body>\n<h1>Trestle</h1>\n\
         <p>Speaks NATS {version}</p>\n<ul>\n{links}</ul>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_of(target: &str) -> Page {
        match parse("/", target) {
            Target::Page { page, .. } => page,
            other => panic!("{target}: {other:?}"),
        }
    }

    #[test]
    fn pages_are_below_the_base_path_only() {
        let base = "/nats/dashboard";
        assert!(matches!(parse(base, "/nats/dashboard/varz"), Target::Page { path: "/varz", page: Page::Varz }));
        assert_eq!(parse(base, "/nats/dashboard"), Target::Root);
        assert_eq!(parse(base, "/nats/dashboard/"), Target::Root);
        for elsewhere in ["/varz", "/", "/nats", "/nats/dashboardvarz", "/nats/dashboard/nosuchz", "", "varz"] {
            assert_eq!(parse(base, elsewhere), Target::NotFound, "{elsewhere}");
        }
        assert_eq!(parse("/", "/"), Target::Root);
        assert!(matches!(parse("/", "/%76arz"), Target::Page { path: "/varz", .. }));
        assert!(root(base, "2.15.1").contains("href=\"/nats/dashboard/jsz\""));
    }

    #[test]
    fn queries_become_options() {
        let Page::Connz(options) = page_of("/connz?subs=detail&auth=1&state=ALL&limit=3&cid=7&callback=x&acc=A%2Fb+c")
        else {
            panic!()
        };
        assert!(options.subscriptions_detail && !options.subscriptions && options.auth);
        assert_eq!((options.state, options.limit, options.cid, options.acc.as_str()), (2, 3, 7, "A/b c"));
        let Page::Jsz(options) = page_of("/jsz?streams=1&consumers=true&leader-only=0&raft=T&offset=2") else {
            panic!()
        };
        assert!(options.streams && options.consumer && !options.leader_only && options.raft);
        assert_eq!(options.offset, 2);
        let Page::Healthz(options) = page_of("/healthz?js-enabled-only=true&account=A&stream=S") else { panic!() };
        assert!(options.js_enabled_only && options.stream == "S");
    }

    #[test]
    fn wrong_values_are_named() {
        for (target, what) in [
            ("/connz?limit=a", "int for 'limit': strconv.Atoi: parsing \"a\": invalid syntax"),
            ("/connz?cid=-1", "uint64 for 'cid': strconv.ParseUint: parsing \"-1\": invalid syntax"),
            ("/connz?limit=9223372036854775808", "value out of range"),
            ("/connz?state=zz", "state for zz"),
            ("/jsz?accounts=zz", "boolean for 'accounts': strconv.ParseBool: parsing \"zz\": invalid syntax"),
            ("/healthz?js-enabled-only=zz", "boolean for 'js-enabled-only'"),
            ("/routez?subs=zz", "boolean for 'subs'"),
        ] {
            let Target::Bad { why, .. } = parse("/", target) else { panic!("{target}") };
            assert!(why.contains(what), "{why}");
        }
    }

    #[test]
    fn odd_escapes_stay_as_they_are() {
        assert_eq!(unescape("%41%4g%"), "A%4g%");
        assert_eq!(unescape("%ff"), "\u{fffd}");
    }
}
