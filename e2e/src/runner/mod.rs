//! A mesh on this machine from ordinary Kubernetes YAML: pods are network namespaces, images are played by the sample
//! application, and everything else is the real thing: capture rules, proxies, control plane, certificates.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use std::time::Duration;
//! use e2e::runner::{Mesh, Options};
//!
//! let mesh = Mesh::start(Options::default())?;
//! mesh.apply(&std::fs::read_to_string("labs/services/catalog.yaml")?)?;
//! mesh.wait_ready(Duration::from_secs(30))?;
//! # Ok(())
//! # }
//! ```
//!
//! Dropping a [`Mesh`] ends and removes all of it.

pub mod control;
pub mod dns;
pub mod folder;
pub mod gateway;
pub mod http;
mod in_force;
mod monitor;
pub mod objects;
pub mod plan;
pub mod pod;
pub mod process;
mod rollout;
pub mod services;
pub mod sidecar;
pub mod state;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use serde_json::Value;

pub use self::http::{Answer, Call};
pub use objects::Key;
pub use plan::Injection;
pub use state::Change;

use crate::netns::capture::Capture;
use crate::netns::{Family, Space, enter};
use monitor::Monitor;
use pod::Pod;
use process::{Program, User};
use state::State;

/// Name of the node on which pods are that name none.
pub const NODE: &str = "local";

/// How to run a mesh.
#[derive(Debug, Clone)]
pub struct Options {
    /// Namespace of objects that name none, as `kubectl -n` has it. It is made if it does not exist.
    pub namespace: String,
    /// MeshConfig as YAML.
    pub mesh_config: Option<String>,
    /// Defaults of ProxyConfig, under the pods' own.
    pub proxy_config: Value,
    /// Whether pods and Services have IPv4 or IPv6 addresses.
    pub family: Family,
    /// Folder of our programs; else `FERROMESH_BIN_DIR`, else where this program is.
    pub programs: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            namespace: "default".to_owned(),
            mesh_config: None,
            proxy_config: Value::Null,
            family: Family::default(),
            programs: None,
        }
    }
}

/// What is known of a pod.
#[derive(Debug, Clone)]
pub struct PodInfo {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Deployment, or the pod itself.
    pub workload: String,
    /// Address.
    pub ip: IpAddr,
    /// Whether it takes traffic.
    pub ready: bool,
    /// What runs beside the application.
    pub injection: Injection,
    /// Labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Its network namespace.
    pub space: Space,
    /// Process id of the proxy.
    pub proxy_pid: Option<u32>,
}

/// A running mesh. All functions may be called from several threads.
#[derive(Debug)]
pub struct Mesh {
    // Ends first: it must not look at pods that are going.
    _monitor: Monitor,
    state: Arc<Mutex<State>>,
    namespace: String,
}

impl Mesh {
    /// Starts the network and the control plane.
    ///
    /// # Errors
    /// When the machine does not have what is needed, or something does not start; the text says what to do.
    pub fn start(options: Options) -> Result<Mesh> {
        let namespace = options.namespace.clone();
        let state = Arc::new(Mutex::new(State::start(options)?));
        Ok(Mesh {
            _monitor: Monitor::start(Arc::clone(&state))?,
            state,
            namespace,
        })
    }

    /// Takes the objects of a text into force. New pods are started but not yet ready; see [`Mesh::wait_ready`].
    ///
    /// # Errors
    /// When the text cannot be read, or an object cannot be taken: the others are in force then nevertheless.
    pub fn apply(&self, yaml: &str) -> Result<Vec<(Key, Change)>> {
        self.apply_in(&self.namespace, yaml)
    }

    /// As [`Mesh::apply`], with another namespace for objects that name none.
    ///
    /// # Errors
    /// As [`Mesh::apply`].
    pub fn apply_in(&self, namespace: &str, yaml: &str) -> Result<Vec<(Key, Change)>> {
        self.state.lock().apply(yaml, namespace)
    }

