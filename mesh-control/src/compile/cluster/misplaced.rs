//! Parts of a policy that mean nothing to the cluster that they are for.

use super::super::context::Context;
use super::Outbound;
use super::policy::Policy;
use crate::store::service::Resolution;

/// Names them. `original` clusters go where the caller wanted to, by address or by name, without a list of endpoints.
pub(super) fn report(ctx: &Context<'_>, from: &Outbound<'_>, policy: &Policy<'_>, original: bool) {
    let (host, port) = (&from.service.host, from.port.number);
    let balancer = policy.load_balancer;
    let hash = policy.consistent_hash();
    let warn = |field: &str, message: String| {
        let around = match from.subset {
            Some(subset) => format!("of subset {}: ", subset.name),
            None => String::new(),
        };
        ctx.warn(
            from.rule_name(),
            format!("spec.trafficPolicy.{field}"),
            around + &message,
        );
    };
    if original {
        let set = [
            (policy.outlier.is_some(), "outlierDetection"),
            (hash.is_some(), "loadBalancer.consistentHash"),
            (
                balancer.is_some_and(|l| l.locality_lb_setting.is_some()),
                "loadBalancer.localityLbSetting",
            ),
        ];
        let by_name = from.service.resolution == Resolution::DynamicDns && !policy.passthrough();
        let goal = if by_name {
            "name that each request is for"
        } else {
            "address that the caller looked up"
        };
        for (_, field) in set.into_iter().filter(|(set, _)| *set) {
            warn(
                field,
                format!("has no effect: connections to {host} go to the {goal}, so no endpoint is chosen here"),
            );
        }
        return;
    }
    let opaque = from.port.protocol.is_tcp();
    if opaque && hash.is_some_and(|h| h.use_source_ip != Some(true)) {
        warn(
            "loadBalancer.consistentHash",
            format!("port {port} of {host} carries no HTTP, so that any endpoint is taken; write useSourceIp: true"),
        );
    }
    if from.port.protocol.is_http() && policy.tunnel.is_some() {
        warn(
            "tunnel",
            format!("has no effect on port {port} of {host}: requests of HTTP are not tunnelled, only TCP and TLS"),
        );
    }
}
