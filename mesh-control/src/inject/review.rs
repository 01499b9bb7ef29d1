//! The webhook's question and answer: an AdmissionReview in, an AdmissionReview out, v1 and v1beta1.

use std::collections::BTreeMap;
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::{InjectError, Injector, Outcome, Request, inject, pod};

const VERSIONS: [&str; 2] = ["admission.k8s.io/v1", "admission.k8s.io/v1beta1"];
/// Longest body that is worth reading: twice the largest object of Kubernetes, twice.
pub const MAX_BODY: usize = 6 << 20;

/// Texts of the metrics that [`review`] keeps, under Istio's names.
pub fn describe_metrics() {
    metrics::describe_counter!("sidecar_injection_requests_total", "Requests for injection.");
    metrics::describe_counter!("sidecar_injection_success_total", "Pods that were injected.");
    metrics::describe_counter!("sidecar_injection_failure_total", "Requests that were refused.");
    metrics::describe_counter!("sidecar_injection_skip_total", "Pods that were left alone.");
    metrics::describe_histogram!(
        "sidecar_injection_time_seconds",
        metrics::Unit::Seconds,
        "Time that a request for injection took."
    );
}

/// Answers one request. `path` is that of its URL ([`environment`]); `annotations_of` gives the annotations of a namespace,
/// as far as they are known. Every body gets an answer; one that cannot be read gets a refusal with the reason.
pub fn review(
    injector: &Injector<'_>,
    annotations_of: impl Fn(&str) -> BTreeMap<String, String>,
    path: &str,
    body: &[u8],
) -> Vec<u8> {
    metrics::counter!("sidecar_injection_requests_total").increment(1);
    let start = Instant::now();
    let (version, response) = match Question::read(body) {
        Ok(question) => {
            let response = answer(injector, annotations_of, path, &question);
            (question.version, response)
        }
        Err((version, uid, why)) => {
            tracing::warn!("a request for injection cannot be read: {why}");
            (version, refusal(&uid, &why))
        }
    };
    metrics::histogram!("sidecar_injection_time_seconds").record(start.elapsed().as_secs_f64());
    json!({"apiVersion": version, "kind": "AdmissionReview", "response": response})
        .to_string()
        .into_bytes()
}

struct Question {
    version: &'static str,
    uid: String,
    namespace: String,
    object: Value,
}

impl Question {
    /// The error has the version and the id of the answer, as far as they are known.
    fn read(body: &[u8]) -> Result<Self, (&'static str, String, String)> {
        let [newest, _] = VERSIONS;
        if body.len() > MAX_BODY {
            let why = format!("the request has {} bytes; at most {MAX_BODY} are read", body.len());
            return Err((newest, String::new(), why));
        }
        let mut review: Value = serde_json::from_slice(body)
            .map_err(|e| (newest, String::new(), format!("the request is no JSON: {e}")))?;
        let said = pod::text(&review, "/apiVersion").unwrap_or_default();
        let version = VERSIONS.into_iter().find(|v| *v == said);
        let uid = pod::text(&review, "/request/uid").unwrap_or_default().to_owned();
        let namespace = pod::text(&review, "/request/namespace").unwrap_or_default().to_owned();
        let Some(version) = version.filter(|_| pod::text(&review, "/kind") == Some("AdmissionReview")) else {
            let versions = VERSIONS.join(" and ");
            return Err((newest, uid, format!("the request is no AdmissionReview of {versions}")));
        };
        match review.pointer_mut("/request/object").map(Value::take) {
            Some(object) if object.is_object() => Ok(Question {
                version,
                uid,
                namespace,
                object,
            }),
            _ => Err((version, uid, "the request has no object".to_owned())),
        }
    }
}

fn answer(
    injector: &Injector<'_>,
    annotations_of: impl Fn(&str) -> BTreeMap<String, String>,
    path: &str,
    question: &Question,
) -> Value {
    let original = &question.object;
    let namespace = match pod::text(original, "/metadata/namespace").unwrap_or_default() {
        "" => question.namespace.as_str(),
        own => own,
    };
    let name = ["/metadata/name", "/metadata/generateName"]
        .into_iter()
        .find_map(|field| pod::text(original, field))
        .unwrap_or_default();
    let request = Request {
        namespace: namespace.to_owned(),
        namespace_annotations: annotations_of(namespace),
        environment: environment(path),
        workload: None,
    };
    let mut response = Map::new();
    response.insert("uid".to_owned(), json!(question.uid));
    response.insert("allowed".to_owned(), json!(true));
    let warnings = match inject(injector, &request, original).and_then(|outcome| with_patch(original, outcome)) {
        Ok((Done::Patched(patch), warnings)) => {
            metrics::counter!("sidecar_injection_success_total").increment(1);
            tracing::info!("Pod {namespace}/{name}: injected");
            response.insert("patchType".to_owned(), json!("JSONPatch"));
            response.insert("patch".to_owned(), json!(BASE64_STANDARD.encode(patch)));
            warnings
        }
        Ok((Done::Skipped(why), warnings)) => {
            metrics::counter!("sidecar_injection_skip_total").increment(1);
            tracing::info!("Pod {namespace}/{name}: left alone: {why}");
            warnings
        }
        Err(error) => {
            tracing::warn!("Pod {namespace}/{name}: not injected: {error}");
            return refusal(&question.uid, &format!("no sidecar can be injected: {error}"));
        }
    };
    if !warnings.is_empty() {
        response.insert("warnings".to_owned(), json!(warnings));
    }
    Value::Object(response)
}

enum Done {
    Patched(Vec<u8>),
    Skipped(String),
}

fn with_patch(original: &Value, outcome: Outcome) -> Result<(Done, Vec<String>), InjectError> {
    match outcome {
        Outcome::Skipped { reason, warnings } => Ok((Done::Skipped(reason.to_string()), warnings)),
        Outcome::Injected { pod, warnings } => {
            let patch = serde_json::to_vec(&json_patch::diff(original, &pod))
                .map_err(|e| InjectError::Template(format!("the patch cannot be written: {e}")))?;
            Ok((Done::Patched(patch), warnings))
        }
    }
}

fn refusal(uid: &str, why: &str) -> Value {
    metrics::counter!("sidecar_injection_failure_total").increment(1);
    json!({"uid": uid, "allowed": false, "status": {"message": why, "code": 400}})
}

/// Variables of the webhook's path: `/inject/cluster/C/net/N/KEY/VALUE` sets `ISTIO_META_CLUSTER_ID`,
/// `ISTIO_META_NETWORK` and `KEY`, with `--slash--` for slashes; the older form is `/inject/:ENV:a=b:ENV:c=d`.
#[must_use]
pub fn environment(path: &str) -> BTreeMap<String, String> {
    let path = path.trim_end_matches('/');
    let rest = path.splitn(3, '/').nth(2).unwrap_or_default();
    let pairs: Vec<(&str, String)> = if rest.starts_with(":ENV:") {
        let parts = rest.split(":ENV:").filter_map(|part| part.split_once('='));
        parts.map(|(k, v)| (k, v.to_owned())).collect()
    } else {
        let parts: Vec<&str> = rest.split('/').collect();
        let pairs = parts.chunks_exact(2).filter_map(|pair| match pair {
            [key, value] => Some((*key, value.replace("--slash--", "/"))),
            _ => None,
        });
        pairs.collect()
    };
    pairs
        .into_iter()
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| match key {
            "cluster" => ("ISTIO_META_CLUSTER_ID".to_owned(), value),
            "net" => ("ISTIO_META_NETWORK".to_owned(), value),
            other => (other.to_uppercase(), value),
        })
        .collect()
}
