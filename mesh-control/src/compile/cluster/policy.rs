//! The traffic policy of one cluster: the DestinationRule's, that of its subset laid over it, that of its port over both.

use std::time::Duration;

use mesh_api::istio::{
    ClientTlsSettings, ConnectionPoolSettings, ConsistentHashLb, H2UpgradePolicy, LoadBalancerSettings,
    OutlierDetection, ProxyProtocol, RetryBudget, SimpleLb, Subset, TcpSettings, TrafficPolicy, TunnelSettings,
};

use mesh_api::mesh_config::{MeshConfig, MeshH2UpgradePolicy};

use super::super::pb::{cluster, core, time, types, uint};
use crate::store::rules::TrafficRule;

/// What applies to one cluster.
#[derive(Debug, Default, Clone, Copy)]
pub(in super::super) struct Policy<'a> {
    pub(in super::super) load_balancer: Option<&'a LoadBalancerSettings>,
    pub(in super::super) pool: Option<&'a ConnectionPoolSettings>,
    pub(in super::super) outlier: Option<&'a OutlierDetection>,
    pub(in super::super) tls: Option<&'a ClientTlsSettings>,
    pub(in super::super) tunnel: Option<&'a TunnelSettings>,
    pub(in super::super) proxy_protocol: Option<&'a ProxyProtocol>,
    pub(in super::super) retry_budget: Option<&'a RetryBudget>,
}

impl<'a> Policy<'a> {
    /// The policy of a rule for a port and (perhaps) a subset. Each sub-object replaces the wider one as a whole.
    pub(in super::super) fn of(rule: Option<&'a TrafficRule>, port: u16, subset: Option<&'a Subset>) -> Self {
        let mut policy = Policy::default();
        let wide = rule.and_then(|r| r.policy.as_ref());
        for part in [wide, subset.and_then(|s| s.traffic_policy.as_ref())]
            .into_iter()
            .flatten()
        {
            policy.lay_over(part, port);
        }
        policy
    }

    fn lay_over(&mut self, part: &'a TrafficPolicy, port: u16) {
        // Ports have none of these of their own.
        self.tunnel = part.tunnel.as_ref().or(self.tunnel);
        self.proxy_protocol = part.proxy_protocol.as_ref().or(self.proxy_protocol);
        self.retry_budget = part.retry_budget.as_ref().or(self.retry_budget);
        let own = part
            .port_level_settings
            .iter()
            .find(|s| s.port.as_ref().is_some_and(|p| p.number == u32::from(port)));
        if let Some(own) = own {
            // A port's settings take nothing from the policy around them.
            self.load_balancer = own.load_balancer.as_ref();
            self.pool = own.connection_pool.as_ref();
            self.outlier = own.outlier_detection.as_ref();
            self.tls = own.tls.as_ref();
            return;
        }
        self.load_balancer = part.load_balancer.as_ref().or(self.load_balancer);
        self.pool = part.connection_pool.as_ref().or(self.pool);
        self.outlier = part.outlier_detection.as_ref().or(self.outlier);
        self.tls = part.tls.as_ref().or(self.tls);
    }

