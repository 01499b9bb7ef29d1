use serde_json::json;

use super::*;

fn dump() -> Dump {
    Dump::of(json!({"configs": [
        {"@type": "type.googleapis.com/envoy.admin.v3.ScopedRoutesConfigDump"},
        {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
         "static_clusters": [{"cluster": {"name": "BlackHoleCluster"}}],
         "dynamic_active_clusters": [{"cluster": {"name": "outbound|80|v1|catalog.shop.svc.cluster.local", "type": "EDS",
             "metadata": {"filter_metadata": {"istio":
                 {"config": "/apis/networking.istio.io/v1/namespaces/shop/destination-rule/catalog"}}}}}]},
        {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [{"name": "x",
         "active_state": {"listener": {"address": {"socket_address": {"address": "0.0.0.0", "port_value": 15006}},
             "filter_chains": [{"filter_chain_match": {"transport_protocol": "tls", "destination_port": 8080,
                                                       "application_protocols": ["istio"]},
                                "filters": [{"typed_config": {"cluster": "inbound|8080||"}}]}],
             "default_filter_chain": {"name": "last", "filters": [{"typed_config": {"rds": {"route_config_name": "80"}}}]}}}}]},
        {"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": [{"route_config":
            {"@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "80", "virtual_hosts": [
                {"name": "catalog:80", "domains": ["a", "b", "c"], "routes": [{"match": {"prefix": "/"}, "metadata":
                    {"filter_metadata": {"istio": {"config": "/apis/networking.istio.io/v1/namespaces/shop/virtual-service/c"}}}}]},
                {"name": "blackhole:80", "domains": ["*"]}]}}]},
        {"@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump", "dynamic_endpoint_configs": [{"endpoint_config":
            {"cluster_name": "there", "endpoints": [{"locality": {"region": "r", "zone": "z"}, "lb_endpoints": [
                {"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 80}}}},
                {"endpoint": {"address": {"socket_address": {"address": "10.0.0.2", "port_value": 80}}},
                 "health_status": "UNHEALTHY"}]}]}}]}
    ]}))
}

fn cells(line: &str) -> Vec<&str> {
    line.split("     ").map(str::trim).filter(|c| !c.is_empty()).collect()
}

#[test]
fn clusters_are_taken_apart() {
    let dump = dump();
    let text = cluster::table(&cluster::Filter::default().of(&dump));
    let lines: Vec<_> = text.lines().map(cells).collect();
    assert_eq!(
        lines[0],
        [
            "SERVICE FQDN",
            "PORT",
            "SUBSET",
            "DIRECTION",
            "TYPE",
            "DESTINATION RULE"
        ]
    );
    assert_eq!(lines[1], ["BlackHoleCluster", "-", "-", "-", "STATIC"]);
    assert_eq!(
        lines[2],
        [
            "catalog.shop.svc.cluster.local",
            "80",
            "v1",
            "outbound",
            "EDS",
            "catalog.shop"
        ]
    );
}

#[test]
fn listeners_show_chains_and_the_default() {
    let dump = dump();
    let text = listeners("l", &dump);
    let lines: Vec<_> = text.lines().map(cells).collect();
    assert_eq!(
        lines[1],
        [
            "0.0.0.0",
            "15006",
            "Trans: tls; App: istio; Addr: *:8080",
            "Cluster: inbound|8080||"
        ]
    );
    assert_eq!(lines[2], ["0.0.0.0", "15006", "last", "Route: 80"]);
    let brief = listeners("l --verbose=false", &dump);
    assert_eq!(
        brief.lines().map(cells).nth(1),
        Some(vec!["0.0.0.0", "15006", "UNKNOWN"])
    );
}

#[test]
fn listeners_say_where_their_own_routes_lead() {
    let of = |config: Value| {
        let dump = Dump::of(
            json!({"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
            "dynamic_listeners": [{"active_state": {"listener": {
                "address": {"socket_address": {"address": "0.0.0.0", "port_value": 80}},
                "additional_addresses": [{"address": {"socket_address": {"address": "::", "port_value": 80}}}],
                "filter_chains": [{"filters": [{"typed_config": config}]}]}}}]}]}),
        );
        let text = listeners("l --address ::", &dump);
        cells(text.lines().nth(1).expect("a chain")).join(" ")
    };
    let routes = |hosts: Value| json!({"route_config": {"virtual_hosts": hosts}});
    let to = |cluster: &str| json!({"match": {"prefix": "/"}, "route": {"cluster": cluster}});
    for (config, expected) in [
        (json!({"cluster": "BlackHoleCluster"}), "BlackHoleCluster"),
        (json!({"cluster": "a"}), "Cluster: a"),
        (
            routes(json!([{"domains": ["*"], "routes": [to("inbound|80||")]}])),
            "Cluster: inbound|80||",
        ),
        (
            routes(json!([{"domains": ["*"], "routes": [to("PassthroughCluster")]}])),
            "PassthroughCluster",
        ),
        (
            routes(
                json!([{"domains": ["*"], "routes": [{"match": {"path": "/one"}}, to("a")]},
                          {"domains": ["b", "c"], "routes": [to("a")]}]),
            ),
            "Inline Route: /one, /*; b/c /*",
        ),
        (json!({}), "Non-HTTP/Non-TCP"),
    ] {
        assert_eq!(of(config), format!("0.0.0.0,:: 80 ALL {expected}"));
    }
}

