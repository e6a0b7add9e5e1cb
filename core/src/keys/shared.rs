//! The key that two sides agree on, and sealing with it. (SPEC 6.2, 6.3, 6.4)

use core::fmt;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::NONCE_BYTES;

/// Bytes that sealing adds to a value: a tag of 16 and a nonce of 24.
pub const SEALED_OVERHEAD: usize = TAG_BYTES + NONCE_BYTES;
/// The length of the random value in a challenge, in bytes.
pub const CHALLENGE_BYTES: usize = 32;
/// The length of a challenge or a response on the wire, in bytes.
pub const SEALED_CHALLENGE_BYTES: usize = CHALLENGE_BYTES + SEALED_OVERHEAD;

const TAG_BYTES: usize = 16;
/// Salt and info of the key derivation.
const CONTEXT: &[u8] = b"VOLTLANE.NET";

/// A sealed value did not open: it is too short, altered, or sealed with another key. The error does not tell which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed value does not open")]
#[non_exhaustive]
pub struct OpenError;

/// The key that two key pairs agree on. It seals values with XChaCha20-Poly1305, without associated data.
///
/// A sealed value is `ciphertext ‖ tag ‖ nonce`. Both directions use the same key, so a value that opens may be one of our own: see
/// [`NonceMint`](super::NonceMint).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SharedKey([u8; 32]);

image!(SharedKey { 0 });

impl SharedKey {
    /// Seals `plain` and appends the result to `out`.
    ///
    /// A nonce must never be used twice with one key.
    ///
    /// # Panics
    /// If `plain` is longer than 256 GiB.
    pub fn seal_with_nonce(&self, plain: &[u8], nonce: &[u8; NONCE_BYTES], out: &mut Vec<u8>) {
        out.reserve(plain.len() + SEALED_OVERHEAD);
        let start = out.len();
        out.extend_from_slice(plain);
        let (_, sealed) = out.split_at_mut(start);
        let tag = self
            .cipher()
            .encrypt_inout_detached(&XNonce::from(*nonce), &[], sealed.into())
            .expect("the cipher takes up to 256 GiB");
        out.extend_from_slice(&tag);
        out.extend_from_slice(nonce);
    }

    /// Opens a sealed value.
    ///
    /// # Errors
    /// [`OpenError`], whatever the cause.
    pub fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (rest, nonce) = sealed.split_last_chunk::<NONCE_BYTES>().ok_or(OpenError)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(OpenError)?;
        let mut plain = Zeroizing::new(ciphertext.to_vec());
        self.cipher()
            .decrypt_inout_detached(
                &XNonce::from(*nonce),
                &[],
                plain.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .map_err(|_| OpenError)?;
        Ok(plain)
    }

    /// Returns the nonce of a sealed value, or `None` if the value is too short.
    #[must_use]
    pub fn nonce_of(sealed: &[u8]) -> Option<&[u8; NONCE_BYTES]> {
        sealed
            .last_chunk()
            .filter(|_| sealed.len() >= SEALED_OVERHEAD)
    }

    /// Derives the key of an agreement from the x coordinate of the shared point.
    pub(super) fn derive(shared_x: &[u8]) -> Self {
        let mut key = Self([0; 32]);
        Hkdf::<Sha256>::new(Some(CONTEXT), shared_x)
            .expand(CONTEXT, &mut key.0)
            .expect("HKDF-SHA256 gives up to 8160 bytes");
        key
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&self.0).into())
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::KeyPair;
    use super::*;

    fn pairs() -> (KeyPair, KeyPair) {
        let pair = |byte| KeyPair::from_bytes(&[byte; 32]).unwrap();
        (pair(0x11), pair(0x22))
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn each_step_of_the_agreement_is_as_published() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/v2.json")).unwrap();
        let published = |name: &str| vectors["keys"][name].as_str().unwrap().to_owned();
        let (server, client) = pairs();
        for (own, peer) in [(&server, &client), (&client, &server)] {
            assert_eq!(
                hex(own.shared_x(&peer.public()).raw_secret_bytes()),
                published("ecdh_x")
            );
            assert_eq!(
                hex(&own.agree(&peer.public()).0),
                published("hkdf_sha256_key")
            );
        }
    }

    #[test]
    fn a_point_sent_back_to_its_owner_makes_a_key_of_its_own() {
        let (server, client) = pairs();
        let own = server.agree(&server.public());
        assert_ne!(own.0, server.agree(&client.public()).0);
        assert_ne!(own.0, client.agree(&server.public()).0);
    }

    #[test]
    fn every_length_opens_as_sealed_and_no_altered_bit_does() {
        let (server, client) = pairs();
        let (seals, opens) = (
            server.agree(&client.public()),
            client.agree(&server.public()),
        );
        let plain: Vec<u8> = (0..=200).collect();
        for length in 0..=200 {
            let plain = &plain[..length];
            let mut sealed = b"before".to_vec();
            seals.seal_with_nonce(plain, &[5; 24], &mut sealed);
            let mut sealed = sealed.strip_prefix(b"before").unwrap().to_vec();
            assert_eq!(sealed.len(), length + SEALED_OVERHEAD);
            assert_eq!(SharedKey::nonce_of(&sealed), Some(&[5; 24]));
            assert_eq!(opens.open(&sealed).as_deref().map(Vec::as_slice), Ok(plain));
            for bit in 0..sealed.len() * 8 {
                sealed[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(
                    opens.open(&sealed),
                    Err(OpenError),
                    "length {length}, bit {bit}"
                );
                sealed[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn cut_extended_and_foreign_values_do_not_open() {
        let (server, client) = pairs();
        let shared = server.agree(&client.public());
        let mut sealed = Vec::new();
        shared.seal_with_nonce(&[1; CHALLENGE_BYTES], &[2; 24], &mut sealed);
        assert_eq!(sealed.len(), SEALED_CHALLENGE_BYTES);
        for length in 0..sealed.len() {
            assert_eq!(
                shared.open(&sealed[..length]),
                Err(OpenError),
                "first {length}"
            );
            assert_eq!(
                shared.open(&sealed[sealed.len() - length..]),
                Err(OpenError),
                "last {length}"
            );
            assert_eq!(
                SharedKey::nonce_of(&sealed[..length]).is_some(),
                length >= SEALED_OVERHEAD
            );
        }
        assert_eq!(
            shared.open(&[sealed.as_slice(), &[0]].concat()),
            Err(OpenError)
        );
        assert_eq!(server.agree(&server.public()).open(&sealed), Err(OpenError));
    }

    #[test]
    fn the_key_is_wiped_and_not_shown() {
        fn wiped_on_drop<T: ZeroizeOnDrop>() {}
        wiped_on_drop::<SharedKey>();
        let (server, client) = pairs();
        let mut shared = server.agree(&client.public());
        assert_eq!(format!("{shared:?}"), "SharedKey(..)");
        shared.zeroize();
        assert_eq!(shared.0, [0; 32]);
    }
}
