//! Keys, key agreement and sealed values. (SPEC section 6)
//!
//! Secrets are wiped when dropped, never shown by `Debug`, and have no `==`: what must be compared is compared in
//! constant time.

use core::fmt;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use k256::SecretKey;
use k256::elliptic_curve::Generate;
use k256::elliptic_curve::sec1::ToSec1Point;
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;
use sha2::Sha256;
use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 24;
/// Bytes that sealing adds to a value: a tag of 16, a nonce of 24.
pub const SEALED_OVERHEAD: usize = TAG_BYTES + NONCE_BYTES;
/// Bytes of the random value in a challenge.
pub const CHALLENGE_BYTES: usize = 32;
/// Bytes of a challenge or its answer on the wire.
pub const SEALED_CHALLENGE_BYTES: usize = CHALLENGE_BYTES + SEALED_OVERHEAD;

const TAG_BYTES: usize = 16;
const COMPRESSED_BYTES: usize = 33;
const UNCOMPRESSED_BYTES: usize = 65;
/// Salt and info of the key derivation.
const CONTEXT: &[u8] = b"VOLTLANE.NET";

/// Bytes that are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A public key is 33 bytes (compressed) or 65 (uncompressed).
    #[error("public key of {length} bytes, 33 or 65 needed")]
    PublicKeyLength {
        /// Bytes given.
        length: usize,
    },
    /// Not the SEC1 form of a point on secp256k1 other than the identity.
    #[error("public key is no point on secp256k1")]
    NotAPoint,
    /// A private key is a number from 1 up to the order of secp256k1.
    #[error("private key out of range")]
    PrivateKeyRange,
}

/// A sealed value did not open: too short, altered, or sealed under another key. Which one is not to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed value does not open")]
pub struct OpenError;

/// A private key on secp256k1 and the public key that belongs to it.
#[derive(Clone)]
pub struct KeyPair {
    private: SecretKey,
    public: PublicKey,
}

impl KeyPair {
    /// Draws a key pair.
    #[must_use]
    pub fn generate(rng: &mut ChaCha20Rng) -> Self {
        Self::from_private(SecretKey::generate_from_rng(rng))
    }

    /// The key pair of a private key, as [`to_bytes`](Self::to_bytes) gave it: a big-endian scalar.
    ///
    /// # Errors
    /// [`KeyError::PrivateKeyRange`] for zero and for the order of the curve and above.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        SecretKey::from_slice(bytes)
            .map(Self::from_private)
            .map_err(|_| KeyError::PrivateKeyRange)
    }

    /// The private key, to be kept secret.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.private.to_bytes().into())
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The key that the owner of `peer` agrees on likewise: HKDF-SHA256 over the x coordinate of the shared point.
    #[must_use]
    pub fn agree(&self, peer: &PublicKey) -> SharedKey {
        SharedKey::derive(
            self.private
                .diffie_hellman(&peer.point())
                .raw_secret_bytes(),
        )
    }

    fn from_private(private: SecretKey) -> Self {
        let public = PublicKey::from_point(&private.public_key());
        Self { private, public }
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

/// A point on secp256k1 other than the identity, in compressed SEC1 form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; COMPRESSED_BYTES]);

impl PublicKey {
    /// Reads a point in SEC1 form, compressed (33 bytes) or uncompressed (65 bytes).
    ///
    /// # Errors
    /// [`KeyError::PublicKeyLength`] or [`KeyError::NotAPoint`].
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, KeyError> {
        match (bytes.len(), bytes.first()) {
            (COMPRESSED_BYTES, Some(2 | 3)) | (UNCOMPRESSED_BYTES, Some(4)) => {}
            (COMPRESSED_BYTES | UNCOMPRESSED_BYTES, _) => return Err(KeyError::NotAPoint),
            (length, _) => return Err(KeyError::PublicKeyLength { length }),
        }
        let point = k256::PublicKey::from_sec1_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        Ok(Self::from_point(&point))
    }

    /// The compressed form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; COMPRESSED_BYTES] {
        &self.0
    }

    fn from_point(point: &k256::PublicKey) -> Self {
        let encoded = point.to_sec1_point(true);
        Self(
            encoded
                .as_bytes()
                .try_into()
                .expect("a point other than the identity compresses to 33 bytes"),
        )
    }

    fn point(&self) -> k256::PublicKey {
        k256::PublicKey::from_sec1_bytes(&self.0)
            .expect("a PublicKey is only ever made from a point")
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// The key that two key pairs agree on: seals values with XChaCha20-Poly1305, without associated data.
///
/// A sealed value is `ciphertext ‖ tag ‖ nonce`. Both directions use this one key, so a value that opens may be one
/// that came from here: see [`NonceMint`].
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SharedKey([u8; 32]);

impl SharedKey {
    /// Appends `plain`, sealed, to `out`. A nonce must never be used twice under one key.
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
    /// [`OpenError`], the same whatever is wrong with it.
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

    /// The nonce of a sealed value, `None` if that is too short to have been sealed.
    #[must_use]
    pub fn nonce_of(sealed: &[u8]) -> Option<&[u8; NONCE_BYTES]> {
        sealed
            .last_chunk()
            .filter(|_| sealed.len() >= SEALED_OVERHEAD)
    }

    fn derive(shared_x: &[u8]) -> Self {
        let mut key = Self([0; 32]);
        Hkdf::<Sha256>::new(Some(CONTEXT), shared_x)
            .expand(CONTEXT, &mut key.0)
            .expect("HKDF-SHA256 gives up to 8160 bytes");
        key
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.0.into())
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedKey").finish_non_exhaustive()
    }
}

/// Makes nonces that their maker, and nobody else, can tell from others.
///
/// A nonce is 16 random bytes and the SipHash-2-4 of these under a secret key. The edge seals challenges under such
/// nonces and refuses answers that bear one: they were sealed by the edge and only sent back. Nothing has to be
/// remembered for that. Another's nonce is taken for an own one once in 2^64.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct NonceMint {
    key: [u8; 16],
}

