//! What is wrong with an object, and where in it.

use std::fmt;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The object works, though perhaps not as meant.
    Warning,
    /// The object is refused.
    Error,
}

/// One finding about one field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct FieldError {
    /// Whether the object is refused for it.
    pub severity: Severity,
    /// Where, from the top of the document: `spec.http[0].route[0].weight`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl FieldError {
    /// A finding for which the object is refused.
    pub fn error(path: impl fmt::Display, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            path: path.to_string(),
            message: message.into(),
        }
    }

    /// A finding with which the object is still used.
    pub fn warning(path: impl fmt::Display, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            path: path.to_string(),
            message: message.into(),
        }
    }

    /// Whether the object is refused for it.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// A place in a document, made while walking down and written out only for a finding.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// The top of a document's part.
    pub(crate) const fn root(name: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Field(name),
        }
    }

    /// A field, or the key of a map.
    pub(crate) const fn field(&'a self, name: &'a str) -> At<'a> {
        At {
            parent: Some(self),
            step: Step::Field(name),
        }
    }

    /// An element of a list.
    pub(crate) const fn index(&'a self, index: usize) -> At<'a> {
        At {
            parent: Some(self),
            step: Step::Index(index),
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Field(name) => write_field(f, name, self.parent.is_none()),
        }
    }
}

/// Writes one step; what holds a dot or a slash is quoted, so that the path stays readable.
pub(crate) fn write_field(out: &mut impl fmt::Write, name: &str, first: bool) -> fmt::Result {
    let plain = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match (plain, first) {
        (true, true) => out.write_str(name),
        (true, false) => write!(out, ".{name}"),
        (false, _) => write!(out, "[{name:?}]"),
    }
}

/// Collects findings while an object is walked through.
#[derive(Default)]
pub(crate) struct Findings(pub(crate) Vec<FieldError>);

impl Findings {
    pub(crate) fn error(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.0.push(FieldError::error(at, message));
    }

    pub(crate) fn warning(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.0.push(FieldError::warning(at, message));
    }
}
