//! Canonical bytes of a message: equal meaning gives equal bytes.
//!
//! prost writes fields in the order of their numbers, which is canonical already, but keeps `map` fields in hash order.
//! This walks the encoded bytes beside the descriptors and sorts the entries of every map, inside typed `Any` values too.
//! Only the control plane needs it (versions are hashes of these bytes), so the proxy need not keep the descriptors.

use std::borrow::Cow;
use std::collections::HashMap;

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

use super::Any;
use super::json::Json;

/// Encodes a message canonically.
pub fn encode<M: Message + prost::Name>(json: &Json, message: &M) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let plans = json.plans();
    match plans.of(&M::full_name()) {
        Some(plan) => plans.rewrite(plan, &bytes).unwrap_or(bytes),
        None => bytes,
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

    /// Rewrites encoded bytes; `None` when they do not parse, and the caller keeps them as they are.
    fn rewrite(&self, plan: usize, mut input: &[u8]) -> Option<Vec<u8>> {
        let plan = self.plans.get(plan)?;
        let mut out = Vec::with_capacity(input.len());
        // Entries of the map field that is being read: prost writes them next to each other.
        let mut entries: Vec<Cow<'_, [u8]>> = Vec::new();
        let mut entries_of = 0;
        // The type inside an `Any`, which comes before the bytes.
        let mut any_inner = None;
        while !input.is_empty() {
            let start = input;
            let (number, wire) = decode_key(&mut input).ok()?;
            if number != entries_of {
                flush(&mut out, &mut entries, entries_of);
                entries_of = 0;
            }
            if wire != WireType::LengthDelimited {
                skip_scalar(wire, &mut input)?;
                out.extend_from_slice(&start[..start.len() - input.len()]);
                continue;
            }
            let length = usize::try_from(decode_varint(&mut input).ok()?).ok()?;
            let payload = input.get(..length)?;
            input = &input[length..];
            if plan.any && number == 1 {
                let url = std::str::from_utf8(payload).ok()?;
                any_inner = self.of(url.rsplit('/').next().unwrap_or(url));
            }
            let field = plan.fields.iter().find(|(n, _)| *n == number).map(|(_, f)| *f);
            let map = field.is_some_and(|f| f.map);
            let inner = match field {
                Some(field) => field.inner,
                None if plan.any && number == 2 => any_inner,
                None => None,
            };
            match inner {
                None if !map => out.extend_from_slice(&start[..start.len() - input.len()]),
                inner => {
                    let payload = match inner {
                        Some(inner) => Cow::Owned(self.rewrite(inner, payload)?),
                        None => Cow::Borrowed(payload),
                    };
                    if map {
                        entries_of = number;
                        entries.push(payload);
                    } else {
                        put(&mut out, number, &payload);
                    }
                }
            }
        }
        flush(&mut out, &mut entries, entries_of);
        Some(out)
    }
}

fn flush(out: &mut Vec<u8>, entries: &mut Vec<Cow<'_, [u8]>>, number: u32) {
    // A map entry starts with its key, so the order of entries is the order of their bytes.
    entries.sort();
    for entry in entries.drain(..) {
        put(out, number, &entry);
    }
}

fn put(out: &mut Vec<u8>, number: u32, payload: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(payload.len() as u64, out);
    out.extend_from_slice(payload);
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
        let back: Metadata = crate::envoy::unpack(&first).expect("canonical bytes still decode");
        assert_eq!(back, metadata(&keys));
    }
}
