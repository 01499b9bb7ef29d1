//! Injection into files: whole YAML texts with all kinds that make Pods. What is not injected stays as it was written,
//! comments too.

use serde_json::{Map, Value, json};

use super::settings::{Policy, Settings, yaml};
use super::{Injector, Outcome, Request, Workload, inject, pod};

/// A text with its Pods injected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// All documents, in their order.
    pub text: String,
    /// What was left alone or is not in force: a line each, for people.
    pub messages: Vec<String>,
}

/// Injects all Pods and all templates of Pods of a text. Whoever calls this wants Pods injected: policy and selectors of the
/// settings do not count, labels and annotations of the Pods do.
///
/// # Errors
/// The first document that is no YAML, or whose Pods cannot be injected, with its line.
pub fn inject_documents(injector: &Injector<'_>, namespace: &str, text: &str) -> Result<Injected, String> {
    let settings = Settings {
        policy: Policy::Enabled,
        always: Vec::new(),
        never: Vec::new(),
        ..injector.settings.clone()
    };
    let injector = Injector {
        settings: &settings,
        ..*injector
    };
    let mut run = Run {
        injector,
        namespace,
        messages: Vec::new(),
    };
    let mut out = String::new();
    for Document { line, mark, body } in documents(text) {
        out.push_str(mark);
        if body
            .lines()
            .all(|row| row.trim().is_empty() || row.trim_start().starts_with('#'))
        {
            out.push_str(body);
            continue;
        }
        let mut value = yaml(body).map_err(|e| format!("document at line {line}: {e}"))?;
        let changed = run
            .object(&mut value)
            .map_err(|e| format!("document at line {line}: {e}"))?;
        if changed {
            let new = serde_saphyr::to_string(&value).map_err(|e| format!("document at line {line}: {e}"))?;
            out.push_str(&new);
            if !out.ends_with('\n') {
                out.push('\n');
            }
        } else {
            out.push_str(body);
        }
    }
    Ok(Injected {
        text: out,
        messages: run.messages,
    })
}

struct Document<'a> {
    /// Of its first line, from 1.
    line: usize,
    /// The separator before it, with its line's end.
    mark: &'a str,
    body: &'a str,
}

fn documents(text: &str) -> Vec<Document<'_>> {
    let (mut out, mut line, mut offset) = (Vec::new(), 1, 0);
    let (mut mark, mut start, mut first) = (0..0, 0, 1);
    for row in text.split_inclusive('\n') {
        let end = offset + row.len();
        // What follows the separator in its line belongs to the document, and is left to the YAML reader.
        if row.trim_end() == "---" {
            if offset > 0 {
                out.push(Document {
                    line: first,
                    mark: &text[mark.clone()],
                    body: &text[start..offset],
                });
            }
            (mark, start, first) = (offset..end, end, line + 1);
        } else if row.starts_with("--- ") {
            out.push(Document {
                line: first,
                mark: &text[mark.clone()],
                body: &text[start..offset],
            });
            (mark, start, first) = (offset..offset, offset, line);
        }
        offset = end;
        line += 1;
    }
    out.push(Document {
        line: first,
        mark: &text[mark],
        body: &text[start..],
    });
    out
}

/// Where the template of Pods is, for the kinds that have one.
fn template_of(api_version: &str, kind: &str) -> Option<&'static str> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    Some(match (group, kind) {
        ("", "Pod") => "",
        (
            "" | "apps" | "extensions" | "apps.openshift.io",
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "DeploymentConfig",
        )
        | ("batch", "Job") => "/spec/template",
        ("batch", "CronJob") => "/spec/jobTemplate/spec/template",
        _ => return None,
    })
}

struct Run<'a> {
    injector: Injector<'a>,
    namespace: &'a str,
    messages: Vec<String>,
}

impl Run<'_> {
    /// Whether the object is another one now.
    fn object(&mut self, object: &mut Value) -> Result<bool, String> {
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if api_version == "v1" && kind.ends_with("List") {
            let mut changed = false;
            for (index, item) in object
                .get_mut("items")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
                .enumerate()
            {
                changed |= self.object(item).map_err(|e| format!("items[{index}]: {e}"))?;
            }
            return Ok(changed);
        }
        let Some(pointer) = template_of(&api_version, &kind) else {
            return Ok(false);
        };
        let name = ["/metadata/name", "/metadata/generateName"]
            .into_iter()
            .find_map(|p| pod::text(object, p));
        let name = name.unwrap_or_default().to_owned();
        let own = [
            format!("{pointer}/metadata/namespace"),
            "/metadata/namespace".to_owned(),
        ];
        let namespace = own
            .iter()
            .find_map(|p| pod::text(object, p))
            .unwrap_or(self.namespace)
            .to_owned();
        let full = if namespace.is_empty() {
            name.clone()
        } else {
            format!("{namespace}/{name}")
        };
        let request = Request {
            namespace,
            workload: (kind != "Pod").then(|| Workload {
                name,
                kind: kind.clone(),
                api_version,
            }),
            ..Request::default()
        };
        let Some(template) = object.pointer_mut(pointer) else {
            return Err(format!(
                "{kind} {full:?}: {} is missing",
                pointer.trim_start_matches('/').replace('/', ".")
            ));
        };
        let field = |name: &str| template.get(name).cloned().unwrap_or_else(|| Value::Object(Map::new()));
        let before = if kind == "Pod" {
            template.clone()
        } else {
            json!({"metadata": field("metadata"), "spec": field("spec")})
        };
        let outcome = inject(&self.injector, &request, &before).map_err(|e| format!("{kind} {full:?}: {e}"))?;
        let (after, warnings) = match outcome {
            Outcome::Injected { pod, warnings } => (Some(pod), warnings),
            Outcome::Skipped { reason, warnings } => {
                self.messages
                    .push(format!("===> Skipping injection because of {kind} {full:?}: {reason}"));
                (None, warnings)
            }
        };
        self.messages
            .extend(warnings.into_iter().map(|w| format!("warning: {kind} {full:?}: {w}")));
        match (after, template) {
            (Some(Value::Object(after)), Value::Object(template)) => {
                template.extend(after);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}
