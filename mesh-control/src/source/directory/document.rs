//! One file: its documents, each with its object or with what is wrong with it.

use std::sync::Arc;

use mesh_api::istio::{AnyObject, FieldError, Kind, parse};
use serde_json::Value;

use super::yaml::{self, Lines};
use crate::source::object_name;

/// One object of a file, or one piece of it that gave none.
#[derive(Debug, Clone)]
pub(super) struct Document {
    /// What it is called, as far as that can be told.
    pub(super) object: Option<String>,
    /// Lines in the file.
    pub(super) lines: Arc<Lines>,
    pub(super) result: Result<Arc<AnyObject>, Vec<Problem>>,
    /// Findings that do not stop the object.
    pub(super) warnings: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    pub(super) line: u32,
    pub(super) field: String,
    pub(super) message: String,
}

/// Reads a file. A broken document does not touch those before and after it.
pub(super) fn read(text: &str) -> Vec<Document> {
    let mut out = Vec::new();
    for piece in pieces(text) {
        match yaml::read(&piece) {
            Ok((Value::Null, _)) => {}
            Ok((value, lines)) => objects(value, lines, &mut out),
            Err(error) => out.push(Document {
                object: guess_name(&piece),
                lines: Arc::default(),
                result: Err(vec![Problem {
                    line: error.line,
                    field: String::new(),
                    message: error.message,
                }]),
                warnings: Vec::new(),
            }),
        }
    }
    out
}

/// The documents between the lines `---`. Each begins with as many empty lines as there are lines before it in the file, so
/// that the reader's lines are the file's.
fn pieces(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut out = vec![String::new()];
    for (number, line) in text.lines().enumerate() {
        let rest = line
            .strip_prefix("---")
            .filter(|r| r.is_empty() || r.starts_with([' ', '\t']));
        if let Some(rest) = rest {
            let mut next = "\n".repeat(number);
            // What follows on the line belongs to the document.
            next.push_str("   ");
            next.push_str(rest);
            next.push('\n');
            out.push(next);
        } else if let Some(last) = out.last_mut() {
            // Directives stand before a document, and this reader needs none.
            if !line.starts_with('%') {
                last.push_str(line);
            }
            last.push('\n');
        }
    }
    out.retain(|piece| {
        piece
            .lines()
            .any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#'))
    });
    out
}

fn objects(value: Value, lines: Lines, out: &mut Vec<Document>) {
    let Value::Object(map) = &value else {
        out.push(broken(
            None,
            lines,
            "",
            "the document is no object: expected apiVersion, kind, metadata, …",
        ));
        return;
    };
    let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    for (field, found, example) in [
        ("apiVersion", &api_version, "networking.istio.io/v1"),
        ("kind", &kind, "VirtualService"),
    ] {
        if found.is_empty() {
            let message = match map.get(field) {
                None => format!("{field} is missing; write for example {field}: {example}"),
                Some(_) => format!("must be text that is not empty, for example {example}"),
            };
            let name = (field != "kind")
                .then(|| name_of(&api_version, &kind, &value))
                .flatten();
            out.push(broken(name, lines, field, &message));
            return;
        }
    }
    if kind == "List" || (kind.ends_with("List") && map.contains_key("items")) {
        list(value, &lines, out);
        return;
    }
    let name = name_of(&api_version, &kind, &value);
    match parse(&api_version, &kind, value) {
        Ok(mut object) => {
            if object.namespace().is_empty() {
                object.set_namespace("default");
            }
            let warnings = object.warnings().into_iter().map(|e| problem(&lines, e)).collect();
            out.push(Document {
                object: Some(object_name(object.kind().as_str(), object.namespace(), object.name())),
                lines: Arc::new(lines),
                result: Ok(Arc::new(object)),
                warnings,
            });
        }
        Err(errors) => out.push(Document {
            object: name,
            result: Err(errors.into_iter().map(|e| problem(&lines, e)).collect()),
            lines: Arc::new(lines),
            warnings: Vec::new(),
        }),
    }
}

fn list(value: Value, lines: &Lines, out: &mut Vec<Document>) {
    let items = match value {
        Value::Object(mut map) => map.remove("items"),
        _ => None,
    };
    match items {
        Some(Value::Array(items)) => {
            for (index, item) in items.into_iter().enumerate() {
                objects(item, lines.item("items", index), out);
            }
        }
        None | Some(Value::Null) => {}
        Some(_) => out.push(broken(None, lines.clone(), "items", "must be a list of objects")),
    }
}

fn broken(object: Option<String>, lines: Lines, field: &str, message: &str) -> Document {
    let problem = Problem {
        line: lines.line_of(field),
        field: field.to_owned(),
        message: message.to_owned(),
    };
    Document {
        object,
        lines: Arc::new(lines),
        result: Err(vec![problem]),
        warnings: Vec::new(),
    }
}

fn problem(lines: &Lines, error: FieldError) -> Problem {
    let field = if error.path == "." { String::new() } else { error.path };
    Problem {
        line: lines.line_of(&field),
        field,
        message: error.message,
    }
}

fn name_of(api_version: &str, kind: &str, value: &Value) -> Option<String> {
    let text = |key: &str| value["metadata"][key].as_str().unwrap_or_default();
    full_name(api_version, kind, text("namespace"), text("name"))
}

fn full_name(api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<String> {
    if kind.is_empty() || name.is_empty() {
        return None;
    }
    let namespaced = Kind::resolve(api_version, kind).map_or(!namespace.is_empty(), |k| k.info().namespaced);
    let namespace = match (namespaced, namespace) {
        (false, _) => "",
        (true, "") => "default",
        (true, given) => given,
    };
    Some(object_name(kind, namespace, name))
}

/// The name of an object whose YAML cannot be read, by the look of its lines.
fn guess_name(piece: &str) -> Option<String> {
    let (mut api_version, mut kind, mut namespace, mut name) = ("", "", "", "");
    let mut in_metadata = false;
    let mut indent = None;
    for line in piece.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim().trim_matches(['"', '\'']);
        let depth = key.len() - key.trim_start().len();
        if depth == 0 {
            in_metadata = key == "metadata";
            indent = None;
        }
        let direct = in_metadata && depth > 0 && depth == *indent.get_or_insert(depth);
        match (depth, key.trim()) {
            (0, "apiVersion") => api_version = value,
            (0, "kind") => kind = value,
            (_, "name") if direct && name.is_empty() => name = value,
            (_, "namespace") if direct && namespace.is_empty() => namespace = value,
            _ => {}
        }
    }
    full_name(api_version, kind, namespace, name)
}
