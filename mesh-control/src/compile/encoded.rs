//! Messages in the form in which they travel.
//!
//! A mesh has thousands of clusters and load assignments. A message is encoded as soon as it is made, while the processor has
//! it at hand, and what it was made of is free for the next one. Those that there are most of are written without any
//! message, by [`Writer`].

use std::marker::PhantomData;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

/// The bytes of a message. Unless a [`Writer`] wrote them, maps are in no order yet: see [`super::packed`].
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded<M> {
    pub(super) bytes: Vec<u8>,
    pub(super) canonical: bool,
    of: PhantomData<fn() -> M>,
}

impl<M> Encoded<M> {
    pub(super) fn written(by: Writer) -> Self {
        Encoded {
            bytes: by.bytes,
            canonical: true,
            of: PhantomData,
        }
    }

    /// The bytes; equal messages may have their maps in different orders.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<M: Message + Default> Encoded<M> {
    pub(super) fn new(message: &M) -> Self {
        Encoded {
            bytes: message.encode_to_vec(),
            canonical: false,
            of: PhantomData,
        }
    }

    /// The message.
    ///
    /// # Errors
    /// Never, as only messages are encoded.
    pub fn message(&self) -> Result<M, prost::DecodeError> {
        M::decode(self.bytes.as_slice())
    }
}

/// Writes a message field by field. Fields come in the order of their numbers, entries of a map in that of their bytes: then the
/// bytes are canonical.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    /// A field of text or bytes; none is written for an empty one.
    pub(super) fn text(&mut self, field: u32, value: &str) {
        if !value.is_empty() {
            encode_key(field, WireType::LengthDelimited, &mut self.bytes);
            encode_varint(value.len() as u64, &mut self.bytes);
            self.bytes.extend_from_slice(value.as_bytes());
        }
    }

    /// A field with a number, which may be 0 (as in a `oneof`).
    pub(super) fn number(&mut self, field: u32, value: u32) {
        encode_key(field, WireType::Varint, &mut self.bytes);
        encode_varint(u64::from(value), &mut self.bytes);
    }

    /// A field with a message (or with a text) that `content` writes.
    pub(super) fn message(&mut self, field: u32, content: impl FnOnce(&mut Self)) {
        encode_key(field, WireType::LengthDelimited, &mut self.bytes);
        // Most are short, and have one byte for their length.
        let length_at = self.bytes.len();
        self.bytes.push(0);
        content(self);
        let length = self.bytes.len() - length_at - 1;
        if let Ok(short @ 0..0x80) = u8::try_from(length) {
            self.bytes[length_at] = short;
        } else {
            let mut prefix = [0; 10];
            let mut room = &mut prefix[..];
            encode_varint(length as u64, &mut room);
            let taken = 10 - room.len();
            self.bytes
                .splice(length_at..=length_at, prefix[..taken].iter().copied());
        }
    }

    /// An entry of a map from text to messages.
    pub(super) fn entry(&mut self, field: u32, key: &str, content: impl FnOnce(&mut Self)) {
        self.message(field, |w| {
            w.text(1, key);
            w.message(2, content);
        });
    }
}
