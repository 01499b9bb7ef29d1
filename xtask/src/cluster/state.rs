//! Where a running cluster's things are, and what `down` has to put back.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::files;
use crate::process::command;

/// The cluster's name in kind, and the word in the names of everything that is made.
pub(crate) const NAME: &str = "ferromesh";

/// Values of the whole machine that a kubelet sets at its start.
const SET_BY_KUBELET: [&str; 5] = [
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "vm/overcommit_memory",
];

/// Docker's bind mount of the node has this source; without one on the machine, Docker makes it.
const MODULES: &str = "/lib/modules";

/// Whose Docker runs the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A daemon of our own, in a network namespace without a way out.
    Own,
    /// The user's, with the usual node image.
    Users,
}

/// The folders. One cluster a machine: names of networks, and memory, are the machine's.
pub(crate) struct State {
    /// Survives a restart: Docker's data, kubeconfig, logs.
    pub(crate) folder: PathBuf,
    /// Sockets and mounts.
    pub(crate) run: PathBuf,
}

impl State {
    pub(crate) fn new() -> State {
        State {
            folder: PathBuf::from("/var/lib/ferromesh-cluster"),
            run: PathBuf::from("/run/ferromesh-cluster"),
        }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("cluster.log")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run.join("docker.sock")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.run.join("dockerd.pid")
    }

    fn record(&self) -> PathBuf {
        self.folder.join("cluster.json")
    }

    /// Keeps what the machine is like before the first node starts.
    pub(crate) fn begin(&self, mode: Mode) -> Result<()> {
        for folder in [&self.folder, &self.run] {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        if self.record().is_file() {
            return Ok(());
        }
        let values: serde_json::Map<_, _> = SET_BY_KUBELET
            .iter()
            .filter_map(|name| {
                let value = std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
                Some(((*name).to_owned(), json!(value.trim())))
            })
            .collect();
        let record = json!({
            "mode": if mode == Mode::Own { "own" } else { "users" },
            "modules": Path::new(MODULES).exists(),
            "sysctl": values,
        });
        std::fs::write(self.record(), format!("{record:#}\n")).with_context(|| self.record().display().to_string())
    }

    fn read(&self) -> Value {
        std::fs::read(self.record())
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Whose Docker the recorded cluster uses; none when there is no cluster.
    pub(crate) fn mode(&self) -> Option<Mode> {
        match self.read()["mode"].as_str()? {
            "own" => Some(Mode::Own),
            _ => Some(Mode::Users),
        }
    }

    /// Puts the machine's values back and removes the folders.
    pub(crate) fn end(&self) -> Result<()> {
        let record = self.read();
        for (name, value) in record["sysctl"].as_object().into_iter().flatten() {
            let path = Path::new("/proc/sys").join(name);
            let now = std::fs::read_to_string(&path).unwrap_or_default();
            if let Some(before) = value.as_str().filter(|v| *v != now.trim()) {
                // A value that may not be written was not changed either.
                let _ = std::fs::write(&path, before);
            }
        }
        if record["modules"] == json!(false) {
            // Fails where someone has put something into it, which is right.
            let _ = std::fs::remove_dir(MODULES);
        }
        files::remove(&self.run)?;
        files::remove(&self.folder)
    }

    /// Makes a command speak to the cluster's Docker, and to nothing through a proxy.
    pub(crate) fn docker_environment(&self, mode: Mode, command: &mut Command) {
        if mode == Mode::Own {
            command
                .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
                .env_remove("DOCKER_CONTEXT")
                .env_remove("DOCKER_TLS_VERIFY");
        }
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
    }

    /// `docker` with these arguments.
    pub(crate) fn docker(&self, mode: Mode, args: &[&str]) -> Command {
        let mut docker = command("docker", args);
        self.docker_environment(mode, &mut docker);
        docker
    }

    /// `kubectl` with these arguments.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Command {
        let mut kubectl = command("kubectl", &["--kubeconfig", &self.kubeconfig().display().to_string()]);
        kubectl.args(args);
        kubectl
    }
}