#[test]
fn routes_name_their_virtual_service_or_404() {
    let dump = dump();
    let text = routes("r", &dump);
    let lines: Vec<_> = text.lines().map(cells).collect();
    assert_eq!(lines[1], ["80", "catalog:80", "a, b + 1 more...", "/*", "c.shop"]);
    assert_eq!(lines[2], ["80", "blackhole:80", "*", "/*", "404"]);
    let brief = routes("r --verbose=false", &dump);
    assert_eq!(brief.lines().map(cells).nth(1), Some(vec!["80", "2"]));
}

#[test]
fn endpoints_say_whether_they_take_traffic() {
    let text = endpoint::table(&endpoint::Filter::default().assignments(&dump()));
    let lines: Vec<_> = text.lines().map(cells).collect();
    assert_eq!(lines[1], ["10.0.0.1:80", "HEALTHY", "r/z", "there"]);
    assert_eq!(lines[2], ["10.0.0.2:80", "UNHEALTHY", "r/z", "there"]);
}

#[test]
fn endpoints_say_whether_they_are_ejected() {
    let host = |last: u8, ejected: bool| {
        let mut health = json!({"eds_health_status": "HEALTHY"});
        if ejected {
            health["failed_outlier_check"] = true.into();
        }
        json!({"address": {"socket_address": {"address": format!("10.0.0.{last}"), "port_value": 80}}, "health_status": health})
    };
    let clusters = [
        json!({"name": "outbound|80||there", "host_statuses": [host(2, true), host(1, false)]}),
        json!({"name": "empty"}),
    ];
    let text = endpoint::states_table(&clusters);
    let lines: Vec<_> = text.lines().map(cells).collect();
    assert_eq!(lines[0], ["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"]);
    assert_eq!(lines[1], ["10.0.0.1:80", "HEALTHY", "OK", "outbound|80||there"]);
    assert_eq!(lines[2], ["10.0.0.2:80", "HEALTHY", "FAILED", "outbound|80||there"]);
    assert_eq!(lines.len(), 3);
}

/// What a command line chooses.
#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn what(line: &str) -> What {
    use clap::Parser as _;
    let words = ["pc"].into_iter().chain(line.split_whitespace());
    let line = Line::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
    line.options.what
}

fn listeners(line: &str, dump: &Dump) -> String {
    let What::Listener(options) = what(line) else {
        panic!("{line}");
    };
    listener::rows(&options.filter, &options.filter.of(dump))
}

fn routes(line: &str, dump: &Dump) -> String {
    let What::Route(options) = what(line) else {
        panic!("{line}");
    };
    route::rows(&options.filter, &options.filter.of(dump))
}

#[test]
fn filters_choose() {
    let dump = dump();
    for (line, count) in [
        ("c", 2),
        ("cluster --fqdn catalog.shop.svc.cluster.local", 1),
        ("cluster --fqdn catalog", 1),
        ("cluster --fqdn Hole", 1),
        ("cluster --fqdn Hole --port 80", 0),
        ("cluster --fqdn 80", 0),
        ("cluster --fqdn BlackHoleCluster", 1),
        ("cluster --port 80", 1),
        ("cluster --port 81", 0),
        ("cluster --subset v1 --direction outbound", 1),
        ("cluster --direction inbound", 0),
    ] {
        let What::Cluster(options) = what(line) else {
            panic!("{line}");
        };
        assert_eq!(options.filter.of(&dump).len(), count, "{line}");
    }
    for (line, count) in [
        ("l --port 15006", 1),
        ("l --port 1", 0),
        ("l --address 0.0.0.0", 1),
        ("l --type HTTP", 0),
    ] {
        let What::Listener(options) = what(line) else {
            panic!("{line}");
        };
        assert_eq!(options.filter.of(&dump).len(), count, "{line}");
    }
    for (line, count) in [("r --name 80", 1), ("r --name 8", 0)] {
        let What::Route(options) = what(line) else {
            panic!("{line}");
        };
        assert_eq!(options.filter.of(&dump).len(), count, "{line}");
    }
    for (line, lines) in [
        ("eds", 3),
        ("eds --status unhealthy", 2),
        ("eds --address 10.0.0.1 --port 80 --cluster there", 2),
        ("eds --cluster elsewhere", 1),
    ] {
        let What::Eds(options) = what(line) else {
            panic!("{line}");
        };
        let table = endpoint::table(&options.filter.assignments(&dump));
        assert_eq!(table.lines().count(), lines, "{line}");
    }
}

