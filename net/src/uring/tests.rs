use super::conn::Conn;
use super::dial::dial;
use super::listen::{Listener, ensure_free};
use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a test on an executor of its own; false where the machine has no io_uring.
fn on_core<F: Future<Output = ()> + 'static>(
    test: impl FnOnce() -> F + Send + 'static,
) -> std::thread::JoinHandle<bool> {
    std::thread::spawn(move || {
        let builder = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20);
        match builder.make() {
            Ok(executor) => executor.run(test()),
            Err(why) => {
                println!("skipped: no io_uring: {why}");
                return false;
            }
        }
        true
    })
}

fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F + Send + 'static) {
    on_core(test).join().expect("the test holds");
}

/// Any port of a loopback address that nobody else uses: a port that was let go of there is taken by nobody.
fn loopback() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = std::process::id().wrapping_mul(32).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let [_, high, middle, low] = (own % (1 << 24)).to_be_bytes();
    SocketAddr::from(([127, high.clamp(1, 254), middle, low.clamp(1, 254)], 0))
}

/// Two ends of one connection: the one that dialled first.
async fn pair() -> (Conn, Conn) {
    let listener = Listener::bind(loopback()).unwrap();
    let addr = listener.local_addr();
    let dialled = glommio::spawn_local(async move { dial(addr, TIMEOUT).await.unwrap() });
    let accepted = listener.accept().await.unwrap();
    (dialled.await, accepted)
}

async fn read_exactly(conn: &mut Conn, bytes: usize) -> Vec<u8> {
    let mut got = Vec::new();
    while got.len() < bytes {
        let read = conn.read().await.unwrap();
        assert!(!read.is_empty(), "the connection ended after {} bytes", got.len());
        got.extend_from_slice(&read);
    }
    got
}

#[test]
fn bytes_come_back_from_an_echo() {
    run(|| async {
        let (mut client, mut server) = pair().await;
        assert_eq!(client.remote_addr(), server.local_addr());
        assert_eq!(client.local_addr(), server.remote_addr());
        let echo = glommio::spawn_local(async move {
            loop {
                let read = server.read().await.unwrap();
                if read.is_empty() {
                    return;
                }
                server.write_all(&read).await.unwrap();
            }
        });
        for n in 0..200u32 {
            let sent = vec![n as u8; 1 + (n as usize * 37) % 5_000];
            client.write_all(&sent).await.unwrap();
            assert_eq!(read_exactly(&mut client, sent.len()).await, sent);
        }
        client.close();
        echo.await;
    });
}

#[test]
fn many_parts_arrive_in_order_through_a_full_socket() {
    run(|| async {
        let (client, mut server) = pair().await;
        let (_reader, mut writer) = client.split();
        let mut parts: Vec<Bytes> =
            (0..500u32).map(|n| Bytes::from(vec![n as u8; (n as usize * 131) % 9_000])).collect();
        parts.push(Bytes::from((0..8_000_000u32).map(|n| (n / 7) as u8).collect::<Vec<_>>()));
        parts.push(Bytes::new());
        parts.push(Bytes::from_static(b"end"));
        let expected = parts.concat();
        // The other side does not read before all of it was offered, so the socket fills up.
        let write = glommio::spawn_local(async move {
            writer.write_parts(&parts).await.unwrap();
            writer.finish().unwrap();
        });
        glommio::executor().yield_task_queue_now().await;
        assert!(read_exactly(&mut server, expected.len()).await == expected);
        assert!(server.read().await.unwrap().is_empty());
        write.await;
    });
}

#[test]
fn closing_wakes_a_reader_and_a_writer_that_wait() {
    run(|| async {
        let (client, _server) = pair().await;
        let closer = client.closer();
        let (mut reader, mut writer) = client.split();
        let reading = glommio::spawn_local(async move { reader.read().await });
        // The server never reads: the socket fills up.
        let writing = glommio::spawn_local(async move { writer.write_all(&vec![0; 64 << 20]).await });
        glommio::executor().yield_task_queue_now().await;
        closer.close();
        assert!(reading.await.unwrap().is_empty());
        assert!(writing.await.is_err());
    });
}

#[test]
fn a_side_that_vanishes_ends_the_write_to_it() {
    run(|| async {
        let (client, server) = pair().await;
        let (_reader, mut writer) = client.split();
        let writing = glommio::spawn_local(async move { writer.write_all(&vec![0; 64 << 20]).await });
        glommio::executor().yield_task_queue_now().await;
        drop(server);
        assert!(writing.await.is_err());
    });
}

#[test]
fn the_own_close_ends_a_waiting_read() {
    run(|| async {
        let (client, _server) = pair().await;
        let (mut reader, writer) = client.split();
        let reading = glommio::spawn_local(async move { reader.read().await });
        glommio::executor().yield_task_queue_now().await;
        writer.close();
        assert!(reading.await.unwrap().is_empty());
    });
}

#[test]
fn a_connection_moves_to_another_core_with_what_was_not_read() {
    let (send, receive) = mpsc::channel::<OwnedFd>();
    let (tell, told) = mpsc::channel::<SocketAddr>();
    let accepting = on_core(move || async move {
        let listener = Listener::bind(loopback()).unwrap();
        tell.send(listener.local_addr()).unwrap();
        let conn = listener.accept().await.unwrap();
        send.send(conn.closer().to_fd().unwrap()).unwrap();
    });
    let Ok(addr) = told.recv() else { return assert_eq!(accepting.join().ok(), Some(false)) };
    let client = on_core(move || async move {
        let mut conn = dial(addr, TIMEOUT).await.unwrap();
        conn.write_all(b"before").await.unwrap();
        assert_eq!(read_exactly(&mut conn, 6).await, b"before");
        conn.close();
    });
    assert!(accepting.join().unwrap());
    let fd = receive.recv().unwrap();
    run(move || async move {
        let mut conn = Conn::from_fd(fd).unwrap();
        let read = read_exactly(&mut conn, 6).await;
        conn.write_all(&read).await.unwrap();
        assert!(conn.read().await.unwrap().is_empty());
    });
    assert!(client.join().unwrap());
}

#[test]
fn cores_share_a_port_and_another_server_is_noticed() {
    run(|| async {
        let first = Listener::bind(loopback()).unwrap();
        let second = Listener::bind(first.local_addr()).unwrap();
        assert_eq!(first.local_addr(), second.local_addr());
        assert_eq!(ensure_free(first.local_addr()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let addr = first.local_addr();
        drop((first, second));
        ensure_free(addr).unwrap();
    });
}

#[test]
fn dialling_where_nobody_listens_fails() {
    run(|| async {
        let addr = Listener::bind(loopback()).unwrap().local_addr();
        assert!(dial(addr, TIMEOUT).await.is_err());
    });
}

#[test]
fn a_port_is_free_again_although_old_connections_linger() {
    run(|| async {
        let listener = Listener::bind(loopback()).unwrap();
        let addr = listener.local_addr();
        let dialled = glommio::spawn_local(async move { dial(addr, TIMEOUT).await.unwrap() });
        let accepted = listener.accept().await.unwrap();
        // This end closes first, so it is the one that lingers.
        accepted.close();
        drop((listener, accepted));
        ensure_free(addr).unwrap();
        Listener::bind(addr).unwrap();
        drop(dialled.await);
    });
}
