//! An API server in memory: lists, watches, and writes of a few forms, over plain HTTP on loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::{Client, Config};
use mesh_control::serve::cluster::Cluster;
use mesh_control::source::Home;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Group and version, plural, kind, whether it lies in namespaces.
const KINDS: [(&str, &str, &str, bool); 16] = [
    ("v1", "namespaces", "Namespace", false),
    ("v1", "nodes", "Node", false),
    ("v1", "services", "Service", true),
    ("v1", "pods", "Pod", true),
    ("v1", "secrets", "Secret", true),
    ("v1", "configmaps", "ConfigMap", true),
    ("discovery.k8s.io/v1beta1", "endpointslices", "EndpointSlice", true),
    ("networking.istio.io/v1", "virtualservices", "VirtualService", true),
    ("networking.istio.io/v1", "destinationrules", "DestinationRule", true),
    ("networking.istio.io/v1beta1", "proxyconfigs", "ProxyConfig", true),
    ("coordination.k8s.io/v1", "leases", "Lease", true),
    ("rbac.authorization.k8s.io/v1", "clusterroles", "ClusterRole", false),
    ("authentication.k8s.io/v1", "tokenreviews", "TokenReview", false),
    (
        "admissionregistration.k8s.io/v1",
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        false,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        false,
    ),
    ("networking.istio.io/v1", "gateways", "Gateway", true),
];

/// Plural, namespace, name.
type Key = (String, String, String);

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Key, Value>,
    events: Vec<(u64, String, Value)>,
    /// Watches that began before this version end with 410.
    oldest: u64,
    /// `PATCH virtualservices/status`.
    writes: Vec<String>,
}

/// The server.
#[derive(Clone)]
pub(crate) struct ApiServer {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
    address: SocketAddr,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = ApiServer {
            state: Arc::default(),
            changed: watch::Sender::new(0),
            address: listener.local_addr().expect("an address"),
        };
        let own = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = own.clone();
                tokio::spawn(async move {
                    let service = service_fn(async |request| Ok::<_, Infallible>(server.answer(request).await));
                    let http = hyper::server::conn::http1::Builder::new();
                    // Clients come and go.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        server
    }

    /// The cluster as one replica sees it.
    pub(crate) fn cluster(&self, identity: &str) -> Cluster {
        // Where many are used in one program, somebody says which.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let url = format!("http://{}", self.address).parse().expect("a URL");
        Cluster {
            client: Client::try_from(Config::new(url)).expect("a client"),
            home: Home::default(),
            identity: identity.to_owned(),
        }
    }

    /// Stores an object, as somebody who applies it.
    pub(crate) fn put(&self, mut object: Value) {
        let (_, plural, ..) = kind_of(&object);
        let mut state = self.state.lock();
        let key = key(plural, &object);
        let before = state.objects.get(&key);
        let generation = before.map_or(0, |b| b["metadata"]["generation"].as_i64().unwrap_or_default());
        object["metadata"]["generation"] = (generation + 1).into();
        if let Some(status) = before.and_then(|b| b.get("status"))
            && object.get("status").is_none()
        {
            object["status"] = status.clone();
        }
        self.store(&mut state, key, object);
    }

    /// Takes an object away.
    pub(crate) fn remove(&self, plural: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock();
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let object = state.objects.remove(&key).expect("it is there");
        self.tell(&mut state, plural, "DELETED", &object);
    }

    /// Takes an object away, and tells nobody: watches end, and whoever begins anew has missed it.
    pub(crate) fn remove_unseen(&self, plural: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock();
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        state.objects.remove(&key).expect("it is there");
        state.version += 1;
        state.oldest = state.version;
        state.events.clear();
        let version = state.version;
        drop(state);
        self.changed.send_replace(version);
    }

    pub(crate) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.state.lock().objects.get(&key).cloned()
    }

    /// Requests that have written something, `PATCH virtualservices/status`.
    pub(crate) fn writes(&self, wanted: &str) -> usize {
        self.state.lock().writes.iter().filter(|w| *w == wanted).count()
    }

