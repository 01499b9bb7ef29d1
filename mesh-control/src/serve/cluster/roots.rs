//! `istio-ca-root-cert`: the roots of trust as a ConfigMap in every namespace, where proxies mount it.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::lease::Leading;
use super::{Cluster, owner};
use crate::serve::model::Model;
use crate::source::discovery;

const NAME: &str = "istio-ca-root-cert";
const KEY: &str = "root-cert.pem";
const MANAGER: &str = "mesh-control";
/// What could not be written is tried again after this long.
const AGAIN: Duration = Duration::from_secs(5);

enum Seen {
    Namespace(Event<Namespace>),
    Map(Event<ConfigMap>),
}

/// What there is, and what should be.
#[derive(Debug, Default)]
struct State {
    /// Namespaces that are not on their way out, with their labels.
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// What each has: the roots, and who owns the object.
    present: BTreeMap<String, (String, Vec<String>)>,
    /// Both kinds have been listed.
    listed: (bool, bool),
}

impl State {
    fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Namespace(Event::Init) => {
                self.namespaces.clear();
                self.listed.0 = false;
            }
            Seen::Namespace(Event::InitDone) => self.listed.0 = true,
            Seen::Namespace(Event::Apply(space) | Event::InitApply(space)) => {
                if space.metadata.deletion_timestamp.is_none() {
                    self.namespaces
                        .insert(space.name_any(), space.metadata.labels.unwrap_or_default());
                } else {
                    self.namespaces.remove(&space.name_any());
                }
            }
            Seen::Namespace(Event::Delete(space)) => {
                self.namespaces.remove(&space.name_any());
            }
            Seen::Map(Event::Init) => {
                self.present.clear();
                self.listed.1 = false;
            }
            Seen::Map(Event::InitDone) => self.listed.1 = true,
            Seen::Map(Event::Apply(map) | Event::InitApply(map)) => {
                let roots = map.data.as_ref().and_then(|d| d.get(KEY)).cloned().unwrap_or_default();
                let owners = map.owner_references().iter().map(|o| o.uid.clone()).collect();
                self.present
                    .insert(map.namespace().unwrap_or_default(), (roots, owners));
            }
            Seen::Map(Event::Delete(map)) => {
                self.present.remove(&map.namespace().unwrap_or_default());
            }
        }
    }

    /// Namespaces that have other roots than these, or none, or are without this owner. `reads` says which count.
    fn missing(
        &self,
        roots: &str,
        owner: Option<&OwnerReference>,
        reads: impl Fn(&str, &BTreeMap<String, String>) -> bool,
    ) -> Vec<String> {
        if self.listed != (true, true) {
            return Vec::new();
        }
        let owned = |owners: &[String]| owner.is_none_or(|o| owners.contains(&o.uid));
        let good = |(p, owners): &(String, Vec<String>)| p == roots && owned(owners);
        let lacks = |space: &str| !self.present.get(space).is_some_and(good);
        let found = self
            .namespaces
            .iter()
            .filter(|(name, labels)| lacks(name) && reads(name, labels));
        found.map(|(name, _)| name.clone()).collect()
    }
}

