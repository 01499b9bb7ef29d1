//! The crypto provider: the one place that says whose cryptography is used, and in what order of preference.

use std::sync::{Arc, LazyLock};

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};

/// TLS 1.3 suites. AES-GCM first: every machine of the last ten years has instructions for it, and 128 bits cost less
/// than 256.
const TLS13: [SupportedCipherSuite; 3] = [
    suite::TLS13_AES_128_GCM_SHA256,
    suite::TLS13_AES_256_GCM_SHA384,
    suite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// TLS 1.2 suites by OpenSSL's names, as Envoy and Istio write them.
const TLS12: [(&str, SupportedCipherSuite); 6] = [
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Names that Envoy takes and that are never offered here: no forward secrecy, or CBC.
const LEFT_OUT: [&str; 11] = [
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
];

/// Key exchanges by BoringSSL's names.
const CURVES: [(&str, &'static dyn SupportedKxGroup); 7] = [
    ("X25519MLKEM768", kx_group::X25519MLKEM768),
    ("X25519", kx_group::X25519),
    ("x25519", kx_group::X25519),
    ("P-256", kx_group::SECP256R1),
    ("prime256v1", kx_group::SECP256R1),
    ("P-384", kx_group::SECP384R1),
    ("secp384r1", kx_group::SECP384R1),
];

/// Key exchanges that Envoy has and that are never offered here.
const CURVES_LEFT_OUT: [&str; 3] = ["P-224", "P-521", "secp521r1"];

static DEFAULT: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(with_suites(TLS12.iter().map(|(_, suite)| *suite))));

/// The provider with all its safe suites.
pub fn provider() -> Arc<CryptoProvider> {
    DEFAULT.clone()
}

/// Makes it the one that libraries find when nobody gives them any (gRPC to the control plane).
pub fn install_provider() {
    // An error says that one is installed already: two tests of one process, or a second start.
    let _ = CryptoProvider::install_default((*provider()).clone());
}

/// The provider with these TLS 1.2 suites and these key exchanges, in this order; all for an empty list. As in Envoy, `[A|B]`
/// groups suites of equal preference, and TLS 1.3 suites are not affected.
///
/// # Errors
/// On a name that is none, when every suite is one that is left out and TLS 1.2 is the newest version (`only_tls12`), and when
/// every key exchange is one that is left out.
pub(super) fn provider_for(
    names: &[String],
    curves: &[String],
    only_tls12: bool,
) -> Result<Arc<CryptoProvider>, String> {
    let mut provider = match suites(names, only_tls12)? {
        None if curves.is_empty() => return Ok(provider()),
        None => (*provider()).clone(),
        Some(suites) => with_suites(suites.into_iter()),
    };
    if !curves.is_empty() {
        provider.kx_groups = key_exchanges(curves)?;
    }
    Ok(Arc::new(provider))
}

/// The suites of these names; `None` for an empty list.
fn suites(names: &[String], only_tls12: bool) -> Result<Option<Vec<SupportedCipherSuite>>, String> {
    if names.is_empty() {
        return Ok(None);
    }
    let mut suites = Vec::new();
    for name in names
        .iter()
        .flat_map(|n| n.split(['[', ']', '|', ':']))
        .map(str::trim)
        .filter(|n| !n.is_empty())
    {
        if let Some((_, suite)) = TLS12.iter().find(|(known, _)| *known == name) {
            if !suites.contains(suite) {
                suites.push(*suite);
            }
        } else if !LEFT_OUT.contains(&name) {
            let known: Vec<&str> = TLS12.iter().map(|(known, _)| *known).collect();
            return Err(format!(
                "cipher_suites: {name:?} is no cipher suite of TLS 1.2; use some of {}",
                known.join(", ")
            ));
        }
    }
    if suites.is_empty() && only_tls12 {
        return Err(format!(
            "cipher_suites: none of {} has forward secrecy and TLS 1.3 is not allowed, so that no suite is left; \
             add ECDHE-ECDSA-AES128-GCM-SHA256 or ECDHE-RSA-AES128-GCM-SHA256",
            names.join(", ")
        ));
    }
    Ok(Some(suites))
}

fn key_exchanges(names: &[String]) -> Result<Vec<&'static dyn SupportedKxGroup>, String> {
    let known = || CURVES.map(|(name, _)| name).join(", ");
    let mut groups: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    for name in names {
        if let Some((_, group)) = CURVES.iter().find(|(known, _)| known == name) {
            if groups.iter().all(|g| g.name() != group.name()) {
                groups.push(*group);
            }
        } else if !CURVES_LEFT_OUT.contains(&name.as_str()) {
            return Err(format!(
                "ecdh_curves: {name:?} is no key exchange; use some of {}",
                known()
            ));
        }
    }
    if groups.is_empty() {
        return Err(format!(
            "ecdh_curves: none of {} is implemented; add some of {}",
            names.join(", "),
            known()
        ));
    }
    Ok(groups)
}

fn with_suites(tls12: impl Iterator<Item = SupportedCipherSuite>) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: TLS13.into_iter().chain(tls12).collect(),
        ..aws_lc_rs::default_provider()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_follow_the_configured_order() {
        let names = [
            "[ECDHE-RSA-AES256-GCM-SHA384|ECDHE-ECDSA-CHACHA20-POLY1305]",
            "AES256-GCM-SHA384",
        ];
        let provider = provider_for(&names.map(str::to_owned), &[], true).expect("known names");
        assert_eq!(
            provider.cipher_suites[3..],
            [
                suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
                suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            ]
        );
    }

    #[test]
    fn names_that_are_none_and_lists_without_a_safe_suite_are_refused() {
        let error = provider_for(&["ECDHE-RSA-ROT13".to_owned()], &[], false).expect_err("no such suite");
        assert!(error.contains("ECDHE-RSA-ROT13"), "{error}");
        let unsafe_only = ["AES256-GCM-SHA384".to_owned()];
        assert!(provider_for(&unsafe_only, &[], true).is_err());
        assert!(
            provider_for(&unsafe_only, &[], false).is_ok(),
            "TLS 1.3 has its own suites"
        );
    }
    #[test]
    fn key_exchanges_follow_the_configured_order() {
        let offered = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            let provider = provider_for(&[], &names, false)?;
            Ok::<_, String>(provider.kx_groups.iter().map(|g| g.name()).collect::<Vec<_>>())
        };
        use rustls::NamedGroup::{X25519, secp256r1, secp384r1};
        assert_eq!(
            offered(&["P-384", "P-521", "prime256v1", "P-256", "X25519"]),
            Ok(vec![secp384r1, secp256r1, X25519])
        );
        let error = offered(&["P-256", "curve-of-mine"]).expect_err("no such curve");
        assert!(error.contains("curve-of-mine"), "{error}");
        assert!(offered(&["P-521"]).is_err(), "none is left");
        assert_eq!(offered(&[]).map(|all| all.len()), Ok(provider().kx_groups.len()));
    }
}
