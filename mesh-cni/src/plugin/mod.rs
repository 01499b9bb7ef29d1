//! The CNI plugin: called by the container runtime for each pod after the network's own plugins. Where the pod is one of the
//! mesh, its traffic is captured, or else the call fails and the pod does not start.

mod cluster;
mod request;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

pub use request::{Conf, Environment, PluginError, Request, VERSIONS};

use crate::pod::Decision;

/// Names of the node agent's own pods begin so. They have to start before the plugin can ask anybody.
const AGENT_PODS: &str = "istio-cni-node-";

/// Answers one call: what goes to standard output.
///
/// # Errors
/// What the runtime is told, and why the pod does not start.
pub fn answer(environment: &Environment, stdin: &str) -> Result<String, PluginError> {
    if environment.command == "VERSION" {
        let newest = VERSIONS.last().copied().unwrap_or_default();
        return Ok(json!({"cniVersion": newest, "supportedVersions": VERSIONS}).to_string());
    }
    let request = Request::read(environment, stdin)?;
    act(&environment.command, &request).map_err(|error| PluginError {
        version: request.conf.version.clone(),
        ..error
    })
}

fn act(command: &str, request: &Request) -> Result<String, PluginError> {
    match command {
        "ADD" => {
            if let Some(flags) = wanted(request)? {
                run(request, &flags)?;
            }
            Ok(request.result())
        }
        "CHECK" => {
            if let Some(mut flags) = wanted(request)? {
                flags.extend(["--run-validation", "--skip-rule-apply"].map(str::to_owned));
                run(request, &flags)?;
            }
            Ok(String::new())
        }
        // The rules go with the network namespace.
        "DEL" | "GC" | "STATUS" => Ok(String::new()),
        other => Err(PluginError::environment(format!("CNI_COMMAND: {other:?} is not known"))),
    }
}

/// The flags with which the pod is captured; `None` for one that is left alone.
fn wanted(request: &Request) -> Result<Option<Vec<String>>, PluginError> {
    let Some((namespace, name)) = &request.pod else {
        tracing::info!("left alone: CNI_ARGS names no pod of Kubernetes");
        return Ok(None);
    };
    let conf = &request.conf;
    if conf.kubernetes.exclude_namespaces.contains(namespace) {
        tracing::info!(namespace, name, "left alone: its namespace is excluded");
        return Ok(None);
    }
    if *namespace == conf.kubernetes.cni_namespace && name.starts_with(AGENT_PODS) {
        tracing::info!(namespace, name, "left alone: it is the node agent's own");
        return Ok(None);
    }
    let pod = cluster::pod(Path::new(&conf.kubernetes.kubeconfig), namespace, name).map_err(|error| {
        PluginError::later(format!(
            "cannot ask for pod {namespace}/{name}, so that it cannot be known whether its traffic is to be captured: \
             {error:#}; is the node agent {AGENT_PODS}… running on this node?"
        ))
    })?;
    match pod.decide() {
        Decision::Skip(why) => {
            tracing::info!(namespace, name, "left alone: {why}");
            Ok(None)
        }
        Decision::Capture(flags) => Ok(Some(flags)),
    }
}

/// Writes or checks the rules by a process of its own: a thread that enters another namespace does not come back for sure.
fn run(request: &Request, flags: &[String]) -> Result<(), PluginError> {
    let netns = request
        .netns
        .as_deref()
        .ok_or_else(|| PluginError::environment("CNI_NETNS: a network namespace is needed".to_owned()))?;
    capture(Path::new("/proc/self/exe"), Path::new(netns), flags).map_err(|why| {
        let (namespace, name) = request.pod.clone().unwrap_or_default();
        PluginError::failed(format!("traffic of pod {namespace}/{name} cannot be captured: {why}"))
    })
}

/// Runs `mesh-cni iptables` on a network namespace.
///
/// # Errors
/// What it said when it failed.
pub fn capture(program: &Path, netns: &Path, flags: &[String]) -> Result<(), String> {
    let mut place = OsString::from("--network-namespace=");
    place.push(netns);
    // Its flags can be variables too; none of ours are meant for it.
    let output = Command::new(program)
        .arg("iptables")
        .args(flags)
        .arg(place)
        .env_clear()
        .env("PATH", search_path())
        .output()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The rules were logged before; the reason is what came last.
    let reason = said.rfind("mesh-cni: ").map_or(&*said, |at| &said[at..]);
    Err(format!("{} ({})", reason.trim(), output.status))
}

/// Runtimes start plugins with little in their path.
fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

/// What goes to standard output for an error.
pub fn error_text(error: &PluginError) -> String {
    let mut out = json!({
        "cniVersion": error.version,
        "code": error.code,
        "msg": error.message,
    });
    if out["cniVersion"] == Value::String(String::new()) {
        out["cniVersion"] = json!("1.0.0");
    }
    out.to_string()
}
