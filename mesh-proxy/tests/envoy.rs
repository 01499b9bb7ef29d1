//! The same bootstrap on a real Envoy and on mesh-proxy: the same requests get the same answers.
//!
//! `ENVOY_BIN` names Envoy's program; `cargo xtask test` sets it. Without it the test says that it is left out; under
//! `CI=true` that is a failure.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

/// Headers that are compared; others carry times and versions.
const COMPARED: [&str; 6] = [
    "location",
    "content-type",
    "content-length",
    "x-shop",
    "x-route",
    "x-gone",
];

const BOOTSTRAP: &str = r#"
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: front
    address: {socket_address: {address: 127.0.0.1, port_value: LISTENER}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          normalize_path: true
          route_config:
            name: all
            response_headers_to_add: [{header: {key: x-shop, value: "yes"}}]
            virtual_hosts:
            - name: moved
              domains: [old.test, "*.old.test"]
              routes:
              - {match: {prefix: /}, redirect: {host_redirect: new.test, path_redirect: /here, response_code: FOUND}}
            - name: shop
              domains: ["*"]
              routes:
              - {match: {path: /exact}, direct_response: {status: 418, body: {inline_string: tea}}}
              - match: {prefix: /by, headers: [{name: x-kind, string_match: {exact: gold}}]}
                route: {cluster: there, prefix_rewrite: /gold}
                response_headers_to_add: [{header: {key: x-route, value: gold}}]
              - {match: {prefix: /by, query_parameters: [{name: v, string_match: {exact: "2"}}]}, route: {cluster: there, prefix_rewrite: /two}}
              - {match: {safe_regex: {regex: "/items/[0-9]+"}}, route: {cluster: there, host_rewrite_literal: items.test}}
              - match: {prefix: /headers}
                route: {cluster: there}
                request_headers_to_add: [{header: {key: x-added, value: new}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}]
                request_headers_to_remove: [x-secret]
                response_headers_to_remove: [x-gone]
              - {match: {prefix: /slow}, route: {cluster: there, timeout: 0.3s}}
              - {match: {prefix: /flaky}, route: {cluster: there, retry_policy: {retry_on: 5xx, num_retries: 2}}}
              - {match: {prefix: /fails}, route: {cluster: there, retry_policy: {retry_on: gateway-error, num_retries: 2}}}
              - {match: {prefix: /nobody}, route: {cluster: nobody}}
              - {match: {prefix: /by}, route: {cluster: there}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: there
    connect_timeout: 10s
    load_assignment: {cluster_name: there, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: UPSTREAM}}}}]}]}
  - name: nobody
    connect_timeout: 10s
"#;

/// Method, authority, path, more headers.
const REQUESTS: [(&str, &str, &str, &str); 17] = [
    ("GET", "shop.test", "/exact", ""),
    ("GET", "shop.test", "/exact?query=1", ""),
    ("GET", "shop.test", "/Exact", ""),
    ("GET", "old.test", "/a?b=c", ""),
    ("GET", "deep.old.test", "/", ""),
    ("GET", "shop.test", "/by/path", "x-kind: gold\r\n"),
    ("GET", "shop.test", "/by/path?v=2", ""),
    ("GET", "shop.test", "/by/path?v=3", "x-kind: silver\r\n"),
    ("GET", "shop.test:8080", "/items/12", ""),
    ("GET", "shop.test", "/items/12/more", ""),
    ("GET", "shop.test", "/a/../by/./x", ""),
    ("GET", "shop.test", "/headers", "x-secret: s\r\nx-added: old\r\n"),
    ("HEAD", "shop.test", "/by/head", ""),
    ("GET", "shop.test", "/slow", ""),
    ("GET", "shop.test", "/flaky", ""),
    ("GET", "shop.test", "/nobody", ""),
    ("GET", "shop.test", "/fails", ""),
];

