//! Handles of each thing that has statistics, resolved together. Those of clusters are in [`super::cluster`].

use super::{Counter, Family, Gauge, Histogram, Registry};

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
    /// `downstream_cx_destroy`
    pub downstream_cx_destroy: Counter,
    /// `downstream_cx_destroy_remote`: ended by the caller.
    pub downstream_cx_destroy_remote: Counter,
    /// `downstream_cx_destroy_local`: ended by this proxy.
    pub downstream_cx_destroy_local: Counter,
    /// `downstream_cx_destroy_active_rq`: ended with streams open.
    pub downstream_cx_destroy_active_rq: Counter,
    /// `downstream_cx_destroy_remote_active_rq`
    pub downstream_cx_destroy_remote_active_rq: Counter,
    /// `downstream_cx_destroy_local_active_rq`
    pub downstream_cx_destroy_local_active_rq: Counter,
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
    /// `downstream_rq_max_duration_reached`
    pub downstream_rq_max_duration_reached: Counter,
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
    /// `cors.origin_valid`
    pub cors_origin_valid: Counter,
    /// `cors.origin_invalid`
    pub cors_origin_invalid: Counter,
    /// `fault.delays_injected`
    pub fault_delays_injected: Counter,
    /// `fault.aborts_injected`
    pub fault_aborts_injected: Counter,
    /// `fault.active_faults`
    pub fault_active_faults: Gauge,
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
            downstream_cx_destroy: counter("downstream_cx_destroy"),
            downstream_cx_destroy_remote: counter("downstream_cx_destroy_remote"),
            downstream_cx_destroy_local: counter("downstream_cx_destroy_local"),
            downstream_cx_destroy_active_rq: counter("downstream_cx_destroy_active_rq"),
            downstream_cx_destroy_remote_active_rq: counter("downstream_cx_destroy_remote_active_rq"),
            downstream_cx_destroy_local_active_rq: counter("downstream_cx_destroy_local_active_rq"),
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
            downstream_rq_max_duration_reached: counter("downstream_rq_max_duration_reached"),
            downstream_rq_rx_reset: counter("downstream_rq_rx_reset"),
            downstream_rq_tx_reset: counter("downstream_rq_tx_reset"),
            downstream_rq_xx: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|c| counter(&format!("downstream_rq_{c}"))),
            no_route: counter("no_route"),
            no_cluster: counter("no_cluster"),
            rq_direct_response: counter("rq_direct_response"),
            rq_redirect: counter("rq_redirect"),
            cors_origin_valid: counter("cors.origin_valid"),
            cors_origin_invalid: counter("cors.origin_invalid"),
            fault_delays_injected: counter("fault.delays_injected"),
            fault_aborts_injected: counter("fault.aborts_injected"),
            fault_active_faults: gauge("fault.active_faults"),
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
