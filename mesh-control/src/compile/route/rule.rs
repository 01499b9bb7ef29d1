//! HTTP rules of a VirtualService → routes.

use std::collections::BTreeMap;

use mesh_api::istio::{Destination, HttpMatchRequest, HttpRoute, ObjectMeta, Percent};
use mesh_api::names;

use super::super::cluster::policy::Policy;
use super::super::context::Context;
use super::super::pb::{ZERO, uint};
use super::super::pb::{always, core, fraction, origin, route, time};
use super::headers::Changes;
use super::{action, filters, hash, matching, retry};
use crate::store::host;
use crate::store::routing::{self, Routing};
use crate::store::workload::selects;

/// Where the traffic comes from that rules are looked up for.
pub(in super::super) struct Source<'a> {
    /// Gateways by which it comes: `mesh`, or `namespace/name`.
    pub(in super::super) gateways: &'a [String],
    /// Port on which the host is addressed.
    pub(in super::super) port: u16,
    /// Requests come over TLS that ends at the listener.
    pub(in super::super) tls: bool,
}

/// The routes of a VirtualService, up to the first that takes everything.
pub(in super::super) fn routes(ctx: &Context<'_>, routing: &Routing, source: &Source<'_>) -> Vec<route::Route> {
    let mut routes = Vec::new();
    for (field, message) in &routing.problems {
        ctx.warn(routing.name(), field, message);
    }
    for rule in &routing.http {
        let at = At {
            ctx,
            meta: routing.written_in(rule),
            source,
            rule: &rule.route,
            field: &rule.field,
        };
        let rule = &rule.route;
        if rule.r#match.is_empty() {
            routes.extend(at.route(None));
        }
        for (number, condition) in rule.r#match.iter().enumerate() {
            if at.applies(condition, number) {
                routes.extend(at.route(Some(condition)));
            }
        }
        let last = routes
            .iter()
            .any(|r: &route::Route| r.r#match.as_ref().is_some_and(matching::takes_everything));
        if last {
            break;
        }
    }
    routes
}

/// One rule of one VirtualService.
pub(super) struct At<'a, 'c> {
    pub(super) ctx: &'a Context<'c>,
    /// The object in which it is written.
    meta: &'a ObjectMeta,
    source: &'a Source<'a>,
    rule: &'a HttpRoute,
    /// Path of the rule in the object.
    field: &'a str,
}

