//! Addresses of the hosts that requests are for (`DnsCacheConfig` of Envoy's dynamic forward proxy).
//!
//! A host is looked up when a request names it first, and again and again as long as requests come for it. Workers read what
//! was found without a lock; look-ups run on the control thread ([`Caches::run`]). An address that was found stays while
//! later look-ups fail, as in Envoy.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::Resolver;
use super::resolver::LookupError;
use crate::snapshot::{DnsFamily, Map};
use crate::telemetry::stats::{Counter, Gauge, Registry};

/// `DnsCacheConfig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// `dns_lookup_family`.
    pub family: DnsFamily,
    /// `dns_refresh_rate`, default 60 s: after look-ups that found nothing. After others the records say how long they last.
    pub refresh: Duration,
    /// `dns_min_refresh_rate`, default 5 s, whatever the records say.
    pub min_refresh: Duration,
    /// `dns_failure_refresh_rate`: first pause and longest one, after look-ups that failed; `refresh` without.
    pub failure: Option<(Duration, Duration)>,
    /// `host_ttl`, default 5 min: a host that nobody asks for is forgotten.
    pub host_ttl: Duration,
    /// `max_hosts`, default 1024.
    pub max_hosts: u32,
    /// `dns_query_timeout`, default 5 s, `None` when 0.
    pub query_timeout: Option<Duration>,
    /// `dns_cache_circuit_breaker.max_pending_requests`, default 1024.
    pub max_pending: u32,
    /// `typed_dns_resolver_config.typed_config.resolvers`; those of the system when empty.
    pub servers: Vec<SocketAddr>,
}

/// Why a host has no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// `max_pending_requests` are waiting already.
    PendingOverflow,
    /// There are `max_hosts` already.
    HostOverflow,
    /// The look-up gave none; Envoy's words for the reason.
    Failed(Arc<str>),
}

/// One cache, by its name. Everything of that name shares it.
pub struct DnsCache {
    name: Arc<str>,
    settings: ArcSwap<CacheSettings>,
    hosts: ArcSwap<Map<Arc<str>, Arc<Host>>>,
    /// Held while the hosts are replaced.
    changing: Mutex<()>,
    pending: AtomicU32,
    wanted: mpsc::UnboundedSender<Wanted>,
    stats: CacheStats,
    made: Instant,
}

/// `dns_cache.<name>.` of statistics.
struct CacheStats {
    dns_query_attempt: Counter,
    dns_query_failure: Counter,
    dns_query_success: Counter,
    dns_query_timeout: Counter,
    dns_rq_pending_overflow: Counter,
    host_added: Counter,
    host_address_changed: Counter,
    host_overflow: Counter,
    host_removed: Counter,
    num_hosts: Gauge,
}

/// A host with a port.
struct Host {
    key: Arc<str>,
    name: String,
    port: u16,
    /// What the first look-up gave, and later ones where they found addresses.
    answer: ArcSwapOption<Answer>,
    answered: Notify,
    /// Milliseconds since the cache was made.
    used: AtomicU64,
}

type Answer = Result<Vec<SocketAddr>, Arc<str>>;

/// A host that is to be followed, for as long as there is the cache.
struct Wanted {
    cache: Weak<DnsCache>,
    host: Arc<Host>,
}

impl fmt::Debug for DnsCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsCache")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// There is one of each name.
impl PartialEq for DnsCache {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

/// All caches of the process.
pub struct Caches {
    known: Mutex<HashMap<Arc<str>, Weak<DnsCache>>>,
    wanted: mpsc::UnboundedSender<Wanted>,
    queue: Mutex<Option<mpsc::UnboundedReceiver<Wanted>>>,
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caches").finish_non_exhaustive()
    }
}

impl Default for Caches {
    fn default() -> Self {
        let (wanted, queue) = mpsc::unbounded_channel();
        Caches {
            known: Mutex::default(),
            wanted,
            queue: Mutex::new(Some(queue)),
        }
    }
}

impl Caches {
    /// The cache of this name, made if there is none. It has these settings from now on: the last configuration counts.
    pub fn get(&self, name: &str, settings: CacheSettings, stats: &Registry) -> Arc<DnsCache> {
        let mut known = self.known.lock();
        known.retain(|_, cache| cache.strong_count() > 0);
        if let Some(cache) = known.get(name).and_then(Weak::upgrade) {
            if **cache.settings.load() != settings {
                cache.settings.store(Arc::new(settings));
            }
            return cache;
        }
        let cache = Arc::new(DnsCache {
            name: name.into(),
            settings: ArcSwap::from_pointee(settings),
            hosts: ArcSwap::default(),
            changing: Mutex::default(),
            pending: AtomicU32::new(0),
            wanted: self.wanted.clone(),
            stats: CacheStats::new(stats, name),
            made: Instant::now(),
        });
        known.insert(cache.name.clone(), Arc::downgrade(&cache));
        cache
    }

