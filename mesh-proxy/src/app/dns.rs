//! Look-ups for DNS clusters: one task a cluster, as long as the cluster is configured. Those for hosts that requests name are
//! started here too.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::dns::Resolver;
use crate::shared::Shared;
use crate::snapshot::DnsOptions;
use crate::snapshot::config::Config;

/// Records that say "keep me for no time" are asked for again after this long.
const SHORTEST: Duration = Duration::from_secs(1);

/// Follows the DNS clusters of the configuration. Runs as long as the proxy.
pub(super) async fn run(config: Arc<Config>, shared: Arc<Shared>) {
    let resolver = match Resolver::from_system() {
        Ok(resolver) => Some(resolver),
        Err(e) => {
            tracing::error!("host names cannot be looked up: {e}");
            None
        }
    };
    let system = resolver.clone();
    tokio::spawn(async move { shared.dns_caches.run(system).await });
    let mut wanted = config.dns();
    let mut running: HashMap<String, (DnsOptions, JoinHandle<()>)> = HashMap::new();
    loop {
        let clusters: HashMap<_, _> = wanted.borrow_and_update().iter().cloned().collect();
        running.retain(|name, (options, task)| {
            let stays = clusters.get(name) == Some(options);
            if !stays {
                task.abort();
            }
            stays
        });
        for (name, options) in clusters {
            running.entry(name).or_insert_with_key(|name| {
                let task = follow(config.clone(), resolver.clone(), name.clone(), options.clone());
                (options, tokio::spawn(task))
            });
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

async fn follow(config: Arc<Config>, resolver: Option<Resolver>, cluster: String, options: DnsOptions) {
    // What was found last stays in use while look-ups fail.
    let mut found: Vec<Vec<IpAddr>> = vec![Vec::new(); options.targets.len()];
    loop {
        let mut again = options.refresh;
        for (target, slot) in options.targets.iter().zip(&mut found) {
            if let Ok(ip) = target.host.parse() {
                *slot = vec![ip];
                continue;
            }
            let Some(resolver) = &resolver else { continue };
            match resolver.lookup(&target.host, options.family).await {
                Ok((mut ips, ttl)) => {
                    // Their order changes from answer to answer and means nothing here.
                    ips.sort_unstable();
                    *slot = ips;
                    if options.respect_ttl {
                        again = again.min(ttl.max(SHORTEST));
                    }
                }
                Err(e) => tracing::warn!(cluster, host = target.host, "look-up failed: {e}"),
            }
        }
        config.set_dns(&cluster, found.clone());
        tokio::time::sleep(again).await;
    }
}
