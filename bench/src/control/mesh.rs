//! Meshes made up for the measurement: so many services with ten Pods each, written as a folder of YAML.

use std::cell::Cell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Services of one namespace.
const PER_NAMESPACE: usize = 20;
/// Endpoints of one service.
pub(crate) const ENDPOINTS: usize = 10;
/// One service in so many has a VirtualService and a DestinationRule.
const WITH_RULES: usize = 10;

/// A generated mesh.
#[derive(Debug)]
pub(crate) struct Mesh {
    folder: PathBuf,
    pub(crate) services: usize,
    /// Changes so far: each gives another address.
    rounds: Cell<usize>,
}

impl Mesh {
    /// Writes it: two files a service, as whoever changes Pods does not touch the rest.
    pub(crate) fn write(folder: &Path, services: usize) -> Result<Self> {
        let mesh = Self {
            folder: folder.to_owned(),
            services,
            rounds: Cell::new(0),
        };
        for number in 0..services {
            let folder = mesh.folder.join(namespace(number));
            if number % PER_NAMESPACE == 0 {
                std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
                let name = namespace(number);
                let text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
                std::fs::write(folder.join("namespace.yaml"), text)?;
            }
            std::fs::write(folder.join(format!("{}.yaml", name(number))), objects(number))?;
            mesh.write_pods(number, 0)?;
        }
        Ok(mesh)
    }

    /// Moves the first Pod of another service to another address: in one step, as a careful writer does.
    pub(crate) fn change(&self) -> Result<()> {
        let round = self.rounds.get() + 1;
        self.rounds.set(round);
        self.write_pods(round * 7 % self.services.max(1), round)
    }

    fn write_pods(&self, number: usize, round: usize) -> Result<()> {
        let folder = self.folder.join(namespace(number));
        let draft = folder.join(format!(".{}.draft", name(number)));
        std::fs::write(&draft, pods(number, round))?;
        let file = folder.join(format!("{}-pods.yaml", name(number)));
        std::fs::rename(&draft, &file).with_context(|| file.display().to_string())
    }

    /// Node id of the proxy beside one of the Pods; numbers go through all services before they come to the next Pod.
    pub(crate) fn node(&self, proxy: usize) -> (String, String) {
        let number = proxy % self.services.max(1);
        let pod = (proxy / self.services.max(1) + 1) % ENDPOINTS;
        let (name, namespace) = (name(number), namespace(number));
        let id = format!(
            "sidecar~{}~{name}-{pod}.{namespace}~{namespace}.svc.cluster.local",
            address(number, pod, 0)
        );
        (id, name)
    }
}

fn namespace(number: usize) -> String {
    format!("team-{:03}", number / PER_NAMESPACE)
}

fn name(number: usize) -> String {
    format!("service-{number:05}")
}

/// An address of 10.0.0.0/9; after a change, of 10.128.0.0/9.
fn address(number: usize, pod: usize, round: usize) -> String {
    let half = if round == 0 || pod != 0 { 0 } else { 1 << 23 };
    let rest = if pod == 0 { round % 8 * (1 << 20) } else { 0 };
    let host = half + (rest + number * ENDPOINTS + pod + 1) % (1 << 23);
    format!("10.{}.{}.{}", host >> 16, (host >> 8) & 255, host & 255)
}

fn objects(number: usize) -> String {
    let (name, namespace) = (name(number), namespace(number));
    let mut text = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  clusterIP: 172.{}.{}.{}
  ports:
  - {{name: http, port: 80, targetPort: 8080}}
  selector: {{app: {name}}}
",
        16 + (number >> 16),
        (number >> 8) & 255,
        number & 255
    );
    if number.is_multiple_of(WITH_RULES) {
        let _ = write!(
            text,
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: [{name}]
  http:
  - match: [{{headers: {{x-canary: {{exact: \"yes\"}}}}}}]
    route: [{{destination: {{host: {name}, subset: v2}}}}]
  - route:
    - {{destination: {{host: {name}, subset: v1}}, weight: 90}}
    - {{destination: {{host: {name}, subset: v2}}, weight: 10}}
    timeout: 5s
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  host: {name}
  trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 100}}}}}}
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
"
        );
    }
    text
}

fn pods(number: usize, round: usize) -> String {
    let (name, namespace) = (name(number), namespace(number));
    let mut text = String::new();
    for pod in 0..ENDPOINTS {
        let version = if pod < ENDPOINTS / 2 { "v1" } else { "v2" };
        let _ = write!(
            text,
            "{}apiVersion: v1
kind: Pod
metadata:
  name: {name}-{pod}
  namespace: {namespace}
  labels: {{app: {name}, version: {version}, security.istio.io/tlsMode: istio}}
spec:
  serviceAccountName: {name}
  containers: [{{name: app, ports: [{{containerPort: 8080}}]}}]
status: {{phase: Running, podIP: {}}}
",
            if pod == 0 { "" } else { "---\n" },
            address(number, pod, round)
        );
    }
    text
}
