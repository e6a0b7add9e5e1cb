//! Saved sessions for serde (feature `serde`). A human-readable format (JSON, TOML) gets text, a binary one gets bytes.

use core::fmt::{self, Write as _};

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::hex;

use super::{SAVED_SESSION_BYTES, SavedSession};

/// Serializes the session with its private key, without which it could not be restored: whoever reads the output *is* this client.
///
/// The content is that of [`SavedSession::to_bytes`], as hexadecimal digits in a human-readable format. Intermediate copies are wiped from
/// memory, but the serializer's output is not. Store it like a private key, and keep it out of logs.
impl Serialize for SavedSession {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.to_bytes();
        if !serializer.is_human_readable() {
            return serializer.serialize_bytes(bytes.as_slice());
        }
        // Has room for everything, since growing would leave copies behind.
        let mut digits = Zeroizing::new(String::with_capacity(2 * SAVED_SESSION_BYTES));
        for byte in bytes.iter() {
            // Writing to a String never fails.
            let _ = write!(digits, "{byte:02x}");
        }
        serializer.serialize_str(&digits)
    }
}

/// Errors never show any of the bytes. Owned input is wiped; borrowed input is up to the caller.
impl<'de> Deserialize<'de> for SavedSession {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_string(Bytes)
        } else {
            deserializer.deserialize_byte_buf(Bytes)
        }
    }
}

/// Accepts text and bytes. Every visitor method is needed, since the default of a missing one would show the input.
struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = SavedSession;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a saved session of {SAVED_SESSION_BYTES} bytes, as such or in hexadecimal digits"
        )
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<SavedSession, E> {
        SavedSession::from_bytes(bytes).map_err(E::custom)
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<SavedSession, E> {
        self.visit_bytes(&Zeroizing::new(bytes))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SavedSession, E> {
        let bytes = read_digits(text)
            .ok_or_else(|| E::custom(format_args!("not {}", &self as &dyn serde::de::Expected)))?;
        self.visit_bytes(&bytes)
    }

    fn visit_string<E: Error>(self, text: String) -> Result<SavedSession, E> {
        self.visit_str(&Zeroizing::new(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<SavedSession, A::Error> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SAVED_SESSION_BYTES));
        while let Some(byte) = elements.next_element::<u8>()? {
            if bytes.len() == SAVED_SESSION_BYTES {
                return Err(A::Error::invalid_length(SAVED_SESSION_BYTES + 1, &self));
            }
            bytes.push(byte);
        }
        self.visit_bytes(&bytes)
    }
}

/// Decodes pairs of hexadecimal digits, no more than a saved session has.
fn read_digits(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > SAVED_SESSION_BYTES {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(SAVED_SESSION_BYTES));
    for pair in pairs {
        bytes.push(hex::byte_of(pair)?);
    }
    Some(bytes)
}
