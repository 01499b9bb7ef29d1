//! Access logs: compiled formats, and threads that write.
//!
//! - [`parse`]: Envoy's format strings, compiled when the configuration is built; what is not known is refused there.
//! - [`value`]: what each operator yields for a request or connection.
//! - [`sink`]: bounded queues to one writer thread for each file. The data path never waits for a disk.

mod sink;
mod value;

pub use sink::{Sink, Totals, flush, reopen, totals};

use std::fmt::Write;
use std::sync::Arc;

use http::HeaderMap;

use mesh_api::envoy::format::{Op, Part, Template};
use value::{Source, Value};

use super::{RequestRecord, TcpRecord};
use crate::listener::ConnInfo;
use crate::snapshot::AccessLog;

/// Envoy's format when none is configured.
const ENVOY_DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" \
    %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// Compiled format of an access log.
#[derive(Debug)]
pub struct LogFormat(Kind);

#[derive(Debug)]
enum Kind {
    Text(Template),
    Json(Vec<(String, Template)>),
}

impl LogFormat {
    /// `text_format`: Envoy's command operators.
    ///
    /// # Errors
    /// Names the operator that is unknown or malformed.
    pub fn text(format: &str) -> Result<Self, String> {
        Template::compile(format).map(Kind::Text).map(LogFormat)
    }

    /// `json_format`: keys with operators, written in this order.
    ///
    /// # Errors
    /// As [`LogFormat::text`], with the key.
    pub fn json(entries: &[(String, String)]) -> Result<Self, String> {
        let compile = |(key, format): &(String, String)| match Template::compile(format) {
            Ok(template) => Ok((key.clone(), template)),
            Err(error) => Err(format!("{key}: {error}")),
        };
        let entries = entries.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(LogFormat(Kind::Json(entries)))
    }

    /// Envoy's format when none is configured.
    pub fn envoy_default() -> Self {
        // It is a constant of ours that the tests compile; an empty line would be the worst.
        LogFormat(Kind::Text(Template::compile(ENVOY_DEFAULT).unwrap_or_default()))
    }

    /// Whether headers are printed, so that they have to be kept until the end.
    pub fn wants_headers(&self) -> bool {
        match &self.0 {
            Kind::Text(template) => template.wants_headers(),
            Kind::Json(entries) => entries.iter().any(|(_, t)| t.wants_headers()),
        }
    }

    /// The value of a header as of now; what is missing is left out. Headers of the request or the response are taken as they
    /// are given, else as the record has them.
    pub fn header_value(
        &self,
        record: &RequestRecord,
        conn: &ConnInfo,
        request: Option<&HeaderMap>,
        response: Option<&HeaderMap>,
    ) -> String {
        let source = Source::request(record, conn).with_headers(request, response);
        let mut out = String::new();
        if let Kind::Text(template) = &self.0 {
            write_text(&mut out, template, &source, "");
        }
        out
    }

    fn line(&self, source: &Source<'_>) -> String {
        let mut out = String::with_capacity(512);
        match &self.0 {
            Kind::Text(template) => write_text(&mut out, template, source, "-"),
            Kind::Json(entries) => {
                out.push('{');
                for (i, (key, template)) in entries.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    push_quoted(&mut out, key);
                    out.push(':');
                    write_json(&mut out, template, source);
                }
                out.push_str("}\n");
            }
        }
        out
    }
}

pub(super) fn log_request(log: &Arc<AccessLog>, record: &RequestRecord, conn: &ConnInfo) {
    if log.only_flags.is_empty() || record.flags.intersects(log.only_flags) {
        log.sink.write(log.format.line(&Source::request(record, conn)));
    }
}

pub(super) fn log_connection(log: &Arc<AccessLog>, record: &TcpRecord, conn: &ConnInfo) {
    if log.only_flags.is_empty() || record.flags.intersects(log.only_flags) {
        log.sink.write(log.format.line(&Source::connection(record, conn)));
    }
}

fn write_text(out: &mut String, template: &Template, source: &Source<'_>, missing: &str) {
    for part in &template.parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Op(op, limit) => write_value(out, op, *limit, source, missing),
        }
    }
}

fn write_value(out: &mut String, op: &Op, limit: Option<usize>, source: &Source<'_>, missing: &str) {
    match source.value(op) {
        Value::None => out.push_str(missing),
        Value::Number(n) => {
            let _ = write!(out, "{n}");
        }
        // One request is one line, whatever a caller puts into its headers.
        Value::Text(text) => out.extend(
            cut(&text, limit)
                .chars()
                .map(|c| if c.is_control() && c != '\t' { '_' } else { c }),
        ),
    }
}

/// A template of one operator keeps its type: numbers are numbers, and what is missing is `null`.
fn write_json(out: &mut String, template: &Template, source: &Source<'_>) {
    if let [Part::Op(op, limit)] = template.parts.as_slice() {
        match source.value(op) {
            Value::None => out.push_str("null"),
            Value::Number(n) => {
                let _ = write!(out, "{n}");
            }
            Value::Text(text) => push_quoted(out, cut(&text, *limit)),
        }
    } else {
        let mut text = String::new();
        write_text(&mut text, template, source, "-");
        push_quoted(out, &text);
    }
}

fn push_quoted(out: &mut String, text: &str) {
    // A string always serialises.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

fn cut(text: &str, limit: Option<usize>) -> &str {
    match limit {
        Some(limit) if limit < text.len() => &text[..text.floor_char_boundary(limit)],
        _ => text,
    }
}

#[cfg(test)]
mod tests;
