//! Keys, key agreement and sealed values. (SPEC section 6)
//!
//! Secrets are wiped when dropped, never shown by `Debug` (SPEC 6.5), and have no `==`. Comparisons that are needed take constant time.

mod curve;
mod nonce;
mod pair;
mod shared;

pub use nonce::{NONCE_BYTES, NonceMint};
pub use pair::{KeyError, KeyPair, PublicKey};
pub use shared::{CHALLENGE_BYTES, OpenError, SEALED_CHALLENGE_BYTES, SEALED_OVERHEAD, SharedKey};
