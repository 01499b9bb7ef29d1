//! Queries that are not ours go to the pod's nameservers, as they came.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::upstream::mark::mark;

/// For one nameserver to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Rounds over all nameservers, as libc does.
const ATTEMPTS: usize = 2;
const MAX_MESSAGE: usize = 65_535;
const HEADER: usize = 12;

/// The first answer of a nameserver; `None` when none answers. Over UDP a truncated answer is passed on: the client comes
/// again by TCP, and then TCP is used here too.
pub(super) async fn forward(query: &[u8], servers: &[SocketAddr], tcp: bool) -> Option<Vec<u8>> {
    if query.len() < HEADER {
        return None;
    }
    for _ in 0..ATTEMPTS {
        for server in servers {
            let result = if tcp {
                timeout(TIMEOUT, by_tcp(query, *server)).await
            } else {
                timeout(TIMEOUT, by_udp(query, *server)).await
            };
            match result {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "nameserver failed"),
                Err(_) => tracing::debug!(%server, "nameserver did not answer"),
            }
        }
    }
    None
}

async fn by_udp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    // A socket and an id of its own for each query: what an attacker would have to guess.
    let socket = UdpSocket::bind((any, 0)).await?;
    mark(&socket)?;
    socket.connect(server).await?;
    let (sent, id) = with_new_id(query);
    socket.send(&sent).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = &buffer[..length];
        if belongs(answer, id, query) {
            return Ok(with_id(answer, query));
        }
    }
}

async fn by_tcp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let socket = if server.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    mark(&socket)?;
    let mut socket = socket.connect(server).await?;
    let (sent, id) = with_new_id(query);
    write_message(&mut socket, &sent).await?;
    let answer = read_message(&mut socket)
        .await?
        .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    if !belongs(&answer, id, query) {
        return Err(io::Error::other("the answer is for another query"));
    }
    Ok(with_id(&answer, query))
}

/// One message with its length before it; `None` at the end of the stream.
pub(super) async fn read_message(socket: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match socket.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    socket.read_exact(&mut message).await?;
    Ok(Some(message))
}

pub(super) async fn write_message(socket: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len().min(MAX_MESSAGE)).unwrap_or(u16::MAX);
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    socket.write_all(&framed).await
}

fn with_new_id(query: &[u8]) -> (Vec<u8>, [u8; 2]) {
    let id: [u8; 2] = rand::random();
    let mut sent = query.to_vec();
    sent[..2].copy_from_slice(&id);
    (sent, id)
}

fn with_id(answer: &[u8], query: &[u8]) -> Vec<u8> {
    let mut answer = answer.to_vec();
    answer[..2].copy_from_slice(&query[..2]);
    answer
}

/// Whether it is a response with our id and the question that we asked.
fn belongs(answer: &[u8], id: [u8; 2], query: &[u8]) -> bool {
    const RESPONSE: u8 = 0x80;
    if answer.len() < HEADER || answer[..2] != id || answer[2] & RESPONSE == 0 {
        return false;
    }
    let asked = question(query);
    // Some servers leave the question out of an error.
    let questions = u16::from_be_bytes([answer[4], answer[5]]);
    questions == 0 || question(answer).is_some_and(|q| asked.is_some_and(|a| a.eq_ignore_ascii_case(q)))
}

/// Bytes of the first question.
fn question(message: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        // A question is the first name of a message: there is nothing yet that it could point to.
        if length & 0xc0 != 0 {
            return None;
        }
        at += 1 + length;
        if length == 0 {
            break;
        }
    }
    message.get(HEADER..at + 4)
}
