//! The way to the backend: over TCP, or within TLS as far as this build has it.

#[cfg(feature = "tls")]
pub(crate) use self::layered::{Dialer, check, dialer};
#[cfg(not(feature = "tls"))]
pub(crate) use self::plain::{Dialer, check, dialer};

#[cfg(feature = "tls")]
mod layered {
    use std::io;

    use voltlane_doors::tls::{CertificateFiles, ClientSettings, ClientTls, Roots};
    use voltlane_doors::{DoorConnector, DoorStream};
    use voltlane_driver::{Connect, Connector, Runtime};

    use crate::config::Settings;

    /// The connector to the backend of a runtime.
    pub(crate) type Dialer<R> = LinkConnector<<R as Runtime>::Connector>;

    /// A connector that reads its certificates again at every attempt, so that renewed ones need no signal.
    pub(crate) struct LinkConnector<C> {
        door: DoorConnector<C>,
        tls: Option<ClientSettings>,
    }

    impl<C: Connector> Connector for LinkConnector<C> {
        type Stream = DoorStream<C::Stream>;

        fn connect(&mut self) -> Connect<Self::Stream> {
            if let Some(settings) = &self.tls {
                match ClientTls::load(settings) {
                    Ok(tls) => self.door.set_tls(tls),
                    Err(error) => {
                        return Box::pin(std::future::ready(Err(io::Error::other(error))));
                    }
                }
            }
            self.door.connect()
        }
    }

    /// Returns a connector to the backend.
    pub(crate) fn dialer<R: Runtime>(settings: &Settings) -> Dialer<R> {
        let address = settings.master.address.to_string();
        LinkConnector {
            door: DoorConnector::new(R::connector(address, settings.master_options())),
            tls: tls(settings),
        }
    }

    /// Reads the certificates of the link for nothing but their faults.
    ///
    /// # Errors
    /// The first fault of a file, with its remedy.
    pub(crate) fn check(settings: &Settings) -> Result<(), String> {
        let checked = tls(settings).map(|settings| ClientTls::load(&settings));
        checked
            .transpose()
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    fn tls(settings: &Settings) -> Option<ClientSettings> {
        let master = &settings.master;
        if !master.tls {
            return None;
        }
        let roots = match &master.tls_ca_file {
            Some(path) => Roots::File(path.clone()),
            None => Roots::Pinned(master.tls_spki_sha256.digests()),
        };
        let name = match &master.tls_server_name {
            Some(name) => name.to_string(),
            // A Unix socket is on this host.
            None => match master.address.address() {
                Some(address) => address.host().to_owned(),
                None => "localhost".to_owned(),
            },
        };
        let mut tls = ClientSettings::new(name, roots);
        if let (Some(certificate), Some(key)) = (&master.tls_certificate_file, &master.tls_key_file)
        {
            tls.certificate = Some(CertificateFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                names: Vec::new(),
            });
        }
        Some(tls)
    }
}

#[cfg(not(feature = "tls"))]
mod plain {
    use voltlane_driver::Runtime;

    use crate::config::Settings;

    /// The connector to the backend of a runtime.
    pub(crate) type Dialer<R> = <R as Runtime>::Connector;

    /// Returns a connector to the backend.
    pub(crate) fn dialer<R: Runtime>(settings: &Settings) -> Dialer<R> {
        let address = settings.master.address.to_string();
        R::connector(address, settings.master_options())
    }

    /// There are no certificates: the configuration allows none in this build.
    #[expect(clippy::unnecessary_wraps, reason = "as with TLS")]
    pub(crate) fn check(_: &Settings) -> Result<(), String> {
        Ok(())
    }
}
