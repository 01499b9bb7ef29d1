//! Messages pass as they came, whichever versions of HTTP stand on the two sides.

use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::json;

use super::harness::*;
use crate::testing::eventually;

const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

fn upstream(version: Version) -> serde_json::Value {
    if version == Version::HTTP_2 {
        http2_upstream()
    } else {
        json!({})
    }
}

#[tokio::test]
async fn requests_pass_between_all_versions() {
    let origin = Origin::echo().await;
    for to in BOTH {
        let mesh = Mesh::to(&[origin.address], upstream(to)).await;
        for from in BOTH {
            let mut client = Client::connect(mesh.address, from).await;
            let seen = client.get("/a/b?c=d").await;
            assert_eq!(seen.status, 200, "{from:?} to {to:?}: {seen:?}");
            let first = seen.body.lines().next().unwrap_or_default();
            assert!(
                first.contains("/a/b?c=d") && first.ends_with(&format!("{to:?}")),
                "{first}"
            );
            assert_eq!(seen.header("server"), "envoy");
            assert_ne!(seen.header("x-envoy-upstream-service-time"), "-");
            assert_eq!(seen.echoed("x-forwarded-proto"), "http");
            assert_eq!(seen.echoed("x-request-id").len(), 36);

            let seen = client.seen(post("/p", vec![b'x'; 300_000])).await;
            assert_eq!(seen.status, 200);
            assert!(seen.body.ends_with("xxx") && seen.body.len() > 300_000);
            // Once more on the same connection.
            assert_eq!(client.get("/again").await.status, 200);
        }
        assert_eq!(mesh.http_counter("downstream_rq_total"), 6);
        eventually("all requests are in the books", || {
            mesh.http_counter("downstream_rq_2xx") == 6
        })
        .await;
        assert_eq!(mesh.cluster_counter("upstream_rq_2xx"), 6);
    }
}

/// Streams both ways, with trailers after.
async fn grpc_origin() -> Origin {
    Origin::start(|request: Request<hyper::body::Incoming>| async move {
        let trailing = request.headers().get("te").cloned();
        let body = request.into_body();
        let frames = futures_util::stream::unfold((body, false), move |(mut body, ended)| {
            let te = trailing.clone();
            async move {
                if ended {
                    return None;
                }
                let frame = body.frame().await;
                match frame {
                    Some(Ok(frame)) if frame.is_data() => {
                        let data = frame.into_data().unwrap_or_default();
                        Some((Ok(Frame::data(data)), (body, false)))
                    }
                    Some(Ok(frame)) => {
                        // The caller's trailers come back as ours.
                        let mut trailers = frame.into_trailers().unwrap_or_default();
                        trailers.insert("grpc-status", HeaderValue::from_static("0"));
                        trailers.insert("seen-te", te.unwrap_or(HeaderValue::from_static("-")));
                        Some((Ok(Frame::trailers(trailers)), (body, true)))
                    }
                    _ => {
                        let mut trailers = HeaderMap::new();
                        trailers.insert("grpc-status", HeaderValue::from_static("0"));
                        trailers.insert("seen-te", te.unwrap_or(HeaderValue::from_static("-")));
                        Some((Ok(Frame::trailers(trailers)), (body, true)))
                    }
                }
            }
        });
        let mut response = Response::new(StreamBody::new(Box::pin(frames)).boxed_sync_free());
        response
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/grpc"));
        response
            .headers_mut()
            .insert("trailer", HeaderValue::from_static("grpc-status, seen-te, checksum"));
        response
    })
    .await
}

/// A body of streams that are not `Sync`.
trait BoxedFree {
    fn boxed_sync_free(self) -> Body;
}

impl<S> BoxedFree for StreamBody<S>
where
    S: futures_util::Stream<Item = Result<Frame<bytes::Bytes>, std::convert::Infallible>> + Send + Unpin + 'static,
{
    fn boxed_sync_free(self) -> Body {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let mut body = self;
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                if sender.send(frame).await.is_err() {
                    return;
                }
            }
        });
        StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver)).boxed()
    }
}

fn grpc_request(messages: usize) -> Request<Body> {
    let frames = (0..messages).map(|i| {
        let payload = format!("message {i}");
        let mut data = vec![0];
        data.extend_from_slice(&u32::try_from(payload.len()).unwrap_or_default().to_be_bytes());
        data.extend_from_slice(payload.as_bytes());
        Ok(Frame::data(bytes::Bytes::from(data)))
    });
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", HeaderValue::from_static("abc"));
    let frames = frames.chain([Ok(Frame::trailers(trailers))]);
    let mut request = Request::post("http://test.local/package.Service/Method")
        .body(StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>())).boxed())
        .expect("a request");
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("trailer", HeaderValue::from_static("checksum"));
    request
}

