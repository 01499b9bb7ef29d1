use std::sync::atomic::Ordering;

use mesh_api::envoy::pb::envoy::config::bootstrap::v3::Bootstrap;
use mesh_api::envoy::pb::envoy::config::cluster::v3::Cluster;
use mesh_api::envoy::pb::envoy::config::core::v3::{DataSource, Node, data_source::Specifier};
use mesh_api::envoy::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
use mesh_api::envoy::type_url;
use prost::Message;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::shared::Drain;
use crate::snapshot::resources::{Resource, Source};

const LOOPBACK: &str = "127.0.0.1:0";

struct Running {
    shared: Arc<Shared>,
    bound: Bound,
    commands: UnboundedReceiver<Command>,
}

fn options(commands: UnboundedSender<Command>) -> Options {
    let any_port = LOOPBACK.parse().ok();
    Options {
        admin: any_port,
        agent: true,
        readiness: any_port,
        metrics: any_port,
        status: any_port,
        app_metrics: None,
        app_probes: AppProbes::default(),
        commands,
        log: None,
        command_line: CommandLine::default(),
    }
}

async fn running(change: impl FnOnce(&mut Options)) -> Running {
    let shared = Shared::new(crate::shared::Node::default());
    let (sender, commands) = unbounded_channel();
    let mut options = options(sender);
    change(&mut options);
    let bound = start(Arc::clone(&shared), options).await.expect("loopback ports");
    Running {
        shared,
        bound,
        commands,
    }
}

/// Status and body of one request, written by hand so that any host and origin can be sent.
async fn ask(address: Option<SocketAddr>, request: &str, headers: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address.expect("the port is open"))
        .await
        .expect("connect");
    let text = format!("{request} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    socket.write_all(text.as_bytes()).await.expect("write");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a header");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, body.to_owned())
}

async fn get(address: Option<SocketAddr>, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path}"), "host: localhost\r\n").await
}

async fn post(address: Option<SocketAddr>, path: &str) -> (u16, String) {
    ask(
        address,
        &format!("POST {path}"),
        "host: localhost\r\ncontent-length: 0\r\n",
    )
    .await
}

fn dynamic(message: &impl Message) -> Resource {
    Resource {
        bytes: Some(message.encode_to_vec().into()),
        version: "7".to_owned(),
        source: Source::Dynamic,
        updated: std::time::SystemTime::now(),
        rejected: None,
        warming: false,
    }
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let r = running(|_| {}).await;
    let (status, body) = get(r.bound.readiness, "/healthz/ready").await;
    assert_eq!(status, 503);
    assert!(body.contains("identity"), "{body}");
    assert_eq!(get(r.bound.admin, "/ready").await, (503, "INITIALIZING\n".to_owned()));
    let ready = &r.shared.readiness;
    for part in [&ready.clusters, &ready.listeners, &ready.identity, &ready.workers] {
        part.store(true, Ordering::Relaxed);
    }
    assert_eq!(get(r.bound.readiness, "/healthz/ready").await.0, 200);
    assert_eq!(get(r.bound.admin, "/ready").await, (200, "LIVE\n".to_owned()));
    post(r.bound.admin, "/healthcheck/fail").await;
    assert_eq!(get(r.bound.status, "/healthz/ready").await.0, 503);
    post(r.bound.admin, "/healthcheck/ok").await;
    r.shared.drain.send_replace(Drain::Draining);
    let (status, body) = get(r.bound.readiness, "/healthz/ready").await;
    assert_eq!((status, body.as_str()), (503, "draining\n"));
}

#[tokio::test]
async fn what_changes_something_needs_post_and_becomes_a_command() {
    let mut r = running(|_| {}).await;
    let (status, body) = get(r.bound.admin, "/quitquitquit").await;
    assert_eq!((status, body.as_str()), (405, "Method GET not allowed, POST required."));
    assert_eq!(post(r.bound.admin, "/quitquitquit").await.0, 200);
    assert_eq!(r.commands.recv().await, Some(Command::Quit));
    post(r.bound.admin, "/drain_listeners?graceful&inboundonly").await;
    let drain = |inbound_only| Command::Drain {
        inbound_only,
        graceful: true,
    };
    assert_eq!(r.commands.recv().await, Some(drain(true)));
    assert_eq!(get(r.bound.status, "/drain").await.0, 405);
    assert_eq!(post(r.bound.status, "/drain").await.0, 200);
    assert_eq!(r.commands.recv().await, Some(drain(false)));
    assert_eq!(get(r.bound.admin, "/nope").await.0, 404);
}

#[tokio::test]
async fn pages_of_other_sites_cannot_reach_the_admin_api() {
    let mut r = running(|_| {}).await;
    let rebound = ask(r.bound.admin, "GET /config_dump", "host: evil.example\r\n").await;
    assert_eq!(rebound.0, 403);
    let form = "host: localhost\r\norigin: http://evil.example\r\ncontent-length: 0\r\n";
    assert_eq!(ask(r.bound.admin, "POST /quitquitquit", form).await.0, 403);
    assert!(r.commands.try_recv().is_err());
}

#[tokio::test]
async fn a_sidecars_admin_api_is_not_opened_to_the_network() {
    let (sender, _commands) = unbounded_channel();
    let mut options = options(sender);
    options.admin = "0.0.0.0:0".parse().ok();
    let error = start(Shared::new(crate::shared::Node::default()), options).await;
    assert!(error.expect_err("refused").to_string().contains("loopback"));
}

