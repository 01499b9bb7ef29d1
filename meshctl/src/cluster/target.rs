//! What people name: `NAME.NAMESPACE`, `deploy/NAME`, and the pod behind it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, Selector};
use kube::{Api, Resource};

use super::{Cluster, ClusterOptions, PROXY};

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodName {
    /// Name.
    pub(crate) name: String,
    /// Namespace.
    pub(crate) namespace: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// What a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A pod by its own name.
    Pod,
    /// Any pod of a workload.
    Deployment,
    /// As above.
    ReplicaSet,
    /// As above.
    StatefulSet,
    /// As above.
    DaemonSet,
    /// As above.
    Job,
    /// Any pod that a service selects.
    Service,
}

/// A pod, or something that has pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: String,
    /// Its namespace, where the target says one.
    pub(crate) namespace: Option<String>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, rest) = match text.split_once('/') {
            None => (Kind::Pod, text),
            Some((kind, rest)) => (kind_of(kind)?, rest),
        };
        // Names of pods may have dots, namespaces may not.
        let (name, namespace) = match rest.rsplit_once('.') {
            Some((name, namespace)) => (name, Some(namespace.to_owned())),
            None => (rest, None),
        };
        if name.is_empty() || name.contains('/') || namespace.as_deref() == Some("") {
            return Err(format!(
                "{text:?} names no pod; write NAME, NAME.NAMESPACE or deploy/NAME.NAMESPACE"
            ));
        }
        Ok(Target {
            kind,
            name: name.to_owned(),
            namespace,
        })
    }
}

fn kind_of(text: &str) -> Result<Kind, String> {
    Ok(match text.split('.').next().unwrap_or_default() {
        "pod" | "pods" | "po" => Kind::Pod,
        "deployment" | "deployments" | "deploy" => Kind::Deployment,
        "replicaset" | "replicasets" | "rs" => Kind::ReplicaSet,
        "statefulset" | "statefulsets" | "sts" => Kind::StatefulSet,
        "daemonset" | "daemonsets" | "ds" => Kind::DaemonSet,
        "job" | "jobs" => Kind::Job,
        "service" | "services" | "svc" => Kind::Service,
        _ => {
            return Err(format!(
                "{text:?} is no kind that has pods; there are pod, deploy, rs, sts, ds, job and svc"
            ));
        }
    })
}

impl Target {
    /// The pod, or one of the pods, of which those that are ready come first.
    pub(crate) async fn pod(&self, cluster: &Cluster) -> Result<PodName> {
        let namespace = self.namespace.as_deref().unwrap_or(&cluster.namespace);
        if self.kind == Kind::Pod {
            return Ok(PodName {
                name: self.name.clone(),
                namespace: namespace.to_owned(),
            });
        }
        let selector = self.selector(cluster, namespace).await?;
        let list = ListParams::default().labels_from(&selector);
        let pods = cluster.pods(namespace).list(&list).await;
        let mut pods = pods.with_context(|| format!("pods of {self}"))?.items;
        pods.sort_by_key(|pod| (!is_ready(pod), pod.metadata.name.clone()));
        let first = pods.into_iter().find(is_running);
        let Some(name) = first.and_then(|pod| pod.metadata.name) else {
            bail!("{self} in namespace {namespace} has no pod that runs");
        };
        Ok(PodName {
            name,
            namespace: namespace.to_owned(),
        })
    }

    /// The pod of this name, where there is no cluster to ask.
    pub(crate) fn named(&self, options: &ClusterOptions) -> Result<PodName> {
        if self.kind != Kind::Pod {
            bail!("{self}: without a cluster nobody knows its pods; write NAME.NAMESPACE");
        }
        let namespace = self.namespace.as_ref().or(options.namespace.as_ref());
        Ok(PodName {
            name: self.name.clone(),
            namespace: namespace.map_or("default", String::as_str).to_owned(),
        })
    }

    async fn selector(&self, cluster: &Cluster, namespace: &str) -> Result<Selector> {
        let resource = match self.kind {
            Kind::Deployment => ApiResource::erase::<Deployment>(&()),
            Kind::ReplicaSet => ApiResource::erase::<ReplicaSet>(&()),
            Kind::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Kind::DaemonSet => ApiResource::erase::<DaemonSet>(&()),
            Kind::Job => ApiResource::erase::<Job>(&()),
            Kind::Service => ApiResource::erase::<Service>(&()),
            Kind::Pod => ApiResource::erase::<Pod>(&()),
        };
        let kind = resource.kind.clone();
        let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), namespace, &resource);
        let object = api.get_opt(&self.name).await.with_context(|| self.to_string())?;
        let Some(object) = object else {
            bail!(
                "there is no {kind} {} in namespace {namespace}; is -n right?",
                self.name
            );
        };
        let selector = &object.data["spec"]["selector"];
        if self.kind == Kind::Service {
            let labels = selector.as_object().into_iter().flatten();
            let labels = labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())));
            let selector: Selector = labels.collect();
            if selector.selects_all() {
                bail!("{self} in namespace {namespace} selects no pods");
            }
            return Ok(selector);
        }
        let selector: LabelSelector =
            serde_json::from_value(selector.clone()).with_context(|| format!("spec.selector of {self}"))?;
        Selector::try_from(selector).with_context(|| format!("spec.selector of {self}"))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Pod => Pod::kind(&()),
            Kind::Deployment => Deployment::kind(&()),
            Kind::ReplicaSet => ReplicaSet::kind(&()),
            Kind::StatefulSet => StatefulSet::kind(&()),
            Kind::DaemonSet => DaemonSet::kind(&()),
            Kind::Job => Job::kind(&()),
            Kind::Service => Service::kind(&()),
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// Whether it runs and is not on its way out.
pub(crate) fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

/// Whether it has a proxy, as a container or as an init container that goes on.
pub(crate) fn has_proxy(pod: &Pod) -> bool {
    let spec = pod.spec.iter();
    spec.flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()))
        .any(|c| c.name == PROXY)
}

/// Whether it takes traffic.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref());
    let ready = |conditions: &[k8s_openapi::api::core::v1::PodCondition]| {
        conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    is_running(pod) && conditions.is_some_and(ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_taken_apart() {
        for (text, kind, name, namespace) in [
            ("web", Kind::Pod, "web", None),
            ("web-1.shop", Kind::Pod, "web-1", Some("shop")),
            ("a.b.shop", Kind::Pod, "a.b", Some("shop")),
            ("deploy/web", Kind::Deployment, "web", None),
            ("deployment/web.shop", Kind::Deployment, "web", Some("shop")),
            ("deployments.apps/web", Kind::Deployment, "web", None),
            ("sts/db.shop", Kind::StatefulSet, "db", Some("shop")),
            ("svc/web", Kind::Service, "web", None),
            ("pod/web-1", Kind::Pod, "web-1", None),
        ] {
            let target: Target = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((target.kind, target.name.as_str()), (kind, name), "{text}");
            assert_eq!(target.namespace.as_deref(), namespace, "{text}");
        }
        for (text, part) in [
            ("", "names no pod"),
            ("deploy/", "names no pod"),
            ("web.", "names no pod"),
            ("a/b/c", "no kind"),
            ("secret/x", "no kind"),
            ("deploy/a/b", "names no pod"),
        ] {
            let error = Target::from_str(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
