//! Small pieces that many messages share: addresses, durations, data sources, matchers, header operations.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;
pub(super) use mesh_api::envoy::any_type;
use mesh_api::envoy::pb::envoy::config::core::v3 as core;
use mesh_api::envoy::pb::envoy::r#type::matcher::v3 as matcher;
use mesh_api::envoy::pb::envoy::r#type::v3 as types;
use mesh_api::envoy::pb::google::protobuf::{BoolValue, Struct, UInt32Value, value::Kind};
use mesh_api::envoy::{Any, ProtoDuration, std_duration, unpack};
use prost::{Message, Name};
use regex::{Regex, RegexBuilder};

use super::invalid::{At, Invalid, Result, each};
use crate::snapshot::{AppendAction, HeaderAdd, HeaderOps, LogFormat, Origin, StringMatch, StringPattern};

/// A compiled pattern may take this much memory; RE2's default program limit in Istio's bootstrap is of the same order.
const REGEX_SIZE_LIMIT: usize = 4 << 20;

pub(super) fn duration(value: Option<&ProtoDuration>) -> Option<Duration> {
    value.map(std_duration)
}

/// A time limit: the default when absent, `None` when it is 0.
pub(super) fn limit(value: Option<&ProtoDuration>, default: Duration) -> Option<Duration> {
    Some(value.map_or(default, std_duration)).filter(|d| !d.is_zero())
}

pub(super) fn uint(value: Option<&UInt32Value>) -> Option<u32> {
    value.map(|v| v.value)
}

/// A number within the range that Envoy takes, or its default.
pub(super) fn within(value: Option<&UInt32Value>, default: u32, range: RangeInclusive<u32>) -> Result<u32> {
    let number = uint(value).unwrap_or(default);
    if range.contains(&number) {
        return Ok(number);
    }
    let (least, most) = range.into_inner();
    Err(Invalid::new(format!("{number} is not from {least} to {most}")))
}

pub(super) fn boolean(value: Option<&BoolValue>, default: bool) -> bool {
    value.map_or(default, |v| v.value)
}

/// Unpacks an `Any` that must be of this type.
pub(super) fn any<M: Message + Name + Default>(value: &Any) -> Result<M> {
    unpack(value).map_err(|e| Invalid::new(e.to_string()))
}

/// An IP address with a port.
pub(super) fn address(value: Option<&core::Address>) -> Result<SocketAddr> {
    let socket = socket_address(value)?;
    let ip: IpAddr = socket.address.parse().map_err(|_| {
        Invalid::new(format!(
            "{:?} is no IP address; host names belong into clusters of type STRICT_DNS or LOGICAL_DNS",
            socket.address
        ))
        .under("socket_address.address")
    })?;
    Ok(SocketAddr::new(ip, port(socket)?))
}

/// A host (name or address) with a port.
pub(super) fn host_port(value: Option<&core::Address>) -> Result<(String, u16)> {
    let socket = socket_address(value)?;
    Ok((socket.address.clone(), port(socket)?))
}

fn socket_address(value: Option<&core::Address>) -> Result<&core::SocketAddress> {
    match value.and_then(|a| a.address.as_ref()) {
        Some(core::address::Address::SocketAddress(socket)) => {
            if socket.protocol == core::socket_address::Protocol::Udp as i32 {
                return Err(Invalid::new("UDP is not implemented").under("socket_address.protocol"));
            }
            Ok(socket)
        }
        Some(core::address::Address::Pipe(_)) => Err(Invalid::not_implemented("pipe")),
        Some(core::address::Address::EnvoyInternalAddress(_)) => {
            Err(Invalid::not_implemented("envoy_internal_address"))
        }
        None => Err(Invalid::new("an address is required")),
    }
}

fn port(socket: &core::SocketAddress) -> Result<u16> {
    use core::socket_address::PortSpecifier;
    match &socket.port_specifier {
        Some(PortSpecifier::PortValue(port)) => to_port(*port).at("socket_address.port_value"),
        Some(PortSpecifier::NamedPort(_)) => Err(Invalid::not_implemented("socket_address.named_port")),
        None => Ok(0),
    }
}

pub(super) fn to_port(value: u32) -> Result<u16> {
    u16::try_from(value).map_err(|_| Invalid::new(format!("{value} is no port")))
}

