//! The next store, made from the last one: what did not change is taken over.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use mesh_api::istio::{AnyObject, Kind};

use super::endpoint::{Endpoint, Endpoints};
use super::index::{key, nodes, services_of, set_workloads, sorted};
use super::{MeshConfig, Store};

/// What is not the same in two stores, one made from the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Anything.
    Everything,
    /// Pods and endpoints only.
    Endpoints(Moved),
}

/// Pods and endpoints that changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// Host and namespace of services whose endpoints are others, or others in what is known of them.
    pub services: BTreeSet<(String, String)>,
    /// Addresses of those endpoints, before and after.
    pub addresses: BTreeSet<String>,
    /// Namespace and name of Pods.
    pub pods: BTreeSet<(String, String)>,
}

impl Store {
    /// As [`Store::build`], taking over what is the same as here.
    pub fn next(&self, objects: impl IntoIterator<Item = Arc<AnyObject>>, mesh: Arc<MeshConfig>) -> (Self, Change) {
        let objects = sorted(objects);
        let everything = |objects, mesh| (Self::of_sorted(objects, mesh), Change::Everything);
        if *mesh != *self.mesh {
            return everything(objects, mesh);
        }
        let Some(changed) = changed(&self.objects, &objects) else {
            return everything(objects, mesh);
        };
        let mut moved = Moved::default();
        let mut namespaces: BTreeSet<String> = BTreeSet::new();
        for object in changed {
            namespaces.insert(object.namespace().to_owned());
            if object.kind() == Kind::Pod {
                moved
                    .pods
                    .insert((object.namespace().to_owned(), object.name().to_owned()));
            }
        }
        let mut next = Store {
            workloads: self.workloads.clone(),
            endpoints: self.endpoints.clone(),
            by_address: self.by_address.clone(),
            headless: OnceLock::new(),
            rest: self.rest.clone(),
            mesh,
            objects,
        };
        if namespaces.is_empty() {
            return (next, Change::Endpoints(moved));
        }
        let nodes = nodes(&next.objects);
        for namespace in &namespaces {
            set_workloads(&mut next.workloads, namespace, &next.objects, &nodes);
        }
        // Those look at Pods of all namespaces.
        namespaces.extend(self.by_address.iter().cloned());
        for namespace in namespaces {
            let (found, by_address) = services_of(&namespace, &next.objects, &next.workloads);
            let known = self.endpoints.get(&namespace);
            let mut list: HashMap<String, Arc<Endpoints>> = HashMap::with_capacity(found.len());
            for (service, endpoints) in found {
                let before = known.and_then(|k| k.get(&service.host));
                let same = before.is_some_and(|b| **b == endpoints);
                let endpoints = match before {
                    Some(before) if same => before.clone(),
                    _ => Arc::new(endpoints),
                };
                if !same {
                    differing(before.map(AsRef::as_ref), &endpoints, &mut moved.addresses);
                    moved.services.insert((service.host.clone(), namespace.clone()));
                }
                list.insert(service.host, endpoints);
            }
            if known.is_some() || !list.is_empty() {
                next.endpoints.insert(namespace.clone(), Arc::new(list));
            }
            if by_address {
                next.by_address.insert(namespace);
            } else {
                next.by_address.remove(&namespace);
            }
        }
        (next, Change::Endpoints(moved))
    }
}

/// Objects that are in one list only, or not the same in both; `None` if others than Pods and EndpointSlices are among them.
fn changed<'a>(old: &'a [Arc<AnyObject>], new: &'a [Arc<AnyObject>]) -> Option<Vec<&'a Arc<AnyObject>>> {
    let mut out = Vec::new();
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return Some(out),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
            (Some(a), Some(b)) => key(a).cmp(&key(b)),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        let object = match (before, after) {
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) || a == b => continue,
            (Some(object), _) | (None, Some(object)) => object,
            (None, None) => return Some(out),
        };
        if !matches!(object.kind(), Kind::Pod | Kind::EndpointSlice) {
            return None;
        }
        out.push(object);
    }
}

/// Addresses of endpoints that are not in both.
fn differing(old: Option<&Endpoints>, new: &Endpoints, out: &mut BTreeSet<String>) {
    let all = |endpoints: Option<&Endpoints>| -> Vec<(u16, Endpoint)> {
        let ports = endpoints.into_iter().flatten();
        ports
            .flat_map(|(port, list)| list.iter().map(|e| (*port, e.clone())))
            .collect()
    };
    let (old, new) = (all(old), all(Some(new)));
    let missing = |from: &[(u16, Endpoint)], of: &[(u16, Endpoint)]| -> Vec<String> {
        let known: HashMap<(u16, &str, u16), &Endpoint> = of
            .iter()
            .map(|(port, e)| ((*port, e.address.as_str(), e.port), e))
            .collect();
        let lost = from
            .iter()
            .filter(|(port, e)| known.get(&(*port, e.address.as_str(), e.port)) != Some(&e));
        lost.map(|(_, e)| e.address.clone()).collect()
    };
    out.extend(missing(&old, &new));
    out.extend(missing(&new, &old));
}
