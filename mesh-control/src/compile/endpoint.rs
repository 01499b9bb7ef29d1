//! Endpoints of a cluster (EDS, and inline for DNS and static ones).

use std::collections::BTreeMap;

use mesh_api::istio::MutualTlsMode;

use super::context::Context;
use super::pb::{core, endpoint as eds, fields, text, uint};
use crate::store::endpoint::Endpoint;
use crate::store::workload::Workload;

/// Key of the metadata that `transport_socket_matches` look at.
const TRANSPORT_MATCH: &str = "envoy.transport_socket_match";

/// The load assignment of a cluster, by locality.
pub(super) fn assignment<'a>(
    ctx: &Context<'_>,
    cluster: &str,
    endpoints: impl IntoIterator<Item = &'a Endpoint>,
) -> eds::ClusterLoadAssignment {
    let mut localities: BTreeMap<&str, Vec<eds::LbEndpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        localities
            .entry(&endpoint.workload.locality)
            .or_default()
            .push(lb_endpoint(ctx, endpoint));
    }
    eds::ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: localities
            .into_iter()
            .map(|(name, lb_endpoints)| eds::LocalityLbEndpoints {
                locality: Some(locality(name)),
                load_balancing_weight: uint(
                    lb_endpoints
                        .iter()
                        .map(|e| e.load_balancing_weight.map_or(1, |w| w.value))
                        .sum(),
                ),
                lb_endpoints,
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn locality(name: &str) -> core::Locality {
    let mut parts = name.splitn(3, '/').map(str::to_owned);
    core::Locality {
        region: parts.next().unwrap_or_default(),
        zone: parts.next().unwrap_or_default(),
        sub_zone: parts.next().unwrap_or_default(),
    }
}

fn lb_endpoint(ctx: &Context<'_>, endpoint: &Endpoint) -> eds::LbEndpoint {
    let workload = &endpoint.workload;
    let mut metadata = core::Metadata::default();
    metadata.filter_metadata.insert(
        "istio".to_owned(),
        fields([("workload", text(workload_text(ctx, workload)))]),
    );
    if speaks_mesh_tls(ctx, endpoint) {
        metadata
            .filter_metadata
            .insert(TRANSPORT_MATCH.to_owned(), fields([("tlsMode", text("istio"))]));
    }
    let address = match endpoint.address.strip_prefix("unix://") {
        Some(path) => Some(core::Address {
            address: Some(core::address::Address::Pipe(core::Pipe {
                path: path.to_owned(),
                ..Default::default()
            })),
        }),
        None => super::pb::address(&endpoint.address, endpoint.port),
    };
    eds::LbEndpoint {
        metadata: Some(metadata),
        load_balancing_weight: uint(workload.weight.max(1)),
        host_identifier: Some(eds::lb_endpoint::HostIdentifier::Endpoint(eds::Endpoint {
            address,
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// Whether the endpoint answers mutual TLS: it has a sidecar, and no policy takes mutual TLS off this port.
pub(super) fn speaks_mesh_tls(ctx: &Context<'_>, endpoint: &Endpoint) -> bool {
    let workload = &endpoint.workload;
    workload.mesh_tls && ctx.store.mtls_of_port(workload, endpoint.port) != MutualTlsMode::Disable
}

/// `workload;namespace;canonical-name;canonical-revision;cluster`, by which clients know the peer without asking it.
fn workload_text(ctx: &Context<'_>, workload: &Workload) -> String {
    let revision = match workload.canonical_revision() {
        "latest" => "",
        other => other,
    };
    let parts = [
        &*workload.owner,
        &workload.namespace,
        workload.canonical_name(),
        revision,
        ctx.proxy.meta("CLUSTER_ID").unwrap_or("Kubernetes"),
    ];
    parts.join(";")
}

/// The criteria under which an endpoint with a sidecar is found.
pub(super) fn mesh_tls_criteria() -> super::pb::Struct {
    fields([("tlsMode", text("istio"))])
}
