use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::listener::Listeners;
use crate::shared::Drain;
use crate::snapshot::{ChainMatch, Direction, FilterChain, Listener, Transport};
use crate::testing::{
    TestCa, TestProxy, alpn, chain, client_tls, cluster, common, echo_server, eventually, exchange, inspect_all,
    listener, loopback, server_tls, soon, tcp_to, uri_prefix, with_tls,
};
use crate::tls::{self, TlsError};

fn on_transport(transport: &str) -> ChainMatch {
    ChainMatch {
        transport_protocol: transport.to_owned(),
        ..ChainMatch::default()
    }
}

fn mtls(ca: &TestCa) -> Arc<crate::snapshot::ServerTls> {
    let mut parts = common(Some(&ca.workload("shop", "catalog")), Some(ca.bundle()));
    parts.sans = vec![uri_prefix("spiffe://cluster.local/")];
    server_tls(parts, true)
}

fn plain_chain() -> FilterChain {
    chain("plain", on_transport("raw_buffer"), tcp_to("app"))
}

fn mtls_chain(ca: &TestCa) -> FilterChain {
    with_tls(chain("mtls", on_transport("tls"), tcp_to("app")), &mtls(ca))
}

fn inbound(address: SocketAddr, chains: Vec<FilterChain>) -> Listener {
    inspect_all(listener("inbound", address, chains))
}

async fn connect(address: SocketAddr) -> TcpStream {
    soon("connect", TcpStream::connect(address)).await.expect("listening")
}

/// Reads the greeting of the echo server.
async fn greeting(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut text = [0; 4];
    soon("greeting", stream.read_exact(&mut text)).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    matches!(soon("closing", stream.read(&mut byte)).await, Ok(0) | Err(_))
}

#[tokio::test]
async fn strict_closes_plaintext_and_keeps_mutual_tls() {
    let app = echo_server("app").await;
    let ca = TestCa::new("root");
    let proxy = TestProxy::start(1);
    let to_app = || vec![cluster("app", &[app], &Transport::Plain)];
    proxy.publish(
        vec![inbound(loopback(), vec![plain_chain(), mtls_chain(&ca)])],
        to_app(),
    );
    let address = proxy.address_of("inbound").await;

    let mut plain = connect(address).await;
    plain.write_all(b"(").await.expect("open");
    assert_eq!(greeting(&mut plain).await.expect("PERMISSIVE"), "app:");
    let identity = ca.workload("shop", "web");
    let client = client_tls(common(Some(&identity), Some(ca.bundle())), "");
    let mut safe = tls::connect(connect(address).await, &client, "", &[])
        .await
        .expect("trusted");
    assert_eq!(greeting(&mut safe).await.expect("mutual TLS"), "app:");

    // Something else changes: both live on.
    proxy.publish(
        vec![
            inbound(loopback(), vec![plain_chain(), mtls_chain(&ca)]),
            listener("another", loopback(), vec![plain_chain()]),
        ],
        to_app(),
    );
    proxy.address_of("another").await;
    plain.write_all(b"y").await.expect("open");
    assert_eq!(soon("echo", plain.read_u8()).await.expect("open"), b'(');
    assert_eq!(soon("echo", plain.read_u8()).await.expect("open"), b'y');

    // STRICT.
    proxy.publish(vec![inbound(loopback(), vec![mtls_chain(&ca)])], to_app());
    assert!(is_closed(&mut plain).await);
    safe.write_all(b"z").await.expect("open");
    assert_eq!(soon("echo", safe.read_u8()).await.expect("open"), b'z');

    // New plaintext finds no chain.
    let mut late = connect(address).await;
    late.write_all(b"(").await.expect("accepted");
    assert!(is_closed(&mut late).await);
    assert_eq!(proxy.counter("listener.inbound.no_filter_chain_match"), 1);
    assert_eq!(proxy.counter("listener.inbound.ssl.handshake"), 1);

    // DISABLE: what was encrypted stays, served as plaintext of its kind is.
    let mut off = listener("inbound", loopback(), vec![plain_chain()]);
    off.inspectors.http = Some(crate::snapshot::PortPredicate::default());
    proxy.publish(vec![off], to_app());
    let mut plain = connect(address).await;
    plain.write_all(b"(").await.expect("open");
    assert_eq!(greeting(&mut plain).await.expect("DISABLE"), "app:");
    safe.write_all(b"z").await.expect("open");
    assert_eq!(soon("echo", safe.read_u8()).await.expect("open"), b'z');
}

#[tokio::test]
async fn a_stranger_is_refused_and_counted() {
    let app = echo_server("app").await;
    let (ca, other) = (TestCa::new("root"), TestCa::new("other"));
    let proxy = TestProxy::start(1);
    proxy.publish(
        vec![inbound(loopback(), vec![mtls_chain(&ca)])],
        vec![cluster("app", &[app], &Transport::Plain)],
    );
    let address = proxy.address_of("inbound").await;
    let stranger = client_tls(common(Some(&other.workload("shop", "web")), Some(ca.bundle())), "");
    let refused = match tls::connect(connect(address).await, &stranger, "", &[]).await {
        Err(TlsError::Handshake(_)) => true,
        Err(_) => false,
        // TLS 1.3: the alert comes with the first read.
        Ok(mut stream) => greeting(&mut stream).await.is_err(),
    };
    assert!(refused);
    eventually("counted", || {
        proxy.counter("listener.inbound.ssl.fail_verify_error") == 1
    })
    .await;
    assert_eq!(proxy.counter("listener.inbound.ssl.connection_error"), 1);
    assert_eq!(proxy.counter("listener.inbound.ssl.handshake"), 0);
}

