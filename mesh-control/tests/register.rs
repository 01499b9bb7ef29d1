//! A workload outside of Kubernetes enters the mesh by connecting, over the whole control plane.

mod common;

use std::net::SocketAddr;
use std::time::SystemTime;

use common::{WAIT, get, options, until};
use mesh_api::envoy::pb::envoy::admin::v3::ClustersConfigDump;
use mesh_api::envoy::pb::envoy::config::core::v3::Node;
use mesh_api::envoy::pb::envoy::service::discovery::v3 as xds;
use mesh_api::envoy::pb::envoy::service::status::v3::{ClientConfig, ConfigStatus};
use mesh_api::envoy::pb::google::protobuf::value::Kind;
use mesh_api::envoy::type_url::CLUSTER;
use mesh_api::envoy::{ProtoValue, Struct};
use mesh_control::serve;
use mesh_control::serve::ca::token::Tokens;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};
use xds::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;

/// What a tool is told that asks once.
async fn tool(address: SocketAddr, type_url: &str, names: &[&str]) -> Result<xds::DiscoveryResponse, Status> {
    let request = xds::DiscoveryRequest {
        type_url: type_url.to_owned(),
        resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
        ..Default::default()
    };
    let client = AggregatedDiscoveryServiceClient::connect(format!("http://{address}")).await;
    // The stream stays open, as a tool's does.
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let responses = client.expect("connects").stream_aggregated_resources(requests).await;
    let response = responses?.into_inner().message().await?;
    response.ok_or_else(|| Status::unknown("the stream ended"))
}

#[tokio::test]
async fn a_proxy_that_names_its_group_is_registered_while_it_is_connected() {
    let dir = tempfile::tempdir().expect("dir");
    let options = options(dir.path());
    let group = "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {name: vms, namespace: shop}\n\
                 spec: {metadata: {labels: {app: vm}}, template: {serviceAccount: vm}}\n";
    std::fs::write(dir.path().join("mesh/group.yaml"), group).expect("written");
    let running = serve::start(options).await.expect("starts");
    let tokens = Tokens::open(&dir.path().join("ca")).expect("tokens");
    let account = "shop/vm".parse().expect("an account");
    let token = tokens.issue(&account, WAIT, SystemTime::now()).expect("token");

    let (requests, stream) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(stream));
    let value = format!("Bearer {token}").parse().expect("ascii");
    request.metadata_mut().insert("authorization", value);
    let client = AggregatedDiscoveryServiceClient::connect(format!("http://{}", running.grpc)).await;
    let mut responses = client
        .expect("connects")
        .delta_aggregated_resources(request)
        .await
        .expect("accepted")
        .into_inner();
    let name = ProtoValue {
        kind: Some(Kind::StringValue("vms".to_owned())),
    };
    let first = xds::DeltaDiscoveryRequest {
        node: Some(Node {
            id: "sidecar~10.9.0.1~vm-1.shop~shop.svc.cluster.local".to_owned(),
            metadata: Some(Struct {
                fields: [("AUTO_REGISTER_GROUP".to_owned(), name)].into(),
            }),
            ..Node::default()
        }),
        type_url: CLUSTER.to_owned(),
        ..Default::default()
    };
    requests.send(first).await.expect("sent");
    assert!(responses.message().await.expect("answered").is_some());

    // The pages know it under Istio's and Envoy's names.
    let json = |page: &str| -> serde_json::Value {
        let body = page.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).expect("JSON")
    };
    let page = get(running.monitoring, "/debug/syncz?namespace=shop").await;
    let proxy = &json(&page)[0];
    assert_eq!(
        (&proxy["proxy"], &proxy["cluster_id"]),
        (&"vm-1.shop".into(), &"Kubernetes".into())
    );
    assert!(
        proxy["cluster_sent"].is_string() && proxy["listener_sent"].is_null(),
        "{page}"
    );
    assert_eq!(
        json(&get(running.monitoring, "/debug/syncz?namespace=other").await),
        serde_json::json!([])
    );
    let page = get(running.monitoring, "/debug/config_dump?proxyID=vm-1.shop").await;
    let clusters = &json(&page)["configs"][0];
    assert_eq!(
        clusters["@type"],
        "type.googleapis.com/envoy.admin.v3.ClustersConfigDump"
    );
    let first = &clusters["dynamic_active_clusters"][0];
    assert!(
        first["version_info"].is_string() && first["cluster"]["name"].is_string(),
        "{page}"
    );

    // istioctl asks for the same over discovery.
    let status = tool(running.grpc, "istio.io/debug/syncz", &[]).await.expect("answered");
    assert!(!status.version_info.is_empty());
    let [proxy] = &status.resources[..] else {
        panic!("{status:?}")
    };
    let proxy: ClientConfig = mesh_api::envoy::unpack(proxy).expect("a ClientConfig");
    assert_eq!(proxy.node.expect("a node").id, "vm-1.shop");
    let clusters = proxy.generic_xds_configs.iter().find(|c| c.type_url == CLUSTER);
    // Sent; this proxy has not answered.
    assert_eq!(
        clusters.expect("of clusters").config_status,
        i32::from(ConfigStatus::Stale)
    );
    let dump = tool(running.grpc, "istio.io/debug/config_dump", &["vm-1.shop"]).await;
    let sections = dump.expect("answered").resources;
    let clusters: ClustersConfigDump = mesh_api::envoy::unpack(&sections[0]).expect("of clusters");
    assert!(!clusters.dynamic_active_clusters.is_empty());
    let elsewhere = tool(running.grpc, "istio.io/debug/config_dump", &["other.shop"]).await;
    let elsewhere = elsewhere.expect("answered").resources;
    let text = String::from_utf8_lossy(&elsewhere[0].value);
    assert!(
        text.starts_with("Proxy not connected to this Pilot instance."),
        "{text}"
    );
    let registry = tool(running.grpc, "istio.io/debug", &["syncz?namespace=other"]).await;
    assert_eq!(registry.expect("answered").resources[0].value, b"[]");
    let unknown = tool(running.grpc, "istio.io/debug/none", &[])
        .await
        .expect_err("no such type");
    assert!(unknown.message().contains("istio.io/debug/syncz"), "{unknown}");

    let listed = |page: &str| page.contains("vms-10.9.0.1");
    until(running.monitoring, "/debug/configz", listed).await;
    // It goes some time after its proxy.
    drop((requests, responses));
    until(running.monitoring, "/debug/configz", |page| !listed(page)).await;
    running.wait(std::future::ready(())).await.expect("stops");
}
