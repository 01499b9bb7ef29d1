//! Transport sockets: plaintext, or TLS with its secrets resolved.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use mesh_api::envoy::Any;
use mesh_api::envoy::pb::envoy::config::core::v3 as core;
use mesh_api::envoy::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use mesh_api::envoy::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use prost::Message as _;

use super::common::{any, any_type, boolean, string_match};
use super::context::Context;
use super::invalid::{At, Invalid, Result, each};
use super::secret::{is_file, tls_certificate, trust_bundle};
use crate::snapshot::{ClientTls, ProxyVersion, Secret, ServerTls, Transport};
use crate::tls::{
    ClientTlsParams, SanKind, SanMatch, ServerTlsParams, TlsCommon, TlsVersion, client_config, identity_uri,
    server_config,
};

/// A PROXY header before another transport.
const PROXIED: &str = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";
const RAW: &str = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
const SERVER: &str = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const CLIENT: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";

/// What a transport socket is, by its configuration or, without one, by its name.
fn kind(socket: &core::TransportSocket) -> (String, Option<&Any>) {
    if let Some(core::transport_socket::ConfigType::TypedConfig(config)) = &socket.config_type {
        return (any_type(config), Some(config));
    }
    match socket.name.as_str() {
        "envoy.transport_sockets.raw_buffer" | "raw_buffer" => (RAW.to_owned(), None),
        other => (other.to_owned(), None),
    }
}

/// The transport of a filter chain; `None` for plaintext.
pub(super) fn server_transport(
    socket: Option<&core::TransportSocket>,
    context: &mut Context<'_>,
) -> Result<Option<Arc<ServerTls>>> {
    let Some(socket) = socket else { return Ok(None) };
    match kind(socket) {
        (kind, _) if kind == RAW => Ok(None),
        (kind, Some(config)) if kind == SERVER => {
            let value: tls::DownstreamTlsContext = any(config).at("typed_config")?;
            server_tls(&value, config, context).at("typed_config").map(Some)
        }
        (kind, _) => Err(Invalid::new(format!("{kind} is not implemented")).under("typed_config")),
    }
}

/// The transport towards endpoints. `verify_server_name` is the cluster's `auto_san_validation`.
pub(super) fn client_transport(
    socket: Option<&core::TransportSocket>,
    verify_server_name: bool,
    context: &mut Context<'_>,
) -> Result<Transport> {
    let Some(socket) = socket else {
        return Ok(Transport::Plain);
    };
    match kind(socket) {
        (kind, _) if kind == RAW => Ok(Transport::Plain),
        (kind, Some(config)) if kind == CLIENT => {
            let value: tls::UpstreamTlsContext = any(config).at("typed_config")?;
            client_tls(&value, config, verify_server_name, context)
                .at("typed_config")
                .map(Transport::Tls)
        }
        (kind, Some(config)) if kind == PROXIED => {
            let value: ProxyProtocolUpstreamTransport = any(config).at("typed_config")?;
            proxied(&value, verify_server_name, context).at("typed_config")
        }
        (kind, _) => Err(Invalid::new(format!("{kind} is not implemented")).under("typed_config")),
    }
}

/// A PROXY header before another transport.
fn proxied(
    value: &ProxyProtocolUpstreamTransport,
    verify_server_name: bool,
    context: &mut Context<'_>,
) -> Result<Transport> {
    let version = match value.config.as_ref().map(core::ProxyProtocolConfig::version) {
        None | Some(core::proxy_protocol_config::Version::V1) => ProxyVersion::V1,
        Some(core::proxy_protocol_config::Version::V2) => ProxyVersion::V2,
    };
    let inner =
        client_transport(value.transport_socket.as_ref(), verify_server_name, context).at("transport_socket")?;
    match inner {
        Transport::Proxied(..) => Err(Invalid::new("one PROXY header is enough").under("transport_socket")),
        inner => Ok(Transport::Proxied(version, inner.tls().cloned())),
    }
}

fn server_tls(value: &tls::DownstreamTlsContext, bytes: &Any, context: &mut Context<'_>) -> Result<Arc<ServerTls>> {
    let common = common(value.common_tls_context.as_ref(), TlsVersion::V1_2, context).at("common_tls_context")?;
    let require_client_certificate = boolean(value.require_client_certificate.as_ref(), false);
    let fingerprint = fingerprint(bytes, common.hash, false);
    if let Some(found) = context.secrets.servers.get(&fingerprint) {
        return Ok(found.clone());
    }
    if common.complete && common.params.identities.is_empty() {
        return Err(Invalid::new("a server needs a certificate").under("common_tls_context.tls_certificates"));
    }
    if require_client_certificate && common.complete && common.params.trust.is_none() {
        return Err(Invalid::new("require_client_certificate needs a trusted_ca")
            .under("common_tls_context.validation_context"));
    }
    let local_uri = common.params.identities.first().and_then(|i| identity_uri(i));
    let config = common
        .complete
        .then(|| {
            server_config(&ServerTlsParams {
                common: common.params,
                require_client_certificate,
            })
        })
        .transpose()
        .map_err(Invalid::new)?;
    let made = Arc::new(ServerTls {
        config,
        secrets: common.names,
        require_client_certificate,
        local_uri,
    });
    context.secrets.servers.insert(fingerprint, made.clone());
    Ok(made)
}