#[test]
fn all_tables_take_the_filters_that_they_have() {
    for (line, there, missing) in [
        (
            "all",
            vec!["BlackHoleCluster", "0.0.0.0", "catalog:80", "10.0.0.2:80"],
            "",
        ),
        ("a --fqdn catalog", vec!["catalog.shop", "0.0.0.0"], "BlackHoleCluster"),
        (
            "a --direction outbound",
            vec!["catalog.shop", "0.0.0.0"],
            "BlackHoleCluster",
        ),
        ("a --port 15006", vec!["0.0.0.0", "catalog:80"], "10.0.0.1:80"),
        ("a --address 10.0.0.1", vec!["10.0.0.1:80", "catalog:80"], "10.0.0.2:80"),
        ("a --name none", vec!["BlackHoleCluster"], "catalog:80"),
        ("a --verbose=false", vec!["TYPE", "VIRTUAL HOSTS"], "DOMAINS"),
    ] {
        let What::All(options) = what(line) else {
            panic!("{line}");
        };
        let text = options.tables(&dump());
        assert!(there.iter().all(|part| text.contains(part)), "{line}: {text}");
        assert!(missing.is_empty() || !text.contains(missing), "{line}: {text}");
    }
}

#[test]
fn words_that_mean_nothing_are_refused() {
    use clap::Parser as _;
    for line in [
        "cluster --direction sideways",
        "cluster web --proxy 127.0.0.1:15000",
        "cluster web -f dump.json",
        "cluster --proxy nowhere:x",
        "cluster -f dump.json --proxy 127.0.0.1",
        "route -o xml",
    ] {
        let words = ["pc"].into_iter().chain(line.split_whitespace());
        assert!(Line::try_parse_from(words).is_err(), "{line}");
    }
}

#[test]
fn domains_are_said_once() {
    let dump = |domains: Value| {
        Dump::of(
            json!({"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
            "dynamic_route_configs": [{"route_config": {"name": "80", "virtual_hosts": [{"name": "v", "domains": domains,
                "routes": [{"match": {"path_separated_prefix": "/get"}}]}]}}]}]}),
        )
    };
    for (domains, expected) in [
        (
            json!([
                "a.b.svc.cluster.local.",
                "a.b.svc.cluster.local",
                "a.b.svc.cluster.local:80",
                "a",
                "a:80",
                "a.b.svc",
                "a.b",
                "10.0.0.1",
                "10.0.0.1:80"
            ]),
            "a, a.b + 1 more...",
        ),
        (json!(["[fd00::1]", "[fd00::1]:80"]), "[fd00::1]"),
        (json!(["*:80"]), "*:80"),
    ] {
        let text = routes("r", &dump(domains));
        let line = text.lines().nth(1).map(cells);
        assert_eq!(line, Some(vec!["80", "v", expected, "PathPrefix:/get"]));
    }
}

#[test]
fn json_is_a_list_of_messages() {
    let What::Route(options) = what("route --name 80 -o json") else {
        panic!();
    };
    let dump = dump();
    let text = show(&options.common, route::NAME, &options.filter.of(&dump), |_| {
        String::new()
    });
    let value: Value = serde_json::from_str(&text.expect("text")).expect("JSON");
    assert!(
        value[0]["@type"].is_null(),
        "a message says its type where it is packed only"
    );
    assert_eq!(value[0]["virtualHosts"][0]["name"], "catalog:80");
}

#[test]
fn secrets_show_when_they_end() {
    use base64::Engine as _;
    let mut params = rcgen::CertificateParams::new(vec!["web".to_owned()]).expect("names");
    params.serial_number = Some(rcgen::SerialNumber::from(0x1a2b_u64));
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("a certificate").pem();
    let coded = base64::engine::general_purpose::STANDARD.encode(pem);
    let dump = Dump::of(
        json!({"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
        "dynamic_active_secrets": [
            {"name": "default", "secret": {"name": "default", "tls_certificate": {"certificate_chain": {"inline_bytes": coded}}}},
            {"name": "ROOTCA", "secret": {"name": "ROOTCA", "validation_context": {"trusted_ca": {"inline_bytes": coded}}}}],
        "dynamic_warming_secrets": [{"name": "late"}]}]}),
    );
    let text = secret::table(&dump, "2026-06-01T00:00:00Z".parse().expect("a time"));
    let lines: Vec<_> = text.lines().map(cells).collect();
    let times = ["2027-01-01T00:00:00Z", "2026-01-01T00:00:00Z"];
    let of = |first: [&'static str; 5]| first.into_iter().chain(times).collect::<Vec<_>>();
    assert_eq!(lines[1], of(["ROOTCA", "CA", "ACTIVE", "true", "1a2b"]));
    assert_eq!(lines[2], of(["default", "Cert Chain", "ACTIVE", "true", "1a2b"]));
    assert_eq!(lines[3], ["late", "UNKNOWN", "WARMING", "false"]);
    let text = secret::table(&dump, "2028-01-01T00:00:00Z".parse().expect("a time"));
    assert!(text.lines().skip(1).all(|line| cells(line)[3] == "false"), "{text}");
}
