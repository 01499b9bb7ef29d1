//! Look-ups for clusters.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::{Hosts, TokioResolver};
use parking_lot::Mutex;

use super::resolv_conf::modified;
use crate::snapshot::DnsFamily;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// For a whole look-up, with all its nameservers and search domains.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Of addresses that need no look-up, and of the hosts file (which may be edited).
const FIXED_TTL: Duration = Duration::from_secs(60);
/// Between two looks at the files.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Looks names up as the system does: hosts file, search domains and nameservers of `/etc/resolv.conf`. Both files are
/// read again when they change. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(Arc<Mutex<State>>);

struct State {
    current: Current,
    looked: Instant,
    /// Of the two files; `None` for a resolver that does not follow them.
    stamps: Option<[Option<SystemTime>; 2]>,
}

/// Why a look-up gave no address.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The answer is that there is none.
    #[error("DNS look-up of {0:?}: no such host")]
    NoSuchHost(String),
    /// The server could not find out (SERVFAIL).
    #[error("DNS look-up of {0:?}: the nameserver failed (SERVFAIL)")]
    ServerFailure(String),
    /// Host, and what went wrong.
    #[error("DNS look-up of {0:?}: {1}")]
    Other(String, String),
}

#[derive(Clone)]
struct Current {
    hosts: Arc<Hosts>,
    dns: TokioResolver,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// With the system's settings. Without a usable `/etc/resolv.conf` only the hosts file counts, and that is logged.
    ///
    /// # Errors
    /// When the resolver cannot be made of these settings.
    pub fn from_system() -> Result<Self, String> {
        Ok(Resolver(Arc::new(Mutex::new(State {
            current: system()?,
            looked: Instant::now(),
            stamps: Some(stamps()),
        }))))
    }

    /// With these nameservers, and the system's hosts file.
    ///
    /// # Errors
    /// As [`Resolver::from_system`].
    pub fn of_servers(servers: &[SocketAddr]) -> Result<Self, String> {
        let one = |address: &SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            server.connections.iter_mut().for_each(|c| c.port = address.port());
            server
        };
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.iter().map(one).collect());
        Self::with(config, ResolverOpts::default(), system_hosts())
    }

    /// With fixed settings.
    ///
    /// # Errors
    /// As [`Resolver::from_system`].
    pub fn with(config: ResolverConfig, options: ResolverOpts, hosts: Hosts) -> Result<Self, String> {
        Ok(Resolver(Arc::new(Mutex::new(State {
            current: build(config, options, hosts)?,
            looked: Instant::now(),
            stamps: None,
        }))))
    }

    /// The addresses of a host and how long they may be kept. IP addresses are returned as they are.
    ///
    /// # Errors
    /// When there is no such host or no nameserver answers.
    pub async fn lookup(&self, host: &str, family: DnsFamily) -> Result<(Vec<IpAddr>, Duration), LookupError> {
        let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return Ok((vec![ip], FIXED_TTL));
        }
        let current = self.current();
        if let Some(found) = current.by_hosts(host, family) {
            return Ok((found, FIXED_TTL));
        }
        match tokio::time::timeout(TIMEOUT, current.by_dns(host, family)).await {
            Ok(result) => result.map_err(|error| match error {
                None => LookupError::NoSuchHost(host.to_owned()),
                Some(NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail))) => {
                    LookupError::ServerFailure(host.to_owned())
                }
                Some(error) => LookupError::Other(host.to_owned(), error.to_string()),
            }),
            Err(_) => {
                let late = format!("no answer within {} s", TIMEOUT.as_secs());
                Err(LookupError::Other(host.to_owned(), late))
            }
        }
    }

    fn current(&self) -> Current {
        let mut state = self.0.lock();
        if state.stamps.is_some() && state.looked.elapsed() >= LOOK_AGAIN {
            state.looked = Instant::now();
            let now = Some(stamps());
            if now != state.stamps {
                match system() {
                    Ok(current) => {
                        state.current = current;
                        state.stamps = now;
                    }
                    Err(error) => tracing::warn!(error, "the old DNS settings stay"),
                }
            }
        }
        state.current.clone()
    }
}

