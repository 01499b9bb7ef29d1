//! Logging of the process, with levels that the admin API can change.

use std::io::IsTerminal;

use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::admin::LogControl;

/// Starts logging to stderr. `RUST_LOG` wins over the level of the command line.
///
/// # Errors
/// When there is no such level or logging runs already.
pub(super) fn start(levels: &str, json: bool) -> anyhow::Result<LogControl> {
    let from_env = std::env::var("RUST_LOG").ok().filter(|v| !v.is_empty());
    let (filter, control) = LogControl::new(from_env.as_deref().unwrap_or(levels)).map_err(anyhow::Error::msg)?;
    let lines = fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        registry.with(lines.json()).try_init()?;
    } else {
        registry.with(lines).try_init()?;
    }
    Ok(control)
}
