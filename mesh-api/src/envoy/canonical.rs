//! Canonical bytes of a message: equal meaning gives equal bytes.
//!
//! prost writes fields in the order of their numbers, which is canonical already, but keeps `map` fields in hash order.
//! This walks the encoded bytes beside the descriptors and sorts the entries of every map, inside typed `Any` values too.
//! Only the control plane needs it (versions are hashes of these bytes), so the proxy need not keep the descriptors.

use std::collections::HashMap;

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

use super::Any;
use super::json::Json;

/// Encodes a message canonically.
pub fn encode<M: Message + prost::Name>(json: &Json, message: &M) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    sort(json, &M::full_name(), &mut bytes);
    bytes
}

/// Brings encoded bytes of the named message into canonical order.
pub fn sort(json: &Json, name: &str, bytes: &mut [u8]) {
    let plans = json.plans();
    if let Some(plan) = plans.of(name) {
        let mut sorter = Sorter {
            plans,
            entries: Vec::new(),
            scratch: Vec::new(),
        };
        // Bytes inside an `Any` that are no such message stay as they are from there on.
        let _ = sorter.sort(plan, bytes);
    }
}

/// Packs a message into an [`Any`] with canonical bytes.
pub fn pack<M: Message + prost::Name>(json: &Json, message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: encode(json, message),
    }
}

/// For each type of message, where maps may be; everything else is copied as it is.
#[derive(Debug)]
pub(super) struct Plans {
    plans: Vec<Plan>,
    /// Only types with a map or an `Any` somewhere inside.
    by_name: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct Plan {
    /// The message is an `Any`.
    any: bool,
    /// Fields that are to be looked into, by number.
    fields: Vec<(u32, Field)>,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    map: bool,
    /// The plan of the message inside; of the entry for a map.
    inner: Option<usize>,
}

impl Plans {
    /// Looks through all types.
    pub(super) fn of_pool(pool: &DescriptorPool) -> Self {
        let messages: Vec<MessageDescriptor> = pool.all_messages().collect();
        let number: HashMap<&str, usize> = messages.iter().enumerate().map(|(i, m)| (m.full_name(), i)).collect();
        let is_any = |m: &MessageDescriptor| m.full_name() == "google.protobuf.Any";
        let fields: Vec<Vec<(u32, bool, usize)>> = messages
            .iter()
            .map(|m| {
                let inner = m.fields().filter_map(|f| match f.kind() {
                    Kind::Message(inner) => Some((f.number(), f.is_map(), *number.get(inner.full_name())?)),
                    _ => None,
                });
                inner.collect()
            })
            .collect();
        // Types contain each other, so this goes on until nothing more is found.
        let mut needed: Vec<bool> = messages.iter().map(is_any).collect();
        loop {
            let mut more = false;
            for (index, fields) in fields.iter().enumerate() {
                if !needed[index] && fields.iter().any(|(_, map, inner)| *map || needed[*inner]) {
                    needed[index] = true;
                    more = true;
                }
            }
            if !more {
                break;
            }
        }
        let plan = |(message, fields): (&MessageDescriptor, &Vec<(u32, bool, usize)>)| Plan {
            any: is_any(message),
            fields: fields
                .iter()
                .filter(|(_, map, inner)| *map || needed[*inner])
                .map(|(number, map, inner)| {
                    let inner = needed[*inner].then_some(*inner);
                    (*number, Field { map: *map, inner })
                })
                .collect(),
        };
        Plans {
            plans: messages.iter().zip(&fields).map(plan).collect(),
            by_name: number
                .into_iter()
                .filter(|(_, index)| needed[*index])
                .map(|(name, index)| (name.to_owned(), index))
                .collect(),
        }
    }

    fn of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// Sorts in place: the order of entries changes no length, so nothing around them changes either.
struct Sorter<'a> {
    plans: &'a Plans,
    /// Entries of the maps that are being read, those of inner messages last.
    entries: Vec<Entry>,
    scratch: Vec<u8>,
}

/// Where an entry of a map stands.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: usize,
    payload: usize,
    end: usize,
}

