//! Any Pod is taken, and no Pod is injected twice.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::{ask, injected, question, run};
use super::*;

/// Any JSON, with the names that Pods have often enough to get far.
fn any_json() -> impl Strategy<Value = Value> {
    let names = || {
        prop::sample::select(vec![
            "metadata",
            "spec",
            "containers",
            "initContainers",
            "name",
            "env",
            "ports",
            "labels",
            "annotations",
            "volumes",
            "securityContext",
            "sidecar.istio.io/status",
            "proxy.istio.io/overrides",
            "readinessProbe",
            "lifecycle",
            "httpGet",
            "port",
            "containerPort",
            "args",
            "istio-proxy",
            "web",
            "x",
        ])
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i32>().prop_map(|n| json!(n)),
        names().prop_map(|n| json!(n)),
        ".{0,8}".prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((names(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

/// Pods as people write them, in many combinations.
fn any_pod() -> impl Strategy<Value = Value> {
    let probe = prop::option::of(prop::sample::select(vec![
        json!({"httpGet": {"path": "/", "port": 8080, "scheme": "HTTPS"}, "timeoutSeconds": 2}),
        json!({"httpGet": {"path": "/", "port": "http"}}),
        json!({"tcpSocket": {"port": 8080}}),
        json!({"grpc": {"port": 9000, "service": "s"}}),
        json!({"exec": {"command": ["true"]}}),
    ]));
    let container = (
        prop::sample::select(vec!["web", "side", "istio-proxy"]),
        probe.clone(),
        probe,
        any::<bool>(),
    )
        .prop_map(|(name, readiness, liveness, more)| {
            let mut c = json!({"name": name, "image": "auto", "ports": [{"name": "http", "containerPort": 8080}]});
            if let Some(probe) = readiness {
                c["readinessProbe"] = probe;
            }
            if let Some(probe) = liveness {
                c["livenessProbe"] = probe;
            }
            if more {
                c["env"] = json!([{"name": "A", "value": "1"}, {"name": "POD_NAME", "value": "own"}]);
                c["securityContext"] = json!({"runAsUser": 2000});
                c["resources"] = json!({"limits": {"cpu": "3"}});
                c["volumeMounts"] =
                    json!([{"name": "own", "mountPath": "/own"}, {"name": "own", "mountPath": "/etc/istio/pod"}]);
            }
            c
        });
    let unique = |list: Vec<Value>| {
        let mut seen = std::collections::BTreeSet::new();
        list.into_iter()
            .filter(|c| seen.insert(pod::name(c).to_owned()))
            .collect::<Vec<_>>()
    };
    let annotations = prop::sample::subsequence(
        vec![
            ("prometheus.io/port", "9090"),
            ("prometheus.io/scrape", "true"),
            ("sidecar.istio.io/interceptionMode", "TPROXY"),
            ("sidecar.istio.io/nativeSidecar", "true"),
            ("sidecar.istio.io/userVolume", r#"{"v":{"emptyDir":{}}}"#),
            ("sidecar.istio.io/userVolumeMount", r#"{"v":{"mountPath":"/v"}}"#),
            ("inject.istio.io/templates", "gateway"),
            (
                "proxy.istio.io/config",
                "{holdApplicationUntilProxyStarts: true, proxyMetadata: {POD_NAME: x, Z: z}}",
            ),
            ("traffic.sidecar.istio.io/excludeInboundPorts", "22"),
            ("sidecar.istio.io/proxyCPU", "1"),
        ],
        0..6,
    );
    (
        prop::collection::vec(container.clone(), 1..4),
        prop::collection::vec(container, 0..3),
        annotations,
        any::<bool>(),
    )
        .prop_map(move |(containers, init, annotations, volumes)| {
            let annotations: Map<String, Value> =
                annotations.into_iter().map(|(k, v)| (k.to_owned(), json!(v))).collect();
            let containers = unique(containers);
            let taken: Vec<&str> = containers.iter().map(pod::name).collect();
            let init: Vec<Value> = unique(init)
                .into_iter()
                .filter(|c| !taken.contains(&pod::name(c)) && pod::name(c) != pod::PROXY)
                .collect();
            let mut spec = json!({"containers": containers, "initContainers": init});
            if volumes {
                spec["volumes"] =
                    json!([{"name": "own", "emptyDir": {}}, {"name": "istio-envoy", "hostPath": {"path": "/"}}]);
            }
            json!({"metadata": {"annotations": annotations, "labels": {"app": "web"}}, "spec": spec})
        })
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(pod in any_json(), native in any::<bool>()) {
        let _ = run(&Settings::default(), native, &pod);
        let _ = ask("/inject", &question("v1", &pod));
        let mut other = json!({"metadata": {"name": "p"}, "spec": {"containers": []}});
        let _ = merge::merge(&mut other, &pod);
    }

    #[test]
    fn injecting_twice_changes_nothing(pod in any_pod(), native in any::<bool>()) {
        let (once, _) = injected(native, &pod);
        let (twice, _) = injected(native, &once);
        let patch = json_patch::diff(&once, &twice);
        prop_assert!(patch.0.is_empty(), "{}", serde_json::to_string_pretty(&patch).unwrap_or_default());
    }
}
