//! The fields that may be set: those that are implemented, and those that are harmless by nature (names, comments,
//! metadata, sizes of statistics). A field that is set and not here makes its resource refused, with its path.
//!
//! Values that are not implemented in a field that is (an enum's, say) are refused by the conversion of that message.

/// Stands for "every field": messages whose content is free, or looked at whole by the conversion.
pub(super) const ALL: &[&str] = &["*"];

const NONE: &[&str] = &[];

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

fn http(message: &str) -> Option<&'static [&'static str]> {
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

fn route(message: &str) -> Option<&'static [&'static str]> {
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
            "hash_policy",
            "max_grpc_timeout",
            "upgrade_configs",
            "hedge_policy",
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
            "retry_priority",
            "retry_host_predicate",
            "host_selection_retry_max_attempts",
            "retriable_status_codes",
            "retry_back_off",
            "retriable_request_headers",
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

fn cluster(message: &str) -> Option<&'static [&'static str]> {
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

fn bootstrap(message: &str) -> Option<&'static [&'static str]> {
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
        "envoy.config.bootstrap.v3.ClusterManager.OutlierDetection"
        | "envoy.config.metrics.v3.StatsConfig"
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
