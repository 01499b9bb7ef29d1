//! What a Deployment or Pod asks for, worked out without touching anything: names, labels, injection, environment.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use mesh_api::k8s::{Container, EnvVar, ObjectMeta, Pod, PodSpec};
use mesh_api::names::{annotation, label};
use serde_json::{Value, json};

use crate::sample::image::Role;

/// Annotation that picks injection templates.
const TEMPLATES: &str = "inject.istio.io/templates";

/// What runs beside the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Injection {
    /// Nothing: no proxy and no capture.
    None,
    /// A sidecar with capture.
    Sidecar,
    /// The proxy alone, as a gateway.
    Gateway,
}

/// Labels and annotations of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodMeta {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A program to run in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Container name.
    pub container: String,
    /// Image.
    pub image: String,
    /// Arguments of the container.
    pub arguments: Vec<String>,
    /// Environment, references resolved.
    pub env: Vec<(String, String)>,
    /// TCP ports that must be open before the pod is ready.
    pub ports: Vec<u16>,
}

/// A pod to start.
#[derive(Debug, Clone)]
pub struct PodPlan {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of the Deployment, or of the pod itself.
    pub workload: String,
    /// API path of the owner, for `ISTIO_META_OWNER`.
    pub owner: String,
    /// Labels and annotations, injected ones included.
    pub meta: PodMeta,
    /// Service account.
    pub service_account: String,
    /// What runs beside the application.
    pub injection: Injection,
    /// Spec as it was given.
    pub spec: PodSpec,
}

/// Decides as Istio's webhooks do: the namespace's label first, then the pod's own label or annotation.
pub fn injection(namespace_labels: &BTreeMap<String, String>, pod: &PodMeta) -> Injection {
    let own = pod
        .labels
        .get(label::INJECT)
        .or_else(|| pod.annotations.get(annotation::INJECT));
    let own = own.map(String::as_str);
    let injected = match namespace_labels.get(label::INJECTION).map(String::as_str) {
        Some("enabled") => own != Some("false"),
        Some(_) => false,
        None if namespace_labels.contains_key(label::REVISION) => own != Some("false"),
        None => own == Some("true") || (pod.labels.contains_key(label::REVISION) && own != Some("false")),
    };
    if !injected {
        return Injection::None;
    }
    match pod.annotations.get(TEMPLATES).map(String::as_str) {
        Some("gateway") => Injection::Gateway,
        _ => Injection::Sidecar,
    }
}

/// Where a pod's parts come from.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// `deployments` or `pods`.
    pub resource: &'a str,
    /// Name of the Deployment or Pod.
    pub name: &'a str,
    /// Namespace.
    pub namespace: &'a str,
}

/// Plans one pod.
///
/// # Errors
/// When it has no container, or an image that nothing here plays.
pub fn pod(
    owner: Owner<'_>,
    pod_name: &str,
    meta: &ObjectMeta,
    spec: &PodSpec,
    namespace_labels: &BTreeMap<String, String>,
) -> Result<PodPlan> {
    let mut pod_meta = PodMeta {
        labels: meta.labels.clone().unwrap_or_default().into_iter().collect(),
        annotations: meta.annotations.clone().unwrap_or_default().into_iter().collect(),
    };
    let injection = injection(namespace_labels, &pod_meta);
    if injection != Injection::None {
        inject_labels(&mut pod_meta, owner.name);
    }
    let service_account = spec
        .service_account_name
        .clone()
        .or_else(|| spec.service_account.clone());
    let plan = PodPlan {
        namespace: owner.namespace.to_owned(),
        name: pod_name.to_owned(),
        workload: owner.name.to_owned(),
        owner: match owner.resource {
            "pods" => format!(
                "kubernetes://apis/v1/namespaces/{}/pods/{}",
                owner.namespace, owner.name
            ),
            resource => format!(
                "kubernetes://apis/apps/v1/namespaces/{}/{resource}/{}",
                owner.namespace, owner.name
            ),
        },
        meta: pod_meta,
        service_account: service_account.unwrap_or_else(|| "default".to_owned()),
        injection,
        spec: spec.clone(),
    };
    if plan.containers().next().is_none() && injection != Injection::Gateway {
        bail!("spec.containers is empty");
    }
    for container in plan.containers() {
        Role::of(container.image.as_deref().unwrap_or_default())
            .with_context(|| format!("container {}", container.name))?;
    }
    Ok(plan)
}

fn inject_labels(meta: &mut PodMeta, workload: &str) {
    let canonical = |labels: &BTreeMap<String, String>, names: [&str; 2], default: &str| {
        let found = names
            .iter()
            .find_map(|name| labels.get(*name))
            .map_or(default, String::as_str);
        found.chars().take(63).collect::<String>()
    };
    let name = canonical(&meta.labels, ["app.kubernetes.io/name", "app"], workload);
    let revision = canonical(&meta.labels, ["app.kubernetes.io/version", "version"], "latest");
    let mut add = |key: &str, value: String| {
        meta.labels.entry(key.to_owned()).or_insert(value);
    };
    add(label::CANONICAL_NAME, name);
    add(label::CANONICAL_REVISION, revision);
    if meta.annotations.get(TEMPLATES).map(String::as_str) != Some("gateway") {
        add(label::TLS_MODE, "istio".to_owned());
    }
}

