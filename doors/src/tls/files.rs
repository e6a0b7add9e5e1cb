//! Reads certificates, keys and lists of revoked certificates.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use zeroize::Zeroizing;

use super::error::TlsError;
use super::provider;

/// The largest file that is read.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// A certificate and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateFiles {
    /// PEM: the certificate, and behind it those that lead to an authority.
    pub certificate: PathBuf,
    /// PEM: its private key. It may be the same file.
    pub key: PathBuf,
    /// The names that it is chosen for, with `*` for the first label or without. Empty: those in it.
    pub names: Vec<String>,
}

impl CertificateFiles {
    /// The certificate and its key in these files. It is chosen for the names in it.
    #[must_use]
    pub fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        CertificateFiles {
            certificate: certificate.into(),
            key: key.into(),
            names: Vec::new(),
        }
    }

    /// Chooses it for these names in place of those in it.
    #[must_use]
    pub fn with_names(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        CertificateFiles {
            names: names.into_iter().map(Into::into).collect(),
            ..self
        }
    }
}

pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unreadable = |error| TlsError::Unreadable {
        path: path.to_owned(),
        error,
    };
    // Before it is opened, since that might wait for ever for somebody who writes to a pipe.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(TlsError::NoFile {
            path: path.to_owned(),
        });
    }
    let file = File::open(path).map_err(unreadable)?;
    // It may have a key. A buffer that grows would leave copies of it behind.
    let length = metadata.len();
    let capacity = length.min(MAX_FILE_BYTES) as usize + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(TlsError::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(bytes)
}

/// Reads all sections of a kind, at least one.
fn sections<T: PemObject>(path: &Path, section: &'static str) -> Result<Vec<T>, TlsError> {
    let bytes = read(path)?;
    let all: Result<Vec<T>, pem::Error> = T::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|error| TlsError::NotPem {
        path: path.to_owned(),
        what: error.to_string(),
    })?;
    if all.is_empty() {
        return Err(TlsError::Missing {
            path: path.to_owned(),
            section,
        });
    }
    Ok(all)
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    sections(path, "CERTIFICATE")
}

/// Lists of revoked certificates.
pub(super) struct Lists {
    pub(super) lists: Vec<CertificateRevocationListDer<'static>>,
    /// When the first of them is to be replaced by a newer one.
    pub(super) next_update: Option<UnixTime>,
}

/// Reads lists of revoked certificates, each by one of the `authorities`. Another one's would revoke nothing.
pub(super) fn revoked(path: &Path, authorities: &RootCertStore) -> Result<Lists, TlsError> {
    let lists: Vec<CertificateRevocationListDer<'static>> = sections(path, "X509 CRL")?;
    for list in &lists {
        let parsed = webpki::BorrowedCertRevocationList::from_der(list);
        let parsed = parsed.map_err(|error| TlsError::Unusable {
            path: path.to_owned(),
            what: error.to_string(),
        })?;
        let list = webpki::CertRevocationList::from(parsed);
        let mut subjects = authorities.roots.iter().map(|root| root.subject.as_ref());
        if !subjects.any(|subject| subject == list.issuer()) {
            return Err(TlsError::ForeignList {
                path: path.to_owned(),
            });
        }
    }
    let next_update = lists.iter().filter_map(|list| next_update(list)).min();
    Ok(Lists { lists, next_update })
}

/// Returns when a list of revoked certificates is to be replaced (RFC 5280 section 5.1.2.5).
fn next_update(list: &[u8]) -> Option<UnixTime> {
    fn parts<'a>(reader: &mut SliceReader<'a>) -> der::Result<Vec<AnyRef<'a>>> {
        let mut parts = Vec::new();
        while !reader.is_finished() {
            parts.push(AnyRef::decode(reader)?);
        }
        Ok(parts)
    }
    let time = |part: &AnyRef<'_>| match part.tag() {
        Tag::UtcTime => part
            .decode_as()
            .ok()
            .as_ref()
            .map(UtcTime::to_unix_duration),
        Tag::GeneralizedTime => {
            let time = part.decode_as().ok();
            time.as_ref().map(GeneralizedTime::to_unix_duration)
        }
        _ => None,
    };
    let whole = AnyRef::from_der(list).ok()?.sequence(parts).ok()?;
    let signed = whole.first()?.sequence(parts).ok()?;
    // Before it is the time of this list, and no other field is a time.
    let since = signed.iter().filter_map(time).nth(1)?;
    Some(UnixTime::since_unix_epoch(since))
}

