//! Route tables.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use regex::Regex;

use super::{CorsPolicy, Fault, HashPolicy, HeaderMutation, LocalRateLimit, Map, Origin};
use crate::telemetry::access_log::LogFormat;

/// `envoy.config.route.v3.RouteConfiguration`.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Name.
    pub name: Arc<str>,
    /// Virtual hosts in the order of configuration.
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// Exact domains (lower case) to an index of `virtual_hosts`.
    pub exact: Map<String, usize>,
    /// `*.suffix` domains without the `*`, longest first.
    pub suffix: Vec<(String, usize)>,
    /// `prefix.*` domains without the `*`, longest first.
    pub prefix: Vec<(String, usize)>,
    /// The host with domain `*`.
    pub any: Option<usize>,
    /// `ignore_port_in_host_matching`.
    pub ignore_port: bool,
    /// Header operations of the table.
    pub headers: HeaderOpsPair,
}

/// `VirtualHost`.
#[derive(Debug)]
pub struct VirtualHost {
    /// Name, `catalog.shop.svc.cluster.local:80`.
    pub name: Arc<str>,
    /// Routes; the first that matches wins.
    pub routes: Vec<Arc<Route>>,
    /// `require_tls`: redirect plaintext requests to https.
    pub require_tls: RequireTls,
    /// Header operations of the host.
    pub headers: HeaderOpsPair,
    /// `include_request_attempt_count`: `x-envoy-attempt-count` towards the upstream.
    pub include_attempt_count: bool,
    /// `retry_policy` for routes without one.
    pub retry: Option<Arc<RetryPolicy>>,
    /// `hedge_policy.hedge_on_per_try_timeout`, for routes without a policy.
    pub hedge_on_per_try_timeout: bool,
    /// Where it came from.
    pub origin: Origin,
}

/// `require_tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequireTls {
    /// No.
    None,
    /// Requests from outside only.
    ExternalOnly,
    /// All.
    All,
}

/// `Route`.
#[derive(Debug)]
pub struct Route {
    /// Name, may be empty.
    pub name: Arc<str>,
    /// When it is taken.
    pub matches: RouteMatch,
    /// What happens.
    pub action: RouteAction,
    /// Header operations of the route.
    pub headers: HeaderOpsPair,
    /// `stat_prefix`: the route has statistics of its own.
    pub stat_prefix: Option<Box<str>>,
    /// `decorator.operation`, `catalog.shop.svc.cluster.local:80/*`.
    pub operation: Option<HeaderValue>,
    /// `typed_per_filter_config` of the fault filter.
    pub fault: Option<Arc<Fault>>,
    /// `typed_per_filter_config` of the cors filter.
    pub cors: Option<Arc<CorsPolicy>>,
    /// `typed_per_filter_config` of the local rate limit.
    pub local_rate_limit: Option<Arc<LocalRateLimit>>,
    /// `typed_per_filter_config` of header mutation.
    pub header_mutation: Option<Arc<HeaderMutation>>,
    /// Header operations of the route or of one of its weighted destinations have operators.
    pub has_operators: bool,
    /// The Istio object behind it.
    pub origin: Origin,
}

/// `RouteMatch`: all conditions must hold.
#[derive(Debug)]
pub struct RouteMatch {
    /// On the path, without query.
    pub path: PathMatch,
    /// `case_sensitive`, default true; for exact and prefix.
    pub case_sensitive: bool,
    /// Pseudo headers (`:method`, `:authority`, `:scheme`, `:path`) and headers.
    pub headers: Vec<HeaderMatch>,
    /// `query_parameters`.
    pub query: Vec<QueryMatch>,
    /// `runtime_fraction`: numerator of a million; `None` for always.
    pub fraction: Option<u32>,
    /// `grpc`: only gRPC requests.
    pub grpc: bool,
}

/// On the path.
#[derive(Debug)]
pub enum PathMatch {
    /// `prefix`.
    Prefix(String),
    /// `path`.
    Exact(String),
    /// `safe_regex`, anchored at both ends.
    Regex(Regex),
    /// `path_separated_prefix`.
    SeparatedPrefix(String),
    /// `connect_matcher`.
    Connect,
}

/// `HeaderMatcher`.
#[derive(Debug)]
pub struct HeaderMatch {
    /// Which.
    pub name: HeaderKey,
    /// How.
    pub matcher: ValueMatch,
    /// `invert_match`.
    pub invert: bool,
    /// `treat_missing_header_as_empty`.
    pub missing_is_empty: bool,
}

/// A header, or one of the pseudo headers of HTTP/2 that Envoy also uses for HTTP/1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderKey {
    /// `:method`.
    Method,
    /// `:authority` (or `host`).
    Authority,
    /// `:path`, with query.
    Path,
    /// `:scheme`.
    Scheme,
    /// Any other.
    Name(HeaderName),
}

/// On a value.
#[derive(Debug)]
pub enum ValueMatch {
    /// Header or parameter is (not) there.
    Present(bool),
    /// `StringMatcher`.
    String(StringMatch),
    /// `range_match`: start inclusive, end exclusive.
    Range(i64, i64),
}

