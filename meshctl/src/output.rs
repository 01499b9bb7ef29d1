//! Forms of output.

use anyhow::Result;
use serde_json::Value;

/// What a command has to say, and how it ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// For standard output.
    pub(crate) text: String,
    /// Exit code.
    pub(crate) code: u8,
}

impl From<String> for Done {
    fn from(text: String) -> Self {
        Done { text, code: 0 }
    }
}

/// A form of output that programs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Structured {
    Json,
    Yaml,
}

/// For people, or a form that programs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people: tables, lines
    #[value(aliases = ["table", "log"])]
    Short,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// Which form.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Form {
    /// Form of the output [default: tables; of a bootstrap, JSON]
    #[arg(long, short, value_enum, value_name = "FORM")]
    output: Option<Output>,
}

impl Form {
    /// The form that programs read; `None` for tables.
    pub(crate) fn structured(self) -> Option<Structured> {
        self.or(Output::Short)
    }

    /// As [`Form::structured`], where tables are not the usual form.
    pub(crate) fn or(self, usual: Output) -> Option<Structured> {
        match self.output.unwrap_or(usual) {
            Output::Short => None,
            Output::Json => Some(Structured::Json),
            Output::Yaml => Some(Structured::Yaml),
        }
    }
}

impl Structured {
    /// The value as text, with a newline at its end.
    pub(crate) fn write(self, value: &Value) -> Result<String> {
        match self {
            Structured::Json => Ok(format!("{value:#}\n")),
            Structured::Yaml => {
                let mut text = serde_saphyr::to_string(value)?;
                if !text.ends_with('\n') {
                    text.push('\n');
                }
                Ok(text)
            }
        }
    }
}
