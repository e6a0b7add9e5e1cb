//! Ids for serde (feature `serde`).
//!
//! A human-readable format (JSON, TOML) gets text, a binary one gets the number.

use core::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ClientId;

/// The number of digits of an id.
const ID_DIGITS: usize = 16;

/// Serializes as 16 hexadecimal digits, like `Display` (JavaScript has no exact 64-bit integers), or as a `u64` in a binary format.
impl Serialize for ClientId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.as_u64())
        }
    }
}

impl<'de> Deserialize<'de> for ClientId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Digits)
        } else {
            u64::deserialize(deserializer).map(ClientId::from_u64)
        }
    }
}

struct Digits;

impl Visitor<'_> for Digits {
    type Value = ClientId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a client id of {ID_DIGITS} hexadecimal digits")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ClientId, E> {
        // `from_str_radix` would also accept a sign.
        let is_id = text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id
            .then(|| u64::from_str_radix(text, 16).ok())
            .flatten()
            .map(ClientId::from_u64)
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}