impl<'c> At<'_, 'c> {
    pub(super) fn warn(&self, field: &str, message: impl Into<String>) {
        self.ctx
            .warn(routing::name(self.meta), format!("{}.{field}", self.field), message);
    }

    /// Conditions that are known before any request comes.
    fn applies(&self, condition: &HttpMatchRequest, number: usize) -> bool {
        let claims = condition
            .headers
            .keys()
            .chain(condition.without_headers.keys())
            .any(|name| name.starts_with(matching::CLAIMS_PREFIX));
        if claims {
            self.warn(
                &format!("match[{number}].headers"),
                "matching on claims of a token is not in force yet; this match never holds",
            );
            return false;
        }
        let namespace = &self.meta.namespace;
        from_here(
            self.ctx,
            self.source,
            namespace,
            &condition.gateways,
            &condition.source_labels,
            &condition.source_namespace,
        ) && (condition.port == 0 || condition.port == u32::from(self.source.port))
    }

    fn route(&self, condition: Option<&HttpMatchRequest>) -> Option<route::Route> {
        let rule = self.rule;
        let mut out = route::Route {
            name: name(rule, condition),
            r#match: Some(condition.map_or_else(matching::everything, matching::request)),
            metadata: origin(&routing::config(self.meta)),
            stat_prefix: condition.map(|c| c.stat_prefix.clone()).unwrap_or_default(),
            ..Default::default()
        };
        Changes::of(rule.headers.as_ref()).apply_to_route(&mut out);
        if let Some(redirect) = &rule.redirect {
            out.action = Some(action::redirect(redirect, self.source.port, self.source.tls));
        } else if let Some(direct) = &rule.direct_response {
            out.action = Some(action::direct_response(direct));
        } else {
            out.action = Some(route::route::Action::Route(self.forward(&mut out)?));
        }
        out.decorator = Some(route::Decorator {
            operation: self.operation(&out),
            ..Default::default()
        });
        if let Some(fault) = rule.fault.as_ref().and_then(filters::fault) {
            out.typed_per_filter_config.insert(filters::FAULT.to_owned(), fault);
        }
        if let Some(policy) = &rule.cors_policy {
            out.typed_per_filter_config
                .insert(filters::CORS.to_owned(), filters::cors(policy));
        }
        Some(out)
    }

    fn forward(&self, out: &mut route::Route) -> Option<route::RouteAction> {
        let rule = self.rule;
        if rule.route.is_empty() {
            return None;
        }
        let timeout = rule.timeout.map_or(ZERO, |d| time(d.into()));
        #[allow(deprecated, reason = "what Istio sends")]
        let mut forward = route::RouteAction {
            timeout,
            max_grpc_timeout: timeout,
            ..Default::default()
        };
        let mut authority = Changes::of(rule.headers.as_ref()).authority().map(str::to_owned);
        if let Some(rewrite) = &rule.rewrite {
            action::rewrite(rewrite, &mut forward);
            if !rewrite.authority.is_empty() {
                authority = Some(rewrite.authority.clone());
            }
        }
        forward.request_mirror_policies = self.mirrors();
        let weighted: Vec<_> = rule
            .route
            .iter()
            .enumerate()
            .filter(|(_, d)| d.weight > 0 || rule.route.len() == 1)
            .collect();
        let targets: Vec<Target<'_>> = weighted
            .iter()
            .map(|(index, d)| self.target(&d.destination, &format!("route[{index}].destination")))
            .collect();
        use route::route_action::ClusterSpecifier;
        forward.cluster_specifier = Some(match (weighted.as_slice(), targets.as_slice()) {
            ([], _) | (_, []) => {
                self.warn("route", "all weights are 0; give one destination a weight");
                return None;
            }
            ([(_, only)], [target]) => {
                let changes = Changes::of(only.headers.as_ref());
                changes.apply_to_route(out);
                authority = changes.authority().map(str::to_owned).or(authority);
                ClusterSpecifier::Cluster(target.cluster.clone())
            }
            (several, targets) => ClusterSpecifier::WeightedClusters(route::WeightedCluster {
                clusters: several
                    .iter()
                    .zip(targets)
                    .map(|((_, d), target)| {
                        let mut weight = route::weighted_cluster::ClusterWeight {
                            name: target.cluster.clone(),
                            weight: uint(u32::try_from(d.weight).unwrap_or_default()),
                            ..Default::default()
                        };
                        Changes::of(d.headers.as_ref()).apply_to_weight(&mut weight);
                        weight
                    })
                    .collect(),
                ..Default::default()
            }),
        });
        // A request has one hash, whatever destination the weights give it.
        let hash = targets.iter().find_map(|t| hash::of_request(&t.policy));
        forward.retry_policy = retry::policy(self.ctx, rule.retries.as_ref(), hash.is_some());
        forward.hash_policy = hash.into_iter().collect();
        forward.host_rewrite_specifier = authority.map(route::route_action::HostRewriteSpecifier::HostRewriteLiteral);
        Some(forward)
    }

    fn mirrors(&self) -> Vec<route::route_action::RequestMirrorPolicy> {
        let rule = self.rule;
        let single = rule.mirror.iter().map(|destination| {
            let old = rule.mirror_percent.map(f64::from);
            let share = rule.mirror_percentage.as_ref().map(|p| p.value).or(old);
            (destination, share, "mirror".to_owned())
        });
        let several = rule.mirrors.iter().enumerate().map(|(index, mirror)| {
            (
                &mirror.destination,
                mirror.percentage.as_ref().map(|p: &Percent| p.value),
                format!("mirrors[{index}].destination"),
            )
        });
        single
            .chain(several)
            .filter(|(_, share, _)| *share != Some(0.0))
            .map(|(destination, share, field)| route::route_action::RequestMirrorPolicy {
                cluster: self.target(destination, &field).cluster,
                runtime_fraction: Some(core::RuntimeFractionalPercent {
                    default_value: Some(share.map_or_else(always, fraction)),
                    ..Default::default()
                }),
                disable_shadow_host_suffix_append: true,
                ..Default::default()
            })
            .collect()
    }

    fn target(&self, destination: &Destination, field: &str) -> Target<'c> {
        let full = format!("{}.{field}", self.field);
        target(self.ctx, self.meta, destination, self.source.port, &full)
    }

    /// What the route is called in traces.
    fn operation(&self, out: &route::Route) -> String {
        use route::route_match::PathSpecifier;
        let path = match out.r#match.as_ref().and_then(|m| m.path_specifier.as_ref()) {
            Some(PathSpecifier::Prefix(prefix)) => format!("{prefix}*"),
            Some(PathSpecifier::Path(path)) => path.clone(),
            Some(PathSpecifier::SafeRegex(regex)) => regex.regex.clone(),
            _ => "/*".to_owned(),
        };
        use route::route_action::ClusterSpecifier;
        if let Some(route::route::Action::Route(forward)) = &out.action
            && let Some(ClusterSpecifier::Cluster(name)) = &forward.cluster_specifier
            && let Some(cluster) = names::ClusterName::parse(name)
        {
            return format!("{}:{}{path}", cluster.host, cluster.port);
        }
        format!("{}:{}{path}", self.meta.name, self.source.port)
    }
}

