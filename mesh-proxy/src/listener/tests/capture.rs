//! Captured traffic: in a network namespace of the test's own, with real rules.

use std::net::SocketAddr;
use std::process::Command;

use tokio::net::TcpStream;

use crate::listener::prove;
use crate::snapshot::{ChainMatch, Cluster, Discovery, Listener, Transport};
use crate::testing::{TestProxy, chain, cluster, echo_server_on, exchange, listener, soon, tcp_to};

/// Runs a test on a thread of its own in a new network namespace, which goes with its threads. Needs root.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        if let Err(error) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            eprintln!("skipped: cannot make a network namespace ({error}); run the tests as root");
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        run("ip link set lo up");
        runtime.expect("runtime").block_on(test());
    });
    assert!(thread.join().is_ok());
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output().expect("installed");
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A listener that only takes what is handed over.
fn handed(name: &str, at: &str) -> Listener {
    Listener {
        bind_to_port: false,
        ..listener(
            name,
            address(at),
            vec![chain(name, ChainMatch::default(), tcp_to(name))],
        )
    }
}

fn catch_all(name: &str, at: &[&str]) -> Listener {
    let mut listener = listener(
        name,
        address(at[0]),
        vec![chain("all", ChainMatch::default(), tcp_to("PassthroughCluster"))],
    );
    listener.addresses = at.iter().map(|a| address(a)).collect();
    listener.use_original_dst = true;
    listener
}

/// To the original destination, from the address that the rules leave alone.
fn passthrough() -> Cluster {
    Cluster {
        discovery: Discovery::OriginalDst,
        bind: Some("127.0.0.6".parse().expect("an address")),
        ..cluster("PassthroughCluster", &[], &Transport::Plain)
    }
}

async fn answer_of(destination: &str) -> String {
    let stream = soon("connect", TcpStream::connect(address(destination)))
        .await
        .expect("captured");
    let answer = exchange(stream, b"?").await.unwrap_or_default();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn redirected_connections_go_to_the_listener_of_their_destination() {
    in_namespace(|| async {
        run("ip address add 10.9.9.9/24 dev lo");
        run("ip address add fd00::9/128 dev lo nodad");
        run("ip address add ::6/128 dev lo nodad");
        for (iptables, own, range) in [
            ("iptables", "127.0.0.6", "10.9.9.0/24"),
            ("ip6tables", "::6", "fd00::/64"),
        ] {
            run(&format!("{iptables} -w -t nat -A OUTPUT -p tcp -s {own} -j RETURN"));
            run(&format!(
                "{iptables} -w -t nat -A OUTPUT -p tcp -d {range} -j REDIRECT --to-ports 15001"
            ));
        }
        let exact = echo_server_on("127.0.0.1:0", "exact").await;
        let wildcard = echo_server_on("127.0.0.1:0", "wildcard").await;
        echo_server_on("10.9.9.9:82", "itself").await;
        echo_server_on("[fd00::9]:82", "itself6").await;

        let proxy = TestProxy::start(2);
        proxy.publish(
            vec![
                catch_all("virtualOutbound", &["0.0.0.0:15001", "[::]:15001"]),
                handed("10.9.9.9_80", "10.9.9.9:80"),
                handed("0.0.0.0_80", "0.0.0.0:80"),
                handed("0.0.0.0_81", "0.0.0.0:81"),
                handed("[::]_81", "[::]:81"),
            ],
            vec![
                passthrough(),
                cluster("10.9.9.9_80", &[exact], &Transport::Plain),
                cluster("0.0.0.0_80", &[wildcard], &Transport::Plain),
                cluster("0.0.0.0_81", &[wildcard], &Transport::Plain),
                cluster("[::]_81", &[wildcard], &Transport::Plain),
            ],
        );
        proxy.address_of("virtualOutbound").await;
        for (destination, expected) in [
            ("10.9.9.9:80", "exact:?"),
            ("10.9.9.8:80", "wildcard:?"),
            ("10.9.9.9:81", "wildcard:?"),
            ("[fd00::9]:81", "wildcard:?"),
            ("10.9.9.9:82", "itself:?"),
            ("[fd00::9]:82", "itself6:?"),
            // Not captured: its original destination is the proxy itself.
            ("127.0.0.1:15001", ""),
        ] {
            assert_eq!(answer_of(destination).await, expected, "{destination}");
        }
        assert_eq!(proxy.counter("listener.10.9.9.9_80.downstream_cx_total"), 1);
    });
}

#[test]
fn transparent_listeners_see_the_destination_in_their_own_address() {
    in_namespace(|| async {
        run("ip address add 10.8.8.8/24 dev lo");
        run("ip rule add fwmark 1337 lookup 133");
        run("ip route add local default dev lo table 133");
        run("iptables -w -t mangle -A OUTPUT -p tcp -s 127.0.0.6 -j RETURN");
        run("iptables -w -t mangle -A OUTPUT -p tcp -d 10.8.8.0/24 --dport 80:82 -j MARK --set-mark 1337");
        run(
            "iptables -w -t mangle -A PREROUTING -p tcp -m mark --mark 1337 -j TPROXY --on-port 15006 --tproxy-mark 1337",
        );
        let exact = echo_server_on("127.0.0.1:0", "exact").await;
        echo_server_on("10.8.8.8:82", "itself").await;

        let proxy = TestProxy::start(1);
        let mut inbound = catch_all("virtualInbound", &["0.0.0.0:15006"]);
        inbound.transparent = true;
        proxy.publish(
            vec![inbound, handed("10.8.8.7_80", "10.8.8.7:80")],
            vec![passthrough(), cluster("10.8.8.7_80", &[exact], &Transport::Plain)],
        );
        proxy.address_of("virtualInbound").await;
        assert_eq!(answer_of("10.8.8.7:80").await, "exact:?");
        assert_eq!(answer_of("10.8.8.8:82").await, "itself:?");
    });
}

#[test]
fn capture_is_proven_by_a_connection_to_nobody() {
    in_namespace(|| async {
        run("ip address add ::6/128 dev lo nodad");
        let proxy = TestProxy::start(2);
        proxy.publish(
            vec![catch_all("virtualInbound", &["0.0.0.0:15006", "[::]:15006"])],
            vec![passthrough()],
        );
        proxy.address_of("virtualInbound").await;
        for (iptables, goal) in [("iptables", "127.0.0.6:15002"), ("ip6tables", "[::6]:15002")] {
            let why = prove(&proxy.shared, address(goal))
                .await
                .expect_err("nothing is captured");
            assert!(why.contains(goal), "{why}");
            let host = address(goal).ip();
            run(&format!(
                "{iptables} -w -t nat -A OUTPUT -p tcp -d {host} -j REDIRECT --to-ports 15006"
            ));
            assert_eq!(prove(&proxy.shared, address(goal)).await, Ok(()));
        }
        assert_eq!(proxy.shared.listeners.opened(), 0, "it is nobody's connection");
        // What does not come to the proxy proves nothing.
        run("iptables -w -t nat -F OUTPUT");
        echo_server_on("127.0.0.6:15002", "somebody").await;
        assert!(prove(&proxy.shared, address("127.0.0.6:15002")).await.is_err());
    });
}
