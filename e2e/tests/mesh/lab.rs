//! The labs' shop: webapp before catalog, a client with a sidecar and one without.

use std::path::Path;
use std::time::Duration;

use e2e::runner::{Answer, Call, Mesh, Options};
use e2e::testing::{eventually, mesh_or_skip};
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

/// For everything that has to come true.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

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
        let turn = ONE_AT_A_TIME.lock();
        let options = Options {
            namespace: "istioinaction".to_owned(),
            ..Options::default()
        };
        let lab = Lab {
            mesh: mesh_or_skip(test, options)?,
            _turn: turn,
        };
        if std::env::var_os("KEEP_LOGS").is_some() {
            lab.mesh.keep_files();
        }
        lab.apply(CLIENTS);
        for path in labs {
            lab.apply_lab(path);
        }
        if !more.is_empty() {
            lab.apply(more);
        }
        if let Err(error) = lab.mesh.wait_ready(Duration::from_secs(60)) {
            panic!("{test}: {error:#}");
        }
        Some(lab)
    }

    /// Applies YAML in namespace istioinaction.
    pub(crate) fn apply(&self, yaml: &str) {
        if let Err(error) = self.mesh.apply(yaml) {
            panic!("{error:#}\nin\n{yaml}");
        }
    }

    /// Applies a file of the labs.
    pub(crate) fn apply_lab(&self, path: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs").join(path);
        self.apply(&std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
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

    /// How many of `count` requests to the catalog version 2 answered, all of which must be answered well.
    #[track_caller]
    pub(crate) fn version_2(&self, count: u64, more: &str) -> u64 {
        match self.try_version_2(count, more) {
            Ok(v2) => v2,
            Err(report) => panic!("not all requests were answered: {report:#}"),
        }
    }

    /// As [`Lab::version_2`], for a time in which requests may still fail; gives the report if one does.
    pub(crate) fn try_version_2(&self, count: u64, more: &str) -> Result<u64, Value> {
        let line = format!("load http://catalog/items/1 --requests {count} --count-by json:/imageUrl {more}");
        let report = self.client("inside", &line);
        if report["ok"] != count {
            return Err(report);
        }
        let v1 = report["by_value"]["-"].as_u64().unwrap_or_default();
        Ok(count - v1)
    }
}
