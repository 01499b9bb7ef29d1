//! HTTP filters with settings of their own: local rate limit, header mutation.

use http::StatusCode;
use mesh_api::envoy::pb::envoy::config::common::mutation_rules::v3 as rules;
use mesh_api::envoy::pb::envoy::config::core::v3::RuntimeFractionalPercent;
use mesh_api::envoy::pb::envoy::extensions::filters::http::header_mutation::v3 as mutation;
use mesh_api::envoy::pb::envoy::extensions::filters::http::local_ratelimit::v3 as local;
use mesh_api::envoy::pb::envoy::r#type::v3::TokenBucket as Bucket;

use super::common::{duration, fraction, header_add, header_name, header_ops, uint};
use super::invalid::{At, Invalid, Result, each};
use super::route::status;
use crate::http::TokenBucket;
use crate::snapshot::{HeaderMutation, HeaderOps, LocalRateLimit};

pub(super) const LOCAL_RATE_LIMIT: &str = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
pub(super) const HEADER_MUTATION: &str = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation";

pub(super) fn local_rate_limit(value: &local::LocalRateLimit) -> Result<LocalRateLimit> {
    if value.stat_prefix.is_empty() {
        return Err(Invalid::new("a prefix is required").under("stat_prefix"));
    }
    let code = match value.status.as_ref().map(|s| s.code) {
        None | Some(0) => StatusCode::TOO_MANY_REQUESTS,
        Some(code) => {
            let code = u32::try_from(code).unwrap_or_default();
            // As in Envoy, only an error stands for a refusal.
            let code = status(code).at("status.code")?;
            if code.as_u16() < 400 {
                StatusCode::TOO_MANY_REQUESTS
            } else {
                code
            }
        }
    };
    Ok(LocalRateLimit {
        stat_prefix: value.stat_prefix.as_str().into(),
        status: code,
        bucket: value.token_bucket.as_ref().map(bucket).transpose().at("token_bucket")?,
        enabled: share(value.filter_enabled.as_ref()).at("filter_enabled")?,
        enforced: share(value.filter_enforced.as_ref()).at("filter_enforced")?,
        response: header_ops(&value.response_headers_to_add, &[], "response_headers_to_add", "")?,
        resource_exhausted: value.rate_limited_as_resource_exhausted,
    })
}

fn bucket(value: &Bucket) -> Result<TokenBucket> {
    let interval = duration(value.fill_interval.as_ref()).unwrap_or_default();
    // Envoy's least, below which clocks are not to be trusted.
    if interval.as_millis() < 50 {
        return Err(Invalid::new("must be at least 50 ms").under("fill_interval"));
    }
    let each = uint(value.tokens_per_fill.as_ref()).unwrap_or(1);
    if value.max_tokens == 0 || each == 0 {
        return Err(Invalid::new("max_tokens and tokens_per_fill must be above 0"));
    }
    Ok(TokenBucket::new(value.max_tokens, each, interval))
}

/// Without one, Envoy takes 0.
fn share(value: Option<&RuntimeFractionalPercent>) -> Result<u32> {
    match value.and_then(|v| v.default_value.as_ref()) {
        None => Ok(0),
        Some(percent) => fraction(percent).at("default_value"),
    }
}

pub(super) fn mutations_per_route(value: &mutation::HeaderMutationPerRoute) -> Result<HeaderMutation> {
    mutations(value.mutations.as_ref()).at("mutations")
}

pub(super) fn header_mutation(value: &mutation::HeaderMutation) -> Result<HeaderMutation> {
    mutations(value.mutations.as_ref()).at("mutations")
}

fn mutations(value: Option<&mutation::Mutations>) -> Result<HeaderMutation> {
    let Some(value) = value else {
        return Ok(HeaderMutation::default());
    };
    Ok(HeaderMutation {
        request: each(&value.request_mutations, "request_mutations", one_mutation)?,
        response: each(&value.response_mutations, "response_mutations", one_mutation)?,
    })
}

fn one_mutation(value: &rules::HeaderMutation) -> Result<HeaderOps> {
    use rules::header_mutation::Action;
    let mut ops = HeaderOps::default();
    match &value.action {
        Some(Action::Remove(name)) => {
            let name = header_name(name).at("remove")?;
            if name == http::header::HOST {
                return Err(Invalid::new("a request needs its host; it cannot be removed").under("remove"));
            }
            ops.remove.push(name);
        }
        Some(Action::Append(option)) => {
            let add = header_add(option).at("append")?;
            ops.has_operators = add.as_ref().is_some_and(|a| a.operators.is_some());
            ops.add.extend(add);
        }
        Some(Action::RemoveOnMatch(_)) => return Err(Invalid::not_implemented("remove_on_match")),
        None => return Err(Invalid::new("one of remove or append is required")),
    }
    Ok(ops)
}
