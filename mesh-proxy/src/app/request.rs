//! Questions to the admin port of the proxy on this machine: `mesh-proxy request`, `mesh-proxy wait`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// The whole answer may take this long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Status.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// Asks, by HTTP/1.0: the answer then ends with the connection.
///
/// # Errors
/// When nobody listens or the answer is no HTTP.
pub(super) fn ask(address: &str, method: &str, path: &str) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(address)
        .with_context(|| format!("cannot reach {address}; is a proxy running here, with its admin port there?"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let method = method.to_uppercase();
    write!(
        stream,
        "{method} {slash}{path} HTTP/1.0\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
    )?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    parse(&raw).with_context(|| format!("{address} did not answer with HTTP"))
}

fn parse(raw: &[u8]) -> Option<Answer> {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&raw[..end]).ok()?;
    let status = head.lines().next()?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        body: raw[end + 4..].to_vec(),
    })
}

/// Asks a readiness page until it says 200.
///
/// # Errors
/// When the time is over, with what the page said last.
pub(super) fn wait(url: &str, period: Duration, timeout: Duration) -> anyhow::Result<()> {
    let rest = url.strip_prefix("http://").context("the URL must start with http://")?;
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let end = Instant::now() + timeout;
    loop {
        let answer = ask(address, "GET", path);
        let last = match answer {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(answer) => format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body).trim()),
            Err(e) => format!("{e:#}"),
        };
        anyhow::ensure!(Instant::now() < end, "not ready after {}s: {last}", timeout.as_secs());
        std::thread::sleep(period);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_with_the_connection() {
        let answer = parse(b"HTTP/1.0 404 Not Found\r\nx: y\r\n\r\ninvalid path").expect("HTTP");
        assert_eq!((answer.status, answer.body.as_slice()), (404, &b"invalid path"[..]));
        assert_eq!(parse(b"220 mail.example ESMTP"), None);
    }
}