fn client_tls(
    value: &tls::UpstreamTlsContext,
    bytes: &Any,
    verify_server_name: bool,
    context: &mut Context<'_>,
) -> Result<Arc<ClientTls>> {
    let common = common(value.common_tls_context.as_ref(), TlsVersion::V1_2, context).at("common_tls_context")?;
    let verify_server_name = verify_server_name && common.params.sans.is_empty();
    let fingerprint = fingerprint(bytes, common.hash, verify_server_name);
    if let Some(found) = context.secrets.clients.get(&fingerprint) {
        return Ok(found.clone());
    }
    let alpn = common.params.alpn.clone();
    let config = if common.complete {
        Some(shared_client_config(
            value,
            common.params,
            common.hash,
            verify_server_name,
            context,
        )?)
    } else {
        None
    };
    let made = Arc::new(ClientTls {
        config,
        secrets: common.names,
        sni: value.sni.as_str().into(),
        alpn,
        fingerprint,
    });
    context.secrets.clients.insert(fingerprint, made.clone());
    Ok(made)
}

/// The configuration of rustls, which clusters share that differ in nothing but the server name and the ALPN: those are said
/// for each connection. Every service of a mesh has a server name of its own.
fn shared_client_config(
    value: &tls::UpstreamTlsContext,
    params: TlsCommon,
    secrets: u64,
    verify_server_name: bool,
    context: &mut Context<'_>,
) -> Result<Arc<rustls::ClientConfig>> {
    let mut common = value.common_tls_context.clone().unwrap_or_default();
    common.alpn_protocols.clear();
    let key = (common.encode_to_vec(), secrets, verify_server_name);
    if let Some(found) = context.secrets.client_configs.get(&key) {
        return Ok(found.clone());
    }
    let made = client_config(&ClientTlsParams {
        common: params,
        verify_server_name,
    })
    .map_err(Invalid::new)?;
    context.secrets.client_configs.insert(key, made.clone());
    Ok(made)
}

fn fingerprint(bytes: &Any, secrets: u64, flag: bool) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.value.hash(&mut hasher);
    secrets.hash(&mut hasher);
    flag.hash(&mut hasher);
    hasher.finish()
}

struct Common {
    params: TlsCommon,
    names: Vec<Arc<str>>,
    /// No secret is missing.
    complete: bool,
    /// Of the secrets.
    hash: u64,
}

fn common(value: Option<&tls::CommonTlsContext>, oldest: TlsVersion, context: &mut Context<'_>) -> Result<Common> {
    let default = tls::CommonTlsContext::default();
    let value = value.unwrap_or(&default);
    let limits = value.tls_params.clone().unwrap_or_default();
    let mut out = Common {
        params: TlsCommon {
            identities: each(&value.tls_certificates, "tls_certificates", |c| {
                tls_certificate(c).map(Arc::new)
            })?,
            trust: None,
            sans: Vec::new(),
            min_version: version(limits.tls_minimum_protocol_version, oldest)
                .at("tls_params.tls_minimum_protocol_version")?,
            max_version: version(limits.tls_maximum_protocol_version, TlsVersion::V1_3)
                .at("tls_params.tls_maximum_protocol_version")?,
            cipher_suites: limits.cipher_suites,
            ecdh_curves: limits.ecdh_curves,
            alpn: value.alpn_protocols.iter().map(|p| p.clone().into_bytes()).collect(),
        },
        names: Vec::new(),
        complete: true,
        hash: 0,
    };
    for (i, sds) in value.tls_certificate_sds_secret_configs.iter().enumerate() {
        let field = format!("tls_certificate_sds_secret_configs[{i}]");
        match resolve(sds, &mut out, context).at(&field)? {
            Some(Secret::Identity(identity)) => out.params.identities.push(identity),
            Some(Secret::Trust(_)) => return Err(Invalid::new("holds no certificate with key").under(field)),
            None => {}
        }
    }
    validation(value, &mut out, context)?;
    Ok(out)
}

