//! The service over loopback.

mod clients;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clients::{Delta, World};
use mesh_api::envoy::pb::envoy::config::core::v3::Node;
use mesh_api::envoy::pb::envoy::service::discovery::v3 as xds;
use mesh_api::envoy::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};
use mesh_api::envoy::{Any, Struct};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Status};
use xds::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;

use super::debug::{Asker, Tools};
use super::hub::{Generate, Hub};
use super::resources::{Resource, Resources};
use super::server::Ads;
use crate::compile::Proxy;
use crate::serve::ca::caller::{Callers, Proofs};
use crate::serve::ca::token::Tokens;

const WAIT: Duration = Duration::from_secs(30);

/// `(type, name, version)`.
struct Table(Vec<(&'static str, &'static str, &'static str)>);

impl Generate for Table {
    fn generate(&self, _: &Proxy, _: Option<&Resources>) -> Resources {
        let mut out = Resources::default();
        for (type_url, name, version) in &self.0 {
            let body = Any {
                type_url: (*type_url).to_owned(),
                value: format!("{name}={version}").into_bytes(),
            };
            out.of_mut(type_url)
                .insert((*name).into(), Resource::new(body, version));
        }
        out
    }
}

/// A tool's question comes back, with who asked.
struct Echo;

impl Tools for Echo {
    fn answer(&self, asker: &Asker, type_url: &str, names: &[String]) -> Result<Vec<(String, Any)>, Status> {
        let caller = asker.caller.as_ref().map(|c| c.id.to_string());
        let near = asker.peer.is_some_and(|p| p.ip().is_loopback());
        let value = format!("{caller:?} {near}").into_bytes();
        let one = |name: &String| {
            let (type_url, value) = (type_url.to_owned(), value.clone());
            (name.clone(), Any { type_url, value })
        };
        Ok(names.iter().map(one).collect())
    }
}

struct Server {
    hub: Arc<Hub>,
    tokens: Arc<Tokens>,
    address: SocketAddr,
    _stop: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start(first: Table, proof_required: bool) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let tokens = Arc::new(Tokens::open(dir.path()).expect("tokens"));
        let hub = Hub::new(Arc::new(first));
        let (stop, stopping) = watch::channel(false);
        let ads = Ads {
            hub: hub.clone(),
            callers: Callers::new(Proofs::Own(tokens.clone()), "cluster.local"),
            proof_required,
            tools: Arc::new(Echo),
            stopping,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let server = tonic::transport::Server::builder().add_service(ads);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Server {
            hub,
            tokens,
            address,
            _stop: stop,
            _dir: dir,
        }
    }

    fn publish(&self, table: Table) {
        self.hub.publish(Arc::new(table));
    }

    fn token(&self, account: &str) -> String {
        let account = account.parse().expect("an account");
        self.tokens
            .issue(&account, WAIT, std::time::SystemTime::now())
            .expect("token")
    }

    async fn client(&self) -> AggregatedDiscoveryServiceClient<tonic::transport::Channel> {
        AggregatedDiscoveryServiceClient::connect(format!("http://{}", self.address))
            .await
            .expect("connects")
    }

    async fn delta(&self, token: Option<&str>) -> Delta {
        let (requests, stream) = mpsc::channel(16);
        let request = with_token(ReceiverStream::new(stream), token);
        let response = self.client().await.delta_aggregated_resources(request).await;
        Delta {
            requests,
            responses: response.expect("accepted").into_inner(),
            node: Some(node("web-1.shop", "shop", None)),
        }
    }
}

fn with_token<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("ascii");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

fn node(pod: &str, namespace: &str, service_account: Option<&str>) -> Node {
    let metadata = service_account.map(|name| {
        let value = mesh_api::envoy::ProtoValue {
            kind: Some(mesh_api::envoy::pb::google::protobuf::value::Kind::StringValue(
                name.to_owned(),
            )),
        };
        Struct {
            fields: [("SERVICE_ACCOUNT".to_owned(), value)].into(),
        }
    });
    Node {
        id: format!("sidecar~10.0.0.1~{pod}~{namespace}.svc.cluster.local"),
        metadata,
        ..Node::default()
    }
}

#[tokio::test]
async fn delta_sends_what_changed_in_order() {
    let server = Server::start(
        Table(vec![(CLUSTER, "a", "1"), (CLUSTER, "b", "1"), (ROUTE, "80", "1")]),
        false,
    )
    .await;
    let mut proxy = server.delta(None).await;
    proxy.subscribe(CLUSTER, &[]).await;
    assert_eq!(proxy.expect(None).await, "cds +a=1 +b=1");
    proxy.subscribe(LISTENER, &[]).await;
    assert_eq!(proxy.expect(None).await, "lds");
    proxy.subscribe(ROUTE, &["80"]).await;
    assert_eq!(proxy.expect(None).await, "rds +80=1");

    server.publish(Table(vec![
        (CLUSTER, "a", "1"),
        (CLUSTER, "c", "1"),
        (ROUTE, "80", "2"),
    ]));
    assert_eq!(proxy.expect(None).await, "cds +c=1");
    assert_eq!(proxy.expect(None).await, "rds +80=2");
    assert_eq!(proxy.expect(None).await, "cds -b");

    // Refused: not sent again, until it changes.
    server.publish(Table(vec![
        (CLUSTER, "a", "bad"),
        (CLUSTER, "c", "1"),
        (ROUTE, "80", "2"),
    ]));
    assert_eq!(proxy.expect(Some("a is bad")).await, "cds +a=bad");
    server.publish(Table(vec![
        (CLUSTER, "a", "bad"),
        (CLUSTER, "c", "2"),
        (ROUTE, "80", "2"),
    ]));
    assert_eq!(proxy.expect(None).await, "cds +c=2");
    let connection = server.hub.connections().pop().expect("listed");
    assert_eq!(connection.status.lock().errors[CLUSTER], "a is bad");
    server.publish(Table(vec![
        (CLUSTER, "a", "3"),
        (CLUSTER, "c", "2"),
        (ROUTE, "80", "2"),
    ]));
    assert_eq!(proxy.expect(None).await, "cds +a=3");
}

#[tokio::test]
async fn a_proxy_that_comes_back_says_what_it_holds() {
    let server = Server::start(Table(vec![(CLUSTER, "a", "1"), (CLUSTER, "b", "2")]), false).await;
    let mut proxy = server.delta(None).await;
    let request = xds::DeltaDiscoveryRequest {
        type_url: CLUSTER.to_owned(),
        resource_names_subscribe: vec!["*".to_owned()],
        initial_resource_versions: [("a", "1"), ("b", "1"), ("gone", "1")]
            .map(|(n, v)| (n.into(), v.into()))
            .into(),
        ..Default::default()
    };
    proxy.send(request).await;
    assert_eq!(proxy.expect(None).await, "cds +b=2");
    assert_eq!(proxy.expect(None).await, "cds -gone");
}

#[tokio::test]
async fn the_state_of_the_world_comes_whole_for_clusters_and_in_part_for_endpoints() {
    let server = Server::start(
        Table(vec![(CLUSTER, "a", "1"), (ENDPOINT, "a", "1"), (ENDPOINT, "b", "1")]),
        false,
    )
    .await;
    let (requests, stream) = mpsc::channel(16);
    let response = server
        .client()
        .await
        .stream_aggregated_resources(ReceiverStream::new(stream))
        .await;
    let mut proxy = World {
        requests,
        responses: response.expect("accepted").into_inner(),
        node: Some(node("web-1.shop", "shop", None)),
    };
    proxy.send(CLUSTER, &[], "", None).await;
    let (text, first) = proxy.expect(&[], None).await;
    assert_eq!(text, "cds a=1");
    proxy.send(ENDPOINT, &["a"], "", None).await;
    assert_eq!(proxy.expect(&["a"], None).await.0, "eds a=1");

    // The names in an answer ask for more.
    server.publish(Table(vec![
        (CLUSTER, "a", "1"),
        (ENDPOINT, "a", "2"),
        (ENDPOINT, "b", "1"),
    ]));
    assert_eq!(proxy.expect(&["a", "b"], None).await.0, "eds a=2");
    assert_eq!(proxy.expect(&["a", "b"], None).await.0, "eds b=1");

    let both = || {
        Table(vec![
            (CLUSTER, "a", "1"),
            (CLUSTER, "bad", "1"),
            (ENDPOINT, "a", "2"),
            (ENDPOINT, "b", "1"),
        ])
    };
    server.publish(both());
    let (text, second) = proxy.expect(&[], Some("bad is bad")).await;
    assert_eq!(text, "cds a=1 bad=1");
    assert_ne!(first, second);
    // The good part of what follows comes without the refused resource, and nothing is deleted for its sake.
    server.publish(Table(vec![
        (CLUSTER, "a", "2"),
        (CLUSTER, "bad", "1"),
        (ENDPOINT, "a", "2"),
        (ENDPOINT, "b", "1"),
    ]));
    assert_eq!(proxy.expect(&[], None).await.0, "cds a=2");
    assert_eq!(
        proxy.expect(&["a", "b"], None).await.0,
        "eds a=2",
        "a changed cluster waits for its endpoints"
    );
    server.publish(Table(vec![(CLUSTER, "bad", "2")]));
    assert_eq!(
        proxy.expect(&[], None).await.0,
        "cds a=2 bad=2",
        "what is new comes before what is old goes"
    );
    assert_eq!(proxy.expect(&[], None).await.0, "cds bad=2");
}

#[tokio::test]
async fn a_proxy_speaks_only_for_itself() {
    let server = Server::start(Table(vec![(CLUSTER, "a", "1")]), true).await;
    let refused = server
        .client()
        .await
        .delta_aggregated_resources(tokio_stream::empty())
        .await;
    let refused = refused.expect_err("no proof");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(
        refused.message().contains("mesh-control token"),
        "{}",
        refused.message()
    );

    for (account, node, allowed) in [
        ("shop/web", node("web-1.shop", "shop", Some("web")), true),
        ("shop/web", node("web-1.shop", "shop", None), true),
        ("shop/web", node("web-1.shop", "shop", Some("admin")), false),
        ("shop/web", node("web-1.bank", "bank", Some("web")), false),
        ("shop/web", Node::default(), false),
    ] {
        let mut proxy = server.delta(Some(&server.token(account))).await;
        let id = node.id.clone();
        proxy.node = Some(node);
        proxy.subscribe(CLUSTER, &[]).await;
        match proxy.next().await {
            Ok(Some(_)) => assert!(allowed, "{id}"),
            Ok(None) => panic!("{id}: the stream ended without a word"),
            Err(status) => {
                assert!(!allowed, "{id}: {status}");
                assert!(
                    matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument),
                    "{status}"
                );
            }
        }
    }
}

#[tokio::test]
async fn secrets_go_only_to_proven_proxies() {
    let server = Server::start(Table(vec![(SECRET, "kubernetes://cert", "1")]), false).await;
    let mut stranger = server.delta(None).await;
    stranger.subscribe(SECRET, &["kubernetes://cert"]).await;
    assert_eq!(stranger.expect(None).await, "sds -kubernetes://cert");
    let mut proven = server.delta(Some(&server.token("shop/web"))).await;
    proven.subscribe(SECRET, &["kubernetes://cert"]).await;
    assert_eq!(proven.expect(None).await, "sds +kubernetes://cert=1");
}

/// Blocks while it is told to.
struct Slow(std::sync::mpsc::Receiver<()>);

struct SlowTable(parking_lot::Mutex<Slow>);

impl Generate for SlowTable {
    fn generate(&self, proxy: &Proxy, before: Option<&Resources>) -> Resources {
        if proxy.id.pod == "slow" {
            // Fails when the test has ended, which ends the wait too.
            let _ = self.0.lock().0.recv();
        }
        Table(vec![(CLUSTER, "a", "2")]).generate(proxy, before)
    }
}

#[tokio::test]
async fn a_slow_compile_keeps_neither_others_nor_its_own_stream_waiting() {
    let first = || Table(vec![(CLUSTER, "a", "1"), (ROUTE, "80", "1")]);
    let server = Server::start(first(), false).await;
    let mut slow = server.delta(None).await;
    slow.node = Some(node("slow.shop", "shop", None));
    slow.subscribe(CLUSTER, &[]).await;
    assert_eq!(slow.expect(None).await, "cds +a=1");
    let mut quick = server.delta(None).await;
    quick.subscribe(CLUSTER, &[]).await;
    assert_eq!(quick.expect(None).await, "cds +a=1");

    let (go, wait) = std::sync::mpsc::channel();
    server
        .hub
        .publish(Arc::new(SlowTable(parking_lot::Mutex::new(Slow(wait)))));
    assert_eq!(quick.expect(None).await, "cds +a=2");
    slow.subscribe(ROUTE, &["80"]).await;
    assert_eq!(slow.expect(None).await, "rds +80=1", "answered from what is there");
    go.send(()).expect("waiting");
    assert_eq!(slow.expect(None).await, "cds +a=2");
}

#[tokio::test]
async fn a_tool_is_answered_in_both_forms_and_not_listed() {
    const TYPE: &str = "istio.io/debug";
    let server = Server::start(Table(vec![(CLUSTER, "a", "1")]), true).await;
    let token = server.token("istio-system/default");
    let expected = "Some(\"spiffe://cluster.local/ns/istio-system/sa/default\") true";
    let mut tool = server.delta(Some(&token)).await;
    // Tools name a node of their own making.
    tool.node = Some(Node::default());
    tool.subscribe(TYPE, &["syncz"]).await;
    let response = tool.next().await.expect("no error").expect("a response");
    assert_eq!((response.type_url.as_str(), response.nonce.as_str()), (TYPE, "1"));
    let [resource] = &response.resources[..] else {
        panic!("{response:?}")
    };
    assert_eq!(resource.name, "syncz");
    let body = resource.resource.as_ref().expect("a body");
    assert_eq!((body.type_url.as_str(), &body.value[..]), (TYPE, expected.as_bytes()));
    let identifier = response.control_plane.expect("it says who it is").identifier;
    assert!(identifier.starts_with("{\"Component\":\"istiod\""), "{identifier}");

    let (requests, stream) = mpsc::channel(16);
    let request = with_token(ReceiverStream::new(stream), Some(&token));
    let response = server.client().await.stream_aggregated_resources(request).await;
    let mut world = World {
        requests,
        responses: response.expect("accepted").into_inner(),
        node: None,
    };
    // An empty answer is one too, and its acknowledgement asks for nothing.
    world.send(TYPE, &[], "", None).await;
    let empty = world.responses.message().await.expect("no error").expect("a response");
    assert!(empty.resources.is_empty() && !empty.version_info.is_empty());
    world.send(TYPE, &[], &empty.nonce, None).await;
    world.send(TYPE, &["a"], "", None).await;
    let second = world.responses.message().await.expect("no error").expect("a response");
    assert_eq!((second.nonce.as_str(), second.resources.len()), ("2", 1));
    assert!(server.hub.connections().is_empty());
}