impl NonceMint {
    /// A mint under `key`, which is to be drawn anew for each run.
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// Draws a nonce.
    #[must_use]
    pub fn mint(&self, rng: &mut ChaCha20Rng) -> [u8; NONCE_BYTES] {
        let mut random = [0; 16];
        rng.fill_bytes(&mut random);
        let mut nonce = [0; NONCE_BYTES];
        for (to, from) in nonce
            .iter_mut()
            .zip(random.into_iter().chain(self.mark(&random)))
        {
            *to = from;
        }
        nonce
    }

    /// Whether this mint made `nonce`. Takes the same time for all of them.
    #[must_use]
    pub fn is_own(&self, nonce: &[u8; NONCE_BYTES]) -> bool {
        let (random, mark) = nonce.split_at(16);
        self.mark(random).ct_eq(mark).into()
    }

    fn mark(&self, random: &[u8]) -> [u8; 8] {
        SipHasher24::new_with_key(&self.key)
            .hash(random)
            .to_le_bytes()
    }
}

impl fmt::Debug for NonceMint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NonceMint").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

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
            serde_json::from_str(include_str!("../tests/vectors/v2.json")).unwrap();
        let (server, client) = pairs();
        for (own, peer) in [(&server, &client), (&client, &server)] {
            let shared_x = own.private.diffie_hellman(&peer.public().point());
            assert_eq!(
                hex(shared_x.raw_secret_bytes()),
                vectors["keys"]["ecdh_x"].as_str().unwrap()
            );
            let key = own.agree(&peer.public());
            assert_eq!(
                hex(&key.0),
                vectors["keys"]["hkdf_sha256_key"].as_str().unwrap()
            );
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let (server, client) = pairs();
        let shared = server.agree(&client.public());
        let shown = format!("{server:?} {shared:?} {:?}", NonceMint::new([0x77; 16]));
        assert!(shown.contains(&hex(server.public().as_bytes())), "{shown}");
        for secret in [&server.to_bytes()[..4], &shared.0[..4], &[0x77; 4]] {
            assert!(!shown.contains(&hex(secret)), "{shown}");
            assert!(!shown.contains(&format!("{secret:?}")[1..11]), "{shown}");
        }
    }

    #[test]
    fn shared_keys_are_wiped() {
        fn wiped_on_drop<T: ZeroizeOnDrop>() {}
        wiped_on_drop::<SharedKey>();
        wiped_on_drop::<NonceMint>();
        wiped_on_drop::<SecretKey>();
        let (server, client) = pairs();
        let mut shared = server.agree(&client.public());
        shared.zeroize();
        assert_eq!(shared.0, [0; 32]);
    }

    #[test]
    fn a_mint_knows_its_own_nonces_and_no_others() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let (mint, other) = (NonceMint::new([2; 16]), NonceMint::new([3; 16]));
        for _ in 0..100 {
            let nonce = mint.mint(&mut rng);
            assert!(mint.is_own(&nonce));
            assert!(!other.is_own(&nonce));
            for bit in 0..NONCE_BYTES * 8 {
                let mut altered = nonce;
                altered[bit / 8] ^= 1 << (bit % 8);
                assert!(!mint.is_own(&altered), "bit {bit}");
            }
        }
    }
}