    fn tcp(&self) -> Option<&'a TcpSettings> {
        self.pool.and_then(|p| p.tcp.as_ref())
    }

    /// Idle limit of TCP connections, for the listeners that lead to the cluster.
    pub(in super::super) fn tcp_idle_timeout(&self) -> Option<Duration> {
        self.tcp().and_then(|t| t.idle_timeout).map(Into::into)
    }

    pub(super) fn connect_timeout(&self) -> Option<Duration> {
        self.tcp().and_then(|t| t.connect_timeout).map(Into::into)
    }

    /// The client's address decides, not the load balancer.
    pub(super) fn passthrough(&self) -> bool {
        self.simple() == Some(SimpleLb::Passthrough)
    }

    pub(super) fn simple(&self) -> Option<SimpleLb> {
        self.load_balancer.and_then(|l| l.simple)
    }

    /// What chooses the endpoint by hash.
    pub(in super::super) fn consistent_hash(&self) -> Option<&'a ConsistentHashLb> {
        self.load_balancer.and_then(|l| l.consistent_hash.as_ref())
    }

    /// Limits; without any all are as high as can be, since Envoy's own defaults are low.
    pub(super) fn limits(&self) -> cluster::CircuitBreakers {
        let set = |value: Option<i32>| {
            let limit = value.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0);
            uint(limit.unwrap_or(u32::MAX))
        };
        let http = self.pool.and_then(|p| p.http.as_ref());
        cluster::CircuitBreakers {
            thresholds: vec![cluster::circuit_breakers::Thresholds {
                max_connections: set(self.tcp().map(|t| t.max_connections)),
                max_pending_requests: set(http.map(|h| h.http1_max_pending_requests)),
                max_requests: set(http.map(|h| h.http2_max_requests)),
                max_retries: set(http.map(|h| h.max_retries)),
                retry_budget: self.retry_budget.map(retry_budget),
                track_remaining: true,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    pub(super) fn has_keepalive(&self) -> bool {
        self.tcp().is_some_and(|t| t.tcp_keepalive.is_some())
    }

    pub(super) fn keepalive(&self, mesh: &MeshConfig) -> Option<cluster::UpstreamConnectionOptions> {
        let own = self.tcp().and_then(|t| t.tcp_keepalive.as_ref());
        let keepalive = own.or(mesh.tcp_keepalive.as_ref())?;
        let secs = |d: Option<mesh_api::istio::Duration>| {
            d.and_then(|d| uint(u32::try_from(d.get().as_secs()).unwrap_or(u32::MAX)))
        };
        Some(cluster::UpstreamConnectionOptions {
            tcp_keepalive: Some(core::TcpKeepalive {
                keepalive_probes: Some(keepalive.probes).filter(|p| *p > 0).and_then(uint),
                keepalive_time: secs(keepalive.time),
                keepalive_interval: secs(keepalive.interval),
            }),
            ..Default::default()
        })
    }

    pub(super) fn http_common(&self) -> Option<core::HttpProtocolOptions> {
        let http = self.pool.and_then(|p| p.http.as_ref());
        let options = core::HttpProtocolOptions {
            idle_timeout: http.and_then(|h| h.idle_timeout).and_then(|d| time(d.into())),
            max_connection_duration: self
                .tcp()
                .and_then(|t| t.max_connection_duration)
                .and_then(|d| time(d.into())),
            max_requests_per_connection: http
                .and_then(|h| u32::try_from(h.max_requests_per_connection).ok())
                .filter(|n| *n > 0)
                .and_then(uint),
            ..Default::default()
        };
        (options != core::HttpProtocolOptions::default()).then_some(options)
    }

    pub(super) fn upgrades_to_http2(&self, mesh: &MeshConfig) -> bool {
        let http = self.pool.and_then(|p| p.http.as_ref());
        match http.map(|h| h.h2_upgrade_policy) {
            Some(H2UpgradePolicy::Upgrade) => true,
            Some(H2UpgradePolicy::DoNotUpgrade) => false,
            Some(H2UpgradePolicy::Default) | None => mesh.h2_upgrade_policy == MeshH2UpgradePolicy::Upgrade,
        }
    }

    pub(super) fn uses_client_protocol(&self) -> bool {
        let http = self.pool.and_then(|p| p.http.as_ref());
        http.is_some_and(|h| h.use_client_protocol)
    }

    pub(super) fn http2_options(&self) -> core::Http2ProtocolOptions {
        let http = self.pool.and_then(|p| p.http.as_ref());
        core::Http2ProtocolOptions {
            max_concurrent_streams: http
                .and_then(|h| u32::try_from(h.max_concurrent_streams).ok())
                .filter(|n| *n > 0)
                .and_then(uint),
            connection_keepalive: http
                .and_then(|h| h.http2_keepalive.as_ref())
                .map(|k| core::KeepaliveSettings {
                    interval: k.interval.and_then(|d| time(d.into())),
                    timeout: k.timeout.and_then(|d| time(d.into())),
                    ..Default::default()
                }),
            ..Default::default()
        }
    }
}

fn retry_budget(from: &RetryBudget) -> cluster::circuit_breakers::thresholds::RetryBudget {
    cluster::circuit_breakers::thresholds::RetryBudget {
        budget_percent: Some(types::Percent {
            value: from.percent.unwrap_or(20.0),
        }),
        min_retry_concurrency: uint(match from.min_retry_concurrency {
            0 => 3,
            set => set,
        }),
        // Only what is active now counts; a window would be reported as without effect.
        budget_interval: None,
    }
}
