use mesh_api::envoy::pb::envoy::config::core::v3::Node;
use mesh_api::envoy::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse, Resource};
use mesh_api::envoy::{Any, type_url};

use super::server::Server;
use super::*;
use crate::xds::{Protocol, Settings, Target, Upstream, run};

fn settings(port: u16, protocol: Protocol, token: Option<std::path::PathBuf>) -> Settings {
    Settings {
        upstream: Upstream::Target(Target {
            host: "127.0.0.1".to_owned(),
            port,
            roots: None,
            server_name: String::new(),
            token,
            certificate: None,
            cluster_id: Some("Kubernetes".to_owned()),
        }),
        protocol,
        node: Node {
            id: "sidecar~10.0.0.1~web.shop~shop.svc.cluster.local".to_owned(),
            ..Node::default()
        },
        clusters: true,
        listeners: true,
        names: false,
    }
}

fn response(type_url: &str, nonce: &str, resources: &[(&str, &str, Vec<u8>)]) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: type_url.to_owned(),
        nonce: nonce.to_owned(),
        resources: resources
            .iter()
            .map(|(name, version, value)| Resource {
                name: (*name).to_owned(),
                version: (*version).to_owned(),
                resource: Some(Any {
                    type_url: type_url.to_owned(),
                    value: value.clone(),
                }),
                ..Resource::default()
            })
            .collect(),
        ..DeltaDiscoveryResponse::default()
    }
}

#[tokio::test]
async fn delta_subscribes_acknowledges_refuses_and_resumes() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "secret\n").expect("written");
    let mut server = Server::start().await;
    let config = config();
    let client = tokio::spawn(run(
        settings(server.port, Protocol::Delta, Some(token)),
        config.clone(),
        None,
    ));

    let mut session = server.delta().await;
    assert_eq!(
        session.metadata.get("authorization").expect("the token"),
        "Bearer secret"
    );
    assert_eq!(session.metadata.get("clusterid").expect("the cluster"), "Kubernetes");
    let (first, second) = (session.request().await, session.request().await);
    assert_eq!(first.type_url, type_url::CLUSTER);
    assert!(first.node.expect("with the first request").id.starts_with("sidecar~"));
    assert_eq!(second.type_url, type_url::LISTENER);
    assert!(second.node.is_none());

    // A cluster comes: acknowledged, and its endpoints are asked for.
    session.send(response(type_url::CLUSTER, "1", &[("a", "v1", encode(&cluster("a")))]));
    let ack = session.request().await;
    assert_eq!((ack.response_nonce.as_str(), ack.error_detail), ("1", None));
    let wants = session.request().await;
    assert_eq!(wants.type_url, type_url::ENDPOINT);
    assert_eq!(wants.resource_names_subscribe, ["a"]);
    assert!(config.shared.snapshot.load().clusters.is_empty(), "it waits for them");
    session.send(response(
        type_url::ENDPOINT,
        "2",
        &[("a", "e1", encode(&endpoints("a", "10.0.0.1")))],
    ));
    assert_eq!(session.request().await.response_nonce, "2");
    assert_eq!(config.shared.snapshot.load().clusters["a"].endpoints.len(), 1);

    // One bad and one good cluster: refused with name and path, the good one is in force.
    session.send(response(
        type_url::CLUSTER,
        "3",
        &[
            ("a", "v2", encode(&bad_cluster("a"))),
            ("b", "v2", encode(&cluster("b"))),
        ],
    ));
    let nack = session.request().await;
    let detail = nack.error_detail.expect("a refusal");
    assert_eq!(
        detail.message,
        "Cluster \"a\": lb_policy: LOAD_BALANCING_POLICY_CONFIG is not implemented"
    );
    assert_eq!(session.request().await.resource_names_subscribe, ["b"]);
    let stats = &config.shared.stats;
    assert_eq!(stats.counter("cluster_manager.cds.update_rejected").get(), 1);
    assert_eq!(stats.counter("cluster_manager.cds.update_success").get(), 1);
    assert_eq!(stats.gauge("control_plane.connected_state").get(), 1);

    // The stream ends: configuration stays, and the next stream says what is held.
    drop(session);
    let mut session = server.delta().await;
    let first = session.request().await;
    assert_eq!(first.initial_resource_versions["a"], "v1");
    assert_eq!(first.initial_resource_versions["b"], "v2");
    session.request().await;
    let wants = session.request().await;
    assert_eq!(wants.type_url, type_url::ENDPOINT);
    assert_eq!(wants.initial_resource_versions["a"], "e1");
    assert!(config.shared.snapshot.load().clusters.contains_key("a"));

    // A cluster goes, and its endpoints with it.
    session.send(DeltaDiscoveryResponse {
        removed_resources: vec!["a".to_owned()],
        ..response(type_url::CLUSTER, "4", &[])
    });
    session.request().await;
    assert_eq!(session.request().await.resource_names_unsubscribe, ["a"]);
    assert!(!config.shared.snapshot.load().clusters.contains_key("a"));
    client.abort();
}

fn world(type_url: &str, version: &str, nonce: &str, resources: &[Vec<u8>]) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: version.to_owned(),
        type_url: type_url.to_owned(),
        nonce: nonce.to_owned(),
        resources: resources
            .iter()
            .map(|value| Any {
                type_url: type_url.to_owned(),
                value: value.clone(),
            })
            .collect(),
        ..DiscoveryResponse::default()
    }
}

#[tokio::test]
async fn state_of_the_world_names_everything_it_wants() {
    let mut server = Server::start().await;
    let config = config();
    let client = tokio::spawn(run(
        settings(server.port, Protocol::StateOfTheWorld, None),
        config.clone(),
        None,
    ));
    let mut session = server.world().await;
    assert_eq!(session.request().await.type_url, type_url::CLUSTER);
    assert_eq!(session.request().await.type_url, type_url::LISTENER);

    let both = [encode(&cluster("a")), encode(&cluster("b"))];
    session.send(world(type_url::CLUSTER, "v1", "1", &both));
    let ack = session.request().await;
    assert_eq!((ack.version_info.as_str(), ack.response_nonce.as_str()), ("v1", "1"));
    assert_eq!(session.request().await.resource_names, ["a", "b"]);
    let given = [encode(&endpoints("a", "10.0.0.1")), encode(&endpoints("b", "10.0.0.2"))];
    session.send(world(type_url::ENDPOINT, "e1", "2", &given));
    assert_eq!(session.request().await.version_info, "e1");
    assert_eq!(config.shared.snapshot.load().clusters.len(), 2);

    // Without b: it is gone. With a bad a: the version before stays, and is named.
    session.send(world(type_url::CLUSTER, "v2", "3", &[encode(&bad_cluster("a"))]));
    let nack = session.request().await;
    assert_eq!((nack.version_info.as_str(), nack.response_nonce.as_str()), ("v1", "3"));
    assert!(nack.error_detail.expect("a refusal").message.contains("lb_policy"));
    assert_eq!(session.request().await.resource_names, ["a"]);
    let snapshot = config.shared.snapshot.load();
    assert!(snapshot.clusters.contains_key("a") && !snapshot.clusters.contains_key("b"));
    client.abort();
}
