//! What one sidecar costs when nothing is known beforehand, in this process.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use mesh_api::envoy::json::Json;
use mesh_api::names::NodeId;
use mesh_control::compile::{Proxy, compile, packed};
use mesh_control::source::directory::Directory;
use mesh_control::source::mesh::MeshSource;
use mesh_control::store::Store;
use serde::Serialize;

use super::mesh::Mesh;

/// The kernel counts a thread's CPU in ticks of some milliseconds, so single figures are coarse and their mean is not.
const REPEAT: u32 = 20;

/// Figures of one mesh.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Cold {
    /// CPU to read and parse the folder.
    pub(crate) load_ms: f64,
    /// CPU to index all objects.
    pub(crate) store_ms: f64,
    /// CPU to make the messages of one sidecar.
    pub(crate) compile_ms: f64,
    /// CPU to bring them into their canonical bytes, with versions.
    pub(crate) pack_ms: f64,
    pub(crate) resources: usize,
    pub(crate) bytes: usize,
}

/// Measures.
pub(crate) fn measure(folder: &Path, mesh: &Mesh) -> Result<Cold> {
    let (id, app) = mesh.node(0);
    let proxy = Proxy::new(NodeId::parse(&id)?, [("app".to_owned(), app)].into());
    let json = Json::new();
    let (mut loaded, load) = timed(|| Directory::new(folder).load());
    anyhow::ensure!(
        loaded.diagnostics.is_empty(),
        "the mesh is wrong: {}",
        loaded.diagnostics[0]
    );
    let config = MeshSource::new(None, None).load(&mut loaded);
    let (mut store, mut compiling, mut packing) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (mut resources, mut bytes) = (0, 0);
    for _ in 0..REPEAT {
        let (indexed, took) = timed(|| Store::build(loaded.objects.iter().cloned(), config.clone()));
        store += took;
        let (compiled, took) = timed(|| compile(&indexed, &proxy));
        compiling += took;
        let (all, took) = timed(|| packed(&json, compiled));
        packing += took;
        resources = all.values().map(std::collections::BTreeMap::len).sum();
        bytes = all.values().flat_map(|t| t.values()).map(|r| r.any.value.len()).sum();
    }
    Ok(Cold {
        load_ms: ms(load),
        store_ms: ms(store / REPEAT),
        compile_ms: ms(compiling / REPEAT),
        pack_ms: ms(packing / REPEAT),
        resources,
        bytes,
    })
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let before = cpu();
    let out = work();
    (out, cpu().saturating_sub(before))
}

/// CPU of the calling thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|t| t.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
