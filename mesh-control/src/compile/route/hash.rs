//! What of a request or a connection decides which endpoint it goes to, where a DestinationRule has `consistentHash`.

use mesh_api::envoy::pb::envoy::r#type::v3 as types;

use super::super::cluster::policy::Policy;
use super::super::pb::{route, time};

/// Of an HTTP request.
pub(super) fn of_request(policy: &Policy<'_>) -> Option<route::route_action::HashPolicy> {
    use route::route_action::hash_policy::{
        ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
    };
    let from = policy.consistent_hash()?;
    let key = if let Some(name) = &from.http_header_name {
        PolicySpecifier::Header(Header {
            header_name: name.clone(),
            ..Default::default()
        })
    } else if let Some(cookie) = &from.http_cookie {
        PolicySpecifier::Cookie(Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.and_then(|d| time(d.into())),
            path: cookie.path.clone(),
            attributes: cookie
                .attributes
                .iter()
                .map(|a| CookieAttribute {
                    name: a.name.clone(),
                    value: a.value.clone(),
                })
                .collect(),
        })
    } else if from.use_source_ip == Some(true) {
        PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })
    } else {
        PolicySpecifier::QueryParameter(QueryParameter {
            name: from.http_query_parameter_name.clone()?,
        })
    };
    Some(route::route_action::HashPolicy {
        policy_specifier: Some(key),
        ..Default::default()
    })
}

/// Of a TCP connection, of which only the caller's address is known.
pub(in super::super) fn of_connection(policy: &Policy<'_>) -> Option<types::HashPolicy> {
    let by_address = policy.consistent_hash()?.use_source_ip == Some(true);
    by_address.then_some(types::HashPolicy {
        policy_specifier: Some(types::hash_policy::PolicySpecifier::SourceIp(
            types::hash_policy::SourceIp {},
        )),
    })
}
