//! Rules of load balancing.

use super::common;
use crate::istio::{
    ConsistentHashLb, LoadBalancerSettings, LocalityFailover, LocalityLbSetting,
    error::{At, Findings},
};

/// Largest Maglev table that Envoy takes.
const MAX_MAGLEV: u64 = 5_000_011;

/// `outlier`: whether endpoints that fail are ejected, without which failover never happens.
pub(super) fn check(at: &At<'_>, lb: &LoadBalancerSettings, outlier: bool, f: &mut Findings) {
    let set: Vec<&str> = [
        ("simple", lb.simple.is_some()),
        ("consistentHash", lb.consistent_hash.is_some()),
        ("backendUtilization", lb.backend_utilization.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
    .collect();
    if set.len() > 1 {
        f.error(at, format!("only one of {} can be set", set.join(", ")));
    }
    if let Some(value) = &lb.consistent_hash {
        consistent_hash(&at.field("consistentHash"), value, f);
    }
    if lb.locality_lb_setting.is_some() && lb.zone_aware_lb_setting.is_some() {
        f.error(at, "only one of localityLbSetting and zoneAwareLbSetting can be set");
    }
    if let Some(value) = &lb.locality_lb_setting {
        locality(&at.field("localityLbSetting"), value, outlier, f);
    }
    if let Some(value) = &lb.zone_aware_lb_setting {
        let at = at.field("zoneAwareLbSetting");
        failovers(&at, &value.failover, f);
        if !value.failover.is_empty() && !value.failover_priority.is_empty() {
            f.error(&at, "only one of failover and failoverPriority can be set");
        }
        if value.min_cluster_size == Some(0) {
            f.error(&at.field("minClusterSize"), "must be at least 1");
        }
    }
    if lb.warmup.is_some() && lb.warmup_duration_secs.is_some() {
        f.error(
            &at.field("warmupDurationSecs"),
            "is deprecated and cannot be set beside warmup; remove it",
        );
    }
    common::duration(&at.field("warmupDurationSecs"), lb.warmup_duration_secs, f);
    if let Some(value) = &lb.warmup {
        let at = at.field("warmup");
        if value.duration.is_none() {
            f.error(
                &at.field("duration"),
                "is missing; write how long a new endpoint is warmed up, such as 30s",
            );
        }
        common::duration(&at.field("duration"), value.duration, f);
        if value.minimum_percent.is_some_and(|p| !(0.0..=100.0).contains(&p)) {
            f.error(&at.field("minimumPercent"), "must be from 0 to 100");
        }
        if value.aggression.is_some_and(|a| a.is_nan() || a < 1.0) {
            f.error(&at.field("aggression"), "must be at least 1.0");
        }
    }
}

fn consistent_hash(at: &At<'_>, value: &ConsistentHashLb, f: &mut Findings) {
    let keys = [
        ("httpHeaderName", value.http_header_name.is_some()),
        ("httpCookie", value.http_cookie.is_some()),
        ("useSourceIp", value.use_source_ip.is_some()),
        ("httpQueryParameterName", value.http_query_parameter_name.is_some()),
    ];
    match keys.iter().filter(|(_, set)| *set).count() {
        0 => f.error(
            at,
            "has no key; write one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName",
        ),
        1 => {}
        _ => f.error(
            at,
            "only one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName can be set",
        ),
    }
    if let Some(cookie) = &value.http_cookie {
        if cookie.name.is_empty() {
            f.error(
                &at.field("httpCookie").field("name"),
                "is missing; write the name of the cookie",
            );
        }
        common::duration_or_zero(&at.field("httpCookie").field("ttl"), cookie.ttl, f);
    }
    if value.ring_hash.is_some() && value.maglev.is_some() {
        f.error(at, "only one of ringHash and maglev can be set");
    }
    if value.minimum_ring_size.is_some() && (value.ring_hash.is_some() || value.maglev.is_some()) {
        f.error(
            &at.field("minimumRingSize"),
            "is deprecated and cannot be set beside ringHash or maglev; remove it",
        );
    }
    if let Some(maglev) = &value.maglev
        && maglev.table_size != 0
        && (maglev.table_size > MAX_MAGLEV || !is_prime(maglev.table_size))
    {
        f.error(
            &at.field("maglev").field("tableSize"),
            format!(
                "{} must be a prime of at most {MAX_MAGLEV}, such as 65537",
                maglev.table_size
            ),
        );
    }
}

/// For numbers up to [`MAX_MAGLEV`]: at most 2,236 divisions.
fn is_prime(number: u64) -> bool {
    number >= 2 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}

fn locality(at: &At<'_>, value: &LocalityLbSetting, outlier: bool, f: &mut Findings) {
    let set: Vec<&str> = [
        ("distribute", !value.distribute.is_empty()),
        ("failover", !value.failover.is_empty()),
        ("failoverPriority", !value.failover_priority.is_empty()),
    ]
    .into_iter()
    .filter_map(|(name, set)| set.then_some(name))
    .collect();
    if set.len() > 1 {
        f.error(at, format!("only one of {} can be set", set.join(", ")));
    }
    for (i, entry) in value.distribute.iter().enumerate() {
        let at = at.field("distribute");
        let at = at.index(i);
        locality_name(&at.field("from"), &entry.from, f);
        if value.distribute[..i].iter().any(|other| other.from == entry.from) {
            f.error(
                &at.field("from"),
                format!("{:?} is distributed twice; put the shares together", entry.from),
            );
        }
        for (to, share) in &entry.to {
            locality_name(&at.field("to").field(to), to, f);
            common::range(&at.field("to").field(to), (*share).into(), 1, 100, f);
        }
        let total: u64 = entry.to.values().map(|share| u64::from(*share)).sum();
        if total != 100 {
            f.error(
                &at.field("to"),
                format!("the shares add up to {total}; they must add up to 100"),
            );
        }
    }
    failovers(at, &value.failover, f);
    let fails_over = !value.failover.is_empty() || !value.failover_priority.is_empty();
    if fails_over && !outlier {
        f.warning(
            at,
            "failover needs outlierDetection in the same policy: without it no endpoint is ever held to have failed",
        );
    }
}

/// `region`, `region/zone`, `region/zone/subzone`, with `*` as a last part.
fn locality_name(at: &At<'_>, name: &str, f: &mut Findings) {
    let parts: Vec<&str> = name.split('/').collect();
    let star = parts.iter().position(|part| part.contains('*'));
    let good = parts.len() <= 3
        && parts.iter().all(|part| !part.is_empty())
        && star.is_none_or(|at| at + 1 == parts.len() && parts[at] == "*");
    if !good {
        f.error(
            at,
            format!(
                "{name:?} is no locality; write region, region/zone or region/zone/subzone, the last part may be *"
            ),
        );
    }
}

fn failovers(at: &At<'_>, list: &[LocalityFailover], f: &mut Findings) {
    for (i, entry) in list.iter().enumerate() {
        let at = at.field("failover");
        let at = at.index(i);
        for (name, region) in [("from", &entry.from), ("to", &entry.to)] {
            if region.is_empty() || region.contains(['*', '/']) {
                f.error(
                    &at.field(name),
                    format!("{region:?} is no region; write one region, without zone and *"),
                );
            }
        }
        if entry.from == entry.to && !entry.from.is_empty() {
            f.error(&at, "a region cannot stand in for itself; write two different ones");
        }
    }
}
