//! Parts of Envoy's API that are compiled, and whether mesh-proxy acts on them. What it does not act on is not sent, and
//! the fields that ask for it are reported.

/// `Cluster.outlier_detection`, and the priorities of localities, which mean little without it.
pub(super) const OUTLIER: bool = cfg!(test);
/// `CommonLbConfig.locality_weighted_lb_config`.
pub(super) const LOCALITY_WEIGHTS: bool = cfg!(test);
/// `CircuitBreakers.Thresholds.retry_budget`.
pub(super) const RETRY_BUDGET: bool = cfg!(test);
/// `hash_policy` of routes and of the TCP proxy, with the policies RING_HASH and MAGLEV.
pub(super) const HASH: bool = cfg!(test);
/// `slow_start_config` of the load balancers.
pub(super) const SLOW_START: bool = cfg!(test);
/// `Http2ProtocolOptions.connection_keepalive`.
pub(super) const KEEPALIVE: bool = cfg!(test);
/// `RetryPolicy.retry_priority`.
pub(super) const RETRY_PRIORITY: bool = cfg!(test);
/// `Route.stat_prefix`.
pub(super) const STAT_PREFIX: bool = cfg!(test);
/// `TcpProxy.tunneling_config`.
pub(super) const TUNNEL: bool = cfg!(test);
/// The transport socket `envoy.transport_sockets.upstream_proxy_protocol`.
pub(super) const PROXY_PROTOCOL: bool = cfg!(test);
/// Operators such as `%REQ(...)%` in values of headers.
pub(super) const OPERATORS: bool = false;
