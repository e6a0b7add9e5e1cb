//! The builder of a client: its address, and what it says of the way to the edge.
//!
//! The libraries of the runtimes give one for an address.

mod address;
mod file;

use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use voltlane_driver::client::{
    Client, ClientConfig, ConnectError, Means, Options, PublicKey, SavedSession, Saving,
    SessionStore, Versions,
};
use voltlane_driver::{BoxedConnector, Connector, Runtime, SocketOptions, Timer};

use self::address::{Address, Scheme};
use self::file::SessionFile;

#[cfg(feature = "tls")]
pub use self::tls::TlsOptions;
#[cfg(feature = "tls")]
pub use crate::tls::{CertificateFiles, Roots};

/// The addresses of an edge that a client tries in turn, at most.
pub const MAX_ADDRESSES: usize = 8;

/// What a builder needs of a runtime.
#[derive(Clone, Copy)]
struct Host {
    connector: fn(String, SocketOptions) -> BoxedConnector,
    timer: fn() -> Box<dyn Timer>,
    random: fn() -> [u8; 32],
}

/// Builds a [`Client`]. Its setters are checked by [`connect`](Self::connect), all at once.
pub struct Builder {
    host: Host,
    addresses: Vec<String>,
    options: Options,
    edge_keys: Vec<String>,
    sockets: SocketOptions,
    connector: Option<BoxedConnector>,
    session_file: Option<PathBuf>,
    session_store: Option<Box<dyn SessionStore>>,
    saving: Saving,
    /// Adds whatever is asked for a token.
    ask: Option<Box<dyn FnOnce(Means) -> Means + Send>>,
    #[cfg(feature = "tls")]
    tls: TlsOptions,
}

impl Builder {
    /// Begins with the address of an edge: `host:port` or `tcp://host:port`, `tls://host:port`, `ws://host/path`, `wss://host/path`,
    /// `unix:/path` or `unix:@name`. With `ws://` and `wss://` the port may be left out.
    #[must_use]
    pub fn on<R: Runtime>(address: &str) -> Builder {
        Builder {
            host: Host {
                connector: |address, options| BoxedConnector::new(R::connector(address, options)),
                timer: || Box::new(R::Timer::default()),
                random: R::random,
            },
            addresses: vec![address.to_owned()],
            options: Options::default(),
            edge_keys: Vec::new(),
            sockets: SocketOptions::default(),
            connector: None,
            session_file: None,
            session_store: None,
            saving: Saving::Taken,
            ask: None,
            #[cfg(feature = "tls")]
            tls: TlsOptions::default(),
        }
    }

    /// Another address of the edge, to be tried when the one before it cannot be reached.
    #[must_use]
    pub fn or_address(mut self, address: &str) -> Self {
        self.addresses.push(address.to_owned());
        self
    }

    /// What the client shows when it joins: a ticket, or whatever the backend wants. At most 4,096 bytes.
    ///
    /// It goes only to an edge that is known: by a pinned [key](Self::edge_key), by its certificate, or because it is on this host at a Unix
    /// socket. Version 2 has no tokens.
    #[must_use]
    pub fn token(mut self, token: impl AsRef<[u8]>) -> Self {
        self.options.token = Some(token.as_ref().to_vec());
        self
    }

    /// Asks for a token before each attempt to join, for one that is short-lived. It goes where a [`token`](Self::token) goes, and counts
    /// instead of one. A client that comes back asks for none. While the answer takes its time, nothing is connected.
    #[must_use]
    pub fn token_with<F, A>(mut self, ask: F) -> Self
    where
        F: Fn() -> A + Send + 'static,
        A: Future<Output = Vec<u8>> + Send + 'static,
    {
        self.ask = Some(Box::new(move |means| means.with_token(ask)));
        self
    }

    /// Pins a public key, as 66 hexadecimal digits: the edge must prove that it has this one, or another one that is pinned. The client
    /// speaks version 3 alone then, since version 2 proves no key.
    #[must_use]
    pub fn edge_key(mut self, key: &str) -> Self {
        self.edge_keys.push(key.to_owned());
        self
    }

    /// Whether a new session begins by itself after one whose end allows that. Default: false.
    #[must_use]
    pub fn start_over(mut self, yes: bool) -> Self {
        self.options.start_over = yes;
        self
    }

    /// Whether the client goes on when somebody else has resumed its session. Default: false.
    #[must_use]
    pub fn take_over(mut self, yes: bool) -> Self {
        self.options.config = self.options.config.with_take_over(yes);
        self
    }

    /// How long the client tries to begin its first session. `None`: for ever. Default: 30 s.
    #[must_use]
    pub fn give_up_after(mut self, first_join: impl Into<Option<Duration>>) -> Self {
        self.options.give_up_after = first_join.into();
        self
    }