#[tokio::test]
async fn passthrough_goes_by_server_name_and_leaves_the_bytes_alone() {
    let ca = TestCa::new("root");
    // The upstream is a proxy that terminates TLS; the one in front only looks.
    let app = echo_server("app").await;
    let behind = TestProxy::start(1);
    behind.publish(
        vec![inbound(loopback(), vec![mtls_chain(&ca)])],
        vec![cluster("app", &[app], &Transport::Plain)],
    );
    let tls_address = behind.address_of("inbound").await;
    let other = echo_server("oth").await;

    let front = TestProxy::start(2);
    let named = |name: &str, cluster: &str| {
        let matches = ChainMatch {
            server_names: vec![name.to_owned()],
            transport_protocol: "tls".to_owned(),
            ..ChainMatch::default()
        };
        chain(cluster, matches, tcp_to(cluster))
    };
    front.publish(
        vec![inbound(
            loopback(),
            vec![named("*.shop.test", "app"), named("other.test", "other")],
        )],
        vec![
            cluster("app", &[tls_address], &Transport::Plain),
            cluster("other", &[other], &Transport::Plain),
        ],
    );
    let address = front.address_of("inbound").await;
    let client = client_tls(common(Some(&ca.workload("shop", "web")), Some(ca.bundle())), "");
    let stream = tls::connect(connect(address).await, &client, "Web.Shop.test", &alpn(&["h2"])).await;
    let answer = exchange(stream.expect("end to end"), b"through").await.expect("open");
    assert_eq!(answer, b"app:through");
    // The other name has another destination, which speaks no TLS.
    let error = tls::connect(connect(address).await, &client, "other.test", &[]).await;
    assert!(
        error
            .expect_err("no TLS there")
            .to_string()
            .contains("does not speak TLS")
    );
    assert!(
        tls::connect(connect(address).await, &client, "nobody.test", &[])
            .await
            .is_err()
    );
    assert_eq!(front.counter("listener.inbound.no_filter_chain_match"), 1);
}

#[tokio::test]
async fn connections_are_spread_and_survive_the_listeners_end() {
    let app = echo_server("app").await;
    let proxy = TestProxy::start(3);
    let to_app = || vec![cluster("app", &[app], &Transport::Plain)];
    let any = || chain("any", ChainMatch::default(), tcp_to("app"));
    proxy.publish(vec![listener("inbound", loopback(), vec![any()])], to_app());
    let address = proxy.address_of("inbound").await;
    let mut open = Vec::new();
    for _ in 0..9 {
        let mut stream = connect(address).await;
        assert_eq!(greeting(&mut stream).await.expect("served"), "app:");
        open.push(stream);
    }
    assert_eq!(proxy.shared.listeners.active(Direction::Inbound), 9);
    assert!(proxy.workers.iter().all(|w| w.load() == 3), "evenly");

    proxy.publish(Vec::new(), Vec::new());
    eventually("socket closed", || proxy.shared.listeners.bound().is_empty()).await;
    eventually("refused", || std::net::TcpStream::connect(address).is_err()).await;
    for stream in &mut open {
        stream.write_all(b"!").await.expect("open");
        assert_eq!(soon("echo", stream.read_u8()).await.expect("open"), b'!');
    }

    proxy.shared.drain.send_replace(Drain::Closing);
    for stream in &mut open {
        assert!(is_closed(stream).await);
    }
    eventually("none is left", || {
        proxy.shared.listeners.active(Direction::Inbound) == 0
    })
    .await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_tried_again_and_holds_nobody_up() {
    // Of a port below those that the kernel hands out, so that nobody else gets it in between.
    let taken = std::iter::repeat_with(|| rand::random_range(10_000..30_000_u16))
        .take(1000)
        .find_map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok())
        .expect("a free port");
    let address = taken.local_addr().expect("bound");
    let app = echo_server("app").await;
    let proxy = TestProxy::start(1);
    let any = || chain("any", ChainMatch::default(), tcp_to("app"));
    proxy.publish(
        vec![
            listener("first", address, vec![any()]),
            listener("second", loopback(), vec![any()]),
        ],
        vec![cluster("app", &[app], &Transport::Plain)],
    );
    proxy.address_of("second").await;
    let mut ready = Listeners::ready(&proxy.shared.listeners);
    assert!(!*ready.borrow());
    drop(taken);
    soon("ready", ready.wait_for(|r| *r)).await.expect("running");
    let answer = exchange(connect(address).await, b"hi").await.expect("served");
    assert_eq!(answer, b"app:hi");
}

#[tokio::test]
async fn garbage_leaves_the_proxy_standing() {
    let app = echo_server("app").await;
    let ca = TestCa::new("root");
    let proxy = TestProxy::start(1);
    proxy.publish(
        vec![inbound(loopback(), vec![mtls_chain(&ca), plain_chain()])],
        vec![cluster("app", &[app], &Transport::Plain)],
    );
    let address = proxy.address_of("inbound").await;
    let mut long = b"GET /".to_vec();
    long.extend(std::iter::repeat_n(b'a', 300 * 1024));
    for garbage in [
        &b"\x16\x03\x01\x40\x00\x01\xff\xff\xff"[..],
        b"\x16\x03\x03\x00\x04\x01\x00\x00\x00",
        b"\x16",
        &long,
    ] {
        let mut answer = exchange(connect(address).await, garbage).await.unwrap_or_default();
        // Whatever is no TLS is opaque, and comes back as it was.
        if !answer.is_empty() {
            assert_eq!(answer.split_off(4), garbage);
        }
    }
    let answer = exchange(connect(address).await, b"still here").await.expect("served");
    assert_eq!(answer, b"app:still here");
}
