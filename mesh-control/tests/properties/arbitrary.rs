//! Inputs: sensible objects about one host, specifications of any shape, and texts.

use mesh_api::crd;
use mesh_api::istio::Kind;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

use crate::world::object;

/// Kinds whose specifications decide on traffic.
const KINDS: [Kind; 9] = [
    Kind::VirtualService,
    Kind::DestinationRule,
    Kind::Gateway,
    Kind::ServiceEntry,
    Kind::Sidecar,
    Kind::WorkloadEntry,
    Kind::WorkloadGroup,
    Kind::EnvoyFilter,
    Kind::PeerAuthentication,
];

/// Objects that speak about host `a`, as users write them.
pub(crate) fn about_a() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => routing().prop_map(|spec| object(Kind::VirtualService, "a", &spec)),
        3 => rule().prop_map(|spec| object(Kind::DestinationRule, "a", &spec)),
        3 => entry().prop_map(|spec| object(Kind::ServiceEntry, "a", &spec)),
        1 => gateway().prop_map(|spec| object(Kind::Gateway, "a", &spec)),
        1 => filter().prop_map(|spec| object(Kind::EnvoyFilter, "a", &spec)),
        1 => Just(object(Kind::PeerAuthentication, "a", &json!({"selector": {"matchLabels": {"app": "a"}}, "mtls": {"mode": "DISABLE"}}))),
        1 => Just(object(Kind::WorkloadEntry, "a", &json!({"address": "10.1.8.1", "labels": {"app": "a"}}))),
        1 => external_name(),
        1 => pod(),
    ]
    .prop_flat_map(|document| {
        let namespace = select(vec!["shop", "elsewhere", "istio-system"]);
        (Just(document), 0_u32..28, namespace).prop_map(|(mut document, day, namespace)| {
            document["metadata"]["creationTimestamp"] = format!("2025-01-{:02}T00:00:00Z", day + 1).into();
            // Gateways and Pods are found by their labels in one namespace.
            if !matches!(document["kind"].as_str(), Some("Pod" | "Gateway")) {
                document["metadata"]["namespace"] = namespace.into();
            }
            document
        })
    })
}

/// Servers of the host on ports that others share.
fn gateway() -> impl Strategy<Value = Value> {
    let server = select(vec![
        json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["a.example.com"]}),
        json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["a.example.com"], "tls": {"httpsRedirect": true}}),
        json!({"port": {"number": 80, "name": "tcp", "protocol": "TCP"}, "hosts": ["a.example.com"]}),
        json!({"port": {"number": 443, "name": "tls", "protocol": "TLS"}, "hosts": ["a.example.com"], "tls": {"mode": "PASSTHROUGH"}}),
    ]);
    server.prop_map(|server| json!({"selector": {"istio": "ingressgateway"}, "servers": [server]}))
}

/// Patches of what belongs to the host.
fn filter() -> impl Strategy<Value = Value> {
    let patch = select(vec![
        json!({"applyTo": "CLUSTER", "match": {"cluster": {"service": "a.shop.svc.cluster.local"}},
            "patch": {"operation": "MERGE", "value": {"connect_timeout": "7s"}}}),
        json!({"applyTo": "CLUSTER", "match": {"cluster": {"service": "a.example.com"}}, "patch": {"operation": "REMOVE"}}),
        json!({"applyTo": "VIRTUAL_HOST", "match": {"routeConfiguration": {"vhost": {"name": "a.shop.svc.cluster.local:80"}}},
            "patch": {"operation": "MERGE", "value": {"include_request_attempt_count": true}}}),
        json!({"applyTo": "HTTP_ROUTE", "match": {"routeConfiguration": {"vhost": {"name": "a.shop.svc.cluster.local:80"}}},
            "patch": {"operation": "REMOVE"}}),
    ]);
    patch.prop_map(|patch| json!({"configPatches": [patch]}))
}

/// Another name that would like to be the other host.
fn external_name() -> impl Strategy<Value = Value> {
    let target = select(vec!["b.shop.svc.cluster.local", "b.example.org", "10.96.0.2"]);
    target.prop_map(|target| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "shop"},
            "spec": {"type": "ExternalName", "externalName": target, "ports": [{"name": "http", "port": 80}, {"name": "tcp", "port": 9000}]}})
    })
}

fn routing() -> impl Strategy<Value = Value> {
    let host = select(vec!["a.shop.svc.cluster.local", "a.example.com"]);
    (host, prop::collection::vec(http(), 0..4), any::<bool>()).prop_map(|(host, http, opaque)| {
        let mut spec = json!({"hosts": [host], "gateways": ["mesh", "shop/gw"], "http": http});
        if opaque || http.is_empty() {
            let to_c = json!([{"destination": {"host": "c.shop.svc.cluster.local", "port": {"number": 9000}}}]);
            spec["tcp"] = json!([{"match": [{"port": 9000}], "route": to_c}]);
            spec["tls"] = json!([{"match": [{"sniHosts": [host]}], "route": to_c}]);
        }
        spec
    })
}

