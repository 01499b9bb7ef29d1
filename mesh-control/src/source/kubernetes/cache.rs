//! What watches have seen: each object's last good version, and what is wrong with its present one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use kube::api::ApiResource;
use mesh_api::istio::{AnyObject, FieldError, Kind, parse};
use serde_json::Value;

use super::super::{Diagnostic, Loaded, Severity, object_name};

/// By what [`object_name`] calls each object: one order for all kinds.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: BTreeMap<String, Entry>,
    /// How each watch calls its kind.
    resources: BTreeMap<usize, ApiResource>,
    /// Counts what objects say.
    changes: u64,
    /// Counts their statuses too.
    touches: u64,
}

#[derive(Debug)]
struct Entry {
    /// The watch that sees it.
    watch: usize,
    good: Option<Arc<AnyObject>>,
    findings: Vec<Diagnostic>,
    /// The change that it came with.
    change: u64,
    /// Of Istio's kinds alone.
    status: Option<Status>,
}

/// What the API server keeps of an object beside what it says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// Empty for what lies in no namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Version of what the object says.
    pub generation: i64,
    /// `status.conditions`.
    pub conditions: Vec<Value>,
}

impl Cache {
    /// What a watch asks the API server for.
    pub(super) fn serves(&mut self, watch: usize, resource: ApiResource) {
        self.resources.insert(watch, resource);
    }

    /// Takes an object as a watch has seen it; false when nothing that counts has changed. `api_version` is one that the kind
    /// is read in.
    pub(super) fn apply(
        &mut self,
        watch: usize,
        kind: Kind,
        api_version: &str,
        value: Value,
        status: Option<Value>,
    ) -> bool {
        let name = name_of(kind, &value);
        let status = kind
            .info()
            .group
            .ends_with(".istio.io")
            .then(|| status_of(&value, status));
        self.touches += u64::from(status.is_some());
        let (good, findings) = match parse(api_version, kind.as_str(), value) {
            Ok(object) => {
                let warnings = object.warnings();
                let findings = warnings.into_iter().map(|e| finding(&name, e, Severity::Warning, ""));
                let findings = findings.collect();
                (Some(Arc::new(object)), findings)
            }
            Err(errors) => {
                let kept = self.entries.get(&name).and_then(|e| e.good.clone());
                let suffix = if kept.is_some() {
                    "; the last good version stays in force"
                } else {
                    ""
                };
                let findings = errors.into_iter();
                let findings = findings.map(|e| finding(&name, e, Severity::Error, suffix)).collect();
                (kept, findings)
            }
        };
        if let Some(before) = self.entries.get_mut(&name) {
            // An object that says the same under another resource version is the same to the mesh.
            let same = match (&before.good, &good) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
                (None, None) => true,
                _ => false,
            };
            if same && before.findings == findings {
                before.status = status;
                return false;
            }
        }
        self.changes += 1;
        let entry = Entry {
            watch,
            good,
            findings,
            change: self.changes,
            status,
        };
        self.entries.insert(name, entry);
        true
    }

    /// Forgets an object; false when it was not known.
    pub(super) fn delete(&mut self, kind: Kind, value: &Value) -> bool {
        let known = self.entries.remove(&name_of(kind, value)).is_some();
        self.changes += u64::from(known);
        known
    }

    /// Forgets all objects of a watch but these; false when there were no others.
    pub(super) fn retain(&mut self, watch: usize, names: &BTreeSet<String>) -> bool {
        let before = self.entries.len();
        self.entries
            .retain(|name, entry| entry.watch != watch || names.contains(name));
        let fewer = self.entries.len() != before;
        self.changes += u64::from(fewer);
        fewer
    }

    /// Objects of Istio's kinds that are in a snapshot of so many changes as they are now.
    pub(super) fn statuses(&self, changes: u64) -> impl Iterator<Item = (&str, &ApiResource, &Status)> {
        let known = self.entries.iter().filter(move |(_, entry)| entry.change <= changes);
        known.filter_map(|(name, entry)| {
            let status = entry.status.as_ref()?;
            Some((name.as_str(), self.resources.get(&entry.watch)?, status))
        })
    }

    /// Another number whenever an object or its status is another.
    pub(super) fn touches(&self) -> u64 {
        self.changes + self.touches
    }

    pub(super) fn loaded(&self) -> Loaded {
        let mut loaded = Loaded::default();
        for entry in self.entries.values() {
            loaded.objects.extend(entry.good.clone());
            loaded.diagnostics.extend(entry.findings.iter().cloned());
        }
        loaded.diagnostics.sort();
        loaded.changes = self.changes;
        loaded
    }
}

