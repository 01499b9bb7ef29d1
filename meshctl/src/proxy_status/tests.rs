use serde_json::json;

use super::*;
use crate::dump::Dump;

fn proxies() -> Vec<Value> {
    vec![
        json!({"proxy": "web-1.shop", "cluster_id": "Kubernetes", "istio_version": "0.1.0", "istiod": "istiod-1", "xds": {
            "cds": {"state": "SYNCED", "refused": []}, "lds": {"state": "ERROR", "refused": ["0.0.0.0_80"], "error": "no such field"},
            "eds": {"state": "STALE"}, "rds": {"state": "SYNCED"}, "ecds": {"state": "NOT SENT"}}}),
        json!({"proxy": "old-1.shop", "cluster_id": "Kubernetes", "istiod": "istiod-2", "xds": {"cds": {"state": "SYNCED"}}}),
    ]
}

fn cells(line: &str) -> Vec<&str> {
    line.split("     ").map(str::trim).filter(|c| !c.is_empty()).collect()
}

#[test]
fn columns_are_those_of_istioctl() {
    let text = subscribed(&proxies());
    let lines: Vec<_> = text.lines().map(cells).collect();
    assert_eq!(lines[0], ["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"]);
    assert_eq!(
        lines[1],
        ["web-1.shop", "Kubernetes", "istiod-1", "0.1.0", "4 (CDS,LDS,EDS,RDS)"]
    );
    assert_eq!(lines[2], ["old-1.shop", "Kubernetes", "istiod-2", "1 (CDS)"]);

    let text = states(&proxies(), &LEGACY);
    let lines: Vec<_> = text.lines().map(cells).collect();
    let headings = [
        "NAME", "CLUSTER", "CDS", "LDS", "EDS", "RDS", "ECDS", "ISTIOD", "VERSION",
    ];
    assert_eq!(lines[0], headings);
    assert_eq!(
        lines[1],
        [
            "web-1.shop",
            "Kubernetes",
            "SYNCED",
            "ERROR",
            "STALE",
            "SYNCED",
            "NOT SENT",
            "istiod-1",
            "0.1.0"
        ]
    );
    let text = states(&proxies(), &VERBOSE);
    let headings = [
        "NAME", "CLUSTER", "CDS", "ECDS", "EDS", "LDS", "RDS", "ISTIOD", "VERSION",
    ];
    assert_eq!(cells(text.lines().next().expect("headings")), headings);
}

#[test]
fn refusals_are_said() {
    assert_eq!(
        refusals(&proxies()),
        ["web-1.shop: LDS refused 0.0.0.0_80: no such field"]
    );
}

#[test]
fn what_differs_is_shown() {
    let dump = |timeout: &str, route: &str| {
        Dump::of(json!({"configs": [
            {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
             "static_clusters": [{"cluster": {"name": timeout}}],
             "dynamic_active_clusters": [{"cluster": {"name": "b", "connect_timeout": timeout}}, {"cluster": {"name": "a"}}]},
            {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [
                {"name": "x", "active_state": {"listener": {"name": "x"}}}]},
            {"@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": [
                {"route_config": {"name": route}, "last_updated": "2026-01-01T00:00:00Z"}]}]}))
    };
    let same = compare::differences(&dump("1s", "80"), &dump("1s", "80"));
    assert_eq!(
        same,
        "Clusters Match\nListeners Match\nRoutes Match (RDS last loaded at 2026-01-01T00:00:00Z)\n"
    );
    let other = compare::differences(&dump("1s", "80"), &dump("2s", "80"));
    let part = "--- Istiod Clusters\n+++ Envoy Clusters\n";
    assert!(other.starts_with(part), "{other}");
    assert!(
        other.contains("-  \"connectTimeout\": \"1s\"\n+  \"connectTimeout\": \"2s\"\n"),
        "{other}"
    );
    assert!(other.contains("Listeners Match\nRoutes Match"), "{other}");
}
