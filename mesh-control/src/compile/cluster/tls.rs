//! TLS towards the endpoints of a cluster: automatic mutual TLS between sidecars, and what a DestinationRule asks for.

use std::collections::BTreeSet;

use mesh_api::istio::{ClientTlsMode, ClientTlsSettings};
use mesh_api::names;

use super::super::context::Context;
use super::super::endpoint::{mesh_tls_criteria, speaks_mesh_tls};
use super::super::pb::{ads_secret, agent_secret, cluster, core, exact, pack, raw_socket, tls, tls_socket};
use super::Outbound;
use crate::store::service::Resolution;

/// What becomes of a cluster's transport.
pub(in super::super) struct Transport {
    /// `transport_socket_matches`.
    pub(super) matches: Vec<cluster::cluster::TransportSocketMatch>,
    /// `transport_socket`.
    pub(super) socket: Option<core::TransportSocket>,
    /// The HTTP filter that replaces ALPN leaves this cluster alone.
    pub(super) keep_alpn: bool,
    /// `auto_sni` of the HTTP options.
    pub(in super::super) auto_sni: bool,
    /// `auto_san_validation` of the HTTP options.
    pub(in super::super) auto_san_validation: bool,
}

impl Transport {
    pub(super) fn plain() -> Self {
        Transport {
            matches: Vec::new(),
            socket: None,
            keep_alpn: false,
            auto_sni: false,
            auto_san_validation: false,
        }
    }
}

/// Chooses the transport of an outbound cluster. `original` clusters go where the client wanted to, without a list of endpoints.
pub(super) fn transport(
    ctx: &Context<'_>,
    out: &Outbound<'_>,
    settings: Option<&ClientTlsSettings>,
    http2: bool,
    original: bool,
) -> Transport {
    let Some(settings) = settings else {
        return automatic(ctx, out, http2, original);
    };
    match settings.mode {
        ClientTlsMode::Disable => Transport {
            keep_alpn: true,
            ..Transport::plain()
        },
        // Behind a wildcard nobody knows the identities.
        ClientTlsMode::IstioMutual if settings.sni.is_empty() && out.service.resolution == Resolution::DynamicDns => {
            named(ctx, &settings.subject_alt_names, http2)
        }
        ClientTlsMode::IstioMutual => {
            let sni = if settings.sni.is_empty() {
                out.sni()
            } else {
                settings.sni.clone()
            };
            let identities = if settings.subject_alt_names.is_empty() {
                identities(ctx, out)
            } else {
                settings.subject_alt_names.clone()
            };
            Transport {
                socket: Some(mesh_socket(ctx, &sni, &identities, http2)),
                ..Transport::plain()
            }
        }
        ClientTlsMode::Simple | ClientTlsMode::Mutual => {
            let whose = Whose {
                object: &out.rule_name(),
                field: CREDENTIAL,
                names: &out.service.subject_alt_names,
            };
            originated(ctx, &whose, settings, http2)
        }
    }
}

/// TLS towards hosts that nobody knows.
pub(super) fn of_mesh(ctx: &Context<'_>, settings: &ClientTlsSettings) -> Transport {
    match settings.mode {
        ClientTlsMode::Disable => Transport::plain(),
        ClientTlsMode::IstioMutual => named(ctx, &settings.subject_alt_names, false),
        ClientTlsMode::Simple | ClientTlsMode::Mutual => {
            let whose = Whose {
                object: "MeshConfig",
                field: "outboundTrafficPolicy.tls.credentialName",
                names: &[],
            };
            originated(ctx, &whose, settings, false)
        }
    }
}

/// Mutual TLS with the mesh's certificates, towards the names that requests are for.
fn named(ctx: &Context<'_>, identities: &[String], http2: bool) -> Transport {
    Transport {
        socket: Some(mesh_socket(ctx, "", identities, http2)),
        auto_sni: true,
        auto_san_validation: identities.is_empty(),
        ..Transport::plain()
    }
}

/// Mutual TLS with every endpoint that has a sidecar, plaintext with the others. Where Envoy does not know the endpoints,
/// it is mutual TLS if all of them have one.
fn automatic(ctx: &Context<'_>, out: &Outbound<'_>, http2: bool, original: bool) -> Transport {
    if !ctx.store.mesh().enable_auto_mtls || out.service.external {
        return Transport::plain();
    }
    let socket = mesh_socket(ctx, &out.sni(), &identities(ctx, out), http2);
    if original {
        let endpoints = ctx.store.endpoints(out.service).get(&out.port.number);
        let mut known = endpoints.into_iter().flatten().peekable();
        let all = known.peek().is_some() && known.all(|e| speaks_mesh_tls(ctx, e));
        return Transport {
            socket: all.then_some(socket),
            ..Transport::plain()
        };
    }
    let criteria = cluster::cluster::TransportSocketMatch {
        name: "tlsMode-istio".to_owned(),
        r#match: Some(mesh_tls_criteria()),
        transport_socket: Some(socket),
    };
    let rest = cluster::cluster::TransportSocketMatch {
        name: "tlsMode-disabled".to_owned(),
        r#match: Some(super::super::pb::Struct::default()),
        transport_socket: Some(raw_socket()),
    };
    Transport {
        matches: vec![criteria, rest],
        ..Transport::plain()
    }
}

