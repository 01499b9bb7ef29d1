use std::convert::Infallible;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::grpc::{CheckRequest, CheckResponse, framed};
use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn probes(written: &Value) -> AppProbes {
    AppProbes::parse(&written.to_string(), HERE, &mut Vec::new()).expect("well formed")
}

async fn ask(probes: &AppProbes, path: &str, headers: &[(&'static str, &'static str)]) -> (u16, String) {
    let headers: HeaderMap = headers
        .iter()
        .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
        .collect();
    let call = Call {
        method: Method::GET,
        path: path.to_owned(),
        query: Vec::new(),
        headers,
        peer: "10.0.0.1:1".parse().expect("an address"),
    };
    let reply = probes.answer(&call).await;
    (reply.status.as_u16(), String::from_utf8_lossy(&reply.body).into_owned())
}

/// What an application saw of a request.
type Seen = Arc<Mutex<Vec<String>>>;

/// An application that notes its requests, and answers by their paths: `/302`, `/to/PATH`, `/large`, `/slow`.
async fn application() -> (u16, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    let seen = Seen::default();
    let notes = seen.clone();
    tokio::spawn(async move {
        while let Ok((socket, peer)) = listener.accept().await {
            tokio::spawn(serve(socket, peer, notes.clone()));
        }
    });
    (port, seen)
}

async fn serve(socket: TcpStream, peer: SocketAddr, seen: Seen) {
    let service = service_fn(|request: Request<Incoming>| {
        let mut headers: Vec<String> = request
            .headers()
            .iter()
            .map(|(n, v)| format!("{n}={}", v.to_str().unwrap_or_default()))
            .collect();
        headers.sort();
        let line = format!(
            "{} {} {} {}",
            peer.ip(),
            request.method(),
            request.uri(),
            headers.join(" ")
        );
        seen.lock().push(line);
        let path = request.uri().path().to_owned();
        async move {
            let mut response = Response::new(Full::new(Bytes::from(format!("this is {path}"))));
            if let Some(to) = path.strip_prefix("/to/") {
                *response.status_mut() = StatusCode::FOUND;
                let to = to.replace('!', "/");
                response
                    .headers_mut()
                    .insert("location", to.parse().expect("a location"));
            } else if path == "/large" {
                *response.body_mut() = Full::new(Bytes::from(vec![b'x'; 100_000]));
            } else if path == "/slow" {
                std::future::pending::<()>().await;
            } else if let Ok(status) = path[1..].parse() {
                *response.status_mut() = status;
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new();
    let _ = connection.serve_connection(TokioIo::new(socket), service).await;
}

#[tokio::test]
async fn the_applications_answer_is_passed_on() {
    let (port, seen) = application().await;
    let probes = probes(&json!({
        "/app-health/web/readyz": {"httpGet": {"path": "ready?full=1", "port": port, "httpHeaders": [
            {"name": "Host", "value": "web.example.com"}, {"name": "X-Who", "value": "probe"}]}},
        "/app-health/web/livez": {"httpGet": {"path": "/503", "port": port}},
        "/app-health/web/startupz": {"httpGet": {"path": "/large", "port": port.to_string()}},
        "/app-lifecycle/web/prestopz": {"httpGet": {"path": "/bye now", "port": port}},
    }));
    let kubelet = [
        ("user-agent", "kube-probe/1.30"),
        ("x-who", "kubelet"),
        ("connection", "close"),
        ("host", "10.0.0.7:15020"),
    ];
    assert_eq!(
        ask(&probes, "/app-health/web/readyz", &kubelet).await,
        (200, "this is /ready".to_owned())
    );
    assert_eq!(
        ask(&probes, "/app-health/web/livez", &kubelet).await,
        (503, "this is /503".to_owned())
    );
    let (status, body) = ask(&probes, "/app-health/web/startupz", &kubelet).await;
    assert_eq!((status, body.len()), (200, 10 * 1024));
    assert_eq!(ask(&probes, "/app-lifecycle/web/prestopz", &[]).await.0, 200);
    let (status, text) = ask(&probes, "/app-health/other/livez", &kubelet).await;
    assert_eq!(status, 404);
    assert!(text.contains("/app-health/web/livez"), "{text}");
    let seen = seen.lock();
    // From the address that capture lets pass.
    assert_eq!(
        seen[0],
        "127.0.0.6 GET /ready?full=1 connection=close host=web.example.com user-agent=kube-probe/1.30 x-who=probe"
    );
    assert!(
        seen[1].contains(&format!("host=127.0.0.1:{port} ")) && seen[1].contains("x-who=kubelet"),
        "{}",
        seen[1]
    );
    assert!(seen[3].starts_with("127.0.0.6 GET /bye%20now "), "{}", seen[3]);
}

#[tokio::test]
async fn redirects_stay_in_the_pod() {
    let (port, seen) = application().await;
    let probes = probes(&json!({
        "/app-health/a/readyz": {"httpGet": {"path": "/to/!418", "port": port}},
        "/app-health/b/readyz": {"httpGet": {"path": "/to/http:!!example.com!", "port": port}},
    }));
    assert_eq!(ask(&probes, "/app-health/a/readyz", &[]).await.0, 418);
    assert_eq!(ask(&probes, "/app-health/b/readyz", &[]).await.0, 302);
    assert_eq!(seen.lock().len(), 3, "nothing of the redirect elsewhere was asked");
}

#[tokio::test]
async fn what_does_not_answer_is_a_failure() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        listener.local_addr().expect("bound").port()
    };
    let (port, _) = application().await;
    let probes = probes(&json!({
        "/app-health/a/readyz": {"httpGet": {"port": closed}},
        "/app-health/b/readyz": {"httpGet": {"path": "/slow", "port": port}, "timeoutSeconds": 1},
        "/app-health/c/readyz": {"tcpSocket": {"port": closed}},
        "/app-health/c/livez": {"tcpSocket": {"port": port, "host": "localhost"}},
        "/app-health/d/readyz": {"httpGet": {"port": port, "scheme": "HTTPS"}},
    }));
    assert_eq!(ask(&probes, "/app-health/a/readyz", &[]).await.0, 500);
    let (status, text) = ask(&probes, "/app-health/b/readyz", &[]).await;
    assert_eq!(status, 500);
    assert!(text.contains("within 1s"), "{text}");
    assert_eq!(ask(&probes, "/app-health/c/readyz", &[]).await.0, 500);
    assert_eq!(ask(&probes, "/app-health/c/livez", &[]).await, (200, String::new()));
    let (status, text) = ask(&probes, "/app-health/d/readyz", &[]).await;
    assert_eq!(status, 500);
    assert!(text.contains("TLS handshake"), "{text}");
}

#[tokio::test]
async fn certificates_of_the_application_are_not_verified() {
    for protocol in [&b"h2"[..], b"http/1.1"] {
        let key = rcgen::generate_simple_self_signed(vec!["nobody.example".to_owned()]).expect("a certificate");
        let private = rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key");
        let mut config = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .expect("a certificate with its key");
        config.alpn_protocols = vec![protocol.to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.expect("a connection");
            let io = TokioIo::new(acceptor.accept(socket).await.expect("a handshake"));
            let service = service_fn(|_| async { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("well")))) });
            if protocol == b"h2" {
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(io, service)
                    .await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await;
            }
        });
        let probes = probes(&json!({
            "/app-health/web/livez": {"httpGet": {"port": port, "scheme": "HTTPS"}, "timeoutSeconds": 20},
        }));
        assert_eq!(
            ask(&probes, "/app-health/web/livez", &[]).await,
            (200, "well".to_owned())
        );
    }
}

