//! `typed_per_filter_config`: filters that act by route.

use std::collections::HashMap;
use std::sync::Arc;

use mesh_api::envoy::Any;
use mesh_api::envoy::pb::envoy::extensions::filters::common::fault::v3 as common_fault;
use mesh_api::envoy::pb::envoy::extensions::filters::http::cors::v3 as cors;
use mesh_api::envoy::pb::envoy::extensions::filters::http::fault::v3 as fault;

use super::common::{any, any_type, boolean, duration, fraction, header_value, string_match};
use super::http_filters::{LOCAL_RATE_LIMIT, local_rate_limit, mutations_per_route};
use super::invalid::{At, Invalid, Result, each};
use super::route::status;
use crate::snapshot::{CorsPolicy, Fault, FaultAbort, HeaderMutation, LocalRateLimit};

/// What the filters of a route are told.
#[derive(Debug, Default)]
pub(super) struct PerRoute {
    pub(super) fault: Option<Arc<Fault>>,
    pub(super) cors: Option<Arc<CorsPolicy>>,
    pub(super) local_rate_limit: Option<Arc<LocalRateLimit>>,
    pub(super) header_mutation: Option<Arc<HeaderMutation>>,
}

pub(super) fn per_route(configs: &HashMap<String, Any>) -> Result<PerRoute> {
    let mut out = PerRoute::default();
    for (name, config) in configs {
        let field = format!("typed_per_filter_config[{name:?}]");
        match any_type(config).as_str() {
            "envoy.extensions.filters.http.fault.v3.HTTPFault" => {
                out.fault = Some(Arc::new(any(config).and_then(|f| fault_config(&f)).at(&field)?));
            }
            "envoy.extensions.filters.http.cors.v3.CorsPolicy" => {
                out.cors = Some(Arc::new(any(config).and_then(|c| cors_policy(&c)).at(&field)?));
            }
            LOCAL_RATE_LIMIT => {
                let limit = any(config).and_then(|l| local_rate_limit(&l)).at(&field)?;
                out.local_rate_limit = Some(Arc::new(limit));
            }
            "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute" => {
                let mutation = any(config).and_then(|m| mutations_per_route(&m)).at(&field)?;
                out.header_mutation = Some(Arc::new(mutation));
            }
            other => return Err(Invalid::new(format!("{other} is not implemented")).under(field)),
        }
    }
    Ok(out)
}

fn fault_config(value: &fault::HttpFault) -> Result<Fault> {
    use common_fault::fault_delay::FaultDelaySecifier;
    use fault::fault_abort::ErrorType;
    let delay = match &value.delay {
        None => None,
        Some(delay) => {
            let Some(FaultDelaySecifier::FixedDelay(fixed)) = &delay.fault_delay_secifier else {
                return Err(Invalid::new("only fixed_delay is implemented").under("delay"));
            };
            let share = delay
                .percentage
                .as_ref()
                .map(fraction)
                .transpose()
                .at("delay.percentage")?;
            // Envoy: without a percentage nothing is delayed.
            duration(Some(fixed)).map(|d| (d, share.unwrap_or(0)))
        }
    };
    let abort = match &value.abort {
        None => None,
        Some(abort) => {
            let share = abort
                .percentage
                .as_ref()
                .map(fraction)
                .transpose()
                .at("abort.percentage")?;
            let what = match &abort.error_type {
                Some(ErrorType::HttpStatus(code)) => FaultAbort::Http(status(*code).at("abort.http_status")?),
                Some(ErrorType::GrpcStatus(code)) => FaultAbort::Grpc(*code),
                _ => return Err(Invalid::new("only http_status and grpc_status are implemented").under("abort")),
            };
            Some((what, share.unwrap_or(0)))
        }
    };
    Ok(Fault { delay, abort })
}

fn cors_policy(value: &cors::CorsPolicy) -> Result<CorsPolicy> {
    if let Some(share) = value.filter_enabled.as_ref().and_then(|f| f.default_value.as_ref())
        && fraction(share).at("filter_enabled.default_value")? < 1_000_000
    {
        return Err(Invalid::new("only 100 % is implemented").under("filter_enabled.default_value"));
    }
    let header = |text: &str, field: &str| match text {
        "" => Ok(None),
        text => header_value(text).map(Some).at(field),
    };
    Ok(CorsPolicy {
        allow_origins: each(
            &value.allow_origin_string_match,
            "allow_origin_string_match",
            string_match,
        )?,
        allow_methods: header(&value.allow_methods, "allow_methods")?,
        allow_headers: header(&value.allow_headers, "allow_headers")?,
        expose_headers: header(&value.expose_headers, "expose_headers")?,
        max_age: header(&value.max_age, "max_age")?,
        allow_credentials: boolean(value.allow_credentials.as_ref(), false),
        forward_not_matching_preflights: boolean(value.forward_not_matching_preflights.as_ref(), true),
    })
}
