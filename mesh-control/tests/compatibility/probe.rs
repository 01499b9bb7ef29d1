//! One field at a time: set it, and see who notices.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use mesh_api::envoy::json::Json;
use mesh_api::istio::{self, AnyObject, FieldError, Kind};
use mesh_api::mesh_config::MeshConfig;
use mesh_api::names::NodeId;
use mesh_control::cli_compile;
use mesh_control::compile::{Packed, Proxy, Warning, compile, packed};
use mesh_control::inject::{self, Injector, Request, Settings, inject};
use mesh_control::serve::entry_of_group;
use mesh_control::store::Store;
use serde_json::{Map, Value, json};

use crate::bases;
use crate::schema::Leaf;
use crate::values;
use crate::world::WORLD;

/// What became of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// What a proxy is sent has changed.
    Works,
    /// The object is in force without it, and a warning names it.
    Reported(String),
    /// The object is refused, and the error names it.
    Refused(String),
    /// It says nothing to a proxy.
    NotApplicable(&'static str),
    /// Nobody noticed; what was tried.
    Silent(String),
}

impl State {
    /// How the page calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            State::Works => "works",
            State::Reported(_) => "reported",
            State::Refused(_) => "refused",
            State::NotApplicable(_) => "not applicable",
            State::Silent(_) => "silent",
        }
    }

    /// What is said about it.
    pub(crate) fn why(&self) -> &str {
        match self {
            State::Works => "",
            State::Reported(why) | State::Refused(why) | State::Silent(why) => why,
            State::NotApplicable(why) => why,
        }
    }
}

/// What proxies are sent, and what is said about the object.
struct Outcome {
    sent: Vec<Packed>,
    said: Vec<(String, String)>,
    /// A Pod with its proxy.
    pod: Value,
}

/// Sets a field to its values one after the other until somebody notices.
pub(crate) fn probe(kind: Kind, leaf: &Leaf) -> State {
    if let Some(why) = values::not_applicable(kind, &leaf.path) {
        return State::NotApplicable(why);
    }
    let base = bases::base(kind, &leaf.path);
    let before =
        outcome(kind, &base).unwrap_or_else(|errors| panic!("{kind} {}: the base {base}: {errors:?}", leaf.path));
    let own = values::values(kind, &leaf.path);
    let tried = if own.is_empty() { leaf.values.clone() } else { own };
    let (mut reported, mut refused, mut unnoticed) = (None, None, false);
    for value in &tried {
        let mut spec = base.clone();
        set(&mut spec, &leaf.path, value);
        let after = match outcome(kind, &spec) {
            Ok(after) => after,
            Err(errors) => {
                let named = errors.into_iter().find(|e| covers(&e.path, &leaf.path));
                refused = refused.or(named.map(|e| e.message));
                continue;
            }
        };
        let about = |said: &&(String, String)| covers(&said.0, &leaf.path);
        let new = after.said.iter().filter(about).find(|said| !before.said.contains(said));
        if new.is_none() && (after.sent != before.sent || after.pod != before.pod) {
            return State::Works;
        }
        // What is said about all around it, such as the whole object, was said before too.
        let said = new.or_else(|| after.said.iter().find(about));
        unnoticed |= said.is_none();
        reported = reported.or(said.map(|(_, message)| message.clone()));
    }
    match (reported, refused) {
        (Some(message), _) => State::Reported(message),
        (None, Some(message)) if !unnoticed => State::Refused(message),
        (None, _) => State::Silent(format!("{} in {base}", Value::from(tried))),
    }
}

/// Whether a finding about `found` (`spec.http[0].route`) speaks about the field of this pattern, or about all around it.
pub(crate) fn covers(found: &str, pattern: &str) -> bool {
    if found.is_empty() || found == "spec" {
        return true;
    }
    let found = plain(found.strip_prefix("spec.").unwrap_or(found));
    let pattern = plain(pattern);
    pattern == found || pattern.starts_with(&format!("{found}.")) || found.starts_with(&format!("{pattern}."))
}

/// A path without indices and keys of maps.
fn plain(path: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    for letter in path.chars() {
        match letter {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ if depth == 0 => out.push(letter),
            _ => {}
        }
    }
    out.replace(".probe", "")
}

static JSON: LazyLock<Json> = LazyLock::new(Json::new);

fn outcome(kind: Kind, spec: &Value) -> Result<Outcome, Vec<FieldError>> {
    let document = json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": {"name": "probe", "namespace": "shop"}, "spec": spec});
    let object = istio::parse(&kind.api_version(), kind.as_str(), document)?;
    let name = format!("{kind} shop/probe");
    let mut said: Vec<(String, String)> = object.validate().into_iter().map(|e| (e.path, e.message)).collect();
    // A proxy enters the group; its entry is what others see.
    let entry = match &object {
        AnyObject::WorkloadGroup(group) => Some(AnyObject::WorkloadEntry(entry_of_group(group, &machine()))),
        _ => None,
    };
    let pod = match &object {
        AnyObject::ProxyConfig(config) => injected(&config.spec),
        _ => Value::Null,
    };
    let world = WORLD
        .iter()
        .map(read)
        .chain(entry.map(Arc::new))
        .chain([Arc::new(object)]);
    let store = Store::build(world, Arc::default());
    let mut all = Vec::new();
    for (packed, warnings) in sent(&store) {
        said.extend(
            warnings
                .into_iter()
                .filter(|w| w.object == name)
                .map(|w| (w.field, w.message)),
        );
        all.push(packed);
    }
    Ok(Outcome { sent: all, said, pod })
}

