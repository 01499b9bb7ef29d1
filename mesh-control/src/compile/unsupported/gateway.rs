//! Gateways.

use mesh_api::istio::Gateway;

use super::{Warning, fields, of_list};

const GATEWAY: &[&str] = &[
    "selector",
    "servers[].name",
    "servers[].port.number",
    "servers[].port.protocol",
    "servers[].port.name",
    "servers[].hosts",
    "servers[].bind",
    "servers[].tls.httpsRedirect",
    "servers[].tls.mode",
    "servers[].tls.serverCertificate",
    "servers[].tls.privateKey",
    "servers[].tls.caCertificates",
    "servers[].tls.credentialName",
    "servers[].tls.credentialNames",
    "servers[].tls.tlsCertificates[].serverCertificate",
    "servers[].tls.tlsCertificates[].privateKey",
    "servers[].tls.caCertCredentialName",
    "servers[].tls.subjectAltNames",
    "servers[].tls.minProtocolVersion",
    "servers[].tls.maxProtocolVersion",
    "servers[].tls.cipherSuites",
];

pub(super) fn report(name: &str, spec: &Gateway) -> Vec<Warning> {
    fields(name, spec, |path| of_list(GATEWAY, path))
}
