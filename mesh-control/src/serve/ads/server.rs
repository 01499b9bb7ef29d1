//! The gRPC service: one task a stream, so that a slow proxy keeps nobody else waiting.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mesh_api::envoy::type_url;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Status};
use tracing::{debug, error, info, warn};

use super::debug::{self, Asker, Tools};
use super::grpc::{Outgoing, Requests, Responses};
use super::hub::{Connected, Connection, Generation, Hub};
use super::node;
use super::resources::{Resources, short_name};
use super::session::{Push, Session};
use super::wire::Wire;
use crate::compile::Proxy;
use crate::serve::ca::caller::Callers;
use crate::serve::ca::service::HOW_TO_PROVE;

/// Responses that may wait for a slow proxy before its task waits itself.
const QUEUE: usize = 16;
/// A proxy that takes nothing for this long is cut off; it comes back with what it holds.
const STUCK: Duration = Duration::from_secs(60);

/// Aggregated discovery on one port.
#[derive(Clone)]
pub struct Ads {
    /// Snapshots and connections.
    pub hub: Arc<Hub>,
    /// Proves callers.
    pub callers: Callers,
    /// Whether a caller must prove itself. Without proof no secrets are sent, in any case.
    pub proof_required: bool,
    /// Answers what is no question of a proxy.
    pub tools: Arc<dyn Tools>,
    /// True when streams are to end.
    pub stopping: watch::Receiver<bool>,
}

pub(super) type Out = mpsc::Sender<Result<Outgoing, Status>>;

impl Ads {
    pub(super) async fn accept<W: Wire>(self, request: Request<tonic::body::Body>) -> Result<Responses, Status> {
        let address = request.remote_addr();
        let peer = address.map(|a| a.to_string()).unwrap_or_default();
        let caller = self.callers.prove(&request).await.and_then(|caller| match caller {
            None if self.proof_required => Err(Status::unauthenticated(HOW_TO_PROVE)),
            caller => Ok(caller),
        });
        let caller = caller.inspect_err(|status| warn!(%peer, reason = status.message(), "xDS stream refused"))?;
        let (out, responses) = mpsc::channel(QUEUE);
        let asker = Asker { caller, peer: address };
        let mut stopping = self.stopping.clone();
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = stream::<W>(&self, Requests::new(request.into_inner()), asker, peer.clone(), &out) => ended,
                _ = stopping.wait_for(|stop| *stop) => Err(Status::unavailable("the control plane stops")),
            };
            if let Err(status) = ended {
                info!(%peer, reason = status.message(), code = ?status.code(), "xDS stream ended");
                // The proxy may be gone already; then nobody needs the reason.
                let _ = out.try_send(Err(status));
            }
        });
        Ok(Responses::new(responses))
    }
}

async fn stream<W: Wire>(
    ads: &Ads,
    mut requests: Requests<W::Request>,
    asker: Asker,
    peer: String,
    out: &Out,
) -> Result<(), Status> {
    let Some(first) = requests.message().await? else {
        return Ok(());
    };
    if debug::is_for_tools(W::type_url(&first)) {
        return debug::stream::<W>(&ads.tools, &asker, first, requests, out).await;
    }
    let (hub, caller) = (&ads.hub, asker.caller);
    let proxy = Arc::new(node::proxy(W::node(&first), caller.as_ref())?);
    let identity = caller.map(|c| c.id);
    let proven = identity.is_some();
    info!(node = %proxy.id, %peer, form = W::NAME, identity = identity.as_ref().map(tracing::field::display), "proxy connected");

    let mut snapshots = hub.subscribe();
    let present = snapshots.borrow_and_update().clone();
    let resources = resources(&present, &proxy, proven, None)
        .await
        .map_err(Status::internal)?;
    let listed = hub.connected(Connection {
        proxy: proxy.clone(),
        peer,
        identity,
        form: W::NAME,
        since: SystemTime::now(),
        status: Default::default(),
    });
    let mut stream = Stream::<W> {
        session: Session::new(resources, Instant::now()),
        out,
        listed,
        present,
        wire: PhantomData,
    };
    stream.request(first).await?;
    stream.run(requests, &mut snapshots, proven).await?;
    info!(node = %proxy.id, "proxy disconnected");
    Ok(())
}

async fn resources(
    snapshot: &Generation,
    proxy: &Arc<Proxy>,
    proven: bool,
    before: Option<Arc<Resources>>,
) -> Result<Arc<Resources>, String> {
    let resources = snapshot.resources(proxy, before).await?;
    if proven || resources.of(type_url::SECRET).is_empty() {
        return Ok(resources);
    }
    // Private keys go only to proxies that have proven who they are.
    let mut without = (*resources).clone();
    // Only gateways have any, all of their own.
    without.of_mut(type_url::SECRET).clear();
    Ok(Arc::new(without))
}

