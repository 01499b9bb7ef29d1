//! Rules of ServiceEntry, WorkloadEntry and WorkloadGroup.

use super::{common, gateway};
use crate::istio::{
    Location, Resolution, ServiceEntry, WorkloadEntry, WorkloadGroup,
    error::{At, Findings},
    syntax,
};

pub(super) fn check(spec: &ServiceEntry, at: &At<'_>, f: &mut Findings) {
    hosts(spec, at, f);
    addresses(spec, at, f);
    ports(spec, at, f);
    endpoints(spec, at, f);
    common::workload_labels(&at.field("workloadSelector"), spec.workload_selector.as_ref(), f);
    common::export_to(&at.field("exportTo"), &spec.export_to, true, f);
}

fn hosts(spec: &ServiceEntry, at: &At<'_>, f: &mut Findings) {
    let hosts = at.field("hosts");
    if spec.hosts.is_empty() {
        f.error(&hosts, "is missing; a service needs at least one host");
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        let at = hosts.index(i);
        if host == "*" {
            f.error(
                &at,
                "* is too wide for a service; write a name or a wildcard such as *.example.com",
            );
            continue;
        }
        common::wildcard_host(&at, host, f);
        let by_name = matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        if host.starts_with('*') && by_name && spec.endpoints.is_empty() {
            f.error(&at, format!("{host:?} cannot be looked up; with resolution {} write full names, or endpoints, or use resolution NONE", spec.resolution));
        }
        if spec.resolution == Resolution::DynamicDns && !host.starts_with("*.") {
            f.error(
                &at,
                format!("{host:?} is one name; resolution DYNAMIC_DNS is for wildcards, use DNS"),
            );
        }
    }
    common::duplicates(&hosts, spec.hosts.iter().map(String::as_str), f);
}

fn addresses(spec: &ServiceEntry, at: &At<'_>, f: &mut Findings) {
    for (i, address) in spec.addresses.iter().enumerate() {
        let at = at.field("addresses");
        let at = at.index(i);
        common::ip_or_cidr(&at, address, f);
        let ranges = matches!(spec.resolution, Resolution::None | Resolution::Static);
        if address.contains('/') && !ranges {
            f.error(
                &at,
                format!(
                    "{address} is a range, which is only allowed with resolution NONE or STATIC; write single addresses"
                ),
            );
        }
    }
    let http = |name: &str| {
        ["HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS", "TLS"]
            .iter()
            .any(|p| p.eq_ignore_ascii_case(name))
    };
    if spec.addresses.is_empty() && spec.resolution == Resolution::None && spec.ports.iter().any(|p| !http(&p.protocol))
    {
        f.warning(
            &at.field("addresses"),
            "is empty: a TCP port without addresses takes all traffic to that port, whatever its host",
        );
    }
}

fn ports(spec: &ServiceEntry, at: &At<'_>, f: &mut Findings) {
    if spec.ports.is_empty() {
        f.warning(
            &at.field("ports"),
            "is empty; without a port nothing can be sent to the service",
        );
    }
    for (i, port) in spec.ports.iter().enumerate() {
        let at = at.field("ports");
        let at = at.index(i);
        common::port(&at.field("number"), port.number, f);
        common::optional_port(&at.field("targetPort"), port.target_port, f);
        if port.target_port != 0 && spec.resolution == Resolution::None {
            f.warning(
                &at.field("targetPort"),
                "has no effect with resolution NONE, where traffic keeps its port",
            );
        }
        if port.name.is_empty() {
            f.error(
                &at.field("name"),
                "is missing; give the port a name, unique in the object",
            );
        }
        if !port.protocol.is_empty() {
            gateway::protocol(&at.field("protocol"), &port.protocol, f);
        }
        for other in &spec.ports[..i] {
            if other.number == port.number {
                f.error(
                    &at.field("number"),
                    format!("port {} stands here twice; remove one", port.number),
                );
            }
            if other.name == port.name && !port.name.is_empty() {
                f.error(
                    &at.field("name"),
                    format!("another port has the name {:?}; give each its own", port.name),
                );
            }
        }
        let named = ["HTTP", "HTTP2", "GRPC", "HTTPS", "TLS"]
            .iter()
            .any(|p| p.eq_ignore_ascii_case(&port.protocol));
        if spec.resolution == Resolution::DynamicDns && !named {
            f.error(
                &at.field("protocol"),
                "resolution DYNAMIC_DNS takes the name from the request; write HTTP, HTTP2, GRPC, HTTPS or TLS",
            );
        }
    }
}