impl Current {
    fn by_hosts(&self, host: &str, family: DnsFamily) -> Option<Vec<IpAddr>> {
        let mut name = Name::from_str_relaxed(host).ok()?;
        name.set_fqdn(true);
        let get = |kind| {
            let query = Query::query(name.clone(), kind);
            let found = self.hosts.lookup_static_host(&query);
            found.map(|f| addresses(&f)).unwrap_or_default()
        };
        let found = choose(family, get(RecordType::A), get(RecordType::AAAA));
        (!found.is_empty()).then_some(found)
    }

    /// The error is `None` when the answer was that there is no such host.
    async fn by_dns(&self, host: &str, family: DnsFamily) -> Result<(Vec<IpAddr>, Duration), Option<NetError>> {
        let v4 = async { self.dns.ipv4_lookup(host).await };
        let v6 = async { self.dns.ipv6_lookup(host).await };
        let (v4, v6) = match family {
            DnsFamily::V4Only => (Some(v4.await), None),
            DnsFamily::V6Only => (None, Some(v6.await)),
            DnsFamily::Auto | DnsFamily::V4Preferred | DnsFamily::All => {
                let (v4, v6) = tokio::join!(v4, v6);
                (Some(v4), Some(v6))
            }
        };
        let mut ttl = None;
        let mut error = None;
        let mut take = |result: Option<Result<Lookup, NetError>>| match result {
            Some(Ok(lookup)) => {
                let left = lookup.valid_until().saturating_duration_since(Instant::now());
                ttl = Some(ttl.map_or(left, |t: Duration| t.min(left)));
                addresses(&lookup)
            }
            Some(Err(failed)) => {
                // "No such name" of one family says less than a server that is down.
                if error.is_none() || !failed.is_no_records_found() {
                    error = Some(failed);
                }
                Vec::new()
            }
            None => Vec::new(),
        };
        let (v4, v6) = (take(v4), take(v6));
        let found = choose(family, v4, v6);
        match (found.is_empty(), error) {
            (false, _) => Ok((found, ttl.unwrap_or(FIXED_TTL))),
            (true, error) => Err(error.filter(|e| !e.is_no_records_found())),
        }
    }
}

/// Envoy's meaning of `dns_lookup_family`.
fn choose(family: DnsFamily, v4: Vec<IpAddr>, v6: Vec<IpAddr>) -> Vec<IpAddr> {
    let prefer = |first: Vec<IpAddr>, second| if first.is_empty() { second } else { first };
    match family {
        DnsFamily::V4Only => v4,
        DnsFamily::V6Only => v6,
        DnsFamily::Auto => prefer(v6, v4),
        DnsFamily::V4Preferred => prefer(v4, v6),
        DnsFamily::All => v4.into_iter().chain(v6).collect(),
    }
}

fn addresses(lookup: &Lookup) -> Vec<IpAddr> {
    let ip = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    };
    lookup.answers().iter().filter_map(|record| ip(&record.data)).collect()
}

fn stamps() -> [Option<SystemTime>; 2] {
    [RESOLV_CONF, HOSTS].map(|path| modified(Path::new(path)))
}

fn system() -> Result<Current, String> {
    let (config, options) = hickory_resolver::system_conf::read_system_conf().unwrap_or_else(|error| {
        tracing::warn!(%error, "{RESOLV_CONF} cannot be used: names are looked up in {HOSTS} only");
        (ResolverConfig::default(), ResolverOpts::default())
    });
    build(config, options, system_hosts())
}

fn system_hosts() -> Hosts {
    Hosts::from_system().unwrap_or_else(|error| {
        tracing::warn!(%error, "{HOSTS} cannot be read");
        Hosts::default()
    })
}

fn build(config: ResolverConfig, mut options: ResolverOpts, hosts: Hosts) -> Result<Current, String> {
    // Who asks keeps the answer for as long as it wants to; here nothing is kept.
    options.cache_size = 0;
    // The hosts file is looked at first, for both families at once.
    options.use_hosts_file = ResolveHosts::Never;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    let dns = builder.build().map_err(|error| format!("DNS resolver: {error}"))?;
    Ok(Current {
        hosts: Arc::new(hosts),
        dns,
    })
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
