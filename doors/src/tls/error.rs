//! Why files or settings give no TLS.

use std::io;
use std::path::PathBuf;

/// A file or a setting that does not work, with its place and its remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A path is that of a directory, a pipe or a device.
    #[error("{} is no regular file: it must be a file in PEM", path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// A list of revoked certificates is by nobody who issues the clients' certificates.
    #[error("a list in {} is by none of the authorities of the clients' certificates and would revoke nothing: each must be by one of them", path.display())]
    ForeignList {
        /// The file of the list.
        path: PathBuf,
    },
    /// A file is larger than any of its kind.
    #[error("{} has more than {} bytes: is it the right file?", path.display(), super::MAX_FILE_BYTES)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A file is not PEM.
    #[error("{} is not PEM: {what}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file has no section of the kind that is needed.
    #[error("{} has no {section}: it must have a section \"-----BEGIN {section}-----\"", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The kind of section.
        section: &'static str,
    },
    /// A private key is encrypted.
    #[error("the key in {} is encrypted: decrypt it with \"openssl pkey -in FILE -out FILE\"", path.display())]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// A private key is of a kind that is not supported.
    #[error("the key in {} cannot be used ({what}): it must be ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits", path.display())]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A private key belongs to another certificate.
    #[error("the key in {} is not that of the first certificate in {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificate: PathBuf,
    },
    /// A certificate, or a list of revoked ones, cannot be used.
    #[error("{} cannot be used: {what}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is no certificate at all.
    #[error("TLS needs a certificate and its key")]
    NoCertificate,
    /// Clients are to be authenticated, and no authority is named.
    #[error("clients are to show certificates, and no file names who issues them")]
    NoClientAuthority,
    /// A text is not the name of a server.
    #[error("{0:?} is not a name or an address of a server")]
    Name(String),
    /// The settings contradict each other.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}
