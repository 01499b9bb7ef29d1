//! An ADS server whose every stream is in the hands of the test.

use std::time::Duration;

use mesh_api::envoy::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use mesh_api::envoy::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

/// Nothing in these tests takes this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// One stream of a client.
pub(super) struct Session<Q, A> {
    pub(super) metadata: MetadataMap,
    requests: Streaming<Q>,
    answers: mpsc::UnboundedSender<Result<A, Status>>,
}

impl<Q, A> Session<Q, A> {
    pub(super) async fn request(&mut self) -> Q {
        tokio::time::timeout(PATIENCE, self.requests.message())
            .await
            .expect("a request in time")
            .expect("the stream lives")
            .expect("the client goes on")
    }

    pub(super) fn send(&self, answer: A) {
        self.answers.send(Ok(answer)).expect("the stream lives");
    }
}

pub(super) type DeltaSession = Session<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
pub(super) type WorldSession = Session<DiscoveryRequest, DiscoveryResponse>;

struct Service {
    delta: mpsc::UnboundedSender<DeltaSession>,
    world: mpsc::UnboundedSender<WorldSession>,
}

/// A running server.
pub(super) struct Server {
    pub(super) port: u16,
    delta: mpsc::UnboundedReceiver<DeltaSession>,
    world: mpsc::UnboundedReceiver<WorldSession>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (delta, delta_out) = mpsc::unbounded_channel();
        let (world, world_out) = mpsc::unbounded_channel();
        let service = AggregatedDiscoveryServiceServer::new(Service { delta, world });
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        Server {
            port,
            delta: delta_out,
            world: world_out,
        }
    }

    pub(super) async fn delta(&mut self) -> DeltaSession {
        let session = tokio::time::timeout(PATIENCE, self.delta.recv()).await;
        session.expect("a stream in time").expect("the server lives")
    }

    pub(super) async fn world(&mut self) -> WorldSession {
        let session = tokio::time::timeout(PATIENCE, self.world.recv()).await;
        session.expect("a stream in time").expect("the server lives")
    }
}

fn open<Q, A>(
    request: Request<Streaming<Q>>,
    sessions: &mpsc::UnboundedSender<Session<Q, A>>,
) -> Response<UnboundedReceiverStream<Result<A, Status>>> {
    let (answers, out) = mpsc::unbounded_channel();
    let metadata = request.metadata().clone();
    let session = Session {
        metadata,
        requests: request.into_inner(),
        answers,
    };
    let _ = sessions.send(session);
    Response::new(UnboundedReceiverStream::new(out))
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream = UnboundedReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = UnboundedReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(open(request, &self.world))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(open(request, &self.delta))
    }
}
