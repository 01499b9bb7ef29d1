//! A running pod: its namespace, the proxy and the application.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::folder::Folder;
use super::http::{self, Call};
use super::plan::{Configs, Injection, PodPlan};
use super::process::{self, Process, Program, User};
use super::sidecar::{self, Files};
use super::{dns, services};
use crate::netns::{Network, Space, enter, rootless};

/// How long a readiness check may take.
const CHECK: Duration = Duration::from_secs(1);

/// What a pod needs from around it.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// The network.
    pub network: &'a Network,
    /// Files and programs.
    pub folder: &'a Folder,
    /// Defaults of ProxyConfig.
    pub proxy_config: &'a Value,
    /// ConfigMaps and Secrets.
    pub configs: &'a dyn Configs,
}

/// A running pod. Dropping it ends its programs; the namespace is removed by [`Pod::remove`] or with the network.
#[derive(Debug)]
pub struct Pod {
    /// What it was made from.
    pub plan: PodPlan,
    /// Namespace and address.
    pub space: Space,
    /// Kind of its owner, `ReplicaSet` or `Pod`.
    pub owner_kind: &'static str,
    /// Hash of the template that it was made from.
    pub revision: String,
    /// Whether it takes traffic.
    pub ready: bool,
    /// Ports that the application must have open before.
    app_ports: Vec<u16>,
    proxy: Option<Process>,
    apps: Vec<Process>,
}

/// What has to hold before a pod is ready; asked without holding up anybody.
#[derive(Debug, Clone)]
pub struct Checks {
    namespace: PathBuf,
    ip: IpAddr,
    app_ports: Vec<u16>,
    proxy: bool,
}

impl Pod {
    /// Starts capture, proxy and application.
    ///
    /// # Errors
    /// When one of them cannot be started; what was made is removed again.
    pub fn start(plan: PodPlan, owner_kind: &'static str, revision: String, around: Around<'_>) -> Result<Pod> {
        let space = around.network.add(&format!("{}-{}", plan.namespace, plan.name))?;
        match Pod::start_in(&space, plan, owner_kind, revision, around) {
            Ok(pod) => Ok(pod),
            Err(error) => {
                around.network.remove(&space);
                Err(error)
            }
        }
    }

    fn start_in(
        space: &Space,
        plan: PodPlan,
        owner_kind: &'static str,
        revision: String,
        around: Around<'_>,
    ) -> Result<Pod> {
        let Around { network, folder, .. } = around;
        let config = sidecar::proxy_config(&plan, around.proxy_config)?;
        let apps = plan.apps(space.ip, around.configs)?;
        network.write_etc(
            space,
            "resolv.conf",
            &services::resolv_conf(network.dns_address(), &plan.namespace),
        )?;
        network.write_etc(
            space,
            "hosts",
            &format!("127.0.0.1 localhost\n::1 localhost\n{} {}\n", space.ip, plan.name),
        )?;
        enter::inside(&space.path(), || {
            // As container runtimes have it: ports below 1024 need no privilege inside a pod.
            std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
        })??;
        if let Some(arguments) = sidecar::init_arguments(&plan, &config, mark()) {
            init(space, folder, &plan, arguments)?;
        }
        let proxy = match plan.injection {
            Injection::None => None,
            Injection::Sidecar | Injection::Gateway => Some(start_proxy(space, &plan, &config, around)?),
        };
        let mut app_ports = Vec::new();
        let mut processes = Vec::new();
        for app in apps {
            app_ports.extend(&app.ports);
            let mut arguments = vec!["--image".to_owned(), app.image, "--".to_owned()];
            arguments.extend(app.arguments);
            let program = Program {
                name: format!("{} of {}/{}", app.container, plan.namespace, plan.name),
                path: folder.program("e2e-sample")?,
                arguments,
                env: app.env,
                user: User::APP,
            };
            processes.push(Process::start(
                space,
                program,
                &folder.log(&plan.namespace, &plan.name, &app.container),
            )?);
        }
        Ok(Pod {
            plan,
            space: space.clone(),
            owner_kind,
            revision,
            ready: false,
            app_ports,
            proxy,
            apps: processes,
        })
    }

    /// What to ask before it is ready.
    pub fn checks(&self) -> Checks {
        Checks {
            namespace: self.space.path(),
            ip: self.space.ip,
            app_ports: self.app_ports.clone(),
            proxy: self.proxy.is_some(),
        }
    }

    /// Names of programs that have ended, with their last words.
    pub fn ended(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        for process in self.apps.iter_mut().chain(self.proxy.as_mut()) {
            if let Some(status) = process.ended() {
                out.push(format!(
                    "{} ended ({status}):\n{}",
                    process.name(),
                    process.last_words()
                ));
            }
        }
        out
    }

