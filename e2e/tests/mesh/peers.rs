//! What two sidecars tell each other of their workloads, and who else does not learn it.

use std::net::IpAddr;

use e2e::runner::{Answer, Call};

use crate::lab::Lab;
use crate::metrics::{Labels, MERGED, OWN, only, page, series};

const METADATA: &str = "x-envoy-peer-metadata";
const METADATA_ID: &str = "x-envoy-peer-metadata-id";

/// A caller and a service whose names all differ, so that no label can be right by chance.
const PARTIES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: greeter}
spec:
  selector: {app: greeter-app}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: http2-h2, port: 8081, targetPort: 8080}
  - {name: grpc, port: 8082, targetPort: 8080}
  - {name: tcp-echo, port: 9000}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: greeter-work}
spec:
  selector: {matchLabels: {app: greeter-app}}
  template:
    metadata:
      labels: {app: greeter-app, version: v2, service.istio.io/canonical-name: greeter-canon}
      annotations: {prometheus.io/scrape: "true", prometheus.io/port: "8080", prometheus.io/path: /metrics}
    spec:
      serviceAccountName: greeter-account
      containers:
      - name: greeter
        image: kennethreitz/httpbin
        env: [{name: LISTEN_ADDR, value: '0.0.0.0:8080'}, {name: TCP_LISTEN_ADDR, value: '0.0.0.0:9000'}]
        ports: [{containerPort: 8080}, {containerPort: 9000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: caller-work}
spec:
  selector: {matchLabels: {app: caller-app}}
  template:
    metadata: {labels: {app: caller-app, version: v3}}
    spec:
      serviceAccountName: caller-account
      containers: [{name: shell, image: nicolaka/netshoot}]
"#;

const CALLER: &str = "caller-work";
const GREETER: &str = "greeter-work";
const COMMON: &[(&str, &str)] = &[
    ("source_workload", CALLER),
    ("source_canonical_service", "caller-app"),
    ("source_canonical_revision", "v3"),
    ("source_workload_namespace", "istioinaction"),
    (
        "source_principal",
        "spiffe://cluster.local/ns/istioinaction/sa/caller-account",
    ),
    ("source_app", "caller-app"),
    ("source_version", "v3"),
    ("source_cluster", "Kubernetes"),
    ("destination_workload", GREETER),
    ("destination_workload_namespace", "istioinaction"),
    (
        "destination_principal",
        "spiffe://cluster.local/ns/istioinaction/sa/greeter-account",
    ),
    ("destination_app", "greeter-app"),
    ("destination_version", "v2"),
    ("destination_service", "greeter.istioinaction.svc.cluster.local"),
    ("destination_canonical_service", "greeter-canon"),
    ("destination_canonical_revision", "v2"),
    ("destination_service_name", "greeter"),
    ("destination_service_namespace", "istioinaction"),
    ("destination_cluster", "Kubernetes"),
    ("response_flags", "-"),
];

/// Both ends of a call: the proxy that reports, what it calls itself, and what it knows of the connection.
const SIDES: [(&str, &str, &str); 2] = [(CALLER, "source", "unknown"), (GREETER, "destination", "mutual_tls")];

fn labels(more: &[(&str, &str)]) -> Labels {
    let all = COMMON.iter().chain(more);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn both_sidecars_report_who_called_whom() {
    let Some(lab) = Lab::start_with("both_sidecars_report_who_called_whom", &[], PARTIES) else {
        return;
    };
    let load = |line: &str| {
        lab.client(CALLER, &format!("load {line}"))["ok"]
            .as_u64()
            .unwrap_or_default()
    };
    let mut http = 0;
    lab.until("HTTP/1.1 served", || {
        let ok = load("http://greeter/ --requests 1");
        http += ok;
        ok == 1
    });
    http += load("http://greeter/ --requests 4") + load("http://greeter:8081/ --requests 5 --http2");
    let call = |code: u8| lab.client(CALLER, &format!("grpc-call http://greeter:8082 --code {code}"))["code"].clone();
    assert_eq!((call(0), call(9)), (0.into(), 9.into()));
    let talk = lab.client(CALLER, "tcp greeter:9000 --messages 3");
    assert_eq!(talk["received"], 3, "{talk}");
    assert_eq!(load("http://greeter/status/404 --requests 1"), 0);

    for (pod, reporter, security) in SIDES {
        let base = [("reporter", reporter), ("connection_security_policy", security)];
        let requests = |protocol: &str, code: &str, grpc: &str| {
            let what = [
                ("request_protocol", protocol),
                ("response_code", code),
                ("grpc_response_status", grpc),
            ];
            // Warming up may have met a proxy that knew nothing yet: only what was answered by the service.
            let of = [&base[..1], &what[..], &[("response_flags", "-")]].concat();
            only(
                &lab,
                pod,
                "istio_requests_total",
                &of,
                &labels(&[&base[..], &what[..]].concat()),
            )
        };
        assert_eq!(requests("http", "200", ""), http as f64, "{pod}");
        assert_eq!(requests("http", "404", ""), 1.0, "{pod}");
        assert_eq!(requests("grpc", "200", "0"), 1.0, "{pod}");
        assert_eq!(requests("grpc", "200", "9"), 1.0, "{pod}");

        let of = [base[0], ("request_protocol", "tcp"), ("response_flags", "-")];
        let tcp = labels(&[&base[..], &[("request_protocol", "tcp")]].concat());
        let metric = |name: &str| only(&lab, pod, name, &of, &tcp);
        assert_eq!(metric("istio_tcp_connections_opened_total"), 1.0, "{pod}");
        // "hello N\n" three times each way.
        lab.until("the connection's end is counted", || {
            metric("istio_tcp_connections_closed_total") == 1.0
        });
        assert_eq!(metric("istio_tcp_received_bytes_total"), 24.0, "{pod}");
        assert_eq!(metric("istio_tcp_sent_bytes_total"), 24.0, "{pod}");
    }

    // Port 15020 has the application's own metrics too, the proxy's own port has not.
    let (merged, own) = (page(&lab, GREETER, MERGED), page(&lab, GREETER, OWN));
    assert!(!series(&merged, "istio_requests_total").is_empty());
    let app = |page: &str| page.lines().any(|line| line.starts_with("sample_requests_total "));
    assert!(
        app(&merged) && merged.contains("istio_agent_scrapes_total "),
        "{merged}"
    );
    assert!(!app(&own), "{own}");
}

/// A service without a sidecar, once known to the mesh as its own and once as external.
const OUTSIDERS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: legacy, namespace: default}
spec:
  selector: {app: legacy}
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: legacy, namespace: default, labels: {app: legacy}}
spec:
  containers: [{name: web, image: kennethreitz/httpbin, ports: [{containerPort: 80}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: abroad}
spec:
  hosts: [abroad.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: ADDRESS}]
"#;

#[test]
fn metadata_stays_between_sidecars() {
    let Some(lab) = Lab::start_with("metadata_stays_between_sidecars", &[], PARTIES) else {
        return;
    };
    let (services, entry) = OUTSIDERS.rsplit_once("---").expect("the ServiceEntry is last");
    lab.apply(services);
    lab.mesh.wait_ready(crate::lab::LIMIT).expect("ready");
    let legacy = lab.mesh.pod("legacy").expect("a pod").ip;
    lab.apply(&entry.replace("ADDRESS", &legacy.to_string()));

    let service = |name: &str| lab.mesh.service_address(name).expect("an address");
    let call = |from: &str, host: &str, to: IpAddr, headers: &[(&str, &str)]| -> anyhow::Result<Answer> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let call = Call {
            authority: host.to_owned(),
            headers: headers.iter().map(own).collect(),
            ..Call::get((to, 80).into(), "/anything")
        };
        lab.mesh.http_from(from, call)
    };
    // What the application saw, once it was it who answered.
    let shown = |from: &str, host: &str, to: IpAddr, headers: &[(&str, &str)]| {
        let mut answer = None;
        lab.until(&format!("{host} answers {from}"), || {
            answer = call(from, host, to, headers).ok().filter(|answer| answer.status == 200);
            answer.is_some()
        });
        let answer = answer.expect("an answer");
        for name in [METADATA, METADATA_ID] {
            assert_eq!(
                answer.header(name),
                None,
                "{from} must not see what {host} says of itself"
            );
        }
        answer.json().expect("JSON")["headers"].clone()
    };
    let none = |headers: &serde_json::Value| headers.get(METADATA).is_none() && headers.get(METADATA_ID).is_none();

    let seen = shown(CALLER, "greeter", service("greeter.istioinaction"), &[]);
    assert!(none(&seen), "a sidecar takes them off: {seen}");

    // As Istio has it, a service of the mesh is told although it has no sidecar that would take it off.
    let told = shown(
        CALLER,
        "legacy.default",
        service("legacy.default"),
        &[(METADATA, "made-up")],
    );
    let (metadata, id) = (told[METADATA].as_str(), told[METADATA_ID].as_str());
    let (metadata, id) = (metadata.expect("metadata"), id.expect("an id"));
    assert!(id.starts_with("sidecar~") && id.contains(CALLER), "{id}");
    assert_ne!(
        metadata, "made-up",
        "what the application says of its proxy is not sent on"
    );

    // A service outside of the mesh is not, nor is an address that nobody knows.
    let abroad = shown(
        CALLER,
        "abroad.example",
        IpAddr::from([240, 240, 7, 7]),
        &[(METADATA, "made-up")],
    );
    assert!(none(&abroad), "{abroad}");
    let stranger = shown(CALLER, "stranger.example", legacy, &[(METADATA, "made-up")]);
    assert!(none(&stranger), "{stranger}");

    // Whoever has no certificate may say what it likes.
    let pretended = [(METADATA, metadata), (METADATA_ID, id)];
    let seen = shown(
        "outside",
        "greeter.istioinaction",
        service("greeter.istioinaction"),
        &pretended,
    );
    assert!(none(&seen), "{seen}");
    let known = COMMON.iter().filter(|(name, _)| !name.starts_with("source_"));
    let unknown = COMMON
        .iter()
        .filter(|(name, _)| name.starts_with("source_"))
        .map(|(name, _)| {
            (
                *name,
                if *name == "source_canonical_revision" {
                    "latest"
                } else {
                    "unknown"
                },
            )
        });
    let plain = [
        ("reporter", "destination"),
        ("connection_security_policy", "none"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("grpc_response_status", ""),
        ("destination_principal", "unknown"),
    ];
    let expected: Labels = known
        .copied()
        .chain(unknown)
        .chain(plain)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let of = [("connection_security_policy", "none"), ("response_code", "200")];
    only(&lab, GREETER, "istio_requests_total", &of, &expected);
}
