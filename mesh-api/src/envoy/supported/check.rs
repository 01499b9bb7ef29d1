//! A walk over every field that is set in a message, against the table of those that are implemented or harmless.

use std::collections::HashMap;

use prost::Message as _;

use super::{ALL, fields_of};
use crate::envoy::fields::{MessageType, Set};
use crate::envoy::{Any, any_type};

/// A field that is set and means something that mesh-proxy does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// From the message's root: `filter_chains[0].filters[1].typed_config.tracing`; empty for the message itself.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// All fields of an encoded message (`envoy.config.cluster.v3.Cluster`) that mean something mesh-proxy does not do.
/// Messages inside of an `Any` are looked at too, but for those that are packed as a `TypedStruct`.
pub fn check(type_name: &str, bytes: &[u8]) -> Vec<Refused> {
    let mut out = Vec::new();
    match MessageType::named(type_name) {
        Some(kind) => walk(kind, bytes, "", &mut out),
        None => out.push(refusal("", &format!("unknown message type {type_name}"))),
    }
    out
}

fn walk(kind: MessageType, bytes: &[u8], path: &str, out: &mut Vec<Refused>) {
    let name = kind.name();
    if name == "google.protobuf.Any" {
        walk_any(bytes, path, out);
        return;
    }
    // Wrappers, durations, structs.
    if name.starts_with("google.protobuf.") {
        return;
    }
    let Some(known) = fields_of(name) else {
        out.push(refusal(path, &format!("{name} is not implemented")));
        return;
    };
    if known == ALL {
        return;
    }
    let set = match kind.read(bytes) {
        Ok(set) => set,
        Err(e) => {
            out.push(refusal(path, &format!("malformed {name}: {e}")));
            return;
        }
    };
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for value in &set {
        let Some(field) = value.field else {
            out.push(refusal(path, &format!("field {} is not known", value.number)));
            continue;
        };
        let child = join(path, field.name);
        if !known.contains(&field.name) {
            // Once for a list of them.
            if out.last().is_none_or(|last| last.path != child) {
                out.push(refusal(&child, "not implemented"));
            }
            continue;
        }
        let Some(inner) = field.message else { continue };
        if name.ends_with(".HttpFilter") && field.name == "typed_config" && optional_and_unknown(&set, value.bytes) {
            continue;
        }
        if !field.repeated {
            walk(inner, value.bytes, &child, out);
        } else if let Some(Entry { key, message }) = map_entry(inner, value.bytes) {
            if let Some((inner, bytes)) = message {
                walk(inner, bytes, &format!("{child}[{key:?}]"), out);
            }
        } else {
            let count = counts.entry(value.number).or_default();
            walk(inner, value.bytes, &format!("{child}[{count}]"), out);
            *count += 1;
        }
    }
}

/// A map's entry.
struct Entry<'a> {
    key: String,
    /// The value, if it is a message.
    message: Option<(MessageType, &'a [u8])>,
}

/// Reads a map's entry: a message of the two fields `key` and `value`, whose type is named after the field
/// (`LabelsEntry`). `None` for other messages.
fn map_entry(kind: MessageType, bytes: &[u8]) -> Option<Entry<'_>> {
    let is_entry = kind.name().ends_with("Entry")
        && kind.field(1).is_some_and(|f| f.name == "key")
        && kind.field(2).is_some_and(|f| f.name == "value");
    if !is_entry {
        return None;
    }
    let set = kind.read(bytes).unwrap_or_default();
    let of = |number| set.iter().rfind(|s| s.number == number);
    let key = of(1).map(|s| String::from_utf8_lossy(s.bytes).into_owned());
    let inner = kind.field(2).and_then(|f| f.message);
    Some(Entry {
        key: key.unwrap_or_default(),
        message: inner.map(|inner| (inner, of(2).map_or(&bytes[..0], |s| s.bytes))),
    })
}

fn walk_any(bytes: &[u8], path: &str, out: &mut Vec<Refused>) {
    let any = match Any::decode(bytes) {
        Ok(any) => any,
        Err(e) => {
            out.push(refusal(path, &format!("malformed google.protobuf.Any: {e}")));
            return;
        }
    };
    let kind = any_type(&any);
    if fields_of(&kind).is_none() {
        out.push(refusal(path, &format!("{kind} is not implemented")));
        return;
    }
    // What is inside a `TypedStruct` is looked at by whoever reads it; its type is in the table.
    if any.type_url.ends_with(&kind)
        && let Some(inner) = MessageType::named(&kind)
    {
        walk(inner, &any.value, path, out);
    }
}

/// An HTTP filter that the sender says may be left out, of a type that we do not have.
fn optional_and_unknown(filter: &[Set<'_>], config: &[u8]) -> bool {
    let optional = filter
        .iter()
        .any(|s| s.field.is_some_and(|f| f.name == "is_optional") && s.varint != 0);
    let known = Any::decode(config).is_ok_and(|any| fields_of(&any_type(&any)).is_some());
    optional && !known
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() {
        field.to_owned()
    } else {
        format!("{path}.{field}")
    }
}

fn refusal(path: &str, message: &str) -> Refused {
    Refused {
        path: path.to_owned(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::pack;
    use crate::envoy::pb::envoy::config::cluster::v3::Cluster;
    use crate::envoy::pb::envoy::config::endpoint::v3::UpstreamLocalityStats;
    use crate::envoy::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
    use crate::envoy::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};

    const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";

    fn paths(type_name: &str, bytes: &[u8]) -> Vec<String> {
        check(type_name, bytes).into_iter().map(|r| r.path).collect()
    }

    #[test]
    fn what_is_implemented_passes_and_what_is_not_is_named() {
        let mut cluster = Cluster {
            name: "a".to_owned(),
            ..Cluster::default()
        };
        assert_eq!(paths(CLUSTER, &cluster.encode_to_vec()), Vec::<String>::new());
        cluster.filters.push(Default::default());
        cluster.filters.push(Default::default());
        assert_eq!(paths(CLUSTER, &cluster.encode_to_vec()), ["filters"]);
    }

    #[test]
    fn paths_lead_through_lists_and_packed_messages() {
        let proxy = TcpProxy {
            cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster("a".to_owned())),
            upstream_idle_timeout: None,
            max_downstream_connection_duration: Some(crate::envoy::ProtoDuration::default()),
            ..TcpProxy::default()
        };
        let of = |config| Filter {
            name: "f".to_owned(),
            config_type: Some(filter::ConfigType::TypedConfig(config)),
        };
        let listener = Listener {
            filter_chains: vec![FilterChain {
                filters: vec![of(pack(&UpstreamLocalityStats::default())), of(pack(&proxy))],
                ..FilterChain::default()
            }],
            ..Listener::default()
        };
        assert_eq!(
            paths("envoy.config.listener.v3.Listener", &listener.encode_to_vec()),
            [
                "filter_chains[0].filters[0].typed_config",
                "filter_chains[0].filters[1].typed_config.max_downstream_connection_duration",
            ]
        );
    }

    #[test]
    fn unknown_messages_and_numbers_are_refused() {
        assert_eq!(paths("a.B", &[]), [""]);
        let unknown = check(CLUSTER, b"\xf8\xff\x03\x01");
        assert_eq!(unknown[0].message, "field 8191 is not known");
    }
}
