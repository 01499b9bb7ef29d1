//! One stream after the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_api::envoy::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mesh_api::envoy::type_url;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::channel::{channel, cluster_channel, with_credentials};
use super::delta::Delta;
use super::last_good::LastGood;
use super::sotw::StateOfTheWorld;
use super::target::{Protocol, Settings, Upstream};
use crate::agent::jitter;
use crate::snapshot::build::{Update, Wants};
use crate::snapshot::config::Config;
use crate::snapshot::resources::{Resources, Source};
use crate::telemetry::stats::Gauge;

/// `google.rpc.Code` of a refused update.
pub(super) const INVALID_ARGUMENT: i32 = 3;

/// After a stream that failed: doubled up to the longest, each with full jitter; from the start after a stream that lived.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
const LIVED: Duration = Duration::from_secs(30);
/// The cluster of the control plane may still be looked up.
const WARM: Duration = Duration::from_secs(5);
/// Requests that may wait to be sent; a control plane that does not read holds nothing up but its own stream.
const QUEUE: usize = 256;
/// Istio sends whole configurations of thousands of services in one message.
const MESSAGE_LIMIT: usize = 256 << 20;

/// Types that are subscribed to as a whole.
pub(super) fn wildcards(settings: &Settings) -> Vec<&'static str> {
    [
        (settings.clusters, type_url::CLUSTER),
        (settings.listeners, type_url::LISTENER),
        (settings.names, type_url::NAME_TABLE),
    ]
    .into_iter()
    .filter_map(|(on, type_url)| on.then_some(type_url))
    .collect()
}

/// Types that are subscribed to by name, in the order in which they should come.
pub(super) fn by_name(wants: &Wants) -> [(&'static str, &BTreeSet<String>); 3] {
    [
        (type_url::ENDPOINT, &wants.endpoints),
        (type_url::SECRET, &wants.secrets),
        (type_url::ROUTE, &wants.routes),
    ]
}

/// Follows the control plane for as long as the proxy runs.
pub async fn run(settings: Settings, config: Arc<Config>, last_good: Option<LastGood>) {
    if let Some(last_good) = last_good {
        tokio::spawn(last_good.keep(config.clone()));
    }
    let connected = config.shared.stats.gauge("control_plane.connected_state");
    let mut retry = FIRST_RETRY;
    loop {
        let start = Instant::now();
        let end = stream(&settings, &config, &connected).await;
        connected.set(0);
        if start.elapsed() >= LIVED {
            retry = FIRST_RETRY;
        }
        let wait = jitter(retry);
        match end {
            Ok(()) => {
                tracing::info!(retry_in = ?wait, "the control plane closed the stream; configuration stays in force");
            }
            Err(e) => {
                tracing::warn!(retry_in = ?wait, "no stream to the control plane: {e:#}; configuration stays in force");
            }
        }
        tokio::time::sleep(wait).await;
        retry = (retry * 2).min(LONGEST_RETRY);
    }
}

async fn stream(settings: &Settings, config: &Config, connected: &Gauge) -> anyhow::Result<()> {
    let channel = match &settings.upstream {
        Upstream::Target(target) => channel(target).await?,
        Upstream::Cluster(name) => {
            let warm = tokio::time::timeout(WARM, wait_for_cluster(config, name));
            // Without it the attempt fails, and says why.
            let _ = warm.await;
            cluster_channel(&config.shared, name).await?
        }
    };
    let client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
    match settings.protocol {
        Protocol::Delta => delta(settings, config, client, connected).await,
        Protocol::StateOfTheWorld => state_of_the_world(settings, config, client, connected).await,
    }
}

async fn wait_for_cluster(config: &Config, name: &str) {
    let mut changed = config.shared.changed.subscribe();
    while !config.shared.snapshot.load().clusters.contains_key(name) {
        if changed.changed().await.is_err() {
            return;
        }
    }
}

type Client = AggregatedDiscoveryServiceClient<Channel>;

/// One of the two protocols: what is said on a stream once it is open.
pub(super) trait Dialect {
    type Request: Send + 'static;
    type Response;

    /// Puts a response in force and answers it.
    fn answer(&mut self, response: Self::Response, config: &Config) -> Self::Request;

    /// Asks for what is newly wanted; gives also what is not wanted any more.
    fn follow(&mut self, resources: &Resources, wants: &Wants) -> (Vec<Self::Request>, Vec<Update>);
}

async fn delta(settings: &Settings, config: &Config, mut client: Client, connected: &Gauge) -> anyhow::Result<()> {
    let mut wants = config.wants();
    let wanted = wants.borrow_and_update().clone();
    let (dialect, first) = Delta::open(settings, &config.shared.resources, &wanted);
    let (send, requests) = queue(first).await?;
    let response = client
        .delta_aggregated_resources(credentials(requests, settings)?)
        .await;
    let responses = response.map_err(refused)?.into_inner();
    connected.set(1);
    tracing::info!("stream to the control plane is open (delta)");
    converse(dialect, config, wants, send, responses).await
}

async fn state_of_the_world(
    settings: &Settings,
    config: &Config,
    mut client: Client,
    connected: &Gauge,
) -> anyhow::Result<()> {
    let mut wants = config.wants();
    let wanted = wants.borrow_and_update().clone();
    let (dialect, first) = StateOfTheWorld::open(settings, &config.shared.resources, &wanted);
    let (send, requests) = queue(first).await?;
    let response = client
        .stream_aggregated_resources(credentials(requests, settings)?)
        .await;
    let responses = response.map_err(refused)?.into_inner();
    connected.set(1);
    tracing::info!("stream to the control plane is open (state of the world)");
    converse(dialect, config, wants, send, responses).await
}

/// Requests of a stream, with the first ones in it.
async fn queue<T: Send + Sync + 'static>(first: Vec<T>) -> anyhow::Result<(mpsc::Sender<T>, ReceiverStream<T>)> {
    let (send, requests) = mpsc::channel(QUEUE);
    for request in first {
        send.send(request).await?;
    }
    Ok((send, ReceiverStream::new(requests)))
}

/// Answers responses and follows what is wanted until the stream ends.
async fn converse<D: Dialect>(
    mut dialect: D,
    config: &Config,
    mut wants: watch::Receiver<Wants>,
    send: mpsc::Sender<D::Request>,
    mut responses: tonic::Streaming<D::Response>,
) -> anyhow::Result<()> {
    let closed = || anyhow::anyhow!("the stream is closed");
    loop {
        tokio::select! {
            response = responses.message() => {
                let Some(response) = response.map_err(refused)? else { return Ok(()) };
                send.send(dialect.answer(response, config)).await.map_err(|_| closed())?;
            }
            changed = wants.changed() => {
                changed?;
                let wanted = wants.borrow_and_update().clone();
                let (requests, gone) = dialect.follow(&config.shared.resources, &wanted);
                for request in requests {
                    send.send(request).await.map_err(|_| closed())?;
                }
                // What nothing asks for any more.
                for update in gone {
                    config.apply(update, Source::Dynamic);
                }
            }
        }
    }
}

fn credentials<T>(stream: T, settings: &Settings) -> anyhow::Result<tonic::Request<T>> {
    let request = tonic::Request::new(stream);
    match &settings.upstream {
        Upstream::Target(target) => with_credentials(request, target),
        Upstream::Cluster(_) => Ok(request),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn refused(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{:?}: {}", status.code(), status.message())
}
