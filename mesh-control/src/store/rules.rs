//! DestinationRules and PeerAuthentications in the form in which they are looked up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mesh_api::istio::{
    DestinationRule, LoadBalancerSettings, MutualTlsMode, Object, ObjectMeta, PeerAuthentication, Subset, TrafficPolicy,
};
use mesh_api::mesh_config::MeshConfig;

use super::host;
use super::workload::selects;

/// Order in which objects that speak for one thing are asked: the oldest first, then by name and namespace.
pub fn age(meta: &ObjectMeta) -> (Option<jiff::Timestamp>, &str, &str) {
    (meta.creation_timestamp, &meta.name, &meta.namespace)
}

/// Istio's name of an object in resource metadata.
pub fn config_path(kind: &str, meta: &ObjectMeta) -> String {
    format!(
        "/apis/networking.istio.io/v1/namespaces/{}/{kind}/{}",
        meta.namespace, meta.name
    )
}

/// Settings of load balancers in a rule, each with whether failing endpoints are ejected beside it.
fn balancers(rule: &DestinationRule) -> impl Iterator<Item = (Option<&LoadBalancerSettings>, bool)> {
    let subsets = rule.subsets.iter().filter_map(|s| s.traffic_policy.as_ref());
    rule.traffic_policy.iter().chain(subsets).flat_map(|policy| {
        let ports = policy.port_level_settings.iter();
        let ports = ports.map(|p| (p.load_balancer.as_ref(), p.outlier_detection.is_some()));
        let own = (policy.load_balancer.as_ref(), policy.outlier_detection.is_some());
        std::iter::once(own).chain(ports)
    })
}

/// Whether any of the rules, or the mesh's own setting, tells near endpoints from far ones. Priorities by locality are
/// given only where failing endpoints are ejected, so ejection asks too.
pub(super) fn ask_locality(rules: &[&Object<DestinationRule>], mesh: &MeshConfig) -> bool {
    let mut balancers = rules.iter().flat_map(|r| balancers(&r.spec));
    let by_mesh = mesh.locality_lb_setting.as_ref();
    by_mesh.is_some_and(|s| !s.distribute.is_empty())
        || balancers.any(|(own, ejects)| ejects || own.is_some_and(|b| b.locality_lb_setting.is_some()))
}

/// Labels of clients that decide which endpoints are near.
pub(super) fn failover_labels(rules: &[&Object<DestinationRule>], mesh: &MeshConfig) -> BTreeSet<String> {
    let balancers = rules.iter().flat_map(|r| balancers(&r.spec));
    let settings = balancers.filter_map(|(own, _)| own?.locality_lb_setting.as_ref());
    let keys = settings
        .chain(&mesh.locality_lb_setting)
        .flat_map(|s| &s.failover_priority);
    // With a value the rule itself says what is near.
    keys.filter(|key| !key.contains('=')).cloned().collect()
}

/// DestinationRules of one namespace for one host, merged.
#[derive(Debug, Clone)]
pub struct TrafficRule {
    /// Metadata of the oldest of the objects.
    pub meta: ObjectMeta,
    /// Host or wildcard, completed.
    pub host: String,
    /// Policy of the oldest that has one.
    pub policy: Option<TrafficPolicy>,
    /// Subsets of all, and the objects that they are from.
    pub subsets: Vec<Subset>,
    /// `exportTo`.
    pub export_to: Vec<String>,
    /// `workloadSelector`: clients that the rule is for.
    pub selector: Option<BTreeMap<String, String>>,
}

impl TrafficRule {
    /// What Istio's metadata calls the object.
    pub fn config(&self) -> String {
        config_path("destination-rule", &self.meta)
    }

    /// Nobody outside of the rule's own namespace can use it.
    fn is_private(&self, default_export: &[String]) -> bool {
        let export_to = if self.export_to.is_empty() {
            default_export
        } else {
            &self.export_to
        };
        self.selector.is_some() || export_to == ["."]
    }

    /// `DestinationRule shop/catalog`, for messages.
    pub fn name(&self) -> String {
        format!("DestinationRule {}/{}", self.meta.namespace, self.meta.name)
    }
}

/// DestinationRules by namespace.
#[derive(Debug, Clone, Default)]
pub struct TrafficRules(HashMap<String, OfNamespace>);

