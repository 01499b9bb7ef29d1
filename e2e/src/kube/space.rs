//! A namespace of a scenario, and what scenarios do in it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::kubectl::{Kubectl, finish, join};
use super::run::Turn;
use crate::sample::client::load::Report;

/// Label of every namespace that a scenario makes, with the scenario's name.
pub(super) const LABEL: &str = "e2e.ferromesh/scenario";
/// For everything that has to come true; far more than it takes, since machines that run tests are busy.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// Whether pods of a namespace get a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mesh {
    /// `istio-injection=enabled`.
    Inside,
    /// No label.
    Outside,
}

/// A namespace.
pub(super) struct Space {
    pub(super) kubectl: Kubectl,
    pub(super) name: String,
    image: String,
}

impl Turn<'_> {
    /// A new namespace, named after the scenario.
    pub(super) fn space(&self, name: &str, mesh: Mesh) -> Result<Space> {
        self.space_named(&format!("{}-{name}", self.name.replace('_', "-")), mesh)
    }

    /// A new namespace of this name.
    pub(super) fn space_named(&self, name: &str, mesh: Mesh) -> Result<Space> {
        let kubectl = self.world.kubectl.within(name);
        self.remove_old(&kubectl, name)?;
        kubectl.run(&["create", "namespace", name])?;
        kubectl.run(&["label", "namespace", name, &format!("{LABEL}={}", self.name)])?;
        if mesh == Mesh::Inside {
            kubectl.run(&["label", "namespace", name, "istio-injection=enabled"])?;
        }
        Ok(Space {
            kubectl,
            name: name.to_owned(),
            image: self.world.image.clone(),
        })
    }

    /// Deletes a namespace that an interrupted run has left; one of somebody else stays.
    fn remove_old(&self, kubectl: &Kubectl, name: &str) -> Result<()> {
        let there = kubectl.run(&["get", "namespace", name, "--ignore-not-found", "-o", "name"])?;
        if there.is_empty() {
            return Ok(());
        }
        ensure!(
            kubectl.get(&["namespace", name])?["metadata"]["labels"][LABEL] == self.name,
            "namespace {name} is there and was not made by this scenario (no label {LABEL}={}); delete it, or take another cluster",
            self.name
        );
        kubectl.run(&["delete", "namespace", name, "--timeout=90s"]).map(drop)
    }

    /// Deletes the scenario's namespaces, and waits until they are gone.
    pub(super) fn clear(&self) {
        let selector = format!("{LABEL}={}", self.name);
        let deleted = self
            .world
            .kubectl
            .run(&["delete", "namespace", "-l", &selector, "--timeout=120s"]);
        if let Err(error) = deleted {
            println!("  the namespaces of {} stay: {error:#}", self.name);
        }
    }

    /// The mesh's command line, on the cluster of the scenarios.
    pub(super) fn meshctl(&self, args: &[&str], input: Option<&str>) -> Result<String> {
        let program = std::env::current_exe()?.with_file_name("meshctl");
        let mut meshctl = Command::new(program);
        meshctl.args(args).args(["-i", &self.world.system]).stdin(Stdio::null());
        if let Some(kubeconfig) = self.world.kubectl.kubeconfig() {
            meshctl.arg("--kubeconfig").arg(kubeconfig);
        }
        finish(meshctl, input)
    }

    /// The mesh's own namespace.
    pub(super) fn system(&self) -> Kubectl {
        self.world.kubectl.within(&self.world.system)
    }
}

impl Space {
    /// Applies YAML, with the sample application where it says `image: IMAGE`.
    pub(super) fn apply(&self, yaml: &str) -> Result<()> {
        let image = format!("image: {}", self.image);
        self.kubectl.apply(&yaml.replace("image: IMAGE", &image)).map(drop)
    }

