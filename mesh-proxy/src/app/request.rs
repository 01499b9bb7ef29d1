//! Questions to the admin port of the proxy on this machine: `mesh-proxy request`, `mesh-proxy wait`.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// An answer may take this long.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

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
pub(super) fn ask(address: &str, method: &str, path: &str, timeout: Duration) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect(address)
        .with_context(|| format!("cannot reach {address}; is a proxy running here, with its admin port there?"))?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
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
pub(super) fn wait(url: &str, period: Duration, request: Duration, timeout: Duration) -> anyhow::Result<()> {
    let rest = url.strip_prefix("http://").context("the URL must start with http://")?;
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let end = Instant::now() + timeout;
    loop {
        let answer = ask(address, "GET", path, request);
        let last = match answer {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(answer) => format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body).trim()),
            Err(e) => format!("{e:#}"),
        };
        anyhow::ensure!(Instant::now() < end, "not ready after {}s: {last}", timeout.as_secs());
        std::thread::sleep(period);
    }
}

/// Becomes mesh-init; comes back only with the reason why it did not.
pub(super) fn become_init(flags: &[OsString]) -> anyhow::Error {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| Some(own.parent()?.join("mesh-init")));
    let program = beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from("mesh-init"));
    let error = std::process::Command::new(&program).args(flags).exec();
    anyhow::Error::new(error).context(format!("cannot run {}", program.display()))
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