    /// Waits until an object is as expected.
    pub(crate) async fn until(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        good: impl Fn(&Value) -> bool,
    ) -> Value {
        let end = tokio::time::Instant::now() + crate::common::WAIT;
        loop {
            let object = self.get(plural, namespace, name).unwrap_or_default();
            if good(&object) {
                return object;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "{plural} {namespace}/{name}: {object}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn store(&self, state: &mut State, key: Key, object: Value) -> Value {
        let plural = key.0.clone();
        let kind = if state.objects.contains_key(&key) {
            "MODIFIED"
        } else {
            "ADDED"
        };
        let mut object = object;
        object["metadata"]["uid"] = format!("{}/{}/{}", key.0, key.1, key.2).into();
        object["metadata"]["resourceVersion"] = (state.version + 1).to_string().into();
        state.objects.insert(key, object.clone());
        self.tell(state, &plural, kind, &object);
        object
    }

    fn tell(&self, state: &mut State, plural: &str, kind: &str, object: &Value) {
        state.version += 1;
        let event = json!({"type": kind, "object": object});
        state.events.push((state.version, plural.to_owned(), event));
        self.changed.send_replace(state.version);
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let path: Vec<&str> = head.uri.path().trim_matches('/').split('/').collect();
        let (version, rest) = match path.as_slice() {
            ["version"] => {
                return json_of(
                    StatusCode::OK,
                    &json!({"major": "1", "minor": "20", "gitVersion": "v1.20.2",
                "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
                );
            }
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return missing(),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let query = head.uri.query().unwrap_or_default();
        match (rest, head.method) {
            ([], _) => resources(&version),
            (["tokenreviews"], Method::POST) => review(&body),
            ([plural], Method::GET) if query.contains("watch=") => self.watch(plural, namespace, query),
            ([plural], Method::GET) => self.list(&version, plural, namespace, query),
            ([plural], Method::POST) => {
                let mut object: Value = serde_json::from_slice(&body).expect("JSON");
                if !namespace.is_empty() {
                    object["metadata"]["namespace"] = namespace.into();
                }
                let mut state = self.state.lock();
                let key = key(plural, &object);
                if state.objects.contains_key(&key) {
                    return failure(StatusCode::CONFLICT, "AlreadyExists");
                }
                state.writes.push(format!("POST {plural}"));
                json_of(StatusCode::CREATED, &self.store(&mut state, key, object))
            }
            ([plural, name], Method::DELETE) => {
                self.remove(plural, namespace, name);
                json_of(
                    StatusCode::OK,
                    &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
                )
            }
            ([plural, name], Method::GET) => {
                let found = self.get(plural, namespace, name);
                found.map_or_else(missing, |object| json_of(StatusCode::OK, &object))
            }
            ([plural, name, sub @ ..], method) => {
                let form = head.headers.get("content-type").and_then(|h| h.to_str().ok());
                let written = [&[*plural], sub].concat().join("/");
                self.write(
                    &method,
                    form.unwrap_or_default(),
                    plural,
                    namespace,
                    name,
                    &written,
                    &body,
                )
            }
            _ => missing(),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "all of one request")]
    fn write(
        &self,
        method: &Method,
        form: &str,
        plural: &str,
        namespace: &str,
        name: &str,
        written: &str,
        body: &[u8],
    ) -> Response<Body> {
        let mut state = self.state.lock();
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let before = state.objects.get(&key).cloned();
        let given: Value = serde_json::from_slice(body).expect("JSON");
        let applied = form.starts_with("application/apply-patch");
        let after = match (method, before) {
            (&Method::PUT, Some(before)) => {
                if given["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
                    return failure(StatusCode::CONFLICT, "Conflict");
                }
                given
            }
            (&Method::PATCH, Some(mut object)) if form.starts_with("application/json-patch") => {
                let patch: json_patch::Patch = serde_json::from_value(given).expect("a patch");
                if json_patch::patch(&mut object, &patch).is_err() {
                    return failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid");
                }
                object
            }
            (&Method::PATCH, before) if applied || before.is_some() => {
                let mut object = before.unwrap_or_else(|| json!({"metadata": {"name": name, "namespace": namespace}}));
                json_patch::merge(&mut object, &given);
                object
            }
            _ => return missing(),
        };
        state.writes.push(format!("{method} {written}"));
        let mut after = after;
        after["metadata"]["name"] = name.into();
        if !namespace.is_empty() {
            after["metadata"]["namespace"] = namespace.into();
        }
        json_of(StatusCode::OK, &self.store(&mut state, key, after))
    }

    fn list(&self, version: &str, plural: &str, namespace: &str, query: &str) -> Response<Body> {
        let state = self.state.lock();
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|((p, n, name), _)| {
                p == plural && (namespace.is_empty() || n == namespace) && selected(query, name)
            })
            .map(|(_, object)| object)
            .collect();
        let kind = KINDS
            .iter()
            .find(|(_, p, ..)| *p == plural)
            .map_or("", |(_, _, kind, _)| kind);
        let list = json!({"apiVersion": version, "kind": format!("{kind}List"),
            "metadata": {"resourceVersion": state.version.to_string()}, "items": items});
        json_of(StatusCode::OK, &list)
    }

    fn watch(&self, plural: &str, namespace: &str, query: &str) -> Response<Body> {
        let since = parameter(query, "resourceVersion")
            .and_then(|v| v.parse().ok())
            .unwrap_or(0_u64);
        let (plural, namespace, query) = (plural.to_owned(), namespace.to_owned(), query.to_owned());
        let (server, changed) = (self.clone(), self.changed.subscribe());
        let start = (since, changed, server, false);
        let chunks = stream::unfold(start, move |(seen, mut changed, server, over)| {
            let (plural, namespace, query) = (plural.clone(), namespace.clone(), query.clone());
            async move {
                if over {
                    return None;
                }
                loop {
                    {
                        let state = server.state.lock();
                        if state.oldest > seen {
                            let gone = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "metadata": {},
                                "status": "Failure", "message": "too old", "reason": "Expired", "code": 410}});
                            drop(state);
                            return Some((format!("{gone}\n"), (seen, changed, server, true)));
                        }
                        let wanted = |(version, of, event): &&(u64, String, Value)| {
                            let meta = &event["object"]["metadata"];
                            let here = namespace.is_empty() || meta["namespace"] == namespace.as_str();
                            let name = meta["name"].as_str().unwrap_or_default();
                            *version > seen && *of == plural && here && selected(&query, name)
                        };
                        let text: String = state
                            .events
                            .iter()
                            .filter(wanted)
                            .map(|(_, _, e)| format!("{e}\n"))
                            .collect();
                        let version = state.version;
                        drop(state);
                        if !text.is_empty() {
                            return Some((text, (version, changed, server, false)));
                        }
                    }
                    if changed.changed().await.is_err() {
                        return None;
                    }
                }
            }
        });
        let frames = chunks.map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text))));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn kind_of(object: &Value) -> (&'static str, &'static str, &'static str, bool) {
    let found = KINDS.into_iter().find(|(_, _, kind, _)| object["kind"] == *kind);
    found.unwrap_or_else(|| panic!("{object}"))
}

