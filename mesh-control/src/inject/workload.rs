//! Which workload a Pod belongs to, as far as the Pod tells.

use std::collections::BTreeMap;

use serde_json::Value;

use super::pod::{labels, text};

/// The object that makes Pods: a Deployment, a Job, or the Pod itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// Its name; empty if nobody knows yet.
    pub name: String,
    /// `Deployment`, `StatefulSet`, …
    pub kind: String,
    /// `apps/v1`.
    pub api_version: String,
}

impl Workload {
    /// Told from the Pod's owner: a Pod that a Deployment's ReplicaSet makes has that one's name with a hash at its end.
    #[must_use]
    pub fn of_pod(pod: &Value) -> Self {
        let name = text(pod, "/metadata/name").unwrap_or_default();
        let own = Workload {
            name: name.to_owned(),
            kind: "Pod".to_owned(),
            api_version: "v1".to_owned(),
        };
        let owners = pod.pointer("/metadata/ownerReferences").and_then(Value::as_array);
        let controls = |owner: &&Value| owner.get("controller").and_then(Value::as_bool) == Some(true);
        // A Pod with a name of its own may have an owner; its name says what it is.
        let generated = text(pod, "/metadata/generateName").is_some_and(|name| !name.is_empty());
        let Some(owner) = owners.into_iter().flatten().find(controls).filter(|_| generated) else {
            return own;
        };
        let field = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
        let mut workload = Workload {
            name: field("name").to_owned(),
            kind: field("kind").to_owned(),
            api_version: field("apiVersion").to_owned(),
        };
        workload.climb(&labels(pod));
        if workload.name.is_empty() {
            workload.name = own.name;
        }
        workload
    }

    /// From the direct owner to the one that people wrote.
    fn climb(&mut self, labels: &BTreeMap<String, String>) {
        let without = |label: &str| {
            let hash = labels.get(label).filter(|hash| !hash.is_empty())?;
            let name = self.name.strip_suffix(hash.as_str())?;
            Some(name.strip_suffix('-').unwrap_or(name).to_owned())
        };
        match self.kind.as_str() {
            "ReplicaSet" => {
                if let Some(name) = without("pod-template-hash") {
                    self.name = name;
                    "Deployment".clone_into(&mut self.kind);
                } else if let Some(name) = without("rollouts-pod-template-hash") {
                    self.name = name;
                    "Rollout".clone_into(&mut self.kind);
                    "v1alpha1".clone_into(&mut self.api_version);
                }
            }
            "ReplicationController" => {
                if let Some(name) = labels.get("deploymentconfig").filter(|name| !name.is_empty()) {
                    name.clone_into(&mut self.name);
                    "DeploymentConfig".clone_into(&mut self.kind);
                }
            }
            "Job" => {
                // A CronJob's Jobs are called by the minute at which they are due.
                let named = self.name.rsplit_once('-').filter(|(name, minute)| {
                    !name.is_empty() && (8..=10).contains(&minute.len()) && minute.bytes().all(|b| b.is_ascii_digit())
                });
                if let Some((name, _)) = named {
                    self.name = name.to_owned();
                    "CronJob".clone_into(&mut self.kind);
                    "batch/v1".clone_into(&mut self.api_version);
                }
            }
            _ => {}
        }
    }

    /// `kubernetes://apis/apps/v1/namespaces/shop/deployments/catalog`.
    #[must_use]
    pub fn owner(&self, namespace: &str) -> Option<String> {
        let known = !self.name.is_empty() && !self.api_version.is_empty();
        known.then(|| {
            let kinds = self.kind.to_lowercase();
            let Workload { name, api_version, .. } = self;
            let namespace = if namespace.is_empty() { "default" } else { namespace };
            format!("kubernetes://apis/{api_version}/namespaces/{namespace}/{kinds}s/{name}")
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(kind: &str, name: &str, labels: &Value) -> String {
        let pod = json!({"metadata": {"generateName": "x-", "labels": labels, "ownerReferences": [
            {"kind": "Other", "name": "other", "apiVersion": "v1"},
            {"kind": kind, "name": name, "apiVersion": "apps/v1", "controller": true}]}});
        let Workload {
            name,
            kind,
            api_version,
        } = Workload::of_pod(&pod);
        format!("{api_version} {kind} {name}")
    }

    #[test]
    fn the_owner_that_people_wrote_is_found() {
        let hash = json!({"pod-template-hash": "5d8f"});
        assert_eq!(of("ReplicaSet", "web-v1-5d8f", &hash), "apps/v1 Deployment web-v1");
        assert_eq!(of("ReplicaSet", "web", &hash), "apps/v1 ReplicaSet web");
        assert_eq!(
            of("ReplicaSet", "web-5d8f", &json!({"rollouts-pod-template-hash": "5d8f"})),
            "v1alpha1 Rollout web"
        );
        assert_eq!(of("StatefulSet", "db", &json!({})), "apps/v1 StatefulSet db");
        assert_eq!(of("Job", "report-27943200", &json!({})), "batch/v1 CronJob report");
        assert_eq!(of("Job", "report-2794", &json!({})), "apps/v1 Job report-2794");
        assert_eq!(
            of("ReplicationController", "web-1", &json!({"deploymentconfig": "web"})),
            "apps/v1 DeploymentConfig web"
        );
    }

    #[test]
    fn a_pod_of_its_own_is_its_workload() {
        let pod = json!({"metadata": {"name": "sleep"}});
        let workload = Workload::of_pod(&pod);
        assert_eq!(
            workload.owner("").as_deref(),
            Some("kubernetes://apis/v1/namespaces/default/pods/sleep")
        );
        assert_eq!(Workload::of_pod(&json!({})).owner("shop"), None, "no name yet");
    }
}