/// Writes them wherever they are missing or others than these, for as long as the program runs.
pub(super) async fn keep(
    cluster: Cluster,
    roots: String,
    model: Model,
    mut leading: Leading,
    mut stopping: watch::Receiver<bool>,
) -> Result<()> {
    let client = cluster.client.clone();
    let owner = owner(&cluster).await;
    let config = watcher::Config::default();
    let spaces = watcher::watcher(Api::<Namespace>::all(client.clone()), config.clone());
    let spaces = spaces.default_backoff().map(|e| e.map(Seen::Namespace));
    let maps = watcher::watcher(
        Api::<ConfigMap>::all(client.clone()),
        config.fields(&format!("metadata.name={NAME}")),
    );
    let maps = maps.default_backoff().map(|e| e.map(Seen::Map));
    let mut events = pin!(stream::select(spaces, maps));
    let mut state = State::default();
    let mut again = tokio::time::interval(AGAIN);
    let mut wanted = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": NAME, "labels": {"istio.io/config": "true"}}, "data": {KEY: roots}});
    if let Some(owner) = &owner {
        wanted["metadata"]["ownerReferences"] = json!([owner]);
    }
    // Control planes side by side write the same, each with its own owner.
    let manager = cluster.home.named(MANAGER);
    loop {
        tokio::select! {
            Some(event) = events.next() => match event {
                Ok(seen) => state.take(seen),
                Err(error) => warn!(%error, "watching namespaces for {NAME}"),
            },
            _ = again.tick() => {}
            _ = leading.changed() => {}
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
        }
        if !leading.now() {
            continue;
        }
        let snapshot = model.present();
        let reads =
            |name: &str, labels: &BTreeMap<String, String>| discovery::reads(snapshot.store.mesh(), name, labels);
        for namespace in state.missing(&roots, owner.as_ref(), reads) {
            match write(&client, &manager, &namespace, &wanted).await {
                Ok(()) => {
                    let owners = owner.iter().map(|o| o.uid.clone()).collect();
                    state.present.insert(namespace, (roots.clone(), owners));
                }
                Err(kube::Error::Api(status)) if status.code == 404 || status.reason == "Conflict" => {
                    debug!(namespace, "on its way out");
                }
                Err(error) => warn!(%error, namespace, "cannot write ConfigMap {NAME}"),
            }
        }
    }
}

async fn write(client: &Client, manager: &str, namespace: &str, wanted: &Value) -> kube::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams::apply(manager).force();
    api.patch(NAME, &params, &Patch::Apply(wanted)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(value: Value) -> Namespace {
        serde_json::from_value(value).expect("a Namespace")
    }

    fn map(namespace: &str, roots: &str) -> ConfigMap {
        let value = json!({"metadata": {"name": NAME, "namespace": namespace}, "data": {KEY: roots}});
        serde_json::from_value(value).expect("a ConfigMap")
    }

    #[test]
    fn who_lacks_the_roots_is_known_once_both_kinds_are_listed() {
        let missing = |state: &State, owner: Option<&OwnerReference>| state.missing("new", owner, |_, _| true);
        let mut state = State::default();
        state.take(Seen::Namespace(Event::Init));
        for name in ["a", "b", "c"] {
            let labels = json!({"metadata": {"name": name, "labels": {"name": name}}});
            state.take(Seen::Namespace(Event::InitApply(space(labels))));
        }
        let going = json!({"metadata": {"name": "d", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        state.take(Seen::Namespace(Event::InitApply(space(going))));
        state.take(Seen::Namespace(Event::InitDone));
        assert_eq!(missing(&state, None), [""; 0], "nobody knows yet what is there");
        state.take(Seen::Map(Event::Init));
        state.take(Seen::Map(Event::InitApply(map("a", "new"))));
        state.take(Seen::Map(Event::InitApply(map("b", "old"))));
        state.take(Seen::Map(Event::InitDone));
        assert_eq!(missing(&state, None), ["b", "c"]);
        state.take(Seen::Map(Event::Apply(map("c", "new"))));
        state.take(Seen::Map(Event::Delete(map("a", "new"))));
        assert_eq!(missing(&state, None), ["a", "b"]);
        let selected = state.missing("new", None, |name, labels| {
            labels.get("name").is_some_and(|n| n == name) && name == "b"
        });
        assert_eq!(selected, ["b"]);
        let owner = OwnerReference {
            uid: "1".to_owned(),
            ..OwnerReference::default()
        };
        assert_eq!(missing(&state, Some(&owner)), ["a", "b", "c"], "c is without its owner");
        let mut owned = map("c", "new");
        owned.metadata.owner_references = Some(vec![owner.clone()]);
        state.take(Seen::Map(Event::Apply(owned)));
        assert_eq!(missing(&state, Some(&owner)), ["a", "b"]);
    }
}
