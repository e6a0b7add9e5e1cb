//! TLS (SPEC 16.1), on rustls.
//!
//! [`ServerSettings::load`] reads certificates and keys, all or nothing. [`ServerTls`] is what listeners share and what a reload replaces.
//! [`TlsLayer`] is one connection, without buffers of its own: what is decrypted goes to its caller, and so does what is to be sent.

mod certificates;
mod client;
mod error;
mod files;
mod hello;
mod layer;
mod name;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use self::client::{ClientSettings, ClientTls, Roots, SPKI_BYTES};
pub use self::error::TlsError;
pub use self::files::{CertificateFiles, MAX_FILE_BYTES};
pub use self::layer::{MAX_RECORD_BYTES, RECORD_OVERHEAD, TlsFault, TlsLayer};
pub use self::server::{
    ALPN_HTTP, ALPN_VOLTLANE, Certificate, ClientAuth, Loaded, RevocationLists, ServerSettings,
    ServerTls, Sni, Warning,
};

/// The cryptography of TLS. Nothing else names a provider.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The lowest version of TLS that is spoken. 1.3 always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MinVersion {
    /// TLS 1.2, for old devices.
    Tls12,
    /// TLS 1.3.
    #[default]
    Tls13,
}

static FROM_12: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];
static FROM_13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

impl MinVersion {
    fn versions(self) -> &'static [&'static rustls::SupportedProtocolVersion] {
        match self {
            MinVersion::Tls12 => FROM_12,
            MinVersion::Tls13 => FROM_13,
        }
    }
}
