//! From the parts of all cores to a page: which builder, and how its value is sent.

use bytes::Bytes;
use serde::Serialize;

use super::envelope::{Blank, Identity, Json, Outcome, Refusal, ServerInfo, seal, seal_error};
use super::healthz::Health;
use super::http::{JSON, TEXT};
use super::page::Page;
use super::part::{Body, PagePart};
use super::scene::Scene;
use super::text::now_text;
use super::{accountz, conns, connz, healthz, jsz, raftz, routez, statsz, subsz, varz};
use crate::ids::CoreId;

/// What an HTTP request gets.
#[derive(Debug, PartialEq)]
pub struct HttpAnswer {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Bytes,
}

impl HttpAnswer {
    pub fn text(status: u16, text: impl Into<Bytes>) -> HttpAnswer {
        HttpAnswer { status, content_type: TEXT, body: text.into() }
    }
}

/// What can be refused without asking any core.
pub fn check(page: &Page) -> Result<(), Refusal> {
    match page {
        Page::Connz(options) => connz::check(options),
        Page::Subsz(options) => subsz::check(options),
        Page::Unsupported(name) => Err(Refusal::new(501, format!("{name} is not supported by this server"))),
        _ => Ok(()),
    }
}

/// The answer to a `$SYS` request; `None`: silence. `seq` counts what this server says.
pub fn of_request(scene: &Scene, page: &Page, parts: Vec<PagePart>, cores: CoreId, seq: u64) -> Option<Bytes> {
    if let Page::AccountConns { account, asked } = page {
        return conns::body(scene, account, *asked, &parts, seq);
    }
    let info = ServerInfo::new(scene.server, seq, scene.now);
    let key = if *page == Page::Statsz { "statsz" } else { "data" };
    match build(scene, page, parts, cores, true) {
        Ok(value) if *page == Page::Idz => Some(value.compact().into()),
        Ok(value) => Some(seal(&info, key, value.as_ref())),
        Err(Refusal::Skip) => None,
        Err(Refusal::Error { code, text }) => {
            let (code, data) = refused(page, code);
            Some(seal_error(&info, code, &text, data))
        }
    }
}

/// How a page that is refused over `$SYS` is: what HTTP calls a bad request is the server's error there, as on the peer.
pub fn refused(page: &Page, code: u16) -> (u16, Blank) {
    let data = match page {
        Page::Unsupported(_) | Page::Reload | Page::Kick(_) | Page::LameDuck(_) => Blank::Absent,
        Page::Jsz(_) => Blank::Empty,
        _ => Blank::Null,
    };
    (if code == 400 { 500 } else { code }, data)
}

/// The answer to an HTTP request.
pub fn of_http(scene: &Scene, page: &Page, parts: Vec<PagePart>, cores: CoreId) -> HttpAnswer {
    if let Page::Healthz(options) = page {
        let health = healthz::build(scene, options, &parts, cores);
        return HttpAnswer { status: health.code(), content_type: JSON, body: health.http_body().into() };
    }
    match build(scene, page, parts, cores, false) {
        Ok(value) => HttpAnswer { status: 200, content_type: JSON, body: value.pretty().into() },
        // The request was for the leader only, and this is not it: an empty object rather than an empty page.
        Err(Refusal::Skip) => HttpAnswer { status: 200, content_type: JSON, body: Bytes::from_static(b"{}") },
        Err(Refusal::Error { code, text }) => HttpAnswer::text(code, text),
    }
}

fn build(scene: &Scene, page: &Page, parts: Vec<PagePart>, cores: CoreId, asked: bool) -> Outcome {
    match page {
        Page::Statsz => statsz::build(scene, &parts),
        Page::Varz => varz::build(scene, &parts),
        Page::Connz(options) => connz::build(scene, options, parts),
        Page::Routez => routez::build(scene),
        Page::Subsz(options) => subsz::build(scene, options, parts),
        Page::Jsz(options) => jsz::build(scene, options, &parts),
        Page::AccountJsz(options) => jsz::build_account(scene, options, &parts),
        Page::Healthz(options) => {
            let health: Health = healthz::build(scene, options, &parts, cores);
            Ok(Box::new(health))
        }
        Page::Accountz(options) => accountz::build(scene, options, &parts),
        Page::AccountInfo(account) => accountz::build_info(scene, account, &parts),
        Page::AccountStatz(options) => accountz::build_statz(scene, options, &parts, asked),
        Page::Raftz(_) => raftz::build(scene, parts),
        Page::Gatewayz => Ok(Box::new(Gatewayz::new(scene))),
        Page::Leafz => Ok(Box::new(Leafz::new(scene))),
        Page::Idz => Ok(Box::new(identity(scene))),
        Page::Kick(_) => kicked(&parts),
        Page::LameDuck(_) => told(&parts),
        Page::Unsupported(_) | Page::Reload | Page::AccountConns { .. } => {
            check(page).map(|()| Box::new(Nothing {}) as Box<dyn Json>)
        }
    }
}

fn identity(scene: &Scene) -> Identity {
    Identity {
        name: scene.server.name().to_owned(),
        host: scene.config().listen.host.clone(),
        id: scene.server.id().to_owned(),
    }
}

fn kicked(parts: &[PagePart]) -> Outcome {
    if parts.iter().any(|part| matches!(part.body, Body::Kicked(true))) {
        return Ok(Box::new(Nothing {}));
    }
    Err(Refusal::new(500, "no such client or leafnode id"))
}

fn told(parts: &[PagePart]) -> Outcome {
    let here = |part: &PagePart| if let Body::Told(listens) = part.body { listens } else { None };
    match parts.iter().find_map(here) {
        Some(true) => Ok(Box::new(Nothing {})),
        Some(false) => {
            Err(Refusal::new(500, "client does not support Lame Duck Mode or is not ready to receive the notification"))
        }
        None => Err(Refusal::new(500, "no such client id")),
    }
}

#[derive(Debug, Serialize)]
struct Nothing {}

/// No gateways, in the peer's form.
#[derive(Debug, Serialize)]
struct Gatewayz {
    server_id: String,
    now: String,
    outbound_gateways: Nothing,
    inbound_gateways: Nothing,
}

impl Gatewayz {
    fn new(scene: &Scene) -> Gatewayz {
        let (outbound_gateways, inbound_gateways) = (Nothing {}, Nothing {});
        Gatewayz { server_id: scene.server.id().into(), now: now_text(scene.now), outbound_gateways, inbound_gateways }
    }
}

/// No leaf nodes, in the peer's form.
#[derive(Debug, Serialize)]
struct Leafz {
    server_id: String,
    now: String,
    leafnodes: u32,
    leafs: [Nothing; 0],
}

impl Leafz {
    fn new(scene: &Scene) -> Leafz {
        Leafz { server_id: scene.server.id().into(), now: now_text(scene.now), leafnodes: 0, leafs: [] }
    }
}