#[tokio::test]
async fn statistics_in_three_formats() {
    let r = running(|o| o.agent = false).await;
    r.shared.stats.counter("cluster.a.upstream_rq_total").add(2);
    r.shared.stats.counter("cluster.b.upstream_rq_total");
    let (_, text) = get(r.bound.admin, "/stats?filter=upstream_rq_total").await;
    assert_eq!(text, "cluster.a.upstream_rq_total: 2\ncluster.b.upstream_rq_total: 0\n");
    let (_, text) = get(r.bound.admin, "/stats?filter=%5Ecluster&usedonly&format=json").await;
    assert_eq!(text, r#"{"stats":[{"name":"cluster.a.upstream_rq_total","value":2}]}"#);
    assert_eq!(get(r.bound.admin, "/stats?filter=(").await.0, 400);
    let (_, text) = get(r.bound.metrics, "/stats/prometheus").await;
    assert!(
        text.contains("envoy_cluster_upstream_rq_total{envoy_cluster_name=\"a\"} 2\n"),
        "{text}"
    );
    assert!(text.contains("envoy_server_live{} 0\n"), "{text}");
    post(r.bound.admin, "/reset_counters").await;
    assert!(
        get(r.bound.admin, "/stats?filter=a.upstream_rq_total")
            .await
            .1
            .contains(": 0\n")
    );
}

#[tokio::test]
async fn dumps_hold_the_messages_and_no_private_key() {
    let r = running(|_| {}).await;
    let bootstrap = Bootstrap {
        node: Some(Node {
            id: "sidecar~1.2.3.4~a.b~b.svc.cluster.local".to_owned(),
            ..Node::default()
        }),
        ..Bootstrap::default()
    };
    r.shared.resources.set_bootstrap(bootstrap.encode_to_vec());
    for name in ["outbound|80||a", "outbound|80||b"] {
        let cluster = Cluster {
            name: name.to_owned(),
            ..Cluster::default()
        };
        r.shared.resources.set(type_url::CLUSTER, name, dynamic(&cluster));
    }
    let inline = |text: &str| {
        Some(DataSource {
            specifier: Some(Specifier::InlineString(text.to_owned())),
            ..DataSource::default()
        })
    };
    let secret = Secret {
        name: "default".to_owned(),
        r#type: Some(secret::Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline("a certificate"),
            private_key: inline("do not show"),
            ..TlsCertificate::default()
        })),
    };
    r.shared.resources.set(type_url::SECRET, "default", dynamic(&secret));

    let (status, text) = get(r.bound.admin, "/config_dump?include_eds").await;
    assert_eq!(status, 200, "{text}");
    assert!(!text.contains("do not show") && text.contains("a certificate"));
    let dump: Value = serde_json::from_str(&text).expect("JSON");
    let kinds: Vec<&str> = dump["configs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["@type"].as_str()?.rsplit('.').next())
        .collect();
    let expected = [
        "BootstrapConfigDump",
        "ClustersConfigDump",
        "EndpointsConfigDump",
        "ListenersConfigDump",
        "ScopedRoutesConfigDump",
        "RoutesConfigDump",
        "SecretsConfigDump",
    ];
    assert_eq!(kinds, expected);
    let active = &dump["configs"][1]["dynamic_active_clusters"];
    assert_eq!(active[0]["cluster"]["name"], "outbound|80||a");
    assert_eq!(active[0]["version_info"], "7");

    let path = "/config_dump?resource=dynamic_active_clusters&mask=cluster.name&name_regex=.*b";
    let dump: Value = serde_json::from_str(&get(r.bound.admin, path).await.1).expect("JSON");
    let expected = serde_json::json!({"configs": [{
        "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.DynamicCluster",
        "cluster": {"@type": type_url::CLUSTER, "name": "outbound|80||b"},
    }]});
    assert_eq!(dump, expected);
    assert_eq!(get(r.bound.admin, "/config_dump?resource=foo").await.0, 404);
    let (_, info) = get(r.bound.admin, "/server_info").await;
    let info: Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!(info["state"], "INITIALIZING");
    assert_eq!(info["node"]["id"], "sidecar~1.2.3.4~a.b~b.svc.cluster.local");
}

#[tokio::test]
async fn merged_metrics_live_without_the_application() {
    let app = TcpListener::bind(LOOPBACK).await.expect("loopback");
    let port = app.local_addr().expect("bound").port();
    let answering = tokio::spawn(async move {
        let (mut socket, _) = app.accept().await.expect("a scrape");
        let mut request = [0; 1024];
        let n = socket.read(&mut request).await.expect("a request");
        assert!(request[..n].starts_with(b"GET /metrics HTTP/1.1\r\n"));
        let body = "app_requests 5\n# EOF";
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        socket.write_all(answer.as_bytes()).await.expect("write");
    });
    let r = running(|o| {
        o.app_metrics = Some(AppMetrics {
            port,
            path: "/metrics".to_owned(),
        });
    })
    .await;
    let (_, text) = get(r.bound.status, "/stats/prometheus").await;
    assert!(text.ends_with("\napp_requests 5\n"), "{text}");
    assert!(text.contains("istio_agent_scrapes_total 1\n"));
    answering.await.expect("the application answered");
    // Its port is closed now.
    let (status, text) = get(r.bound.status, "/stats/prometheus").await;
    assert_eq!(status, 200);
    assert!(text.contains("istio_build{component=\"proxy\""));
    assert!(
        text.contains("istio_agent_scrape_failures_total{type=\"application\"} 1\n"),
        "{text}"
    );
}
