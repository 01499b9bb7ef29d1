//! Handles of each thing that has statistics, resolved together.

use super::{Counter, Family, Gauge, Histogram, Registry};

/// `cluster.<name>.*`
#[derive(Debug, Default)]
pub struct ClusterStats {
    /// `upstream_cx_total`
    pub upstream_cx_total: Counter,
    /// `upstream_cx_active`
    pub upstream_cx_active: Gauge,
    /// `upstream_cx_connect_fail`
    pub upstream_cx_connect_fail: Counter,
    /// `upstream_cx_connect_timeout`
    pub upstream_cx_connect_timeout: Counter,
    /// `upstream_cx_overflow`
    pub upstream_cx_overflow: Counter,
    /// `upstream_cx_http1_total`
    pub upstream_cx_http1_total: Counter,
    /// `upstream_cx_http2_total`
    pub upstream_cx_http2_total: Counter,
    /// `upstream_cx_rx_bytes_total`
    pub upstream_cx_rx_bytes_total: Counter,
    /// `upstream_cx_tx_bytes_total`
    pub upstream_cx_tx_bytes_total: Counter,
    /// `upstream_rq_total`
    pub upstream_rq_total: Counter,
    /// `upstream_rq_active`
    pub upstream_rq_active: Gauge,
    /// `upstream_rq_pending_total`
    pub upstream_rq_pending_total: Counter,
    /// `upstream_rq_pending_overflow`
    pub upstream_rq_pending_overflow: Counter,
    /// `upstream_rq_timeout`
    pub upstream_rq_timeout: Counter,
    /// `upstream_rq_per_try_timeout`
    pub upstream_rq_per_try_timeout: Counter,
    /// `upstream_rq_retry`
    pub upstream_rq_retry: Counter,
    /// `upstream_rq_retry_success`
    pub upstream_rq_retry_success: Counter,
    /// `upstream_rq_retry_overflow`
    pub upstream_rq_retry_overflow: Counter,
    /// `upstream_rq_retry_limit_exceeded`
    pub upstream_rq_retry_limit_exceeded: Counter,
    /// `upstream_rq_1xx` to `upstream_rq_5xx`
    pub upstream_rq_xx: [Counter; 5],
    /// `upstream_rq_completed`
    pub upstream_rq_completed: Counter,
    /// `membership_total`
    pub membership_total: Gauge,
    /// `membership_healthy`
    pub membership_healthy: Gauge,
    /// `ssl.handshake`
    pub ssl_handshake: Counter,
    /// `ssl.connection_error`
    pub ssl_connection_error: Counter,
    /// `upstream_cx_none_healthy`
    pub upstream_cx_none_healthy: Counter,
    /// `upstream_rq_time`, ms
    pub upstream_rq_time: Histogram,
}

impl ClusterStats {
    /// Resolves the handles of one cluster.
    pub fn new(registry: &Registry, cluster: &str) -> Self {
        let scope = registry.scope(Family::Cluster, cluster);
        let counter = |name: &str| scope.counter(name);
        let gauge = |name: &str| scope.gauge(name);
        ClusterStats {
            upstream_cx_total: counter("upstream_cx_total"),
            upstream_cx_active: gauge("upstream_cx_active"),
            upstream_cx_connect_fail: counter("upstream_cx_connect_fail"),
            upstream_cx_connect_timeout: counter("upstream_cx_connect_timeout"),
            upstream_cx_overflow: counter("upstream_cx_overflow"),
            upstream_cx_http1_total: counter("upstream_cx_http1_total"),
            upstream_cx_http2_total: counter("upstream_cx_http2_total"),
            upstream_cx_rx_bytes_total: counter("upstream_cx_rx_bytes_total"),
            upstream_cx_tx_bytes_total: counter("upstream_cx_tx_bytes_total"),
            upstream_rq_total: counter("upstream_rq_total"),
            upstream_rq_active: gauge("upstream_rq_active"),
            upstream_rq_pending_total: counter("upstream_rq_pending_total"),
            upstream_rq_pending_overflow: counter("upstream_rq_pending_overflow"),
            upstream_rq_timeout: counter("upstream_rq_timeout"),
            upstream_rq_per_try_timeout: counter("upstream_rq_per_try_timeout"),
            upstream_rq_retry: counter("upstream_rq_retry"),
            upstream_rq_retry_success: counter("upstream_rq_retry_success"),
            upstream_rq_retry_overflow: counter("upstream_rq_retry_overflow"),
            upstream_rq_retry_limit_exceeded: counter("upstream_rq_retry_limit_exceeded"),
            upstream_rq_xx: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|c| counter(&format!("upstream_rq_{c}"))),
            upstream_rq_completed: counter("upstream_rq_completed"),
            membership_total: gauge("membership_total"),
            membership_healthy: gauge("membership_healthy"),
            ssl_handshake: counter("ssl.handshake"),
            ssl_connection_error: counter("ssl.connection_error"),
            upstream_cx_none_healthy: counter("upstream_cx_none_healthy"),
            upstream_rq_time: scope.histogram("upstream_rq_time"),
        }
    }
}

