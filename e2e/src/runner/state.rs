//! All that a mesh holds, and how objects become pods, names and rules.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use mesh_api::k8s::Service;
use serde_json::json;

use super::control::Control;
use super::dns::NameServer;
use super::folder::Folder;
use super::objects::{self, Key, Object};
use super::pod::{Pod, with_discovery_name};
use super::{Options, gateway, services};
use crate::netns::Network;
use crate::netns::services as rules;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// It is another now.
    Configured,
    /// It was the same before.
    Unchanged,
}

/// A mesh's state. Fields are dropped in this order: programs first, the network last.
#[derive(Debug)]
pub struct State {
    /// Pods by namespace and name.
    pub pods: BTreeMap<(String, String), Pod>,
    /// The control plane.
    pub control: Control,
    dns: NameServer,
    pub(super) objects: BTreeMap<Key, Object>,
    pub(super) options: Options,
    /// Files.
    pub folder: Folder,
    /// The network.
    pub network: Network,
}

impl State {
    /// Starts network, name server and control plane.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start(options: Options) -> Result<State> {
        let network = Network::create(options.family)?;
        let folder = Folder::create(network.files(), options.programs.clone())?;
        let dns = NameServer::start(&network)?;
        let control = Control::start(&network, &folder, options.mesh_config.as_deref())?;
        let mut state = State {
            pods: BTreeMap::new(),
            control,
            dns,
            objects: BTreeMap::new(),
            options,
            folder,
            network,
        };
        state.apply(super::control::OBJECTS, mesh_api::names::ROOT_NAMESPACE)?;
        state.publish_control()?;
        for namespace in ["default".to_owned(), state.options.namespace.clone()] {
            let key = Key::new("Namespace", "", &namespace);
            if !state.objects.contains_key(&key) {
                let text = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n");
                state.apply(&text, &namespace)?;
            }
        }
        state.publish()?;
        Ok(state)
    }

    /// The control plane's own pod, as others see it.
    fn publish_control(&self) -> Result<()> {
        let ip = self.control.space.ip.to_string();
        let document = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "istiod", "namespace": "istio-system", "labels": {"app": "istiod", "istio": "pilot"}},
            "spec": {"nodeName": super::NODE, "serviceAccountName": "istiod", "containers": [{"name": "discovery", "image": "mesh-control"}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}]},
        });
        let key = Key::new("Pod", "istio-system", "istiod");
        self.write(&Object { key, document })
    }

    pub(super) fn write(&self, object: &Object) -> Result<()> {
        objects::write_whole(&object.key.file(&self.folder.config()), &object.yaml()?)
    }

    /// Takes objects into force, each on its own: one that fails does not keep the others from it.
    ///
    /// # Errors
    /// When the text cannot be read, or an object cannot be taken; the error names all that failed.
    pub fn apply(&mut self, text: &str, namespace: &str) -> Result<Vec<(Key, Change)>> {
        let mut given = objects::read(text, namespace)?;
        given.sort_by_key(|object| match object.key.kind.as_str() {
            "Namespace" => 0,
            "Deployment" | "Pod" => 2,
            _ => 1,
        });
        let wants_gateway = given.iter().any(gateway::wants_one);
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for object in given {
            let key = object.key.clone();
            match self.take(object) {
                Ok(change) => done.push((key, change)),
                Err(error) => failed.push(format!("{key}: {error:#}")),
            }
        }
        if wants_gateway && !self.has_gateway() {
            for object in objects::read(gateway::OBJECTS, mesh_api::names::ROOT_NAMESPACE)? {
                self.take(object).context("the ingress gateway")?;
            }
        }
        self.publish()?;
        if !failed.is_empty() {
            bail!("{}", failed.join("\n"));
        }
        Ok(done)
    }

    fn has_gateway(&self) -> bool {
        let is_gateway = |pod: &Pod| pod.plan.meta.labels.get("istio").map(String::as_str) == Some("ingressgateway");
        self.pods.values().any(is_gateway)
    }

    fn take(&mut self, mut object: Object) -> Result<Change> {
        let key = object.key.clone();
        if !key.namespace.is_empty() && !self.objects.contains_key(&Key::new("Namespace", "", &key.namespace)) {
            bail!(
                "namespace {0:?} does not exist: apply a Namespace {0} first",
                key.namespace
            );
        }
        if key.kind == "Service" {
            self.give_address(&mut object)?;
        }
        let change = match self.objects.get(&key) {
            Some(old) if *old == object => return Ok(Change::Unchanged),
            Some(_) => Change::Configured,
            None => Change::Created,
        };
        match key.kind.as_str() {
            "Deployment" => self.deploy(&object)?,
            "Pod" => self.run_pod(&object)?,
            // Nobody reads service accounts: tokens are made for whatever name a pod has.
            "ServiceAccount" => {}
            _ => self.write(&object)?,
        }
        self.objects.insert(key, object);
        Ok(change)
    }

    /// Fills in spec.clusterIP, the same as before if the Service had one.
    fn give_address(&self, object: &mut Object) -> Result<()> {
        let service: Service = object.typed()?;
        let spec = service.spec.clone().unwrap_or_default();
        if spec.type_.as_deref() == Some("ExternalName") {
            bail!("spec.type ExternalName is not supported here: use a ServiceEntry");
        }
        if spec.cluster_ip.as_deref() == Some("None") || services::cluster_ip(&service).is_some() {
            return Ok(());
        }
        let old = self
            .objects
            .get(&object.key)
            .and_then(|old| services::cluster_ip(&old.typed().ok()?));
        let ip = match old {
            Some(ip) => ip,
            None => {
                let taken: BTreeSet<_> = self.services().iter().filter_map(services::cluster_ip).collect();
                let of_host = |host| self.network.service_address(host);
                services::address(&object.key.namespace, &object.key.name, &taken, of_host)
                    .context("all ClusterIPs are in use")?
            }
        };
        objects::set(&mut object.document, &["spec", "clusterIP"], json!(ip.to_string()));
        Ok(())
    }

    fn services(&self) -> Vec<Service> {
        let services = self.objects.values().filter(|object| object.key.kind == "Service");
        services.filter_map(|object| object.typed().ok()).collect()
    }

    pub(super) fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let object = self.objects.get(&Key::new("Namespace", "", namespace));
        let labels = object.and_then(|object| object.document.pointer("/metadata/labels"));
        labels
            .and_then(|labels| serde_json::from_value(labels.clone()).ok())
            .unwrap_or_default()
    }

    /// Whether there is such an object.
    pub fn has(&self, key: &Key) -> bool {
        self.objects.contains_key(key)
    }

    /// Removes an object and what was made for it.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn delete(&mut self, key: &Key) -> Result<()> {
        let object = self
            .objects
            .remove(key)
            .with_context(|| format!("{key} does not exist"))?;
        let _ = std::fs::remove_file(key.file(&self.folder.config()));
        let gone: Vec<_> = match key.kind.as_str() {
            "Pod" => vec![(key.namespace.clone(), key.name.clone())],
            "Deployment" => {
                let of_this = |pod: &Pod| {
                    pod.owner_kind == "ReplicaSet"
                        && pod.plan.workload == key.name
                        && pod.plan.namespace == key.namespace
                };
                self.pods
                    .iter()
                    .filter(|(_, pod)| of_this(pod))
                    .map(|(id, _)| id.clone())
                    .collect()
            }
            "Namespace" => {
                let inside: Vec<Key> = self
                    .objects
                    .keys()
                    .filter(|k| k.namespace == key.name)
                    .cloned()
                    .collect();
                for key in inside {
                    self.delete(&key)?;
                }
                Vec::new()
            }
            _ => Vec::new(),
        };
        drop(object);
        self.remove_pods(&gone)?;
        self.publish()
    }

    /// Gives a Deployment another number of pods.
    ///
    /// # Errors
    /// When there is no such Deployment, or a pod cannot be started.
    pub fn scale(&mut self, namespace: &str, name: &str, replicas: u32) -> Result<()> {
        let key = Key::new("Deployment", namespace, name);
        let mut object = self
            .objects
            .get(&key)
            .cloned()
            .with_context(|| format!("{key} does not exist"))?;
        objects::set(&mut object.document, &["spec", "replicas"], json!(replicas));
        self.take(object)?;
        self.publish()
    }

    /// Tells names and rules for the pods that are ready.
    pub fn publish(&self) -> Result<()> {
        let services = self.services();
        let backends: Vec<_> = self
            .pods
            .values()
            .map(|pod| services::Backend {
                plan: &pod.plan,
                ip: pod.space.ip,
                ready: pod.ready,
            })
            .collect();
        let mut service_rules = services::rules(&services, &backends);
        // The control plane is no pod of ours.
        let control = self.objects.get(&Key::new("Service", "istio-system", "istiod"));
        if let Some(ip) = control.and_then(|object| services::cluster_ip(&object.typed().ok()?)) {
            for rule in service_rules.iter_mut().filter(|rule| rule.ip == ip) {
                rule.endpoints = vec![std::net::SocketAddr::new(self.control.space.ip, rule.port)];
            }
        }
        self.dns
            .publish(with_discovery_name(services::names(&services, &backends)));
        rules::publish(&self.network, &service_rules)
    }

    /// Marks pods ready or not.
    ///
    /// # Errors
    /// When this cannot be told to the others.
    pub fn set_ready(&mut self, states: &[((String, String), bool)]) -> Result<()> {
        let mut changed = false;
        for (id, ready) in states {
            if let Some(pod) = self.pods.get_mut(id)
                && pod.ready != *ready
            {
                pod.ready = *ready;
                changed = true;
            }
            if let Some(pod) = self.pods.get(id) {
                self.write_pod(pod)?;
            }
        }
        if changed { self.publish() } else { Ok(()) }
    }
}
