//! Rules of Gateway, and of server TLS.

use super::common;
use crate::istio::{
    Gateway, Server, ServerTlsMode, ServerTlsSettings, TlsProtocol,
    error::{At, Findings},
    syntax,
};

pub(super) fn check(spec: &Gateway, at: &At<'_>, f: &mut Findings) {
    let servers = at.field("servers");
    if spec.servers.is_empty() {
        f.error(&servers, "is missing; write at least one server");
    }
    if spec.selector.is_empty() {
        f.warning(
            &at.field("selector"),
            "is empty: the ports are opened on every gateway of the mesh",
        );
    }
    common::labels(&at.field("selector"), &spec.selector, f);
    for (i, entry) in spec.servers.iter().enumerate() {
        let at = servers.index(i);
        server(&at, entry, f);
        let name = &entry.port.name;
        if !name.is_empty() && spec.servers[..i].iter().any(|other| other.port.name == *name) {
            f.error(
                &at.field("port").field("name"),
                format!("another server has the port name {name:?}; give each its own"),
            );
        }
    }
}

fn server(at: &At<'_>, server: &Server, f: &mut Findings) {
    let port = at.field("port");
    let unix = server.bind.starts_with("unix://");
    if !server.bind.is_empty() && !unix && !syntax::is_ip(&server.bind) {
        f.error(
            &at.field("bind"),
            format!("{:?} is no address; write for example 0.0.0.0", server.bind),
        );
    }
    if !unix {
        common::port(&port.field("number"), server.port.number, f);
    }
    if server.port.name.is_empty() {
        f.error(
            &port.field("name"),
            "is missing; give the port a name, unique in the object",
        );
    }
    protocol(&port.field("protocol"), &server.port.protocol, f);
    if server.port.target_port != 0 {
        f.warning(
            &port.field("targetPort"),
            "is deprecated and has no effect; map ports in the gateway's Service",
        );
    }
    if server.hosts.is_empty() {
        f.error(&at.field("hosts"), "is missing; write at least one host, or * for all");
    }
    for (i, host) in server.hosts.iter().enumerate() {
        namespaced_host(&at.field("hosts").index(i), host, f);
    }
    let name = server.port.protocol.to_ascii_uppercase();
    let needs_tls = name == "HTTPS" || name == "TLS";
    match &server.tls {
        None if needs_tls => {
            f.error(
                &at.field("tls"),
                format!("is missing; {name} needs tls with a mode and, unless that is PASSTHROUGH, a certificate"),
            );
        }
        None => {}
        Some(tls) if needs_tls => server_tls(&at.field("tls"), tls, f),
        Some(tls) if matches!(name.as_str(), "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB") => {
            let only_redirect = ServerTlsSettings {
                https_redirect: tls.https_redirect,
                ..Default::default()
            };
            if *tls != only_redirect {
                f.error(
                    &at.field("tls"),
                    format!(
                        "{name} is plaintext and takes no TLS settings besides httpsRedirect; write protocol HTTPS"
                    ),
                );
            }
        }
        Some(tls) => server_tls(&at.field("tls"), tls, f),
    }
    if !server.default_endpoint.is_empty() {
        f.warning(
            &at.field("defaultEndpoint"),
            "has no effect, as in Istio; route with a VirtualService",
        );
    }
}

pub(super) fn protocol(at: &At<'_>, name: &str, f: &mut Findings) {
    if name.is_empty() {
        f.error(at, "is missing; write HTTP, HTTPS, HTTP2, GRPC, TCP or TLS");
    } else if !syntax::is_protocol(name) {
        f.error(
            at,
            format!("{name:?} is no protocol; write one of {}", syntax::PROTOCOLS.join(", ")),
        );
    }
}

/// `host` or `namespace/host`.
fn namespaced_host(at: &At<'_>, text: &str, f: &mut Findings) {
    let (namespace, host) = text.split_once('/').map_or((None, text), |(n, h)| (Some(n), h));
    if let Some(namespace) = namespace
        && namespace != "*"
        && namespace != "."
        && !syntax::is_dns1123(namespace, false)
    {
        f.error(
            at,
            format!("{namespace:?} is no namespace; write *, . or a name before the /"),
        );
    }
    if !syntax::is_ip(host) {
        common::wildcard_host(at, host, f);
    }
}

