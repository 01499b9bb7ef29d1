//! Mesh-wide settings.

use std::time::Duration;

/// Stands in for Istio's MeshConfig until `mesh_api` has the whole of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MeshConfig {}

#[allow(clippy::unused_self)]
impl MeshConfig {
    pub fn service_export_to(&self) -> &[String] {
        &[]
    }
    pub fn virtual_service_export_to(&self) -> &[String] {
        &[]
    }
    pub fn destination_rule_export_to(&self) -> &[String] {
        &[]
    }
    pub fn root_namespace(&self) -> &str {
        "istio-system"
    }
    pub fn trust_domain(&self) -> &str {
        "cluster.local"
    }
    pub fn trust_domain_aliases(&self) -> &[String] {
        &[]
    }
    pub fn auto_mtls(&self) -> bool {
        true
    }
    pub fn registry_only(&self) -> bool {
        false
    }
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_secs(10)
    }
}
