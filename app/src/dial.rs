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

    use crate::config::{Place, Settings};

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
                let tls = read.await?;
                DoorStream::open_tls(attempt.await?, &tls).await
            })
        }
    }

    /// Reads certificates on a thread of its own: a disk that does not answer must not keep the clients of this one waiting.
    struct Reader {
        settings: ClientSettings,
        load: Load,
        reading: Arc<Mutex<Reading>>,
    }

    /// The files are read by one thread at a time, whatever the number of attempts that gave up.
    #[derive(Default)]
    struct Reading {
        is_under_way: bool,
        outcome: Option<Result<ClientTls, TlsError>>,
        waker: Option<Waker>,
    }

    /// Tells that the thread is at its end, however it ends: an attempt that waits for it must not wait for ever.
    struct Ending(Arc<Mutex<Reading>>);

    impl Drop for Ending {
        fn drop(&mut self) {
            let mut reading = lock(&self.0);
            reading.is_under_way = false;
            if let Some(waker) = reading.waker.take() {
                waker.wake();
            }
        }
    }

    type Load = fn(&ClientSettings) -> Result<ClientTls, TlsError>;

    impl Reader {
        fn new(settings: ClientSettings) -> Reader {
            Reader {
                settings,
                load: ClientTls::load,
                reading: Arc::default(),
            }
        }

        /// Returns whether a thread is to be started, which is then under way.
        fn begin(&self) -> bool {
            let mut reading = lock(&self.reading);
            let begins = !std::mem::replace(&mut reading.is_under_way, true);
            if begins {
                // The outcome for an attempt that gave up is out of date.
                reading.outcome = None;
            }
            begins
        }

        /// Begins to read the files, unless they are being read.
        ///
        /// # Errors
        /// When the thread cannot be started.
        fn read(&self) -> io::Result<impl Future<Output = io::Result<ClientTls>> + Send + 'static> {
            if self.begin() {
                let (settings, load) = (self.settings.clone(), self.load);
                // Dropped without the lock, here if there is no thread.
                let ending = Ending(Arc::clone(&self.reading));
                let load = move || {
                    let outcome = load(&settings);
                    lock(&ending.0).outcome = Some(outcome);
                };
                thread::Builder::new()
                    .name("link files".into())
                    .spawn(load)?;
            }
            let shared = Arc::clone(&self.reading);
            Ok(poll_fn(move |cx| {
                let mut reading = lock(&shared);
                match reading.outcome.take() {
                    Some(outcome) => Poll::Ready(outcome.map_err(io::Error::other)),
                    None if !reading.is_under_way => {
                        let says = "the certificates of the link were not read; the next attempt reads them again";
                        Poll::Ready(Err(io::Error::other(says)))
                    }
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

    /// Returns a connector to this backend.
    pub(crate) fn dialer<R: Runtime>(settings: &Settings, backend: &Place) -> Dialer<R> {
        LinkConnector {
            inner: R::connector(backend.to_string(), settings.master_options()),
            tls: tls(settings, backend).map(Reader::new),
        }
    }

    /// Reads the certificates of the link to find faults in them.
    ///
    /// # Errors
    /// The first fault of a file, with its remedy.
    pub(crate) fn check(settings: &Settings) -> Result<(), String> {
        for backend in settings.backends() {
            let checked = tls(settings, backend).map(|settings| ClientTls::load(&settings));
            checked.transpose().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn tls(settings: &Settings, backend: &Place) -> Option<ClientSettings> {
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
            None => match backend.address() {
                Some(address) => address.host().to_owned(),
                None => "localhost".to_owned(),
            },
        };
        let mut tls = ClientSettings::new(name, roots);
        if let (Some(certificate), Some(key)) = (&master.tls_certificate_file, &master.tls_key_file)
        {
            tls.certificate = Some(CertificateFiles::new(certificate, key));
        }
        Some(tls)
    }

    #[cfg(test)]
    mod tests {
        use std::sync::mpsc;
        use std::task::{Context, Wake};

        use super::*;

        struct Told(mpsc::Sender<()>);

        impl Wake for Told {
            fn wake(self: Arc<Self>) {
                // The test may be over.
                let _ = self.0.send(());
            }
        }

        /// Waits for what is read.
        fn wait(reader: &Reader) -> io::Result<ClientTls> {
            let (wakes, woken) = mpsc::channel();
            let waker = Waker::from(Arc::new(Told(wakes)));
            let mut read = Box::pin(reader.read().expect("a thread"));
            loop {
                if let Poll::Ready(read) = read.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return read;
                }
                woken.recv().expect("it is woken");
            }
        }

        /// An attempt fails then, and the next one reads again.
        #[test]
        fn a_thread_that_panics_keeps_no_attempt_waiting() {
            let settings = ClientSettings::new("edge", Roots::Pinned(vec![[7; 32]]));
            let mut reader = Reader::new(settings);
            reader.load = |_| panic!("on purpose");
            for _ in 0..2 {
                let error = wait(&reader).map(|_| ()).expect_err("it panics");
                assert!(error.to_string().contains("were not read"), "{error}");
            }
            reader.load = ClientTls::load;
            assert!(wait(&reader).is_ok());
        }
    }
}

#[cfg(not(feature = "tls"))]
mod plain {
    use voltlane_driver::Runtime;

    use crate::config::{Place, Settings};

    /// The connector to the backend of a runtime.
    pub(crate) type Dialer<R> = <R as Runtime>::Connector;

    /// Returns a connector to this backend.
    pub(crate) fn dialer<R: Runtime>(settings: &Settings, backend: &Place) -> Dialer<R> {
        R::connector(backend.to_string(), settings.master_options())
    }

    /// There are no certificates: the configuration allows none in this build.
    #[expect(clippy::unnecessary_wraps, reason = "as with TLS")]
    pub(crate) fn check(_: &Settings) -> Result<(), String> {
        Ok(())
    }
}
