//! `virtualInbound`: all that comes to the pod, with a set of filter chains for each port and way of mutual TLS.

use mesh_api::istio::MutualTlsMode;
use mesh_api::names;

use super::super::cluster::policy::Policy;
use super::super::cluster::tls::combined;
use super::super::context::Context;
use super::super::inbound::InboundPort;
use super::super::pb::{address, agent_secret, core, listener, matcher, on, pack, string_match, tls, tls_socket, uint};
use super::super::route::to_application;
use super::http::{Routes, Side, manager};
use super::{
    PLAIN_HTTP, access_log, black_hole, detection_timeout, inspect, other_wildcard, tcp, transparent, wildcard,
};
use crate::store::protocol::Protocol;

/// ALPN by which sidecars announce HTTP, and opaque bytes.
const MESH_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const MESH_TCP: [&str; 2] = ["istio-peer-exchange", "istio"];

/// A chain's place in the table of protocols and modes.
struct Kind {
    alpn: Vec<&'static str>,
    transport: &'static str,
    http: bool,
    terminates: bool,
}

/// The chains for one protocol under one mode of mutual TLS.
fn kinds(protocol: Protocol, mode: MutualTlsMode) -> Vec<Kind> {
    let kind = |alpn: &[&'static str], transport, http, terminates| Kind {
        alpn: alpn.to_vec(),
        transport,
        http,
        terminates,
    };
    let both: Vec<&str> = MESH_TCP.iter().chain(&MESH_HTTP).copied().collect();
    let http = protocol.is_http();
    match mode {
        _ if protocol.is_auto() => match mode {
            MutualTlsMode::Disable => vec![
                kind(&PLAIN_HTTP, "raw_buffer", true, false),
                kind(&[], "raw_buffer", false, false),
                // TLS of the application itself.
                kind(&[], "tls", false, false),
            ],
            MutualTlsMode::Strict => vec![kind(&MESH_HTTP, "tls", true, true), kind(&[], "tls", false, true)],
            _ => vec![
                kind(&MESH_HTTP, "tls", true, true),
                kind(&PLAIN_HTTP, "raw_buffer", true, false),
                kind(&MESH_TCP, "tls", false, true),
                kind(&[], "raw_buffer", false, false),
                kind(&[], "tls", false, false),
            ],
        },
        MutualTlsMode::Strict => vec![kind(&[], "tls", http, true)],
        MutualTlsMode::Disable if http => vec![kind(&[], "raw_buffer", true, false)],
        // Opaque bytes may be TLS of the application itself.
        MutualTlsMode::Disable => vec![kind(&[], "", false, false)],
        _ if http => vec![kind(&both, "tls", true, true), kind(&[], "raw_buffer", true, false)],
        _ => vec![
            kind(&both, "tls", false, true),
            kind(&[], "tls", false, false),
            kind(&[], "raw_buffer", false, false),
        ],
    }
}

/// The listener of captured inbound connections.
pub(super) fn virtual_inbound(ctx: &Context<'_>, ports: &[InboundPort<'_>]) -> listener::Listener {
    let mtls = ctx.mtls();
    let mut chains = vec![black_hole(
        ctx,
        "virtualInbound-blackhole",
        ctx.store.mesh().proxy_inbound_listen_port,
    )];
    for kind in kinds(Protocol::Auto, mtls.mode) {
        chains.push(passthrough(ctx, &kind, None));
    }
    for (port, mode) in &mtls.ports {
        // Ports of services have chains of their own below.
        if ports.iter().all(|p| p.port != *port) {
            for kind in kinds(Protocol::Auto, *mode) {
                chains.push(passthrough(ctx, &kind, Some(*port)));
            }
        }
    }
    let captured = || ports.iter().filter(|p| p.bind.is_none());
    for port in captured() {
        for kind in kinds(port.protocol, mtls.of_port(port.port)) {
            chains.push(to_port(ctx, port, wildcard(ctx), &kind));
        }
    }

    // Looking for HTTP waits for the client to speak: not where the protocol is known, nor where the server may speak first.
    let opaque: Vec<u16> = captured()
        .filter(|p| !p.protocol.is_auto() && !p.protocol.is_http())
        .map(|p| p.port)
        .collect();
    let plain_only: Vec<u16> = captured()
        .filter(|p| p.protocol.is_tcp() && mtls.of_port(p.port) == MutualTlsMode::Disable)
        .map(|p| p.port)
        .collect();
    listener::Listener {
        name: names::VIRTUAL_INBOUND.to_owned(),
        address: address(wildcard(ctx), ctx.store.mesh().proxy_inbound_listen_port),
        additional_addresses: other_wildcard(ctx, ctx.store.mesh().proxy_inbound_listen_port),
        traffic_direction: core::TrafficDirection::Inbound.into(),
        transparent: transparent(ctx),
        listener_filters: vec![
            inspect::original_dst(),
            inspect::tls(&plain_only),
            inspect::http(&opaque),
        ],
        listener_filters_timeout: detection_timeout(ctx),
        continue_on_listener_filters_timeout: true,
        filter_chains: chains,
        access_log: access_log::of_listener(ctx),
        ..Default::default()
    }
}

