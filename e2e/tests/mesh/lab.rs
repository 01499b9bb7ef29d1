//! The labs' shop: webapp before catalog, a client with a sidecar and one without.
//!
//! [`Lab::apply`] returns when the change is in force: new pods are ready, the control plane has read it, and every proxy
//! has taken what follows from it. So a test acts, and asserts right after it; no answer by luck can be taken for the
//! change. [`Lab::until`] is for what goes on after that: the lookup of a DNS cluster, connections that are closed because
//! a policy now forbids them, and whatever a test changes past `apply`. What it asks for must be the exact state that the
//! next lines rely on.

use std::path::Path;
use std::time::Duration;

use e2e::netns::Family;
use e2e::runner::{Answer, Call, Mesh, Options};
use e2e::testing::{eventually, mesh_or_skip};
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

/// For everything that has to come true; far more than it takes, since machines that run tests are busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The catalog in two versions, all traffic on the first.
pub(crate) const CATALOG: &[&str] = &[
    "services/catalog.yaml",
    "services/catalog-deployment-v2.yaml",
    "ch2/catalog-destinationrule.yaml",
    "ch2/catalog-virtualservice-all-v1.yaml",
];

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const CLIENTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: istioinaction
  labels: {istio-injection: enabled}
---
apiVersion: v1
kind: Pod
metadata: {name: inside, labels: {app: inside}}
spec:
  containers: [{name: shell, image: nicolaka/netshoot}]
---
apiVersion: v1
kind: Pod
metadata: {name: outside, namespace: default}
spec:
  containers: [{name: shell, image: nicolaka/netshoot}]
"#;

/// A running mesh with the clients.
pub(crate) struct Lab {
    /// The mesh; it ends before the next test's begins.
    pub(crate) mesh: Mesh,
    _turn: MutexGuard<'static, ()>,
}

impl Lab {
    /// Starts; `None` where the test must be left out.
    pub(crate) fn start(test: &str, labs: &[&str]) -> Option<Lab> {
        Lab::start_with(test, labs, "")
    }

    /// As [`Lab::start`], with more objects.
    pub(crate) fn start_with(test: &str, labs: &[&str], more: &str) -> Option<Lab> {
        Lab::start_in(Family::V4, test, labs, more)
    }

    /// As [`Lab::start_with`], with addresses of the given family.
    pub(crate) fn start_in(family: Family, test: &str, labs: &[&str], more: &str) -> Option<Lab> {
        let options = Options {
            family,
            ..Options::default()
        };
        Lab::start_as(test, options, labs, more)
    }

    /// As [`Lab::start_with`], with other options.
    pub(crate) fn start_as(test: &str, options: Options, labs: &[&str], more: &str) -> Option<Lab> {
        let turn = ONE_AT_A_TIME.lock();
        let options = Options {
            namespace: "istioinaction".to_owned(),
            ..options
        };
        let lab = Lab {
            mesh: mesh_or_skip(test, options)?,
            _turn: turn,
        };
        if std::env::var_os("KEEP_LOGS").is_some() {
            lab.mesh.keep_files();
        }
        // All at once, so that pods start beside one another.
        lab.send(CLIENTS);
        labs.iter().for_each(|path| lab.send(&lab_file(path)));
        if !more.is_empty() {
            lab.send(more);
        }
        lab.wait_in_force();
        Some(lab)
    }

    /// Applies YAML in namespace istioinaction, and waits until it is in force everywhere.
    #[track_caller]
    pub(crate) fn apply(&self, yaml: &str) {
        self.send(yaml);
        self.wait_in_force();
    }

    /// Applies a file of the labs, and waits until it is in force everywhere.
    #[track_caller]
    pub(crate) fn apply_lab(&self, path: &str) {
        self.apply(&lab_file(path));
    }

    /// Applies YAML without waiting for anything.
    #[track_caller]
    pub(crate) fn send(&self, yaml: &str) {
        if let Err(error) = self.mesh.apply(yaml) {
            panic!("{error:#}\nin\n{yaml}");
        }
    }

    /// Waits until pods are ready, and all proxies hold what follows from the folder of configuration as it is now.
    #[track_caller]
    pub(crate) fn wait_in_force(&self) {
        let ready = self.mesh.wait_ready(LIMIT);
        if let Err(error) = ready.and_then(|()| self.mesh.wait_in_force(LIMIT)) {
            panic!("{error:#}");
        }
    }

    /// Runs a client in a pod.
    pub(crate) fn client(&self, pod: &str, line: &str) -> Value {
        let arguments: Vec<&str> = line.split_whitespace().collect();
        match self.mesh.client(pod, &arguments) {
            Ok(report) => report,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// A `GET` through the ingress gateway.
    pub(crate) fn ingress(&self, host: &str, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.mesh.http(Call {
            authority: host.to_owned(),
            headers: headers.collect(),
            ..Call::get(self.mesh.gateway()?, path)
        })
    }

    /// Waits until something holds.
    pub(crate) fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        eventually(what, LIMIT, holds);
    }

    /// How many of `count` requests through the ingress gateway are answered with 200.
    pub(crate) fn ingress_good(&self, host: &str, path: &str, count: usize) -> usize {
        let good = |_: &usize| self.ingress(host, path, &[]).is_ok_and(|answer| answer.status == 200);
        (0..count).filter(good).count()
    }

    /// How many of `count` requests to the catalog version 2 answered, all of which must be answered well.
    #[track_caller]
    pub(crate) fn version_2(&self, count: u64, more: &str) -> u64 {
        let line = format!("load http://catalog/items/1 --requests {count} --count-by json:/imageUrl {more}");
        let report = self.client("inside", &line);
        assert_eq!(report["ok"], count, "not all requests were answered: {report:#}");
        count - report["by_value"]["-"].as_u64().unwrap_or_default()
    }
}

/// The route of the catalog, with weights for its two versions.
pub(crate) fn catalog_weights(v1: u32, v2: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: catalog}}\nspec:\n  hosts: [catalog]\n  http:\n  - route:\n    \
         - {{destination: {{host: catalog, subset: version-v1}}, weight: {v1}}}\n    - {{destination: {{host: catalog, subset: version-v2}}, weight: {v2}}}\n"
    )
}

/// A file of the labs.
pub(crate) fn lab_file(path: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
