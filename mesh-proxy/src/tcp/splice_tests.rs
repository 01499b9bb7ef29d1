//! Bytes that stay in the kernel: the same promises as for those that are copied.

use std::cell::Cell;
use std::time::Duration;

use rand::{RngCore as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::testing::soon;

const MEBIBYTE: usize = 1 << 20;

/// Two ends of one connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
    (one.expect("connected"), other.expect("accepted").0)
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::rngs::StdRng::seed_from_u64(7).fill_bytes(&mut bytes);
    bytes
}

/// Copies between a client and a server while `talk` goes on between them. How it ended, and bytes received and sent.
async fn copied<F>(idle: Option<Duration>, talk: impl FnOnce(TcpStream, TcpStream) -> F) -> (End, u64, u64)
where
    F: Future<Output = ()>,
{
    let ((client, down), (up, server)) = (connection().await, connection().await);
    let totals = Totals::default();
    let copying = copy_both(down, up, &totals, idle, MEBIBYTE);
    let (end, ()) = soon("both", async { tokio::join!(copying, talk(client, server)) }).await;
    (end, totals.received.get(), totals.sent.get())
}

async fn send_all(mut to: TcpStream, bytes: &[u8]) -> TcpStream {
    to.write_all(bytes).await.expect("open");
    to.shutdown().await.expect("open");
    to
}

async fn receive_all(mut from: TcpStream) -> (TcpStream, Vec<u8>) {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await.expect("ended in order");
    (from, bytes)
}

#[tokio::test]
async fn bulk_goes_through_pipes_either_way_after_the_other_has_ended() {
    let sent = noise(8 * MEBIBYTE);
    for server_first in [false, true] {
        let (end, received, answered) = copied(None, |client, server| async {
            let (first, second) = if server_first {
                (server, client)
            } else {
                (client, server)
            };
            let (first, (second, bytes)) = tokio::join!(send_all(first, &sent), receive_all(second));
            assert!(bytes == sent, "the bytes differ");
            let (_, (_, bytes)) = tokio::join!(send_all(second, &sent[1..]), receive_all(first));
            assert!(bytes == sent[1..], "the bytes of the answer differ");
        })
        .await;
        assert!(matches!(end, End::Done), "{end:?}");
        let (first, second) = (8 << 20, (8 << 20) - 1);
        let expected = if server_first { (second, first) } else { (first, second) };
        assert_eq!((received, answered), expected);
    }
    assert!(pipe::kept() > 0, "no pipe was used");
}

#[tokio::test]
async fn both_ways_at_once() {
    let (up, down) = (noise(6 * MEBIBYTE), noise(5 * MEBIBYTE));
    let (end, received, sent) = copied(None, |client, server| async {
        let (mut client_reads, mut client_writes) = client.into_split();
        let (mut server_reads, mut server_writes) = server.into_split();
        let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
        let write = async |half: &mut tokio::net::tcp::OwnedWriteHalf, bytes: &[u8]| {
            half.write_all(bytes).await.expect("open");
            half.shutdown().await.expect("open");
        };
        let (_, _, read, other) = tokio::join!(
            write(&mut client_writes, &up),
            write(&mut server_writes, &down),
            server_reads.read_to_end(&mut at_server),
            client_reads.read_to_end(&mut at_client)
        );
        read.and(other).expect("ended in order");
        assert!(at_server == up && at_client == down, "the bytes differ");
    })
    .await;
    assert!(matches!(end, End::Done), "{end:?}");
    assert_eq!((received, sent), (6 << 20, 5 << 20));
}

