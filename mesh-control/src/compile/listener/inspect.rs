//! Listener filters: what is looked at before a filter chain is chosen.

use mesh_api::envoy::pb::envoy::extensions::filters::listener::{
    http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst, tls_inspector::v3::TlsInspector,
};
use prost::{Message, Name};

use super::super::pb::{listener, pack, types};
use listener::listener_filter_chain_match_predicate::Rule;

/// Ports where a filter does not run: the server speaks first there, or nothing depends on what it would find.
pub(super) fn disabled(ports: &[u16]) -> Option<listener::ListenerFilterChainMatchPredicate> {
    let mut rules: Vec<_> = ports
        .iter()
        .map(|port| listener::ListenerFilterChainMatchPredicate {
            rule: Some(Rule::DestinationPortRange(types::Int32Range {
                start: i32::from(*port),
                end: i32::from(*port) + 1,
            })),
        })
        .collect();
    if rules.len() <= 1 {
        return rules.pop();
    }

    Some(listener::ListenerFilterChainMatchPredicate {
        rule: Some(Rule::OrMatch(
            listener::listener_filter_chain_match_predicate::MatchSet { rules },
        )),
    })
}

/// `SO_ORIGINAL_DST`.
pub(super) fn original_dst() -> listener::ListenerFilter {
    filter("envoy.filters.listener.original_dst", &OriginalDst::default(), &[])
}

/// Finds server name and ALPN.
pub(in super::super) fn tls(off: &[u16]) -> listener::ListenerFilter {
    filter("envoy.filters.listener.tls_inspector", &TlsInspector::default(), off)
}

/// Finds the version of HTTP.
pub(super) fn http(off: &[u16]) -> listener::ListenerFilter {
    filter("envoy.filters.listener.http_inspector", &HttpInspector::default(), off)
}

fn filter<M: Message + Name>(name: &str, config: &M, off: &[u16]) -> listener::ListenerFilter {
    listener::ListenerFilter {
        name: name.to_owned(),
        filter_disabled: disabled(off),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(pack(config))),
    }
}
