//! Load balancing of clusters: `lb_policy` with its settings, `common_lb_config`.

use mesh_api::envoy::pb::envoy::config::cluster::v3 as cluster;
use mesh_api::envoy::pb::google::protobuf::UInt64Value;

use super::common::{duration, uint};
use super::invalid::{At, Invalid, Result};
use crate::snapshot::{Discovery, HashRule, LbPolicy, LbRules, SlowStart};

/// Envoy's defaults and limits.
const LEAST_REQUEST_CHOICES: u32 = 2;
const RING: (u64, u64) = (1024, 8 << 20);
const MAGLEV: (u64, u64) = (65_537, 5_000_011);
const MIN_WEIGHT_PERCENT: f64 = 10.0;

pub(super) fn lb_policy(value: &cluster::Cluster, discovery: &Discovery) -> Result<LbPolicy> {
    use cluster::cluster::{LbConfig, LbPolicy as Policy};
    let policy = match Policy::try_from(value.lb_policy) {
        Ok(Policy::RoundRobin) => LbPolicy::RoundRobin,
        Ok(Policy::Random) => LbPolicy::Random,
        Ok(Policy::ClusterProvided) => LbPolicy::ClusterProvided,
        Ok(Policy::LeastRequest) => {
            let choices = match &value.lb_config {
                Some(LbConfig::LeastRequestLbConfig(c)) => uint(c.choice_count.as_ref()),
                _ => None,
            };
            LbPolicy::LeastRequest(choices.unwrap_or(LEAST_REQUEST_CHOICES).max(2))
        }
        Ok(Policy::RingHash) => LbPolicy::Hash(ring(value.lb_config.as_ref()).at("ring_hash_lb_config")?),
        Ok(Policy::Maglev) => LbPolicy::Hash(maglev(value.lb_config.as_ref()).at("maglev_lb_config")?),
        Ok(other) => return Err(Invalid::new(format!("{} is not implemented", other.as_str_name())).under("lb_policy")),
        Err(_) => return Err(Invalid::not_implemented("lb_policy")),
    };
    if (policy == LbPolicy::ClusterProvided) == discovery.lists_endpoints() {
        return Err(Invalid::new(
            "CLUSTER_PROVIDED goes with type ORIGINAL_DST and with dynamic forward proxies, and only with those",
        )
        .under("lb_policy"));
    }
    Ok(policy)
}

fn number(value: Option<&UInt64Value>, default: u64, most: u64, field: &str) -> Result<u64> {
    match value.map_or(default, |v| v.value) {
        many if many > most => Err(Invalid::new(format!("must be {most} at most")).under(field)),
        number => Ok(number),
    }
}

fn ring(config: Option<&cluster::cluster::LbConfig>) -> Result<HashRule> {
    use cluster::cluster::{LbConfig, RingHashLbConfig, ring_hash_lb_config::HashFunction};
    let default = RingHashLbConfig::default();
    let config = match config {
        Some(LbConfig::RingHashLbConfig(config)) => config,
        _ => &default,
    };
    if config.hash_function != HashFunction::XxHash as i32 {
        return Err(Invalid::new("only XX_HASH is implemented").under("hash_function"));
    }
    let (least, most) = RING;
    let minimum = number(config.minimum_ring_size.as_ref(), least, most, "minimum_ring_size")?;
    let maximum = number(config.maximum_ring_size.as_ref(), most, most, "maximum_ring_size")?;
    if minimum > maximum {
        return Err(Invalid::new("is more than maximum_ring_size").under("minimum_ring_size"));
    }
    Ok(HashRule::Ring { minimum, maximum })
}

fn maglev(config: Option<&cluster::cluster::LbConfig>) -> Result<HashRule> {
    let wanted = match config {
        Some(cluster::cluster::LbConfig::MaglevLbConfig(config)) => config.table_size.as_ref(),
        _ => None,
    };
    let (default, most) = MAGLEV;
    let size = number(wanted, default, most, "table_size")?;
    let prime = size > 1
        && (2..)
            .take_while(|d| d * d <= size)
            .all(|d: u64| !size.is_multiple_of(d));
    match u32::try_from(size) {
        Ok(size) if prime => Ok(HashRule::Maglev(size)),
        _ => Err(Invalid::new("must be a prime").under("table_size")),
    }
}

pub(super) fn rules(value: &cluster::Cluster, lb: LbPolicy) -> Result<LbRules> {
    use cluster::cluster::common_lb_config::LocalityConfigSpecifier;
    let common = value.common_lb_config.as_ref();
    let default = LbRules::default();
    Ok(LbRules {
        panic_threshold: common
            .and_then(|c| c.healthy_panic_threshold.as_ref())
            .map_or(default.panic_threshold, |p| p.value),
        locality_weighted: matches!(
            common.and_then(|c| c.locality_config_specifier.as_ref()),
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_))
        ),
        hash: match lb {
            LbPolicy::Hash(rule) => Some(rule),
            _ => None,
        },
        slow_start: slow_start(value, lb)?,
    })
}

fn slow_start(value: &cluster::Cluster, lb: LbPolicy) -> Result<Option<SlowStart>> {
    use cluster::cluster::LbConfig;
    let (config, field) = match (&value.lb_config, lb) {
        (Some(LbConfig::LeastRequestLbConfig(c)), LbPolicy::LeastRequest(_)) => {
            (c.slow_start_config.as_ref(), "least_request_lb_config")
        }
        (Some(LbConfig::RoundRobinLbConfig(c)), LbPolicy::RoundRobin) => {
            (c.slow_start_config.as_ref(), "round_robin_lb_config")
        }
        _ => return Ok(None),
    };
    let Some(config) = config else { return Ok(None) };
    let window = duration(config.slow_start_window.as_ref()).unwrap_or_default();
    if window.is_zero() {
        return Ok(None);
    }
    let aggression = config.aggression.as_ref().map_or(1.0, |a| a.default_value);
    let percent = config
        .min_weight_percent
        .as_ref()
        .map_or(MIN_WEIGHT_PERCENT, |p| p.value);
    let wrong = if aggression.is_nan() || aggression <= 0.0 {
        Some(("aggression", "must be more than 0"))
    } else if !(0.0..=100.0).contains(&percent) {
        Some(("min_weight_percent", "is a percentage: 0 to 100"))
    } else {
        None
    };
    match wrong {
        Some((wrong, why)) => Err(Invalid::new(why).under(format_args!("{field}.slow_start_config.{wrong}"))),
        None => Ok(Some(SlowStart {
            window,
            aggression,
            min_weight_percent: percent,
        })),
    }
}
