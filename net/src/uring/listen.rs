//! Accepting connections. Every core can listen on the same port: the kernel spreads the connections over them.
//!
//! That has a price: the kernel would also let a second server of the same user listen there and take half of the
//! connections. [`ensure_free`] finds that out before the first core listens.

use super::conn::Conn;
use glommio::net::TcpListener;
use nix::sys::socket::{self, AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrStorage, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};

/// Connections that wait to be accepted. A cluster whose clients all reconnect at once is the worst case; the kernel
/// bounds it further (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// A listening port on this core.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    local: SocketAddr,
    /// The same socket, for shutting it.
    door: OwnedFd,
}

impl Listener {
    /// Listens on an address, together with any other listener of this process there. Port 0 picks one: the other
    /// cores then bind to [`Listener::local_addr`].
    pub fn bind(addr: SocketAddr) -> io::Result<Listener> {
        let fd = bound(addr, true)?;
        socket::listen(&fd, Backlog::new(BACKLOG)?)?;
        let door = fd.try_clone()?;
        // SAFETY: the descriptor is a listening socket, owned and given up here.
        let inner = unsafe { TcpListener::from_raw_fd(fd.into_raw_fd()) };
        let local = inner.local_addr()?;
        Ok(Listener { inner, local, door })
    }

    /// The next connection. An error may pass (too many open files, a caller that is gone again): wait a little and
    /// ask again.
    pub async fn accept(&self) -> io::Result<Conn> {
        Conn::from_stream(self.inner.accept().await?)
    }

    /// Where it listens, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for Listener {
    /// Stops listening at once. The kernel lets go of a socket that a ring refers to some milliseconds after the process
    /// is gone; until then a caller would be let in by nobody, and reset.
    fn drop(&mut self) {
        // Only a socket that does not listen any more refuses, which is what is wanted.
        let _ = socket::shutdown(self.door.as_raw_fd(), Shutdown::Both);
    }
}

/// An error (address in use) when anyone listens on the address already. Callable anywhere, before any listener of this
/// process binds to it.
pub fn ensure_free(addr: SocketAddr) -> io::Result<()> {
    bound(addr, false).map(drop)
}

/// A bound socket that does not listen yet. Connections of an earlier process that linger do not hinder it.
fn bound(addr: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let fd = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    socket::setsockopt(&fd, sockopt::ReusePort, &shared)?;
    socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(addr))?;
    Ok(fd)
}
