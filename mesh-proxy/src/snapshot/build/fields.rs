//! The fields that may be set: those that are implemented, and those that are harmless by nature (names, comments,
//! metadata, sizes of statistics). A field that is set and not here makes its resource refused, with its path.
//!
//! Values that are not implemented in a field that is (an enum's, say) are refused by the conversion of that message.

use super::fields_cluster::{bootstrap, cluster};
use super::fields_http::{http, route};

/// Stands for "every field": messages whose content is free, or looked at whole by the conversion.
pub(super) const ALL: &[&str] = &["*"];

/// No field: messages that only have to be there.
pub(super) const NONE: &[&str] = &[];

/// Fields of a message by its full name; `None` for messages that are not implemented.
pub(super) fn fields_of(message: &str) -> Option<&'static [&'static str]> {
    listener(message)
        .or_else(|| http(message))
        .or_else(|| route(message))
        .or_else(|| cluster(message))
        .or_else(|| tls(message))
        .or_else(|| bootstrap(message))
        .or_else(|| shared(message))
}

fn listener(message: &str) -> Option<&'static [&'static str]> {
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
        ],
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster" => &["clusters"],
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight" => &["name", "weight"],
        // Istio's own network filters: `protocol` and what statistics are named by.
        "envoy.tcp.metadataexchange.config.MetadataExchange" | "stats.PluginConfig" => ALL,
        _ => return None,
    })
}

fn tls(message: &str) -> Option<&'static [&'static str]> {
    Some(match message {
        "envoy.config.core.v3.TransportSocket" => &["name", "typed_config"],
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" => NONE,
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" => {
            &["common_tls_context", "sni", "max_session_keys", "enforce_rsa_key_usage"]
        }
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext" => &[
            "common_tls_context",
            "require_client_certificate",
            // Sessions are never resumed.
            "disable_stateless_session_resumption",
            "disable_stateful_session_resumption",
            "session_timeout",
            "full_scan_certs_on_sni_mismatch",
        ],
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext" => &[
            "tls_params",
            "tls_certificates",
            "tls_certificate_sds_secret_configs",
            "validation_context",
            "validation_context_sds_secret_config",
            "combined_validation_context",
            "alpn_protocols",
        ],
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext" => {
            &["default_validation_context", "validation_context_sds_secret_config"]
        }
        "envoy.extensions.transport_sockets.tls.v3.TlsParameters" => &[
            "tls_minimum_protocol_version",
            "tls_maximum_protocol_version",
            "cipher_suites",
        ],
        "envoy.extensions.transport_sockets.tls.v3.TlsCertificate" => &["certificate_chain", "private_key"],
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext" => &[
            "trusted_ca",
            "system_root_certs",
            "match_typed_subject_alt_names",
            "match_subject_alt_names",
            "crl",
            "trust_chain_verification",
        ],
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.SystemRootCerts" => NONE,
        "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher" => &["san_type", "matcher"],
        "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig" => &["name", "sds_config"],
        "envoy.extensions.transport_sockets.tls.v3.Secret" => &["name", "tls_certificate", "validation_context"],
        _ => return None,
    })
}

fn shared(message: &str) -> Option<&'static [&'static str]> {
    Some(match message {
        "envoy.config.core.v3.Address" => &["socket_address", "pipe"],
        "envoy.config.core.v3.SocketAddress" => &["protocol", "address", "port_value", "ipv4_compat"],
        "envoy.config.core.v3.Pipe" => &["path"],
        "envoy.config.core.v3.CidrRange"
        | "envoy.config.core.v3.Metadata"
        | "envoy.config.core.v3.TcpKeepalive"
        | "envoy.config.core.v3.HeaderValue"
        | "envoy.config.core.v3.RuntimeFractionalPercent"
        | "envoy.type.v3.FractionalPercent"
        | "envoy.type.v3.Percent"
        | "envoy.type.v3.Int64Range"
        | "envoy.type.matcher.v3.StringMatcher"
        | "envoy.type.matcher.v3.RegexMatcher"
        | "envoy.type.matcher.v3.RegexMatchAndSubstitute" => ALL,
        "envoy.config.core.v3.HeaderValueOption" => &["header", "append", "append_action", "keep_empty_value"],
        "envoy.config.core.v3.DataSource" => &["filename", "inline_bytes", "inline_string", "environment_variable"],
        "envoy.config.core.v3.TypedExtensionConfig" => &["name", "typed_config"],
        _ => return None,
    })
}