/// `envoy.type.matcher.v3.StringMatcher`.
#[derive(Debug, Clone)]
pub struct StringMatch {
    /// Pattern; already lower-cased when `ignore_case`.
    pub pattern: StringPattern,
    /// `ignore_case`; not for regex.
    pub ignore_case: bool,
}

/// Kind of a [`StringMatch`].
#[derive(Debug, Clone)]
pub enum StringPattern {
    /// `exact`.
    Exact(String),
    /// `prefix`.
    Prefix(String),
    /// `suffix`.
    Suffix(String),
    /// `contains`.
    Contains(String),
    /// `safe_regex`, anchored at both ends.
    Regex(Regex),
}

impl HeaderOpsPair {
    /// Some value of either side has operators.
    pub fn has_operators(&self) -> bool {
        self.request.has_operators || self.response.has_operators
    }
}

impl StringMatch {
    /// Whether a value fits.
    pub fn matches(&self, value: &str) -> bool {
        let lowered;
        let value = if self.ignore_case {
            lowered = value.to_lowercase();
            lowered.as_str()
        } else {
            value
        };
        match &self.pattern {
            StringPattern::Exact(p) => value == p,
            StringPattern::Prefix(p) => value.starts_with(p.as_str()),
            StringPattern::Suffix(p) => value.ends_with(p.as_str()),
            StringPattern::Contains(p) => value.contains(p.as_str()),
            StringPattern::Regex(r) => r.is_match(value),
        }
    }
}

/// `QueryParameterMatcher`.
#[derive(Debug)]
pub struct QueryMatch {
    /// Name of the parameter.
    pub name: String,
    /// How.
    pub matcher: ValueMatch,
}

/// What a route does.
#[derive(Debug)]
pub enum RouteAction {
    /// `route`.
    Forward(Arc<Forward>),
    /// `redirect`.
    Redirect(Redirect),
    /// `direct_response`.
    Direct {
        /// Status.
        status: StatusCode,
        /// Body.
        body: bytes::Bytes,
    },
}

/// `RouteAction` of Envoy.
#[derive(Debug)]
pub struct Forward {
    /// Where to.
    pub target: Target,
    /// `cluster_not_found_response_code`, default 503.
    pub cluster_not_found: StatusCode,
    /// `prefix_rewrite`: replaces the matched prefix or the whole matched path.
    pub prefix_rewrite: Option<String>,
    /// `regex_rewrite`: pattern (not anchored, every match is replaced) and substitution in the syntax of the `regex` crate
    /// (`${1}`; the builder translates Envoy's `\1`).
    pub regex_rewrite: Option<(Regex, String)>,
    /// Of the authority.
    pub host_rewrite: HostRewrite,
    /// `timeout`: default 15 s, `None` when 0.
    pub timeout: Option<Duration>,
    /// `idle_timeout` of the stream; `Some(ZERO)` switches the manager's off.
    pub idle_timeout: Option<Duration>,
    /// `max_grpc_timeout`: honour `grpc-timeout` of gRPC calls up to this, in place of `timeout`; `Some(ZERO)` is without limit.
    pub max_grpc_timeout: Option<Duration>,
    /// `max_stream_duration.grpc_timeout_header_max`: honour `grpc-timeout` of any request up to this, for the whole stream;
    /// `Some(ZERO)` is without limit.
    pub grpc_timeout_header_max: Option<Duration>,
    /// `retry_policy`.
    pub retry: Option<Arc<RetryPolicy>>,
    /// `request_mirror_policies`.
    pub mirrors: Vec<Mirror>,
    /// `hash_policy` (used with ring hash and maglev).
    pub hash_policy: Vec<HashPolicy>,
    /// `upgrade_configs` of the route: token and whether it is on.
    pub upgrades: Vec<(String, bool)>,
    /// `hedge_policy.hedge_on_per_try_timeout`; `None` for the virtual host's.
    pub hedge_on_per_try_timeout: Option<bool>,
}

/// Where a request goes.
#[derive(Debug)]
pub enum Target {
    /// `cluster`.
    Cluster(Arc<str>),
    /// `weighted_clusters`.
    Weighted {
        /// Destinations; weights of 0 are left out.
        clusters: Vec<WeightedCluster>,
        /// Sum of the weights, not 0.
        total: u32,
    },
    /// `cluster_header`.
    Header(HeaderName),
}

/// One of `weighted_clusters`.
#[derive(Debug)]
pub struct WeightedCluster {
    /// Cluster.
    pub name: Arc<str>,
    /// Share of the total.
    pub weight: u32,
    /// Header operations of this destination.
    pub headers: HeaderOpsPair,
    /// `host_rewrite_literal`.
    pub host_rewrite: HostRewrite,
}

