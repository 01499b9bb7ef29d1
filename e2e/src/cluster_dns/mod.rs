//! The name server of a test cluster whose node image was made without CoreDNS: it takes CoreDNS's place under its image
//! name and its arguments, answers for the cluster's own names, and says of every other name that it does not exist, so
//! that no question leaves the machine.

mod answer;
mod corefile;
mod names;
mod serve;
mod watch;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::RwLock;
use tokio::signal::unix::{SignalKind, signal};

use names::Names;

/// What the watches keep up to date, and every question is answered from.
type Shared = Arc<RwLock<Arc<Names>>>;

/// Serves until the process is told to end.
///
/// # Errors
/// When the Corefile cannot be read, a port cannot be bound, or the API server's address is not known.
pub async fn run(corefile: &Path) -> Result<()> {
    let text = std::fs::read_to_string(corefile).with_context(|| corefile.display().to_string())?;
    let options = corefile::parse(&text);
    for plugin in &options.ignored {
        tracing::info!("{}: not done here: {plugin}", corefile.display());
    }
    let names = Shared::default();
    let health = serve::Health::default();
    let client = kube::Client::try_default().await.context("the API server")?;
    let serving = async {
        tokio::try_join!(
            serve::udp(options.port, Arc::clone(&names), options.ttl),
            serve::tcp(options.port, Arc::clone(&names), options.ttl),
            serve::http(8080, "/health", health.clone(), false),
            serve::http(8181, "/ready", health.clone(), true),
            watch::run(client, options.zone.clone(), Arc::clone(&names), health.clone()),
        )
        .map(|_| ())
    };
    // Process 1 of a container is not ended by a signal that it does not take.
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = serving => outcome,
        _ = term.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}
