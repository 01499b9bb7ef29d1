//! Port-forwards, as `kubectl port-forward` makes them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Cluster;
use super::target::PodName;

/// How long the kubelet may take to say why a port cannot be had, once the stream has failed.
const REASON: Duration = Duration::from_secs(2);

/// A stream to a port of a pod.
pub(crate) struct Forward<S, E> {
    /// The stream.
    pub(crate) stream: S,
    /// What the kubelet says when the port cannot be had.
    pub(crate) error: Option<E>,
}

/// Opens a stream to a port inside a pod.
pub(crate) async fn open(
    cluster: &Cluster,
    pod: &PodName,
    port: u16,
) -> Result<
    Forward<
        impl AsyncRead + AsyncWrite + Unpin + Send + 'static + use<>,
        impl Future<Output = Option<String>> + Send + use<>,
    >,
> {
    let pods = cluster.pods(&pod.namespace);
    let mut forwarder = pods
        .portforward(&pod.name, &[port])
        .await
        .with_context(|| format!("cannot forward port {port} of pod {pod}"))?;
    let error = forwarder.take_error(port);
    let stream = forwarder.take_stream(port).context("the port was not forwarded")?;
    // The task behind the forwarder goes on by itself until the stream is dropped.
    Ok(Forward { stream, error })
}

/// Why a forwarded stream has failed, if the kubelet says so.
pub(crate) async fn reason(error: Option<impl Future<Output = Option<String>>>) -> Option<String> {
    tokio::time::timeout(REASON, error?).await.ok().flatten()
}
