//! Callers that leave before they are answered: what is under way for them ends, and is counted and logged as theirs.

use std::io::Read as _;

use crate::support::{
    Ask, Leave, Proxy, Seen, Setup, access_log, cluster, compare, get, leave, leave_http2, method, post, serve, table,
};

pub(crate) const BEHAVIOURS: usize = 20;

const ROUTES: &str = r#"
- {match: {prefix: /there}, route: {cluster: there}}
- {match: {prefix: /again}, route: {cluster: again, retry_policy: {retry_on: 5xx, num_retries: 3, retry_back_off: {base_interval: 30s, max_interval: 30s}}}}
- {match: {prefix: /try}, route: {cluster: there, retry_policy: {retry_on: 5xx, num_retries: 3, per_try_timeout: 10s}, hedge_policy: {hedge_on_per_try_timeout: true}}}
- match: {prefix: /delay}
  route: {cluster: there}
  typed_per_filter_config: {envoy.filters.http.fault: {"@type": FAULT, delay: {fixed_delay: 30s, percentage: {numerator: 100}}}}
"#;

const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";

const FORMAT: &str = "%REQ(X-CASE)% %REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
                      %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %UPSTREAM_REQUEST_ATTEMPT_COUNT%";

/// When a caller leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Its request is upstream.
    Upstream,
    /// A part of its request is.
    Body,
    /// It has read a part of the answer.
    Answer,
    /// Another attempt is to be made later.
    BackOff,
    /// A fault holds it up.
    Delay,
}

impl At {
    fn ask(self) -> Ask {
        match self {
            At::Upstream => get("/there").script("silent"),
            At::Body => post("/there", "hello"),
            At::Answer => get("/there").script("stay"),
            At::BackOff => get("/again").script("503"),
            At::Delay => get("/delay"),
        }
    }

    fn wait(self, proxy: &Proxy, ask: &Ask) {
        match self {
            At::Upstream | At::Answer => ask.wait(1),
            At::Body => proxy.until("cluster.there.upstream_rq_active", "1"),
            At::BackOff => {
                ask.wait(1);
                proxy.until("cluster.again.upstream_rq_active", "0");
            }
            At::Delay => proxy.until("http.front.fault.active_faults", "1"),
        }
    }

    /// Waits until nothing is left of it.
    fn settle(self, proxy: &Proxy, ask: &Ask) {
        if matches!(self, At::Upstream | At::Answer) {
            ask.wait_given_up();
        }
        proxy.until("http.front.downstream_rq_active", "0");
        proxy.until("cluster.there.upstream_rq_active", "0");
    }
}

const CASES: [(&str, At, Leave); 8] = [
    ("closes while the upstream is silent", At::Upstream, Leave::Close),
    ("resets while the upstream is silent", At::Upstream, Leave::Reset),
    (
        "closes its side while the upstream is silent",
        At::Upstream,
        Leave::Half,
    ),
    ("closes within its request", At::Body, Leave::Close),
    ("closes within the answer", At::Answer, Leave::Close),
    ("resets within the answer", At::Answer, Leave::Reset),
    ("closes before another attempt", At::BackOff, Leave::Close),
    ("closes while it is delayed", At::Delay, Leave::Close),
];

const HTTP2_CASES: [(&str, At, Leave); 7] = [
    (
        "HTTP/2: closes while the upstream is silent",
        At::Upstream,
        Leave::Close,
    ),
    (
        "HTTP/2: resets while the upstream is silent",
        At::Upstream,
        Leave::Reset,
    ),
    ("HTTP/2: resets within its request", At::Body, Leave::Reset),
    ("HTTP/2: closes within the answer", At::Answer, Leave::Close),
    ("HTTP/2: resets within the answer", At::Answer, Leave::Reset),
    ("HTTP/2: resets before another attempt", At::BackOff, Leave::Reset),
    ("HTTP/2: resets while it is delayed", At::Delay, Leave::Reset),
];