    /// Removes an object; a Deployment's pods go with it.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        self.state.lock().delete(&Key::new(kind, namespace, name))
    }

    /// Whether there is such an object.
    pub fn has(&self, kind: &str, namespace: &str, name: &str) -> bool {
        self.state.lock().has(&Key::new(kind, namespace, name))
    }

    /// Gives a Deployment another number of pods.
    ///
    /// # Errors
    /// When there is no such Deployment, or a pod cannot be started.
    pub fn scale(&self, namespace: &str, deployment: &str, replicas: u32) -> Result<()> {
        self.state.lock().scale(namespace, deployment, replicas)
    }

    /// Folder of YAML that the control plane reads; it may be edited by hand.
    pub fn config_folder(&self) -> PathBuf {
        self.state.lock().folder.config()
    }

    /// Folder of logs, one file a program.
    pub fn logs(&self) -> PathBuf {
        self.state.lock().folder.logs()
    }

    /// Private folder of a pod's proxy: its token, and in `data` what it keeps.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn proxy_folder(&self, pod: &str) -> Result<PathBuf> {
        let pod = self.pod(pod)?;
        Ok(self.state.lock().folder.pod(&pod.namespace, &pod.name))
    }

    /// Folder of the CA, its root and bundle.
    pub fn ca_folder(&self) -> PathBuf {
        self.state.lock().folder.ca()
    }

    /// Leaves logs and YAML behind when the mesh ends.
    pub fn keep_files(&self) {
        self.state.lock().network.keep_files();
    }

    /// All pods.
    pub fn pods(&self) -> Vec<PodInfo> {
        self.state.lock().pods.values().map(info).collect()
    }

    /// The first pod of this name, Deployment or `app` label.
    ///
    /// # Errors
    /// When there is none.
    pub fn pod(&self, name: &str) -> Result<PodInfo> {
        let pods = self.pods();
        let by = |test: &dyn Fn(&PodInfo) -> bool| pods.iter().find(|pod| test(pod)).cloned();
        by(&|pod| pod.name == name)
            .or_else(|| by(&|pod| pod.workload == name))
            .or_else(|| by(&|pod| pod.labels.get("app").is_some_and(|app| app == name)))
            .with_context(|| format!("there is no pod {name}"))
    }

    /// Waits until all pods are ready.
    ///
    /// # Errors
    /// When a program ends, or it takes too long; the error has the last lines of the logs concerned.
    pub fn wait_ready(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let waiting = {
                let mut state = self.state.lock();
                let mut waiting = Vec::new();
                for pod in state.pods.values_mut().filter(|pod| !pod.ready) {
                    let ended = pod.ended();
                    if !ended.is_empty() {
                        bail!("{}", ended.join("\n"));
                    }
                    waiting.push(format!(
                        "pod {}/{} is not ready:\n{}",
                        pod.plan.namespace,
                        pod.plan.name,
                        pod.last_words()
                    ));
                }
                waiting
            };
            if waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("after {limit:?}: {}", waiting.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Address and port 80 of the ingress gateway.
    ///
    /// # Errors
    /// When there is none: apply a Gateway that selects `istio: ingressgateway`.
    pub fn gateway(&self) -> Result<SocketAddr> {
        let pods = self.pods();
        let gateway = pods
            .iter()
            .find(|pod| pod.labels.get("istio").is_some_and(|label| label == "ingressgateway"));
        let gateway =
            gateway.context("there is no ingress gateway: apply a Gateway with the selector istio: ingressgateway")?;
        Ok(SocketAddr::from((gateway.ip, 80)))
    }

    /// Sends a request from the host.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn http(&self, call: Call) -> Result<Answer> {
        http::send(None, call)
    }

    /// Sends a request from inside a pod, as its application would (captured, if the pod is).
    ///
    /// # Errors
    /// When there is no such pod or no whole answer.
    pub fn http_from(&self, pod: &str, call: Call) -> Result<Answer> {
        let pod = self.pod(pod)?;
        http::send(Some(&pod.space.path()), call)
    }

    /// A `GET` of a proxy's admin port.
    ///
    /// # Errors
    /// When there is no such pod or no whole answer.
    pub fn admin(&self, pod: &str, path: &str) -> Result<Answer> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, mesh_api::names::port::ADMIN));
        self.http_from(pod, Call::get(to, path))
    }

    /// Address of a Service by its name, `NAME.NAMESPACE`.
    ///
    /// # Errors
    /// When there is no such Service or it has no ClusterIP.
    pub fn service_address(&self, service: &str) -> Result<IpAddr> {
        let (name, namespace) = service.split_once('.').unwrap_or((service, &self.namespace));
        let file = Key::new("Service", namespace, name).file(&self.config_folder());
        let text = std::fs::read_to_string(&file).with_context(|| format!("there is no Service {namespace}/{name}"))?;
        let object = objects::read(&text, namespace)?
            .into_iter()
            .next()
            .context("an empty file")?;
        services::cluster_ip(&object.typed()?).with_context(|| format!("Service {namespace}/{name} has no ClusterIP"))
    }

    /// Runs a program in a pod as its application's user and waits for its end.
    ///
    /// # Errors
    /// When there is no such pod or program.
    pub fn exec(&self, pod: &str, program: &Path, arguments: &[&str]) -> Result<Output> {
        let space = self.pod(pod)?.space;
        let program = Program {
            name: program.display().to_string(),
            path: program.to_owned(),
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
            env: Vec::new(),
            user: User::APP,
        };
        let mut command = process::command(&space, &program);
        command
            .stdin(Stdio::null())
            .output()
            .with_context(|| program.name.clone())
    }

    /// Runs the sample application's client in a pod (`load URL --requests 100`…) and gives its report.
    ///
    /// # Errors
    /// When it cannot run; failed requests are part of the report.
    pub fn client(&self, pod: &str, arguments: &[&str]) -> Result<Value> {
        let program = self.state.lock().folder.program("e2e-sample")?;
        let mut all = vec!["client"];
        all.extend(arguments);
        let output = self.exec(pod, &program, &all)?;
        if !output.status.success() {
            bail!(
                "client {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        serde_json::from_slice(&output.stdout).context("the client's report")
    }

    /// Captures packets on the bridge from now on.
    ///
    /// # Errors
    /// When raw sockets are not permitted.
    pub fn capture(&self) -> Result<Capture> {
        Capture::start(&self.state.lock().network)
    }

    /// Ends the control plane as a crash would.
    pub fn kill_control(&self) {
        self.state.lock().control.kill();
    }

    /// Starts the control plane again.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_control(&self) -> Result<()> {
        self.state.lock().control.start_again()
    }

    /// Process id of the control plane.
    pub fn control_pid(&self) -> u32 {
        self.state.lock().control.pid()
    }

    /// A `GET` of the control plane's monitoring port, such as `/metrics` or `/debug/syncz`.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn control_http(&self, path: &str) -> Result<Answer> {
        let space = self.state.lock().control.space.clone();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, mesh_api::names::port::CONTROL_MONITORING));
        http::send(Some(&space.path()), Call::get(to, path))
    }

    /// Ends a pod's proxy as a crash would and starts it again.
    ///
    /// # Errors
    /// When there is no such pod, or it has no proxy.
    pub fn restart_proxy(&self, pod: &str) -> Result<()> {
        let pod = self.pod(pod)?;
        let mut state = self.state.lock();
        let running = state
            .pods
            .get_mut(&(pod.namespace, pod.name))
            .context("the pod has gone")?;
        running.restart_proxy()
    }

    /// Does to a pod's proxy what the kubelet does when it ends the pod: it goes out of the endpoints and gets SIGTERM. The
    /// application is left alone.
    ///
    /// # Errors
    /// When there is no such pod, or it has no proxy.
    pub fn end_proxy(&self, pod: &str) -> Result<()> {
        let pod = self.pod(pod)?;
        let mut state = self.state.lock();
        let id = (pod.namespace, pod.name);
        state.set_ready(&[(id.clone(), false)])?;
        state.pods.get(&id).context("the pod has gone")?.end_proxy()
    }

    /// Runs a function on a thread inside a pod's network namespace.
    ///
    /// # Errors
    /// When there is no such pod.
    pub fn inside<T: Send + 'static>(&self, pod: &str, action: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        enter::inside(&self.pod(pod)?.space.path(), action)
    }
}

fn info(pod: &Pod) -> PodInfo {
    PodInfo {
        namespace: pod.plan.namespace.clone(),
        name: pod.plan.name.clone(),
        workload: pod.plan.workload.clone(),
        ip: pod.space.ip,
        ready: pod.ready,
        injection: pod.plan.injection,
        labels: pod.plan.meta.labels.clone(),
        space: pod.space.clone(),
        proxy_pid: pod.proxy_pid(),
    }
}
