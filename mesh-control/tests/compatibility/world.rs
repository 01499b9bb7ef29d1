//! What stands around an object in which fields are tried.

use std::sync::LazyLock;

use mesh_api::istio::Kind;
use serde_json::{Value, json};

/// What stands around the object: services, pods of two zones, and objects that refer to one another.
pub(crate) static WORLD: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let mut all = Vec::new();
    let pod = |name: &str, labels: Value, ip: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop", "labels": labels},
            "spec": {"serviceAccountName": name, "containers": [{"name": "app"}]}, "status": {"podIP": ip}})
    };
    let service = |name: &str, ip: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"clusterIP": ip, "selector": {"app": name},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "tcp", "port": 9000},
                    {"name": "http2", "port": 82, "targetPort": 8082}]}})
    };
    let istio = |kind: Kind, name: &str, spec: Value| json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    all.push(service("catalog", "10.96.0.1"));
    all.push(service("other", "10.96.0.2"));
    for (name, app, version, zone, ip) in [
        ("catalog-v1", "catalog", "v1", "us-west1.us-west1-a", "10.1.0.1"),
        ("catalog-v2", "catalog", "v2", "us-west1.us-west1-b", "10.1.0.2"),
        ("catalog-far", "catalog", "v1", "us-east1.us-east1-a", "10.1.0.3"),
        ("catalog-farther", "catalog", "v1", "eu-west1.eu-west1-a", "10.1.0.5"),
        ("other-1", "other", "v1", "us-west1.us-west1-a", "10.1.0.4"),
        ("client", "client", "v1", "us-west1.us-west1-a", "10.1.0.9"),
    ] {
        let labels =
            json!({"app": app, "version": version, "istio-locality": zone, "security.istio.io/tlsMode": "istio"});
        all.push(pod(name, labels, ip));
    }
    all.push(pod(
        "gateway",
        json!({"istio": "ingressgateway", "gateway.networking.k8s.io/gateway-name": "probe"}),
        "10.1.0.8",
    ));
    let subsets = json!([{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]);
    all.push(istio(
        Kind::DestinationRule,
        "subsets",
        json!({"host": "catalog", "subsets": subsets, "trafficPolicy": {"outlierDetection": {"interval": "10s"}}}),
    ));
    let mut of_root = istio(
        Kind::DestinationRule,
        "far",
        json!({"host": "vm.example.com", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}},
            "subsets": [{"name": "probe", "labels": {"probe": "probe"}}]}),
    );
    of_root["metadata"]["namespace"] = json!("istio-system");
    all.push(of_root);
    all.push(istio(
        Kind::ServiceEntry,
        "dns",
        json!({"hosts": ["dns.example.com"], "resolution": "DNS", "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]}),
    ));
    all.push(istio(
        Kind::Gateway,
        "gateway",
        json!({"selector": {"istio": "ingressgateway"}, "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}),
    ));
    all.push(istio(
        Kind::ServiceEntry,
        "secure",
        json!({"hosts": ["secure.example.com"], "resolution": "STATIC", "endpoints": [{"address": "10.7.0.1"}],
            "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}], "addresses": ["240.7.0.1"]}),
    ));
    all.push(istio(
        Kind::ServiceEntry,
        "machines",
        json!({"hosts": ["vm.example.com"], "resolution": "STATIC", "location": "MESH_INTERNAL",
            "workloadSelector": {"labels": {"app": "machine"}}, "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}, {"number": 81, "name": "probe", "protocol": "HTTP"}]}),
    ));
    all.push(istio(
        Kind::VirtualService,
        "all",
        json!({"hosts": ["*"], "gateways": ["gateway", "probe"], "http": [{"route": [{"destination": {"host": "other", "port": {"number": 80}}}]}]}),
    ));
    all.push(istio(
        Kind::VirtualService,
        "subset",
        json!({"hosts": ["subset.example.com"], "http": [{"route": [{"destination": {"host": "catalog", "subset": "v1", "port": {"number": 80}}}]}]}),
    ));
    all.push(istio(
        Kind::VirtualService,
        "delegate",
        json!({"http": [{"route": [{"destination": {"host": "other", "port": {"number": 80}}}]}]}),
    ));
    all.push(istio(
        Kind::VirtualService,
        "opaque",
        json!({"hosts": ["other"], "tcp": [{"match": [{"port": 9000}], "route": [{"destination": {"host": "catalog", "subset": "v1", "port": {"number": 9000}}}]}]}),
    ));
    all.push(istio(
        Kind::DestinationRule,
        "labels",
        json!({"host": "ext.example.com", "subsets": [{"name": "probe", "labels": {"probe": "probe"}}]}),
    ));
    for name in ["one", "probe", "one-cacert", "probe-cacert"] {
        all.push(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"},
            "stringData": {"tls.crt": name, "tls.key": name, "ca.crt": name}}),
        );
    }
    all.push(istio(
        Kind::EnvoyFilter,
        "slow",
        json!({"workloadSelector": {"labels": {"app": "client"}}, "configPatches": [{"applyTo": "CLUSTER",
            "match": {"cluster": {"service": "dns.example.com"}}, "patch": {"operation": "MERGE", "value": {"connect_timeout": "5s"}}}]}),
    ));
    all
});
