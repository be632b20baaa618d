//! One TCP connection on one core, with a reading and a writing half for two tasks of that core.
//!
//! Reading waits for readiness and then takes what is there, at most 64 KiB at once, into memory that the connections
//! of a core share (see [`super::buffers`]). Writing tries at once, all parts in one call, and waits only when the
//! socket is full. Nagle's delay is off: the caller gathers what belongs together.
//!
//! No timeouts here: `close` on either half, or on a [`Closer`], wakes both halves, and the caller knows when.

use super::buffers::Buffers;
use bytes::Bytes;
use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice, Write};
use std::mem::ManuallyDrop;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;

/// Parts given to the kernel in one call. More bring nothing: the loop comes back for them.
const PARTS_MAX: usize = 64;

thread_local! {
    /// One set per core: an executor has one thread and connections do not move while they are read.
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// A connection, whole.
#[derive(Debug)]
pub struct Conn {
    reader: Reader,
    writer: Writer,
}

/// The half that reads.
#[derive(Debug)]
pub struct Reader(Rc<Socket>);

/// The half that writes.
#[derive(Debug)]
pub struct Writer(Rc<Socket>);

/// Ends a connection from a third task, or gives its socket away. It keeps the socket from being freed, so drop it with
/// the halves.
#[derive(Clone, Debug)]
pub struct Closer(Rc<Socket>);

impl Closer {
    /// Ends the connection now, in both directions: what waits in either half wakes up.
    pub fn close(&self) {
        self.0.close();
    }

    /// The socket once more, to be sent to another core and taken over there by [`Conn::from_fd`]. Nothing that was not
    /// read is lost. The halves here must be dropped before they read or write again.
    pub fn to_fd(&self) -> io::Result<OwnedFd> {
        // A second descriptor of the same socket: glommio cannot let go of its own without closing it.
        self.0.plain.try_clone().map(OwnedFd::from)
    }
}

/// Both halves borrow `stream` during a poll only, never across one, so they cannot meet.
#[derive(Debug)]
struct Socket {
    stream: RefCell<TcpStream>,
    /// The same descriptor, for the calls that glommio does not have. Never closed through this.
    plain: ManuallyDrop<std::net::TcpStream>,
    remote: SocketAddr,
    local: SocketAddr,
}

impl Conn {
    /// Takes a connected socket over to this core.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Conn> {
        // SAFETY: the descriptor is owned and given up here, so nobody else closes it.
        Conn::from_stream(unsafe { TcpStream::from_raw_fd(fd.into_raw_fd()) })
    }

    pub(super) fn from_stream(stream: TcpStream) -> io::Result<Conn> {
        // SAFETY: `plain` lives beside the stream that owns the descriptor, is dropped with it and, being ManuallyDrop,
        // does not close it.
        let plain = ManuallyDrop::new(unsafe { std::net::TcpStream::from_raw_fd(stream.as_raw_fd()) });
        plain.set_nonblocking(true)?;
        plain.set_nodelay(true)?;
        let (remote, local) = (plain.peer_addr()?, plain.local_addr()?);
        let socket = Rc::new(Socket { stream: RefCell::new(stream), plain, remote, local });
        Ok(Conn { reader: Reader(socket.clone()), writer: Writer(socket) })
    }

    /// Two halves for two tasks.
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }

    /// A handle that can only close.
    pub fn closer(&self) -> Closer {
        Closer(self.reader.0.clone())
    }

    /// See [`Reader::read`].
    pub async fn read(&mut self) -> io::Result<Bytes> {
        self.reader.read().await
    }

    /// See [`Writer::write_all`].
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes).await
    }

    /// See [`Writer::write_parts`].
    pub async fn write_parts(&mut self, parts: &[Bytes]) -> io::Result<()> {
        self.writer.write_parts(parts).await
    }

    pub fn remote_addr(&self) -> SocketAddr {
        self.reader.0.remote
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.reader.0.local
    }

    /// Ends the connection now, in both directions.
    pub fn close(&self) {
        self.reader.0.close();
    }
}

impl Reader {
    /// What has arrived, at least one byte; empty when the other side has ended the connection or it was closed here.
    /// Dropping the future loses nothing.
    pub async fn read(&mut self) -> io::Result<Bytes> {
        poll_fn(|cx| {
            BUFFERS.with_borrow_mut(|buffers| {
                let mut stream = self.0.stream.borrow_mut();
                let read = Pin::new(&mut *stream).poll_read(cx, buffers.window());
                read.map_ok(|bytes| buffers.take(bytes))
            })
        })
        .await
    }

    pub fn remote_addr(&self) -> SocketAddr {
        self.0.remote
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    /// Ends the connection now, in both directions: the writing half, too, gets an error.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Writer {
    /// Writes all of it. After an error, or when the future was dropped before its end, it is unknown how much has left.
    pub async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write_some(&[IoSlice::new(bytes)]).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Writes all parts in order, copying none of them; small ones are best gathered before.
    pub async fn write_parts(&mut self, parts: &[Bytes]) -> io::Result<()> {
        let mut begun = 0;
        let mut rest = parts;
        while let Some((first, after)) = rest.split_first() {
            if begun == first.len() {
                (rest, begun) = (after, 0);
                continue;
            }
            let mut slices = [IoSlice::new(&[]); PARTS_MAX];
            slices[0] = IoSlice::new(&first[begun..]);
            for (slice, part) in slices[1..].iter_mut().zip(after) {
                *slice = IoSlice::new(part);
            }
            let count = rest.len().min(PARTS_MAX);
            let mut written = self.write_some(&slices[..count]).await?;
            while let Some((first, after)) = rest.split_first().filter(|(first, _)| written >= first.len() - begun) {
                written -= first.len() - begun;
                (rest, begun) = (after, 0);
            }
            begun += written;
        }
        Ok(())
    }

    /// Says that nothing more will be written: the other side reads to the end of what was.
    pub fn finish(&self) -> io::Result<()> {
        self.0.plain.shutdown(Shutdown::Write)
    }

    /// Ends the connection now, in both directions: the reading half reads its end.
    pub fn close(&self) {
        self.0.close();
    }

    /// Writes some of it, at least one byte. The first slice must not be empty.
    async fn write_some(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match (&*self.0.plain).write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    glommio::yield_if_needed().await;
                    return Ok(written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return poll_fn(|cx| Pin::new(&mut *self.0.stream.borrow_mut()).poll_write(cx, &slices[0])).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Socket {
    fn close(&self) {
        // It may be gone already; then there is nothing to end.
        let _ = self.plain.shutdown(Shutdown::Both);
    }
}
