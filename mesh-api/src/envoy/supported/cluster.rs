//! Clusters and how they speak HTTP; endpoints are looked at by their conversion.

use super::{ALL, NONE};

pub(super) fn cluster(message: &str) -> Option<&'static [&'static str]> {
    Some(match message {
        "envoy.config.cluster.v3.Cluster" => &[
            "transport_socket_matches",
            "name",
            "alt_stat_name",
            "type",
            "cluster_type",
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
            // Which resolver library; what it is told is looked at by the conversion.
            "typed_dns_resolver_config",
            "cleanup_interval",
            "upstream_bind_config",
            "least_request_lb_config",
            "ring_hash_lb_config",
            "maglev_lb_config",
            "round_robin_lb_config",
            "common_lb_config",
            "outlier_detection",
            "health_checks",
            "transport_socket",
            "metadata",
            "protocol_selection",
            "upstream_connection_options",
            "track_cluster_stats",
            "wait_for_warm_on_init",
        ],
        "envoy.config.core.v3.HealthCheck" => &[
            "timeout",
            "interval",
            "interval_jitter",
            "no_traffic_interval",
            "unhealthy_interval",
            "unhealthy_threshold",
            "healthy_threshold",
            "http_health_check",
            "tcp_health_check",
        ],
        "envoy.config.core.v3.HealthCheck.HttpHealthCheck" => &[
            "host",
            "path",
            "method",
            "request_headers_to_add",
            "expected_statuses",
            "codec_client_type",
        ],
        "envoy.config.core.v3.HealthCheck.TcpHealthCheck" => &["send", "receive"],
        "envoy.config.core.v3.HealthCheck.Payload" => &["text", "binary"],
        "envoy.config.cluster.v3.Cluster.TransportSocketMatch" => &["name", "match", "transport_socket"],
        "envoy.config.cluster.v3.Cluster.CustomClusterType" => &["name", "typed_config"],
        "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig" => {
            &["dns_cache_config", "allow_insecure_cluster_options"]
        }
        "envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheConfig" => &[
            "name",
            "dns_lookup_family",
            "dns_refresh_rate",
            "dns_min_refresh_rate",
            "host_ttl",
            "max_hosts",
            "dns_failure_refresh_rate",
            "dns_cache_circuit_breaker",
            "typed_dns_resolver_config",
            "dns_query_timeout",
        ],
        "envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheCircuitBreakers" => &["max_pending_requests"],
        "envoy.config.cluster.v3.Cluster.EdsClusterConfig" => &["eds_config", "service_name"],
        "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig" => &["choice_count", "slow_start_config"],
        "envoy.config.cluster.v3.Cluster.RoundRobinLbConfig" => &["slow_start_config"],
        "envoy.config.cluster.v3.Cluster.SlowStartConfig" => &["slow_start_window", "aggression", "min_weight_percent"],
        "envoy.config.cluster.v3.Cluster.RingHashLbConfig" => {
            &["minimum_ring_size", "hash_function", "maximum_ring_size"]
        }
        "envoy.config.cluster.v3.Cluster.MaglevLbConfig" => &["table_size"],
        "envoy.config.core.v3.RuntimeDouble" => ALL,
        "envoy.config.cluster.v3.Cluster.CommonLbConfig" => &[
            "healthy_panic_threshold",
            "update_merge_window",
            "locality_weighted_lb_config",
        ],
        "envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig" => NONE,
        "envoy.config.cluster.v3.OutlierDetection" => &[
            "consecutive_5xx",
            "interval",
            "base_ejection_time",
            "max_ejection_percent",
            "enforcing_consecutive_5xx",
            "enforcing_success_rate",
            "success_rate_minimum_hosts",
            "success_rate_request_volume",
            "success_rate_stdev_factor",
            "consecutive_gateway_failure",
            "enforcing_consecutive_gateway_failure",
            "split_external_local_origin_errors",
            "consecutive_local_origin_failure",
            "enforcing_consecutive_local_origin_failure",
            "enforcing_local_origin_success_rate",
            "failure_percentage_threshold",
            "enforcing_failure_percentage",
            "enforcing_failure_percentage_local_origin",
            "failure_percentage_minimum_hosts",
            "failure_percentage_request_volume",
            "max_ejection_time",
            "max_ejection_time_jitter",
            "always_eject_one_host",
        ],
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
            "retry_budget",
            "track_remaining",
        ],
        "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget" => {
            &["budget_percent", "min_retry_concurrency"]
        }
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
            &["resolvers", "udp_max_queries", "dns_resolver_options"]
        }
        "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig" => ALL,
        "envoy.config.core.v3.DnsResolverOptions" => &["no_default_search_domain"],
        _ => return None,
    })
}
