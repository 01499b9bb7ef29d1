//! Route tables.

use super::{ALL, NONE};

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
            "retriable_headers",
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
