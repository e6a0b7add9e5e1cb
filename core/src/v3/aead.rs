//! XChaCha20-Poly1305 in place. All sealing of version 3 is done here, so that tests can watch every key with its nonces.
//!
//! Packets of the opening are sealed by `chacha20poly1305`. For each record that library would derive the same subkey and run the cipher
//! three times. A subkey is a key of ChaCha20-Poly1305 for nonces of 12 bytes, so records are sealed in one pass: [with the parts of that
//! library](portable), or [by ring](assembly) with the feature `ring`. The tests compare both.

#[cfg(feature = "ring")]
mod assembly;
#[cfg(feature = "record")]
pub(super) mod chunks;
#[cfg(any(test, not(feature = "ring")))]
mod portable;

use chacha20::{R20, hchacha};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use zeroize::{Zeroize, Zeroizing};

use crate::keys::{NONCE_BYTES, OpenError};

#[cfg(feature = "ring")]
use self::assembly as records;
#[cfg(not(feature = "ring"))]
use self::portable as records;

pub(super) const KEY_BYTES: usize = 32;
pub(super) const TAG_BYTES: usize = 16;
/// The first bytes of a nonce of 24, which make the subkey.
pub(super) const PREFIX_BYTES: usize = 16;
/// The length of a nonce under a subkey: four zeros, and the count of the record.
const SHORT_NONCE_BYTES: usize = 12;

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
    records::seal(subkey, &nonce_of(count), number, buffer)
}

/// Decrypts a record under a [subkey] if the tag is right. Otherwise the buffer holds nothing that was verified.
pub(super) fn open_record(
    subkey: &[u8; KEY_BYTES],
    count: u64,
    number: u64,
    buffer: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), OpenError> {
    records::open(subkey, &nonce_of(count), number, buffer, tag)
}

/// Returns the nonce of the record after `count` others.
fn nonce_of(count: u64) -> [u8; SHORT_NONCE_BYTES] {
    let mut nonce = [0; SHORT_NONCE_BYTES];
    let (_, counter) = nonce
        .split_last_chunk_mut()
        .expect("a nonce has room for the count");
    *counter = count.to_le_bytes();
    nonce
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
            let mut portable = plain.clone();
            prop_assert_eq!(portable::seal(&subkey, &nonce_of(count), number, &mut portable), tag);
            prop_assert_eq!(&portable, &sealed);
            prop_assert!(portable::open(&subkey, &nonce_of(count), number, &mut portable, &tag).is_ok());
            prop_assert_eq!(&portable, &plain);
            let mut opened = sealed.clone();
            prop_assert!(open_record(&subkey, count, number, &mut opened, &tag).is_ok());
            prop_assert_eq!(&opened, &plain);
            let mut altered = [sealed.as_slice(), &tag].concat();
            let bit = flip.index(altered.len() * 8);
            altered[bit / 8] ^= 1 << (bit % 8);
            let (body, tag) = altered.split_last_chunk_mut().unwrap();
            let before = body.to_vec();
            prop_assert!(open_record(&subkey, count, number, body, tag).is_err());
            prop_assert!(*body == *before || body.iter().all(|byte| *byte == 0), "nothing of it is given away");
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
            let mut sealed = plain.clone();
            let subkey = subkey(&key, &prefix);
            assert_eq!(seal_record(&subkey, 3, 4, &mut sealed), tag);
            assert_eq!(sealed, by_library);
            assert!(open_record(&subkey, 3, 4, &mut sealed, &tag).is_ok());
            assert_eq!(sealed, plain);
        }
    }
}
