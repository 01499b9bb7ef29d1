//! The node agent: keeps the plugin in place on its node, mends pods that started without it, and says how that goes.

mod conflist;
mod install;
mod node;
mod repair;
mod serve;
mod settings;
#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use notify::{RecursiveMode, Watcher as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

pub use install::{ensure, remove};
pub use repair::namespace_of;
pub use serve::Status;
pub use settings::{Action, Repair, Settings};

/// Health of the agent, and its metrics.
const PORTS: [u16; 2] = [8000, 15014];
/// Between two looks at everything: tokens are renewed, and a change of a folder may not be told.
const LOOK: Duration = Duration::from_secs(5);
/// Whoever writes a configuration may do so in several steps.
const SETTLE: Duration = Duration::from_millis(100);

/// Runs until SIGTERM; takes the plugin away if the agent goes for good.
///
/// # Errors
/// When a variable is wrong, or a port is not free.
pub fn run() -> anyhow::Result<()> {
    let settings = Settings::read(&std::env::vars().collect())
        .map_err(|errors| anyhow::anyhow!("the environment cannot be used:\n  {}", errors.join("\n  ")))?;
    tracing_subscriber::fmt()
        .with_env_filter(&settings.log_level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let program = std::env::current_exe().context("this program's own file")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(serve_until_told(settings, program));
    runtime.shutdown_background();
    done
}

async fn serve_until_told(settings: Settings, program: PathBuf) -> anyhow::Result<()> {
    let status = Arc::new(Status::default());
    for port in PORTS {
        serve::start(([0, 0, 0, 0], port).into(), status.clone())
            .await
            .with_context(|| format!("port {port}"))?;
    }
    let client = match Client::try_default().await {
        Ok(client) => Some(client),
        Err(error) => {
            tracing::error!(
                "the API server is not to be asked, so that no pod is repaired and no taint removed: {error}"
            );
            None
        }
    };
    if let (Some(client), Some(what)) = (&client, &settings.repair) {
        tokio::spawn(repair::run(
            client.clone(),
            settings.clone(),
            what.clone(),
            program.clone(),
            status.clone(),
        ));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        () = keep(&settings, &program, &status, client.as_ref()) => {}
        _ = terminate.recv() => tracing::info!("SIGTERM"),
    }
    if node::is_gone_for_good(client.as_ref(), &settings.namespace).await {
        remove(&settings).context("the plugin could not be taken away")?;
        tracing::info!("the plugin is taken away from the node");
    } else {
        tracing::info!("the plugin stays for the next agent: pods that start meanwhile are captured");
    }
    Ok(())
}

/// Puts the plugin in place, and back when others have changed something.
async fn keep(settings: &Settings, program: &Path, status: &Status, client: Option<&Client>) {
    let changed = Arc::new(Notify::new());
    let watcher = watch(settings, changed.clone());
    if let Err(error) = &watcher {
        tracing::warn!("changes are seen every {LOOK:?} only: {error}");
    }
    let mut tainted = None;
    loop {
        let done = ensure(settings, program);
        match &done {
            Ok(true) => {
                status.installs.fetch_add(1, Relaxed);
                tracing::info!("the plugin is in place in {}", settings.net_dir.display());
            }
            Ok(false) => {}
            Err(error) => {
                status.failures.fetch_add(1, Relaxed);
                tracing::error!("the plugin is not in place: {error:#}");
            }
        }
        let ready = done.is_ok();
        status.installed.store(ready, Relaxed);
        if let (Some(key), Some(client)) = (&settings.taint, client)
            && tainted != Some(!ready)
        {
            match node::taint(client, &settings.node, key, !ready).await {
                Ok(()) => tainted = Some(!ready),
                Err(error) => tracing::error!(node = settings.node, "taint {key}: {error:#}"),
            }
        }
        tokio::select! {
            () = changed.notified() => tokio::time::sleep(SETTLE).await,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn watch(settings: &Settings, changed: Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // To read is no change, and we read it all each time.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.notify_one();
        }
    })?;
    for folder in [&settings.net_dir, &settings.bin_dir] {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}
