//! Clusters and how they speak HTTP; endpoints are looked at by their conversion.

use super::{ALL, NONE};

pub(super) fn cluster(message: &str) -> Option<&'static [&'static str]> {
    Some(match message {
        "envoy.config.cluster.v3.Cluster" => &[
            "transport_socket_matches",
            "name",
            "alt_stat_name",
            "type",
            "eds_cluster_config",
            "connect_timeout",
            "per_connection_buffer_limit_bytes",
            "lb_policy",
            "load_assignment",
            "max_requests_per_connection",
            "circuit_breakers",
            "upstream_http_protocol_options",
            "common_http_protocol_options",
            "http_protocol_options",
            "http2_protocol_options",
            "typed_extension_protocol_options",
            "dns_refresh_rate",
            // Jitter and failure rate are the resolver's own.
            "dns_jitter",
            "dns_failure_refresh_rate",
            "respect_dns_ttl",
            "dns_lookup_family",
            // Which resolver library; its settings are refused below.
            "typed_dns_resolver_config",
            "cleanup_interval",
            "upstream_bind_config",
            "least_request_lb_config",
            "round_robin_lb_config",
            "common_lb_config",
            "transport_socket",
            "metadata",
            "protocol_selection",
            "upstream_connection_options",
            "track_cluster_stats",
            "wait_for_warm_on_init",
        ],
        "envoy.config.cluster.v3.Cluster.TransportSocketMatch" => &["name", "match", "transport_socket"],
        "envoy.config.cluster.v3.Cluster.EdsClusterConfig" => &["eds_config", "service_name"],
        "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig" => &["choice_count"],
        "envoy.config.cluster.v3.Cluster.RoundRobinLbConfig" => NONE,
        "envoy.config.cluster.v3.Cluster.CommonLbConfig" => &["healthy_panic_threshold", "update_merge_window"],
        "envoy.config.cluster.v3.Cluster.RefreshRate" => ALL,
        "envoy.config.cluster.v3.UpstreamConnectionOptions" => &["tcp_keepalive"],
        "envoy.config.cluster.v3.TrackClusterStats" => ALL,
        "envoy.config.cluster.v3.CircuitBreakers" => &["thresholds"],
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds" => &[
            "priority",
            "max_connections",
            "max_pending_requests",
            "max_requests",
            "max_retries",
            "track_remaining",
        ],
        // Looked at field by field by its conversion.
        "envoy.config.endpoint.v3.ClusterLoadAssignment" => ALL,
        "envoy.config.core.v3.BindConfig" => &["source_address"],
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" => &[
            "common_http_protocol_options",
            "upstream_http_protocol_options",
            "explicit_http_config",
            "use_downstream_protocol_config",
            "auto_config",
        ],
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig"
        | "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig"
        | "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.AutoHttpConfig" => {
            &["http_protocol_options", "http2_protocol_options"]
        }
        "envoy.config.core.v3.UpstreamHttpProtocolOptions" => &["auto_sni", "auto_san_validation"],
        "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig" => {
            &["udp_max_queries", "dns_resolver_options"]
        }
        "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig" => ALL,
        "envoy.config.core.v3.DnsResolverOptions" => &["no_default_search_domain"],
        _ => return None,
    })
}
