//! Pieces of the model with everything at its default.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::snapshot::{
    ChainMatch, Cluster, ClusterState, Direction, Discovery, Endpoint, EndpointState, FilterChain, Http2Options,
    Inspectors, IstioClusterMeta, LbIndex, LbPolicy, LbRules, Limits, Listener, ServerTls, TcpProxy, Terminal,
    Transport, TransportSockets, UpstreamHttp, UpstreamVersion,
};
use crate::telemetry::stats::ClusterStats;

/// An address where nobody listens. The kernel gives this port to nobody, unlike one that was free a moment ago.
pub(crate) fn refused() -> SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

/// Loopback with a port of the system's choice.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) fn listener(name: &str, address: SocketAddr, chains: Vec<FilterChain>) -> Listener {
    Listener {
        name: name.into(),
        addresses: vec![address],
        bind_to_port: true,
        use_original_dst: false,
        transparent: false,
        direction: Direction::Inbound,
        inspectors: Inspectors::default(),
        chains: chains.into_iter().map(Arc::new).collect(),
        default_chain: None,
        access_logs: Vec::new(),
        stat_prefix: name.into(),
        buffer_limit: 1 << 20,
    }
}

/// Both inspectors, without a time limit.
pub(crate) fn inspect_all(mut listener: Listener) -> Listener {
    listener.inspectors.tls = Some(crate::snapshot::PortPredicate::default());
    listener.inspectors.http = Some(crate::snapshot::PortPredicate::default());
    listener
}

pub(crate) fn chain(name: &str, matches: ChainMatch, terminal: Terminal) -> FilterChain {
    FilterChain {
        name: name.into(),
        matches,
        tls: None,
        handshake_timeout: None,
        filters: Vec::new(),
        terminal,
    }
}

pub(crate) fn with_tls(mut chain: FilterChain, tls: &Arc<ServerTls>) -> FilterChain {
    chain.tls = Some(tls.clone());
    chain
}

/// A TCP proxy to one cluster.
pub(crate) fn tcp_to(cluster: &str) -> Terminal {
    Terminal::Tcp(Arc::new(TcpProxy {
        stat_prefix: cluster.into(),
        clusters: vec![(cluster.into(), 1)],
        idle_timeout: Some(Duration::from_secs(3600)),
        hash_source_ip: false,
        tunnel: None,
        max_connect_attempts: 1,
        access_logs: Vec::new(),
    }))
}

pub(crate) fn cluster(name: &str, endpoints: &[SocketAddr], transport: &Transport) -> Cluster {
    let endpoints: Vec<Arc<Endpoint>> = endpoints
        .iter()
        .map(|address| {
            Arc::new(Endpoint {
                address: *address,
                hostname: None,
                weight: 1,
                priority: 0,
                locality: Arc::default(),
                locality_weight: 0,
                healthy: true,
                transport: transport.clone(),
                workload: None,
                state: Arc::new(EndpointState::default()),
            })
        })
        .collect();
    // As Istio sets it.
    let no_panic = LbRules {
        panic_threshold: 0.0,
        ..LbRules::default()
    };
    Cluster {
        name: name.into(),
        discovery: Discovery::Static,
        lb: LbPolicy::RoundRobin,
        connect_timeout: Duration::from_secs(5),
        http: UpstreamHttp {
            version: UpstreamVersion::Http1,
            http2: Http2Options::default(),
            idle_timeout: None,
            max_requests_per_connection: 0,
            max_connection_duration: None,
            auto_sni: false,
            auto_san_validation: false,
        },
        index: LbIndex::new(&endpoints, &no_panic),
        live: None,
        rules: no_panic,
        health_check: None,
        outlier: None,
        endpoints,
        transports: Arc::new(TransportSockets::default()),
        limits: Limits {
            max_connections: u32::MAX,
            max_pending_requests: u32::MAX,
            max_requests: u32::MAX,
            max_retries: u32::MAX,
            retry_budget: None,
            track_remaining: false,
        },
        bind: None,
        keepalive: None,
        istio: IstioClusterMeta::default(),
        stats: Arc::new(ClusterStats::default()),
        state: Arc::new(ClusterState::default()),
    }
}
