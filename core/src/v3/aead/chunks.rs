//! Chunks of a recording, sealed with AES-256-GCM by ring (SPEC 42.3(b)).
//!
//! Where the processor has instructions for it, as nearly all have, it takes a third of the time of ChaCha20-Poly1305, and a recording has
//! every packet twice. Without them it takes longer, and no less is protected: ring's code has no branch or place in memory that a key decides.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};

use super::{KEY_BYTES, TAG_BYTES, nonce_of};
use crate::keys::OpenError;

fn cipher(key: &[u8; KEY_BYTES]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, key);
    LessSafeKey::new(key.expect("a key of AES-256-GCM has 32 bytes"))
}

/// Encrypts `buffer` and returns the tag. `number` is that of the chunks before it under this key.
pub(in crate::v3) fn seal(
    key: &[u8; KEY_BYTES],
    number: u64,
    buffer: &mut [u8],
) -> [u8; TAG_BYTES] {
    #[cfg(any(test, feature = "testkit"))]
    super::watch::note(key, &number.to_le_bytes());
    let nonce = Nonce::assume_unique_for_key(nonce_of(number));
    let number = Aad::from(number.to_le_bytes());
    let tag = cipher(key).seal_in_place_separate_tag(nonce, number, buffer);
    let tag = tag.expect("the cipher takes up to 64 GiB");
    tag.as_ref().try_into().expect("a tag has 16 bytes")
}

/// Decrypts `buffer` if the tag is right. Otherwise it is zeros.
pub(in crate::v3) fn open(
    key: &[u8; KEY_BYTES],
    number: u64,
    buffer: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), OpenError> {
    let nonce = Nonce::assume_unique_for_key(nonce_of(number));
    let number = Aad::from(number.to_le_bytes());
    cipher(key)
        .open_in_place_separate_tag(nonce, number, Tag::from(*tag), buffer, 0..)
        .map(|_| ())
        .map_err(|_| OpenError)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEALED: [u8; 22] = [
        0x1f, 0x2d, 0x7b, 0xf5, 0x8d, 0xf0, 0x61, 0x63, 0xb5, 0x42, 0x6d, 0x22, 0x98, 0x88, 0xf9,
        0x4b, 0xd1, 0x36, 0x8e, 0x1f, 0x57, 0x3b,
    ];
    const TAG: [u8; TAG_BYTES] = [
        0xec, 0x30, 0x25, 0x08, 0x7d, 0x1c, 0xec, 0xd1, 0x01, 0xa5, 0xad, 0x5a, 0x92, 0xf4, 0x39,
        0xba,
    ];

    /// The bytes are from another implementation, that of OpenSSL.
    #[test]
    fn a_chunk_is_sealed_as_others_seal_it() {
        let key: [u8; KEY_BYTES] = core::array::from_fn(|at| at as u8);
        let mut chunk = *b"a chunk of a recording";
        let tag = seal(&key, 5, &mut chunk);
        assert_eq!((chunk, tag), (SEALED, TAG));
        assert_eq!(open(&key, 4, &mut chunk.clone(), &tag), Err(OpenError));
        assert_eq!(open(&key, 5, &mut chunk, &tag), Ok(()));
        assert_eq!(&chunk, b"a chunk of a recording");
    }
}
