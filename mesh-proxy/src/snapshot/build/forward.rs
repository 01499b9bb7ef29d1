//! Where a route sends requests: `RouteAction`, its retry and mirror policies.

use std::time::Duration;

use http::StatusCode;
use mesh_api::envoy::pb::envoy::config::core::v3::RoutingPriority;
use mesh_api::envoy::pb::envoy::config::route::v3 as route;
use mesh_api::envoy::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;

use super::common::{any, any_type, boolean, duration, fraction, header_name, header_value, limit, substitute, uint};
use super::invalid::{At, Invalid, Result, each};
use super::route::header_pair;
use super::route_match::shared_header_match;
use crate::snapshot::{
    Forward, HashBy, HashPolicy, HostRewrite, Mirror, RetryOn, RetryPolicy, Target, WeightedCluster,
};

/// Envoy's default for `timeout`.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's default for `retry_back_off.base_interval`.
const BASE_INTERVAL: Duration = Duration::from_millis(25);

pub(super) fn forward(value: &route::RouteAction) -> Result<Forward> {
    use route::route_action::ClusterNotFoundResponseCode;
    if value.priority != RoutingPriority::Default as i32 {
        return Err(Invalid::not_implemented("priority"));
    }
    let cluster_not_found = match ClusterNotFoundResponseCode::try_from(value.cluster_not_found_response_code) {
        Ok(ClusterNotFoundResponseCode::ServiceUnavailable) => StatusCode::SERVICE_UNAVAILABLE,
        Ok(ClusterNotFoundResponseCode::NotFound) => StatusCode::NOT_FOUND,
        Ok(ClusterNotFoundResponseCode::InternalServerError) => StatusCode::INTERNAL_SERVER_ERROR,
        Err(_) => return Err(Invalid::not_implemented("cluster_not_found_response_code")),
    };
    let longest = value
        .max_stream_duration
        .as_ref()
        .and_then(|m| duration(m.max_stream_duration.as_ref()));
    if longest.is_some_and(|d| !d.is_zero()) {
        return Err(
            Invalid::new("not implemented, except 0 for no limit").under("max_stream_duration.max_stream_duration")
        );
    }
    // As in Envoy, a route with `max_stream_duration` knows no other limit of the whole request.
    #[allow(deprecated)]
    let (timeout, max_grpc_timeout, grpc_timeout_header_max) = match &value.max_stream_duration {
        Some(longest) => (None, None, duration(longest.grpc_timeout_header_max.as_ref())),
        None => (
            limit(value.timeout.as_ref(), TIMEOUT),
            duration(value.max_grpc_timeout.as_ref()),
            None,
        ),
    };
    let retry = value
        .retry_policy
        .as_ref()
        .map(retry_policy)
        .transpose()
        .at("retry_policy")?;
    Ok(Forward {
        target: target(value)?,
        cluster_not_found,
        prefix_rewrite: (!value.prefix_rewrite.is_empty()).then(|| value.prefix_rewrite.clone()),
        regex_rewrite: value
            .regex_rewrite
            .as_ref()
            .map(substitute)
            .transpose()
            .at("regex_rewrite")?,
        host_rewrite: host_rewrite(value)?,
        timeout,
        idle_timeout: duration(value.idle_timeout.as_ref()),
        max_grpc_timeout,
        grpc_timeout_header_max,
        retry: retry.map(Into::into),
        mirrors: each(&value.request_mirror_policies, "request_mirror_policies", mirror)?,
        hash_policy: each(&value.hash_policy, "hash_policy", hash_policy)?,
        upgrades: value
            .upgrade_configs
            .iter()
            .map(|u| (u.upgrade_type.to_lowercase(), boolean(u.enabled.as_ref(), true)))
            .collect(),
        hedge_on_per_try_timeout: value.hedge_policy.as_ref().map(|h| h.hedge_on_per_try_timeout),
    })
}

fn target(value: &route::RouteAction) -> Result<Target> {
    use route::route_action::ClusterSpecifier;
    match &value.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) if !name.is_empty() => Ok(Target::Cluster(name.as_str().into())),
        Some(ClusterSpecifier::ClusterHeader(name)) => Ok(Target::Header(header_name(name).at("cluster_header")?)),
        Some(ClusterSpecifier::WeightedClusters(all)) => weighted(all).at("weighted_clusters"),
        Some(ClusterSpecifier::ClusterSpecifierPlugin(_)) => Err(Invalid::not_implemented("cluster_specifier_plugin")),
        Some(ClusterSpecifier::InlineClusterSpecifierPlugin(_)) => {
            Err(Invalid::not_implemented("inline_cluster_specifier_plugin"))
        }
        _ => Err(Invalid::new(
            "one of cluster, cluster_header or weighted_clusters is required",
        )),
    }
}

