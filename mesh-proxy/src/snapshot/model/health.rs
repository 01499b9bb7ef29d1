//! Active health checks: their settings. What they do is in [`crate::upstream::health_check`].

use std::ops::Range;
use std::time::Duration;

use http::{HeaderMap, Method};

/// `envoy.config.core.v3.HealthCheck`, with Envoy's defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    /// `timeout`, after which a check has failed.
    pub timeout: Duration,
    /// `interval` between checks.
    pub interval: Duration,
    /// `no_traffic_interval`, as long as the cluster never had a connection; default 60 s.
    pub no_traffic_interval: Duration,
    /// `unhealthy_interval`, default `interval`.
    pub unhealthy_interval: Duration,
    /// `interval_jitter`, default 0.
    pub jitter: Duration,
    /// `unhealthy_threshold`: failed checks in a row that make an endpoint unhealthy.
    pub unhealthy_threshold: u32,
    /// `healthy_threshold`: good checks in a row that make it healthy again.
    pub healthy_threshold: u32,
    /// What is asked.
    pub probe: Probe,
}

/// What a check asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// `http_health_check`.
    Http(HttpProbe),
    /// `tcp_health_check`.
    Tcp {
        /// `send`; without it, a connection is all that is asked for.
        send: Vec<u8>,
        /// `receive`: these, in order.
        receive: Vec<Vec<u8>>,
    },
}

/// `HttpHealthCheck`, over HTTP/1.1.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProbe {
    /// `method`, default GET.
    pub method: Method,
    /// `host`, default the cluster's name.
    pub host: String,
    /// `path`.
    pub path: String,
    /// `request_headers_to_add`.
    pub headers: HeaderMap,
    /// `expected_statuses`, default 200.
    pub expected: Vec<Range<u16>>,
}
