//! The keys of records, for a viewer of captures such as Wireshark. Only builds with debug assertions have it.

use core::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::record::MATERIAL_BYTES;
use super::schedule::Secret;

/// Where a client writes the keys of its records. Whoever has them can read all that the client sends and receives.
///
/// It exists only in builds with debug assertions, so that no release can be made to give its keys away.
///
/// A line is `VOLTLANE_3`, the direction (`EARLY`, `UP` or `DOWN`), what names the connection in its first flight (E_c of a Hello, r_c of a
/// Claim), and the 48 bytes of SPEC 20.5(a), in hexadecimal. `ops/wireshark` reads such lines.
#[derive(Clone)]
pub struct KeyLog(Arc<dyn Fn(&str) + Send + Sync>);

impl KeyLog {
    /// Gives each line, without its end, to `write`.
    #[must_use]
    pub fn new(write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        KeyLog(Arc::new(write))
    }

    pub(super) fn log(&self, direction: &str, connection: &[u8], secret: &Secret) {
        let material = secret.expand::<MATERIAL_BYTES>(&[b"record"]);
        let mut line = Zeroizing::new(format!("VOLTLANE_3 {direction} "));
        hexadecimal(&mut line, connection);
        line.push(' ');
        hexadecimal(&mut line, material.as_ref());
        (self.0)(&line);
    }
}

fn hexadecimal(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(line, "{byte:02x}").expect("a string takes all");
    }
}

impl fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLog").finish_non_exhaustive()
    }
}

/// Two are equal if lines go to the same place.
impl PartialEq for KeyLog {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for KeyLog {}