fn endpoints(spec: &ServiceEntry, at: &At<'_>, f: &mut Findings) {
    let field = at.field("endpoints");
    let count = spec.endpoints.len();
    if spec.workload_selector.is_some() && count > 0 {
        f.error(at, "only one of workloadSelector and endpoints can be set");
    }
    match spec.resolution {
        Resolution::None if count > 0 => {
            f.error(&field, "cannot be set with resolution NONE, which sends traffic where the client meant it to go; write STATIC or DNS");
        }
        Resolution::Static if count == 0 && spec.workload_selector.is_none() => {
            f.warning(
                &field,
                "is empty; with resolution STATIC write endpoints or a workloadSelector",
            );
        }
        Resolution::DnsRoundRobin if count > 1 => {
            f.error(
                &field,
                format!("has {count} entries; with resolution DNS_ROUND_ROBIN at most one is allowed"),
            );
        }
        Resolution::DynamicDns => {
            if count > 0 {
                f.error(
                    &field,
                    "cannot be set with resolution DYNAMIC_DNS, which takes the name from the request",
                );
            }
            if spec.location != Location::MeshExternal {
                f.error(
                    &at.field("location"),
                    "must be MESH_EXTERNAL with resolution DYNAMIC_DNS",
                );
            }
        }
        _ => {}
    }
    for (i, endpoint) in spec.endpoints.iter().enumerate() {
        let at = field.index(i);
        workload(&at, endpoint, true, f);
        let unix = endpoint.address.starts_with("unix://");
        let address = at.field("address");
        if spec.resolution == Resolution::Static
            && !unix
            && !endpoint.address.is_empty()
            && !syntax::is_ip(&endpoint.address)
        {
            f.error(
                &address,
                format!(
                    "{:?} is a name; with resolution STATIC write an address, or use resolution DNS",
                    endpoint.address
                ),
            );
        }
        let by_name = matches!(spec.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        if by_name && unix {
            f.error(&address, "cannot be a socket file with resolution DNS; use STATIC");
        }
        for name in endpoint.ports.keys() {
            if !spec.ports.iter().any(|port| port.name == *name) {
                f.error(
                    &at.field("ports").field(name),
                    format!("the service has no port {name:?}; use a name from spec.ports"),
                );
            }
        }
    }
}

/// `address`: whether the workload must have one (the template of a group need not).
pub(super) fn workload(at: &At<'_>, entry: &WorkloadEntry, address: bool, f: &mut Findings) {
    let field = at.field("address");
    if let Some(path) = entry.address.strip_prefix("unix://") {
        if !path.starts_with(['/', '@']) {
            f.error(
                &field,
                "must be an absolute path or an abstract socket, such as unix:///run/app.sock",
            );
        } else if path.ends_with('/') {
            f.error(&field, "is a folder; write the path of a socket");
        }
        if !entry.ports.is_empty() {
            f.error(
                &at.field("ports"),
                "cannot be set beside a socket file, which has no ports",
            );
        }
    } else if entry.address.is_empty() {
        if address && entry.network.is_empty() {
            f.error(&field, "is missing; write an address, a DNS name, or unix:///path");
        }
    } else if !syntax::is_ip(&entry.address) && !syntax::is_host(&entry.address) {
        f.error(
            &field,
            format!("{:?} is neither an address nor a DNS name", entry.address),
        );
    }
    for (name, number) in &entry.ports {
        let at = at.field("ports");
        let at = at.field(name);
        if !syntax::is_dns1123(&name.to_ascii_lowercase(), false) {
            f.error(&at, format!("{name:?} is no port name; write letters, digits and '-'"));
        }
        common::port(&at, *number, f);
    }
    common::labels(&at.field("labels"), &entry.labels, f);
}

pub(super) fn group(spec: &WorkloadGroup, at: &At<'_>, f: &mut Findings) {
    workload(&at.field("template"), &spec.template, false, f);
    if let Some(meta) = &spec.metadata {
        common::labels(&at.field("metadata").field("labels"), &meta.labels, f);
    }
    let Some(probe) = &spec.probe else { return };
    let at = at.field("probe");
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        common::not_negative(&at.field(name), value, f);
    }
    let set = [
        probe.http_get.is_some(),
        probe.tcp_socket.is_some(),
        probe.exec.is_some(),
        probe.grpc.is_some(),
    ];
    if set.iter().filter(|set| **set).count() != 1 {
        f.error(&at, "exactly one of httpGet, tcpSocket, exec and grpc must be set");
    }
    if let Some(http) = &probe.http_get {
        let at = at.field("httpGet");
        common::port(&at.field("port"), http.port, f);
        if !matches!(http.scheme.as_str(), "" | "HTTP" | "HTTPS") {
            f.error(
                &at.field("scheme"),
                format!("{:?} is no scheme of a probe; write HTTP or HTTPS", http.scheme),
            );
        }
    }
    if let Some(tcp) = &probe.tcp_socket {
        common::port(&at.field("tcpSocket").field("port"), tcp.port, f);
    }
    if let Some(grpc) = &probe.grpc {
        common::port(&at.field("grpc").field("port"), grpc.port, f);
    }
    if probe.exec.as_ref().is_some_and(|exec| exec.command.is_empty()) {
        f.error(
            &at.field("exec").field("command"),
            "is missing; write the program and its arguments",
        );
    }
}
