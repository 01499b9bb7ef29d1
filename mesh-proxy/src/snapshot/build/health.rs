//! `Cluster.health_checks`.

use std::ops::Range;
use std::time::Duration;

use http::{HeaderMap, Method};
use mesh_api::envoy::pb::envoy::config::core::v3 as core;
use mesh_api::envoy::pb::envoy::config::core::v3::health_check::payload::Payload as Bytes;
use mesh_api::envoy::pb::envoy::config::core::v3::health_check::{HealthChecker, HttpHealthCheck, Payload};
use mesh_api::envoy::pb::google::protobuf::{Duration as Proto, UInt32Value};

use super::common::{duration, header_name, header_value, uint};
use super::invalid::{At, Invalid, Result, each};
use crate::snapshot::{HealthCheck, HttpProbe, Probe};

const NO_TRAFFIC: Duration = Duration::from_secs(60);

/// The check of a cluster's endpoints, if there is one.
pub(super) fn health_check(values: &[core::HealthCheck], cluster: &str) -> Result<Option<HealthCheck>> {
    match values {
        [] => Ok(None),
        [one] => check(one, cluster).map(Some).at("health_checks[0]"),
        _ => Err(Invalid::new("only one check is implemented").under("health_checks[1]")),
    }
}

fn check(value: &core::HealthCheck, cluster: &str) -> Result<HealthCheck> {
    let time = |value: Option<&Proto>, field: &str| {
        duration(value)
            .filter(|d| !d.is_zero())
            .ok_or_else(|| Invalid::new("is required, and more than 0").under(field))
    };
    let threshold = |value: Option<&UInt32Value>, field: &str| {
        uint(value)
            .filter(|n| *n > 0)
            .ok_or_else(|| Invalid::new("is required, and more than 0").under(field))
    };
    let interval = time(value.interval.as_ref(), "interval")?;
    let probe = match &value.health_checker {
        Some(HealthChecker::HttpHealthCheck(http)) => Probe::Http(http_probe(http, cluster).at("http_health_check")?),
        Some(HealthChecker::TcpHealthCheck(tcp)) => Probe::Tcp {
            send: tcp
                .send
                .as_ref()
                .map_or(Ok(Vec::new()), bytes)
                .at("tcp_health_check.send")?,
            receive: each(&tcp.receive, "receive", bytes).at("tcp_health_check")?,
        },
        _ => {
            return Err(Invalid::new(
                "only http_health_check and tcp_health_check are implemented",
            ));
        }
    };
    Ok(HealthCheck {
        timeout: time(value.timeout.as_ref(), "timeout")?,
        interval,
        no_traffic_interval: duration(value.no_traffic_interval.as_ref()).unwrap_or(NO_TRAFFIC),
        unhealthy_interval: duration(value.unhealthy_interval.as_ref()).unwrap_or(interval),
        jitter: duration(value.interval_jitter.as_ref()).unwrap_or_default(),
        unhealthy_threshold: threshold(value.unhealthy_threshold.as_ref(), "unhealthy_threshold")?,
        healthy_threshold: threshold(value.healthy_threshold.as_ref(), "healthy_threshold")?,
        probe,
    })
}

fn http_probe(value: &HttpHealthCheck, cluster: &str) -> Result<HttpProbe> {
    if value.codec_client_type != 0 {
        return Err(Invalid::new("only HTTP1 is implemented").under("codec_client_type"));
    }
    if !value.path.starts_with('/') || value.path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Invalid::new("must begin with / and have no spaces").under("path"));
    }
    let method = match core::RequestMethod::try_from(value.method) {
        Ok(core::RequestMethod::MethodUnspecified) => Method::GET,
        Ok(core::RequestMethod::Connect) | Err(_) => return Err(Invalid::not_implemented("method")),
        Ok(method) => {
            Method::from_bytes(method.as_str_name().as_bytes()).map_err(|_| Invalid::not_implemented("method"))?
        }
    };
    let mut headers = HeaderMap::new();
    for (index, option) in value.request_headers_to_add.iter().enumerate() {
        let Some(header) = &option.header else { continue };
        let path = format!("request_headers_to_add[{index}].header");
        let name = header_name(&header.key).at(&path)?;
        headers.append(name, header_value(&header.value).at(&path)?);
    }
    let expected = each(&value.expected_statuses, "expected_statuses", |range| {
        match (u16::try_from(range.start), u16::try_from(range.end)) {
            (Ok(start), Ok(end)) if (100..end).contains(&start) && end <= 600 => Ok(start..end),
            _ => Err(Invalid::new("is no range of statuses within 100 to 599")),
        }
    })?;
    let host = if value.host.is_empty() { cluster } else { &value.host };
    header_value(host).at("host")?;
    Ok(HttpProbe {
        method,
        host: host.to_owned(),
        path: value.path.clone(),
        headers,
        expected: if expected.is_empty() {
            vec![Range { start: 200, end: 201 }]
        } else {
            expected
        },
    })
}

fn bytes(value: &Payload) -> Result<Vec<u8>> {
    let hex = match &value.payload {
        None => return Ok(Vec::new()),
        Some(Bytes::Binary(bytes)) => return Ok(bytes.clone()),
        Some(Bytes::Text(hex)) => hex,
    };
    let digit = |c: char| c.to_digit(16).and_then(|d| u8::try_from(d).ok());
    let digits: Option<Vec<u8>> = hex.chars().map(digit).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => Ok(digits.chunks(2).map(|d| (d[0] << 4) | d[1]).collect()),
        _ => Err(Invalid::new(format!("{hex:?} is not hexadecimal")).under("text")),
    }
}
