//! Which addresses this server listens on, found out and checked before any core starts; and the files that tell
//! others (pid file, ports file).

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use net::uring::listen::ensure_free;
use serde::Serialize;

use crate::config::Config;
use crate::config::options::HostPort;

/// The addresses as bound: a port that the kernel was asked to pick is known here.
#[derive(Debug, Clone)]
pub struct Ports {
    pub client: SocketAddr,
    pub http: Option<SocketAddr>,
    pub cluster: Option<SocketAddr>,
}

impl Ports {
    /// Picks and checks every address.
    ///
    /// # Errors
    /// The peer's line for a port that is taken.
    pub fn find(config: &Config) -> Result<Ports, String> {
        Ok(Ports {
            client: find("port", &config.listen)?,
            http: config.http.as_ref().map(|http| find("http port", http)).transpose()?,
            cluster: config.cluster.as_ref().map(|cluster| find("route port", &cluster.listen)).transpose()?,
        })
    }

    /// `host:port` where clients reach this server from outside: what was configured, else every address of the
    /// machine that is not loopback, else the listening address itself.
    pub fn client_urls(&self, config: &Config) -> Vec<String> {
        if let Some(advertise) = &config.client_advertise {
            return vec![format!("{}:{}", advertise.host, advertise.port.unwrap_or(self.client.port()))];
        }
        addresses(self.client)
    }

    /// Where other servers reach this one.
    pub fn route_url(&self, config: &Config) -> Option<String> {
        let cluster = config.cluster.as_ref()?;
        let bound = self.cluster?;
        if let Some(advertise) = &cluster.advertise {
            return Some(format!("{}:{}", advertise.host, advertise.port.unwrap_or(bound.port())));
        }
        addresses(bound).into_iter().next()
    }

    /// Writes the pid file and the ports file; what was written must be removed at the end.
    pub fn announce(&self, config: &Config, pid: u32) -> Result<Vec<PathBuf>, String> {
        let mut written = Vec::new();
        let mut write = |path: PathBuf, text: String| {
            std::fs::write(&path, text).map_err(|e| format!("Could not write {}: {e}", path.display()))?;
            written.push(path);
            Ok::<(), String>(())
        };
        if let Some(path) = &config.pid_file {
            write(path.clone(), pid.to_string())?;
        }
        if let Some(folder) = &config.ports_file_dir {
            write(ports_path(folder, pid), self.ports_json(config))?;
        }
        Ok(written)
    }

    fn ports_json(&self, config: &Config) -> String {
        #[derive(Serialize)]
        struct File {
            nats: Vec<String>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            monitoring: Vec<String>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            cluster: Vec<String>,
        }
        let urls = |scheme: &str, addr: SocketAddr| -> Vec<String> {
            addresses(addr).iter().map(|addr| format!("{scheme}://{addr}")).collect()
        };
        let _ = config;
        let file = File {
            nats: urls("nats", self.client),
            monitoring: self.http.map(|addr| urls("http", addr)).unwrap_or_default(),
            cluster: self.cluster.map(|addr| urls("nats", addr)).unwrap_or_default(),
        };
        serde_json::to_string(&file).unwrap_or_default()
    }
}

/// `<program>_<pid>.ports`, as the peer names it.
fn ports_path(folder: &Path, pid: u32) -> PathBuf {
    let program = std::env::args().next().unwrap_or_default();
    let program = Path::new(&program).file_name().and_then(|name| name.to_str()).unwrap_or("trestle");
    folder.join(format!("{program}_{pid}.ports"))
}

/// Resolves, picks a port if asked to, and makes sure that nobody listens there: cores share their port by
/// SO_REUSEPORT, which a second server of the same user could do too.
fn find(what: &str, at: &HostPort) -> Result<SocketAddr, String> {
    let host = if at.host.is_empty() { "0.0.0.0" } else { at.host.as_str() };
    let text = format!("{host}:{}", at.port);
    let resolved = (host, at.port).to_socket_addrs().map_err(|e| format!("Error listening on {what}: {text}, {e}"))?;
    let addr = resolved.into_iter().next().ok_or_else(|| format!("Error listening on {what}: {text}, no such host"))?;
    let addr = if addr.port() == 0 { pick(addr)? } else { addr };
    ensure_free(addr).map_err(|e| {
        let why =
            if e.kind() == std::io::ErrorKind::AddrInUse { "address already in use".into() } else { e.to_string() };
        format!("Error listening on {what}: {text}, \"listen tcp {addr}: bind: {why}\"")
    })?;
    Ok(addr)
}

fn pick(addr: SocketAddr) -> Result<SocketAddr, String> {
    std::net::TcpListener::bind(addr)
        .and_then(|listener| listener.local_addr())
        .map_err(|e| format!("no free port: {e}"))
}

/// Addresses for others: all of the machine's when bound to all of them.
fn addresses(bound: SocketAddr) -> Vec<String> {
    if !bound.ip().is_unspecified() {
        return vec![bound.to_string()];
    }
    let mut found: Vec<IpAddr> = nix::ifaddrs::getifaddrs()
        .map(|all| all.filter_map(|one| one.address.as_ref().and_then(ip_of)).collect())
        .unwrap_or_default();
    found.retain(|ip| !ip.is_loopback() && (ip.is_ipv4() || bound.is_ipv6()));
    found.sort();
    found.dedup();
    if found.is_empty() {
        let loopback = if bound.is_ipv4() { "127.0.0.1".to_owned() } else { "[::1]".to_owned() };
        return vec![format!("{loopback}:{}", bound.port())];
    }
    found.into_iter().map(|ip| SocketAddr::new(ip, bound.port()).to_string()).collect()
}

fn ip_of(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    // Link-local addresses mean nothing without their interface.
    address.as_sockaddr_in6().map(|v6| v6.ip()).filter(|ip| !ip.is_unicast_link_local()).map(IpAddr::V6)
}