    /// Applies a file of the labs as it is.
    pub(super) fn apply_lab(&self, path: &str) -> Result<()> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs").join(path);
        let yaml = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        self.kubectl.apply(&yaml).map(drop)
    }

    /// Waits until a Deployment or StatefulSet (`deploy/NAME`) runs as it is written.
    pub(super) fn rolled_out(&self, workload: &str) -> Result<()> {
        let timeout = format!("--timeout={}s", LIMIT.as_secs());
        self.kubectl.run(&["rollout", "status", workload, &timeout]).map(drop)
    }

    /// A pod that waits for commands, with the label `app` of its name.
    pub(super) fn client(&self, name: &str) -> Result<()> {
        self.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n  \
             terminationGracePeriodSeconds: 1\n  containers:\n  - name: app\n    image: IMAGE\n    \
             env: [{{name: SAMPLE_IMAGE, value: netshoot}}]\n"
        ))?;
        self.ready(&format!("pod/{name}"))
    }

    /// Waits until a pod is Ready.
    pub(super) fn ready(&self, pod: &str) -> Result<()> {
        let timeout = format!("--timeout={}s", LIMIT.as_secs());
        self.kubectl
            .run(&["wait", "--for=condition=Ready", pod, &timeout])
            .map(drop)
    }

    /// A Deployment of the sample application that plays fake-service, with a Service: HTTP on port 80, HTTP/2 on 8081, and
    /// gRPC on 8082.
    pub(super) fn service(&self, name: &str, replicas: u32, environment: &[(&str, &str)]) -> Result<()> {
        self.apply(&deployment(name, replicas, environment))?;
        self.rolled_out(&format!("deploy/{name}"))
    }

    /// `curl` in a pod.
    pub(super) fn curl(&self, pod: &str, args: &[&str]) -> Result<Answer> {
        let said = self.kubectl.exec(pod, "app", &[&CURL[..], args].concat());
        Answer::read(said)
    }

    /// The load client in a pod, to its end.
    pub(super) fn load(&self, pod: &str, line: &str) -> Result<Report> {
        report(self.kubectl.exec_beside(pod, "app", &load_words(line))?)
    }

    /// The load client in a pod, beside the scenario, until [`report`] asks for what came of it.
    pub(super) fn load_beside(&self, pod: &str, line: &str) -> Result<Child> {
        let program = [&load_words(line)[..], &["--until-eof"]].concat();
        self.kubectl
            .command(&[&["exec", "-i", pod, "-c", "app", "--"], &program[..]].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start kubectl")
    }

    /// Names of the containers of the pods with a label, one list a pod: init containers, then the others.
    pub(super) fn containers(&self, selector: &str) -> Result<Vec<(Vec<String>, Vec<String>)>> {
        let pods = self.kubectl.get(&["pods", "-l", selector])?;
        let names = |list: &Value| -> Vec<String> {
            let list = list.as_array().into_iter().flatten();
            list.filter_map(|c| Some(c["name"].as_str()?.to_owned())).collect()
        };
        let pods = pods["items"].as_array().into_iter().flatten();
        Ok(pods
            .map(|pod| (names(&pod["spec"]["initContainers"]), names(&pod["spec"]["containers"])))
            .collect())
    }
}

fn load_words(line: &str) -> Vec<&str> {
    let client = ["e2e-sample", "client", "load"].into_iter();
    client.chain(line.split_whitespace()).collect()
}

/// What the load client reports; its standard input ends, and with it a load that goes on beside the scenario.
pub(super) fn report(client: Child) -> Result<Report> {
    let said = join(client)?;
    serde_json::from_str(&said).with_context(|| said)
}

/// A Deployment and its Service.
pub(super) fn deployment(name: &str, replicas: u32, environment: &[(&str, &str)]) -> String {
    service(name) + &pods(name, name, "v1", replicas, environment)
}

/// A Service for the pods with the label `app` of its name.
pub(super) fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: {name}}}\n  \
         ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: http2, port: 8081}}, {{name: grpc, port: 8082}}]\n---\n"
    )
}

/// A Deployment with the labels `app` and `version`.
pub(super) fn pods(name: &str, app: &str, version: &str, replicas: u32, environment: &[(&str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: {app}, version: {version}}}}}\n  template:\n    \
         metadata: {{labels: {{app: {app}, version: {version}}}}}\n    \
         spec:\n      terminationGracePeriodSeconds: 10\n      containers:\n      - name: app\n        image: IMAGE\n        \
         ports: [{{containerPort: 8080}}]\n        \
         readinessProbe: {{httpGet: {{path: /health, port: 8080}}, periodSeconds: 1}}\n        env:\n        \
         - {{name: SAMPLE_IMAGE, value: \"nicholasjackson/fake-service:v0.17.0\"}}\n        \
         - {{name: LISTEN_ADDR, value: \"0.0.0.0:8080,0.0.0.0:8081,0.0.0.0:8082\"}}\n        - {{name: NAME, value: {name}}}\n"
    );
    for (name, value) in environment {
        text += &format!("        - {{name: {name}, value: {value:?}}}\n");
    }
    text
}

const CURL: [&str; 6] = ["curl", "-s", "-m", "10", "-w", "\n%{http_code}"];

/// What `curl` got.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Answer {
    fn read(said: Result<String>) -> Result<Answer> {
        let said = said?;
        let (body, status) = said.rsplit_once('\n').unwrap_or(("", &said));
        Ok(Answer {
            status: status.trim().parse().with_context(|| said.clone())?,
            body: body.to_owned(),
        })
    }

    /// Itself, if the status is this one.
    pub(super) fn with(self, status: u16) -> Result<Answer> {
        ensure!(
            self.status == status,
            "{} in place of {status}: {}",
            self.status,
            self.body
        );
        Ok(self)
    }
}

/// `curl` on this machine.
pub(super) fn curl_here(args: &[&str]) -> Result<Answer> {
    let mut curl = Command::new(CURL[0]);
    curl.args(&CURL[1..]).args(args);
    Answer::read(finish(curl, None))
}

/// Tries until it is well; the error is that of the last try.
pub(super) fn until<T>(what: &str, mut holds: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        match holds() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > end => return Err(error.context(format!("not within {LIMIT:?}: {what}"))),
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

/// Must hold: `expected` of the text.
pub(super) fn contains(text: &str, expected: &str) -> Result<()> {
    if !text.contains(expected) {
        bail!("no {expected:?} in:\n{text}");
    }
    Ok(())
}
