//! The bootstrap, and where configuration comes from.

use super::ALL;

pub(super) fn bootstrap(message: &str) -> Option<&'static [&'static str]> {
    Some(match message {
        "envoy.config.bootstrap.v3.Bootstrap" => &[
            "node",
            "node_context_params",
            "static_resources",
            "dynamic_resources",
            "cluster_manager",
            "admin",
            // What statistics are kept and how they are flushed to sinks that are refused.
            "stats_config",
            "stats_flush_interval",
            "stats_flush_on_admin",
            "deferred_stat_options",
            // Envoy watches its own threads; the runtime's switches are for Envoy's code.
            "watchdog",
            "watchdogs",
            "layered_runtime",
            "default_regex_engine",
            "flags_path",
            "enable_dispatcher_stats",
            "grpc_async_client_manager_config",
            "memory_allocator_manager",
        ],
        "envoy.config.bootstrap.v3.Bootstrap.StaticResources" => &["listeners", "clusters", "secrets"],
        "envoy.config.bootstrap.v3.Bootstrap.DynamicResources" => &["lds_config", "cds_config", "ads_config"],
        "envoy.config.bootstrap.v3.Admin" => &[
            "access_log",
            "access_log_path",
            "profile_path",
            "address",
            "ignore_global_conn_limit",
        ],
        "envoy.config.bootstrap.v3.ClusterManager" => &[
            "local_cluster_name",
            "outlier_detection",
            "enable_deferred_cluster_creation",
        ],
        "envoy.config.bootstrap.v3.ClusterManager.OutlierDetection" => &["event_log_path"],
        "envoy.config.metrics.v3.StatsConfig"
        | "envoy.config.bootstrap.v3.Watchdog"
        | "envoy.config.bootstrap.v3.Watchdogs"
        | "envoy.config.bootstrap.v3.LayeredRuntime"
        | "envoy.config.bootstrap.v3.Bootstrap.DeferredStatOptions"
        | "envoy.config.bootstrap.v3.Bootstrap.GrpcAsyncClientManagerConfig"
        | "envoy.config.bootstrap.v3.MemoryAllocatorManager"
        | "envoy.extensions.regex_engines.v3.GoogleRE2"
        | "envoy.config.core.v3.Node" => ALL,
        "envoy.config.core.v3.ConfigSource" => &[
            "ads",
            "self",
            "api_config_source",
            "initial_fetch_timeout",
            "resource_api_version",
        ],
        "envoy.config.core.v3.AggregatedConfigSource" | "envoy.config.core.v3.SelfConfigSource" => ALL,
        "envoy.config.core.v3.ApiConfigSource" => &[
            "api_type",
            "transport_api_version",
            "grpc_services",
            "request_timeout",
            "set_node_on_first_message_only",
            "rate_limit_settings",
        ],
        "envoy.config.core.v3.RateLimitSettings" => ALL,
        "envoy.config.core.v3.GrpcService" => &["envoy_grpc", "timeout", "initial_metadata"],
        "envoy.config.core.v3.GrpcService.EnvoyGrpc" => &["cluster_name", "authority"],
        _ => return None,
    })
}
