//! The objects that a command looks at: of a cluster, of files, or of both.

use std::path::PathBuf;

use anyhow::{Result, bail};
use mesh_control::source::Loaded;
use mesh_control::source::directory::Directory;
use mesh_control::source::kubernetes::Kubernetes;
use mesh_control::source::mesh::MeshSource;
use mesh_control::store::Store;

use crate::cluster::Cluster;

/// ConfigMap of the mesh's settings.
const SETTINGS: &str = "istio";

/// What was read, and the same in order.
pub(crate) struct Objects {
    /// The objects, indexed.
    pub(crate) store: Store,
    /// Where they stand, and what was wrong with reading them.
    pub(crate) loaded: Loaded,
}

impl Objects {
    /// With the settings of the mesh: those of the file if there is one, else of the ConfigMap `istio`.
    pub(crate) fn of(mut loaded: Loaded, mesh_config: Option<PathBuf>) -> Self {
        let mesh = MeshSource::new(mesh_config, None).load(&mut loaded);
        let store = Store::build(loaded.objects.iter().cloned(), mesh);
        Objects { store, loaded }
    }
}

/// Everything of a cluster that the mesh reads.
pub(crate) async fn of_cluster(cluster: &Cluster) -> Result<Loaded> {
    let settings = [SETTINGS.to_owned()];
    let objects = Kubernetes::open(&cluster.client, &cluster.root, &settings).await?;
    Ok(objects.load())
}

/// Everything of files, and of the `.yaml`, `.yml` and `.json` files of folders.
pub(crate) fn of_files(paths: &[PathBuf]) -> Result<Loaded> {
    for path in paths {
        if !path.exists() {
            bail!("there is no file or folder {}", path.display());
        }
    }
    Ok(Directory::of(paths.to_vec()).load())
}
