//! The fields of Envoy's messages that mesh-proxy implements, and those that are harmless by nature (names, comments,
//! metadata, sizes of statistics). The proxy refuses a resource that sets another one, with its path; whoever makes
//! resources for it can ask first.
//!
//! Values that are not implemented in a field that is (an enum's, say) are refused by the proxy's conversion of that
//! message.

mod bootstrap;
mod check;
mod cluster;
mod http;
mod listener;
mod route;
mod tls;

pub use check::{Refused, check};

/// Stands for "every field": messages whose content is free, or looked at whole by the conversion.
pub const ALL: &[&str] = &["*"];

/// No field: messages that only have to be there.
const NONE: &[&str] = &[];

/// Fields of a message by its full name, [`ALL`] for all of them; `None` for messages that are not implemented.
pub fn fields_of(message: &str) -> Option<&'static [&'static str]> {
    listener::listener(message)
        .or_else(|| http::http(message))
        .or_else(|| route::route(message))
        .or_else(|| cluster::cluster(message))
        .or_else(|| tls::tls(message))
        .or_else(|| bootstrap::bootstrap(message))
        .or_else(|| shared(message))
}

fn shared(message: &str) -> Option<&'static [&'static str]> {
    Some(match message {
        "envoy.config.core.v3.Address" => &["socket_address", "pipe"],
        "envoy.config.core.v3.SocketAddress" => &["protocol", "address", "port_value", "ipv4_compat"],
        "envoy.config.core.v3.Pipe" => &["path"],
        "envoy.config.core.v3.CidrRange"
        | "envoy.config.core.v3.Metadata"
        | "envoy.config.core.v3.TcpKeepalive"
        | "envoy.config.core.v3.HeaderValue"
        | "envoy.config.core.v3.RuntimeFractionalPercent"
        | "envoy.type.v3.FractionalPercent"
        | "envoy.type.v3.Percent"
        | "envoy.type.v3.Int64Range"
        | "envoy.type.matcher.v3.StringMatcher"
        | "envoy.type.matcher.v3.RegexMatcher"
        | "envoy.type.matcher.v3.RegexMatchAndSubstitute" => ALL,
        "envoy.config.core.v3.HeaderValueOption" => &["header", "append", "append_action", "keep_empty_value"],
        "envoy.config.core.v3.DataSource" => &["filename", "inline_bytes", "inline_string", "environment_variable"],
        "envoy.config.core.v3.TypedExtensionConfig" => &["name", "typed_config"],
        _ => return None,
    })
}