/// Rules of one namespace; under one host those for chosen clients come first, then the oldest.
#[derive(Debug, Clone, Default)]
struct OfNamespace {
    /// By full name.
    exact: HashMap<String, Vec<Arc<TrafficRule>>>,
    /// For wildcards, the most specific first.
    wildcards: Vec<Arc<TrafficRule>>,
}

impl TrafficRules {
    /// Merges and sorts; `rules` come oldest first.
    pub fn build<'a>(rules: impl IntoIterator<Item = &'a Object<DestinationRule>>) -> Self {
        let mut by_host: BTreeMap<(String, String), Vec<TrafficRule>> = BTreeMap::new();
        for object in rules {
            let host = host::resolve(&object.spec.host, &object.meta.namespace);
            let list = by_host
                .entry((object.meta.namespace.clone(), host.clone()))
                .or_default();
            add(list, object, host);
        }
        let mut all: HashMap<String, OfNamespace> = HashMap::new();
        for ((namespace, host), mut list) in by_host {
            list.sort_by_key(|r| r.selector.is_none());
            let list = list.into_iter().map(Arc::new);
            let of_namespace = all.entry(namespace).or_default();
            if host.starts_with('*') {
                of_namespace.wildcards.extend(list);
            } else {
                of_namespace.exact.insert(host, list.collect());
            }
        }
        for of_namespace in all.values_mut() {
            of_namespace
                .wildcards
                .sort_by_key(|r| (std::cmp::Reverse(host::specificity(&r.host)), r.selector.is_none()));
        }
        TrafficRules(all)
    }

    /// The rule for a host: of the client's namespace, else of the service's, else of the root namespace. What the root
    /// namespace exports is the mesh's default, so that its own clients (gateways, as a rule) ask for it last, too.
    pub fn find(
        &self,
        host: &str,
        service_namespace: &str,
        client_namespace: &str,
        client_labels: &BTreeMap<String, String>,
        root: &str,
        default_export: &[String],
    ) -> Option<&Arc<TrafficRule>> {
        let own = self.in_namespace(client_namespace, host, |rule| {
            let chosen = rule.selector.as_ref().is_none_or(|s| selects(s, client_labels));
            chosen && (client_namespace != root || rule.is_private(default_export))
        });
        own.or_else(|| {
            [service_namespace, root].into_iter().find_map(|namespace| {
                // A selector chooses clients of the rule's own namespace only.
                self.in_namespace(namespace, host, |rule| {
                    rule.selector.is_none()
                        && host::visible(&rule.export_to, default_export, namespace, client_namespace)
                })
            })
        })
    }

    fn in_namespace(
        &self,
        namespace: &str,
        host: &str,
        takes: impl Fn(&TrafficRule) -> bool,
    ) -> Option<&Arc<TrafficRule>> {
        let rules = self.0.get(namespace)?;
        let exact = rules.exact.get(host).into_iter().flatten();
        let around = rules.wildcards.iter().filter(|r| host::covers(&r.host, host));
        exact.chain(around).find(|rule| takes(rule))
    }
}

/// Merges a rule into those of its namespace and host that are for the same clients.
fn add(list: &mut Vec<TrafficRule>, object: &Object<DestinationRule>, host: String) {
    let spec = &object.spec;
    let selector = spec.workload_selector.as_ref().map(|s| s.match_labels.clone());
    let same = list
        .iter_mut()
        .find(|r| r.selector == selector && r.export_to == spec.export_to);
    let Some(merged) = same else {
        list.push(TrafficRule {
            meta: object.meta.clone(),
            host,
            policy: spec.traffic_policy.clone(),
            subsets: spec.subsets.clone(),
            export_to: spec.export_to.clone(),
            selector,
        });
        return;
    };
    if merged.policy.is_none() {
        merged.policy.clone_from(&spec.traffic_policy);
    }
    for subset in &spec.subsets {
        if merged.subsets.iter().all(|s| s.name != subset.name) {
            merged.subsets.push(subset.clone());
        }
    }
}

/// Whether inbound connections of a workload must be mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mtls {
    /// For ports without a mode of their own; never UNSET.
    pub mode: MutualTlsMode,
    /// For single ports of the workload; never UNSET.
    pub ports: BTreeMap<u16, MutualTlsMode>,
}

