//! The client against a control plane in this process.

mod disk;
mod server;
mod streams;

use std::sync::Arc;

use mesh_api::envoy::pb::envoy::config::cluster::v3 as cluster_pb;
use mesh_api::envoy::pb::envoy::config::core::v3 as core;
use mesh_api::envoy::pb::envoy::config::endpoint::v3 as endpoint_pb;
use prost::Message;

use crate::shared::{Node, Shared};
use crate::snapshot::build::Builder;
use crate::snapshot::config::Config;

fn config() -> Arc<Config> {
    let shared = Shared::new(Node::default());
    Config::new(shared.clone(), Builder::new(shared))
}

/// A cluster that gets its endpoints by EDS.
fn cluster(name: &str) -> cluster_pb::Cluster {
    use cluster_pb::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
    cluster_pb::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(core::ConfigSource {
                config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
                    core::AggregatedConfigSource::default(),
                )),
                ..Default::default()
            }),
            service_name: String::new(),
        }),
        ..Default::default()
    }
}

/// Something that is refused.
fn bad_cluster(name: &str) -> cluster_pb::Cluster {
    cluster_pb::Cluster {
        lb_policy: cluster_pb::cluster::LbPolicy::LoadBalancingPolicyConfig as i32,
        ..cluster(name)
    }
}

/// Endpoints of a cluster: one, at this address.
fn endpoints(name: &str, ip: &str) -> endpoint_pb::ClusterLoadAssignment {
    use core::address::Address;
    let socket = core::SocketAddress {
        address: ip.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(80)),
        ..Default::default()
    };
    let endpoint = endpoint_pb::Endpoint {
        address: Some(core::Address {
            address: Some(Address::SocketAddress(socket)),
        }),
        ..Default::default()
    };
    endpoint_pb::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![endpoint_pb::LocalityLbEndpoints {
            lb_endpoints: vec![endpoint_pb::LbEndpoint {
                host_identifier: Some(endpoint_pb::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn encode(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}
