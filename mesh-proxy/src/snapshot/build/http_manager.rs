//! `HttpConnectionManager` and its HTTP filters.

use std::sync::Arc;
use std::time::Duration;

use mesh_api::envoy::Any;
use mesh_api::envoy::pb::envoy::config::core::v3 as core;
use mesh_api::envoy::pb::envoy::extensions::filters::http::cors::v3::Cors;
use mesh_api::envoy::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use mesh_api::envoy::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;

use super::access_log::access_logs;
use super::common::{any, any_type, boolean, duration, header_value, limit, within};
use super::context::Context;
use super::dynamic_forward::{self, HTTP_FILTER as DYNAMIC_FORWARD};
use super::http_filters::{HEADER_MUTATION, LOCAL_RATE_LIMIT, header_mutation, local_rate_limit};
use super::invalid::{At, Invalid, Result};
use super::route::route_table;
use crate::snapshot::{
    Codec, EscapedSlashes, ForwardClientCert, Http2Options, HttpConnectionManager, HttpFilter, RouteSource,
    ServerHeader, StripPort,
};

/// Envoy's defaults.
const STREAM_IDLE: Duration = Duration::from_secs(300);
const CONNECTION_IDLE: Duration = Duration::from_secs(3600);
const DRAIN: Duration = Duration::from_secs(5);
const MAX_HEADERS_KB: u32 = 60;

pub(super) fn http_manager(
    value: &hcm::HttpConnectionManager,
    context: &mut Context<'_>,
) -> Result<HttpConnectionManager> {
    let common = value.common_http_protocol_options.unwrap_or_default();
    if common.max_requests_per_connection.is_some() {
        return Err(Invalid::not_implemented(
            "common_http_protocol_options.max_requests_per_connection",
        ));
    }
    let server_name = match value.server_name.as_str() {
        "" => "envoy",
        name => name,
    };
    Ok(HttpConnectionManager {
        stat_prefix: value.stat_prefix.as_str().into(),
        codec: codec(value.codec_type)?,
        routes: routes(value, context)?,
        filters: filters(&value.http_filters)?,
        server_name: header_value(server_name).at("server_name")?,
        server_header: server_header(value.server_header_transformation)?,
        use_remote_address: boolean(value.use_remote_address.as_ref(), false),
        xff_num_trusted_hops: value.xff_num_trusted_hops,
        generate_request_id: boolean(value.generate_request_id.as_ref(), true),
        preserve_external_request_id: value.preserve_external_request_id,
        normalize_path: boolean(value.normalize_path.as_ref(), false),
        merge_slashes: value.merge_slashes,
        escaped_slashes: escaped_slashes(value.path_with_escaped_slashes_action)?,
        xfcc: client_cert(value)?,
        upgrades: upgrades(&value.upgrade_configs)?,
        stream_idle_timeout: limit(value.stream_idle_timeout.as_ref(), STREAM_IDLE),
        request_timeout: limit(value.request_timeout.as_ref(), Duration::ZERO),
        request_headers_timeout: limit(value.request_headers_timeout.as_ref(), Duration::ZERO),
        idle_timeout: limit(common.idle_timeout.as_ref(), CONNECTION_IDLE),
        max_connection_duration: limit(common.max_connection_duration.as_ref(), Duration::ZERO),
        max_request_headers_kb: within(value.max_request_headers_kb.as_ref(), MAX_HEADERS_KB, 1..=8192)
            .at("max_request_headers_kb")?,
        accept_http_10: value.http_protocol_options.as_ref().is_some_and(|o| o.accept_http_10),
        drain_timeout: duration(value.drain_timeout.as_ref()).unwrap_or(DRAIN),
        http2: http2_options(value.http2_protocol_options.as_ref()).at("http2_protocol_options")?,
        access_logs: access_logs(&value.access_log)?,
        strip_port: strip_port(value),
    })
}

