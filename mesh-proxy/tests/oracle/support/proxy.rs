//! A proxy with a bootstrap of its own.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use parking_lot::Mutex;

use super::client::{self, Answer, Ask, Held, exchange};
use super::{http2, serve, wait_for};

/// What a bootstrap has beside what all have: a listener `front` with a connection manager. Everything is YAML, to be
/// indented; lists begin with `- `. `TCP_PORT_0` to `TCP_PORT_2` and `LOG_FILE` stand for [`Proxy::tcp`] and [`Proxy::log`].
#[derive(Debug, Default)]
pub(crate) struct Setup {
    /// More fields of the connection manager.
    pub(crate) manager: String,
    /// Filters before the router.
    pub(crate) filters: String,
    /// The route table's fields.
    pub(crate) table: String,
    /// More listeners.
    pub(crate) listeners: String,
    /// See [`cluster`].
    pub(crate) clusters: Vec<String>,
}

/// An access log at `LOG_FILE` with lines of this format, for [`Setup::manager`].
pub(crate) fn access_log(format: &str) -> String {
    let kind = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
    format!(
        "access_log:\n- name: text\n  typed_config:\n    \"@type\": {kind}\n    path: LOG_FILE\n    \
         log_format: {{text_format_source: {{inline_string: \"{format}\\n\"}}}}\n"
    )
}

/// A route table with one virtual host for everything, with these routes and more fields.
pub(crate) fn table(more: &str, routes: &str) -> String {
    format!(
        "virtual_hosts:\n- name: all\n  domains: [\"*\"]\n{}  routes:\n{}",
        indent(more, 2),
        indent(routes, 2)
    )
}

/// A cluster with more fields, as a flow without braces, and these endpoints.
pub(crate) fn cluster(name: &str, more: &str, endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|e| (*e, "")).collect();
    cluster_of(name, more, &[("", &endpoints)])
}

/// A cluster whose endpoints are in groups with fields of their own (`locality`, `priority`), and have fields of their own
/// (`health_status`, `load_balancing_weight`).
pub(crate) fn cluster_of(name: &str, more: &str, groups: &[(&str, &[(SocketAddr, &str)])]) -> String {
    let comma = |more: &str| {
        if more.is_empty() {
            String::new()
        } else {
            format!(", {more}")
        }
    };
    let mut text = Vec::new();
    for (fields, endpoints) in groups {
        let list: Vec<String> = endpoints
            .iter()
            .map(|(address, fields)| {
                let (ip, port) = (address.ip(), address.port());
                format!(
                    "{{endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}{}}}",
                    comma(fields)
                )
            })
            .collect();
        text.push(format!("{{lb_endpoints: [{}]{}}}", list.join(", "), comma(fields)));
    }
    let connect = if more.contains("connect_timeout") {
        ""
    } else {
        ", connect_timeout: 10s"
    };
    format!(
        "- {{name: {name}{connect}, load_assignment: {{cluster_name: {name}, endpoints: [{}]}}{}}}\n",
        text.join(", "),
        comma(more)
    )
}

impl Setup {
    /// A route table and clusters, and all else at its default.
    pub(crate) fn of(table: String, clusters: Vec<String>) -> Self {
        Setup {
            table,
            clusters,
            ..Setup::default()
        }
    }

    /// Routes to a cluster `there` with one endpoint.
    pub(crate) fn there(routes: &str) -> Self {
        Setup::of(table("", routes), vec![cluster("there", "", &[serve("there")])])
    }

    fn bootstrap(&self, front: u16, admin: u16) -> String {
        let manager =
            "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
        format!(
            "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}\n\
             static_resources:\n  listeners:\n  - name: front\n    per_connection_buffer_limit_bytes: 65536\n    \
             address: {{socket_address: {{address: 127.0.0.1, port_value: {front}}}}}\n    \
             filter_chains:\n    - filters:\n      - name: envoy.filters.network.http_connection_manager\n        \
             typed_config:\n          \"@type\": {manager}\n          stat_prefix: front\n{}          \
             route_config:\n            name: all\n{}          http_filters:\n{}          \
             - {{name: envoy.filters.http.router, typed_config: {{\"@type\": {router}}}}}\n{}  clusters:\n{}",
            indent(&self.manager, 10),
            indent(&self.table, 12),
            indent(&self.filters, 10),
            indent(&self.listeners, 2),
            indent(&self.clusters.concat(), 2)
        )
    }
}

