//! kind itself: making the cluster, loading images, deleting.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::debian::Apt;
use super::state::{Mode, NAME, State};
use super::{files, network};
use crate::process::{command, logged, output, succeeds, timed};
use crate::setup;

/// Time for nodes and for what runs on them.
const PATIENCE: Duration = Duration::from_secs(180);

/// Path of kind: the user's own, or Debian's kept in the cache folder. With our own node image always Debian's, as a later
/// kind may not know so old a Kubernetes.
pub(crate) fn program(cache: &Path, mode: Mode) -> Result<PathBuf> {
    if mode == Mode::Users
        && let Some(kind) = setup::which("kind")
    {
        return Ok(kind);
    }
    let folder = cache.join("kind");
    let program = folder.join("usr/bin/kind");
    if program.is_file() {
        return Ok(program);
    }
    timed("kind, from Debian's package", || {
        let (work, log) = (cache.join("work-kind"), cache.join("kind.log"));
        files::empty(&work)?;
        let partial = work.join("kind");
        let fetched = Apt::new(&work.join("apt"), &log).and_then(|apt| apt.unpack_kind(&partial, &log));
        let placed = fetched.and_then(|()| files::replace(&partial, &folder));
        files::remove(&work)?;
        placed
    })?;
    Ok(program)
}

/// A cluster's commands.
pub(crate) struct Kind<'a> {
    pub(crate) state: &'a State,
    pub(crate) mode: Mode,
    pub(crate) program: PathBuf,
}

impl Kind<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut kind = command(&self.program, args);
        self.state.docker_environment(self.mode, &mut kind);
        kind.env("KIND_EXPERIMENTAL_PROVIDER", "docker");
        kind
    }

    /// Names of the nodes; none when there is no cluster.
    pub(crate) fn nodes(&self) -> Result<Vec<String>> {
        let said = output(&mut self.command(&["get", "nodes", "--name", NAME]))?;
        Ok(said
            .lines()
            .filter(|l| l.starts_with(NAME))
            .map(str::to_owned)
            .collect())
    }

    /// Makes the cluster of a control plane and workers.
    pub(crate) fn create(&self, image: &str, workers: u32) -> Result<()> {
        let (config, log) = (self.state.folder.join("kind.yaml"), self.state.log());
        std::fs::write(&config, configuration(self.mode, workers))?;
        // A new cluster has no name server yet, whatever an earlier one had.
        files::remove(&self.state.folder.join("dns"))?;
        let (config, kubeconfig) = (
            config.display().to_string(),
            self.state.kubeconfig().display().to_string(),
        );
        let mut create = self.command(&[
            "create",
            "cluster",
            "--name",
            NAME,
            "--image",
            image,
            "--config",
            &config,
            "--kubeconfig",
            &kubeconfig,
            "--wait",
            "150s",
            // The nodes of a failed start say why.
            "--retain",
        ]);
        let created = logged(&mut create, &log);
        if let Err(error) = created {
            let reports = self.reports();
            let _ = self.delete();
            return Err(error.context(format!("what the nodes said is in {}", reports.display())));
        }
        Ok(())
    }

    /// Keeps what the nodes of a failed start said.
    fn reports(&self) -> PathBuf {
        let folder = self.state.folder.join("failed");
        let _ = std::fs::create_dir_all(&folder);
        for node in self.nodes().unwrap_or_default() {
            for (what, args) in [
                ("boot", vec!["logs", node.as_str()]),
                ("journal", vec!["exec", node.as_str(), "journalctl", "--no-pager"]),
            ] {
                let _ = logged(
                    &mut self.state.docker(self.mode, &args),
                    &folder.join(format!("{node}-{what}.log")),
                );
            }
        }
        folder
    }

    /// Waits for every node to be Ready.
    pub(crate) fn ready(&self) -> Result<()> {
        let timeout = format!("--timeout={}s", PATIENCE.as_secs());
        logged(
            &mut self
                .state
                .kubectl(&["wait", "--for=condition=Ready", "node", "--all", &timeout]),
            &self.state.log(),
        )
    }

    /// Loads archives of images into all nodes.
    pub(crate) fn load(&self, archives: &[PathBuf]) -> Result<()> {
        for archive in archives {
            let path = archive.display().to_string();
            logged(
                &mut self.command(&["load", "image-archive", "--name", NAME, &path]),
                &self.state.log(),
            )?;
        }
        Ok(())
    }

    /// Deletes the cluster; none there is right, too.
    pub(crate) fn delete(&self) -> Result<()> {
        let kubeconfig = self.state.kubeconfig().display().to_string();
        logged(
            &mut self.command(&["delete", "cluster", "--name", NAME, "--kubeconfig", &kubeconfig]),
            &self.state.log(),
        )
    }

    /// Waits for a Deployment of kube-system.
    pub(crate) fn rolled_out(&self, deployment: &str) -> Result<()> {
        let (name, timeout) = (
            format!("deployment/{deployment}"),
            format!("--timeout={}s", PATIENCE.as_secs()),
        );
        logged(
            &mut self
                .state
                .kubectl(&["-n", "kube-system", "rollout", "status", &name, &timeout]),
            &self.state.log(),
        )
    }

    /// Waits for the API server.
    pub(crate) fn answers(&self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        while !succeeds(&mut self.state.kubectl(&["--request-timeout=3s", "get", "--raw", "/readyz"])) {
            if start.elapsed() > patience {
                bail!("the API server does not answer; `cargo xtask cluster down`, then `up`, makes the cluster anew");
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }
}

fn configuration(mode: Mode, workers: u32) -> String {
    let mut text = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n".to_owned();
    if mode == Mode::Own {
        // A port of its own: nothing else listens in the namespace, and kind cannot look for a free one from outside.
        text += &format!(
            "networking:\n  apiServerAddress: {}\n  apiServerPort: 6443\n",
            network::api_address()
        );
    }
    text += "nodes:\n- role: control-plane\n";
    for _ in 0..workers {
        text += "- role: worker\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_has_one_control_plane_and_the_workers() {
        let text = configuration(Mode::Own, 2);
        assert_eq!(text.matches("role: control-plane").count(), 1);
        assert_eq!(text.matches("role: worker").count(), 2);
        assert!(text.contains("apiServerAddress: 198.19.254.2"));
        assert!(
            !configuration(Mode::Users, 0).contains("apiServer"),
            "kind chooses on a daemon of the user's"
        );
    }
}
