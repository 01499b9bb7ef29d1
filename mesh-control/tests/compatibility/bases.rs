//! Objects in which fields mean something.

use mesh_api::istio::Kind;
use serde_json::{Value, json};

/// The specification in which a field is set.
pub(crate) fn base(kind: Kind, path: &str) -> Value {
    let mut base = match kind {
        Kind::VirtualService => routing(path),
        Kind::DestinationRule => rule(path),
        Kind::Gateway => gateway(path),
        Kind::ServiceEntry => entry(path),
        Kind::Sidecar => sidecar(path),
        Kind::WorkloadEntry => json!({"address": "10.8.0.1", "labels": {"app": "machine"}}),
        Kind::WorkloadGroup if path.starts_with("probe.") => {
            let probed = ["probe.tcpSocket", "probe.grpc", "probe.exec"]
                .iter()
                .any(|p| path.starts_with(p));
            let probe = if probed {
                json!({})
            } else {
                json!({"httpGet": {"port": 80}})
            };
            json!({"template": {"serviceAccount": "machine"}, "probe": probe})
        }
        Kind::WorkloadGroup => json!({"template": {"serviceAccount": "machine"}}),
        Kind::EnvoyFilter => filter(path),
        Kind::ProxyConfig if path.starts_with("selector") => json!({"concurrency": 3}),
        _ => json!({}),
    };
    for (_, _, more) in NEEDS.iter().filter(|(of, part, _)| *of == kind && path.contains(part)) {
        let more: Value = serde_json::from_str(more).expect("JSON");
        merge(&mut base, &more);
    }
    base
}