    /// How often there is a tick among the events. Default: never.
    #[must_use]
    pub fn tick(mut self, every: Duration) -> Self {
        self.options.tick = Some(every);
        self
    }

    /// Whom the client trusts, and its certificate, with `tls://` and `wss://`.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = tls;
        self
    }

    /// A connector in place of what the address says. The address is not used then, and a token needs a pinned key.
    #[must_use]
    pub fn connector(mut self, own: impl Connector) -> Self {
        self.connector = Some(BoxedConnector::new(own));
        self
    }

    /// The versions of the protocol that the client speaks. Default: version 3, and version 2 with an edge that has no other.
    #[must_use]
    pub fn versions(mut self, versions: Versions) -> Self {
        self.options.config = self.options.config.with_versions(versions);
        self
    }

    /// Other bounds, timeouts and pauses. It replaces what was set of [`versions`](Self::versions) and [`take_over`](Self::take_over).
    /// Versions that it does not set are the default ones of [`versions`](Self::versions).
    #[must_use]
    pub fn config(mut self, config: ClientConfig) -> Self {
        self.options.config = config;
        self
    }

    /// Options of the sockets.
    #[must_use]
    pub fn sockets(mut self, options: SocketOptions) -> Self {
        self.sockets = options;
        self
    }

    /// A session of version 2 to be resumed.
    #[must_use]
    pub fn saved(mut self, session: SavedSession) -> Self {
        self.options.saved = Some(session);
        self
    }

    /// Keeps the session in a file that nobody else can read: a process that begins again, however it ended, goes on with it. Nothing leaves
    /// before it is in the file, so each write waits for the disk.
    ///
    /// It is locked while the client lives, has mode 0600, and is replaced by a rename. It is as secret as the session's keys.
    #[must_use]
    pub fn session_file(mut self, path: impl AsRef<Path>) -> Self {
        self.session_file = Some(path.as_ref().to_owned());
        self
    }

    /// Keeps the session in a place of the application's own, such as a keychain or a table: as [`session_file`](Self::session_file) does, which
    /// it is in place of. It locks nothing, so whoever has the store sees to it that one client alone uses it.
    #[must_use]
    pub fn session_store(mut self, store: impl SessionStore) -> Self {
        self.session_store = Some(Box::new(store));
        self
    }

    /// Goes on with what [`suspend`](Client::suspend) has returned. It is in place of a session file, which has that already.
    #[must_use]
    pub fn suspended(mut self, content: impl AsRef<[u8]>) -> Self {
        self.options.suspended = Some(content.as_ref().to_vec());
        self
    }

    /// With a session file or store: packets count as acknowledged, and leave, when [the application's state is saved](voltlane_driver::client::ClientSender::save).
    /// Then each counts once in both directions, however often the process is killed.
    #[must_use]
    pub fn ack_when_saved(mut self) -> Self {
        self.saving = Saving::Saved;
        self
    }

    /// Checks everything, and waits until the first session has begun.
    ///
    /// # Errors
    /// [`ConnectError::Config`] if an address or an option cannot be, with what would be right; [`ConnectError::SessionInUse`]; otherwise those
    /// of [`Client::connect`].
    ///
    /// # Cancel safety
    /// That of [`Client::connect`].
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let (options, means) = self.build()?;
        Client::connect(options, means).await
    }

    /// Checks everything, and begins a client that connects while it is waited for.
    ///
    /// # Errors
    /// [`ConnectError::Config`] if an address or an option cannot be, with what would be right, and [`ConnectError::SessionInUse`].
    pub fn begin(self) -> Result<Client, ConnectError> {
        let (options, means) = self.build()?;
        Client::begin(options, means)
    }

    fn build(mut self) -> Result<(Options, Means), ConnectError> {
        for key in std::mem::take(&mut self.edge_keys) {
            let key = read_key(&key)?;
            self.options.config = self.options.config.with_edge_key(key);
        }
        let timer = (self.host.timer)();
        let entropy = Box::new(self.host.random);
        let ask = self.ask.take();
        let store = match (&self.session_file, self.session_store.take()) {
            (Some(_), Some(_)) => {
                let says = "a session file and a session store are the same thing: leave one out";
                return Err(ConnectError::Config(says.to_owned()));
            }
            (Some(path), None) => Some(Box::new(SessionFile::open(path)?) as Box<dyn SessionStore>),
            (None, store) => store,
        };
        let saving = self.saving;
        let asking = |means: Means| {
            let means = match ask {
                Some(ask) => ask(means),
                None => means,
            };
            match store {
                Some(store) => means.with_store(store, saving),
                None => means,
            }
        };
        if let Some(connector) = self.connector {
            let means = Means::boxed(connector, timer, entropy);
            return Ok((self.options, asking(means)));
        }
        if self.addresses.len() > MAX_ADDRESSES {
            let (count, max) = (self.addresses.len(), MAX_ADDRESSES);
            let says = format!("{count} addresses of an edge, {max} allowed");
            return Err(ConnectError::Config(says));
        }
        let addresses: Result<Vec<_>, _> = self
            .addresses
            .iter()
            .map(|text| Address::parse(text))
            .collect();
        let addresses = addresses?;
        if addresses.iter().all(Address::is_trusted) {
            self.options.config = self.options.config.with_trust_first_use(true);
        }
        let mut connectors = Vec::new();
        for address in &addresses {
            connectors.push(self.dialer(address)?);
        }
        let mut connectors = connectors.into_iter();
        let first = connectors.next().expect("a builder has an address");
        let means = Means::boxed(first, timer, entropy);
        Ok((self.options, asking(connectors.fold(means, Means::or))))
    }

    /// Returns the connector to an address.
    fn dialer(&self, address: &Address) -> Result<BoxedConnector, ConnectError> {
        let inner = (self.host.connector)(address.place.clone(), self.sockets);
        match address.scheme {
            Scheme::Plain | Scheme::Unix => Ok(inner),
            #[cfg(any(feature = "tls", feature = "websocket"))]
            scheme => {
                let mut door = crate::DoorConnector::new(inner);
                #[cfg(feature = "tls")]
                if scheme.has_tls() {
                    door = door.with_tls(self.tls.load(&address.host)?);
                }
                #[cfg(feature = "websocket")]
                if scheme.has_websocket() {
                    door = door
                        .with_websocket(&address.authority, &address.path)
                        .map_err(|error| ConnectError::Config(error.to_string()))?;
                }
                let _ = scheme;
                Ok(BoxedConnector::new(door))
            }
            #[cfg(not(any(feature = "tls", feature = "websocket")))]
            _ => unreachable!("such an address is refused"),
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("addresses", &self.addresses)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Reads a public key of an edge.
fn read_key(text: &str) -> Result<PublicKey, ConnectError> {
    text.parse().map_err(|why| {
        let says = format!("`{text}` is no key of an edge, which has 66 hexadecimal digits: {why}");
        ConnectError::Config(says)
    })
}

#[cfg(feature = "tls")]
mod tls {
    use voltlane_driver::client::ConnectError;

    use crate::tls::{CertificateFiles, ClientSettings, ClientTls, Roots};

    /// TLS of a client. The files are read when the client begins.
    #[derive(Clone, Debug, Default)]
    #[non_exhaustive]
    pub struct TlsOptions {
        /// Whom it trusts. Default: the authorities that this build has.
        pub roots: Option<Roots>,
        /// The name in the edge's certificate. Default: the host of the address.
        pub server_name: Option<String>,
        /// A certificate of its own.
        pub certificate: Option<CertificateFiles>,
    }

    impl TlsOptions {
        /// Trusts these.
        #[must_use]
        pub fn roots(mut self, roots: Roots) -> Self {
            self.roots = Some(roots);
            self
        }

        /// Expects this name in the edge's certificate.
        #[must_use]
        pub fn server_name(mut self, name: impl Into<String>) -> Self {
            self.server_name = Some(name.into());
            self
        }

        /// Shows this certificate.
        #[must_use]
        pub fn certificate(mut self, files: CertificateFiles) -> Self {
            self.certificate = Some(files);
            self
        }

        pub(super) fn load(&self, host: &str) -> Result<ClientTls, ConnectError> {
            let Some(roots) = self.roots.clone().or_else(default_roots) else {
                let says = "this build has no authorities of its own: name those to trust, with `TlsOptions::roots`";
                return Err(ConnectError::Config(says.to_owned()));
            };
            let name = self.server_name.clone().unwrap_or_else(|| host.to_owned());
            let mut settings = ClientSettings::new(name, roots);
            settings.certificate.clone_from(&self.certificate);
            ClientTls::load(&settings).map_err(|error| ConnectError::Config(error.to_string()))
        }
    }

    #[cfg(feature = "webpki-roots")]
    #[expect(clippy::unnecessary_wraps, reason = "as without them")]
    fn default_roots() -> Option<Roots> {
        Some(Roots::Public)
    }

    #[cfg(not(feature = "webpki-roots"))]
    fn default_roots() -> Option<Roots> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_66_digits_and_a_point() {
        let right = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        assert!(read_key(right).is_ok());
        assert!(read_key(&right.to_uppercase()).is_ok());
        for wrong in [
            "",
            "02",
            &right[..65],
            &right[1..],
            &right.replace('2', "x"),
        ] {
            let error = read_key(wrong).expect_err("it is no key").to_string();
            assert!(error.contains("66 hexadecimal digits"), "{error}");
        }
    }
}
