//! Workloads that enter the mesh by themselves: a WorkloadEntry for each connected proxy that names a WorkloadGroup.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_api::istio::{AnyObject, Kind, Object, ObjectMeta, WorkloadEntry, WorkloadGroup};
use mesh_api::names::SpiffeId;
use tracing::warn;

use crate::compile::Proxy;

/// Key of a node's metadata that names the group (`ISTIO_META_AUTO_REGISTER_GROUP`).
pub(super) const GROUP: &str = "AUTO_REGISTER_GROUP";
/// Annotation of the entry with the name of its group.
const ANNOTATION: &str = "istio.io/autoRegistrationGroup";
/// How long an entry stays when its proxy is gone: one that comes back at once, perhaps to another replica, keeps its place.
const GRACE: Duration = Duration::from_secs(10);

/// A connected proxy, with the identity that it has proven.
pub(super) type Candidate = (Arc<Proxy>, Option<SpiffeId>);

/// The entries that are there.
#[derive(Debug, Default)]
pub(super) struct Registered {
    /// By namespace and name; with the time at which it goes, if its proxy is gone.
    entries: BTreeMap<(String, String), (Arc<AnyObject>, Option<Instant>)>,
    /// Proxies that were refused, and why: it is said once.
    refused: BTreeMap<String, String>,
}

impl Registered {
    /// Brings the entries in line with the connected proxies and the objects of the source, and adds them to these.
    pub(super) fn apply(&mut self, proxies: &[Candidate], objects: &mut Vec<Arc<AnyObject>>, now: Instant) {
        let written: HashSet<(String, String)> = objects
            .iter()
            .filter(|o| o.kind() == Kind::WorkloadEntry)
            .map(|o| (o.namespace().to_owned(), o.name().to_owned()))
            .collect();
        let mut present: BTreeMap<(String, String), Arc<AnyObject>> = BTreeMap::new();
        let mut refused = BTreeMap::new();
        for (proxy, identity) in proxies {
            let Some(group) = proxy.meta(GROUP) else { continue };
            match admit(proxy, identity.as_ref(), group, objects) {
                Ok(group) => {
                    let entry = entry(group, proxy);
                    let key = (entry.meta.namespace.clone(), entry.meta.name.clone());
                    present.insert(key, Arc::new(AnyObject::WorkloadEntry(entry)));
                }
                Err(reason) => _ = refused.insert(proxy.id.to_string(), reason),
            }
        }
        for (node, reason) in &refused {
            if self.refused.get(node) != Some(reason) {
                warn!(%node, "not registered: {reason}");
            }
        }
        self.refused = refused;
        for (key, (_, leaves)) in &mut self.entries {
            if !present.contains_key(key) {
                leaves.get_or_insert(now + GRACE);
            }
        }
        // An entry of a group that is gone goes with it.
        let groups: HashSet<(&str, &str)> = groups(objects).map(|g| (&*g.meta.namespace, &*g.meta.name)).collect();
        self.entries.retain(|(namespace, _), (entry, leaves)| {
            leaves.is_none_or(|at| at > now)
                && group_of(entry).is_some_and(|group| groups.contains(&(namespace, group)))
        });
        for (key, entry) in present {
            match self.entries.get_mut(&key) {
                // What is the same stays the same object, so that nobody takes it for changed.
                Some((known, leaves)) if *known == entry => *leaves = None,
                _ => _ = self.entries.insert(key, (entry, None)),
            }
        }
        let own = self.entries.iter().filter(|(key, _)| !written.contains(key));
        objects.extend(own.map(|(_, (entry, _))| entry.clone()));
    }

    /// When the next entry goes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.entries.values().filter_map(|(_, leaves)| *leaves).min()
    }
}

fn groups(objects: &[Arc<AnyObject>]) -> impl Iterator<Item = &Object<WorkloadGroup>> {
    objects.iter().filter_map(|o| match o.as_ref() {
        AnyObject::WorkloadGroup(group) => Some(group),
        _ => None,
    })
}

