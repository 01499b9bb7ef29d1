//! The choice of a filter chain, in Envoy's order of criteria.
//!
//! One criterion after the other narrows the chains that are left to those with the most specific value that fits. There
//! is no way back: when a later criterion leaves none, the connection has no chain, even if a less specific value of an
//! earlier criterion would have led to one. That is Envoy's rule, and configurations rely on it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::snapshot::{ChainMatch, FilterChain, Listener, SourceType};

/// What a connection is matched by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Where the caller was going.
    pub destination: SocketAddr,
    /// The caller.
    pub source: SocketAddr,
    /// Peer of the TCP connection; differs from `source` behind a proxy protocol.
    pub direct_source: IpAddr,
    /// Server name that the client asked for, lower case.
    pub sni: Option<Arc<str>>,
    /// The TLS inspector saw TLS.
    pub tls: bool,
    /// ALPN that the client offers, in its order, or what the HTTP inspector saw.
    pub protocols: Vec<String>,
}

impl Facts {
    /// A connection whose bytes nobody has looked at.
    pub fn new(destination: SocketAddr, source: SocketAddr) -> Self {
        Facts {
            destination,
            source,
            direct_source: source.ip(),
            sni: None,
            tls: false,
            protocols: Vec::new(),
        }
    }

    /// `SAME_IP_OR_LOOPBACK`
    fn is_local(&self) -> bool {
        self.source.ip().is_loopback() || self.source.ip() == self.destination.ip()
    }
}

/// The chain that serves a connection; `None` when there is none, not even a default one.
pub fn choose<'a>(listener: &'a Listener, facts: &Facts) -> Option<&'a Arc<FilterChain>> {
    choose_from(&listener.chains, facts).or(listener.default_chain.as_ref())
}

type Criterion = fn(&ChainMatch, &Facts) -> Option<usize>;

const CRITERIA: [Criterion; 9] = [
    |m, f| exact_or_any(m.destination_port.as_slice(), &f.destination.port()),
    |m, f| longest_prefix(&m.prefix_ranges, f.destination.ip()),
    |m, f| server_name(&m.server_names, f.sni.as_deref().unwrap_or_default()),
    |m, f| transport(&m.transport_protocol, f.tls),
    |m, f| protocol(&m.application_protocols, &f.protocols),
    |m, f| longest_prefix(&m.direct_source_prefix_ranges, f.direct_source),
    |m, f| source_type(m.source_type, f),
    |m, f| longest_prefix(&m.source_prefix_ranges, f.source.ip()),
    |m, f| exact_or_any(&m.source_ports, &f.source.port()),
];

type Ranks = [Option<usize>; CRITERIA.len()];

/// Narrowing by one criterion after the other leaves the chain with the greatest ranks, compared in order, where "does not
/// fit" is least; and when that chain does not fit somewhere, none does. So one pass is enough, and most chains are out
/// after their first criteria.
fn choose_from<'a>(chains: &'a [Arc<FilterChain>], facts: &Facts) -> Option<&'a Arc<FilterChain>> {
    let mut best: Option<(&Arc<FilterChain>, Ranks)> = None;
    for chain in chains {
        match &mut best {
            None => best = Some((chain, CRITERIA.map(|rank| rank(&chain.matches, facts)))),
            Some((holder, ranks)) => {
                // Two chains with equal matches are refused with the configuration.
                if raise(ranks, &chain.matches, facts) {
                    *holder = chain;
                }
            }
        }
    }
    let (chain, ranks) = best?;
    ranks.iter().all(Option::is_some).then_some(chain)
}

/// Puts a chain's ranks in place of `best` if they are greater.
fn raise(best: &mut Ranks, matches: &ChainMatch, facts: &Facts) -> bool {
    for at in 0..CRITERIA.len() {
        let rank = CRITERIA[at](matches, facts);
        if rank < best[at] {
            return false;
        }
        if rank > best[at] {
            best[at] = rank;
            for later in at + 1..CRITERIA.len() {
                best[later] = CRITERIA[later](matches, facts);
            }
            return true;
        }
    }
    false
}

// Each criterion ranks a chain: `None` does not fit, 0 does not ask, more is more specific.

fn exact_or_any<T: PartialEq>(wanted: &[T], value: &T) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    wanted.contains(value).then_some(1)
}

fn longest_prefix(ranges: &[IpNet], ip: IpAddr) -> Option<usize> {
    if ranges.is_empty() {
        return Some(0);
    }
    let fitting = ranges.iter().filter(|range| range.contains(&ip));
    fitting.map(|range| usize::from(range.prefix_len())).max()
}

fn server_name(wanted: &[String], name: &str) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    let rank = |pattern: &String| {
        if pattern == name {
            return Some(usize::MAX);
        }
        // `*.b.c` stands for every name below `b.c`, however deep.
        let suffix = pattern.strip_prefix('*')?;
        (suffix.starts_with('.') && name.len() > suffix.len() && name.ends_with(suffix)).then_some(suffix.len())
    };
    wanted.iter().filter_map(rank).max()
}

fn transport(wanted: &str, tls: bool) -> Option<usize> {
    match wanted {
        "" => Some(0),
        "tls" => tls.then_some(1),
        "raw_buffer" => (!tls).then_some(1),
        _ => None,
    }
}

/// The client's order decides: its first protocol that any chain names.
fn protocol(wanted: &[String], offered: &[String]) -> Option<usize> {
    if wanted.is_empty() {
        return Some(0);
    }
    let first = offered.iter().position(|p| wanted.contains(p))?;
    Some(offered.len() - first)
}

fn source_type(wanted: SourceType, facts: &Facts) -> Option<usize> {
    match wanted {
        SourceType::Any => Some(0),
        SourceType::SameIpOrLoopback => facts.is_local().then_some(1),
        SourceType::External => (!facts.is_local()).then_some(1),
    }
}