/// Of the authority.
#[derive(Debug, Clone)]
pub enum HostRewrite {
    /// Leave it.
    None,
    /// `host_rewrite_literal`.
    Literal(HeaderValue),
    /// `auto_host_rewrite`: the endpoint's host name.
    Auto,
}

/// `RetryPolicy`.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// `retry_on`.
    pub on: RetryOn,
    /// `num_retries`, default 1.
    pub num_retries: u32,
    /// `per_try_timeout`, `None` when 0.
    pub per_try_timeout: Option<Duration>,
    /// `retriable_status_codes`.
    pub status_codes: Vec<u16>,
    /// `retry_back_off.base_interval`, default 25 ms.
    pub base_interval: Duration,
    /// `retry_back_off.max_interval`, default ten times the base.
    pub max_interval: Duration,
    /// `retry_host_predicate` previous_hosts.
    pub avoid_previous_hosts: bool,
    /// `host_selection_retry_max_attempts`, default 1.
    pub host_selection_attempts: u32,
    /// `retry_priority` previous_priorities: `update_frequency`.
    pub previous_priorities: Option<u32>,
    /// `retriable_headers`: responses that match one are retried.
    pub retriable_headers: Vec<HeaderMatch2>,
    /// `retriable_request_headers`: retry only requests that match one.
    pub retriable_request_headers: Vec<HeaderMatch2>,
}

/// Name and value matcher of `retriable_headers`; shared, since policies are cloned.
pub type HeaderMatch2 = Arc<HeaderMatch>;

/// Conditions of `retry_on`; unknown words are ignored by Envoy and therefore refused by the builder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct RetryOn {
    /// `5xx`.
    pub server_error: bool,
    /// `gateway-error`.
    pub gateway_error: bool,
    /// `reset`.
    pub reset: bool,
    /// `reset-before-request`.
    pub reset_before_request: bool,
    /// `connect-failure`.
    pub connect_failure: bool,
    /// `refused-stream`.
    pub refused_stream: bool,
    /// `retriable-4xx` (409).
    pub retriable_4xx: bool,
    /// `retriable-status-codes`.
    pub status_codes: bool,
    /// `envoy-ratelimited`.
    pub rate_limited: bool,
    /// `retriable-headers`.
    pub headers: bool,
    /// gRPC `cancelled`.
    pub grpc_cancelled: bool,
    /// gRPC `deadline-exceeded`.
    pub grpc_deadline_exceeded: bool,
    /// gRPC `internal`.
    pub grpc_internal: bool,
    /// gRPC `resource-exhausted`.
    pub grpc_resource_exhausted: bool,
    /// gRPC `unavailable`.
    pub grpc_unavailable: bool,
}

/// `RequestMirrorPolicy`.
#[derive(Debug)]
pub struct Mirror {
    /// Cluster.
    pub cluster: Arc<str>,
    /// Share, of a million.
    pub fraction: u32,
    /// `disable_shadow_host_suffix_append`: the copy keeps the host; else it gets Envoy's `-shadow` behind it.
    pub keep_host: bool,
}

/// `RedirectAction`.
#[derive(Debug, Default)]
pub struct Redirect {
    /// `https_redirect` or `scheme_redirect`.
    pub scheme: Option<String>,
    /// `host_redirect`.
    pub host: Option<String>,
    /// `port_redirect`.
    pub port: Option<u16>,
    /// `path_redirect`.
    pub path: Option<String>,
    /// `prefix_rewrite`.
    pub prefix_rewrite: Option<String>,
    /// `regex_rewrite`, as [`Forward::regex_rewrite`].
    pub regex_rewrite: Option<(Regex, String)>,
    /// `response_code`, default 301.
    pub code: StatusCode,
    /// `strip_query`.
    pub strip_query: bool,
}

/// Operations on request and response headers.
#[derive(Debug, Default)]
pub struct HeaderOpsPair {
    /// On the request.
    pub request: HeaderOps,
    /// On the response.
    pub response: HeaderOps,
}

/// Operations on one side: additions first, then removals, as Envoy does.
#[derive(Debug, Default)]
pub struct HeaderOps {
    /// Additions, in order.
    pub add: Vec<HeaderAdd>,
    /// Removals.
    pub remove: Vec<HeaderName>,
    /// Some value has operators.
    pub has_operators: bool,
}

/// `HeaderValueOption`.
#[derive(Debug)]
pub struct HeaderAdd {
    /// Name.
    pub name: HeaderName,
    /// Value; empty when there are `operators`.
    pub value: HeaderValue,
    /// The value with command operators such as `%REQ(x)%`, evaluated for each request.
    pub operators: Option<Box<LogFormat>>,
    /// `append_action`.
    pub action: AppendAction,
}

/// `HeaderAppendAction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendAction {
    /// `APPEND_IF_EXISTS_OR_ADD`.
    Append,
    /// `ADD_IF_ABSENT`.
    AddIfAbsent,
    /// `OVERWRITE_IF_EXISTS_OR_ADD`.
    Overwrite,
    /// `OVERWRITE_IF_EXISTS`.
    OverwriteIfExists,
}