/// What must stand beside a field for it to mean something: kind, a part of its path, and what is merged into the base.
const NEEDS: &[(Kind, &str, &str)] = &[
    (
        Kind::VirtualService,
        "uriRegexRewrite.rewrite",
        r#"{"http": [{"rewrite": {"uriRegexRewrite": {"match": "/x(.*)"}}}]}"#,
    ),
    (
        Kind::VirtualService,
        "http[].mirrors",
        r#"{"http": [{"mirrors": [{"destination": {"host": "catalog", "port": {"number": 80}}}]}]}"#,
    ),
    (
        Kind::VirtualService,
        "http[].mirror.",
        r#"{"http": [{"mirror": {"host": "catalog", "port": {"number": 80}}}]}"#,
    ),
    (
        Kind::VirtualService,
        "http[].mirrorPercent",
        r#"{"http": [{"mirror": {"host": "catalog", "port": {"number": 80}}}]}"#,
    ),
    (
        Kind::VirtualService,
        "http[].mirror_percent",
        r#"{"http": [{"mirror": {"host": "catalog", "port": {"number": 80}}}]}"#,
    ),
    (
        Kind::VirtualService,
        "http[].retries",
        r#"{"http": [{"retries": {"attempts": 3}}]}"#,
    ),
    (
        Kind::VirtualService,
        "http[].fault.abort.",
        r#"{"http": [{"fault": {"abort": {"httpStatus": 500, "percentage": {"value": 50}}}}]}"#,
    ),
    (
        Kind::VirtualService,
        "http[].fault.delay.",
        r#"{"http": [{"fault": {"delay": {"fixedDelay": "1s", "percentage": {"value": 50}}}}]}"#,
    ),
    (
        Kind::WorkloadGroup,
        "probe.tcpSocket",
        r#"{"probe": {"tcpSocket": {"port": 80}}}"#,
    ),
    (
        Kind::WorkloadGroup,
        "probe.grpc",
        r#"{"probe": {"grpc": {"port": 80}}}"#,
    ),
    (
        Kind::WorkloadGroup,
        "probe.exec",
        r#"{"probe": {"exec": {"command": ["true"]}}}"#,
    ),
];

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(more)) if !into.is_empty() => {
            for (into, more) in into.iter_mut().zip(more) {
                merge(into, more);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

fn routing(path: &str) -> Value {
    let catalog = json!({"host": "catalog", "port": {"number": 80}});
    let http = |rule: Value| json!({"hosts": ["catalog"], "gateways": ["mesh", "gateway"], "http": [rule]});
    if path.starts_with("tcp") {
        let route = json!([{"destination": {"host": "catalog", "port": {"number": 9000}}, "weight": 50}, {"destination": {"host": "other", "port": {"number": 9000}}, "weight": 50}]);
        return json!({"hosts": ["catalog"], "tcp": [{"match": [{"port": 9000}], "route": route}]});
    }
    if path.starts_with("tls") {
        let route = json!([{"destination": {"host": "catalog", "port": {"number": 9000}}, "weight": 50}, {"destination": {"host": "secure.example.com", "port": {"number": 443}}, "weight": 50}]);
        return json!({"hosts": ["secure.example.com", "more.example.com"], "tls": [{"match": [{"port": 443, "sniHosts": ["secure.example.com"]}], "route": route}]});
    }
    if path.starts_with("http[].redirect") {
        return http(json!({"redirect": {"uri": "/there", "scheme": "https"}}));
    }
    if path.starts_with("http[].directResponse") {
        return http(json!({"directResponse": {"status": 200}}));
    }
    if path.starts_with("http[].delegate") {
        let missing = path.ends_with("name");
        let (name, namespace) = if missing {
            ("missing", "shop")
        } else {
            ("delegate", "missing")
        };
        return http(json!({"match": [{"uri": {"prefix": "/x"}}], "delegate": {"name": name, "namespace": namespace}}));
    }
    let route = json!([{"destination": catalog, "weight": 50}, {"destination": {"host": "other", "port": {"number": 80}}, "weight": 50}]);
    http(json!({"match": [{"uri": {"prefix": "/x"}}], "route": route}))
}

fn rule(path: &str) -> Value {
    // A host with ports for HTTP only.
    let by_request = path.starts_with("trafficPolicy.loadBalancer.consistentHash.http");
    let host = if by_request { "vm.example.com" } else { "catalog" };
    let mut spec = json!({"host": host, "subsets": [{"name": "v1", "labels": {"version": "v1"}}]});
    for prefix in [
        "subsets[].trafficPolicy.portLevelSettings[].",
        "trafficPolicy.portLevelSettings[].",
        "subsets[].trafficPolicy.",
        "trafficPolicy.",
    ] {
        let Some(field) = path.strip_prefix(prefix) else {
            continue;
        };
        let mut policy = policy(field);
        if prefix.contains("portLevelSettings") {
            let opaque = field == "connectionPool.tcp.idleTimeout";
            policy["port"] = json!({"number": if opaque { 9000 } else { 80 }});
            policy = json!({"portLevelSettings": [policy]});
        }
        if policy == json!({}) {
            break;
        }
        if prefix.starts_with("subsets") {
            spec["subsets"][0]["trafficPolicy"] = policy;
        } else {
            spec["trafficPolicy"] = policy;
        }
        break;
    }
    spec
}

/// The policy in which a field of it is set.
fn policy(field: &str) -> Value {
    let outlier = json!({"consecutive5xxErrors": 1});
    let cookie = json!({"consistentHash": {"httpCookie": {"name": "user", "ttl": "3s"}}});
    let tls = |mode: &str| json!({"tls": {"mode": mode}});
    match field {
        f if f.contains("localityLbSetting.distribute") => {
            json!({"outlierDetection": outlier, "loadBalancer": {"localityLbSetting": {"distribute": [{"from": "us-west1/*", "to": {"us-west1/*": 30, "us-east1/*": 70}}]}}})
        }
        f if f.contains("localityLbSetting.failover[]") => {
            json!({"outlierDetection": outlier, "loadBalancer": {"localityLbSetting": {"failover": [{"from": "us-west1", "to": "eu-west1"}]}}})
        }
        f if f.contains("zoneAwareLbSetting.failover[]") => {
            json!({"outlierDetection": outlier, "loadBalancer": {"zoneAwareLbSetting": {"enabled": true, "failover": [{"from": "us-west1", "to": "eu-west1"}]}}})
        }
        f if f.contains("localityLbSetting") => json!({"outlierDetection": outlier}),
        f if f.contains("warmup.") => json!({"loadBalancer": {"simple": "ROUND_ROBIN", "warmup": {"duration": "10s"}}}),
        f if f.contains("warmup") => json!({"loadBalancer": {"simple": "ROUND_ROBIN"}}),
        f if f.contains("httpCookie") => json!({"loadBalancer": cookie}),
        f if f.contains("Hash.maglev") || f.contains("ingHash") || f.contains("minimumRingSize") => {
            json!({"loadBalancer": {"consistentHash": {"useSourceIp": true}}})
        }
        f if f.contains("outlierDetection") => {
            let mut outlier = json!({"outlierDetection": {"consecutive5xxErrors": 3, "consecutiveGatewayErrors": 3}});
            if f.contains("LocalOrigin") {
                outlier["outlierDetection"]["splitExternalLocalOriginErrors"] = json!(!f.contains("split"));
            }
            outlier
        }
        "port.number" => json!({"loadBalancer": {"simple": "RANDOM"}}),
        f if f.starts_with("retryBudget") => json!({"retryBudget": {"percent": 10}}),
        f if f.starts_with("tunnel") => {
            json!({"tunnel": {"targetHost": "proxy.example.com", "targetPort": 443, "protocol": "CONNECT"}})
        }
        "tls.mode" => json!({"tls": {"mode": "SIMPLE", "clientCertificate": "/c", "privateKey": "/k"}}),
        "tls.clientCertificate" | "tls.privateKey" => {
            json!({"tls": {"mode": "MUTUAL", "clientCertificate": "/c", "privateKey": "/k", "caCertificates": "/ca"}})
        }
        f if f.starts_with("tls") => tls("SIMPLE"),
        f if f.starts_with("proxyProtocol") => json!({}),
        f if f.contains("maxConcurrentStreams") => json!({"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE"}}}),
        f if f.contains("http2KeepAlive") => {
            let keepalive = json!({"interval": "3s", "timeout": "2s"});
            json!({"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE", "http2KeepAlive": keepalive}}})
        }
        _ => json!({}),
    }
}

