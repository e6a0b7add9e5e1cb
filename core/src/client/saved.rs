//! A session as bytes, so that an application that was killed comes back as the same client.

use core::fmt;

use zeroize::Zeroizing;

use crate::ClientId;
use crate::keys::{KeyError, KeyPair, PublicKey};

/// Bytes of a saved session.
pub const SAVED_SESSION_BYTES: usize = 1 + ID_BYTES + PRIVATE_KEY_BYTES + PUBLIC_KEY_BYTES;

/// The version that [`SavedSession::to_bytes`] writes, the only one that is read.
const FORMAT_VERSION: u8 = 1;
const ID_BYTES: usize = 8;
const PRIVATE_KEY_BYTES: usize = 32;
const PUBLIC_KEY_BYTES: usize = 33;

/// Everything that makes a client the client it is: its id, the private key that proves it, and the public key of the
/// only edge that it proves it to.
///
/// Whoever has these bytes *is* this client. They are wiped from memory when dropped, and `Debug` shows no private key.
/// Two clients restored from one saved session take it from each other in turn.
///
/// With the feature `serde` it can be written to any format, *with* its private key: the output is as secret as these bytes.
#[derive(Clone)]
pub struct SavedSession {
    id: ClientId,
    keys: KeyPair,
    edge_key: PublicKey,
}

/// Bytes that are no saved session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SavedSessionError {
    /// Not the length of a saved session.
    #[error("saved session of {length} bytes, {SAVED_SESSION_BYTES} needed")]
    Length {
        /// Bytes given.
        length: usize,
    },
    /// Written by another version of this crate.
    #[error("saved session in format {version}, 1 is known")]
    UnknownVersion {
        /// The version byte.
        version: u8,
    },
    /// One of the keys is none: the bytes were damaged.
    #[error("saved session: {0}")]
    Key(#[from] KeyError),
}

impl SavedSession {
    pub(super) fn new(id: ClientId, keys: KeyPair, edge_key: PublicKey) -> Self {
        SavedSession { id, keys, edge_key }
    }

    /// The client's id.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// The public key of the edge that gave it.
    #[must_use]
    pub fn edge_key(&self) -> &PublicKey {
        &self.edge_key
    }

    pub(super) fn keys(&self) -> &KeyPair {
        &self.keys
    }

    /// `version: u8 = 1 ‖ id: u64 little-endian ‖ private key: 32 bytes ‖ edge's public key: 33 bytes`.
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

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`SavedSessionError`]: the version is looked at first, so that a longer format of the future is named as such.
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

/// The fields behind the version, if the length is right.
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
