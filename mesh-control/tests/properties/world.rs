//! A small mesh in which one host is talked about, and another must not notice.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use mesh_api::envoy::ProtoValue;
use mesh_api::envoy::json::Json;
use mesh_api::envoy::pb::envoy::config::route::v3::VirtualHost;
use mesh_api::envoy::pb::google::protobuf::value::Kind as Text;
use mesh_api::istio::{self, AnyObject, Kind};
use mesh_api::names::NodeId;
use mesh_api::nds::name_table::NameInfo;
use mesh_control::compile::{Compiled, Packed, Proxy, Resource, packed};
use mesh_control::store::Store;
use serde_json::{Value, json};

/// The hosts that must not notice. The second has an address from the control plane.
const B: [&str; 2] = ["b.shop.svc.cluster.local", "b.example.org"];

/// Stores around the same services `a` to `d` of namespace shop.
pub(crate) struct World;

/// A document of a kind in namespace shop.
pub(crate) fn object(kind: Kind, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn base() -> Vec<Value> {
    let mut all = Vec::new();
    for (number, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        all.push(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": {
            "clusterIP": format!("10.96.0.{}", number + 1), "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "tcp", "port": 9000}]}}),
        );
        for version in ["v1", "v2"] {
            let last = number * 10 + usize::from(version == "v2") + 1;
            all.push(json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("{name}-{version}"), "namespace": "shop",
                    "labels": {"app": name, "version": version, "security.istio.io/tlsMode": "istio"}},
                "spec": {"serviceAccountName": name, "containers": [{"name": "app"}]},
                "status": {"podIP": format!("10.1.0.{last}")}}));
        }
    }
    let gateway = json!({"selector": {"istio": "ingressgateway"},
        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]});
    all.push(object(Kind::Gateway, "gw", &gateway));
    let rule = json!({"host": "b", "trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}},
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]});
    all.push(object(Kind::DestinationRule, "b", &rule));
    let route = json!({"hosts": ["b", "b.example.com"], "gateways": ["mesh", "gw"], "http": [{"timeout": "3s", "route": [
        {"destination": {"host": "b", "subset": "v1"}, "weight": 90}, {"destination": {"host": "b", "subset": "v2"}, "weight": 10}]}]});
    all.push(object(Kind::VirtualService, "b", &route));
    let entry = json!({"hosts": ["b.example.org"], "resolution": "DNS", "ports": [
        {"number": 80, "name": "http", "protocol": "HTTP"}, {"number": 9000, "name": "tcp", "protocol": "TCP"}]});
    all.push(object(Kind::ServiceEntry, "b", &entry));
    for document in &mut all {
        document["metadata"]["creationTimestamp"] = "2024-01-01T00:00:00Z".into();
    }
    all
}

/// An object; none where a source would refuse it.
fn read(document: &Value) -> Option<Arc<AnyObject>> {
    let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    let object = istio::parse(&text("apiVersion"), &text("kind"), document.clone()).ok()?;
    Some(Arc::new(object))
}

impl World {
    /// With more documents; what is refused is left out, as a source does.
    pub(crate) fn with(added: &[Value]) -> Store {
        Self::of(&Self::documents(added))
    }

    /// All documents with those that are added.
    pub(crate) fn documents(added: &[Value]) -> Vec<Value> {
        let mut all = base();
        for (number, document) in added.iter().enumerate() {
            let mut document = document.clone();
            // Two objects of one name would be one.
            document["metadata"]["name"] = format!("added-{number}").into();
            all.push(document);
        }
        all
    }

    /// Of these documents in this order.
    pub(crate) fn of(documents: &[Value]) -> Store {
        Store::build(documents.iter().filter_map(read), Arc::default())
    }

