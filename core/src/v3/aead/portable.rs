//! Records, sealed with the parts of `chacha20poly1305`.
//!
//! Most records are short. `.cargo/config.toml` builds `poly1305` without its code for AVX2, which is made for long messages.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit, UniversalHash};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::{KEY_BYTES, SHORT_NONCE_BYTES, TAG_BYTES};
use crate::keys::OpenError;

const BLOCK_BYTES: usize = poly1305::BLOCK_SIZE;
/// The bytes of the key stream that are made at first. It is what the cipher makes at once.
const HEAD_BYTES: usize = 256;
/// Those of them that make the key of the tag, of which it takes 32.
const TAG_KEY_BLOCK_BYTES: usize = 64;
/// The bytes of the associated data: a number.
const NUMBER_BYTES: u64 = 8;

/// Encrypts `buffer` and returns the tag.
pub(super) fn seal(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; SHORT_NONCE_BYTES],
    number: u64,
    buffer: &mut [u8],
) -> [u8; TAG_BYTES] {
    let mut stream = Stream::new(key, nonce);
    stream.apply(buffer);
    stream.tag(number, buffer)
}

/// Decrypts `buffer` if the tag is right.
pub(super) fn open(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; SHORT_NONCE_BYTES],
    number: u64,
    buffer: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), OpenError> {
    let mut stream = Stream::new(key, nonce);
    if !bool::from(stream.tag(number, buffer).ct_eq(tag)) {
        return Err(OpenError);
    }
    stream.apply(buffer);
    Ok(())
}

/// Returns a block of two numbers.
fn block(low: u64, high: u64) -> [u8; BLOCK_BYTES] {
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

/// The key stream of a record.
struct Stream {
    /// Its first bytes.
    head: [u8; HEAD_BYTES],
    /// All that follow.
    rest: ChaCha20,
}

impl Stream {
    fn new(subkey: &[u8; KEY_BYTES], nonce: &[u8; SHORT_NONCE_BYTES]) -> Self {
        let mut rest = ChaCha20::new(subkey.into(), nonce.into());
        let mut head = [0; HEAD_BYTES];
        rest.apply_keystream(&mut head);
        Stream { head, rest }
    }

    /// Encrypts or decrypts, once.
    fn apply(&mut self, buffer: &mut [u8]) {
        let head = self.head.get(TAG_KEY_BLOCK_BYTES..).unwrap_or_default();
        let (front, rest) = buffer.split_at_mut(head.len().min(buffer.len()));
        for (to, from) in front.iter_mut().zip(head) {
            *to ^= from;
        }
        if !rest.is_empty() {
            self.rest.apply_keystream(rest);
        }
    }

    /// Returns the tag of what is encrypted.
    fn tag(&self, number: u64, encrypted: &[u8]) -> [u8; TAG_BYTES] {
        let key = self
            .head
            .first_chunk::<KEY_BYTES>()
            .expect("the head is longer");
        let mut mac = Poly1305::new(key.into());
        mac.update(&[block(number, 0).into()]);
        mac.update_padded(encrypted);
        mac.update(&[block(NUMBER_BYTES, encrypted.len() as u64).into()]);
        mac.finalize().into()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tag_key) = self.head.first_chunk_mut::<KEY_BYTES>() {
            tag_key.zeroize();
        }
    }
}