/// Identities that the endpoints may show: the service accounts behind the service, and names that the service itself allows.
fn identities(ctx: &Context<'_>, out: &Outbound<'_>) -> Vec<String> {
    let endpoints = ctx.store.endpoints(out.service).get(&out.port.number);
    let accounts: BTreeSet<(&str, &str)> = endpoints
        .into_iter()
        .flatten()
        .filter(|e| !e.workload.service_account.is_empty())
        .map(|e| (e.workload.namespace.as_str(), e.workload.service_account.as_str()))
        .collect();
    let names: BTreeSet<String> = accounts
        .into_iter()
        .flat_map(|(namespace, account)| ctx.identities(namespace, account))
        .chain(out.service.subject_alt_names.iter().cloned())
        .collect();
    names.into_iter().collect()
}

/// Mutual TLS with the mesh's own certificates.
pub(in super::super) fn mesh_socket(
    ctx: &Context<'_>,
    sni: &str,
    identities: &[String],
    http2: bool,
) -> core::TransportSocket {
    let mut alpn = ctx.mesh_alpn();
    if http2 {
        alpn.push("h2".to_owned());
    }
    tls_socket(pack(&tls::UpstreamTlsContext {
        sni: sni.to_owned(),
        common_tls_context: Some(tls::CommonTlsContext {
            tls_params: Some(tls::TlsParameters {
                tls_minimum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv12.into(),
                tls_maximum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv13.into(),
                ..Default::default()
            }),
            alpn_protocols: alpn,
            tls_certificate_sds_secret_configs: vec![agent_secret(names::SDS_DEFAULT)],
            validation_context_type: Some(validation(
                identities,
                tls::subject_alt_name_matcher::SanType::Uri,
                agent_secret(names::SDS_ROOT_CA),
            )),
            ..Default::default()
        }),
        ..Default::default()
    }))
}

/// Roots by SDS, together with the names that the peer's certificate may have.
pub(in super::super) fn validation(
    names: &[String],
    san_type: tls::subject_alt_name_matcher::SanType,
    roots: tls::SdsSecretConfig,
) -> tls::common_tls_context::ValidationContextType {
    let matchers = names.iter().map(|name| tls::SubjectAltNameMatcher {
        san_type: san_type.into(),
        matcher: Some(exact(name)),
        ..Default::default()
    });
    combined(matchers.collect(), roots)
}

/// Roots by SDS, together with matchers of names.
pub(in super::super) fn combined(
    matchers: Vec<tls::SubjectAltNameMatcher>,
    roots: tls::SdsSecretConfig,
) -> tls::common_tls_context::ValidationContextType {
    tls::common_tls_context::ValidationContextType::CombinedValidationContext(
        tls::common_tls_context::CombinedCertificateValidationContext {
            default_validation_context: Some(tls::CertificateValidationContext {
                match_typed_subject_alt_names: matchers,
                ..Default::default()
            }),
            validation_context_sds_secret_config: Some(roots),
            ..Default::default()
        },
    )
}

/// Field that names a Secret.
const CREDENTIAL: &str = "spec.trafficPolicy.tls.credentialName";

/// Whose settings of TLS they are.
struct Whose<'a> {
    object: &'a str,
    /// Field that names a Secret.
    field: &'a str,
    /// Names that certificates may have where the settings say none.
    names: &'a [String],
}

/// TLS that a DestinationRule describes (SIMPLE and MUTUAL), or the mesh's configuration.
fn originated(ctx: &Context<'_>, whose: &Whose<'_>, settings: &ClientTlsSettings, http2: bool) -> Transport {
    let mut common = tls::CommonTlsContext::default();
    if http2 {
        common.alpn_protocols = vec!["h2".to_owned()];
    }
    let skip = settings.insecure_skip_verify == Some(true);
    let names = if settings.subject_alt_names.is_empty() {
        whose.names.to_vec()
    } else {
        settings.subject_alt_names.clone()
    };
    let roots = if settings.credential_name.is_empty() {
        if settings.mode == ClientTlsMode::Mutual {
            common.tls_certificate_sds_secret_configs = vec![agent_secret(&format!(
                "file-cert:{}~{}",
                settings.client_certificate, settings.private_key
            ))];
        }
        match settings.ca_certificates.as_str() {
            "" | "system" => agent_secret("file-root:system"),
            path => agent_secret(&format!("file-root:{path}")),
        }
    } else if ctx.proxy.is_gateway() {
        let want = |name: &str| ads_secret(&ctx.want_secret(name, whose.object, whose.field));
        if settings.mode == ClientTlsMode::Mutual {
            common.tls_certificate_sds_secret_configs = vec![want(&settings.credential_name)];
        }
        want(&format!("{}-cacert", settings.credential_name))
    } else {
        ctx.warn(
            whose.object,
            whose.field,
            "a sidecar cannot read Secrets, so connections to this host go without TLS; name files in caCertificates, \
             clientCertificate and privateKey, or originate TLS at a gateway",
        );
        return Transport {
            keep_alpn: true,
            ..Transport::plain()
        };
    };
    if !skip {
        common.validation_context_type = Some(validation(&names, tls::subject_alt_name_matcher::SanType::Dns, roots));
    }
    Transport {
        auto_sni: settings.sni.is_empty(),
        auto_san_validation: settings.sni.is_empty() && names.is_empty() && !skip,
        keep_alpn: true,
        socket: Some(tls_socket(pack(&tls::UpstreamTlsContext {
            common_tls_context: Some(common),
            sni: settings.sni.clone(),
            ..Default::default()
        }))),
        ..Transport::plain()
    }
}