#[tokio::test]
async fn grpc_streams_with_trailers_both_ways() {
    let origin = grpc_origin().await;
    let mesh = Mesh::to(&[origin.address], http2_upstream()).await;
    for (messages, from) in [(1, Version::HTTP_2), (50, Version::HTTP_2), (3, Version::HTTP_11)] {
        let mut client = Client::connect(mesh.address, from).await;
        let seen = client.seen(grpc_request(messages)).await;
        assert_eq!(seen.status, 200, "{seen:?}");
        let trailers = seen.trailers.expect("trailers");
        assert_eq!(trailers["grpc-status"], "0", "{from:?}");
        assert_eq!(
            trailers["checksum"], "abc",
            "{from:?}: the request's trailers reached the upstream"
        );
        assert_eq!(trailers["seen-te"], "trailers");
        assert_eq!(seen.body.matches("message").count(), messages);
    }
}

#[tokio::test]
async fn trailers_pass_on_http1() {
    let origin = grpc_origin().await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    for from in BOTH {
        let mut client = Client::connect(mesh.address, from).await;
        let seen = client.seen(grpc_request(2)).await;
        let trailers = seen.trailers.expect("trailers");
        assert_eq!(trailers["grpc-status"], "0", "{from:?}");
        assert_eq!(trailers["checksum"], "abc", "{from:?}");
    }
}

#[tokio::test]
async fn header_case_is_kept() {
    let (origin, seen) = raw_origin(b"HTTP/1.1 200 OK\r\nX-MiXed-Out: 1\r\nContent-Length: 2\r\n\r\nok").await;
    let mesh = Mesh::to(&[origin], json!({})).await;
    let answer = raw(
        mesh.address,
        b"GET / HTTP/1.1\r\nHost: test.local\r\nX-CuStom-In: 1\r\nSOAPAction: x\r\nConnection: close\r\n\r\n",
        false,
    )
    .await;
    assert!(answer.contains("\r\nX-MiXed-Out: 1\r\n"), "{answer}");
    let request = String::from_utf8(seen.lock().clone()).expect("text");
    assert!(request.contains("\r\nX-CuStom-In: 1\r\n"), "{request}");
    assert!(request.contains("\r\nSOAPAction: x\r\n"), "{request}");
}

#[tokio::test]
async fn responses_without_body() {
    let origin = Origin::start(|request: Request<hyper::body::Incoming>| async move {
        match request.uri().path() {
            "/204" => status(204),
            "/304" => status(304),
            // Hyper sends what it is given, also to a HEAD on HTTP/2.
            _ if *request.method() == Method::HEAD => {
                let mut response = Response::new(full(""));
                response
                    .headers_mut()
                    .insert("content-length", HeaderValue::from_static("5"));
                response
            }
            _ => {
                let mut response = Response::new(full("12345"));
                response.headers_mut().insert("etag", HeaderValue::from_static("\"e\""));
                response
            }
        }
    })
    .await;
    for to in BOTH {
        let mesh = Mesh::to(&[origin.address], upstream(to)).await;
        for from in BOTH {
            let mut client = Client::connect(mesh.address, from).await;
            let mut head = get("/head");
            *head.method_mut() = Method::HEAD;
            let seen = client.seen(head).await;
            assert_eq!((seen.status, seen.body.as_str()), (200, ""), "{from:?} to {to:?}");
            assert_eq!(seen.header("content-length"), "5", "{from:?} to {to:?}");
            assert_eq!(client.get("/204").await.status, 204);
            assert_eq!(client.get("/304").await.status, 304);
            // The connection is still in step.
            assert_eq!(client.get("/").await.body, "12345");
        }
    }
}

#[tokio::test]
async fn http10_callers() {
    let (origin, _) = raw_origin(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    let mesh = Mesh::to(&[origin], json!({})).await;
    let answer = raw(mesh.address, b"GET / HTTP/1.0\r\nHost: h\r\n\r\n", false).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("transfer-encoding"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    // Without a host.
    let answer = raw(mesh.address, b"GET / HTTP/1.0\r\n\r\n", false).await;
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[tokio::test]
async fn http10_keep_alive() {
    let origin = Origin::named("kept").await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    let two = "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\nHost: h\r\n\r\n";
    let answer = raw(mesh.address, two.as_bytes(), false).await;
    assert_eq!(answer.matches("kept").count(), 2, "{answer}");
}

#[tokio::test]
async fn expect_continue() {
    let origin = Origin::echo().await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    let request =
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\nbody";
    let answer = raw(mesh.address, request.as_bytes(), false).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\n"), "{answer}");
    assert!(answer.ends_with("body"), "{answer}");
    assert!(!answer.contains("expect:"), "{answer}");
}

#[tokio::test]
async fn chunked_bodies_stay_chunked_and_a_get_may_have_one() {
    let origin = Origin::echo().await;
    for to in BOTH {
        let mesh = Mesh::to(&[origin.address], upstream(to)).await;
        for method in ["GET", "POST", "DELETE"] {
            let request = format!(
                "{method} / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
            );
            let answer = raw(mesh.address, request.as_bytes(), false).await;
            assert!(answer.contains("\nbody"), "{method} to {to:?}: {answer}");
        }
    }
}

#[tokio::test]
async fn closing_callers_are_answered_and_closed() {
    let origin = Origin::named("bye").await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    let answer = raw(
        mesh.address,
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        false,
    )
    .await;
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    assert!(answer.ends_with("bye"), "{answer}");
}
