//! The way to the backend: over TCP, or within TLS as far as this build has it. (SPEC 16.6)

#[cfg(feature = "tls")]
pub(crate) use self::layered::{Dialer, check, dialer};
#[cfg(not(feature = "tls"))]
pub(crate) use self::plain::{Dialer, check, dialer};

#[cfg(feature = "tls")]
mod layered {
    use std::future::{Future, poll_fn, ready};
    use std::io;
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::task::{Poll, Waker};
    use std::thread;

    use voltlane_doors::DoorStream;
    use voltlane_doors::tls::{CertificateFiles, ClientSettings, ClientTls, Roots, TlsError};
    use voltlane_driver::{Connect, Connector, Runtime};

    use crate::config::Settings;

    /// The connector to the backend of a runtime.
    pub(crate) type Dialer<R> = LinkConnector<<R as Runtime>::Connector>;

    /// A connector that reads its certificates again at every attempt, so that renewed ones need no signal.
    pub(crate) struct LinkConnector<C> {
        inner: C,
        tls: Option<Reader>,
    }

    impl<C: Connector> Connector for LinkConnector<C> {
        type Stream = DoorStream<C::Stream>;

        fn connect(&mut self) -> Connect<Self::Stream> {
            let attempt = self.inner.connect();
            let Some(reader) = &self.tls else {
                return Box::pin(async move { attempt.await.map(DoorStream::plain) });
            };
            let read = match reader.read() {
                Ok(read) => read,
                Err(error) => return Box::pin(ready(Err(error))),
            };
            Box::pin(async move {
                let tls = read.await.map_err(io::Error::other)?;
                DoorStream::open_tls(attempt.await?, &tls).await
            })
        }
    }

    /// Reads certificates on a thread of its own: a disk that does not answer must not keep the clients of this one waiting.
    struct Reader {
        settings: ClientSettings,
        reading: Arc<Mutex<Reading>>,
    }

    /// The files are read by one thread at a time, whatever the number of attempts that gave up.
    #[derive(Default)]
    struct Reading {
        is_under_way: bool,
        outcome: Option<Result<ClientTls, TlsError>>,
        waker: Option<Waker>,
    }

    impl Reader {
        fn new(settings: ClientSettings) -> Reader {
            Reader {
                settings,
                reading: Arc::default(),
            }
        }

        /// Begins to read the files, unless they are being read.
        ///
        /// # Errors
        /// When the thread cannot be started.
        fn read(
            &self,
        ) -> io::Result<impl Future<Output = Result<ClientTls, TlsError>> + Send + 'static>
        {
            let mut reading = lock(&self.reading);
            if !reading.is_under_way {
                let (settings, shared) = (self.settings.clone(), Arc::clone(&self.reading));
                let load = move || {
                    let outcome = ClientTls::load(&settings);
                    let mut reading = lock(&shared);
                    (reading.is_under_way, reading.outcome) = (false, Some(outcome));
                    if let Some(waker) = reading.waker.take() {
                        waker.wake();
                    }
                };
                // The outcome for an attempt that gave up is out of date.
                reading.outcome = None;
                thread::Builder::new()
                    .name("link files".into())
                    .spawn(load)?;
                reading.is_under_way = true;
            }
            drop(reading);
            let shared = Arc::clone(&self.reading);
            Ok(poll_fn(move |cx| {
                let mut reading = lock(&shared);
                match reading.outcome.take() {
                    Some(outcome) => Poll::Ready(outcome),
                    None => {
                        voltlane_driver::register(&mut reading.waker, cx.waker());
                        Poll::Pending
                    }
                }
            }))
        }
    }

    fn lock(reading: &Mutex<Reading>) -> MutexGuard<'_, Reading> {
        // Its fields are set together.
        reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a connector to the backend.
    pub(crate) fn dialer<R: Runtime>(settings: &Settings) -> Dialer<R> {
        let address = settings.master.address.to_string();
        LinkConnector {
            inner: R::connector(address, settings.master_options()),
            tls: tls(settings).map(Reader::new),
        }
    }

    /// Reads the certificates of the link to find faults in them.
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
