//! Measurements of the mesh on this machine. Nothing here passes or fails: the figures are for people.

mod footprint;
mod propagation;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;

use crate::runner::{Mesh, Options};

/// What to measure.
#[derive(Debug, clap::Parser)]
#[command(name = "e2e-bench", about = "Measure the mesh on this machine")]
pub enum Bench {
    /// How long a change in the folder of YAML takes until it is in force in every proxy.
    Propagation {
        /// Changes to make.
        #[arg(long, default_value_t = 50)]
        changes: usize,
        /// Pods with a sidecar that have to see each change.
        #[arg(long, default_value_t = 10)]
        pods: usize,
        /// Write the distribution as SVG.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Resident memory when idle, time from start to ready, sizes of the programs.
    Footprint,
}

/// Measures and prints.
///
/// # Errors
/// When the mesh does not start, or a change never arrives.
pub fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Propagation { changes, pods, svg } => propagation::run(*changes, *pods, svg.as_deref()),
        Bench::Footprint => footprint::run(),
    }
}

fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

const NAMESPACE: &str = "bench";

/// A mesh with one service, `web`, of so many pods, and a second, `echo`, that they call.
fn mesh(pods: usize) -> Result<Mesh> {
    let mesh = Mesh::start(Options {
        namespace: NAMESPACE.to_owned(),
        ..Options::default()
    })?;
    let mut yaml = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels: {{istio-injection: enabled}}\n"
    );
    for (name, replicas) in [("web", pods), ("echo", 1)] {
        yaml.push_str(&format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - name: {name}
        image: nicholasjackson/fake-service:v0.17.0
        env: [{{name: LISTEN_ADDR, value: \"0.0.0.0:8080\"}}, {{name: NAME, value: {name}}}]
        ports: [{{containerPort: 8080}}]
"
        ));
    }
    mesh.apply(&yaml)?;
    mesh.wait_ready(std::time::Duration::from_secs(60))?;
    Ok(mesh)
}
