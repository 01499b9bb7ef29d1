//! Clusters towards the proxy's own application.

use mesh_api::envoy::pb::envoy::extensions::upstreams::http::v3 as upstream_http;
use mesh_api::names;

use super::super::context::Context;
use super::super::inbound::{InboundPort, LocalEndpoint};
use super::super::pb::{cluster, core, endpoint, fields, istio_metadata, list, object, socket_address, text};
use super::super::{Compiled, Encoded};
use super::policy::Policy;
use super::{
    as_client, base, discovery_type, explicit_http1, explicit_http2, service_value, set_http_options, to_application,
    upstream_bind,
};

pub(in super::super) fn inbound(ctx: &Context<'_>, ports: &[InboundPort<'_>], out: &mut Compiled) {
    for port in ports {
        let name = names::inbound_cluster(port.port);
        let policy = Policy {
            pool: port.pool,
            ..Policy::default()
        };
        let mut cluster = match &port.endpoint {
            None => to_application(ctx, &name),
            Some(local) => to_endpoint(ctx, &name, local),
        };
        if port.pool.is_some() {
            cluster.circuit_breakers = Some(policy.limits());
        }
        if let Some(limit) = policy.connect_timeout() {
            cluster.connect_timeout = super::super::pb::time(limit);
        }
        if policy.has_keepalive() {
            cluster.upstream_connection_options = policy.keepalive(ctx.store.mesh());
        }
        let protocol = port.protocol;
        let options = if protocol.is_http2() {
            explicit_http2(policy.http2_options())
        } else if protocol.is_auto() {
            as_client(policy.http2_options())
        } else {
            explicit_http1()
        };
        set_http_options(
            &mut cluster,
            &upstream_http::HttpProtocolOptions {
                common_http_protocol_options: policy.http_common(),
                upstream_protocol_options: Some(options),
                ..Default::default()
            },
        );
        let mut services: Vec<_> = port.services.iter().map(|(s, _)| service_value(s)).collect();
        if services.is_empty() {
            let (name, namespace) = port.host.split_once('.').unwrap_or((&port.host, ""));
            services.push(object(fields([
                ("host", text(&port.host)),
                ("name", text(name)),
                ("namespace", text(namespace)),
            ])));
        }
        cluster.metadata = Some(istio_metadata(fields([("services", list(services))])));
        out.clusters.insert(name, Encoded::new(&cluster));
    }
}

/// To an address that the Sidecar says, in place of the one that connections are for.
fn to_endpoint(ctx: &Context<'_>, name: &str, local: &LocalEndpoint) -> cluster::Cluster {
    let mut cluster = base(name, ctx.store.mesh().connect_timeout.get());
    cluster.cluster_discovery_type = discovery_type(cluster::cluster::DiscoveryType::Static);
    let address = core::Address {
        address: Some(core::address::Address::SocketAddress(socket_address(
            &local.address,
            local.port,
        ))),
    };
    cluster.load_assignment = Some(endpoint::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints: vec![endpoint::LbEndpoint {
                host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
                    address: Some(address),
                    ..Default::default()
                })),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    });
    if local.of_pod {
        // From there the capture rules leave it alone.
        cluster.upstream_bind_config = upstream_bind(ctx);
    }
    cluster
}
