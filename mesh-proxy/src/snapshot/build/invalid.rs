//! Why a message is refused, and where in it.

use std::fmt::Display;

/// A refusal with the path of the field: `filter_chains[0].filters[1].typed_config.route_config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// From the resource's root; empty for the resource itself.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

impl Invalid {
    /// Without a path yet.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Invalid {
            path: String::new(),
            message: message.into(),
        }
    }

    /// A field that means something we do not do.
    pub(crate) fn not_implemented(field: &str) -> Self {
        Invalid::new("not implemented").under(field)
    }

    /// Puts a field in front of the path.
    pub(crate) fn under(mut self, field: impl Display) -> Self {
        self.path = if self.path.is_empty() {
            field.to_string()
        } else if self.path.starts_with('[') {
            format!("{field}{}", self.path)
        } else {
            format!("{field}.{}", self.path)
        };
        self
    }
}

impl Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// What conversions return.
pub(crate) type Result<T> = std::result::Result<T, Invalid>;

/// Adds the path on the way out.
pub(crate) trait At<T> {
    /// The failure happened in this field.
    fn at(self, field: &str) -> Result<T>;
}

impl<T> At<T> for Result<T> {
    fn at(self, field: &str) -> Result<T> {
        self.map_err(|e| e.under(field))
    }
}

/// Converts every element of a repeated field; failures carry their index.
pub(crate) fn each<S, T>(items: &[S], field: &str, mut convert: impl FnMut(&S) -> Result<T>) -> Result<Vec<T>> {
    // Not by `collect`, which cannot know how many there will be before one fails, and keeps room for four at least.
    let mut out = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        out.push(convert(item).map_err(|e| e.under(format_args!("{field}[{i}]")))?);
    }
    Ok(out)
}
