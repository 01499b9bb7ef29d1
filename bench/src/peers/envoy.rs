//! Envoy and mesh-proxy, from one and the same bootstrap.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Plan, Role};
use crate::cases::{Chain, Protocol};
use crate::pki::NAME;

/// mesh-proxy with one worker.
pub(super) fn mesh_proxy(plan: &Plan<'_>) -> Result<(PathBuf, Vec<String>)> {
    let path = bootstrap_file(plan)?;
    let args = ["-c", &path, "--concurrency", "1", "-l", "warning"].map(str::to_owned);
    Ok((plan.programs.mesh_proxy.clone(), args.to_vec()))
}

/// Envoy with one worker.
pub(super) fn envoy(plan: &Plan<'_>) -> Result<(PathBuf, Vec<String>)> {
    let path = bootstrap_file(plan)?;
    let program = plan
        .programs
        .envoy
        .as_ref()
        .context("ENVOY_BIN does not name an Envoy; run cargo xtask bench, which fetches one")?;
    let args = [
        "-c",
        &path,
        "--concurrency",
        "1",
        "-l",
        "warning",
        "--disable-hot-restart",
    ]
    .map(str::to_owned);
    Ok((program.clone(), args.to_vec()))
}

fn bootstrap_file(plan: &Plan<'_>) -> Result<String> {
    let value = match plan.case.chain {
        Chain::Bare | Chain::Hosts(_) => bootstrap(plan),
        Chain::Sidecar(services) => crate::sidecar::bootstrap(plan, services)?,
        Chain::Pushed(services) => crate::sidecar::pushed_bootstrap(plan, services),
    };
    let path = plan.write("bootstrap.json", &serde_json::to_string_pretty(&value)?)?;
    Ok(path.display().to_string())
}

/// Name of a virtual host of [`Chain::Hosts`].
pub(super) fn host(number: u32) -> String {
    format!("svc-{number}.bench.svc.cluster.local")
}

/// The host that the load asks for.
pub(crate) fn asked_host(chain: Chain) -> String {
    match chain {
        Chain::Bare => NAME.to_owned(),
        Chain::Hosts(count) => host(count / 2),
        Chain::Sidecar(services) | Chain::Pushed(services) => crate::sidecar::host(services / 2),
    }
}

fn bootstrap(plan: &Plan<'_>) -> Value {
    let network_filter = if plan.case.protocol == Protocol::Tcp {
        json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "front", "cluster": "app"}})
    } else {
        http_filter(plan.case.chain)
    };
    let mut chain = json!({"filters": [network_filter]});
    if plan.tls_in() {
        chain["transport_socket"] = tls_in(plan);
    }
    json!({
        "admin": admin(plan),
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {
            "listeners": [{
                "name": "front",
                "address": address("127.0.0.1", plan.listen()),
                "filter_chains": [chain],
            }],
            "clusters": [cluster(plan)],
        },
    })
}

/// The administration port, which tells when a proxy is ready.
pub(crate) fn admin(plan: &Plan<'_>) -> Value {
    json!({"address": address("127.0.0.1", plan.ports.admin(plan.role))})
}

/// A socket address in Envoy's form.
pub(crate) fn address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}

fn http_filter(chain: Chain) -> Value {
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "0s"}});
    let mut hosts: Vec<Value> = Vec::new();
    if let Chain::Hosts(count) = chain {
        hosts.extend((0..count).map(|n| {
            let name = host(n);
            json!({"name": name, "routes": [route], "domains": [
                name, format!("{name}:80"), format!("svc-{n}"), format!("svc-{n}:80"),
                format!("svc-{n}.bench"), format!("svc-{n}.bench:80")]})
        }));
    }
    hosts.push(json!({"name": "all", "domains": ["*"], "routes": [route]}));
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "route_config": {"name": "all", "virtual_hosts": hosts},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    }})
}

fn cluster(plan: &Plan<'_>) -> Value {
    let to = plan.to();
    let threshold = json!({"max_connections": u32::MAX, "max_pending_requests": u32::MAX, "max_requests": u32::MAX});
    let mut cluster = json!({
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [threshold]},
        "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address(&to.ip().to_string(), to.port())}}]}]},
    });
    if plan.case.protocol == Protocol::Http2 {
        cluster["typed_extension_protocol_options"] = speak_http2();
    }
    if plan.tls_out() {
        let mut context = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": NAME,
        });
        context["common_tls_context"] = common_tls(plan);
        cluster["transport_socket"] = json!({"name": "envoy.transport_sockets.tls", "typed_config": context});
    }
    cluster
}

/// A cluster's options, so that it speaks HTTP/2 to its upstream.
pub(crate) fn speak_http2() -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}})
}

fn tls_in(plan: &Plan<'_>) -> Value {
    let mut context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": true,
    });
    context["common_tls_context"] = common_tls(plan);
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

fn common_tls(plan: &Plan<'_>) -> Value {
    let alpn = match (plan.case.protocol, plan.role) {
        (Protocol::Tcp, _) => json!([]),
        (Protocol::Http2, _) => json!(["h2"]),
        (_, Role::Client) => json!(["http/1.1"]),
        _ => json!(["h2", "http/1.1"]),
    };
    json!({
        "alpn_protocols": alpn,
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{
            "certificate_chain": {"filename": plan.pki.file("cert.pem")},
            "private_key": {"filename": plan.pki.file("key.pem")}}],
        "validation_context": {"trusted_ca": {"filename": plan.pki.file("ca.pem")}},
    })
}
