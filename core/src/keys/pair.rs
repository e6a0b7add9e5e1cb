//! Key pairs on secp256k1 and their public halves. (SPEC 6.1)

use core::fmt;
use core::str::FromStr;

use k256::SecretKey;
use k256::ecdh::SharedSecret;
use k256::elliptic_curve::sec1::ToSec1Point;
use k256::elliptic_curve::{BatchNormalize, Generate};
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

use crate::hex;

use super::SharedKey;
use super::curve::is_x_of_a_point;

const COMPRESSED_BYTES: usize = 33;
const UNCOMPRESSED_BYTES: usize = 65;

/// Why bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A public key must have 33 bytes (compressed) or 65 (uncompressed).
    #[error("public key of {length} bytes, 33 or 65 needed")]
    PublicKeyLength {
        /// The length given in bytes.
        length: usize,
    },
    /// The bytes are not the SEC1 form of a point on secp256k1 other than the identity.
    #[error("public key is no point on secp256k1")]
    NotAPoint,
    /// A public key is written in two hexadecimal digits for each byte.
    #[error("public key is not in pairs of hexadecimal digits")]
    NotHexadecimal,
    /// A private key must be a number from 1 up to the order of secp256k1.
    #[error("private key out of range")]
    PrivateKeyRange,
}

/// A private key on secp256k1 with its public key.
#[derive(Clone)]
pub struct KeyPair {
    private: SecretKey,
    public: PublicKey,
}

#[cfg(feature = "record")]
impl crate::image::Image for KeyPair {
    fn put(&self, out: &mut crate::image::Out) {
        self.to_bytes().put(out);
    }

    fn take(from: &mut crate::image::Taken<'_>) -> Option<Self> {
        use crate::image::Image;
        KeyPair::from_bytes(&Image::take(from)?).ok()
    }
}

impl KeyPair {
    /// Draws a key pair.
    #[must_use]
    pub fn generate(rng: &mut ChaCha20Rng) -> Self {
        Self::from_private(SecretKey::generate_from_rng(rng))
    }

    /// Creates the key pair of a private key, a big-endian scalar as returned by [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`KeyError::PrivateKeyRange`] for zero, and for the order of the curve and above.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        SecretKey::from_slice(bytes)
            .map(Self::from_private)
            .map_err(|_| KeyError::PrivateKeyRange)
    }

    /// Returns the private key, which must be kept secret.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        let scalar = Zeroizing::new(self.private.to_bytes());
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(&scalar);
        bytes
    }

    /// Returns the public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Agrees on a key with the owner of `peer`, who computes the same: HKDF-SHA256 over the x coordinate of the shared point.
    #[must_use]
    pub fn agree(&self, peer: &PublicKey) -> SharedKey {
        SharedKey::derive(self.shared_x(peer).raw_secret_bytes())
    }

    /// Returns the x coordinate of the shared point. It is not uniformly random, and so not a key by itself.
    pub(crate) fn shared_x(&self, peer: &PublicKey) -> SharedSecret {
        self.private.diffie_hellman(&peer.point())
    }

    /// Returns [`shared_x`](Self::shared_x) of two keys with one peer, whose point is computed once.
    pub(crate) fn shared_x_of_both(both: [&KeyPair; 2], peer: &PublicKey) -> [SharedSecret; 2] {
        let point = peer.point().to_projective();
        let shared = both.map(|own| point * *own.private.to_nonzero_scalar());
        // One inversion for both.
        let shared = k256::ProjectivePoint::batch_normalize(&shared);
        shared.each_ref().map(SharedSecret::from)
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

image!(PublicKey { 0 });

impl PublicKey {
    /// Parses a point in SEC1 form, compressed (33 bytes) or uncompressed (65 bytes).
    ///
    /// # Errors
    /// [`KeyError::PublicKeyLength`] or [`KeyError::NotAPoint`].
    pub fn from_sec1(bytes: &[u8]) -> Result<Self, KeyError> {
        if let Ok(compressed) = <[u8; COMPRESSED_BYTES]>::try_from(bytes) {
            let [prefix, x @ ..] = &compressed;
            // It is enough to know that such a point exists. It is computed when it is first used.
            return if matches!(prefix, 2 | 3) && is_x_of_a_point(x) {
                Ok(PublicKey(compressed))
            } else {
                Err(KeyError::NotAPoint)
            };
        }
        match (bytes.len(), bytes.first()) {
            (UNCOMPRESSED_BYTES, Some(4)) => k256::PublicKey::from_sec1_bytes(bytes)
                .map(|point| Self::from_point(&point))
                .map_err(|_| KeyError::NotAPoint),
            (UNCOMPRESSED_BYTES, _) => Err(KeyError::NotAPoint),
            (length, _) => Err(KeyError::PublicKeyLength { length }),
        }
    }

    /// Returns the compressed form.
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
            .expect("a PublicKey is only ever made of a point's coordinates")
    }
}

