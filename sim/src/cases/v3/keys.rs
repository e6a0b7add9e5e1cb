//! The cryptography of version 3 as SPEC section 20 has it, without sharing code with the core.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use hkdf::{Hkdf, HkdfExtract};
use k256::SecretKey;
use k256::elliptic_curve::sec1::ToSec1Point;
use sha2::{Digest, Sha256};

/// A key, a secret or a hash.
pub type Key = [u8; 32];

const TAG_BYTES: usize = 16;

/// SHA-256 of all parts.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Key {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// HKDF's Extract.
#[must_use]
pub fn extract(salt: &[u8], material: &[&[u8]]) -> Key {
    let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
    material.iter().for_each(|part| extract.input_ikm(part));
    extract.finalize().0.into()
}

/// HKDF's Expand, of all parts of a label.
#[must_use]
pub fn expand<const N: usize>(key: &Key, label: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    Hkdf::<Sha256>::from_prk(key)
        .expect("a hash is long enough")
        .expand_multi_info(label, &mut out)
        .expect("it is short");
    out
}

/// XChaCha20-Poly1305: ciphertext and tag.
#[must_use]
pub fn seal(key: &Key, nonce: [u8; 24], associated: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut sealed = plain.to_vec();
    let tag = XChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(
            &XNonce::from(nonce),
            associated,
            sealed.as_mut_slice().into(),
        )
        .expect("it is short");
    sealed.extend_from_slice(&tag);
    sealed
}

/// Opens what [`seal`] returns.
#[must_use]
pub fn open(key: &Key, nonce: [u8; 24], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
    let mut plain = body.to_vec();
    XChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(
            &XNonce::from(nonce),
            associated,
            plain.as_mut_slice().into(),
            &Tag::from(*tag),
        )
        .ok()?;
    Some(plain)
}

/// A key pair of secp256k1.
#[derive(Clone, Debug)]
pub struct Pair(SecretKey);

impl Pair {
    /// Makes a pair of 32 bytes.
    ///
    /// # Panics
    /// If they are no private key.
    #[must_use]
    pub fn new(secret: &Key) -> Pair {
        Pair(SecretKey::from_slice(secret).expect("a private key"))
    }

    /// The compressed point.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        self.0.public_key().to_sec1_point(true).as_bytes().to_vec()
    }

    /// The x coordinate of the shared point, or `None` if `point` is none.
    #[must_use]
    pub fn agree(&self, point: &[u8]) -> Option<Key> {
        let point = k256::PublicKey::from_sec1_bytes(point).ok()?;
        let shared = self.0.diffie_hellman(&point);
        shared.raw_secret_bytes()[..].try_into().ok()
    }
}

/// The records of one direction under one secret (SPEC 20.5).
#[derive(Clone, Debug)]
pub struct Lane {
    key: Key,
    prefix: [u8; 16],
    records: u64,
}

impl Lane {
    /// Begins at the first record.
    #[must_use]
    pub fn new(secret: &Key) -> Lane {
        let both: [u8; 48] = expand(secret, &[b"record"]);
        Lane {
            key: both[..32].try_into().expect("32 bytes"),
            prefix: both[32..].try_into().expect("16 bytes"),
            records: 0,
        }
    }

    fn nonce(&self) -> [u8; 24] {
        let mut nonce = [0; 24];
        nonce[..16].copy_from_slice(&self.prefix);
        nonce[16..].copy_from_slice(&self.records.to_le_bytes());
        nonce
    }

    /// Returns the body of the next record.
    pub fn seal(&mut self, number: u64, plain: &[u8]) -> Vec<u8> {
        let body = seal(&self.key, self.nonce(), &number.to_le_bytes(), plain);
        self.records += 1;
        body
    }

    /// Returns the items of the next record, if it is that.
    pub fn open(&mut self, number: u64, body: &[u8]) -> Option<Vec<u8>> {
        let plain = open(&self.key, self.nonce(), &number.to_le_bytes(), body)?;
        self.records += 1;
        Some(plain)
    }
}
