//! `/certs`: the certificates in use.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mesh_api::names;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::State;
use super::json::pretty;
use super::server::{JSON, Reply};
use crate::snapshot::{Secret, Snapshot};

pub(super) fn page(state: &State) -> Reply {
    let snapshot = state.shared.snapshot.load_full();
    Reply::ok(JSON, pretty(&json!({ "certificates": certificates(&snapshot) })))
}

/// One entry for each certificate with a key; the mesh's roots stand beside the mesh's own certificate, other bundles
/// for themselves.
fn certificates(snapshot: &Snapshot) -> Vec<Value> {
    let mut names: Vec<&Arc<str>> = snapshot.secrets.keys().collect();
    names.sort();
    let roots = |name: &str| match snapshot.secrets.get(name) {
        Some(Secret::Trust(trust)) => details(&trust.roots),
        _ => Vec::new(),
    };
    let paired = matches!(snapshot.secrets.get(names::SDS_DEFAULT), Some(Secret::Identity(_)));
    let mut all = Vec::new();
    for name in names {
        match &snapshot.secrets[name] {
            Secret::Identity(identity) => {
                let ca = if **name == *names::SDS_DEFAULT {
                    roots(names::SDS_ROOT_CA)
                } else {
                    Vec::new()
                };
                all.push(json!({"ca_cert": ca, "cert_chain": details(&identity.chain)}));
            }
            Secret::Trust(_) if paired && **name == *names::SDS_ROOT_CA => {}
            Secret::Trust(trust) => all.push(json!({"ca_cert": details(&trust.roots), "cert_chain": []})),
        }
    }
    all
}

fn details(chain: &[CertificateDer<'_>]) -> Vec<Value> {
    chain.iter().filter_map(|der| detail(der)).collect()
}

fn detail(der: &[u8]) -> Option<Value> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    let time = |at: i64| {
        jiff::Timestamp::from_second(at)
            .map(|t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
            .unwrap_or_default()
    };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<Value> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(json!({"uri": uri})),
            GeneralName::DNSName(dns) => Some(json!({"dns": dns})),
            GeneralName::IPAddress(bytes) => Some(json!({"ip_address": ip(bytes)?})),
            _ => None,
        })
        .collect();
    let until = validity.not_after.timestamp();
    Some(json!({
        "path": "<inline>",
        "serial_number": certificate.raw_serial().iter().map(|b| format!("{b:02x}")).collect::<String>(),
        "subject_alt_names": names,
        "days_until_expiration": ((until - now()).max(0) / 86_400).to_string(),
        "valid_from": time(validity.not_before.timestamp()),
        "expiration_time": time(until),
    }))
}

fn ip(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(std::net::IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).ok().map(std::net::IpAddr::from);
    v4.or(v6).map(|ip| ip.to_string())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Seconds until the mesh's own certificate and its first root expire, for the agent's metrics.
pub(super) fn expiry_seconds(state: &State) -> Vec<(&'static str, i64)> {
    let snapshot = state.shared.snapshot.load_full();
    [names::SDS_DEFAULT, names::SDS_ROOT_CA]
        .into_iter()
        .filter_map(|name| {
            let der = match snapshot.secrets.get(name)? {
                Secret::Identity(identity) => identity.chain.first()?,
                Secret::Trust(trust) => trust.roots.first()?,
            };
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            Some((name, certificate.validity().not_after.timestamp() - now()))
        })
        .collect()
}
