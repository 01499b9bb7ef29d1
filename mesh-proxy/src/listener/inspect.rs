//! What the first bytes of a connection say: the TLS and HTTP inspectors, both on one buffer.
//!
//! [`Sniffer`] is free of I/O. It looks at everything that has arrived so far and decides as early as the bytes allow: the
//! first byte tells TLS from all else, an impossible request line ends the wait for HTTP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::proxy_protocol::{Addresses, Header, parse};

/// Most bytes that are looked at, for either inspector. A ClientHello of more than a few KiB or a longer request line is
/// served as what it was not recognised as: opaque bytes.
const LIMIT: usize = 64 * 1024;
/// Read size; nearly every ClientHello and request line fits.
const CHUNK: usize = 2 * 1024;
/// The connection preface of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest method that is taken for one.
const LONGEST_METHOD: usize = 32;

/// What was seen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Detected {
    /// A complete ClientHello.
    pub tls: bool,
    /// Its server name, lower case.
    pub sni: Option<Arc<str>>,
    /// Its ALPN offers; or `http/1.0`, `http/1.1`, `h2c`.
    pub protocols: Vec<String>,
}

/// The bytes read so far and what is known of them.
pub struct Sniffer {
    buffer: BytesMut,
    proxy: ProxyState,
    tls: TlsState,
    http: bool,
    detected: Detected,
}

/// The PROXY protocol's header, which comes before all else and is not given back.
enum ProxyState {
    Off,
    Reading,
    Seen(Option<Addresses>),
    Bad(&'static str),
}

enum TlsState {
    Off,
    /// Bytes of the buffer that the acceptor has been given.
    Reading(Box<Acceptor>, usize),
    Seen(Box<Accepted>, usize),
}

impl Sniffer {
    /// With one inspector, or both.
    pub fn new(tls: bool, http: bool) -> Self {
        Sniffer {
            buffer: BytesMut::new(),
            proxy: ProxyState::Off,
            tls: if tls {
                TlsState::Reading(Box::default(), 0)
            } else {
                TlsState::Off
            },
            http,
            detected: Detected::default(),
        }
    }

    /// A PROXY protocol header has to come first.
    pub fn behind_load_balancer(mut self) -> Self {
        self.proxy = ProxyState::Reading;
        self
    }

    /// Adds bytes, for those who have them at hand.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Looks at what has arrived. True when more bytes would change nothing.
    pub fn decided(&mut self) -> bool {
        if matches!(self.proxy, ProxyState::Reading) {
            match parse(&self.buffer) {
                Header::More => return false,
                Header::Bad(why) => self.proxy = ProxyState::Bad(why),
                Header::Complete(length, addresses) => {
                    self.buffer.advance(length);
                    self.proxy = ProxyState::Seen(addresses);
                }
            }
        }
        if matches!(self.proxy, ProxyState::Bad(_)) {
            return true;
        }
        if let TlsState::Reading(acceptor, fed) = &mut self.tls {
            match read_hello(acceptor, &self.buffer, fed) {
                Hello::More => return false,
                Hello::None => self.tls = TlsState::Off,
                Hello::Seen(accepted) => {
                    let hello = accepted.client_hello();
                    let alpn = hello.alpn().into_iter().flatten();
                    self.detected = Detected {
                        tls: true,
                        sni: hello.server_name().map(|name| Arc::from(name.to_ascii_lowercase())),
                        protocols: alpn.map(|p| String::from_utf8_lossy(p).into_owned()).collect(),
                    };
                    self.tls = TlsState::Seen(accepted, *fed);
                }
            }
        }
        if self.detected.tls || !self.http {
            return true;
        }
        if self.buffer.is_empty() {
            return false;
        }
        match sniff_http(&self.buffer) {
            Http::More => return false,
            Http::None => {}
            Http::Version(protocol) => self.detected.protocols = vec![protocol.to_owned()],
        }
        self.http = false;
        true
    }

