//! How a cluster speaks HTTP: `HttpProtocolOptions`, and the older fields of the cluster itself.

use std::time::Duration;

use mesh_api::envoy::pb::envoy::config::cluster::v3 as cluster;
use mesh_api::envoy::pb::envoy::config::core::v3 as core;
use mesh_api::envoy::pb::envoy::extensions::upstreams::http::v3 as upstreams;

use super::common::{any, any_type, limit, uint};
use super::http_manager::http2_options;
use super::invalid::{At, Invalid, Result};
use crate::snapshot::{UpstreamHttp, UpstreamVersion};

/// Envoy's default for idle connections.
const IDLE: Duration = Duration::from_secs(3600);
const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(super) fn upstream_http(value: &cluster::Cluster) -> Result<UpstreamHttp> {
    let mut options = None;
    for (key, config) in &value.typed_extension_protocol_options {
        let field = format!("typed_extension_protocol_options[{key:?}]");
        let kind = any_type(config);
        if kind != OPTIONS {
            return Err(Invalid::new(format!("{kind} is not implemented")).under(field));
        }
        let message: upstreams::HttpProtocolOptions = any(config).at(&field)?;
        options = Some(new_options(&message).at(&field)?);
    }
    match options {
        Some(options) => Ok(options),
        None => old_options(value),
    }
}

fn new_options(value: &upstreams::HttpProtocolOptions) -> Result<UpstreamHttp> {
    use upstreams::http_protocol_options::UpstreamProtocolOptions as Kind;
    use upstreams::http_protocol_options::explicit_http_config::ProtocolConfig;
    let (version, http2) = match &value.upstream_protocol_options {
        Some(Kind::ExplicitHttpConfig(c)) => match &c.protocol_config {
            Some(ProtocolConfig::HttpProtocolOptions(_)) => (UpstreamVersion::Http1, None),
            Some(ProtocolConfig::Http2ProtocolOptions(o)) => (UpstreamVersion::Http2, Some(o)),
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                return Err(Invalid::not_implemented("explicit_http_config.http3_protocol_options"));
            }
            None => return Err(Invalid::new("a protocol is required").under("explicit_http_config")),
        },
        Some(Kind::UseDownstreamProtocolConfig(c)) => {
            if c.http3_protocol_options.is_some() {
                return Err(Invalid::not_implemented(
                    "use_downstream_protocol_config.http3_protocol_options",
                ));
            }
            (UpstreamVersion::Downstream, c.http2_protocol_options.as_ref())
        }
        Some(Kind::AutoConfig(c)) => {
            if c.http3_protocol_options.is_some() {
                return Err(Invalid::not_implemented("auto_config.http3_protocol_options"));
            }
            (UpstreamVersion::Alpn, c.http2_protocol_options.as_ref())
        }
        None => {
            return Err(Invalid::new(
                "one of explicit_http_config, use_downstream_protocol_config or auto_config is required",
            ));
        }
    };
    let upstream = value.upstream_http_protocol_options.clone().unwrap_or_default();
    options(version, http2, value.common_http_protocol_options.as_ref(), &upstream)
}

#[allow(deprecated)]
fn old_options(value: &cluster::Cluster) -> Result<UpstreamHttp> {
    let upstream = value.upstream_http_protocol_options.clone().unwrap_or_default();
    let version = if value.protocol_selection != 0 {
        UpstreamVersion::Downstream
    } else if value.http2_protocol_options.is_some() {
        UpstreamVersion::Http2
    } else {
        UpstreamVersion::Http1
    };
    let mut out = options(
        version,
        value.http2_protocol_options.as_ref(),
        value.common_http_protocol_options.as_ref(),
        &upstream,
    )?;
    if let Some(most) = uint(value.max_requests_per_connection.as_ref()) {
        out.max_requests_per_connection = most;
    }
    Ok(out)
}

fn options(
    version: UpstreamVersion,
    http2: Option<&core::Http2ProtocolOptions>,
    common: Option<&core::HttpProtocolOptions>,
    upstream: &core::UpstreamHttpProtocolOptions,
) -> Result<UpstreamHttp> {
    let common = common.copied().unwrap_or_default();
    Ok(UpstreamHttp {
        version,
        http2: http2_options(http2).at("http2_protocol_options")?,
        idle_timeout: limit(common.idle_timeout.as_ref(), IDLE),
        max_requests_per_connection: uint(common.max_requests_per_connection.as_ref()).unwrap_or(0),
        max_connection_duration: limit(common.max_connection_duration.as_ref(), Duration::ZERO),
        auto_sni: upstream.auto_sni,
        auto_san_validation: upstream.auto_san_validation,
    })
}
