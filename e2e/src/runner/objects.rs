//! Kubernetes objects as documents: read from YAML, told apart, written for the control plane.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Kinds of which a mesh without Kubernetes makes use, beside all of Istio's.
const KINDS: &[&str] = &[
    "Namespace",
    "Node",
    "ServiceAccount",
    "Service",
    "Deployment",
    "Pod",
    "Secret",
    "ConfigMap",
    "EndpointSlice",
];

/// An object's identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind.
    pub kind: String,
    /// Namespace; empty for a Namespace itself and a Node.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// A key.
    pub fn new(kind: &str, namespace: &str, name: &str) -> Key {
        Key {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// File that holds the object in the control plane's directory.
    pub fn file(&self, folder: &Path) -> PathBuf {
        let kind = self.kind.to_ascii_lowercase();
        let parts = [kind.as_str(), &self.namespace, &self.name];
        let name: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        // Pods are many and nobody edits them: they stand apart.
        let folder = if self.kind == "Pod" {
            folder.join("pods")
        } else {
            folder.to_owned()
        };
        folder.join(format!("{}.yaml", name.join(".")))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// An object with its identity; the document has its namespace filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Identity.
    pub key: Key,
    /// All of it.
    pub document: Value,
}

impl Object {
    /// The object as a typed one.
    ///
    /// # Errors
    /// When a field has another type than Kubernetes gives it.
    pub fn typed<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.document.clone()).with_context(|| self.key.to_string())
    }

    /// The text for a file.
    ///
    /// # Errors
    /// When the document cannot be YAML, which JSON always can.
    pub fn yaml(&self) -> Result<String> {
        serde_saphyr::to_string(&self.document).with_context(|| self.key.to_string())
    }

    /// A label or annotation: `part` is `labels` or `annotations`.
    pub fn meta(&self, part: &str, name: &str) -> Option<&str> {
        self.document.get("metadata")?.get(part)?.get(name)?.as_str()
    }
}

/// Reads the objects of a text with one or many documents, Lists included.
///
/// # Errors
/// When the text is no YAML, or a document is no object that can be used here; the error says which.
pub fn read(text: &str, default_namespace: &str) -> Result<Vec<Object>> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| anyhow::anyhow!("not valid YAML: {error}"))?;
    let mut objects = Vec::new();
    for (number, document) in documents.into_iter().enumerate() {
        let parts = match document {
            Value::Null => continue,
            Value::Object(mut list) if list.get("kind").and_then(Value::as_str) == Some("List") => {
                match list.get_mut("items").map(Value::take) {
                    Some(Value::Array(items)) => items,
                    _ => Vec::new(),
                }
            }
            other => vec![other],
        };
        for part in parts {
            objects.push(object(part, default_namespace).with_context(|| format!("document {}", number + 1))?);
        }
    }
    Ok(objects)
}

fn object(mut document: Value, default_namespace: &str) -> Result<Object> {
    let text = |name: &str| document.get(name).and_then(Value::as_str).map(str::to_owned);
    let (kind, version) = (
        text("kind").context("kind is missing")?,
        text("apiVersion").context("apiVersion is missing")?,
    );
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let of_mesh = group.ends_with(".istio.io") || group == "gateway.networking.k8s.io";
    if !of_mesh && !KINDS.contains(&kind.as_str()) {
        bail!(
            "{kind} ({version}) has no meaning without Kubernetes; known are {} and Istio's kinds",
            KINDS.join(", ")
        );
    }
    let Some(Value::Object(metadata)) = document.get_mut("metadata") else {
        bail!("{kind}: metadata is missing");
    };
    let name = metadata.get("name").and_then(Value::as_str).map(str::to_owned);
    let name = name.with_context(|| format!("{kind}: metadata.name is missing"))?;
    check_name(&name).with_context(|| format!("{kind}: metadata.name"))?;
    let mut namespace = String::new();
    if !["Namespace", "Node"].contains(&kind.as_str()) {
        let given = metadata.get("namespace").and_then(Value::as_str);
        namespace = given.unwrap_or(default_namespace).to_owned();
        check_name(&namespace).with_context(|| format!("{kind} {name}: metadata.namespace"))?;
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    Ok(Object {
        key: Key { kind, namespace, name },
        document,
    })
}

/// Names become names of files and network namespaces, so nothing but Kubernetes' own letters.
fn check_name(name: &str) -> Result<()> {
    let letters = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    if !letters || name.is_empty() || name.len() > 253 || name.starts_with(['-', '.']) || name.ends_with(['-', '.']) {
        bail!("{name:?} is no Kubernetes name (a-z, 0-9, '-' and '.')");
    }
    Ok(())
}

/// Sets a value deep inside a document, making the objects on the way.
pub fn set(document: &mut Value, path: &[&str], value: Value) {
    let Some((last, way)) = path.split_last() else {
        *document = value;
        return;
    };
    let mut place = document;
    for name in way {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(map) = place else { return };
        place = map.entry(*name).or_insert_with(|| Value::Object(Map::new()));
    }
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    if let Value::Object(map) = place {
        map.insert((*last).to_owned(), value);
    }
}

/// Writes a file so that a reader sees the old text or the new one, never a part.
///
/// # Errors
/// When the file system refuses.
pub fn write_whole(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    // The name begins with a dot, so that whoever watches for *.yaml takes no notice.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.tmp"));
    std::fs::write(&temporary, text)
        .and_then(|()| std::fs::rename(&temporary, path))
        .with_context(|| format!("file {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_get_the_namespace_of_the_command_line() {
        let text = "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: web\n---\n---\napiVersion: networking.istio.io/v1\n\
                    kind: VirtualService\nmetadata: {name: web, namespace: shop}\nspec: {hosts: [web]}\n";
        let objects = read(text, "default").expect("valid");
        let keys: Vec<String> = objects.iter().map(|o| o.key.to_string()).collect();
        assert_eq!(keys, ["Service default/web", "VirtualService shop/web"]);
        assert_eq!(objects[0].document["metadata"]["namespace"], "default");
        let file = objects[1].key.file(Path::new("/x"));
        assert_eq!(file, Path::new("/x/virtualservice.shop.web.yaml"));
    }

    #[test]
    fn lists_are_taken_apart() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}\n";
        let objects = read(text, "default").expect("valid");
        assert_eq!(objects[0].key.to_string(), "Namespace shop");
        let node =
            "apiVersion: v1\nkind: Node\nmetadata: {name: node-a, labels: {topology.kubernetes.io/region: us-west1}}\n";
        let objects = read(node, "default").expect("valid");
        assert_eq!(objects[0].key.to_string(), "Node node-a", "of no namespace");
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        for (text, expected) in [
            ("a: [", "not valid YAML"),
            ("kind: Service\nmetadata: {name: a}", "apiVersion is missing"),
            ("apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: a}", "DaemonSet"),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {}",
                "metadata.name is missing",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {name: ../etc}",
                "no Kubernetes name",
            ),
            (
                "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: 'x/y'}",
                "metadata.namespace",
            ),
        ] {
            let error = format!("{:#}", read(text, "default").expect_err(text));
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn values_are_set_deep_inside() {
        let mut document = json!({"spec": {"a": 1}});
        set(&mut document, &["status", "podIP"], json!("10.0.0.1"));
        set(&mut document, &["spec", "a"], json!(2));
        assert_eq!(document, json!({"spec": {"a": 2}, "status": {"podIP": "10.0.0.1"}}));
    }
}
