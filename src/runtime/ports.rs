//! Which addresses this server listens on, found out and checked before any core starts; and the files that tell
//! others (pid file, ports file).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use net::uring::listen::ensure_free;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
use serde::Serialize;

use crate::config::Config;
use crate::config::options::HostPort;

/// How long a port may still belong to a server that was killed, and how often to look.
const FREE_PATIENCE: Duration = Duration::from_secs(1);
const FREE_POLL: Duration = Duration::from_millis(10);

/// The addresses as bound: a port that the kernel was asked to pick is known here.
#[derive(Debug)]
pub struct Ports {
    pub client: SocketAddr,
    pub http: Option<SocketAddr>,
    pub cluster: Option<SocketAddr>,
    /// Bound to the same addresses, never listening: no other process gets one of our ports while we start.
    _held: Vec<OwnedFd>,
}

impl Ports {
    /// Picks and checks every address.
    ///
    /// # Errors
    /// The peer's line for a port that is taken.
    pub fn find(config: &Config) -> Result<Ports, String> {
        let mut held = Vec::new();
        let client = find("port", &config.listen, &mut held)?;
        let http = config.http.as_ref().map(|http| find("http port", http, &mut held)).transpose()?;
        let cluster = config.cluster.as_ref();
        let cluster = cluster.map(|cluster| find("route port", &cluster.listen, &mut held)).transpose()?;
        Ok(Ports { client, http, cluster, _held: held })
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
            write(ports_path(folder, pid), self.ports_json())?;
        }
        Ok(written)
    }

    fn ports_json(&self) -> String {
        #[derive(Serialize)]
        struct File {
            nats: Vec<String>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            monitoring: Vec<String>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            cluster: Vec<String>,
        }
        let urls = |scheme: &str, addr: SocketAddr| -> Vec<String> {
            all_addresses(addr).iter().map(|addr| format!("{scheme}://{addr}")).collect()
        };
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
fn find(what: &str, at: &HostPort, held: &mut Vec<OwnedFd>) -> Result<SocketAddr, String> {
    let host = if at.host.is_empty() { "0.0.0.0" } else { at.host.as_str() };
    let text = format!("{host}:{}", at.port);
    let resolved = (host, at.port).to_socket_addrs().map_err(|e| format!("Error listening on {what}: {text}, {e}"))?;
    let addr = resolved.into_iter().next().ok_or_else(|| format!("Error listening on {what}: {text}, no such host"))?;
    if addr.port() != 0 {
        wait_free(addr).map_err(|e| {
            let taken = e.kind() == std::io::ErrorKind::AddrInUse;
            let why = if taken { "address already in use".into() } else { e.to_string() };
            format!("Error listening on {what}: {text}, \"listen tcp {addr}: bind: {why}\"")
        })?;
    }
    match hold(addr) {
        Ok((socket, addr)) => {
            held.push(socket);
            Ok(addr)
        }
        // Closed connections of another program may linger on the port; the listeners cope with those.
        Err(_) if addr.port() != 0 => Ok(addr),
        Err(error) => Err(format!("Error listening on {what}: {text}, no free port: {error}")),
    }
}

/// The kernel closes what a killed server had in its rings a moment after the process is gone: a port that is taken is
/// asked for again for a while.
fn wait_free(addr: SocketAddr) -> std::io::Result<()> {
    let until = Instant::now() + FREE_PATIENCE;
    loop {
        match ensure_free(addr) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(FREE_POLL);
            }
            other => return other,
        }
    }
}

/// Binds a socket that shares the port with our own listeners and with nobody else; port 0 picks a free one.
fn hold(addr: SocketAddr) -> std::io::Result<(OwnedFd, SocketAddr)> {
    let family = if addr.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    socket::setsockopt(&socket, sockopt::ReusePort, &true)?;
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(addr))?;
    let bound: SockaddrStorage = socket::getsockname(socket.as_raw_fd())?;
    let port = bound.as_sockaddr_in().map(|v4| v4.port()).or(bound.as_sockaddr_in6().map(|v6| v6.port()));
    Ok((socket, SocketAddr::new(addr.ip(), port.unwrap_or(addr.port()))))
}

/// Addresses for others: all of the machine's when bound to all of them, loopback only where there is no other.
fn addresses(bound: SocketAddr) -> Vec<String> {
    let all = all_ips(bound);
    let others: Vec<IpAddr> = all.iter().copied().filter(|ip| !ip.is_loopback() || *ip == bound.ip()).collect();
    with_port(if others.is_empty() { all } else { others }, bound)
}

/// Addresses for this machine and others, loopback first.
fn all_addresses(bound: SocketAddr) -> Vec<String> {
    with_port(all_ips(bound), bound)
}

fn with_port(ips: Vec<IpAddr>, bound: SocketAddr) -> Vec<String> {
    ips.into_iter().map(|ip| SocketAddr::new(ip, bound.port()).to_string()).collect()
}

/// What `bound` listens on.
fn all_ips(bound: SocketAddr) -> Vec<IpAddr> {
    if !bound.ip().is_unspecified() {
        return vec![bound.ip()];
    }
    let mut found: Vec<IpAddr> = nix::ifaddrs::getifaddrs()
        .map(|all| all.filter_map(|one| one.address.as_ref().and_then(ip_of)).collect())
        .unwrap_or_default();
    found.push(if bound.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    found.retain(|ip| ip.is_ipv4() || bound.is_ipv6());
    found.sort_by_key(|ip| (!ip.is_loopback(), *ip));
    found.dedup();
    found
}

fn ip_of(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    // Link-local addresses mean nothing without their interface.
    address.as_sockaddr_in6().map(|v6| v6.ip()).filter(|ip| !ip.is_unicast_link_local()).map(IpAddr::V6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_reached_here_first_and_named_to_others_by_other_addresses() {
        let all = all_addresses("0.0.0.0:4222".parse().unwrap());
        assert_eq!(all[0], "127.0.0.1:4222");
        assert!(all.iter().all(|addr| addr.ends_with(":4222") && !addr.starts_with('[')), "{all:?}");
        let others = addresses("0.0.0.0:4222".parse().unwrap());
        assert!(others == all || others.iter().all(|addr| !addr.starts_with("127.")), "{others:?}");
        let one = "127.0.0.1:5".parse().unwrap();
        assert_eq!(
            (addresses(one), all_addresses(one)),
            (vec!["127.0.0.1:5".to_owned()], vec!["127.0.0.1:5".to_owned()])
        );
    }

    #[test]
    fn a_port_that_was_found_is_ours_alone() {
        let at = HostPort { host: "127.0.0.1".into(), port: 0 };
        let mut held = Vec::new();
        let addr = find("port", &at, &mut held).unwrap();
        assert_ne!(addr.port(), 0);
        let same = HostPort { host: "127.0.0.1".into(), port: addr.port() };
        let refusal = find("port", &same, &mut Vec::new()).unwrap_err();
        let expected = format!("Error listening on port: {addr}, \"listen tcp {addr}: bind: address already in use\"");
        assert_eq!(refusal, expected);
    }
}