    /// Looks up what workers want. Runs as long as the proxy, on the control thread; a second call does nothing.
    pub async fn run(&self, system: Option<Resolver>) {
        let Some(mut queue) = self.queue.lock().take() else {
            return;
        };
        let resolvers = Arc::new(Resolvers {
            system,
            others: Mutex::default(),
        });
        while let Some(wanted) = queue.recv().await {
            tokio::spawn(follow(wanted, resolvers.clone()));
        }
    }
}

/// Resolvers by their servers.
struct Resolvers {
    system: Option<Resolver>,
    others: Mutex<HashMap<Vec<SocketAddr>, Resolver>>,
}

impl Resolvers {
    fn of(&self, servers: &[SocketAddr]) -> Option<Resolver> {
        if servers.is_empty() {
            return self.system.clone();
        }
        let mut others = self.others.lock();
        if let Some(known) = others.get(servers) {
            return Some(known.clone());
        }
        match Resolver::of_servers(servers) {
            Ok(made) => {
                others.insert(servers.to_vec(), made.clone());
                Some(made)
            }
            Err(error) => {
                tracing::error!("names cannot be looked up: {error}");
                None
            }
        }
    }
}

impl DnsCache {
    /// `name` of the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The address of an authority (`host`, `host:port`), if it is known.
    pub fn address(&self, authority: &str, default_port: u16) -> Option<SocketAddr> {
        let hosts = self.hosts.load();
        let host = hosts.get(&*key(authority, default_port))?;
        host.used.store(self.now(), Relaxed);
        let answer = host.answer.load();
        answer.as_deref()?.as_ref().ok()?.first().copied()
    }

    /// Waits until the address of an authority is known.
    ///
    /// # Errors
    /// When there is none, or there are too many hosts or requests that wait.
    pub async fn load(self: &Arc<Self>, authority: &str, default_port: u16) -> Result<(), Unresolved> {
        let settings = self.settings.load_full();
        let _pending = Pending::below(self, settings.max_pending).ok_or_else(|| {
            self.stats.dns_rq_pending_overflow.inc();
            Unresolved::PendingOverflow
        })?;
        let host = self.host(&key(authority, default_port), default_port, settings.max_hosts)?;
        loop {
            let mut answered = pin!(host.answered.notified());
            answered.as_mut().enable();
            if let Some(answer) = host.answer.load().as_deref() {
                return answer.as_ref().map(|_| ()).map_err(|e| Unresolved::Failed(e.clone()));
            }
            answered.await;
        }
    }

    /// The host of a key; a new one is looked up.
    fn host(self: &Arc<Self>, key: &str, default_port: u16, most: u32) -> Result<Arc<Host>, Unresolved> {
        if let Some(host) = self.hosts.load().get(key) {
            return Ok(host.clone());
        }
        let _changing = self.changing.lock();
        let hosts = self.hosts.load();
        if let Some(host) = hosts.get(key) {
            return Ok(host.clone());
        }
        if hosts.len() >= most as usize {
            self.stats.host_overflow.inc();
            return Err(Unresolved::HostOverflow);
        }
        let (name, port) = split(key);
        let host = Arc::new(Host {
            key: key.into(),
            name: name.to_owned(),
            port: port.unwrap_or(default_port),
            answer: ArcSwapOption::empty(),
            answered: Notify::new(),
            used: AtomicU64::new(self.now()),
        });
        let mut more = Map::clone(&hosts);
        more.insert(host.key.clone(), host.clone());
        self.hosts.store(Arc::new(more));
        self.stats.host_added.inc();
        self.stats.num_hosts.inc();
        let wanted = Wanted {
            cache: Arc::downgrade(self),
            host: host.clone(),
        };
        // The queue lives as long as the process.
        let _ = self.wanted.send(wanted);
        Ok(host)
    }

    fn remove(&self, host: &Host) {
        let _changing = self.changing.lock();
        let mut fewer = Map::clone(&self.hosts.load());
        if fewer.remove(&host.key).is_some() {
            self.hosts.store(Arc::new(fewer));
            self.stats.host_removed.inc();
            self.stats.num_hosts.dec();
        }
    }

    /// Notes what a look-up gave, and says when to look again. `failures` are those in a row.
    fn note(&self, host: &Host, found: Result<(Vec<IpAddr>, Duration), Failed>, failures: &mut u32) -> Duration {
        let settings = self.settings.load();
        let pause = match &found {
            Ok((_, ttl)) => settings.min_refresh.max(*ttl),
            Err(Failed { none: true, .. }) => settings.refresh,
            Err(_) => match settings.failure {
                Some((base, most)) => base.saturating_mul(1 << (*failures).min(20)).min(most),
                None => settings.refresh,
            },
        };
        match found {
            Ok((ips, _)) => {
                *failures = 0;
                self.stats.dns_query_success.inc();
                self.found(host, &ips);
            }
            Err(Failed { none, details }) => {
                if none {
                    *failures = 0;
                    self.stats.dns_query_success.inc();
                } else {
                    *failures += 1;
                    self.stats.dns_query_failure.inc();
                }
                if host.answer.load().as_deref().is_none_or(Result::is_err) {
                    host.answer.store(Some(Arc::new(Err(details))));
                }
            }
        }
        host.answered.notify_waiters();
        pause
    }

