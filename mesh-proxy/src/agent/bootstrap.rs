//! The bootstrap that a pod's settings stand for. It is made as messages, not read as text: that would cost the descriptors
//! of all of them (10-20 MB) at every start.

use mesh_api::envoy::ProtoDuration;
use mesh_api::envoy::pb::envoy::config::bootstrap::v3::bootstrap::DynamicResources;
use mesh_api::envoy::pb::envoy::config::bootstrap::v3::{Admin, Bootstrap};
use mesh_api::envoy::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use mesh_api::envoy::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use mesh_api::envoy::pb::envoy::config::core::v3::node::UserAgentVersionType;
use mesh_api::envoy::pb::envoy::config::core::v3::{self as pb, address, api_config_source, socket_address};
use mesh_api::envoy::value::to_struct;

use super::Agent;
use super::stats::stats_config;

impl Agent {
    /// The bootstrap that stands for these settings.
    pub fn bootstrap(&self) -> Bootstrap {
        let address = pb::SocketAddress {
            address: "127.0.0.1".to_owned(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(self.ports.admin.into())),
            ..Default::default()
        };
        let by_ads = || pb::ConfigSource {
            config_source_specifier: Some(ConfigSourceSpecifier::Ads(pb::AggregatedConfigSource::default())),
            initial_fetch_timeout: Some(ProtoDuration::default()),
            resource_api_version: pb::ApiVersion::V3.into(),
            ..Default::default()
        };
        let grpc = pb::GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: "xds-grpc".to_owned(),
                ..Default::default()
            })),
            ..Default::default()
        };
        Bootstrap {
            node: Some(pb::Node {
                id: self.id.to_string(),
                cluster: self.service.clone(),
                metadata: Some(to_struct(&self.metadata)),
                user_agent_name: "mesh-proxy".to_owned(),
                user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(
                    env!("CARGO_PKG_VERSION").to_owned(),
                )),
                ..Default::default()
            }),
            admin: Some(Admin {
                address: Some(pb::Address {
                    address: Some(address::Address::SocketAddress(address)),
                }),
                ..Default::default()
            }),
            dynamic_resources: Some(DynamicResources {
                lds_config: Some(by_ads()),
                cds_config: Some(by_ads()),
                ads_config: Some(pb::ApiConfigSource {
                    api_type: api_config_source::ApiType::DeltaGrpc.into(),
                    transport_api_version: pb::ApiVersion::V3.into(),
                    set_node_on_first_message_only: true,
                    grpc_services: vec![grpc],
                    ..Default::default()
                }),
                ..Default::default()
            }),
            stats_config: stats_config(&self.metadata, &self.ips),
            ..Default::default()
        }
    }
}
