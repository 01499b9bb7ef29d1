//! The objects that a command looks at: of a cluster, of files, or of both.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use jiff::Timestamp;
use mesh_api::istio::{AnyObject, ObjectMeta};
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

/// The cluster as it would be with these files applied: what is there keeps its age, and what is new is the youngest, which
/// decides where two objects are for the same host.
pub(crate) fn with_files(mut cluster: Loaded, mut files: Loaded, now: Timestamp) -> Loaded {
    let key = |o: &AnyObject| (o.kind(), o.namespace().to_owned(), o.name().to_owned());
    let mut ages = HashMap::new();
    for object in &mut cluster.objects {
        let key = key(object);
        if let Some(meta) = meta(Arc::make_mut(object)) {
            ages.insert(key, meta.creation_timestamp);
        }
    }
    for object in &mut files.objects {
        let age = ages.get(&key(object)).copied().flatten();
        if let Some(meta) = meta(Arc::make_mut(object)) {
            meta.creation_timestamp = age.or(meta.creation_timestamp).or(Some(now));
        }
    }
    cluster.overlay(files);
    cluster
}

/// Of the kinds whose age counts.
fn meta(object: &mut AnyObject) -> Option<&mut ObjectMeta> {
    Some(match object {
        AnyObject::VirtualService(o) => &mut o.meta,
        AnyObject::DestinationRule(o) => &mut o.meta,
        AnyObject::Gateway(o) => &mut o.meta,
        AnyObject::ServiceEntry(o) => &mut o.meta,
        AnyObject::Sidecar(o) => &mut o.meta,
        AnyObject::EnvoyFilter(o) => &mut o.meta,
        AnyObject::PeerAuthentication(o) => &mut o.meta,
        _ => return None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(name: &str, created: &str, namespace: &str) -> Loaded {
        let dir = tempfile::tempdir().expect("dir");
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
             metadata: {{name: {name}, namespace: {namespace}{created}}}\n\
             spec: {{hosts: [web], http: [{{route: [{{destination: {{host: web}}}}]}}]}}\n"
        );
        let file = dir.path().join("vs.yaml");
        std::fs::write(&file, text).expect("written");
        of_files(&[file]).expect("read")
    }

    #[test]
    fn what_is_new_is_the_youngest() {
        let old = ", creationTimestamp: '2026-01-02T00:00:00Z'";
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().expect("a time");
        for (name, expected) in [("there", "2026-01-02T00:00:00Z"), ("new", "2026-06-01T00:00:00Z")] {
            let mut both = with_files(loaded("there", old, "shop"), loaded(name, "", "shop"), now);
            let found = both.objects.iter_mut().find(|o| o.name() == name);
            let meta = meta(Arc::make_mut(found.expect("it"))).expect("a VirtualService");
            assert_eq!(
                meta.creation_timestamp.map(|t| t.to_string()).as_deref(),
                Some(expected),
                "{name}"
            );
        }
    }
}