pub(super) fn cidr(value: &core::CidrRange) -> Result<IpNet> {
    let ip: IpAddr = value
        .address_prefix
        .parse()
        .map_err(|_| Invalid::new(format!("{:?} is no IP address", value.address_prefix)).under("address_prefix"))?;
    let length = value.prefix_len.as_ref().map_or(0, |l| l.value);
    u8::try_from(length)
        .ok()
        .and_then(|l| IpNet::new(ip, l).ok())
        .map(|net| net.trunc())
        .ok_or_else(|| Invalid::new(format!("{length} is too long for {ip}")).under("prefix_len"))
}

/// The bytes of a data source. Files are read when the object is built.
pub(super) fn data_source(value: &core::DataSource) -> Result<Vec<u8>> {
    use core::data_source::Specifier;
    match &value.specifier {
        Some(Specifier::InlineBytes(bytes)) => Ok(bytes.clone()),
        Some(Specifier::InlineString(text)) => Ok(text.clone().into_bytes()),
        Some(Specifier::Filename(path)) => {
            std::fs::read(path).map_err(|e| Invalid::new(format!("{path}: {e}")).under("filename"))
        }
        Some(Specifier::EnvironmentVariable(name)) => std::env::var(name)
            .map(String::into_bytes)
            .map_err(|_| Invalid::new(format!("environment variable {name} is not set")).under("environment_variable")),
        None => Err(Invalid::new("a source is required")),
    }
}

/// A pattern that has to match the whole value.
pub(super) fn full_regex(value: &matcher::RegexMatcher) -> Result<Regex> {
    compile(&format!(r"\A(?:{})\z", value.regex), &value.regex)
}

/// A pattern that may match anywhere.
pub(super) fn part_regex(value: &matcher::RegexMatcher) -> Result<Regex> {
    compile(&value.regex, &value.regex)
}

fn compile(pattern: &str, shown: &str) -> Result<Regex> {
    if shown.is_empty() {
        return Err(Invalid::new("a pattern is required").under("regex"));
    }
    RegexBuilder::new(pattern)
        .size_limit(REGEX_SIZE_LIMIT)
        .build()
        .map_err(|e| Invalid::new(format!("{shown:?}: {e}")).under("regex"))
}

/// Pattern and substitution; RE2's `\1` becomes the `${1}` of the `regex` crate, a literal `$` is escaped.
pub(super) fn substitute(value: &matcher::RegexMatchAndSubstitute) -> Result<(Regex, String)> {
    let pattern = value
        .pattern
        .as_ref()
        .ok_or_else(|| Invalid::new("a pattern is required").under("pattern"))?;
    let regex = part_regex(pattern).at("pattern")?;
    let mut out = String::with_capacity(value.substitution.len());
    let mut chars = value.substitution.chars();
    while let Some(c) = chars.next() {
        match c {
            '$' => out.push_str("$$"),
            '\\' => match chars.next() {
                Some(d) if d.is_ascii_digit() => {
                    if d.to_digit(10).is_some_and(|n| n as usize >= regex.captures_len()) {
                        return Err(Invalid::new(format!("\\{d}: the pattern has no such group")).under("substitution"));
                    }
                    out.push_str(&format!("${{{d}}}"));
                }
                Some('\\') => out.push('\\'),
                _ => {
                    return Err(Invalid::new("a backslash needs a digit or a backslash after it").under("substitution"));
                }
            },
            c => out.push(c),
        }
    }
    Ok((regex, out))
}

pub(super) fn string_match(value: &matcher::StringMatcher) -> Result<StringMatch> {
    use matcher::string_matcher::MatchPattern;
    let fold = |text: &str| {
        if value.ignore_case {
            text.to_lowercase()
        } else {
            text.to_owned()
        }
    };
    let mut ignore_case = value.ignore_case;
    let pattern = match &value.match_pattern {
        Some(MatchPattern::Exact(p)) => StringPattern::Exact(fold(p)),
        Some(MatchPattern::Prefix(p)) => StringPattern::Prefix(fold(p)),
        Some(MatchPattern::Suffix(p)) => StringPattern::Suffix(fold(p)),
        Some(MatchPattern::Contains(p)) => StringPattern::Contains(fold(p)),
        Some(MatchPattern::SafeRegex(r)) => {
            ignore_case = false;
            StringPattern::Regex(full_regex(r).at("safe_regex")?)
        }
        Some(MatchPattern::Custom(_)) => return Err(Invalid::not_implemented("custom")),
        None => return Err(Invalid::new("a pattern is required")),
    };
    Ok(StringMatch { pattern, ignore_case })
}