/// Settings of a server that terminates or passes on TLS.
pub(super) fn server_tls(at: &At<'_>, tls: &ServerTlsSettings, f: &mut Findings) {
    certificates(at, tls, f);
    let (min, max) = (tls.min_protocol_version, tls.max_protocol_version);
    if max != TlsProtocol::Auto && min > max {
        f.error(
            &at.field("maxProtocolVersion"),
            format!("{max} is older than minProtocolVersion {min}"),
        );
    }
    for (i, pin) in tls.verify_certificate_hash.iter().enumerate() {
        let digits = pin.bytes().filter(|b| *b != b':').count();
        if digits != 64 || !pin.bytes().all(|b| b.is_ascii_hexdigit() || b == b':') {
            f.error(
                &at.field("verifyCertificateHash").index(i),
                "is no SHA-256; write 64 hexadecimal digits, with or without colons",
            );
        }
    }
    for (i, pin) in tls.verify_certificate_spki.iter().enumerate() {
        // 32 bytes in base64: 43 characters and one '='.
        if pin.len() != 44 || !pin.ends_with('=') {
            f.error(
                &at.field("verifyCertificateSpki").index(i),
                "is no SHA-256 in base64; it has 44 characters and ends with =",
            );
        }
    }
    let mutual = matches!(tls.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    if tls.insecure_skip_verify == Some(true) && !mutual {
        f.error(
            &at.field("insecureSkipVerify"),
            "is only for MUTUAL and OPTIONAL_MUTUAL, where clients show certificates",
        );
    }
}

fn certificates(at: &At<'_>, tls: &ServerTlsSettings, f: &mut Findings) {
    let sources = [
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("serverCertificate", !tls.server_certificate.is_empty()),
    ];
    let set: Vec<&str> = sources.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    if set.len() > 1 {
        f.error(at, format!("only one of {} can be set", set.join(", ")));
    }
    for (name, count) in [
        ("credentialNames", tls.credential_names.len()),
        ("tlsCertificates", tls.tls_certificates.len()),
    ] {
        if count > 2 {
            f.error(&at.field(name), "at most two are allowed, one RSA and one ECDSA");
        }
    }
    match tls.mode {
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            if let Some(name) = set.first() {
                f.warning(
                    &at.field(name),
                    format!("has no effect with {}, where TLS is not terminated here", tls.mode),
                );
            }
        }
        ServerTlsMode::IstioMutual => {
            if let Some(name) = set.first() {
                f.error(
                    &at.field(name),
                    "cannot be set with ISTIO_MUTUAL, which uses the mesh's own certificates",
                );
            }
        }
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
            if set.is_empty() {
                f.error(
                    &at.field("credentialName"),
                    format!(
                        "is missing; {} needs a certificate: credentialName, or serverCertificate and privateKey",
                        tls.mode
                    ),
                );
            }
            if !tls.server_certificate.is_empty() && tls.private_key.is_empty() {
                f.error(&at.field("privateKey"), "is missing; serverCertificate needs it");
            }
            let roots =
                !tls.ca_certificates.is_empty() || tls.tls_certificates.iter().any(|c| !c.ca_certificates.is_empty());
            let secret = !tls.credential_name.is_empty()
                || !tls.credential_names.is_empty()
                || !tls.ca_cert_credential_name.is_empty();
            let unchecked = tls.insecure_skip_verify == Some(true);
            if tls.mode == ServerTlsMode::Mutual && !roots && !secret && !unchecked && !set.is_empty() {
                f.error(
                    &at.field("caCertificates"),
                    "is missing; MUTUAL needs the roots that client certificates are checked with",
                );
            }
        }
    }
    for (i, files) in tls.tls_certificates.iter().enumerate() {
        let at = at.field("tlsCertificates");
        let at = at.index(i);
        for (name, file) in [
            ("serverCertificate", &files.server_certificate),
            ("privateKey", &files.private_key),
        ] {
            if file.is_empty() {
                f.error(&at.field(name), "is missing; write the path of the file");
            }
        }
    }
}
