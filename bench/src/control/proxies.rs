//! Proxies that only take configuration: they ask as sidecars do, count bytes, and acknowledge.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::uri::PathAndQuery;
use mesh_api::envoy::pb::envoy::config::core::v3::Node;
use mesh_api::envoy::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use mesh_api::envoy::type_url::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::mesh::Mesh;

/// So many proxies at once fetch their first configuration.
const AT_ONCE: usize = 16;
/// A proxy that waits longer for its first configuration will not get it.
const START_LIMIT: Duration = Duration::from_secs(180);

/// How proxies ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Form {
    /// One resource for what changed.
    Delta,
    /// The older form.
    StateOfTheWorld,
}

/// All proxies of one measurement; they leave when it is dropped.
pub(crate) struct Fleet {
    tasks: JoinSet<()>,
    acknowledged: mpsc::UnboundedReceiver<Instant>,
    bytes: Arc<AtomicU64>,
    pub(crate) size: usize,
}

impl Fleet {
    /// Connects `size` proxies, and waits until each has everything.
    pub(crate) async fn start(mesh: &Mesh, port: u16, size: usize, form: Form) -> Result<Self> {
        let (sender, acknowledged) = mpsc::unbounded_channel();
        let (ready, mut all_ready) = mpsc::unbounded_channel();
        let bytes = Arc::new(AtomicU64::new(0));
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let mut tasks = JoinSet::new();
        for number in 0..size {
            let (id, app) = mesh.node(number);
            let mut proxy = Proxy {
                node: Some(node(&id, &app)),
                form,
                bytes: bytes.clone(),
                acknowledged: sender.clone(),
                lacks: BTreeSet::from([CLUSTER, ENDPOINT, LISTENER, ROUTE]),
                clusters: BTreeSet::new(),
                tables: BTreeSet::new(),
                endpoints: BTreeSet::new(),
            };
            let (permits, ready) = (permits.clone(), ready.clone());
            tasks.spawn(async move {
                // The permit is for the start.
                let mut permit = Some(permits.acquire_owned().await);
                let ended = proxy.run(port, || {
                    permit = None;
                    let _ = ready.send(());
                });
                if let Err(error) = ended.await {
                    crate::progress(&format!("a simulated proxy ended: {error:#}"));
                }
            });
        }
        drop((ready, permits));
        for _ in 0..size {
            match tokio::time::timeout(START_LIMIT, all_ready.recv()).await {
                Ok(Some(())) => {}
                Ok(None) => bail!("all simulated proxies ended"),
                Err(_) => bail!("a simulated proxy has no configuration after {START_LIMIT:?}"),
            }
        }
        let mut fleet = Self {
            tasks,
            acknowledged,
            bytes,
            size,
        };
        fleet.settle().await;
        Ok(fleet)
    }