/// How often each kind of end was counted.
fn counted(proxy: &Proxy) -> Vec<String> {
    let mut lines = proxy.stats(
        "http.front",
        &[
            "downstream_cx_destroy",
            "downstream_cx_active",
            "downstream_rq_completed",
            "downstream_rq_rx_reset",
            "downstream_rq_tx_reset",
            "downstream_rq_2xx",
            "downstream_rq_5xx",
        ],
    );
    lines.extend(proxy.stats(
        "cluster",
        &["upstream_rq_total", "upstream_rq_active", "upstream_rq_retry"],
    ));
    lines
}

fn setup() -> Setup {
    Setup {
        manager: access_log(FORMAT),
        filters: format!("- {{name: envoy.filters.http.fault, typed_config: {{\"@type\": {FAULT}}}}}\n"),
        table: table("", &ROUTES.replace("FAULT", FAULT)),
        clusters: vec![
            cluster("there", "", &[serve("there")]),
            cluster("again", "", &[serve("again")]),
        ],
        ..Setup::default()
    }
}

#[test]
fn callers_that_leave() {
    compare("callers that leave", BEHAVIOURS, setup, |proxy, seen| {
        let mut asked = Vec::new();
        for (name, at, how) in CASES {
            let ask = at.ask();
            let rest = http1(proxy, &ask, at, how);
            at.settle(proxy, &ask);
            asked.push((name, ask, vec![format!("reads {rest:?} then")]));
        }
        let hedged = get("/try").script("silent");
        http1(proxy, &hedged, At::Upstream, Leave::Close);
        At::Upstream.settle(proxy, &hedged);
        asked.push(("closes while attempts may be hedged", hedged, Vec::new()));
        seen.add("statistics of HTTP/1", counted(proxy));
        for (name, at, how) in HTTP2_CASES {
            let ask = at.ask();
            let left = leave_http2(proxy.front(), &ask, how, at == At::Answer, || at.wait(proxy, &ask));
            at.settle(proxy, &ask);
            drop(left);
            proxy.until("http.front.downstream_cx_active", "0");
            asked.push((name, ask, Vec::new()));
        }
        seen.add("statistics of HTTP/2", counted(proxy));
        answered(proxy, seen);
        logged(proxy, seen, asked);
    });
}

/// Asks, and leaves; what it read after that.
fn http1(proxy: &Proxy, ask: &Ask, at: At, how: Leave) -> String {
    let mut text = ask.text();
    if at == At::Body {
        text = text.replace("Content-Length: 5", "Content-Length: 50");
    }
    leave(proxy.front(), &text, how, |mut stream| {
        at.wait(proxy, ask);
        let mut answer = Vec::new();
        while at == At::Answer && !answer.ends_with(b"said 200") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            answer.extend(byte);
        }
    })
}

/// Whoever has its answer is free to go.
fn answered(proxy: &Proxy, seen: &mut Seen) {
    let before = counted(proxy);
    seen.ask(proxy, "closes after its answer", 200, &get("/there"));
    proxy.until("http.front.downstream_cx_active", "0");
    let resets = |lines: &[String]| -> Vec<String> {
        let found = lines.iter().filter(|l| l.contains("reset") || l.contains("active"));
        found.cloned().collect()
    };
    assert_eq!(resets(&before), resets(&counted(proxy)), "{}", proxy.name);
    seen.ask(proxy, "HEAD without a body", 200, &method("HEAD", "/there"));
}

fn logged(proxy: &Proxy, seen: &mut Seen, asked: Vec<(&'static str, Ask, Vec<String>)>) {
    let log = proxy.logged(asked.len() + 2);
    for (name, ask, mut lines) in asked {
        let start = format!("{} ", ask.number());
        let found = log.lines().filter_map(|l| l.strip_prefix(&start));
        lines.extend(found.map(str::to_owned));
        lines.extend(ask.attempts());
        seen.add(name, lines);
    }
}
