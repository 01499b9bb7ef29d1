//! The names of the fields of Envoy's messages, and a reader of encoded messages by them.
//!
//! A proxy looks at every field that it is sent, for as long as it lives. The pool of descriptors ([`super::json`]) would
//! cost it 10-20 MB for that; this table is 200 KB of read-only text, of which it touches a few pages.

use std::fmt;

/// A line for each message, in the order of names. Written by the build script, which says how.
static TABLE: &str = include_str!(concat!(env!("OUT_DIR"), "/envoy.fields"));
/// Where the lines begin, as little-endian `u32`.
static OFFSETS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.offsets"));

/// A message type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MessageType(&'static str);

/// A field of a message type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Name as in the `.proto` file.
    pub name: &'static str,
    /// A list or a map.
    pub repeated: bool,
    /// The field's own message type; that of the entries for a map.
    pub message: Option<MessageType>,
}

/// One field as it stands in an encoded message.
#[derive(Debug, Clone, Copy)]
pub struct Set<'a> {
    /// Its number.
    pub number: u32,
    /// What is known of it; `None` for a number that the type does not have.
    pub field: Option<Field>,
    /// Bytes of a string, of bytes or of a message; empty for numbers.
    pub bytes: &'a [u8],
    /// A number of the wire type VARINT (integers, enums, booleans); 0 for the others.
    pub varint: u64,
}

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes end within a field, or are no message")]
pub struct Malformed;

