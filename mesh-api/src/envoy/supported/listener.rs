//! Listeners, their filters and filter chains.

use super::{ALL, NONE};

pub(super) fn listener(message: &str) -> Option<&'static [&'static str]> {
    Some(match message {
        "envoy.config.listener.v3.Listener" => &[
            "name",
            "address",
            "additional_addresses",
            "stat_prefix",
            "filter_chains",
            "use_original_dst",
            "default_filter_chain",
            "per_connection_buffer_limit_bytes",
            "metadata",
            "deprecated_v1",
            "drain_type",
            "listener_filters",
            "listener_filters_timeout",
            "continue_on_listener_filters_timeout",
            "transparent",
            "traffic_direction",
            // How the kernel spreads connections over threads: ours are always spread evenly.
            "connection_balance_config",
            "reuse_port",
            "enable_reuse_port",
            "access_log",
            "tcp_backlog_size",
            "max_connections_to_accept_per_socket_event",
            "bind_to_port",
            "ignore_global_conn_limit",
        ],
        "envoy.config.listener.v3.Listener.DeprecatedV1" => &["bind_to_port"],
        "envoy.config.listener.v3.Listener.ConnectionBalanceConfig" => &["exact_balance"],
        "envoy.config.listener.v3.Listener.ConnectionBalanceConfig.ExactBalance" => NONE,
        "envoy.config.listener.v3.AdditionalAddress" => &["address"],
        "envoy.config.listener.v3.ListenerFilter" => &["name", "typed_config", "filter_disabled"],
        "envoy.config.listener.v3.ListenerFilterChainMatchPredicate"
        | "envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet"
        | "envoy.type.v3.Int32Range" => ALL,
        "envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
        | "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector" => NONE,
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" => {
            &["initial_read_buffer_size", "max_client_hello_size"]
        }
        "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol" => &["stat_prefix"],
        "envoy.config.listener.v3.FilterChain" => &[
            "filter_chain_match",
            "filters",
            "metadata",
            "transport_socket",
            "transport_socket_connect_timeout",
            "name",
        ],
        "envoy.config.listener.v3.FilterChainMatch" => &[
            "destination_port",
            "prefix_ranges",
            "direct_source_prefix_ranges",
            "source_type",
            "source_prefix_ranges",
            "source_ports",
            "server_names",
            "transport_protocol",
            "application_protocols",
        ],
        "envoy.config.listener.v3.Filter" => &["name", "typed_config"],
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy" => &[
            "stat_prefix",
            "cluster",
            "weighted_clusters",
            "idle_timeout",
            "access_log",
            "max_connect_attempts",
            "hash_policy",
            "tunneling_config",
        ],
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig" => &["hostname"],
        "envoy.type.v3.HashPolicy" => &["source_ip"],
        "envoy.type.v3.HashPolicy.SourceIp" => ALL,
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster" => &["clusters"],
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight" => &["name", "weight"],
        "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig" => {
            &["dns_cache_config", "port_value"]
        }
        // Istio's own network filters: `protocol` and what statistics are named by.
        "envoy.tcp.metadataexchange.config.MetadataExchange" | "stats.PluginConfig" => ALL,
        _ => return None,
    })
}
