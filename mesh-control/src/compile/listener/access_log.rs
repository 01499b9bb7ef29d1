//! Access logs of the mesh configuration.

use mesh_api::envoy::pb::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat,
};
use mesh_api::mesh_config::AccessLogEncoding;

use super::super::context::Context;
use super::super::pb::{Struct, accesslog, core, pack, text};

/// Istio's line of text.
const DEFAULT_TEXT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% ",
    "%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% ",
    "%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% ",
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

/// Istio's keys of JSON.
const DEFAULT_JSON: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
];

/// Logs of requests and connections; none unless the mesh configuration names a file.
pub(in super::super) fn of_mesh(ctx: &Context<'_>) -> Vec<accesslog::AccessLog> {
    log(ctx, None).into_iter().collect()
}

/// Logs of a listener: connections that no filter chain took.
pub(in super::super) fn of_listener(ctx: &Context<'_>) -> Vec<accesslog::AccessLog> {
    if ctx.store.mesh().disable_envoy_listener_log {
        return Vec::new();
    }
    let filter = accesslog::AccessLogFilter {
        filter_specifier: Some(accesslog::access_log_filter::FilterSpecifier::ResponseFlagFilter(
            accesslog::ResponseFlagFilter {
                flags: vec!["NR".to_owned()],
            },
        )),
    };
    log(ctx, Some(filter)).into_iter().collect()
}

fn log(ctx: &Context<'_>, filter: Option<accesslog::AccessLogFilter>) -> Option<accesslog::AccessLog> {
    let mesh = ctx.store.mesh();
    if mesh.access_log_file.is_empty() {
        return None;
    }
    use core::substitution_format_string::Format;
    let format = match mesh.access_log_encoding {
        AccessLogEncoding::Json => Format::JsonFormat(json_format(ctx)),
        AccessLogEncoding::Text => {
            let mut line = match mesh.access_log_format.as_str() {
                "" => DEFAULT_TEXT.to_owned(),
                own => own.to_owned(),
            };
            if !line.ends_with('\n') {
                line.push('\n');
            }
            Format::TextFormatSource(core::DataSource {
                specifier: Some(core::data_source::Specifier::InlineString(line)),
                ..Default::default()
            })
        }
    };
    Some(accesslog::AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        filter,
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(pack(&FileAccessLog {
            path: mesh.access_log_file.clone(),
            access_log_format: Some(AccessLogFormat::LogFormat(core::SubstitutionFormatString {
                format: Some(format),
                ..Default::default()
            })),
        }))),
    })
}

/// The keys of the mesh configuration's own format (a JSON object of strings), else Istio's.
fn json_format(ctx: &Context<'_>) -> Struct {
    let own = &ctx.store.mesh().access_log_format;
    let parsed: Option<std::collections::BTreeMap<String, String>> = serde_json::from_str(own).ok();
    if !own.is_empty() && parsed.is_none() {
        ctx.warn(
            "MeshConfig",
            "accessLogFormat",
            "with accessLogEncoding JSON this must be a JSON object of strings; Istio's default keys are logged instead",
        );
    }
    Struct {
        fields: match parsed {
            Some(keys) => keys.into_iter().map(|(k, v)| (k, text(v))).collect(),
            None => DEFAULT_JSON.iter().map(|(k, v)| ((*k).to_owned(), text(*v))).collect(),
        },
    }
}
