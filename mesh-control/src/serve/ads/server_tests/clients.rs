//! A small client of each form of ADS.

use mesh_api::envoy::pb::envoy::config::core::v3::Node;
use mesh_api::envoy::pb::envoy::service::discovery::v3 as xds;
use mesh_api::envoy::pb::google::rpc;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::WAIT;
use crate::serve::ads::resources;

pub(super) struct Delta {
    pub(super) requests: mpsc::Sender<xds::DeltaDiscoveryRequest>,
    pub(super) responses: Streaming<xds::DeltaDiscoveryResponse>,
    pub(super) node: Option<Node>,
}

impl Delta {
    pub(super) async fn send(&mut self, mut request: xds::DeltaDiscoveryRequest) {
        request.node = self.node.take();
        self.requests.send(request).await.expect("the stream is open");
    }

    pub(super) async fn subscribe(&mut self, type_url: &str, names: &[&str]) {
        let request = xds::DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: names.iter().map(|n| (*n).to_owned()).collect(),
            ..Default::default()
        };
        self.send(request).await;
    }

    pub(super) async fn next(&mut self) -> Result<Option<xds::DeltaDiscoveryResponse>, Status> {
        tokio::time::timeout(WAIT, self.responses.message())
            .await
            .expect("an answer in time")
    }

    /// The next response as `cds +a=1 -b`, answered; refused with `error`.
    pub(super) async fn expect(&mut self, error: Option<&str>) -> String {
        let response = self.next().await.expect("no error").expect("a response");
        let mut text = resources::short_name(&response.type_url).to_owned();
        for resource in &response.resources {
            text += &format!(" +{}={}", resource.name, resource.version);
            let body = resource.resource.as_ref().expect("a body");
            assert_eq!(
                body.value,
                format!("{}={}", resource.name, resource.version).into_bytes()
            );
        }
        response
            .removed_resources
            .iter()
            .for_each(|n| text += &format!(" -{n}"));
        let answer = xds::DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail: error.map(status),
            ..Default::default()
        };
        self.send(answer).await;
        text
    }
}

fn status(message: &str) -> rpc::Status {
    rpc::Status {
        message: message.to_owned(),
        ..Default::default()
    }
}

pub(super) struct World {
    pub(super) requests: mpsc::Sender<xds::DiscoveryRequest>,
    pub(super) responses: Streaming<xds::DiscoveryResponse>,
    pub(super) node: Option<Node>,
}

impl World {
    pub(super) async fn send(&mut self, type_url: &str, names: &[&str], nonce: &str, error: Option<&str>) {
        let request = xds::DiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names: names.iter().map(|n| (*n).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            error_detail: error.map(status),
            node: self.node.take(),
            ..Default::default()
        };
        self.requests.send(request).await.expect("the stream is open");
    }

    pub(super) async fn expect(&mut self, names: &[&str], error: Option<&str>) -> (String, String) {
        let response = tokio::time::timeout(WAIT, self.responses.message())
            .await
            .expect("in time");
        let response = response.expect("no error").expect("a response");
        let bodies = response
            .resources
            .iter()
            .map(|r| String::from_utf8_lossy(&r.value).into_owned());
        let text = format!(
            "{} {}",
            resources::short_name(&response.type_url),
            bodies.collect::<Vec<_>>().join(" ")
        );
        self.send(&response.type_url, names, &response.nonce, error).await;
        (text, response.version_info)
    }
}
