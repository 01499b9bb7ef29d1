//! From JSON to a type, with errors in the words of somebody who writes YAML.

use std::fmt::Write as _;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::{FieldError, error::write_field};

/// Errors that are collected from one document; more would hide the first.
const MAX_ERRORS: usize = 20;

/// Reads any type from JSON; the error names the field and speaks of YAML, not of Rust.
///
/// # Errors
/// The first thing that has the wrong shape.
pub fn deserialize<T: DeserializeOwned>(value: Value) -> Result<T, FieldError> {
    serde_path_to_error::deserialize(value).map_err(|error| field_error(&error))
}

/// As [`deserialize`], but with every wrong field: what was reported is taken out, and the rest is read again.
pub(super) fn deserialize_all<T: DeserializeOwned>(value: Value) -> Result<T, Vec<FieldError>> {
    let mut errors: Vec<FieldError> = Vec::new();
    // Only a document with an error is copied.
    let mut rest = value;
    loop {
        match serde_path_to_error::deserialize::<_, T>(&rest) {
            Ok(read) if errors.is_empty() => return Ok(read),
            Ok(_) => return Err(errors),
            Err(error) => {
                errors.push(field_error(&error));
                if errors.len() >= MAX_ERRORS || !remove(&mut rest, error.path()) {
                    return Err(errors);
                }
            }
        }
    }
}

fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    FieldError::error(write_path(error.path()), plain_words(&error.inner().to_string()))
}

/// Takes out the innermost map entry that the path leads through. False if there is none.
fn remove(value: &mut Value, path: &Path) -> bool {
    let segments: Vec<&Segment> = path.iter().collect();
    let Some(last) = segments
        .iter()
        .rposition(|segment| matches!(segment, Segment::Map { .. }))
    else {
        return false;
    };
    let mut here = value;
    for segment in &segments[..last] {
        let next = match segment {
            Segment::Map { key } => here.get_mut(key),
            Segment::Seq { index } => here.get_mut(index),
            Segment::Enum { .. } | Segment::Unknown => return false,
        };
        let Some(next) = next else { return false };
        here = next;
    }
    match (here, segments[last]) {
        (Value::Object(map), Segment::Map { key }) => map.remove(key).is_some(),
        _ => false,
    }
}

fn write_path(path: &Path) -> String {
    let mut out = String::new();
    for segment in path {
        let first = out.is_empty();
        let _ = match segment {
            Segment::Seq { index } => write!(out, "[{index}]"),
            Segment::Map { key } => write_field(&mut out, key, first),
            Segment::Enum { variant } => write_field(&mut out, variant, first),
            Segment::Unknown => Ok(()),
        };
    }
    if out.is_empty() { ".".to_owned() } else { out }
}

/// Serde's message in the words of somebody who writes YAML.
fn plain_words(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return unknown(rest, "field");
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return unknown(rest, "value");
    }
    let Some((found, expected)) = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return message.to_owned();
    };
    let found = found
        .replace('`', "")
        .replace("null", "nothing")
        .replace("sequence", "a list")
        .replace("map", "a map");
    let advice =
        if expected == "a string" && !found.contains("a list") && !found.contains("a map") && found != "nothing" {
            "; put it in quotes"
        } else if found == "nothing" {
            "; give it a value or leave the field out"
        } else {
            ""
        };
    format!("must be {}, not {found}{advice}", type_name(expected))
}

/// The name of a Rust type in the words of somebody who writes YAML.
fn type_name(expected: &str) -> &str {
    match expected {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "u64" => "a whole number that is not negative",
        "i64" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        "a string" => "text",
        "a sequence" => "a list",
        other if other.starts_with("struct ") || other == "a map" => "a map of fields",
        other => other,
    }
}

/// `rest` is "`found`, expected one of `a`, `b`".
fn unknown(rest: &str, what: &str) -> String {
    let mut names = rest.split('`').skip(1).step_by(2);
    let found = names.next().unwrap_or_default();
    let known: Vec<&str> = names.collect();
    let nearest = known
        .iter()
        .map(|name| (distance(found, name), name))
        .min()
        .filter(|(d, _)| *d <= 2);
    match nearest {
        Some((_, name)) => format!("unknown {what} {found:?}; did you mean {name:?}?"),
        None if known.is_empty() => format!("unknown {what} {found:?}; nothing can stand here"),
        None => format!("unknown {what} {found:?}; known are {}", known.join(", ")),
    }
}

/// Edits that lead from one word to the other (Levenshtein), without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
