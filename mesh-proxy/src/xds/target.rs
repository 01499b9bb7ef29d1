//! Where the control plane is.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use mesh_api::envoy::pb::envoy::config::bootstrap::v3::Bootstrap;
use mesh_api::envoy::pb::envoy::config::core::v3 as core;

use crate::agent::Agent;
use crate::snapshot::build::Invalid;
use crate::tls::Identity;

/// How to talk to the control plane.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is.
    pub upstream: Upstream,
    /// Which protocol.
    pub protocol: Protocol,
    /// Who we are, as it is sent.
    pub node: core::Node,
    /// Clusters and listeners are asked for.
    pub clusters: bool,
    /// As `clusters`.
    pub listeners: bool,
    /// Istio's name table is asked for.
    pub names: bool,
}

/// `api_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `DELTA_GRPC`: only what changes.
    Delta,
    /// `GRPC`: the state of the world, type by type.
    StateOfTheWorld,
}

/// Where the control plane is.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// A cluster of the bootstrap: its endpoints, its TLS.
    Cluster(String),
    /// In agent mode.
    Target(Target),
}

/// A gRPC server of the control plane, as the agent knows it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whose certificates are trusted; `None` for plaintext.
    pub roots: Option<Roots>,
    /// Name that the server's certificate must have.
    pub server_name: String,
    /// File of a token that proves who we are; read anew for every stream.
    pub token: Option<PathBuf>,
    /// Our certificate, presented once there is one.
    pub certificate: Option<Arc<ArcSwapOption<Identity>>>,
    /// Metadata `clusterid`.
    pub cluster_id: Option<String>,
}

/// Trusted roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// A PEM file, read anew for every connection.
    File(PathBuf),
    /// The machine's own.
    System,
}

impl Roots {
    /// `SYSTEM`, or a path.
    pub fn named(text: &str) -> Self {
        if text.eq_ignore_ascii_case("system") {
            Roots::System
        } else {
            Roots::File(text.into())
        }
    }
}

impl Settings {
    /// From `dynamic_resources`; `None` when the bootstrap has none.
    ///
    /// # Errors
    /// When they ask for something that is not implemented.
    pub fn from_bootstrap(bootstrap: &Bootstrap, agent: Option<&Agent>) -> Result<Option<Self>, Invalid> {
        let Some(dynamic) = &bootstrap.dynamic_resources else {
            return Ok(None);
        };
        let at = |field: &str, message: String| Invalid {
            path: format!("dynamic_resources.{field}"),
            message,
        };
        let from_ads = |source: &Option<core::ConfigSource>, field: &str| {
            use core::config_source::ConfigSourceSpecifier as Source;
            match source.as_ref().map(|s| s.config_source_specifier.as_ref()) {
                None => Ok(false),
                Some(Some(Source::Ads(_))) => Ok(true),
                Some(_) => Err(at(field, "only ads is implemented".to_owned())),
            }
        };
        let clusters = from_ads(&dynamic.cds_config, "cds_config")?;
        let listeners = from_ads(&dynamic.lds_config, "lds_config")?;
        let Some(ads) = &dynamic.ads_config else {
            return if clusters || listeners {
                Err(at("ads_config", "required".to_owned()))
            } else {
                Ok(None)
            };
        };
        use core::api_config_source::ApiType;
        let protocol = match ApiType::try_from(ads.api_type) {
            Ok(ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc) => Protocol::Delta,
            Ok(ApiType::Grpc | ApiType::AggregatedGrpc) => Protocol::StateOfTheWorld,
            _ => {
                return Err(at(
                    "ads_config.api_type",
                    "only GRPC and DELTA_GRPC are implemented".to_owned(),
                ));
            }
        };
        let upstream = match agent {
            Some(agent) => Upstream::Target(agent.xds.clone()),
            None => Upstream::Cluster(cluster_of(bootstrap, ads).map_err(|m| at("ads_config.grpc_services[0]", m))?),
        };
        let mut node = bootstrap.node.clone().unwrap_or_default();
        if node.user_agent_name.is_empty() {
            node.user_agent_name = "mesh-proxy".to_owned();
        }
        Ok(Some(Settings {
            upstream,
            protocol,
            node,
            clusters,
            listeners,
            names: agent.is_some_and(|a| a.dns_capture),
        }))
    }
}

fn cluster_of(bootstrap: &Bootstrap, ads: &core::ApiConfigSource) -> Result<String, String> {
    use core::grpc_service::TargetSpecifier;
    let Some(TargetSpecifier::EnvoyGrpc(grpc)) = ads.grpc_services.first().and_then(|s| s.target_specifier.as_ref())
    else {
        return Err("envoy_grpc is required".to_owned());
    };
    let known = bootstrap
        .static_resources
        .iter()
        .flat_map(|r| &r.clusters)
        .any(|c| c.name == grpc.cluster_name);
    if known {
        Ok(grpc.cluster_name.clone())
    } else {
        Err(format!("there is no static cluster {:?}", grpc.cluster_name))
    }
}

/// As [`Settings::from_bootstrap`], for `--mode validate`.
pub fn check_bootstrap(bootstrap: &Bootstrap) -> Option<Invalid> {
    Settings::from_bootstrap(bootstrap, None).err()
}