/// A health service that knows the service `good`, and one that is not serving.
async fn health_service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let service = service_fn(|request: Request<Incoming>| async {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let body = request.into_body().collect().await.expect("a message").to_bytes();
                let asked = CheckRequest::decode(&body[5..]).expect("a request").service;
                let (status, grpc) = match asked.as_str() {
                    "" | "good" => (1, "0"),
                    "bad" => (2, "0"),
                    _ => (0, "5"),
                };
                let trailers =
                    HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(grpc))]);
                let frames = [
                    Ok::<_, Infallible>(Frame::data(framed(&CheckResponse { status }))),
                    Ok(Frame::trailers(trailers)),
                ];
                Ok::<_, Infallible>(Response::new(StreamBody::new(tokio_stream::iter(frames))))
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(socket), service));
        }
    });
    port
}

#[tokio::test]
async fn grpc_health_is_asked_by_service() {
    let port = health_service().await;
    let probes = probes(&json!({
        "/app-health/a/livez": {"grpc": {"port": port}, "timeoutSeconds": 20},
        "/app-health/b/livez": {"grpc": {"port": port, "service": "good"}, "timeoutSeconds": 20},
        "/app-health/c/livez": {"grpc": {"port": port, "service": "bad"}, "timeoutSeconds": 20},
        "/app-health/d/livez": {"grpc": {"port": port, "service": "unknown"}, "timeoutSeconds": 20},
    }));
    assert_eq!(ask(&probes, "/app-health/a/livez", &[]).await.0, 200);
    assert_eq!(ask(&probes, "/app-health/b/livez", &[]).await.0, 200);
    let (status, text) = ask(&probes, "/app-health/c/livez", &[]).await;
    assert_eq!(status, 500);
    assert!(text.contains("\"bad\" is not serving"), "{text}");
    let (status, text) = ask(&probes, "/app-health/d/livez", &[]).await;
    assert_eq!(status, 500);
    assert!(text.contains("gRPC status 5"), "{text}");
}

#[test]
fn what_cannot_be_asked_is_refused_with_its_path() {
    for (written, expected) in [
        (
            json!({"/app-health/readyz": {"tcpSocket": {"port": 1}}}),
            "expected a path",
        ),
        (
            json!({"/app-health/a/prestopz": {"tcpSocket": {"port": 1}}}),
            "expected a path",
        ),
        (
            json!({"/app-health/a/livez": {}}),
            "/app-health/a/livez: expected one of",
        ),
        (
            json!({"/app-health/a/livez": {"tcpSocket": {"port": "http"}}}),
            "port: \"http\"",
        ),
        (
            json!({"/app-health/a/livez": {"tcpSocket": {"port": 1}, "timeoutSeconds": -1}}),
            "timeoutSeconds",
        ),
        (
            json!({"/app-health/a/livez": {"httpGet": {"port": 1, "scheme": "FTP"}}}),
            "httpGet.scheme",
        ),
        (
            json!({"/app-health/a/livez": {"httpGet": {"port": 1, "httpHeaders": [{"name": "a b"}]}}}),
            "a b: no name",
        ),
        (json!([]), "no JSON object"),
    ] {
        let errors = AppProbes::parse(&written.to_string(), HERE, &mut Vec::new()).expect_err("refused");
        assert!(errors[0].contains(expected), "{errors:?}");
    }
    let mut warnings = Vec::new();
    let written = json!({"/app-health/a/livez": {"tcpSocket": {"port": 1, "host": "10.0.0.1"}}});
    AppProbes::parse(&written.to_string(), HERE, &mut warnings).expect("taken");
    assert!(warnings[0].contains("\"10.0.0.1\" has no effect"), "{warnings:?}");
}