#[tokio::test]
async fn small_messages_use_no_pipe_and_may_follow_bulk() {
    let bulk = noise(4 * MEBIBYTE);
    let used = Cell::new(0);
    let (end, received, sent) = copied(None, |mut client, mut server| async {
        let ping = async |client: &mut TcpStream, server: &mut TcpStream| {
            let mut message = [0; 64];
            for round in 0..32 {
                client.write_all(&[round; 64]).await.expect("open");
                server.read_exact(&mut message).await.expect("open");
                assert_eq!(message, [round; 64]);
                server.write_all(&message).await.expect("open");
                client.read_exact(&mut message).await.expect("open");
            }
        };
        ping(&mut client, &mut server).await;
        assert_eq!(pipe::kept(), 0, "a pipe for small messages");
        for _ in 0..2 {
            let mut read = vec![0; bulk.len()];
            let (wrote, got) = tokio::join!(client.write_all(&bulk), server.read_exact(&mut read));
            wrote.and(got.map(drop)).expect("open");
            assert!(read == bulk, "the bytes differ");
            used.set(pipe::kept());
            ping(&mut client, &mut server).await;
        }
        client.shutdown().await.expect("open");
        server.shutdown().await.expect("open");
        let (_, (_, rest)) = tokio::join!(receive_all(client), receive_all(server));
        assert!(rest.is_empty());
    })
    .await;
    assert!(matches!(end, End::Done), "{end:?}");
    assert_eq!(used.get(), 1, "one direction at a time needs one pipe");
    assert_eq!((received, sent), ((8 << 20) + 3 * 32 * 64, 3 * 32 * 64));
}

#[tokio::test]
async fn a_slow_reader_stalls_the_writer() {
    // More than the sockets' buffers grow to.
    let sent = noise(96 * MEBIBYTE);
    let (end, received, _) = copied(None, |client, server| async {
        let writing = send_all(client, &sent);
        let mut writing = std::pin::pin!(writing);
        let stalled = tokio::time::timeout(Duration::from_millis(200), &mut writing).await;
        assert!(stalled.is_err(), "somebody holds all of it");
        let (client, (server, bytes)) = tokio::join!(writing, receive_all(server));
        assert!(bytes == sent, "the bytes differ");
        drop((client, server));
    })
    .await;
    assert!(matches!(end, End::Done), "{end:?}");
    assert_eq!(received, 96 << 20);
}

#[tokio::test]
async fn a_reset_is_told_from_an_end_and_its_bytes_go_nowhere_else() {
    let sent = noise(96 * MEBIBYTE);
    for by_client in [false, true] {
        let (end, received, _) = copied(None, |mut client, mut server| async {
            let (writer, reader) = if by_client {
                (&mut server, &mut client)
            } else {
                (&mut client, &mut server)
            };
            // The pipe fills up, as nobody reads; then the reader is gone.
            let stalled = tokio::time::timeout(Duration::from_millis(200), writer.write_all(&sent)).await;
            assert!(stalled.is_err(), "somebody holds all of it");
            reader.set_zero_linger().expect("a socket");
            let (gone, stays) = if by_client { (client, server) } else { (server, client) };
            drop(gone);
            // The other side is there until the copying is over: it broke off on its own.
            let mut stays = stays;
            let _ = stays.read(&mut [0; 1]).await;
        })
        .await;
        match end {
            End::Upstream(_) if !by_client => {}
            End::Downstream(_) if by_client => {}
            end => panic!("{end:?} (reset by the client: {by_client})"),
        }
        assert!(received < 96 << 20);
        // A pipe that still held some of it would put it in front of the next stream's bytes.
        let next = noise(2 * MEBIBYTE);
        copied(None, |client, server| async {
            let (client, (server, bytes)) = tokio::join!(send_all(client, &next), receive_all(server));
            assert!(bytes == next, "bytes of another connection");
            drop((client, server));
        })
        .await;
    }
}

#[tokio::test]
async fn the_idle_limit_holds_for_bytes_that_are_stuck() {
    let (end, received, _) = copied(Some(Duration::from_millis(100)), |mut client, server| async move {
        // The server reads nothing, so that after a while nothing moves; then both are closed.
        client
            .write_all(&noise(96 * MEBIBYTE))
            .await
            .expect_err("closed for idleness");
        drop(server);
    })
    .await;
    assert!(matches!(end, End::Idle), "{end:?}");
    assert!(received > 0);
}
