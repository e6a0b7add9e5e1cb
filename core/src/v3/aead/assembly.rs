//! Records, sealed by ring: its assembly is several times faster than [portable](super::portable) code, and programs with TLS have it anyway.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};

use super::{KEY_BYTES, SHORT_NONCE_BYTES, TAG_BYTES};
use crate::keys::OpenError;

/// Makes a key of ring's.
fn key(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key);
    LessSafeKey::new(key.expect("a key of ChaCha20-Poly1305 has 32 bytes"))
}

/// Encrypts `buffer` and returns the tag.
pub(super) fn seal(
    subkey: &[u8; KEY_BYTES],
    nonce: &[u8; SHORT_NONCE_BYTES],
    number: u64,
    buffer: &mut [u8],
) -> [u8; TAG_BYTES] {
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let number = Aad::from(number.to_le_bytes());
    let tag = key(subkey).seal_in_place_separate_tag(nonce, number, buffer);
    let tag = tag.expect("the cipher takes up to 256 GiB");
    tag.as_ref().try_into().expect("a tag has 16 bytes")
}

/// Decrypts `buffer` if the tag is right. Otherwise it is zeros.
pub(super) fn open(
    subkey: &[u8; KEY_BYTES],
    nonce: &[u8; SHORT_NONCE_BYTES],
    number: u64,
    buffer: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), OpenError> {
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let number = Aad::from(number.to_le_bytes());
    key(subkey)
        .open_in_place_separate_tag(nonce, number, Tag::from(*tag), buffer, 0..)
        .map(|_| ())
        .map_err(|_| OpenError)
}