fn validation(value: &tls::CommonTlsContext, out: &mut Common, context: &mut Context<'_>) -> Result<()> {
    use tls::common_tls_context::ValidationContextType as Kind;
    match &value.validation_context_type {
        None => Ok(()),
        Some(Kind::ValidationContext(inline)) => rules(inline, out).at("validation_context"),
        Some(Kind::ValidationContextSdsSecretConfig(sds)) => {
            trust_from(sds, out, context).at("validation_context_sds_secret_config")
        }
        Some(Kind::CombinedValidationContext(both)) => combined(both, out, context).at("combined_validation_context"),
        #[allow(deprecated)]
        Some(Kind::ValidationContextCertificateProvider(_)) => {
            Err(Invalid::not_implemented("validation_context_certificate_provider"))
        }
        #[allow(deprecated)]
        Some(Kind::ValidationContextCertificateProviderInstance(_)) => Err(Invalid::not_implemented(
            "validation_context_certificate_provider_instance",
        )),
    }
}

fn combined(
    both: &tls::common_tls_context::CombinedCertificateValidationContext,
    out: &mut Common,
    context: &mut Context<'_>,
) -> Result<()> {
    if let Some(inline) = &both.default_validation_context {
        rules(inline, out).at("default_validation_context")?;
    }
    match &both.validation_context_sds_secret_config {
        Some(sds) => trust_from(sds, out, context).at("validation_context_sds_secret_config"),
        None => Ok(()),
    }
}

fn trust_from(sds: &tls::SdsSecretConfig, out: &mut Common, context: &mut Context<'_>) -> Result<()> {
    match resolve(sds, out, context)? {
        Some(Secret::Trust(trust)) => out.params.trust = Some(trust),
        Some(Secret::Identity(_)) => return Err(Invalid::new("holds no trusted_ca")),
        None => {}
    }
    Ok(())
}

/// The part of a validation context that is in the message itself.
fn rules(value: &tls::CertificateValidationContext, out: &mut Common) -> Result<()> {
    if value.trust_chain_verification != 0 {
        return Err(Invalid::not_implemented("trust_chain_verification"));
    }
    if let Some(trust) = trust_bundle(value)? {
        out.params.trust = Some(Arc::new(trust));
    }
    out.params.sans = each(
        &value.match_typed_subject_alt_names,
        "match_typed_subject_alt_names",
        |m| {
            use tls::subject_alt_name_matcher::SanType;
            let kind = match SanType::try_from(m.san_type) {
                Ok(SanType::Dns) => SanKind::Dns,
                Ok(SanType::Uri) => SanKind::Uri,
                Ok(SanType::Email) => SanKind::Email,
                Ok(SanType::IpAddress) => SanKind::Ip,
                _ => return Err(Invalid::not_implemented("san_type")),
            };
            let matcher = m
                .matcher
                .as_ref()
                .ok_or_else(|| Invalid::new("a matcher is required").under("matcher"))?;
            Ok(SanMatch {
                kind,
                value: string_match(matcher).at("matcher")?,
            })
        },
    )?;
    #[allow(deprecated)]
    let untyped = each(&value.match_subject_alt_names, "match_subject_alt_names", |m| {
        Ok(SanMatch {
            kind: SanKind::Any,
            value: string_match(m)?,
        })
    })?;
    out.params.sans.extend(untyped);
    Ok(())
}

/// Looks a secret up and notes the dependency.
fn resolve(sds: &tls::SdsSecretConfig, out: &mut Common, context: &mut Context<'_>) -> Result<Option<Secret>> {
    use core::config_source::ConfigSourceSpecifier as Source;
    if sds.name.is_empty() {
        return Err(Invalid::new("a name is required").under("name"));
    }
    let source = sds.sds_config.as_ref().and_then(|c| c.config_source_specifier.as_ref());
    let over_ads = match source {
        _ if is_file(&sds.name) => false,
        Some(Source::Ads(_)) => true,
        // A static secret of the bootstrap, or what Istio asks the agent for over a socket: here the agent is inside.
        None | Some(Source::ApiConfigSource(_)) => false,
        Some(_) => {
            return Err(Invalid::new("only ads and the agent's own secrets are implemented").under("sds_config"));
        }
    };
    out.names.push(context.needs_secret(&sds.name, over_ads));
    let Some((secret, hash)) = context.secrets.get(&sds.name) else {
        out.complete = false;
        return Ok(None);
    };
    let mut hasher = DefaultHasher::new();
    (out.hash, hash).hash(&mut hasher);
    out.hash = hasher.finish();
    Ok(Some(secret))
}

fn version(value: i32, default: TlsVersion) -> Result<TlsVersion> {
    use tls::tls_parameters::TlsProtocol;
    match TlsProtocol::try_from(value) {
        Ok(TlsProtocol::TlsAuto) => Ok(default),
        Ok(TlsProtocol::TlSv12) => Ok(TlsVersion::V1_2),
        Ok(TlsProtocol::TlSv13) => Ok(TlsVersion::V1_3),
        Ok(TlsProtocol::TlSv10 | TlsProtocol::TlSv11) | Err(_) => {
            Err(Invalid::new("not implemented; TLSv1_2 and TLSv1_3 are"))
        }
    }
}
