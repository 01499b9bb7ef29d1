//! What becomes of an object, for the one who wrote it: the condition `Accepted` in its status.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::Cluster;
use super::lease::Leading;
use crate::serve::model::{Model, Snapshot};
use crate::source::kubernetes::{Status, Statuses};
use crate::source::{Diagnostic, Severity};

const TYPE: &str = "Accepted";
/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Statuses that are written after one look: somebody may have applied thousands of objects.
const AT_ONCE: usize = 50;
/// More findings nobody reads in a status.
const FINDINGS: usize = 10;
/// What somebody else has taken away again is not written again for so long.
const AGAIN: Duration = Duration::from_secs(300);

/// What the condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    generation: i64,
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// A status that is to be written.
struct Write {
    object: String,
    resource: ApiResource,
    namespace: String,
    name: String,
    said: Said,
    status: Value,
}

/// Keeps the statuses right, for as long as the program runs.
pub(super) async fn keep(
    cluster: Cluster,
    statuses: Statuses,
    model: Model,
    mut leading: Leading,
    mut stopping: watch::Receiver<bool>,
) -> Result<()> {
    let mut written: HashMap<String, (Said, Instant)> = HashMap::new();
    let mut done: Option<(Arc<Snapshot>, u64)> = None;
    while leading.turn(LOOK, &mut stopping).await {
        let (number, snapshot) = (statuses.number(), model.present());
        if done
            .as_ref()
            .is_some_and(|(s, n)| Arc::ptr_eq(s, &snapshot) && *n == number)
        {
            continue;
        }
        written.retain(|_, (_, at)| at.elapsed() < AGAIN);
        let mut writes = wanted(&snapshot, &statuses);
        writes.retain(|w| written.get(&w.object).is_none_or(|(said, _)| *said != w.said));
        // The rest comes with the next look.
        let all = writes.len() <= AT_ONCE;
        writes.truncate(AT_ONCE);
        for write in writes {
            if !leading.now() {
                break;
            }
            apply(&cluster, &write).await;
            written.insert(write.object, (write.said, Instant::now()));
        }
        done = all.then_some((snapshot, number));
    }
    Ok(())
}

async fn apply(cluster: &Cluster, write: &Write) {
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &write.namespace, &write.resource);
    let patch = json!({"status": write.status});
    match api
        .patch_status(&write.name, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {
            debug!("{} is gone, or its kind keeps no status", write.object);
        }
        Err(error) => warn!(%error, "cannot write the status of {}", write.object),
    }
}

/// Statuses that say something else than they should.
fn wanted(snapshot: &Snapshot, statuses: &Statuses) -> Vec<Write> {
    let mut findings: HashMap<&str, Vec<&Diagnostic>> = HashMap::new();
    for finding in snapshot.findings() {
        findings.entry(&finding.object).or_default().push(finding);
    }
    // Those of reading; what objects say of each other keeps none from being taken.
    let errors = snapshot.loaded.diagnostics.iter();
    let errors: HashSet<&Diagnostic> = errors.filter(|f| f.severity == Severity::Error).collect();
    let broken = |finding: &Diagnostic| errors.contains(finding);
    // Kubernetes writes whole seconds.
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second());
    let now = now.unwrap_or_default().to_string();
    let mut writes = Vec::new();
    statuses.each(snapshot.loaded.changes, |object, resource, status| {
        let found = findings.get(object).map(Vec::as_slice).unwrap_or_default();
        let said = said(found, broken, status.generation);
        if let Some(value) = changed(status, &said, &now) {
            writes.push(Write {
                object: object.to_owned(),
                resource: resource.clone(),
                namespace: status.namespace.clone(),
                name: status.name.clone(),
                said,
                status: value,
            });
        }
    });
    writes
}