/// `http.<stat_prefix>.*` of a connection manager.
#[derive(Debug, Default)]
pub struct HttpStats {
    /// `downstream_cx_total`
    pub downstream_cx_total: Counter,
    /// `downstream_cx_active`
    pub downstream_cx_active: Gauge,
    /// `downstream_cx_http1_total`
    pub downstream_cx_http1_total: Counter,
    /// `downstream_cx_http2_total`
    pub downstream_cx_http2_total: Counter,
    /// `downstream_cx_protocol_error`
    pub downstream_cx_protocol_error: Counter,
    /// `downstream_cx_idle_timeout`
    pub downstream_cx_idle_timeout: Counter,
    /// `downstream_cx_drain_close`
    pub downstream_cx_drain_close: Counter,
    /// `downstream_cx_upgrades_total`
    pub downstream_cx_upgrades_total: Counter,
    /// `downstream_rq_total`
    pub downstream_rq_total: Counter,
    /// `downstream_rq_active`
    pub downstream_rq_active: Gauge,
    /// `downstream_rq_completed`
    pub downstream_rq_completed: Counter,
    /// `downstream_rq_timeout`
    pub downstream_rq_timeout: Counter,
    /// `downstream_rq_header_timeout`
    pub downstream_rq_header_timeout: Counter,
    /// `downstream_rq_idle_timeout`
    pub downstream_rq_idle_timeout: Counter,
    /// `downstream_rq_rx_reset`
    pub downstream_rq_rx_reset: Counter,
    /// `downstream_rq_tx_reset`
    pub downstream_rq_tx_reset: Counter,
    /// `downstream_rq_1xx` to `downstream_rq_5xx`
    pub downstream_rq_xx: [Counter; 5],
    /// `no_route`
    pub no_route: Counter,
    /// `no_cluster`
    pub no_cluster: Counter,
    /// `rq_direct_response`
    pub rq_direct_response: Counter,
    /// `rq_redirect`
    pub rq_redirect: Counter,
    /// `downstream_rq_time`, ms; written by [`crate::telemetry::request::finish`].
    pub downstream_rq_time: Histogram,
}