#[test]
fn both_give_the_same_answers() {
    let Some(envoy) = std::env::var_os("ENVOY_BIN").map(PathBuf::from) else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "ENVOY_BIN is not set; run cargo xtask test"
        );
        let _ = writeln!(
            std::io::stderr(),
            "both_give_the_same_answers: skipped, ENVOY_BIN is not set"
        );
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let ours = answers(Path::new(env!("CARGO_BIN_EXE_mesh-proxy")), folder.path(), "ours");
    let theirs = answers(&envoy, folder.path(), "theirs");
    for ((request, ours), theirs) in REQUESTS.iter().zip(&ours).zip(&theirs) {
        assert_eq!(ours, theirs, "mesh-proxy (left) and Envoy (right) for {request:?}");
    }
}

/// What counts of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// Without its reason, which HTTP/1.1 leaves open.
    status: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Starts a proxy before an upstream of its own and asks it everything.
fn answers(program: &Path, folder: &Path, name: &str) -> Vec<Answer> {
    let upstream = serve_upstream();
    let listener = free_port();
    let text = BOOTSTRAP
        .replace("LISTENER", &listener.to_string())
        .replace("UPSTREAM", &upstream.port().to_string());
    let file = folder.join(format!("{name}.yaml"));
    std::fs::write(&file, text).expect("the bootstrap is written");
    let log = std::fs::File::create(folder.join(format!("{name}.log"))).expect("a log");
    let child = Command::new(program)
        .arg("-c")
        .arg(&file)
        .args(["--concurrency", "1", "--disable-hot-restart"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the proxy starts");
    let _running = Running(child);
    let front = SocketAddr::from(([127, 0, 0, 1], listener));
    let deadline = Instant::now() + LIMIT;
    while TcpStream::connect(front).is_err() {
        let said = || std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
        assert!(Instant::now() < deadline, "{name} does not listen: {}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
    REQUESTS
        .iter()
        .map(|(method, host, path, more)| ask(front, method, host, path, more))
        .collect()
}

/// A proxy that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(to: SocketAddr, method: &str, host: &str, path: &str, more: &str) -> Answer {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer that ends");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an end of the headers");
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .expect("a status")
        .to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .filter(|(name, _)| COMPARED.contains(&name.as_str()))
        .collect();
    Answer {
        status,
        headers,
        body: body.to_owned(),
    }
}

/// A port that nobody listens on just now, and that the kernel gives to nobody either: below those that it hands out.
fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports = std::iter::repeat_with(|| rand::random_range(10_000..30_000));
    ports.take(1000).find(free).expect("a free port")
}

/// An application that says what it was asked. `/flaky` answers the third time, `/slow` late, `/fails` never well.
fn serve_upstream() -> SocketAddr {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let name = format!("upstream-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let serve = move || {
        let flaky = std::sync::Arc::new(AtomicUsize::new(0));
        // Ends with the test's process.
        for stream in listener.incoming().flatten() {
            let flaky = flaky.clone();
            std::thread::spawn(move || while answer(&stream, &flaky).is_some() {});
        }
    };
    std::thread::Builder::new().name(name).spawn(serve).expect("a thread");
    address
}

/// Reads a request and answers it; `None` at the end of the connection.
fn answer(stream: &TcpStream, flaky: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let mut head = Vec::new();
    while reader.read_line(&mut line).ok()? > 2 {
        head.push(line.trim_end().to_owned());
        line.clear();
    }
    let first = head.first()?.clone();
    let path = first.split(' ').nth(1)?;
    let header = |name: &str| {
        let mut found = head
            .iter()
            .filter_map(|l| l.split_once(": "))
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        found.next().map_or("-", |(_, value)| value)
    };
    let status = match path {
        "/flaky" if flaky.fetch_add(1, Ordering::Relaxed) < 2 => "500 Internal Server Error",
        "/fails" => "500 Internal Server Error",
        "/slow" => {
            std::thread::sleep(Duration::from_secs(5));
            "200 OK"
        }
        _ => "200 OK",
    };
    let body = format!(
        "{first}; host {}; x-added {}; x-secret {}",
        header("host"),
        header("x-added"),
        header("x-secret")
    );
    let body = if first.starts_with("HEAD") { String::new() } else { body };
    let text = format!(
        "HTTP/1.1 {status}\r\nx-gone: here\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    (&mut &*stream).write_all(text.as_bytes()).ok()
}
