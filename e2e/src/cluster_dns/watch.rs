//! Services and Endpoints of the API server, kept up to date.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::time::Instant;

use super::Shared;
use super::names::Names;
use super::serve::Health;

/// Changes that come together are taken together.
const TOGETHER: Duration = Duration::from_millis(20);
/// Services and Endpoints.
const KINDS: usize = 2;

/// Watches for as long as the process lives; an API server that is away is asked again, and the last names stay.
pub(super) async fn run(client: Client, zone: String, names: Shared, health: Health) -> Result<()> {
    let (services, service_events) = objects::<Service>(Api::all(client.clone()));
    let (endpoints, endpoint_events) = objects::<Endpoints>(Api::all(client));
    let mut events = std::pin::pin!(futures_util::stream::select(service_events, endpoint_events));
    let mut lists = 0;
    loop {
        let mut event = events.next().await;
        let until = Instant::now() + TOGETHER;
        loop {
            lists += usize::from(event.context("the watches have ended")? == Some(true));
            match tokio::time::timeout_at(until, events.next()).await {
                Ok(next) => event = next,
                Err(_) => break,
            }
        }
        publish(&zone, &services, &endpoints, &names);
        // Both kinds were read whole.
        if lists >= KINDS {
            health.ready();
        }
    }
}

fn publish(zone: &str, services: &Store<Service>, endpoints: &Store<Endpoints>, names: &Shared) {
    let (services, endpoints) = (services.state(), endpoints.state());
    let new = Names::new(
        zone,
        services.iter().map(AsRef::as_ref),
        endpoints.iter().map(AsRef::as_ref),
    );
    *names.write() = Arc::new(new);
}

/// A store, and its events: nothing for an error, `true` for the end of a whole list, `false` for another change.
fn objects<K>(api: Api<K>) -> (Store<K>, impl Stream<Item = Option<bool>>)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let events = reflector::reflector(
        writer,
        watcher::watcher(api, watcher::Config::default()).default_backoff(),
    );
    let events = events.map(|event| match event {
        Ok(Event::InitDone) => Some(true),
        Ok(_) => Some(false),
        Err(error) => {
            tracing::warn!("the API server: {error}");
            None
        }
    });
    (store, events)
}
