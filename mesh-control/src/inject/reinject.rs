//! Pods that were injected before, and containers of the proxy that the user wrote: the user's fields win over the
//! template's, and a second injection finds what the first one found.

use serde_json::{Map, Value, json};

use super::annotation;
use super::merge::merge;
use super::pod::{self, INIT, PROXY, VALIDATION, annotations, containers, existing_list, find, list_mut};

const LISTS: [&str; 2] = ["containers", "initContainers"];

/// What an earlier injection wrote down.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// It happened.
    pub(super) injected: bool,
    containers: Vec<String>,
    init_containers: Vec<String>,
    /// Containers as the user wrote them, of both lists.
    overrides: Vec<(&'static str, Value)>,
}

impl Earlier {
    /// Reads the annotations.
    ///
    /// # Errors
    /// When the user's containers cannot be read: without them the result would be another Pod.
    pub(super) fn read(pod: &Value) -> Result<Self, String> {
        let annotations = annotations(pod);
        let mut out = Earlier::default();
        if let Some(status) = annotations.get(annotation::STATUS) {
            let status: Value = serde_json::from_str(status).unwrap_or(Value::Null);
            let names = |field: &str| {
                let list = status.get(field).and_then(Value::as_array);
                let names = list.into_iter().flatten().filter_map(Value::as_str);
                names.map(str::to_owned).collect()
            };
            out.injected = status.is_object();
            out.containers = names("containers");
            out.init_containers = names("initContainers");
        }
        if let Some(text) = annotations.get(annotation::OVERRIDES) {
            let read: Value = serde_json::from_str(text)
                .map_err(|e| format!("annotation {}: is no JSON: {e}", annotation::OVERRIDES))?;
            for field in LISTS {
                let list = read.get(field).and_then(Value::as_array);
                let maps = list.into_iter().flatten().filter(|c| !pod::name(c).is_empty());
                out.overrides.extend(maps.map(|c| (field, c.clone())));
            }
        }
        Ok(out)
    }

    fn of(&self, field: &str) -> &[String] {
        if field == "containers" {
            &self.containers
        } else {
            &self.init_containers
        }
    }

    /// The Pod as it was before the earlier injection, as far as templates look at it.
    pub(super) fn strip(&self, pod: &Value) -> Value {
        let mut out = pod.clone();
        if !self.injected {
            return out;
        }
        for field in LISTS {
            if let Some(list) = existing_list(&mut out, field) {
                list.retain(|c| !self.of(field).iter().any(|name| name == pod::name(c)));
            }
        }
        if let Some(annotations) = pod::metadata_mut(&mut out, "annotations") {
            annotations.shift_remove(annotation::STATUS);
        }
        for (field, container) in &self.overrides {
            // A native sidecar was written among the containers, and ports are counted there.
            let field = if pod::name(container) == PROXY {
                "containers"
            } else {
                *field
            };
            if find(&out, field, pod::name(container)).is_none()
                && let Some(list) = list_mut(&mut out, field)
            {
                list.push(container.clone());
            }
        }
        out
    }

    fn override_of(&self, name: &str) -> Option<&Value> {
        self.overrides.iter().map(|(_, c)| c).find(|c| pod::name(c) == name)
    }

