//! Endpoints of a cluster (EDS, and inline for DNS and static ones).

use mesh_api::istio::MutualTlsMode;

use super::cluster::policy::Policy;
use super::context::Context;
use super::encoded::{Encoded, Writer};
use super::locality;
use super::pb::{endpoint::ClusterLoadAssignment, fields, text};
use crate::store::endpoint::Endpoint;
use crate::store::workload::Workload;

/// Key of the metadata that `transport_socket_matches` look at.
const TRANSPORT_MATCH: &str = "envoy.transport_socket_match";

/// The load assignment of a cluster, by locality.
pub(super) fn assignment<'a>(
    ctx: &Context<'_>,
    cluster: &str,
    policy: &Policy<'_>,
    endpoints: impl IntoIterator<Item = &'a Endpoint>,
) -> Encoded<ClusterLoadAssignment> {
    let mut out = Writer::default();
    out.text(1, cluster);
    for group in locality::groups(ctx, policy, endpoints) {
        // `LocalityLbEndpoints`
        out.message(2, |out| {
            out.message(1, |out| place(group.locality, out));
            for endpoint in &group.endpoints {
                out.message(2, |out| lb_endpoint(ctx, endpoint, out));
            }
            out.message(3, |out| out.number(1, group.weight));
            if group.priority > 0 {
                out.number(5, group.priority);
            }
        });
    }
    Encoded::written(out)
}

/// A `Locality`.
fn place(name: &str, out: &mut Writer) {
    for (field, part) in (1..).zip(name.splitn(3, '/')) {
        out.text(field, part);
    }
}

/// Share among the endpoints of a locality.
pub(super) fn weight(endpoint: &Endpoint) -> u32 {
    endpoint.workload.weight.max(1)
}

/// A `LbEndpoint`.
fn lb_endpoint(ctx: &Context<'_>, endpoint: &Endpoint, out: &mut Writer) {
    // `endpoint.address`
    out.message(1, |out| out.message(1, |out| address(endpoint, out)));
    // `metadata`; the shorter key comes first.
    out.message(3, |out| {
        out.entry(1, "istio", |out| {
            out.entry(1, "workload", |out| {
                out.message(3, |out| workload(ctx, &endpoint.workload, out));
            });
        });
        if speaks_mesh_tls(ctx, endpoint) {
            out.entry(1, TRANSPORT_MATCH, |out| {
                out.entry(1, "tlsMode", |out| out.text(3, "istio"));
            });
        }
    });
    // `load_balancing_weight`
    out.message(4, |out| out.number(1, weight(endpoint)));
}

fn address(endpoint: &Endpoint, out: &mut Writer) {
    // `socket_address`: `address`, `port_value`
    out.message(1, |out| {
        out.text(2, &endpoint.address);
        out.number(3, endpoint.port.into());
    });
}

/// Whether the endpoint answers mutual TLS: it has a sidecar, and no policy takes mutual TLS off this port.
pub(super) fn speaks_mesh_tls(ctx: &Context<'_>, endpoint: &Endpoint) -> bool {
    let workload = &endpoint.workload;
    workload.mesh_tls && ctx.store.mtls_of_port(workload, endpoint.port) != MutualTlsMode::Disable
}

/// `workload;namespace;canonical-name;canonical-revision;cluster`, by which clients know the peer without asking it.
fn workload(ctx: &Context<'_>, workload: &Workload, out: &mut Writer) {
    let revision = match workload.canonical_revision() {
        "latest" => "",
        other => other,
    };
    let parts = [
        &*workload.owner,
        ";",
        &workload.namespace,
        ";",
        workload.canonical_name(),
        ";",
        revision,
        ";",
        ctx.proxy.meta("CLUSTER_ID").unwrap_or("Kubernetes"),
    ];
    for part in parts {
        out.bytes.extend_from_slice(part.as_bytes());
    }
}

/// The criteria under which an endpoint with a sidecar is found.
pub(super) fn mesh_tls_criteria() -> super::pb::Struct {
    fields([("tlsMode", text("istio"))])
}
