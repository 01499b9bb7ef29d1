//! Versions, suites and key exchanges of TLS that a gateway's server ends. One that no proxy has would have it refuse the whole
//! listener, with every other host on it, so it is left out and reported.

use mesh_api::istio::{ServerTlsSettings, TlsProtocol};

use super::super::pb::tls;

/// Suites of TLS 1.2 with forward secrecy, the only ones that are offered, and those that Envoy takes beside them.
const SUITES: [&str; 6] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
];
const WEAK_SUITES: [&str; 8] = [
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
];
const CURVES: [&str; 7] = [
    "X25519MLKEM768",
    "X25519",
    "x25519",
    "P-256",
    "prime256v1",
    "P-384",
    "secp384r1",
];

/// `CommonTlsContext.tls_params`, without what [`findings`] names.
pub(super) fn parameters(settings: &ServerTlsSettings) -> tls::TlsParameters {
    use tls::tls_parameters::TlsProtocol as Version;
    let version = |v: TlsProtocol, auto: Version| match v {
        TlsProtocol::Auto => auto,
        TlsProtocol::V1_0 | TlsProtocol::V1_1 | TlsProtocol::V1_2 => Version::TlSv12,
        TlsProtocol::V1_3 => Version::TlSv13,
    };
    let mut suites: Vec<String> = known(&settings.cipher_suites, is_suite);
    if !is_1_3(settings) && !suites.iter().any(|s| SUITES.contains(&s.as_str())) {
        suites.clear();
    }
    tls::TlsParameters {
        tls_minimum_protocol_version: version(settings.min_protocol_version, Version::TlSv12).into(),
        tls_maximum_protocol_version: version(settings.max_protocol_version, Version::TlsAuto).into(),
        cipher_suites: suites,
        ecdh_curves: known(&settings.ecdh_curves, is_curve),
        ..Default::default()
    }
}

/// What of a server's settings is not in force: path below `tls`, and why.
pub(in super::super) fn findings(settings: &ServerTlsSettings) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let versions = [
        ("minProtocolVersion", settings.min_protocol_version),
        ("maxProtocolVersion", settings.max_protocol_version),
    ];
    for (field, version) in versions {
        if matches!(version, TlsProtocol::V1_0 | TlsProtocol::V1_1) {
            let text = format!("{version} is not spoken any more (RFC 8996); TLSV1_2 is in force in its place");
            found.push((field.to_owned(), text));
        }
    }
    for (index, name) in settings.cipher_suites.iter().enumerate().filter(|(_, n)| !is_suite(n)) {
        let text = format!(
            "{name:?} is no cipher suite of TLS 1.2, so it has no effect; write some of {}",
            SUITES.join(", ")
        );
        found.push((format!("cipherSuites[{index}]"), text));
    }
    let weak = |name: &String| !SUITES.contains(&name.as_str());
    if !is_1_3(settings) && !settings.cipher_suites.is_empty() && settings.cipher_suites.iter().all(weak) {
        let text = format!(
            "none has forward secrecy, so the default ones are offered; write some of {}",
            SUITES.join(", ")
        );
        found.push(("cipherSuites".to_owned(), text));
    }
    for (index, name) in settings.ecdh_curves.iter().enumerate().filter(|(_, n)| !is_curve(n)) {
        let text = format!(
            "{name:?} is not implemented, so it has no effect; write some of {}",
            CURVES.join(", ")
        );
        found.push((format!("ecdhCurves[{index}]"), text));
    }
    found
}

/// Whether TLS 1.3, which has suites of its own, is allowed.
fn is_1_3(settings: &ServerTlsSettings) -> bool {
    matches!(settings.max_protocol_version, TlsProtocol::Auto | TlsProtocol::V1_3)
}

fn is_suite(name: &str) -> bool {
    SUITES.contains(&name) || WEAK_SUITES.contains(&name)
}

fn is_curve(name: &str) -> bool {
    CURVES.contains(&name)
}

fn known(names: &[String], is_known: fn(&str) -> bool) -> Vec<String> {
    let known = names.iter().filter(|name| is_known(name));
    known.cloned().collect()
}
