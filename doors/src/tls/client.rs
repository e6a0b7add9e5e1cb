//! The side of a client.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::error::TlsError;
use super::files::{self, CertificateFiles};
use super::{MinVersion, provider};

/// The length of the SHA-256 of a public key.
pub const SPKI_BYTES: usize = 32;

/// Whom a client trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Roots {
    /// The authorities that browsers trust, as of this version of the crate `webpki-roots`.
    #[cfg(feature = "webpki-roots")]
    Public,
    /// Those in this PEM file.
    File(PathBuf),
    /// No authority: the server whose public key (SubjectPublicKeyInfo) has one of these SHA-256.
    Pinned(Vec<[u8; SPKI_BYTES]>),
}

/// The settings of TLS for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientSettings {
    /// Whom it trusts.
    pub roots: Roots,
    /// The name of the server, which its certificate must be for, or its IP address.
    pub server_name: String,
    /// A certificate of its own.
    pub certificate: Option<CertificateFiles>,
    /// The lowest version.
    pub min_version: MinVersion,
    /// The protocols for ALPN.
    pub alpn: Vec<Vec<u8>>,
}

impl ClientSettings {
    /// Settings for the server of this name, TLS 1.3 only, without a certificate and without ALPN.
    #[must_use]
    pub fn new(server_name: impl Into<String>, roots: Roots) -> Self {
        ClientSettings {
            roots,
            server_name: server_name.into(),
            certificate: None,
            min_version: MinVersion::default(),
            alpn: Vec::new(),
        }
    }
}

/// TLS for a client's connections to one server. Clones share their tickets.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// At the first that does not work, or when the name is none.
    pub fn load(settings: &ClientSettings) -> Result<ClientTls, TlsError> {
        let name = ServerName::try_from(settings.server_name.clone())
            .map_err(|_| TlsError::Name(settings.server_name.clone()))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(settings.min_version.versions())?;
        let of_roots = |roots: RootCertStore| {
            let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
            let built = built.build();
            built.map_err(|error| TlsError::Setup(Error::General(error.to_string())))
        };
        let verifier: Arc<dyn ServerCertVerifier> = match &settings.roots {
            #[cfg(feature = "webpki-roots")]
            Roots::Public => of_roots(RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            })?,
            Roots::File(path) => of_roots(files::roots(path)?)?,
            Roots::Pinned(keys) => Arc::new(Pinned {
                keys: keys.clone(),
                algorithms: provider().signature_verification_algorithms,
            }),
        };
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &settings.certificate {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let certified = Arc::new(files::certified(files)?);
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                    certified,
                )))
            }
        };
        config.alpn_protocols.clone_from(&settings.alpn);
        Ok(ClientTls {
            config: Arc::new(config),
            name,
        })
    }
}

impl ClientTls {
    /// Returns the configuration for rustls.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// Returns the name of the server.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

/// Trusts a public key, whatever its certificate says of names and times. The server still proves that it has the private key.
#[derive(Debug)]
struct Pinned {
    keys: Vec<[u8; SPKI_BYTES]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let digest = Sha256::digest(parsed.subject_public_key_info());
        if self.keys.iter().any(|key| bool::from(key.ct_eq(&digest))) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
