//! What callers may send and upstreams must not see as it came.

use http::{Method, Request, Version};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::harness::*;
use crate::testing::{eventually, soon};

#[tokio::test]
async fn cookies_that_http2_has_split_arrive_in_one_piece() {
    let origin = Origin::echo().await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_2).await;
    let mut request = get("/");
    for crumb in ["a=1", "b=2", "c=3"] {
        request.headers_mut().append("cookie", crumb.parse().expect("a value"));
    }
    assert_eq!(client.seen(request).await.echoed("cookie"), "a=1; b=2; c=3");
}

#[tokio::test]
async fn http2_has_the_same_limit_of_headers_as_http1() {
    let origin = Origin::echo().await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_2).await;
    let mut many = get("/");
    for i in 0..200 {
        let name = http::HeaderName::try_from(format!("x-{i}")).expect("a name");
        many.headers_mut().insert(name, "1".parse().expect("a value"));
    }
    assert_eq!(client.seen(many).await.status, 431);
    assert_eq!(origin.requests(), 0);
    // The crumbs of a cookie are one header.
    let mut crumbs = get("/");
    for i in 0..200 {
        let value = http::HeaderValue::try_from(format!("c{i}=1")).expect("a value");
        crumbs.headers_mut().append("cookie", value);
    }
    assert_eq!(client.seen(crumbs).await.status, 200);
}

#[tokio::test]
async fn hosts_that_are_none_are_refused() {
    let origin = Origin::echo().await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    for host in ["a b", "user@h", "h/x", "h?x", "h#x", "h\\x", "ü", "h<"] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw(mesh.address, request.as_bytes(), false).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{host}: {answer}");
    }
    let userinfo = "GET http://user@h/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let answer = raw(mesh.address, userinfo.as_bytes(), false).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(origin.requests(), 0);
    for host in ["h", "h:80", "[::1]:80", "under_score.local", "a-b.c"] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw(mesh.address, request.as_bytes(), false).await;
        assert!(
            answer.contains(&format!("\nHost: {host}\n")) || answer.contains(&format!("\nhost: {host}\n")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn ports_are_taken_off_hosts() {
    let origin = Origin::echo().await;
    for (manager, other) in [
        (json!({"strip_any_host_port": true}), "h"),
        (json!({"strip_matching_host_port": true}), "h:81"),
        (json!({}), "h:81"),
    ] {
        let strips = manager != json!({});
        let options = Options {
            manager,
            ..Options::default()
        };
        let mesh = Mesh::start(all_to("up"), vec![cluster("up", &[origin.address], json!({}))], options).await;
        let own = format!("h:{}", mesh.address.port());
        for (sent, expected) in [("h:81", other), (own.as_str(), if strips { "h" } else { own.as_str() })] {
            let mut client = Client::connect(mesh.address, Version::HTTP_11).await;
            let mut request = get("/");
            request.headers_mut().insert("host", sent.parse().expect("a value"));
            assert_eq!(client.seen(request).await.echoed("host"), expected, "{sent}");
        }
    }
}

#[tokio::test]
async fn fragments_never_reach_the_upstream() {
    let origin = Origin::echo().await;
    let mesh = Mesh::to(&[origin.address], json!({})).await;
    let request = "GET /public#/../secret HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let answer = raw(mesh.address, request.as_bytes(), false).await;
    assert!(!answer.contains("secret"), "{answer}");
}

/// A slow head keeps a connection no longer than the limit; an idle one is not taken for it.
#[tokio::test]
async fn heads_have_to_come_in_time() {
    let origin = Origin::named("up").await;
    let options = Options {
        manager: json!({"request_headers_timeout": "0.2s"}),
        ..Options::default()
    };
    let mesh = Mesh::start(all_to("up"), vec![cluster("up", &[origin.address], json!({}))], options).await;
    let mut slow = TcpStream::connect(mesh.address).await.expect("connect");
    slow.write_all(b"GET / HTTP/1.1\r\nHost: ").await.expect("write");
    let mut idle = Client::connect(mesh.address, Version::HTTP_11).await;
    assert_eq!(idle.get("/").await.body, "up");
    let mut rest = Vec::new();
    let _ = soon("the slow one is closed", slow.read_to_end(&mut rest)).await;
    assert_eq!(mesh.http_counter("downstream_rq_header_timeout"), 1);
    // It has been idle for longer than the slow one was let.
    assert_eq!(idle.get("/").await.body, "up");
}

/// A connection that was told to end and does not.
#[tokio::test]
async fn half_a_head_does_not_outlive_the_idle_timeout() {
    let origin = Origin::named("up").await;
    let options = Options {
        manager: json!({"common_http_protocol_options": {"idle_timeout": "0.1s"}, "stream_idle_timeout": "0s"}),
        ..Options::default()
    };
    let mesh = Mesh::start(all_to("up"), vec![cluster("up", &[origin.address], json!({}))], options).await;
    let mut slow = TcpStream::connect(mesh.address).await.expect("connect");
    slow.write_all(b"GET / HTTP/1.1\r\nHost: ").await.expect("write");
    eventually("it is told", || mesh.http_counter("downstream_cx_idle_timeout") == 1).await;
    mesh.proxy.workers[0].spawn(|worker| async move {
        let later = std::time::Instant::now() + std::time::Duration::from_secs(3600);
        worker.http.tend(crate::shared::Drain::Running, later);
    });
    let mut rest = Vec::new();
    let _ = soon("it is closed", slow.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn grpc_callers_get_direct_responses_in_their_own_form() {
    let routes = json!([
        {"match": {"prefix": "/no"}, "direct_response": {"status": 503, "body": {"inline_string": "not today"}}},
        {"match": {"prefix": "/gone"}, "redirect": {"path_redirect": "/elsewhere"}},
    ]);
    let mesh = Mesh::start(routes, Vec::new(), Options::default()).await;
    let mut client = Client::connect(mesh.address, Version::HTTP_2).await;
    let call = |path: &str| {
        Request::builder()
            .method(Method::POST)
            .uri(format!("http://test.local{path}"))
            .header("content-type", "application/grpc")
            .body(full(""))
            .expect("a request")
    };
    let seen = client.seen(call("/no")).await;
    assert_eq!((seen.status, seen.header("grpc-status")), (200, "14"));
    assert_eq!(seen.header("grpc-message"), "not today");
    let seen = client.seen(call("/gone")).await;
    assert_eq!((seen.status, seen.header("grpc-status")), (200, "2"));
    // Others get them as they are.
    let seen = client.get("/no").await;
    assert_eq!((seen.status, seen.body.as_str()), (503, "not today"));
}