impl PodPlan {
    /// The application's containers: all but the proxy.
    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.spec
            .containers
            .iter()
            .filter(|container| container.name != "istio-proxy")
    }

    /// Ports of all containers, as the injector tells them to the proxy.
    pub fn ports(&self) -> Vec<Value> {
        let ports = self.containers().flat_map(|container| container.ports.iter().flatten());
        ports
            .map(|port| {
                let mut shown = serde_json::Map::new();
                if let Some(name) = &port.name {
                    shown.insert("name".to_owned(), json!(name));
                }
                shown.insert("containerPort".to_owned(), json!(port.container_port));
                shown.insert("protocol".to_owned(), json!(port.protocol.as_deref().unwrap_or("TCP")));
                Value::Object(shown)
            })
            .collect()
    }

    /// The node that it is on, as far as anybody can tell: all pods are on this machine.
    pub fn node(&self) -> &str {
        self.spec.node_name.as_deref().unwrap_or(super::NODE)
    }

    /// An annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.meta.annotations.get(name).map(String::as_str)
    }

    /// The programs to run, with their environment for a pod at this address.
    ///
    /// # Errors
    /// When an environment variable refers to something that does not exist here.
    pub fn apps(&self, ip: IpAddr, configs: &dyn Configs) -> Result<Vec<App>> {
        self.containers()
            .map(|container| self.app(container, ip, configs))
            .collect()
    }

    fn app(&self, container: &Container, ip: IpAddr, configs: &dyn Configs) -> Result<App> {
        let mut env = vec![("HOSTNAME".to_owned(), self.name.clone())];
        for variable in container.env.iter().flatten() {
            let value = self.value(variable, ip, configs);
            let value = value.with_context(|| format!("container {}: env {}", container.name, variable.name))?;
            env.push((variable.name.clone(), value));
        }
        if container.env_from.as_ref().is_some_and(|list| !list.is_empty()) {
            bail!(
                "container {}: envFrom is not supported here: name the variables in env",
                container.name
            );
        }
        let tcp = container
            .ports
            .iter()
            .flatten()
            .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
        Ok(App {
            container: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            arguments: container.args.clone().unwrap_or_default(),
            env,
            ports: tcp.filter_map(|port| u16::try_from(port.container_port).ok()).collect(),
        })
    }

    fn value(&self, variable: &EnvVar, ip: IpAddr, configs: &dyn Configs) -> Result<String> {
        let Some(from) = &variable.value_from else {
            return Ok(variable.value.clone().unwrap_or_default());
        };
        if let Some(field) = &from.field_ref {
            return self.field(&field.field_path, ip);
        }
        let (kind, name, key) = if let Some(config) = &from.config_map_key_ref {
            ("ConfigMap", &config.name, &config.key)
        } else if let Some(secret) = &from.secret_key_ref {
            ("Secret", &secret.name, &secret.key)
        } else {
            bail!("valueFrom: only fieldRef, configMapKeyRef and secretKeyRef are supported here");
        };
        let found = configs.value(kind, &self.namespace, name, key);
        found.with_context(|| format!("{kind} {}/{name} with key {key} does not exist", self.namespace))
    }

    fn field(&self, path: &str, ip: IpAddr) -> Result<String> {
        let quoted = |prefix: &str| path.strip_prefix(prefix)?.strip_suffix("']");
        Ok(match path {
            "metadata.namespace" => self.namespace.clone(),
            "metadata.name" => self.name.clone(),
            "spec.serviceAccountName" => self.service_account.clone(),
            "spec.nodeName" => self.node().to_owned(),
            "status.podIP" | "status.podIPs" => ip.to_string(),
            _ => {
                let label = quoted("metadata.labels['").map(|name| self.meta.labels.get(name));
                let annotation = quoted("metadata.annotations['").map(|name| self.meta.annotations.get(name));
                match label.or(annotation) {
                    Some(value) => value.cloned().unwrap_or_default(),
                    None => bail!("fieldRef {path:?} is not supported here"),
                }
            }
        })
    }

    /// The Pod object that is published.
    pub fn object(&self, ip: IpAddr, ready: bool, owner_kind: &str) -> Value {
        let status = if ready { "True" } else { "False" };
        let conditions: Vec<Value> = [
            ("Initialized", "True"),
            ("PodScheduled", "True"),
            ("ContainersReady", status),
            ("Ready", status),
        ]
        .map(|(kind, status)| json!({"type": kind, "status": status}))
        .to_vec();
        let pod = Pod {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(self.meta.labels.clone().into_iter().collect()),
                annotations: (!self.meta.annotations.is_empty())
                    .then(|| self.meta.annotations.clone().into_iter().collect()),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                node_name: Some(self.node().to_owned()),
                service_account_name: Some(self.service_account.clone()),
                ..self.spec.clone()
            }),
            status: None,
        };
        let mut document = serde_json::to_value(pod).unwrap_or_default();
        if owner_kind != "Pod" {
            let owner = json!([{"apiVersion": "apps/v1", "kind": owner_kind, "name": self.workload, "uid": self.workload, "controller": true}]);
            super::objects::set(&mut document, &["metadata", "ownerReferences"], owner);
        }
        let ip = ip.to_string();
        let status = json!({
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": conditions,
        });
        super::objects::set(&mut document, &["status"], status);
        document
    }
}

/// Values of ConfigMaps and Secrets.
pub trait Configs {
    /// The value under a key.
    fn value(&self, kind: &str, namespace: &str, name: &str, key: &str) -> Option<String>;
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
