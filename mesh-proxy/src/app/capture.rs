//! A sidecar is ready only when it has seen that the pod's traffic comes to it: nobody is to send requests to a pod that
//! would answer them without its proxy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::listener;
use crate::shared::Shared;

/// Between two looks whether listeners have come, and the first wait after a failed attempt.
const SOON: Duration = Duration::from_millis(100);
/// The node agent may mend the capture of a pod that runs, so attempts never end.
const LONGEST: Duration = Duration::from_secs(5);
/// Between two lines about failed attempts.
const LOG_AGAIN: Duration = Duration::from_secs(30);

/// Tries until capture is proven.
pub(super) async fn prove(shared: Arc<Shared>, goal: SocketAddr) {
    // What came first may have been waiting for secrets; without the inbound listener nothing can arrive.
    while !shared.readiness.listeners.load(Relaxed) {
        tokio::time::sleep(SOON).await;
    }
    if shared.listeners.ready().wait_for(|ready| *ready).await.is_err() {
        return;
    }
    let (mut wait, mut logged) = (SOON, None::<Instant>);
    loop {
        match listener::prove(&shared, goal).await {
            Ok(()) => break,
            Err(why) if logged.is_none_or(|last| last.elapsed() > LOG_AGAIN) => {
                logged = Some(Instant::now());
                tracing::error!(
                    "not ready, as this pod's traffic is not captured: {why}; look at the log of istio-init, or of the \
                     node agent istio-cni-node where that one sets up pods"
                );
            }
            Err(_) => {}
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST);
    }
    shared.readiness.uncaptured.store(false, Relaxed);
    tracing::info!("the pod's traffic is captured");
}