pub(super) fn header_name(name: &str) -> Result<HeaderName> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| Invalid::new(format!("{name:?} is no header name")))
}

pub(super) fn header_value(value: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(value).map_err(|_| Invalid::new(format!("{value:?} is no header value")))
}

/// Additions and removals of one side.
pub(super) fn header_ops(
    add: &[core::HeaderValueOption],
    remove: &[String],
    add_field: &str,
    remove_field: &str,
) -> Result<HeaderOps> {
    let add: Vec<HeaderAdd> = each(add, add_field, header_add)?.into_iter().flatten().collect();
    Ok(HeaderOps {
        has_operators: add.iter().any(|a| a.operators.is_some()),
        add,
        remove: each(remove, remove_field, |name| match header_name(name)? {
            http::header::HOST => Err(Invalid::new("a request needs its host; it cannot be removed")),
            other => Ok(other),
        })?,
    })
}

/// `None` for an empty value, which means nothing unless `keep_empty_value` says so.
pub(super) fn header_add(option: &core::HeaderValueOption) -> Result<Option<HeaderAdd>> {
    use core::header_value_option::HeaderAppendAction;
    let header = option
        .header
        .as_ref()
        .ok_or_else(|| Invalid::new("a header is required").under("header"))?;
    let name = header_name(&header.key).at("header.key")?;
    if name == http::header::HOST {
        return Err(Invalid::new("the host is changed by host_rewrite_literal").under("header.key"));
    }
    let text = if header.raw_value.is_empty() {
        header.value.clone()
    } else {
        String::from_utf8(header.raw_value.clone())
            .map_err(|_| Invalid::new("not implemented for bytes that are no UTF-8").under("header.raw_value"))?
    };
    let plain = text.replace("%%", "");
    let (value, operators) = if plain.contains('%') {
        let format = LogFormat::text(&text).map_err(|e| Invalid::new(e).under("header.value"))?;
        // What stands around the operators has to be fit for a header.
        header_value(&plain).at("header.value")?;
        (HeaderValue::from_static(""), Some(Box::new(format)))
    } else {
        (header_value(&text.replace("%%", "%")).at("header.value")?, None)
    };
    #[allow(deprecated)]
    let append = option.append.as_ref().map(|b| b.value);
    let action = match (append, HeaderAppendAction::try_from(option.append_action)) {
        (Some(true), _) => AppendAction::Append,
        (Some(false), _) => AppendAction::Overwrite,
        (None, Ok(HeaderAppendAction::AppendIfExistsOrAdd)) => AppendAction::Append,
        (None, Ok(HeaderAppendAction::AddIfAbsent)) => AppendAction::AddIfAbsent,
        (None, Ok(HeaderAppendAction::OverwriteIfExistsOrAdd)) => AppendAction::Overwrite,
        (None, Ok(HeaderAppendAction::OverwriteIfExists)) => AppendAction::OverwriteIfExists,
        (None, Err(_)) => return Err(Invalid::not_implemented("append_action")),
    };
    if operators.is_none() && value.is_empty() && !option.keep_empty_value {
        return Ok(None);
    }
    Ok(Some(HeaderAdd {
        name,
        value,
        operators,
        action,
    }))
}

/// A share as parts of a million.
pub(super) fn fraction(value: &types::FractionalPercent) -> Result<u32> {
    use types::fractional_percent::DenominatorType;
    let factor: u64 = match DenominatorType::try_from(value.denominator) {
        Ok(DenominatorType::Hundred) => 10_000,
        Ok(DenominatorType::TenThousand) => 100,
        Ok(DenominatorType::Million) => 1,
        Err(_) => return Err(Invalid::not_implemented("denominator")),
    };
    let parts = (u64::from(value.numerator) * factor).min(1_000_000);
    Ok(u32::try_from(parts).unwrap_or(1_000_000))
}

/// Istio's `config` in metadata: the object behind a resource.
pub(super) fn origin(metadata: Option<&core::Metadata>) -> Origin {
    istio_string(metadata, "config")
}

/// A string of the metadata `istio`.
pub(super) fn istio_string(metadata: Option<&core::Metadata>, key: &str) -> Option<Arc<str>> {
    string_field(metadata?.filter_metadata.get("istio")?, key).map(Arc::from)
}

/// A string of a struct.
pub(super) fn string_field<'a>(fields: &'a Struct, key: &str) -> Option<&'a str> {
    match fields.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}
