//! XChaCha20-Poly1305 in place. All sealing of version 3 is done here, so that tests can watch every key with its nonces.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};

use crate::keys::{NONCE_BYTES, OpenError};

pub(super) const KEY_BYTES: usize = 32;
pub(super) const TAG_BYTES: usize = 16;

/// Encrypts `buffer` and returns the tag. A nonce must never be used twice with one key.
pub(super) fn seal(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    buffer: &mut [u8],
) -> [u8; TAG_BYTES] {
    #[cfg(test)]
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

/// What was sealed while a test watched: no key with one nonce twice.
#[cfg(test)]
pub(super) mod watch {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    type Used = BTreeSet<([u8; super::KEY_BYTES], [u8; super::NONCE_BYTES])>;

    thread_local! {
        static USED: RefCell<Option<Used>> = const { RefCell::new(None) };
    }

    /// Runs `session` and returns how many values it sealed.
    ///
    /// # Panics
    /// If it used a key with one nonce twice.
    pub(in super::super) fn over(session: impl FnOnce()) -> usize {
        USED.with_borrow_mut(|used| *used = Some(BTreeSet::new()));
        session();
        USED.with_borrow_mut(|used| used.take().map_or(0, |used| used.len()))
    }

    pub(super) fn note(key: &[u8; super::KEY_BYTES], nonce: &[u8; super::NONCE_BYTES]) {
        USED.with_borrow_mut(|used| {
            if let Some(used) = used {
                assert!(
                    used.insert((*key, *nonce)),
                    "a key with one nonce twice: {nonce:02x?}"
                );
            }
        });
    }
}
