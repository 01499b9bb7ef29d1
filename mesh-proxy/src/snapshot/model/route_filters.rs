//! What HTTP filters are told, by route or for all of them, and hash policies.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{HeaderOps, StringMatch};
use crate::http::TokenBucket;

/// `HashPolicy`.
#[derive(Debug)]
pub struct HashPolicy {
    /// What is hashed.
    pub by: HashBy,
    /// `terminal`: when this gave a hash, those behind it are not looked at.
    pub terminal: bool,
}

/// What of a request is hashed.
#[derive(Debug)]
pub enum HashBy {
    /// A header's value.
    Header(HeaderName),
    /// A cookie, made when absent and `ttl` is set.
    Cookie {
        /// Name.
        name: String,
        /// Lifetime; zero for a session cookie.
        ttl: Option<Duration>,
        /// Path.
        path: String,
        /// `attributes`: name and value, which may be empty.
        attributes: Vec<(String, String)>,
    },
    /// Address of the caller.
    SourceIp,
    /// A query parameter.
    Query(String),
}

/// `envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`; shares are parts of a million.
#[derive(Debug)]
pub struct LocalRateLimit {
    /// `stat_prefix`.
    pub stat_prefix: Arc<str>,
    /// `status`, default 429.
    pub status: StatusCode,
    /// `token_bucket`, shared by all workers; none lets everything pass.
    pub bucket: Option<TokenBucket>,
    /// `filter_enabled`: share of requests that are counted, default 0.
    pub enabled: u32,
    /// `filter_enforced`: share of those past the limit that are refused, default 0.
    pub enforced: u32,
    /// `response_headers_to_add`, on refusals.
    pub response: HeaderOps,
    /// `rate_limited_as_resource_exhausted`.
    pub resource_exhausted: bool,
}

/// `envoy.extensions.filters.http.header_mutation.v3.Mutations`: operations, one by one.
#[derive(Debug, Default)]
pub struct HeaderMutation {
    /// `request_mutations`.
    pub request: Vec<HeaderOps>,
    /// `response_mutations`.
    pub response: Vec<HeaderOps>,
}

/// `envoy.extensions.filters.http.fault.v3.HTTPFault`; shares are parts of a million.
#[derive(Debug)]
pub struct Fault {
    /// Delay and its share.
    pub delay: Option<(Duration, u32)>,
    /// Status and its share.
    pub abort: Option<(FaultAbort, u32)>,
}

/// What an aborted request gets.
#[derive(Debug, Clone, Copy)]
pub enum FaultAbort {
    /// `http_status`.
    Http(StatusCode),
    /// `grpc_status`.
    Grpc(u32),
}

/// `envoy.extensions.filters.http.cors.v3.CorsPolicy`.
#[derive(Debug)]
pub struct CorsPolicy {
    /// `allow_origin_string_match`.
    pub allow_origins: Vec<StringMatch>,
    /// `allow_methods`.
    pub allow_methods: Option<HeaderValue>,
    /// `allow_headers`.
    pub allow_headers: Option<HeaderValue>,
    /// `expose_headers`.
    pub expose_headers: Option<HeaderValue>,
    /// `max_age`.
    pub max_age: Option<HeaderValue>,
    /// `allow_credentials`.
    pub allow_credentials: bool,
    /// `forward_not_matching_preflights`, default true.
    pub forward_not_matching_preflights: bool,
}