fn key(plural: &str, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (plural.to_owned(), text("namespace"), text("name"))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Of field selectors only that of a name.
fn selected(query: &str, name: &str) -> bool {
    parameter(query, "fieldSelector")
        .and_then(|s| s.strip_prefix("metadata.name%3D"))
        .is_none_or(|wanted| wanted == name)
}

fn resources(version: &str) -> Response<Body> {
    let of: Vec<Value> = KINDS
        .iter()
        .filter(|(v, ..)| *v == version)
        .map(|(_, plural, kind, namespaced)| {
            json!({"name": plural, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": ["list", "watch"]})
        })
        .collect();
    let versions: BTreeSet<&str> = KINDS.iter().map(|(v, ..)| *v).collect();
    if !versions.contains(version) {
        return missing();
    }
    json_of(
        StatusCode::OK,
        &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": of}),
    )
}

/// `NAMESPACE/NAME` is a token of that service account.
fn review(body: &[u8]) -> Response<Body> {
    let mut review: Value = serde_json::from_slice(body).expect("JSON");
    let token = review["spec"]["token"].as_str().unwrap_or_default().to_owned();
    review["status"] = match token.split_once('/') {
        Some((namespace, name)) => json!({"authenticated": true, "audiences": review["spec"]["audiences"],
            "user": {"username": format!("system:serviceaccount:{namespace}:{name}")}}),
        None => json!({"authenticated": false, "error": "not a token"}),
    };
    json_of(StatusCode::CREATED, &review)
}

fn json_of(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

fn missing() -> Response<Body> {
    failure(StatusCode::NOT_FOUND, "NotFound")
}

fn failure(code: StatusCode, reason: &str) -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
        "reason": reason, "code": code.as_u16()});
    json_of(code, &status)
}
