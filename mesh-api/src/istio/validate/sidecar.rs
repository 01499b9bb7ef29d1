//! Rules of Sidecar.

use super::{common, destination_rule::connection_pool, gateway, virtual_service::destination};
use crate::istio::{
    CaptureMode, IstioEgressListener, IstioIngressListener, OutboundTrafficMode, ServerTlsMode, Sidecar, SidecarPort,
    error::{At, Findings},
    syntax,
};

pub(super) fn check(spec: &Sidecar, at: &At<'_>, f: &mut Findings) {
    let empty = Sidecar {
        workload_selector: spec.workload_selector.clone(),
        ..Default::default()
    };
    if *spec == empty {
        f.error(
            at,
            "says nothing; write at least one of egress, ingress, outboundTrafficPolicy and inboundConnectionPool",
        );
    }
    common::workload_labels(&at.field("workloadSelector"), spec.workload_selector.as_ref(), f);
    ingress(spec, at, f);
    egress(spec, at, f);
    if let Some(pool) = &spec.inbound_connection_pool {
        connection_pool(&at.field("inboundConnectionPool"), pool, f);
    }
    if let Some(policy) = &spec.outbound_traffic_policy
        && let Some(target) = &policy.egress_proxy
    {
        let at = at.field("outboundTrafficPolicy");
        let at = at.field("egressProxy");
        if policy.mode != OutboundTrafficMode::AllowAny {
            f.error(
                &at,
                "needs mode: ALLOW_ANY; with REGISTRY_ONLY unknown destinations are refused",
            );
        }
        destination(&at, target, f);
    }
}

fn ingress(spec: &Sidecar, at: &At<'_>, f: &mut Findings) {
    for (i, listener) in spec.ingress.iter().enumerate() {
        let at = at.field("ingress");
        let at = at.index(i);
        port(&at.field("port"), &listener.port, f);
        if spec.ingress[..i]
            .iter()
            .any(|other| other.port.number == listener.port.number)
        {
            f.error(
                &at.field("port").field("number"),
                format!(
                    "there is another listener for port {}; remove one",
                    listener.port.number
                ),
            );
        }
        ingress_listener(&at, listener, f);
    }
}

fn ingress_listener(at: &At<'_>, listener: &IstioIngressListener, f: &mut Findings) {
    if !listener.bind.is_empty() && !syntax::is_ip(&listener.bind) {
        f.error(&at.field("bind"), format!("{:?} is no address", listener.bind));
    }
    if !listener.default_endpoint.is_empty() && !is_endpoint(&listener.default_endpoint) {
        f.error(
            &at.field("defaultEndpoint"),
            format!(
                "{:?} is no local endpoint; write 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT or unix:///path",
                listener.default_endpoint
            ),
        );
    }
    if let Some(tls) = &listener.tls {
        let at = at.field("tls");
        if !matches!(
            tls.mode,
            ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual
        ) {
            f.error(
                &at.field("mode"),
                format!("{} cannot be used here; write SIMPLE or MUTUAL", tls.mode),
            );
        }
        gateway::server_tls(&at, tls, f);
    }
    if let Some(pool) = &listener.connection_pool {
        connection_pool(&at.field("connectionPool"), pool, f);
    }
}

fn is_endpoint(text: &str) -> bool {
    if let Some(path) = text.strip_prefix("unix://") {
        return path.starts_with(['/', '@']);
    }
    let local = ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"];
    text.rsplit_once(':')
        .is_some_and(|(ip, port)| local.contains(&ip) && port.parse::<u16>().is_ok_and(|p| p > 0))
}

fn egress(spec: &Sidecar, at: &At<'_>, f: &mut Findings) {
    let list = at.field("egress");
    for (i, listener) in spec.egress.iter().enumerate() {
        let at = list.index(i);
        match &listener.port {
            Some(value) => port(&at.field("port"), value, f),
            None if i + 1 < spec.egress.len() => {
                f.error(&at, "has no port, so it is for all that the others leave; there can be only one, and it must be the last");
            }
            None => {}
        }
        egress_listener(&at, listener, f);
    }
}

fn egress_listener(at: &At<'_>, listener: &IstioEgressListener, f: &mut Findings) {
    let bind = &listener.bind;
    if bind.starts_with("unix://") {
        if listener.port.as_ref().is_some_and(|port| port.number != 0) {
            f.error(&at.field("bind"), "a socket file has no port; leave port.number out");
        }
    } else if !bind.is_empty() && !syntax::is_ip(bind) {
        f.error(&at.field("bind"), format!("{bind:?} is no address"));
    }
    if !bind.is_empty() && listener.port.is_none() {
        f.error(&at.field("bind"), "needs a port");
    }
    if !bind.is_empty() && listener.capture_mode == CaptureMode::Iptables {
        f.error(
            &at.field("captureMode"),
            "IPTABLES cannot be set beside bind; leave one out",
        );
    }
    if listener.hosts.is_empty() {
        f.error(
            &at.field("hosts"),
            "is missing; write namespace/dnsName, such as ./* for all of this namespace",
        );
    }
    for (i, host) in listener.hosts.iter().enumerate() {
        let at = at.field("hosts");
        let at = at.index(i);
        let Some((namespace, name)) = host.split_once('/') else {
            f.error(
                &at,
                format!("{host:?} has no namespace; write namespace/dnsName, with * or . as namespace if wanted"),
            );
            continue;
        };
        if !matches!(namespace, "*" | "." | "~") && !syntax::is_dns1123(namespace, false) {
            f.error(
                &at,
                format!("{namespace:?} is no namespace; write *, ., ~ or a name before the /"),
            );
        }
        common::wildcard_host(&at, name, f);
        if namespace == "~" && name != "*" {
            f.error(&at, "~ (no namespace at all) goes only with *; write ~/*");
        }
        if listener.hosts[..i].contains(host) {
            f.warning(&at, format!("{host:?} stands here twice"));
        }
    }
}

fn port(at: &At<'_>, value: &SidecarPort, f: &mut Findings) {
    common::optional_port(&at.field("number"), value.number, f);
    if !value.protocol.is_empty() {
        gateway::protocol(&at.field("protocol"), &value.protocol, f);
    }
    if value.number == 0 && value.name.is_empty() && value.protocol.is_empty() {
        f.error(&at.field("number"), "is missing; write the number of the port");
    }
}