    /// What was found, the bytes to give back, and for TLS the ClientHello with the bytes that come after it.
    ///
    /// # Errors
    /// When a PROXY protocol header was due and did not come, or is broken.
    pub fn finish(self) -> Result<Inspected, Ended> {
        let addresses = match self.proxy {
            ProxyState::Off => None,
            ProxyState::Seen(addresses) => addresses,
            ProxyState::Reading => return Err(Ended::Header("the PROXY protocol header did not come")),
            ProxyState::Bad(why) => return Err(Ended::Header(why)),
        };
        let bytes = self.buffer.freeze();
        let hello = match self.tls {
            TlsState::Seen(accepted, fed) => Some((accepted, bytes.slice(fed.min(bytes.len())..))),
            _ => None,
        };
        Ok(Inspected {
            addresses,
            detected: self.detected,
            bytes,
            hello,
        })
    }
}

/// Outcome of an inspection.
pub struct Inspected {
    /// Ends of the connection as a load balancer in front names them.
    pub(super) addresses: Option<Addresses>,
    /// What was seen.
    pub detected: Detected,
    /// All bytes that were read.
    pub bytes: Bytes,
    /// The ClientHello as read, and the bytes after it.
    pub hello: Option<(Box<Accepted>, Bytes)>,
}

/// Why a connection ends with its inspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed it, or the connection broke, before anything was known.
    Remote,
    /// `listener_filters_timeout` without `continue_on_listener_filters_timeout`.
    Timeout,
    /// A PROXY protocol header was due and is missing or broken.
    Header(&'static str),
}

/// Reads until the inspectors know what they have, at most for `timeout`.
///
/// # Errors
/// See [`Ended`]. A peer that has sent something and then shut its side down is served with what it sent.
pub(super) async fn inspect<S: AsyncRead + Unpin>(
    stream: &mut S,
    mut sniffer: Sniffer,
    timeout: Option<Duration>,
    continue_on_timeout: bool,
) -> Result<Inspected, Ended> {
    let reading = read_until_decided(stream, &mut sniffer);
    let read = match timeout {
        None => reading.await,
        Some(limit) => match tokio::time::timeout(limit, reading).await {
            Ok(read) => read,
            Err(_) if continue_on_timeout => Ok(()),
            Err(_) => return Err(Ended::Timeout),
        },
    };
    match read {
        Ok(()) => sniffer.finish(),
        Err(_) => Err(Ended::Remote),
    }
}

async fn read_until_decided<S: AsyncRead + Unpin>(stream: &mut S, sniffer: &mut Sniffer) -> io::Result<()> {
    loop {
        sniffer.buffer.reserve(CHUNK);
        if stream.read_buf(&mut sniffer.buffer).await? == 0 {
            if sniffer.buffer.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            sniffer.decided();
            return Ok(());
        }
        if sniffer.decided() || sniffer.buffer.len() >= LIMIT {
            return Ok(());
        }
    }
}

enum Hello {
    More,
    None,
    Seen(Box<Accepted>),
}

fn read_hello(acceptor: &mut Acceptor, buffer: &[u8], fed: &mut usize) -> Hello {
    // A handshake record (22) of version 3.x.
    let possible = buffer.first().is_none_or(|b| *b == 0x16) && buffer.get(1).is_none_or(|b| *b == 3);
    if !possible || buffer.len() >= LIMIT {
        return Hello::None;
    }
    while *fed < buffer.len() {
        match acceptor.read_tls(&mut &buffer[*fed..]) {
            Ok(n) if n > 0 => *fed += n,
            _ => return Hello::None,
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Hello::Seen(Box::new(accepted)),
            Ok(None) => {}
            Err(_) => return Hello::None,
        }
    }
    Hello::More
}

#[derive(Debug, PartialEq, Eq)]
enum Http {
    More,
    None,
    Version(&'static str),
}

/// Looks for the HTTP/2 preface or an HTTP/1 request line.
fn sniff_http(buffer: &[u8]) -> Http {
    if buffer.len() >= LIMIT {
        return Http::None;
    }
    if buffer.starts_with(PREFACE) {
        return Http::Version("h2c");
    }
    if PREFACE.starts_with(buffer) {
        return Http::More;
    }
    // Clients may send an empty line ahead of a request.
    let start = buffer.iter().take(8).position(|b| !matches!(b, b'\r' | b'\n'));
    let Some(start) = start else {
        return if buffer.len() < 8 { Http::More } else { Http::None };
    };
    let line = &buffer[start..];

    let method = line
        .iter()
        .take(LONGEST_METHOD + 1)
        .take_while(|b| is_token(**b))
        .count();
    match line.get(method) {
        None => {
            return if method <= LONGEST_METHOD {
                Http::More
            } else {
                Http::None
            };
        }
        Some(b' ') if (1..=LONGEST_METHOD).contains(&method) => {}
        Some(_) => return Http::None,
    }
    let target = &line[method + 1..];
    let length = target.iter().take_while(|b| **b > b' ' && **b != 0x7f).count();
    match target.get(length) {
        None => return Http::More,
        Some(b' ') if length > 0 => {}
        Some(_) => return Http::None,
    }
    let version = &target[length + 1..];
    for (text, name) in [(b"HTTP/1.1", "http/1.1"), (b"HTTP/1.0", "http/1.0")] {
        let seen = version.len().min(text.len());
        if version[..seen] != text[..seen] {
            continue;
        }
        return match version.get(text.len()) {
            None => Http::More,
            Some(b'\r' | b'\n') => Http::Version(name),
            Some(_) => Http::None,
        };
    }
    Http::None
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}
