use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngCore as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::snapshot::{
    ChainMatch, Cluster, Discovery, HashRule, LbIndex, LbPolicy, NetworkFilter, TcpProxy, Terminal, Transport,
};
use crate::testing::{
    TestCa, TestProxy, alpn, chain, client_tls, cluster, common, echo_server, eventually, exchange, inspect_all,
    listener, loopback, refused, server_tls, soon, tcp_to, with_tls,
};

pub(super) async fn proxy_to(terminal: Terminal, clusters: Vec<Cluster>) -> (TestProxy, SocketAddr) {
    let proxy = TestProxy::start(1);
    proxy.publish(
        vec![listener(
            "tcp",
            loopback(),
            vec![chain("any", ChainMatch::default(), terminal)],
        )],
        clusters,
    );
    let address = proxy.address_of("tcp").await;
    (proxy, address)
}

pub(super) async fn connect(address: SocketAddr) -> TcpStream {
    soon("connect", TcpStream::connect(address)).await.expect("listening")
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::rngs::StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
    bytes
}

#[tokio::test]
async fn a_mebibyte_comes_back_unchanged_after_half_close() {
    let app = echo_server("app").await;
    let (proxy, address) = proxy_to(tcp_to("app"), vec![cluster("app", &[app], &Transport::Plain)]).await;
    let sent = noise(1 << 20);
    let (mut reader, mut writer) = connect(address).await.into_split();
    let writing = {
        let sent = sent.clone();
        tokio::spawn(async move {
            writer.write_all(&sent).await?;
            writer.shutdown().await
        })
    };
    let mut answer = Vec::new();
    soon("all of it", reader.read_to_end(&mut answer)).await.expect("open");
    writing.await.expect("no panic").expect("written");
    assert_eq!(answer.len(), sent.len() + 4);
    assert!(answer[4..] == sent, "the bytes differ");
    let total = (1 << 20) + 4;
    eventually("counted", || {
        proxy.counter("tcp.app.downstream_cx_tx_bytes_total") == total
    })
    .await;
    assert_eq!(proxy.counter("tcp.app.downstream_cx_rx_bytes_total"), 1 << 20);
}

#[tokio::test]
async fn the_upstream_may_end_first() {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let app = socket.local_addr().expect("bound");
    let (_proxy, address) = proxy_to(tcp_to("app"), vec![cluster("app", &[app], &Transport::Plain)]).await;
    let mut client = connect(address).await;
    let (mut server, _) = soon("accept", socket.accept()).await.expect("connected");
    server.write_all(b"bye").await.expect("open");
    server.shutdown().await.expect("open");
    let mut answer = Vec::new();
    soon("end", client.read_to_end(&mut answer)).await.expect("half-closed");
    assert_eq!(answer, b"bye");
    // The other direction is still open.
    client.write_all(b"late").await.expect("open");
    client.shutdown().await.expect("open");
    let mut late = Vec::new();
    soon("late bytes", server.read_to_end(&mut late)).await.expect("open");
    assert_eq!(late, b"late");
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let app = echo_server("app").await;
    let terminal = Terminal::Tcp(Arc::new(TcpProxy {
        stat_prefix: "app".into(),
        clusters: vec![("app".into(), 1)],
        idle_timeout: Some(Duration::from_millis(50)),
        hash_source_ip: false,
        tunnel: None,
        max_connect_attempts: 1,
        access_logs: Vec::new(),
    }));
    let (proxy, address) = proxy_to(terminal, vec![cluster("app", &[app], &Transport::Plain)]).await;
    let mut answer = Vec::new();
    soon("idle timeout", connect(address).await.read_to_end(&mut answer))
        .await
        .expect("closed in order");
    assert_eq!(answer, b"app:");
    eventually("counted", || proxy.counter("tcp.app.idle_timeout") == 1).await;
}

#[tokio::test]
async fn other_endpoints_are_tried() {
    let app = echo_server("app").await;
    let dead = refused();
    let terminal = |attempts| {
        Terminal::Tcp(Arc::new(TcpProxy {
            stat_prefix: "app".into(),
            clusters: vec![("app".into(), 1)],
            idle_timeout: None,
            hash_source_ip: false,
            tunnel: None,
            max_connect_attempts: attempts,
            access_logs: Vec::new(),
        }))
    };
    let both = || vec![cluster("app", &[dead, app], &Transport::Plain)];
    let (_proxy, address) = proxy_to(terminal(2), both()).await;
    for _ in 0..4 {
        assert_eq!(exchange(connect(address).await, b"1").await.expect("served"), b"app:1");
    }
    let (_proxy, address) = proxy_to(terminal(1), vec![cluster("app", &[dead], &Transport::Plain)]).await;
    let answer = exchange(connect(address).await, b"1").await.unwrap_or_default();
    assert!(answer.is_empty());
}

