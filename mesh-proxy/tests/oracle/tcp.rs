//! `tcp_proxy`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::support::{LIMIT, Proxy, Setup, cluster, compare, get, refusing, serve, table};

pub(crate) const BEHAVIOURS: usize = 4;

fn listener(number: usize, fields: &str) -> String {
    format!(
        "- name: tcp{number}\n  address: {{socket_address: {{address: 127.0.0.1, port_value: TCP_PORT_{number}}}}}\n  \
         filter_chains: [{{filters: [{{name: envoy.filters.network.tcp_proxy, typed_config: {{\"@type\": \
         type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: tcp{number}, {fields}}}}}]}}]\n"
    )
}

#[test]
fn tcp_proxy() {
    let setup = || {
        let (a, b) = (serve("a"), serve("b"));
        Setup {
            table: table("", "- {match: {prefix: /}, direct_response: {status: 200}}\n"),
            listeners: [
                listener(
                    0,
                    "weighted_clusters: {clusters: [{name: a, weight: 75}, {name: b, weight: 25}]}",
                ),
                listener(1, "cluster: a, idle_timeout: 1s"),
                listener(2, "cluster: refused, max_connect_attempts: 2"),
            ]
            .concat(),
            clusters: vec![
                cluster("a", "", &[a]),
                cluster("b", "", &[b]),
                cluster("refused", "", &[refusing()]),
            ],
            ..Setup::default()
        }
    };
    compare("tcp", BEHAVIOURS, setup, |proxy, seen| {
        let to_a = (0..400)
            .filter(|_| exchange(proxy.tcp[0]).contains("x-endpoint: a"))
            .count();
        seen.about("weighted", proxy, to_a, 300, 45);
        seen.add("idle", vec![format!("{:?}", ended(proxy.tcp[1], b""))]);
        let mut lines = statistics(proxy, "tcp.tcp1");
        lines.push(format!(
            "{:?}",
            ended(proxy.tcp[1], b"GET / HTTP/1.1\r\nx-do: 200\r\n\r\n").contains("said 200")
        ));
        seen.add("idle after an answer", lines);
        let mut lines = vec![format!("{:?}", ended(proxy.tcp[2], b"hello"))];
        lines.extend(statistics(proxy, "tcp.tcp2"));
        lines.extend(proxy.stats(
            "cluster.refused",
            &[
                "upstream_cx_total",
                "upstream_cx_connect_fail",
                "upstream_cx_connect_attempts_exceeded",
            ],
        ));
        seen.add("refused", lines);
    });
}

fn statistics(proxy: &Proxy, of: &str) -> Vec<String> {
    proxy.stats(
        of,
        &[
            "downstream_cx_total",
            "no_route",
            "rx_bytes_total",
            "tx_bytes_total",
            "idle_timeout",
        ],
    )
}

/// Asks by HTTP over the bare connection, and hangs up.
fn exchange(to: SocketAddr) -> String {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(get("/").text().as_bytes()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// What comes until the proxy ends the connection.
fn ended(to: SocketAddr, send: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let mut text = String::new();
    // Whether the end is seen as a reset is chance: it depends on what has been read before the connection is closed.
    if let Err(error) = stream.write_all(send).and_then(|()| stream.read_to_string(&mut text)) {
        let ends = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
        assert!(ends.contains(&error.kind()), "the connection does not end: {error}");
    }
    text
}
