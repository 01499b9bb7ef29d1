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
            {"name": "80", "virtual_hosts": [
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
    let text = cluster::table(&dump());
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
    let text = listener::table(&dump());
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
}

#[test]
fn routes_name_their_virtual_service_or_404() {
    let text = route::table(&dump());
    let lines: Vec<_> = text.lines().map(cells).collect();
    assert_eq!(lines[1], ["80", "catalog:80", "a, b + 1 more...", "/*", "c.shop"]);
    assert_eq!(lines[2], ["80", "blackhole:80", "*", "/*", "404"]);
}

#[test]
fn endpoints_say_whether_they_take_traffic() {
    let text = endpoint::table(&dump());
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
    let clusters = Dump::of(json!({"cluster_statuses": [
        {"name": "outbound|80||there", "host_statuses": [host(2, true), host(1, false)]},
        {"name": "empty"},
    ]}));
    let text = endpoint::states(clusters.cluster_statuses().expect("clusters"));
    let lines: Vec<_> = text.lines().map(cells).collect();
    assert_eq!(lines[0], ["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"]);
    assert_eq!(lines[1], ["10.0.0.1:80", "HEALTHY", "OK", "outbound|80||there"]);
    assert_eq!(lines[2], ["10.0.0.2:80", "HEALTHY", "FAILED", "outbound|80||there"]);
    assert_eq!(lines.len(), 3);
}

#[test]
fn json_is_the_section_alone() {
    let dump = dump();
    let sections = dump.sections(&["RoutesConfigDump"]);
    assert_eq!(sections.len(), 1);
    assert!(sections[0]["dynamic_route_configs"].is_array());
}