/// Whether a match that names gateways and callers is for the traffic of this proxy.
pub(in super::super) fn from_here(
    ctx: &Context<'_>,
    source: &Source<'_>,
    namespace: &str,
    gateways: &[String],
    labels: &BTreeMap<String, String>,
    source_namespace: &str,
) -> bool {
    let gateway = gateways.is_empty()
        || gateways
            .iter()
            .any(|g| source.gateways.contains(&host::resolve_gateway(g, namespace)));
    gateway && selects(labels, ctx.labels) && (source_namespace.is_empty() || source_namespace == ctx.namespace)
}

/// What a destination means.
pub(in super::super) struct Target<'a> {
    /// Name of its cluster.
    pub(in super::super) cluster: String,
    /// The policy of that cluster.
    pub(in super::super) policy: Policy<'a>,
}

/// The cluster that a destination means, in the object `meta`. What does not exist is reported, and the cluster is named all
/// the same: Envoy answers 503 then, as it would for a service that goes away later.
pub(in super::super) fn target<'a>(
    ctx: &Context<'a>,
    meta: &ObjectMeta,
    destination: &Destination,
    listener_port: u16,
    field: &str,
) -> Target<'a> {
    let host = host::resolve(&destination.host, &meta.namespace);
    let service = ctx.service(&host);
    let named = destination.port.as_ref().and_then(|p| u16::try_from(p.number).ok());
    let sole = service.filter(|s| s.ports.len() == 1).and_then(|s| s.ports.first());
    let port = named.or(sole.map(|p| p.number)).unwrap_or(listener_port);
    let warn = |part: &str, message: String| ctx.warn(routing::name(meta), format!("{field}.{part}"), message);
    let rule = service.and_then(|s| ctx.rule(s));
    let subset = rule.and_then(|r| r.subsets.iter().find(|s| s.name == destination.subset));
    match service {
        None => warn(
            "host",
            format!(
                "{host} is no service that namespace {} sees; requests get 503. Check the name, or add a Service or ServiceEntry",
                ctx.namespace
            ),
        ),
        Some(service) => {
            if service.port(port).is_none() {
                let known: Vec<String> = service.ports.iter().map(|p| p.number.to_string()).collect();
                warn(
                    "port",
                    format!(
                        "service {host} has no port {port} (it has {}); requests get 503",
                        known.join(", ")
                    ),
                );
            }
            if !destination.subset.is_empty() && subset.is_none() {
                warn(
                    "subset",
                    format!(
                        "no DestinationRule for {host} that namespace {} uses has the subset {:?}; requests get 503",
                        ctx.namespace, destination.subset
                    ),
                );
            }
        }
    }
    Target {
        cluster: names::outbound_cluster(port, &destination.subset, &host),
        policy: Policy::of(rule, port, subset),
    }
}

fn name(rule: &HttpRoute, condition: Option<&HttpMatchRequest>) -> String {
    let parts = [Some(rule.name.as_str()), condition.map(|c| c.name.as_str())];
    let parts: Vec<&str> = parts.into_iter().flatten().filter(|p| !p.is_empty()).collect();
    parts.join(".")
}