fn group_of(entry: &AnyObject) -> Option<&str> {
    match entry {
        AnyObject::WorkloadEntry(entry) => entry.meta.annotations.get(ANNOTATION).map(String::as_str),
        _ => None,
    }
}

/// The group that a proxy may enter.
fn admit<'a>(
    proxy: &Proxy,
    identity: Option<&SpiffeId>,
    group: &str,
    objects: &'a [Arc<AnyObject>],
) -> Result<&'a Object<WorkloadGroup>, String> {
    let namespace = &proxy.id.namespace;
    let found = groups(objects).find(|g| g.meta.namespace == *namespace && g.meta.name == group);
    let found = found.ok_or_else(|| format!("there is no WorkloadGroup {namespace}/{group}; create it"))?;
    let Some(identity) = identity else {
        return Err("it has not proven who it is; connect to the port with TLS".to_owned());
    };
    let account = &found.spec.template.service_account;
    if identity.namespace != *namespace || (!account.is_empty() && identity.service_account != *account) {
        return Err(format!(
            "it has proven to be {identity}, and WorkloadGroup {namespace}/{group} is for service account {account:?}"
        ));
    }
    Ok(found)
}

/// The WorkloadEntry of a proxy in a group: the group's template at the proxy's address.
pub fn entry(group: &Object<WorkloadGroup>, proxy: &Proxy) -> Object<WorkloadEntry> {
    let template = &group.spec.template;
    let meta = group.spec.metadata.clone().unwrap_or_default();
    let network = proxy.meta("NETWORK").unwrap_or(&template.network);
    let mut name = format!("{}-{}", group.meta.name, proxy.id.ip.to_string().replace(':', "-"));
    if !network.is_empty() {
        name = format!("{name}-{network}");
    }
    let mut labels = template.labels.clone();
    labels.extend(meta.labels);
    labels.extend(proxy.labels.clone());
    let mut annotations = meta.annotations;
    annotations.insert(ANNOTATION.to_owned(), group.meta.name.clone());
    Object {
        meta: ObjectMeta {
            name,
            namespace: group.meta.namespace.clone(),
            labels: labels.clone(),
            annotations,
            creation_timestamp: group.meta.creation_timestamp,
            ..Default::default()
        },
        spec: WorkloadEntry {
            address: proxy.id.ip.to_string(),
            labels,
            network: network.to_owned(),
            locality: if proxy.locality.is_empty() {
                template.locality.clone()
            } else {
                proxy.locality.clone()
            },
            ..template.clone()
        },
    }
}

#[cfg(test)]
mod tests {
    use mesh_api::istio::parse;
    use mesh_api::names::NodeId;
    use serde_json::json;

    use super::*;
    use crate::store::Store;

    fn object(kind: &str, name: &str, spec: &serde_json::Value) -> Arc<AnyObject> {
        let api_version = "networking.istio.io/v1";
        let value = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
        Arc::new(parse(api_version, kind, value).expect("a readable object"))
    }

    fn source() -> Vec<Arc<AnyObject>> {
        let group = json!({"metadata": {"labels": {"app": "vm"}, "annotations": {"note": "yes"}},
            "template": {"serviceAccount": "vm", "ports": {"http": 8080}, "weight": 7, "locality": "r/z"}});
        let service = json!({"hosts": ["vm.example"], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "workloadSelector": {"labels": {"app": "vm"}}});
        vec![
            object("WorkloadGroup", "vms", &group),
            object("ServiceEntry", "vm", &service),
        ]
    }

    fn candidate(ip: &str, group: &str, account: Option<&str>) -> Candidate {
        let id = format!("sidecar~{ip}~vm-1.shop~shop.svc.cluster.local");
        let mut proxy = Proxy::new(NodeId::parse(&id).expect("a node id"), BTreeMap::new());
        let value = mesh_api::envoy::ProtoValue {
            kind: Some(mesh_api::envoy::pb::google::protobuf::value::Kind::StringValue(
                group.to_owned(),
            )),
        };
        proxy.metadata.fields.insert(GROUP.to_owned(), value);
        let identity = account.map(|account| SpiffeId {
            trust_domain: "cluster.local".to_owned(),
            namespace: "shop".to_owned(),
            service_account: account.to_owned(),
        });
        (Arc::new(proxy), identity)
    }

