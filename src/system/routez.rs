//! ROUTEZ: the links to other servers, one entry each (a link's lanes are one thing to operators).

use serde::Serialize;

use super::address;
use super::envelope::Outcome;
use super::scene::{Link, Scene};
use super::statsz::ROUTES_PER_LINK;
use super::text::{duration, now_text, time_text, uptime};

#[derive(Debug, Serialize)]
struct Routez {
    server_id: String,
    server_name: String,
    now: String,
    num_routes: usize,
    routes: Vec<Route>,
}

#[derive(Debug, Serialize)]
struct Route {
    rid: u64,
    remote_id: String,
    remote_name: String,
    did_solicit: bool,
    is_configured: bool,
    ip: String,
    port: u16,
    start: String,
    last_activity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<String>,
    uptime: String,
    idle: String,
    pending_size: u64,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    subscriptions: u32,
    compression: &'static str,
}

pub fn build(scene: &Scene) -> Outcome {
    let routes: Vec<Route> = scene.server.links.values().map(|link| route(scene, link)).collect();
    Ok(Box::new(Routez {
        server_id: scene.server.id().to_owned(),
        server_name: scene.server.name().to_owned(),
        now: now_text(scene.now),
        num_routes: routes.len(),
        routes,
    }))
}

fn route(scene: &Scene, link: &Link) -> Route {
    let (ip, port) = address::split(&link.route_url);
    let configured = scene.config().cluster.iter().flat_map(|cluster| &cluster.routes);
    let is_configured = configured.map(|route| route.to_string()).any(|route| route == link.route_url);
    Route {
        rid: link.number * ROUTES_PER_LINK,
        remote_id: link.server_id.clone(),
        remote_name: link.name.clone(),
        did_solicit: is_configured,
        is_configured,
        ip: ip.to_owned(),
        port,
        start: time_text(link.since.wall_ns),
        // A link that stands is never silent for longer than a heartbeat.
        last_activity: now_text(scene.now),
        rtt: (link.rtt_us > 0).then(|| duration(link.rtt_us.saturating_mul(1_000))),
        uptime: uptime(scene.now.us.saturating_sub(link.since.us) / 1_000_000),
        idle: uptime(0),
        pending_size: 0,
        in_msgs: 0,
        out_msgs: 0,
        in_bytes: 0,
        out_bytes: 0,
        subscriptions: 0,
        compression: "off",
    }
}
