//! `--set` and files of settings: istioctl's paths, which become values of our charts.

mod map;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

pub(crate) use map::{Settings, values};

/// Lists that a number in a path makes longer; nobody has more gateways.
const LONGEST: usize = 64;

/// Keys whose values are text, whatever they look like.
const TEXTS: [&str; 5] = ["profile", "hub", "tag", "revision", "variant"];

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
    /// `[name:web]`: the element with this field.
    Select(String, String),
}

/// Adds a `--set path=value` to a document.
pub(crate) fn set(document: &mut Value, expression: &str) -> Result<()> {
    let parsed = || -> Result<(Vec<Step>, Value)> {
        let (path, value) = expression.split_once('=').context("write PATH=VALUE")?;
        let steps = steps(path)?;
        let value = match steps.last() {
            // A version is no number: 1.20 is not 1.2.
            Some(Step::Key(key)) if TEXTS.contains(&key.as_str()) => Value::from(value),
            _ => scalar(value),
        };
        Ok((steps, value))
    };
    let (steps, value) = parsed().with_context(|| format!("--set {expression}"))?;
    put(document, &steps, value).with_context(|| format!("--set {expression}"))
}

/// A value as YAML has it: `true`, `3`, `[a, b]`; what is no YAML is text.
fn scalar(text: &str) -> Value {
    if text.is_empty() {
        return Value::String(String::new());
    }
    match serde_saphyr::from_str(text) {
        Ok(value) => value,
        Err(_) => Value::String(text.to_owned()),
    }
}

/// `a.b\.c[0].d` as steps.
fn steps(path: &str) -> Result<Vec<Step>> {
    let mut out = Vec::new();
    let mut key = String::new();
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => key.extend(letters.next()),
            '.' => {
                if !key.is_empty() {
                    out.push(Step::Key(std::mem::take(&mut key)));
                }
            }
            '[' => {
                if !key.is_empty() {
                    out.push(Step::Key(std::mem::take(&mut key)));
                }
                let inside: String = letters.by_ref().take_while(|l| *l != ']').collect();
                out.push(match (inside.parse(), inside.split_once([':', '='])) {
                    (Ok(index), _) if index < LONGEST => Step::Index(index),
                    (Ok(_), _) => bail!("[{inside}] is further than {LONGEST}"),
                    (_, Some((field, value))) => Step::Select(field.to_owned(), value.to_owned()),
                    _ => bail!("[{inside}] is neither a number nor [name:value]"),
                });
            }
            other => key.push(other),
        }
    }
    if !key.is_empty() {
        out.push(Step::Key(key));
    }
    if out.is_empty() {
        bail!("the path is empty");
    }
    Ok(out)
}

fn put(at: &mut Value, steps: &[Step], value: Value) -> Result<()> {
    let Some((step, rest)) = steps.split_first() else {
        *at = value;
        return Ok(());
    };
    let child = match step {
        Step::Key(key) => {
            if at.is_null() {
                *at = Value::Object(Map::new());
            }
            let map = at.as_object_mut();
            map.with_context(|| format!("{key}: what is before it is no map"))?
                .entry(key.clone())
                .or_insert(Value::Null)
        }
        Step::Index(index) => {
            let list = list(at)?;
            if list.len() <= *index {
                list.resize(index + 1, Value::Null);
            }
            &mut list[*index]
        }
        Step::Select(field, wanted) => {
            let list = list(at)?;
            let found = list.iter().position(|e| e[field.as_str()].as_str() == Some(wanted));
            let index = found.unwrap_or_else(|| {
                list.push(Value::Object(Map::from_iter([(
                    field.clone(),
                    Value::from(wanted.as_str()),
                )])));
                list.len() - 1
            });
            &mut list[index]
        }
    };
    put(child, rest, value)
}

fn list(at: &mut Value) -> Result<&mut Vec<Value>> {
    if at.is_null() {
        *at = Value::Array(Vec::new());
    }
    at.as_array_mut().context("what is before [ is no list")
}

/// Lays `over` over `base`: maps are merged, everything else is replaced.
pub(crate) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// A file of settings: an IstioOperator gives its `spec`, anything else is values of the chart.
pub(crate) fn file(path: &Path) -> Result<Value> {
    let at = || format!("-f {}", path.display());
    let text = fs::read_to_string(path).with_context(at)?;
    let document: Value = serde_saphyr::from_str(&text).with_context(at)?;
    match document["kind"].as_str() {
        Some("IstioOperator") => Ok(document["spec"].clone()),
        Some(kind) => bail!(
            "{}: a {kind} holds no settings; give an IstioOperator, or values of the chart",
            at()
        ),
        None => Ok(Value::Object(Map::from_iter([("values".to_owned(), document)]))),
    }
}
