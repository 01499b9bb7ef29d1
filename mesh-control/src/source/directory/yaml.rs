//! YAML with the line of every field.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Spanned, UserMessageFormatter};

/// The lines of a document, as a tree of its fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lines {
    line: u32,
    children: Vec<(Step, Lines)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(usize),
}

impl Lines {
    /// Line (from 1) of a field such as `spec.http[0].match`; of the innermost part that is there, if it is not.
    pub fn line_of(&self, path: &str) -> u32 {
        let mut at = self;
        for step in steps(path) {
            match at.children.iter().find(|(s, _)| *s == step) {
                Some((_, child)) => at = child,
                None => break,
            }
        }
        at.line
    }

    /// The lines of one element of a list.
    pub(super) fn item(&self, field: &str, index: usize) -> Lines {
        let list = self.children.iter().find(|(s, _)| *s == Step::Field(field.to_owned()));
        let item = list.and_then(|(_, l)| l.children.iter().find(|(s, _)| *s == Step::Index(index)));
        item.map(|(_, l)| l.clone()).unwrap_or_default()
    }
}

/// Reads a path as findings write it: names, `[INDEX]`, and `["NAME"]` for names with special characters.
fn steps(path: &str) -> Vec<Step> {
    let mut out = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("[\"") {
            // A name with a quote in it is not found, and the line is that of its parent.
            let (name, after) = after.split_once("\"]").unwrap_or((after, ""));
            out.push(Step::Field(name.to_owned()));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (index, after) = after.split_once(']').unwrap_or((after, ""));
            out.push(
                index
                    .parse()
                    .map_or_else(|_| Step::Field(index.to_owned()), Step::Index),
            );
            rest = after;
        } else {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end > 0 {
                out.push(Step::Field(rest[..end].to_owned()));
            }
            // An empty name at a dot: step over it, so that every round makes the rest shorter.
            rest = if end == 0 && !rest.starts_with('[') {
                rest.get(1..).unwrap_or_default()
            } else {
                &rest[end..]
            };
        }
    }
    out
}

/// Why a text is no YAML.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    /// From 1, in the text.
    pub(super) line: u32,
    pub(super) message: String,
}

/// Reads one document.
pub(super) fn read(text: &str) -> Result<(Value, Lines), YamlError> {
    let options = serde_saphyr::options! {
        // `on` and `yes` are words here; who means a boolean writes true or false.
        strict_booleans: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Node>>(text, options) {
        Ok(node) => {
            let line = line(&node);
            let (value, children) = node.value.split();
            Ok((value, Lines { line, children }))
        }
        Err(error) => {
            let line = error
                .location()
                .map_or(1, |l| u32::try_from(l.line()).unwrap_or(u32::MAX));
            let text = error.without_snippet().render_with_formatter(&UserMessageFormatter);
            Err(YamlError {
                line,
                message: format!("bad YAML: {}", without_position(&text)),
            })
        }
    }
}

/// The lines of a text's fields.
///
/// # Errors
/// Line and reason, when it is no YAML.
pub fn lines_of(text: &str) -> Result<Lines, (u32, String)> {
    match read(text) {
        Ok((_, lines)) => Ok(lines),
        Err(error) => Err((error.line, error.message)),
    }
}

/// The reader says line and column itself; findings have the line of the file in front.
fn without_position(text: &str) -> String {
    let text = text.lines().next().unwrap_or_default().trim();
    let text = text.split_once(" at line ").map_or(text, |(text, _)| text);
    text.trim_end_matches([':', ',']).to_owned()
}

fn line<T>(spanned: &Spanned<T>) -> u32 {
    u32::try_from(spanned.referenced.line()).unwrap_or(u32::MAX)
}

enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl Node {
    fn split(self) -> (Value, Vec<(Step, Lines)>) {
        match self {
            Node::Scalar(value) => (value, Vec::new()),
            Node::List(items) => {
                let mut values = Vec::with_capacity(items.len());
                let mut lines = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    let line = line(&item);
                    let (value, children) = item.value.split();
                    values.push(value);
                    lines.push((Step::Index(index), Lines { line, children }));
                }
                (Value::Array(values), lines)
            }
            Node::Map(entries) => {
                let mut values = Map::with_capacity(entries.len());
                let mut lines = Vec::with_capacity(entries.len());
                for (key, item) in entries {
                    let line = line(&key);
                    let (value, children) = item.value.split();
                    lines.push((Step::Field(key.value.clone()), Lines { line, children }));
                    values.insert(key.value, value);
                }
                (Value::Object(values), lines)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a map")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Node, E> {
        Ok(Node::Scalar(v.into()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Node, E> {
        Ok(Node::Scalar(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Node, E> {
        Ok(Node::Scalar(v.into()))
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Node, E> {
        let number = Number::from_f64(v).ok_or_else(|| E::custom("a number that is not finite"))?;
        Ok(Node::Scalar(number.into()))
    }

    fn visit_str<E>(self, v: &str) -> Result<Node, E> {
        Ok(Node::Scalar(v.into()))
    }

    fn visit_string<E>(self, v: String) -> Result<Node, E> {
        Ok(Node::Scalar(v.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_line() {
        let text = "\
kind: A
metadata:
  labels: {app: web, \"x.y/z\": \"1\"}
spec:
  http:
  - name: one
    weight: -5
  -
    name: two
  text: |
    a
    b
  on: yes
";
        let (value, lines) = read(text).expect("good YAML");
        for (path, line) in [
            ("kind", 1),
            ("metadata.labels.app", 3),
            ("metadata.labels[\"x.y/z\"]", 3),
            ("spec.http", 5),
            ("spec.http[0]", 6),
            ("spec.http[0].weight", 7),
            ("spec.http[1].name", 9),
            ("spec.text", 10),
            ("spec.on", 13),
            ("spec.http[7].x", 5),
            ("", 1),
        ] {
            assert_eq!(lines.line_of(path), line, "{path}");
        }
        assert_eq!(value["spec"]["http"][0]["weight"], -5);
        assert_eq!(value["spec"]["text"], "a\nb\n");
        assert_eq!(value["spec"]["on"], "yes");
        for odd in ["..", "[", "[\"", ".a..b", "]", "a]["] {
            lines.line_of(odd);
        }
    }

    #[test]
    fn json_with_tabs_is_read() {
        let (value, lines) = read("{\n\t\"a\": {\n\t\t\"b\": [1, 2.5, null, true]\n\t}\n}\n").expect("good JSON");
        assert_eq!(value, serde_json::json!({"a": {"b": [1, 2.5, null, true]}}));
        assert_eq!(lines.line_of("a.b"), 3);
    }

    #[test]
    fn bad_yaml_has_a_line_and_one_sentence() {
        for (text, line) in [
            ("a: 1\nb: [1, 2\nc: 3\n", 3),
            ("a: 1\n  b: 2\n", 2),
            ("a: 1\nb: 2\na: 3\n", 3),
            ("a: \"x\n", 1),
            ("a: .inf\n", 1),
            ("a: *nobody\n", 1),
        ] {
            let error = read(text).expect_err(text);
            println!("{text:?} {error:?}");
            assert!(error.line.abs_diff(line) <= 1, "{text:?}: {error:?}");
            assert!(
                !error.message.contains('\n') && !error.message.contains(" line "),
                "{error:?}"
            );
        }
    }
}
