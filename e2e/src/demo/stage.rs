//! The mesh of the demo: what labs can do with it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::show;
use crate::interrupt::Interrupt;
use crate::netns::capture::holding;
use crate::netns::rootless;
use crate::runner::{Answer, Call, Mesh, Options};
use crate::sample::client::load::Report;

const NAMESPACE: &str = "istioinaction";
const READY: Duration = Duration::from_secs(60);
/// How long a change may take until all proxies hold it; the usual time is a tenth of a second.
const IN_FORCE: Duration = Duration::from_secs(30);

const SETTING: &str = "apiVersion: v1
kind: Namespace
metadata:
  name: istioinaction
  labels:
    istio-injection: enabled
---
apiVersion: v1
kind: Namespace
metadata:
  name: outside
---
apiVersion: v1
kind: Pod
metadata:
  name: netshoot
  namespace: outside
spec:
  containers:
  - name: netshoot
    image: nicolaka/netshoot
    command: [\"tail\"]
    args: [\"-f\", \"/dev/null\"]
";

/// The mesh with the course's applications.
pub(super) struct Stage {
    mesh: Mesh,
    gateway: SocketAddr,
    labs: PathBuf,
    interrupted: Interrupt,
}

/// What a capture between pods saw.
pub(super) struct Recording {
    /// Packets.
    pub(super) packets: usize,
    /// Their bytes.
    pub(super) bytes: usize,
    seen: Vec<Vec<u8>>,
}

impl Recording {
    /// Whether a text went over the wire in the clear.
    pub(super) fn contains(&self, text: &str) -> bool {
        holding(&self.seen, text.as_bytes()) > 0
    }
}

impl Stage {
    /// Starts the mesh, the two services, and the gateway.
    pub(super) fn start() -> Result<Stage> {
        // Asked for first: from here on Ctrl-C ends the mesh in order.
        let interrupted = crate::interrupt::listen()?;
        show::note("network namespaces, control plane");
        let mesh = Mesh::start(Options {
            namespace: NAMESPACE.to_owned(),
            ..Options::default()
        })?;
        let labs = Path::new(env!("CARGO_MANIFEST_DIR")).join("labs");
        mesh.apply(SETTING)?;
        show::note("catalog and webapp, a sidecar beside each; a gateway; a client without sidecar");
        for lab in [
            "services/catalog.yaml",
            "services/webapp.yaml",
            "ch2/ingress-gateway.yaml",
        ] {
            mesh.apply(&read(&labs, lab)?)?;
        }
        mesh.wait_ready(READY)?;
        mesh.wait_in_force(IN_FORCE)?;
        Ok(Stage {
            gateway: mesh.gateway()?,
            mesh,
            labs,
            interrupted,
        })
    }

    /// URL of the gateway.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.gateway.ip())
    }

    /// A request from the host through the gateway.
    pub(super) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.go_on()?;
        let mut call = Call::get(self.gateway, path);
        call.headers
            .extend(headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        self.mesh.http(call)
    }

    /// A request from the host through the gateway for another host.
    pub(super) fn get_from(&self, host: &str, path: &str) -> Result<Answer> {
        self.go_on()?;
        let mut call = Call::get(self.gateway, path);
        host.clone_into(&mut call.authority);
        self.mesh.http(call)
    }

    /// `count` requests for a host through the gateway, `at_once` of them at a time, from the pod that has no sidecar.
    /// Answers are counted by what [`crate::sample::client::load::Load::count_by`] takes.
    pub(super) fn load(&self, host: &str, count: u64, at_once: usize, by: &str) -> Result<Report> {
        self.go_on()?;
        let (count, at_once) = (count.to_string(), at_once.to_string());
        let (url, host) = (format!("{}/", self.url()), format!("host: {host}"));
        let (load, limits) = (
            ["load", &url, "--header", &host],
            ["--requests", &count, "--concurrency", &at_once],
        );
        let arguments: Vec<&str> = load
            .into_iter()
            .chain(limits)
            .chain(["--timeout", "60s", "--count-by", by])
            .collect();
        serde_json::from_value(self.mesh.client("netshoot", &arguments)?).context("the client's report")
    }

    /// A file of the labs.
    pub(super) fn lab(&self, file: &str) -> Result<String> {
        read(&self.labs, file)
    }

    /// Gives a Deployment another number of pods, and waits until that is in force everywhere.
    pub(super) fn scale(&self, deployment: &str, replicas: u32) -> Result<()> {
        self.mesh.scale(NAMESPACE, deployment, replicas)?;
        self.mesh.wait_ready(READY)?;
        self.mesh.wait_in_force(IN_FORCE)
    }

    /// Whether there is a pod of this name, Deployment or `app` label.
    pub(super) fn has_pod(&self, name: &str) -> bool {
        self.mesh.pod(name).is_ok()
    }

    /// Removes those objects of the labs' namespace that are there, and waits until that is in force everywhere.
    pub(super) fn clear(&self, objects: &[(&str, &str)]) -> Result<()> {
        for (kind, name) in objects {
            if self.mesh.has(kind, NAMESPACE, name) {
                self.mesh.delete(kind, NAMESPACE, name)?;
            }
        }
        self.mesh.wait_in_force(IN_FORCE)
    }

    /// A request from the pod that has no sidecar to `SERVICE.NAMESPACE`, port 80. No answer at all is an error.
    pub(super) fn get_without_sidecar(&self, service: &str, path: &str) -> Result<Answer> {
        let to = SocketAddr::from((self.mesh.service_address(service)?, 80));
        let mut call = Call::get(to, path);
        service.clone_into(&mut call.authority);
        self.mesh.http_from("netshoot", call)
    }

    /// Tells catalog v1 to misbehave, past the mesh: straight at the application.
    pub(super) fn chaos(&self, body: &str) -> Result<()> {
        let mut call = Call::get(SocketAddr::from((Ipv4Addr::LOCALHOST, 3000)), "/blowup");
        call.method = http::Method::POST;
        call.headers
            .push(("content-type".to_owned(), "application/json".to_owned()));
        call.body = body.to_owned().into();
        let answer = self.mesh.http_from("catalog", call)?;
        if answer.status >= 300 {
            bail!("POST /blowup: {} {}", answer.status, answer.text());
        }
        Ok(())
    }

    /// A `GET` of a proxy's admin port.
    pub(super) fn admin(&self, pod: &str, path: &str) -> Result<Answer> {
        self.mesh.admin(pod, path)
    }

    /// A proxy's metrics, as Prometheus would read them.
    pub(super) fn metrics(&self, pod: &str) -> Result<Answer> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, mesh_api::names::port::PROXY_METRICS));
        self.mesh.http_from(pod, Call::get(to, "/stats/prometheus"))
    }

    /// Applies a file of the labs, unchanged, and waits until it is in force everywhere.
    pub(super) fn apply_lab(&self, file: &str) -> Result<()> {
        self.apply(&read(&self.labs, file)?).with_context(|| file.to_owned())
    }

    /// Applies YAML, and waits until it is in force everywhere: new pods are ready, and every proxy holds the change.
    pub(super) fn apply(&self, yaml: &str) -> Result<()> {
        self.apply_in(NAMESPACE, yaml)
    }

    /// As [`Stage::apply`], in another namespace.
    pub(super) fn apply_in(&self, namespace: &str, yaml: &str) -> Result<()> {
        self.go_on()?;
        self.mesh.apply_in(namespace, yaml)?;
        self.mesh.wait_ready(READY)?;
        self.mesh.wait_in_force(IN_FORCE)
    }

    /// Removes an object, and waits until that is in force everywhere.
    pub(super) fn delete(&self, kind: &str, namespace: &str, name: &str) -> Result<()> {
        self.mesh.delete(kind, namespace, name)?;
        self.mesh.wait_in_force(IN_FORCE)
    }

    /// Records what pods say to each other while something is done.
    pub(super) fn record(&self, act: impl Fn(&Stage) -> Result<()>) -> Result<Recording> {
        let capture = self.mesh.capture()?;
        act(self)?;
        let mut seen = capture.stop()?;
        seen.retain(|packet| between_pods(packet));
        Ok(Recording {
            packets: seen.len(),
            bytes: seen.iter().map(Vec::len).sum(),
            seen,
        })
    }

    /// Folder of logs.
    pub(super) fn logs(&self) -> PathBuf {
        self.mesh.logs()
    }

    /// Leaves logs behind.
    pub(super) fn keep_logs(&self) {
        self.mesh.keep_files();
    }

    /// What to try next.
    pub(super) fn invite(&self) {
        let (url, config) = (self.url(), self.mesh.config_folder());
        show::line("");
        show::line("The mesh stays up. Try:");
        // Without root the mesh's network is only reached from inside its own user namespace.
        let prefix = rootless::command_prefix().map_or_else(String::new, |p| format!("{p} "));
        show::line(&format!("  {prefix}curl {url}/api/catalog"));
        show::line(&format!(
            "  {prefix}curl -H 'x-dark-launch: v2' {url}/api/catalog/items/1"
        ));
        if let Ok(pod) = self.mesh.pod("webapp") {
            if let Some(meshctl) = std::env::current_exe()
                .ok()
                .and_then(|own| Some(own.parent()?.join("meshctl")))
            {
                show::line(&format!(
                    "  {prefix}ip netns exec {} {} proxy-config all",
                    pod.space.name,
                    meshctl.display()
                ));
            }
            show::line(&format!(
                "  {prefix}ip netns exec {} curl localhost:15000/clusters",
                pod.space.name
            ));
            show::line(&format!(
                "  {prefix}ip netns exec {} curl localhost:15000/config_dump",
                pod.space.name
            ));
        }
        show::line(&format!("Edit the YAML, it is followed:  {}", config.display()));
        show::line(&format!("Logs of every process:          {}", self.logs().display()));
        show::line("Ctrl-C takes everything down.");
    }

    /// Whether the user asked for the end.
    pub(super) fn interrupted(&self) -> bool {
        self.interrupted.has_come()
    }

    fn go_on(&self) -> Result<()> {
        ensure!(!self.interrupted(), "interrupted");
        Ok(())
    }

    /// Keeps the mesh up.
    pub(super) fn wait_for_ctrl_c(&self) {
        self.interrupted.wait();
    }
}

fn read(labs: &Path, file: &str) -> Result<String> {
    let path = labs.join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Whether an Ethernet frame is IPv4 between pods (and not from or to the host, whose requests to the gateway are plain HTTP).
fn between_pods(frame: &[u8]) -> bool {
    let address = |at: usize| frame.get(at..at + 2);
    let from_host = |part: Option<&[u8]>| part == Some(&[10, 245]);
    let ipv4 = frame.get(12..14) == Some(&[8, 0]);
    ipv4 && !from_host(address(26)) && !from_host(address(30))
}
