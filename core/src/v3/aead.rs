//! XChaCha20-Poly1305 in place. All sealing of version 3 is done here, so that tests can watch every key with its nonces.
//!
//! Packets of the opening are sealed by `chacha20poly1305`. Most records are short, and for each of them that library derives the same subkey
//! and runs the cipher three times. So records are sealed with its parts, `chacha20` and `poly1305`, in one pass of the cipher. The tests
//! compare both.
//!
//! `.cargo/config.toml` builds `poly1305` without its code for AVX2, which is made for long messages.

use chacha20::cipher::{KeyIvInit, StreamCipher};
use chacha20::{ChaCha20, R20, hchacha};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use poly1305::Poly1305;
use poly1305::universal_hash::UniversalHash;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::keys::{NONCE_BYTES, OpenError};

pub(super) const KEY_BYTES: usize = 32;
pub(super) const TAG_BYTES: usize = 16;
const BLOCK_BYTES: usize = poly1305::BLOCK_SIZE;
/// The first bytes of a nonce of 24, which make the subkey.
pub(super) const PREFIX_BYTES: usize = 16;

/// The bytes of the key stream that are made at first. It is what the cipher makes at once.
const HEAD_BYTES: usize = 256;
/// Those of them that make the key of the tag, of which it takes 32.
const TAG_KEY_BLOCK_BYTES: usize = 64;
/// The bytes of the associated data: a number.
const NUMBER_BYTES: u64 = 8;

/// Encrypts `buffer` and returns the tag. A nonce must never be used twice with one key.
pub(super) fn seal(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    buffer: &mut [u8],
) -> [u8; TAG_BYTES] {
    #[cfg(any(test, feature = "testkit"))]
    watch::note(key, nonce);
    XChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(&XNonce::from(*nonce), associated, buffer.into())
        .expect("the cipher takes up to 256 GiB")
        .into()
}

/// Decrypts `buffer` if the tag is right. Otherwise the buffer holds nothing that was verified.
pub(super) fn open(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    buffer: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), OpenError> {
    XChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(
            &XNonce::from(*nonce),
            associated,
            buffer.into(),
            &Tag::from(*tag),
        )
        .map_err(|_| OpenError)
}

/// Returns the key of the records whose nonces begin with `prefix`. (SPEC 20.5(c))
pub(super) fn subkey(
    key: &[u8; KEY_BYTES],
    prefix: &[u8; PREFIX_BYTES],
) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut made = hchacha::<R20>(key.into(), prefix.into());
    let subkey = Zeroizing::new(made.into());
    made.as_mut_slice().zeroize();
    subkey
}

/// Encrypts a record under a [subkey] and returns the tag. `count` is the number of records before it, and `number` the associated data.
pub(super) fn seal_record(
    subkey: &[u8; KEY_BYTES],
    count: u64,
    number: u64,
    buffer: &mut [u8],
) -> [u8; TAG_BYTES] {
    #[cfg(any(test, feature = "testkit"))]
    watch::note(subkey, &count.to_le_bytes());
    let mut stream = Stream::new(subkey, count);
    stream.apply(buffer);
    stream.tag(number, buffer)
}

/// Decrypts a record under a [subkey] if the tag is right. Otherwise the buffer is unchanged.
pub(super) fn open_record(
    subkey: &[u8; KEY_BYTES],
    count: u64,
    number: u64,
    buffer: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), OpenError> {
    let mut stream = Stream::new(subkey, count);
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
    fn new(subkey: &[u8; KEY_BYTES], count: u64) -> Self {
        let mut nonce = [0; 12];
        let (_, counter) = nonce
            .split_last_chunk_mut()
            .expect("a nonce has room for the count");
        *counter = count.to_le_bytes();
        let mut rest = ChaCha20::new(subkey.into(), &nonce.into());
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

/// What was sealed while a test watched: no key with one nonce twice.
#[cfg(any(test, feature = "testkit"))]
pub mod watch {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    /// Keys, each with a nonce, or with the count of a record where that is the rest of the nonce.
    type Used = BTreeSet<([u8; super::KEY_BYTES], Vec<u8>)>;

    thread_local! {
        static USED: RefCell<Option<Used>> = const { RefCell::new(None) };
    }

    /// Runs `session` and returns how many values were sealed in this thread meanwhile.
    ///
    /// # Panics
    /// If a key was used with one nonce twice.
    pub fn over(session: impl FnOnce()) -> usize {
        begin();
        session();
        USED.with_borrow_mut(|used| used.take().map_or(0, |used| used.len()))
    }

    /// Watches what this thread seals from now on, apart from what it sealed before.
    pub fn begin() {
        USED.with_borrow_mut(|used| *used = Some(BTreeSet::new()));
    }

    pub(super) fn note(key: &[u8; super::KEY_BYTES], nonce: &[u8]) {
        USED.with_borrow_mut(|used| {
            if let Some(used) = used {
                assert!(
                    used.insert((*key, nonce.to_vec())),
                    "a key with one nonce twice: {nonce:02x?}"
                );
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_are_sealed_as_the_library_seals(
            key: [u8; 32], prefix: [u8; 16], count: u64, number: u64, length in 0..2_100_usize, flip: prop::sample::Index
        ) {
            let plain: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            let mut nonce = [0; NONCE_BYTES];
            nonce[..16].copy_from_slice(&prefix);
            nonce[16..].copy_from_slice(&count.to_le_bytes());
            let mut by_library = plain.clone();
            let tag = seal(&key, &nonce, &number.to_le_bytes(), &mut by_library);
            let subkey = subkey(&key, &prefix);
            let mut sealed = plain.clone();
            prop_assert_eq!(seal_record(&subkey, count, number, &mut sealed), tag);
            prop_assert_eq!(&sealed, &by_library);
            let mut opened = sealed.clone();
            prop_assert!(open_record(&subkey, count, number, &mut opened, &tag).is_ok());
            prop_assert_eq!(&opened, &plain);
            let mut altered = [sealed.as_slice(), &tag].concat();
            let bit = flip.index(altered.len() * 8);
            altered[bit / 8] ^= 1 << (bit % 8);
            let (body, tag) = altered.split_last_chunk_mut().unwrap();
            let before = body.to_vec();
            prop_assert!(open_record(&subkey, count, number, body, tag).is_err());
            prop_assert_eq!(&*body, &before);
        }
    }

    #[test]
    fn long_records_are_sealed_as_the_library_seals() {
        let (key, prefix) = ([1; 32], [2; 16]);
        for length in [4_096, 16_384, 65_535, 65_536] {
            let plain = vec![9; length];
            let mut by_library = plain.clone();
            let mut nonce = [0; NONCE_BYTES];
            nonce[..16].copy_from_slice(&prefix);
            nonce[16] = 3;
            let tag = seal(&key, &nonce, &4_u64.to_le_bytes(), &mut by_library);
            let mut sealed = plain;
            assert_eq!(seal_record(&subkey(&key, &prefix), 3, 4, &mut sealed), tag);
            assert_eq!(sealed, by_library);
        }
    }
}
