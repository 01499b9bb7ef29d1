//! Waiting until what was installed runs, with a line for each part.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::ListParams;

use crate::cluster::Cluster;

/// How often is looked.
pub(super) const EACH: Duration = Duration::from_secs(1);

/// A Deployment or DaemonSet.
struct Workload {
    kind: &'static str,
    name: String,
    app: String,
    ready: bool,
}

/// Follows the workloads of a release until all of them run.
pub(super) async fn follow(cluster: &Cluster, release: &str, timeout: Duration) -> Result<()> {
    let say = |line: &str| {
        let mut out = std::io::stdout();
        // Nobody may be listening; the installation goes on.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    };
    say("✔ Istio core installed");
    let end = Instant::now() + timeout;
    let mut said: Vec<String> = Vec::new();
    loop {
        let all = workloads(cluster, release).await?;
        for part in parts(&all) {
            let (title, ready) = part;
            if ready && !said.contains(&title) {
                say(&format!("✔ {title} installed"));
                said.push(title);
            }
        }
        if all.iter().all(|w| w.ready) {
            say("✔ Installation complete");
            return Ok(());
        }
        if Instant::now() >= end {
            let mut reasons = Vec::new();
            for workload in all.iter().filter(|w| !w.ready) {
                let why = reason(cluster, &workload.app).await;
                reasons.push(format!("{} {}: {why}", workload.kind, workload.name));
            }
            bail!(
                "not everything runs after {timeout:?}:\n  {}\nIt goes on by itself; look with kubectl -n {} get pods,events",
                reasons.join("\n  "),
                cluster.root
            );
        }
        tokio::time::sleep(EACH).await;
    }
}

/// istioctl's words for the parts, and whether all of a part runs. In the order in which they come up.
fn parts(all: &[Workload]) -> Vec<(String, bool)> {
    let mut out: Vec<(String, bool)> = Vec::new();
    let mut sorted: Vec<&Workload> = all.iter().collect();
    sorted.sort_by_key(|w| (title(w) != "Istiod", w.name.clone()));
    for workload in sorted {
        let title = title(workload);
        match out.iter_mut().find(|(known, _)| *known == title) {
            Some((_, ready)) => *ready &= workload.ready,
            None => out.push((title, workload.ready)),
        }
    }
    out
}

fn title(workload: &Workload) -> String {
    match workload.app.as_str() {
        "istiod" => "Istiod".to_owned(),
        "istio-cni" => "CNI".to_owned(),
        "istio-ingressgateway" => "Ingress gateways".to_owned(),
        "istio-egressgateway" => "Egress gateways".to_owned(),
        other => format!("{} {other}", workload.kind),
    }
}

async fn workloads(cluster: &Cluster, release: &str) -> Result<Vec<Workload>> {
    let list = ListParams::default().labels(&format!("app.kubernetes.io/instance={release}"));
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), &cluster.root);
    let daemons: Api<DaemonSet> = Api::namespaced(cluster.client.clone(), &cluster.root);
    let deployments = deployments.list(&list).await.context("Deployments")?;
    let daemons = daemons.list(&list).await.context("DaemonSets")?;
    let mut out = Vec::new();
    for one in deployments {
        let wanted = one.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        let status = one.status.unwrap_or_default();
        let (seen, newest) = (status.observed_generation, one.metadata.generation);
        let ready = status.updated_replicas.unwrap_or(0) >= wanted && status.available_replicas.unwrap_or(0) >= wanted;
        out.push(Workload {
            kind: "Deployment",
            app: app(one.metadata.labels.as_ref()),
            name: one.metadata.name.unwrap_or_default(),
            ready: ready && seen >= newest,
        });
    }
    for one in daemons {
        let status = one.status.unwrap_or_default();
        let wanted = status.desired_number_scheduled;
        let ready = status.updated_number_scheduled.unwrap_or(0) >= wanted && status.number_ready >= wanted;
        out.push(Workload {
            kind: "DaemonSet",
            app: app(one.metadata.labels.as_ref()),
            name: one.metadata.name.unwrap_or_default(),
            ready: ready && status.observed_generation >= one.metadata.generation,
        });
    }
    Ok(out)
}

fn app(labels: Option<&std::collections::BTreeMap<String, String>>) -> String {
    labels.and_then(|l| l.get("app")).cloned().unwrap_or_default()
}

/// Why the pods of an app do not run, in the words of the kubelet.
async fn reason(cluster: &Cluster, app: &str) -> String {
    let list = ListParams::default().labels(&format!("app={app}"));
    let Ok(pods) = cluster.pods(&cluster.root).list(&list).await else {
        return "its pods cannot be listed".to_owned();
    };
    if pods.items.is_empty() {
        return "it has no pods".to_owned();
    }
    let said = pods.items.iter().find_map(waiting);
    said.unwrap_or_else(|| "its pods are not ready".to_owned())
}

fn waiting(pod: &Pod) -> Option<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let containers = status.init_container_statuses.iter().flatten();
    let mut containers = containers.chain(status.container_statuses.iter().flatten());
    let waiting = containers.find_map(|c| c.state.as_ref()?.waiting.clone());
    if let Some(waiting) = waiting {
        let reason = waiting.reason.unwrap_or_default();
        return Some(
            format!("pod {name}: {reason} {}", waiting.message.unwrap_or_default())
                .trim()
                .to_owned(),
        );
    }
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.status != "True" && c.message.is_some());
    unscheduled.map(|c| format!("pod {name}: {}", c.message.clone().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_istioctls_words() {
        let of = |kind, app: &str, ready| Workload {
            kind,
            name: app.to_owned(),
            app: app.to_owned(),
            ready,
        };
        let all = [
            of("DaemonSet", "istio-cni", true),
            of("Deployment", "istio-ingressgateway", false),
            of("Deployment", "istiod", true),
            of("Deployment", "front", true),
        ];
        let pair = |title: &str, ready| (title.to_owned(), ready);
        let expected = [
            pair("Istiod", true),
            pair("Deployment front", true),
            pair("CNI", true),
            pair("Ingress gateways", false),
        ];
        assert_eq!(parts(&all), expected);
    }
}
