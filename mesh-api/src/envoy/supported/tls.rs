//! Transport sockets and secrets.

use super::NONE;

pub(super) fn tls(message: &str) -> Option<&'static [&'static str]> {
    Some(match message {
        "envoy.config.core.v3.TransportSocket" => &["name", "typed_config"],
        "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" => NONE,
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport" => {
            &["config", "transport_socket"]
        }
        "envoy.config.core.v3.ProxyProtocolConfig" => &["version"],
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" => {
            &["common_tls_context", "sni", "max_session_keys", "enforce_rsa_key_usage"]
        }
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext" => &[
            "common_tls_context",
            "require_client_certificate",
            // Sessions are never resumed.
            "disable_stateless_session_resumption",
            "disable_stateful_session_resumption",
            "session_timeout",
            "full_scan_certs_on_sni_mismatch",
        ],
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext" => &[
            "tls_params",
            "tls_certificates",
            "tls_certificate_sds_secret_configs",
            "validation_context",
            "validation_context_sds_secret_config",
            "combined_validation_context",
            "alpn_protocols",
        ],
        "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext.CombinedCertificateValidationContext" => {
            &["default_validation_context", "validation_context_sds_secret_config"]
        }
        "envoy.extensions.transport_sockets.tls.v3.TlsParameters" => &[
            "tls_minimum_protocol_version",
            "tls_maximum_protocol_version",
            "cipher_suites",
            "ecdh_curves",
        ],
        "envoy.extensions.transport_sockets.tls.v3.TlsCertificate" => &["certificate_chain", "private_key"],
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext" => &[
            "trusted_ca",
            "system_root_certs",
            "match_typed_subject_alt_names",
            "match_subject_alt_names",
            "crl",
            "trust_chain_verification",
        ],
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.SystemRootCerts" => NONE,
        "envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher" => &["san_type", "matcher"],
        "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig" => &["name", "sds_config"],
        "envoy.extensions.transport_sockets.tls.v3.Secret" => &["name", "tls_certificate", "validation_context"],
        _ => return None,
    })
}
