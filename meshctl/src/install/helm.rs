//! The `helm` program, which renders and installs charts.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::cluster::ClusterOptions;

/// Names another program, with its first arguments.
const VARIABLE: &str = "HELM";

/// The program, and the cluster that it is told of.
pub(crate) struct Helm {
    words: Vec<String>,
    cluster: Vec<String>,
    /// Where the control plane is.
    namespace: String,
}

impl Helm {
    /// The `helm` on PATH, or what the variable HELM says.
    pub(crate) fn new(options: &ClusterOptions) -> Helm {
        let named = std::env::var(VARIABLE).unwrap_or_default();
        let mut words: Vec<String> = named.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() {
            words.push("helm".to_owned());
        }
        let mut cluster = Vec::new();
        if let Some(file) = &options.kubeconfig {
            cluster.extend(["--kubeconfig".to_owned(), file.display().to_string()]);
        }
        if let Some(context) = &options.context {
            cluster.extend(["--kube-context".to_owned(), context.clone()]);
        }
        Helm {
            words,
            cluster,
            namespace: options.istio_namespace.clone(),
        }
    }

    /// `helm upgrade --install`.
    pub(crate) async fn install(&self, release: &str, chart: &Path, values: &Path) -> Result<String> {
        let (chart, values) = (chart.display().to_string(), values.display().to_string());
        let command = ["upgrade", "--install", release, &chart, "--values", &values];
        self.run(&[&command[..], &["--create-namespace", "--reset-values"]].concat())
            .await
    }

    /// `helm template`, for a server of this version (`1.20.2`) if there is one.
    pub(crate) async fn template(
        &self,
        release: &str,
        chart: &Path,
        values: &Path,
        server: Option<&str>,
    ) -> Result<String> {
        let (chart, values) = (chart.display().to_string(), values.display().to_string());
        let mut command = vec!["template", release, &chart, "--values", &values];
        if let Some(version) = server {
            command.extend(["--kube-version", version]);
        }
        self.run(&command).await
    }

    /// `helm uninstall`.
    pub(crate) async fn uninstall(&self, release: &str, namespace: &str) -> Result<String> {
        self.run_in(namespace, &["uninstall", release, "--wait"]).await
    }

    async fn run(&self, command: &[&str]) -> Result<String> {
        self.run_in(&self.namespace, command).await
    }

    async fn run_in(&self, namespace: &str, command: &[&str]) -> Result<String> {
        let (program, first) = self.words.split_first().context("no helm")?;
        let output = Command::new(program)
            .args(first)
            .args(command)
            .args(&self.cluster)
            .args(["--namespace", namespace])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await;
        let output = match output {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "{program} is not found: install Helm 3.7 or newer (https://helm.sh/docs/intro/install), or name the program \
                 by the variable {VARIABLE}; it installs the charts that are in meshctl"
            ),
            other => other.with_context(|| format!("cannot run {program}"))?,
        };
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let what = command.first().unwrap_or(&"");
            bail!("{program} {what}: {}", said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