fn gateway(path: &str) -> Value {
    let server = |protocol: &str, tls: Value| {
        let mut server = json!({"port": {"number": 443, "name": "probe", "protocol": protocol}, "hosts": ["*"]});
        if !tls.is_null() {
            server["tls"] = tls;
        }
        json!({"selector": {"istio": "ingressgateway"}, "servers": [server]})
    };
    let files = json!({"mode": "SIMPLE", "serverCertificate": "/c", "privateKey": "/k"});
    let mutual = json!({"mode": "MUTUAL", "serverCertificate": "/c", "privateKey": "/k", "caCertificates": "/ca"});
    match path {
        "servers[].tls.credentialName" => server("HTTPS", json!({"mode": "SIMPLE", "credentialName": "one"})),
        "servers[].tls.credentialNames[]" => server("HTTPS", json!({"mode": "SIMPLE", "credentialNames": ["one"]})),
        "servers[].port.name" => server("HTTPS", files),
        "servers[].tls.caCertCredentialName" => server("HTTPS", json!({"mode": "MUTUAL", "credentialName": "one"})),
        p if p.contains("tlsCertificates") => server(
            "HTTPS",
            json!({"mode": "SIMPLE", "tlsCertificates": [{"serverCertificate": "/c", "privateKey": "/k"}, {"serverCertificate": "/c2", "privateKey": "/k2"}]}),
        ),
        p if p.contains("subjectAltNames")
            || p.contains("caCertificates")
            || p.contains("verify")
            || p.contains("caCrl")
            || p.contains("insecure") =>
        {
            server("HTTPS", mutual)
        }
        p if p.contains(".tls.mode") => {
            let mut all = mutual;
            all["mode"] = json!("SIMPLE");
            server("HTTPS", all)
        }
        p if p.contains(".tls.") && !p.contains("httpsRedirect") => server("HTTPS", files),
        _ => server("HTTP", Value::Null),
    }
}

fn entry(path: &str) -> Value {
    let mut spec = json!({"hosts": ["ext.example.com"], "resolution": "STATIC", "location": "MESH_INTERNAL", "addresses": ["240.6.0.1"],
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "endpoints": [{"address": "10.6.0.1", "weight": 2}, {"address": "10.6.0.2", "weight": 1}]});
    if path == "ports[].name" {
        // Without a protocol the name says it.
        spec["ports"][0] = json!({"number": 80, "name": "http"});
    }
    if path == "endpoints[].ports{}" {
        spec["ports"][0]["name"] = json!("probe");
    }
    if path == "subjectAltNames[]" {
        spec["ports"][0] = json!({"number": 443, "name": "https", "protocol": "HTTPS"});
    }
    spec
}

