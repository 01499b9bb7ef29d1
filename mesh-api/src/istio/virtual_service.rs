//! VirtualService: how requests for a host are routed.

use std::collections::BTreeMap;

use super::{
    Destination, Duration, Headers, Percent, StringMatch,
    message::{message, names},
};

message! {
    /// Routing rules for hosts: HTTP, TLS by SNI, and TCP.
    pub struct VirtualService {
        /// Hosts that the rules are for: names, `*.` wildcards, addresses. Empty for a delegate.
        pub hosts: Vec<String>,
        /// Gateways (`ns/name` or `name`) and `mesh` for sidecars; only `mesh` if empty.
        pub gateways: Vec<String>,
        /// HTTP rules; the first that matches wins.
        pub http: Vec<HttpRoute>,
        /// Rules for TLS that is not terminated.
        pub tls: Vec<TlsRoute>,
        /// Rules for TCP.
        pub tcp: Vec<TcpRoute>,
        /// Namespaces that see the rules: `.`, `*` or names.
        pub export_to: Vec<String>,
    }

    /// One HTTP rule.
    pub struct HttpRoute {
        /// Name of the rule, seen in statistics.
        pub name: String,
        /// Conditions, one of which must hold; none means always.
        pub r#match: Vec<HttpMatchRequest>,
        /// Destinations by weight.
        pub route: Vec<HttpRouteDestination>,
        /// Answer with a redirect.
        pub redirect: Option<HttpRedirect>,
        /// Answer with a fixed response.
        pub direct_response: Option<HttpDirectResponse>,
        /// Take the rules of another VirtualService.
        pub delegate: Option<Delegate>,
        /// Change path or authority before forwarding.
        pub rewrite: Option<HttpRewrite>,
        /// Limit for the whole request; none if absent.
        pub timeout: Option<Duration>,
        /// Retries.
        pub retries: Option<HttpRetry>,
        /// Injected faults.
        pub fault: Option<HttpFaultInjection>,
        /// Send a copy of the requests here.
        pub mirror: Option<Destination>,
        /// Send copies of the requests to several destinations.
        pub mirrors: Vec<HttpMirrorPolicy>,
        /// Deprecated share of mirrored requests.
        #[serde(alias = "mirror_percent")]
        #[schemars(extend("x-alias" = "mirror_percent"))]
        pub mirror_percent: Option<u32>,
        /// Share of mirrored requests; all if absent.
        pub mirror_percentage: Option<Percent>,
        /// Cross-origin policy.
        pub cors_policy: Option<CorsPolicy>,
        /// Header changes for all destinations.
        pub headers: Option<Headers>,
    }

    /// Conditions on a request; all that are set must hold.
    pub struct HttpMatchRequest {
        /// Name, appended to that of the rule.
        pub name: String,
        /// Path.
        pub uri: Option<StringMatch>,
        /// Scheme.
        pub scheme: Option<StringMatch>,
        /// Method.
        pub method: Option<StringMatch>,
        /// Host header.
        pub authority: Option<StringMatch>,
        /// Headers, by lower-case name.
        pub headers: BTreeMap<String, StringMatch>,
        /// Headers that must not match.
        pub without_headers: BTreeMap<String, StringMatch>,
        /// Query parameters.
        pub query_params: BTreeMap<String, StringMatch>,
        /// Port on which the host is addressed.
        pub port: u32,
        /// Labels of the caller's pod.
        pub source_labels: BTreeMap<String, String>,
        /// Namespace of the caller.
        pub source_namespace: String,
        /// Gateways that the rule is for, in place of those of the object.
        pub gateways: Vec<String>,
        /// Compare exact and prefix paths without regard to case.
        pub ignore_uri_case: bool,
        /// Prefix of the statistics of this route.
        pub stat_prefix: String,
    }

    /// A destination and its share.
    pub struct HttpRouteDestination {
        /// Where to.
        #[schemars(extend("x-required" = true))]
        pub destination: Destination,
        /// Relative share; the sum need not be 100.
        pub weight: i32,
        /// Header changes for this destination.
        pub headers: Option<Headers>,
    }

    /// A redirect.
    pub struct HttpRedirect {
        /// New path.
        pub uri: String,
        /// Replacement for the matched prefix of the path.
        pub prefix_rewrite: String,
        /// New host.
        pub authority: String,
        /// New port.
        pub port: Option<u32>,
        /// New port, derived.
        pub derive_port: Option<RedirectPort>,
        /// New scheme.
        pub scheme: String,
        /// Status code; 301 if 0.
        pub redirect_code: u32,
    }

    /// A fixed response.
    pub struct HttpDirectResponse {
        /// Status code.
        #[schemars(extend("x-required" = true))]
        pub status: u32,
        /// Body.
        pub body: Option<HttpBody>,
    }

    /// Body of a fixed response.
    pub struct HttpBody {
        /// Text.
        pub string: Option<String>,
        /// Any bytes, base64.
        pub bytes: Option<String>,
    }

    /// Another VirtualService.
    pub struct Delegate {
        /// Its name.
        pub name: String,
        /// Its namespace; that of this object if empty.
        pub namespace: String,
    }

    /// Changes before forwarding.
    pub struct HttpRewrite {
        /// New path, or replacement for the matched prefix.
        pub uri: String,
        /// New Host header.
        pub authority: String,
        /// New path by regular expression.
        pub uri_regex_rewrite: Option<RegexRewrite>,
    }

    /// A substitution in the path.
    pub struct RegexRewrite {
        /// RE2 expression.
        pub r#match: String,
        /// Replacement; `\1` is the first group.
        pub rewrite: String,
    }

    /// Retries of failed requests.
    pub struct HttpRetry {
        /// Retries after the first try; 0 turns them off.
        pub attempts: i32,
        /// Limit for each try; that of the route if absent.
        pub per_try_timeout: Option<Duration>,
        /// Conditions and status codes, by comma; Istio's default if empty.
        pub retry_on: String,
        /// Retry in other localities too.
        pub retry_remote_localities: Option<bool>,
        /// Avoid endpoints that were tried before; true if absent.
        pub retry_ignore_previous_hosts: Option<bool>,
        /// Base of the growing pause; 25 ms if absent.
        pub backoff: Option<Duration>,
    }

    /// Injected faults.
    pub struct HttpFaultInjection {
        /// Latency.
        pub delay: Option<FaultDelay>,
        /// Errors.
        pub abort: Option<FaultAbort>,
    }

    /// Injected latency.
    pub struct FaultDelay {
        /// Pause before forwarding.
        pub fixed_delay: Option<Duration>,
        /// Not supported by Istio.
        pub exponential_delay: Option<Duration>,
        /// Share of requests; `percent` if absent.
        pub percentage: Option<Percent>,
        /// Deprecated share of requests.
        pub percent: i32,
    }

    /// Injected errors.
    pub struct FaultAbort {
        /// HTTP status code.
        pub http_status: Option<i32>,
        /// Name of a gRPC status.
        pub grpc_status: Option<String>,
        /// Not supported by Istio.
        pub http2_error: Option<String>,
        /// Share of requests; `percent` if absent.
        pub percentage: Option<Percent>,
        /// Deprecated share of requests. Newer versions of Istio do not know it; what was written for older ones does.
        pub percent: i32,
    }

    /// A destination for copies.
    pub struct HttpMirrorPolicy {
        /// Where to.
        #[schemars(extend("x-required" = true))]
        pub destination: Destination,
        /// Share of requests; all if absent.
        pub percentage: Option<Percent>,
    }

    /// Cross-origin resource sharing.
    pub struct CorsPolicy {
        /// Origins that are allowed.
        pub allow_origins: Vec<StringMatch>,
        /// Deprecated exact origins.
        pub allow_origin: Vec<String>,
        /// Methods.
        pub allow_methods: Vec<String>,
        /// Request headers.
        pub allow_headers: Vec<String>,
        /// Response headers that scripts may read.
        pub expose_headers: Vec<String>,
        /// How long a preflight answer is kept; whole seconds.
        pub max_age: Option<Duration>,
        /// Allow cookies.
        pub allow_credentials: Option<bool>,
        /// What is done with preflights of other origins.
        pub unmatched_preflights: UnmatchedPreflights,
    }

    /// One rule for TLS that is not terminated.
    pub struct TlsRoute {
        /// Conditions, one of which must hold.
        #[schemars(extend("x-required" = true))]
        pub r#match: Vec<TlsMatchAttributes>,
        /// Destinations by weight.
        pub route: Vec<RouteDestination>,
    }

    /// Conditions on a TLS connection.
    pub struct TlsMatchAttributes {
        /// Server names; must be within the hosts of the object.
        #[schemars(extend("x-required" = true))]
        pub sni_hosts: Vec<String>,
        /// Addresses or ranges of the destination.
        pub destination_subnets: Vec<String>,
        /// Port on which the host is addressed.
        pub port: u32,
        /// Labels of the caller's pod.
        pub source_labels: BTreeMap<String, String>,
        /// Namespace of the caller.
        pub source_namespace: String,
        /// Gateways that the rule is for.
        pub gateways: Vec<String>,
    }

    /// One rule for TCP.
    pub struct TcpRoute {
        /// Conditions, one of which must hold; none means always.
        pub r#match: Vec<L4MatchAttributes>,
        /// Destinations by weight.
        pub route: Vec<RouteDestination>,
    }

    /// Conditions on a TCP connection.
    pub struct L4MatchAttributes {
        /// Addresses or ranges of the destination.
        pub destination_subnets: Vec<String>,
        /// Port on which the host is addressed.
        pub port: u32,
        /// Not supported by Istio.
        pub source_subnet: String,
        /// Labels of the caller's pod.
        pub source_labels: BTreeMap<String, String>,
        /// Namespace of the caller.
        pub source_namespace: String,
        /// Gateways that the rule is for.
        pub gateways: Vec<String>,
    }

    /// A destination of connections and its share.
    pub struct RouteDestination {
        /// Where to.
        #[schemars(extend("x-required" = true))]
        pub destination: Destination,
        /// Relative share.
        pub weight: i32,
    }
}

names! {
    /// How the port of a redirect is found.
    pub enum RedirectPort {
        /// 80 or 443, by scheme.
        FromProtocolDefault = "FROM_PROTOCOL_DEFAULT",
        /// That of the request.
        FromRequestPort = "FROM_REQUEST_PORT",
    }

    /// What is done with preflights of origins that are not allowed.
    pub enum UnmatchedPreflights {
        /// As `FORWARD`.
        Unspecified = "UNSPECIFIED",
        /// Handed to the application.
        Forward = "FORWARD",
        /// Answered here, without the headers.
        Ignore = "IGNORE",
    }
}