fn indent(text: &str, by: usize) -> String {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// A proxy that runs, and ends with this value.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    /// More listeners, where the setup has some.
    pub(crate) tcp: [SocketAddr; 3],
    /// The access log, where the setup has one.
    pub(crate) log: PathBuf,
    front: SocketAddr,
    admin: SocketAddr,
    child: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    pub(super) fn start(program: &Path, folder: &Path, name: &'static str, setup: &Setup) -> Self {
        let (front, admin) = (free_port(), free_port());
        let tcp = [free_port(), free_port(), free_port()];
        let log = folder.join(format!("{name}.access"));
        let mut bootstrap = setup.bootstrap(front, admin);
        for (i, port) in tcp.iter().enumerate() {
            bootstrap = bootstrap.replace(&format!("TCP_PORT_{i}"), &port.to_string());
        }
        let bootstrap = bootstrap.replace("LOG_FILE", &log.to_string_lossy());
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(&file, bootstrap).expect("the bootstrap is written");
        let said = folder.join(format!("{name}.log"));
        let child = Command::new(program)
            .arg("-c")
            .arg(&file)
            .args(["--concurrency", "1", "--disable-hot-restart"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&said).expect("a log"))
            .spawn()
            .expect("the proxy starts");
        let mut proxy = Proxy {
            name,
            tcp: tcp.map(|port| ([127, 0, 0, 1], port).into()),
            log,
            front: ([127, 0, 0, 1], front).into(),
            admin: ([127, 0, 0, 1], admin).into(),
            child,
        };
        let said = || std::fs::read_to_string(&said).unwrap_or_default();
        wait_for(
            || {
                let ended = proxy.child.try_wait().ok().flatten();
                assert!(ended.is_none(), "{name} has ended ({ended:?}): {}", said());
                // A port on which nobody listens yet may be connected with itself.
                TcpStream::connect(proxy.front).is_ok_and(|s| s.local_addr().ok() != s.peer_addr().ok())
            },
            || format!("{name} does not listen: {}", said()),
        );
        proxy
    }

    pub(crate) fn ask(&self, ask: &Ask) -> Answer {
        ask.send(self.front)
    }

    /// Asks by HTTP/2.
    pub(crate) fn ask_http2(&self, ask: &Ask) -> Answer {
        http2::send(ask, self.front)
    }

    /// Asks so often over one connection.
    pub(crate) fn ask_often(&self, path: &str, count: usize) -> Vec<Answer> {
        client::often(path, count, self.front)
    }

    /// Where requests go.
    pub(crate) fn front(&self) -> SocketAddr {
        self.front
    }

    /// Asks, and has the upstream hold the answer back.
    pub(crate) fn hold(&self, ask: Ask) -> Held {
        Held::send(ask, self.front)
    }

    /// A page of the admin interface.
    pub(crate) fn admin(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        exchange(self.admin, &request).1
    }

    /// Counters and gauges that are not 0, of those below the prefix whose names hold one of these parts, once they stay the
    /// same: Envoy counts a little after the answer.
    pub(crate) fn stats(&self, prefix: &str, parts: &[&str]) -> Vec<String> {
        let read = || -> Vec<String> {
            let page = self.admin(&format!("/stats?filter=^{prefix}[.]"));
            let lines = page.lines().filter(|line| {
                let Some((name, value)) = line.split_once(": ") else {
                    return false;
                };
                name.starts_with(prefix)
                    && parts.iter().any(|p| name.contains(p))
                    // Ours has no back-off statistics yet; nor the same again by who asked and by
                    // attempt; degradation is new in Envoy 1.40; histograms are times.
                    && !["backoff", "pools", "degradation", ".external.", ".internal.", ".retry."].iter().any(|p| name.contains(p))
                    && value != "0"
                    && value.parse::<u64>().is_ok()
            });
            lines.map(str::to_owned).collect()
        };
        let mut before = read();
        let mut same = 0;
        wait_for(
            || {
                std::thread::sleep(std::time::Duration::from_millis(4));
                let now = read();
                same = if now == before { same + 1 } else { 0 };
                before = now;
                same >= 8
            },
            || format!("{}: statistics of {prefix} never stay the same", self.name),
        );
        before
    }

    /// Waits until a statistic has a value.
    pub(crate) fn until(&self, stat: &str, value: &str) {
        let line = format!("{stat}: {value}");
        let page = || self.admin(&format!("/stats?filter=^{stat}$"));
        wait_for(
            || page().lines().any(|l| l == line),
            || format!("{}: {line} never comes: {}", self.name, page()),
        );
    }

    /// The access log, once it has so many lines. Envoy writes it every ten seconds.
    pub(crate) fn logged(&self, lines: usize) -> String {
        let read = || std::fs::read_to_string(&self.log).unwrap_or_default();
        wait_for(
            || read().lines().count() >= lines,
            || format!("{}: {lines} lines never come: {}", self.name, read()),
        );
        read()
    }

    /// `health_flags` of endpoints of a cluster.
    pub(crate) fn health(&self, cluster: &str, endpoints: &[SocketAddr]) -> Vec<String> {
        let page = self.admin("/clusters");
        let of = |e: &SocketAddr| {
            let key = format!("{cluster}::{e}::health_flags::");
            let mut found = page.lines().filter_map(|line| line.strip_prefix(&key));
            found.next().unwrap_or_default().to_owned()
        };
        endpoints.iter().map(of).collect()
    }
}

/// A port that nobody listens on just now, and that the kernel gives to nobody either: below those that it hands out.
fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok() && GIVEN.lock().insert(*port);
    let ports = std::iter::repeat_with(|| rand::random_range(10_000..30_000));
    ports.take(1000).find(free).expect("a free port")
}