fn sidecar(path: &str) -> Value {
    let selector = json!({"labels": {"app": if path.contains("nbound") && !path.contains("outbound") || path.starts_with("ingress") { "catalog" } else { "client" }}});
    let all = if path.starts_with("workloadSelector") {
        "./other.shop.svc.cluster.local"
    } else {
        "./*"
    };
    let egress = json!([{"hosts": [all]}]);
    let mut spec = json!({"workloadSelector": selector, "egress": egress});
    if path.starts_with("ingress") {
        spec["ingress"] = json!([{"port": {"number": 8080, "protocol": "HTTP", "name": "http"}, "defaultEndpoint": "127.0.0.1:8080"}]);
        if path.ends_with("bind") {
            spec["ingress"][0]["captureMode"] = json!("NONE");
        }
        if path.contains("http2KeepAlive") || path.contains("maxConcurrentStreams") {
            spec["ingress"][0]["port"]["protocol"] = json!("HTTP2");
        }
        if path.contains("tcp.idleTimeout") {
            spec["ingress"][0]["port"]["protocol"] = json!("TCP");
        }
        if path.contains(".tls.") {
            let mut tls = json!({"mode": "SIMPLE", "serverCertificate": "/c", "privateKey": "/k"});
            if path.contains("credentialName") {
                tls = json!({"mode": "SIMPLE", "credentialName": "one"});
            }
            if path.contains("credentialNames") {
                tls = json!({"mode": "SIMPLE", "credentialNames": ["one"]});
            }
            if path.contains("tlsCertificates") {
                tls = json!({"mode": "SIMPLE", "tlsCertificates": [{"serverCertificate": "/c", "privateKey": "/k"}]});
            }
            spec["ingress"][0]["tls"] = tls;
            spec["ingress"][0]["port"]["protocol"] = json!("HTTPS");
        }
    }
    if path.starts_with("egress[].") && path != "egress[].hosts[]" {
        spec["egress"] = json!([{"port": {"number": 80, "protocol": "HTTP", "name": "http"}, "bind": "127.0.0.1", "captureMode": "NONE", "hosts": ["./*"]}]);
    }
    if path.contains("http2KeepAlive") {
        let pool = json!({"http": {"http2KeepAlive": {"interval": "3s", "timeout": "2s"}}});
        if path.starts_with("ingress") {
            spec["ingress"][0]["connectionPool"] = pool;
        } else {
            spec["inboundConnectionPool"] = pool;
        }
    }
    if path.contains("egressProxy") {
        spec["outboundTrafficPolicy"] = json!({"mode": "ALLOW_ANY", "egressProxy": {"host": "other.shop.svc.cluster.local", "port": {"number": 80}}});
    }
    spec
}

fn filter(path: &str) -> Value {
    let patch = |apply: &str, matched: Value, value: Value| {
        json!({"workloadSelector": {"labels": {"app": "client"}},
            "configPatches": [{"applyTo": apply, "match": matched, "patch": {"operation": "MERGE", "value": value}}]})
    };
    let time = json!({"connect_timeout": "7s"});
    if path == "configPatches[].applyTo" {
        return patch("HTTP_ROUTE", json!({"context": "ANY"}), json!({"name": "probed"}));
    }
    if path.contains(".waypoint") {
        return patch("CLUSTER", json!({"context": "WAYPOINT"}), time);
    }
    if path.starts_with("targetRefs") {
        let target = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "other"});
        let mut filter = patch("CLUSTER", json!({"context": "ANY"}), time);
        filter["targetRefs"] = json!([target]);
        filter.as_object_mut().expect("an object").remove("workloadSelector");
        return filter;
    }
    let chain = |filter: Value| json!({"context": "SIDECAR_OUTBOUND", "listener": {"filterChain": {"filter": filter}}});
    let manager = "envoy.filters.network.http_connection_manager";
    if path.contains(".filter.subFilter") {
        let router = json!({"name": manager, "subFilter": {"name": "envoy.filters.http.router"}});
        return patch("HTTP_FILTER", chain(router), json!({"name": "probed"}));
    }
    if path.contains(".filterChain.filter") {
        return patch(
            "NETWORK_FILTER",
            chain(json!({"name": manager})),
            json!({"name": "probed"}),
        );
    }
    if path.contains(".filterChain") {
        return patch(
            "FILTER_CHAIN",
            json!({"context": "SIDECAR_OUTBOUND", "listener": {}}),
            json!({"name": "probed"}),
        );
    }
    if path.contains(".listenerFilter") {
        return patch(
            "LISTENER_FILTER",
            json!({"context": "SIDECAR_OUTBOUND", "listener": {}}),
            json!({"name": "probed"}),
        );
    }
    if path.contains(".listener") {
        return patch(
            "LISTENER",
            json!({"context": "SIDECAR_OUTBOUND", "listener": {}}),
            json!({"stat_prefix": "probed"}),
        );
    }
    if path.contains(".route.") {
        return patch(
            "HTTP_ROUTE",
            json!({"context": "SIDECAR_OUTBOUND", "routeConfiguration": {}}),
            json!({"name": "probed"}),
        );
    }
    if path.contains(".routeConfiguration") {
        let of_gateway = path.contains(".gateway") || path.contains(".portName");
        let context = if of_gateway { "GATEWAY" } else { "SIDECAR_OUTBOUND" };
        let mut filter = patch(
            "VIRTUAL_HOST",
            json!({"context": context, "routeConfiguration": {}}),
            json!({"response_headers_to_remove": ["x-probe"]}),
        );
        if of_gateway {
            filter["workloadSelector"]["labels"] = json!({"istio": "ingressgateway"});
        }
        return filter;
    }
    patch("CLUSTER", json!({"context": "ANY", "cluster": {}}), time)
}
