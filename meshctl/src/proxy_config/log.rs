//! Levels of the proxy's log.

use anyhow::{Result, bail};
use clap::Args;

use crate::cluster::ClusterOptions;
use crate::proxy::Which;

const LEVELS: [&str; 7] = ["trace", "debug", "info", "warning", "error", "critical", "off"];
/// What proxies start with.
const DEFAULT: &str = "warning";

/// Of which proxy, and what is to change.
#[derive(Args)]
#[command(after_help = "Examples:\n  meshctl pc log deploy/webapp --level debug\n  \
                        meshctl pc log deploy/webapp --level http:debug,router:trace\n  meshctl pc log deploy/webapp --reset")]
pub(super) struct Options {
    #[command(flatten)]
    which: Which,
    /// LEVEL for everything, or LOGGER:LEVEL; several are separated by commas
    #[arg(long, value_name = "LEVELS", value_delimiter = ',', conflicts_with = "reset")]
    level: Vec<String>,
    /// Back to warning, with which proxies start
    #[arg(long, short)]
    reset: bool,
}

/// Changes what is to change, and shows all levels.
pub(super) async fn run(options: &Options, cluster: &ClusterOptions) -> Result<String> {
    let changes = if options.reset {
        vec![format!("level={DEFAULT}")]
    } else {
        changes(&options.level)?
    };
    let proxy = options.which.find(cluster).await?;
    let mut text = String::new();
    for query in &changes {
        text = proxy.post(&format!("/logging?{query}")).await?;
    }
    if changes.is_empty() {
        text = proxy.post("/logging").await?;
    }
    Ok(format!("{}:\n{}\n", proxy.name(), text.trim_end()))
}

/// The queries of `/logging`, the level of everything first: it sets those of single loggers too.
fn changes(levels: &[String]) -> Result<Vec<String>> {
    let (mut all, mut single) = (None, Vec::new());
    for one in levels {
        let (logger, level) = match one.split_once(':') {
            None => (None, one.as_str()),
            Some((logger, level)) => (Some(logger), level),
        };
        let level = match level.to_ascii_lowercase() {
            warn if warn == "warn" => DEFAULT.to_owned(),
            level if LEVELS.contains(&level.as_str()) => level,
            _ => bail!("--level {one}: {level:?} is no level; there are {}", LEVELS.join(", ")),
        };
        match logger {
            None | Some("all") => all = Some(level),
            Some("") => bail!("--level {one}: write LOGGER:LEVEL"),
            Some(logger) => single.push(format!("{logger}:{level}")),
        }
    }
    let mut out: Vec<String> = all.map(|level| format!("level={level}")).into_iter().collect();
    if !single.is_empty() {
        out.push(format!("paths={}", single.join(",")));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_become_queries() {
        let of = |text: &str| changes(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(of("debug").expect("good"), ["level=debug"]);
        assert_eq!(
            of("http:Debug,router:trace,warn").expect("good"),
            ["level=warning", "paths=http:debug,router:trace"]
        );
        for bad in ["loud", "http:loud", ":debug", "http:"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
