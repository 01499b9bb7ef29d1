//! How Deployments and Pods become running pods, and go.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use mesh_api::k8s::{Deployment, Pod as PodObject};
use rand::Rng as _;
use serde_json::{Value, json};

use super::objects::{Key, Object};
use super::plan::{self, Configs, Owner, PodPlan};
use super::pod::{Around, Pod};
use super::state::State;

/// How long a pod's programs have to end.
const GRACE: Duration = Duration::from_secs(3);
/// Time in which proxies learn that a pod is about to go.
const SPREAD: Duration = Duration::from_millis(300);
/// How long new pods of a Deployment may take until the old ones go.
const ROLLOUT: Duration = Duration::from_secs(30);

struct Values<'a>(&'a BTreeMap<Key, Object>);

impl Configs for Values<'_> {
    fn value(&self, kind: &str, namespace: &str, name: &str, key: &str) -> Option<String> {
        let document = &self.0.get(&Key::new(kind, namespace, name))?.document;
        let text = |part: &str| document.get(part)?.get(key)?.as_str().map(str::to_owned);
        if kind != "Secret" {
            return text("data");
        }
        text("stringData").or_else(|| {
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(text("data")?.trim())
                .ok()?;
            String::from_utf8(bytes).ok()
        })
    }
}

impl State {
    pub(super) fn deploy(&mut self, object: &Object) -> Result<()> {
        let deployment: Deployment = object.typed()?;
        let spec = deployment.spec.context("spec is missing")?;
        let template = spec.template;
        let labels = self.namespace_labels(&object.key.namespace);
        let revision = hash(&json!([template, labels]));
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).context("spec.replicas is negative")?;
        let meta = template.metadata.unwrap_or_default();
        let selector = spec.selector.match_labels.unwrap_or_default();
        let own = meta.labels.clone().unwrap_or_default();
        if selector.is_empty() || !selector.iter().all(|(name, value)| own.get(name) == Some(value)) {
            bail!("spec.selector does not match the labels of spec.template");
        }
        let pod_spec = template.spec.context("spec.template.spec is missing")?;
        let owner = Owner {
            resource: "deployments",
            name: &object.key.name,
            namespace: &object.key.namespace,
        };
        let make = |name: &str| plan::pod(owner, name, &meta, &pod_spec, &labels);
        // Also without replicas the plan must be one that could run.
        make(&object.key.name)?;
        let of_this = |pod: &Pod| {
            pod.owner_kind == "ReplicaSet"
                && pod.plan.workload == object.key.name
                && pod.plan.namespace == object.key.namespace
        };
        let (mut current, mut old) = (Vec::new(), Vec::new());
        for (id, pod) in self.pods.iter().filter(|(_, pod)| of_this(pod)) {
            if pod.revision == revision {
                &mut current
            } else {
                &mut old
            }
            .push(id.clone());
        }
        let mut started = Vec::new();
        for _ in current.len()..wanted {
            let name = format!("{}-{}-{}", object.key.name, short(&revision), random_suffix());
            let id = self.start_pod(make(&name)?, "ReplicaSet", &revision)?;
            started.push(id);
        }
        if !old.is_empty() && !started.is_empty() {
            self.wait_for(&started, ROLLOUT)
                .context("the new pods do not get ready; the old ones stay")?;
        }
        old.extend(current.into_iter().skip(wanted));
        self.remove_pods(&old)
    }

    pub(super) fn run_pod(&mut self, object: &Object) -> Result<()> {
        let pod: PodObject = object.typed()?;
        let spec = pod.spec.context("spec is missing")?;
        let labels = self.namespace_labels(&object.key.namespace);
        let revision = hash(&json!([pod.metadata, spec, labels]));
        let owner = Owner {
            resource: "pods",
            name: &object.key.name,
            namespace: &object.key.namespace,
        };
        let plan = plan::pod(owner, &object.key.name, &pod.metadata, &spec, &labels)?;
        let id = (plan.namespace.clone(), plan.name.clone());
        if self.pods.contains_key(&id) {
            bail!("a Pod cannot be changed: delete it first");
        }
        self.start_pod(plan, "Pod", &revision).map(|_| ())
    }

    fn start_pod(&mut self, plan: PodPlan, owner_kind: &'static str, revision: &str) -> Result<(String, String)> {
        let node = plan.node();
        if node != super::NODE && !self.objects.contains_key(&Key::new("Node", "", node)) {
            bail!("spec.nodeName: Node {node} does not exist: apply it first");
        }
        let id = (plan.namespace.clone(), plan.name.clone());
        let around = Around {
            network: &self.network,
            folder: &self.folder,
            proxy_config: &self.options.proxy_config,
            configs: &Values(&self.objects),
        };
        let pod = Pod::start(plan, owner_kind, revision.to_owned(), around)?;
        self.write_pod(&pod)?;
        self.pods.insert(id.clone(), pod);
        Ok(id)
    }

    pub(super) fn write_pod(&self, pod: &Pod) -> Result<()> {
        self.write(&Object {
            key: Key::new("Pod", &pod.plan.namespace, &pod.plan.name),
            document: pod.plan.object(pod.space.ip, pod.ready, pod.owner_kind),
        })
    }

    pub(super) fn remove_pods(&mut self, ids: &[(String, String)]) -> Result<()> {
        let mut going = Vec::new();
        for id in ids {
            if let Some(pod) = self.pods.remove(id) {
                let file = Key::new("Pod", &id.0, &id.1).file(&self.folder.config());
                let _ = std::fs::remove_file(file);
                going.push(pod);
            }
        }
        if going.is_empty() {
            return Ok(());
        }
        self.publish()?;
        std::thread::sleep(SPREAD);
        std::thread::scope(|scope| {
            for pod in going {
                let network = &self.network;
                scope.spawn(move || pod.remove(network, GRACE));
            }
        });
        Ok(())
    }

    /// Waits with the state in hand, so that nobody else can change it.
    fn wait_for(&mut self, ids: &[(String, String)], limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let checks = ids
                .iter()
                .filter_map(|id| Some((id.clone(), self.pods.get(id)?.checks())));
            let states: Vec<_> = checks.map(|(id, checks)| (id, checks.hold())).collect();
            let all = states.iter().all(|(_, ready)| *ready);
            self.set_ready(&states)?;
            if all {
                return Ok(());
            }
            for id in ids {
                let ended = self.pods.get_mut(id).map(Pod::ended).unwrap_or_default();
                if !ended.is_empty() {
                    bail!("{}", ended.join("\n"));
                }
            }
            if Instant::now() > deadline {
                let words: Vec<String> = ids
                    .iter()
                    .filter_map(|id| Some(self.pods.get(id)?.last_words()))
                    .collect();
                bail!("not ready after {limit:?}:\n{}", words.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn hash(value: &Value) -> String {
    let hash = foldhash::quality::FixedState::default().hash_one(value.to_string());
    format!("{hash:016x}")
}

fn short(hash: &str) -> &str {
    hash.get(..9).unwrap_or(hash)
}

/// Five letters and digits, those that Kubernetes uses: none that look alike, no vowels that make words.
fn random_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    (0..5)
        .map(|_| {
            char::from(
                LETTERS
                    .get(random.random_range(0..LETTERS.len()))
                    .copied()
                    .unwrap_or(b'x'),
            )
        })
        .collect()
}