struct Stream<'a, W: Wire> {
    session: Session,
    out: &'a Out,
    listed: Connected,
    present: Arc<Generation>,
    wire: PhantomData<W>,
}

impl<W: Wire> Stream<'_, W> {
    async fn run(
        &mut self,
        mut requests: Requests<W::Request>,
        snapshots: &mut watch::Receiver<Arc<Generation>>,
        proven: bool,
    ) -> Result<(), Status> {
        let proxy = self.listed.connection.proxy.clone();
        // Requests go on being answered while the next snapshot is compiled; newer ones are collected meanwhile.
        let mut compiling = None;
        loop {
            let deadline = self.session.deadline(Instant::now());
            tokio::select! {
                request = requests.message() => match request {
                    Ok(Some(request)) => self.request(request).await?,
                    Ok(None) => return Ok(()),
                    Err(status) => {
                        // Proxies leave by closing the connection.
                        debug!(node = %proxy.id, reason = status.message(), "xDS stream broke off");
                        return Ok(());
                    }
                },
                changed = snapshots.changed(), if compiling.is_none() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let snapshot = snapshots.borrow_and_update().clone();
                    let (proxy, before) = (proxy.clone(), self.session.resources().clone());
                    compiling = Some(Box::pin(async move {
                        let resources = resources(&snapshot, &proxy, proven, Some(before)).await;
                        (snapshot, resources)
                    }));
                }
                (snapshot, resources) = async { compiling.as_mut().expect("guarded").await }, if compiling.is_some() => {
                    compiling = None;
                    match resources {
                        Ok(resources) => {
                            self.present = snapshot;
                            let pushes = self.session.update(resources, Instant::now());
                            self.send(pushes).await?;
                        }
                        // The last good configuration stays in force.
                        Err(reason) => error!(node = %proxy.id, reason, "no configuration for this proxy"),
                    }
                }
                () = sleep_until(deadline), if deadline.is_some() => {
                    let pushes = self.session.tick(Instant::now());
                    self.send(pushes).await?;
                }
                () = self.out.closed() => return Ok(()),
            }
        }
    }

    async fn request(&mut self, request: W::Request) -> Result<(), Status> {
        let ask = W::ask(request, &self.session);
        let pushes = self.session.ask(ask, Instant::now());
        self.report_refusals();
        self.send(pushes).await
    }

    async fn send(&mut self, pushes: Vec<Push>) -> Result<(), Status> {
        let mut queue: VecDeque<Push> = pushes.into();
        while let Some(push) = queue.pop_front() {
            let (type_url, nonce) = (push.type_url.clone(), push.nonce);
            let (changed, removed) = (push.upserts.len(), push.removed.len());
            let Some(response) = W::response(push, &self.session) else {
                let taken = super::session::Ask {
                    type_url,
                    nonce: Some(nonce),
                    ..Default::default()
                };
                queue.extend(self.session.ask(taken, Instant::now()));
                continue;
            };
            let kind = short_name(&type_url).to_owned();
            debug!(node = %self.listed.connection.proxy.id, kind, nonce, changed, removed, "push");
            metrics::counter!("pilot_xds_pushes", "type" => kind).increment(1);
            match tokio::time::timeout(STUCK, self.out.send(Ok(response))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(Status::deadline_exceeded("the proxy takes no responses")),
            }
        }
        self.note_status();
        Ok(())
    }

    fn report_refusals(&mut self) {
        for refusal in self.session.take_refusals() {
            let kind = short_name(&refusal.type_url).to_owned();
            let node = &self.listed.connection.proxy.id;
            if refusal.names.is_empty() {
                debug!(%node, kind, error = refusal.error, "refused as a whole; looking for the resource at fault");
                continue;
            }
            metrics::counter!("pilot_total_xds_rejects", "type" => kind.clone()).increment(1);
            warn!(%node, kind, resource = refusal.names.join(", "), error = refusal.error, "NACK: the proxy refuses a resource");
            let mut status = self.listed.connection.status.lock();
            status.errors.insert(refusal.type_url, refusal.error);
        }
    }

    fn note_status(&mut self) {
        let now = Instant::now();
        let mut status = self.listed.connection.status.lock();
        status.sent = self.present.number;
        if status.settled < self.present.number && self.session.settled(now) {
            status.settled = self.present.number;
            metrics::histogram!("pilot_proxy_convergence_time").record(now - self.present.at);
        }
        status.types = self.session.overview(now);
        let types = &status.types;
        let mended: Vec<String> = status
            .errors
            .keys()
            .filter(|t| types.get(*t).is_none_or(|t| t.1.is_empty()))
            .cloned()
            .collect();
        mended.iter().for_each(|t| {
            status.errors.remove(t);
        });
        status.resources = self.session.resources().clone();
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
