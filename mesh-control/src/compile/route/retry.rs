//! Retry policies.

use mesh_api::envoy::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use mesh_api::envoy::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use mesh_api::istio::HttpRetry;
use mesh_api::mesh_config::MeshConfig;

use super::super::context::Context;
use super::super::pb::{pack, route, time, uint};

/// Conditions without a word from anybody.
const DEFAULT_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const DEFAULT_RETRIES: u32 = 2;
const HOST_ATTEMPTS: i64 = 5;
const UNAVAILABLE: u32 = 503;

/// The policy of a route whose rule says nothing about retries. A 503 of the upstream is retried, as in Istio before 1.24,
/// unless the mesh says otherwise.
fn default_policy(mesh: &MeshConfig) -> route::RetryPolicy {
    let codes = (!mesh.exclude_unsafe_503).then_some(UNAVAILABLE);
    route::RetryPolicy {
        retry_on: DEFAULT_ON.to_owned(),
        retriable_status_codes: codes.into_iter().collect(),
        num_retries: uint(DEFAULT_RETRIES),
        retry_host_predicate: vec![previous_hosts()],
        host_selection_retry_max_attempts: HOST_ATTEMPTS,
        ..Default::default()
    }
}

/// The policy towards the application itself: only what surely was not seen by it.
pub(in super::super) fn inbound_policy() -> route::RetryPolicy {
    route::RetryPolicy {
        retry_on: "reset-before-request".to_owned(),
        num_retries: uint(DEFAULT_RETRIES),
        ..Default::default()
    }
}

/// The policy of a rule, else the mesh's own, else Istio's default; `None` when it turns retries off. `hashed`: what is in
/// the request decides which endpoint it goes to, so that a retry goes there again.
pub(super) fn policy(ctx: &Context<'_>, from: Option<&HttpRetry>, hashed: bool) -> Option<route::RetryPolicy> {
    let mesh = ctx.store.mesh();
    let mut policy = said(mesh, from)?;
    let wanted = from.or(mesh.default_http_retry_policy.as_ref());
    if hashed && wanted.and_then(|r| r.retry_ignore_previous_hosts) != Some(true) {
        policy.retry_host_predicate.clear();
        policy.host_selection_retry_max_attempts = 0;
    }
    Some(policy)
}

fn said(mesh: &MeshConfig, from: Option<&HttpRetry>) -> Option<route::RetryPolicy> {
    let mut policy = default_policy(mesh);
    let Some(from) = from.or(mesh.default_http_retry_policy.as_ref()) else {
        return Some(policy);
    };
    let attempts = u32::try_from(from.attempts).ok().filter(|n| *n > 0)?;
    policy.num_retries = uint(attempts);
    if !from.retry_on.is_empty() {
        (policy.retry_on, policy.retriable_status_codes) = conditions(&from.retry_on);
    }
    policy.per_try_timeout = from.per_try_timeout.and_then(|d| time(d.into()));
    if from.retry_ignore_previous_hosts == Some(false) {
        policy.retry_host_predicate.clear();
        policy.host_selection_retry_max_attempts = 0;
    }
    if from.retry_remote_localities == Some(true) {
        policy.retry_priority = Some(previous_priorities());
    }
    policy.retry_back_off = from.backoff.map(|base| route::retry_policy::RetryBackOff {
        base_interval: time(base.into()),
        max_interval: None,
    });
    Some(policy)
}

/// Splits words from status codes; codes need the word that makes Envoy look at them.
fn conditions(text: &str) -> (String, Vec<u32>) {
    const BY_CODE: &str = "retriable-status-codes";
    let mut words: Vec<&str> = Vec::new();
    let mut codes: Vec<u32> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        match part.parse::<u32>() {
            Ok(code) => codes.push(code),
            Err(_) => words.push(part),
        }
    }
    if !codes.is_empty() && !words.contains(&BY_CODE) {
        words.push(BY_CODE);
    }
    (words.join(","), codes)
}

fn previous_hosts() -> route::retry_policy::RetryHostPredicate {
    route::retry_policy::RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(route::retry_policy::retry_host_predicate::ConfigType::TypedConfig(
            pack(&PreviousHostsPredicate {}),
        )),
    }
}

/// After two tries the priorities that they went to are left out, and with them the localities.
fn previous_priorities() -> route::retry_policy::RetryPriority {
    route::retry_policy::RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".to_owned(),
        config_type: Some(route::retry_policy::retry_priority::ConfigType::TypedConfig(pack(
            &PreviousPrioritiesConfig { update_frequency: 2 },
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_from_words() {
        assert_eq!(
            conditions("5xx, 418,429"),
            ("5xx,retriable-status-codes".to_owned(), vec![418, 429])
        );
        assert_eq!(
            conditions("gateway-error,retriable-status-codes"),
            ("gateway-error,retriable-status-codes".to_owned(), vec![])
        );
    }

    #[test]
    fn no_attempts_mean_no_policy() {
        let off = HttpRetry {
            attempts: 0,
            ..Default::default()
        };
        let mesh = MeshConfig::default();
        assert!(said(&mesh, Some(&off)).is_none());
        assert_eq!(said(&mesh, None), Some(default_policy(&mesh)));
    }

    #[test]
    fn a_503_is_retried_by_default_and_where_no_condition_is_given() {
        let rule = |retry_on: &str| HttpRetry {
            attempts: 3,
            retry_on: retry_on.to_owned(),
            ..Default::default()
        };
        let codes =
            |mesh: &MeshConfig, rule: Option<&HttpRetry>| said(mesh, rule).expect("a policy").retriable_status_codes;
        let mut mesh = MeshConfig::default();
        assert_eq!(codes(&mesh, None), [503]);
        assert_eq!(codes(&mesh, Some(&rule(""))), [503]);
        assert_eq!(
            codes(&mesh, Some(&rule("connect-failure,retriable-status-codes"))),
            [0; 0]
        );
        mesh.exclude_unsafe_503 = true;
        assert_eq!(codes(&mesh, None), [0; 0]);
        assert_eq!(codes(&mesh, Some(&rule("503"))), [503]);
        mesh.exclude_unsafe_503 = false;
        mesh.default_http_retry_policy = Some(rule("gateway-error"));
        assert_eq!(codes(&mesh, None), [0; 0]);
    }
}
