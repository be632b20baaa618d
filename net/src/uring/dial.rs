//! Connecting to someone else. Names are resolved by the caller: the resolver blocks.

use super::conn::Conn;
use glommio::net::TcpStream;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Connects, or fails within `timeout` (which must not be 0).
pub async fn dial(addr: SocketAddr, timeout: Duration) -> io::Result<Conn> {
    let conn = Conn::from_stream(TcpStream::connect_timeout(addr, timeout).await?)?;
    if conn.local_addr() == conn.remote_addr() {
        // Nobody listens, but the kernel picked the very port that was dialled for our own end, and TCP lets a socket
        // connect to itself.
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(conn)
}
