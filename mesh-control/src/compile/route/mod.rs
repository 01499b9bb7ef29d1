//! Route tables: of the sidecar's outbound side by port, and of single hosts for ports whose protocol is detected.

mod action;
pub(super) mod filters;
pub(super) mod hash;
pub(super) mod headers;
mod matching;
pub(super) mod retry;
pub(super) mod rule;
mod sidecar;

use mesh_api::names;

use super::cluster::policy::Policy;
use super::context::Context;
use super::pb::{UInt32Value, ZERO, off, route};
use crate::store::service::Service;

pub(super) use action::status;
pub(super) use sidecar::{sidecar, unknown};

/// Name of a route that no rule made.
const DEFAULT: &str = "default";

/// A route table with the settings that all of them have. Hosts are compared without their ports.
pub(super) fn table(name: &str, virtual_hosts: Vec<route::VirtualHost>) -> route::RouteConfiguration {
    route::RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts,
        validate_clusters: off(),
        max_direct_response_body_size_bytes: Some(UInt32Value { value: 1 << 20 }),
        ignore_port_in_host_matching: true,
        ..Default::default()
    }
}

/// A virtual host.
pub(super) fn virtual_host(name: String, domains: Vec<String>, routes: Vec<route::Route>) -> route::VirtualHost {
    route::VirtualHost {
        name,
        domains,
        routes,
        include_request_attempt_count: true,
        ..Default::default()
    }
}

/// A route that sends everything to a cluster without any limit of time.
pub(super) fn to_cluster(name: &str, cluster: &str, operation: String) -> route::Route {
    #[allow(deprecated, reason = "what Istio sends")]
    let forward = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        timeout: ZERO,
        max_grpc_timeout: ZERO,
        ..Default::default()
    };
    route::Route {
        name: name.to_owned(),
        r#match: Some(matching::everything()),
        decorator: (!operation.is_empty()).then(|| route::Decorator {
            operation,
            ..Default::default()
        }),
        action: Some(route::route::Action::Route(forward)),
        ..Default::default()
    }
}

/// The route to a service that no VirtualService speaks for.
pub(super) fn to_service(ctx: &Context<'_>, service: &Service, port: u16) -> route::Route {
    let cluster = names::outbound_cluster(port, "", &service.host);
    let mut route = to_cluster(DEFAULT, &cluster, format!("{}:{port}/*", service.host));
    if let Some(route::route::Action::Route(forward)) = &mut route.action {
        let hash = hash::of_request(&Policy::of(ctx.rule(service), port, None));
        forward.retry_policy = retry::policy(ctx, None, hash.is_some());
        forward.hash_policy = hash.into_iter().collect();
    }
    route
}

/// Puts the routes that take everything behind the others: where VirtualServices are merged, the catch-all of one must not
/// hide the rules of the next.
pub(super) fn catch_all_last(routes: &mut [route::Route]) {
    routes.sort_by_key(|r| r.r#match.as_ref().is_some_and(matching::takes_everything));
}

/// The route table towards a port of the proxy's own application.
pub(super) fn to_application(cluster: &str, virtual_host_port: u16, operation: String) -> route::RouteConfiguration {
    let mut route = to_cluster(DEFAULT, cluster, operation);
    if let Some(route::route::Action::Route(forward)) = &mut route.action {
        forward.retry_policy = Some(retry::inbound_policy());
    }
    route::RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![route::VirtualHost {
            name: format!("inbound|http|{virtual_host_port}"),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            ..Default::default()
        }],
        validate_clusters: off(),
        ..Default::default()
    }
}