/// Reads the certificates of authorities.
pub(super) fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::Unusable {
            path: path.to_owned(),
            what: error.to_string(),
        })?;
    }
    Ok(roots)
}

pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(path)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(error) => {
            let text = String::from_utf8_lossy(&bytes);
            let path = path.to_owned();
            Err(match error {
                _ if text.contains("ENCRYPTED") => TlsError::EncryptedKey { path },
                pem::Error::NoItemsFound => TlsError::Missing {
                    path,
                    section: "PRIVATE KEY",
                },
                error => TlsError::NotPem {
                    path,
                    what: error.to_string(),
                },
            })
        }
    }
}

/// Reads a certificate with its key, and checks that they belong together.
pub(super) fn certified(files: &CertificateFiles) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = key(&files.key)?;
    let signs = provider().key_provider.load_private_key(key);
    let signs = signs.map_err(|error| TlsError::UnusableKey {
        path: files.key.clone(),
        what: error.to_string(),
    })?;
    let certified = CertifiedKey::new(chain, signs);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(TlsError::KeyMismatch {
            key: files.key.clone(),
            certificate: files.certificate.clone(),
        }),
        Err(error) => Err(TlsError::Unusable {
            path: files.certificate.clone(),
            what: error.to_string(),
        }),
    }
}

/// From when until when a certificate is valid, and the DNS names in it.
pub(super) fn facts(
    path: &Path,
    certificate: &CertificateDer<'_>,
) -> Result<(UnixTime, UnixTime, Vec<String>), TlsError> {
    let unusable = |error: webpki::Error| TlsError::Unusable {
        path: path.to_owned(),
        what: error.to_string(),
    };
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(unusable)?;
    let names = parsed.valid_dns_names().map(str::to_ascii_lowercase);
    let names = names.collect();
    // It has no accessor for them. A path is built only from a certificate that is valid now, and the error names the time.
    let at = |seconds: u64| {
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let usage = webpki::KeyUsage::server_auth();
        parsed
            .verify_for_usage(&[], &[], &[], time, usage, None, None)
            .map(|_| ())
    };
    let not_before = match at(0) {
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => not_before,
        Err(webpki::Error::CertExpired { .. }) | Ok(()) => {
            UnixTime::since_unix_epoch(std::time::Duration::ZERO)
        }
        Err(error) => return Err(unusable(error)),
    };
    // The last second of the year 9999, which certificates use for "no end" (RFC 5280 section 4.1.2.5).
    let not_after = match at(253_402_300_800) {
        Err(webpki::Error::CertExpired { not_after, .. }) => not_after,
        Err(error) => return Err(unusable(error)),
        Ok(()) => UnixTime::since_unix_epoch(std::time::Duration::from_secs(253_402_300_799)),
    };
    Ok((not_before, not_after, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wraps `parts` in an element with this tag.
    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u8::try_from(content.len()).expect("a short one");
        [&[tag, length], &content[..]].concat()
    }

    #[test]
    fn the_time_of_the_next_list_is_the_second_time() {
        const SEQUENCE: u8 = 0x30;
        const INTEGER: u8 = 0x02;
        const UTC: u8 = 0x17;
        const GENERAL: u8 = 0x18;
        let list = |times: &[&[u8]]| {
            let names = element(SEQUENCE, &[]);
            let head = [&element(INTEGER, &[&[1]])[..], &names, &names].concat();
            let times = times.concat();
            element(SEQUENCE, &[&element(SEQUENCE, &[&head, &times, &names])])
        };
        let this = element(UTC, &[b"260101000000Z"]);
        let rows = [
            (element(UTC, &[b"260102000000Z"]), 1_767_312_000),
            (element(GENERAL, &[b"21260102000000Z"]), 4_922_985_600),
        ];
        for (next, seconds) in rows {
            let time = next_update(&list(&[&this, &next])).expect("a time");
            assert_eq!(time.as_secs(), seconds);
        }
        assert_eq!(next_update(&list(&[&this])), None);
        assert_eq!(next_update(b""), None);
        assert_eq!(next_update(&[0x30, 0x80]), None);
    }
}
