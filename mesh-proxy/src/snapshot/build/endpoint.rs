//! Endpoints: `ClusterLoadAssignment`, from EDS or inside a cluster.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mesh_api::envoy::pb::envoy::config::core::v3 as core;
use mesh_api::envoy::pb::envoy::config::endpoint::v3 as endpoint;
use mesh_api::envoy::pb::google::protobuf::value::Kind;

use super::common::{host_port, string_field, uint};
use super::invalid::{At, Invalid, Result, each};

/// Envoy's default share by which a priority may lose endpoints before the next one is used; no other value is implemented.
const OVERPROVISIONING: u32 = 140;

/// One endpoint before names are looked up and transports chosen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct EndpointSpec {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) hostname: Option<Arc<str>>,
    pub(super) weight: u32,
    pub(super) priority: u32,
    pub(super) locality: Arc<str>,
    /// 0 when the locality has none.
    pub(super) locality_weight: u32,
    pub(super) healthy: bool,
    /// Metadata `envoy.transport_socket_match`.
    pub(super) transport: Vec<(String, String)>,
    /// Metadata `istio.workload`.
    pub(super) workload: Option<Arc<str>>,
}

/// An address, or a name to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Address(IpAddr),
    Name(String),
}

impl EndpointSpec {
    /// The address, when no look-up is needed.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(ip) => Some(SocketAddr::new(ip, self.port)),
            Host::Name(_) => None,
        }
    }
}

/// All endpoints, priorities ascending.
///
/// Endpoints change often, so the check for fields that are not implemented is made here, by naming every field of the
/// messages, and not by the walk over descriptors that other resources get: a field that a new version of the messages
/// brings does not compile until somebody has decided about it.
pub(super) fn assignment(value: &endpoint::ClusterLoadAssignment) -> Result<Vec<EndpointSpec>> {
    let endpoint::ClusterLoadAssignment {
        cluster_name: _,
        endpoints,
        named_endpoints,
        policy,
    } = value;
    refuse(!named_endpoints.is_empty(), "named_endpoints")?;
    if let Some(policy) = policy {
        let endpoint::cluster_load_assignment::Policy {
            drop_overloads,
            overprovisioning_factor,
            endpoint_stale_after,
            weighted_priority_health,
        } = policy;
        refuse(!drop_overloads.is_empty(), "policy.drop_overloads")?;
        refuse(
            uint(overprovisioning_factor.as_ref()).is_some_and(|f| f != OVERPROVISIONING),
            "policy.overprovisioning_factor",
        )?;
        refuse(endpoint_stale_after.is_some(), "policy.endpoint_stale_after")?;
        refuse(*weighted_priority_health, "policy.weighted_priority_health")?;
    }
    let groups = each(endpoints, "endpoints", group)?;
    let mut all: Vec<_> = groups.into_iter().flatten().collect();
    // Stable: within a priority the order of the message stays.
    all.sort_by_key(|e| e.priority);
    Ok(all)
}

fn group(value: &endpoint::LocalityLbEndpoints) -> Result<Vec<EndpointSpec>> {
    let endpoint::LocalityLbEndpoints {
        locality,
        metadata: _,
        lb_endpoints,
        load_balancing_weight,
        priority,
        proximity,
        lb_config,
    } = value;
    refuse(proximity.is_some(), "proximity")?;
    refuse(lb_config.is_some(), "lb_config")?;
    let place = Place {
        locality: locality_text(locality.as_ref()),
        // Matters only with `locality_weighted_lb_config`.
        weight: uint(load_balancing_weight.as_ref()).unwrap_or(0),
        priority: *priority,
    };
    each(lb_endpoints, "lb_endpoints", |e| lb_endpoint(e, &place))
}

/// What endpoints of one group share.
struct Place {
    locality: Arc<str>,
    weight: u32,
    priority: u32,
}

fn locality_text(value: Option<&core::Locality>) -> Arc<str> {
    let Some(l) = value else { return "".into() };
    let parts = [l.region.as_str(), &l.zone, &l.sub_zone];
    parts.join("/").trim_end_matches('/').into()
}

fn lb_endpoint(value: &endpoint::LbEndpoint, place: &Place) -> Result<EndpointSpec> {
    use endpoint::lb_endpoint::HostIdentifier;
    let endpoint::LbEndpoint {
        health_status,
        metadata,
        load_balancing_weight,
        host_identifier,
    } = value;
    let Some(HostIdentifier::Endpoint(inner)) = host_identifier else {
        return Err(Invalid::new("only endpoint is implemented"));
    };
    let endpoint::Endpoint {
        address,
        health_check_config,
        hostname,
        additional_addresses,
        observability_name: _,
    } = inner;
    refuse(health_check_config.is_some(), "endpoint.health_check_config")?;
    refuse(!additional_addresses.is_empty(), "endpoint.additional_addresses")?;
    let (host, port) = host_port(address.as_ref()).at("endpoint.address")?;
    let weight = uint(load_balancing_weight.as_ref()).unwrap_or(1);
    if weight == 0 {
        return Err(Invalid::new("must be at least 1").under("load_balancing_weight"));
    }
    Ok(EndpointSpec {
        host: match host.parse() {
            Ok(ip) => Host::Address(ip),
            Err(_) => Host::Name(host),
        },
        port,
        hostname: (!hostname.is_empty()).then(|| hostname.as_str().into()),
        weight,
        priority: place.priority,
        locality: place.locality.clone(),
        locality_weight: place.weight,
        healthy: healthy(*health_status),
        transport: transport_match(metadata.as_ref()),
        workload: metadata
            .as_ref()
            .and_then(|m| string_field(m.filter_metadata.get("istio")?, "workload"))
            .map(Into::into),
    })
}

fn healthy(status: i32) -> bool {
    use core::HealthStatus;
    matches!(
        HealthStatus::try_from(status),
        Ok(HealthStatus::Unknown | HealthStatus::Healthy | HealthStatus::Degraded)
    )
}

fn transport_match(metadata: Option<&core::Metadata>) -> Vec<(String, String)> {
    let Some(fields) = metadata.and_then(|m| m.filter_metadata.get("envoy.transport_socket_match")) else {
        return Vec::new();
    };
    let mut all: Vec<_> = fields
        .fields
        .iter()
        .filter_map(|(key, value)| match &value.kind {
            Some(Kind::StringValue(text)) => Some((key.clone(), text.clone())),
            _ => None,
        })
        .collect();
    all.sort();
    all
}

fn refuse(set: bool, field: &str) -> Result<()> {
    if set {
        Err(Invalid::not_implemented(field))
    } else {
        Ok(())
    }
}