    /// The last words of all its programs.
    pub fn last_words(&self) -> String {
        let processes = self.apps.iter().chain(self.proxy.as_ref());
        processes
            .map(|process| format!("--- {}\n{}\n", process.name(), process.last_words()))
            .collect()
    }

    /// Process id of the proxy.
    pub fn proxy_pid(&self) -> Option<u32> {
        self.proxy.as_ref().map(Process::pid)
    }

    /// Ends the proxy as a crash would and starts it again.
    ///
    /// # Errors
    /// When the pod has none, or it cannot be started.
    pub fn restart_proxy(&mut self) -> Result<()> {
        let name = &self.plan.name;
        let proxy = self
            .proxy
            .as_mut()
            .with_context(|| format!("pod {name} has no proxy"))?;
        proxy.start_again()
    }

    /// Asks the proxy to end.
    ///
    /// # Errors
    /// When the pod has none.
    pub fn end_proxy(&self) -> Result<()> {
        let proxy = self.proxy.as_ref();
        proxy
            .with_context(|| format!("pod {} has no proxy", self.plan.name))?
            .ask_to_end();
        Ok(())
    }

    /// Ends its programs in the way of Kubernetes, then removes the namespace.
    pub fn remove(mut self, network: &Network, grace: Duration) {
        if !grace.is_zero() {
            for process in self.apps.iter().chain(self.proxy.as_ref()) {
                process.ask_to_end();
            }
            for process in self.apps.iter_mut().chain(self.proxy.as_mut()) {
                process.stop(grace);
            }
        }
        let space = self.space.clone();
        drop(self);
        network.remove(&space);
    }
}

impl Checks {
    /// Whether all of them hold now.
    pub fn hold(&self) -> bool {
        self.app_ports.iter().all(|port| {
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            enter::connect(Some(&self.namespace), to, CHECK).is_ok()
        }) && (!self.proxy || self.proxy_is_ready())
    }

    fn proxy_is_ready(&self) -> bool {
        let to = SocketAddr::from((self.ip, mesh_api::names::port::READINESS));
        let call = Call {
            timeout: CHECK,
            ..Call::get(to, "/healthz/ready")
        };
        http::send(None, call).is_ok_and(|answer| answer.status == 200)
    }
}

fn init(space: &Space, folder: &Folder, plan: &PodPlan, arguments: Vec<String>) -> Result<()> {
    let program = Program {
        name: "istio-init".to_owned(),
        path: folder.program("mesh-init")?,
        arguments,
        env: Vec::new(),
        user: User::ROOT,
    };
    let output = process::command(space, &program)
        .stdin(Stdio::null())
        .output()
        .context("mesh-init")?;
    std::fs::write(folder.log(&plan.namespace, &plan.name, "istio-init"), &output.stderr)?;
    if !output.status.success() {
        bail!("mesh-init failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn start_proxy(space: &Space, plan: &PodPlan, config: &Value, around: Around<'_>) -> Result<Process> {
    let folder = around.folder;
    let user = sidecar::user(plan);
    let home = folder.pod(&plan.namespace, &plan.name);
    let files = Files {
        token: home.join("istio-token"),
        root_cert: folder.root_cert(),
        data: home.join("data"),
    };
    std::fs::create_dir_all(&files.data)?;
    folder.write_token(&plan.namespace, &plan.service_account, &files.token)?;
    for path in [&home, &files.data, &files.token] {
        own(path, user)?;
    }
    let mut env = sidecar::env(plan, space.ip, around.network.gateway(), config, &files);
    if let Some(mark) = mark() {
        env.push(("FERROMESH_PACKET_MARK".to_owned(), mark.to_string()));
    }
    let program = Program {
        name: format!("istio-proxy of {}/{}", plan.namespace, plan.name),
        path: folder.program("mesh-proxy")?,
        arguments: sidecar::proxy_arguments(plan),
        env,
        user,
    };
    Process::start(space, program, &folder.log(&plan.namespace, &plan.name, "istio-proxy"))
}

/// By what the proxy's packets are told where it cannot have a user of its own.
fn mark() -> Option<u32> {
    rootless::one_user_only().then_some(rootless::MARK)
}

/// Gives a file to the proxy and keeps others out.
fn own(path: &Path, user: User) -> Result<()> {
    if rootless::one_user_only() {
        return Ok(());
    }
    let what = || format!("owner of {}", path.display());
    chown(path, Some(user.uid), Some(user.gid)).with_context(what)?;
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).with_context(what)
}

/// Names under which a table of Services answers, with the control plane's short one: the proxy asks for exactly that.
pub fn with_discovery_name(mut table: dns::Table) -> dns::Table {
    if let Some(addresses) = table.get("istiod.istio-system.svc.cluster.local").cloned() {
        table.insert("istiod.istio-system.svc".to_owned(), addresses);
    }
    table
}