    /// Waits until nothing moves any more.
    async fn settle(&mut self) {
        let mut before = u64::MAX;
        while before != self.bytes.load(Ordering::Relaxed) {
            before = self.bytes.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        while self.acknowledged.try_recv().is_ok() {}
    }

    /// Bytes of all responses so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// When each proxy acknowledged endpoints, in order; waits for all.
    pub(crate) async fn acknowledgements(&mut self, limit: Duration) -> Result<Vec<Instant>> {
        let mut all = Vec::with_capacity(self.size);
        while all.len() < self.size {
            let next = tokio::time::timeout(limit, self.acknowledged.recv()).await;
            let of = self.size;
            let next =
                next.with_context(|| format!("{} of {of} proxies have the change after {limit:?}", all.len()))?;
            all.push(next.context("all simulated proxies ended")?);
        }
        Ok(all)
    }

    /// Disconnects all.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

fn node(id: &str, app: &str) -> Node {
    use mesh_api::envoy::pb::google::protobuf::value::Kind;
    use mesh_api::envoy::{ProtoValue, Struct};
    let text = |text: &str| ProtoValue {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let labels = Struct {
        fields: [("app".to_owned(), text(app))].into(),
    };
    let labels = ProtoValue {
        kind: Some(Kind::StructValue(labels)),
    };
    Node {
        id: id.to_owned(),
        cluster: app.to_owned(),
        metadata: Some(Struct {
            fields: [
                ("CLUSTER_ID".to_owned(), text("Kubernetes")),
                ("ISTIO_VERSION".to_owned(), text("1.27.0")),
                ("LABELS".to_owned(), labels),
            ]
            .into(),
        }),
        ..Node::default()
    }
}

struct Proxy {
    node: Option<Node>,
    form: Form,
    bytes: Arc<AtomicU64>,
    acknowledged: mpsc::UnboundedSender<Instant>,
    /// Types of which something that was asked for has not come.
    lacks: BTreeSet<&'static str>,
    /// Endpoints asked for.
    clusters: BTreeSet<String>,
    /// Route tables asked for.
    tables: BTreeSet<String>,
    /// Endpoints that have not come yet.
    endpoints: BTreeSet<String>,
}

/// What a response says, of either form.
struct Said {
    type_url: String,
    nonce: String,
    version: String,
    /// Names of the resources; of endpoints only with the delta form.
    names: Vec<String>,
    count: usize,
    size: usize,
}

impl Proxy {
    async fn run(&mut self, port: u16, mut ready: impl FnMut()) -> Result<()> {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?.tcp_nodelay(true);
        let channel = endpoint.connect().await?;
        match self.form {
            Form::Delta => self.delta(channel, &mut ready).await,
            Form::StateOfTheWorld => self.whole(channel, &mut ready).await,
        }
    }

    async fn delta(&mut self, channel: Channel, ready: &mut impl FnMut()) -> Result<()> {
        let (requests, stream) = mpsc::channel::<DeltaDiscoveryRequest>(64);
        for type_url in [CLUSTER, LISTENER] {
            let first = DeltaDiscoveryRequest {
                node: self.node.take(),
                type_url: type_url.to_owned(),
                ..Default::default()
            };
            requests.send(first).await?;
        }
        let mut responses = open::<_, DeltaResponse>(channel, stream, "DeltaAggregatedResources").await?;
        while let Some(response) = responses.message().await? {
            let said = Said {
                size: response.encoded_len(),
                count: response.resources.len(),
                names: response.resources.into_iter().map(|r| r.name).collect(),
                type_url: response.type_url,
                nonce: response.nonce,
                version: String::new(),
            };
            let asks = self.take(&said, ready);
            let ack = DeltaDiscoveryRequest {
                type_url: said.type_url.clone(),
                response_nonce: said.nonce.clone(),
                ..Default::default()
            };
            requests.send(ack).await?;
            self.done(&said);
            for (type_url, names) in asks {
                let ask = DeltaDiscoveryRequest {
                    type_url: type_url.to_owned(),
                    resource_names_subscribe: names,
                    ..Default::default()
                };
                requests.send(ask).await?;
            }
        }
        bail!("the control plane closed the stream")
    }

    async fn whole(&mut self, channel: Channel, ready: &mut impl FnMut()) -> Result<()> {
        let (requests, stream) = mpsc::channel::<DiscoveryRequest>(64);
        for type_url in [CLUSTER, LISTENER] {
            let first = DiscoveryRequest {
                node: self.node.take(),
                type_url: type_url.to_owned(),
                ..Default::default()
            };
            requests.send(first).await?;
        }
        let mut responses = open::<_, Response>(channel, stream, "StreamAggregatedResources").await?;
        let mut last = [(ENDPOINT, (String::new(), String::new())), (ROUTE, Default::default())];
        while let Some(response) = responses.message().await? {
            let name = |any: &OpenAny| First::decode(any.value.clone()).map(|f| f.name);
            let said = Said {
                size: response.encoded_len(),
                count: response.resources.len(),
                names: response.resources.iter().map(name).collect::<Result<_, _>>()?,
                type_url: response.type_url,
                nonce: response.nonce,
                version: response.version_info,
            };
            let asks = self.take(&said, ready);
            for (type_url, known) in &mut last {
                if *type_url == said.type_url {
                    *known = (said.version.clone(), said.nonce.clone());
                }
            }
            let ack = DiscoveryRequest {
                resource_names: self.named(&said.type_url),
                type_url: said.type_url.clone(),
                response_nonce: said.nonce.clone(),
                version_info: said.version.clone(),
                ..Default::default()
            };
            requests.send(ack).await?;
            self.done(&said);
            for (type_url, _) in asks {
                let (version, nonce) = last
                    .iter()
                    .find(|(t, _)| *t == type_url)
                    .map(|(_, known)| known.clone())
                    .unwrap_or_default();
                let ask = DiscoveryRequest {
                    type_url: type_url.to_owned(),
                    resource_names: self.named(type_url),
                    version_info: version,
                    response_nonce: nonce,
                    ..Default::default()
                };
                requests.send(ask).await?;
            }
        }
        bail!("the control plane closed the stream")
    }

    fn named(&self, type_url: &str) -> Vec<String> {
        match type_url {
            ENDPOINT => self.clusters.iter().cloned().collect(),
            ROUTE => self.tables.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// Notes a response; gives what is to be asked for because of it.
    fn take(&mut self, said: &Said, ready: &mut impl FnMut()) -> Vec<(&'static str, Vec<String>)> {
        self.bytes.fetch_add(said.size as u64, Ordering::Relaxed);
        let mut asks = Vec::new();
        match said.type_url.as_str() {
            CLUSTER => {
                let new = said.names.iter().filter(|n| n.starts_with("outbound|"));
                let new: Vec<String> = new.filter(|n| !self.clusters.contains(*n)).cloned().collect();
                self.clusters.extend(new.iter().cloned());
                self.endpoints.extend(new.iter().cloned());
                if !new.is_empty() {
                    asks.push((ENDPOINT, new));
                }
                self.lacks.remove(CLUSTER);
            }
            LISTENER => {
                let table = |n: &String| n.strip_prefix("0.0.0.0_").map(str::to_owned);
                let new: Vec<String> = said.names.iter().filter_map(table).collect();
                let new: Vec<String> = new.into_iter().filter(|n| self.tables.insert(n.clone())).collect();
                if !new.is_empty() {
                    asks.push((ROUTE, new));
                }
                self.lacks.remove(LISTENER);
            }
            ENDPOINT => {
                for name in &said.names {
                    self.endpoints.remove(name);
                }
                if self.endpoints.is_empty() {
                    self.lacks.remove(ENDPOINT);
                }
            }
            ROUTE if said.count > 0 => {
                self.lacks.remove(ROUTE);
            }
            _ => {}
        }
        if self.lacks.is_empty() && self.node.is_none() && !self.tables.is_empty() {
            ready();
            // Once.
            self.lacks.insert("");
        }
        asks
    }

    fn done(&self, said: &Said) {
        if said.type_url == ENDPOINT {
            let _ = self.acknowledged.send(Instant::now());
        }
    }
}

async fn open<Q, R>(channel: Channel, requests: mpsc::Receiver<Q>, method: &str) -> Result<tonic::Streaming<R>>
where
    Q: Message + 'static,
    R: Message + Default + 'static,
{
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(usize::MAX);
    client.ready().await?;
    let path = format!("/envoy.service.discovery.v3.AggregatedDiscoveryService/{method}");
    let codec = tonic_prost::ProstCodec::<Q, R>::default();
    let request = tonic::Request::new(ReceiverStream::new(requests));
    let path = PathAndQuery::try_from(path)?;
    Ok(client.streaming(request, path, codec).await?.into_inner())
}

// Envoy's responses with the resources left as they came: thousands of proxies in one process must be cheap.

#[derive(Clone, PartialEq, Message)]
struct DeltaResponse {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(message, repeated, tag = "2")]
    resources: Vec<OpenResource>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
    #[prost(string, repeated, tag = "6")]
    removed: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct OpenResource {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(bytes = "bytes", tag = "2")]
    resource: Bytes,
    #[prost(string, tag = "3")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(string, tag = "1")]
    version_info: String,
    #[prost(message, repeated, tag = "2")]
    resources: Vec<OpenAny>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

#[derive(Clone, PartialEq, Message)]
struct OpenAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// The field that clusters, listeners, route tables and endpoints have their name in.
#[derive(Clone, PartialEq, Message)]
struct First {
    #[prost(string, tag = "1")]
    name: String,
}