/// `broken` tells findings that keep an object from being in force as it is written.
fn said(found: &[&Diagnostic], broken: impl Fn(&Diagnostic) -> bool, generation: i64) -> Said {
    let errors: Vec<&Diagnostic> = found.iter().copied().filter(|f| broken(f)).collect();
    let (status, reason, told) = if !errors.is_empty() {
        ("False", "Invalid", errors.as_slice())
    } else if found.is_empty() {
        ("True", "Accepted", found)
    } else {
        ("True", "AcceptedWithFindings", found)
    };
    let line = |f: &&Diagnostic| match f.field.as_str() {
        "" => f.message.clone(),
        field => format!("{field}: {}", f.message),
    };
    let mut lines: Vec<String> = told.iter().take(FINDINGS).map(line).collect();
    if told.len() > FINDINGS {
        lines.push(format!("and {} more", told.len() - FINDINGS));
    }
    Said {
        generation,
        status,
        reason,
        message: lines.join("; "),
    }
}

/// The status with the condition, unless it has it already. Conditions of others stay.
fn changed(status: &Status, said: &Said, now: &str) -> Option<Value> {
    let own = status.conditions.iter().find(|c| c["type"] == TYPE);
    let same = |c: &Value| {
        c["status"] == said.status
            && c["reason"] == said.reason
            && c["message"] == said.message.as_str()
            && c["observedGeneration"] == said.generation
    };
    if own.is_some_and(same) {
        return None;
    }
    let since = own.filter(|c| c["status"] == said.status);
    let since = since.and_then(|c| c["lastTransitionTime"].as_str()).unwrap_or(now);
    let condition = json!({"type": TYPE, "status": said.status, "reason": said.reason, "message": said.message,
        "observedGeneration": said.generation, "lastTransitionTime": since});
    let others = status.conditions.iter().filter(|c| c["type"] != TYPE).cloned();
    let conditions: Vec<Value> = others.chain([condition]).collect();
    Some(json!({"observedGeneration": said.generation, "conditions": conditions}))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn finding(field: &str, severity: Severity) -> Diagnostic {
        Diagnostic {
            file: PathBuf::new(),
            line: 0,
            object: "VirtualService shop/web".to_owned(),
            field: field.to_owned(),
            message: "is odd".to_owned(),
            severity,
        }
    }

    #[test]
    fn the_condition_says_what_became_of_the_object() {
        let (broken, doubtful) = (
            finding("spec.http", Severity::Error),
            finding("spec.tcp", Severity::Warning),
        );
        let is_broken = |f: &Diagnostic| f.severity == Severity::Error;
        let of = |found: &[&Diagnostic]| {
            let said = said(found, is_broken, 2);
            (said.status, said.reason, said.message)
        };
        assert_eq!(of(&[]), ("True", "Accepted", String::new()));
        let told = "spec.tcp: is odd".to_owned();
        assert_eq!(of(&[&doubtful]), ("True", "AcceptedWithFindings", told));
        let told = "spec.http: is odd".to_owned();
        assert_eq!(of(&[&broken, &doubtful]), ("False", "Invalid", told));
        let many = vec![&doubtful; 12];
        assert!(of(&many).2.ends_with("; and 2 more"));
    }

    #[test]
    fn what_is_said_already_is_not_written_and_others_are_left_alone() {
        let (none, doubtful) = (said(&[], |_| true, 2), finding("", Severity::Warning));
        let mut status = Status {
            generation: 2,
            conditions: vec![json!({"type": "Programmed", "status": "True"})],
            ..Status::default()
        };
        let first = changed(&status, &none, "t1").expect("it is new");
        assert_eq!(first["conditions"][0]["type"], "Programmed");
        assert_eq!(first["conditions"][1]["lastTransitionTime"], "t1");
        status.conditions = first["conditions"].as_array().expect("conditions").clone();
        assert_eq!(changed(&status, &none, "t2"), None);
        let with = said(&[&doubtful], |_| false, 3);
        let second = changed(&status, &with, "t2").expect("another message");
        assert_eq!(
            second["conditions"][1]["lastTransitionTime"], "t1",
            "it was accepted before"
        );
        assert_eq!(second["observedGeneration"], 3);
        let third = changed(&status, &said(&[&doubtful], |_| true, 3), "t3").expect("refused");
        assert_eq!(third["conditions"][1]["lastTransitionTime"], "t3");
    }
}