pub(super) fn name_of(kind: Kind, value: &Value) -> String {
    let text = |key: &str| value["metadata"][key].as_str().unwrap_or_default();
    object_name(kind.as_str(), text("namespace"), text("name"))
}

fn status_of(object: &Value, status: Option<Value>) -> Status {
    let metadata = &object["metadata"];
    let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
    let conditions = status.and_then(|mut s| s.get_mut("conditions").map(Value::take));
    Status {
        namespace: text("namespace"),
        name: text("name"),
        generation: metadata["generation"].as_i64().unwrap_or_default(),
        conditions: match conditions {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        },
    }
}

fn finding(object: &str, error: FieldError, severity: Severity, suffix: &str) -> Diagnostic {
    Diagnostic {
        file: PathBuf::new(),
        line: 0,
        object: object.to_owned(),
        field: if error.path == "." { String::new() } else { error.path },
        message: format!("{}{suffix}", error.message),
        severity,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(host: &Value) -> Value {
        json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "a", "namespace": "shop", "resourceVersion": host.to_string()}, "spec": {"host": host}})
    }

    #[test]
    fn a_broken_object_leaves_its_last_good_version_and_all_others() {
        let mut cache = Cache::default();
        let version = "networking.istio.io/v1";
        let apply = |cache: &mut Cache, value| cache.apply(1, Kind::DestinationRule, version, value, None);
        assert!(apply(&mut cache, rule(&json!("web"))));
        assert!(apply(&mut cache, rule(&json!(7))));
        let loaded = cache.loaded();
        let lines: Vec<String> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("DestinationRule shop/a: spec.host: ") && lines[0].ends_with("stays in force"),
            "{lines:?}"
        );
        let AnyObject::DestinationRule(kept) = loaded.objects[0].as_ref() else {
            panic!("{:?}", loaded.objects)
        };
        assert_eq!(kept.spec.host, "web");
        assert!(apply(&mut cache, rule(&json!("web"))), "it is mended");
        assert!(cache.loaded().diagnostics.is_empty());
    }

    #[test]
    fn what_is_not_listed_any_more_is_gone_and_what_others_watch_stays() {
        let mut cache = Cache::default();
        let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
        cache.apply(0, Kind::Namespace, "v1", space.clone(), None);
        cache.apply(
            1,
            Kind::DestinationRule,
            "networking.istio.io/v1",
            rule(&json!("web")),
            None,
        );
        assert!(
            !cache.apply(0, Kind::Namespace, "v1", space.clone(), None),
            "nothing has changed"
        );
        let names = |cache: &Cache| {
            let loaded = cache.loaded();
            loaded.objects.iter().map(|o| o.name().to_owned()).collect::<Vec<_>>()
        };
        assert!(!cache.retain(0, &BTreeSet::from([name_of(Kind::Namespace, &space)])));
        assert_eq!(names(&cache), ["a", "shop"]);
        assert!(cache.retain(1, &BTreeSet::new()));
        assert_eq!(names(&cache), ["shop"]);
        assert!(cache.delete(Kind::Namespace, &space) && !cache.delete(Kind::Namespace, &space));
    }

    #[test]
    fn a_status_changes_nothing_and_is_known() {
        let mut cache = Cache::default();
        cache.serves(
            1,
            ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
                "networking.istio.io",
                "v1",
                "DestinationRule",
            )),
        );
        let mut object = rule(&json!("web"));
        object["metadata"]["generation"] = 3.into();
        let mut apply = |status: Value| {
            let changed = cache.apply(
                1,
                Kind::DestinationRule,
                "networking.istio.io/v1",
                object.clone(),
                Some(status),
            );
            let found: Vec<(String, Status)> = cache
                .statuses(cache.loaded().changes)
                .map(|(name, _, status)| (name.to_owned(), status.clone()))
                .collect();
            (changed, cache.touches(), found)
        };
        let (changed, before, found) = apply(json!({}));
        assert!(
            changed && found[0].0 == "DestinationRule shop/a" && found[0].1.generation == 3,
            "{found:?}"
        );
        let (changed, after, found) = apply(json!({"conditions": [{"type": "Accepted"}]}));
        assert!(!changed && after != before, "{found:?}");
        assert_eq!(found[0].1.conditions, [json!({"type": "Accepted"})]);
        assert_eq!(cache.statuses(0).count(), 0, "nobody has seen it yet");
    }
}