fn strip_port(value: &hcm::HttpConnectionManager) -> StripPort {
    use hcm::http_connection_manager::StripPortMode;
    match value.strip_port_mode {
        Some(StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
        _ if value.strip_matching_host_port => StripPort::Matching,
        _ => StripPort::No,
    }
}

fn codec(value: i32) -> Result<Codec> {
    use hcm::http_connection_manager::CodecType;
    match CodecType::try_from(value) {
        Ok(CodecType::Auto) => Ok(Codec::Auto),
        Ok(CodecType::Http1) => Ok(Codec::Http1),
        Ok(CodecType::Http2) => Ok(Codec::Http2),
        Ok(CodecType::Http3) | Err(_) => Err(Invalid::not_implemented("codec_type")),
    }
}

fn routes(value: &hcm::HttpConnectionManager, context: &mut Context<'_>) -> Result<RouteSource> {
    use hcm::http_connection_manager::RouteSpecifier;
    match &value.route_specifier {
        Some(RouteSpecifier::RouteConfig(config)) => {
            let table = route_table(config, config.virtual_hosts.iter().map(Ok)).at("route_config")?;
            Ok(RouteSource::Inline(Arc::new(table)))
        }
        Some(RouteSpecifier::Rds(rds)) => {
            context.needs_ads(rds.config_source.as_ref()).at("rds.config_source")?;
            if rds.route_config_name.is_empty() {
                return Err(Invalid::new("a name is required").under("rds.route_config_name"));
            }
            Ok(RouteSource::Rds(context.needs_routes(&rds.route_config_name)))
        }
        Some(RouteSpecifier::ScopedRoutes(_)) => Err(Invalid::not_implemented("scoped_routes")),
        None => Err(Invalid::new("one of rds or route_config is required")),
    }
}

/// The filters before the router; the router itself is what runs after them.
fn filters(all: &[hcm::HttpFilter]) -> Result<Vec<HttpFilter>> {
    let mut out = Vec::new();
    let mut router = false;
    for (i, filter) in all.iter().enumerate() {
        if router {
            return Err(Invalid::new("envoy.filters.http.router must be the last filter")
                .under(format_args!("http_filters[{i}]")));
        }
        match http_filter(filter).map_err(|e| e.under(format_args!("http_filters[{i}]")))? {
            Recognised::Router => router = true,
            Recognised::Filter(filter) => out.push(filter),
            Recognised::Skipped => {}
        }
    }
    if !router {
        return Err(Invalid::new("the last filter must be envoy.filters.http.router").under("http_filters"));
    }
    Ok(out)
}

enum Recognised {
    Router,
    Filter(HttpFilter),
    Skipped,
}

/// The type of a filter's configuration, or what its name stands for when it has none, as older Envoys take it.
pub(super) fn http_filter_type(filter: &hcm::HttpFilter) -> String {
    if let Some(hcm::http_filter::ConfigType::TypedConfig(config)) = &filter.config_type {
        return any_type(config);
    }
    match filter.name.as_str() {
        "envoy.filters.http.router" | "envoy.router" => ROUTER,
        "envoy.filters.http.cors" | "envoy.cors" => CORS,
        "envoy.filters.http.fault" | "envoy.fault" => FAULT,
        "envoy.filters.http.grpc_stats" => GRPC_STATS,
        "envoy.filters.http.local_ratelimit" => LOCAL_RATE_LIMIT,
        "envoy.filters.http.header_mutation" => HEADER_MUTATION,
        "envoy.filters.http.dynamic_forward_proxy" => DYNAMIC_FORWARD,
        "istio.alpn" => ALPN,
        "istio.stats" => STATS,
        "istio.metadata_exchange" => PEER_METADATA,
        other => other,
    }
    .to_owned()
}

const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
const CORS: &str = "envoy.extensions.filters.http.cors.v3.Cors";
const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";
const GRPC_STATS: &str = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig";
const ALPN: &str = "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig";
const STATS: &str = "stats.PluginConfig";
const PEER_METADATA: &str = "io.istio.http.peer_metadata.Config";

fn http_filter(filter: &hcm::HttpFilter) -> Result<Recognised> {
    let config: Option<&Any> = match &filter.config_type {
        Some(hcm::http_filter::ConfigType::TypedConfig(config)) => Some(config),
        Some(hcm::http_filter::ConfigType::ConfigDiscovery(_)) => {
            return Err(Invalid::not_implemented("config_discovery"));
        }
        None => None,
    };
    let kind = http_filter_type(filter);
    let known = match kind.as_str() {
        ROUTER => return Ok(Recognised::Router),
        // These two act by what a route tells them; nothing may be set for all routes.
        CORS => {
            acts_by_route::<Cors>(config)?;
            HttpFilter::Cors
        }
        FAULT => {
            acts_by_route::<HttpFault>(config)?;
            HttpFilter::Fault
        }
        GRPC_STATS => HttpFilter::GrpcStats,
        ALPN => HttpFilter::Alpn,
        STATS => HttpFilter::IstioStats,
        PEER_METADATA => HttpFilter::PeerMetadata,
        LOCAL_RATE_LIMIT => HttpFilter::LocalRateLimit(Arc::new(configured(config, local_rate_limit)?)),
        DYNAMIC_FORWARD => HttpFilter::DynamicForward(configured(config, dynamic_forward::http_filter)?),
        HEADER_MUTATION => HttpFilter::HeaderMutation(Arc::new(configured(config, header_mutation)?)),
        _ if filter.is_optional => {
            tracing::debug!(filter = %filter.name, kind, "optional HTTP filter is not implemented and left out");
            return Ok(Recognised::Skipped);
        }
        _ => return Err(Invalid::new(format!("{kind} is not implemented")).under("typed_config")),
    };
    let by_route = matches!(known, HttpFilter::Cors | HttpFilter::Fault);
    Ok(match filter.disabled {
        // `disabled` means: only where a route configures it, which is how these work anyway.
        true if !by_route => Recognised::Skipped,
        _ => Recognised::Filter(known),
    })
}

fn configured<M: prost::Message + prost::Name + Default, T>(
    config: Option<&Any>,
    make: impl FnOnce(&M) -> Result<T>,
) -> Result<T> {
    let config = config.ok_or_else(|| Invalid::new("a configuration is required").under("typed_config"))?;
    any::<M>(config).and_then(|c| make(&c)).at("typed_config")
}

fn acts_by_route<M: prost::Message + prost::Name + Default + PartialEq>(config: Option<&Any>) -> Result<()> {
    let Some(config) = config else { return Ok(()) };
    if config.type_url.ends_with(&M::full_name()) && any::<M>(config).at("typed_config")? != M::default() {
        return Err(
            Invalid::new("only configuration by route (typed_per_filter_config) is implemented").under("typed_config"),
        );
    }
    Ok(())
}

fn server_header(value: i32) -> Result<ServerHeader> {
    use hcm::http_connection_manager::ServerHeaderTransformation;
    match ServerHeaderTransformation::try_from(value) {
        Ok(ServerHeaderTransformation::Overwrite) => Ok(ServerHeader::Overwrite),
        Ok(ServerHeaderTransformation::AppendIfAbsent) => Ok(ServerHeader::AppendIfAbsent),
        Ok(ServerHeaderTransformation::PassThrough) => Ok(ServerHeader::PassThrough),
        Err(_) => Err(Invalid::not_implemented("server_header_transformation")),
    }
}

fn escaped_slashes(value: i32) -> Result<EscapedSlashes> {
    use hcm::http_connection_manager::PathWithEscapedSlashesAction as Action;
    match Action::try_from(value) {
        Ok(Action::ImplementationSpecificDefault | Action::KeepUnchanged) => Ok(EscapedSlashes::Keep),
        Ok(Action::RejectRequest) => Ok(EscapedSlashes::Reject),
        Ok(Action::UnescapeAndRedirect) => Ok(EscapedSlashes::UnescapeAndRedirect),
        Ok(Action::UnescapeAndForward) => Ok(EscapedSlashes::UnescapeAndForward),
        Err(_) => Err(Invalid::not_implemented("path_with_escaped_slashes_action")),
    }
}

fn client_cert(value: &hcm::HttpConnectionManager) -> Result<ForwardClientCert> {
    use hcm::http_connection_manager::ForwardClientCertDetails as Details;
    let how = match Details::try_from(value.forward_client_cert_details) {
        Ok(Details::Sanitize) => ForwardClientCert::Sanitize,
        Ok(Details::ForwardOnly) => ForwardClientCert::ForwardOnly,
        Ok(Details::AppendForward) => ForwardClientCert::AppendForward,
        Ok(Details::SanitizeSet) => ForwardClientCert::SanitizeSet,
        Ok(Details::AlwaysForwardOnly) => ForwardClientCert::AlwaysForwardOnly,
        Err(_) => return Err(Invalid::not_implemented("forward_client_cert_details")),
    };
    Ok(how)
}

fn upgrades(all: &[hcm::http_connection_manager::UpgradeConfig]) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for (i, upgrade) in all.iter().enumerate() {
        if !upgrade.filters.is_empty() {
            return Err(Invalid::not_implemented("filters").under(format_args!("upgrade_configs[{i}]")));
        }
        if boolean(upgrade.enabled.as_ref(), true) {
            out.push(upgrade.upgrade_type.to_lowercase());
        }
    }
    Ok(out)
}