    /// Addresses in another order are the same: the first one stays the first, so that connections are used again.
    fn found(&self, host: &Host, ips: &[IpAddr]) {
        let known = host.answer.load();
        let same = match known.as_deref() {
            Some(Ok(old)) => old.len() == ips.len() && old.iter().all(|a| ips.contains(&a.ip())),
            _ => false,
        };
        if !same {
            let addresses = ips.iter().map(|ip| SocketAddr::new(*ip, host.port)).collect();
            host.answer.store(Some(Arc::new(Ok(addresses))));
            self.stats.host_address_changed.inc();
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_idle(&self, host: &Host) -> bool {
        let idle = Duration::from_millis(self.now().saturating_sub(host.used.load(Relaxed)));
        idle > self.settings.load().host_ttl
    }
}

/// A look-up without addresses.
struct Failed {
    /// It was answered: there are none.
    none: bool,
    details: Arc<str>,
}

/// Looks a host up again and again, until nobody asks for it or the cache is gone.
async fn follow(wanted: Wanted, resolvers: Arc<Resolvers>) {
    let Wanted { cache, host } = wanted;
    let mut failures = 0;
    loop {
        let Some(present) = cache.upgrade() else { return };
        let settings = present.settings.load_full();
        present.stats.dns_query_attempt.inc();
        let found = look_up(&present, &settings, &host, &resolvers).await;
        let again = present.note(&host, found, &mut failures);
        drop(present);
        tokio::time::sleep(again).await;
        let Some(present) = cache.upgrade() else { return };
        if present.is_idle(&host) {
            present.remove(&host);
            return;
        }
    }
}

async fn look_up(
    cache: &DnsCache,
    settings: &CacheSettings,
    host: &Host,
    resolvers: &Resolvers,
) -> Result<(Vec<IpAddr>, Duration), Failed> {
    let failed = |none, reason: &str| Failed {
        none,
        details: format!("dns_resolution_failure{{{}}}", reason.replace(char::is_whitespace, "_")).into(),
    };
    let Some(resolver) = resolvers.of(&settings.servers) else {
        return Err(failed(false, "no resolver"));
    };
    let looking = resolver.lookup(&host.name, settings.family);
    let result = match settings.query_timeout {
        None => looking.await,
        Some(limit) => match tokio::time::timeout(limit, looking).await {
            Ok(result) => result,
            Err(_) => {
                cache.stats.dns_query_timeout.inc();
                return Err(failed(false, "resolve_timeout"));
            }
        },
    };
    result.map_err(|error| {
        tracing::debug!(cache = %cache.name, "{error}");
        // As Envoy's usual resolver puts it, since logs are searched for that.
        match error {
            LookupError::NoSuchHost(_) => failed(true, "cares_norecords:Domain name not found"),
            LookupError::ServerFailure(_) => failed(false, "cares_failure:DNS server returned general failure"),
            LookupError::Other(_, reason) => failed(false, &format!("cares_failure:{reason}")),
        }
    })
}

/// The name under which an authority is kept: with a port, and in one spelling.
fn key(authority: &str, default_port: u16) -> String {
    let (name, port) = split(authority);
    format!("{}:{}", name.to_ascii_lowercase(), port.unwrap_or(default_port))
}

/// Host and port of an authority; brackets of IPv6 stay.
fn split(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (host, None),
        },
        _ => (authority, None),
    }
}

/// A request that waits.
struct Pending<'c>(&'c AtomicU32);

impl<'c> Pending<'c> {
    fn below(cache: &'c DnsCache, most: u32) -> Option<Self> {
        let before = cache.pending.fetch_add(1, Relaxed);
        let pending = Pending(&cache.pending);
        (before < most).then_some(pending)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl CacheStats {
    fn new(registry: &Registry, cache: &str) -> Self {
        let counter = |name| registry.counter(&format!("dns_cache.{cache}.{name}"));
        CacheStats {
            dns_query_attempt: counter("dns_query_attempt"),
            dns_query_failure: counter("dns_query_failure"),
            dns_query_success: counter("dns_query_success"),
            dns_query_timeout: counter("dns_query_timeout"),
            dns_rq_pending_overflow: counter("dns_rq_pending_overflow"),
            host_added: counter("host_added"),
            host_address_changed: counter("host_address_changed"),
            host_overflow: counter("host_overflow"),
            host_removed: counter("host_removed"),
            num_hosts: registry.gauge(&format!("dns_cache.{cache}.num_hosts")),
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
