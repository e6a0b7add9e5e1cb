//! The side of the edge.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{SignatureAlgorithm, server::danger::ClientCertVerifier};

use super::certificates::{ByName, is_covered};
use super::error::TlsError;
use super::files::{self, CertificateFiles};
use super::{MinVersion, provider};

/// The name for ALPN of the stream within TLS (SPEC 16.1(b)).
pub const ALPN_VOLTLANE: &[u8] = b"voltlane/2";
/// The name for ALPN of WebSocket within TLS.
pub const ALPN_HTTP: &[u8] = b"http/1.1";

/// How a certificate is chosen when none is for the name that the client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sni {
    /// The first is used.
    #[default]
    First,
    /// The client is refused.
    Strict,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientAuth {
    /// No.
    #[default]
    Off,
    /// Those that have one. It must be valid.
    Optional,
    /// All.
    Required,
}

/// The settings of TLS for a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerSettings {
    /// The certificates. The first is used where no name fits.
    pub certificates: Vec<CertificateFiles>,
    /// The lowest version.
    pub min_version: MinVersion,
    /// What happens when no certificate fits.
    pub sni: Sni,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// PEM: who issues the clients' certificates.
    pub client_ca: Option<PathBuf>,
    /// PEM: those of them that are revoked. Each list must be by an authority of `client_ca`. One that is out of date still counts.
    pub client_crl: Option<PathBuf>,
    /// The protocols for ALPN. Empty: it is not used.
    pub alpn: Vec<Vec<u8>>,
    /// Whether clients get tickets, with which a later handshake is shorter. Never with `client_auth`: a resumed session would not be
    /// checked against a newer list of revoked certificates.
    pub tickets: bool,
}

/// A certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// Its file.
    pub path: PathBuf,
    /// From when it is valid.
    pub not_before: UnixTime,
    /// Until when it is valid.
    pub not_after: UnixTime,
    /// The names that it is chosen for.
    pub names: Vec<String>,
}

impl Certificate {
    /// Returns what is wrong with its time at `now`: it has expired, expires within 14 days, or is not valid yet.
    #[must_use]
    pub fn warning(&self, now: SystemTime) -> Option<Warning> {
        self.warning_at(unix(now))
    }

    fn warning_at(&self, now: UnixTime) -> Option<Warning> {
        let days = |from: UnixTime, to: UnixTime| {
            to.as_secs().saturating_sub(from.as_secs()) / DAY.as_secs()
        };
        let path = self.path.clone();
        if now > self.not_after {
            Some(Warning::Expired(path, days(self.not_after, now)))
        } else if now < self.not_before {
            Some(Warning::NotYetValid(path, days(now, self.not_before)))
        } else if days(now, self.not_after) < SOON_DAYS {
            Some(Warning::ExpiresSoon(path, days(now, self.not_after)))
        } else {
            None
        }
    }
}

/// Lists of revoked certificates in use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevocationLists {
    /// Their file.
    pub path: PathBuf,
    /// When the first of them is to be replaced by a newer one.
    pub next_update: UnixTime,
}

impl RevocationLists {
    /// Returns whether one of them is out of date at `now`.
    #[must_use]
    pub fn warning(&self, now: SystemTime) -> Option<Warning> {
        self.warning_at(unix(now))
    }

    fn warning_at(&self, now: UnixTime) -> Option<Warning> {
        let late = now.as_secs().checked_sub(self.next_update.as_secs())?;
        Some(Warning::ListOutdated(
            self.path.clone(),
            late / DAY.as_secs(),
        ))
    }
}

/// Something that works and should not stay so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The certificate in the file was valid until this many days ago.
    Expired(PathBuf, u64),
    /// The certificate in the file will be valid in this many days.
    NotYetValid(PathBuf, u64),
    /// The certificate in the file is valid for this many more days, and no longer.
    ExpiresSoon(PathBuf, u64),
    /// The key in the file is RSA.
    Rsa(PathBuf),
    /// The certificate in the file has no DNS name, and none was given.
    NoName(PathBuf),
    /// The certificate in the file was given this name and does not have it.
    ForeignName(PathBuf, String),
    /// The list of revoked certificates in the file was to be replaced this many days ago.
    ListOutdated(PathBuf, u64),
    /// Earlier certificates have all names of the one in the file.
    NeverChosen(PathBuf),
}