/// `None` without an interval: Envoy then sends no PING either.
fn keep_alive(value: &core::KeepaliveSettings) -> Result<Option<(Duration, Duration)>> {
    let interval = duration(value.interval.as_ref()).filter(|d| !d.is_zero());
    let timeout = duration(value.timeout.as_ref())
        .filter(|d| *d >= Duration::from_millis(1))
        .ok_or_else(|| Invalid::new("must be at least 1 ms").under("timeout"))?;
    Ok(interval.map(|interval| (interval, timeout)))
}

/// Limits of HTTP/2, in the ranges that Envoy takes: the codec would not survive others.
pub(super) fn http2_options(value: Option<&core::Http2ProtocolOptions>) -> Result<Http2Options> {
    const MOST: u32 = i32::MAX as u32;
    let defaults = Http2Options::default();
    let Some(value) = value else { return Ok(defaults) };
    let streams = value.max_concurrent_streams.as_ref();
    let stream_window = value.initial_stream_window_size.as_ref();
    let connection_window = value.initial_connection_window_size.as_ref();
    Ok(Http2Options {
        max_concurrent_streams: within(streams, defaults.max_concurrent_streams, 1..=MOST)
            .at("max_concurrent_streams")?,
        initial_stream_window: within(stream_window, defaults.initial_stream_window, 65_535..=MOST)
            .at("initial_stream_window_size")?,
        initial_connection_window: within(connection_window, defaults.initial_connection_window, 65_535..=MOST)
            .at("initial_connection_window_size")?,
        keep_alive: value
            .connection_keepalive
            .as_ref()
            .map(keep_alive)
            .transpose()
            .at("connection_keepalive")?
            .flatten(),
    })
}
