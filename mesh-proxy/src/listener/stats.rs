//! Statistics of listeners, under Envoy's names.

use crate::telemetry::stats::{Counter, Gauge, Registry};

/// `listener.<stat_prefix>.*`
#[derive(Debug)]
pub struct ListenerStats {
    /// `downstream_cx_total`
    pub cx_total: Counter,
    /// `downstream_cx_active`
    pub cx_active: Gauge,
    /// `downstream_cx_destroy`
    pub cx_destroy: Counter,
    /// `downstream_pre_cx_active`: accepted, and no filter chain yet.
    pub pre_cx_active: Gauge,
    /// `downstream_pre_cx_timeout`: the inspectors' time was over.
    pub pre_cx_timeout: Counter,
    /// `downstream_listener_filter_remote_close`: gone before it had sent anything to inspect.
    pub remote_close: Counter,
    /// `no_filter_chain_match`
    pub no_filter_chain_match: Counter,
    /// `ssl.handshake`
    pub ssl_handshake: Counter,
    /// `ssl.connection_error`
    pub ssl_connection_error: Counter,
}

impl ListenerStats {
    /// Resolves the handles of one listener.
    pub fn new(registry: &Registry, prefix: &str) -> Self {
        let counter = |name: &str| registry.counter(&format!("listener.{prefix}.{name}"));
        let gauge = |name: &str| registry.gauge(&format!("listener.{prefix}.{name}"));
        ListenerStats {
            cx_total: counter("downstream_cx_total"),
            cx_active: gauge("downstream_cx_active"),
            cx_destroy: counter("downstream_cx_destroy"),
            pre_cx_active: gauge("downstream_pre_cx_active"),
            pre_cx_timeout: counter("downstream_pre_cx_timeout"),
            remote_close: counter("downstream_listener_filter_remote_close"),
            no_filter_chain_match: counter("no_filter_chain_match"),
            ssl_handshake: counter("ssl.handshake"),
            ssl_connection_error: counter("ssl.connection_error"),
        }
    }
}
