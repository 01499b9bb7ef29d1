//! Access logs.

use std::sync::Arc;

use mesh_api::envoy::pb::envoy::config::accesslog::v3 as accesslog;
use mesh_api::envoy::pb::envoy::config::core::v3 as core;
use mesh_api::envoy::pb::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat,
};
use mesh_api::envoy::pb::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};
use mesh_api::envoy::pb::google::protobuf::{Struct, value::Kind};

use super::common::{any, any_type, data_source};
use super::invalid::{At, Invalid, Result, each};
use crate::snapshot::{AccessLog, LogFormat};
use crate::telemetry::ResponseFlags;

/// All logs of a repeated field `access_log`.
pub(super) fn access_logs(logs: &[accesslog::AccessLog]) -> Result<Vec<Arc<AccessLog>>> {
    each(logs, "access_log", |log| access_log(log).map(Arc::new))
}

fn access_log(log: &accesslog::AccessLog) -> Result<AccessLog> {
    let only_flags = match &log.filter {
        None => ResponseFlags::NONE,
        Some(filter) => flags(filter).at("filter")?,
    };
    let Some(accesslog::access_log::ConfigType::TypedConfig(config)) = &log.config_type else {
        return Err(Invalid::new(format!("{:?} needs its configuration", log.name)).under("typed_config"));
    };
    let (path, format) = sink(config).at("typed_config")?;
    Ok(AccessLog::new(&path, format, only_flags))
}

fn flags(filter: &accesslog::AccessLogFilter) -> Result<ResponseFlags> {
    use accesslog::access_log_filter::FilterSpecifier;
    match &filter.filter_specifier {
        Some(FilterSpecifier::ResponseFlagFilter(f)) if !f.flags.is_empty() => {
            let mut all = ResponseFlags::NONE;
            for flag in &f.flags {
                let parsed = ResponseFlags::parse(flag)
                    .ok_or_else(|| Invalid::new(format!("{flag:?} is no flag")).under("response_flag_filter.flags"))?;
                all.set(parsed);
            }
            Ok(all)
        }
        Some(FilterSpecifier::ResponseFlagFilter(_)) => {
            Err(Invalid::new("not implemented without flags").under("response_flag_filter"))
        }
        _ => Err(Invalid::new("only response_flag_filter is implemented")),
    }
}

fn sink(config: &mesh_api::envoy::Any) -> Result<(String, LogFormat)> {
    match any_type(config).as_str() {
        "envoy.extensions.access_loggers.file.v3.FileAccessLog" => {
            let file: FileAccessLog = any(config)?;
            let format = match &file.access_log_format {
                None => LogFormat::envoy_default(),
                Some(AccessLogFormat::LogFormat(f)) => substitution(f).at("log_format")?,
                #[allow(deprecated)]
                Some(AccessLogFormat::Format(format)) => text(format).at("format")?,
                #[allow(deprecated)]
                Some(AccessLogFormat::JsonFormat(f)) => json(f).at("json_format")?,
                #[allow(deprecated)]
                Some(AccessLogFormat::TypedJsonFormat(f)) => json(f).at("typed_json_format")?,
            };
            if file.path.is_empty() {
                return Err(Invalid::new("a path is required").under("path"));
            }
            Ok((file.path, format))
        }
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog" => {
            let log: StdoutAccessLog = any(config)?;
            let format = match &log.access_log_format {
                None => LogFormat::envoy_default(),
                Some(stdout_access_log::AccessLogFormat::LogFormat(f)) => substitution(f).at("log_format")?,
            };
            Ok(("/dev/stdout".to_owned(), format))
        }
        "envoy.extensions.access_loggers.stream.v3.StderrAccessLog" => {
            let log: StderrAccessLog = any(config)?;
            let format = match &log.access_log_format {
                None => LogFormat::envoy_default(),
                Some(stderr_access_log::AccessLogFormat::LogFormat(f)) => substitution(f).at("log_format")?,
            };
            Ok(("/dev/stderr".to_owned(), format))
        }
        other => Err(Invalid::new(format!("{other} is not implemented"))),
    }
}

fn substitution(value: &core::SubstitutionFormatString) -> Result<LogFormat> {
    use core::substitution_format_string::Format;
    match &value.format {
        #[allow(deprecated)]
        Some(Format::TextFormat(format)) => text(format).at("text_format"),
        Some(Format::TextFormatSource(source)) => {
            let bytes = data_source(source).at("text_format_source")?;
            let format = String::from_utf8(bytes).map_err(|_| Invalid::new("no UTF-8").under("text_format_source"))?;
            text(&format).at("text_format_source")
        }
        Some(Format::JsonFormat(fields)) => json(fields).at("json_format"),
        None => Err(Invalid::new("a format is required")),
    }
}

fn json(fields: &Struct) -> Result<LogFormat> {
    let mut keys: Vec<_> = fields
        .fields
        .iter()
        .map(|(key, value)| match &value.kind {
            Some(Kind::StringValue(text)) => Ok((key.clone(), text.clone())),
            _ => Err(Invalid::new("only strings are implemented here").under(key)),
        })
        .collect::<Result<_>>()?;
    // A protobuf struct has no order; the sorted one is at least always the same.
    keys.sort();
    LogFormat::json(&keys).map_err(Invalid::new)
}

fn text(format: &str) -> Result<LogFormat> {
    LogFormat::text(format).map_err(Invalid::new)
}