impl fmt::Display for PublicKey {
    /// The compressed form, in 66 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    /// Parses a point in SEC1 form, in hexadecimal digits with letters of either case: 66 as they are displayed, or 130.
    ///
    /// # Errors
    /// [`KeyError::NotHexadecimal`], [`KeyError::PublicKeyLength`] or [`KeyError::NotAPoint`].
    fn from_str(digits: &str) -> Result<Self, KeyError> {
        let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
            return Err(KeyError::NotHexadecimal);
        };
        let mut bytes = [0; UNCOMPRESSED_BYTES];
        let length = pairs.len();
        let Some(bytes) = bytes.get_mut(..length) else {
            return Err(KeyError::PublicKeyLength { length });
        };
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            *byte = hex::byte_of(pair).ok_or(KeyError::NotHexadecimal)?;
        }
        Self::from_sec1(bytes)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;
    use zeroize::ZeroizeOnDrop;

    use super::*;

    /// The order of secp256k1.
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xfe, 0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36,
        0x41, 0x41,
    ];

    fn pairs() -> (KeyPair, KeyPair) {
        let pair = |byte| KeyPair::from_bytes(&[byte; 32]).unwrap();
        (pair(0x11), pair(0x22))
    }

    #[test]
    fn a_public_key_is_read_as_it_is_displayed() {
        let key = KeyPair::from_bytes(&[7; 32]).expect("in range").public();
        let digits = key.to_string();
        assert_eq!(digits.len(), 2 * COMPRESSED_BYTES);
        assert_eq!(digits.parse(), Ok(key));
        assert_eq!(digits.to_uppercase().parse(), Ok(key));
        for wrong in ["0", "0g", "é", "+1", &digits[1..]] {
            let read: Result<PublicKey, KeyError> = wrong.parse();
            assert_eq!(read, Err(KeyError::NotHexadecimal), "{wrong}");
        }
        for length in [0, 32, 34, UNCOMPRESSED_BYTES + 1, 1000] {
            let read: Result<PublicKey, KeyError> = "02".repeat(length).parse();
            assert_eq!(read, Err(KeyError::PublicKeyLength { length }));
        }
        let read: Result<PublicKey, KeyError> = "05".repeat(COMPRESSED_BYTES).parse();
        assert_eq!(read, Err(KeyError::NotAPoint));
    }

    #[test]
    fn private_keys_are_the_numbers_below_the_order_of_the_curve() {
        let with_last = |last| {
            let mut bytes = ORDER;
            bytes[31] = last;
            bytes
        };
        let mut one = [0; 32];
        one[31] = 1;
        for good in [one, with_last(0x40)] {
            assert_eq!(
                KeyPair::from_bytes(&good).map(|pair| *pair.to_bytes()),
                Ok(good)
            );
        }
        for bad in [[0; 32], ORDER, with_last(0x42), [0xff; 32]] {
            assert_eq!(
                KeyPair::from_bytes(&bad).err(),
                Some(KeyError::PrivateKeyRange)
            );
        }
    }

    #[test]
    fn generated_pairs_differ_and_repeat_with_the_seed() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let (one, other) = (KeyPair::generate(&mut rng), KeyPair::generate(&mut rng));
        let again = KeyPair::generate(&mut ChaCha20Rng::from_seed([1; 32]));
        assert_ne!(one.public(), other.public());
        assert_eq!(one.to_bytes(), again.to_bytes());
    }

    #[test]
    fn public_keys_of_a_wrong_length_are_refused() {
        let bytes = [2; 130];
        for length in (0..=130).filter(|length| ![33, 65].contains(length)) {
            assert_eq!(
                PublicKey::from_sec1(&bytes[..length]),
                Err(KeyError::PublicKeyLength { length })
            );
        }
        assert_eq!(
            PublicKey::from_sec1(&[0]),
            Err(KeyError::PublicKeyLength { length: 1 }),
            "the identity in SEC1"
        );
    }

    #[test]
    fn public_keys_read_in_both_forms_and_under_their_own_prefix_only() {
        let (server, _) = pairs();
        let compressed = *server.public().as_bytes();
        let uncompressed = server
            .public()
            .point()
            .to_sec1_point(false)
            .as_bytes()
            .to_vec();
        assert_eq!(PublicKey::from_sec1(&compressed), Ok(server.public()));
        assert_eq!(PublicKey::from_sec1(&uncompressed), Ok(server.public()));
        for prefix in 0..=u8::MAX {
            let read = |bytes: &[u8]| PublicKey::from_sec1(&[&[prefix], &bytes[1..]].concat());
            // 2 and 3 select the two points with one x.
            assert_eq!(
                read(&compressed).is_ok(),
                matches!(prefix, 2 | 3),
                "{prefix}"
            );
            assert_eq!(read(&uncompressed).is_ok(), prefix == 4, "{prefix}");
        }
    }

    #[test]
    fn public_keys_off_the_curve_are_refused() {
        let (server, _) = pairs();
        let uncompressed = server
            .public()
            .point()
            .to_sec1_point(false)
            .as_bytes()
            .to_vec();
        let mut off_the_curve = uncompressed.clone();
        off_the_curve[64] ^= 1;
        let mut no_such_x = [0; 33];
        // 5^3 + 7 has no root in the field.
        (no_such_x[0], no_such_x[32]) = (2, 5);
        let mut x_above_the_field = [0xff; 33];
        x_above_the_field[0] = 2;
        let mut identity = [0; 65];
        identity[0] = 4;
        let filled = [[0; 33].as_slice(), &[0; 65], &[0xff; 33], &[0xff; 65]];
        for bytes in filled.into_iter().chain([
            off_the_curve.as_slice(),
            &no_such_x,
            &x_above_the_field,
            &identity,
        ]) {
            assert_eq!(
                PublicKey::from_sec1(bytes),
                Err(KeyError::NotAPoint),
                "{bytes:02x?}"
            );
        }
    }

    #[test]
    fn the_private_key_is_wiped_and_not_shown() {
        fn wiped_on_drop<T: ZeroizeOnDrop>() {}
        wiped_on_drop::<SecretKey>();
        let (server, _) = pairs();
        let public: String = server
            .public()
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            format!("{server:?}"),
            format!("KeyPair {{ public: PublicKey({public}), .. }}")
        );
    }
}
