//! Canonical bytes of a message: equal meaning gives equal bytes.
//!
//! prost writes fields in the order of their numbers, which is canonical already, but keeps `map` fields in hash order.
//! This walks the encoded bytes beside the descriptors and sorts the entries of every map, inside typed `Any` values too.
//! Only the control plane needs it (versions are hashes of these bytes), so the proxy need not keep the descriptors.

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use prost_reflect::{Kind, MessageDescriptor};

use super::Any;
use super::json::Json;

/// Encodes a message canonically.
pub fn encode<M: Message + prost::Name>(json: &Json, message: &M) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    match json.descriptor(&M::full_name()) {
        Ok(descriptor) => canonical(json, &descriptor, &bytes).unwrap_or(bytes),
        Err(_) => bytes,
    }
}

/// Packs a message into an [`Any`] with canonical bytes.
pub fn pack<M: Message + prost::Name>(json: &Json, message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: encode(json, message),
    }
}

/// Rewrites encoded bytes; `None` when they do not parse, and the caller keeps them as they are.
fn canonical(json: &Json, descriptor: &MessageDescriptor, mut input: &[u8]) -> Option<Vec<u8>> {
    let any_inner = any_payload_descriptor(json, descriptor, input);
    let mut out = Vec::with_capacity(input.len());
    // Entries of the map field that is being read: prost writes them next to each other.
    let mut entries: Vec<Vec<u8>> = Vec::new();
    let mut entries_of = 0;
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

        let field = descriptor.get_field(number);
        let inner = match (&field, &any_inner) {
            (_, Some(inner)) if number == 2 => Some(inner.clone()),
            (Some(field), _) => match field.kind() {
                Kind::Message(inner) => Some(inner),
                _ => None,
            },
            _ => None,
        };
        let payload = match inner {
            Some(inner) => canonical(json, &inner, payload)?,
            None => payload.to_vec(),
        };
        if field.is_some_and(|f| f.is_map()) {
            entries_of = number;
            entries.push(payload);
        } else {
            put(&mut out, number, &payload);
        }
    }
    flush(&mut out, &mut entries, entries_of);
    Some(out)
}

/// The type inside an `Any`, when the message is one and its type is known.
fn any_payload_descriptor(json: &Json, descriptor: &MessageDescriptor, bytes: &[u8]) -> Option<MessageDescriptor> {
    if descriptor.full_name() != "google.protobuf.Any" {
        return None;
    }
    let any = Any::decode(bytes).ok()?;
    json.descriptor(&any.type_url).ok()
}

fn flush(out: &mut Vec<u8>, entries: &mut Vec<Vec<u8>>, number: u32) {
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