impl MessageType {
    /// The type of a full name (`envoy.config.cluster.v3.Cluster`).
    pub fn named(name: &str) -> Option<Self> {
        let (mut low, mut high) = (0, OFFSETS.len() / 4);
        while low < high {
            let middle = usize::midpoint(low, high);
            let found = Self::at(middle)?;
            match found.name().cmp(name) {
                std::cmp::Ordering::Equal => return Some(found),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    fn at(line: usize) -> Option<Self> {
        let offset = OFFSETS.get(line * 4..line * 4 + 4)?;
        let offset = u32::from_le_bytes(offset.try_into().ok()?) as usize;
        TABLE.get(offset..)?.lines().next().map(MessageType)
    }

    /// Full name.
    pub fn name(self) -> &'static str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// The field of a number.
    pub fn field(self, number: u32) -> Option<Field> {
        self.0.split(' ').skip(1).find_map(|text| {
            let (n, rest) = text.split_once(':')?;
            (n.parse() == Ok(number)).then_some(())?;
            let (rest, repeated) = rest.strip_suffix('*').map_or((rest, false), |rest| (rest, true));
            let (name, line) = rest.split_once('=').map_or((rest, None), |(n, l)| (n, Some(l)));
            Some(Field {
                name,
                repeated,
                message: line.and_then(|l| l.parse().ok()).and_then(Self::at),
            })
        })
    }

    /// The fields of an encoded message of this type, in the order in which they stand there.
    ///
    /// # Errors
    /// When the bytes are no message; numbers that the type does not have are no error.
    pub fn read(self, mut bytes: &[u8]) -> Result<Vec<Set<'_>>, Malformed> {
        let mut out: Vec<Set<'_>> = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let number = u32::try_from(key >> 3).map_err(|_| Malformed)?;
            let (mut value, mut number_value) = (&bytes[..0], 0);
            match key & 7 {
                0 => number_value = varint(&mut bytes)?,
                1 => _ = take(&mut bytes, 8)?,
                2 => {
                    let len = varint(&mut bytes)?;
                    value = take(&mut bytes, usize::try_from(len).map_err(|_| Malformed)?)?;
                }
                5 => _ = take(&mut bytes, 4)?,
                // Groups are not part of proto3.
                _ => return Err(Malformed),
            }
            let field = match out.last() {
                Some(last) if last.number == number => last.field,
                _ => self.field(number),
            };
            out.push(Set {
                number,
                field,
                bytes: value,
                varint: number_value,
            });
        }
        Ok(out)
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], Malformed> {
    let (head, rest) = bytes.split_at_checked(len).ok_or(Malformed)?;
    *bytes = rest;
    Ok(head)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::pb::envoy::config::{bootstrap::v3::Bootstrap, cluster::v3::Cluster, core::v3::Node};
    use prost::Message;

    fn kind(name: &str) -> MessageType {
        MessageType::named(name).expect(name)
    }

    #[test]
    fn messages_and_fields_are_found_by_name_and_number() {
        let cluster = kind("envoy.config.cluster.v3.Cluster");
        let plain = Field {
            name: "name",
            repeated: false,
            message: None,
        };
        assert_eq!(cluster.field(1), Some(plain));
        let endpoints = cluster.field(33).expect("load_assignment");
        assert_eq!(endpoints.name, "load_assignment");
        assert_eq!(
            endpoints.message.map(MessageType::name),
            Some("envoy.config.endpoint.v3.ClusterLoadAssignment")
        );
        let options = cluster.field(36).expect("typed_extension_protocol_options");
        let entry = options.message.expect("an entry");
        assert!(options.repeated);
        assert_eq!(
            entry.field(2).and_then(|f| f.message),
            MessageType::named("google.protobuf.Any")
        );
        assert_eq!(cluster.field(9999), None);
        assert_eq!(MessageType::named("envoy.config.cluster.v3.Nothing"), None);
        assert_eq!(MessageType::named(""), None);
    }

    #[test]
    fn every_message_of_the_pool_is_in_the_table() {
        let json = crate::envoy::json::Json::new();
        let mut seen = 0;
        for message in json.messages() {
            let found = kind(message.full_name());
            assert_eq!(found.name(), message.full_name());
            for field in message.fields() {
                let known = found.field(field.number()).expect("a field");
                assert_eq!(known.name, field.name());
                assert_eq!(known.repeated, field.is_list() || field.is_map());
                assert_eq!(
                    known.message.map(MessageType::name),
                    field.kind().as_message().map(|m| m.full_name())
                );
            }
            seen += 1;
        }
        assert!(seen > 1000, "{seen}");
    }

    #[test]
    fn reads_what_prost_writes() {
        let bootstrap = Bootstrap {
            node: Some(Node {
                id: "a".to_owned(),
                ..Node::default()
            }),
            ..Bootstrap::default()
        };
        let bytes = bootstrap.encode_to_vec();
        let set = kind("envoy.config.bootstrap.v3.Bootstrap")
            .read(&bytes)
            .expect("well-formed");
        assert_eq!(set.len(), 1);
        let node = set[0].field.expect("known");
        assert_eq!(node.name, "node");
        let inner = node
            .message
            .expect("a message")
            .read(set[0].bytes)
            .expect("well-formed");
        assert_eq!((inner[0].number, inner[0].bytes), (1, b"a".as_slice()));

        let cluster = Cluster {
            dns_lookup_family: 2,
            ..Cluster::default()
        };
        let bytes = cluster.encode_to_vec();
        let set = kind("envoy.config.cluster.v3.Cluster")
            .read(&bytes)
            .expect("well-formed");
        assert_eq!(
            (set[0].field.map(|f| f.name), set[0].varint),
            (Some("dns_lookup_family"), 2)
        );
    }

    #[test]
    fn broken_bytes_are_an_error() {
        let cluster = kind("envoy.config.cluster.v3.Cluster");
        for bytes in [&b"\x0a\x05ab"[..], b"\x0a", b"\xff", b"\x0b", b"\x0d\x01", &[0xff; 11]] {
            assert!(cluster.read(bytes).is_err(), "{bytes:?}");
        }
        // A number that nobody knows is passed on.
        let set = cluster.read(b"\xf8\xff\x03\x01").expect("well-formed");
        assert_eq!(set[0].field, None);
    }
}
