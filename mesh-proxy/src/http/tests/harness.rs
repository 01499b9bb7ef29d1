//! Configuration as Envoy's JSON, and origins.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_api::envoy::json::Json;
use mesh_api::envoy::pb::envoy::config::cluster::v3::Cluster;
use mesh_api::envoy::pb::envoy::config::listener::v3::Listener;
use mesh_api::envoy::type_url;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(super) use super::client::{Client, Seen, all_answered, get, post, raw};
use crate::snapshot::build::{Builder, Incoming as Resource, Update};
use crate::snapshot::resources::Source;
use crate::testing::TestProxy;

pub(super) type Body = BoxBody<Bytes, Infallible>;

/// A proxy with one HTTP listener.
pub(super) struct Mesh {
    pub(super) proxy: TestProxy,
    builder: Builder,
    pub(super) address: SocketAddr,
}

/// Fields of the connection manager and the listener.
#[derive(Default)]
pub(super) struct Options {
    /// Merged into the connection manager.
    pub(super) manager: Value,
    /// `traffic_direction`.
    pub(super) direction: Option<&'static str>,
    /// Merged into the virtual host.
    pub(super) host: Value,
}

pub(super) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) if !from.is_null() => *into = from,
        _ => {}
    }
}

/// A listener whose only virtual host has these routes.
pub(super) fn listener(routes: &Value, options: &Options) -> Value {
    let mut host = json!({"name": "host", "domains": ["*"], "routes": routes});
    merge(&mut host, options.host.clone());
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "test",
        "route_config": {"name": "routes", "virtual_hosts": [host]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    merge(&mut manager, options.manager.clone());
    json!({
        "name": "test",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "traffic_direction": options.direction.unwrap_or("UNSPECIFIED"),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }]}],
    })
}

/// A static cluster; `extra` is merged into it.
pub(super) fn cluster(name: &str, endpoints: &[SocketAddr], extra: Value) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|a| {
            json!({"endpoint": {"address": {"socket_address": {
                "address": a.ip().to_string(), "port_value": a.port(),
            }}}})
        })
        .collect();
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    });
    merge(&mut cluster, extra);
    cluster
}

/// `HttpProtocolOptions` for HTTP/2 upstream.
pub(super) fn http2_upstream() -> Value {
    protocol(json!({"explicit_http_config": {"http2_protocol_options": {}}}))
}

pub(super) fn protocol(mut options: Value) -> Value {
    options["@type"] = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions".into();
    json!({"typed_extension_protocol_options": {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options,
    }})
}

/// One route for everything.
pub(super) fn all_to(cluster: &str) -> Value {
    json!([{"match": {"prefix": "/"}, "route": {"cluster": cluster}}])
}

impl Mesh {
    pub(super) async fn start(routes: Value, clusters: Vec<Value>, options: Options) -> Self {
        let proxy = TestProxy::start(1);
        let mut mesh = Mesh {
            builder: Builder::new(proxy.shared.clone()),
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            proxy,
        };
        mesh.apply(&routes, clusters, &options);
        mesh.address = mesh.proxy.address_of("test").await;
        mesh
    }

    /// To one cluster, with everything at its default.
    pub(super) async fn to(endpoints: &[SocketAddr], extra: Value) -> Self {
        Mesh::start(all_to("up"), vec![cluster("up", endpoints, extra)], Options::default()).await
    }

    /// Puts another configuration in force.
    pub(super) fn apply(&mut self, routes: &Value, clusters: Vec<Value>, options: &Options) {
        let json = Json::new();
        let clusters = clusters
            .into_iter()
            .map(|c| json.from_value::<Cluster>(c).expect("a cluster"))
            .map(|c| (c.name.clone(), c.encode_to_vec()))
            .collect();
        let listener: Listener = json.from_value(listener(routes, options)).expect("a listener");
        self.update(type_url::CLUSTER, clusters);
        self.update(
            type_url::LISTENER,
            vec![(listener.name.clone(), listener.encode_to_vec())],
        );
    }

