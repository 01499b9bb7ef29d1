//! One immutable, indexed snapshot of all objects.
//!
//! A change of any object makes a new [`Store`]. The order in which objects come never matters: where several speak for
//! one thing the oldest wins, then the first by namespace and name.

pub mod host;
mod mesh;
pub mod protocol;

use std::sync::Arc;

use mesh_api::istio::AnyObject;

pub use mesh::MeshConfig;

/// All objects at one instant.
#[derive(Debug, Clone)]
pub struct Store {
    mesh: Arc<MeshConfig>,
    objects: Vec<Arc<AnyObject>>,
}

impl Store {
    /// Indexes the objects. Of several with the same kind, namespace and name the last one counts.
    pub fn build(objects: impl IntoIterator<Item = Arc<AnyObject>>, mesh: Arc<MeshConfig>) -> Self {
        let mut objects: Vec<_> = objects.into_iter().collect();
        objects.sort_by(|a, b| (a.kind(), a.namespace(), a.name()).cmp(&(b.kind(), b.namespace(), b.name())));
        Store { mesh, objects }
    }

    /// Mesh-wide settings.
    pub fn mesh(&self) -> &MeshConfig {
        &self.mesh
    }

    /// All objects, by kind, namespace and name.
    pub fn objects(&self) -> &[Arc<AnyObject>] {
        &self.objects
    }
}
