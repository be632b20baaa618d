//! HEALTHZ: ready or not, and why not; the answer that load balancers and rolling restarts wait for.

use serde::Serialize;

use super::envelope::Json;
use super::health::{Kind, Problem};
use super::page::HealthzOptions;
use super::part::{Body, PagePart};
use super::scene::Scene;
use crate::ids::CoreId;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    status: &'static str,
    /// Left out over HTTP, which has its own.
    #[serde(skip_serializing_if = "is_zero")]
    status_code: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Problem>,
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

const NOT_FOUND: u16 = 404;
const BAD_REQUEST: u16 = 400;
const UNAVAILABLE: u16 = 503;

impl Health {
    pub fn code(&self) -> u16 {
        self.status_code
    }

    /// The body of the HTTP answer, on one line as the peer has it.
    pub fn http_body(&self) -> Vec<u8> {
        Health { status_code: 0, ..self.clone() }.compact()
    }

    fn ok() -> Health {
        Health { status: "ok", status_code: 200, error: String::new(), errors: Vec::new() }
    }

    fn bad(code: u16, details: bool, mut problems: Vec<Problem>) -> Health {
        let first = problems.first().map(|problem| problem.error.clone()).unwrap_or_default();
        let status = if details || code == BAD_REQUEST { "error" } else { "unavailable" };
        if !details {
            problems.clear();
        }
        Health { status, status_code: code, error: if details { String::new() } else { first }, errors: problems }
    }
}

/// `cores` parts are needed: a core that does not answer is not well.
pub fn build(scene: &Scene, options: &HealthzOptions, parts: &[PagePart], cores: CoreId) -> Health {
    if let Some(refused) = misasked(options) {
        return Health::bad(BAD_REQUEST, options.details, vec![refused]);
    }
    let wants_assets = !(options.js_server_only || options.js_enabled || options.js_enabled_only);
    let mut problems = problems(parts);
    if parts.len() < usize::from(cores) {
        let text = format!("only {} of {cores} cores answer", parts.len());
        problems.insert(0, Problem::new(Kind::Connection, text));
    }
    let meta_well = problems.iter().all(|problem| problem.kind > Kind::Jetstream);
    if scene.js.is_some()
        && wants_assets
        && !options.js_meta_only
        && meta_well
        && let Some(missing) = missing(scene, options)
    {
        return Health::bad(NOT_FOUND, options.details, vec![missing]);
    }
    if problems.is_empty() { Health::ok() } else { Health::bad(UNAVAILABLE, options.details, problems) }
}

fn problems(parts: &[PagePart]) -> Vec<Problem> {
    let of = |part: &PagePart| match &part.body {
        Body::Problems(problems) => problems.clone(),
        _ => Vec::new(),
    };
    let mut all: Vec<Problem> = parts.iter().flat_map(of).collect();
    all.sort();
    // Every core finds the same fault in its copy of the table.
    all.dedup();
    all
}

fn misasked(options: &HealthzOptions) -> Option<Problem> {
    let empty = |what: &str, of: &str| {
        Problem::new(Kind::BadRequest, format!("{what:?} must not be empty when checking {of} health"))
    };
    if options.account.is_empty() && !options.stream.is_empty() {
        Some(empty("account", "stream"))
    } else if options.stream.is_empty() && !options.consumer.is_empty() {
        Some(empty("stream", "consumer"))
    } else {
        None
    }
}

/// What the request names and this server should not have.
fn missing(scene: &Scene, options: &HealthzOptions) -> Option<Problem> {
    let HealthzOptions { account, stream, consumer, .. } = options;
    let me = scene.view.me.server;
    let table = scene.table()?;
    let problem = |kind, error: String| {
        let (account, stream, consumer) = (account.clone(), stream.clone(), consumer.clone());
        Some(Problem { account, stream, consumer, ..Problem::new(kind, error) })
    };
    if !account.is_empty() && table.streams_of(account).next().is_none() {
        return problem(Kind::Account, format!("JetStream account {account:?} not found"));
    }
    if !stream.is_empty() && !table.stream(account, stream).is_some_and(|slot| slot.has_peer(me)) {
        return problem(Kind::Stream, format!("JetStream stream {stream:?} not found on account {account:?}"));
    }
    if !consumer.is_empty() && !table.consumer(account, stream, consumer).is_some_and(|slot| slot.has_peer(me)) {
        let text = format!("JetStream consumer {consumer:?} not found for stream {stream:?} on account {account:?}");
        return problem(Kind::Consumer, text);
    }
    None
}
