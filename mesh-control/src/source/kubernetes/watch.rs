//! One kind, followed for as long as the program runs.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::GroupVersion;
use kube::discovery::oneshot;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use mesh_api::istio::Kind;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use super::adapt::{adapt, versions};
use super::cache::{Cache, name_of};

/// Objects of a list that are asked for at once.
const PAGE: u32 = 500;
/// Between two looks for a kind that is not served: its definition may be installed later.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Which objects.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    kind: Kind,
    /// Namespace and name, where only one object is read.
    one: Option<(String, String)>,
    /// Field selector.
    fields: &'static str,
}

impl Scope {
    pub(super) fn everywhere(kind: Kind) -> Self {
        let fields = match kind {
            // Long, many, and no certificates.
            Kind::Secret => "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token",
            _ => "",
        };
        Scope {
            kind,
            one: None,
            fields,
        }
    }

    pub(super) fn one(kind: Kind, namespace: &str, name: &str) -> Self {
        Scope {
            kind,
            one: Some((namespace.to_owned(), name.to_owned())),
            fields: "",
        }
    }
}

pub(super) struct Watch {
    /// Tells its objects from those of others.
    number: usize,
    client: Client,
    scope: Scope,
    cache: Arc<Mutex<Cache>>,
    changed: Arc<Notify>,
    /// Listed once, or known not to be served.
    listed: watch::Sender<bool>,
}

impl Watch {
    pub(super) fn new(
        number: usize,
        client: Client,
        scope: Scope,
        cache: Arc<Mutex<Cache>>,
        changed: Arc<Notify>,
    ) -> Self {
        Watch {
            number,
            client,
            scope,
            cache,
            changed,
            listed: watch::Sender::new(false),
        }
    }

    pub(super) fn listed(&self) -> watch::Receiver<bool> {
        self.listed.subscribe()
    }

    pub(super) async fn run(self) {
        let kind = self.scope.kind;
        let mut told = false;
        loop {
            match self.served().await {
                Ok(Some(resource)) => return self.follow(resource).await,
                Ok(None) => {
                    self.listed.send_replace(true);
                    if !std::mem::replace(&mut told, true) {
                        info!("the cluster has no {}; looking every {LOOK_AGAIN:?}", kind.as_str());
                    }
                }
                Err(error) => warn!(%error, "cannot ask which versions of {} are served", kind.as_str()),
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The best version that is served.
    async fn served(&self) -> kube::Result<Option<ApiResource>> {
        let info = self.scope.kind.info();
        for version in versions(self.scope.kind) {
            let group_version = GroupVersion::gv(info.group, version);
            let group = match oneshot::pinned_group(&self.client, &group_version).await {
                Ok(group) => group,
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                Err(error) => return Err(error),
            };
            let found = group.versioned_resources(version).into_iter();
            if let Some((resource, _)) = found.into_iter().find(|(r, _)| r.plural == info.plural) {
                return Ok(Some(resource));
            }
        }
        Ok(None)
    }

    async fn follow(self, resource: ApiResource) {
        let mut config = watcher::Config::default().page_size(PAGE);
        let api: Api<DynamicObject> = match &self.scope.one {
            Some((namespace, name)) => {
                config = config.fields(&format!("metadata.name={name}"));
                Api::namespaced_with(self.client.clone(), namespace, &resource)
            }
            None => {
                if !self.scope.fields.is_empty() {
                    config = config.fields(self.scope.fields);
                }
                Api::all_with(self.client.clone(), &resource)
            }
        };
        let mut events = pin!(watcher::watcher(api, config).default_backoff());
        let mut seen = BTreeSet::new();
        let kind = self.scope.kind;
        self.cache.lock().serves(self.number, resource.clone());
        // The stream never ends: after an error it lists again.
        while let Some(event) = events.next().await {
            let changed = match event {
                Ok(Event::Init) => {
                    seen.clear();
                    false
                }
                Ok(Event::InitApply(object)) => {
                    let (name, changed) = self.apply(&resource, &object);
                    seen.insert(name);
                    changed
                }
                Ok(Event::InitDone) => {
                    let changed = self.cache.lock().retain(self.number, &seen);
                    debug!(objects = seen.len(), "listed {}", kind.as_str());
                    seen.clear();
                    self.listed.send_replace(true);
                    changed
                }
                Ok(Event::Apply(object)) => self.apply(&resource, &object).1,
                Ok(Event::Delete(object)) => match serde_json::to_value(&object) {
                    Ok(value) => self.cache.lock().delete(kind, &value),
                    Err(_) => false,
                },
                Err(error) => {
                    warn!(%error, "watching {}; what is known stays in force, and the watch begins anew", kind.as_str());
                    false
                }
            };
            if changed {
                self.changed.notify_one();
            }
        }
    }

    fn apply(&self, resource: &ApiResource, object: &DynamicObject) -> (String, bool) {
        let kind = self.scope.kind;
        // It came from JSON, with text as keys: it goes back to JSON.
        let mut value = serde_json::to_value(object).unwrap_or_default();
        let status = adapt(kind, &resource.version, &mut value);
        // Objects in a list do not say what they are.
        let api_version = match kind.info().group {
            "" => kind.info().versions[0].to_owned(),
            // Read in the newest shape, whatever it was served in.
            group => format!("{group}/{}", kind.info().versions[0]),
        };
        if let Value::Object(map) = &mut value {
            map.insert("apiVersion".to_owned(), api_version.clone().into());
            map.insert("kind".to_owned(), kind.as_str().into());
        }
        let name = name_of(kind, &value);
        let changed = self.cache.lock().apply(self.number, kind, &api_version, value, status);
        (name, changed)
    }
}
