//! Probes by HTTP and by TCP.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, LOCATION, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::Action;
use crate::admin::server::Reply;
use crate::listener::passthrough_address;
use crate::tls::{self, ClientTlsParams, TlsCommon, TlsVersion};

/// More of an answer is not passed on, as in Istio and by the kubelet.
const MAX_BODY: usize = 10 * 1024;
/// As in Go's client, which the kubelet is.
const MAX_REDIRECTS: usize = 10;
/// Headers of the kubelet's connection to the agent.
const HOP_BY_HOP: [HeaderName; 7] = [
    HOST,
    CONNECTION,
    CONTENT_LENGTH,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Anybody's certificate is taken, as the kubelet does. `Err` where the crypto library has nothing to offer.
static TRUSTING: LazyLock<Result<Arc<ClientConfig>, String>> = LazyLock::new(|| {
    tls::client_config(&ClientTlsParams {
        common: TlsCommon {
            identities: Vec::new(),
            trust: None,
            sans: Vec::new(),
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
            cipher_suites: Vec::new(),
            ecdh_curves: Vec::new(),
            alpn: Vec::new(),
        },
        verify_server_name: false,
    })
});

/// A connection to the application that is not captured.
pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Not captured, so that the application is reached whatever mutual TLS asks of others.
    let source = passthrough_address(address.ip());
    socket
        .bind(SocketAddr::new(source, 0))
        .with_context(|| format!("cannot ask from {source}, which mesh-init puts on the loopback interface"))?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// 200 as soon as there is a connection.
pub(super) async fn tcp(address: SocketAddr) -> anyhow::Result<Reply> {
    connect(address).await?;
    Ok(Reply::text(StatusCode::OK, ""))
}

/// Where a request goes; redirects within the pod change it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Goal {
    tls: bool,
    address: SocketAddr,
    path: String,
}

/// The application's status and the beginning of its body.
pub(super) async fn http(action: &Action, address: SocketAddr, from_kubelet: &HeaderMap) -> anyhow::Result<Reply> {
    let Action::Http { tls, path, headers } = action else {
        bail!("no HTTP probe");
    };
    let headers = merged(from_kubelet, headers);
    let mut goal = Goal {
        tls: *tls,
        address,
        path: path.clone(),
    };
    for _ in 0..=MAX_REDIRECTS {
        let response = get(&goal, headers.clone()).await?;
        match redirect(&goal, &response) {
            Some(next) => goal = next,
            None => return reply(response).await,
        }
    }
    bail!("stopped after {MAX_REDIRECTS} redirects");
}

/// The kubelet's headers with the probe's own in place of those of the same name.
fn merged(from_kubelet: &HeaderMap, own: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    let mut out = from_kubelet.clone();
    for name in HOP_BY_HOP {
        out.remove(name);
    }
    for (name, _) in own {
        out.remove(name);
    }
    for (name, value) in own {
        out.append(name, value.clone());
    }
    out.entry(USER_AGENT)
        .or_insert(HeaderValue::from_static("kube-probe/ferromesh"));
    out
}

/// Where the answer sends us, if that is in the pod. Elsewhere the kubelet gets the redirect, and takes it for a success.
fn redirect(goal: &Goal, response: &Response<Incoming>) -> Option<Goal> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    follow(goal, location)
}

fn follow(goal: &Goal, location: &str) -> Option<Goal> {
    if location.starts_with('/') && !location.starts_with("//") {
        let path = super::escape(location);
        return Some(Goal { path, ..goal.clone() });
    }
    let uri: Uri = location.parse().ok()?;
    let tls = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    if host.parse() != Ok(goal.address.ip()) {
        return None;
    }
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    Some(Goal {
        tls,
        address: SocketAddr::new(goal.address.ip(), port),
        path: uri.path_and_query().map_or("/", |p| p.as_str()).to_owned(),
    })
}

async fn get(goal: &Goal, headers: HeaderMap) -> anyhow::Result<Response<Incoming>> {
    let stream = connect(goal.address).await?;
    if !goal.tls {
        return exchange(goal, stream, headers, false).await;
    }
    let config = TRUSTING.as_ref().map_err(|e| anyhow::anyhow!("{e}"))?;
    let connector = TlsConnector::from(config.clone());
    let connector = connector.with_alpn(vec![b"h2".to_vec(), b"http/1.1".to_vec()]);
    let name = ServerName::IpAddress(goal.address.ip().into());
    let stream = connector.connect(name, stream).await.context("TLS handshake")?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    exchange(goal, stream, headers, h2).await
}

async fn exchange<I>(goal: &Goal, io: I, mut headers: HeaderMap, h2: bool) -> anyhow::Result<Response<Incoming>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut request = Request::new(Empty::<Bytes>::new());
    let host = headers.remove(HOST);
    let host = match &host {
        Some(host) => host.to_str().context("header Host")?.to_owned(),
        None => goal.address.to_string(),
    };
    if h2 {
        *request.uri_mut() = Uri::builder()
            .scheme("https")
            .authority(host)
            .path_and_query(goal.path.as_str())
            .build()?;
        *request.headers_mut() = headers;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
        tokio::spawn(connection);
        return Ok(sender.send_request(request).await?);
    }
    headers.insert(HOST, HeaderValue::from_str(&host)?);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    *request.uri_mut() = goal.path.parse()?;
    *request.headers_mut() = headers;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    // It ends with the answer: the application was asked to close.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

async fn reply(response: Response<Incoming>) -> anyhow::Result<Reply> {
    let status = response.status();
    let mut body = response.into_body();
    let mut text = Vec::new();
    while text.len() < MAX_BODY {
        // The status is the answer; a body that breaks off changes nothing about it.
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Some(data) = frame.data_ref() {
            text.extend_from_slice(data);
        }
    }
    text.truncate(MAX_BODY);
    Ok(Reply::text(status, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_within_the_pod_only() {
        let goal = Goal {
            tls: false,
            address: "10.0.0.7:8080".parse().expect("an address"),
            path: "/".to_owned(),
        };
        let to = |location: &str| follow(&goal, location).map(|g| (g.tls, g.address.to_string(), g.path));
        assert_eq!(
            to("/a b"),
            Some((false, "10.0.0.7:8080".to_owned(), "/a%20b".to_owned()))
        );
        assert_eq!(
            to("https://10.0.0.7/x?y"),
            Some((true, "10.0.0.7:443".to_owned(), "/x?y".to_owned()))
        );
        for elsewhere in [
            "http://example.com/",
            "//example.com/",
            "http://10.0.0.8:8080/",
            "ftp://10.0.0.7/",
            "",
        ] {
            assert_eq!(to(elsewhere), None, "{elsewhere}");
        }
    }
}