    /// Lays the user's containers over the template's, and writes them down for the next time.
    ///
    /// # Errors
    /// When they cannot be joined.
    pub(super) fn reapply(&self, merged: &mut Value, original: &Value, template: &Value) -> Result<(), String> {
        let mut kept = Map::new();
        for field in LISTS {
            let mut list = Vec::new();
            for name in containers(template, field).map(pod::name) {
                let user = self.override_of(name).or_else(|| {
                    let injected = self.of(field).iter().any(|other| other == name);
                    let anywhere = || LISTS.iter().find_map(|list| find(original, list, name));
                    if injected { None } else { anywhere() }
                });
                let Some(user) = user else { continue };
                let mut over = user.clone();
                if let Some(fields) = over.as_object_mut()
                    && fields
                        .get("image")
                        .and_then(Value::as_str)
                        .is_some_and(|i| i.is_empty() || i == "auto")
                {
                    fields.shift_remove("image");
                    // Kubernetes makes that of an image without a tag; the template's image has one.
                    if fields.get("imagePullPolicy").is_some_and(|p| p == "Always") {
                        fields.shift_remove("imagePullPolicy");
                        let policy = find(template, field, name).and_then(|c| c.get("imagePullPolicy"));
                        let list = existing_list(merged, field).into_iter().flatten();
                        let merged = list.filter(|c| pod::name(c) == name && policy.is_none());
                        for fields in merged.filter_map(Value::as_object_mut) {
                            fields.shift_remove("imagePullPolicy");
                        }
                    }
                }
                merge(merged, &json!({"spec": {field: [over]}}))?;
                list.push(user.clone());
            }
            if !list.is_empty() {
                kept.insert(field.to_owned(), Value::Array(list));
            }
        }
        if !self.injected
            && !kept.is_empty()
            && let Some(annotations) = pod::metadata_mut(merged, "annotations")
        {
            annotations.insert(annotation::OVERRIDES.to_owned(), json!(Value::Object(kept).to_string()));
        }
        Ok(())
    }

    /// The user's `istio-proxy`, of this Pod or of the one before the earlier injection.
    pub(super) fn users_proxy<'a>(&'a self, original: &'a Value) -> Option<&'a Value> {
        let written = || {
            LISTS
                .iter()
                .find_map(|list| find(original, list, PROXY))
                .filter(|_| !self.injected)
        };
        self.override_of(PROXY).or_else(written)
    }
}

/// A proxy that runs as another user is told from the application by that one. With TPROXY it cannot: only root may take
/// packets that are for somebody else, and then the proxy is told by its group.
pub(super) fn follow_user(merged: &mut Value, user: Option<&Value>, tproxy: bool, warnings: &mut Vec<String>) {
    let security = user.and_then(|c| c.get("securityContext"));
    let id = |field: &str| security.and_then(|s| s.get(field)).and_then(Value::as_i64);
    let ids = [
        ("runAsUser", id("runAsUser"), 0),
        ("runAsGroup", id("runAsGroup"), 1337),
    ];
    let captured = [INIT, VALIDATION]
        .iter()
        .find(|name| find(merged, "initContainers", name).is_some());
    let Some(capture) = captured.filter(|_| ids.iter().any(|(_, id, _)| id.is_some())) else {
        return;
    };
    if tproxy {
        let proxy = pod::proxy_mut(merged).and_then(|c| c.get_mut("securityContext"));
        let Some(Value::Object(security)) = proxy else { return };
        for (field, id, needed) in ids {
            if id.is_some_and(|id| id != needed) {
                security.insert(field.to_owned(), json!(needed));
                warnings.push(format!(
                    "container {PROXY}: securityContext.{field}: does not count with TPROXY, which takes {needed}"
                ));
            }
        }
        return;
    }
    let list = existing_list(merged, "initContainers");
    let Some(init) = list.and_then(|list| list.iter_mut().find(|c| pod::name(c) == *capture)) else {
        return;
    };
    if *capture == VALIDATION
        && let Some(Value::Object(security)) = init.get_mut("securityContext")
    {
        for (field, id, _) in ids {
            if let Some(id) = id {
                security.insert(field.to_owned(), json!(id));
            }
        }
    }
    // Root's own traffic cannot be told apart.
    let [(_, Some(uid @ 1..), _), _] = ids else { return };
    let Some(args) = init.get_mut("args").and_then(Value::as_array_mut) else {
        return;
    };
    let flag = args.iter().position(|arg| arg.as_str() == Some("-u"));
    if let Some(value) = flag.and_then(|at| args.get_mut(at + 1)) {
        *value = json!(uid.to_string());
    }
}