impl Mtls {
    /// The mode of a port.
    pub fn of_port(&self, port: u16) -> MutualTlsMode {
        self.ports.get(&port).copied().unwrap_or(self.mode)
    }
}

/// PeerAuthentications, resolved as far as they are without a workload.
#[derive(Debug, Clone)]
pub struct PeerAuthentications {
    /// For namespaces without any of their own.
    mesh: MutualTlsMode,
    namespaces: HashMap<String, Authentications>,
}

#[derive(Debug, Clone)]
struct Authentications {
    /// For workloads that no policy chooses.
    around: MutualTlsMode,
    /// Labels of the workloads that a policy chooses, with what it says; oldest first.
    selective: Vec<(BTreeMap<String, String>, Mtls)>,
}

impl Default for PeerAuthentications {
    fn default() -> Self {
        Self::build([], "")
    }
}

impl PeerAuthentications {
    /// Resolves; `objects` come oldest first. The mode of a workload is that of its own policy, else of the namespace's, else
    /// of the mesh's (which is the one of the namespace `root`), else PERMISSIVE. UNSET asks the wider scope.
    pub fn build<'a>(objects: impl IntoIterator<Item = &'a Object<PeerAuthentication>>, root: &str) -> Self {
        let mut by_namespace: HashMap<&str, Vec<&Object<PeerAuthentication>>> = HashMap::new();
        for object in objects {
            by_namespace.entry(&object.meta.namespace).or_default().push(object);
        }
        let wide = |namespace: &str| {
            let objects = by_namespace.get(namespace)?;
            let first = objects.iter().find(|p| !selective(p))?;
            Some(mode(&first.spec)).filter(|m| *m != MutualTlsMode::Unset)
        };
        let mesh = wide(root).unwrap_or(MutualTlsMode::Permissive);
        let one = |(namespace, objects): (&&str, &Vec<&Object<PeerAuthentication>>)| {
            let around = wide(namespace).unwrap_or(mesh);
            // In the root namespace a policy with a selector is for that namespace's own workloads.
            let chosen = objects.iter().filter(|p| selective(p)).filter_map(|p| {
                let selector = p.spec.selector.as_ref()?;
                Some((selector.match_labels.clone(), of_workload(&p.spec, around)))
            });
            let selective = chosen.collect();
            ((*namespace).to_owned(), Authentications { around, selective })
        };
        PeerAuthentications {
            namespaces: by_namespace.iter().map(one).collect(),
            mesh,
        }
    }

    /// What counts for a workload.
    pub fn resolve(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Mtls {
        match self.find(namespace, labels) {
            Ok(own) => own.clone(),
            Err(mode) => Mtls {
                mode,
                ports: BTreeMap::new(),
            },
        }
    }

    /// What counts for one port of a workload.
    pub fn of_port(&self, namespace: &str, labels: &BTreeMap<String, String>, port: u16) -> MutualTlsMode {
        self.find(namespace, labels)
            .map_or_else(|mode| mode, |own| own.of_port(port))
    }

    /// The policy that chooses a workload, or the mode around it.
    fn find(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Result<&Mtls, MutualTlsMode> {
        let of_namespace = self.namespaces.get(namespace).ok_or(self.mesh)?;
        let mut own = of_namespace.selective.iter().filter(|(s, _)| selects(s, labels));
        own.next().map(|(_, mtls)| mtls).ok_or(of_namespace.around)
    }
}

fn of_workload(spec: &PeerAuthentication, around: MutualTlsMode) -> Mtls {
    let workload = match mode(spec) {
        MutualTlsMode::Unset => around,
        set => set,
    };
    let ports = spec.port_level_mtls.iter().filter_map(|(port, m)| {
        let mode = if m.mode == MutualTlsMode::Unset {
            workload
        } else {
            m.mode
        };
        Some((u16::try_from(*port).ok()?, mode))
    });
    Mtls {
        mode: workload,
        ports: ports.collect(),
    }
}

fn mode(spec: &PeerAuthentication) -> MutualTlsMode {
    spec.mtls.as_ref().map_or(MutualTlsMode::Unset, |m| m.mode)
}

fn selective(object: &Object<PeerAuthentication>) -> bool {
    object
        .spec
        .selector
        .as_ref()
        .is_some_and(|s| !s.match_labels.is_empty())
}
