//! TLS that a gateway's server ends.

use mesh_api::istio::{ServerTlsMode, ServerTlsSettings};
use mesh_api::names;

use super::super::context::Context;
use super::super::pb::{ads_secret, agent_secret, core, exact, off, on, pack, tls, tls_socket};
use super::merge::ServerRef;
use super::parameters;

/// End of the names of secrets that hold the roots for client certificates.
pub(super) const CA_SUFFIX: &str = "-cacert";

fn want(ctx: &Context<'_>, server: &ServerRef<'_>, name: &str) -> String {
    let field = format!("spec.servers[{}].tls.credentialName", server.index);
    ctx.want_secret(name, &format!("Gateway {}", server.gateway_name()), &field)
}

/// The transport socket of a server; `None` when it has no certificate at all, which is reported.
pub(super) fn socket(ctx: &Context<'_>, server: &ServerRef<'_>, http: bool) -> Option<core::TransportSocket> {
    let settings = server.server.tls.as_ref()?;
    let certificates = certificates(ctx, server, settings);
    if certificates.is_empty() {
        server.warn(
            ctx,
            ".tls",
            "TLS needs a certificate; set credentialName, or serverCertificate and privateKey. The server is left out",
        );
        return None;
    }
    let wants_client = matches!(
        settings.mode,
        ServerTlsMode::Mutual | ServerTlsMode::IstioMutual | ServerTlsMode::OptionalMutual
    );
    let require = matches!(settings.mode, ServerTlsMode::Mutual | ServerTlsMode::IstioMutual);
    let validation = if wants_client {
        validation(ctx, server, settings)
    } else {
        None
    };
    if require && validation.is_none() {
        // Without roots Envoy would take any certificate.
        server.warn(
            ctx,
            ".tls",
            "mutual TLS needs roots for client certificates; set credentialName or caCertificates. The server is left out",
        );
        return None;
    }
    let mut alpn = vec!["h2".to_owned(), "http/1.1".to_owned()];
    if !http {
        alpn.clear();
        if settings.mode == ServerTlsMode::IstioMutual {
            if ctx.proxy.istio_peer_exchange {
                alpn.push("istio-peer-exchange".to_owned());
            }
            alpn.push("istio".to_owned());
        }
    }
    let common = tls::CommonTlsContext {
        tls_params: Some(parameters::parameters(settings)),
        alpn_protocols: alpn,
        tls_certificate_sds_secret_configs: certificates,
        validation_context_type: validation,
        ..Default::default()
    };
    Some(tls_socket(pack(&tls::DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: if require { on() } else { off() },
        ..Default::default()
    })))
}

/// Where certificates come from: the mesh itself, Secrets by ADS, or files that the proxy's agent reads.
fn certificates(ctx: &Context<'_>, server: &ServerRef<'_>, settings: &ServerTlsSettings) -> Vec<tls::SdsSecretConfig> {
    if settings.mode == ServerTlsMode::IstioMutual {
        return vec![agent_secret(names::SDS_DEFAULT)];
    }
    let by_secret: Vec<_> = credential_names(settings)
        .map(|name| ads_secret(&want(ctx, server, name)))
        .collect();
    if !by_secret.is_empty() {
        return by_secret;
    }
    let single = (settings.server_certificate.as_str(), settings.private_key.as_str());
    let several = settings
        .tls_certificates
        .iter()
        .map(|c| (c.server_certificate.as_str(), c.private_key.as_str()));
    std::iter::once(single)
        .chain(several)
        .filter(|(certificate, key)| !certificate.is_empty() && !key.is_empty())
        .map(|(certificate, key)| agent_secret(&format!("file-cert:{certificate}~{key}")))
        .collect()
}

/// Secrets that hold certificates.
fn credential_names(settings: &ServerTlsSettings) -> impl Iterator<Item = &str> {
    let single = Some(settings.credential_name.as_str()).filter(|n| !n.is_empty());
    single
        .into_iter()
        .chain(settings.credential_names.iter().map(String::as_str))
}

/// Name of the secret with the roots for client certificates.
fn ca_credential(settings: &ServerTlsSettings) -> Option<String> {
    if !settings.ca_cert_credential_name.is_empty() {
        return Some(format!("{}{CA_SUFFIX}", settings.ca_cert_credential_name));
    }
    credential_names(settings)
        .next()
        .map(|name| format!("{name}{CA_SUFFIX}"))
}

fn validation(
    ctx: &Context<'_>,
    server: &ServerRef<'_>,
    settings: &ServerTlsSettings,
) -> Option<tls::common_tls_context::ValidationContextType> {
    let roots = if settings.mode == ServerTlsMode::IstioMutual {
        agent_secret(names::SDS_ROOT_CA)
    } else if let Some(name) = ca_credential(settings) {
        ads_secret(&want(ctx, server, &name))
    } else if settings.ca_certificates.is_empty() {
        return None;
    } else {
        agent_secret(&format!("file-root:{}", settings.ca_certificates))
    };
    use tls::subject_alt_name_matcher::SanType;
    let matchers = settings
        .subject_alt_names
        .iter()
        .map(|name| tls::SubjectAltNameMatcher {
            // Nothing says of what kind a name is but its form.
            san_type: if name.contains("://") {
                SanType::Uri
            } else {
                SanType::Dns
            }
            .into(),
            matcher: Some(exact(name)),
            ..Default::default()
        })
        .collect();
    Some(super::super::cluster::tls::combined(matchers, roots))
}