/// Within how many days the end of a certificate is a warning.
const SOON_DAYS: u64 = 14;
const DAY: Duration = Duration::from_secs(86_400);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let say = |f: &mut fmt::Formatter<'_>, path: &Path, what: fmt::Arguments<'_>| {
            write!(f, "{}: {what}", path.display())
        };
        match self {
            Warning::Expired(path, days) => say(
                f,
                path,
                format_args!(
                    "the certificate expired {days} days ago; clients refuse it until it is renewed"
                ),
            ),
            Warning::NotYetValid(path, days) => say(
                f,
                path,
                format_args!(
                    "the certificate is not valid for another {days} days; is the clock right?"
                ),
            ),
            Warning::ExpiresSoon(path, days) => say(
                f,
                path,
                format_args!("the certificate expires in {days} days; renew it in time"),
            ),
            Warning::Rsa(path) => say(
                f,
                path,
                format_args!("the key is RSA; a handshake costs six times as much as with ECDSA"),
            ),
            Warning::NoName(path) => say(
                f,
                path,
                format_args!(
                    "the certificate has no DNS name and is used only where no other fits"
                ),
            ),
            Warning::ForeignName(path, name) => say(
                f,
                path,
                format_args!(
                    "the certificate is not for {name:?}, which was given as one of its names; clients that verify it refuse it"
                ),
            ),
            Warning::ListOutdated(path, days) => say(
                f,
                path,
                format_args!(
                    "a list of revoked certificates was to be replaced {days} days ago; it still counts, and misses what was revoked since"
                ),
            ),
            Warning::NeverChosen(path) => say(
                f,
                path,
                format_args!("earlier certificates have all names of this one; it is never shown"),
            ),
        }
    }
}

/// What was loaded: all of it works.
#[derive(Clone)]
pub struct Loaded {
    config: Arc<ServerConfig>,
    /// The certificates, in the order of the settings.
    pub certificates: Vec<Certificate>,
    /// The lists of revoked certificates, if there are some.
    pub lists: Option<RevocationLists>,
    /// What should not stay so.
    pub warnings: Vec<Warning>,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("certificates", &self.certificates)
            .field("lists", &self.lists)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

/// Tickets, whose keys outlive a reload so that clients can resume across it.
#[derive(Clone)]
pub(super) struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    fn new() -> Result<Tickets, TlsError> {
        Ok(Tickets(rustls::crypto::ring::Ticketer::new()?))
    }
}

impl ServerSettings {
    /// Reads the files. `now` is used for warnings only.
    ///
    /// # Errors
    /// At the first that does not work.
    pub fn load(&self, now: SystemTime) -> Result<Loaded, TlsError> {
        self.load_with(unix(now), None)
    }

