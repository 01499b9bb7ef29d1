//! The one question of the plugin to the API server.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::pod::Pod;

/// Attempts, a second apart: the API server may be on its way up, and the runtime waits minutes for a plugin.
const ATTEMPTS: u32 = 5;
const APART: Duration = Duration::from_secs(1);
/// Of one attempt.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads a pod by the node agent's credentials.
pub(super) fn pod(kubeconfig: &Path, namespace: &str, name: &str) -> anyhow::Result<Pod> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut attempt = 1;
        loop {
            let asked = tokio::time::timeout(TIMEOUT, ask(kubeconfig, namespace, name)).await;
            let error = match asked {
                Ok(Ok(pod)) => return Ok(pod),
                Ok(Err(error)) => error,
                Err(_) => anyhow::anyhow!("the API server does not answer within {TIMEOUT:?}"),
            };
            if attempt == ATTEMPTS || !kubeconfig.exists() {
                return Err(error);
            }
            attempt += 1;
            tokio::time::sleep(APART).await;
        }
    })
}

async fn ask(kubeconfig: &Path, namespace: &str, name: &str) -> anyhow::Result<Pod> {
    let read = Kubeconfig::read_from(kubeconfig).with_context(|| kubeconfig.display().to_string())?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let request = http::Request::get(path).body(Vec::new())?;
    client.request::<Pod>(request).await.map_err(|error| match error {
        kube::Error::Api(status) => anyhow::anyhow!("the API server says {}: {}", status.code, status.message),
        other => anyhow::Error::new(other),
    })
}
