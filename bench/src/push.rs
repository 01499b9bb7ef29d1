//! The control plane of the pushed cases: it serves what mesh-control compiled over delta ADS in plain text, the same to each
//! proxy, and knows when a proxy has taken all of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mesh_api::envoy::Any;
use mesh_api::envoy::json::Json;
use mesh_api::envoy::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use mesh_api::envoy::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use mesh_api::envoy::type_url;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::peers::Plan;
use crate::sidecar;

/// All resources of a type, by name.
type ByName = HashMap<String, Vec<u8>>;

/// A running control plane; it ends when dropped.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    state: Arc<State>,
    /// Its thread, until this is dropped.
    _runtime: tokio::runtime::Runtime,
}

#[derive(Debug)]
struct State {
    resources: HashMap<&'static str, ByName>,
    progress: Mutex<Progress>,
}

/// How far the proxy is.
#[derive(Debug, Default)]
struct Progress {
    /// Resources that were acknowledged.
    taken: usize,
    refused: Option<String>,
}

impl ControlPlane {
    /// Reads what is to be pushed, and listens.
    pub(crate) fn start(plan: &Plan<'_>, services: u32) -> Result<Self> {
        let state = Arc::new(State {
            resources: encode(sidecar::pushed_resources(plan, services)?)?,
            progress: Mutex::default(),
        });
        // Its thread is pinned as the calling one.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let port = plan.ports.control();
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", port)))
            .with_context(|| format!("port {port}"))?;
        let service =
            AggregatedDiscoveryServiceServer::new(Service(state.clone())).max_decoding_message_size(usize::MAX);
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        Ok(Self {
            state,
            _runtime: runtime,
        })
    }

    /// Waits until the proxy has acknowledged everything.
    ///
    /// # Errors
    /// When it refuses something, or the limit passes.
    pub(crate) fn wait(&self, limit: Duration) -> Result<()> {
        let all: usize = self.state.resources.values().map(HashMap::len).sum();
        let start = Instant::now();
        loop {
            let (taken, refused) = {
                let mut progress = self.state.progress.lock();
                (progress.taken, progress.refused.take())
            };
            if let Some(refused) = refused {
                bail!("the proxy refused: {refused}");
            }
            if taken >= all {
                return Ok(());
            }
            if start.elapsed() > limit {
                bail!("the proxy has taken {taken} of {all} resources after {limit:?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl State {
    /// What a request asks for: everything with the first of clusters and listeners, else what it names.
    fn answer(&self, request: &DeltaDiscoveryRequest, nonce: String) -> Option<DeltaDiscoveryResponse> {
        let known = self.resources.get(request.type_url.as_str())?;
        let whole = matches!(request.type_url.as_str(), type_url::CLUSTER | type_url::LISTENER);
        let resource = |(name, bytes): (&String, &Vec<u8>)| Resource {
            name: name.clone(),
            version: "1".to_owned(),
            resource: Some(Any {
                type_url: request.type_url.clone(),
                value: bytes.clone(),
            }),
            ..Resource::default()
        };
        let asked = &request.resource_names_subscribe;
        let resources: Vec<Resource> = if whole && request.response_nonce.is_empty() {
            known.iter().map(resource).collect()
        } else {
            asked
                .iter()
                .filter_map(|n| known.get_key_value(n))
                .map(resource)
                .collect()
        };
        (!resources.is_empty()).then(|| DeltaDiscoveryResponse {
            system_version_info: "1".to_owned(),
            resources,
            type_url: request.type_url.clone(),
            nonce,
            ..DeltaDiscoveryResponse::default()
        })
    }
}

/// From JSON to the messages.
fn encode(all: Vec<(&'static str, Vec<serde_json::Value>)>) -> Result<HashMap<&'static str, ByName>> {
    let json = Json::new();
    let mut out = HashMap::new();
    for (type_url, list) in all {
        let mut by_name = ByName::new();
        for value in list {
            let field = if type_url == type_url::ENDPOINT {
                "cluster_name"
            } else {
                "name"
            };
            let name = value[field].as_str().unwrap_or_default().to_owned();
            let message = json
                .dynamic_from_value(type_url, value)
                .with_context(|| format!("{type_url} {name}"))?;
            by_name.insert(name, message.encode_to_vec());
        }
        out.insert(type_url, by_name);
    }
    Ok(out)
}

struct Service(Arc<State>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = UnboundedReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = UnboundedReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("only delta is served here"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (answers, out) = mpsc::unbounded_channel();
        let state = self.0.clone();
        tokio::spawn(async move {
            if let Err(status) = converse(&state, request.into_inner(), &answers).await {
                let _ = answers.send(Err(status));
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(out)))
    }
}

/// Answers the requests of one stream, and counts what is acknowledged.
async fn converse(
    state: &State,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    answers: &mpsc::UnboundedSender<Result<DeltaDiscoveryResponse, Status>>,
) -> Result<(), Status> {
    let mut sent: HashMap<String, usize> = HashMap::new();
    let mut number = 0_u32;
    state.progress.lock().taken = 0;
    while let Some(request) = requests.message().await? {
        if let Some(count) = sent.remove(&request.response_nonce) {
            let mut progress = state.progress.lock();
            match &request.error_detail {
                None => progress.taken += count,
                Some(error) => progress.refused = Some(error.message.chars().take(2000).collect()),
            }
        }
        number += 1;
        if let Some(response) = state.answer(&request, number.to_string()) {
            sent.insert(response.nonce.clone(), response.resources.len());
            if answers.send(Ok(response)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}