    fn update(&mut self, type_url: &str, resources: Vec<(String, Vec<u8>)>) {
        let update = Update {
            type_url: type_url.to_owned(),
            set: resources
                .into_iter()
                .map(|(name, bytes)| Resource {
                    name,
                    version: "1".to_owned(),
                    bytes,
                })
                .collect(),
            remove: Vec::new(),
            complete: true,
        };
        let applied = self.builder.apply(update, Source::Static);
        assert_eq!(applied.rejected, [], "configuration of the test");
        if let Some(snapshot) = applied.snapshot {
            self.proxy.shared.publish(snapshot);
        }
    }

    /// A caller's connection.
    pub(super) async fn client(&self, version: Version) -> Client {
        Client::connect(self.address, version).await
    }

    /// What a caller by HTTP/1.1 is answered on a connection of its own.
    pub(super) async fn get(&self, path: &str) -> Seen {
        self.client(Version::HTTP_11).await.get(path).await
    }

    /// [`Mesh::get`] as a task of its own.
    pub(super) fn asking(&self, path: &'static str) -> JoinHandle<Seen> {
        let address = self.address;
        tokio::spawn(async move { Client::connect(address, Version::HTTP_11).await.get(path).await })
    }

    /// A gauge, as `/stats` lists it.
    pub(super) fn gauge(&self, name: &str) -> i64 {
        self.proxy.shared.stats.gauge(name).get()
    }

    /// `http.test.*`
    pub(super) fn http_counter(&self, name: &str) -> u64 {
        self.proxy.counter(&format!("http.test.{name}"))
    }

    /// `cluster.up.*`
    pub(super) fn cluster_counter(&self, name: &str) -> u64 {
        self.proxy.counter(&format!("cluster.up.{name}"))
    }
}

/// A server of HTTP/1 and HTTP/2.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Origin {
    pub(super) async fn start<F, Fut>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response<Body>> + Send + 'static,
    {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = Origin {
            address: socket.local_addr().expect("bound"),
            requests: Arc::default(),
            connections: Arc::default(),
        };
        let (requests, connections) = (origin.requests.clone(), origin.connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                connections.fetch_add(1, Relaxed);
                let (handler, requests) = (handler.clone(), requests.clone());
                let service = service_fn(move |request| {
                    requests.fetch_add(1, Relaxed);
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                tokio::spawn(async move {
                    let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    builder.http1().preserve_header_case(true);
                    builder.http2().enable_connect_protocol();
                    let _ = builder
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        origin
    }

    /// Answers with what it was asked: method, path, version, then each header on a line, then the body.
    pub(super) async fn echo() -> Self {
        Origin::start(|request: Request<Incoming>| async move {
            let mut text = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
            }
            text.push('\n');
            let body = request
                .into_body()
                .collect()
                .await
                .map(|b| b.to_bytes())
                .unwrap_or_default();
            Response::new(full([text.as_bytes(), &body].concat()))
        })
        .await
    }

    /// Answers with its name.
    pub(super) async fn named(name: &'static str) -> Self {
        Origin::start(move |_| async move { Response::new(full(name)) }).await
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Relaxed)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

pub(super) fn status(code: u16) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    response
}

/// An origin at the level of bytes: what one connection says is collected, and answered by `answer` when it has all of a
/// header.
pub(super) async fn raw_origin(answer: &'static [u8]) -> (SocketAddr, Arc<parking_lot::Mutex<Vec<u8>>>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    let seen = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let collected = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let collected = collected.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let mut all = Vec::new();
                while let Ok(n) = stream.read(&mut buffer).await {
                    if n == 0 {
                        break;
                    }
                    all.extend_from_slice(&buffer[..n]);
                    collected.lock().extend_from_slice(&buffer[..n]);
                    if all.windows(4).any(|w| w == b"\r\n\r\n") {
                        all.clear();
                        if stream.write_all(answer).await.is_err() {
                            break;
                        }
                    }
                }
            });
        }
    });
    (address, seen)
}
