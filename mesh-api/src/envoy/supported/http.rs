//! HTTP connection managers, their filters and logs.

use super::{ALL, NONE};

pub(super) fn http(message: &str) -> Option<&'static [&'static str]> {
    Some(match message {
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager" => &[
            "codec_type",
            "stat_prefix",
            "rds",
            "route_config",
            "http_filters",
            // Acts only with a provider, which is refused below.
            "tracing",
            "common_http_protocol_options",
            "http_protocol_options",
            "http2_protocol_options",
            "server_name",
            "server_header_transformation",
            "max_request_headers_kb",
            "stream_idle_timeout",
            "request_timeout",
            "request_headers_timeout",
            "drain_timeout",
            // Ours is a quarter of a second in any case; it only spares the peer a reset.
            "delayed_close_timeout",
            "access_log",
            "use_remote_address",
            "xff_num_trusted_hops",
            "generate_request_id",
            "preserve_external_request_id",
            "forward_client_cert_details",
            "set_current_client_cert_details",
            // `100-continue` always passes through here.
            "proxy_100_continue",
            "upgrade_configs",
            "normalize_path",
            "merge_slashes",
            "path_with_escaped_slashes_action",
            "request_id_extension",
            "strip_matching_host_port",
            "strip_any_host_port",
        ],
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing" => &[
            "client_sampling",
            "random_sampling",
            "overall_sampling",
            "verbose",
            "max_path_tag_length",
            "custom_tags",
            "spawn_upstream_span",
        ],
        "envoy.type.tracing.v3.CustomTag" => ALL,
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails" => {
            &["subject", "dns", "uri"]
        }
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig" => {
            &["upgrade_type", "filters", "enabled"]
        }
        "envoy.extensions.filters.network.http_connection_manager.v3.RequestIDExtension" => &["typed_config"],
        "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig" => {
            &["pack_trace_reason", "use_request_id_for_trace_sampling"]
        }
        "envoy.extensions.filters.network.http_connection_manager.v3.Rds" => &["config_source", "route_config_name"],
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter" => {
            &["name", "typed_config", "is_optional", "disabled"]
        }
        // Spans are not made, so what starts one is harmless.
        "envoy.extensions.filters.http.router.v3.Router" => &["dynamic_stats", "start_child_span"],
        "envoy.extensions.filters.http.cors.v3.Cors" => NONE,
        "envoy.extensions.filters.http.cors.v3.CorsPolicy" => &[
            "allow_origin_string_match",
            "allow_methods",
            "allow_headers",
            "expose_headers",
            "max_age",
            "allow_credentials",
            "forward_not_matching_preflights",
            // On for everybody unless a share is given: see `per_route`.
            "filter_enabled",
        ],
        "envoy.extensions.filters.http.fault.v3.HTTPFault" => {
            &["delay", "abort", "filter_metadata", "disable_downstream_cluster_stats"]
        }
        "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit" => &[
            "stat_prefix",
            "status",
            "token_bucket",
            "filter_enabled",
            "filter_enforced",
            "response_headers_to_add",
            "rate_limited_as_resource_exhausted",
        ],
        "envoy.type.v3.HttpStatus" | "envoy.type.v3.TokenBucket" => ALL,
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
        | "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute" => &["mutations"],
        "envoy.extensions.filters.http.header_mutation.v3.Mutations" => &["request_mutations", "response_mutations"],
        "envoy.config.common.mutation_rules.v3.HeaderMutation" => &["remove", "append"],
        "envoy.extensions.filters.common.fault.v3.FaultDelay" => &["fixed_delay", "percentage"],
        "envoy.extensions.filters.http.fault.v3.FaultAbort" => &["http_status", "grpc_status", "percentage"],
        "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig" => ALL,
        "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig" | "io.istio.http.peer_metadata.Config" => ALL,
        "envoy.config.core.v3.HttpProtocolOptions" => {
            &["idle_timeout", "max_connection_duration", "max_requests_per_connection"]
        }
        "envoy.config.core.v3.Http1ProtocolOptions" => &[
            "allow_absolute_url",
            "accept_http_10",
            "header_key_format",
            "enable_trailers",
            "allow_chunked_length",
        ],
        "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat" => &["stateful_formatter"],
        "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig" => ALL,
        "envoy.config.core.v3.Http2ProtocolOptions" => &[
            "max_concurrent_streams",
            "initial_stream_window_size",
            "initial_connection_window_size",
            "allow_connect",
            "connection_keepalive",
        ],
        "envoy.config.core.v3.KeepaliveSettings" => &["interval", "timeout"],
        "envoy.config.accesslog.v3.AccessLog" => &["name", "filter", "typed_config"],
        "envoy.config.accesslog.v3.AccessLogFilter" => &["response_flag_filter"],
        "envoy.config.accesslog.v3.ResponseFlagFilter" => &["flags"],
        "envoy.extensions.access_loggers.file.v3.FileAccessLog" => {
            &["path", "format", "json_format", "typed_json_format", "log_format"]
        }
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
        | "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" => &["log_format"],
        "envoy.config.core.v3.SubstitutionFormatString" => &[
            "text_format",
            "json_format",
            "text_format_source",
            "formatters",
            "json_format_options",
        ],
        "envoy.config.core.v3.JsonFormatOptions" => ALL,
        "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"
        | "envoy.extensions.formatter.metadata.v3.Metadata" => NONE,
        "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig" => &["dns_cache_config"],
        _ => return None,
    })
}
