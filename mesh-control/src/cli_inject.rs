//! `mesh-control inject` and `meshctl kube-inject`: injection into files, as the webhook would do it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use mesh_api::mesh_config::MeshConfig;

use crate::inject::document::inject_documents;
use crate::inject::{Injector, Settings};

/// What to inject, and with which settings.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct KubeInject {
    /// YAML with Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs, Pods or Lists of them; - for
    /// standard input. Everything else in it passes as it is.
    #[arg(short = 'f', long, value_name = "FILE")]
    filename: PathBuf,
    /// Write to this file and not to standard output.
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Namespace of what names none.
    #[arg(short = 'n', long, default_value = "")]
    namespace: String,
    /// MeshConfig: the key mesh of the ConfigMap istio.
    #[arg(long = "meshConfigFile", alias = "mesh-config", value_name = "FILE")]
    mesh_config: Option<PathBuf>,
    /// Settings of the injector: the key config of the ConfigMap istio-sidecar-injector.
    #[arg(long = "injectConfigFile", alias = "inject-config", value_name = "FILE")]
    inject_config: Option<PathBuf>,
    /// Values of the chart: the key values of the ConfigMap istio-sidecar-injector [default: those of the chart].
    #[arg(long = "valuesFile", alias = "values", value_name = "FILE")]
    values: Option<PathBuf>,
    /// Name of the control plane, in place of that of the values.
    #[arg(short = 'r', long, value_name = "NAME")]
    revision: Option<String>,
    /// Inject the proxy as an init container that keeps running (Kubernetes 1.29 or newer).
    #[arg(long)]
    native_sidecars: bool,
}

const EXAMPLES: &str = "\
Examples:
  kubectl apply -f <(meshctl kube-inject -f web.yaml)
  kubectl get deploy web -o yaml | meshctl kube-inject -f - | kubectl apply -f -

Settings as the cluster has them:
  kubectl -n istio-system get cm istio-sidecar-injector -o jsonpath='{.data.values}' > values.json
  kubectl -n istio-system get cm istio -o jsonpath='{.data.mesh}' > mesh.yaml
  meshctl kube-inject -f web.yaml --valuesFile values.json --meshConfigFile mesh.yaml";

impl KubeInject {
    /// Injects, writes the file of `--output` if there is one, and gives the text otherwise. What people should know goes to
    /// standard error.
    ///
    /// # Errors
    /// When a file cannot be read or written, settings are wrong, or a Pod cannot be injected.
    pub fn run(&self) -> Result<Option<String>> {
        let text = read_input(&self.filename)?;
        let out = self.inject(&text)?;
        let mut stderr = std::io::stderr();
        for message in &out.1 {
            let _ = writeln!(stderr, "{message}");
        }
        match &self.output {
            None => Ok(Some(out.0)),
            Some(file) => {
                fs::write(file, out.0).with_context(|| format!("cannot write {}", file.display()))?;
                Ok(None)
            }
        }
    }

    fn inject(&self, text: &str) -> Result<(String, Vec<String>)> {
        let mesh = match &self.mesh_config {
            None => MeshConfig::default(),
            Some(file) => MeshConfig::from_yaml(&read(file)?).map_err(|errors| {
                let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
                anyhow::anyhow!("{}: {}", file.display(), list.join("; "))
            })?,
        };
        let settings = self.settings()?;
        let injector = Injector {
            settings: &settings,
            mesh: &mesh,
            proxy_configs: &[],
            native_sidecars: self.native_sidecars,
        };
        let done = inject_documents(&injector, &self.namespace, text)
            .map_err(|e| anyhow::anyhow!("{}: {e}", self.filename.display()))?;
        let warnings = settings.warnings.iter().map(|w| format!("warning: {w}"));
        Ok((done.text, warnings.chain(done.messages).collect()))
    }

    fn settings(&self) -> Result<Settings> {
        let text = |file: &Option<PathBuf>| file.as_deref().map(read).transpose();
        let (config, values) = (text(&self.inject_config)?, text(&self.values)?);
        let parsed = Settings::parse(&config.unwrap_or_default(), values.as_deref().unwrap_or_default());
        let mut settings = parsed.map_err(|errors| anyhow::anyhow!("{}", errors.join("; ")))?;
        if values.is_none() {
            settings.values = Settings::default().values;
        }
        if let Some(revision) = &self.revision {
            settings.values.revision = if revision == "default" {
                String::new()
            } else {
                revision.clone()
            };
        }
        Ok(settings)
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn read_input(file: &Path) -> Result<String> {
    if file != Path::new("-") {
        return read(file);
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("cannot read standard input")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        inject: KubeInject,
    }

    #[test]
    fn istioctls_flags_are_taken() {
        let dir = tempfile::tempdir().expect("dir");
        let path = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).expect("written");
            path.to_string_lossy().into_owned()
        };
        let pod = path(
            "pod.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a}]}\n",
        );
        let mesh = path("mesh.yaml", "trustDomain: td\n");
        let values = path(
            "values.json",
            r#"{"global": {"hub": "h", "tag": "t", "logAsJson": true}}"#,
        );
        let out = dir.path().join("out.yaml");
        let flags = [
            "x",
            "-f",
            &pod,
            "-o",
            &out.to_string_lossy(),
            "-n",
            "shop",
            "--meshConfigFile",
            &mesh,
        ]
        .map(str::to_owned);
        let more = ["--valuesFile", &values, "--revision", "canary", "--native-sidecars"].map(str::to_owned);
        let cli = Cli::try_parse_from(flags.into_iter().chain(more)).expect("flags");
        assert_eq!(cli.inject.run().expect("injected"), None);
        let text = fs::read_to_string(out).expect("output");
        for expected in [
            "h/proxy:t",
            "istiod-canary.istio-system.svc:15012",
            "restartPolicy: Always",
            "namespaces/shop/",
            "value: td",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
