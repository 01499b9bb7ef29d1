//! Pods that started without capture: their check ends with exit code 126, again and again, until somebody mends them.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, ObjectReference, Pod};
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use super::serve::Status;
use super::settings::{Action, Repair, Settings};
use crate::init::NOT_CAPTURED;
use crate::plugin;
use crate::pod::{self, Decision};

/// A pod is mended again only after this: its check is run again by and by.
const AGAIN: Duration = Duration::from_secs(30);

/// Follows the node's pods.
pub(super) async fn run(client: Client, settings: Settings, what: Repair, program: PathBuf, status: Arc<Status>) {
    let pods: Api<Pod> = Api::all(client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", settings.node));
    let mut stream = pin!(watcher(pods, config).default_backoff().applied_objects());
    let mut mended: HashMap<String, Instant> = HashMap::new();
    loop {
        let pod = match stream.try_next().await {
            Ok(Some(pod)) => pod,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!("pods of this node cannot be watched: {error}");
                continue;
            }
        };
        mended.retain(|_, at| at.elapsed() < AGAIN);
        let uid = pod.uid().unwrap_or_default();
        if !is_broken(&pod, &what.init_container) || mended.contains_key(&uid) {
            continue;
        }
        mended.insert(uid, Instant::now());
        let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
        tracing::warn!(namespace, name, "it started without capture: {:?}", what.action);
        match mend(&client, &settings, &what.action, &program, &pod).await {
            Ok(()) => {
                status.repaired.fetch_add(1, Relaxed);
                tracing::info!(namespace, name, "mended");
            }
            Err(error) => {
                status.repair_failures.fetch_add(1, Relaxed);
                tracing::error!(namespace, name, "not mended: {error:#}");
            }
        }
        if let Err(error) = tell(&client, &pod, &what.action).await {
            tracing::debug!(namespace, name, "no event: {error}");
        }
    }
}

/// The check failed, and has not passed since.
fn is_broken(pod: &Pod, init_container: &str) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let all = pod
        .status
        .iter()
        .filter_map(|s| s.init_container_statuses.as_ref())
        .flatten();
    let failed = |status: &ContainerStatus| {
        let now = status.state.as_ref().and_then(|s| s.terminated.as_ref());
        let before = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        now.or(before).is_some_and(|t| t.exit_code == i32::from(NOT_CAPTURED))
    };
    all.filter(|s| s.name == init_container).any(failed)
}

async fn mend(client: &Client, settings: &Settings, action: &Action, program: &Path, pod: &Pod) -> anyhow::Result<()> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    match action {
        Action::Rules => {
            let read: pod::Pod = serde_json::from_value(serde_json::to_value(pod)?)?;
            let flags = match read.decide() {
                Decision::Capture(flags) => flags,
                Decision::Skip(why) => anyhow::bail!("it is not to be captured: {why}"),
            };
            let netns = namespace_of(&settings.proc_dir, &pod.uid().unwrap_or_default())
                .context("none of its processes was found on this node")?;
            let program = program.to_owned();
            let written = tokio::task::spawn_blocking(move || plugin::capture(&program, &netns, &flags));
            written.await?.map_err(anyhow::Error::msg)
        }
        Action::Delete => {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: pod.uid(),
                    ..Preconditions::default()
                }),
                ..DeleteParams::default()
            };
            pods.delete(&name, &params).await?;
            Ok(())
        }
        Action::Label { key, value } => {
            let patch = json!({"metadata": {"labels": {key: value}}});
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await?;
            Ok(())
        }
    }
}

/// The network namespace of one of a pod's processes, found by the pod's uid in their control groups. Never the node's own.
pub fn namespace_of(proc_dir: &Path, uid: &str) -> Option<PathBuf> {
    if uid.is_empty() {
        return None;
    }
    let own = fs::read_link(proc_dir.join("1/ns/net")).ok();
    // systemd's names of groups have no dashes.
    let spellings = [uid.to_owned(), uid.replace('-', "_")];
    for entry in fs::read_dir(proc_dir).ok()?.flatten() {
        let folder = entry.path();
        let is_process = entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
        let Some(groups) = is_process
            .then(|| fs::read_to_string(folder.join("cgroup")).ok())
            .flatten()
        else {
            continue;
        };
        if !spellings.iter().any(|uid| groups.contains(uid.as_str())) {
            continue;
        }
        let netns = folder.join("ns/net");
        if fs::read_link(&netns).is_ok_and(|link| Some(link) != own) {
            return Some(netns);
        }
    }
    None
}

/// An event of the pod, for `kubectl describe`.
async fn tell(client: &Client, pod: &Pod, action: &Action) -> kube::Result<()> {
    let namespace = pod.namespace().unwrap_or_default();
    let done = match action {
        Action::Rules => "the node agent writes its rules",
        Action::Delete => "the node agent deletes it",
        Action::Label { .. } => "the node agent labels it",
    };
    let event = Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", pod.name_any())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        },
        reason: Some("NotCaptured".to_owned()),
        message: Some(format!("The pod started without capture of its traffic; {done}.")),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    };
    let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
    events.create(&PostParams::default(), &event).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_whose_check_failed_last_is_broken() {
        let pod = |state: serde_json::Value| -> Pod {
            let mut status =
                json!({"name": "istio-validation", "image": "", "imageID": "", "ready": false, "restartCount": 1});
            for (name, value) in state.as_object().expect("an object") {
                status[name] = value.clone();
            }
            serde_json::from_value(json!({"metadata": {"name": "a"}, "status": {"initContainerStatuses": [status]}}))
                .expect("a Pod")
        };
        let ended = |code: i32| json!({"terminated": {"exitCode": code}});
        for (state, expected) in [
            (json!({"state": ended(126)}), true),
            (
                json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended(126)}),
                true,
            ),
            (json!({"state": ended(0), "lastState": ended(126)}), false),
            (json!({"state": ended(1)}), false),
            (json!({"state": {"running": {}}}), false),
        ] {
            assert_eq!(is_broken(&pod(state.clone()), "istio-validation"), expected, "{state}");
            assert!(!is_broken(&pod(state), "another"));
        }
    }

    #[test]
    fn the_namespace_of_a_pod_is_that_of_its_processes() {
        let proc_dir = tempfile::tempdir().expect("a folder");
        let process = |id: &str, groups: &str, netns: &str| {
            let folder = proc_dir.path().join(id);
            fs::create_dir_all(folder.join("ns")).expect("made");
            fs::write(folder.join("cgroup"), groups).expect("written");
            std::os::unix::fs::symlink(netns, folder.join("ns/net")).expect("linked");
        };
        process("1", "0::/init.scope\n", "net:[1]");
        process("20", "0::/kubepods/pod11-22/abc\n", "net:[1]");
        process("21", "0::/kubepods.slice/kubepods-pod11_22.slice/abc\n", "net:[2]");
        process("22", "0::/kubepods/pod33/abc\n", "net:[3]");
        let found = namespace_of(proc_dir.path(), "11-22").expect("found");
        assert_eq!(found, proc_dir.path().join("21/ns/net"));
        assert_eq!(namespace_of(proc_dir.path(), "44"), None);
        assert_eq!(namespace_of(proc_dir.path(), ""), None);
    }
}