fn weighted(value: &route::WeightedCluster) -> Result<Target> {
    let all = each(&value.clusters, "clusters", |c| {
        use route::weighted_cluster::cluster_weight::HostRewriteSpecifier;
        if c.name.is_empty() {
            return Err(Invalid::new("a name is required; cluster_header is not implemented here").under("name"));
        }
        let host_rewrite = match &c.host_rewrite_specifier {
            None => HostRewrite::None,
            Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
                HostRewrite::Literal(header_value(host).at("host_rewrite_literal")?)
            }
        };
        Ok(WeightedCluster {
            name: c.name.as_str().into(),
            weight: uint(c.weight.as_ref()).unwrap_or(0),
            headers: header_pair(
                &c.request_headers_to_add,
                &c.request_headers_to_remove,
                &c.response_headers_to_add,
                &c.response_headers_to_remove,
            )?,
            host_rewrite,
        })
    })?;
    let total = all.iter().try_fold(0u32, |sum, c| sum.checked_add(c.weight));
    let Some(total) = total.filter(|t| *t > 0) else {
        return Err(Invalid::new("the weights must add up to 1 to 4294967295").under("clusters"));
    };
    Ok(Target::Weighted {
        clusters: all.into_iter().filter(|c| c.weight > 0).collect(),
        total,
    })
}

fn host_rewrite(value: &route::RouteAction) -> Result<HostRewrite> {
    use route::route_action::HostRewriteSpecifier;
    match &value.host_rewrite_specifier {
        None => Ok(HostRewrite::None),
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            Ok(HostRewrite::Literal(header_value(host).at("host_rewrite_literal")?))
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(on)) => {
            Ok(if on.value { HostRewrite::Auto } else { HostRewrite::None })
        }
        Some(HostRewriteSpecifier::HostRewriteHeader(_)) => Err(Invalid::not_implemented("host_rewrite_header")),
        Some(HostRewriteSpecifier::HostRewritePathRegex(_)) => Err(Invalid::not_implemented("host_rewrite_path_regex")),
        Some(HostRewriteSpecifier::HostRewrite(_)) => Err(Invalid::not_implemented("host_rewrite")),
    }
}

fn mirror(value: &route::route_action::RequestMirrorPolicy) -> Result<Mirror> {
    if value.cluster.is_empty() {
        return Err(Invalid::new("a cluster is required; cluster_header is not implemented").under("cluster"));
    }
    let share = match value.runtime_fraction.as_ref().and_then(|f| f.default_value.as_ref()) {
        None => 1_000_000,
        Some(f) => fraction(f).at("runtime_fraction.default_value")?,
    };
    Ok(Mirror {
        cluster: value.cluster.as_str().into(),
        fraction: share,
        keep_host: value.disable_shadow_host_suffix_append,
    })
}

fn hash_policy(value: &route::route_action::HashPolicy) -> Result<HashPolicy> {
    use route::route_action::hash_policy::PolicySpecifier;
    let by = match &value.policy_specifier {
        Some(PolicySpecifier::Header(h)) => HashBy::Header(header_name(&h.header_name).at("header.header_name")?),
        Some(PolicySpecifier::Cookie(c)) => {
            let attributes = c.attributes.iter().map(|a| (a.name.clone(), a.value.clone()));
            let attributes: Vec<_> = attributes.collect();
            // All of it goes into a header.
            let parts = attributes.iter().flat_map(|(n, v)| [n, v]);
            for text in parts.chain([&c.name, &c.path]) {
                header_value(text).at("cookie")?;
            }
            HashBy::Cookie {
                name: c.name.clone(),
                ttl: duration(c.ttl.as_ref()),
                path: c.path.clone(),
                attributes,
            }
        }
        Some(PolicySpecifier::ConnectionProperties(c)) if c.source_ip => HashBy::SourceIp,
        Some(PolicySpecifier::QueryParameter(q)) => HashBy::Query(q.name.clone()),
        Some(PolicySpecifier::FilterState(_)) => return Err(Invalid::not_implemented("filter_state")),
        _ => {
            return Err(Invalid::new(
                "one of header, cookie, connection_properties or query_parameter is required",
            ));
        }
    };
    Ok(HashPolicy {
        by,
        terminal: value.terminal,
    })
}