    /// Addresses of the service's endpoints.
    fn endpoints(objects: Vec<Arc<AnyObject>>) -> Vec<String> {
        let store = Store::build(objects, Arc::default());
        let service = store.service("vm.example", "shop").expect("the service");
        let all = store.endpoints(service).values().flatten();
        all.map(|e| format!("{}:{} {} {}", e.address, e.port, e.workload.weight, e.workload.mesh_tls))
            .collect()
    }

    #[test]
    fn a_connected_proxy_is_an_endpoint_of_its_groups_services() {
        let mut registered = Registered::default();
        let now = Instant::now();
        let mut objects = source();
        registered.apply(&[candidate("10.9.0.1", "vms", Some("vm"))], &mut objects, now);
        let AnyObject::WorkloadEntry(made) = objects.last().expect("an entry").as_ref() else {
            panic!("{objects:?}");
        };
        assert_eq!(
            (made.meta.name.as_str(), made.spec.locality.as_str()),
            ("vms-10.9.0.1", "r/z")
        );
        assert_eq!(made.meta.annotations.get("note").map(String::as_str), Some("yes"));
        assert_eq!(endpoints(objects.clone()), ["10.9.0.1:8080 7 true"]);
        // The same again is the same object.
        let mut again = source();
        registered.apply(&[candidate("10.9.0.1", "vms", Some("vm"))], &mut again, now);
        assert!(Arc::ptr_eq(&objects[2], &again[2]));
        assert_eq!(registered.deadline(), None);
    }

    #[test]
    fn an_entry_outlives_its_proxy_for_a_short_while() {
        let mut registered = Registered::default();
        let now = Instant::now();
        let proxies = [candidate("10.9.0.1", "vms", Some("vm"))];
        let mut count = |proxies: &[Candidate], mut objects: Vec<Arc<AnyObject>>, now: Instant| {
            let before = objects.len();
            registered.apply(proxies, &mut objects, now);
            (objects.len() - before, registered.deadline())
        };
        assert_eq!(count(&proxies, source(), now), (1, None));
        assert_eq!(count(&[], source(), now), (1, Some(now + GRACE)));
        assert_eq!(
            count(&[], source(), now + GRACE / 2),
            (1, Some(now + GRACE)),
            "it does not begin anew"
        );
        assert_eq!(count(&proxies, source(), now + GRACE / 2), (1, None), "it is back");
        assert_eq!(count(&[], source(), now + GRACE), (1, Some(now + GRACE * 2)));
        assert_eq!(count(&[], source(), now + GRACE * 2), (0, None));
        assert_eq!(count(&proxies, source(), now), (1, None));
        assert_eq!(
            count(&proxies, source()[1..].to_vec(), now),
            (0, None),
            "the group is gone"
        );
    }

    #[test]
    fn strangers_are_not_registered_and_what_is_written_stays() {
        let now = Instant::now();
        let registered = |candidate: Candidate, mut objects: Vec<Arc<AnyObject>>| {
            let mut registered = Registered::default();
            let before = objects.len();
            registered.apply(&[candidate], &mut objects, now);
            (
                objects.len() - before,
                registered.refused.into_values().next().unwrap_or_default(),
            )
        };
        for (group, account, part) in [
            ("vms", None, "proven"),
            ("vms", Some("other"), "service account \"vm\""),
            ("none", Some("vm"), "WorkloadGroup shop/none"),
        ] {
            let (count, reason) = registered(candidate("10.9.0.1", group, account), source());
            assert!(count == 0 && reason.contains(part), "{reason}");
        }
        let mut objects = source();
        objects.push(object(
            "WorkloadEntry",
            "vms-10.9.0.1",
            &json!({"address": "10.9.0.99"}),
        ));
        assert_eq!(registered(candidate("10.9.0.1", "vms", Some("vm")), objects).0, 0);
    }
}