    /// A client, a server of `a`, and the ingress gateway.
    pub(crate) fn proxies() -> Vec<Proxy> {
        static ALL: LazyLock<Vec<Proxy>> = LazyLock::new(|| {
            let ids = [
                (
                    "sidecar~10.1.0.99~client-1.shop~shop.svc.cluster.local",
                    "app",
                    "client",
                ),
                ("sidecar~10.1.0.1~a-v1.shop~shop.svc.cluster.local", "app", "a"),
                (
                    "router~10.1.0.98~gw-1.shop~shop.svc.cluster.local",
                    "istio",
                    "ingressgateway",
                ),
            ];
            ids.iter()
                .map(|(id, key, value)| {
                    let id = NodeId::parse(id).expect("a node");
                    let mut proxy = Proxy::new(id, BTreeMap::from([((*key).to_owned(), (*value).to_owned())]));
                    let on = ProtoValue {
                        kind: Some(Text::StringValue("true".to_owned())),
                    };
                    proxy.metadata.fields.insert("DNS_CAPTURE".to_owned(), on);
                    proxy
                })
                .collect()
        });
        ALL.clone()
    }
}

/// The bytes of everything that a proxy is sent; equal meaning gives equal bytes.
pub(crate) fn sent(compiled: Compiled) -> Packed {
    static JSON: LazyLock<Json> = LazyLock::new(Json::new);
    packed(&JSON, compiled)
}

/// Everything that decides on traffic to the hosts that must not notice.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// Their clusters, their endpoints, and the listeners of their addresses, by type and name.
    resources: BTreeMap<String, Resource>,
    /// Their routes, by table and name.
    hosts: BTreeMap<String, VirtualHost>,
    /// What the proxy answers to questions for them.
    names: BTreeMap<String, NameInfo>,
}

impl View {
    /// Whether there is something of each kind: a view of nothing never changes.
    pub(crate) fn is_whole(&self) -> bool {
        !self.hosts.is_empty() && !self.resources.is_empty() && self.names.len() == B.len()
    }

    /// What is not the same.
    pub(crate) fn difference(&self, other: &Self) -> Vec<String> {
        let mut found = differing(&self.resources, &other.resources);
        found.extend(differing(&self.hosts, &other.hosts));
        found.extend(differing(&self.names, &other.names));
        found
    }
}

fn differing<T: PartialEq>(one: &BTreeMap<String, T>, other: &BTreeMap<String, T>) -> Vec<String> {
    let keys = one.keys().chain(other.keys().filter(|k| !one.contains_key(*k)));
    keys.filter(|k| one.get(*k) != other.get(*k)).cloned().collect()
}

/// What of it is about hosts that must not notice.
pub(crate) fn view_of_b(compiled: Compiled) -> View {
    let names = compiled.names.table.clone().into_iter();
    let names: BTreeMap<String, NameInfo> = names.filter(|(host, _)| B.contains(&host.as_str())).collect();
    let mut view = View::default();
    let mut addresses: Vec<String> = names.values().flat_map(|n| n.ips.clone()).collect();
    let own = addresses.clone();
    addresses.push("0.0.0.0".to_owned());
    for (table, routes) in &compiled.routes {
        for host in routes.message().expect("a table").virtual_hosts {
            let of_b = |domain: &String| domain.starts_with("b.") || addresses.contains(domain);
            if host.name.starts_with("b.") || host.domains.iter().any(of_b) {
                view.hosts.insert(format!("{table} {}", host.name), host);
            }
        }
    }
    for (kind, resources) in sent(compiled) {
        for (name, resource) in resources {
            let listener = name.rsplit_once('_').is_some_and(|(address, port)| {
                // The ports that they have: an address is nobody's on others.
                port == "80" && addresses.iter().any(|a| a == address)
                    || port == "9000" && own.iter().any(|a| a == address)
            });
            if listener || name.split('|').next_back().is_some_and(|host| B.contains(&host)) {
                view.resources.insert(format!("{kind} {name}"), resource);
            }
        }
    }
    View { names, ..view }
}