impl HttpStats {
    /// Resolves the handles of one connection manager.
    pub fn new(registry: &Registry, stat_prefix: &str) -> Self {
        let scope = registry.scope(Family::Http, stat_prefix);
        let counter = |name: &str| scope.counter(name);
        let gauge = |name: &str| scope.gauge(name);
        HttpStats {
            downstream_cx_total: counter("downstream_cx_total"),
            downstream_cx_active: gauge("downstream_cx_active"),
            downstream_cx_http1_total: counter("downstream_cx_http1_total"),
            downstream_cx_http2_total: counter("downstream_cx_http2_total"),
            downstream_cx_protocol_error: counter("downstream_cx_protocol_error"),
            downstream_cx_idle_timeout: counter("downstream_cx_idle_timeout"),
            downstream_cx_drain_close: counter("downstream_cx_drain_close"),
            downstream_cx_upgrades_total: counter("downstream_cx_upgrades_total"),
            downstream_rq_total: counter("downstream_rq_total"),
            downstream_rq_active: gauge("downstream_rq_active"),
            downstream_rq_completed: counter("downstream_rq_completed"),
            downstream_rq_timeout: counter("downstream_rq_timeout"),
            downstream_rq_header_timeout: counter("downstream_rq_header_timeout"),
            downstream_rq_idle_timeout: counter("downstream_rq_idle_timeout"),
            downstream_rq_rx_reset: counter("downstream_rq_rx_reset"),
            downstream_rq_tx_reset: counter("downstream_rq_tx_reset"),
            downstream_rq_xx: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|c| counter(&format!("downstream_rq_{c}"))),
            no_route: counter("no_route"),
            no_cluster: counter("no_cluster"),
            rq_direct_response: counter("rq_direct_response"),
            rq_redirect: counter("rq_redirect"),
            downstream_rq_time: scope.histogram("downstream_rq_time"),
        }
    }
}

/// `listener.<address>.*`
#[derive(Debug, Default)]
pub struct ListenerStats {
    /// `downstream_cx_total`
    pub downstream_cx_total: Counter,
    /// `downstream_cx_active`
    pub downstream_cx_active: Gauge,
    /// `downstream_cx_destroy`
    pub downstream_cx_destroy: Counter,
    /// `downstream_pre_cx_timeout`
    pub downstream_pre_cx_timeout: Counter,
    /// `no_filter_chain_match`
    pub no_filter_chain_match: Counter,
    /// `ssl.handshake`
    pub ssl_handshake: Counter,
    /// `ssl.connection_error`
    pub ssl_connection_error: Counter,
    /// `ssl.fail_verify_error`
    pub ssl_fail_verify_error: Counter,
    /// `ssl.fail_verify_no_cert`
    pub ssl_fail_verify_no_cert: Counter,
}

impl ListenerStats {
    /// Resolves the handles of one listener.
    pub fn new(registry: &Registry, stat_prefix: &str) -> Self {
        let scope = registry.scope(Family::Listener, stat_prefix);
        let counter = |name: &str| scope.counter(name);
        ListenerStats {
            downstream_cx_total: counter("downstream_cx_total"),
            downstream_cx_active: scope.gauge("downstream_cx_active"),
            downstream_cx_destroy: counter("downstream_cx_destroy"),
            downstream_pre_cx_timeout: counter("downstream_pre_cx_timeout"),
            no_filter_chain_match: counter("no_filter_chain_match"),
            ssl_handshake: counter("ssl.handshake"),
            ssl_connection_error: counter("ssl.connection_error"),
            ssl_fail_verify_error: counter("ssl.fail_verify_error"),
            ssl_fail_verify_no_cert: counter("ssl.fail_verify_no_cert"),
        }
    }
}

/// `tcp.<stat_prefix>.*`
#[derive(Debug, Default)]
pub struct TcpStats {
    /// `downstream_cx_total`
    pub downstream_cx_total: Counter,
    /// `downstream_cx_no_route`
    pub downstream_cx_no_route: Counter,
    /// `downstream_cx_rx_bytes_total`
    pub downstream_cx_rx_bytes_total: Counter,
    /// `downstream_cx_tx_bytes_total`
    pub downstream_cx_tx_bytes_total: Counter,
    /// `idle_timeout`
    pub idle_timeout: Counter,
}

impl TcpStats {
    /// Resolves the handles of one TCP proxy.
    pub fn new(registry: &Registry, stat_prefix: &str) -> Self {
        let scope = registry.scope(Family::Tcp, stat_prefix);
        let counter = |name: &str| scope.counter(name);
        TcpStats {
            downstream_cx_total: counter("downstream_cx_total"),
            downstream_cx_no_route: counter("downstream_cx_no_route"),
            downstream_cx_rx_bytes_total: counter("downstream_cx_rx_bytes_total"),
            downstream_cx_tx_bytes_total: counter("downstream_cx_tx_bytes_total"),
            idle_timeout: counter("idle_timeout"),
        }
    }
}