pub(super) fn retry_policy(value: &route::RetryPolicy) -> Result<RetryPolicy> {
    let base = value
        .retry_back_off
        .as_ref()
        .and_then(|b| duration(b.base_interval.as_ref()))
        .unwrap_or(BASE_INTERVAL);
    let max = value
        .retry_back_off
        .as_ref()
        .and_then(|b| duration(b.max_interval.as_ref()))
        .unwrap_or(base.saturating_mul(10));
    if base.is_zero() || max < base {
        return Err(Invalid::new("base_interval must be above 0 and not above max_interval").under("retry_back_off"));
    }
    let mut avoid_previous_hosts = false;
    for (i, predicate) in value.retry_host_predicate.iter().enumerate() {
        use route::retry_policy::retry_host_predicate::ConfigType;
        let typed = match &predicate.config_type {
            Some(ConfigType::TypedConfig(config)) => any_type(config),
            None => String::new(),
        };
        let known = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";
        if typed == known || (typed.is_empty() && predicate.name == "envoy.retry_host_predicates.previous_hosts") {
            avoid_previous_hosts = true;
        } else {
            return Err(Invalid::not_implemented("name").under(format_args!("retry_host_predicate[{i}]")));
        }
    }
    let status_codes = each(&value.retriable_status_codes, "retriable_status_codes", |code| {
        u16::try_from(*code).map_err(|_| Invalid::new(format!("{code} is no status")))
    })?;
    Ok(RetryPolicy {
        on: retry_on(&value.retry_on).at("retry_on")?,
        num_retries: uint(value.num_retries.as_ref()).unwrap_or(1),
        per_try_timeout: duration(value.per_try_timeout.as_ref()).filter(|d| !d.is_zero()),
        status_codes,
        base_interval: base,
        max_interval: max,
        avoid_previous_hosts,
        host_selection_attempts: u32::try_from(value.host_selection_retry_max_attempts.max(1)).unwrap_or(u32::MAX),
        previous_priorities: value
            .retry_priority
            .as_ref()
            .map(previous_priorities)
            .transpose()
            .at("retry_priority")?,
        retriable_headers: each(&value.retriable_headers, "retriable_headers", shared_header_match)?,
        retriable_request_headers: each(
            &value.retriable_request_headers,
            "retriable_request_headers",
            shared_header_match,
        )?,
    })
}

fn previous_priorities(value: &route::retry_policy::RetryPriority) -> Result<u32> {
    use route::retry_policy::retry_priority::ConfigType;
    let Some(ConfigType::TypedConfig(config)) = &value.config_type else {
        return Err(Invalid::new("a configuration is required").under("typed_config"));
    };
    let config: PreviousPrioritiesConfig = any(config).at("typed_config")?;
    u32::try_from(config.update_frequency)
        .ok()
        .filter(|f| *f > 0)
        .ok_or_else(|| Invalid::new("must be above 0").under("typed_config.update_frequency"))
}

fn retry_on(words: &str) -> Result<RetryOn> {
    let mut on = RetryOn::default();
    for word in words.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        let flag = match word {
            "5xx" => &mut on.server_error,
            "gateway-error" => &mut on.gateway_error,
            "reset" => &mut on.reset,
            "reset-before-request" => &mut on.reset_before_request,
            "connect-failure" => &mut on.connect_failure,
            "refused-stream" => &mut on.refused_stream,
            "retriable-4xx" => &mut on.retriable_4xx,
            "retriable-status-codes" => &mut on.status_codes,
            "envoy-ratelimited" => &mut on.rate_limited,
            "retriable-headers" => &mut on.headers,
            // Cannot happen: no upstream is spoken to in HTTP/3.
            "http3-post-connect-failure" => continue,
            "cancelled" => &mut on.grpc_cancelled,
            "deadline-exceeded" => &mut on.grpc_deadline_exceeded,
            "internal" => &mut on.grpc_internal,
            "resource-exhausted" => &mut on.grpc_resource_exhausted,
            "unavailable" => &mut on.grpc_unavailable,
            _ => return Err(Invalid::new(format!("{word:?} is no condition of retries"))),
        };
        *flag = true;
    }
    Ok(on)
}