/// What injection makes of a Pod beside this object.
fn injected(config: &istio::ProxyConfig) -> Value {
    let injector = Injector {
        settings: &Settings::default(),
        mesh: &MeshConfig::default(),
        proxy_configs: &[("shop".to_owned(), config.clone())],
        native_sidecars: false,
    };
    let request = Request {
        namespace: "shop".to_owned(),
        ..Request::default()
    };
    let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "web"}]}});
    match inject(&injector, &request, &pod) {
        Ok(inject::Outcome::Injected { pod, .. }) => pod,
        other => panic!("{other:?}"),
    }
}

/// What the proxies are sent, and what is said about the objects.
pub(crate) fn sent(store: &Store) -> Vec<(Packed, Vec<Warning>)> {
    let one = |proxy| {
        let compiled = compile(store, proxy);
        let warnings = cli_compile::warnings(store, &compiled);
        (packed(&JSON, compiled), warnings)
    };
    proxies().iter().map(one).collect()
}

pub(crate) fn read(document: &Value) -> Arc<AnyObject> {
    let text = |name: &str| document[name].as_str().unwrap_or_default();
    let object = istio::parse(text("apiVersion"), text("kind"), document.clone());
    Arc::new(object.unwrap_or_else(|errors| panic!("{document}: {errors:?}")))
}

/// A client, the server that it calls, the ingress gateway, and a client in another namespace.
fn proxies() -> &'static [Proxy] {
    static ALL: LazyLock<Vec<Proxy>> = LazyLock::new(|| {
        let ids = [
            ("sidecar~10.1.0.9~client.shop~shop.svc.cluster.local", "app", "client"),
            (
                "sidecar~10.1.0.1~catalog-v1.shop~shop.svc.cluster.local",
                "app",
                "catalog",
            ),
            (
                "router~10.1.0.8~gateway.shop~shop.svc.cluster.local",
                "istio",
                "ingressgateway",
            ),
            (
                "sidecar~10.1.0.7~far.elsewhere~elsewhere.svc.cluster.local",
                "app",
                "far",
            ),
        ];
        let proxy = |(id, key, value): &(&str, &str, &str)| {
            let id = NodeId::parse(id).expect("a node");
            Proxy::new(id, BTreeMap::from([((*key).to_owned(), (*value).to_owned())]))
        };
        ids.iter().map(proxy).collect()
    });
    &ALL
}

/// A proxy outside of Kubernetes.
fn machine() -> Proxy {
    let id = NodeId::parse("sidecar~10.8.0.9~machine.shop~shop.svc.cluster.local").expect("a node");
    Proxy::new(id, BTreeMap::from([("app".to_owned(), "machine".to_owned())]))
}

/// Fields of which only one may be set.
const ONE_OF: &[&[&str]] = &[
    &["exact", "prefix", "regex"],
    &["route", "redirect", "directResponse", "delegate"],
    &["simple", "consistentHash"],
    &["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"],
    &["ringHash", "maglev", "minimumRingSize"],
    &["httpStatus", "grpcStatus", "http2Error"],
    &["fixedDelay", "exponentialDelay"],
    &["percent", "percentage"],
    &["mirror", "mirrors"],
    &["distribute", "failover", "failoverPriority"],
    &["port", "derivePort"],
    &["uri", "prefixRewrite", "uriRegexRewrite"],
    &["string", "bytes"],
    &["exec", "grpc", "httpGet", "tcpSocket"],
    &["cluster", "listener", "routeConfiguration", "waypoint"],
    &["endpoints", "workloadSelector"],
];

/// Sets a field, making what is around it, and taking away what cannot stand beside it.
fn set(spec: &mut Value, path: &str, value: &Value) {
    let mut place = spec;
    for step in path.split('.') {
        let name = step.trim_end_matches("[]").trim_end_matches("{}");
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(map) = place else { return };
        for group in ONE_OF.iter().filter(|group| group.contains(&name)) {
            group.iter().filter(|other| **other != name).for_each(|other| {
                map.remove(*other);
            });
        }
        place = map.entry(name).or_insert(Value::Null);
        if step.ends_with("[]") {
            if place.as_array().is_none_or(Vec::is_empty) {
                *place = json!([null]);
            }
            place = &mut place[0];
        } else if step.ends_with("{}") {
            if value.is_object() {
                // The whole map.
                break;
            }
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place["probe"];
        }
    }
    *place = value.clone();
}
