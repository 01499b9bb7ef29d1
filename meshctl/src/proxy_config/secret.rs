//! Certificates and roots of trust.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;

use super::{Common, text};
use crate::dump::Dump;
use crate::envoy_json::bare;
use crate::output::Form;

/// Of which proxy.
#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    pub(super) common: Common,
}

/// The table, or the section of the dump.
pub(super) fn run(dump: &Dump, form: Form) -> Result<String> {
    let Some(form) = form.structured() else {
        return Ok(table(dump, Timestamp::now()));
    };
    let section = dump.sections("SecretsConfigDump").next();
    form.write(&section.map_or(Value::Null, |s| bare("envoy.admin.v3.SecretsConfigDump", s)))
}

/// RESOURCE NAME, TYPE, STATUS, VALID CERT, SERIAL NUMBER, NOT AFTER, NOT BEFORE.
pub(super) fn table(dump: &Dump, now: Timestamp) -> String {
    let mut rows = Vec::new();
    for (list, element) in dump.elements("SecretsConfigDump") {
        let status = if list.contains("warming") { "WARMING" } else { "ACTIVE" };
        let secret = &element["secret"];
        let name = text(if element["name"].is_string() {
            &element["name"]
        } else {
            &secret["name"]
        });
        let (kind, source) = if secret["tls_certificate"].is_object() {
            ("Cert Chain", &secret["tls_certificate"]["certificate_chain"])
        } else if secret["validation_context"].is_object() {
            ("CA", &secret["validation_context"]["trusted_ca"])
        } else {
            ("UNKNOWN", &Value::Null)
        };
        let mut certificates = certificates(source, now);
        if kind == "Cert Chain" {
            // The rest of the chain is somebody else's.
            certificates.truncate(1);
        }
        if certificates.is_empty() {
            certificates.push(["false", "", "", ""].map(str::to_owned));
        }
        for cells in certificates {
            let first = [name, kind, status].map(str::to_owned);
            rows.push(first.into_iter().chain(cells).collect());
        }
    }
    rows.sort_by(|a: &Vec<String>, b| a[0].cmp(&b[0]));
    crate::table::render(
        &[
            "RESOURCE NAME",
            "TYPE",
            "STATUS",
            "VALID CERT",
            "SERIAL NUMBER",
            "NOT AFTER",
            "NOT BEFORE",
        ],
        &rows,
    )
}

/// Of each certificate: whether it is valid now, its number, end and begin.
fn certificates(source: &Value, now: Timestamp) -> Vec<[String; 4]> {
    let bytes = match (source["inline_bytes"].as_str(), source["inline_string"].as_str()) {
        (Some(coded), _) => STANDARD.decode(coded).unwrap_or_default(),
        (None, Some(text)) => text.as_bytes().to_vec(),
        (None, None) => Vec::new(),
    };
    let mut out = Vec::new();
    for pem in Pem::iter_from_buffer(&bytes).flatten() {
        if let Ok(certificate) = pem.parse_x509() {
            out.push(cells(&certificate, now));
        }
    }
    out
}

fn cells(certificate: &X509Certificate<'_>, now: Timestamp) -> [String; 4] {
    let validity = certificate.validity();
    let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let valid = (from..=to).contains(&now.as_second());
    let time = |at: i64| {
        let at = Timestamp::from_second(at).unwrap_or_default();
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    let serial = certificate
        .raw_serial()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect::<String>();
    let serial = serial.trim_start_matches('0').to_owned();
    [valid.to_string(), serial, time(to), time(from)]
}
