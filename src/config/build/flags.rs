//! The flags, on top of what the file said.

use std::path::PathBuf;

use super::super::options::{Route, Secret};
use super::super::report::{Report, advertise};
use super::Draft;
use super::cluster::route;
use super::top::set;
use crate::args::Flags;

impl Draft {
    pub fn flags(&mut self, flags: &Flags, report: &mut Report) {
        self.flags_server(flags, report);
        self.flags_log(flags);
        self.flags_auth(flags);
        self.flags_cluster(flags, report);
    }

    fn flags_server(&mut self, flags: &Flags, report: &mut Report) {
        let config = &mut self.config;
        set(&mut self.host, flags.host.clone().filter(|host| !host.is_empty()).map(Some));
        set(&mut self.port, flags.port.map(Some));
        if flags.http_port.is_some() {
            self.http_port = flags.http_port;
        }
        set(&mut config.server_name, flags.server_name.clone().map(|name| Some(name).filter(|name| !name.is_empty())));
        if let Some(text) = &flags.client_advertise {
            config.client_advertise = read_advertise("client_advertise", text, report);
        }
        set(&mut config.pid_file, flags.pid_file.clone().map(said));
        set(&mut config.ports_file_dir, flags.ports_file_dir.clone().map(said));
        set(&mut self.jetstream_on, flags.jetstream);
        set(&mut self.store_dir, flags.store_dir.clone().map(said));
        set(&mut config.trestle.soft.cores, flags.cores.map(Some));
    }

    fn flags_log(&mut self, flags: &Flags) {
        let log = &mut self.config.log;
        set(&mut log.file, flags.log_file.clone().map(said));
        set(&mut log.size_limit_bytes, flags.log_size_limit_bytes);
        set(&mut log.trace_bytes_max, flags.trace_bytes_max);
        set(&mut log.time, flags.log_time);
        set(&mut log.time_utc, flags.log_time_utc);
        set(&mut log.debug, flags.debug);
        set(&mut log.trace, flags.trace);
        set(&mut log.trace_verbose, flags.trace_verbose);
    }

    fn flags_auth(&mut self, flags: &Flags) {
        set(&mut self.user, flags.user.clone().map(|user| Some(user).filter(|user| !user.is_empty())));
        set(&mut self.password, flags.password.clone().map(Some));
        if let Some(token) = &flags.token {
            self.config.auth.token = Some(token.clone()).filter(|token| !token.text().is_empty());
        }
    }

    fn flags_cluster(&mut self, flags: &Flags, report: &mut Report) {
        match flags.cluster_listen.as_deref() {
            None => {}
            // An empty URL switches the cluster of the file off.
            Some("") => (self.cluster_port, self.cluster_block) = (None, false),
            Some(text) => self.flag_cluster_url(text, report),
        }
        let cluster = &mut self.cluster;
        set(&mut cluster.name, flags.cluster_name.clone().map(|name| Some(name).filter(|name| !name.is_empty())));
        set(&mut cluster.no_advertise, flags.no_advertise);
        if flags.connect_retries.is_some() {
            let text = "connect_retries has no effect: a learnt route is given up after some twenty seconds";
            report.notes.push(super::Note { text: text.to_string() });
        }
        if let Some(text) = &flags.cluster_advertise {
            cluster.advertise = read_advertise("cluster_advertise", text, report);
        }
        if let Some(text) = &flags.routes {
            cluster.routes = flag_routes(text, report);
            if !cluster.routes.is_empty() && self.cluster_port.is_none() {
                report.problem("solicited routes require cluster capabilities, e.g. --cluster");
            }
        }
    }

    /// `nats://[user:password@]host:port`, where the port may be -1.
    fn flag_cluster_url(&mut self, text: &str, report: &mut Report) {
        let any = text.trim_end_matches('/').strip_suffix(":-1");
        // Port 1 stands in for "any" while the URL is read.
        let url = any.map_or_else(|| text.to_string(), |start| format!("{start}:1"));
        match listen_url(&url) {
            Ok(url) => {
                self.cluster_host = Some(url.host).filter(|host| !host.is_empty());
                self.cluster_port = Some(if any.is_some() { 0 } else { url.port });
                if url.user.is_some() && url.password.as_deref().unwrap_or_default().is_empty() {
                    report.problem("expected cluster password to be set");
                }
                self.cluster.user = url.user;
                self.cluster.password = url.password.map(Secret::new);
            }
            Err(why) => report.problem(format!("--cluster: {why}")),
        }
    }
}

/// An empty path takes the file's back.
fn said(path: PathBuf) -> Option<PathBuf> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}

/// Reads the URL as a route's; alone among URLs it may leave the host out.
fn listen_url(text: &str) -> Result<Route, String> {
    match text.split_once("://:") {
        Some((scheme, port)) => {
            route(&format!("{scheme}://any:{port}")).map(|url| Route { host: String::new(), ..url })
        }
        None => route(text),
    }
}

fn flag_routes(text: &str, report: &mut Report) -> Vec<Route> {
    let mut routes = Vec::new();
    for url in text.split(',').filter(|url| !url.trim().is_empty()) {
        match route(url) {
            Ok(route) if routes.contains(&route) => {}
            Ok(route) => routes.push(route),
            Err(why) => report.problem(format!("--routes: {why}")),
        }
    }
    routes
}

fn read_advertise(flag: &str, text: &str, report: &mut Report) -> Option<super::super::options::Advertise> {
    let read = advertise(text);
    if read.is_none() && !text.is_empty() {
        report.problem(format!("--{flag}: expected host or host:port, found {text:?}"));
    }
    read
}
