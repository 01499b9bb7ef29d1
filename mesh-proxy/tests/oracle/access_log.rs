//! Access logs: the same lines, with the same flags.

use crate::support::{Ask, Setup, access_log, cluster, compare, get, method, post, refusing, serve, table, wait_for};

pub(crate) const BEHAVIOURS: usize = 23;

const ROUTES: &str = r#"
- {name: well, match: {prefix: /well}, route: {cluster: there, prefix_rewrite: /better}}
- {name: nobody, match: {prefix: /nobody}, route: {cluster: nobody}}
- {name: gone, match: {prefix: /gone}, route: {cluster: gone}}
- {name: refused, match: {prefix: /refused}, route: {cluster: refused}}
- {name: retried, match: {prefix: /retried}, route: {cluster: there, retry_policy: {retry_on: 5xx, num_retries: 1, retry_back_off: {base_interval: 0.001s}}}}
- {name: limited, match: {prefix: /limited}, route: {cluster: limited}}
- {name: slow, match: {prefix: /slow}, route: {cluster: there, timeout: 0.2s}}
- {name: try, match: {prefix: /try}, route: {cluster: there, retry_policy: {retry_on: reset, num_retries: 0, per_try_timeout: 0.2s}}}
- {name: idle, match: {prefix: /idle}, route: {cluster: there, timeout: 0s, idle_timeout: 0.2s}}
- {name: direct, match: {prefix: /direct}, direct_response: {status: 200, body: {inline_string: hello}}}
- {name: moved, match: {prefix: /moved}, redirect: {host_redirect: new.test}}
- match: {prefix: /abort}
  name: abort
  route: {cluster: there}
  typed_per_filter_config: {envoy.filters.http.fault: {"@type": FAULT, abort: {http_status: 418, percentage: {numerator: 100}}}}
- match: {prefix: /delay}
  name: delay
  route: {cluster: there}
  typed_per_filter_config: {envoy.filters.http.fault: {"@type": FAULT, delay: {fixed_delay: 0.05s, percentage: {numerator: 100}}}}
- match: {prefix: /rate}
  name: rate
  route: {cluster: there}
  typed_per_filter_config:
    envoy.filters.http.local_ratelimit:
      "@type": RATE
      stat_prefix: lab
      token_bucket: {max_tokens: 1, tokens_per_fill: 1, fill_interval: 3600s}
      filter_enabled: {default_value: {numerator: 100}, runtime_key: a}
      filter_enforced: {default_value: {numerator: 100}, runtime_key: b}
"#;

const FAULT: &str = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault";
const RATE: &str = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";

const FORMAT: &str = "%REQ(X-CASE)% %REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% %RESPONSE_CODE% \
                      %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
                      '%UPSTREAM_TRANSPORT_FAILURE_REASON%' %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %ROUTE_NAME% \
                      %REQ(:AUTHORITY)% '%REQ(USER-AGENT)%' %REQ(X-LONG):5% %RESP(X-SAID)% %GRPC_STATUS% \
                      %UPSTREAM_REQUEST_ATTEMPT_COUNT% %REQUESTED_SERVER_NAME% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%";

/// Of some operators text and JSON are not alike: numbers, and what is not there.
const JSON: &str = "{zone: '%RESPONSE_CODE%', code: '%RESPONSE_CODE%', flags: '%RESPONSE_FLAGS%', path: '%REQ(:PATH)%', none: \
                    '%REQ(X-NONE)%', mixed: 'a %REQ(X-NONE)% %BYTES_SENT%', sent: '%BYTES_SENT%', route: '%ROUTE_NAME%', agent: \
                    '%REQ(USER-AGENT)%', cluster: '%UPSTREAM_CLUSTER%'}";

#[test]
fn access_logs() {
    let setup = || Setup {
        manager: format!(
            "{}- name: json\n  typed_config:\n    \"@type\": {LOG}\n    \
             path: LOG_FILE.json\n    log_format: {{json_format: {JSON}}}\n",
            access_log(FORMAT)
        ),
        filters: format!(
            "- {{name: envoy.filters.http.local_ratelimit, typed_config: {{\"@type\": {RATE}, stat_prefix: all}}}}\n\
             - {{name: envoy.filters.http.fault, typed_config: {{\"@type\": {FAULT}}}}}\n"
        ),
        table: table("", &ROUTES.replace("FAULT", FAULT).replace("RATE", RATE)) + "validate_clusters: false\n",
        clusters: vec![
            cluster("there", "", &[serve("there")]),
            cluster("nobody", "", &[]),
            cluster("refused", "", &[refusing()]),
            cluster(
                "limited",
                "circuit_breakers: {thresholds: [{max_requests: 0}]}",
                &[serve("limited")],
            ),
        ],
        ..Setup::default()
    };
    compare("access logs", BEHAVIOURS, setup, |proxy, seen| {
        let long = get("/well?q=1").with("user-agent", "me").with("x-long", "abcdefgh");
        let grpc = |path| get(path).grpc();
        let all: Vec<(&str, Ask)> = vec![
            ("well", long.script("200 x-said=hello")),
            ("HEAD", method("HEAD", "/well")),
            ("a body", post("/well", "hello")),
            ("no endpoint (UH)", get("/nobody")),
            ("no cluster (NC)", get("/gone")),
            ("no route (NR)", get("/lost")),
            ("refused (UF)", get("/refused")),
            ("reset (UC)", post("/well", "x").script("close")),
            ("retried enough (URX)", get("/retried").script("503")),
            ("retried well", get("/retried").script("503;200")),
            ("past a limit (UO)", get("/limited")),
            ("past the timeout (UT)", get("/slow").script("silent")),
            ("past the try's timeout (UT)", get("/try").script("silent")),
            ("nothing moves (SI)", get("/idle").script("silent")),
            ("a direct response", get("/direct")),
            ("a redirect", get("/moved")),
            ("aborted (FI)", get("/abort")),
            ("delayed (DI)", get("/delay")),
            (
                "a gRPC status",
                grpc("/well").script("200 content-type=application/grpc grpc-status=5"),
            ),
            ("gRPC refused", grpc("/refused")),
            ("within the rate", get("/rate")),
            ("past the rate (RL)", get("/rate")),
        ];
        for (_, ask) in &all {
            proxy.ask(ask);
        }
        let wanted = all.len();
        let log = proxy.logged(wanted);
        let json = || std::fs::read_to_string(proxy.log.with_extension("access.json")).unwrap_or_default();
        wait_for(
            || json().lines().count() >= wanted,
            || format!("{}: {wanted} lines of JSON never come: {}", proxy.name, json()),
        );
        seen.add("JSON", json().lines().map(str::to_owned).collect());
        let line = |ask: &Ask| {
            let start = format!("{} ", ask.number());
            let found = log.lines().filter_map(|l| l.strip_prefix(&start));
            found.map(str::to_owned).collect::<Vec<_>>()
        };
        for (name, ask) in &all {
            seen.add(name, line(ask));
        }
    });
}
