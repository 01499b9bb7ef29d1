//! Whether an object is as the compile step wants it: the same checks, before it is stored.

use mesh_api::istio::parse;
use serde_json::Value;

use super::Verdict;
use crate::compile;

/// More than this many lines nobody reads at a terminal.
const MAX_WARNINGS: usize = 10;

/// Looks at `request` of an `AdmissionReview`. What we do not know is allowed: it is somebody else's.
pub(super) fn review(request: &Value) -> Verdict {
    let object = &request["object"];
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    // A deletion has none.
    if !object.is_object() || mesh_api::istio::Kind::resolve(text("apiVersion"), text("kind")).is_err() {
        return Verdict::default();
    }
    match parse(text("apiVersion"), text("kind"), object.clone()) {
        Ok(object) => {
            let doubts = object
                .warnings()
                .into_iter()
                .map(|w| format!("{}: {}", w.path, w.message));
            let unsupported = compile::unsupported(&object).into_iter();
            let unsupported = unsupported.map(|w| format!("{}: {}", w.field, w.message));
            let mut warnings: Vec<String> = doubts.chain(unsupported).collect();
            if warnings.len() > MAX_WARNINGS {
                let more = warnings.len() - MAX_WARNINGS;
                warnings.truncate(MAX_WARNINGS);
                warnings.push(format!("and {more} more; see the object's status"));
            }
            Verdict {
                refused: None,
                warnings,
            }
        }
        Err(errors) => {
            let lines: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.path, e.message)).collect();
            Verdict {
                refused: Some(lines.join("; ")),
                warnings: Vec::new(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_kinds_and_deletions_are_allowed_and_doubts_are_told() {
        let other = json!({"object": {"apiVersion": "example.com/v1", "kind": "Thing", "spec": 1}});
        assert_eq!(review(&other), Verdict::default());
        assert_eq!(
            review(&json!({"operation": "DELETE", "object": null})),
            Verdict::default()
        );
        let entry = json!({"object": {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup",
            "metadata": {"name": "vms", "namespace": "shop"},
            "spec": {"template": {"ports": {"http": 80}}, "probe": {"httpGet": {"port": 80}}}}});
        let verdict = review(&entry);
        assert_eq!(verdict.refused, None);
        assert!(
            verdict.warnings.iter().any(|w| w.starts_with("spec.probe")),
            "{verdict:?}"
        );
    }
}
