//! Tables of bad specs: what is refused, where, and in which words.

mod destination_rule;
mod gateway;
mod security;
mod service_entry;
mod sidecar;
mod virtual_service;

use crate::istio::{AnyObject, FieldError, parse};

/// Reads one document, as a source does.
fn read(yaml: &str) -> Result<AnyObject, Vec<FieldError>> {
    let value: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    parse(&text("apiVersion"), &text("kind"), value)
}

fn document(api_version: &str, kind: &str, spec: &str) -> String {
    format!("{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: x}}, spec: {spec}}}")
}

/// Each spec must be refused with exactly one error, at the path, that has the words.
fn refused(api_version: &str, kind: &str, table: &[(&str, &str, &str)]) {
    for (spec, path, words) in table {
        let errors = read(&document(api_version, kind, spec)).expect_err(spec);
        let [error] = errors.as_slice() else {
            panic!("{spec}: {errors:#?}")
        };
        assert_eq!(error.path, *path, "{spec}: {error}");
        assert!(error.message.contains(words), "{spec}: {error}");
    }
}

/// Each spec must be accepted with exactly one warning.
fn warned(api_version: &str, kind: &str, table: &[(&str, &str, &str)]) {
    for (spec, path, words) in table {
        let object = read(&document(api_version, kind, spec)).expect(spec);
        let warnings = object.warnings();
        let [warning] = warnings.as_slice() else {
            panic!("{spec}: {warnings:#?}")
        };
        assert_eq!(warning.path, *path, "{spec}: {warning}");
        assert!(warning.message.contains(words), "{spec}: {warning}");
    }
}

fn accepted(api_version: &str, kind: &str, table: &[&str]) {
    for spec in table {
        let object = read(&document(api_version, kind, spec)).expect(spec);
        assert_eq!(object.warnings(), [], "{spec}");
    }
}

const NETWORKING: &str = "networking.istio.io/v1";
const SECURITY: &str = "security.istio.io/v1";
