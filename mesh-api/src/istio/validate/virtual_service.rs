//! Rules of VirtualService.

use super::{common, http};
use crate::{
    istio::{
        Destination, HttpRoute, L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes, TlsRoute,
        VirtualService,
        error::{At, Findings},
        syntax,
    },
    names::MESH_GATEWAY,
};

pub(super) fn check(spec: &VirtualService, at: &At<'_>, f: &mut Findings) {
    let delegate = spec.hosts.is_empty();
    if delegate {
        if !spec.gateways.is_empty() {
            f.error(
                &at.field("hosts"),
                "at least one host is needed; only a delegate has none, and a delegate has no gateways",
            );
        }
        if !spec.tls.is_empty() || !spec.tcp.is_empty() {
            f.error(
                &at.field("hosts"),
                "at least one host is needed; a delegate (without hosts) can only have http rules",
            );
        }
    }
    let mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|g| g == MESH_GATEWAY);
    for (i, gateway) in spec.gateways.iter().enumerate() {
        common::gateway_name(&at.field("gateways").index(i), gateway, f);
    }
    let hosts = at.field("hosts");
    for (i, host) in spec.hosts.iter().enumerate() {
        let at = hosts.index(i);
        if host == "*" && mesh {
            f.error(
                &at,
                "* is not allowed for sidecars; name the host, or name the gateways that the rules are for",
            );
        } else if !syntax::is_ip(host) {
            common::wildcard_host(&at, host, f);
        }
    }
    common::duplicates(&hosts, spec.hosts.iter().map(String::as_str), f);
    common::export_to(&at.field("exportTo"), &spec.export_to, false, f);
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        f.error(at, "there is no rule; write at least one under http, tls or tcp");
    }
    let rules = at.field("http");
    for (i, route) in spec.http.iter().enumerate() {
        http::route(&rules.index(i), route, delegate, f);
    }
    unreachable(&rules, &spec.http, f);
    for (i, route) in spec.tls.iter().enumerate() {
        tls_route(&at.field("tls").index(i), route, &spec.hosts, f);
    }
    for (i, route) in spec.tcp.iter().enumerate() {
        tcp_route(&at.field("tcp").index(i), route, f);
    }
}

/// Rules behind one that takes every request.
fn unreachable(at: &At<'_>, routes: &[HttpRoute], f: &mut Findings) {
    let all = |route: &HttpRoute| route.r#match.is_empty();
    if let Some(first) = routes.iter().position(all) {
        for i in first + 1..routes.len() {
            f.warning(
                &at.index(i),
                format!("is never used: http[{first}] has no match and takes every request; move it to the end"),
            );
        }
    }
}

fn tls_route(at: &At<'_>, route: &TlsRoute, hosts: &[String], f: &mut Findings) {
    if route.r#match.is_empty() {
        f.error(
            &at.field("match"),
            "is missing; a TLS rule needs at least one match with sniHosts",
        );
    }
    for (i, entry) in route.r#match.iter().enumerate() {
        tls_match(&at.field("match").index(i), entry, hosts, f);
    }
    destinations(&at.field("route"), &route.route, f);
}

fn tls_match(at: &At<'_>, entry: &TlsMatchAttributes, hosts: &[String], f: &mut Findings) {
    if entry.sni_hosts.is_empty() {
        f.error(
            &at.field("sniHosts"),
            "is missing; write the server names that the rule is for",
        );
    }
    for (i, sni) in entry.sni_hosts.iter().enumerate() {
        let at = at.field("sniHosts");
        let at = at.index(i);
        if syntax::is_ip(sni) {
            f.warning(
                &at,
                format!("{sni} is an address; clients send no server name for addresses, so this never matches"),
            );
            continue;
        }
        common::wildcard_host(&at, sni, f);
        if !hosts.iter().any(|host| syntax::host_within(sni, host)) {
            f.error(
                &at,
                format!(
                    "{sni:?} is not within the hosts of this object ({}); add it there",
                    hosts.join(", ")
                ),
            );
        }
    }
    l4_conditions(at, &entry.destination_subnets, entry.port, &entry.gateways, f);
    common::labels(&at.field("sourceLabels"), &entry.source_labels, f);
}

fn tcp_route(at: &At<'_>, route: &TcpRoute, f: &mut Findings) {
    for (i, entry) in route.r#match.iter().enumerate() {
        let L4MatchAttributes {
            destination_subnets,
            port,
            source_subnet,
            source_labels,
            source_namespace: _,
            gateways,
        } = entry;
        let at = at.field("match");
        let at = at.index(i);
        l4_conditions(&at, destination_subnets, *port, gateways, f);
        common::labels(&at.field("sourceLabels"), source_labels, f);
        if !source_subnet.is_empty() {
            f.warning(
                &at.field("sourceSubnet"),
                "has no effect, as in Istio; use sourceLabels",
            );
        }
    }
    destinations(&at.field("route"), &route.route, f);
}

fn l4_conditions(at: &At<'_>, subnets: &[String], port: u32, gateways: &[String], f: &mut Findings) {
    for (i, subnet) in subnets.iter().enumerate() {
        common::ip_or_cidr(&at.field("destinationSubnets").index(i), subnet, f);
    }
    common::optional_port(&at.field("port"), port, f);
    for (i, gateway) in gateways.iter().enumerate() {
        common::gateway_name(&at.field("gateways").index(i), gateway, f);
    }
}

fn destinations(at: &At<'_>, routes: &[RouteDestination], f: &mut Findings) {
    if routes.is_empty() {
        f.error(at, "is missing; write at least one destination");
    }
    for (i, route) in routes.iter().enumerate() {
        destination(&at.index(i).field("destination"), &route.destination, f);
    }
    weights(at, routes.iter().map(|r| r.weight), f);
}

/// Shares that are not negative, and not all 0 if there are several.
pub(super) fn weights(at: &At<'_>, weights: impl Iterator<Item = i32>, f: &mut Findings) {
    let (mut count, mut total, mut negative) = (0, 0_i64, false);
    for (i, weight) in weights.enumerate() {
        common::not_negative(&at.index(i).field("weight"), weight, f);
        negative |= weight < 0;
        count += 1;
        total += i64::from(weight);
    }
    if count > 1 && total == 0 && !negative {
        f.error(
            at,
            "all weights are 0, so nothing would be chosen; give at least one destination a weight",
        );
    }
    if total > i64::from(u32::MAX) {
        f.error(at, "the sum of the weights is too large; at most 4294967295 is allowed");
    }
}

pub(super) fn destination(at: &At<'_>, destination: &Destination, f: &mut Findings) {
    let host = &destination.host;
    let field = at.field("host");
    if host.is_empty() {
        f.error(&field, "is missing; write the name of a service");
    } else if host == "*" {
        f.error(&field, "* is no destination; write the name of a service");
    } else {
        common::wildcard_host(&field, host, f);
    }
    if !destination.subset.is_empty() && !syntax::is_dns1123(&destination.subset, false) {
        f.error(
            &at.field("subset"),
            format!(
                "{:?} is no subset name; write lower-case letters, digits and '-'",
                destination.subset
            ),
        );
    }
    if let Some(selector) = &destination.port {
        common::port(&at.field("port").field("number"), selector.number, f);
    }
}