    fn load_with(&self, now: UnixTime, tickets: Option<&Tickets>) -> Result<Loaded, TlsError> {
        let mut certificates = Vec::new();
        let mut warnings = Vec::new();
        let mut by_name: Option<ByName> = None;
        for files in &self.certificates {
            let certified = Arc::new(files::certified(files)?);
            let path = &files.certificate;
            let (not_before, not_after, own_names) =
                files::facts(path, certified.end_entity_cert()?)?;
            let given = files.names.iter().map(|name| name.to_ascii_lowercase());
            let given: Vec<String> = given.collect();
            let foreign = given.iter().filter(|name| !is_covered(name, &own_names));
            warnings.extend(foreign.map(|name| Warning::ForeignName(path.clone(), name.clone())));
            let names = if given.is_empty() { own_names } else { given };
            if certified.key.algorithm() == SignatureAlgorithm::RSA {
                warnings.push(Warning::Rsa(files.key.clone()));
            }
            if names.is_empty() {
                warnings.push(Warning::NoName(path.clone()));
            }
            let is_first = by_name.is_none();
            let by_name = by_name.get_or_insert_with(|| {
                ByName::new(Arc::clone(&certified), self.sni == Sni::Strict)
            });
            let added = names.iter().filter(|name| by_name.insert(name, &certified));
            if added.count() == 0 && !is_first && !names.is_empty() {
                warnings.push(Warning::NeverChosen(path.clone()));
            }
            let certificate = Certificate {
                path: path.clone(),
                not_before,
                not_after,
                names,
            };
            warnings.extend(certificate.warning_at(now));
            certificates.push(certificate);
        }
        let by_name = by_name.ok_or(TlsError::NoCertificate)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(self.min_version.versions())?;
        let (verifier, lists) = self.client_verifier()?;
        warnings.extend(lists.as_ref().and_then(|lists| lists.warning_at(now)));
        let mut config = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        }
        .with_cert_resolver(Arc::new(by_name));
        config.alpn_protocols = self.alpn.clone();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        if self.has_tickets() {
            config.ticketer = match tickets {
                Some(tickets) => Arc::clone(&tickets.0),
                None => Tickets::new()?.0,
            };
            config.send_tls13_tickets = 1;
        }
        Ok(Loaded {
            config: Arc::new(config),
            certificates,
            lists,
            warnings,
        })
    }

    fn has_tickets(&self) -> bool {
        self.tickets && self.client_auth == ClientAuth::Off
    }

    fn client_verifier(&self) -> Result<Verifier, TlsError> {
        if self.client_auth == ClientAuth::Off {
            return Ok((None, None));
        }
        let path = self.client_ca.as_ref();
        let path = path.ok_or(TlsError::NoClientAuthority)?;
        let roots = Arc::new(files::roots(path)?);
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
        let (mut blamed, mut in_use) = (path, None);
        if let Some(path) = &self.client_crl {
            let files::Lists { lists, next_update } = files::revoked(path, &roots)?;
            builder = builder
                .with_crls(lists)
                .only_check_end_entity_revocation()
                .allow_unknown_revocation_status();
            blamed = path;
            in_use = next_update.map(|next_update| RevocationLists {
                path: path.clone(),
                next_update,
            });
        }
        if self.client_auth == ClientAuth::Optional {
            builder = builder.allow_unauthenticated();
        }
        let built = builder.build().map_err(|error| TlsError::Unusable {
            path: blamed.clone(),
            what: error.to_string(),
        })?;
        Ok((Some(built), in_use))
    }
}

/// Who checks the certificates of clients, if anybody does, and the lists of revoked ones.
type Verifier = (Option<Arc<dyn ClientCertVerifier>>, Option<RevocationLists>);

/// Returns a time as certificates count it. Before 1970 there are none.
fn unix(time: SystemTime) -> UnixTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    UnixTime::since_unix_epoch(since.unwrap_or_default())
}

/// TLS for listeners. Clones share it, and a reload replaces it for all of them; live connections keep what they have.
#[derive(Clone)]
pub struct ServerTls(Arc<Shared>);

struct Shared {
    current: RwLock<Arc<ServerConfig>>,
    tickets: Tickets,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Loads `settings` for a new listener. Returns what was loaded as well.
    ///
    /// # Errors
    /// Those of [`ServerSettings::load`].
    pub fn load(
        settings: &ServerSettings,
        now: SystemTime,
    ) -> Result<(ServerTls, Loaded), TlsError> {
        let tickets = Tickets::new()?;
        let loaded = settings.load_with(unix(now), Some(&tickets))?;
        let current = RwLock::new(Arc::clone(&loaded.config));
        Ok((ServerTls(Arc::new(Shared { current, tickets })), loaded))
    }

    /// Loads `settings` in place of what is in effect, or leaves all of that in effect.
    ///
    /// # Errors
    /// Those of [`ServerSettings::load`].
    pub fn reload(&self, settings: &ServerSettings, now: SystemTime) -> Result<Loaded, TlsError> {
        let loaded = settings.load_with(unix(now), Some(&self.0.tickets))?;
        let mut current = self
            .0
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::clone(&loaded.config);
        Ok(loaded)
    }

    /// Returns what is in effect.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        let current = self.0.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }
}