/// A listener that the proxy opens for itself, as an ingress listener of a Sidecar has it.
pub(super) fn bound(ctx: &Context<'_>, port: &InboundPort<'_>, bind: &str) -> listener::Listener {
    let mode = ctx.mtls().of_port(port.port);
    let chains = kinds(port.protocol, mode).into_iter().map(|kind| {
        let mut chain = to_port(ctx, port, bind, &kind);
        if let Some(matches) = &mut chain.filter_chain_match {
            matches.destination_port = None;
        }
        chain
    });
    let filter_chains = chains.collect();
    let mut filters = Vec::new();
    if !(port.protocol.is_tcp() && mode == MutualTlsMode::Disable) {
        filters.push(inspect::tls(&[]));
    }
    if port.protocol.is_auto() || port.protocol.is_http() {
        filters.push(inspect::http(&[]));
    }
    listener::Listener {
        // Not to be taken for an outbound listener of the same port.
        name: format!("inbound_{bind}_{}", port.port),
        address: address(bind, port.port),
        traffic_direction: core::TrafficDirection::Inbound.into(),
        listener_filters: filters,
        listener_filters_timeout: detection_timeout(ctx),
        continue_on_listener_filters_timeout: true,
        filter_chains,
        access_log: access_log::of_listener(ctx),
        ..Default::default()
    }
}

/// To a port of the application.
fn to_port(ctx: &Context<'_>, port: &InboundPort<'_>, bind: &str, kind: &Kind) -> listener::FilterChain {
    let cluster = names::inbound_cluster(port.port);
    let filters = if kind.http {
        let operation = format!("{}:{}/*", port.host, port.service_port);
        let table = to_application(&cluster, port.service_port, operation);
        let stat_prefix = format!("inbound_{bind}_{}", port.port);
        vec![manager(ctx, Side::Inbound, &stat_prefix, Routes::Inline(table))]
    } else {
        let policy = Policy {
            pool: port.pool,
            ..Policy::default()
        };
        tcp::proxy(ctx, &cluster, &[(cluster.clone(), 1)], &policy)
    };
    chain(ctx, kind, format!("{bind}_{}", port.port), Some(port.port), filters)
}

/// To a port that no service leads to.
fn passthrough(ctx: &Context<'_>, kind: &Kind, port: Option<u16>) -> listener::FilterChain {
    let cluster = names::INBOUND_PASSTHROUGH_CLUSTER;
    if kind.http {
        let table = to_application(cluster, 0, String::new());
        let filters = vec![manager(ctx, Side::Inbound, cluster, Routes::Inline(table))];
        chain(ctx, kind, "virtualInbound-catchall-http".to_owned(), port, filters)
    } else {
        chain(
            ctx,
            kind,
            names::VIRTUAL_INBOUND.to_owned(),
            port,
            tcp::to(ctx, cluster),
        )
    }
}

fn chain(
    ctx: &Context<'_>,
    kind: &Kind,
    name: String,
    port: Option<u16>,
    filters: Vec<listener::Filter>,
) -> listener::FilterChain {
    let matches = listener::FilterChainMatch {
        destination_port: port.and_then(|p| uint(u32::from(p))),
        transport_protocol: kind.transport.to_owned(),
        application_protocols: kind.alpn.iter().map(|a| (*a).to_owned()).collect(),
        ..Default::default()
    };
    listener::FilterChain {
        name,
        filter_chain_match: Some(matches),
        transport_socket: kind.terminates.then(|| mesh_server_socket(ctx, kind.http)),
        filters,
        ..Default::default()
    }
}

/// Termination of mutual TLS: any identity of the mesh's own trust domains is taken in; who may do what is for policy to say.
fn mesh_server_socket(ctx: &Context<'_>, http: bool) -> core::TransportSocket {
    let mesh = ctx.store.mesh();
    let matchers = std::iter::once(mesh.trust_domain.as_str())
        .chain(mesh.trust_domain_aliases.iter().map(String::as_str))
        .map(|trust_domain| tls::SubjectAltNameMatcher {
            san_type: tls::subject_alt_name_matcher::SanType::Uri.into(),
            matcher: Some(string_match(matcher::string_matcher::MatchPattern::Prefix(format!(
                "spiffe://{trust_domain}/"
            )))),
            ..Default::default()
        });
    let peer = (!http && ctx.proxy.istio_peer_exchange).then_some("istio-peer-exchange");
    tls_socket(pack(&tls::DownstreamTlsContext {
        require_client_certificate: on(),
        common_tls_context: Some(tls::CommonTlsContext {
            tls_params: Some(server_parameters()),
            alpn_protocols: peer.into_iter().chain(["h2", "http/1.1"]).map(str::to_owned).collect(),
            tls_certificate_sds_secret_configs: vec![agent_secret(names::SDS_DEFAULT)],
            validation_context_type: Some(combined(matchers.collect(), agent_secret(names::SDS_ROOT_CA))),
            ..Default::default()
        }),
        ..Default::default()
    }))
}

/// Versions and suites of mutual TLS.
fn server_parameters() -> tls::TlsParameters {
    tls::TlsParameters {
        tls_minimum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv12.into(),
        tls_maximum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv13.into(),
        cipher_suites: [
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "AES256-GCM-SHA384",
            "AES128-GCM-SHA256",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Default::default()
    }
}
