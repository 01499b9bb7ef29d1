//! Of [`super::fields`]: HTTP connection managers, their filters and logs; route tables.

use super::fields::{ALL, NONE};

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
        ],
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
        _ => return None,
    })
}

pub(super) fn route(message: &str) -> Option<&'static [&'static str]> {
    Some(match message {
        "envoy.config.route.v3.RouteConfiguration" => &[
            "name",
            "virtual_hosts",
            "response_headers_to_add",
            "response_headers_to_remove",
            "request_headers_to_add",
            "request_headers_to_remove",
            // A request for a cluster that is not there gets 503 in any case.
            "validate_clusters",
            "max_direct_response_body_size_bytes",
            "ignore_port_in_host_matching",
            "metadata",
        ],
        "envoy.config.route.v3.VirtualHost" => &[
            "name",
            "domains",
            "routes",
            "require_tls",
            "request_headers_to_add",
            "request_headers_to_remove",
            "response_headers_to_add",
            "response_headers_to_remove",
            "include_request_attempt_count",
            "retry_policy",
            "metadata",
        ],
        "envoy.config.route.v3.Route" => &[
            "name",
            "match",
            "route",
            "redirect",
            "direct_response",
            "metadata",
            "decorator",
            "typed_per_filter_config",
            "request_headers_to_add",
            "request_headers_to_remove",
            "response_headers_to_add",
            "response_headers_to_remove",
            "stat_prefix",
        ],
        "envoy.config.route.v3.Decorator" => &["operation", "propagate"],
        "envoy.config.route.v3.RouteMatch" => &[
            "prefix",
            "path",
            "safe_regex",
            "connect_matcher",
            "path_separated_prefix",
            "case_sensitive",
            "runtime_fraction",
            "headers",
            "query_parameters",
            "grpc",
        ],
        "envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions"
        | "envoy.config.route.v3.RouteMatch.ConnectMatcher" => NONE,
        "envoy.config.route.v3.HeaderMatcher" | "envoy.config.route.v3.QueryParameterMatcher" => ALL,
        "envoy.config.route.v3.RouteAction" => &[
            "cluster",
            "cluster_header",
            "weighted_clusters",
            "cluster_not_found_response_code",
            "prefix_rewrite",
            "regex_rewrite",
            "host_rewrite_literal",
            "auto_host_rewrite",
            "timeout",
            "idle_timeout",
            "retry_policy",
            "request_mirror_policies",
            "max_grpc_timeout",
            "upgrade_configs",
            "max_stream_duration",
        ],
        "envoy.config.route.v3.RouteAction.MaxStreamDuration" => &["max_stream_duration", "grpc_timeout_header_max"],
        "envoy.config.route.v3.RouteAction.UpgradeConfig" => &["upgrade_type", "enabled"],
        "envoy.config.route.v3.HedgePolicy" => &["hedge_on_per_try_timeout"],
        "envoy.config.route.v3.RouteAction.RequestMirrorPolicy" => {
            &["cluster", "runtime_fraction", "disable_shadow_host_suffix_append"]
        }
        "envoy.config.route.v3.RouteAction.HashPolicy" => &[
            "header",
            "cookie",
            "connection_properties",
            "query_parameter",
            "terminal",
        ],
        "envoy.config.route.v3.RouteAction.HashPolicy.Header" => &["header_name"],
        "envoy.config.route.v3.RouteAction.HashPolicy.Cookie" => &["name", "ttl", "path"],
        "envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties"
        | "envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter" => ALL,
        "envoy.config.route.v3.WeightedCluster" => &["clusters", "total_weight", "runtime_key_prefix"],
        "envoy.config.route.v3.WeightedCluster.ClusterWeight" => &[
            "name",
            "weight",
            "request_headers_to_add",
            "request_headers_to_remove",
            "response_headers_to_add",
            "response_headers_to_remove",
            "host_rewrite_literal",
        ],
        "envoy.config.route.v3.RetryPolicy" => &[
            "retry_on",
            "num_retries",
            "per_try_timeout",
            "retry_host_predicate",
            "host_selection_retry_max_attempts",
            "retriable_status_codes",
            "retry_back_off",
        ],
        "envoy.config.route.v3.RetryPolicy.RetryPriority" | "envoy.config.route.v3.RetryPolicy.RetryHostPredicate" => {
            &["name", "typed_config"]
        }
        "envoy.config.route.v3.RetryPolicy.RetryBackOff" => ALL,
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate" => NONE,
        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig" => &["update_frequency"],
        "envoy.config.route.v3.RedirectAction" => ALL,
        "envoy.config.route.v3.DirectResponseAction" => &["status", "body"],
        _ => return None,
    })
}