fn http() -> impl Strategy<Value = Value> {
    let destination = select(vec!["a", "b", "c"]).prop_map(|host| json!({"destination": {"host": format!("{host}.shop.svc.cluster.local"), "port": {"number": 80}}, "weight": 50}));
    let action = prop_oneof![
        4 => prop::collection::vec(destination, 1..3).prop_map(|route| json!({"route": route})),
        1 => Just(json!({"redirect": {"uri": "/there"}})),
        1 => Just(json!({"directResponse": {"status": 418}})),
    ];
    let matched = prop::option::of(select(vec![
        json!({"uri": {"prefix": "/x"}}),
        json!({"uri": {"regex": "/[0-9]+"}, "method": {"exact": "GET"}}),
        json!({"headers": {"x-user": {"exact": "jason"}}}),
        json!({"port": 80}),
        json!({"gateways": ["mesh"]}),
    ]));
    let more = prop::sample::subsequence(
        vec![
            ("timeout", json!("2s")),
            ("retries", json!({"attempts": 3, "retryOn": "5xx"})),
            (
                "fault",
                json!({"delay": {"fixedDelay": "1s", "percentage": {"value": 10}}}),
            ),
            ("headers", json!({"request": {"set": {"x-set": "1"}}})),
            ("corsPolicy", json!({"allowOrigins": [{"exact": "*"}]})),
            ("mirror", json!({"host": "c.shop.svc.cluster.local"})),
        ],
        0..3,
    );
    (action, matched, more).prop_map(|(mut rule, matched, more)| {
        if let Some(matched) = matched {
            rule["match"] = json!([matched]);
        }
        if rule.get("route").is_some() {
            more.into_iter().for_each(|(name, value)| rule[name] = value);
        }
        rule
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let host = select(vec!["a.shop.svc.cluster.local", "a.example.com"]);
    let policy = prop::sample::subsequence(
        vec![
            ("loadBalancer", json!({"simple": "LEAST_REQUEST"})),
            (
                "connectionPool",
                json!({"tcp": {"maxConnections": 3}, "http": {"http2MaxRequests": 5}}),
            ),
            ("outlierDetection", json!({"consecutive5xxErrors": 2, "interval": "3s"})),
            ("tls", json!({"mode": "DISABLE"})),
        ],
        1..=4,
    );
    let subsets = prop::option::of(Just(json!([{"name": "v1", "labels": {"version": "v1"}}])));
    (host, policy, subsets).prop_map(|(host, policy, subsets)| {
        let policy: Map<String, Value> = policy.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let mut spec = json!({"host": host, "trafficPolicy": policy});
        if let Some(subsets) = subsets {
            spec["subsets"] = subsets;
        }
        spec
    })
}

fn entry() -> impl Strategy<Value = Value> {
    let resolution = select(vec![("NONE", false), ("STATIC", true), ("DNS", true), ("DNS", false)]);
    let port = select(vec![
        json!({"number": 80, "name": "http", "protocol": "HTTP"}),
        json!({"number": 443, "name": "tls", "protocol": "TLS"}),
        json!({"number": 8443, "name": "https", "protocol": "HTTPS"}),
        json!({"number": 9000, "name": "tcp", "protocol": "TCP"}),
    ]);
    // The last would have the automatic address of b.example.org, were that one not there before.
    let host = select(vec!["a.example.com", "a.shop.svc.cluster.local", "a345049.example.com"]);
    // The second is that of b.
    let addresses = prop::option::of(select(vec![json!(["240.1.2.3"]), json!(["10.96.0.2"])]));
    (resolution, port, host, addresses, any::<bool>()).prop_map(
        |((resolution, with), port, host, addresses, inside)| {
            let mut spec = json!({"hosts": [host], "resolution": resolution, "ports": [port],
            "location": if inside { "MESH_INTERNAL" } else { "MESH_EXTERNAL" }});
            if with {
                let address = if resolution == "DNS" {
                    "a.example.org"
                } else {
                    "10.9.9.9"
                };
                spec["endpoints"] = json!([{"address": address}]);
            }
            if let Some(addresses) = addresses {
                spec["addresses"] = addresses;
            }
            spec
        },
    )
}

fn pod() -> impl Strategy<Value = Value> {
    (100_u8..250).prop_map(|last| {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "shop", "labels": {"app": "a", "version": "v3"}},
            "spec": {"containers": [{"name": "app"}]}, "status": {"podIP": format!("10.1.7.{last}")}})
    })
}

/// A specification that follows the schema of a kind in its names, and in hardly anything else.
pub(crate) fn any_spec() -> impl Strategy<Value = (Kind, Value)> {
    select(KINDS.to_vec()).prop_flat_map(|kind| (Just(kind), like(&schema(kind))))
}

