//! Mesh-wide settings.

/// Stands in for Istio's MeshConfig until `mesh_api` has the whole of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MeshConfig {}
