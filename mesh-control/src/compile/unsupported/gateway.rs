//! Gateways.

use mesh_api::istio::{Gateway, ServerTlsMode};

use super::super::gateway::parameters;
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
    "servers[].tls.ecdhCurves",
];

pub(super) fn report(name: &str, spec: &Gateway) -> Vec<Warning> {
    let mut found = fields(name, spec, |path| of_list(GATEWAY, path));
    let mut warn = |field: String, message: String| {
        found.push(Warning {
            object: name.to_owned(),
            field,
            message,
        });
    };
    for (index, server) in spec.servers.iter().enumerate() {
        let at = format!("spec.servers[{index}]");
        if server.bind.starts_with("unix://") {
            warn(
                format!("{at}.bind"),
                "socket files are not implemented, so the server is left out; write an address and a port".to_owned(),
            );
        }
        // What TLS is passed on with is between client and server.
        let ended = server.tls.iter().filter(|t| {
            !t.https_redirect && !matches!(t.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
        });
        for (field, message) in ended.flat_map(parameters::findings) {
            warn(format!("{at}.tls.{field}"), message);
        }
    }
    found
}