/// Sensible objects of which one field has become something else.
pub(crate) fn mutated_objects() -> impl Strategy<Value = Vec<Value>> {
    let one = (about_a(), any::<Index>(), value()).prop_map(|(mut document, at, value)| {
        let mut paths = Vec::new();
        pointers(&document["spec"], "/spec", &mut paths);
        if let Some(place) = at_of(&paths, at).and_then(|path| document.pointer_mut(path)) {
            *place = value;
        }
        document
    });
    let loose = any_spec().prop_map(|(kind, spec)| object(kind, "loose", &spec));
    prop::collection::vec(prop_oneof![3 => one, 1 => loose], 1..5)
}

fn at_of(paths: &[String], at: Index) -> Option<&String> {
    (!paths.is_empty()).then(|| at.get(paths))
}

/// Texts around what a file of objects could be.
pub(crate) fn any_text() -> impl Strategy<Value = String> {
    let cut = (
        about_a(),
        any::<Index>(),
        "[-\\[\\]{}:&*!|>'\"%@`#, \\n\\ta-z0-9\\PC]{0,6}",
    )
        .prop_map(|(document, at, insert)| {
            let mut text = serde_saphyr::to_string(&document).unwrap_or_default();
            let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
            if !places.is_empty() {
                text.insert_str(*at.get(&places), &insert);
            }
            text
        });
    prop_oneof![3 => cut, 1 => "\\PC{0,200}"]
}

fn schema(kind: Kind) -> Value {
    let definition = crd::definition(kind).unwrap_or_default();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Values after a schema: names are those of its fields, and now and then the type is another one.
fn like(schema: &Value) -> BoxedStrategy<Value> {
    if let Some(Value::Object(properties)) = schema.get("properties") {
        let fields: Vec<BoxedStrategy<Option<(String, Value)>>> = properties
            .iter()
            .map(|(name, inner)| {
                let name = name.clone();
                prop::option::weighted(0.25, like(inner).prop_map(move |value| (name.clone(), value))).boxed()
            })
            .collect();
        return fields
            .prop_map(|fields| Value::Object(fields.into_iter().flatten().collect()))
            .boxed();
    }
    if let Some(items) = schema.get("items") {
        return prop::collection::vec(like(items), 0..3).prop_map(Value::Array).boxed();
    }
    if let Some(values) = schema.get("additionalProperties") {
        let pairs = prop::collection::vec((select(WORDS.to_vec()), like(values)), 0..3);
        return pairs
            .prop_map(|pairs| {
                pairs
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v))
                    .collect::<Map<_, _>>()
                    .into()
            })
            .boxed();
    }
    if let Some(Value::Array(names)) = schema.get("enum") {
        return prop_oneof![9 => select(names.clone()), 1 => value()].boxed();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("boolean") => any::<bool>().prop_map(Value::Bool).boxed(),
        Some("integer" | "number") => prop_oneof![9 => number(), 1 => value()].boxed(),
        Some("string") => prop_oneof![9 => select(WORDS.to_vec()).prop_map(Value::from), 1 => value()].boxed(),
        _ => value(),
    }
}

const WORDS: &[&str] = &[
    "",
    "*",
    ".",
    "~",
    "a",
    "b.shop.svc.cluster.local",
    "*.example.com",
    "shop/gw",
    "./*",
    "1s",
    "0s",
    "-1s",
    "9999999999h",
    "10%",
    "/",
    "/x",
    "[",
    "(?i)a+",
    "x-header",
    "host",
    "10.0.0.1",
    "10.0.0.0/8",
    "::1",
    "fd00::/8",
    "1.2.3.4/99",
    "unix:///tmp/s",
    "%REQ(a)%",
    "%",
    "HTTP",
    "mesh",
    "us/west/1",
    "é\u{0}",
    "5xx,409",
];

fn number() -> impl Strategy<Value = Value> {
    select(vec![
        json!(0),
        json!(1),
        json!(-1),
        json!(80),
        json!(100),
        json!(65_536),
        json!(u32::MAX),
        json!(i64::MIN),
        json!(0.5),
        json!(1e300),
    ])
}

/// Anything small.
fn value() -> BoxedStrategy<Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        number(),
        select(WORDS.to_vec()).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"x": "y"}])),
    ]
    .boxed()
}

/// JSON pointers of all values below one.
fn pointers(value: &Value, here: &str, found: &mut Vec<String>) {
    let mut go = |key: &str, child: &Value| {
        let path = format!("{here}/{}", key.replace('~', "~0").replace('/', "~1"));
        found.push(path.clone());
        pointers(child, &path, found);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, child)| go(key, child)),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .for_each(|(at, child)| go(&at.to_string(), child)),
        _ => {}
    }
}