#[tokio::test]
async fn a_caller_stays_with_its_endpoint_by_its_address() {
    let apps = [echo_server("a").await, echo_server("b").await, echo_server("c").await];
    let endpoints_of = |hash_source_ip| {
        let terminal = Terminal::Tcp(Arc::new(TcpProxy {
            stat_prefix: "app".into(),
            clusters: vec![("app".into(), 1)],
            idle_timeout: None,
            hash_source_ip,
            tunnel: None,
            max_connect_attempts: 1,
            access_logs: Vec::new(),
        }));
        let mut app = cluster("app", &apps, &Transport::Plain);
        let rule = HashRule::Maglev(7);
        app.rules.hash = Some(rule);
        app.lb = LbPolicy::Hash(rule);
        app.index = LbIndex::new(&app.endpoints, &app.rules);
        async move {
            let (_proxy, address) = proxy_to(terminal, vec![app]).await;
            let mut seen = HashSet::new();
            for _ in 0..20 {
                seen.insert(exchange(connect(address).await, b"1").await.expect("served"));
            }
            seen.len()
        }
    };
    assert_eq!(endpoints_of(true).await, 1);
    // Without a hash any endpoint is taken.
    assert!(endpoints_of(false).await > 1);
}

#[tokio::test]
async fn weights_share_connections() {
    let (one, two) = (echo_server("one").await, echo_server("two").await);
    let terminal = Terminal::Tcp(Arc::new(TcpProxy {
        stat_prefix: "both".into(),
        clusters: vec![("one".into(), 3), ("two".into(), 1), ("nobody".into(), 0)],
        idle_timeout: None,
        hash_source_ip: false,
        tunnel: None,
        max_connect_attempts: 1,
        access_logs: Vec::new(),
    }));
    let clusters = vec![
        cluster("one", &[one], &Transport::Plain),
        cluster("two", &[two], &Transport::Plain),
    ];
    let (_proxy, address) = proxy_to(terminal, clusters).await;
    let mut seen = [0; 2];
    for _ in 0..60 {
        match exchange(connect(address).await, b"").await.expect("served").as_slice() {
            b"one:" => seen[0] += 1,
            b"two:" => seen[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    // 45 to 15 on average; an unlucky draw of less than 5 or more than 30 for the second is one in many thousands.
    assert!((5..=30).contains(&seen[1]), "{seen:?}");
}

#[tokio::test]
async fn a_connection_that_was_not_captured_does_not_come_back_for_ever() {
    let mut passthrough = cluster("PassthroughCluster", &[], &Transport::Plain);
    passthrough.discovery = Discovery::OriginalDst;
    let (proxy, address) = proxy_to(tcp_to("PassthroughCluster"), vec![passthrough]).await;
    let answer = exchange(connect(address).await, b"x").await.unwrap_or_default();
    assert!(answer.is_empty());
    assert_eq!(proxy.counter("listener.tcp.downstream_cx_total"), 1);
}

#[tokio::test]
async fn sidecars_exchange_metadata_that_applications_do_not_see() {
    let ca = TestCa::new("root");
    let app = echo_server("app").await;

    let inbound = TestProxy::start(1);
    let mut parts = common(Some(&ca.workload("shop", "catalog")), Some(ca.bundle()));
    parts.alpn = alpn(&["istio-peer-exchange", "h2", "http/1.1"]);
    let mut terminated = with_tls(
        chain("tls", ChainMatch::default(), tcp_to("app")),
        &server_tls(parts, true),
    );
    terminated.filters.push(NetworkFilter::PeerExchange);
    inbound.publish(
        vec![inspect_all(listener("in", loopback(), vec![terminated]))],
        vec![cluster("app", &[app], &Transport::Plain)],
    );
    let mut parts = common(Some(&ca.workload("shop", "web")), Some(ca.bundle()));
    parts.alpn = alpn(&["istio-peer-exchange", "istio"]);
    let transport = Transport::Tls(client_tls(parts, "outbound_.80_._.catalog.shop.svc.cluster.local"));
    let endpoint = inbound.address_of("in").await;
    let (_outbound, address) = proxy_to(tcp_to("far"), vec![cluster("far", &[endpoint], &transport)]).await;

    let sent = noise(200_000);
    let answer = exchange(connect(address).await, &sent).await.expect("served");
    assert!(answer[..4] == *b"app:" && answer[4..] == sent);
    assert_eq!(inbound.counter("listener.in.ssl.handshake"), 1);
}

#[tokio::test]
async fn a_reader_that_stalls_stalls_the_writer() {
    let (mut client, down) = duplex(1024);
    let (up, mut server) = duplex(1024);
    let copying = async move {
        let totals = Totals::default();
        let end = copy_both(down, up, &totals, None, 4096).await;
        (matches!(end, End::Done), totals.received.get(), totals.sent.get())
    };
    let sent = noise(100_000);
    let writing = {
        let sent = sent.clone();
        tokio::spawn(async move {
            client.write_all(&sent).await.expect("open");
            client.shutdown().await.expect("open");
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.expect("open");
            answer
        })
    };
    let reading = async {
        // Both pipes and the buffer hold a few KiB; the rest waits for the reader.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!writing.is_finished());
        let mut read = Vec::new();
        server.read_to_end(&mut read).await.expect("open");
        assert!(read == sent);
        server.write_all(b"ok").await.expect("open");
        server.shutdown().await.expect("open");
        assert_eq!(writing.await.expect("no panic"), b"ok");
    };
    let (copied, ()) = soon("both", async { tokio::join!(copying, reading) }).await;
    assert_eq!(copied, (true, 100_000, 2));
}
