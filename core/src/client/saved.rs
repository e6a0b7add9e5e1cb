//! A session as bytes, so that an application that was killed can resume it.

use core::fmt;

use zeroize::Zeroizing;

use crate::ClientId;
use crate::keys::{KeyError, KeyPair, PublicKey};

/// The length of a saved session in bytes.
pub const SAVED_SESSION_BYTES: usize = 1 + ID_BYTES + PRIVATE_KEY_BYTES + PUBLIC_KEY_BYTES;

/// The version that [`SavedSession::to_bytes`] writes and the only one that is read.
const FORMAT_VERSION: u8 = 1;
const ID_BYTES: usize = 8;
const PRIVATE_KEY_BYTES: usize = 32;
const PUBLIC_KEY_BYTES: usize = 33;

/// The identity of a client: its id, the private key that proves it, and the public key of the only edge that it proves it to.
///
/// Whoever has these bytes *is* this client. They are wiped from memory when dropped, and `Debug` shows no private key. Two clients
/// restored from one saved session keep taking it over from each other.
///
/// With the feature `serde` it can be serialized *with* its private key. The output is as secret as these bytes.
#[derive(Clone)]
pub struct SavedSession {
    id: ClientId,
    keys: KeyPair,
    edge_key: PublicKey,
}

/// Why bytes are not a saved session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SavedSessionError {
    /// The length is wrong.
    #[error("saved session of {length} bytes, {SAVED_SESSION_BYTES} needed")]
    Length {
        /// The length given in bytes.
        length: usize,
    },
    /// Another version of this crate wrote it.
    #[error("saved session in format {version}, 1 is known")]
    UnknownVersion {
        /// The version byte.
        version: u8,
    },
    /// One of the keys is invalid, so the bytes are damaged.
    #[error("saved session: {0}")]
    Key(#[from] KeyError),
}

impl SavedSession {
    pub(super) fn new(id: ClientId, keys: KeyPair, edge_key: PublicKey) -> Self {
        SavedSession { id, keys, edge_key }
    }

    /// Returns the client's id.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// Returns the public key of the edge that assigned the id.
    #[must_use]
    pub fn edge_key(&self) -> &PublicKey {
        &self.edge_key
    }

    pub(super) fn keys(&self) -> &KeyPair {
        &self.keys
    }

    /// Encodes the session: `version: u8 = 1 ‖ id: u64 little-endian ‖ private key: 32 bytes ‖ edge's public key: 33 bytes`.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; SAVED_SESSION_BYTES]> {
        let private_key = self.keys.to_bytes();
        let fields: [&[u8]; 4] = [
            &[FORMAT_VERSION],
            &self.id.as_u64().to_le_bytes(),
            private_key.as_slice(),
            self.edge_key.as_bytes(),
        ];
        let mut bytes = Zeroizing::new([0; SAVED_SESSION_BYTES]);
        for (to, from) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }

    /// Decodes the output of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`SavedSessionError`]. The version is checked first, so that a longer future format is reported as such.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SavedSessionError> {
        match bytes.first() {
            None | Some(&FORMAT_VERSION) => {}
            Some(&version) => return Err(SavedSessionError::UnknownVersion { version }),
        }
        let (id, private_key, edge_key) = split_fields(bytes).ok_or(SavedSessionError::Length {
            length: bytes.len(),
        })?;
        Ok(SavedSession {
            id: ClientId::from_u64(u64::from_le_bytes(*id)),
            keys: KeyPair::from_bytes(private_key)?,
            edge_key: PublicKey::from_sec1(edge_key)?,
        })
    }
}

impl fmt::Debug for SavedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedSession")
            .field("id", &self.id)
            .field("edge_key", &self.edge_key)
            .finish_non_exhaustive()
    }
}

/// Splits the fields after the version, if the length is right.
fn split_fields(
    bytes: &[u8],
) -> Option<(
    &[u8; ID_BYTES],
    &[u8; PRIVATE_KEY_BYTES],
    &[u8; PUBLIC_KEY_BYTES],
)> {
    let (_version, rest) = bytes.split_first()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (private_key, rest) = rest.split_first_chunk()?;
    Some((id, private_key, rest.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> SavedSession {
        let pair = |byte| KeyPair::from_bytes(&[byte; 32]).expect("a scalar below the order");
        SavedSession::new(
            ClientId::from_u64(0x0102_0304_0506_0708),
            pair(0x11),
            pair(0x22).public(),
        )
    }

    #[test]
    fn bytes_and_back() {
        let bytes = saved().to_bytes();
        let again = SavedSession::from_bytes(bytes.as_slice()).expect("just written");
        assert_eq!(again.to_bytes(), bytes);
        assert_eq!(again.id(), saved().id());
        assert_eq!(again.edge_key(), saved().edge_key());
        assert_eq!(again.keys().public(), saved().keys().public());
    }

    #[test]
    fn the_layout_is_fixed() {
        let bytes = saved().to_bytes();
        assert_eq!(bytes.len(), 74);
        assert_eq!(bytes[0], 1);
        assert_eq!(bytes[1..9], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes[9..41], [0x11; 32]);
        assert_eq!(bytes[41..], *saved().edge_key().as_bytes());
    }

    #[test]
    fn every_other_length_is_refused() {
        let mut bytes = saved().to_bytes().to_vec();
        bytes.extend_from_slice(&[0; 6]);
        for length in (0..=bytes.len()).filter(|length| *length != SAVED_SESSION_BYTES) {
            let error = SavedSession::from_bytes(&bytes[..length]).expect_err("wrong length");
            assert_eq!(error, SavedSessionError::Length { length });
        }
    }

    #[test]
    fn another_version_is_named_whatever_its_length() {
        let mut bytes = saved().to_bytes();
        bytes[0] = 2;
        for length in [1, 10, SAVED_SESSION_BYTES] {
            let error = SavedSession::from_bytes(&bytes[..length]).expect_err("unknown version");
            assert_eq!(error, SavedSessionError::UnknownVersion { version: 2 });
        }
    }

    #[test]
    fn damaged_keys_are_refused() {
        let mut bytes = saved().to_bytes();
        bytes[9..41].fill(0);
        assert_eq!(
            SavedSession::from_bytes(bytes.as_slice()).unwrap_err(),
            KeyError::PrivateKeyRange.into()
        );
        let mut bytes = saved().to_bytes();
        bytes[41] = 5;
        assert_eq!(
            SavedSession::from_bytes(bytes.as_slice()).unwrap_err(),
            KeyError::NotAPoint.into()
        );
    }

    #[test]
    fn debug_shows_no_private_key() {
        let shown = format!("{:?}", saved());
        assert!(
            !shown.contains("1111") && !shown.contains("17, 17"),
            "{shown}"
        );
        assert!(shown.contains("0102030405060708"), "{shown}");
    }
}