impl Sorter<'_> {
    /// Sorts the maps of a message; `None` when its bytes do not parse.
    fn sort(&mut self, plan: usize, bytes: &mut [u8]) -> Option<()> {
        let plans = self.plans;
        let plan = plans.plans.get(plan)?;
        let base = self.entries.len();
        // The map field that is being read: prost writes its entries next to each other.
        let mut entries_of = 0;
        // The type inside an `Any`, which comes before the bytes.
        let mut any_inner = None;
        let mut at = 0;
        while at < bytes.len() {
            let start = at;
            let mut input = &bytes[at..];
            let (number, wire) = decode_key(&mut input).ok()?;
            let length = if wire == WireType::LengthDelimited {
                Some(usize::try_from(decode_varint(&mut input).ok()?).ok()?)
            } else {
                skip_scalar(wire, &mut input)?;
                None
            };
            let payload = bytes.len() - input.len();
            if entries_of != 0 && number != entries_of {
                self.flush(base, bytes);
                entries_of = 0;
            }
            let Some(length) = length else {
                at = payload;
                continue;
            };
            let end = payload.checked_add(length)?;
            let content = bytes.get_mut(payload..end)?;
            at = end;
            if plan.any && number == 1 {
                let url = std::str::from_utf8(content).ok()?;
                any_inner = plans.of(url.rsplit('/').next().unwrap_or(url));
            }
            let field = plan.fields.iter().find(|(n, _)| *n == number).map(|(_, f)| *f);
            let inner = match field {
                Some(field) => field.inner,
                None if plan.any && number == 2 => any_inner,
                None => None,
            };
            if let Some(inner) = inner {
                self.sort(inner, content)?;
            }
            if field.is_some_and(|f| f.map) {
                entries_of = number;
                self.entries.push(Entry { start, payload, end });
            }
        }
        self.flush(base, bytes);
        Some(())
    }

    /// Brings the entries from `base` on into their order.
    fn flush(&mut self, base: usize, bytes: &mut [u8]) {
        let entries = &mut self.entries[base..];
        if let (Some(first), Some(last)) = (entries.first().copied(), entries.last().copied()) {
            // A map entry starts with its key, so the order of entries is the order of their bytes.
            let content = |entry: &Entry| &bytes[entry.payload..entry.end];
            if !entries.is_sorted_by_key(content) {
                entries.sort_by(|a, b| content(a).cmp(content(b)));
                self.scratch.clear();
                for entry in entries {
                    self.scratch.extend_from_slice(&bytes[entry.start..entry.end]);
                }
                bytes[first.start..last.end].copy_from_slice(&self.scratch);
            }
        }
        self.entries.truncate(base);
    }
}

fn skip_scalar(wire: WireType, input: &mut &[u8]) -> Option<()> {
    match wire {
        WireType::Varint => decode_varint(input).ok().map(|_| ()),
        WireType::SixtyFourBit => advance(input, 8),
        WireType::ThirtyTwoBit => advance(input, 4),
        // Groups do not occur in proto3.
        _ => None,
    }
}

fn advance(input: &mut &[u8], n: usize) -> Option<()> {
    *input = input.get(n..)?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::pb::envoy::config::core::v3::Metadata;
    use crate::envoy::{ProtoValue, Struct};

    fn metadata(keys: &[&str]) -> Metadata {
        let mut m = Metadata::default();
        for k in keys {
            let fields = keys.iter().map(|k| ((*k).to_owned(), ProtoValue::default())).collect();
            m.filter_metadata.insert((*k).to_owned(), Struct { fields });
        }
        m
    }

    #[test]
    fn order_of_map_insertion_does_not_show() {
        let json = Json::new();
        let keys = ["b", "a", "istio", "envoy.lb", "c", "d", "e"];
        let first = pack(&json, &metadata(&keys));
        for shift in 1..keys.len() {
            let mut other = keys;
            other.rotate_left(shift);
            assert_eq!(first, pack(&json, &metadata(&other)));
        }
        let around = |inner: Any| Metadata {
            typed_filter_metadata: keys.iter().map(|k| ((*k).to_owned(), inner.clone())).collect(),
            ..Metadata::default()
        };
        let unsorted = |_| around(crate::envoy::pack(&metadata(&keys)));
        let nested: Vec<Any> = (0..8).map(unsorted).map(|m| pack(&json, &m)).collect();
        assert!(nested.iter().all(|m| *m == pack(&json, &around(first.clone()))));
        let back: Metadata = crate::envoy::unpack(&first).expect("canonical bytes still decode");
        assert_eq!(back, metadata(&keys));
    }
}
