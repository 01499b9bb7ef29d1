//! WebSocket and other upgrades.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use crate::support::{Ask, LIMIT, Setup, cluster, compare, get, serve, table};

pub(crate) const BEHAVIOURS: usize = 4;

const ROUTES: &str = r#"
- {match: {prefix: /off}, route: {cluster: there, upgrade_configs: [{upgrade_type: websocket, enabled: false}]}}
- {match: {prefix: /}, route: {cluster: there}}
"#;

fn upgrade(path: &str, to: &str) -> Ask {
    let ask = get(path).with("connection", "Upgrade").with("upgrade", to);
    ask.with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .with("sec-websocket-version", "13")
}

#[test]
fn upgrades() {
    let setup = || Setup {
        manager: "upgrade_configs: [{upgrade_type: websocket}]\n".to_owned(),
        table: table("", ROUTES),
        clusters: vec![cluster("there", "", &[serve("there")])],
        ..Setup::default()
    };
    compare("upgrades", BEHAVIOURS, setup, |proxy, seen| {
        let ask = upgrade("/ws", "websocket").script("101");
        let (head, echoed) = echo(proxy.front(), &ask);
        let mut lines = vec![head, echoed];
        lines.extend(ask.attempts());
        seen.add("a websocket", lines);
        seen.ask(
            proxy,
            "a websocket that the route does not allow",
            403,
            &upgrade("/off", "websocket").script("101"),
        );
        seen.ask(
            proxy,
            "an upgrade that the upstream does not want",
            426,
            &upgrade("/", "websocket").script("426"),
        );
        let parts = ["downstream_cx_upgrades_total", "upstream_rq_1xx"];
        seen.add(
            "statistics of upgrades",
            [proxy.stats("http.front", &parts), proxy.stats("cluster.there", &parts)].concat(),
        );
    });
}

/// The head of the answer, and what comes back of what is sent after it.
fn echo(to: std::net::SocketAddr, ask: &Ask) -> (String, String) {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    stream.write_all(ask.text().as_bytes()).expect("sent");
    let mut reader = BufReader::new(stream.try_clone().expect("a copy"));
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        if line.trim_end().is_empty() {
            break;
        }
        if !line.starts_with("date:") && !line.starts_with("x-envoy-upstream-service-time") {
            head.push(line.trim_end().to_lowercase());
        }
    }
    head.sort();
    stream.write_all(b"hello").expect("sent");
    let mut back = [0; 5];
    reader.read_exact(&mut back).expect("an echo");
    stream.shutdown(Shutdown::Write).expect("half closed");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("an end");
    (head.join(", "), format!("{}{rest}", String::from_utf8_lossy(&back)))
}
